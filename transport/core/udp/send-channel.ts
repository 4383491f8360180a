/** The sending half of a channel: bytes that wait, are under way, or came; what is lost goes first again. */
import { Ranges } from "./ranges.ts";
import { CHANNEL_WINDOW_BYTES } from "./words.ts";

export class SendChannel {
  /** What is not acknowledged without a gap, from `#base` on. */
  readonly #chunks: Uint8Array[] = [];
  #base = 0;
  /** First byte that never left; behind the last one that waits. */
  #next = 0;
  #end = 0;
  /** Where the present transfer began: nothing waited before. */
  #from = 0;
  /** Beyond `#base`. */
  readonly #acked = new Ranges();
  readonly #lost = new Ranges();

  /** Bytes that never left. */
  get queuedBytes(): number {
    return this.#end - this.#next;
  }

  /** Whether all of it has come. */
  get isDelivered(): boolean {
    return this.#base === this.#end;
  }

  /** Whether {@link take} would give something. */
  get hasSome(): boolean {
    return this.#lost.count > 0 || (this.#next < this.#end && this.#next < this.#base + CHANNEL_WINDOW_BYTES);
  }

  /** What of the present transfer has left, bytes. */
  get transferBytes(): number {
    return this.#next - this.#from;
  }

  /** Bytes that would leave now if there were no bound on the rate. */
  get readyBytes(): number {
    let bytes = Math.min(this.#end, this.#base + CHANNEL_WINDOW_BYTES) - this.#next;
    for (let index = 0; index < this.#lost.count; index++)
      bytes += this.#lost.to(index) - this.#lost.from(index);
    return bytes;
  }

  /** The bytes are the channel's from now on. */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.#next === this.#end) this.#from = this.#end;
    this.#chunks.push(bytes);
    this.#end += bytes.length;
  }

  /** The next bytes to leave, `bytesMax` at most: their offset and length. Undefined: none may. */
  take(bytesMax: number): { readonly offset: number; readonly length: number } | undefined {
    if (this.#lost.count > 0) {
      const offset = this.#lost.from(0);
      const length = Math.min(bytesMax, this.#lost.to(0) - offset);
      this.#lost.remove(offset, offset + length);
      return { offset, length };
    }
    const length = Math.min(bytesMax, this.#end - this.#next, this.#base + CHANNEL_WINDOW_BYTES - this.#next);
    if (length <= 0) return undefined;
    const offset = this.#next;
    this.#next += length;
    return { offset, length };
  }

  /** Writes bytes that are not acknowledged yet. */
  copy(offset: number, length: number, into: Uint8Array, at: number): void {
    let skipped = this.#base;
    let done = 0;
    for (const chunk of this.#chunks) {
      const from = offset + done - skipped;
      if (from < chunk.length) {
        const part = chunk.subarray(from, Math.min(chunk.length, from + length - done));
        into.set(part, at + done);
        done += part.length;
        if (done === length) return;
      }
      skipped += chunk.length;
    }
  }

  handleAcked(offset: number, length: number): void {
    if (offset + length <= this.#base) return;
    this.#acked.add(Math.max(this.#base, offset), offset + length);
    this.#lost.remove(offset, offset + length);
    if (this.#acked.count === 0 || this.#acked.from(0) > this.#base) return;
    const to = this.#acked.to(0);
    this.#acked.dropFirst();
    this.#release(to);
  }

  /** Is to leave again, as far as it has not come otherwise. */
  handleLost(offset: number, length: number): void {
    const from = Math.max(this.#base, offset);
    this.#lost.add(from, offset + length);
    for (let index = 0; index < this.#acked.count; index++)
      this.#lost.remove(this.#acked.from(index), this.#acked.to(index));
  }

  /** Everything before `to` has come; memory is released by whole chunks, of which the first is cut. */
  #release(to: number): void {
    let whole = 0;
    while (whole < this.#chunks.length) {
      const chunk = this.#chunks[whole] as Uint8Array;
      if (this.#base + chunk.length > to) {
        this.#chunks[whole] = chunk.subarray(to - this.#base);
        break;
      }
      this.#base += chunk.length;
      whole++;
    }
    this.#chunks.splice(0, whole);
    this.#base = to;
  }
}
