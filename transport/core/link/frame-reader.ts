/**
 * Cuts what comes into frames. Content is handed on as it comes, in pieces; of anything else one frame is kept until it is whole, 64 KiB
 * at most. A frame whose type, flags or length cannot be is refused by its first bytes.
 */
import { NUMBER_BYTES_MAX, numberBytesOf, readNumber } from "./bytes.ts";
import { DATA_BYTES_MAX, END_FLAG, FRAME, HEAD_BYTES_MAX, type SessionReason } from "./words.ts";

/** Who reads frames; `bytes[from, to)` is valid during the call. A reason ends the reading. */
export interface FrameSink {
  frame(
    type: number,
    id: number,
    isEnd: boolean,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): SessionReason | undefined;
  /** Content begins, of so many bytes. */
  content(id: number, bytes: number): SessionReason | undefined;
  /** A piece of it. `isEnd`: the last one, and the stream's half ends with it. */
  piece(id: number, piece: Uint8Array, isEnd: boolean): void;
}

/** Longest and shortest payload of each type; whether it belongs to a stream, and may carry the end. */
interface Rule {
  readonly min: number;
  readonly max: number;
  readonly isOfStream: boolean;
  readonly mayEnd: boolean;
}
const PING_BYTES = 4;
/** Settings that a HELLO may hold, each of two numbers; and its version. */
const HELLO_BYTES_MAX = 1 + 32 * 2 * NUMBER_BYTES_MAX;

const RULES: Readonly<Record<number, Rule>> = {
  [FRAME.hello]: { min: 1, max: HELLO_BYTES_MAX, isOfStream: false, mayEnd: false },
  [FRAME.head]: { min: 1, max: HEAD_BYTES_MAX, isOfStream: true, mayEnd: true },
  [FRAME.data]: { min: 0, max: DATA_BYTES_MAX, isOfStream: true, mayEnd: true },
  [FRAME.trailers]: { min: 1, max: HEAD_BYTES_MAX, isOfStream: true, mayEnd: false },
  [FRAME.credit]: { min: 1, max: NUMBER_BYTES_MAX, isOfStream: true, mayEnd: false },
  [FRAME.cancel]: { min: 1, max: 1, isOfStream: true, mayEnd: false },
  [FRAME.ping]: { min: PING_BYTES, max: PING_BYTES, isOfStream: false, mayEnd: false },
  [FRAME.pong]: { min: PING_BYTES, max: PING_BYTES, isOfStream: false, mayEnd: false },
  [FRAME.goaway]: { min: 2, max: 1 + NUMBER_BYTES_MAX, isOfStream: false, mayEnd: false },
  [FRAME.move]: { min: 2, max: 1 + NUMBER_BYTES_MAX, isOfStream: true, mayEnd: false },
  [FRAME.udp]: { min: 1, max: NUMBER_BYTES_MAX, isOfStream: false, mayEnd: false },
};

/** Type, stream, length. */
export const FRAME_HEAD_BYTES_MAX = 1 + 2 * NUMBER_BYTES_MAX;

export class FrameReader {
  readonly #sink: FrameSink;
  /** The beginning of a frame that is not whole, and how much of it is there; the head of a frame always fits. */
  #held = new Uint8Array(FRAME_HEAD_BYTES_MAX);
  #heldBytes = 0;
  /** Of content that is being handed on. */
  #contentLeft = 0;
  #contentId = 0;
  #contentEnds = false;
  /** Of the frame whose head was read last. */
  #type = 0;
  #id = 0;
  #isEnd = false;
  #payloadBytes = 0;
  #headBytes = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Bytes of a frame that is not whole. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  read(bytes: Uint8Array): SessionReason | undefined {
    let at = 0;
    const end = bytes.byteLength;
    while (at < end) {
      if (this.#contentLeft > 0) {
        at = this.#handOn(bytes, at);
        continue;
      }
      if (this.#heldBytes > 0) {
        const next = this.#complete(bytes, at);
        if (typeof next === "string") return next;
        at = next;
        continue;
      }
      const fault = this.#head(bytes, at, end);
      if (fault !== undefined) return fault;
      const from = at + this.#headBytes;
      const isHere = this.#headBytes > 0 && (this.#type === FRAME.data || from + this.#payloadBytes <= end);
      if (!isHere) {
        this.#hold(bytes, at, end);
        return undefined;
      }
      at = from;
      const refused = this.#type === FRAME.data ? this.#beginContent() : this.#whole(bytes, from);
      if (refused !== undefined) return refused;
      if (this.#type !== FRAME.data) at += this.#payloadBytes;
    }
    return undefined;
  }

  /** Goes on with the frame whose beginning is held. Where it went on to, or a fault. */
  #complete(bytes: Uint8Array, at: number): number | SessionReason {
    let next = at;
    const end = bytes.byteLength;
    // First its head, byte by byte: there are at most nine.
    while (this.#headBytes === 0 && next < end) {
      this.#held[this.#heldBytes++] = bytes[next++] as number;
      const fault = this.#head(this.#held, 0, this.#heldBytes);
      if (fault !== undefined) return fault;
    }
    if (this.#headBytes === 0) return next;
    if (this.#type === FRAME.data) {
      this.#heldBytes = 0;
      return this.#beginContent() ?? next;
    }
    const wholeBytes = this.#headBytes + this.#payloadBytes;
    this.#makeRoom(wholeBytes);
    const take = Math.min(wholeBytes - this.#heldBytes, end - next);
    this.#held.set(bytes.subarray(next, next + take), this.#heldBytes);
    this.#heldBytes += take;
    next += take;
    if (this.#heldBytes < wholeBytes) return next;
    const whole = this.#held;
    this.#heldBytes = 0;
    // A long one is rare: its memory is not kept for the next.
    if (whole.byteLength > FRAME_HEAD_BYTES_MAX) this.#held = new Uint8Array(FRAME_HEAD_BYTES_MAX);
    return this.#whole(whole, this.#headBytes) ?? next;
  }

  /** Reads the head of a frame; `headBytes` is 0 when it is not there whole. */
  #head(bytes: Uint8Array, at: number, end: number): SessionReason | undefined {
    this.#headBytes = 0;
    const first = bytes[at] as number;
    const rule = RULES[first & 0x0f];
    if (rule === undefined) return "frame-type";
    this.#isEnd = (first & END_FLAG) !== 0;
    if ((first & 0xe0) !== 0 || (this.#isEnd && !rule.mayEnd)) return "frame-flags";
    const idAt = at + 1;
    if (idAt >= end) return undefined;
    const idBytes = numberBytesOf(bytes[idAt] as number);
    if (idBytes === 0) return "number";
    const lengthAt = idAt + idBytes;
    if (lengthAt >= end) return undefined;
    const id = readNumber(bytes, idAt);
    const lengthBytes = numberBytesOf(bytes[lengthAt] as number);
    if (id < 0 || lengthBytes === 0) return "number";
    if (id > 0 !== rule.isOfStream) return "stream-id";
    if (lengthAt + lengthBytes > end) return undefined;
    const length = readNumber(bytes, lengthAt);
    if (length < 0) return "number";
    // Content of no bytes says something only by its end.
    if (length > rule.max || length < rule.min || (length === 0 && !this.#isEnd)) return "frame-length";
    this.#type = first & 0x0f;
    this.#id = id;
    this.#payloadBytes = length;
    this.#headBytes = lengthAt + lengthBytes - at;
    return undefined;
  }

  #hold(bytes: Uint8Array, at: number, end: number): void {
    this.#makeRoom(this.#headBytes === 0 ? 0 : this.#headBytes + this.#payloadBytes);
    this.#held.set(bytes.subarray(at, end));
    this.#heldBytes = end - at;
  }

  #makeRoom(bytes: number): void {
    if (this.#held.byteLength >= bytes) return;
    const grown = new Uint8Array(bytes);
    grown.set(this.#held.subarray(0, this.#heldBytes));
    this.#held = grown;
  }

  #whole(bytes: Uint8Array, from: number): SessionReason | undefined {
    return this.#sink.frame(this.#type, this.#id, this.#isEnd, bytes, from, from + this.#payloadBytes);
  }

  #beginContent(): SessionReason | undefined {
    const refused = this.#sink.content(this.#id, this.#payloadBytes);
    if (refused !== undefined) return refused;
    if (this.#payloadBytes === 0) this.#sink.piece(this.#id, NOTHING, true);
    this.#contentLeft = this.#payloadBytes;
    this.#contentId = this.#id;
    this.#contentEnds = this.#isEnd;
    return undefined;
  }

  #handOn(bytes: Uint8Array, at: number): number {
    const to = Math.min(bytes.byteLength, at + this.#contentLeft);
    this.#contentLeft -= to - at;
    const piece = at === 0 && to === bytes.byteLength ? bytes : bytes.subarray(at, to);
    this.#sink.piece(this.#contentId, piece, this.#contentEnds && this.#contentLeft === 0);
    return to;
  }
}

const NOTHING = new Uint8Array(0);
