/** Laws of the segment files' bytes: what is written is read, and nothing that was changed, moved or cut is taken for it. */
import { crc32 } from "node:zlib";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  decodeRecord,
  decodeSegmentHeader,
  decodeTrailer,
  encodeRecord,
  encodeSegmentHeader,
  INDEX_ENTRY_BYTES,
  RECORD_KINDS,
  type RecordHeader,
  recordBytes,
  SegmentIndex,
  TRAILER_BYTES,
} from "../../../edge/core/disk/segment-format.ts";

const word = fc.nat(2 ** 32 - 1);
const seed = fc.tuple(word, word);
const record = fc
  .record({
    kind: fc.constantFrom(...RECORD_KINDS),
    hi: word,
    lo: word,
    variant: word,
    segment: word,
    offset: fc.nat(2 ** 20).map((units) => units * 16),
    bodyBytes: fc.nat(2 ** 30),
    bodyChecksum: word,
    head: fc.uint8Array({ maxLength: 200 }),
  })
  .map(({ head, ...rest }) => ({
    head,
    header: { ...rest, headBytes: head.byteLength } satisfies RecordHeader,
  }));

test("a record's header and head come back; with any bit changed, elsewhere, or under another seed they do not", () => {
  fc.assert(
    fc.property(record, seed, seed, fc.nat(), (made, own, other, bit) => {
      const { header, head } = made;
      const bytes = encodeRecord(header, head, own, crc32);
      const { segment, offset } = header;
      expect(bytes.byteLength + Math.ceil(header.bodyBytes / 16) * 16).toBe(
        recordBytes(header.headBytes, header.bodyBytes),
      );
      // Also where the bytes do not lie at a multiple of four.
      const shifted = new Uint8Array(bytes.byteLength + 1);
      shifted.set(bytes, 1);
      expect(decodeRecord(shifted.subarray(1), segment, offset, own, crc32)).toEqual(header);
      expect(decodeRecord(bytes, segment, offset + 16, own, crc32)).toBeUndefined();
      expect(decodeRecord(bytes, (segment + 1) % 2 ** 32, offset, own, crc32)).toBeUndefined();
      if (own[0] !== other[0] || own[1] !== other[1])
        expect(decodeRecord(bytes, segment, offset, other, crc32)).toBeUndefined();
      const covered = 48 + header.headBytes;
      expect(decodeRecord(bytes.subarray(0, covered - 1), segment, offset, own, crc32)).toBeUndefined();
      const at = bit % (covered * 8);
      bytes[at >> 3] = (bytes[at >> 3] ?? 0) ^ (1 << (at & 7));
      expect(decodeRecord(bytes, segment, offset, own, crc32)).toBeUndefined();
    }),
  );
});

test("a segment's header comes back, and only whole", () => {
  fc.assert(
    fc.property(word, seed, word, fc.nat(32 * 8 - 1), (segment, own, validateBefore, bit) => {
      const bytes = encodeSegmentHeader({ segment, seed: own, validateBefore }, crc32);
      expect(decodeSegmentHeader(bytes, crc32)).toEqual({ segment, seed: own, validateBefore });
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(decodeSegmentHeader(bytes, crc32)).toBeUndefined();
    }),
  );
});

test("an index comes back behind its trailer, and only whole and of its segment", () => {
  fc.assert(
    fc.property(fc.array(record, { maxLength: 100 }), fc.nat(2 ** 20), fc.nat(), (records, units, bit) => {
      const segment = 7;
      const offset = units * 16;
      const index = new SegmentIndex();
      for (const { header } of records) index.add(header);
      const bytes = index.encode(segment, offset, crc32);
      const fileBytes = offset + bytes.byteLength;
      const end = bytes.subarray(-TRAILER_BYTES);
      const trailer = decodeTrailer(end, segment, fileBytes, crc32);
      if (trailer === undefined) throw new Error("The trailer is not taken");
      expect(trailer.offset).toBe(offset);
      const words = bytes.subarray(0, records.length * INDEX_ENTRY_BYTES);
      const again = SegmentIndex.decode(words, trailer, crc32);
      expect(again?.records).toBe(records.length);
      for (const [number, { header }] of records.entries()) {
        const { bodyChecksum: _, ...wanted } = { ...header, segment };
        expect(again?.at(number, segment)).toEqual(wanted);
      }
      expect(decodeTrailer(end, segment + 1, fileBytes, crc32)).toBeUndefined();
      expect(decodeTrailer(end, segment, fileBytes + 16, crc32)).toBeUndefined();
      const at = bit % (bytes.byteLength * 8);
      bytes[at >> 3] = (bytes[at >> 3] ?? 0) ^ (1 << (at & 7));
      const changed = decodeTrailer(end, segment, fileBytes, crc32);
      expect(changed && SegmentIndex.decode(words, changed, crc32)).toBeUndefined();
    }),
  );
});
