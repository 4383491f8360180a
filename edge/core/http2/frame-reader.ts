/** Cuts what a client sends into its preface and frames (RFC 9113, sections 3.4 and 4.1). Pure. */
import { ERROR, FRAME_BYTES_MAX, FRAME_HEAD_BYTES, PREFACE, readUint32, WINDOW_MAX } from "./frames.ts";

/** Who reads frames. `bytes` are valid during the call; the payload is `bytes[from, to)`. False: no more frames are wanted. */
export interface FrameSink {
  frame(type: number, flags: number, id: number, bytes: Uint8Array, from: number, to: number): boolean;
}

const NOTHING = new Uint8Array(0);

export class FrameReader {
  readonly #sink: FrameSink;
  /** The beginning of a frame that has not come whole: 16 KiB at most. */
  #rest: Uint8Array = NOTHING;
  #hasPreface = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Hands all whole frames on. An error code of RFC 9113: what follows cannot be read. */
  read(bytes: Uint8Array): number | undefined {
    let all = bytes;
    if (this.#rest.byteLength > 0) {
      all = new Uint8Array(this.#rest.byteLength + bytes.byteLength);
      all.set(this.#rest);
      all.set(bytes, this.#rest.byteLength);
      this.#rest = NOTHING;
    }
    let at = 0;
    if (!this.#hasPreface) {
      const known = Math.min(all.byteLength, PREFACE.byteLength);
      for (let index = 0; index < known; index++) if (all[index] !== PREFACE[index]) return ERROR.protocol;
      if (known < PREFACE.byteLength) {
        this.#rest = copyOf(all);
        return undefined;
      }
      this.#hasPreface = true;
      at = PREFACE.byteLength;
    }
    while (at + FRAME_HEAD_BYTES <= all.byteLength) {
      const payloadBytes =
        ((all[at] as number) << 16) | ((all[at + 1] as number) << 8) | (all[at + 2] as number);
      // Section 4.2. Whatever the frame is: what follows cannot be found otherwise.
      if (payloadBytes > FRAME_BYTES_MAX) return ERROR.frameSize;
      const from = at + FRAME_HEAD_BYTES;
      const to = from + payloadBytes;
      if (to > all.byteLength) break;
      const id = readUint32(all, at + 5) & WINDOW_MAX;
      if (!this.#sink.frame(all[at + 3] as number, all[at + 4] as number, id, all, from, to))
        return undefined;
      at = to;
    }
    if (at < all.byteLength) this.#rest = copyOf(all.subarray(at));
    return undefined;
  }
}

/** Not `slice`, which copies nothing where the bytes are a Buffer. */
export const copyOf = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes);

/** A payload without its padding (section 6.1); undefined: there is more padding than payload. */
export function unpadded(
  isPadded: boolean,
  bytes: Uint8Array,
  from: number,
  to: number,
): Uint8Array | undefined {
  if (!isPadded) return bytes.subarray(from, to);
  if (from >= to) return undefined;
  const end = to - (bytes[from] as number);
  return from + 1 > end ? undefined : bytes.subarray(from + 1, end);
}
