/**
 * The open connections to one target over one path. Transport opens them itself, directly or through a relay's tunnel, with TLS on top
 * where the target has it. Plain requests and their plain answers go over HTTP/1.1 by ourselves (`http1/plain-connection.ts`); undici speaks all
 * other HTTP/1.1, one request at a time, and HTTP/2, many at a time. A connection that undici has got stays its own. The one used last is
 * used first: few are busy, so that their congestion windows stay open, and the rest may close.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { buildConnector, Dispatcher } from "undici";
import { IsochroneError, type OriginProtocol } from "#kit";
import type { TransportSettings } from "../config.ts";
import { plainRequestHead } from "../core/http1/request-head.ts";
import type { HeaderList } from "./face.ts";
import { Exchange, type ExchangeHead, type PoolRequest } from "./exchange.ts";
import { HandedOver, Replayed } from "./http1/handed-over.ts";
import { PlainConnection } from "./http1/plain-connection.ts";
import { dispatchOptions, type UndiciClient, undiciClient } from "./undici-client.ts";

export type PathPoolOptions = {
  /** "parent \"fra-1\" via \"ams\"", for messages. */
  readonly label: string;
  /** Opens one connection. Must reject with an IsochroneError. */
  readonly connect: (signal: AbortSignal) => Promise<Duplex>;
  readonly settings: TransportSettings;
  /** Default: HTTP/1.1. */
  readonly protocol?: OriginProtocol | undefined;
  /** A connection is about to be opened. */
  readonly onConnecting: () => void;
  /** A connection is open; `connectMs` is what it took. */
  readonly onConnected: (connectMs: number) => void;
};

/** A request that was taken. */
type Sent = {
  readonly request: PoolRequest;
  readonly headers: HeaderList;
  /** Its head, if it is plain. */
  readonly text: string | undefined;
  readonly exchange: Exchange;
};

/** One connection, from its first request on. */
type Connection = {
  /** What speaks on it: one of them at a time, neither while it is being opened for a plain request. */
  client: UndiciClient | undefined;
  plain: PlainConnection | undefined;
  /** The stream that {@link client} gets in place of a new one. */
  stream: Promise<Duplex> | undefined;
  /** What it was opened as, once it is open. */
  socket: Duplex | undefined;
  /** When it was opened ahead of need, performance.now(). */
  openedMs: number;
  /** The plain request that goes over it, or out when it is open. */
  sent: Sent | undefined;
  isConnected: boolean;
  /** While it tells its listeners of an error: undici takes a reset for the end of a body without length. */
  isBreaking: boolean;
  /** Requests under way on it. */
  active: number;
  /** The last answer over it was late for its path: the window of the other end may have collapsed. */
  isLate: boolean;
};

/**
 * After a connection that was opened ahead of need was refused, and after the opening of one that was closed unused, none is for so long, ms: such
 * an origin is not hammered. One that silence met was lost with the path; that it is well again is known before the next is opened.
 */
const WARM_PAUSE_MS = 10_000;
/** Between two looks at what has waited for too long, ms. undici's own come twice a second. */
const SWEEP_MS = 500;

export class PathPool {
  readonly #options: PathPoolOptions;
  readonly #all = new Set<Connection>();
  /** With HTTP/2, those that carry what had begun and nothing more. */
  readonly #leaving = new Set<UndiciClient>();
  readonly #isHttp2: boolean;
  /** Requests at once on one connection. */
  readonly #streamsMax: number;
  /** They can carry one more: of HTTP/1.1 those with nothing under way. The one used last is the last. */
  readonly #idle: Connection[] = [];
  /** Wait for one of them, with all that may be open busy. */
  readonly #waiting: Sent[] = [];
  /** Plain requests that go out at the end of this turn of the event loop. */
  #due: { readonly connection: Connection; readonly sent: Sent }[] = [];
  #sweeping: NodeJS.Timeout | undefined;
  /** Dispatched and not ended. */
  #active = 0;
  /** Most of them at once since it was last asked. */
  #activePeak = 0;
  #usedAtMs = performance.now();
  readonly #closing = new AbortController();
  /** Opened ahead of need, and not used yet; not among {@link #all}. */
  readonly #spares: Connection[] = [];
  #warming = 0;
  #warmAgainAtMs = 0;
  /** When the last of those was opened that were closed unused: nobody had asked for as long as the other end keeps them. */
  #unusedSinceMs = -Infinity;
  /** All only grow. `warmed`: of the connects, those ahead of need; `retired`: connections given up because they were slow. */
  readonly counters = { requests: 0, connects: 0, connectFailures: 0, refusedFull: 0, warmed: 0, retired: 0 };

  constructor(options: PathPoolOptions) {
    this.#options = options;
    this.#isHttp2 = options.protocol === "http/2";
    this.#streamsMax = this.#isHttp2 ? options.settings.http2StreamsMax : 1;
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
    return this.#active >= this.#requestsMax;
  }
  get #requestsMax(): number {
    return this.#options.settings.connectionsPerPath * this.#streamsMax;
  }
  /** Most requests at once since the last call. */
  takePeak(): number {
    const peak = this.#activePeak;
    this.#activePeak = this.#active;
    return peak;
  }

  /** Sends one request and waits for its head. Rejects with IsochroneError; see `exchange.ts` for the codes. */
  request(request: PoolRequest): Promise<ExchangeHead> {
    const exchange = new Exchange(this.#options.label, request);
    this.send(request, exchange);
    return exchange.head;
  }

  /** The same for an exchange that there is already. */
  send(request: PoolRequest, exchange: Exchange): void {
    const { connectionsPerPath, waitingPerPath } = this.#options.settings;
    if (this.#active >= this.#requestsMax + waitingPerPath) {
      this.counters.refusedFull++;
      exchange.onResponseError(
        undefined,
        new IsochroneError(
          `Cannot ask ${this.#options.label}: ${connectionsPerPath} connections are busy and ${waitingPerPath} requests wait already`,
          { code: "pool-full", source: "upstream", retry: "safe" },
        ),
      );
      return;
    }
    this.counters.requests++;
    this.#active++;
    this.#activePeak = Math.max(this.#activePeak, this.#active);
    this.#usedAtMs = performance.now();
    exchange.protocol = this.#isHttp2 ? "http/2" : "http/1.1";
    const headers = request.proof === undefined ? request.headers : [...request.headers, request.proof()];
    const text =
      this.#isHttp2 || request.body !== undefined
        ? undefined
        : plainRequestHead(request.method, request.path, headers);
    const sent: Sent = { request, headers, text, exchange };
    const connection = exchange.isEnded ? undefined : this.#take(text !== undefined);
    if (exchange.isEnded) this.#ended();
    else if (connection) this.#dispatch(connection, sent);
    else this.#wait(sent);
  }

  #wait(sent: Sent): void {
    sent.exchange.awaitConnection();
    sent.exchange.onEnd = () => this.#ended();
    this.#waiting.push(sent);
  }

  /**
   * A connection for one more request: the one used last of those that were in time, then one that was opened ahead of need; only then one
   * whose last answer was late: after losses its window may hold less than an answer. Of each such as are spoken on as the request is to be
   * come first. Undefined: as many as may be are there, and full.
   */
  #take(isPlain: boolean): Connection | undefined {
    const connection =
      this.#idle.findLast((one) => !one.isLate && (one.client === undefined) === isPlain) ??
      (isPlain && this.#spares.length > 0 ? this.#open() : undefined) ??
      this.#idle.findLast(({ isLate }) => !isLate) ??
      (this.#spares.length > 0 ? this.#open() : undefined) ??
      this.#idle.at(-1) ??
      this.#open();
    if (connection === undefined) return undefined;
    connection.active++;
    if (connection.active >= this.#streamsMax) this.#idle.splice(this.#idle.lastIndexOf(connection), 1);
    return connection;
  }

  /** A connection opened ahead of need or to be, which is idle now; undefined: as many as may be are there. */
  #open(): Connection | undefined {
    if (this.#all.size >= this.#options.settings.connectionsPerPath) return undefined;
    const connection = this.#spares.pop() ?? unopened();
    this.#all.add(connection);
    this.#idle.push(connection);
    return connection;
  }

  /** undici on a connection: on what is open of it, or else on a new stream. */
  #clientOf(connection: Connection): UndiciClient {
    const { plain } = connection;
    if (plain !== undefined) connection.stream = Promise.resolve(plain.leave());
    connection.plain = undefined;
    const client = undiciClient(
      this.#options.settings,
      this.#isHttp2,
      this.#streamsMax,
      (callback) => void this.#hand(connection, callback),
    );
    client.on("connect", () => (connection.isConnected = true));
    client.on("disconnect", () => {
      connection.isConnected = false;
      // What is under way over HTTP/1.1 hears of it itself.
      if (this.#isHttp2 || connection.active === 0) this.#drop(connection);
    });
    return client;
  }

  #dispatch(connection: Connection, sent: Sent): void {
    const { exchange } = sent;
    exchange.onEnd = (mayReuse, isStuck) => {
      this.#ended();
      connection.active--;
      connection.sent = undefined;
      const isUsable = mayReuse && (connection.plain?.isOpen ?? true);
      // A stream that is given up takes nothing else with it (RFC 9113 section 5.4.2).
      if (isUsable || (this.#isHttp2 && !isStuck)) this.#release(connection);
      else this.#drop(connection);
      this.#next();
    };
    exchange.isBreaking = () => connection.isBreaking;
    exchange.carrier = connection;
    exchange.onTiming = (isLate) => (connection.isLate = isLate);
    if (connection.client !== undefined || sent.text === undefined) this.#dispatchByUndici(connection, sent);
    else if (connection.plain !== undefined) this.#sendSoon(connection, sent);
    else {
      exchange.awaitConnection();
      connection.sent = sent;
      if (connection.stream === undefined) void this.#begin(connection);
    }
  }

  #dispatchByUndici(connection: Connection, sent: Sent): void {
    sent.exchange.awaitConnection();
    const client = (connection.client ??= this.#clientOf(connection));
    try {
      client.dispatch(this.#optionsOf(sent), sent.exchange);
    } catch (error) {
      // undici refuses what it cannot send (a header with a line break) by throwing or by onResponseError.
      sent.exchange.onResponseError(undefined, error instanceof Error ? error : new Error(String(error)));
    }
  }

  #optionsOf({ request, headers }: Sent): Dispatcher.DispatchOptions {
    return dispatchOptions(request, headers, this.#isHttp2);
  }

  /** Opens a connection for plain requests. Never rejects. */
  async #begin(connection: Connection): Promise<void> {
    let stream: Duplex;
    try {
      connection.stream = this.#connect();
      stream = await connection.stream;
    } catch (error) {
      // undici waits for it as well then, and says so.
      if (connection.client !== undefined) return;
      this.#drop(connection);
      connection.sent?.exchange.onResponseError(
        undefined,
        error instanceof Error ? error : new Error(String(error)),
      );
      return;
    }
    if (connection.client !== undefined) return;
    connection.stream = undefined;
    if (!this.#all.has(connection)) {
      stream.destroy();
      return;
    }
    this.#speakPlainly(connection, stream);
    const { sent } = connection;
    if (sent !== undefined && !sent.exchange.isEnded) this.#sendPlain(connection, sent);
  }

  #speakPlainly(connection: Connection, stream: Duplex): void {
    connection.isConnected = true;
    connection.socket = stream;
    connection.plain = new PlainConnection(stream, {
      keepAliveMs: this.#options.settings.keepAliveMs,
      onGone: () => this.#drop(connection),
      onOther: (rest, isBegun) => this.#handOver(connection, rest, isBegun),
    });
    this.#sweeping ??= setTimeout(this.#sweep, SWEEP_MS).unref();
  }

  #sendPlain(connection: Connection, sent: Sent): void {
    const { text = "", exchange, request } = sent;
    connection.sent = sent;
    connection.plain?.send(text, exchange, request.headersMs, request.bodyMs);
  }

  /**
   * Over a connection that was used before a request goes out when all that has come by now was looked at: what nobody asked for would be
   * taken for its answer, and an end that came would have it sent in vain.
   */
  #sendSoon(connection: Connection, sent: Sent): void {
    if (this.#due.length === 0) setImmediate(this.#sendDue);
    this.#due.push({ connection, sent });
  }

  readonly #sendDue = (): void => {
    const due = this.#due;
    this.#due = [];
    for (const { connection, sent } of due) {
      if (sent.exchange.isEnded) continue;
      if (connection.plain?.isOpen === true) {
        this.#sendPlain(connection, sent);
        continue;
      }
      connection.active--;
      this.#drop(connection);
      const other = this.#take(true);
      if (other === undefined) this.#wait(sent);
      else this.#dispatch(other, sent);
    }
  };

  /** The answer that comes is read by undici: `rest` is what came of it, without its head when that was handed on. */
  #handOver(connection: Connection, rest: Buffer, isBegun: boolean): void {
    const { plain, sent } = connection;
    if (plain === undefined || sent === undefined) return;
    const { exchange } = sent;
    const replayed = new Replayed(plain.leave(), rest);
    connection.plain = undefined;
    connection.stream = Promise.resolve(replayed);
    const client = (connection.client = this.#clientOf(connection));
    const { onEnd } = exchange;
    exchange.onEnd = (...end) => {
      replayed.begin();
      onEnd(...end);
    };
    client.dispatch(this.#optionsOf(sent), new HandedOver(exchange, isBegun));
  }

  readonly #sweep = (): void => {
    const nowMs = performance.now();
    let isWanted = false;
    for (const { plain } of [...this.#spares, ...this.#all]) {
      if (plain === undefined) continue;
      isWanted = true;
      plain.sweep(nowMs);
    }
    this.#sweeping = isWanted ? setTimeout(this.#sweep, SWEEP_MS).unref() : undefined;
  };

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
      const connection = this.#take(this.#waiting[0]?.text !== undefined);
      if (connection === undefined) return;
      const first = this.#waiting.shift();
      // Its end counts from here on for the connection, too.
      if (first) this.#dispatch(connection, first);
    }
  }

  #release(connection: Connection): void {
    const wasFull = connection.active === this.#streamsMax - 1;
    if (wasFull && this.#all.has(connection)) this.#idle.push(connection);
  }

  /** After an end that leaves in doubt what is still to come over it, nothing else goes over it. */
  #drop(connection: Connection): void {
    const spareAt = this.#spares.indexOf(connection);
    if (spareAt >= 0) {
      this.#spares.splice(spareAt, 1);
      this.#unusedSinceMs = Math.max(this.#unusedSinceMs, connection.openedMs);
      this.#warmAgainAtMs = Math.max(this.#warmAgainAtMs, connection.openedMs + WARM_PAUSE_MS);
      return;
    }
    if (!this.#all.delete(connection)) return;
    const at = this.#idle.indexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
    const { client, plain } = connection;
    plain?.destroy();
    if (client === undefined) return;
    if (this.#isHttp2 && connection.active > 0) {
      this.#leaving.add(client);
      void client
        .close()
        .catch(() => {})
        .finally(() => this.#leaving.delete(client));
      return;
    }
    // undici may be in the midst of telling us of its end.
    queueMicrotask(() => void client.destroy().catch(() => {}));
  }

  /**
   * Opens connections ahead of need, until `count` requests find them open and free, and in time before; of those that were late as many
   * are kept. None after one that was closed unused, until somebody asks again, over whichever path: `askedAtMs`, performance.now(), says when
   * that was last. Never throws.
   */
  warm(count: number, askedAtMs: number): void {
    const isWanted = askedAtMs > this.#unusedSinceMs && performance.now() >= this.#warmAgainAtMs;
    if (!isWanted || this.#closing.signal.aborted) return;
    const { connectionsPerPath } = this.#options.settings;
    const late = this.#idle.filter(({ isLate }) => isLate);
    const inTime = this.#idle.length - late.length;
    const wanted = Math.ceil(count / this.#streamsMax);
    for (const one of late.slice(0, Math.max(0, late.length - wanted))) {
      this.counters.retired++;
      this.#drop(one);
    }
    const room = connectionsPerPath - this.#all.size - this.#spares.length - this.#warming;
    const lacking = wanted - inTime - this.#spares.length - this.#warming;
    for (let more = Math.min(room, lacking); more > 0; more--) void this.#openSpare();
  }

  async #openSpare(): Promise<void> {
    this.#warming++;
    try {
      const stream = await this.#dial();
      this.counters.warmed++;
      if (this.#closing.signal.aborted) {
        stream.destroy();
        return;
      }
      const connection = unopened();
      connection.openedMs = performance.now();
      this.#spares.push(connection);
      if (this.#isHttp2) {
        // Its server speaks first, and undici is to read that.
        connection.stream = Promise.resolve(stream);
        connection.socket = stream;
        stream.once("close", () => {
          if (this.#spares.includes(connection)) this.#drop(connection);
        });
      } else this.#speakPlainly(connection, stream);
    } catch (error) {
      // Counted; whoever needs the connection will see the reason.
      if (error instanceof IsochroneError && error.code === "connect-timeout") return;
      this.#warmAgainAtMs = performance.now() + WARM_PAUSE_MS;
    } finally {
      this.#warming--;
    }
  }

  /** Ends every connection; requests under way fail. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const { plain, stream } of this.#spares.splice(0)) {
      plain?.destroy();
      void stream?.then((open) => open.destroy());
    }
    for (const { exchange } of this.#waiting.splice(0)) exchange.onResponseError(undefined, closedError());
    clearTimeout(this.#sweeping);
    const clients = [...Array.from(this.#all, ({ client }) => client), ...this.#leaving];
    const closed = clients.map(async (client) => await client?.destroy());
    for (const { plain, sent } of this.#all) {
      plain?.destroy();
      sent?.exchange.onResponseError(undefined, closedError());
    }
    this.#all.clear();
    this.#idle.length = 0;
    await Promise.all(closed);
  }

  /** Never rejects. */
  async #hand(connection: Connection, callback: buildConnector.Callback): Promise<void> {
    let stream: Duplex;
    try {
      const given = connection.stream;
      connection.stream = undefined;
      stream = await (given ?? this.#connect());
      connection.socket ??= stream;
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
    // Any Duplex will do; undici's types name the usual ones only.
    callback(null, stream as Socket);
  }

  #connect(): Promise<Duplex> {
    this.#options.onConnecting();
    return this.#dial();
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

function unopened(): Connection {
  return {
    client: undefined,
    plain: undefined,
    stream: undefined,
    socket: undefined,
    openedMs: 0,
    sent: undefined,
    isConnected: false,
    isBreaking: false,
    active: 0,
    isLate: false,
  };
}

function closedError(): Error {
  return new Error("the connections were closed");
}
