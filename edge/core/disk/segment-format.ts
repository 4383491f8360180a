/**
 * What a segment file looks like. All numbers are unsigned 32-bit words in the machine's own byte order (a directory that was
 * written on a machine of the other order fails the magic and counts as strange):
 *
 *     header    8 words: magic, format, segment, seed high, seed low, validate-before, 0, checksum
 *     records   each at a multiple of 16: 12 words, head (JSON), padding to 16, body, padding to 16
 *     index     written when the segment is sealed: 6 words for each record, in order
 *     trailer   8 words: magic, segment, records, offset of the index, its checksum, 0, 0, checksum
 *
 * The place is part of a record's checksum, so that bytes which a file system brings back at a wrong place are no record; so is
 * the directory's seed, which is secret, so that no body can be made to look like records. Checksums find what a crash tore and
 * what a disk changed; they are no protection against an attacker who can write the files.
 */
import { ALIGN_BYTES, HEAD_BYTES_MAX, type Location } from "./location-index.ts";

/** CRC-32 of bytes, continued from `value` (0 to begin): the core is given it, as every effect. */
export type Checksum = (bytes: Uint8Array, value?: number) => number;

/** `object`: a stored response. `delete`: nothing under the key before it counts. `delete-variant`: not this variant. */
export const RECORD_KINDS = ["object", "delete", "delete-variant"] as const;
export type RecordKind = (typeof RECORD_KINDS)[number];

/** A record without its bytes. */
export interface LogRecord extends Location {
  readonly kind: RecordKind;
}

/** What a record's own header says beside where it lies. */
export interface RecordHeader extends LogRecord {
  readonly bodyChecksum: number;
}

/** Of a directory: random, so that nobody outside can aim at places of the index, nor make up records. */
export type Seed = readonly [high: number, low: number];

/** Changed with every change of what is written; segments of another format are removed. */
export const SEGMENT_FORMAT = 2;
export const SEGMENT_HEADER_BYTES = 32;
export const RECORD_HEADER_BYTES = 48;
export const TRAILER_BYTES = 32;
export const INDEX_ENTRY_BYTES = 24;

const SEGMENT_MAGIC = 0x6765_5349;
const RECORD_MAGIC = 0x6365_5249;
const TRAILER_MAGIC = 0x6c65_5349;
const INDEX_ENTRY_WORDS = INDEX_ENTRY_BYTES / 4;
/** Kind and length of the head share a word. */
const KIND_SHIFT = 24;

export function alignUp(bytes: number): number {
  return Math.ceil(bytes / ALIGN_BYTES) * ALIGN_BYTES;
}

/** Bytes from a record's first byte to its body. */
export function bodyOffset(headBytes: number): number {
  return alignUp(RECORD_HEADER_BYTES + headBytes);
}

/** Bytes that a record takes in its segment. */
export function recordBytes(headBytes: number, bodyBytes: number): number {
  return bodyOffset(headBytes) + alignUp(bodyBytes);
}

export interface SegmentHeader {
  readonly segment: number;
  /** Seed of the fingerprints, one for the directory. */
  readonly seed: Seed;
  /** Objects in segments below this number outlived an end that may have lost deletes: they are validated before use. */
  readonly validateBefore: number;
}

export function encodeSegmentHeader(header: SegmentHeader, checksum: Checksum): Uint8Array {
  const words = new Uint32Array(SEGMENT_HEADER_BYTES / 4);
  words.set([SEGMENT_MAGIC, SEGMENT_FORMAT, header.segment, ...header.seed, header.validateBefore]);
  return sealed(words, checksum);
}

/** Undefined: not a segment of this format. */
export function decodeSegmentHeader(bytes: Uint8Array, checksum: Checksum): SegmentHeader | undefined {
  const words = opened(bytes, SEGMENT_HEADER_BYTES, checksum);
  if (words === undefined || words[0] !== SEGMENT_MAGIC || words[1] !== SEGMENT_FORMAT) return undefined;
  const [, , segment = 0, high = 0, low = 0, validateBefore = 0] = words;
  return { segment, seed: [high, low], validateBefore };
}

/** The header and the head of a record, padded: all but the body. `head` has `header.headBytes` bytes. */
export function encodeRecord(
  header: RecordHeader,
  head: Uint8Array,
  seed: Seed,
  checksum: Checksum,
): Uint8Array {
  const bytes = new Uint8Array(bodyOffset(header.headBytes));
  const words = new Uint32Array(bytes.buffer, 0, RECORD_HEADER_BYTES / 4);
  words[0] = RECORD_MAGIC ^ seed[0];
  words[2] = header.segment;
  words[3] = header.offset / ALIGN_BYTES;
  words[4] = RECORD_KINDS.indexOf(header.kind);
  words[5] = header.hi;
  words[6] = header.lo;
  words[7] = header.variant;
  words[8] = header.headBytes;
  words[9] = header.bodyBytes;
  words[10] = header.bodyChecksum;
  words[11] = seed[1];
  bytes.set(head, RECORD_HEADER_BYTES);
  words[1] = checksum(bytes.subarray(8, RECORD_HEADER_BYTES + header.headBytes));
  return bytes;
}

/**
 * The header of the record at a place; undefined: there is none, or it is torn. `bytes` begin at the record and hold at least
 * its header and its head.
 */
export function decodeRecord(
  bytes: Uint8Array,
  segment: number,
  offset: number,
  seed: Seed,
  checksum: Checksum,
): RecordHeader | undefined {
  const header = peekRecord(bytes, segment, offset, seed);
  if (header === undefined) return undefined;
  const end = RECORD_HEADER_BYTES + header.headBytes;
  const stated = wordsOf(bytes, RECORD_HEADER_BYTES)[1];
  return bytes.byteLength >= end && checksum(bytes.subarray(8, end)) === stated ? header : undefined;
}

/** What a record's header states, unchecked but for its place and bounds: says how many bytes the check needs. */
export function peekRecord(
  bytes: Uint8Array,
  segment: number,
  offset: number,
  seed: Seed,
): RecordHeader | undefined {
  if (bytes.byteLength < RECORD_HEADER_BYTES) return undefined;
  const words = wordsOf(bytes, RECORD_HEADER_BYTES);
  const [magic, , ownSegment, units = 0, kindNumber = 0, hi = 0, lo = 0, variant = 0, headBytes = 0] = words;
  const kind = RECORD_KINDS[kindNumber];
  if (magic !== (RECORD_MAGIC ^ seed[0]) >>> 0 || words[11] !== seed[1]) return undefined;
  if (ownSegment !== segment || units * ALIGN_BYTES !== offset) return undefined;
  if (kind === undefined || headBytes > HEAD_BYTES_MAX) return undefined;
  const [bodyBytes = 0, bodyChecksum = 0] = words.subarray(9);
  return { kind, hi, lo, variant, segment, offset, headBytes, bodyBytes, bodyChecksum };
}

/** The records of one segment in order, kept while it is written and read back when it is opened: the words of its index. */
export class SegmentIndex {
  #words: Uint32Array;
  #records = 0;

  constructor(words = new Uint32Array(0)) {
    this.#words = words;
  }

  get records(): number {
    return this.#records;
  }

  add(record: Omit<LogRecord, "segment">): void {
    const at = this.#records * INDEX_ENTRY_WORDS;
    if (at === this.#words.length) {
      const grown = new Uint32Array(Math.max(64 * INDEX_ENTRY_WORDS, at * 2));
      grown.set(this.#words);
      this.#words = grown;
    }
    this.#words[at] = record.hi;
    this.#words[at + 1] = record.lo;
    this.#words[at + 2] = record.variant;
    this.#words[at + 3] = record.offset / ALIGN_BYTES;
    this.#words[at + 4] = record.bodyBytes;
    this.#words[at + 5] = (RECORD_KINDS.indexOf(record.kind) << KIND_SHIFT) | record.headBytes;
    this.#records++;
  }

  /** The record of a number, 0..records-1. */
  at(number: number, segment: number): LogRecord {
    const at = number * INDEX_ENTRY_WORDS;
    const last = this.#words[at + 5] ?? 0;
    return {
      kind: RECORD_KINDS[last >>> KIND_SHIFT] ?? "delete",
      hi: this.#words[at] ?? 0,
      lo: this.#words[at + 1] ?? 0,
      variant: this.#words[at + 2] ?? 0,
      segment,
      offset: (this.#words[at + 3] ?? 0) * ALIGN_BYTES,
      bodyBytes: this.#words[at + 4] ?? 0,
      headBytes: last & (2 ** KIND_SHIFT - 1),
    };
  }

  /** Index and trailer as they are written at `offset`, the end of the records. */
  encode(segment: number, offset: number, checksum: Checksum): Uint8Array {
    const used = this.#words.subarray(0, this.#records * INDEX_ENTRY_WORDS);
    const index = new Uint8Array(used.buffer, used.byteOffset, used.byteLength);
    const trailer = new Uint32Array(TRAILER_BYTES / 4);
    trailer.set([TRAILER_MAGIC, segment, this.#records, offset / ALIGN_BYTES, checksum(index)]);
    const bytes = new Uint8Array(index.byteLength + TRAILER_BYTES);
    bytes.set(index);
    bytes.set(sealed(trailer, checksum), index.byteLength);
    return bytes;
  }

  /** The index of a sealed segment out of its bytes; undefined: they are not what the trailer says. */
  static decode(bytes: Uint8Array, trailer: Trailer, checksum: Checksum): SegmentIndex | undefined {
    if (bytes.byteLength !== trailer.records * INDEX_ENTRY_BYTES) return undefined;
    if (checksum(bytes) !== trailer.indexChecksum) return undefined;
    const index = new SegmentIndex(new Uint32Array(copyOf(bytes).buffer));
    index.#records = trailer.records;
    return index;
  }
}

export interface Trailer {
  readonly records: number;
  /** Where the records end and the index begins. */
  readonly offset: number;
  readonly indexChecksum: number;
}

/** Undefined: the segment was not sealed. `fileBytes`: length of the file, at whose end the trailer stands. */
export function decodeTrailer(
  bytes: Uint8Array,
  segment: number,
  fileBytes: number,
  checksum: Checksum,
): Trailer | undefined {
  const words = opened(bytes, TRAILER_BYTES, checksum);
  if (words === undefined || words[0] !== TRAILER_MAGIC || words[1] !== segment) return undefined;
  const [, , records = 0, units = 0, indexChecksum = 0] = words;
  const offset = units * ALIGN_BYTES;
  return offset + records * INDEX_ENTRY_BYTES + TRAILER_BYTES === fileBytes
    ? { records, offset, indexChecksum }
    : undefined;
}

/** Bytes of words whose last one is set to the checksum of the others. */
function sealed(words: Uint32Array, checksum: Checksum): Uint8Array {
  const bytes = new Uint8Array(words.buffer);
  words[words.length - 1] = checksum(bytes.subarray(0, -4));
  return bytes;
}

function opened(bytes: Uint8Array, length: number, checksum: Checksum): Uint32Array | undefined {
  if (bytes.byteLength !== length) return undefined;
  const words = wordsOf(bytes, length);
  return words.at(-1) === checksum(bytes.subarray(0, -4)) ? words : undefined;
}

/** The first `length` bytes as words: a copy where they do not lie at a multiple of four. */
function wordsOf(bytes: Uint8Array, length: number): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : copyOf(bytes.subarray(0, length));
  return new Uint32Array(aligned.buffer, aligned.byteOffset, length / 4);
}

function copyOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes.byteLength);
  copy.set(bytes);
  return copy;
}
