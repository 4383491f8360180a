/**
 * TLS records that fill the segments they travel in. A relay hands on what it reads as it comes, often a segment at a time, and a record is
 * longer than what it carries: written at once each becomes a full segment and a tiny one, which doubles the packets of a body, the share of
 * it that losses hit, and what it takes of the congestion window (10 KB: 14 packets in place of 8, more than an initial window of 10).
 */

/** What a segment carries on Ethernet, with the time stamps of Linux (RFC 7323, appendix A). */
export const SEGMENT_BYTES = 1_448;
/** Of a record of TLS 1.3: header, content type, tag (RFC 8446 section 5.2). */
const RECORD_OVERHEAD_BYTES = 22;
/** What a record carries at most (RFC 8446 section 5.1). */
const RECORD_BYTES_MAX = 16_384;

/**
 * How many of `pendingBytes`, the last `chunkBytes` of which have just been read from a connection, are to be written now so that their
 * record fills its segments; the rest, less than a segment, waits for what follows. All, when the chunk ended within a segment: nothing
 * follows it at once.
 */
export function fillingBytes(pendingBytes: number, chunkBytes: number): number {
  if (chunkBytes % SEGMENT_BYTES !== 0 || pendingBytes > RECORD_BYTES_MAX) return pendingBytes;
  const segments = Math.floor((pendingBytes + RECORD_OVERHEAD_BYTES) / SEGMENT_BYTES);
  return Math.max(0, segments * SEGMENT_BYTES - RECORD_OVERHEAD_BYTES);
}
