/**
 * The open connections to one target over one path, as an undici pool whose connections transport opens itself: directly
 * or through a relay's tunnel, with TLS on top where the target has it. HTTP/1.1 only, one request at a time on each.
 */
import type { Socket } from "node:net";
import type { Duplex, Readable } from "node:stream";
import type { buildConnector, Dispatcher } from "undici";
import Pool from "undici/lib/dispatcher/pool.js";
import { IsochroneError } from "#kit";
import type { TransportSettings } from "../config.ts";
import { Exchange, type ExchangeHead, type PoolRequest } from "./exchange.ts";

export type PathPoolOptions = {
  /** "parent \"fra-1\" via \"ams\"", for messages. */
  readonly label: string;
  /** Opens one connection. Must reject with an IsochroneError. */
  readonly connect: (signal: AbortSignal) => Promise<Duplex>;
  readonly settings: TransportSettings;
  /** A connection is about to be opened. */
  readonly onConnecting: () => void;
  /** A connection is open; `connectMs` is what it took. */
  readonly onConnected: (connectMs: number) => void;
};

/** Shortest time between two connections opened ahead of need, ms: an origin that closes at once is not hammered. */
const WARM_INTERVAL_MS = 10_000;

export class PathPool {
  readonly #options: PathPoolOptions;
  readonly #pool: Pool;
  /** Dispatched and not ended. */
  #active = 0;
  #usedAtMs = performance.now();
  readonly #closing = new AbortController();
  /** A connection opened ahead of need. */
  #spare: Duplex | undefined;
  #warmedAtMs = Number.NEGATIVE_INFINITY;
  /** True while a connection tells its listeners of an error: undici takes a reset for the end of a body without length. */
  #isBreaking = false;
  /** All only grow. */
  readonly counters = { requests: 0, connects: 0, connectFailures: 0, refusedFull: 0 };

  constructor(options: PathPoolOptions) {
    this.#options = options;
    const { settings } = options;
    // The address is never used: the connector knows where to go, and every request has its own Host. To undici this is
    // plain HTTP/1.1; TLS, where there is any, is below it, so that it does not reconnect for another Host header.
    this.#pool = new Pool("http://path.invalid", {
      connections: settings.connectionsPerPath,
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: settings.keepAliveMs,
      keepAliveMaxTimeout: settings.keepAliveMs,
      headersTimeout: settings.headersTimeoutMs,
      bodyTimeout: settings.bodyTimeoutMs,
      maxHeaderSize: settings.headerBytesMax,
      strictContentLength: true,
      connect: (_options, callback) => {
        void this.#hand(callback);
      },
    });
  }

  /** Requests under way, probes included. */
  get active(): number {
    return this.#active;
  }
  /** Open connections. */
  get connections(): number {
    return this.#pool.stats.connected;
  }
  get usedAtMs(): number {
    return this.#usedAtMs;
  }
  /** Whether a request would have to wait for a connection that others use. */
  get isBusy(): boolean {
    return this.#active >= this.#options.settings.connectionsPerPath;
  }

  /** Sends one request and waits for its head. Throws IsochroneError; see `exchange.ts` for the codes. */
  async request(request: PoolRequest): Promise<ExchangeHead> {
    const { connectionsPerPath, waitingPerPath } = this.#options.settings;
    if (this.#active >= connectionsPerPath + waitingPerPath) {
      this.counters.refusedFull++;
      throw new IsochroneError(
        `Cannot ask ${this.#options.label}: ${connectionsPerPath} connections are busy and ${waitingPerPath} requests wait already`,
        { code: "pool-full", source: "upstream", retry: "safe" },
      );
    }
    this.counters.requests++;
    this.#active++;
    this.#usedAtMs = performance.now();
    const exchange = new Exchange(
      this.#options.label,
      request,
      () => {
        this.#active--;
        this.#usedAtMs = performance.now();
      },
      () => this.#isBreaking,
    );
    const options: Dispatcher.DispatchOptions = {
      path: request.path,
      method: request.method,
      // [name, value, name, value...]: order and repetitions stay.
      headers: request.headers.flat(),
      ...(request.mayReuseAfterHead && { reset: false }),
      body: (request.body as Readable | Buffer | undefined) ?? null,
      headersTimeout: request.headersMs,
      bodyTimeout: request.bodyMs,
    };
    try {
      this.#pool.dispatch(options, exchange);
    } catch (error) {
      // undici refuses what it cannot send (a header with a line break) by throwing or by onResponseError.
      exchange.onResponseError(undefined, error instanceof Error ? error : new Error(String(error)));
    }
    return await exchange.head;
  }

  /** Opens a connection ahead of need when none is open, so that the next request finds it. Never throws. */
  async warm(): Promise<void> {
    const nowMs = performance.now();
    if (
      this.connections > 0 ||
      this.#active > 0 ||
      this.#spare ||
      nowMs - this.#warmedAtMs < WARM_INTERVAL_MS
    )
      return;
    this.#warmedAtMs = nowMs;
    try {
      const connection = await this.#dial();
      if (this.#closing.signal.aborted || this.#spare) {
        connection.destroy();
        return;
      }
      this.#spare = connection;
      connection.once("close", () => {
        if (this.#spare === connection) this.#spare = undefined;
      });
    } catch {
      // Counted; whoever needs the connection will see the reason.
    }
  }

  /** Ends every connection; requests under way fail. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#spare?.destroy();
    await this.#pool.destroy();
  }

  /** Never rejects. */
  async #hand(callback: buildConnector.Callback): Promise<void> {
    let connection: Duplex;
    try {
      connection = await this.#connect();
    } catch (error) {
      callback(error instanceof Error ? error : new Error(String(error)), null);
      return;
    }
    // Any Duplex will do for HTTP/1.1; undici's types name the usual ones only.
    callback(null, connection as Socket);
  }

  async #connect(): Promise<Duplex> {
    const spare = this.#spare;
    this.#spare = undefined;
    // Nothing was read from it yet; an end that came meanwhile shows as not readable.
    if (spare?.readable && spare.writable) return spare;
    this.#options.onConnecting();
    return await this.#dial();
  }

  async #dial(): Promise<Duplex> {
    this.counters.connects++;
    const startedMs = performance.now();
    try {
      const connection = await this.#options.connect(this.#closing.signal);
      // Between requests nobody may be listening. This listener is the first, so the flag stands while undici hears it.
      connection.on("error", () => {
        this.#isBreaking = true;
        queueMicrotask(() => {
          this.#isBreaking = false;
        });
      });
      this.#options.onConnected(performance.now() - startedMs);
      return connection;
    } catch (error) {
      this.counters.connectFailures++;
      throw error;
    }
  }
}
