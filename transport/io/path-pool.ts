/**
 * The open connections to one target over one path. Transport opens them itself, directly or through a relay's tunnel, with TLS on top
 * where the target has it; undici speaks HTTP/1.1 over each, one request at a time. The one used last is used first: few are busy, so
 * that their congestion windows stay open, and the rest may close.
 */
import type { Socket } from "node:net";
import type { Duplex, Readable } from "node:stream";
import type { buildConnector, Dispatcher } from "undici";
import Client from "undici/lib/dispatcher/client.js";
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

/** One connection, from its first request on. */
type Connection = {
  readonly client: Client;
  isConnected: boolean;
  /** While it tells its listeners of an error: undici takes a reset for the end of a body without length. */
  isBreaking: boolean;
  /** Answers in a row that were late for their path: the window of the other end may have collapsed. */
  lateInARow: number;
};

/** After a connection that was opened ahead of need failed or closed unused, none is for so long, ms: such an origin is not hammered. */
const WARM_PAUSE_MS = 10_000;
/** Late answers in a row after which a connection is given up for a fresh one, if there is one. */
const LATE_MAX = 2;

export class PathPool {
  readonly #options: PathPoolOptions;
  readonly #all = new Set<Connection>();
  /** Nothing under way on them; the one used last is the last. */
  readonly #idle: Connection[] = [];
  /** Wait for one of them, with all that may be open busy. */
  readonly #waiting: { readonly options: Dispatcher.DispatchOptions; readonly exchange: Exchange }[] = [];
  /** Dispatched and not ended. */
  #active = 0;
  /** Most of them at once since it was last asked. */
  #activePeak = 0;
  #usedAtMs = performance.now();
  readonly #closing = new AbortController();
  /** Opened ahead of need, and not used yet. */
  readonly #spares: Duplex[] = [];
  #warming = 0;
  #warmAgainAtMs = 0;
  /** All only grow. `warmed`: of the connects, those ahead of need; `retired`: connections given up because they were slow. */
  readonly counters = { requests: 0, connects: 0, connectFailures: 0, refusedFull: 0, warmed: 0, retired: 0 };

  constructor(options: PathPoolOptions) {
    this.#options = options;
  }

  /** Requests under way, probes included. */
  get active(): number {
    return this.#active;
  }
  /** Open connections. */
  get connections(): number {
    let count = this.#spares.length;
    for (const { isConnected } of this.#all) if (isConnected) count++;
    return count;
  }
  get usedAtMs(): number {
    return this.#usedAtMs;
  }
  /** Whether a request would have to wait for a connection that others use. */
  get isBusy(): boolean {
    return this.#active >= this.#options.settings.connectionsPerPath;
  }
  /** Most requests at once since the last call. */
  takePeak(): number {
    const peak = this.#activePeak;
    this.#activePeak = this.#active;
    return peak;
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
    this.#activePeak = Math.max(this.#activePeak, this.#active);
    this.#usedAtMs = performance.now();
    const exchange = new Exchange(this.#options.label, request);
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
    const connection = exchange.isEnded ? undefined : (this.#idle.pop() ?? this.#open());
    if (exchange.isEnded) this.#ended();
    else if (connection) this.#dispatch(connection, options, exchange);
    else {
      this.#waiting.push({ options, exchange });
      exchange.onEnd = () => this.#ended();
    }
    return await exchange.head;
  }

  /** A connection to be; undefined: as many as may be are there. */
  #open(): Connection | undefined {
    const { settings } = this.#options;
    if (this.#all.size >= settings.connectionsPerPath) return undefined;
    // The address is never used: the connector knows where to go, and every request has its own Host. To undici this is
    // plain HTTP/1.1; TLS, where there is any, is below it, so that it does not reconnect for another Host header.
    const client = new Client("http://path.invalid", {
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: settings.keepAliveMs,
      keepAliveMaxTimeout: settings.keepAliveMs,
      headersTimeout: settings.headersTimeoutMs,
      bodyTimeout: settings.bodyTimeoutMs,
      maxHeaderSize: settings.headerBytesMax,
      strictContentLength: true,
      connect: (_options: buildConnector.Options, callback: buildConnector.Callback) => {
        void this.#hand(connection, callback);
      },
    });
    const connection: Connection = { client, isConnected: false, isBreaking: false, lateInARow: 0 };
    this.#all.add(connection);
    client.on("connect", () => (connection.isConnected = true));
    client.on("disconnect", () => {
      connection.isConnected = false;
      const at = this.#idle.indexOf(connection);
      if (at < 0) return;
      this.#idle.splice(at, 1);
      this.#drop(connection);
    });
    return connection;
  }

  #dispatch(connection: Connection, options: Dispatcher.DispatchOptions, exchange: Exchange): void {
    exchange.onEnd = (mayReuse) => {
      this.#ended();
      if (mayReuse) this.#release(connection);
      else this.#drop(connection);
      this.#next();
    };
    exchange.isBreaking = () => connection.isBreaking;
    exchange.onTiming = (isLate) => this.#judge(connection, isLate);
    try {
      connection.client.dispatch(options, exchange);
    } catch (error) {
      // undici refuses what it cannot send (a header with a line break) by throwing or by onResponseError.
      exchange.onResponseError(undefined, error instanceof Error ? error : new Error(String(error)));
    }
  }

  #ended(): void {
    this.#active--;
    this.#usedAtMs = performance.now();
  }

  /** Gives whoever waits longest a connection. */
  #next(): void {
    while (this.#waiting.length > 0) {
      if (this.#waiting[0]?.exchange.isEnded) {
        this.#waiting.shift();
        continue;
      }
      const connection = this.#idle.pop() ?? this.#open();
      if (connection === undefined) return;
      const first = this.#waiting.shift();
      // Its end counts from here on for the connection, too.
      if (first) this.#dispatch(connection, first.options, first.exchange);
    }
  }

  #release(connection: Connection): void {
    if (this.#all.has(connection)) this.#idle.push(connection);
  }

  /** After an end that leaves in doubt what is still to come over it, nothing else goes over it. */
  #drop(connection: Connection): void {
    if (!this.#all.delete(connection)) return;
    // undici may be in the midst of telling us of its end.
    queueMicrotask(() => void connection.client.destroy().catch(() => {}));
  }

  /** An answer over it was late for its path, or in time. */
  #judge(connection: Connection, isLate: boolean): void {
    connection.lateInARow = isLate ? connection.lateInARow + 1 : 0;
    const at = this.#idle.indexOf(connection);
    if (connection.lateInARow < LATE_MAX || at < 0 || this.#idle.length + this.#spares.length < 2) return;
    this.#idle.splice(at, 1);
    this.counters.retired++;
    this.#drop(connection);
  }

  /** Opens connections ahead of need, until `count` are open and free, so that the next requests find them. Never throws. */
  warm(count: number): void {
    if (performance.now() < this.#warmAgainAtMs || this.#closing.signal.aborted) return;
    const { connectionsPerPath } = this.#options.settings;
    const room = connectionsPerPath - this.#all.size - this.#spares.length - this.#warming;
    const lacking = count - this.#idle.length - this.#spares.length - this.#warming;
    for (let more = Math.min(room, lacking); more > 0; more--) void this.#openSpare();
  }

  async #openSpare(): Promise<void> {
    this.#warming++;
    try {
      const connection = await this.#dial();
      this.counters.warmed++;
      if (this.#closing.signal.aborted) {
        connection.destroy();
        return;
      }
      this.#spares.push(connection);
      connection.once("close", () => {
        const at = this.#spares.indexOf(connection);
        if (at < 0) return;
        this.#spares.splice(at, 1);
        this.#warmAgainAtMs = performance.now() + WARM_PAUSE_MS;
      });
    } catch {
      // Counted; whoever needs the connection will see the reason.
      this.#warmAgainAtMs = performance.now() + WARM_PAUSE_MS;
    } finally {
      this.#warming--;
    }
  }

  /** Ends every connection; requests under way fail. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const spare of this.#spares) spare.destroy();
    for (const { exchange } of this.#waiting.splice(0))
      exchange.onResponseError(undefined, new Error("the connections were closed"));
    const closed = Array.from(this.#all, ({ client }) => client.destroy());
    this.#all.clear();
    this.#idle.length = 0;
    await Promise.all(closed);
  }

  /** Never rejects. */
  async #hand(connection: Connection, callback: buildConnector.Callback): Promise<void> {
    let stream: Duplex;
    try {
      stream = await this.#connect();
    } catch (error) {
      callback(error instanceof Error ? error : new Error(String(error)), null);
      return;
    }
    // Before undici's own listener, so the flag stands while undici hears it.
    stream.on("error", () => {
      connection.isBreaking = true;
      queueMicrotask(() => {
        connection.isBreaking = false;
      });
    });
    // Any Duplex will do for HTTP/1.1; undici's types name the usual ones only.
    callback(null, stream as Socket);
  }

  async #connect(): Promise<Duplex> {
    for (let spare = this.#spares.pop(); spare; spare = this.#spares.pop())
      // Nothing was read from it yet; an end that came meanwhile shows as not readable.
      if (spare.readable && spare.writable) return spare;
    this.#options.onConnecting();
    return await this.#dial();
  }

  async #dial(): Promise<Duplex> {
    this.counters.connects++;
    const startedMs = performance.now();
    try {
      const connection = await this.#options.connect(this.#closing.signal);
      // Before it is used nobody is listening.
      connection.on("error", () => {});
      this.#options.onConnected(performance.now() - startedMs);
      return connection;
    } catch (error) {
      this.counters.connectFailures++;
      throw error;
    }
  }
}
