/** Reads segments back: what lies in one of them, and single records. Never trusts a byte that no checksum covers. */
import { crc32 } from "node:zlib";
import { ALIGN_BYTES, type Location } from "../core/disk/location-index.ts";
import {
  bodyOffset,
  decodeRecord,
  decodeSegmentHeader,
  decodeTrailer,
  INDEX_ENTRY_BYTES,
  peekRecord,
  RECORD_HEADER_BYTES,
  recordBytes,
  type RecordHeader,
  type Seed,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  SegmentIndex,
  TRAILER_BYTES,
} from "../core/disk/segment-format.ts";
import type { SegmentFiles } from "./segment-files.ts";

/** Bytes that a scan reads at once: some records of common size, little of a large one that is passed over. */
const WINDOW_BYTES = 64 * 1_024;

export interface SegmentContent {
  readonly index: SegmentIndex;
  /** Where the records end. */
  readonly recordsEnd: number;
  /** Bytes of the file. */
  readonly bytes: number;
  /** Whether its index stands in it. */
  readonly isSealed: boolean;
  /** Whether something between records could not be read: a delete may have stood there. */
  readonly isDamaged: boolean;
}

/** A segment as it was found; `header` undefined: none of this format; `error`: what the system said. */
export type ReadSegment =
  | { readonly header: SegmentHeader; readonly content: SegmentContent }
  | { readonly header: undefined; readonly bytes: number }
  | { readonly error: unknown };

/** All that a start needs of a segment. Never rejects. */
export async function readSegment(files: SegmentFiles, segment: number): Promise<ReadSegment> {
  try {
    const first = Buffer.allocUnsafe(SEGMENT_HEADER_BYTES);
    const read = await files.read(segment, 0, [first]);
    const header = decodeSegmentHeader(first.subarray(0, read), crc32);
    return header?.segment === segment
      ? { header, content: await readContent(files, segment, header.seed) }
      : { header: undefined, bytes: await files.size(segment) };
  } catch (error) {
    return { error };
  }
}

/** The records of a segment: from its index, or, where it was not sealed, by walking from record to record. */
export async function readContent(files: SegmentFiles, segment: number, seed: Seed): Promise<SegmentContent> {
  const bytes = await files.size(segment);
  const sealed = await readIndex(files, segment, bytes);
  return sealed ?? (await scan(files, segment, bytes, seed));
}

async function readIndex(
  files: SegmentFiles,
  segment: number,
  bytes: number,
): Promise<SegmentContent | undefined> {
  if (bytes < SEGMENT_HEADER_BYTES + TRAILER_BYTES) return undefined;
  // With the trailer most likely the whole index: one read.
  const end = Buffer.allocUnsafe(Math.min(bytes, WINDOW_BYTES));
  if ((await files.read(segment, bytes - end.byteLength, [end])) !== end.byteLength) return undefined;
  const trailer = decodeTrailer(end.subarray(-TRAILER_BYTES), segment, bytes, crc32);
  if (trailer === undefined) return undefined;
  const indexBytes = trailer.records * INDEX_ENTRY_BYTES;
  let words = end.subarray(Math.max(0, end.byteLength - TRAILER_BYTES - indexBytes), -TRAILER_BYTES);
  if (words.byteLength < indexBytes) {
    words = Buffer.allocUnsafe(indexBytes);
    if ((await files.read(segment, trailer.offset, [words])) !== indexBytes) return undefined;
  }
  const index = SegmentIndex.decode(words, trailer, crc32);
  return index && { index, recordsEnd: trailer.offset, bytes, isSealed: true, isDamaged: false };
}

async function scan(
  files: SegmentFiles,
  segment: number,
  bytes: number,
  seed: Seed,
): Promise<SegmentContent> {
  const index = new SegmentIndex();
  const window = new Window(files, segment);
  let recordsEnd = SEGMENT_HEADER_BYTES;
  let isDamaged = false;
  for (let offset = SEGMENT_HEADER_BYTES; offset + RECORD_HEADER_BYTES <= bytes; ) {
    const header = await recordAt(window, segment, offset, seed);
    const end = header && offset + recordBytes(header.headBytes, header.bodyBytes);
    if (header === undefined || end === undefined || end > bytes) {
      // The torn end of the last write, unless another record follows: then this is damage, and the rest still counts.
      offset += ALIGN_BYTES;
      continue;
    }
    if (offset !== recordsEnd) isDamaged = true;
    index.add(header);
    offset = end;
    recordsEnd = end;
  }
  return { index, recordsEnd, bytes, isSealed: false, isDamaged };
}

async function recordAt(
  window: Window,
  segment: number,
  offset: number,
  seed: Seed,
): Promise<RecordHeader | undefined> {
  // Most of it is here: a wait for each of many small records would cost more than all the rest.
  const first = window.here(offset, RECORD_HEADER_BYTES) ?? (await window.at(offset, RECORD_HEADER_BYTES));
  const stated = peekRecord(first, segment, offset, seed);
  if (stated === undefined) return undefined;
  const length = RECORD_HEADER_BYTES + stated.headBytes;
  const whole = window.here(offset, length) ?? (await window.at(offset, length));
  return decodeRecord(whole, segment, offset, seed, crc32);
}

/**
 * The heads of some records of a segment, in order of their places, unverified: read in long runs, for who looks at most of
 * them. Rejects with what the system says.
 */
export async function* readHeads(
  files: SegmentFiles,
  segment: number,
  records: readonly Location[],
): AsyncGenerator<readonly [Location, Uint8Array]> {
  const window = new Window(files, segment);
  for (const record of records)
    yield [record, await window.at(record.offset + RECORD_HEADER_BYTES, record.headBytes)];
}

/** A part of a segment in memory that moves along with those who read from it. */
class Window {
  readonly #files: SegmentFiles;
  readonly #segment: number;
  #from = 0;
  #bytes = Buffer.alloc(0);

  constructor(files: SegmentFiles, segment: number) {
    this.#files = files;
    this.#segment = segment;
  }

  /** The bytes at a place, if they are in memory. */
  here(offset: number, length: number): Uint8Array | undefined {
    const from = offset - this.#from;
    return from >= 0 && from + length <= this.#bytes.byteLength
      ? this.#bytes.subarray(from, from + length)
      : undefined;
  }

  /** The bytes at a place; fewer where the file ends. */
  async at(offset: number, length: number): Promise<Uint8Array> {
    const present = this.here(offset, length);
    if (present !== undefined) return present;
    const bytes = Buffer.allocUnsafe(Math.max(length, WINDOW_BYTES));
    const read = await this.#files.read(this.#segment, offset, [bytes]);
    this.#bytes = bytes.subarray(0, read);
    this.#from = offset;
    return this.#bytes.subarray(0, length);
  }
}

/** A record as it was read, both checksums verified. `head` and `body` lie in buffers of their own. */
export interface RecordBytes {
  readonly header: RecordHeader;
  readonly head: Uint8Array;
  readonly body: Uint8Array;
}

/** The record at a place; undefined: what lies there is not it. Rejects with what the system says. */
export async function readRecord(
  files: SegmentFiles,
  location: Location,
  seed: Seed,
): Promise<RecordBytes | undefined> {
  const { segment, offset, headBytes, bodyBytes } = location;
  const first = Buffer.allocUnsafe(bodyOffset(headBytes));
  // The body outlives this read in the memory store: in memory of its own, so that it holds no more than it has.
  const body = new Uint8Array(bodyBytes);
  const parts = bodyBytes === 0 ? [first] : [first, body];
  if ((await files.read(segment, offset, parts)) !== first.byteLength + bodyBytes) return undefined;
  const header = decodeRecord(first, segment, offset, seed, crc32);
  if (
    header === undefined ||
    header.headBytes !== headBytes ||
    header.bodyBytes !== bodyBytes ||
    crc32(body) !== header.bodyChecksum
  )
    return undefined;
  return { header, head: first.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + headBytes), body };
}
