/**
 * The server's side of one HTTP/2 connection (RFC 9113): bytes in, requests and their content out; answers in, frames out. It knows
 * no socket, no clock and no HTTP semantics. All that a client may make it keep is bounded: one frame that has not come whole, one header
 * block, the windows of its streams. What costs without asking for anything is told to the handler, which has budgets
 * (http2-budget.ts). Priorities are read over (section 5.3.2), nothing is pushed.
 */
import {
  ERROR,
  FLAG,
  FRAME,
  FRAME_BYTES_MAX,
  FRAME_HEAD_BYTES,
  FrameWriter,
  PREFACE,
  readUint32,
  SETTING,
  WINDOW_INITIAL,
  WINDOW_MAX,
} from "./frames.ts";
import { EMPTY_TABLE, HpackDecoder } from "./hpack.ts";
import { contentLengthOf, isRequestForm, isTrailerForm } from "./request-form.ts";

export interface Http2Limits {
  /** SETTINGS_MAX_CONCURRENT_STREAMS. */
  readonly streamsMax: number;
  /** Content that may come ahead of its being read: bytes a stream, and of all streams together. */
  readonly windowBytes: number;
  /** SETTINGS_MAX_HEADER_LIST_SIZE, which is advice: lists of four times this are read, so that they can be answered. */
  readonly headerBytesMax: number;
  readonly headerFieldsMax: number;
}

/** Why a connection ended: what its client did. */
export type ConnectionFault = "protocol" | "header-flood" | "output-flood";

/** Who does something with requests. Calls come out of {@link Http2Connection.receive}. */
export interface Http2Handler {
  /**
   * The answer to a request that has no content, if there is one at hand with a content of at most `bytesMax`; then the request
   * is answered, and nothing more will be heard of it.
   */
  answerAtOnce(raw: readonly string[], bytesMax: number): AtOnce | undefined;
  /** A request begins. `hasContent`: {@link content} and {@link contentEnd} follow. */
  request(id: number, raw: readonly string[], hasContent: boolean): void;
  /** `bytes` are valid during the call. They count against the windows until {@link Http2Connection.credit}. */
  content(id: number, bytes: Uint8Array): void;
  contentEnd(id: number): void;
  /** A stream that was told of is over before its end: its client gave it up, or broke a rule. */
  reset(id: number, code: number): void;
  /** Of what was queued for a stream, its end included, nothing is left. Also called by {@link Http2Connection.pump}. */
  drained(id: number): void;
  /** Something that may be a flood. `reset`: a stream was reset, whichever side had the reason. */
  counted(what: "reset" | "ping" | "settings" | "request"): void;
}

export interface AtOnce {
  /** As {@link hpackEncode} makes it. */
  readonly block: Uint8Array;
  readonly content: Uint8Array | undefined;
}

interface Stream {
  readonly id: number;
  sendWindow: number;
  receiveWindow: number;
  /** Content that was told of and not credited. */
  uncredited: number;
  /** Content that has to come still, by the request's own word; undefined: it does not say. */
  contentLeft: number | undefined;
  /** More may come from the client. */
  isRemoteOpen: boolean;
  /** What waits to be sent, in order; the first from `queueAt` on. */
  readonly queue: Uint8Array[];
  queueAt: number;
  queuedBytes: number;
  isEndQueued: boolean;
}

/** Blocks of four times the limit of a list, in so many frames (CVE-2024-27316). */
const BLOCK_FACTOR = 4;
const CONTINUATIONS_MAX = 16;
/**
 * Frames that wait to be sent before no more content is put to them (with one frame more they still leave in one write of 64 KiB), and
 * before the connection is given up.
 */
const OUTPUT_BYTES_FULL = 44 * 1_024;
const OUTPUT_BYTES_MAX = 2 * 2 ** 20;
const NOTHING = new Uint8Array(0);

export class Http2Connection {
  readonly output = new FrameWriter();
  readonly #limits: Http2Limits;
  readonly #handler: Http2Handler;
  readonly #decoder: HpackDecoder;
  readonly #streams = new Map<number, Stream>();
  /** Of them those for which something waits. */
  readonly #sending = new Set<Stream>();
  /** The beginning of a frame that has not come whole. */
  #rest: Uint8Array = NOTHING;
  #hasPreface = false;
  #hasSettings = false;
  #lastId = 0;
  /** Streams above are not taken any more: GOAWAY said so. */
  #finalId = WINDOW_MAX;
  #fault: ConnectionFault | undefined;
  #sendWindow = WINDOW_INITIAL;
  #peerWindow = WINDOW_INITIAL;
  #receiveWindow: number;
  /** Credit that was not announced yet. */
  #credit = 0;
  /** A header block that has not come whole. */
  #block: { id: number; isEnd: boolean; pieces: Uint8Array[]; bytes: number } | undefined;
  /** A header block has to begin by saying that our table is empty. */
  #owesTableSize = true;
  /** The last list that was found to be a request's. */
  #wellFormed: readonly string[] | undefined;

  constructor(limits: Http2Limits, handler: Http2Handler) {
    this.#limits = limits;
    this.#handler = handler;
    this.#decoder = new HpackDecoder({
      fieldsMax: limits.headerFieldsMax,
      listBytesMax: BLOCK_FACTOR * limits.headerBytesMax,
    });
    this.#receiveWindow = Math.max(WINDOW_INITIAL, limits.windowBytes);
    this.output.settings([
      [SETTING.maxConcurrentStreams, limits.streamsMax],
      [SETTING.initialWindowSize, limits.windowBytes],
      [SETTING.maxHeaderListSize, limits.headerBytesMax],
    ]);
    if (this.#receiveWindow > WINDOW_INITIAL)
      this.output.numberFrame(FRAME.windowUpdate, 0, this.#receiveWindow - WINDOW_INITIAL);
  }

  /** Streams that are open. */
  get streams(): number {
    return this.#streams.size;
  }

  /** Whether more may be put to what waits to be sent. */
  get hasRoom(): boolean {
    return this.output.length < OUTPUT_BYTES_FULL;
  }

  /** Reads what came. A fault: GOAWAY is written, and the connection is to be closed once it has left. */
  receive(bytes: Uint8Array): ConnectionFault | undefined {
    if (this.#fault !== undefined) return this.#fault;
    let all = bytes;
    if (this.#rest.byteLength > 0) {
      all = new Uint8Array(this.#rest.byteLength + bytes.byteLength);
      all.set(this.#rest);
      all.set(bytes, this.#rest.byteLength);
      this.#rest = NOTHING;
    }
    let at = 0;
    if (!this.#hasPreface) {
      const known = Math.min(all.byteLength, PREFACE.byteLength);
      for (let index = 0; index < known; index++)
        if (all[index] !== PREFACE[index]) return this.#fail(ERROR.protocol);
      if (known < PREFACE.byteLength) {
        this.#rest = copyOf(all);
        return undefined;
      }
      this.#hasPreface = true;
      at = PREFACE.byteLength;
    }
    while (at + FRAME_HEAD_BYTES <= all.byteLength) {
      const payloadBytes =
        ((all[at] as number) << 16) | ((all[at + 1] as number) << 8) | (all[at + 2] as number);
      // Section 4.2. Whatever the frame is: what follows cannot be found otherwise.
      if (payloadBytes > FRAME_BYTES_MAX) return this.#fail(ERROR.frameSize);
      const from = at + FRAME_HEAD_BYTES;
      const to = from + payloadBytes;
      if (to > all.byteLength) break;
      const id = readUint32(all, at + 5) & WINDOW_MAX;
      this.#frame(all[at + 3] as number, all[at + 4] as number, id, all, from, to);
      if (this.#fault !== undefined) return this.#fault;
      if (this.output.length > OUTPUT_BYTES_MAX) return this.#fail(ERROR.enhanceYourCalm, "output-flood");
      at = to;
    }
    if (at < all.byteLength) this.#rest = copyOf(all.subarray(at));
    return undefined;
  }

  /** Writes the head of an answer, or an interim one. Nothing is written for a stream that is gone. */
  respond(id: number, block: Uint8Array, isEnd: boolean): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.isEndQueued) return;
    this.#headers(id, block, isEnd);
    if (isEnd) this.#localEnd(stream);
  }

  /** Queues content, which must not change any more. */
  send(id: number, content: Uint8Array): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.isEndQueued || content.byteLength === 0) return;
    stream.queue.push(content);
    stream.queuedBytes += content.byteLength;
    this.#sending.add(stream);
  }

  /** The answer ends with what is queued. */
  end(id: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.isEndQueued) return;
    stream.isEndQueued = true;
    this.#sending.add(stream);
  }

  /** Bytes queued for a stream. */
  queuedBytes(id: number): number {
    return this.#streams.get(id)?.queuedBytes ?? 0;
  }

  /** Puts queued content into frames, each stream in turn, as far as windows and room allow. */
  pump(): void {
    for (let hasProgress = true; hasProgress && this.hasRoom; ) {
      hasProgress = false;
      for (const stream of this.#sending) {
        if (!this.hasRoom) return;
        if (this.#sendPiece(stream)) hasProgress = true;
      }
    }
  }

  /** `bytes` of a stream's content were used: the client may send as many more. */
  credit(id: number, bytes: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || bytes <= 0) return;
    const used = Math.min(bytes, stream.uncredited);
    stream.uncredited -= used;
    this.#creditConnection(used);
    if (!stream.isRemoteOpen) return;
    const open = stream.receiveWindow + stream.uncredited;
    const owed = this.#limits.windowBytes - open;
    if (owed < this.#limits.windowBytes / 2) return;
    stream.receiveWindow += owed;
    this.output.numberFrame(FRAME.windowUpdate, id, owed);
  }

  /** Gives a stream up (section 5.4.2). */
  reset(id: number, code: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    this.output.numberFrame(FRAME.rstStream, id, code);
    this.#forget(stream);
  }

  /** Tells the client to begin nothing new here (section 6.8). `isFinal`: and takes nothing new. */
  goaway(code: number, isFinal: boolean): void {
    if (isFinal) this.#finalId = this.#lastId;
    this.output.goaway(isFinal ? this.#lastId : WINDOW_MAX, code);
  }

  #fail(code: number, fault: ConnectionFault = "protocol"): ConnectionFault {
    this.output.goaway(this.#lastId, code);
    this.#fault = fault;
    return fault;
  }

  #frame(type: number, flags: number, id: number, bytes: Uint8Array, from: number, to: number): void {
    // Section 6.10: nothing stands between the pieces of a header block.
    if (this.#block !== undefined && (type !== FRAME.continuation || id !== this.#block.id)) {
      this.#fail(ERROR.protocol);
      return;
    }
    // Section 3.4.
    if (!this.#hasSettings && (type !== FRAME.settings || (flags & FLAG.ack) !== 0)) {
      this.#fail(ERROR.protocol);
      return;
    }
    switch (type) {
      case FRAME.data:
        this.#data(flags, id, bytes, from, to);
        return;
      case FRAME.headers:
        this.#headersFrame(flags, id, bytes, from, to);
        return;
      case FRAME.continuation:
        this.#continuation(flags, bytes, from, to);
        return;
      case FRAME.priority:
        if (id === 0) this.#fail(ERROR.protocol);
        else if (to - from !== 5) this.#streamFault(id, ERROR.frameSize);
        return;
      case FRAME.rstStream:
        this.#rstStream(id, bytes, from, to);
        return;
      case FRAME.settings:
        this.#settings(flags, id, bytes, from, to);
        return;
      case FRAME.pushPromise:
        this.#fail(ERROR.protocol);
        return;
      case FRAME.ping:
        if (id !== 0) this.#fail(ERROR.protocol);
        else if (to - from !== 8) this.#fail(ERROR.frameSize);
        else if ((flags & FLAG.ack) === 0) {
          this.#handler.counted("ping");
          this.output.frame(FRAME.ping, FLAG.ack, 0, bytes.subarray(from, to));
        }
        return;
      case FRAME.goaway:
        if (id !== 0) this.#fail(ERROR.protocol);
        else if (to - from < 8) this.#fail(ERROR.frameSize);
        return;
      case FRAME.windowUpdate:
        this.#windowUpdate(id, bytes, from, to);
        return;
      default:
        // Section 4.1: unknown types are read over.
        return;
    }
  }

  #data(flags: number, id: number, bytes: Uint8Array, from: number, to: number): void {
    if (id === 0 || id > this.#lastId || id % 2 === 0) {
      this.#fail(ERROR.protocol);
      return;
    }
    // Section 6.9.1: padding counts as well.
    const counted = to - from;
    if (counted > this.#receiveWindow) {
      this.#fail(ERROR.flowControl);
      return;
    }
    this.#receiveWindow -= counted;
    const content = unpadded(flags, bytes, from, to);
    if (content === undefined) {
      this.#fail(ERROR.protocol);
      return;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined || !stream.isRemoteOpen) {
      // Ours to forget, or a break of the rules that costs the client alone.
      this.#creditConnection(counted);
      if (stream !== undefined) this.#streamFault(id, ERROR.streamClosed);
      return;
    }
    stream.uncredited += counted;
    if (counted > stream.receiveWindow) {
      this.#streamFault(id, ERROR.flowControl);
      return;
    }
    stream.receiveWindow -= counted;
    const length = content.byteLength;
    if (stream.contentLeft !== undefined) {
      stream.contentLeft -= length;
      // Section 8.1.1.
      if (stream.contentLeft < 0) {
        this.#streamFault(id, ERROR.protocol);
        return;
      }
    }
    if (length > 0) this.#handler.content(id, content);
    if (counted > length) this.credit(id, counted - length);
    if ((flags & FLAG.endStream) !== 0) this.#remoteEnd(id);
  }

  /** The client has said all that belongs to a stream. */
  #remoteEnd(id: number): void {
    // The handler may have given it up meanwhile.
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    if (stream.contentLeft !== undefined && stream.contentLeft > 0) {
      this.#streamFault(id, ERROR.protocol);
      return;
    }
    stream.isRemoteOpen = false;
    this.#handler.contentEnd(id);
    if (stream.isEndQueued && !this.#sending.has(stream)) this.#forget(stream);
  }

  #headersFrame(flags: number, id: number, bytes: Uint8Array, start: number, end: number): void {
    if (id % 2 === 0) {
      this.#fail(ERROR.protocol);
      return;
    }
    const span = unpadded(flags, bytes, start, end);
    const skipped = (flags & FLAG.priority) === 0 ? 0 : 5;
    if (span === undefined || span.byteLength < skipped) {
      this.#fail(span === undefined ? ERROR.protocol : ERROR.frameSize);
      return;
    }
    const block = skipped === 0 ? span : span.subarray(skipped);
    const isEnd = (flags & FLAG.endStream) !== 0;
    if ((flags & FLAG.endHeaders) !== 0) this.#headerBlock(id, isEnd, block);
    else this.#block = { id, isEnd, pieces: [copyOf(block)], bytes: block.byteLength };
  }

  #continuation(flags: number, bytes: Uint8Array, from: number, to: number): void {
    const block = this.#block;
    if (block === undefined) {
      this.#fail(ERROR.protocol);
      return;
    }
    block.pieces.push(copyOf(bytes.subarray(from, to)));
    block.bytes += to - from;
    if (
      block.pieces.length > CONTINUATIONS_MAX ||
      block.bytes > BLOCK_FACTOR * this.#limits.headerBytesMax + FRAME_BYTES_MAX
    ) {
      this.#fail(ERROR.enhanceYourCalm, "header-flood");
      return;
    }
    if ((flags & FLAG.endHeaders) === 0) return;
    this.#block = undefined;
    const whole = new Uint8Array(block.bytes);
    let at = 0;
    for (const piece of block.pieces) {
      whole.set(piece, at);
      at += piece.byteLength;
    }
    this.#headerBlock(block.id, block.isEnd, whole);
  }

  #headerBlock(id: number, isEnd: boolean, block: Uint8Array): void {
    // Whatever becomes of the stream: the tables of both ends go on together (section 4.3).
    const raw = this.#decoder.decode(block);
    if (raw === "broken") {
      this.#fail(ERROR.compression);
      return;
    }
    if (id <= this.#lastId) {
      this.#trailers(id, isEnd, raw);
      return;
    }
    this.#lastId = id;
    if (id > this.#finalId) return;
    this.#handler.counted("request");
    if (raw === "too-large" || !this.#isRequest(raw)) {
      this.#refuse(id, raw === "too-large" ? ERROR.enhanceYourCalm : ERROR.protocol);
      return;
    }
    const contentLeft = isEnd ? undefined : contentLengthOf(raw);
    if (isEnd) {
      const bytesMax = this.hasRoom ? Math.min(FRAME_BYTES_MAX, this.#sendWindow, this.#peerWindow) : -1;
      const found = bytesMax < 0 ? undefined : this.#handler.answerAtOnce(raw, bytesMax);
      if (found !== undefined) {
        const { content } = found;
        this.#headers(id, found.block, content === undefined);
        if (content !== undefined) {
          this.#sendWindow -= content.byteLength;
          this.output.frame(FRAME.data, FLAG.endStream, id, content);
        }
        return;
      }
      if ((contentLengthOf(raw) ?? 0) > 0) {
        this.#refuse(id, ERROR.protocol);
        return;
      }
    }
    if (this.#streams.size >= this.#limits.streamsMax) {
      this.#refuse(id, ERROR.refusedStream);
      return;
    }
    this.#streams.set(id, {
      id,
      sendWindow: this.#peerWindow,
      receiveWindow: this.#limits.windowBytes,
      uncredited: 0,
      contentLeft,
      isRemoteOpen: !isEnd,
      queue: [],
      queueAt: 0,
      queuedBytes: 0,
      isEndQueued: false,
    });
    this.#handler.request(id, raw, !isEnd);
  }

  #isRequest(raw: readonly string[]): boolean {
    if (raw === this.#wellFormed) return true;
    if (!isRequestForm(raw)) return false;
    this.#wellFormed = raw;
    return true;
  }

  /** A stream that nobody was told of. */
  #refuse(id: number, code: number): void {
    this.output.numberFrame(FRAME.rstStream, id, code);
    this.#handler.counted("reset");
  }

  /** Fields after the content (section 8.1): held to their form, and nobody's business further on. */
  #trailers(id: number, isEnd: boolean, raw: readonly string[] | "too-large"): void {
    const stream = this.#streams.get(id);
    // Of a stream that was given up.
    if (stream === undefined) return;
    if (!stream.isRemoteOpen) this.#streamFault(id, ERROR.streamClosed);
    else if (!isEnd || raw === "too-large" || !isTrailerForm(raw)) this.#streamFault(id, ERROR.protocol);
    else this.#remoteEnd(id);
  }

  #rstStream(id: number, bytes: Uint8Array, from: number, to: number): void {
    if (id === 0 || id > this.#lastId || id % 2 === 0) this.#fail(ERROR.protocol);
    else if (to - from !== 4) this.#fail(ERROR.frameSize);
    else {
      // Also of what was answered already: who asks and resets in one breath has had it made.
      this.#handler.counted("reset");
      const stream = this.#streams.get(id);
      if (stream === undefined) return;
      this.#forget(stream);
      this.#handler.reset(id, readUint32(bytes, from));
    }
  }

  #settings(flags: number, id: number, bytes: Uint8Array, from: number, to: number): void {
    if (id !== 0) {
      this.#fail(ERROR.protocol);
      return;
    }
    if ((flags & FLAG.ack) !== 0) {
      if (to !== from) this.#fail(ERROR.frameSize);
      return;
    }
    if ((to - from) % 6 !== 0) {
      this.#fail(ERROR.frameSize);
      return;
    }
    this.#hasSettings = true;
    this.#handler.counted("settings");
    for (let at = from; at < to; at += 6) {
      const name = ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
      const value = readUint32(bytes, at + 2);
      if (name === SETTING.headerTableSize) this.#owesTableSize = true;
      else if (name === SETTING.enablePush && value > 1) {
        this.#fail(ERROR.protocol);
        return;
      } else if (name === SETTING.maxFrameSize && (value < FRAME_BYTES_MAX || value >= 2 ** 24)) {
        this.#fail(ERROR.protocol);
        return;
      } else if (name === SETTING.initialWindowSize && !this.#setPeerWindow(value)) {
        this.#fail(ERROR.flowControl);
        return;
      }
    }
    this.output.frame(FRAME.settings, FLAG.ack, 0, NOTHING);
  }

  /** Section 6.9.2: it moves the windows of open streams, below 0 too. */
  #setPeerWindow(value: number): boolean {
    if (value > WINDOW_MAX) return false;
    const moved = value - this.#peerWindow;
    this.#peerWindow = value;
    for (const stream of this.#streams.values()) {
      stream.sendWindow += moved;
      if (stream.sendWindow > WINDOW_MAX) return false;
    }
    return true;
  }

  #windowUpdate(id: number, bytes: Uint8Array, from: number, to: number): void {
    if (to - from !== 4) {
      this.#fail(ERROR.frameSize);
      return;
    }
    if (id > this.#lastId || (id !== 0 && id % 2 === 0)) {
      this.#fail(ERROR.protocol);
      return;
    }
    const increment = readUint32(bytes, from) & WINDOW_MAX;
    if (id === 0) {
      this.#sendWindow += increment;
      if (increment === 0) this.#fail(ERROR.protocol);
      else if (this.#sendWindow > WINDOW_MAX) this.#fail(ERROR.flowControl);
      return;
    }
    const stream = this.#streams.get(id);
    if (increment === 0) this.#streamFault(id, ERROR.protocol);
    else if (stream !== undefined) {
      stream.sendWindow += increment;
      if (stream.sendWindow > WINDOW_MAX) this.#streamFault(id, ERROR.flowControl);
    }
  }

  /** An error of one stream (section 5.4.2), which may be gone already. */
  #streamFault(id: number, code: number): void {
    this.output.numberFrame(FRAME.rstStream, id, code);
    this.#handler.counted("reset");
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    this.#forget(stream);
    this.#handler.reset(id, code);
  }

  #headers(id: number, block: Uint8Array, isEnd: boolean): void {
    this.output.headers(id, block, isEnd, this.#owesTableSize ? EMPTY_TABLE : NOTHING);
    this.#owesTableSize = false;
  }

  /** One frame of a stream, or its end. False: it has to wait. */
  #sendPiece(stream: Stream): boolean {
    const [first] = stream.queue;
    if (first === undefined) {
      if (stream.isEndQueued) {
        this.output.frame(FRAME.data, FLAG.endStream, stream.id, NOTHING);
        this.#localEnd(stream);
        this.#handler.drained(stream.id);
      } else this.#sending.delete(stream);
      return true;
    }
    const left = first.byteLength - stream.queueAt;
    const bytes = Math.min(left, FRAME_BYTES_MAX, stream.sendWindow, this.#sendWindow);
    if (bytes <= 0) return false;
    const piece = first.subarray(stream.queueAt, stream.queueAt + bytes);
    const isEnd = stream.isEndQueued && bytes === left && stream.queue.length === 1;
    this.output.frame(FRAME.data, isEnd ? FLAG.endStream : 0, stream.id, piece);
    stream.sendWindow -= bytes;
    this.#sendWindow -= bytes;
    stream.queuedBytes -= bytes;
    stream.queueAt += bytes;
    if (bytes === left) {
      stream.queue.shift();
      stream.queueAt = 0;
    }
    if (isEnd) this.#localEnd(stream);
    else if (stream.queue.length === 0 && !stream.isEndQueued) this.#sending.delete(stream);
    if (stream.queue.length === 0) this.#handler.drained(stream.id);
    return true;
  }

  #localEnd(stream: Stream): void {
    stream.isEndQueued = true;
    this.#sending.delete(stream);
    if (!stream.isRemoteOpen) this.#forget(stream);
  }

  #forget(stream: Stream): void {
    this.#streams.delete(stream.id);
    this.#sending.delete(stream);
    // What nobody will use any more must not narrow the connection.
    this.#creditConnection(stream.uncredited);
    stream.uncredited = 0;
  }

  #creditConnection(bytes: number): void {
    this.#credit += bytes;
    const windowBytes = Math.max(WINDOW_INITIAL, this.#limits.windowBytes);
    if (this.#credit < windowBytes / 2) return;
    this.#receiveWindow += this.#credit;
    this.output.numberFrame(FRAME.windowUpdate, 0, this.#credit);
    this.#credit = 0;
  }
}

/** Not `slice`, which copies nothing where the bytes are a Buffer. */
const copyOf = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes);

/** The payload without padding (section 6.1); undefined: there is more padding than payload. */
function unpadded(flags: number, bytes: Uint8Array, from: number, to: number): Uint8Array | undefined {
  if ((flags & FLAG.padded) === 0) return bytes.subarray(from, to);
  if (from >= to) return undefined;
  const end = to - (bytes[from] as number);
  return from + 1 > end ? undefined : bytes.subarray(from + 1, end);
}
