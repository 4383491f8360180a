/**
 * One target with its paths: the chooser that decides between them, a pool of open connections for each, and the attempts
 * that are under way on them.
 */
import type { Duplex } from "node:stream";
import {
  type ClusterId,
  IsochroneError,
  type MonotonicMs,
  type OriginProtocol,
  type ServerEntry,
  type ServerId,
} from "#kit";
import type { TransportSettings } from "../config.ts";
import { type SilenceLimits, silenceLimits } from "../core/body-silence.ts";
import { PathChooser } from "../core/path-chooser.ts";
import { HedgePolicy } from "../core/hedge-policy.ts";
import { LinkAgreement } from "../core/link-agreement.ts";
import type { PathChooserSettings } from "../core/path-settings.ts";
import { RetryBudget } from "../core/retry-budget.ts";
import type { PathProbe, PathReason, RequestClass } from "../core/path-words.ts";
import type { ExchangeHead, ExchangeWatch, PoolRequest } from "./exchange.ts";
import type { LinkExplanation, NeighbourReport, OriginIdentity, SpokenProtocol } from "./face.ts";
import type { LinkPool } from "./link/pool.ts";
import type { UdpConnect } from "./link/udp-carrier.ts";
import { NeighbourPool } from "./neighbour-pool.ts";
import { PathPool, type PathPoolOptions } from "./path-pool.ts";

/** Where the target is. */
export type Endpoint = {
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
  /** A customer's word: which addresses it may have is checked (core/address-guard.ts). */
  readonly isOrigin: boolean;
  /** Default: HTTP/1.1. */
  readonly protocol?: OriginProtocol | undefined;
  /** It may speak the link protocol: it is a server of ours that answers requests. */
  readonly mayLink?: boolean | undefined;
  /** What is shown to it in TLS handshakes. */
  readonly identity?: OriginIdentity | undefined;
};

/** The request that measures it. */
export type ProbeRequest = { readonly method: "GET" | "HEAD"; readonly path: string; readonly host: string };

/** What a target needs from transport. */
export type TargetContext = {
  readonly settings: TransportSettings;
  /** Opens a connection to `endpoint` over `via`. */
  readonly connect: (
    endpoint: Endpoint,
    servername: string,
    via: ClusterId | null,
    timeoutMs: number,
    signal: AbortSignal,
  ) => Promise<Duplex>;
  /** Opens a connection to a server of ours on which the link protocol is agreed; undefined: none is spoken here. */
  readonly connectLink?:
    | ((
        endpoint: Endpoint,
        serverId: ServerId,
        via: ClusterId | null,
        timeoutMs: number,
        signal: AbortSignal,
      ) => Promise<Duplex>)
    | undefined;
  /** Opens a UDP connection as agreed over a link; undefined: none is opened here. */
  readonly connectUdp?:
    | ((endpoint: Endpoint, options: Parameters<UdpConnect>[0]) => ReturnType<UdpConnect>)
    | undefined;
  readonly now: () => MonotonicMs;
  /** A target that was idle is asked for: its probes are due now. */
  readonly onWanted: () => void;
};

/** Something under way on a path that can be given up for another path. */
export type Attempt = {
  readonly via: ClusterId | null;
  readonly requestClass: RequestClass;
  /** Last byte from the peer, performance.now(); undefined: none yet. */
  lastProgressMs: number | undefined;
  /** Ends it: over another path it may be asked again, of a server that is down it may not. */
  readonly giveUp: (why: string, code: "path-failed" | "server-down") => void;
  /** Its place among those of its target, -1: none. */
  place: number;
};

/** A tracked attempt as its sender sees it, from the first byte to the end of its body. */
export type Progress = {
  /** Bytes came. */
  readonly handleBytes: () => void;
  /** It was given up, and the repeat for it is out of the budget. */
  readonly isRepeatPaid: () => boolean;
  /** The path's failure no longer ends it; the caller's signal still does. */
  readonly settle: () => void;
  readonly end: () => void;
};

/** Silence after which an attempt on a failed path is given up, ms; shorter is within ordinary service times. */
const SILENCE_MS = 400;

/** Content of a health check's answer that is read; of more the connection is given up. */
const CHECK_BYTES_MAX = 65_536;

/** The open connections over one path. */
type Pool = PathPool | NeighbourPool;

/** Properties may check one server under different names, over each path. */
const CHECK_POOLS_MAX = 16;
/** What is left of the peak of requests at once at the next probe of any path: it is forgotten within a minute. */
const PEAK_DECAY = 0.95;

/** Ends of a probe that mean nothing came back. Every other one is an answer, be it a refusal, and no packet lost. */
const silences: ReadonlySet<string> = new Set([
  "aborted",
  "connect-timeout",
  "headers-timeout",
  "body-timeout",
]);

export class Target {
  readonly key: string;
  readonly label: string;
  #endpoint: Endpoint;
  readonly clusterId: ClusterId | null;
  readonly probeRequest: ProbeRequest;
  /** Undefined: not measured (peers in the same cluster); direct is the only path. */
  readonly chooser: PathChooser | undefined;
  readonly #context: TargetContext;
  readonly #pools = new Map<string, Pool>();
  /** Whether it speaks the link protocol. */
  readonly #agreement = new LinkAgreement();
  /**
   * Each knows its place. A Set would keep what it holds from the garbage collector's short way: one that is filled anew leaves its old table
   * behind, and an old table keeps the next one, for as long as it has grown old itself.
   */
  readonly #attempts: Attempt[] = [];
  /** Requests at once over whichever path, fading. */
  #recentPeak = 0;
  /** One for each path that was used. */
  readonly #watches = new Map<ClusterId | null, ExchangeWatch>();
  /** Paths whose probes are lost. */
  readonly #dead = new Set<ClusterId | null>();
  readonly #connectionsMax: number;
  /** For health checks, by path and host: one connection each. */
  readonly #checkPools = new Map<string, PathPool>();
  /** Probes under way, by path: at most one each. */
  readonly #probes = new Map<
    ClusterId | null,
    { readonly probeId: number; readonly stop: AbortController }
  >();
  /** For probes that must not meet other requests, or while every connection of the pool is taken. */
  readonly #probePools = new Map<ClusterId | null, PathPool>();
  usedAtMs = performance.now();
  /** What may be asked again after this target failed it: its own, so that one that fails does not use up the others'. */
  readonly budget: RetryBudget;
  /** When an answer is late, and whether a second attempt may be sent. */
  readonly hedges: HedgePolicy;
  /** The server of ours that it is, if it is one. */
  readonly server: ServerEntry | undefined;
  /** Whether the configuration says under which name it answers; else each request's Host does. */
  readonly isNamedByConfiguration: boolean;

  constructor(options: {
    readonly key: string;
    readonly label: string;
    readonly endpoint: Endpoint;
    readonly clusterId: ClusterId | null;
    readonly probe: ProbeRequest;
    readonly server?: ServerEntry | undefined;
    readonly isNamedByConfiguration?: boolean;
    readonly paths: Partial<PathChooserSettings> | undefined;
    /** Connections over one path, those of probes and checks not counted; default: the settings'. */
    readonly connectionsMax?: number | undefined;
    readonly context: TargetContext;
  }) {
    this.key = options.key;
    this.label = options.label;
    this.#endpoint = options.endpoint;
    this.clusterId = options.clusterId;
    this.probeRequest = options.probe;
    this.server = options.server;
    this.isNamedByConfiguration = options.isNamedByConfiguration ?? false;
    this.#context = options.context;
    this.#connectionsMax = options.connectionsMax ?? options.context.settings.connectionsPerPath;
    this.budget = new RetryBudget(options.context.settings.retry, options.context.now());
    this.hedges = new HedgePolicy(options.context.settings.hedging, options.context.now());
    this.chooser = options.paths && new PathChooser(options.paths, options.context.now());
  }

  get endpoint(): Endpoint {
    return this.#endpoint;
  }

  /** Another certificate is shown from the next connection on; those that are free are closed, those in use carry what they have. */
  setIdentity(identity: OriginIdentity | undefined): void {
    if (identity?.fingerprint === this.#endpoint.identity?.fingerprint) return;
    this.#endpoint = { ...this.#endpoint, identity };
    this.closeIdle(0);
    for (const pools of [this.#probePools, this.#checkPools]) {
      for (const pool of pools.values()) void pool.close();
      pools.clear();
    }
  }

  choose(requestClass: RequestClass = "small"): {
    readonly via: ClusterId | null;
    readonly reason: PathReason;
  } {
    const { chooser } = this;
    if (!chooser) return { via: null, reason: "only-path" };
    const now = this.#context.now();
    if (requestClass === "small") return chooser.choose(now);
    return chooser.chooseLarge(now, (via) => {
      let count = 0;
      for (const attempt of this.#attempts)
        if (attempt.via === via && attempt.requestClass === "large") count++;
      return count;
    });
  }

  /** The measured round trip of a path, ms; undefined: not measured. */
  roundTripMs(via: ClusterId | null): number | undefined {
    return this.chooser?.roundTripOf(via)?.srttMs;
  }

  /** Time for a connection over a path, ms: several of its round trips, at most the setting. */
  connectTimeoutMs(via: ClusterId | null, askedMs: number): number {
    const srttMs = this.roundTripMs(via);
    return srttMs === undefined ? askedMs : Math.min(askedMs, Math.max(500, 5 * srttMs + 500));
  }

  /** Silence within a body after which its path is suspect. Undefined: not measured. */
  silenceLimits(via: ClusterId | null): SilenceLimits | undefined {
    const known = this.chooser?.roundTripOf(via);
    return known && silenceLimits(known, this.server !== undefined);
  }

  /**
   * Whether a body that is suspect on `via` may be asked for over another path: out of the budget of second attempts, and on a silent path
   * of that of repeats, as one that broke off is.
   */
  takeRescue(via: ClusterId | null): boolean {
    const now = this.#context.now();
    if (!this.chooser?.alternative([via], now)) return false;
    // What was heard over the path just behind the last of the body says no more of it by now than that did.
    const since = (now - (this.silenceLimits(via)?.quietMs ?? 0)) as MonotonicMs;
    return (
      this.hedges.take(via, since, now, "high") ||
      (this.hedges.isSilentSince(via, since) && this.budget.take(now))
    );
  }

  /** Sends one request over one path. `servername` is for TLS. */
  send(via: ClusterId | null, servername: string, request: PoolRequest): Promise<ExchangeHead> {
    const nowMs = performance.now();
    if (this.isIdle(nowMs)) this.touch();
    this.usedAtMs = nowMs;
    return this.#poolOf(via, servername).request(request);
  }

  /** What was seen of an answer over a path: when its head came, and, of a whole body, how long that took. */
  watchOver(via: ClusterId | null): ExchangeWatch | undefined {
    const { chooser } = this;
    if (chooser === undefined) return undefined;
    let watch = this.#watches.get(via);
    if (watch === undefined) {
      watch = {
        handleHead: (ttfbMs) => chooser.handleUpperBound(via, ttfbMs, this.#context.now()),
        handleTransfer: (...seen) => chooser.handleTransfer(via, ...seen),
      };
      this.#watches.set(via, watch);
    }
    return watch;
  }

  track(attempt: Attempt): void {
    attempt.place = this.#attempts.push(attempt) - 1;
  }
  untrack(attempt: Attempt): void {
    const { place } = attempt;
    if (place < 0) return;
    attempt.place = -1;
    const last = this.#attempts.pop() as Attempt;
    if (last === attempt) return;
    last.place = place;
    this.#attempts[place] = last;
  }

  /**
   * Gives up what waits on failed paths, so that it can be asked for elsewhere, if there is an elsewhere: with every path
   * failed the target itself is slow or gone, and asking it again would not help. Returns how many.
   */
  giveUpOnDeadPaths(): number {
    let count = 0;
    for (const via of this.#dead) count += this.giveUpSilent(via, true);
    return count;
  }

  /** Gives up what is silent on one path, on a dead one whatever has no answer yet, if there is another path. Returns how many. */
  giveUpSilent(via: ClusterId | null, isDead: boolean): number {
    if (!this.chooser?.alternative([via], this.#context.now())) return 0;
    let count = 0;
    const nowMs = performance.now();
    for (const attempt of this.#attempts.slice()) {
      // A body that still moves may do so to its end. What waits on a path that is only suspect is asked for elsewhere beside it.
      const silentMs =
        attempt.lastProgressMs === undefined ? (isDead ? Infinity : 0) : nowMs - attempt.lastProgressMs;
      if (attempt.via !== via || silentMs < SILENCE_MS) continue;
      attempt.giveUp(
        `path ${via === null ? "direct" : `via ${JSON.stringify(via)}`} to ${this.label} failed`,
        "path-failed",
      );
      count++;
    }
    return count;
  }

  /** The server stopped answering: whoever waits for its answer is told, so that another server can be asked. */
  giveUpWaiting(): number {
    let count = 0;
    for (const attempt of this.#attempts.slice()) {
      // A body on its way may yet go on, and nobody else has its rest.
      if (attempt.lastProgressMs !== undefined) continue;
      attempt.giveUp(`${this.label} has stopped answering`, "server-down");
      count++;
    }
    return count;
  }

  /** Nothing crosses `via` any more, or does again. */
  setDead(via: ClusterId | null, isDead: boolean): void {
    if (isDead) this.#dead.add(via);
    else this.#dead.delete(via);
  }

  /** Sends a probe of the chooser and reports its end to it. Never throws. */
  async probe(probe: PathProbe): Promise<void> {
    const { chooser } = this;
    if (!chooser) return;
    // One that the chooser gave up on: its connection is stuck.
    this.#probes.get(probe.via)?.stop.abort();
    const stop = new AbortController();
    this.#probes.set(probe.via, { probeId: probe.probeId, stop });
    let rttMs: number | undefined;
    let isRefused = false;
    try {
      const head = await this.sendProbe(probe.via, stop.signal);
      rttMs = head.ttfbMs;
      this.hedges.handleHeard(probe.via, this.#context.now());
      // The path in use, the one to fall back to, and direct are kept open.
      if (probe.via === null || chooser.isLeading(probe.via, this.#context.now())) this.#warm(probe.via);
    } catch (error) {
      isRefused = error instanceof IsochroneError && !silences.has(error.code);
    } finally {
      if (this.#probes.get(probe.via)?.probeId === probe.probeId) this.#probes.delete(probe.via);
    }
    if (isRefused) chooser.handleProbeRefused(probe.probeId, this.#context.now());
    else chooser.handleProbeResult(probe.probeId, rttMs, this.#context.now());
  }

  /** Free connections for as many requests as there were at once lately over whichever path: they may all have to change over. */
  #warm(via: ClusterId | null): void {
    const { connectionsWarmMin, connectionsWarmMax } = this.#context.settings;
    this.#recentPeak *= PEAK_DECAY;
    for (const pool of this.#pools.values()) this.#recentPeak = Math.max(this.#recentPeak, pool.takePeak());
    const wanted = Math.max(connectionsWarmMin, Math.ceil(this.#recentPeak));
    this.#poolOf(via, hostOf(this.probeRequest.host)).warm(
      Math.min(wanted, connectionsWarmMax),
      this.usedAtMs,
    );
  }

  /** Whether no request asked for it for a while. */
  isIdle(nowMs: number): boolean {
    return nowMs - this.usedAtMs > this.#context.settings.idleTargetMs;
  }

  /** It is wanted, though no request goes to it itself: a relay on whose path something failed. */
  touch(): void {
    this.usedAtMs = performance.now();
    this.chooser?.expedite(this.#context.now());
    this.#context.onWanted();
  }

  /** Whether a probe ever came back. */
  get isProven(): boolean {
    return this.chooser?.states(this.#context.now()).some((one) => one.srttMs !== undefined) ?? false;
  }

  /** Whether nothing gets to it any more, over whatever path. */
  get isFailedEverywhere(): boolean {
    return this.chooser?.states(this.#context.now()).every((one) => one.isFailed) ?? false;
  }

  /** One measuring request; its body is read to the end, so that the connection can be used again. */
  async sendProbe(via: ClusterId | null, signal: AbortSignal): Promise<ExchangeHead> {
    const { host, method, path } = this.probeRequest;
    const { probeConnectMsMax = 3_000 } = this.#context.settings.paths;
    const servername = hostOf(host);
    let pool: Pool = this.#poolOf(via, servername);
    // HEAD goes over connections of its own (see `mayReuseAfterHead`); GET helps to keep the pool's own ones open.
    if (method === "HEAD" || pool.isBusy) {
      const spare = this.#probePools.get(via) ?? this.#makeHttpPool(via, servername, 1);
      this.#probePools.set(via, spare);
      pool = spare;
    }
    const head = await pool.request({
      method,
      path,
      headers: [
        ["Host", host],
        ["User-Agent", "isochrone-probe"],
      ],
      body: undefined,
      signal,
      mayReuseAfterHead: true,
      isUrgent: true,
      connectMs: probeConnectMsMax,
      headersMs: 2 * probeConnectMsMax,
      bodyMs: 2 * probeConnectMsMax,
    });
    head.body.on("error", () => {});
    head.body.resume();
    return head;
  }

  /**
   * The status that a health check is answered with, over the path that a request would take. Rejects with IsochroneError when
   * none comes by `signal`.
   */
  async check(request: ProbeRequest, signal: AbortSignal): Promise<number> {
    const { via } = this.choose();
    const pool = this.#checkPoolOf(via, hostOf(request.host));
    const { connectTimeoutMs, headersTimeoutMs, bodyTimeoutMs } = this.#context.settings;
    const head = await pool.request({
      method: request.method,
      path: request.path,
      headers: [
        ["Host", request.host],
        ["User-Agent", "isochrone-check"],
      ],
      body: undefined,
      signal,
      mayReuseAfterHead: true,
      connectMs: connectTimeoutMs,
      headersMs: headersTimeoutMs,
      bodyMs: bodyTimeoutMs,
    });
    const { body } = head;
    let bytes = 0;
    body.on("error", () => {});
    body.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > CHECK_BYTES_MAX) body.destroy();
    });
    return head.status;
  }

  /** Opens a connection over the path that a request would take, and closes it. Rejects with IsochroneError. */
  async checkConnection(signal: AbortSignal): Promise<void> {
    const { connect, settings } = this.#context;
    const { via } = this.choose();
    const servername = hostOf(this.probeRequest.host);
    const connection = await connect(this.endpoint, servername, via, settings.connectTimeoutMs, signal);
    connection.on("error", () => {});
    connection.destroy();
  }

  /** Drops the pools of relays that are gone, and, when nothing uses the target any more, all. */
  async close(): Promise<void> {
    for (const { stop } of this.#probes.values()) stop.abort();
    const pools = [...this.#pools.values(), ...this.#probePools.values(), ...this.#checkPools.values()];
    this.#pools.clear();
    this.#probePools.clear();
    this.#checkPools.clear();
    await Promise.all(pools.map((pool) => pool.close()));
  }

  /** Closes pools that nothing used for `idleMs`. */
  closeIdle(idleMs: number): void {
    const nowMs = performance.now();
    for (const [key, pool] of this.#pools) {
      if (pool.active > 0 || nowMs - pool.usedAtMs < idleMs) continue;
      this.#pools.delete(key);
      void pool.close();
    }
  }

  get pools(): readonly PathPool[] {
    return Array.from(this.#pools.values(), (pool) => (pool instanceof NeighbourPool ? pool.http : pool));
  }

  /** Links to it, one for each path that was used. */
  get links(): readonly LinkPool[] {
    return [...this.#pools.values()].flatMap((pool) => (pool instanceof NeighbourPool ? pool.link : []));
  }

  /** Handshakes that showed that it speaks no link. */
  get linkRefusals(): number {
    return this.#agreement.refusals;
  }

  /** What a request over a path would be asked by now, and the link over it; null: none is spoken, or nothing was asked over it yet. */
  explainProtocol(via: ClusterId | null): {
    readonly protocol: SpokenProtocol;
    readonly link: LinkExplanation | null;
  } {
    const pool = this.#pools.get(via ?? "");
    const http = this.#endpoint.protocol ?? "http/1.1";
    if (!(pool instanceof NeighbourPool)) return { protocol: http, link: null };
    const { sessions, sessionsMax, stuckSessions, active, rttMs, udp } = pool.link;
    const { state } = this.#agreement;
    const link = {
      state,
      sessions,
      sessionsMax,
      stuckSessions,
      streams: active + (udp?.active ?? 0),
      rttMs: rttMs ?? null,
      udp: udp?.explain(this.#context.now()) ?? null,
    };
    return { protocol: sessions > stuckSessions ? "link" : http, link };
  }

  /** How this server of ours is asked, over each path that was used; none: it is none of ours. */
  get reports(): NeighbourReport[] {
    const { server } = this;
    if (server === undefined) return [];
    const { connectionsPerPath, waitingPerPath } = this.#context.settings;
    return Array.from(this.#pools, ([key, pool]) => {
      const via = key === "" ? null : (key as ClusterId);
      const { connections, active: requests } = pool instanceof NeighbourPool ? pool.http : pool;
      const http = { connections, requests, requestsMax: connectionsPerPath + waitingPerPath };
      return { serverId: server.serverId, via, ...this.explainProtocol(via), http };
    });
  }

  #poolOf(via: ClusterId | null, servername: string): Pool {
    const { isTls, identity } = this.#endpoint;
    const key = isTls ? `${via ?? ""}|${servername}|${identity?.fingerprint ?? ""}` : (via ?? "");
    const known = this.#pools.get(key);
    if (known) return known;
    const pool = this.#makePool(via, servername, this.#connectionsMax);
    this.#pools.set(key, pool);
    return pool;
  }

  #checkPoolOf(via: ClusterId | null, servername: string): PathPool {
    const key = `${via ?? ""}|${servername}`;
    const known = this.#checkPools.get(key);
    if (known !== undefined) return known;
    const [oldest] = this.#checkPools;
    if (this.#checkPools.size >= CHECK_POOLS_MAX && oldest !== undefined) {
      this.#checkPools.delete(oldest[0]);
      void oldest[1].close();
    }
    const pool = this.#makeHttpPool(via, servername, 1);
    this.#checkPools.set(key, pool);
    return pool;
  }

  #makePool(via: ClusterId | null, servername: string, connections: number): Pool {
    const { settings, connectLink, connectUdp } = this.#context;
    const { server } = this;
    const endpoint = this.#endpoint;
    if (connectLink === undefined || server === undefined || endpoint.mayLink !== true)
      return this.#makeHttpPool(via, servername, connections);
    const timeoutMs = (): number => this.connectTimeoutMs(via, settings.connectTimeoutMs);
    return new NeighbourPool({
      ...this.#poolOptions(via, servername, connections),
      connectLink: (signal) => connectLink(endpoint, server.serverId, via, timeoutMs(), signal),
      agreement: this.#agreement,
      // A relay carries connections, no datagrams.
      udp:
        connectUdp === undefined || via !== null
          ? undefined
          : { connect: (options) => connectUdp(endpoint, options), settings: settings.carriers },
    });
  }

  #makeHttpPool(via: ClusterId | null, servername: string, connections: number): PathPool {
    return new PathPool(this.#poolOptions(via, servername, connections));
  }

  #poolOptions(via: ClusterId | null, servername: string, connections: number): PathPoolOptions {
    const { settings, connect, now } = this.#context;
    const endpoint = this.#endpoint;
    return {
      label: via === null ? this.label : `${this.label} via ${JSON.stringify(via)}`,
      settings: { ...settings, connectionsPerPath: connections },
      protocol: endpoint.protocol,
      connect: (signal) =>
        connect(endpoint, servername, via, this.connectTimeoutMs(via, settings.connectTimeoutMs), signal),
      onConnecting: () => {
        const probe = this.#probes.get(via);
        if (probe) this.chooser?.handleProbeConnecting(probe.probeId, now());
      },
      onConnected: () => {},
    };
  }
}

/** The host name of a Host header. */
export function hostOf(host: string): string {
  if (host.startsWith("[")) return host.slice(1, host.indexOf("]"));
  const colon = host.lastIndexOf(":");
  return colon < 0 ? host : host.slice(0, colon);
}
