/**
 * Bytes that follow from a seed and an offset alone: any range of any object can be made, and checked, without the rest.
 * Blocks of 64 KiB repeat one pseudo-random block, each stamped with its number, so that a block out of place is seen and
 * making bytes costs little more than a copy.
 */
import { Random, xxh32 } from "#kit";

const BLOCK_BYTES = 65_536;
/** Length of a transport stream packet and its first byte (ISO/IEC 13818-1, 2.4.3.2). */
const TS_PACKET_BYTES = 188;
const TS_SYNC_BYTE = 0x47;

const noise = ((): Uint8Array => {
  const random = new Random("origin-sim/pattern");
  const block = new Uint8Array(BLOCK_BYTES);
  for (let at = 0; at < BLOCK_BYTES; at++) block[at] = random.int(256);
  return block;
})();

/** What a generated body is made of; its bytes are `patternBytes(pattern, 0, pattern.length)`. */
export interface Pattern {
  readonly seed: number;
  readonly length: number;
  /** Every 188th byte is the sync byte of a transport stream. */
  readonly isTransportStream: boolean;
}

/** The pattern named `name` of `length` bytes. */
export function patternOf(name: string, length: number, isTransportStream = false): Pattern {
  return { seed: xxh32(name), length, isTransportStream };
}

/** Bytes `offset` .. `offset + length`, cut at the pattern's end. */
export function patternBytes(pattern: Pattern, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(0, Math.min(length, pattern.length - offset)));
  let done = 0;
  while (done < bytes.length) {
    const block = Math.floor((offset + done) / BLOCK_BYTES);
    const within = (offset + done) % BLOCK_BYTES;
    const count = Math.min(BLOCK_BYTES - within, bytes.length - done);
    bytes.set(noise.subarray(within, within + count), done);
    stamp(bytes, done, count, within, pattern.seed, block);
    done += count;
  }
  if (pattern.isTransportStream) {
    const first = (TS_PACKET_BYTES - (offset % TS_PACKET_BYTES)) % TS_PACKET_BYTES;
    for (let at = first; at < bytes.length; at += TS_PACKET_BYTES) bytes[at] = TS_SYNC_BYTE;
  }
  return bytes;
}

/** The first 8 bytes of a block are the seed and the block's number, big-endian. */
function stamp(
  bytes: Uint8Array,
  at: number,
  count: number,
  within: number,
  seed: number,
  block: number,
): void {
  for (let n = within; n < Math.min(8, within + count); n++) {
    const word = n < 4 ? seed : block;
    bytes[at + n - within] = (word >>> (24 - 8 * (n % 4))) & 0xff;
  }
}
