/**
 * The sending half of an HTTP/2 connection: answers that wait, put into frames as the client's windows allow (RFC 9113, section 5.2)
 * and as there is room before the socket. Streams take turns, a frame each. Pure.
 */
import { FLAG, FRAME, FRAME_BYTES_MAX, FrameWriter, WINDOW_INITIAL, WINDOW_MAX } from "./frames.ts";
import { EMPTY_TABLE } from "./hpack.ts";

/** What of a stream is to be sent. */
export interface Outgoing {
  readonly id: number;
  /** What the client still takes; below 0 after it took some back (section 6.9.2). */
  sendWindow: number;
  /** What waits, in order; the first from `queueAt` on. */
  readonly queue: Uint8Array[];
  queueAt: number;
  queuedBytes: number;
  isEndQueued: boolean;
}

/** Frames that wait before no more content is put to them: with one frame more they still leave in one write of 64 KiB. */
const OUTPUT_BYTES_FULL = 44 * 1_024;
const NOTHING = new Uint8Array(0);

export interface OutgoingEvents<S extends Outgoing> {
  /** Of what was queued for a stream, its end included, nothing is left. */
  drained(stream: S): void;
  /** The end of a stream is in a frame. */
  ended(stream: S): void;
}

export class OutgoingStreams<S extends Outgoing> {
  readonly output = new FrameWriter();
  readonly #events: OutgoingEvents<S>;
  /** Streams for which something waits, the next one first. */
  readonly #waiting = new Set<S>();
  /** What the client still takes on the connection, and what a new stream begins with. */
  window = WINDOW_INITIAL;
  initialWindow = WINDOW_INITIAL;
  /** A header block has to begin by saying that our table is empty. */
  owesTableSize = true;

  constructor(events: OutgoingEvents<S>) {
    this.#events = events;
  }

  /** Whether more content may be put to what waits for the socket. */
  get hasRoom(): boolean {
    return this.output.length < OUTPUT_BYTES_FULL;
  }

  isWaiting(stream: S): boolean {
    return this.#waiting.has(stream);
  }

  headers(id: number, block: Uint8Array, isEnd: boolean): void {
    this.output.headers(id, block, isEnd, this.owesTableSize ? EMPTY_TABLE : NOTHING);
    this.owesTableSize = false;
  }

  /** The whole content of an answer that needs no stream: at most what {@link atOnceBytesMax} says. */
  contentAtOnce(id: number, content: Uint8Array): void {
    this.window -= content.byteLength;
    this.output.frame(FRAME.data, FLAG.endStream, id, content);
  }

  /** Longest content that may leave at once, in one frame; below 0: not even an answer without content. */
  get atOnceBytesMax(): number {
    return this.hasRoom ? Math.max(0, Math.min(FRAME_BYTES_MAX, this.window, this.initialWindow)) : -1;
  }

  queue(stream: S, content: Uint8Array): void {
    stream.queue.push(content);
    stream.queuedBytes += content.byteLength;
    this.#waiting.add(stream);
  }

  /** The answer ends with what is queued. */
  end(stream: S): void {
    stream.isEndQueued = true;
    this.#waiting.add(stream);
  }

  /** Nothing more is sent for it. */
  drop(stream: S): void {
    this.#waiting.delete(stream);
  }

  /** Puts queued content into frames, a frame of each stream in turn, as far as windows and room allow. */
  pump(): void {
    // Who has sent a frame goes to the end, where this loop finds it again; who has to wait for a window is passed by.
    for (const stream of this.#waiting) {
      if (!this.hasRoom) return;
      if (this.#sendPiece(stream) && this.#waiting.delete(stream)) this.#waiting.add(stream);
    }
  }

  /** Section 6.9.2: it moves the windows of open streams, below 0 too. False: one is larger than may be. */
  setInitialWindow(value: number, streams: Iterable<S>): boolean {
    if (value > WINDOW_MAX) return false;
    const moved = value - this.initialWindow;
    this.initialWindow = value;
    for (const stream of streams) {
      stream.sendWindow += moved;
      if (stream.sendWindow > WINDOW_MAX) return false;
    }
    return true;
  }

  /** One frame of a stream, or its end. False: it has to wait. */
  #sendPiece(stream: S): boolean {
    const [first] = stream.queue;
    if (first === undefined) {
      this.#waiting.delete(stream);
      if (stream.isEndQueued) {
        this.output.frame(FRAME.data, FLAG.endStream, stream.id, NOTHING);
        this.#events.ended(stream);
        this.#events.drained(stream);
      }
      return true;
    }
    const left = first.byteLength - stream.queueAt;
    const bytes = Math.min(left, FRAME_BYTES_MAX, stream.sendWindow, this.window);
    if (bytes <= 0) return false;
    const piece = first.subarray(stream.queueAt, stream.queueAt + bytes);
    const isEnd = stream.isEndQueued && bytes === left && stream.queue.length === 1;
    this.output.frame(FRAME.data, isEnd ? FLAG.endStream : 0, stream.id, piece);
    stream.sendWindow -= bytes;
    this.window -= bytes;
    stream.queuedBytes -= bytes;
    stream.queueAt += bytes;
    if (bytes === left) {
      stream.queue.shift();
      stream.queueAt = 0;
    }
    if (stream.queue.length > 0) return true;
    if (isEnd || !stream.isEndQueued) this.#waiting.delete(stream);
    if (isEnd) this.#events.ended(stream);
    this.#events.drained(stream);
    return true;
  }
}
