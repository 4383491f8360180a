/** Lines that wait for the disk, as bytes in a few large buffers that are used again. Bounded; what finds no room is counted. */

/** Lines that are being written. */
export interface TextBatch {
  readonly bytes: Uint8Array;
  readonly records: number;
}

/** Writes itself, UTF-8 without a line break, from `at` on; returns where it ends. */
export interface Line {
  write(bytes: Uint8Array, at: number): number;
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

  /** Whether the line was taken. It has at most `bytesMax` bytes; the line break is added. */
  push(line: Line, bytesMax: number): boolean {
    const open = this.#room(bytesMax + 1);
    if (open === undefined) return false;
    const end = line.write(open.buffer, open.bytes);
    open.buffer[end] = 0x0a;
    open.bytes = end + 1;
    open.records++;
    this.#records++;
    return true;
  }

  #room(bytes: number): Open | undefined {
    let open = this.#open;
    if (open !== undefined && open.bytes + bytes > this.#batchBytes) {
      this.#full.push(open);
      open = undefined;
      this.#open = undefined;
    }
    if (open === undefined) {
      if (bytes > this.#batchBytes || this.#full.length >= this.#batchesMax) {
        this.#dropped++;
        return undefined;
      }
      open = { buffer: this.#spare ?? new Uint8Array(this.#batchBytes), bytes: 0, records: 0 };
      this.#spare = undefined;
      this.#open = open;
    }
    return open;
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

/** Characters of a text that are written one by one: below, the call costs more. */
const SHORT_CHARACTERS_MAX = 32;

/** Writes any text, for which there is room, in UTF-8; how many bytes. */
export function writeText(text: string, bytes: Uint8Array, at: number): number {
  return encoder.encodeInto(text, bytes.subarray(at)).written;
}

/** Writes ASCII text; how many bytes. */
export function writeAscii(text: string, bytes: Uint8Array, at: number): number {
  const { length } = text;
  if (length > SHORT_CHARACTERS_MAX) return writeText(text, bytes, at);
  for (let index = 0; index < length; index++) bytes[at + index] = text.charCodeAt(index);
  return length;
}

const NOTHING: TextBatch = { bytes: new Uint8Array(0), records: 0 };
