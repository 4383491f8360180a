/**
 * The open connections to one target over one path, as an undici pool whose connections transport opens itself: directly
 * or through a relay's tunnel, with TLS on top where the target has it. HTTP/1.1 only, one request at a time on each.
 */
import type { Readable } from "node:stream";
import { type Dispatcher, Pool } from "undici";
import { IsochroneError } from "#kit";
import type { TransportSettings } from "../config.ts";
import { Exchange, type ExchangeHead, type PoolRequest } from "./exchange.ts";

export type PathPoolOptions = {
  /** "parent \"fra-1\" via \"ams\"", for messages. */
  readonly label: string;
  /** Opens one connection. Must reject with an IsochroneError. */
  readonly connect: (signal: AbortSignal) => Promise<import("node:stream").Duplex>;
  readonly settings: TransportSettings;
  /** A connection is about to be opened. */
  readonly onConnecting: () => void;
  /** A connection is open; `connectMs` is what it took. */
  readonly onConnected: (connectMs: number) => void;
};

export class PathPool {
  readonly #options: PathPoolOptions;
  readonly #pool: Pool;
  /** Dispatched and not ended. */
  #active = 0;
  #usedAtMs = performance.now();
  readonly #closing = new AbortController();
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
        this.#connect().then(
          // Any Duplex will do for HTTP/1.1; undici's types name the usual ones only.
          (connection) => callback(null, connection as import("node:net").Socket),
          (error: Error) => callback(error, null),
        );
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
    const exchange = new Exchange(this.#options.label, request, () => {
      this.#active--;
      this.#usedAtMs = performance.now();
    });
    const options: Dispatcher.DispatchOptions = {
      path: request.path,
      method: request.method as Dispatcher.HttpMethod,
      headers: request.headers.map(([name, value]) => [name, value] as [string, string]),
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

  /** Ends every connection; requests under way fail. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#pool.destroy();
  }

  async #connect(): Promise<import("node:stream").Duplex> {
    this.counters.connects++;
    this.#options.onConnecting();
    const startedMs = performance.now();
    try {
      const connection = await this.#options.connect(this.#closing.signal);
      // Between requests nobody may be listening.
      connection.on("error", () => {});
      this.#options.onConnected(performance.now() - startedMs);
      return connection;
    } catch (error) {
      this.counters.connectFailures++;
      throw error;
    }
  }
}
