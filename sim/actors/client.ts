/**
 * The users of one client network with their resolver, which keeps addresses for their TTL and knows all name servers. A user
 * takes the second address when the first one does not connect or does not answer.
 */
import type { IpAddress, PropertyDocument, Random } from "#kit";
import type { RequestReason } from "../core/incidents.ts";
import type { Edge } from "./edge.ts";
import { exchange, type Host, type Program } from "./host.ts";
import { type HttpAnswer, NO_HOP } from "./messages.ts";
import type { DnsAnswer, NameServer } from "./name-server.ts";
import type { CatalogObject } from "./catalog.ts";
import type { Stage } from "./stage.ts";
import { judgeContent } from "./content-judge.ts";

interface CachedAnswer {
  readonly serverIds: readonly string[];
  readonly expiresAt: number;
  /** By a name server that had begun, or gone on, so lately that it could not know who had died meanwhile. */
  readonly isByNewcomer: boolean;
}

/** Why a dead server may still be asked: an expired answer had to do; `by-newcomer`: see {@link CachedAnswer}. */
type Excuse = "resolver-stale" | "by-newcomer";

export class Client implements Program {
  readonly host: Host;
  readonly #stage: Stage;
  readonly #address: IpAddress;
  readonly #nameServers: readonly NameServer[];
  readonly #edges: ReadonlyMap<string, Edge>;
  readonly #requestsPerSecond: number;
  readonly #random: Random;
  readonly #cache = new Map<string, CachedAnswer>();
  /** Requests that wait for the resolver, by host name. */
  readonly #resolving = new Map<string, ((answer: CachedAnswer | undefined, isStale: boolean) => void)[]>();
  /** The name server that answered last. */
  #preferred = 0;

  constructor(options: {
    readonly stage: Stage;
    readonly host: Host;
    readonly address: IpAddress;
    readonly nameServers: readonly NameServer[];
    readonly edges: ReadonlyMap<string, Edge>;
    readonly requestsPerSecond: number;
  }) {
    this.#stage = options.stage;
    this.host = options.host;
    this.#address = options.address;
    this.#nameServers = options.nameServers;
    this.#edges = options.edges;
    this.#requestsPerSecond = options.requestsPerSecond;
    this.#random = options.stage.random.split(`client/${options.host.id}`);
  }

  start(): void {
    // Servers are not announced before they are ready: users come when the first documents are everywhere.
    if (this.#requestsPerSecond > 0)
      this.host.after(this.#stage.settings.usersFromMs, "users", () => this.#next());
  }

  #next(): void {
    this.host.after(this.#random.exponential(1_000 / this.#requestsPerSecond), "user", () => {
      const property = this.#random.pick(this.#stage.properties);
      const object = this.#stage.catalog.draw(property.propertyId, this.#random);
      if (object !== undefined) this.#request(property, object);
      this.#next();
    });
  }

  #request(property: PropertyDocument, object: CatalogObject): void {
    const startedAt = this.host.now;
    const tried: string[] = [];
    const end = (reason: RequestReason, answer: HttpAnswer | undefined): void =>
      this.#end(property, object, startedAt, tried, reason, answer);
    this.#resolve(object.host, (addresses, isStale) => {
      if (addresses === undefined) end("dns-timeout", undefined);
      else {
        const excuse = isStale ? "resolver-stale" : addresses.isByNewcomer ? "by-newcomer" : undefined;
        this.#ask(object, addresses.serverIds, excuse, tried, "connect-timeout", end);
      }
    });
  }

  /** Asks the servers in turn until one answers below 500. */
  #ask(
    object: CatalogObject,
    [serverId, ...rest]: readonly string[],
    excuse: Excuse | undefined,
    tried: string[],
    last: RequestReason,
    end: (reason: RequestReason, answer: HttpAnswer | undefined) => void,
  ): void {
    const edge = serverId === undefined ? undefined : this.#edges.get(serverId);
    if (serverId === undefined || edge === undefined) {
      end(last, undefined);
      return;
    }
    tried.push(serverId);
    this.#judgeAddress(serverId, excuse);
    const { clientConnectMs, clientResponseMs } = this.#stage.settings;
    exchange<HttpAnswer>({
      from: this.host,
      to: edge.host,
      label: "get",
      connectTimeoutMs: clientConnectMs,
      timeoutMs: clientResponseMs,
      serve: (respond) =>
        edge.request(
          {
            head: { method: "GET", scheme: "http", host: object.host, target: object.target, fields: [] },
            hop: NO_HOP,
          },
          respond,
        ),
      done: (outcome) => {
        const next = (reason: RequestReason): void => this.#ask(object, rest, excuse, tried, reason, end);
        if (outcome.kind === "refused" || outcome.kind === "reset") next("connect-refused");
        else if (outcome.kind === "connect-timeout") next("connect-timeout");
        else if (outcome.kind === "timeout") next("response-timeout");
        else if (outcome.value.status === 421) end("misdirected", outcome.value);
        // An answer is an answer: users do not ask the next address after a 503.
        else end(outcome.value.status >= 500 ? "status-5xx" : "ok", outcome.value);
      },
    });
  }

  #end(
    property: PropertyDocument,
    object: CatalogObject,
    startedAt: number,
    tried: readonly string[],
    reason: RequestReason,
    answer: HttpAnswer | undefined,
  ): void {
    const { statistics, incidents, judge, settings, originsOf, clusterOf } = this.#stage;
    const { now } = this.host;
    const elapsedMs = now - startedAt;
    const outcome: RequestReason = reason === "ok" && elapsedMs > settings.slowFromMs ? "slow" : reason;
    statistics.count("request", outcome);
    if (reason === "ok") {
      statistics.time(elapsedMs);
      if (answer !== undefined) judgeContent(this.#stage, this.host, property, object, startedAt, answer);
    }
    this.host.env.trace.event(
      now,
      this.host.id,
      `${object.host}${object.target} ${outcome} ${tried.join(",")} v${answer?.content?.version ?? 0}`,
    );
    if (outcome === "ok") return;
    const blamed = incidents.blame({
      clientId: this.host.site,
      propertyId: property.propertyId,
      originServerIds: originsOf.get(property.propertyId) ?? [],
      startedAt,
      endedAt: now,
      reason: outcome,
      clusters: tried.map((id) => clusterOf.get(id)?.clusterId ?? ""),
    });
    statistics.count("blamed", blamed?.fault.kind ?? "nothing");
    // Rare slowness is the network's: a segment lost three times over. Only losses need an explanation.
    if (outcome === "slow") return;
    this.host.note(`lost ${object.host}${object.target}: ${outcome} at ${tried.join(", ")}`);
    judge.check(
      "loss-unexplained",
      now,
      blamed !== undefined,
      () =>
        `${this.host.id} lost ${object.host}${object.target} (${outcome}) at ${tried.join(", ")} after ${Math.round(elapsedMs)} ms, and no fault explains it`,
    );
  }

  #resolve(hostname: string, done: (answer: CachedAnswer | undefined, isStale: boolean) => void): void {
    const cached = this.#cache.get(hostname);
    if (cached !== undefined && cached.expiresAt > this.host.now) {
      done(cached, false);
      return;
    }
    const waiting = this.#resolving.get(hostname);
    if (waiting !== undefined) {
      waiting.push(done);
      return;
    }
    this.#resolving.set(hostname, [done]);
    this.#query(hostname, 0);
  }

  /** Asks the name servers in turn, each twice; then an expired answer must do (RFC 8767). */
  #query(hostname: string, attempts: number): void {
    const finish = (answer: CachedAnswer | undefined, isStale: boolean): void => {
      const waiting = this.#resolving.get(hostname) ?? [];
      this.#resolving.delete(hostname);
      for (const one of waiting) one(answer, isStale);
    };
    const count = this.#nameServers.length;
    if (attempts >= 2 * count) {
      const expired = this.#cache.get(hostname);
      this.#stage.statistics.count("resolver", expired === undefined ? "failed" : "stale");
      finish(expired, true);
      return;
    }
    const index = (this.#preferred + attempts) % count;
    const nameServer = this.#nameServers[index] as NameServer;
    exchange<DnsAnswer>({
      from: this.host,
      to: nameServer.host,
      label: "dns",
      isDatagram: true,
      timeoutMs: this.#stage.settings.resolverTimeoutMs,
      serve: (respond) => nameServer.query(hostname, this.#address, respond),
      done: (outcome) => {
        if (outcome.kind !== "answer" || outcome.value.serverIds.length === 0) {
          this.#query(hostname, attempts + 1);
          return;
        }
        this.#preferred = index;
        const { serverIds, ttlSeconds } = outcome.value;
        const { now } = this.host;
        const isByNewcomer = nameServer.host.aliveForMs(now) <= this.#stage.bounds.nameServerDownMs;
        const answer = { serverIds, expiresAt: now + ttlSeconds * 1_000, isByNewcomer };
        this.#cache.set(hostname, answer);
        finish(answer, false);
      },
    });
  }

  /** Invariant client-asks-dead. */
  #judgeAddress(serverId: string, excuse: Excuse | undefined): void {
    const { judge, bounds, hosts, statistics, topology } = this.#stage;
    const deadMs = hosts.get(serverId)?.deadForMs(this.host.now) ?? 0;
    if (deadMs > 0) statistics.count("asked-dead", excuse ?? "within-bound");
    const edges = topology.clusters.filter((one) => one.role === "edge").flatMap((one) => one.servers);
    const isAnyAlive = edges.some(
      (one) =>
        (hosts.get(one.serverId)?.aliveForMs(this.host.now) ?? 0) > bounds.ttlMs + bounds.nameServerUpMs,
    );
    if (excuse !== undefined || !isAnyAlive) return;
    judge.check(
      "client-asks-dead",
      this.host.now,
      deadMs <= bounds.clientMs,
      () =>
        `${this.host.id} asks ${serverId}, dead for ${Math.round(deadMs)} ms (bound ${Math.round(bounds.clientMs)} ms)`,
    );
  }
}
