/**
 * One session of the link protocol (README.md): bytes in, events out; calls in, bytes out. It knows no socket, no clock and no HTTP
 * connection. All that the other side may make it keep is bounded: one frame that has not come whole, the windows of its streams, its
 * replies. The client's side opens streams, the server's answers them; otherwise both are alike. Never throws, whatever comes.
 */
import type { MonotonicMs } from "#kit";
import { FrameReader } from "./frame-reader.ts";
import { FrameWriter } from "./frame-writer.ts";
import { HeadEncoder } from "./head-encoder.ts";
import { MOVED, SessionReader } from "./session-reader.ts";
import { SessionState } from "./session-state.ts";
import {
  END_FLAG,
  type FlatFields,
  FRAME,
  type LinkEvent,
  type LinkLimits,
  type LinkRequestHead,
  type LinkResponseHead,
  type SessionReason,
  STREAM_ID_MAX,
  type StreamReason,
} from "./words.ts";

/** Replies that wait to be sent; who makes us owe more does not read. */
const REPLIES_MAX = 1_024;
const NO_FIELDS: FlatFields = [];

export class LinkSession {
  readonly #state: SessionState;
  readonly #reader: FrameReader;
  readonly #encoder = new HeadEncoder();

  constructor(role: "client" | "server", limits: LinkLimits, now: MonotonicMs) {
    this.#state = new SessionState(role, limits, now);
    this.#reader = new FrameReader(new SessionReader(this.#state));
  }

  /** Where the other side takes the UDP carrier; undefined: it does not, or has not said so yet. */
  get peerUdpPort(): number | undefined {
    return this.#state.peerUdpPort;
  }
  /** Streams that are open. */
  get streams(): number {
    return this.#state.streams.size;
  }
  /** Streams that the client may open now. */
  get streamsLeft(): number {
    if (this.#state.isDraining || this.#state.endReason !== undefined || this.#state.topId === STREAM_ID_MAX)
      return 0;
    return Math.max(0, this.#state.peerStreamsMax - this.#state.streams.size);
  }
  /** Nothing new is begun. */
  get isDraining(): boolean {
    return this.#state.isDraining;
  }
  /** Why it is over; undefined: it is not. */
  get endReason(): SessionReason | undefined {
    return this.#state.endReason;
  }
  /** Whether {@link pollTransmit} has something. */
  get hasOutput(): boolean {
    return this.#state.outgoing.hasSome;
  }
  /** Undefined: not measured yet. */
  get rttMs(): number | undefined {
    return this.#state.liveness.rttMs;
  }
  /** When the last bytes came. */
  get heardAt(): MonotonicMs {
    return this.#state.liveness.heardAt;
  }
  /** Since when a ping is unanswered; undefined: none is. */
  get askingSince(): MonotonicMs | undefined {
    return this.#state.liveness.askingSince;
  }
  /** By how much windows have grown, all together. */
  get grownBytes(): number {
    return this.#state.windows.grownBytes;
  }
  /** What it keeps for the other side beyond its streams' content, for tests of its bounds. */
  get keptBytes(): number {
    return this.#reader.heldBytes + this.#state.outgoing.framesBytes;
  }

  /** Begins a request. Its stream, or why it cannot be sent ("refused": {@link streamsLeft} is 0). */
  request(head: LinkRequestHead, isEnd: boolean, now: MonotonicMs): number | StreamReason {
    if (this.#state.isServer || this.streamsLeft === 0) return "refused";
    const fault = this.#encoder.request(head);
    if (fault !== undefined) return fault;
    this.#state.now = now;
    const id = ++this.#state.topId;
    this.#state.lastId = id;
    const stream = this.#state.begin(id, head);
    stream.hasSentHead = true;
    stream.isEndQueued = isEnd;
    stream.hasEnded = isEnd;
    this.#state.frames.encoded(FRAME.head | (isEnd ? END_FLAG : 0), id, this.#encoder);
    return id;
  }

  /** Of a client: asks for the rest of an answer that comes by UDP. Its stream here, or "refused" as {@link request} has it. */
  move(channel: number, stream: number, now: MonotonicMs): number | "refused" {
    if (this.#state.isServer || this.streamsLeft === 0) return "refused";
    this.#state.now = now;
    const id = ++this.#state.topId;
    this.#state.lastId = id;
    const moved = this.#state.begin(id, MOVED);
    moved.hasSentHead = true;
    moved.isEndQueued = true;
    moved.hasEnded = true;
    moved.hasHead = true;
    this.#state.frames.move(id, channel, stream);
    return id;
  }

  /** Sends the head of an answer, or an interim one. A reason: it cannot be sent; nothing was. Nothing is sent on streams that are gone. */
  respond(id: number, head: LinkResponseHead, isEnd: boolean): StreamReason | undefined {
    const stream = this.#state.streams.get(id);
    if (stream === undefined || stream.isEndQueued) return undefined;
    const isInterim = head.status < 200;
    if (stream.hasSentHead || (isInterim && isEnd)) return "order";
    const fault = this.#encoder.response(head);
    if (fault !== undefined) return fault;
    stream.hasSentHead = !isInterim;
    this.#state.frames.encoded(FRAME.head | (isEnd ? END_FLAG : 0), id, this.#encoder);
    if (isEnd) {
      stream.isEndQueued = true;
      stream.hasEnded = true;
      this.#state.ended(stream);
    }
    return undefined;
  }

  /** Queues content, which must not change any more; a head was sent before it. */
  send(id: number, content: Uint8Array): void {
    const stream = this.#state.streams.get(id);
    if (stream === undefined || stream.isEndQueued || content.byteLength === 0) return;
    (stream.queue ??= []).push(content);
    stream.queuedBytes += content.byteLength;
    this.#state.outgoing.schedule(stream);
  }

  /** Of an answer whose head was sent: takes back what waits to be sent, and whether its end does. Undefined: there is none. */
  takeBack(id: number): { readonly content: readonly Uint8Array[]; readonly isEnd: boolean } | undefined {
    const stream = this.#state.streams.get(id);
    if (stream === undefined || !stream.hasSentHead) return undefined;
    const [first, ...rest] = stream.queue ?? [];
    const content = first === undefined ? [] : [first.subarray(stream.queueAt), ...rest];
    const isEnd = stream.isEndQueued;
    this.#state.outgoing.drop(stream);
    return { content, isEnd };
  }

  /** What we send on it ends with what is queued, and with trailers if there are any. A reason: those cannot be sent. */
  end(id: number, trailers: FlatFields = NO_FIELDS): StreamReason | undefined {
    const stream = this.#state.streams.get(id);
    if (stream === undefined || stream.isEndQueued) return undefined;
    if (trailers.length > 0) {
      const fault = this.#encoder.trailers(trailers);
      if (fault !== undefined) return fault;
      const frame = new FrameWriter();
      frame.encoded(FRAME.trailers, id, this.#encoder);
      stream.lastFrame = frame.view();
    }
    stream.isEndQueued = true;
    this.#state.outgoing.schedule(stream);
    return undefined;
  }

  /** Bytes that wait to be sent on a stream. */
  queuedBytes(id: number): number {
    return this.#state.streams.get(id)?.queuedBytes ?? 0;
  }

  /** Content that was told of was used: as much more may come. */
  consume(id: number, bytes: number, now: MonotonicMs): void {
    const stream = this.#state.streams.get(id);
    if (stream === undefined) return;
    const granted = this.#state.windows.handleRead(stream, bytes, this.#state.liveness.rttMs, now);
    if (granted > 0) this.#state.frames.credit(id, granted);
  }

  /** Gives a stream up: nothing more is sent on it nor heard of it. */
  cancel(id: number, reason: StreamReason): void {
    const stream = this.#state.streams.get(id);
    if (stream !== undefined) this.#state.cancel(stream, reason);
  }

  /** Of a client: tells a server that has offered it that it will come by UDP. Returns what tells the keys from all others of the session. */
  announceUdp(): number {
    const context = ++this.#state.udpContext;
    this.#state.frames.udp(context);
    return context;
  }

  /** Of a server: asks the client to begin nothing new, and takes all the same what is on its way. {@link drain} follows. */
  announceEnd(): void {
    if (!this.#state.isDraining && this.#state.endReason === undefined)
      this.#state.frames.goaway("done", STREAM_ID_MAX);
  }

  /** Begins nothing new; what is open is finished. */
  drain(): void {
    if (this.#state.isDraining || this.#state.endReason !== undefined) return;
    this.#state.isDraining = true;
    this.#state.frames.goaway("done", this.#state.lastId);
  }

  handleBytes(bytes: Uint8Array, now: MonotonicMs): void {
    if (this.#state.endReason !== undefined) return;
    this.#state.now = now;
    this.#state.liveness.handleHeard(now);
    const fault = this.#reader.read(bytes);
    if (fault !== undefined) this.#state.fail(fault);
    else if (this.#state.replies > REPLIES_MAX) this.#state.fail("control-flood");
  }

  handleTimeout(now: MonotonicMs): void {
    if (this.#state.endReason !== undefined) return;
    const due = this.#state.liveness.handleTimeout(this.#state.streams.size > 0, now);
    if (due === "ping") this.#state.frames.ping(this.#state.liveness.pingNumber);
    else if (due === "silent") this.#state.fail("silent");
  }

  /** When {@link handleTimeout} is due. Undefined: never. */
  pollTimeout(): MonotonicMs | undefined {
    return this.#state.endReason === undefined
      ? this.#state.liveness.pollTimeout(this.#state.streams.size > 0)
      : undefined;
  }

  /** Writes what is to be sent, as far as there is room; how many bytes, 0: nothing waits. */
  pollTransmit(into: Uint8Array): number {
    const bytes = this.#state.outgoing.fill(into);
    if (this.#state.outgoing.framesBytes === 0) this.#state.replies = 0;
    return bytes;
  }

  pollEvent(): LinkEvent | undefined {
    return this.#state.pollEvent();
  }
}
