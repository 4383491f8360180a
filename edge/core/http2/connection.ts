/**
 * The server's side of one HTTP/2 connection (RFC 9113): bytes in, requests and their content out; answers in, frames out. It knows
 * no socket, no clock and no HTTP semantics. All that a client may make it keep is bounded: one frame that has not come whole, one header
 * block, the windows of its streams. What costs without asking for anything is told to the handler, which has budgets
 * (http2-budget.ts). Priorities are read over (section 5.3.2), nothing is pushed.
 */
import { FrameReader, type FrameSink, unpadded } from "./frame-reader.ts";
import {
  ERROR,
  FLAG,
  FRAME,
  FRAME_BYTES_MAX,
  type FrameWriter,
  readUint32,
  SETTING,
  WINDOW_INITIAL,
  WINDOW_MAX,
} from "./frames.ts";
import { BLOCK_FACTOR, HeaderAssembly } from "./header-assembly.ts";
import { HpackDecoder } from "./hpack.ts";
import { type Outgoing, type OutgoingEvents, OutgoingStreams } from "./outgoing.ts";
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
  /** Content of a stream that was given up while its client could not know yet: read over, and no flood. */
  discarded(bytes: number): void;
  /** Something that may be a flood. `reset`: a stream was reset, whichever side had the reason. */
  counted(what: "reset" | "ping" | "settings" | "request"): void;
}

export interface AtOnce {
  /** As {@link hpackEncode} makes it. */
  readonly block: Uint8Array;
  readonly content: Uint8Array | undefined;
}

interface Stream extends Outgoing {
  receiveWindow: number;
  /** Content that was told of and not credited. */
  uncredited: number;
  /** Content that has to come still, by the request's own word; undefined: it does not say. */
  contentLeft: number | undefined;
  /** More may come from the client. */
  isRemoteOpen: boolean;
}

/** Frames that wait to be sent before the connection is given up. */
const OUTPUT_BYTES_MAX = 2 * 2 ** 20;
const NOTHING = new Uint8Array(0);

export class Http2Connection implements FrameSink, OutgoingEvents<Stream> {
  readonly #limits: Http2Limits;
  readonly #handler: Http2Handler;
  readonly #reader = new FrameReader(this);
  readonly #decoder: HpackDecoder;
  readonly #outgoing = new OutgoingStreams<Stream>(this);
  readonly #streams = new Map<number, Stream>();
  #hasSettings = false;
  #lastId = 0;
  /** Streams above are not taken any more: GOAWAY said so. */
  #finalId = WINDOW_MAX;
  #fault: ConnectionFault | undefined;
  #receiveWindow: number;
  /** Credit that was not announced yet. */
  #credit = 0;
  /** Content that may still come for streams that were given up: what their windows had left. */
  #lateBytes = 0;
  /** A header block that has not come whole. */
  #assembly: HeaderAssembly | undefined;
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

  /** What waits for the socket. */
  get output(): FrameWriter {
    return this.#outgoing.output;
  }

  /** Streams that are open. */
  get streams(): number {
    return this.#streams.size;
  }

  /** Reads what came. A fault: GOAWAY is written, and the connection is to be closed once it has left. */
  receive(bytes: Uint8Array): ConnectionFault | undefined {
    if (this.#fault !== undefined) return this.#fault;
    const code = this.#reader.read(bytes);
    if (code !== undefined) this.#fail(code);
    return this.#fault;
  }

  /** Writes the head of an answer, or an interim one. Nothing is written for a stream that is gone. */
  respond(id: number, block: Uint8Array, isEnd: boolean): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.isEndQueued) return;
    this.#outgoing.headers(id, block, isEnd);
    if (isEnd) this.ended(stream);
  }

  /** Queues content, which must not change any more. */
  send(id: number, content: Uint8Array): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.isEndQueued || content.byteLength === 0) return;
    this.#outgoing.queue(stream, content);
  }

  /** The answer ends with what is queued. */
  end(id: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.isEndQueued) return;
    this.#outgoing.end(stream);
  }

  /** Bytes queued for a stream. */
  queuedBytes(id: number): number {
    return this.#streams.get(id)?.queuedBytes ?? 0;
  }

  /** Puts queued content into frames, as far as windows and room allow. */
  pump(): void {
    this.#outgoing.pump();
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

  /** @internal */
  drained(stream: Stream): void {
    this.#handler.drained(stream.id);
  }

  /** @internal */
  ended(stream: Stream): void {
    stream.isEndQueued = true;
    this.#outgoing.drop(stream);
    if (!stream.isRemoteOpen) this.#forget(stream);
  }

  /** @internal */
  frame(type: number, flags: number, id: number, bytes: Uint8Array, from: number, to: number): boolean {
    this.#frame(type, flags, id, bytes, from, to);
    if (this.#fault === undefined && this.output.length > OUTPUT_BYTES_MAX)
      this.#fail(ERROR.enhanceYourCalm, "output-flood");
    return this.#fault === undefined;
  }

  #fail(code: number, fault: ConnectionFault = "protocol"): void {
    this.output.goaway(this.#lastId, code);
    this.#fault = fault;
  }

  #frame(type: number, flags: number, id: number, bytes: Uint8Array, from: number, to: number): void {
    // Section 6.10: nothing stands between the pieces of a header block.
    if (this.#assembly !== undefined && (type !== FRAME.continuation || id !== this.#assembly.id)) {
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
    const content = unpadded((flags & FLAG.padded) !== 0, bytes, from, to);
    if (content === undefined) {
      this.#fail(ERROR.protocol);
      return;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined || !stream.isRemoteOpen) {
      // Ours to forget, or a break of the rules that costs the client alone.
      this.#creditConnection(counted);
      const late = Math.min(counted, this.#lateBytes);
      this.#lateBytes -= late;
      this.#handler.discarded(late);
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
    if (stream.isEndQueued && !this.#outgoing.isWaiting(stream)) this.#forget(stream);
  }

  #headersFrame(flags: number, id: number, bytes: Uint8Array, start: number, end: number): void {
    if (id % 2 === 0) {
      this.#fail(ERROR.protocol);
      return;
    }
    const span = unpadded((flags & FLAG.padded) !== 0, bytes, start, end);
    const skipped = (flags & FLAG.priority) === 0 ? 0 : 5;
    if (span === undefined || span.byteLength < skipped) {
      this.#fail(span === undefined ? ERROR.protocol : ERROR.frameSize);
      return;
    }
    const block = skipped === 0 ? span : span.subarray(skipped);
    const isEnd = (flags & FLAG.endStream) !== 0;
    if ((flags & FLAG.endHeaders) !== 0) this.#headerBlock(id, isEnd, block);
    else this.#assembly = new HeaderAssembly(id, isEnd, block, this.#limits.headerBytesMax);
  }

  #continuation(flags: number, bytes: Uint8Array, from: number, to: number): void {
    const assembly = this.#assembly;
    if (assembly === undefined) this.#fail(ERROR.protocol);
    else if (!assembly.add(bytes.subarray(from, to))) this.#fail(ERROR.enhanceYourCalm, "header-flood");
    else if ((flags & FLAG.endHeaders) !== 0) {
      this.#assembly = undefined;
      this.#headerBlock(assembly.id, assembly.isEnd, assembly.whole);
    }
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
    if (id > this.#finalId) {
      if (!isEnd) this.#lateBytes += this.#limits.windowBytes;
      return;
    }
    this.#handler.counted("request");
    if (raw === "too-large" || !this.#isRequest(raw)) {
      this.#refuse(id, isEnd, raw === "too-large" ? ERROR.enhanceYourCalm : ERROR.protocol);
      return;
    }
    const contentLeft = isEnd ? undefined : contentLengthOf(raw);
    if (isEnd) {
      const bytesMax = this.#outgoing.atOnceBytesMax;
      const found = bytesMax < 0 ? undefined : this.#handler.answerAtOnce(raw, bytesMax);
      if (found !== undefined) {
        const { content } = found;
        this.#outgoing.headers(id, found.block, content === undefined);
        if (content !== undefined) this.#outgoing.contentAtOnce(id, content);
        return;
      }
      if ((contentLengthOf(raw) ?? 0) > 0) {
        this.#refuse(id, isEnd, ERROR.protocol);
        return;
      }
    }
    if (this.#streams.size >= this.#limits.streamsMax) {
      this.#refuse(id, isEnd, ERROR.refusedStream);
      return;
    }
    this.#streams.set(id, {
      id,
      sendWindow: this.#outgoing.initialWindow,
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
  #refuse(id: number, isEnd: boolean, code: number): void {
    this.output.numberFrame(FRAME.rstStream, id, code);
    if (!isEnd) this.#lateBytes += this.#limits.windowBytes;
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
      if (name === SETTING.headerTableSize) this.#outgoing.owesTableSize = true;
      else if (name === SETTING.enablePush && value > 1) {
        this.#fail(ERROR.protocol);
        return;
      } else if (name === SETTING.maxFrameSize && (value < FRAME_BYTES_MAX || value >= 2 ** 24)) {
        this.#fail(ERROR.protocol);
        return;
      } else if (
        name === SETTING.initialWindowSize &&
        !this.#outgoing.setInitialWindow(value, this.#streams.values())
      ) {
        this.#fail(ERROR.flowControl);
        return;
      }
    }
    this.output.frame(FRAME.settings, FLAG.ack, 0, NOTHING);
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
      this.#outgoing.window += increment;
      if (increment === 0) this.#fail(ERROR.protocol);
      else if (this.#outgoing.window > WINDOW_MAX) this.#fail(ERROR.flowControl);
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

  #forget(stream: Stream): void {
    this.#streams.delete(stream.id);
    this.#outgoing.drop(stream);
    if (stream.isRemoteOpen) this.#lateBytes += Math.max(0, stream.receiveWindow);
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
