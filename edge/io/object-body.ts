/**
 * The content of one object as a list of chunks that many readers may follow while it is still being filled. Two modes:
 * `retained`, every chunk stays, so that the object can be stored and late readers can join; `window`, chunks are let go
 * once the slowest reader has them, and the writer waits while a full window is unread (back-pressure).
 */
import { ShortContent } from "./short-content.ts";
import { WINDOW_BYTES_MAX, type WindowShare } from "./window-total.ts";

/** What a chunk costs beside its bytes: typed array, buffer and what the allocator keeps for it (test/bench/memory.ts). */
const CHUNK_OVERHEAD_BYTES = 400;
/** What an entry of {@link ObjectBody.coded} takes beside its name and its chunks: the entry, the body's own state. */
const CODED_OVERHEAD_BYTES = 300;
/** How much a stored body may waste before it is copied, in shares of its bytes: what it holds is what is counted. */
const COMPACT_SLACK_SHARE = 1 / 16;
const COMPACT_PIECE_BYTES = 256 * 1_024;
/** Complete content of one piece up to this counts no readers: each has all of it at once. */
const SHORT_BYTES_MAX = 16 * 1_024;

/**
 * Another form of the same content, kept with it: ready; or on its way; or known to be of no use, so that nobody tries again.
 */
export type Coded = ObjectBody | "pending" | "useless";

interface Reader {
  /** Number of the next chunk to read, counted from the first chunk of the object. */
  next: number;
  wake: (() => void) | undefined;
}

export class ObjectBody {
  #chunks: Uint8Array[] = [];
  /** Number of the first chunk that is still here. */
  #base = 0;
  /** Bytes in `#chunks`. */
  #heldBytes = 0;
  #bytes = 0;
  #state: "filling" | "complete" | "failed" = "filling";
  #error: unknown;
  #isRetained: boolean;
  /** Made for the first reader: most stored bodies have none, and an empty set takes 200 bytes. */
  #readers: Set<Reader> | undefined;
  #wakeWriter: (() => void) | undefined;
  #coded: Map<string, Coded> | undefined;
  /** Called when a body in window mode has lost its last reader: nobody wants the rest. */
  onAbandoned: (() => void) | undefined;
  /** Called when the last reader of a body that is being filled and retained has left before it had what it asked for. */
  onUnread: (() => void) | undefined;
  /** Where what it holds in window mode is counted; undefined: it is retained, or has a window for itself. */
  #window: WindowShare | undefined;

  constructor(isRetained: boolean, window?: WindowShare) {
    this.#isRetained = isRetained;
    this.#window = window;
  }

  /** A complete body. */
  static of(chunks: readonly Uint8Array[]): ObjectBody {
    const body = new ObjectBody(true);
    // A copy of the very length, where pushing would leave room for 16 more.
    body.#chunks = chunks.filter((chunk) => chunk.byteLength > 0).slice();
    for (const chunk of chunks) body.#bytes += chunk.byteLength;
    body.#heldBytes = body.#bytes;
    body.finish();
    return body;
  }

  /** Bytes received so far; all of them once complete. */
  get bytes(): number {
    return this.#bytes;
  }
  get isComplete(): boolean {
    return this.#state === "complete";
  }
  get isFailed(): boolean {
    return this.#state === "failed";
  }
  get isRetained(): boolean {
    return this.#isRetained;
  }
  get readers(): number {
    return this.#readers?.size ?? 0;
  }
  /** Whether a new reader would get the object from its first byte. */
  get canJoin(): boolean {
    return this.#base === 0 && this.#state !== "failed";
  }
  /** The chunks of a complete, retained body. */
  get chunks(): readonly Uint8Array[] {
    return this.#chunks;
  }

  /** Other forms of this content, by what they are called. They live as long as it does. */
  get coded(): ReadonlyMap<string, Coded> {
    return this.#coded ?? NONE_CODED;
  }
  setCoded(name: string, coded: Coded | undefined): void {
    if (coded === undefined) this.#coded?.delete(name);
    else (this.#coded ??= new Map()).set(name, coded);
  }

  /** Memory that it holds, its other forms included. */
  get memoryBytes(): number {
    let memoryBytes = this.#chunkMemoryBytes;
    for (const [name, coded] of this.#coded ?? NONE_CODED)
      memoryBytes +=
        CODED_OVERHEAD_BYTES + name.length + (coded instanceof ObjectBody ? coded.memoryBytes : 0);
    return memoryBytes;
  }

  /** Memory that its chunks hold, the whole buffers of slices of larger ones included. */
  get #chunkMemoryBytes(): number {
    let memoryBytes = this.#chunks.length * CHUNK_OVERHEAD_BYTES;
    // One chunk is the rule; a set for it would cost more than the rest.
    if (this.#chunks.length === 1) return memoryBytes + (this.#chunks[0]?.buffer.byteLength ?? 0);
    const buffers = new Set<ArrayBufferLike>();
    for (const { buffer } of this.#chunks) {
      if (!buffers.has(buffer)) memoryBytes += buffer.byteLength;
      buffers.add(buffer);
    }
    return memoryBytes;
  }

  /**
   * This body, or a copy in pieces of its own when many small chunks, or slices of larger buffers, would hold much more
   * memory than they have bytes. Only for a complete, retained body.
   */
  compact(): ObjectBody {
    if (
      this.#state !== "complete" ||
      this.#chunkMemoryBytes <= this.#bytes * (1 + COMPACT_SLACK_SHARE) + CHUNK_OVERHEAD_BYTES
    )
      return this;
    const [only] = this.#chunks;
    if (only !== undefined && this.#chunks.length === 1 && only.byteLength <= COMPACT_PIECE_BYTES) {
      const own = Buffer.allocUnsafeSlow(only.byteLength);
      own.set(only);
      // Whoever reads has the old one or gets this.
      this.#chunks = [own];
      return this;
    }
    const pieces: Uint8Array[] = [];
    let piece = new Uint8Array(0);
    let filled = 0;
    let leftBytes = this.#bytes;
    for (const chunk of this.#chunks) {
      for (let from = 0; from < chunk.byteLength; ) {
        if (filled === piece.byteLength) {
          piece = new Uint8Array(Math.min(COMPACT_PIECE_BYTES, leftBytes));
          leftBytes -= piece.byteLength;
          filled = 0;
          pieces.push(piece);
        }
        const part = chunk.subarray(from, from + piece.byteLength - filled);
        piece.set(part, filled);
        filled += part.byteLength;
        from += part.byteLength;
      }
    }
    return ObjectBody.of(pieces);
  }

  append(chunk: Uint8Array): void {
    if (chunk.byteLength === 0) return;
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    this.#heldBytes += chunk.byteLength;
    this.#count();
    this.#wakeReaders();
  }

  finish(): void {
    if (this.#state !== "filling") return;
    this.#state = "complete";
    this.#letGo();
    this.#wakeReaders();
  }

  fail(error: unknown): void {
    if (this.#state !== "filling") return;
    this.#state = "failed";
    this.#error = error;
    this.#wakeReaders();
    this.#wakeWriter?.();
    this.#letGo();
  }

  /** The writer has ended: a stored body must not hold the exchange that it came from, ten times its size, in memory. */
  #letGo(): void {
    this.onAbandoned = undefined;
    this.onUnread = undefined;
    this.#wakeWriter = undefined;
  }

  /** Leaves the retained mode: the object turned out too large to keep. Without readers it is abandoned. */
  release(window?: WindowShare): void {
    if (!this.#isRetained || this.#state !== "filling") return;
    this.#isRetained = false;
    this.#window = window;
    this.#trim();
    this.#count();
    if (this.readers === 0) this.onAbandoned?.();
  }

  /** Says that its creator will not read it: in window mode, with no other reader, nobody wants the rest. */
  abandon(): void {
    if (!this.#isRetained && this.readers === 0 && this.#state === "filling") this.onAbandoned?.();
  }

  /** Whether the writer has to wait for readers: never in retained mode. */
  get isFull(): boolean {
    return !this.#isRetained && this.#heldBytes >= this.#windowBytes && this.#state === "filling";
  }

  /** Resolves when the writer may append more; at once in retained mode. */
  async room(): Promise<void> {
    while (this.isFull) {
      await new Promise<void>((resolve) => {
        this.#wakeWriter = resolve;
      });
      this.#wakeWriter = undefined;
    }
  }

  /**
   * The bytes `first..last` (inclusive) in order, as they arrive. The reader counts from this call on, before the first
   * `next()`, so that chunks are not let go in between. Throws the writer's error when the fill breaks off.
   */
  read(first = 0, last = Number.POSITIVE_INFINITY): AsyncIterableIterator<Uint8Array> {
    if (!this.canJoin) throw new Error("The beginning of this body is gone: nobody may join it any more");
    const isAll = this.#state === "complete" && first === 0 && last >= this.#bytes - 1;
    const [only] = this.#chunks;
    if (isAll && only !== undefined && this.#chunks.length === 1 && only.byteLength <= SHORT_BYTES_MAX)
      return new ShortContent(only);
    const reader: Reader = { next: 0, wake: undefined };
    const readers = (this.#readers ??= new Set());
    readers.add(reader);
    this.#count();
    let offset = 0;
    const close = (): void => {
      if (!readers.delete(reader)) return;
      reader.wake?.();
      this.#trim();
      this.#count();
      if (!this.#isRetained && readers.size === 0 && this.#state === "filling") this.onAbandoned?.();
    };
    const next = async (): Promise<IteratorResult<Uint8Array>> => {
      for (;;) {
        if (!readers.has(reader) || offset > last) {
          close();
          return { done: true, value: undefined };
        }
        const chunk = this.#chunks[reader.next - this.#base];
        if (chunk !== undefined) {
          reader.next++;
          this.#trim();
          const start = offset;
          offset += chunk.byteLength;
          if (offset <= first) continue;
          return {
            done: false,
            value:
              start >= first && offset - 1 <= last
                ? chunk
                : chunk.subarray(Math.max(0, first - start), Math.min(chunk.byteLength, last - start + 1)),
          };
        }
        if (this.#state === "failed") {
          close();
          throw this.#error;
        }
        if (this.#state === "complete") {
          close();
          return { done: true, value: undefined };
        }
        await new Promise<void>((resolve) => {
          reader.wake = resolve;
        });
        reader.wake = undefined;
      }
    };
    return {
      next,
      return: () => {
        const isEarly = readers.has(reader) && offset <= last;
        close();
        if (isEarly && this.#isRetained && readers.size === 0 && this.#state === "filling") this.onUnread?.();
        return Promise.resolve({ done: true, value: undefined });
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  #wakeReaders(): void {
    for (const reader of this.#readers ?? []) reader.wake?.();
  }

  /** In window mode lets go of what every reader has, and wakes the writer when there is room. */
  #trim(): void {
    if (this.#isRetained || this.#readers === undefined || this.#readers.size === 0) return;
    let slowest = Number.POSITIVE_INFINITY;
    for (const reader of this.#readers) slowest = Math.min(slowest, reader.next);
    const count = slowest - this.#base;
    if (count <= 0) return;
    for (const chunk of this.#chunks.splice(0, count)) this.#heldBytes -= chunk.byteLength;
    this.#base = slowest;
    this.#count();
    if (this.#heldBytes < this.#windowBytes) this.#wakeWriter?.();
  }

  get #windowBytes(): number {
    return this.#window?.windowBytes ?? WINDOW_BYTES_MAX;
  }

  /** Without readers it is let go, or will soon have some. */
  #count(): void {
    this.#window?.hold(this.readers === 0 ? 0 : this.#heldBytes);
  }
}

const NONE_CODED: ReadonlyMap<string, Coded> = new Map();
