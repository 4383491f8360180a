/**
 * How a server of ours reaches parents, relays and origins: transport's driver over virtual messages. Which path, when to
 * give up and what to try next are transport's cores; this sends, and tells them what came of it.
 */
import type { ClusterId, MapSnapshot, PathEntry, ServerId } from "#kit";
import type { PathProbe, RelayCandidate } from "../../transport/core/path-chooser.ts";
import { pathChooserDefaults } from "../../transport/core/path-chooser.ts";
import { RetryBudget } from "../../transport/core/retry-budget.ts";
import type { Chooser } from "../cores.ts";
import { exchange, type Host } from "./host.ts";
import { Probes } from "./probes.ts";
import type { Stage } from "./stage.ts";

type Via = ClusterId | null;

interface Attempt {
  readonly via: Via;
  readonly startedAt: number;
  readonly giveUp: () => void;
}

interface Target {
  readonly host: Host;
  readonly clusterId: ClusterId;
  /** Undefined: a server of the own cluster; direct is the only way. */
  readonly chooser: Chooser | undefined;
  /** Paths with an open connection, and when each was last used. */
  readonly warm: Map<Via, number>;
  readonly attempts: Set<Attempt>;
  readonly budget: RetryBudget;
  /** Paths that have failed and not recovered. */
  readonly dead: Set<Via>;
  timerAt: number;
}

export interface SendRequest<R> {
  readonly targetId: string;
  readonly label: string;
  readonly serve: (respond: (value: R) => void) => void;
  readonly done: (
    outcome: { readonly kind: "answer"; readonly value: R; readonly via: Via } | { readonly kind: "failed" },
  ) => void;
}

/** Transport's words for how an exchange ended without an answer. */
const codes = {
  refused: "refused",
  reset: "connection-lost",
  "connect-timeout": "connect-timeout",
  timeout: "headers-timeout",
} as const;

/** A path this long without damage must be usable, whatever hold a chooser had put on it (failedHoldMsMax and some). */
const WHOLE_MS = 70_000;
/** A chooser that has just been made knows no other path yet. */
const SETTLED_MS = 15_000;

export class Upstream {
  readonly #stage: Stage;
  readonly #host: Host;
  readonly #role: string;
  readonly #clusterId: ClusterId;
  readonly #targets = new Map<string, Target>();
  readonly #probes: Probes;

  /** As one process has it: made anew at each start. */
  constructor(stage: Stage, host: Host) {
    this.#stage = stage;
    this.#host = host;
    const cluster = stage.clusterOf.get(host.id);
    this.#role = cluster?.role ?? "edge";
    this.#clusterId = cluster?.clusterId ?? ("" as ClusterId);
    this.#probes = new Probes(
      host,
      stage.settings.upstreamLiveness,
      (event) => host.note(`takes ${event.id} for ${event.state} (${event.reason})`),
      (id) => this.#relayFor(this.#targets.get(id)),
    );
    const watched: string[] = [];
    for (const other of stage.topology.clusters) {
      if (other.clusterId === this.#clusterId) continue;
      if (other.role !== "parent" && other.role !== "relay") continue;
      for (const { serverId } of other.servers) {
        this.#add(serverId, other.clusterId, true);
        watched.push(serverId);
      }
    }
    for (const originId of new Set([...stage.originsOf.values()].flat())) {
      const clusterId = stage.clusterOf.get(originId)?.clusterId;
      if (clusterId !== undefined) this.#add(originId, clusterId, true);
    }
    this.#setRelays(undefined);
    this.#probes.watch(watched);
    for (const target of this.#targets.values()) this.#turn(target);
  }

  readonly isServerUp = (id: ServerId): boolean => this.#probes.isUp(id);

  setSnapshot(snapshot: MapSnapshot): void {
    const paths = new Map<ClusterId, PathEntry>();
    for (const entry of snapshot.paths)
      if (entry.fromClusterId === this.#clusterId) paths.set(entry.toClusterId, entry);
    this.#setRelays(paths);
  }

  /** The links that it has measured, for the report. */
  linkStates(): readonly { readonly clusterId: ClusterId; readonly states: ReturnType<Chooser["states"]> }[] {
    return [...this.#targets.values()].flatMap(({ clusterId, chooser }) =>
      chooser === undefined ? [] : [{ clusterId, states: chooser.states(this.#host.now) }],
    );
  }

  /** Sends a request that is safe to repeat; tries other paths within the budget. */
  send<R>(request: SendRequest<R>): void {
    const target = this.#targets.get(request.targetId) ?? this.#addPeer(request.targetId);
    if (target === undefined) {
      request.done({ kind: "failed" });
      return;
    }
    const { now } = this.#host;
    target.budget.handleFirstTry(now);
    const choice = target.chooser?.choose(now) ?? { via: null, reason: "only-path" };
    this.#stage.statistics.count("path", choice.reason);
    this.#attempt(request, target, choice.via, [], 1);
  }

  #attempt<R>(
    request: SendRequest<R>,
    target: Target,
    via: Via,
    tried: readonly Via[],
    attempts: number,
  ): void {
    const { now } = this.#host;
    const { settings, statistics } = this.#stage;
    this.#checkPath(target, via);
    const relay = via === null ? undefined : this.#relayHost(via);
    const isCold = now - (target.warm.get(via) ?? Number.NEGATIVE_INFINITY) > settings.keepAliveMs;
    let isGivenUp = false;
    const sent = exchange<R>({
      from: this.#host,
      to: target.host,
      via: relay,
      label: request.label,
      connectTimeoutMs: isCold ? this.#connectTimeoutMs(target, via) : undefined,
      timeoutMs: settings.headersTimeoutMs,
      serve: request.serve,
      done: (outcome) => {
        target.attempts.delete(attempt);
        const at = this.#host.now;
        if (outcome.kind === "answer") {
          target.warm.set(via, at);
          target.chooser?.handleUpperBound(via, outcome.elapsedMs, at);
          this.#probes.handlePassive(target.host.id, true);
          request.done({ kind: "answer", value: outcome.value, via });
          return;
        }
        target.warm.delete(via);
        const code = isGivenUp ? "path-failed" : codes[outcome.kind];
        statistics.count("upstream-failure", code);
        // Only opening a connection says something about the path: one that the peer had closed does not.
        if (code === "refused" || code === "connect-timeout") target.chooser?.handleFailure(via, at);
        if (code !== "headers-timeout" && code !== "path-failed" && via === null)
          this.#probes.handlePassive(target.host.id, false);
        this.#turn(target);
        // A silent server is slow, not gone: asking again would double its load.
        const isRepeatable =
          code !== "headers-timeout" && attempts < settings.attemptsMax && target.budget.take(at);
        if (!isRepeatable) {
          request.done({ kind: "failed" });
          return;
        }
        const nowTried = [...tried, via];
        const next = target.chooser?.alternative(nowTried, at) ?? target.chooser?.choose(at) ?? { via: null };
        statistics.count("upstream-retry", code);
        this.#attempt(request, target, next.via, nowTried, attempts + 1);
      },
    });
    const attempt: Attempt = {
      via,
      startedAt: now,
      giveUp: () => {
        isGivenUp = true;
        sent.giveUp();
      },
    };
    target.attempts.add(attempt);
  }

  /** Everything of one target's chooser that is due now; then one timer. */
  #turn(target: Target): void {
    const { chooser } = target;
    if (chooser === undefined) return;
    const { now } = this.#host;
    chooser.handleTimeout(now);
    for (let probe = chooser.pollTransmit(now); probe; probe = chooser.pollTransmit(now))
      this.#probe(target, chooser, probe);
    for (let event = chooser.pollEvent(); event; event = chooser.pollEvent()) {
      if (event.type === "switched") {
        this.#stage.statistics.count("path-switch", event.reason);
        this.#host.note(
          `path to ${target.host.id} now ${event.to ?? "direct"} (${event.reason}), was ${event.from ?? "direct"}`,
        );
      }
      if (event.type === "failed") {
        target.dead.add(event.via);
        target.warm.delete(event.via);
      } else if (event.type === "recovered") target.dead.delete(event.via);
    }
    this.#giveUpOnDeadPaths(target);
    const next = chooser.pollTimeout(now);
    if (next >= target.timerAt) return;
    target.timerAt = next;
    this.#host.after(next - now, "paths", () => {
      if (target.timerAt !== next) return;
      target.timerAt = Number.POSITIVE_INFINITY;
      this.#turn(target);
    });
  }

  #probe(target: Target, chooser: Chooser, { probeId, via, timeoutMs }: PathProbe): void {
    const { now } = this.#host;
    const { keepAliveMs } = this.#stage.settings;
    const { probeConnectMsMax } = pathChooserDefaults;
    const isCold = now - (target.warm.get(via) ?? Number.NEGATIVE_INFINITY) > keepAliveMs;
    if (isCold) chooser.handleProbeConnecting(probeId, now);
    exchange<true>({
      from: this.#host,
      to: target.host,
      via: via === null ? undefined : this.#relayHost(via),
      label: "path-probe",
      connectTimeoutMs: isCold ? probeConnectMsMax : undefined,
      timeoutMs: Math.max(2 * timeoutMs, 2 * probeConnectMsMax),
      serve: (respond) => respond(true),
      done: (outcome) => {
        if (outcome.kind === "answer") target.warm.set(via, this.#host.now);
        else target.warm.delete(via);
        chooser.handleProbeResult(
          probeId,
          outcome.kind === "answer" ? outcome.elapsedMs : undefined,
          this.#host.now,
        );
        this.#turn(target);
      },
    });
  }

  /** What waits on a failed path is asked for elsewhere, if there is an elsewhere (transport/io/target.ts). */
  #giveUpOnDeadPaths(target: Target): void {
    const { now } = this.#host;
    for (const attempt of target.attempts) {
      if (!target.dead.has(attempt.via)) continue;
      if (now - attempt.startedAt < this.#stage.settings.pathSilenceMs) continue;
      if (target.chooser?.alternative([attempt.via], now) !== undefined) attempt.giveUp();
    }
  }

  #connectTimeoutMs(target: Target, via: Via): number {
    const { connectTimeoutMs } = this.#stage.settings;
    const srttMs = target.chooser?.states(this.#host.now).find((one) => one.via === via)?.srttMs;
    return srttMs === undefined
      ? connectTimeoutMs
      : Math.min(connectTimeoutMs, Math.max(500, 5 * srttMs + 500));
  }

  #add(serverId: string, clusterId: ClusterId, isMeasured: boolean): Target | undefined {
    const host = this.#stage.hosts.get(serverId);
    if (host === undefined) return undefined;
    const target: Target = {
      host,
      clusterId,
      chooser: isMeasured ? this.#stage.cores.pathChooser({}, this.#host.now, this.#host.id) : undefined,
      warm: new Map(),
      attempts: new Set(),
      budget: new RetryBudget({}, this.#host.now),
      dead: new Set(),
      timerAt: Number.POSITIVE_INFINITY,
    };
    this.#targets.set(serverId, target);
    return target;
  }

  #addPeer(serverId: string): Target | undefined {
    const clusterId = this.#stage.clusterOf.get(serverId)?.clusterId;
    return clusterId === undefined ? undefined : this.#add(serverId, clusterId, false);
  }

  #setRelays(paths: ReadonlyMap<ClusterId, PathEntry> | undefined): void {
    const relays = this.#stage.topology.clusters.filter(
      (one) => one.role === "relay" && one.servers.length > 0,
    );
    const known = new Set(relays.map((one) => one.clusterId));
    for (const { clusterId, chooser } of this.#targets.values()) {
      if (chooser === undefined || known.has(clusterId)) continue;
      const entry = paths?.get(clusterId);
      const candidates: RelayCandidate[] =
        entry === undefined
          ? [...known].sort().map((via) => ({ via }))
          : entry.candidates.flatMap(({ via, rttMs, lossRatio }) =>
              via !== null && known.has(via) ? [{ via, mapRttMs: rttMs, mapLossRatio: lossRatio }] : [],
            );
      chooser.setRelays(candidates, this.#host.now);
    }
  }

  #relayFor(target: Target | undefined): Host | undefined {
    const via = target?.chooser?.choose(this.#host.now).via ?? null;
    if (target !== undefined) this.#checkPath(target, via);
    return via === null ? undefined : this.#relayHost(via);
  }

  /** A live server of the relay's cluster; which one depends on this server. */
  #relayHost(via: ClusterId): Host | undefined {
    const servers = this.#stage.topology.clusters.find((one) => one.clusterId === via)?.servers ?? [];
    const live = servers.filter((one) => this.#probes.isUp(one.serverId));
    const usable = live.length > 0 ? live : servers;
    let sum = 0;
    for (const char of this.#host.id) sum += char.codePointAt(0) ?? 0;
    const chosen = usable[sum % Math.max(1, usable.length)];
    return chosen === undefined ? undefined : this.#stage.hosts.get(chosen.serverId);
  }

  /** Invariant path-stuck, from the truth about links and relays. */
  #checkPath(target: Target, via: Via): void {
    const { chooser } = target;
    if (chooser === undefined || this.#host.aliveForMs(this.#host.now) < SETTLED_MS) return;
    const brokenMs = this.#path(target, via).brokenMs;
    if (brokenMs === 0) return;
    const { now } = this.#host;
    const limitMs = this.#stage.bounds.pathMs;
    const isLate = brokenMs > limitMs && target.host.aliveForMs(now) >= WHOLE_MS;
    const others = isLate
      ? chooser
          .states(now)
          .filter((state) => state.via !== via && this.#path(target, state.via).wholeMs >= WHOLE_MS)
      : [];
    this.#stage.judge.check(
      "path-stuck",
      now,
      others.length === 0,
      () =>
        `${this.#host.id} still sends to ${target.host.id} ${via === null ? "directly" : `via ${via}`}, broken for ${Math.round(brokenMs)} ms (bound ${Math.round(limitMs)} ms), though ${others[0]?.via ?? "direct"} is whole`,
    );
  }

  #path(target: Target, via: Via): { readonly brokenMs: number; readonly wholeMs: number } {
    const { network } = this.#stage;
    const { now, site } = this.#host;
    const relay = via === null ? undefined : this.#relayHost(via);
    const legs: [string, string][] =
      via === null
        ? [[site, target.clusterId]]
        : [
            [site, via],
            [via, target.clusterId],
          ];
    const cut = legs.map(([a, b]) => network.cutForMs(a, b, now));
    const whole = legs.map(([a, b]) => network.wholeForMs(a, b, now));
    return {
      brokenMs: Math.max(...cut, relay?.deadForMs(now) ?? 0),
      wholeMs: Math.min(...whole, relay?.aliveForMs(now) ?? Number.POSITIVE_INFINITY),
    };
  }

  get role(): string {
    return this.#role;
  }
}
