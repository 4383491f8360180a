import { type BitReader, type BitWriter, bitsBelow, unzigzag, zigzag } from "../../bits.ts";
import { CANDIDATES_MAX, type CandidateRows, CLASS_COUNT } from "./candidate-rows.ts";
import { QUALITY_BITS, RTT_BITS, RTT_STEPS_A_SCORE_STEP, SCORE_BITS } from "./codes.ts";

const COUNT_BITS = bitsBelow(CANDIDATES_MAX);
const WIDTH_BITS = 4;

/**
 * One row in bits, against the row before it: neighbours see the same clusters. Each choice that a writer has is bound to the one that
 * is told by the content, and a reader refuses the other: a row has one form.
 */
export class RowCoder {
  readonly #clusterBits: number;
  readonly #clusterCount: number;
  /** Place in the row before by cluster, and which row set it last: nothing needs clearing. */
  readonly #placeBefore: Uint8Array;
  readonly #setBy: Uint32Array;
  #rowsSeen = 0;
  #countBefore = 0;
  #clustersBefore: Uint16Array = new Uint16Array(0);
  #deltas: DeltaReader | undefined;

  constructor(clusterCount: number) {
    this.#clusterCount = clusterCount;
    this.#clusterBits = bitsBelow(clusterCount);
    this.#placeBefore = new Uint8Array(clusterCount);
    this.#setBy = new Uint32Array(clusterCount);
  }

  write(out: BitWriter, rows: CandidateRows, row: number): void {
    const count = rows.countOf(row);
    const at = rows.offsetOf(row);
    out.write(count - 1, COUNT_BITS);
    this.#writeOrders(out, rows, row, count);
    for (let n = 0; n < count; n++) {
      const cluster = rows.clusters[at + n] as number;
      const isKnown = this.#isInRowBefore(cluster);
      out.write(isKnown ? 1 : 0, 1);
      if (isKnown) out.write(this.#placeBefore[cluster] as number, bitsBelow(this.#countBefore));
      else out.write(cluster, this.#clusterBits);
    }
    out.write(rows.rtts[at] as number, RTT_BITS);
    writeDeltas(out, count - 1, (n) => (rows.rtts[at + n + 1] as number) - (rows.rtts[at + n] as number));
    for (let n = 0; n < count; n++) {
      const quality = rows.qualities[at + n] as number;
      const isSame = n > 0 && quality === rows.qualities[at + n - 1];
      if (n > 0) out.write(isSame ? 1 : 0, 1);
      if (!isSame) out.write(quality, QUALITY_BITS);
    }
    for (let k = 0; k < CLASS_COUNT; k++) this.#writeScores(out, rows, row, k);
    this.#remember(rows, at, count);
  }

  /** Adds a row behind the last one. */
  read(from: BitReader, rows: CandidateRows): void {
    const count = from.read(COUNT_BITS) + 1;
    const lengths = this.#readLengths(from, count);
    const row = rows.size;
    rows.open(count, lengths);
    const at = rows.offsetOf(row);
    this.#readOrders(from, rows, row, count);
    for (let n = 0; n < count; n++) rows.clusters[at + n] = this.#readCluster(from, rows, at, n);
    rows.rtts[at] = from.read(RTT_BITS);
    this.#deltas ??= new DeltaReader(from);
    const deltas = this.#deltas;
    deltas.begin(count - 1);
    for (let n = 1; n < count; n++) {
      const rtt = (rows.rtts[at + n - 1] as number) + deltas.next();
      if (rtt < 0 || rtt >= 2 ** RTT_BITS) from.fail("a round-trip time");
      rows.rtts[at + n] = rtt;
    }
    deltas.check();
    for (let n = 0; n < count; n++) {
      const before = rows.qualities[at + n - 1] as number;
      const isSame = n > 0 && from.read(1) === 1;
      const quality = isSame ? before : from.read(QUALITY_BITS);
      if (n > 0 && !isSame && quality === before) from.fail("a quality that differs from the one before");
      rows.qualities[at + n] = quality;
    }
    for (let k = 0; k < CLASS_COUNT; k++) readScores(from, deltas, rows, row, k);
    this.#remember(rows, at, count);
    rows.commit();
  }

  /** Lengths first; then the second and third order, unless they are the one before. The first one is 0, 1, 2 ... */
  #writeOrders(out: BitWriter, rows: CandidateRows, row: number, count: number): void {
    let isWhole = true;
    for (let k = 0; k < CLASS_COUNT; k++) isWhole &&= rows.lengthOf(row, k) === count;
    out.write(isWhole ? 1 : 0, 1);
    if (!isWhole)
      for (let k = 0; k < CLASS_COUNT; k++) out.write(rows.lengthOf(row, k) - 1, bitsBelow(count));
    for (let k = 1; k < CLASS_COUNT; k++) {
      const isSame = isOrderOfClassBefore(rows, row, k);
      out.write(isSame ? 1 : 0, 1);
      if (!isSame) writePermutation(out, rows, rows.orderOffsetOf(row, k), rows.lengthOf(row, k), count);
    }
  }

  #readLengths(from: BitReader, count: number): number[] {
    if (from.read(1) === 1) return [count, count, count];
    const lengths: number[] = [];
    for (let k = 0; k < CLASS_COUNT; k++) lengths.push(from.readBelow(count, "the length of an order") + 1);
    if (lengths.every((length) => length === count)) from.fail("a row that not every class ranks whole");
    return lengths;
  }

  #readOrders(from: BitReader, rows: CandidateRows, row: number, count: number): void {
    const first = rows.orderOffsetOf(row, 0);
    let placed = rows.lengthOf(row, 0);
    for (let place = 0; place < placed; place++) rows.orders[first + place] = place;
    for (let k = 1; k < CLASS_COUNT; k++) {
      const at = rows.orderOffsetOf(row, k);
      const length = rows.lengthOf(row, k);
      if (from.read(1) === 1) {
        const before = rows.orderOffsetOf(row, k - 1);
        if (length !== rows.lengthOf(row, k - 1)) from.fail("an order of its own length");
        rows.orders.copyWithin(at, before, before + length);
        continue;
      }
      readPermutation(from, rows, at, length, count);
      if (isOrderOfClassBefore(rows, row, k)) from.fail("an order that differs from the class before");
      // Candidates that this class is the first to rank stand in its order.
      for (let place = 0; place < length; place++) {
        const position = rows.orders[at + place] as number;
        if (position > placed) from.fail("candidates in the order in which classes rank them");
        if (position === placed) placed++;
      }
    }
    if (placed < count) from.fail("candidates that some class ranks");
  }

  #readCluster(from: BitReader, rows: CandidateRows, at: number, n: number): number {
    let cluster: number;
    if (from.read(1) === 1) {
      const place = from.readBelow(this.#countBefore, "a cluster of the row before");
      const found = this.#clustersBefore[place];
      if (found === undefined) from.fail("a row before");
      cluster = found;
    } else {
      cluster = from.readBelow(this.#clusterCount, "a cluster");
      if (this.#isInRowBefore(cluster)) from.fail("a cluster that the row before does not have");
    }
    for (let before = 0; before < n; before++)
      if (rows.clusters[at + before] === cluster) from.fail("each cluster once in a row");
    return cluster;
  }

  #isInRowBefore(cluster: number): boolean {
    return this.#rowsSeen > 0 && this.#setBy[cluster] === this.#rowsSeen;
  }

  #remember(rows: CandidateRows, at: number, count: number): void {
    this.#rowsSeen++;
    this.#countBefore = count;
    this.#clustersBefore = rows.clusters.subarray(at, at + count);
    for (let n = 0; n < count; n++) {
      const cluster = rows.clusters[at + n] as number;
      this.#setBy[cluster] = this.#rowsSeen;
      this.#placeBefore[cluster] = n;
    }
  }

  /**
   * The first score, then differences: plain ones, or what is left when scores grow as the round-trip times do; whichever is narrower, plain
   * ones when they are alike.
   */
  #writeScores(out: BitWriter, rows: CandidateRows, row: number, k: number): void {
    const at = rows.orderOffsetOf(row, k);
    const steps = rows.lengthOf(row, k) - 1;
    out.write(rows.scores[at] as number, SCORE_BITS);
    if (steps === 0) return;
    const plain = (n: number): number =>
      (rows.scores[at + n + 1] as number) - (rows.scores[at + n] as number);
    const beside = (n: number): number => plain(n) - rttStep(rows, row, k, n);
    const isBeside = widthOf(steps, beside, true) < widthOf(steps, plain, false);
    out.write(isBeside ? 1 : 0, 1);
    writeDeltas(out, steps, isBeside ? beside : plain, isBeside);
  }
}

function readScores(from: BitReader, deltas: DeltaReader, rows: CandidateRows, row: number, k: number): void {
  const at = rows.orderOffsetOf(row, k);
  const steps = rows.lengthOf(row, k) - 1;
  rows.scores[at] = from.read(SCORE_BITS);
  if (steps === 0) return;
  const isBeside = from.read(1) === 1;
  deltas.begin(steps, isBeside);
  for (let n = 0; n < steps; n++) {
    const before = rows.scores[at + n] as number;
    const score = before + deltas.next() + (isBeside ? rttStep(rows, row, k, n) : 0);
    if (score < before || score >= 2 ** SCORE_BITS) from.fail("scores in ascending order");
    rows.scores[at + n + 1] = score;
  }
  deltas.check();
  const plain = (n: number): number => (rows.scores[at + n + 1] as number) - (rows.scores[at + n] as number);
  const beside = (n: number): number => plain(n) - rttStep(rows, row, k, n);
  if (isBeside !== widthOf(steps, beside, true) < widthOf(steps, plain, false))
    from.fail("the narrower form of scores");
}

/** By how much the round-trip time grows from place n of the class's order to the next one, in steps of scores. */
function rttStep(rows: CandidateRows, row: number, k: number, n: number): number {
  const order = rows.orderOffsetOf(row, k) + n;
  const at = rows.offsetOf(row);
  const [before, after] = [rows.orders[order] as number, rows.orders[order + 1] as number];
  return inScoreSteps(rows.rtts[at + after] as number) - inScoreSteps(rows.rtts[at + before] as number);
}

function inScoreSteps(rtt: number): number {
  return Math.floor(rtt / RTT_STEPS_A_SCORE_STEP);
}

function isOrderOfClassBefore(rows: CandidateRows, row: number, k: number): boolean {
  const length = rows.lengthOf(row, k);
  if (length !== rows.lengthOf(row, k - 1)) return false;
  const at = rows.orderOffsetOf(row, k);
  const before = rows.orderOffsetOf(row, k - 1);
  for (let place = 0; place < length; place++)
    if (rows.orders[at + place] !== rows.orders[before + place]) return false;
  return true;
}

/** Each place among those that are left (Lehmer's code). */
function writePermutation(
  out: BitWriter,
  rows: CandidateRows,
  at: number,
  length: number,
  count: number,
): void {
  for (let place = 0; place < length; place++) {
    let rank = rows.orders[at + place] as number;
    const position = rank;
    for (let before = 0; before < place; before++)
      if ((rows.orders[at + before] as number) < position) rank--;
    out.write(rank, bitsBelow(count - place));
  }
}

function readPermutation(
  from: BitReader,
  rows: CandidateRows,
  at: number,
  length: number,
  count: number,
): void {
  const left = Uint8Array.from({ length: count }, (_, position) => position);
  for (let place = 0; place < length; place++) {
    const rank = from.readBelow(count - place, "a candidate");
    rows.orders[at + place] = left[rank] as number;
    left.copyWithin(rank, rank + 1);
  }
}

function widthOf(steps: number, delta: (n: number) => number, isSigned: boolean): number {
  let most = 0;
  for (let n = 0; n < steps; n++) {
    const code = isSigned ? zigzag(delta(n)) : delta(n);
    if (code > most) most = code;
  }
  return 32 - Math.clz32(most);
}

/** Differences in as many bits each as the largest needs. */
function writeDeltas(out: BitWriter, steps: number, delta: (n: number) => number, isSigned = true): void {
  if (steps === 0) return;
  const width = widthOf(steps, delta, isSigned);
  out.write(width, WIDTH_BITS);
  for (let n = 0; n < steps; n++) out.write(isSigned ? zigzag(delta(n)) : delta(n), width);
}

/** Reads what `writeDeltas` wrote: `begin`, `next` for each, `check`. One object for all rows. */
class DeltaReader {
  #from: BitReader;
  #width = 0;
  #most = 0;
  #isSigned = true;

  constructor(from: BitReader) {
    this.#from = from;
  }

  begin(steps: number, isSigned = true): void {
    this.#width = steps === 0 ? 0 : this.#from.read(WIDTH_BITS);
    this.#most = 0;
    this.#isSigned = isSigned;
  }

  next(): number {
    const code = this.#from.read(this.#width);
    if (code > this.#most) this.#most = code;
    return this.#isSigned ? unzigzag(code) : code;
  }

  /** The width must be the least that does. */
  check(): void {
    if (32 - Math.clz32(this.#most) !== this.#width) this.#from.fail("differences that need their width");
  }
}
