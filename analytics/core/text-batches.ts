/** Lines that wait for the disk, as bytes in a few large buffers that are used again. Bounded; what finds no room is counted. */

/** Lines that are being written. */
export interface TextBatch {
  readonly bytes: Uint8Array;
  readonly records: number;
}

interface Open {
  readonly buffer: Uint8Array;
  bytes: number;
  records: number;
}

export class TextBatches {
  readonly #batchBytes: number;
  readonly #batchesMax: number;
  readonly #full: Open[] = [];
  /** Kept for the next batch, so that a busy log allocates none. */
  #spare: Uint8Array | undefined;
  #open: Open | undefined;
  #records = 0;
  #dropped = 0;

  /** `batchBytes`: size of a buffer; `batchesMax`: buffers that may wait. */
  constructor(batchBytes: number, batchesMax: number) {
    this.#batchBytes = batchBytes;
    this.#batchesMax = batchesMax;
  }

  /** Lines that wait. */
  get records(): number {
    return this.#records;
  }
  /** Lines that were not taken, since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Whether the line was taken. `text`: ASCII; the line break is added. */
  push(text: string): boolean {
    const bytes = text.length + 1;
    let open = this.#open;
    if (open !== undefined && open.bytes + bytes > this.#batchBytes) {
      this.#full.push(open);
      open = undefined;
      this.#open = undefined;
    }
    if (open === undefined) {
      if (bytes > this.#batchBytes || this.#full.length >= this.#batchesMax) {
        this.#dropped++;
        return false;
      }
      open = { buffer: this.#spare ?? new Uint8Array(this.#batchBytes), bytes: 0, records: 0 };
      this.#spare = undefined;
      this.#open = open;
    }
    encoder.encodeInto(text, open.buffer.subarray(open.bytes));
    open.buffer[open.bytes + bytes - 1] = 0x0a;
    open.bytes += bytes;
    open.records++;
    this.#records++;
    return true;
  }

  /** The oldest batch, which is empty when nothing waits. Its bytes are the caller's until {@link giveBack}. */
  take(): TextBatch {
    const batch = this.#full.shift() ?? this.#open;
    if (batch === undefined) return NOTHING;
    if (batch === this.#open) this.#open = undefined;
    this.#records -= batch.records;
    return { bytes: batch.buffer.subarray(0, batch.bytes), records: batch.records };
  }

  /** The bytes of a batch are no longer needed. */
  giveBack(batch: TextBatch): void {
    if (batch.bytes.buffer.byteLength === this.#batchBytes) this.#spare = new Uint8Array(batch.bytes.buffer);
  }
}

const encoder = new TextEncoder();
const NOTHING: TextBatch = { bytes: new Uint8Array(0), records: 0 };
