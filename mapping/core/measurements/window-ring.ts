/**
 * Windows of many series in flat arrays: for each series the newest `windows` windows of `windowMs`, each with its counts and at
 * most `codesMax` codes of round-trip times. A window that is over is cut down to codes of equal shares; until then its samples
 * are held, every second one let go when there are too many. Rows come in slabs, so that memory follows the series.
 */
import type { EpochMs } from "#kit";
import type { ByteReader, ByteWriter } from "./bytes.ts";
import { encodeRtt, middleRanks, type WeightedCodes } from "./rtt-code.ts";

export interface WindowRingSettings {
  /** Length of a window, ms. */
  readonly windowMs: number;
  /** Windows kept of a series, the one that is still open included. */
  readonly windows: number;
  /** Codes kept of a window that is over, 2..64. With as many samples or fewer it is kept exactly. */
  readonly codesMax: number;
}

export interface WindowCounts {
  /** When the window began. */
  readonly at: EpochMs;
  readonly answered: number;
  readonly lost: number;
}

const SLAB_ROWS = 128;
/** Samples held of the open window: 64 of any number have a quantile within a few percent of rank. */
const OPEN_MAX = 64;
const COUNT_MAX = 65_535;
/** In `numbers`: nothing in this place. */
const EMPTY = 0;

/** Window w of row r lies at (r * windows + w % windows). */
class Slab {
  /** Number of the window in this place, counted from the epoch: places are taken in turn. */
  readonly numbers: Uint32Array;
  readonly answered: Uint16Array;
  readonly lost: Uint16Array;
  readonly codes: Uint16Array;
  /** Of each row: the samples of its newest window. */
  readonly open = new Uint16Array(SLAB_ROWS * OPEN_MAX);
  readonly openNumber = new Uint32Array(SLAB_ROWS);
  readonly openCount = new Uint8Array(SLAB_ROWS);
  /** Only each 2^n-th answered sample of the open window is held. */
  readonly openStride = new Uint8Array(SLAB_ROWS);

  constructor({ windows, codesMax }: WindowRingSettings) {
    const places = SLAB_ROWS * windows;
    this.numbers = new Uint32Array(places);
    this.answered = new Uint16Array(places);
    this.lost = new Uint16Array(places);
    this.codes = new Uint16Array(places * codesMax);
  }

  get bytes(): number {
    return [
      this.numbers,
      this.answered,
      this.lost,
      this.codes,
      this.open,
      this.openNumber,
      this.openCount,
      this.openStride,
    ].reduce((sum, array) => sum + array.byteLength, 0);
  }
}

export class WindowRing {
  readonly #settings: WindowRingSettings;
  readonly #slabs: Slab[] = [];

  constructor(settings: WindowRingSettings) {
    this.#settings = settings;
  }

  /** What the arrays take. */
  get bytes(): number {
    return this.#slabs.length === 0 ? 0 : this.#slabs.length * (this.#slabs[0] as Slab).bytes;
  }

  get spanMs(): number {
    return this.#settings.windowMs * this.#settings.windows;
  }

  /** Makes a row ready for a series; what another one left in it is forgotten. Rows are numbered from 0, without gaps. */
  clear(row: number): void {
    const { windows } = this.#settings;
    while (this.#slabs.length * SLAB_ROWS <= row) this.#slabs.push(new Slab(this.#settings));
    const slab = this.#slab(row);
    const r = row % SLAB_ROWS;
    slab.numbers.fill(EMPTY, r * windows, (r + 1) * windows);
    slab.openNumber[r] = EMPTY;
    slab.openCount[r] = 0;
  }

  /** Whether the sample was young enough for a window that is kept. */
  add(row: number, at: EpochMs, rttMs: number | null): boolean {
    const { windowMs, windows } = this.#settings;
    const slab = this.#slab(row);
    const r = row % SLAB_ROWS;
    const number = Math.floor(at / windowMs);
    const newest = slab.openNumber[r] as number;
    if (number <= EMPTY || number + windows <= newest) return false;
    if (number > newest) {
      this.#close(slab, r);
      slab.openNumber[r] = number;
      slab.openCount[r] = 0;
      slab.openStride[r] = 0;
    }
    const place = r * windows + (number % windows);
    if (slab.numbers[place] !== number) {
      slab.numbers[place] = number;
      slab.answered[place] = 0;
      slab.lost[place] = 0;
    }
    if (rttMs === null) {
      slab.lost[place] = Math.min(COUNT_MAX, (slab.lost[place] as number) + 1);
      return true;
    }
    const answered = slab.answered[place] as number;
    slab.answered[place] = Math.min(COUNT_MAX, answered + 1);
    if (number >= newest) this.#hold(slab, r, answered, encodeRtt(rttMs));
    else this.#insert(slab, place, answered, encodeRtt(rttMs));
    return true;
  }

  /** The windows that begin at `since` or later, oldest first. */
  windows(row: number, since: number): WindowCounts[] {
    const { windowMs } = this.#settings;
    const slab = this.#slab(row);
    return this.#places(row, since, Infinity).map((place) => ({
      at: ((slab.numbers[place] as number) * windowMs) as EpochMs,
      answered: slab.answered[place] as number,
      lost: slab.lost[place] as number,
    }));
  }

  /** Adds what is held of the windows that begin in [since, until) to `into`, and returns their counts. */
  collect(
    row: number,
    since: number,
    until: number,
    into: WeightedCodes,
  ): { answered: number; lost: number } {
    const { codesMax } = this.#settings;
    const slab = this.#slab(row);
    const r = row % SLAB_ROWS;
    const counts = { answered: 0, lost: 0 };
    for (const place of this.#places(row, since, until)) {
      const answered = slab.answered[place] as number;
      counts.answered += answered;
      counts.lost += slab.lost[place] as number;
      if (answered === 0) continue;
      const isOpen = slab.numbers[place] === slab.openNumber[r];
      const held = isOpen ? (slab.openCount[r] as number) : Math.min(answered, codesMax);
      const codes = isOpen ? slab.open : slab.codes;
      const from = isOpen ? r * OPEN_MAX : place * codesMax;
      for (let n = 0; n < held; n++) {
        into.codes.push(codes[from + n] as number);
        into.weights.push(answered / held);
      }
    }
    return counts;
  }

  /** All that is held of a row. */
  write(row: number, to: ByteWriter): void {
    const { codesMax } = this.#settings;
    const slab = this.#slab(row);
    const r = row % SLAB_ROWS;
    const openCount = slab.openCount[r] as number;
    to.u32(slab.openNumber[r] as number);
    to.u8(slab.openStride[r] as number);
    to.u8(openCount);
    for (let n = 0; n < openCount; n++) to.u16(slab.open[r * OPEN_MAX + n] as number);
    const places = this.#places(row, 0, Infinity);
    to.u16(places.length);
    for (const place of places) {
      const number = slab.numbers[place] as number;
      const answered = slab.answered[place] as number;
      to.u32(number);
      to.u16(answered);
      to.u16(slab.lost[place] as number);
      const held = number === slab.openNumber[r] ? 0 : Math.min(answered, codesMax);
      for (let n = 0; n < held; n++) to.u16(slab.codes[place * codesMax + n] as number);
    }
  }

  /**
   * Puts what was written into a row that was made ready. Throws RangeError for what no ring of these settings holds.
   *
   * @param latest no window begins later than this
   */
  read(row: number, from: ByteReader, latest: EpochMs): void {
    const { windowMs, windows, codesMax } = this.#settings;
    const slab = this.#slab(row);
    const r = row % SLAB_ROWS;
    const check = (holds: boolean, what: string): void => {
      if (!holds) throw new RangeError(`a series has ${what}`);
    };
    const newest = from.u32();
    check(newest * windowMs <= latest, "a window that is still to come");
    const stride = from.u8();
    const openCount = from.u8();
    check(stride < 17 && openCount <= OPEN_MAX, "an open window of more samples than are held");
    for (let n = 0; n < openCount; n++) slab.open[r * OPEN_MAX + n] = from.u16();
    const count = from.u16();
    check(count <= windows, `${count} windows of at most ${windows}`);
    let before = Math.max(EMPTY, newest - windows);
    for (let window = 0; window < count; window++) {
      const number = from.u32();
      check(number > before && number <= newest, "windows out of their order");
      before = number;
      const place = r * windows + (number % windows);
      const answered = from.u16();
      slab.numbers[place] = number;
      slab.answered[place] = answered;
      slab.lost[place] = from.u16();
      if (number === newest) {
        check(openCount <= answered, "more samples than it counts");
        continue;
      }
      let least = 0;
      for (let n = 0; n < Math.min(answered, codesMax); n++) {
        const code = from.u16();
        check(code >= least, "codes out of their order");
        slab.codes[place * codesMax + n] = least = code;
      }
    }
    check(count === 0 ? newest === EMPTY : before === newest, "an open window that it does not count");
    slab.openNumber[r] = newest;
    slab.openStride[r] = stride;
    slab.openCount[r] = openCount;
  }

  #slab(row: number): Slab {
    return this.#slabs[Math.floor(row / SLAB_ROWS)] as Slab;
  }

  /** Places of the kept windows that begin in [since, until), oldest first. */
  #places(row: number, since: number, until: number): number[] {
    const { windowMs, windows } = this.#settings;
    const slab = this.#slab(row);
    const r = row % SLAB_ROWS;
    const newest = slab.openNumber[r] as number;
    const first = Math.max(Math.ceil(since / windowMs), newest - windows + 1, 1);
    const last = Math.min(newest, Math.ceil(until / windowMs) - 1);
    const places: number[] = [];
    for (let number = first; number <= last; number++) {
      const place = r * windows + (number % windows);
      if (slab.numbers[place] === number) places.push(place);
    }
    return places;
  }

  /** A sample of the open window. */
  #hold(slab: Slab, r: number, answeredBefore: number, code: number): void {
    const stride = slab.openStride[r] as number;
    if (answeredBefore % 2 ** stride !== 0) return;
    const from = r * OPEN_MAX;
    let count = slab.openCount[r] as number;
    if (count === OPEN_MAX) {
      count = OPEN_MAX / 2;
      for (let n = 1; n < count; n++) slab.open[from + n] = slab.open[from + n * 2] as number;
      slab.openStride[r] = stride + 1;
    }
    slab.open[from + count] = code;
    slab.openCount[r] = count + 1;
  }

  #close(slab: Slab, r: number): void {
    const { windows, codesMax } = this.#settings;
    const count = slab.openCount[r] as number;
    if (count === 0) return;
    const place = r * windows + ((slab.openNumber[r] as number) % windows);
    const held = slab.open.subarray(r * OPEN_MAX, r * OPEN_MAX + count).sort();
    slab.codes.set(count <= codesMax ? held : middleRanks(held, codesMax), place * codesMax);
  }

  /** A sample of a window that is over: exact while there is room, else into the nearest ranks. */
  #insert(slab: Slab, place: number, answeredBefore: number, code: number): void {
    const { codesMax } = this.#settings;
    const from = place * codesMax;
    const held = Math.min(answeredBefore, codesMax);
    const codes = [...slab.codes.subarray(from, from + held), code].sort((a, b) => a - b);
    if (codes.length <= codesMax) {
      slab.codes.set(codes, from);
      return;
    }
    // One among many: it takes the place of its neighbour only as often as its weight says.
    if (answeredBefore % Math.ceil(answeredBefore / codesMax) === 0)
      slab.codes.set(middleRanks(codes, codesMax), from);
  }
}
