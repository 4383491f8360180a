/** Writes to a TLS connection what was read from another one, in records that fill their segments (`core/segment-filling.ts`). */
import type { Duplex } from "node:stream";
import { fillingBytes } from "../core/segment-filling.ts";

/** What follows at once is here by then; ms. */
const REST_MS_MAX = 1;

export class SegmentWriter {
  readonly #to: Duplex;
  /** Less than a segment. */
  #rest: Buffer | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(to: Duplex) {
    this.#to = to;
    to.once("close", () => {
      clearTimeout(this.#timer);
      this.#rest = undefined;
    });
  }

  /** As of a stream: false, wait for "drain". */
  write(chunk: Buffer): boolean {
    const rest = this.#rest;
    const heldBytes = rest?.length ?? 0;
    const leftBytes = heldBytes + chunk.length - fillingBytes(heldBytes + chunk.length, chunk.length);
    const now = leftBytes === 0 ? chunk : chunk.subarray(0, chunk.length - leftBytes);
    clearTimeout(this.#timer);
    this.#rest = undefined;
    if (leftBytes > 0) {
      this.#rest = chunk.subarray(now.length);
      this.#timer = setTimeout(() => this.flush(), REST_MS_MAX);
    }
    if (rest === undefined) return this.#to.write(now);
    // One record of both.
    this.#to.cork();
    this.#to.write(rest);
    const mayGoOn = this.#to.write(now);
    this.#to.uncork();
    return mayGoOn;
  }

  /** Nothing follows. */
  flush(): void {
    clearTimeout(this.#timer);
    const rest = this.#rest;
    this.#rest = undefined;
    if (rest !== undefined && this.#to.writable) this.#to.write(rest);
  }
}
