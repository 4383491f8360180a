/**
 * One session of the link protocol (README.md): bytes in, events out; calls in, bytes out. It knows no socket, no clock and no HTTP
 * connection. All that the other side may make it keep is bounded: one frame that has not come whole, the windows of its streams, its
 * replies. The client's side opens streams, the server's answers them; otherwise both are alike. Never throws, whatever comes.
 */
import type { MonotonicMs } from "#kit";
import { ByteReader } from "./bytes.ts";
import { FrameReader, type FrameSink } from "./frame-reader.ts";
import { FrameWriter } from "./frame-writer.ts";
import { decodeRequest, decodeResponse, decodeTrailers } from "./head-decoder.ts";
import { HeadEncoder } from "./head-encoder.ts";
import { encodeHello, parseHello } from "./hello.ts";
import { ReceiveWindows } from "./incoming.ts";
import { Liveness } from "./liveness.ts";
import { type OutgoingEvents, OutgoingStreams } from "./outgoing.ts";
import { beginStream, expectContent, isWithoutContent, type Stream } from "./stream.ts";
import {
  END_FLAG,
  type FlatFields,
  FRAME,
  type LinkEvent,
  type LinkLimits,
  type LinkRequestHead,
  type LinkResponseHead,
  type SessionReason,
  sessionReasons,
  STREAM_ID_MAX,
  type StreamReason,
  STREAMS_MIN,
  streamReasons,
  WINDOW_BYTES_MIN,
} from "./words.ts";

/** Replies (pongs, refusals) that wait to be sent; who makes us owe more does not read. */
const REPLIES_MAX = 1_024;
/** Streams that a client may give up at once, and a second for ever: each may have cost more than it told. */
const CANCELS_BURST = 512;
const CANCELS_PER_SECOND = 128;
/** What a sender may be allowed in all: far above every window, and a number that adds up exactly. */
const CREDIT_MAX = 2 ** 31;

const NO_FIELDS: FlatFields = [];

export class LinkSession implements FrameSink, OutgoingEvents<Stream> {
  readonly #isServer: boolean;
  readonly #limits: LinkLimits;
  readonly #reader = new FrameReader(this);
  readonly #encoder = new HeadEncoder();
  readonly #outgoing = new OutgoingStreams<Stream>(this);
  readonly #frames = this.#outgoing.frames;
  readonly #windows: ReceiveWindows;
  readonly #liveness: Liveness;
  readonly #streams = new Map<number, Stream>();
  #events: LinkEvent[] = [];
  #eventsAt = 0;
  #now: MonotonicMs;
  /** The highest stream number so far, and the last stream that was begun with: others come while it drains. */
  #topId = 0;
  #lastId = 0;
  /** What the other side's HELLO allows; it is not here yet while `hasHello` is false. */
  #hasHello = false;
  #peerStreamsMax = STREAMS_MIN;
  #peerWindowBytes = WINDOW_BYTES_MIN;
  #isDraining = false;
  #ended: SessionReason | undefined;
  #replies = 0;
  #cancelsLeft = CANCELS_BURST;
  #cancelsAt: MonotonicMs;

  constructor(role: "client" | "server", limits: LinkLimits, now: MonotonicMs) {
    this.#isServer = role === "server";
    this.#limits = limits;
    this.#now = now;
    this.#cancelsAt = now;
    this.#windows = new ReceiveWindows(limits);
    this.#liveness = new Liveness(limits, now);
    this.#frames.frame(FRAME.hello, 0, encodeHello(limits));
    this.#frames.ping(this.#liveness.pingNumber);
  }

  /** Streams that are open. */
  get streams(): number {
    return this.#streams.size;
  }
  /** Streams that the client may open now. */
  get streamsLeft(): number {
    if (this.#isDraining || this.#ended !== undefined || this.#topId === STREAM_ID_MAX) return 0;
    return Math.max(0, this.#peerStreamsMax - this.#streams.size);
  }
  /** Nothing new is begun. */
  get isDraining(): boolean {
    return this.#isDraining;
  }
  /** Why it is over; undefined: it is not. */
  get endReason(): SessionReason | undefined {
    return this.#ended;
  }
  /** Whether {@link pollTransmit} has something. */
  get hasOutput(): boolean {
    return this.#outgoing.hasSome;
  }
  /** Undefined: not measured yet. */
  get rttMs(): number | undefined {
    return this.#liveness.rttMs;
  }
  /** When the last bytes came. */
  get heardAt(): MonotonicMs {
    return this.#liveness.heardAt;
  }
  /** Since when a ping is unanswered; undefined: none is. */
  get askingSince(): MonotonicMs | undefined {
    return this.#liveness.askingSince;
  }
  /** By how much windows have grown, all together. */
  get grownBytes(): number {
    return this.#windows.grownBytes;
  }
  /** What it keeps for the other side beyond its streams' content, for tests of its bounds. */
  get keptBytes(): number {
    return this.#reader.heldBytes + this.#outgoing.framesBytes;
  }

  /** Begins a request. Its stream, or why it cannot be sent ("refused": {@link streamsLeft} is 0). */
  request(head: LinkRequestHead, isEnd: boolean, now: MonotonicMs): number | StreamReason {
    if (this.#isServer || this.streamsLeft === 0) return "refused";
    const fault = this.#encoder.request(head);
    if (fault !== undefined) return fault;
    this.#now = now;
    const id = ++this.#topId;
    this.#lastId = id;
    const stream = this.#begin(id, head);
    stream.hasSentHead = true;
    stream.isEndQueued = isEnd;
    stream.hasEnded = isEnd;
    this.#frames.encoded(FRAME.head | (isEnd ? END_FLAG : 0), id, this.#encoder);
    return id;
  }

  /** Sends the head of an answer, or an interim one. A reason: it cannot be sent; nothing was. Nothing is sent on streams that are gone. */
  respond(id: number, head: LinkResponseHead, isEnd: boolean): StreamReason | undefined {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.isEndQueued) return undefined;
    const isInterim = head.status < 200;
    if (stream.hasSentHead || (isInterim && isEnd)) return "order";
    const fault = this.#encoder.response(head);
    if (fault !== undefined) return fault;
    stream.hasSentHead = !isInterim;
    this.#frames.encoded(FRAME.head | (isEnd ? END_FLAG : 0), id, this.#encoder);
    if (isEnd) {
      stream.isEndQueued = true;
      stream.hasEnded = true;
      this.ended(stream);
    }
    return undefined;
  }

  /** Queues content, which must not change any more; a head was sent before it. */
  send(id: number, content: Uint8Array): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.isEndQueued || content.byteLength === 0) return;
    (stream.queue ??= []).push(content);
    stream.queuedBytes += content.byteLength;
    this.#outgoing.schedule(stream);
  }

  /** What we send on it ends with what is queued, and with trailers if there are any. A reason: those cannot be sent. */
  end(id: number, trailers: FlatFields = NO_FIELDS): StreamReason | undefined {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.isEndQueued) return undefined;
    if (trailers.length > 0) {
      const fault = this.#encoder.trailers(trailers);
      if (fault !== undefined) return fault;
      const frame = new FrameWriter();
      frame.encoded(FRAME.trailers, id, this.#encoder);
      stream.lastFrame = frame.view();
    }
    stream.isEndQueued = true;
    this.#outgoing.schedule(stream);
    return undefined;
  }

  /** Bytes that wait to be sent on a stream. */
  queuedBytes(id: number): number {
    return this.#streams.get(id)?.queuedBytes ?? 0;
  }

  /** Content that was told of was used: as much more may come. */
  consume(id: number, bytes: number, now: MonotonicMs): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    const granted = this.#windows.handleRead(stream, bytes, this.#liveness.rttMs, now);
    if (granted > 0) this.#frames.credit(id, granted);
  }

  /** Gives a stream up: nothing more is sent on it nor heard of it. */
  cancel(id: number, reason: StreamReason): void {
    const stream = this.#streams.get(id);
    if (stream !== undefined) this.#cancel(stream, reason);
  }

  /** Of a server: asks the client to begin nothing new, and takes all the same what is on its way. {@link drain} follows. */
  announceEnd(): void {
    if (!this.#isDraining && this.#ended === undefined) this.#frames.goaway("done", STREAM_ID_MAX);
  }

  /** Begins nothing new; what is open is finished. */
  drain(): void {
    if (this.#isDraining || this.#ended !== undefined) return;
    this.#isDraining = true;
    this.#frames.goaway("done", this.#lastId);
  }

  handleBytes(bytes: Uint8Array, now: MonotonicMs): void {
    if (this.#ended !== undefined) return;
    this.#now = now;
    this.#liveness.handleHeard(now);
    const fault = this.#reader.read(bytes);
    if (fault !== undefined) this.#fail(fault);
    else if (this.#replies > REPLIES_MAX) this.#fail("control-flood");
  }

  handleTimeout(now: MonotonicMs): void {
    if (this.#ended !== undefined) return;
    const due = this.#liveness.handleTimeout(this.#streams.size > 0, now);
    if (due === "ping") this.#frames.ping(this.#liveness.pingNumber);
    else if (due === "silent") this.#fail("silent");
  }

  /** When {@link handleTimeout} is due. Undefined: never. */
  pollTimeout(): MonotonicMs | undefined {
    return this.#ended === undefined ? this.#liveness.pollTimeout(this.#streams.size > 0) : undefined;
  }

  /** Writes what is to be sent, as far as there is room; how many bytes, 0: nothing waits. */
  pollTransmit(into: Uint8Array): number {
    const bytes = this.#outgoing.fill(into);
    if (this.#outgoing.framesBytes === 0) this.#replies = 0;
    return bytes;
  }

  pollEvent(): LinkEvent | undefined {
    if (this.#eventsAt === this.#events.length) {
      if (this.#eventsAt > 0) this.#events = [];
      this.#eventsAt = 0;
      return undefined;
    }
    return this.#events[this.#eventsAt++];
  }

  /** @internal */
  drained(stream: Stream): void {
    this.#events.push({ kind: "drained", id: stream.id });
  }

  /** @internal */
  ended(stream: Stream): void {
    // An answer that did not need the rest of the request's content asks for no more of it.
    if (this.#isServer && !stream.hasRemoteEnded) this.#frames.cancel(stream.id, "not-needed");
    if (this.#isServer || stream.hasRemoteEnded) this.#done(stream);
  }

  /** @internal */
  frame(
    type: number,
    id: number,
    isEnd: boolean,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): SessionReason | undefined {
    if (!this.#hasHello) {
      return type === FRAME.hello ? this.#helloFrame(new ByteReader(bytes, from, to)) : "hello-first";
    }
    switch (type) {
      case FRAME.head:
        return this.#isServer
          ? this.#requestFrame(id, isEnd, bytes, from, to)
          : this.#responseFrame(id, isEnd, bytes, from, to);
      case FRAME.trailers:
        return this.#trailersFrame(id, bytes, from, to);
      case FRAME.credit:
        return this.#creditFrame(id, new ByteReader(bytes, from, to));
      case FRAME.cancel:
        return this.#cancelFrame(id, bytes[from] as number);
      case FRAME.ping:
        this.#replies++;
        this.#frames.frame(FRAME.pong, 0, bytes.subarray(from, to));
        return undefined;
      case FRAME.pong:
        this.#liveness.handlePong(
          new DataView(bytes.buffer, bytes.byteOffset + from).getUint32(0),
          this.#now,
        );
        return undefined;
      case FRAME.goaway:
        return this.#goawayFrame(new ByteReader(bytes, from, to));
      default:
        // A second HELLO.
        return "hello-first";
    }
  }

  /** @internal */
  content(id: number, bytes: number): SessionReason | undefined {
    if (!this.#hasHello) return "hello-first";
    if (id > this.#topId) return "stream-id";
    const stream = this.#streams.get(id);
    // Given up while the other side could not know yet.
    if (stream === undefined) return undefined;
    if (bytes > stream.receiveCredit) return "credit-exceeded";
    stream.receiveCredit -= bytes;
    if (stream.hasRemoteEnded || !stream.hasHead) this.#refuse(stream, "order");
    else if (stream.contentLeft !== undefined) {
      stream.contentLeft -= bytes;
      if (stream.contentLeft < 0) this.#refuse(stream, "content-length");
    }
    return undefined;
  }

  /** @internal */
  piece(id: number, piece: Uint8Array, isEnd: boolean): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    if (isEnd && !this.#isWhole(stream)) return;
    stream.unreadBytes += piece.byteLength;
    this.#events.push({ kind: "data", id, bytes: piece, isEnd });
    if (isEnd) this.#remoteEnded(stream);
  }

  #helloFrame(payload: ByteReader): SessionReason | undefined {
    const hello = parseHello(payload);
    if (typeof hello === "string") return hello;
    this.#hasHello = true;
    this.#peerStreamsMax = hello.streamsMax;
    const more = hello.windowBytes - this.#peerWindowBytes;
    this.#peerWindowBytes = hello.windowBytes;
    for (const stream of this.#streams.values()) {
      stream.sendCredit += more;
      this.#outgoing.schedule(stream);
    }
    this.#events.push({ kind: "open" });
    return undefined;
  }

  #requestFrame(
    id: number,
    isEnd: boolean,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): SessionReason | undefined {
    if (id <= this.#topId) {
      const known = this.#streams.get(id);
      if (known !== undefined) this.#refuse(known, "order");
      return undefined;
    }
    if (id !== this.#topId + 1) return "stream-id";
    this.#topId = id;
    // After GOAWAY they are read over: the client takes them elsewhere.
    if (this.#isDraining) return undefined;
    if (this.#streams.size >= this.#limits.streamsMax) return "streams-exceeded";
    this.#lastId = id;
    const head = decodeRequest(bytes, from, to);
    if (typeof head === "string") {
      this.#replies++;
      this.#frames.cancel(id, head);
      return undefined;
    }
    const stream = this.#begin(id, head);
    const fault = expectContent(stream, head.fields, isEnd, false);
    if (fault !== undefined) {
      this.#replies++;
      this.#cancel(stream, fault);
      return undefined;
    }
    stream.hasRemoteEnded = isEnd;
    this.#events.push({ kind: "request", id, head, isEnd });
    return undefined;
  }

  #responseFrame(
    id: number,
    isEnd: boolean,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): SessionReason | undefined {
    if (id > this.#topId) return "stream-id";
    const stream = this.#streams.get(id);
    if (stream === undefined) return undefined;
    const head = decodeResponse(bytes, from, to);
    if (typeof head === "string") {
      this.#refuse(stream, head);
      return undefined;
    }
    const isInterim = head.status < 200;
    if (stream.hasHead || stream.hasRemoteEnded || (isInterim && isEnd)) {
      this.#refuse(stream, "order");
      return undefined;
    }
    const hasNone = stream.isForHead || isWithoutContent(head.status);
    const fault = isInterim ? undefined : expectContent(stream, head.fields, isEnd, hasNone);
    if (fault !== undefined) {
      this.#refuse(stream, fault);
      return undefined;
    }
    this.#events.push({ kind: "response", id, head, isEnd });
    if (isEnd) this.#remoteEnded(stream);
    return undefined;
  }

  #trailersFrame(id: number, bytes: Uint8Array, from: number, to: number): SessionReason | undefined {
    if (id > this.#topId) return "stream-id";
    const stream = this.#streams.get(id);
    if (stream === undefined) return undefined;
    const fields = decodeTrailers(bytes, from, to);
    const fault =
      stream.hasRemoteEnded || !stream.hasHead
        ? "order"
        : typeof fields === "string"
          ? fields
          : fields.includes("content-length")
            ? "field-name"
            : undefined;
    if (fault !== undefined) this.#refuse(stream, fault);
    else if (this.#isWhole(stream)) {
      this.#events.push({ kind: "trailers", id, fields: fields as FlatFields });
      this.#remoteEnded(stream);
    }
    return undefined;
  }

  #creditFrame(id: number, payload: ByteReader): SessionReason | undefined {
    const more = payload.number();
    if (more <= 0 || payload.at !== payload.end) return "number";
    if (id > this.#topId) return "stream-id";
    const stream = this.#streams.get(id);
    if (stream === undefined) return undefined;
    stream.sendCredit += more;
    if (stream.sendCredit > CREDIT_MAX) return "credit-overflow";
    this.#outgoing.schedule(stream);
    return undefined;
  }

  #cancelFrame(id: number, code: number): SessionReason | undefined {
    if (id > this.#topId) return "stream-id";
    const stream = this.#streams.get(id);
    if (stream === undefined) return undefined;
    const reason = streamReasons[code] ?? "internal";
    if (this.#isServer && !this.#takeCancel()) return "cancel-flood";
    this.#events.push(
      stream.hasRemoteEnded && !this.#isServer
        ? { kind: "stopped", id, reason }
        : { kind: "cancelled", id, reason },
    );
    this.#forget(stream);
    return undefined;
  }

  #goawayFrame(payload: ByteReader): SessionReason | undefined {
    const code = payload.byte();
    const lastId = payload.number();
    if (lastId < 0 || payload.at !== payload.end) return "number";
    const reason = sessionReasons[code] ?? "internal";
    if (reason !== "done") {
      this.#end(reason);
      return undefined;
    }
    this.#isDraining = true;
    this.#events.push({ kind: "goaway", reason });
    if (this.#isServer) return undefined;
    // It has not begun with them, and will not.
    for (const stream of this.#streams.values()) {
      if (stream.id <= lastId) continue;
      this.#events.push({ kind: "cancelled", id: stream.id, reason: "refused" });
      this.#forget(stream);
    }
    return undefined;
  }

  /** Whether as much has come as was stated; otherwise the stream is refused. */
  #isWhole(stream: Stream): boolean {
    if (stream.contentLeft === undefined || stream.contentLeft === 0) return true;
    this.#refuse(stream, "content-length");
    return false;
  }

  #remoteEnded(stream: Stream): void {
    stream.hasRemoteEnded = true;
    if (stream.hasEnded) this.#done(stream);
  }

  #done(stream: Stream): void {
    if (this.#isServer) this.#events.push({ kind: "done", id: stream.id });
    this.#forget(stream);
  }

  #begin(id: number, { urgency, method }: LinkRequestHead): Stream {
    const stream = beginStream(
      id,
      urgency,
      method === "HEAD",
      this.#peerWindowBytes,
      this.#windows,
      this.#now,
    );
    this.#streams.set(id, stream);
    return stream;
  }

  /** Gives up a stream for what the other side did. */
  #refuse(stream: Stream, reason: StreamReason): void {
    this.#replies++;
    this.#events.push({ kind: "cancelled", id: stream.id, reason });
    this.#cancel(stream, reason);
  }

  #cancel(stream: Stream, reason: StreamReason): void {
    this.#frames.cancel(stream.id, reason);
    this.#forget(stream);
  }

  #forget(stream: Stream): void {
    stream.isEndQueued = true;
    stream.hasEnded = true;
    this.#streams.delete(stream.id);
    this.#outgoing.drop(stream);
    this.#windows.end(stream);
  }

  #takeCancel(): boolean {
    const gained = ((this.#now - this.#cancelsAt) / 1_000) * CANCELS_PER_SECOND;
    this.#cancelsAt = this.#now;
    this.#cancelsLeft = Math.min(CANCELS_BURST, this.#cancelsLeft + gained) - 1;
    return this.#cancelsLeft >= 0;
  }

  #fail(reason: SessionReason): void {
    this.#frames.goaway(reason, this.#lastId);
    this.#end(reason);
  }

  #end(reason: SessionReason): void {
    this.#ended = reason;
    this.#isDraining = true;
    for (const stream of this.#streams.values()) {
      this.#events.push({ kind: "cancelled", id: stream.id, reason: "session-lost" });
      this.#forget(stream);
    }
    this.#events.push({ kind: "closed", reason });
  }
}
