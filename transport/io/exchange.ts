/**
 * One request and its response on a pool: undici's dispatch handler, turned into a promise of the head and a stream with
 * back-pressure. Says at which stage it failed, because that decides whether it may be tried again.
 */
import { type Duplex, Readable } from "node:stream";
import type { Dispatcher } from "undici";
import { IsochroneError } from "#kit";
import { READ_BYTES } from "./http1/direct-reads.ts";
import { quietMsOf } from "./quiet-time.ts";
import type { HeaderList, SpokenProtocol, TransportRequest } from "./face.ts";
import type { StopSignal } from "./stop-signal.ts";

/** One request on one path. */
export type PoolRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: HeaderList;
  /** Made for a connection that does not show by itself who we are, and appended to the fields. */
  readonly proof?: (() => readonly [name: string, value: string]) | undefined;
  readonly body: Readable | Uint8Array | undefined;
  readonly signal: StopSignal;
  /** Somebody waits for it before all else: a probe. */
  readonly isUrgent?: boolean;
  /** It was asked for before, and is late or lost. */
  readonly isRepeat?: boolean;
  /**
   * After HEAD undici closes the connection, because some origins send a body all the same and it would be read as the
   * next answer. True where nothing but probes goes over the connection.
   */
  readonly mayReuseAfterHead?: boolean;
  /** Until the request is on an open connection, ms. */
  readonly connectMs: number;
  readonly headersMs: number;
  readonly bodyMs: number;
  readonly onInterim?: TransportRequest["onInterim"];
  readonly watch?: ExchangeWatch | undefined;
};

/** Who learns of a path by what goes over it. */
export type ExchangeWatch = {
  /** The head came so long after the request, ms. */
  readonly handleHead: (ttfbMs: number) => void;
  /** A whole body that its reader did not hold up: its length, when its head came after the request and it after that, ms. */
  readonly handleTransfer: (bytes: number, headMs: number, ms: number) => void;
};

export type ExchangeHead = {
  readonly status: number;
  readonly protocol: SpokenProtocol;
  readonly headers: HeaderList;
  readonly body: Readable;
  /** Whether all of the body has come, to its end: it lies in `body`, and nothing can break off any more. */
  readonly isWhole: () => boolean;
  /** All of the body in place of `body`, which costs more than the rest of a small answer; undefined: it has not come yet. */
  readonly takeWhole: () => Uint8Array | undefined;
  /** Calls `listener` once when all of the body has come, which has not yet; one listener. */
  readonly onWhole: (listener: () => void) => void;
  readonly trailers: () => HeaderList;
  /** Whether the answer was late for its path: a connection on which they are is given up. */
  readonly handleTiming: (isLate: boolean) => void;
  /** For how long its connection has brought nothing at all, ms; undefined: not known. */
  readonly quietMs: () => number | undefined;
  readonly connectMs: number;
  readonly ttfbMs: number;
};

/** `socket`: undefined where it is none of TCP. */
export type ExchangeCarrier = { readonly socket: Duplex | undefined };

/** How far an exchange had come: nothing sent; sent, no head yet; in the body; ended. */
export type ExchangeStage = "waiting" | "sent" | "body" | "ended";

/** An exchange failed. `stage` says when; `isTimeout` that the peer was silent rather than gone. */
export class ExchangeError extends IsochroneError {
  readonly stage: ExchangeStage;
  constructor(message: string, code: string, stage: ExchangeStage, method: string, cause: unknown) {
    const mayRepeat = stage === "waiting" || isSafeMethod(method);
    const isPointless = code === "bad-request" || code === "aborted";
    super(message, {
      code,
      source: isPointless ? "downstream" : "upstream",
      retry: mayRepeat && !isPointless ? "safe" : "never",
      cause,
    });
    this.stage = stage;
  }
}

/** RFC 9110 section 9.2.1: asking again changes nothing. */
export function isSafeMethod(method: string): boolean {
  return method === "GET" || method === "HEAD" || method === "OPTIONS" || method === "TRACE";
}

/** Tells once when a body breaks off, also when it has already. */
export function whenBroken(body: Readable, listener: (error: Error) => void): void {
  if (body.errored) listener(body.errored);
  else body.once("error", listener);
}

/** Ends of an exchange that heard nothing: its connection may have died unseen. */
const STUCK: ReadonlySet<string> = new Set(["headers-timeout", "body-timeout", "path-failed", "server-down"]);

/** A reader who held a body up for more of its time than this tells nothing of its path. */
const HELD_RATIO_MAX = 0.1;

type Controller = Dispatcher.DispatchController;

const NO_HEADERS: HeaderList = [];
const NOTHING = Buffer.alloc(0);

/**
 * Codes: those of `dial` and `openTunnel`, "connect-timeout" (no free open connection in time), "headers-timeout",
 * "body-timeout", "connection-lost", "bad-response" (not HTTP, too large a head, a body of another length), "bad-request"
 * (what undici does not send), "aborted".
 */
export class Exchange implements Dispatcher.DispatchHandler, ExchangeHead {
  readonly head: Promise<ExchangeHead>;
  status = 0;
  headers: HeaderList = NO_HEADERS;
  readonly #label: string;
  readonly #request: PoolRequest;
  /**
   * Told once of its end, and whether the connection may carry another: not after an end that leaves anything in doubt. `isStuck`: the
   * connection itself is in doubt, whatever else it carries.
   */
  onEnd: (mayReuse: boolean, isStuck: boolean) => void = () => {};
  /** Told whether the answer was late for its path. */
  onTiming: (isLate: boolean) => void = () => {};
  /** Whether what is heard now is heard because its connection broke. */
  isBreaking: () => boolean = () => false;
  #resolve: (head: ExchangeHead) => void = () => {};
  #reject: (error: unknown) => void = () => {};
  #stage: ExchangeStage = "waiting";
  #isWhole = false;
  #onWhole: (() => void) | undefined;
  #controller: Controller | undefined;
  /** What came of the body before somebody wanted a stream of it. */
  #chunks: Buffer[] = [];
  #body: Readable | undefined;
  #brokenBy: ExchangeError | undefined;
  #trailers: HeaderList = NO_HEADERS;
  /** Why we ended it ourselves. */
  #stopped: ExchangeError | undefined;
  readonly #queuedMs = performance.now();
  #startedMs = 0;
  #headMs = 0;
  #bodyBytes = 0;
  /** What it goes over, whose socket may be another one later. */
  carrier: ExchangeCarrier | undefined = undefined;
  /** What it is asked by. */
  protocol: SpokenProtocol = "http/1.1";
  /** Since when its reader holds it up, and for how long he did before; performance.now(). */
  #heldSinceMs: number | undefined;
  #heldMs = 0;
  #timer: NodeJS.Timeout | undefined;
  readonly #onAbort: () => void;

  constructor(label: string, request: PoolRequest) {
    this.#label = label;
    this.#request = request;
    this.head = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#onAbort = abortOf(this);
    if (request.signal.aborted) this.#onAbort();
    else request.signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** Its request's signal has fired. */
  handleAbort(): void {
    const { reason } = this.#request.signal;
    const why = reason instanceof IsochroneError ? reason.message : "given up by the caller";
    this.#stop(reason instanceof IsochroneError ? reason.code : "aborted", why, reason);
  }

  get isEnded(): boolean {
    return this.#stage === "ended";
  }
  /** When it was sent, and when its head came; performance.now(). */
  get startedMs(): number {
    return this.#startedMs;
  }
  get headMs(): number {
    return this.#headMs;
  }

  /** It waits for an open connection, for so long as its request allows. */
  awaitConnection(): void {
    if (this.#stage === "ended") return;
    this.#stage = "waiting";
    const { connectMs } = this.#request;
    this.#timer ??= setTimeout(
      () => this.#stop("connect-timeout", `connect timeout after ${Math.round(connectMs)} ms`),
      connectMs,
    );
  }

  onRequestStart(controller: Controller): void {
    this.#controller = controller;
    if (this.#stage === "ended") {
      // Given up while it waited: it must not reach the peer.
      controller.abort(this.#stopped ?? new Error("given up"));
      return;
    }
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    }
    this.#startedMs = performance.now();
    this.#stage = "sent";
  }

  /** Another one reads its answer from here on. */
  goOn(controller: Controller): void {
    if (this.#stage === "ended") controller.abort(this.#stopped ?? new Error("given up"));
    else this.#controller = controller;
  }

  onResponseStart(controller: Controller, status: number): void {
    const fields = headerList(controller.rawHeaders);
    if (status >= 200) this.handleHead(status, fields);
    else if (this.#stage !== "ended") this.#request.onInterim?.(status, fields);
  }

  /** The head of the final answer, as {@link onResponseStart}. */
  handleHead(status: number, headers: HeaderList): void {
    if (this.#stage === "ended") return;
    this.#stage = "body";
    this.status = status;
    this.headers = headers;
    this.#headMs = performance.now();
    this.#request.watch?.handleHead(this.ttfbMs);
    this.#resolve(this);
  }

  get connectMs(): number {
    return this.#startedMs - this.#queuedMs;
  }
  get ttfbMs(): number {
    return this.#headMs - this.#startedMs;
  }
  isWhole(): boolean {
    return this.#isWhole;
  }
  onWhole(listener: () => void): void {
    this.#onWhole = listener;
  }
  trailers(): HeaderList {
    return this.#trailers;
  }
  handleTiming(isLate: boolean): void {
    this.onTiming(isLate);
  }
  quietMs(): number | undefined {
    return quietMsOf(this.carrier?.socket);
  }

  get body(): Readable {
    return (this.#body ??= this.#stream());
  }

  #stream(): Readable {
    const body = new Readable({
      highWaterMark: READ_BYTES,
      read: () => {
        this.#handleRead();
        this.#controller?.resume();
      },
      destroy: (error, callback) => {
        if (this.#stage === "body")
          this.#stop("aborted", "the reader of its body went away", error ?? undefined);
        callback(error);
      },
    });
    // It may break off before whoever waits for the head has it: many answers come in one turn.
    body.on("error", () => {});
    for (const chunk of this.#chunks) body.push(chunk);
    this.#chunks = [];
    if (this.#isWhole) body.push(null);
    else if (this.#brokenBy !== undefined) body.destroy(this.#brokenBy);
    return body;
  }

  takeWhole(): Uint8Array | undefined {
    if (!this.#isWhole) return undefined;
    if (this.#body !== undefined) return (this.#body.read() as Buffer | null) ?? NOTHING;
    const chunks = this.#chunks;
    this.#chunks = [];
    const [first = NOTHING] = chunks;
    return chunks.length > 1 ? Buffer.concat(chunks) : first;
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    this.#bodyBytes += chunk.length;
    if (this.#body === undefined) {
      this.#chunks.push(chunk);
      if (this.#bodyBytes < READ_BYTES) return;
    } else if (this.#body.destroyed || this.#body.push(chunk)) return;
    this.#heldSinceMs = performance.now();
    controller.pause();
  }

  #handleRead(): void {
    if (this.#heldSinceMs === undefined) return;
    this.#heldMs += performance.now() - this.#heldSinceMs;
    this.#heldSinceMs = undefined;
  }

  onResponseEnd(controller: Controller): void {
    if (this.#stage === "ended") return;
    // RFC 9112 section 8: a body that ends with the connection is incomplete when the connection ended by an error.
    if (this.isBreaking()) {
      const failure = this.#wrap("connection-lost", "connection reset within the body", "body", undefined);
      this.#end(false);
      this.#breakOff(failure);
      return;
    }
    this.#trailers = headerList(controller.rawTrailers);
    this.#isWhole = true;
    const bodyMs = performance.now() - this.#headMs;
    if (this.#heldSinceMs === undefined && this.#heldMs <= HELD_RATIO_MAX * bodyMs)
      this.#request.watch?.handleTransfer(this.#bodyBytes, this.#headMs - this.#startedMs, bodyMs);
    this.#end(true);
    this.#body?.push(null);
    this.#onWhole?.();
  }

  onResponseError(_controller: Controller | undefined, error: Error): void {
    if (this.#stage === "ended") return;
    const stage = this.#stage;
    const failure = error instanceof ExchangeError ? error : this.#failure(error, stage);
    this.#end(false, STUCK.has(failure.code));
    this.#reject(failure);
    this.#breakOff(failure);
  }

  /** In the next turn: whoever waits for the head may have it since this one, and has to listen first. */
  #breakOff(failure: ExchangeError): void {
    this.#brokenBy = failure;
    const body = this.#body;
    if (body !== undefined) setImmediate(() => body.destroy(failure));
  }

  /** Ends it from our side: a time limit, the caller's signal, or a body nobody reads. */
  #stop(code: string, why: string, cause?: unknown): void {
    if (this.#stage === "ended") return;
    this.#stopped = new ExchangeError(this.#message(why), code, this.#stage, this.#request.method, cause);
    this.#brokenBy = this.#stopped;
    const controller = this.#controller;
    const body = this.#body;
    // Nothing of one that waited was sent.
    this.#end(this.#stage === "waiting", STUCK.has(code));
    this.#reject(this.#stopped);
    if (body && !body.destroyed) body.destroy(this.#stopped);
    controller?.abort(this.#stopped);
  }

  #end(mayReuse: boolean, isStuck = false): void {
    this.#stage = "ended";
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    this.#request.signal.removeEventListener("abort", this.#onAbort);
    this.onEnd(mayReuse, isStuck);
  }

  #failure(error: Error, stage: ExchangeStage): ExchangeError {
    if (error instanceof IsochroneError)
      return new ExchangeError(error.message, error.code, stage, this.#request.method, error);
    const code = "code" in error && typeof error.code === "string" ? error.code : "";
    const { headersMs, bodyMs } = this.#request;
    switch (code) {
      case "UND_ERR_HEADERS_TIMEOUT":
        return this.#wrap("headers-timeout", `no response head within ${headersMs} ms`, stage, error);
      case "UND_ERR_BODY_TIMEOUT":
        return this.#wrap("body-timeout", `the body paused for ${bodyMs} ms`, stage, error);
      case "UND_ERR_INVALID_ARG":
      case "UND_ERR_NOT_SUPPORTED":
      case "UND_ERR_REQ_CONTENT_LENGTH_MISMATCH":
        return this.#wrap("bad-request", error.message, stage, error);
      case "UND_ERR_HEADERS_OVERFLOW":
      case "UND_ERR_RES_CONTENT_LENGTH_MISMATCH":
      case "UND_ERR_RES_EXCEEDED_MAX_SIZE":
        return this.#wrap("bad-response", error.message, stage, error);
      default:
        return code.startsWith("HPE_")
          ? this.#wrap("bad-response", `not an HTTP response: ${error.message}`, stage, error)
          : this.#wrap("connection-lost", `connection lost: ${error.message}`, stage, error);
    }
  }

  #wrap(code: string, why: string, stage: ExchangeStage, cause: unknown): ExchangeError {
    return new ExchangeError(this.#message(why), code, stage, this.#request.method, cause);
  }

  #message(why: string): string {
    return `Cannot ${this.#request.method} ${JSON.stringify(this.#request.path)} from ${this.#label}: ${why}`;
  }
}

/**
 * In a context of its own. In that of the constructor, which the promise's functions share, each exchange kept the next one from being collected
 * with the young, so that all grew old (V8 of Node 24: 1.2 of 7 MB at each such collection, then none).
 */
function abortOf(exchange: Exchange): () => void {
  return () => exchange.handleAbort();
}

/** undici hands on [name, value, name, value...] as bytes or text, of HTTP/2 an object as node:http2 makes it. */
function headerList(raw: Controller["rawHeaders"]): HeaderList {
  if (raw === null || raw === undefined) return NO_HEADERS;
  if (!Array.isArray(raw))
    return Object.entries(raw).flatMap(([name, value]) =>
      (Array.isArray(value) ? value : [value]).map((one) => [name, String(one)] as const),
    );
  const list: (readonly [string, string])[] = [];
  for (let index = 0; index + 1 < raw.length; index += 2) {
    list.push([textOf(raw[index]), textOf(raw[index + 1])]);
  }
  return list;
}

function textOf(part: string | Buffer | undefined): string {
  // Field values are octets (RFC 9110 section 5.5); latin1 keeps each.
  return typeof part === "string" ? part : (part?.toString("latin1") ?? "");
}
