/**
 * The name server's own view of which edge servers live: it asks each one's /livez itself, so that a dead server leaves the
 * answers also when mapper and control are dead.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import {
  type Clock,
  type LivenessEvent,
  LivenessMonitor,
  type LivenessProbe,
  type LivenessSettings,
  type ServerEntry,
  type ServerId,
} from "#kit";
import type { Logger } from "#kit/io";
import type { buildConnector } from "undici";
import send from "undici/lib/api/api-request.js";
import Agent from "undici/lib/dispatcher/agent.js";

/** Opens a connection; `dial` of #transport, so that the probes feel the links of an emulated world. */
export type ProbeDial = (target: {
  readonly host: string;
  readonly port: number;
  readonly timeoutMs: number;
}) => Promise<Duplex>;

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

/** What /livez may say; it is read to its end so that the connection can be used again. */
const BODY_BYTES_MAX = 4_096;

export class EdgeProber {
  readonly #monitor: LivenessMonitor;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #agent: Agent;
  readonly #onEvent: (event: LivenessEvent) => void;
  #targets = new Map<string, ServerEntry>();
  #timer: NodeJS.Timeout | undefined;
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
    this.#agent = new Agent({
      connect: connectorOf(options.dial, settings.timeoutMs),
      // One probe of a server is in flight at most, so one connection is enough.
      connections: 1,
      pipelining: 1,
      keepAliveTimeout: 4_000,
      maxResponseSize: BODY_BYTES_MAX,
      headersTimeout: settings.timeoutMs,
      bodyTimeout: settings.timeoutMs,
    });
  }

  /** Replaces what is probed; known servers keep their state. */
  setServers(servers: readonly ServerEntry[]): void {
    this.#targets = new Map(servers.map((server) => [server.serverId, server]));
    this.#monitor.setTargets(
      servers.map(({ serverId }) => ({ id: serverId })),
      this.#clock.monotonic(),
    );
    this.#turn();
  }

  /** Whether the server may be named: anything but known to be down. */
  readonly isUp = (serverId: ServerId): boolean => this.#monitor.isUp(serverId);

  /** Servers probed, and of them those that may be named. */
  get counts(): { readonly probed: number; readonly up: number } {
    let up = 0;
    for (const id of this.#targets.keys()) if (this.#monitor.isUp(id)) up++;
    return { probed: this.#targets.size, up };
  }

  get counters(): Readonly<Record<string, number>> {
    return { ...this.#monitor.counters };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#agent.destroy();
  }

  /** Sends what is due, tells what changed, and sets the one timer. */
  #turn(): void {
    if (this.#isClosed) return;
    const now = this.#clock.monotonic();
    for (let probe = this.#monitor.pollTransmit(now); probe; probe = this.#monitor.pollTransmit(now)) {
      void this.#probe(probe);
    }
    for (let event = this.#monitor.pollEvent(); event; event = this.#monitor.pollEvent()) {
      this.#logger.warn(event.state === "down" ? "server-down" : "server-up", {
        server: event.id,
        reason: event.reason,
      });
      this.#onEvent(event);
    }
    clearTimeout(this.#timer);
    const dueAt = this.#monitor.pollTimeout(now);
    if (dueAt === undefined) return;
    // Results that have arrived already are read before this timer's callback acts on time-outs.
    this.#timer = setTimeout(() => setImmediate(() => this.#expire()), Math.max(1, Math.ceil(dueAt - now)));
  }

  #expire(): void {
    this.#monitor.handleTimeout(this.#clock.monotonic());
    this.#turn();
  }

  async #probe({ id, probeId, timeoutMs }: LivenessProbe): Promise<void> {
    const server = this.#targets.get(id);
    const isOk = server !== undefined && (await this.#ask(server, timeoutMs));
    this.#monitor.handleProbeResult(probeId, isOk, this.#clock.monotonic());
    this.#turn();
  }

  async #ask({ address, port }: ServerEntry, timeoutMs: number): Promise<boolean> {
    const host = address.includes(":") ? `[${address}]` : address;
    try {
      const { statusCode, body } = await send.call(this.#agent, {
        origin: `http://${host}:${port}`,
        method: "GET",
        path: "/livez",
        signal: AbortSignal.timeout(timeoutMs),
      });
      await body.dump({ limit: BODY_BYTES_MAX });
      return statusCode === 200;
    } catch {
      return false;
    }
  }
}

/** undici's connector over a dialer; undici uses a socket as the Duplex that it is. */
function connectorOf(dial: ProbeDial, timeoutMs: number): buildConnector.connector {
  return ({ hostname, port }, callback) => {
    const connect = async (): Promise<void> => {
      let socket: Awaited<ReturnType<ProbeDial>>;
      try {
        const host = hostname.replace(/^\[(.*)\]$/, "$1");
        socket = await dial({ host, port: Number(port) || 80, timeoutMs });
      } catch (error) {
        callback(error instanceof Error ? error : new Error(String(error)), null);
        return;
      }
      callback(null, socket as Socket);
    };
    void connect();
  };
}
