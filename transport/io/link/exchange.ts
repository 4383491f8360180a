/** One request over a link as undici's handlers know it: what comes is handed on, held while the handler asks for a pause. */
import { Readable } from "node:stream";
import type { Dispatcher } from "undici";
import type { MonotonicMs } from "#kit";
import { systemClock } from "#kit/io";
import type { LinkEvent, LinkRequestHead, Urgency } from "../../core/link/words.ts";
import type { LinkConnection } from "./connection.ts";

type Controller = Dispatcher.DispatchController;
export type LinkDispatchOptions = Dispatcher.DispatchOptions & { readonly urgency?: Urgency };

/** Content of a request that waits before its source is held up, bytes. */
const QUEUED_BYTES_MAX = 262_144;
/** An answer of more is a large one: requests are kept off its session, bytes. */
const LARGE_BYTES_MIN = 65_536;

/** With a code of undici's where it has one, since its handlers go by them. */
export class LinkError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = "LinkError";
    this.code = code;
  }
}

export class LinkExchange implements Controller {
  readonly #handler: Dispatcher.DispatchHandler;
  readonly head: LinkRequestHead;
  readonly #body: Readable | Uint8Array | undefined;
  readonly #headersMs: number;
  readonly #bodyMs: number;
  #connection: LinkConnection | undefined;
  #id = 0;
  #deadlineMs = Infinity;
  #hasHead = false;
  #isOver = false;
  #isPaused = false;
  #reason: Error | null = null;
  /** What came during a pause. */
  #held: LinkEvent[] = [];
  #bytes = 0;
  rawHeaders: string[] = [];
  rawTrailers: string[] = [];

  constructor(options: LinkDispatchOptions, handler: Dispatcher.DispatchHandler) {
    this.#handler = handler;
    this.#body = bodyOf(options.body);
    this.head = headOf(options, this.#body);
    this.#headersMs = options.headersTimeout ?? Infinity;
    this.#bodyMs = options.bodyTimeout ?? Infinity;
  }

  get paused(): boolean {
    return this.#isPaused;
  }
  get aborted(): boolean {
    return this.#reason !== null;
  }
  get reason(): Error | null {
    return this.#reason;
  }
  get isOver(): boolean {
    return this.#isOver;
  }
  /** Whether it may be begun anew on another session: nothing of its content is gone. */
  get mayMove(): boolean {
    return !(this.#body instanceof Readable);
  }
  get isLarge(): boolean {
    return this.#bytes >= LARGE_BYTES_MIN;
  }

  /** Begins on a connection whose session has room. The stream; undefined: it is over instead. */
  begin(connection: LinkConnection, nowMs: MonotonicMs): number | undefined {
    this.#handler.onRequestStart?.(this, null);
    if (this.#isOver) return undefined;
    const { session } = connection;
    const id = session.request(this.head, this.#body === undefined, nowMs);
    if (typeof id === "string") {
      this.fail(new LinkError("UND_ERR_INVALID_ARG", `a link cannot carry this request (${id})`));
      return undefined;
    }
    this.#connection = connection;
    this.#id = id;
    this.#deadlineMs = nowMs + (this.#headersMs || Infinity);
    if (this.#body instanceof Uint8Array) {
      session.send(id, this.#body);
      session.end(id);
    } else if (this.#body !== undefined) this.#sendFrom(this.#body);
    connection.wake();
    return id;
  }

  #sendFrom(body: Readable): void {
    const session = this.#connection?.session;
    body.on("data", (chunk: Buffer | string) => {
      if (this.#isOver) return;
      session?.send(this.#id, typeof chunk === "string" ? Buffer.from(chunk) : chunk);
      if ((session?.queuedBytes(this.#id) ?? 0) > QUEUED_BYTES_MAX) body.pause();
      this.#connection?.wake();
    });
    body.once("end", () => {
      session?.end(this.#id);
      this.#connection?.wake();
    });
    body.once("error", (error) => this.abort(error));
  }

  /** An event of its stream. True: nothing more comes. */
  handleEvent(event: LinkEvent, nowMs: MonotonicMs): boolean {
    if (this.#isOver) return true;
    if (event.kind === "drained") {
      if (this.#body instanceof Readable) this.#body.resume();
      return false;
    }
    if (event.kind === "stopped") {
      this.#dropBody();
      return false;
    }
    if (event.kind === "cancelled") {
      this.fail(new LinkError("UND_ERR_SOCKET", `the other side gave the request up (${event.reason})`));
      return true;
    }
    this.#deadlineMs = nowMs + (this.#bodyMs || Infinity);
    if (this.#isPaused) this.#held.push(event);
    else this.#hand(event);
    return this.#isOver;
  }

  #hand(event: LinkEvent): void {
    const handler = this.#handler;
    if (event.kind === "response") {
      const { status, fields } = event.head;
      this.#hasHead = status >= 200;
      this.rawHeaders = fields as string[];
      handler.onResponseStart?.(this, status, objectOf(fields), "");
      if (event.isEnd) this.#whole();
    } else if (event.kind === "data") {
      const { bytes } = event;
      this.#bytes += bytes.byteLength;
      const { session } = this.#connection as LinkConnection;
      session.consume(this.#id, bytes.byteLength, systemClock.monotonic());
      if (bytes.byteLength > 0) handler.onResponseData?.(this, bytes as Buffer);
      if (event.isEnd) this.#whole();
    } else if (event.kind === "trailers") {
      this.rawTrailers = event.fields as string[];
      this.#whole();
    }
  }

  #whole(): void {
    if (this.#isOver) return;
    if (this.#isPaused) {
      // Its reader paused at the last piece: the end waits with it.
      this.#held.push({ kind: "data", id: this.#id, bytes: NOTHING, isEnd: true });
      return;
    }
    this.#isOver = true;
    this.#handler.onResponseEnd?.(this, objectOf(this.rawTrailers));
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    const held = this.#held;
    this.#held = [];
    for (const event of held) {
      if (this.#isPaused) this.#held.push(event);
      else if (!this.#isOver) this.#hand(event);
    }
    this.#deadlineMs = systemClock.monotonic() + (this.#bodyMs || Infinity);
    this.#connection?.wake();
  }

  abort(reason: Error): void {
    if (this.#isOver) return;
    this.#reason = reason;
    this.#connection?.session.cancel(this.#id, "given-up");
    this.#connection?.wake();
    this.fail(reason);
  }

  /** Ends it: the handler is told why. */
  fail(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#held = [];
    this.#dropBody();
    this.#handler.onResponseError?.(this, error);
  }

  /** Ends it when it has waited for too long. A pause of its own reader does not count. */
  sweep(nowMs: MonotonicMs): void {
    if (this.#isOver || this.#isPaused || nowMs < this.#deadlineMs) return;
    this.abort(
      this.#hasHead
        ? new LinkError("UND_ERR_BODY_TIMEOUT", "the content paused for too long")
        : new LinkError("UND_ERR_HEADERS_TIMEOUT", "no answer in time"),
    );
  }

  #dropBody(): void {
    if (!(this.#body instanceof Readable) || this.#body.destroyed) return;
    this.#body.on("error", () => {});
    this.#body.destroy();
  }
}

const NOTHING = Buffer.alloc(0);

function bodyOf(body: Dispatcher.DispatchOptions["body"]): Readable | Uint8Array | undefined {
  if (body === undefined || body === null) return undefined;
  if (typeof body === "string") return Buffer.from(body);
  if (body instanceof Uint8Array || body instanceof Readable) return body;
  throw new LinkError("UND_ERR_NOT_SUPPORTED", "a link sends bytes, text and streams");
}

/** undici takes [name, value, ...], pairs, or an object; a link has the host apart. */
function headOf(options: LinkDispatchOptions, body: Readable | Uint8Array | undefined): LinkRequestHead {
  let authority = "";
  let hasLength = false;
  const fields: string[] = [];
  const add = (name: string, value: string): void => {
    if (name.length === 4 && name.toLowerCase() === "host") authority = value;
    else {
      if (name.length === 14 && name.toLowerCase() === "content-length") hasLength = true;
      fields.push(name, value);
    }
  };
  const { headers } = options;
  if (Array.isArray(headers)) {
    for (let index = 0; index + 1 < headers.length; index += 2)
      add(headers[index] as string, headers[index + 1] as string);
  } else if (headers !== undefined && headers !== null) {
    const entries =
      Symbol.iterator in headers ? (headers as Iterable<[string, string]>) : Object.entries(headers);
    for (const [name, value] of entries)
      for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined) add(name, String(one));
  }
  if (body instanceof Uint8Array && !hasLength) fields.push("content-length", String(body.byteLength));
  if (authority === "" && options.origin !== undefined) authority = new URL(String(options.origin)).host;
  return {
    method: options.method,
    authority,
    path: options.path,
    urgency: options.urgency ?? "normal",
    fields,
  };
}

/** As undici's handlers take fields: repeated ones as lists. */
function objectOf(fields: readonly string[]): Record<string, string | string[]> {
  const found: Record<string, string | string[]> = {};
  for (let index = 0; index < fields.length; index += 2) {
    const name = fields[index] as string;
    const value = fields[index + 1] as string;
    const known = found[name];
    if (known === undefined) found[name] = value;
    else if (Array.isArray(known)) known.push(value);
    else found[name] = [known, value];
  }
  return found;
}
