/** One request's view of an object in slices: reads spans of it as if it were one body. */
import type { SlicedContent } from "../core/messages.ts";
import type { ByteSpan } from "../core/range.ts";
import { readAhead, sliceSpan } from "../core/slices.ts";
import { incomplete } from "./fill-budget.ts";
import type { ObjectBody } from "./object-body.ts";

/** Where a reader is: what streams the object keeps its pace. */
export interface Place {
  /** Slice that is read. */
  index: number;
}

/** Where the slices of one object come from. */
interface SliceSupply {
  readonly sliced: SlicedContent;
  /** Whether all slices of the spans are stored. */
  holds(spans: readonly ByteSpan[]): boolean;
  enter(place: Place): void;
  leave(place: Place): void;
  /** Says that a place has changed. */
  moved(): void;
  /** A slice, stored or arriving, for an answer that has begun or is to begin with it. Rejects when it cannot be had. */
  bodyOf(index: number, isBegun: boolean): Promise<ObjectBody>;
  /** Whoever reads on finds it arriving, and its failure would be his: it is for an answer that will have begun. */
  fetchAhead(index: number): void;
}

/** How often a reader asks again for one slice whose content broke off. */
const RETRIES_MAX = 2;

export class SlicedReadable {
  readonly #supply: SliceSupply;
  readonly #aheadMax: number;
  #prepared: Reading | undefined;

  constructor(supply: SliceSupply, aheadMax: number) {
    this.#supply = supply;
    this.#aheadMax = aheadMax;
  }

  /** Whether all of the spans can be read without asking anybody. */
  holds(spans: readonly ByteSpan[]): boolean {
    return this.#supply.holds(spans);
  }

  /**
   * Makes sure of the first slice of a span, so that an answer is not begun that could not go on. The next `read` of this
   * span takes it up. Rejects when the slice cannot be had.
   */
  async prepare(span: ByteSpan): Promise<void> {
    const reading = new Reading(this.#supply, span, this.#aheadMax);
    try {
      await reading.prepare();
    } catch (error) {
      reading.close();
      throw error;
    }
    this.#prepared = reading;
  }

  /**
   * The bytes `first..last` in order. Throws the last error when a slice cannot be had, or belongs to another version: what
   * was sent already cannot be taken back, and nothing of the other version is sent.
   */
  read(
    first = 0,
    last: number = this.#supply.sliced.totalBytes - 1,
  ): AsyncIterableIterator<Uint8Array, undefined> {
    const prepared = this.#prepared;
    if (prepared !== undefined && prepared.span.first === first && prepared.span.last === last) {
      this.#prepared = undefined;
      return prepared;
    }
    return new Reading(this.#supply, { first, last }, this.#aheadMax);
  }
}

class Reading implements AsyncIterableIterator<Uint8Array, undefined> {
  readonly span: ByteSpan;
  readonly #supply: SliceSupply;
  readonly #aheadMax: number;
  readonly #place: Place;
  /** Next byte of the object. */
  #at: number;
  #piece: AsyncIterableIterator<Uint8Array> | undefined;
  #slicesRead = 0;
  #retries = 0;
  #isClosed = false;

  constructor(supply: SliceSupply, span: ByteSpan, aheadMax: number) {
    this.span = span;
    this.#supply = supply;
    this.#aheadMax = aheadMax;
    this.#at = span.first;
    this.#place = { index: Math.floor(span.first / supply.sliced.sliceBytes) };
    supply.enter(this.#place);
  }

  async prepare(): Promise<void> {
    this.#piece = await this.#open();
  }

  /** The rest of the slice that `#at` lies in. */
  async #open(): Promise<AsyncIterableIterator<Uint8Array>> {
    const { sliced } = this.#supply;
    const index = Math.floor(this.#at / sliced.sliceBytes);
    if (index !== this.#place.index) {
      this.#place.index = index;
      this.#retries = 0;
      this.#slicesRead++;
      this.#supply.moved();
    }
    // Who did not say where the range ends gets more ahead of need only as it reads on.
    const isEndStated = this.span.last < sliced.totalBytes - 1;
    const body = this.#supply.bodyOf(index, this.#at > this.span.first);
    for (const next of readAhead(sliced, index, this.span, isEndStated, this.#slicesRead, this.#aheadMax))
      this.#supply.fetchAhead(next);
    const slice = sliceSpan(sliced, index);
    return (await body).read(this.#at - slice.first, Math.min(this.span.last, slice.last) - slice.first);
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (;;) {
      if (this.#isClosed || this.#at > this.span.last) {
        this.close();
        return { done: true, value: undefined };
      }
      try {
        this.#piece ??= await this.#open();
      } catch (error) {
        this.close();
        throw error;
      }
      try {
        const result = await this.#piece.next();
        if (result.done !== true) {
          this.#at += result.value.byteLength;
          return { done: false, value: result.value };
        }
        this.#piece = undefined;
        const { sliceBytes } = this.#supply.sliced;
        if (!this.#isClosed && this.#at <= this.span.last && this.#at % sliceBytes !== 0)
          throw incomplete(this.#at % sliceBytes, sliceBytes);
      } catch (error) {
        // The same bytes can be had again: the validator says that they are the same.
        this.#piece = undefined;
        if (this.#retries++ < RETRIES_MAX) continue;
        this.close();
        throw error;
      }
    }
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.close();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    void this.#piece?.return?.();
    this.#piece = undefined;
    this.#supply.leave(this.#place);
  }
}
