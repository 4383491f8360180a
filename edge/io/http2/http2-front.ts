/** The HTTP/2 sessions of one process: their watch over time, their end, their counters. */
import type { TLSSocket } from "node:tls";
import type { EdgeSettings } from "../../config.ts";
import { TlsReads } from "../tls/tls-reads.ts";
import { DirectHttp2Session } from "./direct-session.ts";
import type { Http2Context, Http2Session } from "./exchanges.ts";
import { NodeHttp2Session } from "./http2-session.ts";
import { Http2Metrics } from "./http2-metrics.ts";

export type Http2FrontOptions = Omit<Http2Context, "http2Metrics" | "onGone">;

/** How often sessions are looked at, ms: a flood is seen after a second. */
const SWEEP_MS = 1_000;
/** From the notice that a session will end until it takes no more streams, ms: a round trip around the earth. */
const NOTICE_MS = 500;

export class Http2Front {
  readonly #context: Http2Context;
  readonly #sessions = new Set<Http2Session>();
  readonly #settings: EdgeSettings;
  #timer: NodeJS.Timeout | undefined;
  #isDraining = false;
  #onEmpty: (() => void) | undefined;

  constructor(options: Http2FrontOptions) {
    this.#settings = options.settings;
    this.#context = {
      ...options,
      http2Metrics: new Http2Metrics(options.metrics.registry),
      onGone: (session) => this.#gone(session),
    };
    options.metrics.gauge("http2_sessions", "HTTP/2 sessions open", () => this.#sessions.size);
  }

  /** Takes a connection on which HTTP/2 was agreed. */
  accept(socket: TLSSocket): void {
    const reads = this.#settings.http2Direct ? TlsReads.of(socket, false) : undefined;
    const session =
      reads === undefined
        ? new NodeHttp2Session(this.#context, socket)
        : new DirectHttp2Session(this.#context, socket, reads);
    this.#sessions.add(session);
    // Its handshake began before the drain.
    if (this.#isDraining) session.announceEnd();
    this.#timer ??= setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  /**
   * Has every session finish what it has begun; resolves when all are gone, or cut after the drain time. In two steps (RFC
   * 9113, section 6.8), so that no request is lost that crossed the notice.
   */
  async drain(): Promise<void> {
    this.#isDraining = true;
    for (const session of this.#sessions) session.announceEnd();
    await this.#empty(NOTICE_MS);
    for (const session of this.#sessions) session.close("drain");
    await this.#empty(this.#settings.drainTimeoutMs);
    for (const session of this.#sessions) session.destroy();
    clearInterval(this.#timer);
  }

  /** Resolves when there is no session, or the time is over. */
  async #empty(withinMs: number): Promise<void> {
    if (this.#sessions.size === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, withinMs);
      this.#onEmpty = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #sweep(): void {
    const now = this.#context.clock.monotonic();
    for (const session of this.#sessions) session.sweep(now);
  }

  #gone(session: Http2Session): void {
    this.#sessions.delete(session);
    if (this.#sessions.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#onEmpty?.();
  }
}
