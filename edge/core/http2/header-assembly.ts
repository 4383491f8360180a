/** A header block that comes in pieces: HEADERS, then CONTINUATION (RFC 9113, section 6.10), bounded in bytes and frames. Pure. */
import { FRAME_BYTES_MAX } from "./frames.ts";
import { copyOf } from "./frame-reader.ts";

/** Blocks of four times the limit of a list, in so many frames (CVE-2024-27316). */
export const BLOCK_FACTOR = 4;
const CONTINUATIONS_MAX = 16;

export class HeaderAssembly {
  readonly id: number;
  /** The request has no content. */
  readonly isEnd: boolean;
  readonly #bytesMax: number;
  readonly #pieces: Uint8Array[];
  #bytes: number;

  constructor(id: number, isEnd: boolean, first: Uint8Array, listBytesMax: number) {
    this.id = id;
    this.isEnd = isEnd;
    this.#bytesMax = BLOCK_FACTOR * listBytesMax + FRAME_BYTES_MAX;
    this.#pieces = [copyOf(first)];
    this.#bytes = first.byteLength;
  }

  /** False: there is more of it than any request needs. */
  add(piece: Uint8Array): boolean {
    this.#pieces.push(copyOf(piece));
    this.#bytes += piece.byteLength;
    return this.#pieces.length <= CONTINUATIONS_MAX && this.#bytes <= this.#bytesMax;
  }

  get whole(): Uint8Array {
    const whole = new Uint8Array(this.#bytes);
    let at = 0;
    for (const piece of this.#pieces) {
      whole.set(piece, at);
      at += piece.byteLength;
    }
    return whole;
  }
}
