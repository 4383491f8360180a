/**
 * Transport of one server: keeps targets (parents, relays, origins) measured, sends requests over the path that each
 * target's chooser names, and asks again elsewhere when a path fails and asking again is safe.
 */
import type { Duplex, Readable } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import type { Registry } from "prom-client";
import {
  type Clock,
  type ClusterId,
  IsochroneError,
  type LinkReport,
  type MapSnapshot,
  type OriginHealthCheck,
  type OriginTarget,
  type ServerId,
  type TopologyDocument,
  xxh32,
} from "#kit";
import type { Logger } from "#kit/io";
import { type TransportSettings, transportDefaults } from "../config.ts";
import { LINK_ALPN } from "../core/link/words.ts";
import { type PathReason, pathReasons } from "../core/path-words.ts";
import { peerProofHeader } from "../core/peer-proof.ts";
import { dial, TlsFailure } from "./dial.ts";
import type { ExchangeError, ExchangeHead, PoolRequest } from "./exchange.ts";
import type {
  HeaderList,
  KnownOrigin,
  NeighbourReport,
  OriginIdentity,
  PathExplanation,
  SpokenProtocol,
  TransportRequest,
  TransportResponse,
  TransportTarget,
  UsedPath,
} from "./face.ts";
import type { NodeTrust } from "./node-trust.ts";
import { OriginGroups, type OriginGroupStated, type OriginUsage } from "./origin-groups.ts";
import { OriginResolver } from "./origin-resolver.ts";
import { signPeer } from "./peer-proof.ts";
import { Prober } from "./prober.ts";
import { loadQuietTime } from "./quiet-time.ts";
import { race, type RaceParts, type RaceResult } from "./race.ts";
import { linkReportsOf } from "./reports.ts";
import { ResumingBody, resumableFrom } from "./resuming-body.ts";
import type { StopSignal } from "./stop-signal.ts";
import { type Endpoint, hostOf, type Target, type TargetContext } from "./target.ts";
import { TargetTable } from "./target-table.ts";
import { registerTransportMetrics, type TransportCounters } from "./transport-metrics.ts";
import { openTunnel } from "./tunnel.ts";
import { UdpDialer } from "./udp/dialer.ts";
import { upstreamHeaders } from "../core/upstream-headers.ts";

export type TransportOptions = {
  readonly selfServerId: ServerId;
  readonly selfClusterId: ClusterId;
  readonly topology: TopologyDocument;
  /** Shared by all servers (see `peerKeyFromEnvironment`). Undefined, alone: nothing is signed. */
  readonly peerKey: Uint8Array | undefined;
  /** What this server shows to others of ours. Undefined, or while it holds nothing: no relays are used. */
  readonly trust?: NodeTrust | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly settings?: Partial<TransportSettings> | undefined;
  readonly resolver?: OriginResolver | undefined;
};

/** By then the own links to the relays are measured, ms: a few probes over the longest way round the earth. */
const RANK_AFTER_MS = 3_000;

/** Failures before anything was sent that say nothing about the path. */
const notOfPath: ReadonlySet<string> = new Set([
  "aborted",
  "pool-full",
  "bad-request",
  "address-not-permitted",
]);

export class Transport {
  readonly #options: TransportOptions;
  readonly #settings: TransportSettings;
  readonly #resolver: OriginResolver;
  readonly #table: TargetTable;
  readonly #prober: Prober;
  readonly #udp = new UdpDialer();
  readonly #raceParts: RaceParts;
  /** Which server of an origin is asked. */
  readonly origins: OriginGroups;
  readonly #counters: TransportCounters = {
    requests: 0,
    retries: 0,
    resumes: 0,
    rescues: 0,
    failures: new Map(),
    byPath: new Map(),
    byProtocol: new Map(),
  };
  #rankTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#settings = { ...transportDefaults, ...options.settings };
    this.#resolver = options.resolver ?? new OriginResolver({ clock: options.clock });
    const context: TargetContext = {
      settings: this.#settings,
      now: () => options.clock.monotonic(),
      connect: (...args) => this.#connect(...args),
      connectLink:
        options.trust !== undefined && this.#settings.link
          ? (...args) => this.#connectLink(...args)
          : undefined,
      connectUdp: this.#settings.linkUdp
        ? async ({ host, port: tcpPort }, more) => await this.#udp.open({ ...more, host, tcpPort })
        : undefined,
      onWanted: () => this.#prober.wake(),
    };
    this.#raceParts = {
      settings: this.#settings,
      logger: options.logger,
      now: () => options.clock.monotonic(),
      send: (...args) => this.#sendOnce(...args),
      onFailure: (to, via, error) => {
        this.#counters.failures.set(error.code, (this.#counters.failures.get(error.code) ?? 0) + 1);
        this.#learn(to, via, error);
      },
      onRacesLost: (to, via) => {
        to.chooser?.handleRacesLost(via, options.clock.monotonic());
        this.#prober.handleRacesLost(to, via);
      },
      onAnswered: (...args) => this.#handleAnswered(...args),
      counters: this.#counters,
    };
    this.#table = new TargetTable({
      selfServerId: options.selfServerId,
      selfClusterId: options.selfClusterId,
      topology: options.topology,
      mayUseRelays: options.trust !== undefined,
      paths: this.#settings.paths,
      context,
    });
    this.#prober = new Prober({
      clock: options.clock,
      logger: options.logger,
      settings: this.#settings,
      targets: () => this.#table.measured,
    });
    this.#prober.watch(this.#table.watched);
    this.origins = new OriginGroups({
      clock: options.clock,
      logger: options.logger,
      settings: {
        checksPerSecondMax: this.#settings.originChecksPerSecondMax,
        idleMs: this.#settings.originCheckIdleMs,
      },
      // Servers, and processes of one, begin their turns with different origin servers.
      offset: xxh32(options.selfServerId) + process.pid,
      check: (...args) => this.#checkOrigin(...args),
    });
  }

  /** Servers and relays as they are now. Targets that stay keep their measurements. */
  setTopology(topology: TopologyDocument): void {
    this.#table.setTopology(topology);
    this.#prober.watch(this.#table.watched);
  }

  /** Takes the candidates of the path map. */
  setSnapshot(snapshot: MapSnapshot): void {
    this.#table.setSnapshot(snapshot);
    this.#prober.wake();
  }

  /** The origins that are kept measured: those of this server's properties. */
  setOrigins(origins: readonly KnownOrigin[]): void {
    this.#table.setOrigins(origins);
    this.#prober.wake();
  }

  /** What each property says of its origins; `share`: this process's part of the limits of its server, 0..1. */
  setOriginGroups(groups: readonly OriginGroupStated[], share = 1): void {
    this.origins.set(groups, share);
  }

  /** Begins to measure. */
  start(): void {
    void loadQuietTime();
    this.#prober.start();
    this.origins.start();
    // Where no map says better, relays are ranked by the own links to them.
    this.#rankTimer = setTimeout(() => this.#table.refreshRelays(), RANK_AFTER_MS);
    this.#rankTimer.unref();
  }

  /** Stops measuring and ends every connection; requests under way fail. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#prober.stop();
    this.origins.stop();
    clearTimeout(this.#rankTimer);
    await this.#table.close();
    await this.#udp.close();
  }

  /**
   * Sends a request and resolves with the response head. When a path fails before the head came, and asking again is safe
   * (RFC 9110 section 9.2.2; or nothing was sent) and within the budget, it is asked for over another path. Throws
   * IsochroneError: codes of `exchange.ts`, `dial` and `openTunnel`, and "unknown-server".
   *
   * Requests to servers of ours are signed with a peer proof, a fresh one for each try.
   */
  request(target: TransportTarget, request: TransportRequest): Promise<TransportResponse> {
    const usage = target.kind === "origin" && target.at ? this.origins.begin(target.at) : undefined;
    return usage === undefined
      ? this.#request(target, request)
      : this.#requestOfGroup(target, request, usage);
  }

  async #requestOfGroup(
    target: TransportTarget,
    request: TransportRequest,
    usage: OriginUsage,
  ): Promise<TransportResponse> {
    try {
      const response = await this.#request(target, request);
      usage.handleHead(response.status);
      if (response.isWhole === true) usage.handleEnd();
      else {
        response.body.once("error", usage.handleBroken);
        response.body.once("close", usage.handleEnd);
      }
      return response;
    } catch (error) {
      usage.handleFailure(error);
      throw error;
    }
  }

  async #request(target: TransportTarget, request: TransportRequest): Promise<TransportResponse> {
    if (this.#isClosed)
      throw new IsochroneError("Cannot send a request: transport is closed", {
        code: "closed",
        source: "internal",
        retry: "never",
      });
    const to = this.#targetOf(target);
    this.#counters.requests++;
    const sent = await race(this.#raceParts, to, request, undefined);
    const { head } = sent;
    const isWhole = head.isWhole();
    if (isWhole) {
      sent.progress.end();
      return new Answered(sent, isWhole, undefined);
    }
    let lastVia = sent.path.via;
    const wanted = resumableFrom(request, head);
    const resuming =
      wanted === undefined
        ? undefined
        : new ResumingBody({
            first: head,
            resumable: wanted,
            resumesMax: this.#settings.resumesMax,
            track: sent.progress,
            mayResume: (isPaid) =>
              !request.signal?.aborted && (isPaid || to.budget.take(this.#options.clock.monotonic())),
            resume: async (headers) => {
              this.#counters.resumes++;
              const kept = request.headers.filter(([name]) => !/^range$/i.test(name));
              const more = { ...request, headers: [...kept, ...headers], body: undefined };
              const again = await race(this.#raceParts, to, more, lastVia);
              lastVia = again.path.via;
              return again;
            },
            limits: () => to.silenceLimits(lastVia),
            mayRescue: () => {
              const isTaken = request.signal?.aborted !== true && to.takeRescue(lastVia);
              if (isTaken) this.#counters.rescues++;
              return isTaken;
            },
          });
    if (resuming === undefined) {
      // It cannot go on elsewhere: better a late rest than none.
      sent.progress.settle();
      head.body.once("close", sent.progress.end);
    }
    return new Answered(sent, isWhole, resuming);
  }

  /** Whether a request that `target` failed may be asked of another target: a repeat all the same, out of its budget. */
  takeRetry(target: TransportTarget): boolean {
    return this.#targetOf(target).budget.take(this.#options.clock.monotonic());
  }

  /** Which path a request to this target would take now, and what is known of each. Never throws for known targets. */
  explainPath(target: TransportTarget): PathExplanation {
    const to = this.#targetOf(target);
    const now = this.#options.clock.monotonic();
    const chosen = to.choose();
    return {
      target: to.key,
      toClusterId: to.clusterId,
      chosen,
      chosenSince: to.chooser?.currentSince(now) ?? null,
      candidates: (to.chooser?.states(now) ?? []).map((state) => ({
        via: state.via,
        srttMs: state.srttMs ?? null,
        rttvarMs: state.srttMs === undefined ? null : state.rttvarMs,
        lossRatio: state.lossRatio,
        samples: state.samples,
        costMs: state.costMs ?? null,
        isFailed: state.isFailed,
        mapRttMs: state.mapRttMs ?? null,
        ageMs: state.ageMs ?? null,
      })),
      ...to.explainProtocol(chosen.via),
    };
  }

  /** How each server of ours is asked, over each path that was used. */
  neighbours(): NeighbourReport[] {
    return this.#table.all.flatMap((target) => target.reports);
  }

  /** Measured ordered pairs from this server's cluster, for the server report. */
  linkReports(): LinkReport[] {
    return linkReportsOf(this.#table.measured, this.#options.clock.monotonic());
  }

  /** False once a parent or relay has stopped answering; true also for what is not watched. */
  isServerUp(serverId: ServerId): boolean {
    return this.#prober.liveness.isUp(serverId);
  }

  /** Adds transport's metrics to a registry (prom-client); labels are paths and closed lists, never hosts. */
  registerMetrics(registry: Registry): void {
    registerTransportMetrics(registry, {
      counters: this.#counters,
      resolver: this.#resolver,
      prober: this.#prober,
      origins: this.origins,
      targets: () => this.#table.all,
    });
  }

  /** Whether an origin's server is well, by a check of its property. Never rejects. */
  async #checkOrigin(
    origin: OriginTarget,
    identity: OriginIdentity | undefined,
    { kind, method, path, hostHeader, statusMin, statusMax }: OriginHealthCheck,
    signal: AbortSignal,
  ): Promise<boolean> {
    const target = this.#table.origin(origin, identity);
    try {
      if (kind === "tcp") {
        await target.checkConnection(signal);
        return true;
      }
      const host = hostHeader ?? target.probeRequest.host;
      const status = await target.check({ method, path, host }, signal);
      return status >= statusMin && status <= statusMax;
    } catch {
      return false;
    }
  }

  #targetOf(target: TransportTarget): Target {
    const found =
      target.kind === "server"
        ? this.#table.server(target.serverId)
        : this.#table.origin(target.origin, target.at && this.origins.identityOf(target.at.group));
    if (found) return found;
    const id = target.kind === "server" ? target.serverId : "";
    throw new IsochroneError(
      `Cannot send a request to server ${JSON.stringify(id)}: the topology has no such server`,
      {
        code: "unknown-server",
        source: "configuration",
        retry: "never",
      },
    );
  }

  #handleAnswered(to: Target, { path: { via, reason }, head: { protocol } }: RaceResult): void {
    const { byPath, byProtocol } = this.#counters;
    const key = (via === null ? DIRECT_KEYS : RELAY_KEYS)[reason];
    byPath.set(key, (byPath.get(key) ?? 0) + 1);
    byProtocol.set(protocol, (byProtocol.get(protocol) ?? 0) + 1);
    if (to.server)
      this.#prober.liveness.handlePassive(to.server.serverId, true, this.#options.clock.monotonic());
  }

  #sendOnce(
    to: Target,
    via: ClusterId | null,
    request: TransportRequest,
    signal: StopSignal,
    isRepeat: boolean,
  ): Promise<ExchangeHead> {
    const { connectMs, headersMs, bodyMs } = request.timeouts ?? {};
    const host = request.headers.find(([name]) => name.toLowerCase() === "host")?.[1] ?? to.probeRequest.host;
    // Certificates are for the name that the origin is configured to answer as.
    const servername = to.isNamedByConfiguration ? hostOf(to.probeRequest.host) : hostOf(host);
    return to.send(via, servername, {
      method: request.method,
      path: request.path,
      headers: upstreamHeaders(request.headers, host),
      proof: this.#proofFor(to, request, host),
      body: request.body,
      signal,
      isRepeat,
      connectMs: to.connectTimeoutMs(via, connectMs ?? this.#settings.connectTimeoutMs),
      headersMs: headersMs ?? this.#settings.headersTimeoutMs,
      bodyMs: bodyMs ?? this.#settings.bodyTimeoutMs,
      onInterim: request.onInterim,
      watch: to.watchOver(via),
    });
  }

  #proofFor(to: Target, request: TransportRequest, host: string): PoolRequest["proof"] {
    const { peerKey, selfServerId, clock } = this.#options;
    if (to.server === undefined || peerKey === undefined) return undefined;
    const { method, path } = request;
    return () => [
      peerProofHeader,
      signPeer({ method, host, path }, { serverId: selfServerId, key: peerKey, clock }),
    ];
  }

  /** What a failed attempt says about its path and its server. */
  #learn(to: Target, via: ClusterId | null, error: ExchangeError): void {
    const now = this.#options.clock.monotonic();
    const isOfPath =
      error.stage === "waiting" ? !notOfPath.has(error.code) : error.code === "connection-lost";
    if (!isOfPath) return;
    // A connection that the peer had closed between two requests says nothing: only opening one does.
    if (error.stage === "waiting") to.chooser?.handleFailure(via, now);
    if (to.server && via === null) this.#prober.liveness.handlePassive(to.server.serverId, false, now);
    this.#prober.wake();
  }

  /** A connection to a server of ours on which the link protocol is agreed. Rejects as `dial` does; "no-certificate": we have none yet. */
  async #connectLink(
    endpoint: Endpoint,
    serverId: ServerId,
    via: ClusterId | null,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<Duplex> {
    const peer = this.#options.trust?.clientOptions({ serverId, roles: ["edge", "parent"] }, LINK_ALPN);
    if (peer === undefined)
      throw new IsochroneError(
        `Cannot speak the link protocol with ${JSON.stringify(serverId)}: this server has no certificate yet; control gives them`,
        { code: "no-certificate", source: "internal", retry: "safe" },
      );
    return await this.#connect({ ...endpoint, isTls: true }, serverId, via, timeoutMs, signal, peer);
  }

  /** Opens a connection over a path, TLS on top where the target has it. */
  async #connect(
    endpoint: Endpoint,
    servername: string,
    via: ClusterId | null,
    timeoutMs: number,
    signal: AbortSignal,
    peer?: ConnectionOptions,
  ): Promise<Duplex> {
    const { host, port, isTls, isOrigin, protocol, identity } = endpoint;
    const tls = isTls ? { servername, ca: this.#settings.ca, protocol, identity, peer } : undefined;
    const { peerKey, trust, clock } = this.#options;
    if (via === null) {
      // Alone, the origin is the operator's own word: "localhost" is what it says.
      const refuse =
        isOrigin && peerKey !== undefined
          ? (address: string, at: number, isNamed: boolean) =>
              this.#table.refusedAddress(address, at, isNamed)
          : undefined;
      return await dial({
        host,
        port,
        tls,
        timeoutMs,
        signal,
        refuse,
        resolver: this.#resolver,
        readsDirectly: protocol !== "http/2",
      });
    }
    const relay = this.#table.relayServer(via, (id) => this.isServerUp(id));
    if (relay === undefined || trust === undefined)
      throw new IsochroneError(`Cannot use relay cluster ${JSON.stringify(via)}: it has no server`, {
        code: "relay-unknown",
        source: "upstream",
        retry: "safe",
      });
    try {
      return await openTunnel({ relay, target: { host, port }, tls, trust, timeoutMs, signal });
    } catch (error) {
      if (error instanceof TlsFailure)
        throw new IsochroneError(
          `Cannot connect to ${host}:${port} via ${JSON.stringify(via)}: TLS handshake with ${JSON.stringify(servername)} failed: ${error.message}`,
          { code: "tls-failed", source: "upstream", retry: "safe", cause: error },
        );
      // The relay itself did not answer: its cluster's other server is asked as soon as this one is known to be down.
      if (
        error instanceof IsochroneError &&
        (error.code === "connect-failed" || error.code === "relay-broken")
      ) {
        this.#table.server(relay.serverId)?.touch();
        this.#prober.liveness.handlePassive(relay.serverId, false, clock.monotonic());
      }
      throw error;
    }
  }
}

/** What came of a request. Its body is a stream only where somebody wants one. */
class Answered implements TransportResponse {
  readonly status: number;
  readonly headers: HeaderList;
  readonly isWhole: boolean;
  readonly path: UsedPath;
  readonly protocol: SpokenProtocol;
  readonly #head: ExchangeHead;
  readonly #attempts: number;
  readonly #resuming: ResumingBody | undefined;

  constructor({ head, path, attempts }: RaceResult, isWhole: boolean, resuming: ResumingBody | undefined) {
    this.status = head.status;
    this.headers = head.headers;
    this.isWhole = isWhole;
    this.path = path;
    this.protocol = head.protocol;
    this.#head = head;
    this.#attempts = attempts;
    this.#resuming = resuming;
  }

  get body(): Readable {
    return this.#resuming ?? this.#head.body;
  }
  takeWhole(): Uint8Array | undefined {
    return this.isWhole ? this.#head.takeWhole() : undefined;
  }
  get timings(): TransportResponse["timings"] {
    const { connectMs, ttfbMs } = this.#head;
    return { connectMs, ttfbMs, attempts: this.#attempts };
  }
  trailers(): HeaderList {
    return this.#head.trailers();
  }
  resumes(): number {
    return this.#resuming?.resumes ?? 0;
  }
}

/** What answers are counted under: a text made for each would cost as much as its count. */
const keysOf = (way: string): Readonly<Record<PathReason, string>> =>
  Object.fromEntries(pathReasons.map((reason) => [reason, `${way}|${reason}`])) as Record<PathReason, string>;
const DIRECT_KEYS = keysOf("direct");
const RELAY_KEYS = keysOf("relay");
