/**
 * The name server's own view of which edge servers live: it asks each one's /livez itself, so that a dead server leaves the
 * answers also when mapper and control are dead.
 */
import {
  type Clock,
  type LivenessEvent,
  LivenessMonitor,
  type LivenessProbe,
  type LivenessSettings,
  type MonotonicMs,
  type ServerEntry,
  type ServerId,
} from "#kit";
import type { Logger } from "#kit/io";
import { LivezConnection, type ProbeDial } from "./livez-connection.ts";

/**
 * A crashed server refuses connections, so it is out after two failures: at most 1 s. A hung one is out after
 * 0.5 + 1 + 1 s (the monitor's bound). The time-out leaves room for two round trips to the far side of the Earth.
 */
export const probeDefaults: LivenessSettings = {
  intervalMs: 500,
  timeoutMs: 1_000,
  downThreshold: 2,
  okThreshold: 2,
  jitterRatio: 0.1,
};

/** Something is due at least once in an interval and a time-out: so many of both without a turn, and this process stood still. */
const PAUSE_TURNS = 3;

export class EdgeProber {
  readonly #monitor: LivenessMonitor;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #dial: ProbeDial;
  readonly #onEvent: (event: LivenessEvent) => void;
  #connections = new Map<string, LivezConnection>();
  #timer: NodeJS.Timeout | undefined;
  #timerDueAt: MonotonicMs | undefined;
  readonly #pauseMs: number;
  #seenAt: MonotonicMs;
  #isClosed = false;

  constructor(options: {
    readonly clock: Clock;
    readonly logger: Logger;
    readonly dial: ProbeDial;
    readonly settings?: Partial<LivenessSettings>;
    /** Told of each server that goes down or comes back. */
    readonly onEvent?: (event: LivenessEvent) => void;
  }) {
    const settings = { ...probeDefaults, ...options.settings };
    this.#monitor = new LivenessMonitor(settings);
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#onEvent = options.onEvent ?? (() => {});
    this.#dial = options.dial;
    this.#pauseMs = PAUSE_TURNS * (settings.intervalMs + settings.timeoutMs);
    this.#seenAt = options.clock.monotonic();
  }

  /** Replaces what is probed; known servers keep their state. */
  setServers(servers: readonly ServerEntry[]): void {
    const before = this.#connections;
    this.#connections = new Map();
    for (const server of servers) {
      const known = before.get(server.serverId);
      const isSame = known?.server.address === server.address && known.server.port === server.port;
      this.#connections.set(server.serverId, isSame ? known : new LivezConnection(server, this.#dial));
    }
    for (const [id, connection] of before) if (this.#connections.get(id) !== connection) connection.close();
    this.#monitor.setTargets(
      servers.map(({ serverId }) => ({ id: serverId })),
      this.#now(),
    );
    this.#turn();
  }

  /** Whether the server may be named: anything but known to be down. */
  readonly isUp = (serverId: ServerId): boolean => this.#monitor.isUp(serverId);

  /** Servers probed, and of them those that may be named. */
  get counts(): { readonly probed: number; readonly up: number } {
    let up = 0;
    for (const id of this.#connections.keys()) if (this.#monitor.isUp(id)) up++;
    return { probed: this.#connections.size, up };
  }

  get counters(): Readonly<Record<string, number>> {
    return { ...this.#monitor.counters };
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const connection of this.#connections.values()) connection.close();
  }

  /** Sends what is due, tells what changed, and sets the one timer. */
  #turn(): void {
    if (this.#isClosed) return;
    const now = this.#now();
    for (let probe = this.#monitor.pollTransmit(now); probe; probe = this.#monitor.pollTransmit(now)) {
      this.#ask(probe);
    }
    for (let event = this.#monitor.pollEvent(); event; event = this.#monitor.pollEvent()) {
      this.#logger.warn(event.state === "down" ? "server-down" : "server-up", {
        server: event.id,
        reason: event.reason,
      });
      this.#onEvent(event);
    }
    const dueAt = this.#monitor.pollTimeout(now);
    if (dueAt === this.#timerDueAt) return;
    this.#timerDueAt = dueAt;
    clearTimeout(this.#timer);
    if (dueAt === undefined) return;
    // Results that have arrived already are read before this timer's callback acts on time-outs.
    this.#timer = setTimeout(() => setImmediate(() => this.#expire()), Math.max(1, Math.ceil(dueAt - now)));
  }

  #expire(): void {
    this.#timerDueAt = undefined;
    this.#monitor.handleTimeout(this.#now());
    this.#turn();
  }

  #ask({ id, probeId, timeoutMs }: LivenessProbe): void {
    // When its time is over the monitor gives it up, and asks again.
    this.#connections.get(id)?.ask(timeoutMs, (isOk) => {
      this.#monitor.handleProbeResult(probeId, isOk, this.#now());
      this.#turn();
    });
  }

  /** The time; after a pause of this process nothing that was asked or known before it counts any more. */
  #now(): MonotonicMs {
    const now = this.#clock.monotonic();
    const pausedMs = now - this.#seenAt;
    this.#seenAt = now;
    if (pausedMs <= this.#pauseMs || this.#connections.size === 0) return now;
    this.#logger.warn("stood-still", { pausedMs: Math.round(pausedMs) });
    // Peers have closed what lay idle, which would be taken for failures.
    for (const connection of this.#connections.values()) connection.close();
    this.#monitor.handlePause(now);
    return now;
  }
}
