/** A name server: documents, its own view of who lives, and mapping's answer. */
import {
  type IpAddress,
  type MapSnapshot,
  type PropertyDocument,
  parsePrefix,
  type TopologyDocument,
} from "#kit";
import type { AnswerReason } from "../../mapping/core/answer.ts";
import { MapIndex } from "../../mapping/core/map-index.ts";
import { refusalOf } from "../../mapping/core/snapshot-check.ts";
import { TopologyIndex } from "../../mapping/core/topology-index.ts";
import type { ControlStore } from "./control-store.ts";
import type { Fence } from "../../control/core/fence.ts";
import { DocumentFollower, type FollowerHandlers, isForward, placeOf } from "./document-follower.ts";
import { type Host, type Program } from "./host.ts";
import { PolicyAgent } from "./policy-agent.ts";
import { Probes } from "./probes.ts";
import { sendReport, serverReportOf } from "./report-of.ts";
import type { Stage } from "./stage.ts";
import { type OtherNameServer, StandInDuty } from "./stand-in-duty.ts";

/** Marks a document that a name server takes, and can answer nothing with: what a fault in its code would do. */
const POISON = Symbol("poison");
type Poisoned = TopologyDocument & { readonly [POISON]?: ReadonlySet<string> };

/** @param victims name servers that choke on it */
export function poisoned(topology: TopologyDocument, victims: ReadonlySet<string>): TopologyDocument {
  return { ...topology, [POISON]: victims } as TopologyDocument;
}

/** What one is that stands in for the others. */
export interface LateInputs {
  readonly delayMs: number;
  readonly others: () => readonly OtherNameServer[];
}

export interface DnsAnswer {
  readonly serverIds: readonly string[];
  readonly ttlSeconds: number;
  readonly reason: AnswerReason | "unconfigured" | "poisoned" | "standing-by";
}

/** Bits of the client's address in ECS (RFC 7871, section 11.1 recommends 24 for IPv4). */
const SOURCE_PREFIX_LENGTH = 24;
/** How often what it believes is compared with the truth, ms. */
const CHECK_MS = 250;

/** The first address of a client network's first IPv4 prefix. */
export function addressIn(prefixes: readonly string[]): IpAddress {
  for (const text of prefixes) {
    const prefix = parsePrefix(text);
    if (prefix?.address.family === 4) return prefix.address;
  }
  const first = parsePrefix(prefixes[0] ?? "");
  if (first === undefined) throw new RangeError(`Client network without a prefix: ${prefixes.join(" ")}`);
  return first.address;
}

export class NameServer implements Program {
  readonly host: Host;
  readonly follower: DocumentFollower;
  readonly #stage: Stage;
  #topology: TopologyIndex;
  #hasTopology = false;
  #isPoisoned = false;
  #poisonedAt: number | undefined;
  /** The longest time without a break in which it answered nothing for a document's sake, having done well for a delay before, ms; for the judge. */
  harmedForMs = 0;
  readonly #duty: StandInDuty | undefined;
  /** Since when no other name server gives addresses, and since when each does, ms; for the judge. */
  #othersLostAt: number | undefined;
  readonly #othersGoodAt = new Map<string, number>();
  #properties = new Map<string, PropertyDocument>();
  #map: MapIndex | null = null;
  #probes!: Probes;
  readonly #control: ControlStore;
  readonly #agent: PolicyAgent;

  /** @param late for one that stands in for the others */
  constructor(stage: Stage, host: Host, control: ControlStore, late?: LateInputs) {
    this.#stage = stage;
    this.host = host;
    this.#control = control;
    this.#agent = new PolicyAgent(stage, host);
    this.#topology = new TopologyIndex(stage.topology);
    const handlers: FollowerHandlers = {
      onDocument: (kind, _id, body) => {
        if (kind === "topology") {
          this.#hasTopology = true;
          this.#isPoisoned = (body as Poisoned)[POISON]?.has(host.id) === true;
          this.#poisonedAt = this.#isPoisoned ? (this.#poisonedAt ?? host.now) : undefined;
        } else if (kind === "property") {
          const property = body as PropertyDocument;
          this.#properties.set(property.propertyId, property);
        } else return this.#takesMap(body as MapSnapshot);
        return true;
      },
      onReport: (report) => this.#agent.handleReport(report),
      prepare: (map) => MapIndex.inSteps(map, this.#map ?? undefined),
      onApplied: (key, before, after) =>
        stage.judge.check(
          "document-went-back",
          host.now,
          isForward(before, after),
          () =>
            `${host.id} has ${key} of ${before && placeOf(before)} in force and applies ${placeOf(after)}`,
        ),
    };
    const kinds = ["topology", "property", "map", "opinion"];
    this.follower = new DocumentFollower(host, control, kinds, handlers, "documents", late?.delayMs);
    if (late === undefined) return;
    const hostnames = (): string[] => [...this.#properties.values()].flatMap((one) => one.hostnames);
    let wasStandingBy = true;
    let mightTake = true;
    const { others, delayMs } = late;
    this.#duty = new StandInDuty(host, others, hostnames, delayMs, (isStandingBy, mayTake) => {
      if (isStandingBy !== wasStandingBy) {
        stage.statistics.count("stand-in", isStandingBy ? "stands-by" : "stands-in");
        host.note(isStandingBy ? "stands by" : "stands in for the others");
      }
      if (!mayTake && mightTake) stage.statistics.count("stand-in", "takes-nothing");
      wasStandingBy = isStandingBy;
      mightTake = mayTake;
      // Whatever has befallen the others is on its way here.
      this.follower.freeze(!mayTake);
    });
  }

  start(): void {
    this.#hasTopology = false;
    this.#isPoisoned = false;
    this.#poisonedAt = undefined;
    this.#properties = new Map();
    this.#map = null;
    this.#probes = new Probes(this.host, this.#stage.settings.nameServerLiveness, (event) => {
      this.host.note(`takes ${event.id} for ${event.state} (${event.reason})`);
      this.#stage.statistics.count("liveness", `${event.state}-${event.reason}`);
      if (event.state === "down") this.#stage.incidents.handleDetected(this.host.id, event.id, this.host.now);
    });
    this.#topology = new TopologyIndex(this.#stage.topology);
    this.#probes.watch(this.#edgeServers());
    this.follower.start();
    this.#othersLostAt = undefined;
    this.#othersGoodAt.clear();
    this.#duty?.start();
    this.#agent.start();
    this.#report();
    this.#check();
  }

  /** Tells control what it holds of the policy's targets, and goes by what all agents hold. */
  #report(): void {
    const { reportMs } = this.#stage.settings;
    this.#agent.believe();
    const report = serverReportOf(
      this.#stage,
      this.host,
      undefined,
      { applied: this.follower.applied, fence: this.mapInForce, opinions: this.#agent.opinions() },
      0,
    );
    sendReport(this.host, this.#control, report, reportMs);
    this.host.after(reportMs, "report", () => this.#report());
  }

  get mapInForce(): Fence | undefined {
    return this.follower.fenceOf("map/world");
  }
  /** Whether it stands in for others at times, and whether it answers at all now. */
  get isStandIn(): boolean {
    return this.#duty !== undefined;
  }
  get givesAddresses(): boolean {
    const isWilling = this.#duty?.isStandingBy !== true;
    return this.host.isServing && this.#hasTopology && !this.#isPoisoned && isWilling;
  }
  isUp(serverId: string): boolean {
    return this.#probes.monitor.isUp(serverId);
  }

  /** As the process does, once the map is prepared: what could not be true is refused, and the last good map stays in force. */
  #takesMap(snapshot: MapSnapshot): boolean {
    const problem = refusalOf(snapshot, this.#map?.snapshot);
    if (problem !== undefined) {
      this.#stage.statistics.count("map-refused-by-name-server", problem.reason);
      this.host.note(`refuses map ${snapshot.mapVersion}: ${problem.detail}`);
      return false;
    }
    this.#map = new MapIndex(snapshot, this.#map ?? undefined);
    return true;
  }

  query(hostname: string, clientAddress: IpAddress, respond: (answer: DnsAnswer) => void): void {
    const { judge, statistics } = this.#stage;
    const { now } = this.host;
    if (this.#isPoisoned || this.#duty?.isStandingBy === true) {
      const reason = this.#isPoisoned ? "poisoned" : "standing-by";
      statistics.count("dns", reason);
      respond({ serverIds: [], ttlSeconds: 0, reason });
      return;
    }
    const property = [...this.#properties.values()].find((one) => one.hostnames.includes(hostname));
    const propertyId = property?.propertyId ?? "";
    judge.check(
      "node-forgot",
      now,
      property !== undefined || !this.follower.isOnDisk("topology/world"),
      () => `${this.host.id} has its documents on disk and refuses ${hostname}`,
    );
    if (property === undefined || !this.#hasTopology) {
      statistics.count("dns", "unconfigured");
      respond({ serverIds: [], ttlSeconds: 0, reason: "unconfigured" });
      return;
    }
    const answer = this.#stage.cores.answerAddresses({
      snapshot: this.#map,
      topology: this.#topology,
      property,
      family: 4,
      clientAddress,
      sourcePrefixLength: clientAddress.family === 4 ? SOURCE_PREFIX_LENGTH : 56,
      isUp: this.#probes.isUp,
    });
    const serverIds = answer.servers.map((server) => server.serverId);
    statistics.count("dns", answer.reason);
    judge.check(
      "node-forgot",
      now,
      answer.reason !== "no-map" || !this.follower.isOnDisk("map/world"),
      () => `${this.host.id} has a map on its disk and answers without one`,
    );
    judge.check(
      "dns-answer-empty",
      now,
      serverIds.length > 0,
      () => `${this.host.id} answers ${propertyId} with no address (${answer.reason})`,
    );
    this.#judgeAnswer(serverIds, answer.reason, propertyId);
    respond({ serverIds, ttlSeconds: answer.ttlSeconds, reason: answer.reason });
  }

  #judgeAnswer(serverIds: readonly string[], reason: AnswerReason, propertyId: string): void {
    const { judge, bounds, hosts } = this.#stage;
    const { now } = this.host;
    if (this.host.aliveForMs(now) < Math.max(bounds.nameServerDownMs, bounds.nameServerUpMs)) return;
    if (reason === "all-down") {
      const living = this.#edgeServers().find(
        (id) => (hosts.get(id)?.aliveForMs(now) ?? 0) > bounds.nameServerUpMs,
      );
      judge.check(
        "dns-answer-empty",
        now,
        living === undefined,
        () => `${this.host.id} answers that all are down, and ${living} lives`,
      );
      return;
    }
    for (const id of serverIds) {
      const deadMs = hosts.get(id)?.deadForMs(now) ?? 0;
      judge.check(
        "dns-names-dead",
        now,
        deadMs <= bounds.nameServerDownMs,
        () =>
          `${this.host.id} names ${id} for ${propertyId}, dead for ${Math.round(deadMs)} ms (bound ${Math.round(bounds.nameServerDownMs)} ms)`,
      );
    }
  }

  /** Invariant dns-drops-live: what it believes of each server against the truth. */
  #check(): void {
    const { judge, bounds, hosts, network } = this.#stage;
    const { now } = this.host;
    if (this.host.aliveForMs(now) > bounds.nameServerUpMs)
      for (const id of this.#edgeServers()) {
        const server = hosts.get(id);
        if (server === undefined || server.aliveForMs(now) <= bounds.nameServerUpMs) continue;
        if (network.wholeForMs(this.host.site, server.site, now) <= bounds.nameServerUpMs) continue;
        judge.check(
          "dns-drops-live",
          now,
          this.#probes.monitor.isUp(id),
          () => `${this.host.id} takes ${id} for down, alive for ${Math.round(server.aliveForMs(now))} ms`,
        );
      }
    this.#judgeTargets();
    if (this.#duty !== undefined) this.#judgeDuty(this.#duty);
    else if (this.#poisonedAt !== undefined && this.host.isServing)
      this.harmedForMs = Math.max(this.harmedForMs, now - this.#poisonedAt);
    this.host.after(CHECK_MS, "check", () => this.#check());
  }

  /** Invariants policy-keeps-dead and policy-drops-live. */
  #judgeTargets(): void {
    const { judge, bounds, hosts, network, policy, testAgents } = this.#stage;
    const { now, site } = this.host;
    const { targetDownMs, targetUpMs } = bounds;
    if (this.host.aliveForMs(now) <= Math.max(targetDownMs, targetUpMs)) return;
    const agents = [...testAgents].flatMap((id) => hosts.get(id) ?? []);
    const control = this.#control.host;
    const isHeard = (agent: Host): boolean =>
      agent === this.host ||
      (Math.min(agent.aliveForMs(now), control.aliveForMs(now)) > targetUpMs &&
        network.wholeForMs(agent.site, control.site, now) > targetUpMs &&
        network.wholeForMs(control.site, site, now) > targetUpMs);
    for (const { targetId } of policy.targets) {
      const target = hosts.get(targetId);
      if (target === undefined) continue;
      const deadMs = target.deadForMs(now);
      judge.check(
        "policy-keeps-dead",
        now,
        deadMs <= targetDownMs || !this.#agent.isUp(targetId),
        () => `${this.host.id} holds ${targetId} for up, dead for ${Math.round(deadMs)} ms`,
      );
      const reaching = agents.filter(
        (agent) => isHeard(agent) && network.wholeForMs(agent.site, target.site, now) > targetUpMs,
      );
      if (target.aliveForMs(now) <= targetUpMs || reaching.length * 2 <= agents.length) continue;
      judge.check(
        "policy-drops-live",
        now,
        this.#agent.isUp(targetId) || !this.#agent.isUnbiased,
        () =>
          `${this.host.id} holds ${targetId} for down, alive for ${Math.round(target.aliveForMs(now))} ms and within reach of ${reaching.length} of ${agents.length} agents`,
      );
    }
  }

  /** Invariants stand-in-absent and stand-in-beside. */
  #judgeDuty({ others, isStandingBy }: StandInDuty): void {
    const { judge, bounds, network } = this.#stage;
    const { now } = this.host;
    for (const other of others) {
      const { id, site } = other.host;
      if (!other.givesAddresses) this.#othersGoodAt.delete(id);
      else if (!this.#othersGoodAt.has(id)) this.#othersGoodAt.set(id, now);
      const goodMs = Math.min(
        now - (this.#othersGoodAt.get(id) ?? now),
        network.wholeForMs(this.host.site, site, now),
      );
      if (goodMs <= bounds.standByMs || this.host.aliveForMs(now) <= bounds.standByMs) continue;
      const detail = () => `${this.host.id} stands in, and ${id} has answered for ${Math.round(goodMs)} ms`;
      judge.check("stand-in-beside", now, isStandingBy, detail);
    }
    const harmedForMs = Math.max(0, ...others.map((one) => one.harmedForMs));
    judge.check(
      "stand-in-poisoned",
      now,
      !this.#isPoisoned || harmedForMs <= bounds.standInMs + CHECK_MS,
      () => `${this.host.id} took what another name server choked on for ${Math.round(harmedForMs)} ms`,
    );
    if (this.#othersGoodAt.size > 0) this.#othersLostAt = undefined;
    else this.#othersLostAt ??= now;
    const lostMs = Math.min(now - (this.#othersLostAt ?? now), this.host.aliveForMs(now));
    if (lostMs <= bounds.standInMs + CHECK_MS) return;
    const detail = () =>
      `${this.host.id} is silent, and nobody else has answered for ${Math.round(lostMs)} ms`;
    judge.check("stand-in-absent", now, this.givesAddresses, detail);
  }

  #edgeServers(): string[] {
    return [...this.#topology.edgeClusters.values()].flatMap(({ entry }) =>
      entry.servers.map((server) => server.serverId),
    );
  }
}
