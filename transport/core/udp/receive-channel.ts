/** The receiving half of a channel: bytes are handed on in order, what came too early is held. */
import { CHANNEL_WINDOW_BYTES } from "./words.ts";

interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export class ReceiveChannel {
  /** Offset of the first byte that has not come. */
  #at = 0;
  /** By offset. */
  readonly #held: Piece[] = [];
  #heldBytes = 0;

  get heldBytes(): number {
    return this.#heldBytes;
  }
  get heldPieces(): number {
    return this.#held.length;
  }

  /** Whether the sender may have sent it. */
  isInWindow(offset: number, length: number): boolean {
    return offset + length <= this.#at + CHANNEL_WINDOW_BYTES;
  }

  /** Takes bytes, which are the caller's; those that are next are given to `hand`, as copies. */
  receive(offset: number, bytes: Uint8Array, hand: (bytes: Uint8Array) => void): void {
    if (offset > this.#at) {
      this.#hold(offset, bytes);
      return;
    }
    this.#next({ offset, bytes: bytes.slice() }, hand);
    let first = this.#held[0];
    while (first !== undefined && first.offset <= this.#at) {
      this.#held.shift();
      this.#heldBytes -= first.bytes.length;
      this.#next(first, hand);
      first = this.#held[0];
    }
  }

  #next({ offset, bytes }: Piece, hand: (bytes: Uint8Array) => void): void {
    const known = this.#at - offset;
    if (known >= bytes.length) return;
    this.#at = offset + bytes.length;
    hand(known === 0 ? bytes : bytes.subarray(known));
  }

  #hold(offset: number, bytes: Uint8Array): void {
    // Mostly the last: what comes early comes in order behind a gap.
    let index = this.#held.length;
    while (index > 0 && (this.#held[index - 1] as Piece).offset > offset) index--;
    const before = this.#held[index - 1];
    if (before !== undefined && before.offset + before.bytes.length >= offset + bytes.length) return;
    this.#held.splice(index, 0, { offset, bytes: bytes.slice() });
    this.#heldBytes += bytes.length;
  }
}
