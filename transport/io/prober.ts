/**
 * Keeps paths measured and servers watched: one timer over the choosers of all targets and the liveness monitor. No
 * policy; what to send and when is theirs.
 */
import { type Clock, type ClusterId, LivenessMonitor, type MonotonicMs, type ServerId } from "#kit";
import type { Logger } from "#kit/io";
import type { TransportSettings } from "../config.ts";
import { pathChooserDefaults } from "../core/path-settings.ts";
import type { Target } from "./target.ts";

/** Shortest time between two looks, ms: bounds the work of many targets. */
const TICK_MS_MIN = 10;
/** Pace of an idle target's probes. Slow: the first request brings them forward. */
const IDLE_SHARE = 1 / 10;
/** A tick that comes this much late tells that this process stood still, ms. Timers alone are a few ms late. */
const PAUSE_MS_MIN = 30;
/** How often unused connections are looked for, ms. */
const SWEEP_MS = 60_000;

export class Prober {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #settings: TransportSettings;
  readonly #targets: () => readonly Target[];
  readonly liveness: LivenessMonitor;
  #watched = new Map<ServerId, Target>();
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  #sweptAtMs = 0;
  /** When the next tick is due, performance.now(). */
  #plannedMs = 0;
  readonly counters = { gaveUp: 0, pauses: 0 };

  constructor(options: {
    readonly clock: Clock;
    readonly logger: Logger;
    readonly settings: TransportSettings;
    /** Measured targets. */
    readonly targets: () => readonly Target[];
  }) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#settings = options.settings;
    this.#targets = options.targets;
    const { livenessIntervalMs, livenessTimeoutMs, livenessDownThreshold, livenessOkThreshold } =
      options.settings;
    this.liveness = new LivenessMonitor({
      intervalMs: livenessIntervalMs,
      timeoutMs: livenessTimeoutMs,
      downThreshold: livenessDownThreshold,
      okThreshold: livenessOkThreshold,
      jitterRatio: 0.1,
    });
  }

  /** Servers to watch; those that stay keep their state. */
  watch(servers: ReadonlyMap<ServerId, Target>): void {
    this.#watched = new Map(servers);
    this.liveness.setTargets(
      [...servers.keys()].map((id) => ({ id })),
      this.#clock.monotonic(),
    );
    this.wake();
  }

  start(): void {
    this.#isRunning = true;
    this.wake();
  }

  stop(): void {
    this.#isRunning = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Something changed: look now. */
  wake(): void {
    if (!this.#isRunning) return;
    clearTimeout(this.#timer);
    this.#plannedMs = performance.now();
    this.#timer = setTimeout(() => this.#tick(), 0);
  }

  /** The path is left; what is under way on it in silence goes elsewhere. */
  handleRacesLost(target: Target, via: ClusterId | null): void {
    this.#logger.info("path-races-lost", { target: target.key, via });
    this.#events(target);
    this.counters.gaveUp += target.giveUpSilent(via, false);
    this.wake();
  }

  #tick(): void {
    if (!this.#isRunning) return;
    const now = this.#clock.monotonic();
    const targets = this.#targets();
    const pauseMs = performance.now() - this.#plannedMs;
    if (pauseMs >= PAUSE_MS_MIN) {
      this.counters.pauses++;
      for (const target of targets) target.chooser?.handlePause(pauseMs);
    }
    let next = now + 1_000;
    for (const target of targets) {
      const { chooser } = target;
      if (!chooser) continue;
      chooser.handleTimeout(now);
      for (let probe = chooser.pollTransmit(now); probe; probe = chooser.pollTransmit(now)) {
        void target.probe(probe).then(() => {
          this.#events(target);
          this.counters.gaveUp += target.giveUpOnDeadPaths();
        });
      }
      this.#events(target);
      this.counters.gaveUp += target.giveUpOnDeadPaths();
      next = Math.min(next, chooser.pollTimeout(now));
    }
    this.#pace(targets);
    next = Math.min(next, this.#watch(now));
    if (now - this.#sweptAtMs > SWEEP_MS) {
      this.#sweptAtMs = now;
      for (const target of targets) target.closeIdle(2 * this.#settings.keepAliveMs);
    }
    const waitMs = Math.max(TICK_MS_MIN, next - this.#clock.monotonic());
    this.#plannedMs = performance.now() + waitMs;
    this.#timer = setTimeout(() => this.#tick(), waitMs);
    // A process that only measures may end.
    this.#timer.unref();
  }

  /** Shares the budget: targets in use at the full pace, idle ones at a fraction, all stretched when it is too much. */
  #pace(targets: readonly Target[]): void {
    const { probesPerSecondMax, paths } = this.#settings;
    const nowMs = performance.now();
    const share = (target: Target): number => (target.isIdle(nowMs) ? IDLE_SHARE : 1);
    let wanted = 0;
    for (const target of targets) wanted += (target.chooser?.pathCount ?? 0) * share(target);
    const intervalMs = paths.probeIntervalMs ?? pathChooserDefaults.probeIntervalMs;
    const stretch = Math.max(1, (wanted * 1_000) / (intervalMs * probesPerSecondMax));
    for (const target of targets) target.chooser?.setIntervalFactor(stretch / share(target));
  }

  #watch(now: MonotonicMs): number {
    const { liveness } = this;
    liveness.handleTimeout(now);
    for (let probe = liveness.pollTransmit(now); probe; probe = liveness.pollTransmit(now)) {
      const { id, probeId, timeoutMs } = probe;
      const target = this.#watched.get(id as ServerId);
      if (!target) continue;
      // One that nobody asks is judged by its path probes, which come at the idle pace and pursue a first loss at once.
      if (target.isIdle(performance.now()) && target.isProven) {
        liveness.handleProbeResult(probeId, !target.isFailedEverywhere, now);
        continue;
      }
      // Over the path that traffic takes: a server behind a cut that a relay goes round is up.
      void this.#isAlive(target, timeoutMs).then((ok) => {
        liveness.handleProbeResult(probeId, ok, this.#clock.monotonic());
        this.#livenessEvents();
      });
    }
    this.#livenessEvents();
    return liveness.pollTimeout(now) ?? now + 1_000;
  }

  async #isAlive(target: Target, timeoutMs: number): Promise<boolean> {
    try {
      const head = await target.sendProbe(target.choose().via, AbortSignal.timeout(Math.ceil(2 * timeoutMs)));
      return head.status < 500;
    } catch {
      return false;
    }
  }

  #livenessEvents(): void {
    for (let event = this.liveness.pollEvent(); event; event = this.liveness.pollEvent()) {
      this.#logger.info("server-liveness", { serverId: event.id, state: event.state, reason: event.reason });
      if (event.state === "down")
        this.counters.gaveUp += this.#watched.get(event.id as ServerId)?.giveUpWaiting() ?? 0;
    }
  }

  #events(target: Target): void {
    const { chooser } = target;
    if (!chooser) return;
    for (let event = chooser.pollEvent(); event; event = chooser.pollEvent()) {
      const { type, at: _at, ...fields } = event;
      this.#logger.info(`path-${type}`, { target: target.key, ...fields });
      // A failure that traffic saw ended that traffic already; the rest on the path may be well.
      if (type === "failed" && event.cause === "probes") target.setDead(event.via, true);
      else if (type === "recovered") target.setDead(event.via, false);
    }
  }
}
