/**
 * What is to be sent: frames that are made already, in order, and the content of streams, cut into frames as there is room. Streams
 * stand in four queues; the first that has something goes first, and each of the others gets an eighth of what went before it.
 */
import { writeNumber } from "./bytes.ts";
import { FrameWriter } from "./frame-writer.ts";
import { DATA_BYTES_MAX, END_FLAG, FRAME, type Urgency } from "./words.ts";

/** The sending half of a stream. */
export interface Outgoing {
  readonly id: number;
  readonly urgency: Urgency;
  /** What the other side still takes, bytes. */
  sendCredit: number;
  /** Content in frames so far, bytes. */
  sentBytes: number;
  /** What waits, in order; the first from `queueAt` on. Undefined: nothing ever did. */
  queue: Uint8Array[] | undefined;
  queueAt: number;
  /** The queue of streams that it stands in; -1: none. */
  standsIn: number;
  queuedBytes: number;
  /** The half ends with what is queued. */
  isEndQueued: boolean;
  /** Its end has left, or is not going to. */
  hasEnded: boolean;
  /** A frame that ends it in place of a flag: its trailers. */
  lastFrame: Uint8Array | undefined;
}

export interface OutgoingEvents<S extends Outgoing> {
  /** Of what was queued nothing is left; its end is still to come. */
  drained(stream: S): void;
  /** The end of the half is in a frame. */
  ended(stream: S): void;
}

/** A stream of normal urgency is small until it has sent so much, bytes. */
export const SMALL_BYTES_MAX = 65_536;
/** live, small, large, background. */
const QUEUES = 4;
/** A queue that waits while another sends is owed this part of it. */
const OWED_PART = 1 / 8;
/** Content is not cut into less than this because little room is left, bytes. */
const PIECE_BYTES_MIN = 512;
const FRAME_HEAD_BYTES = 9;

export class OutgoingStreams<S extends Outgoing> {
  /** Frames that go before all content. */
  readonly frames = new FrameWriter();
  #framesAt = 0;
  readonly #events: OutgoingEvents<S>;
  readonly #queues: readonly Set<S>[] = Array.from({ length: QUEUES }, () => new Set<S>());
  /** What each queue is owed, bytes; 0 while it has nothing. */
  readonly #owed = new Float64Array(QUEUES);
  /** Streams in all queues. */
  #waiting = 0;

  constructor(events: OutgoingEvents<S>) {
    this.#events = events;
  }

  /** Bytes of made frames that wait. */
  get framesBytes(): number {
    return this.frames.length - this.#framesAt;
  }

  /** Whether {@link fill} would write something. */
  get hasSome(): boolean {
    return this.#waiting > 0 || this.framesBytes > 0;
  }

  /** It has something to send, or may send again. */
  schedule(stream: S): void {
    if (!canSend(stream)) return;
    if (stream.standsIn >= 0) return;
    stream.standsIn = queueOf(stream);
    (this.#queues[stream.standsIn] as Set<S>).add(stream);
    this.#waiting++;
  }

  /** Nothing more is sent for it. */
  drop(stream: S): void {
    stream.queue = undefined;
    stream.queuedBytes = 0;
    stream.queueAt = 0;
    if (stream.standsIn >= 0) this.#leave(stream);
  }

  /** Writes as much as there is, and room for; how much it was. */
  fill(into: Uint8Array): number {
    let at = this.#fillFrames(into);
    while (this.#waiting > 0) {
      const room = into.byteLength - at - FRAME_HEAD_BYTES;
      if (room < (at === 0 ? 1 : PIECE_BYTES_MIN)) break;
      const from = at;
      const queue = this.#next();
      at = this.#fillFrom(queue, into, at, room);
      this.#owe(queue, at - from);
    }
    return at;
  }

  #fillFrames(into: Uint8Array): number {
    const { frames } = this;
    const bytes = Math.min(this.framesBytes, into.byteLength);
    if (bytes === 0) return 0;
    into.set(frames.bytes.subarray(this.#framesAt, this.#framesAt + bytes));
    this.#framesAt += bytes;
    if (this.#framesAt === frames.length) {
      this.#framesAt = 0;
      frames.length = 0;
    } else if (this.#framesAt > into.byteLength) {
      // What has left makes room for what comes.
      frames.bytes.copyWithin(0, this.#framesAt, frames.length);
      frames.length -= this.#framesAt;
      this.#framesAt = 0;
    }
    return bytes;
  }

  /** The first queue that is owed a frame, or the first that has something. */
  #next(): number {
    let first = -1;
    for (let index = 0; index < QUEUES; index++) {
      if ((this.#queues[index] as Set<S>).size === 0) continue;
      if (first < 0) first = index;
      else if ((this.#owed[index] as number) >= DATA_BYTES_MAX) return index;
    }
    return first;
  }

  #owe(sender: number, bytes: number): void {
    for (let index = 0; index < QUEUES; index++) {
      if ((this.#queues[index] as Set<S>).size === 0) this.#owed[index] = 0;
      else if (index > sender) this.#owed[index] = (this.#owed[index] as number) + bytes * OWED_PART;
      else if (index === sender) this.#owed[index] = Math.max(0, (this.#owed[index] as number) - bytes);
    }
  }

  /** One frame of the stream that waits longest in a queue; where it ends. */
  #fillFrom(index: number, into: Uint8Array, at: number, room: number): number {
    const queue = this.#queues[index] as Set<S>;
    const stream = queue.values().next().value as S;
    // Streams of a queue take turns; who goes on sending stands last, or in the queue of the large ones.
    this.#leave(stream);
    const next = this.#fillPiece(stream, into, at, room);
    this.schedule(stream);
    return next;
  }

  #fillPiece(stream: S, into: Uint8Array, at: number, room: number): number {
    const bytes = Math.min(stream.queuedBytes, stream.sendCredit, DATA_BYTES_MAX, room);
    const isAll = bytes === stream.queuedBytes && stream.isEndQueued;
    let next = at;
    if (bytes > 0 || (isAll && stream.lastFrame === undefined)) {
      into[at] = FRAME.data | (isAll && stream.lastFrame === undefined ? END_FLAG : 0);
      next = writeNumber(into, at + 1, stream.id);
      next = writeNumber(into, next, bytes);
      for (let left = bytes; left > 0; ) left -= takePiece(stream, into, next + bytes - left, left);
      next += bytes;
      stream.sendCredit -= bytes;
      stream.sentBytes += bytes;
    }
    if (stream.queuedBytes > 0) return next;
    if (isAll) {
      if (stream.lastFrame !== undefined) this.frames.append(stream.lastFrame);
      stream.hasEnded = true;
      this.#events.ended(stream);
    } else this.#events.drained(stream);
    return next;
  }

  #leave(stream: S): void {
    (this.#queues[stream.standsIn] as Set<S>).delete(stream);
    stream.standsIn = -1;
    this.#waiting--;
  }
}

/** Moves up to `most` bytes of the first chunk; how many. */
function takePiece(stream: Outgoing, into: Uint8Array, at: number, most: number): number {
  const queue = stream.queue as Uint8Array[];
  const first = queue[0] as Uint8Array;
  const left = first.byteLength - stream.queueAt;
  const bytes = Math.min(left, most);
  into.set(bytes === first.byteLength ? first : first.subarray(stream.queueAt, stream.queueAt + bytes), at);
  stream.queuedBytes -= bytes;
  if (bytes === left) {
    queue.shift();
    stream.queueAt = 0;
  } else stream.queueAt += bytes;
  return bytes;
}

function canSend({ queuedBytes, sendCredit, isEndQueued, hasEnded }: Outgoing): boolean {
  return !hasEnded && (queuedBytes > 0 ? sendCredit > 0 : isEndQueued);
}

function queueOf({ urgency, sentBytes }: Outgoing): number {
  if (urgency === "live") return 0;
  if (urgency === "background") return QUEUES - 1;
  return sentBytes < SMALL_BYTES_MAX ? 1 : 2;
}
