/**
 * What turns one cluster map into another one, in bytes. Most of two maps in a row is the same: of each place that differs (a client network or
 * the fallback) it tells the row, if that is another one, and the choice.
 *
 *     "ICD2"  checksums of base and result (64 bits each)  version (64)  clusters  limits  client networks (1: the base's)  places  checksum (64)
 *
 * Client networks that are others are told whole: they change when address space is cut anew, not from cycle to cycle.
 */
import { BitReader, BitsError, BitWriter } from "../../bits.ts";
import { ParseError, type Path } from "../../schema.ts";
import { allSteps, type Steps } from "../../steps.ts";
import { CandidateRows, CLASS_COUNT } from "./candidate-rows.ts";
import type { ClientNetworkTable } from "./client-network-table.ts";
import { ClusterMapTable, type Placements } from "./cluster-map-table.ts";
import {
  checksumOf,
  emptyPlacements,
  encodeInSteps,
  isSameNetworks,
  readChoice,
  readClusters,
  readLimitNames,
  sealed,
  unsealed,
  writeChoice,
  writeClusters,
  writeLimitNames,
} from "./codec.ts";
import { readNetworks, STEP, writeNetworks } from "./network-codec.ts";
import { PackedClusterMap } from "./packed.ts";
import { RowCoder } from "./row-codec.ts";

const MAGIC = 0x49434432;
/** What is told of a place that differs: its choice alone, or another row: one of the base, one that the diff had before, or a new one. */
const SAME_ROW = 0;
const BASE_ROW = 1;
const KNOWN_ROW = 2;
const NEW_ROW = 3;
const KIND_BITS = 2;
const NOWHERE = -1;

/** Throws ParseError when one of the two does not decode. */
export function diffClusterMaps(base: PackedClusterMap, next: PackedClusterMap): Uint8Array {
  return allSteps(diffInSteps(base, next));
}

/** As {@link diffClusterMaps}, in steps of a few milliseconds. */
export function* diffInSteps(base: PackedClusterMap, next: PackedClusterMap): Steps<Uint8Array> {
  const a = yield* base.tableInSteps();
  const b = yield* next.tableInSteps();
  const out = new BitWriter();
  out.write32(MAGIC);
  writeChecksum(out, checksumOf(yield* base.bytesInSteps()));
  writeChecksum(out, checksumOf(yield* next.bytesInSteps()));
  out.write32(Math.floor(b.mapVersion / 2 ** 32));
  out.write32(b.mapVersion >>> 0);
  writeClusters(out, b.clusterIds, b.parts.loads);
  writeLimitNames(out, b.parts.limitNames);
  const areSame = yield* isSameNetworks(a.networks, b.networks);
  out.write(areSame ? 1 : 0, 1);
  if (!areSame) yield* writeNetworks(out, b.networks);
  yield* writePlaces(out, a, b, yield* baseNumbers(a.networks, b.networks, areSame));
  return yield* sealed(out.bytes());
}

/**
 * The map that the diff leads to, its bytes exactly those that it was made from. Throws ParseError, and nothing has changed, when the diff is
 * damaged, was made for another base, or leads elsewhere.
 */
export function applyClusterMapDiff(
  base: PackedClusterMap,
  diff: Uint8Array,
  path: Path = [],
): PackedClusterMap {
  return allSteps(applyDiffsInSteps(base, [diff], path));
}

/**
 * As {@link applyClusterMapDiff}, in steps of a few milliseconds, and several that follow on each other at once: only the last map is
 * written out to be compared with what it has to be, since that costs most.
 */
export function* applyDiffsInSteps(
  base: PackedClusterMap,
  diffs: readonly Uint8Array[],
  path: Path = [],
): Steps<PackedClusterMap> {
  let table = yield* base.tableInSteps();
  let checksum = checksumOf(yield* base.bytesInSteps());
  for (const diff of diffs) {
    const next = yield* applied(table, checksum, diff, path);
    table = next.table;
    checksum = next.checksum;
  }
  const bytes = yield* encodeInSteps(table);
  if (checksumOf(bytes) !== checksum)
    throw new ParseError(path, checksumOf(bytes), `a result with the checksum ${checksum}`);
  return PackedClusterMap.ofBoth(table, bytes, path);
}

/** The map that one diff leads to, and the checksum that it must have. */
function* applied(
  a: ClusterMapTable,
  own: string,
  diff: Uint8Array,
  path: Path,
): Steps<{ readonly table: ClusterMapTable; readonly checksum: string }> {
  const from = new BitReader(yield* unsealed(diff, path));
  try {
    if (from.read32() !== MAGIC) from.fail("a difference of cluster maps");
    const [baseChecksum, checksum] = [readChecksum(from), readChecksum(from)];
    if (baseChecksum !== own)
      throw new ParseError(path, `one for ${baseChecksum}`, `a difference for the map ${own}`);
    const mapVersion = from.read32() * 2 ** 32 + from.read32();
    const { clusterIds, loads } = readClusters(from);
    const limitNames = readLimitNames(from);
    const areSame = from.read(1) === 1;
    const networks = areSame ? a.networks : yield* readNetworks(from);
    const numbers = yield* baseNumbers(a.networks, networks, areSame);
    const { rows, placements } = yield* readPlaces(
      from,
      a,
      numbers,
      networks.size + 1,
      clusterIds.length,
      limitNames.length,
    );
    from.end();
    const table = new ClusterMapTable({
      mapVersion,
      networks,
      clusterIds,
      loads,
      limitNames,
      rows,
      placements,
    });
    return { table, checksum };
  } catch (error) {
    if (!(error instanceof BitsError)) throw error;
    throw new ParseError(path, `bit ${error.bitOffset} of ${diff.length} bytes`, error.message);
  }
}

/** Numbers in the base of the places of the next map: client networks by name, the fallback; NOWHERE: the base has none. */
function* baseNumbers(a: ClientNetworkTable, b: ClientNetworkTable, areSame: boolean): Steps<Int32Array> {
  const numbers = new Int32Array(b.size + 1);
  for (let place = 0; place < b.size; place++) {
    if (place % STEP === STEP - 1) yield;
    numbers[place] = areSame ? place : (a.indexOf(b.idOf(place)) ?? NOWHERE);
  }
  numbers[b.size] = a.size;
  return numbers;
}

/** Places that differ, each behind the number of those before it that do not. */
function* writePlaces(
  out: BitWriter,
  a: ClusterMapTable,
  b: ClusterMapTable,
  numbers: Int32Array,
): Steps<void> {
  const rowsInBase = yield* commonRows(a, b, numbers);
  const toldAs = new Int32Array(b.parts.rows.size).fill(NOWHERE);
  const coder = new RowCoder(b.clusterIds.length);
  let told = 0;
  let alike = 0;
  for (const [place, number] of numbers.entries()) {
    if (place % STEP === STEP - 1) yield;
    const row = b.rowOf(place);
    const rowInBase = rowsInBase[row] as number;
    const isSameRow = number !== NOWHERE && rowInBase === a.rowOf(number);
    if (isSameRow && isSameChoice(a.parts.placements, number, b.parts.placements, place)) {
      alike++;
      continue;
    }
    out.writeNumber(alike);
    alike = 0;
    if (isSameRow) out.write(SAME_ROW, KIND_BITS);
    else if (rowInBase !== NOWHERE) {
      out.write(BASE_ROW, KIND_BITS);
      out.writeNumber(rowInBase);
    } else if (toldAs[row] !== NOWHERE) {
      out.write(KNOWN_ROW, KIND_BITS);
      out.writeNumber(toldAs[row] as number);
    } else {
      out.write(NEW_ROW, KIND_BITS);
      coder.write(out, b.parts.rows, row);
      toldAs[row] = told++;
    }
    writeChoice(out, b.parts.placements, b.parts.rows, row, place, b.parts.limitNames.length);
  }
  out.writeNumber(alike);
}

/** By row of the next map the row of the base with the same content, where a place that has the one had the other. */
function* commonRows(a: ClusterMapTable, b: ClusterMapTable, numbers: Int32Array): Steps<Int32Array> {
  const found = new Int32Array(b.parts.rows.size).fill(NOWHERE);
  for (const [place, number] of numbers.entries()) {
    if (place % STEP === STEP - 1) yield;
    const row = b.rowOf(place);
    if (number === NOWHERE || found[row] !== NOWHERE) continue;
    const before = a.rowOf(number);
    if (b.parts.rows.isSameAs(row, a.parts.rows, before)) found[row] = before;
  }
  return found;
}

function isSameChoice(a: Placements, number: number, b: Placements, place: number): boolean {
  for (let k = 0; k < CLASS_COUNT; k++) {
    const [before, now] = [number * CLASS_COUNT + k, place * CLASS_COUNT + k];
    if (
      a.chosen[before] !== b.chosen[now] ||
      a.reasons[before] !== b.reasons[now] ||
      a.limits[before] !== b.limits[now]
    )
      return false;
  }
  return true;
}

function* readPlaces(
  from: BitReader,
  a: ClusterMapTable,
  numbers: Int32Array,
  places: number,
  clusterCount: number,
  limitCount: number,
): Steps<{ readonly rows: CandidateRows; readonly placements: Placements }> {
  const placements = emptyPlacements(places);
  const rows = new RowCopies(a.parts.rows, clusterCount);
  const coder = new RowCoder(clusterCount);
  const told: number[] = [];
  const baseRow = (place: number): number => {
    const number = numbers[place] as number;
    if (number === NOWHERE) from.fail("the row of a client network that the base does not have");
    return a.rowOf(number);
  };
  for (let place = 0; ; place++) {
    const end = place + from.readNumber();
    if (end > places) from.fail(`no more than ${places} places`);
    for (; place < end; place++) {
      if (place % STEP === STEP - 1) yield;
      placements.rows[place] = rows.ofBase(baseRow(place), from);
      copyChoice(a.parts.placements, numbers[place] as number, placements, place);
    }
    if (place === places) break;
    if (place % STEP === STEP - 1) yield;
    const kind = from.read(KIND_BITS);
    let row: number;
    if (kind === SAME_ROW) row = rows.ofBase(baseRow(place), from);
    else if (kind === BASE_ROW) {
      const number = from.readNumber();
      if (number >= a.parts.rows.size) from.fail("a row of the base");
      row = rows.ofBase(number, from);
    } else if (kind === KNOWN_ROW) {
      const known = told[from.readNumber()];
      if (known === undefined) from.fail("a row that the difference had before");
      row = known;
    } else {
      coder.read(from, rows.flushed());
      row = rows.flushed().size - 1;
      told.push(row);
    }
    placements.rows[place] = row;
    readChoice(from, placements, rows.flushed(), row, place, limitCount);
  }
  yield* rows.flushed().close();
  return { rows: rows.flushed(), placements };
}

function copyChoice(a: Placements, number: number, to: Placements, place: number): void {
  for (let k = 0; k < CLASS_COUNT; k++) {
    const [source, target] = [number * CLASS_COUNT + k, place * CLASS_COUNT + k];
    to.chosen[target] = a.chosen[source] as number;
    to.reasons[target] = a.reasons[source] as number;
    to.limits[target] = a.limits[source] as number;
  }
}

/** Rows that are copied at once: a millisecond or two. */
const COPIED_MAX = 8_192;

/** Rows of the base behind each other in the order of their first use; neighbours are copied together. */
class RowCopies {
  readonly #base: CandidateRows;
  readonly #rows = new CandidateRows();
  /** Number among the copies by number in the base. */
  readonly #numbers: Int32Array;
  readonly #mayBeCopied: boolean;
  #first = 0;
  #count = 0;

  constructor(base: CandidateRows, clusterCount: number) {
    this.#base = base;
    this.#numbers = new Int32Array(base.size).fill(NOWHERE);
    // Most of the base comes: growing step by step would copy all that there is, at once, each time that it doubles.
    this.#rows.expect(base.entryCount, base.size);
    this.#mayBeCopied = base.clusters.every((cluster) => cluster < clusterCount);
  }

  ofBase(row: number, from: BitReader): number {
    const known = this.#numbers[row] as number;
    if (known !== NOWHERE) return known;
    if (!this.#mayBeCopied) from.fail("rows of the base whose clusters are still there");
    if (this.#count === COPIED_MAX || (this.#count > 0 && row !== this.#first + this.#count)) this.flushed();
    if (this.#count === 0) this.#first = row;
    const number = this.#rows.size + this.#count++;
    this.#numbers[row] = number;
    return number;
  }

  /** All of them, none waiting to be copied. */
  flushed(): CandidateRows {
    if (this.#count > 0) this.#rows.appendRange(this.#base, this.#first, this.#count);
    this.#count = 0;
    return this.#rows;
  }
}

function writeChecksum(out: BitWriter, checksum: string): void {
  out.write32(Number.parseInt(checksum.slice(0, 8), 16));
  out.write32(Number.parseInt(checksum.slice(8), 16));
}

function readChecksum(from: BitReader): string {
  const [high, low] = [from.read32(), from.read32()];
  return high.toString(16).padStart(8, "0") + low.toString(16).padStart(8, "0");
}
