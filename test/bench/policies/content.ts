/** What the objects of a replay are made of: each has bytes of its own at each place, so that a client knows another object's, or a shifted one's. */
import { createHash } from "node:crypto";

/** A prime, so that no two objects that a trace has begin at the same place. */
const PERIOD_BYTES = 1_048_573;
const STRIDE_BYTES = 7_919;
const PIECE_BYTES_MAX = 2 ** 18;

const period = createHash("shake256", { outputLength: PERIOD_BYTES }).update("content of a replay").digest();
/** The period, and its beginning once more: every piece is one run of bytes. */
const source = Buffer.concat([period, period.subarray(0, PIECE_BYTES_MAX)]);

/** Bytes of an object from `at` on: `bytes` of them, or fewer, at most 256 KiB. Not a copy. */
export function pieceOf(object: number, at: number, bytes: number): Buffer {
  const from = (object * STRIDE_BYTES + at) % PERIOD_BYTES;
  return source.subarray(from, from + Math.min(bytes, PIECE_BYTES_MAX));
}

/** Whether `chunk` is what the object has from `at` on. */
export function isPieceOf(chunk: Uint8Array, object: number, at: number): boolean {
  for (let done = 0; done < chunk.byteLength; ) {
    const piece = pieceOf(object, at + done, chunk.byteLength - done);
    if (!piece.equals(chunk.subarray(done, done + piece.byteLength))) return false;
    done += piece.byteLength;
  }
  return true;
}
