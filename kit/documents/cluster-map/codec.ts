/**
 * The cluster map in bytes: one form for each map, so equal maps are equal bytes, and a reader refuses whatever a writer would not write.
 *
 *     "ICM2"  version (64 bits)  clusters  limits  client networks  rows  places  zeros to the byte  checksum (64 bits)
 *
 * Sections are rows of bits without gaps (`bits.ts`). The checksum is xxHash-64 of all that stands before it: it tells damage, not forgery;
 * who may publish a map is decided where it is published. "ICM1", which had all names of client networks written out, is still read.
 */
import { isSameArray } from "../../same-array.ts";
import { BitReader, BitsError, BitWriter, bitsBelow } from "../../bits.ts";
import { xxh64InSteps } from "../../hash.ts";
import type { ClusterId } from "../../ids.ts";
import { ParseError, type Path } from "../../schema.ts";
import { allSteps, type Steps } from "../../steps.ts";
import { CandidateRows, CLASS_COUNT } from "./candidate-rows.ts";
import type { ClientNetworkTable } from "./client-network-table.ts";
import { LIMIT_NAMES_MAX, MAP_CLUSTERS_MAX } from "./cluster-map-builder.ts";
import { ClusterMapTable, placementReasons, type Placements } from "./cluster-map-table.ts";
import { NameCoder, readNetworks, STEP, writeNetworks } from "./network-codec.ts";
import { RowCoder } from "./row-codec.ts";

const MAGIC = 0x49434d32;
const MAGIC_OLD = 0x49434d31;
const HEAD_BYTES = 12;
export const CHECKSUM_BYTES = 8;
/** Longest encoding that is read or written; 444,000 networks of eight candidates each of its own take 25 MB. */
export const CLUSTER_MAP_BYTES_MAX = 64 * 1024 * 1024;

const REASON_BITS = bitsBelow(16);
const LIMIT_NAME_BYTES_MAX = 255;
const BEST = placementReasons.indexOf("best");
const textEncoder = new TextEncoder();
const textDecoder = new TextDecoder("utf-8", { fatal: true });

/** Throws RangeError if the map is larger than what a reader takes. */
export function encodeClusterMap(map: ClusterMapTable): Uint8Array {
  return allSteps(encodeInSteps(map));
}

/** As {@link encodeClusterMap}, in steps of a few milliseconds. */
export function* encodeInSteps(map: ClusterMapTable): Steps<Uint8Array> {
  const { parts } = map;
  // More than most maps take: growing later would copy all that there is, at once.
  const out = new BitWriter(1024 + 8 * parts.networks.size + 5 * parts.rows.entryCount);
  out.write32(MAGIC);
  out.write32(Math.floor(parts.mapVersion / 2 ** 32));
  out.write32(parts.mapVersion >>> 0);
  writeClusters(out, parts.clusterIds, parts.loads);
  writeLimitNames(out, parts.limitNames);
  yield* writeNetworks(out, parts.networks);
  out.writeNumber(parts.rows.size);
  const coder = new RowCoder(parts.clusterIds.length);
  for (let row = 0; row < parts.rows.size; row++) {
    if (row % STEP === STEP - 1) yield;
    coder.write(out, parts.rows, row);
  }
  yield* writePlacements(out, parts.placements, parts.rows, parts.limitNames.length);
  return yield* sealed(out.bytes());
}

/** The bytes with their checksum behind them; what stands behind them in their buffer is overwritten. */
export function* sealed(bytes: Uint8Array): Steps<Uint8Array> {
  if (bytes.length + CHECKSUM_BYTES > CLUSTER_MAP_BYTES_MAX)
    throw new RangeError(`A cluster map of ${bytes.length} bytes is more than ${CLUSTER_MAP_BYTES_MAX}`);
  const { buffer, byteOffset, length } = bytes;
  // Behind what was just written there mostly is room: 18 MB need not be copied.
  const hasRoom = byteOffset + length + CHECKSUM_BYTES <= buffer.byteLength;
  const whole = hasRoom
    ? new Uint8Array(buffer, byteOffset, length + CHECKSUM_BYTES)
    : new Uint8Array(length + CHECKSUM_BYTES);
  if (!hasRoom) whole.set(bytes);
  new DataView(whole.buffer).setBigUint64(bytes.length, yield* xxh64InSteps(bytes));
  return whole;
}

/** Throws ParseError at `path` unless the bytes are as long as may be and end with their checksum; returns what stands before it. */
export function* unsealed(bytes: Uint8Array, path: Path): Steps<Uint8Array> {
  if (bytes.length < HEAD_BYTES + CHECKSUM_BYTES || bytes.length > CLUSTER_MAP_BYTES_MAX)
    throw new ParseError(
      path,
      `${bytes.length} bytes`,
      `${HEAD_BYTES + CHECKSUM_BYTES} to ${CLUSTER_MAP_BYTES_MAX} bytes`,
    );
  const body = bytes.subarray(0, bytes.length - CHECKSUM_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset + body.length, CHECKSUM_BYTES);
  const [found, wanted] = [view.getBigUint64(0), yield* xxh64InSteps(body)];
  if (found !== wanted)
    throw new ParseError(
      path,
      hex(found),
      `the checksum ${hex(wanted)} of the ${body.length} bytes before it`,
    );
  return body;
}

function hex(checksum: bigint): string {
  return checksum.toString(16).padStart(16, "0");
}

/** The checksum that the bytes end with, 16 hexadecimal digits: the name of this map. */
export function checksumOf(bytes: Uint8Array): string {
  return hex(new DataView(bytes.buffer, bytes.byteOffset + bytes.length - CHECKSUM_BYTES).getBigUint64(0));
}

/** The version that the head names, without a look at the rest. Throws ParseError when there is no head. */
export function clusterMapVersionOf(bytes: Uint8Array, path: Path = []): number {
  if (bytes.length < HEAD_BYTES + CHECKSUM_BYTES)
    throw new ParseError(path, `${bytes.length} bytes`, "a cluster map");
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return headVersion(view.getUint32(0), view.getUint32(4), view.getUint32(8), path);
}

function headVersion(magic: number, high: number, low: number, path: Path): number {
  if (magic !== MAGIC && magic !== MAGIC_OLD)
    throw new ParseError(
      path,
      `0x${magic.toString(16)}`,
      `a cluster map that begins with 0x${MAGIC.toString(16)}`,
    );
  const version = high * 2 ** 32 + low;
  if (!Number.isSafeInteger(version) || version < 1)
    throw new ParseError(path, version, "a map version from 1 on");
  return version;
}

/**
 * The map that the bytes hold; everything is checked before anything is returned. Throws ParseError with the place (bit offset) and what was
 * expected there. Memory is bounded by what the bytes can hold, whatever the counts in them say.
 *
 * @param path where in a document the bytes stand
 * @param known client networks that the map may have: if they are the same, this object is used, and all that was built on it
 */
export function decodeClusterMap(
  bytes: Uint8Array,
  path: Path = [],
  known?: ClientNetworkTable,
): ClusterMapTable {
  return allSteps(decodeInSteps(bytes, path, known));
}

/** As {@link decodeClusterMap}, in steps of a few milliseconds, for those who have something else to do in between. */
export function* decodeInSteps(
  bytes: Uint8Array,
  path: Path = [],
  known?: ClientNetworkTable,
): Steps<ClusterMapTable> {
  const from = new BitReader(yield* unsealed(bytes, path));
  try {
    const magic = from.read32();
    const mapVersion = headVersion(magic, from.read32(), from.read32(), path);
    const { clusterIds, loads } = readClusters(from);
    const limitNames = readLimitNames(from);
    const networks = yield* readNetworks(from, magic === MAGIC_OLD);
    const rows = yield* readRows(from, clusterIds.length, networks.size + 1);
    const placements = yield* readPlacements(from, rows, networks.size + 1, limitNames.length);
    from.end();
    return new ClusterMapTable({
      mapVersion,
      networks: known !== undefined && (yield* isSameNetworks(known, networks)) ? known : networks,
      clusterIds,
      loads,
      limitNames,
      rows,
      placements,
    });
  } catch (error) {
    if (!(error instanceof BitsError)) throw error;
    throw new ParseError(path, `bit ${error.bitOffset} of ${bytes.length} bytes`, error.message);
  }
}

export function writeClusters(out: BitWriter, clusterIds: readonly ClusterId[], loads: Float32Array): void {
  out.writeNumber(clusterIds.length);
  const names = new NameCoder();
  const words = new Uint32Array(loads.slice().buffer);
  for (const [number, clusterId] of clusterIds.entries()) {
    names.write(out, clusterId);
    out.write32(words[number] as number);
  }
}

export function readClusters(from: BitReader): Pick<ClusterMapTable["parts"], "clusterIds" | "loads"> {
  const count = from.readNumber();
  if (count < 1 || count > MAP_CLUSTERS_MAX || count > from.bitsLeft) from.fail("the number of clusters");
  const names = new NameCoder();
  const words = new Uint32Array(count);
  const loads = new Float32Array(words.buffer);
  const clusterIds: ClusterId[] = [];
  for (let number = 0; number < count; number++) {
    const clusterId = names.read(from, "the name of a cluster") as ClusterId;
    if (number > 0 && clusterId <= (clusterIds[number - 1] as ClusterId))
      from.fail("clusters that ascend by name");
    clusterIds.push(clusterId);
    words[number] = from.read32();
    // Minus zero is none either: it would be a second form of zero.
    if (
      !((loads[number] as number) >= 0 && (loads[number] as number) < Infinity) ||
      words[number] === 0x8000_0000
    )
      from.fail(`a load of cluster "${clusterId}" that is a number from 0 on`);
  }
  return { clusterIds, loads };
}

export function writeLimitNames(out: BitWriter, names: readonly string[]): void {
  out.writeNumber(names.length);
  for (const name of names) {
    const bytes = textEncoder.encode(name);
    if (bytes.length < 1 || bytes.length > LIMIT_NAME_BYTES_MAX)
      throw new RangeError(`The name of a limit has 1 to ${LIMIT_NAME_BYTES_MAX} bytes, got ${bytes.length}`);
    out.write(bytes.length, 8);
    for (const byte of bytes) out.write(byte, 8);
  }
}

export function readLimitNames(from: BitReader): string[] {
  const count = from.readNumber();
  if (count > LIMIT_NAMES_MAX || count > from.bitsLeft) from.fail("the number of limits");
  return Array.from({ length: count }, () => {
    const length = from.read(8);
    if (length === 0) from.fail("the name of a limit");
    const bytes = Uint8Array.from({ length }, () => from.read(8));
    try {
      const name = textDecoder.decode(bytes);
      // A byte order mark at the front is left out by the decoder: it would not come back.
      if (textEncoder.encode(name).length === length) return name;
    } catch {
      // Not UTF-8.
    }
    return from.fail("the name of a limit in UTF-8");
  });
}

/** Room that is made for all rows by the length of the first ones. */
const ROOM_RATIO = 1.05;

function* readRows(from: BitReader, clusterCount: number, subjects: number): Steps<CandidateRows> {
  const count = from.readNumber();
  if (count < 1 || count > subjects || count > from.bitsLeft) from.fail("the number of rows");
  const rows = new CandidateRows();
  const coder = new RowCoder(clusterCount);
  const bitsBefore = from.bitsLeft;
  for (let row = 0; row < count; row++) {
    if (row % STEP === STEP - 1) yield;
    // Growing step by step would copy all that there is, at once, each time that it doubles.
    if (row === STEP) {
      // No more than the bytes can hold at the density of those rows, whatever the count says.
      const most = Math.min(count / STEP, bitsBefore / (bitsBefore - from.bitsLeft));
      rows.expect(Math.ceil(rows.entryCount * most * ROOM_RATIO), Math.ceil(STEP * most));
    }
    coder.read(from, rows);
  }
  yield* rows.close();
  return rows;
}

/**
 * For each client network and the fallback: its row (1: the next one that nobody had yet; 01: that of the network before; 00: which), and one
 * bit if every class has the best of it for no other reason; else for each class the place, the reason and the limit.
 */
function* writePlacements(
  out: BitWriter,
  placements: Placements,
  rows: CandidateRows,
  limitCount: number,
): Steps<void> {
  let used = 0;
  let before = -1;
  for (let subject = 0; subject < placements.rows.length; subject++) {
    if (subject % STEP === STEP - 1) yield;
    const row = placements.rows[subject] as number;
    if (row === used) {
      out.write(1, 1);
      used++;
    } else if (row === before) out.write(1, 2);
    else {
      out.write(0, 2);
      out.write(row, bitsBelow(used));
    }
    before = row;
    writeChoice(out, placements, rows, row, subject, limitCount);
  }
}

function* readPlacements(
  from: BitReader,
  rows: CandidateRows,
  subjects: number,
  limitCount: number,
): Steps<Placements> {
  const placements = emptyPlacements(subjects);
  let used = 0;
  let before = -1;
  for (let subject = 0; subject < subjects; subject++) {
    if (subject % STEP === STEP - 1) yield;
    const isNext = from.read(1) === 1;
    const isBefore = !isNext && from.read(1) === 1;
    const row = isNext ? used++ : isBefore ? before : from.readBelow(used, "a row that somebody had before");
    if (!isNext && !isBefore && row === before) from.fail("another row than that of the network before");
    if (row < 0 || row >= rows.size) from.fail(`one of ${rows.size} rows`);
    placements.rows[subject] = row;
    before = row;
    readChoice(from, placements, rows, row, subject, limitCount);
  }
  if (used !== rows.size) from.fail("rows that are all used");
  return placements;
}

export function emptyPlacements(subjects: number): Placements {
  return {
    rows: new Uint32Array(subjects),
    chosen: new Uint8Array(CLASS_COUNT * subjects),
    reasons: new Uint8Array(CLASS_COUNT * subjects),
    limits: new Uint16Array(CLASS_COUNT * subjects),
  };
}

export function writeChoice(
  out: BitWriter,
  { chosen, reasons, limits }: Placements,
  rows: CandidateRows,
  row: number,
  subject: number,
  limitCount: number,
): void {
  const at = subject * CLASS_COUNT;
  const isPlain = isPlainChoice(chosen, reasons, limits, at);
  out.write(isPlain ? 1 : 0, 1);
  if (isPlain) return;
  for (let k = 0; k < CLASS_COUNT; k++) {
    out.write(chosen[at + k] as number, bitsBelow(rows.lengthOf(row, k)));
    out.write(reasons[at + k] as number, REASON_BITS);
    out.write(limits[at + k] as number, bitsBelow(limitCount + 1));
  }
}

export function readChoice(
  from: BitReader,
  { chosen, reasons, limits }: Placements,
  rows: CandidateRows,
  row: number,
  subject: number,
  limitCount: number,
): void {
  const at = subject * CLASS_COUNT;
  if (from.read(1) === 1) {
    reasons.fill(BEST, at, at + CLASS_COUNT);
    return;
  }
  for (let k = 0; k < CLASS_COUNT; k++) {
    chosen[at + k] = from.readBelow(rows.lengthOf(row, k), "a place of the order");
    const reason = from.read(REASON_BITS);
    if (placementReasons[reason] === undefined) from.fail("a reason");
    reasons[at + k] = reason;
    limits[at + k] = from.readBelow(limitCount + 1, "a limit");
  }
  if (isPlainChoice(chosen, reasons, limits, at)) from.fail("a choice other than the best");
}

function isPlainChoice(chosen: Uint8Array, reasons: Uint8Array, limits: Uint16Array, at: number): boolean {
  for (let k = at; k < at + CLASS_COUNT; k++)
    if (chosen[k] !== 0 || reasons[k] !== BEST || limits[k] !== 0) return false;
  return true;
}

/** Whether both name the same networks with the same prefixes. */
export function* isSameNetworks(a: ClientNetworkTable, b: ClientNetworkTable): Steps<boolean> {
  if (a === b) return true;
  if (a.size !== b.size || a.prefixCount !== b.prefixCount) return false;
  const columns = [a.ipv4.words, a.ipv4.lengths, a.ipv4.values, a.ipv6.words, a.ipv6.lengths, a.ipv6.values];
  const others = [b.ipv4.words, b.ipv4.lengths, b.ipv4.values, b.ipv6.words, b.ipv6.lengths, b.ipv6.values];
  for (const [index, column] of columns.entries()) {
    yield;
    if (!isSameArray(column, others[index] as typeof column)) return false;
  }
  for (let at = 0; at < a.size; at++) {
    if (at % STEP === STEP - 1) yield;
    if (a.ids[at] !== b.ids[at]) return false;
  }
  return true;
}
