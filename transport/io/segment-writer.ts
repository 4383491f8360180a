/** Writes to a TLS connection what was read from another one, in records that fill their segments (`core/segment-filling.ts`). */
import type { Duplex } from "node:stream";
import { endsWithSegment, fillingBytes, RECORD_BYTES_MAX, REST_MS_MAX } from "../core/segment-filling.ts";

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
    const pendingBytes = (rest?.length ?? 0) + chunk.length;
    const leftBytes = endsWithSegment(chunk.length)
      ? pendingBytes - fillingBytes(pendingBytes, RECORD_BYTES_MAX)
      : 0;
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
