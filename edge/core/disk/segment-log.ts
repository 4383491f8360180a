/**
 * The disk store's log: which segment and place a record gets, what is live, which segment goes. No bytes and no files here;
 * its driver writes what it is told, in order.
 *
 * **Order is the whole of crash safety.** There is one log; records and deletes are written in the order in which they were
 * appended, and a segment is removed only after what was saved out of it. So whatever a crash leaves is a beginning of the
 * log: replayed, it is the store as it was a moment ago, with no object in it that was deleted or replaced before that moment.
 *
 * **Eviction is by age**, a whole segment at a time: the oldest. What was used since it was written is appended again, up to
 * {@link REINSERTED_SHARE} of a segment, so that each new segment has at least the other half for what is new (writes at most
 * doubled). This is FIFO with reinsertion, which comes close to LRU without a list (Yang et al., "FIFO queues are all you need
 * for cache eviction", SOSP 2023, section 2). A delete in the oldest segment has nothing left to hide and goes with it.
 */
import { LocationIndex, type Location } from "./location-index.ts";
import {
  INDEX_ENTRY_BYTES,
  type LogRecord,
  recordBytes,
  type RecordKind,
  SEGMENT_HEADER_BYTES,
  SegmentIndex,
  TRAILER_BYTES,
} from "./segment-format.ts";

/** Share of a segment that may be filled again with what was used in the one that goes. */
export const REINSERTED_SHARE = 1 / 2;

const MEBIBYTE = 2 ** 20;
/** Large enough to write in long runs, small enough that reclaiming one is quick. */
const SEGMENT_BYTES_MAX = 64 * MEBIBYTE;
/** Holds the largest slice with its head several times over. */
const SEGMENT_BYTES_MIN = 4 * MEBIBYTE;
/** Parts of a small store: what is evicted at once. */
const SEGMENTS_WANTED = 64;
/** The least: one being written, one being reclaimed, two that serve. */
const SEGMENTS_MIN = 4;
/** Each open segment is a file descriptor: beyond it, segments of a large store grow. */
const SEGMENTS_MAX = 1_024;

/** Bytes of one segment for a store of `bytesMax`. */
export function segmentBytesFor(bytesMax: number): number {
  const wanted = Math.max(SEGMENT_BYTES_MIN, Math.floor(bytesMax / SEGMENTS_WANTED));
  const bounded = Math.max(Math.min(SEGMENT_BYTES_MAX, wanted), Math.ceil(bytesMax / SEGMENTS_MAX));
  return Math.min(bounded, Math.floor(bytesMax / SEGMENTS_MIN));
}

/** What the driver has to do, in order, before it writes the record that was appended last. */
export type LogStep =
  | { readonly type: "begin"; readonly segment: number }
  | {
      readonly type: "seal";
      readonly segment: number;
      /** End of the records. */
      readonly offset: number;
      readonly index: SegmentIndex;
    }
  | { readonly type: "drop"; readonly segment: number };

interface SegmentState {
  /** Of the file, as far as it is written or about to be. */
  bytes: number;
  /** Live objects in it. */
  objects: number;
}

/** The segment that is being written. */
interface ActiveSegment {
  readonly segment: number;
  readonly state: SegmentState;
  readonly index: SegmentIndex;
}

export class SegmentLog {
  readonly #bytesMax: number;
  readonly segmentBytes: number;
  readonly #index = new LocationIndex();
  /** By number, oldest first; the one being written is among them. */
  readonly #segments = new Map<number, SegmentState>();
  #active: ActiveSegment | undefined;
  #nextSegment = 1;
  #bytes = 0;
  #objects = 0;
  #evictions = 0;
  readonly #steps: LogStep[] = [];
  /** Objects in segments below it must be validated before they are used. */
  validateBefore = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.segmentBytes = segmentBytesFor(bytesMax);
  }

  /** Bytes of all segments. */
  get bytes(): number {
    return this.#bytes;
  }
  get objects(): number {
    return this.#objects;
  }
  get segments(): number {
    return this.#segments.size;
  }
  /** Objects that went with their segment. */
  get evictions(): number {
    return this.#evictions;
  }
  get indexBytes(): number {
    return this.#index.bytes;
  }
  /** Number of the oldest segment; undefined: there is none. */
  get oldestSegment(): number | undefined {
    return this.#segments.keys().next().value;
  }
  /** Number that the next segment will have. */
  get nextSegment(): number {
    return this.#nextSegment;
  }

  has(hi: number, lo: number): boolean {
    return this.#index.has(hi, lo);
  }

  /** The variants under a fingerprint, oldest first. */
  find(hi: number, lo: number): readonly Location[] {
    return this.#index.find(hi, lo);
  }

  isCurrent(location: Location): boolean {
    return this.#index.isCurrent(location);
  }

  markHit(location: Location): void {
    this.#index.markHit(location);
  }

  /** Sees to it that numbers up to `segment` are never given again: something of that name lies in the directory. */
  skipTo(segment: number): void {
    this.#nextSegment = Math.max(this.#nextSegment, segment + 1);
  }

  /** Takes up a segment that lies on disk. Oldest first, before anything is appended. */
  replay(segment: number, bytes: number, index: SegmentIndex): void {
    if (this.#segments.size === 0) this.#index.oldestSegment = segment;
    this.skipTo(segment);
    this.#segments.set(segment, { bytes, objects: 0 });
    this.#bytes += bytes;
    for (let number = 0; number < index.records; number++) {
      const record = index.at(number, segment);
      switch (record.kind) {
        case "object":
          this.#take(record);
          break;
        case "delete":
          this.#remove(record.hi, record.lo, undefined);
          break;
        case "delete-variant":
          this.#remove(record.hi, record.lo, record.variant);
          break;
        default:
          record.kind satisfies never;
      }
    }
  }

  /** After the last replay: lets go of what no longer fits. The steps say which files. */
  settle(): void {
    this.#makeRoom();
    this.#dropEmpty();
  }

  /** Whether a record of this size can ever be held. */
  fits(headBytes: number, bodyBytes: number): boolean {
    return (
      SEGMENT_HEADER_BYTES + recordBytes(headBytes, bodyBytes) + INDEX_ENTRY_BYTES + TRAILER_BYTES <=
      this.segmentBytes
    );
  }

  /**
   * Gives a record its place, and an object its entry: it is there for `find` from now on. Undefined: it does not fit.
   * {@link pollStep} before the record is written.
   */
  append(
    kind: RecordKind,
    hi: number,
    lo: number,
    variant: number,
    headBytes: number,
    bodyBytes: number,
  ): Location | undefined {
    if (!this.fits(headBytes, bodyBytes)) return undefined;
    const bytes = recordBytes(headBytes, bodyBytes);
    if (this.#active !== undefined) {
      const { state, index } = this.#active;
      const sealedBytes = state.bytes + bytes + (index.records + 1) * INDEX_ENTRY_BYTES + TRAILER_BYTES;
      if (sealedBytes > this.segmentBytes) this.seal();
    }
    const { segment, state, index } = (this.#active ??= this.#begin());
    const location: Location = { hi, lo, variant, segment, offset: state.bytes, headBytes, bodyBytes };
    index.add({ ...location, kind });
    state.bytes += bytes;
    this.#bytes += bytes;
    if (kind === "object") this.#take(location);
    return location;
  }

  /** Ends the segment that is being written, if there is one. */
  seal(): void {
    if (this.#active === undefined) return;
    const { segment, state, index } = this.#active;
    this.#active = undefined;
    this.#steps.push({ type: "seal", segment, offset: state.bytes, index });
    const bytes = index.records * INDEX_ENTRY_BYTES + TRAILER_BYTES;
    state.bytes += bytes;
    this.#bytes += bytes;
    this.#dropEmpty();
  }

  /** Begins a segment though nothing is appended yet: its header carries `validateBefore`. */
  begin(): void {
    this.#active ??= this.#begin();
  }

  /** The next thing to do before what was appended last is written; undefined: nothing. */
  pollStep(): LogStep | undefined {
    return this.#steps.shift();
  }

  /**
   * Forgets one variant, or all of a key. Returns whether anything was known: then a delete has to be appended, or it comes
   * back with the next start.
   */
  forget(hi: number, lo: number, variant?: number): boolean {
    const removed = this.#remove(hi, lo, variant);
    if (removed) this.#dropEmpty();
    return removed;
  }

  /**
   * Whether what is written pushes something out, now or with the next segment: also while the room of a segment that was just
   * reclaimed is being used up.
   */
  get isFull(): boolean {
    return !this.#hasRoomFor(3);
  }

  /** The oldest segment when there is no room for the next one: its used objects should be saved; then {@link drop} it. */
  victim(): number | undefined {
    const oldest = this.oldestSegment;
    const isDue = this.#active !== undefined && oldest !== this.#active.segment && !this.#hasRoomFor(2);
    return isDue ? oldest : undefined;
  }

  /** Whether so many whole segments fit beside those that are sealed. */
  #hasRoomFor(segments: number): boolean {
    const { size } = this.#segments;
    return (
      this.#bytes - this.activeBytes + segments * this.segmentBytes <= this.#bytesMax &&
      size + segments <= SEGMENTS_MAX
    );
  }

  /** Bytes of the segment that is being written. */
  get activeBytes(): number {
    return this.#active?.state.bytes ?? 0;
  }

  /** The objects that live in a segment and were not used since they were written, in order. */
  unused(segment: number, index: SegmentIndex): readonly LogRecord[] {
    const found: LogRecord[] = [];
    for (let number = 0; number < index.records; number++) {
      const record = index.at(number, segment);
      if (record.kind === "object" && this.#index.isCurrent(record) && !this.#index.isHit(record))
        found.push(record);
    }
    return found;
  }

  /** The objects of a segment that are worth their place again: live, used, trusted; the latest, up to the share. */
  keepers(segment: number, index: SegmentIndex): readonly LogRecord[] {
    const kept: LogRecord[] = [];
    if (segment < this.validateBefore) return kept;
    let left = this.segmentBytes * REINSERTED_SHARE;
    for (let number = index.records - 1; number >= 0; number--) {
      const record = index.at(number, segment);
      if (record.kind !== "object" || !this.#index.isHit(record)) continue;
      left -= recordBytes(record.headBytes, record.bodyBytes);
      if (left < 0) break;
      kept.push(record);
    }
    return kept.reverse();
  }

  /** Lets a segment go if it is the oldest and not being written: its objects are gone from this moment. */
  drop(segment: number): void {
    const state = this.#segments.get(segment);
    if (this.oldestSegment !== segment || state === undefined || this.#active?.segment === segment) return;
    this.#segments.delete(segment);
    this.#bytes -= state.bytes;
    this.#objects -= state.objects;
    this.#evictions += state.objects;
    this.#index.oldestSegment = segment + 1;
    this.#steps.push({ type: "drop", segment });
  }

  /** Lets go of everything, the segment that is being written included. */
  clear(): void {
    this.seal();
    for (const segment of this.#segments.keys()) this.drop(segment);
  }

  /**
   * The disk refused: of what was appended only the first `writtenBytes` of `segment` and everything before it are there.
   * `lost`: the records that are not. The next append begins a new segment.
   */
  abandon(segment: number, writtenBytes: number, lost: readonly Location[]): void {
    this.#active = undefined;
    for (const location of lost)
      if (this.#index.isCurrent(location)) this.#remove(location.hi, location.lo, location.variant);
    for (const [number, state] of this.#segments) {
      const bytes = number < segment ? state.bytes : number === segment ? writtenBytes : 0;
      this.#bytes -= state.bytes - bytes;
      state.bytes = bytes;
      if (bytes === 0) this.#segments.delete(number);
    }
  }

  #begin(): ActiveSegment {
    this.#makeRoom();
    const segment = this.#nextSegment++;
    if (this.#segments.size === 0) this.#index.oldestSegment = segment;
    const state: SegmentState = { bytes: SEGMENT_HEADER_BYTES, objects: 0 };
    this.#segments.set(segment, state);
    this.#bytes += SEGMENT_HEADER_BYTES;
    this.#steps.push({ type: "begin", segment });
    return { segment, state, index: new SegmentIndex() };
  }

  /** Drops the oldest segments until a whole new one fits beside the sealed ones. */
  #makeRoom(): void {
    for (const segment of this.#segments.keys()) {
      if (this.#hasRoomFor(1)) return;
      this.drop(segment);
    }
  }

  /** The oldest segments go when nothing in them lives: space is given back before it is needed. */
  #dropEmpty(): void {
    for (const [segment, state] of this.#segments) {
      if (state.objects > 0 || segment === this.#active?.segment) return;
      this.drop(segment);
    }
  }

  #take(location: Location): void {
    const previous = this.#index.put(location);
    if (previous === undefined) this.#objects++;
    else this.#uncount(previous);
    const state = this.#segments.get(location.segment);
    if (state !== undefined) state.objects++;
  }

  #remove(hi: number, lo: number, variant: number | undefined): boolean {
    const removed = this.#index.remove(hi, lo, variant);
    for (const location of removed) this.#uncount(location);
    this.#objects -= removed.length;
    return removed.length > 0;
  }

  #uncount(location: Location): void {
    const state = this.#segments.get(location.segment);
    if (state !== undefined) state.objects--;
  }
}
