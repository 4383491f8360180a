/** One request over a link as undici's handlers know it: what comes is handed on, held while the handler asks for a pause. */
import { type Duplex, Readable } from "node:stream";
import type { Dispatcher } from "undici";
import type { MonotonicMs } from "#kit";
import { systemClock } from "#kit/io";
import type { LinkEvent, LinkRequestHead, StreamReason, Urgency } from "../../core/link/words.ts";
import { isWithoutContent } from "../../core/link/stream.ts";
import { isSafeMethod } from "../exchange.ts";
import type { LinkConnection } from "./connection.ts";

type Controller = Dispatcher.DispatchController;
export type LinkDispatchOptions = Dispatcher.DispatchOptions & { readonly urgency?: Urgency };

/** Content of a request that waits before its source is held up, bytes. */
const QUEUED_BYTES_MAX = 262_144;
/** Of an answer that is longer the rest comes by TLS where it can, bytes. */
const UDP_BYTES_MAX = 262_144;
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

/** Of an answer that comes by both carriers, more than this is not worth a comparison, bytes. */
const RACED_BYTES_MAX = 131_072;

/** The session that an exchange goes over, as its exchange sees it. */
export interface LinkCarrier {
  readonly socket: Duplex;
  readonly connection: LinkConnection;
  readonly isUdp: boolean;
  /** Its user has given it up. */
  handleGivenUp(id: number): void;
  /** Whether its answer was late for its path. */
  handleTiming(isLate: boolean): void;
}

/** Bounds of one exchange, ms; 0: none. */
export interface LinkTimes {
  readonly headersMs: number;
  readonly bodyMs: number;
}

interface Leg {
  readonly carrier: LinkCarrier;
  readonly id: number;
}

export class LinkExchange implements Controller {
  readonly #handler: Dispatcher.DispatchHandler;
  readonly head: LinkRequestHead;
  readonly #body: Readable | Uint8Array | undefined;
  readonly #times: LinkTimes;
  /** Whether its handler reads fields by name, and not from {@link rawHeaders}. */
  readonly #wantsObjects: boolean;
  /** Whose answer is handed on, before there is any the first that was asked over; and another that is asked as well. */
  #leg: Leg | undefined;
  #other: Leg | undefined;
  /** On which the rest of the answer is to come, and what has come of it while there is more to come before. */
  #rest: Leg | undefined;
  #restEvents: LinkEvent[] = [];
  #hasAskedForRest = false;
  /** Of the content; undefined: not stated, or there is none. */
  #statedBytes: number | undefined;
  #deadlineMs = Infinity;
  #hasAnswer = false;
  #hasHead = false;
  #isOver = false;
  #isPaused = false;
  #reason: Error | null = null;
  /** What came during a pause. */
  #held: LinkEvent[] | undefined;
  #bytes = 0;
  readonly #isLarge: boolean;
  /** It was taken from a session that did not answer. */
  isRepeated = false;
  /** Its answer has made its carrier doubtful. */
  isDoubted = false;
  /** When it began, and when the first of its answer came, monotonic ms. */
  beganAtMs = 0;
  answeredAtMs = 0;
  /** Takes it when the other end had not begun with it; undefined: its pool begins it anew. */
  onRefused: (() => void) | undefined;
  /** Told which carrier's answer is handed on, before any of it is. */
  onAnswered: ((isUdp: boolean) => void) | undefined;
  /** Told over which of two carriers the answer was whole first. */
  onRaced: ((isUdp: boolean) => void) | undefined;
  rawHeaders: string[] = NO_LIST;
  rawTrailers: string[] = NO_LIST;

  constructor(
    head: LinkRequestHead,
    body: Readable | Uint8Array | undefined,
    handler: Dispatcher.DispatchHandler,
    times: LinkTimes,
    wantsObjects: boolean,
    expectsLarge = false,
  ) {
    this.head = head;
    this.#body = body;
    this.#handler = handler;
    this.#times = times;
    this.#wantsObjects = wantsObjects;
    this.#isLarge = expectsLarge;
  }

  /** A request as undici states it. Throws LinkError for content that is neither bytes, text nor a stream. */
  static of(options: LinkDispatchOptions, handler: Dispatcher.DispatchHandler): LinkExchange {
    const body = bodyOf(options.body);
    const times = { headersMs: options.headersTimeout ?? 0, bodyMs: options.bodyTimeout ?? 0 };
    return new LinkExchange(headOf(options, body), body, handler, times, true);
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
  /** The connection that its answer comes over; undefined: by UDP, or it has none. */
  get socket(): Duplex | undefined {
    const carrier = this.#leg?.carrier;
    return carrier?.isUdp === false ? carrier.socket : undefined;
  }
  /** Whether it may be begun anew on another session: nothing of its content is gone. */
  get mayMove(): boolean {
    return !(this.#body instanceof Readable);
  }
  /** Whether it may be asked for once more: nothing came, asking changes nothing, and it is not asked for twice already. */
  get mayRepeat(): boolean {
    return !this.isRepeated && !this.#hasHead && this.#other === undefined && this.isSafe;
  }
  /** Asking for it again changes nothing. */
  get isSafe(): boolean {
    return this.#body === undefined && isSafeMethod(this.head.method);
  }
  get hasAnswer(): boolean {
    return this.#hasAnswer;
  }
  /** Whether it may be asked for over another carrier beside the one that it goes over. */
  get mayRace(): boolean {
    return !this.#isOver && !this.#hasAnswer && this.#leg !== undefined && this.#other === undefined;
  }
  /** What it asks for is so short that the carrier decides how long it takes, as far as is known. */
  get isSmall(): boolean {
    return !this.#isLarge && (this.#statedBytes ?? this.#bytes) <= RACED_BYTES_MAX;
  }
  /** It comes by UDP, and what is left of it would better come by TLS. */
  get wantsTcp(): boolean {
    return (
      this.#hasAnswer &&
      !this.#hasAskedForRest &&
      this.#other === undefined &&
      (this.#statedBytes ?? this.#bytes) > UDP_BYTES_MAX
    );
  }
  /** It is asked for over two carriers. */
  get isRaced(): boolean {
    return this.#other !== undefined;
  }
  /** Its answer is a large one, as it was asked for or as it comes. */
  get isLarge(): boolean {
    return this.#isLarge || this.#hasAskedForRest || this.#bytes >= LARGE_BYTES_MIN;
  }

  /** Begins on a connection whose session has room. The stream, or why it cannot be sent: then nothing was done. */
  begin(carrier: LinkCarrier, nowMs: MonotonicMs): number | StreamReason {
    const { connection } = carrier;
    const { session } = connection;
    const id = session.request(this.head, this.#body === undefined, nowMs);
    if (typeof id === "string") return id;
    this.#leg = { carrier, id };
    this.beganAtMs = nowMs;
    this.#deadlineMs = nowMs + (this.#times.headersMs || Infinity);
    connection.wake();
    this.#handler.onRequestStart?.(this, null);
    if (this.#isOver) return id;
    if (this.#body instanceof Uint8Array) {
      session.send(id, this.#body);
      session.end(id);
    } else if (this.#body !== undefined) this.#sendFrom(this.#body);
    return id;
  }

  /** Asks for the same over another session; whose answer begins first has it handed on. As {@link begin}. */
  beginAlso(carrier: LinkCarrier, nowMs: MonotonicMs): number | StreamReason {
    const { connection } = carrier;
    const id = connection.session.request(this.head, true, nowMs);
    if (typeof id === "string") return id;
    this.#other = { carrier, id };
    connection.wake();
    return id;
  }

  /** Has the rest of the answer come over another session. As {@link begin}. */
  beginRest(
    carrier: LinkCarrier,
    channel: number,
    stream: number,
    nowMs: MonotonicMs,
  ): number | StreamReason {
    const { connection } = carrier;
    const id = connection.session.move(channel, stream, nowMs);
    if (typeof id === "string") return id;
    this.#hasAskedForRest = true;
    this.#rest = { carrier, id };
    connection.wake();
    return id;
  }

  #sendFrom(body: Readable): void {
    const { carrier, id } = this.#leg as Leg;
    const { connection } = carrier;
    const { session } = connection;
    body.on("data", (chunk: Buffer | string) => {
      if (this.#isOver) return;
      session.send(id, typeof chunk === "string" ? Buffer.from(chunk) : chunk);
      if (session.queuedBytes(id) > QUEUED_BYTES_MAX) body.pause();
      connection.wake();
    });
    body.once("end", () => {
      session.end(id);
      connection.wake();
    });
    body.once("error", (error) => this.abort(error));
    body.once("close", () => {
      if (!body.readableEnded) this.abort(new Error("its content was given up"));
    });
  }

  /** An event of its stream on a session. True: nothing more comes there. */
  handleEvent(event: LinkEvent, from: LinkCarrier, nowMs: MonotonicMs): boolean {
    if (this.#isOver) return true;
    if (this.#rest !== undefined) {
      if (from === this.#rest.carrier) return this.#handleRest(event);
      if (event.kind === "cancelled" && event.reason === "moved") {
        this.#goOn(this.#rest, nowMs);
        return true;
      }
    }
    if (this.#other !== undefined) {
      if (event.kind === "cancelled") {
        if (this.handleLegGone(from)) return true;
      } else if (event.kind === "response" && !this.#hasAnswer) {
        if (from === this.#other.carrier) [this.#leg, this.#other] = [this.#other, this.#leg];
      } else if (from === this.#other.carrier) return this.#handleSecond(event, this.#other, nowMs);
    }
    if (event.kind === "response" && !this.#hasAnswer) {
      this.#hasAnswer = true;
      this.answeredAtMs = nowMs;
      this.onAnswered?.(from.isUdp);
    }
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
    this.#deadlineMs = nowMs + (this.#times.bodyMs || Infinity);
    if (this.#isPaused) this.#hold(event);
    else this.#hand(event);
    return this.#isOver;
  }

  /** What comes on the stream of the rest while there is more to come before it. */
  #handleRest(event: LinkEvent): boolean {
    if (event.kind === "cancelled") {
      // There was nothing left to move.
      this.#rest = undefined;
      this.#restEvents = [];
      return true;
    }
    this.#restEvents.push(event);
    return event.kind === "trailers" || ("isEnd" in event && event.isEnd);
  }

  /** All that came before is here. */
  #goOn(rest: Leg, nowMs: MonotonicMs): void {
    this.#leg = rest;
    this.#rest = undefined;
    const events = this.#restEvents;
    this.#restEvents = [];
    for (const event of events) this.handleEvent(event, rest.carrier, nowMs);
  }

  /** What comes of an answer that is not handed on tells how fast its carrier is. */
  #handleSecond(event: LinkEvent, { carrier, id }: Leg, nowMs: MonotonicMs): boolean {
    if (event.kind === "data") carrier.connection.session.consume(id, event.bytes.byteLength, nowMs);
    const isWhole = event.kind === "trailers" || ("isEnd" in event && event.isEnd);
    if (isWhole) {
      this.#other = undefined;
      this.onRaced?.(carrier.isUdp);
    }
    return isWhole;
  }

  /** A session is gone, or has given its stream up. True: the exchange goes on over the other one. */
  handleLegGone(from: LinkCarrier): boolean {
    const other = this.#other;
    if (from === this.#rest?.carrier) {
      this.#rest = undefined;
      return true;
    }
    if (other === undefined) return false;
    const isSecond = from === other.carrier;
    // Its beginning was handed on, and nobody else goes on from there.
    if (!isSecond && this.#hasAnswer) return false;
    if (!isSecond) this.#leg = other;
    this.#other = undefined;
    return true;
  }

  /** It is going to be begun anew, by this object or another one. */
  handleMoved(): void {
    this.#leg = undefined;
  }

  /** Ends what is asked beside the answer that is handed on. */
  #dropOther(): void {
    if (this.#other !== undefined) drop(this.#other);
    this.#other = undefined;
  }

  #dropRest(): void {
    if (this.#rest !== undefined) drop(this.#rest);
    this.#rest = undefined;
  }

  #hand(event: LinkEvent): void {
    const handler = this.#handler;
    if (event.kind === "response") {
      const { status, fields } = event.head;
      this.#hasHead = status >= 200;
      if (this.head.method !== "HEAD" && !isWithoutContent(status) && this.#hasHead)
        this.#statedBytes = lengthOf(fields);
      this.rawHeaders = fields as string[];
      handler.onResponseStart?.(this, status, this.#wantsObjects ? objectOf(fields) : NO_FIELDS, "");
      if (event.isEnd) this.#whole();
    } else if (event.kind === "data") {
      const { bytes } = event;
      this.#bytes += bytes.byteLength;
      if (this.#bytes > RACED_BYTES_MAX) this.#dropOther();
      const { carrier, id } = this.#leg as Leg;
      carrier.connection.session.consume(id, bytes.byteLength, systemClock.monotonic());
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
      this.#hold({ kind: "data", id: (this.#leg as Leg).id, bytes: NOTHING, isEnd: true });
      return;
    }
    // Each session sees to the length of what comes over it alone.
    if (this.#hasAskedForRest && this.#bytes !== (this.#statedBytes ?? this.#bytes)) {
      this.fail(new LinkError("UND_ERR_RES_CONTENT_LENGTH_MISMATCH", "the content is not as long as stated"));
      return;
    }
    this.#isOver = true;
    if (this.#other !== undefined) this.onRaced?.((this.#leg as Leg).carrier.isUdp);
    this.#dropOther();
    this.#dropRest();
    this.#handler.onResponseEnd?.(this, this.#wantsObjects ? objectOf(this.rawTrailers) : NO_FIELDS);
  }

  #hold(event: LinkEvent): void {
    (this.#held ??= []).push(event);
  }

  pause(): void {
    this.#isPaused = true;
    // Held up by its reader, it is no measure of its carrier.
    if (this.#hasAnswer) this.#dropOther();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const event of held) {
      if (this.#isPaused) this.#hold(event);
      else if (!this.#isOver) this.#hand(event);
    }
    this.#deadlineMs = systemClock.monotonic() + (this.#times.bodyMs || Infinity);
    this.#leg?.carrier.connection.wake();
  }

  abort(reason: Error): void {
    if (this.#isOver) return;
    this.#reason = reason;
    const leg = this.#leg;
    leg?.carrier.connection.session.cancel(leg.id, "given-up");
    leg?.carrier.connection.wake();
    this.fail(reason);
    leg?.carrier.handleGivenUp(leg.id);
  }

  /** Its user says whether its answer was late for its path. */
  handleTiming(isLate: boolean): void {
    this.#leg?.carrier.handleTiming(isLate);
  }

  /** Ends it: the handler is told why. */
  fail(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#held = undefined;
    this.#dropOther();
    this.#dropRest();
    // What has not begun may still be asked for in another way.
    if (this.#leg !== undefined) this.#dropBody();
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

/** Gives up what is asked over a session. */
function drop({ carrier, id }: Leg): void {
  const { connection } = carrier;
  connection.session.cancel(id, "given-up");
  connection.wake();
  carrier.handleGivenUp(id);
}

/** As its session has checked it. */
function lengthOf(fields: readonly string[]): number | undefined {
  for (let index = 0; index < fields.length; index += 2)
    if (fields[index] === "content-length") return Number(fields[index + 1]);
  return undefined;
}

const NOTHING = Buffer.alloc(0);
const NO_FIELDS = {};
const NO_LIST: string[] = [];

function bodyOf(body: Dispatcher.DispatchOptions["body"]): Readable | Uint8Array | undefined {
  if (body === undefined || body === null) return undefined;
  if (typeof body === "string") return Buffer.from(body);
  if (body instanceof Uint8Array || body instanceof Readable) return body;
  throw new LinkError("UND_ERR_NOT_SUPPORTED", "a link sends bytes, text and streams");
}

/** undici takes [name, value, ...], pairs, or an object; a link has the host apart. */
function headOf(options: LinkDispatchOptions, body: Readable | Uint8Array | undefined): LinkRequestHead {
  const { headers, method, path, urgency = "normal" } = options;
  const given = Array.isArray(headers) ? (headers as readonly string[]) : flatOf(headers);
  let authority = "";
  let hasLength = false;
  const fields: string[] = [];
  for (let index = 0; index + 1 < given.length; index += 2) {
    const name = given[index] as string;
    const value = given[index + 1] as string;
    if (name.length === 4 && name.toLowerCase() === "host") authority = value;
    else {
      if (name.length === 14 && name.toLowerCase() === "content-length") hasLength = true;
      fields.push(name, value);
    }
  }
  if (body instanceof Uint8Array && !hasLength) fields.push("content-length", String(body.byteLength));
  if (authority === "" && options.origin !== undefined) authority = new URL(String(options.origin)).host;
  return { method, authority, path, urgency, fields };
}

function flatOf(headers: LinkDispatchOptions["headers"]): string[] {
  if (headers === undefined || headers === null) return [];
  const entries =
    Symbol.iterator in headers ? (headers as Iterable<[string, string]>) : Object.entries(headers);
  const flat: string[] = [];
  for (const [name, value] of entries)
    for (const one of Array.isArray(value) ? value : [value])
      if (one !== undefined) flat.push(name, String(one));
  return flat;
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
