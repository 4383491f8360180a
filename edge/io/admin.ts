/** What a server says about itself: health, metrics, status, and why a URL is answered the way it is. */
import { type Clock, IsochroneError, type ServerReport } from "#kit";
import { BearerGate } from "#kit/io";
import type { NeighbourReport } from "#transport";
import { BEACON_PROBE_PATH } from "../core/beacon.ts";
import { parseAbsoluteUri } from "../core/cache-key.ts";
import { freshness } from "../core/freshness.ts";
import { fieldLines, fieldValue, isToken } from "../core/headers.ts";
import { explainedFields } from "../core/rules/explanation.ts";
import { contentBytes } from "../core/slices.ts";
import type { OverloadControl } from "../core/overload/overload-control.ts";
import { parseReference } from "../core/diagnosis/reference.ts";
import { sourceOf, wholeBody } from "./answers.ts";
import { probeAnswer } from "./beacon.ts";
import type { ContentCoder } from "./compression/content-coder.ts";
import type { KnownFault } from "./diagnosis.ts";
import { type Answer, type AnswerRecord, type Inbound, textAnswer } from "./exchange.ts";
import type { EdgeHandler } from "./handler.ts";
import type { StoredObject } from "./memory-store.ts";
import type { PurgeIndex } from "../core/purge-index.ts";
import { hopsOf } from "./request-plan.ts";
import { groupOf, type Hop, type Routing, toldFields } from "./routing.ts";
import type { Upstream } from "./upstream.ts";

/** Servers that one explanation may pass: edge, owner, parent, its owner. */
const EXPLAIN_DEPTH_MAX = 5;
const EXPLAIN_BYTES_MAX = 1_048_576;
const EXPLAIN_TIMEOUT_MS = 5_000;

/** What explain needs; undefined while the server starts. */
export interface ExplainParts {
  readonly handler: EdgeHandler;
  readonly coder: ContentCoder;
  readonly routing: Routing;
  readonly upstream: Upstream;
  readonly purges: PurgeIndex;
  readonly overload: OverloadControl;
  readonly tier: () => number;
  readonly clusterId: () => string | undefined;
  /** Of the map that next hops are taken from; absent: a cache alone, which has none. */
  readonly mapVersion?: () => number | undefined;
  /** `address:port` of a server of ours. */
  readonly hostOf: (serverId: string) => string | undefined;
}

export interface AdminOptions {
  readonly serverId: string;
  readonly clock: Clock;
  /** Undefined: nobody but proven peers may ask for status and explain. */
  readonly token: string | undefined;
  /** Undefined when ready, else why not. */
  readonly notReady: () => string | undefined;
  readonly metrics: () => Promise<string>;
  readonly report: () => ServerReport | undefined | Promise<ServerReport | undefined>;
  /** What is remembered of a request that could not be answered. */
  readonly faultOf: (requestId: string) => KnownFault | undefined | Promise<KnownFault | undefined>;
  readonly parts: () => ExplainParts | undefined;
  /** How other servers of ours are asked by the process that answers; undefined: there are none. */
  readonly neighbours?: () => readonly NeighbourReport[];
}

const RECORD: AnswerRecord = {
  outcome: "admin",
  status: undefined,
  propertyId: undefined,
  upstream: undefined,
};

const json = (status: number, value: unknown): Answer =>
  textAnswer(status, `${JSON.stringify(value, undefined, 2)}\n`, RECORD, [], "application/json");

export class Admin {
  readonly #o: AdminOptions;
  readonly #gate: BearerGate;

  constructor(options: AdminOptions) {
    this.#o = options;
    this.#gate = new BearerGate(options.token);
  }

  async answer(inbound: Inbound): Promise<Answer> {
    const { head } = inbound;
    const [path = "/", query = ""] = head.target.split("?", 2);
    if (head.method !== "GET" && head.method !== "HEAD")
      return textAnswer(405, "Only GET and HEAD are served here.\n", RECORD, [["Allow", "GET, HEAD"]]);
    switch (path) {
      case "/livez":
        return textAnswer(200, "ok\n", RECORD);
      case "/readyz": {
        const why = this.#o.notReady();
        return why === undefined
          ? textAnswer(200, "ready\n", RECORD)
          : textAnswer(503, `not ready: ${why}\n`, RECORD);
      }
      case "/metrics":
        return textAnswer(
          200,
          await this.#o.metrics(),
          RECORD,
          [],
          "text/plain; version=0.0.4; charset=utf-8",
        );
      case BEACON_PROBE_PATH:
        return probeAnswer();
      case "/.isochrone/status":
      case "/.isochrone/explain": {
        if (!this.#isAllowed(inbound))
          return textAnswer(401, "An operator's token is required (Authorization: Bearer ...).\n", RECORD, [
            ["WWW-Authenticate", "Bearer"],
          ]);
        if (path === "/.isochrone/status") {
          const report = await this.#o.report();
          return report === undefined
            ? textAnswer(503, "not ready: starting\n", RECORD)
            : json(200, { ...report, neighbours: this.#o.neighbours?.() ?? [] });
        }
        const asked = new URLSearchParams(query);
        const reference = asked.get("ref");
        return reference === null ? await this.#explain(inbound, asked) : await this.#fault(reference);
      }
      default:
        return textAnswer(
          404,
          "No such page. There are /livez, /readyz, /metrics, /.isochrone/status, /.isochrone/explain?url= and ?ref=.\n",
          RECORD,
        );
    }
  }

  #isAllowed(inbound: Inbound): boolean {
    return (
      inbound.peer !== undefined || this.#gate.opensFor(fieldValue(inbound.head.fields, "authorization"))
    );
  }

  async #explain(inbound: Inbound, asked: URLSearchParams): Promise<Answer> {
    const url = asked.get("url") ?? "";
    const parts = this.#o.parts();
    if (parts === undefined) return textAnswer(503, "not ready: starting\n", RECORD);
    const address = parseAbsoluteUri(url);
    if (address === undefined)
      return json(400, {
        error: `url: got ${JSON.stringify(url.slice(0, 80))}, expected an absolute http or https URL`,
      });
    const self = {
      serverId: this.#o.serverId,
      clusterId: parts.clusterId() ?? null,
      tier: parts.tier(),
      mapVersion: parts.mapVersion?.() ?? null,
      url,
    };
    const fields = explainedFields(asked.getAll("header"));
    const method = asked.get("method") ?? "GET";
    if (fields === undefined || !isToken(method))
      return json(400, { error: 'expected "name: value" for each header, and a method\'s name' });
    // Behind another server of ours the client is not known.
    const clientAddress = inbound.peer === undefined ? asked.get("address") : null;
    const request = { method, ...address, fields };
    const from = clientAddress === null ? undefined : { peer: undefined, remoteAddress: clientAddress };
    const plan = parts.handler.plan(request, from);
    if (plan === undefined)
      return json(200, { ...self, property: null, decision: { action: "refuse", reason: "unknown-host" } });
    const decision = await parts.handler.decide(plan);
    const stored = "stored" in decision ? decision.stored : undefined;
    const hops = hopsOf(parts.routing, plan, inbound.hop, plan.policy.bypass);
    const next = hops[0];
    const forwards = parts.overload.forwardsOf(plan.purgeScope);
    return json(200, {
      ...self,
      property: plan.property.propertyId ?? null,
      ...parts.handler.explainRules(request, from),
      stored: stored === undefined ? null : this.#stored(parts, plan, stored),
      form:
        stored === undefined
          ? null
          : parts.coder.explain(
              request,
              sourceOf(plan, stored, wholeBody(stored)),
              contentBytes(stored),
              inbound,
            ),
      decision: {
        action: decision.action,
        reason:
          "reason" in decision
            ? decision.reason
            : decision.action === "hit"
              ? "fresh"
              : "stale-while-revalidate",
        ...("detail" in decision && decision.detail !== undefined && { detail: decision.detail }),
      },
      // Of the process that answers here; `shedReason`: why one more would not be forwarded now.
      forwards: {
        active: forwards.active,
        activeMax: forwards.activeMax,
        shedReason: forwards.reason ?? null,
      },
      owner: parts.routing.ownerOf(plan.key) ?? null,
      isOwner: parts.routing.isOwner(plan.key, inbound.hop),
      // The servers of the origin that its hops name, as seen from here; null: they are of no property.
      origins: this.#originsOf(parts, hops),
      alternatives: hops.slice(1).map(({ kind, name }) => ({ kind, name })),
      nextHop:
        next === undefined
          ? null
          : { kind: next.kind, name: next.name, path: parts.upstream.explainPath(next.target) },
      next: next === undefined ? null : await this.#explainNext(parts, inbound, next, asked),
    });
  }

  #originsOf(parts: ExplainParts, hops: readonly Hop[]): unknown {
    const hop = hops.find(({ kind }) => kind === "origin");
    const group = hop && groupOf(hop);
    if (group === undefined) return null;
    const now = this.#o.clock.monotonic();
    const servers = parts.upstream.origins
      .states(group)
      ?.map(({ barredUntil, bar, ejection, requestsMax, ...one }) => ({
        ...one,
        bar: bar ?? null,
        barredForMs: barredUntil === undefined ? null : Math.max(0, Math.round(barredUntil - now)),
        ejection: ejection ?? null,
        requestsMax: requestsMax === Infinity ? null : requestsMax,
      }));
    return servers === undefined ? null : { group, servers };
  }

  /** What this server knows of the request that a reference names. */
  async #fault(reference: string): Promise<Answer> {
    const parsed = parseReference(reference);
    if (parsed === undefined)
      return json(400, {
        error: `ref: got ${JSON.stringify(reference.slice(0, 80))}, expected a reference of an error page such as "sin-1.Xy12ab340007"`,
      });
    return json(200, {
      serverId: this.#o.serverId,
      fault: (await this.#o.faultOf(parsed.requestId)) ?? null,
    });
  }

  #stored(
    parts: ExplainParts,
    plan: NonNullable<ReturnType<EdgeHandler["plan"]>>,
    stored: StoredObject,
  ): Record<string, unknown> {
    const fresh = freshness(stored, plan.policy, this.#o.clock.epoch());
    return {
      status: stored.status,
      state: fresh.isFresh ? "fresh" : "stale",
      ageSeconds: fresh.ageSeconds,
      lifetimeSeconds: fresh.lifetime.seconds,
      lifetimeSource: fresh.lifetime.source,
      ttlSeconds: fresh.ttlSeconds,
      bodyBytes: contentBytes(stored),
      ...(stored.part !== null && { part: stored.part }),
      tags: stored.tags,
      nominatedFields: stored.nominatedFields,
      isInvalidated: stored.isInvalidated,
      purgeState: parts.purges.stateOf(plan.purgeScope, plan.key, stored),
      storedAtEpochMs: stored.responseTime,
    };
  }

  /** The next server's own explanation, nested; what fails is said in its place. */
  async #explainNext(
    parts: ExplainParts,
    inbound: Inbound,
    hop: Hop,
    asked: URLSearchParams,
  ): Promise<unknown> {
    if (hop.target.kind !== "server") return null;
    const depth = Number(fieldLines(inbound.head.fields, "isochrone-explain")[0] ?? "0");
    if (!(depth < EXPLAIN_DEPTH_MAX)) return { error: "too many servers in one explanation" };
    const host = parts.hostOf(hop.target.serverId);
    if (host === undefined) return { error: `server "${hop.target.serverId}" is not in the topology` };
    try {
      const response = await parts.upstream.request(hop.target, {
        method: "GET",
        path: `/.isochrone/explain?${asked}`,
        headers: [["Host", host], ["Isochrone-Explain", String(depth + 1)], ...toldFields(hop)],
        signal: AbortSignal.timeout(EXPLAIN_TIMEOUT_MS),
      });
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of response.body as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > EXPLAIN_BYTES_MAX) return { error: "the explanation is too large" };
        chunks.push(chunk);
      }
      const text = Buffer.concat(chunks).toString("utf8");
      return response.status === 200
        ? (JSON.parse(text) as unknown)
        : { error: `status ${response.status}: ${text.trim()}` };
    } catch (error) {
      return { error: error instanceof IsochroneError ? error.message : String(error) };
    }
  }
}
