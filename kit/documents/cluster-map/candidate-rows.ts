import { allSteps, type Steps } from "../../steps.ts";
import { qualityCode, rttCode, SCORE_ABSURD, scoreCode } from "./codes.ts";

/** Traffic classes in the order of `trafficClasses`. */
export const CLASS_COUNT = 3;
export const CANDIDATES_MAX = 64;

/** The order of one class: candidates by their place in the row, best first. */
export interface ClassOrder {
  /** Places that are used, 1..count. */
  readonly length: number;
  /** Places of candidates, each at most once. */
  readonly positions: ArrayLike<number>;
  /** Of the same places, ascending. */
  readonly scores: ArrayLike<number>;
}

/** What one or many client networks may be sent to. The arrays may be longer than `count` and used again after the call. */
export interface CandidateRow {
  /** 1..64. */
  readonly count: number;
  /** Numbers of clusters, each once. */
  readonly clusters: ArrayLike<number>;
  readonly rttMs: ArrayLike<number>;
  readonly lossRatio: ArrayLike<number>;
  readonly confidence: ArrayLike<number>;
  /** interactive, bulk, live; each candidate is ranked by one of them at least. */
  readonly orders: readonly [ClassOrder, ClassOrder, ClassOrder];
}

const UNPLACED = 255;
const ENTRIES_START = 1024;

/**
 * Rows of candidates in typed arrays, each content once. Candidates stand in the order of the first class, then those that only the
 * second ranks, then the third's: so equal rows are equal arrays. Rows are numbered as they come.
 */
export class CandidateRows {
  #count = 0;
  #isClosed = false;
  #offsets = new Uint32Array(257);
  clusters = new Uint16Array(ENTRIES_START);
  rtts = new Uint16Array(ENTRIES_START);
  qualities = new Uint16Array(ENTRIES_START);
  /** How many candidates each class ranks: `CLASS_COUNT` a row. */
  #lengths = new Uint8Array(CLASS_COUNT * 256);
  /** From CLASS_COUNT * offset on, one after the other the classes' places (0 behind their lengths), `countOf(row)` each. */
  orders = new Uint8Array(CLASS_COUNT * ENTRIES_START);
  /** Beside `orders`. */
  scores = new Uint16Array(CLASS_COUNT * ENTRIES_START);
  /** Of each row's content; 0: not computed yet. Kept, so that a map that differs in few rows need not hash all of them again. */
  #hashes = new Uint32Array(257);
  /** Row numbers + 1 by hash, open addressing; undefined: contents are not looked up. */
  #table: Uint32Array | undefined = new Uint32Array(1024);

  get size(): number {
    return this.#count;
  }
  /** Candidates of all rows. */
  get entryCount(): number {
    return this.#offsets[this.#count] as number;
  }
  get byteLength(): number {
    const arrays = [
      this.#offsets,
      this.#hashes,
      this.clusters,
      this.rtts,
      this.qualities,
      this.#lengths,
      this.orders,
    ];
    return arrays.reduce(
      (sum, one) => sum + one.byteLength,
      this.scores.byteLength + (this.#table?.byteLength ?? 0),
    );
  }

  /** Place of the row's first candidate in `clusters`, `rtts` and `qualities`. */
  offsetOf(row: number): number {
    return this.#offsets[row] as number;
  }
  countOf(row: number): number {
    return (this.#offsets[row + 1] as number) - (this.#offsets[row] as number);
  }
  lengthOf(row: number, trafficClass: number): number {
    return this.#lengths[row * CLASS_COUNT + trafficClass] as number;
  }
  /** Place of the class's first element in `orders` and `scores`. */
  orderOffsetOf(row: number, trafficClass: number): number {
    return CLASS_COUNT * this.offsetOf(row) + trafficClass * this.countOf(row);
  }

  /**
   * The number of the row with this content. Throws RangeError when the row breaks the laws of its type. A figure that is none
   * (NaN, negative, too large) is kept as absurd: whether such a map may be used is asked of the whole (`snapshotProblems`).
   */
  add(row: CandidateRow, clusterCount: number): number {
    this.#encode(row, clusterCount);
    const found = this.#find();
    if (found !== undefined) return found;
    return this.commit();
  }

  /** Room for a row that is then written by hand behind the last one; `commit` makes it the last one. */
  open(count: number, lengths: readonly number[]): void {
    const at = this.entryCount;
    this.#reserve(at + count);
    this.#offsets[this.#count + 1] = at + count;
    this.#hashes[this.#count] = 0;
    this.#lengths.set(lengths, this.#count * CLASS_COUNT);
    this.orders.fill(0, CLASS_COUNT * at, CLASS_COUNT * (at + count));
    this.scores.fill(0, CLASS_COUNT * at, CLASS_COUNT * (at + count));
  }

  /** Makes room for so many candidates and rows in all. */
  expect(entries: number, rows: number): void {
    this.#reserve(entries, Math.max(rows - this.#count, 1));
  }

  commit(): number {
    return this.#count++;
  }

  /** No more rows will be added: gives back the memory that only adding needs. */
  closed(): this {
    allSteps(this.close());
    return this;
  }

  /** As {@link closed}, in steps. */
  *close(): Steps<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#table = undefined;
    const entries = this.entryCount;
    this.#offsets = cut(this.#offsets, this.#count + 1);
    this.#hashes = cut(this.#hashes, this.#count);
    this.#lengths = cut(this.#lengths, this.#count * CLASS_COUNT);
    yield;
    this.clusters = cut(this.clusters, entries);
    yield;
    this.rtts = cut(this.rtts, entries);
    yield;
    this.qualities = cut(this.qualities, entries);
    yield;
    this.orders = cut(this.orders, CLASS_COUNT * entries);
    yield;
    this.scores = cut(this.scores, CLASS_COUNT * entries);
  }

  /** The same rows, to which more can be added; `this` stays as it is. */
  reopened(): CandidateRows {
    const copy = new CandidateRows();
    copy.#count = this.#count;
    copy.#offsets = grown(this.#offsets, this.#count + 257);
    copy.#hashes = grown(this.#hashes, this.#count + 257);
    copy.#lengths = grown(this.#lengths, CLASS_COUNT * (this.#count + 257));
    const entries = this.entryCount + ENTRIES_START;
    copy.clusters = grown(this.clusters, entries);
    copy.rtts = grown(this.rtts, entries);
    copy.qualities = grown(this.qualities, entries);
    copy.orders = grown(this.orders, CLASS_COUNT * entries);
    copy.scores = grown(this.scores, CLASS_COUNT * entries);
    copy.#rehash(2 ** (33 - Math.clz32(this.#count + 512)));
    return copy;
  }

  /** Copies neighbouring rows of another table behind the last one, whether or not their content is here already. */
  appendRange(from: CandidateRows, first: number, count: number): void {
    const source = from.offsetOf(first);
    const entries = from.offsetOf(first + count) - source;
    const at = this.entryCount;
    this.#reserve(at + entries, count);
    for (let n = 1; n <= count; n++) this.#offsets[this.#count + n] = at + from.offsetOf(first + n) - source;
    this.#hashes.set(from.#hashes.subarray(first, first + count), this.#count);
    this.#lengths.set(
      from.#lengths.subarray(first * CLASS_COUNT, (first + count) * CLASS_COUNT),
      this.#count * CLASS_COUNT,
    );
    this.clusters.set(from.clusters.subarray(source, source + entries), at);
    this.rtts.set(from.rtts.subarray(source, source + entries), at);
    this.qualities.set(from.qualities.subarray(source, source + entries), at);
    const [begin, end] = [CLASS_COUNT * source, CLASS_COUNT * (source + entries)];
    this.orders.set(from.orders.subarray(begin, end), CLASS_COUNT * at);
    this.scores.set(from.scores.subarray(begin, end), CLASS_COUNT * at);
    this.#count += count;
  }

  /** Whether a row has the content of a row of another table. */
  isSameAs(row: number, other: CandidateRows, otherRow: number): boolean {
    const count = this.countOf(row);
    if (count !== other.countOf(otherRow)) return false;
    for (let k = 0; k < CLASS_COUNT; k++)
      if (this.lengthOf(row, k) !== other.lengthOf(otherRow, k)) return false;
    const [at, otherAt] = [this.offsetOf(row), other.offsetOf(otherRow)];
    return (
      isSame(this.clusters, at, other.clusters, otherAt, count) &&
      isSame(this.rtts, at, other.rtts, otherAt, count) &&
      isSame(this.qualities, at, other.qualities, otherAt, count) &&
      isSame(this.orders, CLASS_COUNT * at, other.orders, CLASS_COUNT * otherAt, CLASS_COUNT * count) &&
      isSame(this.scores, CLASS_COUNT * at, other.scores, CLASS_COUNT * otherAt, CLASS_COUNT * count)
    );
  }

  /** Writes the row behind the last one, in canonical form, without making it the last one. */
  #encode(row: CandidateRow, clusterCount: number): void {
    const { count, orders } = row;
    if (!(Number.isInteger(count) && count >= 1 && count <= CANDIDATES_MAX))
      throw new RangeError(`A row has 1 to ${CANDIDATES_MAX} candidates, got ${count}`);
    this.open(
      count,
      orders.map(({ length }) => length),
    );
    const at = this.entryCount;
    const placeOf = new Uint8Array(count).fill(UNPLACED);
    let placed = 0;
    for (const [k, { length, positions, scores }] of orders.entries()) {
      if (!(length >= 1 && length <= count))
        throw new RangeError(`A class ranks 1 to ${count} candidates, got ${length}`);
      const base = CLASS_COUNT * at + k * count;
      let last = 0;
      for (let rank = 0; rank < length; rank++) {
        const position = positions[rank] as number;
        if (!(position >= 0 && position < count))
          throw new RangeError(`There is no candidate ${position} of ${count}`);
        if (placeOf[position] === UNPLACED) {
          placeOf[position] = placed;
          this.#writeCandidate(row, position, at + placed++, clusterCount);
        }
        this.orders[base + rank] = placeOf[position] as number;
        const code = scoreCode(scores[rank] as number);
        if (code < last && last !== SCORE_ABSURD)
          throw new RangeError(`Scores ascend, got ${scores[rank]} after ${scores[rank - 1]}`);
        last = Math.max(last, code);
        this.scores[base + rank] = last;
      }
      if (hasTwice(this.orders, base, length))
        throw new RangeError("A class ranks a candidate more than once");
    }
    if (placed < count)
      throw new RangeError(`${count - placed} of ${count} candidates are ranked by no class`);
    if (hasTwice(this.clusters, at, count)) throw new RangeError("A row has a cluster more than once");
  }

  #writeCandidate(row: CandidateRow, position: number, at: number, clusterCount: number): void {
    const cluster = row.clusters[position] as number;
    if (!(Number.isInteger(cluster) && cluster >= 0 && cluster < clusterCount))
      throw new RangeError(`There is no cluster ${cluster} of ${clusterCount}`);
    this.clusters[at] = cluster;
    this.rtts[at] = rttCode(row.rttMs[position] as number);
    this.qualities[at] = qualityCode(row.lossRatio[position] as number, row.confidence[position] as number);
  }

  /** The row with the content of the one that is open, which is otherwise entered into the table. */
  #find(): number | undefined {
    if (this.#table === undefined) throw new RangeError("Rows are closed");
    if ((this.#count + 1) * 2 > this.#table.length) this.#rehash(this.#table.length * 2);
    const table = this.#table;
    const hash = this.#hashOf(this.#count);
    this.#hashes[this.#count] = hash;
    let slot = hash & (table.length - 1);
    for (; table[slot] !== 0; slot = (slot + 1) & (table.length - 1)) {
      const row = (table[slot] as number) - 1;
      if (this.isSameAs(row, this, this.#count)) return row;
    }
    table[slot] = this.#count + 1;
    return undefined;
  }

  #rehash(length: number): void {
    const table = new Uint32Array(length);
    for (let row = 0; row < this.#count; row++) {
      const hash = this.#hashes[row] || (this.#hashes[row] = this.#hashOf(row));
      let slot = hash & (length - 1);
      while (table[slot] !== 0) slot = (slot + 1) & (length - 1);
      table[slot] = row + 1;
    }
    this.#table = table;
  }

  /** FNV-1a over the codes (Fowler, Noll, Vo), mixed at the end. */
  #hashOf(row: number): number {
    let hash = 0x811c_9dc5;
    const mix = (value: number): void => {
      hash = Math.imul(hash ^ value, 0x0100_0193);
    };
    for (let k = 0; k < CLASS_COUNT; k++) mix(this.lengthOf(row, k));
    const end = this.#offsets[row + 1] as number;
    for (let at = this.offsetOf(row); at < end; at++) {
      mix(((this.clusters[at] as number) << 11) ^ (this.rtts[at] as number));
      mix(this.qualities[at] as number);
    }
    for (let at = CLASS_COUNT * this.offsetOf(row); at < CLASS_COUNT * end; at++)
      mix(((this.scores[at] as number) << 8) ^ (this.orders[at] as number));
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b_3c6d);
    return (hash ^ (hash >>> 13)) >>> 0;
  }

  #reserve(entries: number, rows = 1): void {
    if (this.#count + rows + 1 > this.#offsets.length) {
      this.#offsets = grown(this.#offsets, Math.max(this.#count + rows + 1, this.#offsets.length * 2));
      this.#hashes = grown(this.#hashes, this.#offsets.length);
      this.#lengths = grown(this.#lengths, this.#offsets.length * CLASS_COUNT);
    }
    if (entries <= this.clusters.length) return;
    const length = Math.max(entries, this.clusters.length * 2);
    this.clusters = grown(this.clusters, length);
    this.rtts = grown(this.rtts, length);
    this.qualities = grown(this.qualities, length);
    this.orders = grown(this.orders, length * CLASS_COUNT);
    this.scores = grown(this.scores, length * CLASS_COUNT);
  }
}

function isSame(
  one: Uint8Array | Uint16Array,
  at: number,
  other: Uint8Array | Uint16Array,
  otherAt: number,
  count: number,
): boolean {
  for (let index = 0; index < count; index++) if (one[at + index] !== other[otherAt + index]) return false;
  return true;
}

/** Few values: comparing each with each is faster than a set. */
function hasTwice(values: Uint8Array | Uint16Array, at: number, count: number): boolean {
  for (let index = 1; index < count; index++)
    for (let before = 0; before < index; before++)
      if (values[at + before] === values[at + index]) return true;
  return false;
}

/** Room that is left as it is when nothing more will be added: copying tens of megabytes for it would stop everything else. */
const SPARE_RATIO = 1.125;

function cut<A extends Uint8Array | Uint16Array | Uint32Array>(array: A, length: number): A {
  return (array.length <= length * SPARE_RATIO ? array.subarray(0, length) : array.slice(0, length)) as A;
}

function grown<A extends Uint8Array | Uint16Array | Uint32Array>(array: A, length: number): A {
  const larger = new (array.constructor as new (length: number) => A)(length);
  larger.set(array);
  return larger;
}
