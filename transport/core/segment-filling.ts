/**
 * TLS records that fill the segments they travel in. Who hands on what it reads as it comes, often a segment at a time, writes a record
 * longer than what it carries: written at once each becomes a full segment and a tiny one, which doubles the packets of a body, the share of
 * it that losses hit, and what it takes of the congestion window (10 KB: 14 packets in place of 8, more than an initial window of 10).
 */

/** What a segment carries on Ethernet, with the time stamps of Linux (RFC 7323, appendix A). */
export const SEGMENT_BYTES = 1_448;
/** Of a record of TLS 1.3: header, content type, tag (RFC 8446 section 5.2). */
const RECORD_OVERHEAD_BYTES = 22;
/** What a record carries at most (RFC 8446 section 5.1). */
export const RECORD_BYTES_MAX = 16_384;

/** What follows at once is here by then; ms. */
export const REST_MS_MAX = 1;

/** Whether more is likely to come at once behind a chunk that was read from a connection: it does not end within a segment. */
export function endsWithSegment(chunkBytes: number): boolean {
  return chunkBytes % SEGMENT_BYTES === 0;
}

/**
 * How many of `pendingBytes` are to be written now so that their records, of `recordBytes` at most, fill their segments; the rest, less
 * than a segment, waits for what follows.
 */
export function fillingBytes(pendingBytes: number, recordBytes: number): number {
  const overheadBytes = Math.ceil(pendingBytes / recordBytes) * RECORD_OVERHEAD_BYTES;
  const segments = Math.floor((pendingBytes + overheadBytes) / SEGMENT_BYTES);
  return Math.max(0, segments * SEGMENT_BYTES - overheadBytes);
}
