/**
 * An edge or a parent: the cache in front of the next hop. What may be served, asked for, joined and stored is decided by
 * edge's cores; this keeps what they say to keep and sends what they say to send (edge/io/handler.ts and filler.ts).
 */
import {
  type ClusterId,
  comparedWith,
  type MapSnapshot,
  type PropertyDocument,
  type PurgeEntry,
  routeProblems,
  type ServerId,
  type ServerReport,
} from "#kit";
import { type CacheKey, cacheKey, purgeKeys } from "../../edge/core/cache-key.ts";
import type { UpstreamOutcome } from "../../edge/core/decide.ts";
import { endToEndFields, type Fields, withoutFields } from "../../edge/core/headers.ts";
import type { RequestHead, StoredHead } from "../../edge/core/messages.ts";
import type { RequestPolicy } from "../../edge/core/policy.ts";
import { policyFor } from "../../edge/core/rules/policy-for.ts";
import { PurgeFeed } from "../../edge/core/purge-feed.ts";
import type { PurgeIndex } from "../../edge/core/purge-index.ts";
import type { HopFields, Tiers } from "../../edge/core/tiers.ts";
import { isNotModified, notModifiedFields, validatingFields } from "../../edge/core/validation.ts";
import { isSameVariant } from "../../edge/core/vary.ts";
import type { Content } from "./catalog.ts";
import type { ControlStore } from "./control-store.ts";
import { DocumentFollower, isForward, placeOf } from "./document-follower.ts";
import { epochOf, exchange, type Host, type Program } from "./host.ts";
import { errorAnswer, type HttpAnswer, type HttpRequest, NO_HOP, type Staleness } from "./messages.ts";
import type { Origin } from "./origin.ts";
import { OriginServers } from "./origin-servers.ts";
import { PolicyAgent } from "./policy-agent.ts";
import { Probes } from "./probes.ts";
import { sendReport, serverReportOf } from "./report-of.ts";
import type { Stage } from "./stage.ts";
import { Upstream } from "./upstream.ts";

interface Stored extends StoredHead {
  readonly content: Content;
  readonly staleness: Staleness;
}

interface Plan {
  readonly head: RequestHead;
  readonly property: PropertyDocument;
  readonly policy: RequestPolicy;
  readonly key: CacheKey;
  readonly request: HttpRequest;
}

interface Fill {
  readonly generation: number;
  tags: readonly string[] | undefined;
  /** Told how to make an answer to their own request (its conditions differ); `undefined`: ask for yourself. */
  readonly waiters: ((answerTo: ((plan: Plan) => HttpAnswer) | undefined) => void)[];
}

interface Hop {
  readonly targetId: string;
  readonly kind: "owner" | "parent" | "origin";
  readonly told: HopFields;
  /** The place of an origin's server among its property's. */
  readonly at?: { readonly property: PropertyDocument; readonly index: number };
}

/** Streams that bring the same purges, as edge/io/node-control.ts has them. */
const PURGE_STREAMS = ["purges-0", "purges-1"] as const;
const OBJECT_BYTES_MAX = 1 << 30;
/** Cached keys; far above what a catalog holds. */
const KEYS_MAX = 10_000;
/** Between a request and the decision about it, ms. */
const SERVICE_MS = 0.3;

export class Edge implements Program {
  readonly host: Host;
  readonly follower: DocumentFollower;
  /** Two streams that bring the same purges, as a node has them. */
  readonly #purgeFollowers: readonly DocumentFollower[];
  #feed = new PurgeFeed(PURGE_STREAMS.length);
  readonly #stage: Stage;
  readonly #control: ControlStore;
  readonly #peers: ReadonlyMap<string, Edge>;
  readonly #origins: ReadonlyMap<string, Origin>;
  // One process's memory.
  #cache = new Map<CacheKey, Stored[]>();
  #fills = new Map<CacheKey, Fill>();
  #properties = new Map<string, PropertyDocument>();
  #originServers!: OriginServers;
  #purges: PurgeIndex;
  #probes!: Probes;
  #upstream!: Upstream;
  #tiers!: Tiers;
  #snapshot: MapSnapshot | undefined;
  #requests = 0;
  /** Undefined: the policy does not fall to it. */
  readonly #agent: PolicyAgent | undefined;

  /** @param peers every edge and parent by server id, filled by the time of the first request */
  constructor(
    stage: Stage,
    host: Host,
    control: ControlStore,
    peers: ReadonlyMap<string, Edge>,
    origins: ReadonlyMap<string, Origin>,
  ) {
    this.#stage = stage;
    this.host = host;
    this.#control = control;
    this.#peers = peers;
    this.#origins = origins;
    this.#agent = stage.testAgents.has(host.id) ? new PolicyAgent(stage, host) : undefined;
    this.#purges = stage.cores.purgeIndex(host.id);
    this.#purgeFollowers = PURGE_STREAMS.map((name, stream) => this.#followPurges(name, stream));
    this.follower = new DocumentFollower(host, control, ["topology", "property", "map"], {
      onDocument: (kind, _id, body) => {
        if (kind === "property") {
          const property = body as PropertyDocument;
          this.#properties.set(property.propertyId, property);
        } else if (kind === "map") return this.#takesSnapshot(body as MapSnapshot);
        return true;
      },
      onApplied: (key, before, after) =>
        stage.judge.check(
          "document-went-back",
          host.now,
          isForward(before, after),
          () =>
            `${host.id} has ${key} of ${before && placeOf(before)} in force and applies ${placeOf(after)}`,
        ),
    });
  }

  start(): void {
    this.#cache = new Map();
    this.#fills = new Map();
    this.#properties = new Map();
    this.#originServers = new OriginServers(this.#stage, this.host, this.#origins);
    this.#snapshot = undefined;
    this.#purges = this.#stage.cores.purgeIndex(this.host.id);
    this.#upstream = new Upstream(this.#stage, this.host);
    this.#probes = new Probes(this.host, this.#stage.settings.peerLiveness, (event) =>
      this.host.note(`takes ${event.id} for ${event.state} (${event.reason})`),
    );
    const peers = (this.#stage.clusterOf.get(this.host.id)?.servers ?? [])
      .map(({ serverId }) => serverId)
      .filter((id) => id !== this.host.id);
    this.#probes.watch(peers);
    const { cores, topology, settings } = this.#stage;
    this.#tiers = cores.tiers(this.host.id as ServerId, topology, settings, (id) =>
      peers.includes(id) ? this.#probes.isUp(id) : this.#upstream.isServerUp(id),
    );
    this.#feed = new PurgeFeed(PURGE_STREAMS.length);
    this.follower.start();
    for (const one of this.#purgeFollowers) one.start();
    this.#agent?.start();
    this.#report();
  }

  get generation(): number {
    return this.#purges.generation;
  }

  /** A request has arrived. */
  request(request: HttpRequest, respond: (answer: HttpAnswer) => void): void {
    this.#requests++;
    this.host.after(SERVICE_MS, "request", () => {
      const { head } = request;
      const property = [...this.#properties.values()].find(
        (one) => one.isActive && one.hostnames.includes(head.host),
      );
      if (property === undefined) {
        const key = `property/${this.#stage.catalog.find(head.host, head.target)?.propertyId ?? ""}`;
        this.#stage.judge.check(
          "node-forgot",
          this.host.now,
          !this.follower.isOnDisk(key),
          () => `${this.host.id} has ${key} on its disk and answers 421`,
        );
        respond(errorAnswer(421));
        return;
      }
      this.#stage.judge.check("node-forgot", this.host.now, true, () => "");
      const policy = policyFor(property, head.target);
      const plan: Plan = { head, property, policy, key: cacheKey(head, policy), request };
      this.#answer(plan, true, respond);
    });
  }

  #answer(plan: Plan, mayJoin: boolean, respond: (answer: HttpAnswer) => void): void {
    const { key, property } = plan;
    const decision = this.#stage.cores.decideRequest<Stored>({
      request: plan.head,
      policy: plan.policy,
      variants: this.#cache.get(key) ?? [],
      purgeStateOf: (stored) => this.#purges.stateOf(property.propertyId, key, stored),
      now: epochOf(this.host.now),
    });
    const { statistics } = this.#stage;
    statistics.count(
      `tier${this.#tiers.tier}`,
      "reason" in decision ? `${decision.action}-${decision.reason}` : decision.action,
    );
    switch (decision.action) {
      case "hit":
        respond(this.#fromStore(plan, decision.stored, decision.fresh.ageSeconds, "none"));
        break;
      case "hit-and-revalidate":
        respond(this.#fromStore(plan, decision.stored, decision.fresh.ageSeconds, "while-revalidate"));
        if (!this.#fills.has(key)) this.#fill(plan, decision.stored, true, () => {});
        break;
      case "validate":
      case "fetch": {
        const stored = decision.action === "validate" ? decision.stored : undefined;
        const isCollapsible =
          mayJoin && this.#isOwner(plan) && (decision.action === "fetch" || decision.isCollapsible);
        const fill = isCollapsible ? this.#fills.get(key) : undefined;
        if (
          fill !== undefined &&
          this.#purges.mayJoin(property.propertyId, key, fill.generation, fill.tags)
        ) {
          statistics.count("collapse", "joined");
          fill.waiters.push((answerTo) =>
            answerTo === undefined ? this.#answer(plan, false, respond) : respond(answerTo(plan)),
          );
        } else this.#fill(plan, stored, isCollapsible && fill === undefined, respond);
        break;
      }
      case "pass":
        this.#fill(plan, undefined, false, respond);
        break;
      case "refuse":
        respond(errorAnswer(decision.status));
        break;
      default:
        decision satisfies never;
    }
  }

  /** Asks the next hop and decides what its answer is. */
  #fill(
    plan: Plan,
    stored: Stored | undefined,
    isRegistered: boolean,
    respond: (answer: HttpAnswer) => void,
  ): void {
    const { key, property, policy, head } = plan;
    const scope = property.propertyId;
    const generation = this.#purges.generation;
    const fill: Fill = { generation, tags: undefined, waiters: [] };
    if (isRegistered) this.#fills.set(key, fill);
    const requestTime = epochOf(this.host.now);
    const release = (answerTo: ((waiting: Plan) => HttpAnswer) | undefined): void => {
      if (this.#fills.get(key) === fill) this.#fills.delete(key);
      for (const waiter of fill.waiters.splice(0)) waiter(answerTo);
    };
    const extra = stored === undefined ? [] : validatingFields(stored);
    this.#forward({ ...head, fields: [...extra] }, this.#hopsFor(plan), (answer) => {
      const now = epochOf(this.host.now);
      const outcome: UpstreamOutcome =
        answer === undefined
          ? { kind: "failure", code: "unreachable" }
          : {
              kind: "response",
              response: {
                status: answer.status,
                fields: withoutFields(endToEndFields(answer.fields), CACHE_STATUS),
              },
            };
      const decision = this.#stage.cores.decideResponse<Stored>({
        request: { ...head, method: "GET" },
        policy,
        stored,
        outcome,
        times: { requestTime, responseTime: now },
        generation: Math.min(generation, answer?.generation ?? generation),
        isPurgedMeanwhile: (one) => this.#purges.stateOf(scope, key, one) !== "none",
        contentLength: undefined,
        objectBytesMax: OBJECT_BYTES_MAX,
        isOwner: this.#isOwner(plan),
        now,
      });
      this.#stage.statistics.count(
        `tier${this.#tiers.tier}-response`,
        "reason" in decision ? `${decision.action}-${decision.reason}` : decision.action,
      );
      switch (decision.action) {
        case "store": {
          if (answer?.content === undefined) {
            // An error that may be stored (negative caching); the catalog has none.
            respond(answer ?? errorAnswer(502));
            release(undefined);
            return;
          }
          const object: Stored = { ...decision.head, content: answer.content, staleness: answer.staleness };
          fill.tags = object.tags;
          this.#keep(key, object);
          const answerTo = (to: Plan): HttpAnswer =>
            this.#fromStore(to, object, decision.fresh.ageSeconds, "none");
          respond(answerTo(plan));
          release(decision.isShareable ? answerTo : undefined);
          return;
        }
        case "freshen": {
          const content = answer?.content ?? decision.stored.content;
          const object: Stored = {
            ...decision.stored,
            ...decision.head,
            content,
            staleness: answer?.staleness ?? "none",
          };
          if (decision.isStored) this.#keep(key, object);
          const answerTo = (to: Plan): HttpAnswer =>
            this.#fromStore(to, object, decision.fresh.ageSeconds, "none");
          respond(answerTo(plan));
          release(decision.isShareable && decision.isStored ? answerTo : undefined);
          return;
        }
        case "refetch":
          this.#fill(plan, undefined, false, respond);
          release(undefined);
          return;
        case "serve-stale": {
          const answerTo = (to: Plan): HttpAnswer =>
            this.#fromStore(to, decision.stored, decision.fresh.ageSeconds, "if-error");
          respond(answerTo(plan));
          release(answerTo);
          return;
        }
        case "pass":
          if (stored !== undefined && answer !== undefined && answer.status < 500) this.#cache.delete(key);
          respond(
            answer === undefined
              ? errorAnswer(502)
              : { ...answer, generation: Math.min(generation, answer.generation ?? generation) },
          );
          release(undefined);
          return;
        case "fail": {
          respond(errorAnswer(502));
          release(() => errorAnswer(502));
          return;
        }
        case "store-slices":
        case "unsliceable":
          throw new Error("The simulator's edges were told of no slices");
        default:
          decision satisfies never;
      }
    });
  }

  #fromStore(plan: Plan, stored: Stored, ageSeconds: number, staleness: Staleness): HttpAnswer {
    const isSame = isNotModified(plan.head.fields, stored, epochOf(this.host.now));
    const fields: Fields = isSame ? notModifiedFields(stored.fields) : stored.fields;
    return {
      status: isSame ? 304 : stored.status,
      fields: [...withoutFields(fields, AGE), ["Age", String(ageSeconds)]],
      content: stored.content,
      generation: stored.generation,
      // Worst of what this tier and those before it did.
      staleness: staleness === "none" ? stored.staleness : staleness,
    };
  }

  #keep(key: CacheKey, object: Stored): void {
    const others = (this.#cache.get(key) ?? []).filter((one) => !isSameVariant(one, object));
    if (!this.#cache.has(key) && this.#cache.size >= KEYS_MAX)
      this.#cache.delete(this.#cache.keys().next().value as CacheKey);
    this.#cache.set(key, [...others, object]);
  }

  /** Tries the hops in order; undefined: none answered. Which server of an origin is decided when it is the origin's turn. */
  #forward(
    head: RequestHead,
    listed: readonly Hop[],
    done: (answer: HttpAnswer | undefined) => void,
    isChosen = false,
  ): void {
    const isTurn = listed[0]?.kind === "origin" && !isChosen;
    const [hop, ...rest] = isTurn ? this.#chosen(listed) : listed;
    if (hop === undefined) {
      done(undefined);
      return;
    }
    const answered = hop.at && this.#originServers.begin(hop.at.property, hop.at.index);
    const request: HttpRequest = { head, hop: hop.told };
    const peer = this.#peers.get(hop.targetId);
    const origin = this.#origins.get(hop.targetId);
    const load = (change: 1 | -1): void => {
      if (hop.kind === "owner") this.#tiers.handleLoad(hop.targetId as ServerId, change);
    };
    load(1);
    this.#upstream.send<HttpAnswer>({
      targetId: hop.targetId,
      label: "fetch",
      serve: (respond) =>
        hop.kind === "origin" ? origin?.request(request, respond) : peer?.request(request, respond),
      done: (outcome) => {
        load(-1);
        answered?.(outcome.kind === "answer" ? outcome.value.status : undefined);
        const isRefused =
          outcome.kind === "answer" &&
          hop.kind !== "origin" &&
          (outcome.value.status === 421 || outcome.value.status === 508);
        this.#stage.statistics.count(
          `hop-${hop.kind}`,
          outcome.kind === "failed" ? "failed" : isRefused ? "refused" : "answered",
        );
        if (outcome.kind === "failed" || (isRefused && rest.length > 0)) {
          if (hop.kind === "owner") this.#probes.handlePassive(hop.targetId, outcome.kind !== "failed");
          this.#forward(head, rest, done, isChosen || isTurn);
        } else done(outcome.value);
      },
    });
  }

  #chosen(hops: readonly Hop[]): readonly Hop[] {
    const property = hops[0]?.at?.property;
    if (property === undefined) return hops;
    return this.#originServers.order(property).flatMap((index) => hops[index] ?? []);
  }

  #isOwner({ key, request }: Plan): boolean {
    return request.hop.isOwner || this.#tiers.ownerOf(key) === this.host.id;
  }

  #hopsFor({ key, property, policy, request }: Plan): readonly Hop[] {
    const { originOf, originsOf, clusterOf } = this.#stage;
    const originId = originOf.get(property.propertyId);
    const origin = (originsOf.get(property.propertyId) ?? []).map(
      (targetId, index): Hop => ({ targetId, kind: "origin", told: NO_HOP, at: { property, index } }),
    );
    if (policy.bypass) return origin;
    const { propertyId, tiering } = property;
    const originClusterId: ClusterId | null =
      (originId === undefined ? undefined : clusterOf.get(originId)?.clusterId) ?? null;
    const servers = this.#tiers.hopsFor({ propertyId, tiering, originClusterId }, key, request.hop);
    return [...servers.map(({ serverId, kind, told }) => ({ targetId: serverId, kind, told })), ...origin];
  }

  /** As the process does: what could not be true is refused, and the last good map stays in force. */
  #takesSnapshot(snapshot: MapSnapshot): boolean {
    const [problem] = routeProblems(snapshot, comparedWith(snapshot, this.#snapshot));
    if (problem !== undefined) {
      this.#stage.statistics.count("map-refused-by-edge", problem.reason);
      this.host.note(`refuses map ${snapshot.mapVersion}: ${problem.detail}`);
      return false;
    }
    this.#snapshot = snapshot;
    this.#tiers.setSnapshot(snapshot);
    this.#upstream.setSnapshot(snapshot);
    return true;
  }

  #followPurges(name: string, stream: number): DocumentFollower {
    return new DocumentFollower(
      this.host,
      this.#control,
      ["purge"],
      {
        onDocument: () => true,
        onApplied: () => {},
        onPlace: (logId, oldestPurgeSeq) => {
          if (oldestPurgeSeq === undefined) this.#feed.handleSynced(stream, logId);
          else
            for (const step of this.#feed.handleSnapshot(stream, logId, oldestPurgeSeq, true)) {
              // Memory was empty when this process began, so that nothing in it is older than what it has not heard.
              this.#feed.handleDone(step);
            }
        },
        onPurge: ({ purge }) => {
          const verdict = this.#feed.handlePurge(stream, purge);
          this.#stage.statistics.count("purge", verdict);
          if (verdict === "apply") this.#purge(purge);
        },
      },
      name,
    );
  }

  #purge({ purgeSeq, request }: PurgeEntry): void {
    const property = this.#properties.get(request.propertyId);
    const keys = request.urls.flatMap((url) => {
      const target = /^https?:\/\/[^/]+(.*)$/.exec(url)?.[1] ?? "/";
      return property === undefined ? [] : purgeKeys(url, policyFor(property, target));
    });
    this.#purges.apply(purgeSeq, request.propertyId, { keys, tags: request.tags }, request.mode);
    let removed = 0;
    for (const [key, variants] of this.#cache) {
      const kept = variants.filter((one) => this.#purges.stateOf(request.propertyId, key, one) !== "hard");
      removed += variants.length - kept.length;
      if (kept.length > 0) this.#cache.set(key, kept);
      else this.#cache.delete(key);
    }
    this.#acknowledge(purgeSeq, removed, 1);
  }

  #acknowledge(purgeSeq: number, removed: number, attempts: number): void {
    exchange<true>({
      from: this.host,
      to: this.#control.host,
      label: "ack",
      timeoutMs: 3_000,
      serve: (respond) => {
        this.#control.acknowledge({ purgeSeq, serverId: this.host.id as ServerId, removed });
        respond(true);
      },
      done: (outcome) => {
        if (outcome.kind !== "answer" && attempts < 3)
          this.host.after(500, "ack-again", () => this.#acknowledge(purgeSeq, removed, attempts + 1));
      },
    });
  }

  #report(): void {
    const { reportMs } = this.#stage.settings;
    const report: ServerReport = serverReportOf(
      this.#stage,
      this.host,
      this.#upstream,
      {
        applied: this.follower.applied,
        fence: this.follower.fenceOf("map/world"),
        opinions: this.#agent?.opinions(),
      },
      (this.#requests * 1_000) / reportMs,
    );
    this.#requests = 0;
    sendReport(this.host, this.#control, report, reportMs);
    this.host.after(reportMs, "report", () => this.#report());
  }
}

const AGE: ReadonlySet<string> = new Set(["age"]);
const CACHE_STATUS: ReadonlySet<string> = new Set(["cache-status"]);
