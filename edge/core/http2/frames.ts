/** Frames of HTTP/2 (RFC 9113, sections 4, 6 and 7): their numbers, and a writer of them. Pure. */

export const FRAME = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
export const FLAG = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;
export const SETTING = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;
export const ERROR = {
  none: 0,
  protocol: 1,
  internal: 2,
  flowControl: 3,
  streamClosed: 5,
  frameSize: 6,
  refusedStream: 7,
  cancel: 8,
  compression: 9,
  enhanceYourCalm: 11,
} as const;

export const FRAME_HEAD_BYTES = 9;
/** The largest frame without another agreement (section 4.2): we take no larger ones, and send none. */
export const FRAME_BYTES_MAX = 16_384;
export const WINDOW_MAX = 2 ** 31 - 1;
/** What windows begin with (section 6.9.2). */
export const WINDOW_INITIAL = 65_535;
const NOTHING: Uint8Array = new Uint8Array(0);
export const PREFACE = Uint8Array.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".split(""), (one) =>
  one.charCodeAt(0),
);

/** Memory that writers share: each holds a piece only while something waits in it. */
const PIECE_BYTES = 64 * 1_024;
const SPARE_PIECES_MAX = 32;
const spare: Uint8Array[] = [];

/** Frames that wait to be sent, in one piece of memory. */
export class FrameWriter {
  #bytes: Uint8Array = NOTHING;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** What was written; valid until the next frame or {@link clear}. */
  get view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Lets go of all. */
  clear(): void {
    if (this.#bytes.byteLength === PIECE_BYTES && spare.length < SPARE_PIECES_MAX) spare.push(this.#bytes);
    this.#bytes = NOTHING;
    this.#length = 0;
  }

  /** A frame with a payload of one or two pieces. */
  frame(type: number, flags: number, streamId: number, payload: Uint8Array, more?: Uint8Array): void {
    const bytes = payload.byteLength + (more?.byteLength ?? 0);
    const at = this.#head(type, flags, streamId, bytes);
    this.#bytes.set(payload, at);
    if (more !== undefined) this.#bytes.set(more, at + payload.byteLength);
  }

  /** A frame whose payload is one number of 32 bits: RST_STREAM, WINDOW_UPDATE. */
  numberFrame(type: number, streamId: number, value: number): void {
    this.#uint32(this.#head(type, 0, streamId, 4), value);
  }

  goaway(lastStreamId: number, code: number): void {
    const at = this.#head(FRAME.goaway, 0, 0, 8);
    this.#uint32(at, lastStreamId);
    this.#uint32(at + 4, code);
  }

  /** @param settings identifiers with their values */
  settings(settings: readonly (readonly [number, number])[]): void {
    let at = this.#head(FRAME.settings, 0, 0, settings.length * 6);
    for (const [id, value] of settings) {
      this.#bytes[at] = id >>> 8;
      this.#bytes[at + 1] = id;
      this.#uint32(at + 2, value);
      at += 6;
    }
  }

  /** A header block in HEADERS and, where it is long, CONTINUATION (section 6.10). `prefix` stands before it. */
  headers(streamId: number, block: Uint8Array, isEnd: boolean, prefix: Uint8Array): void {
    const end = isEnd ? FLAG.endStream : 0;
    const firstBytes = FRAME_BYTES_MAX - prefix.byteLength;
    if (block.byteLength <= firstBytes) {
      this.frame(FRAME.headers, end | FLAG.endHeaders, streamId, prefix, block);
      return;
    }
    this.frame(FRAME.headers, end, streamId, prefix, block.subarray(0, firstBytes));
    for (let at = firstBytes; at < block.byteLength; at += FRAME_BYTES_MAX) {
      const piece = block.subarray(at, at + FRAME_BYTES_MAX);
      const isLast = at + FRAME_BYTES_MAX >= block.byteLength;
      this.frame(FRAME.continuation, isLast ? FLAG.endHeaders : 0, streamId, piece);
    }
  }

  /** Where the payload begins. */
  #head(type: number, flags: number, streamId: number, payloadBytes: number): number {
    const at = this.#length;
    const end = at + FRAME_HEAD_BYTES + payloadBytes;
    if (end > this.#bytes.byteLength) {
      const isFirst = at === 0 && end <= PIECE_BYTES;
      const grown = (isFirst ? spare.pop() : undefined) ?? new Uint8Array(Math.max(PIECE_BYTES, 2 * end));
      grown.set(this.view);
      this.#bytes = grown;
    }
    const bytes = this.#bytes;
    bytes[at] = payloadBytes >>> 16;
    bytes[at + 1] = payloadBytes >>> 8;
    bytes[at + 2] = payloadBytes;
    bytes[at + 3] = type;
    bytes[at + 4] = flags;
    this.#uint32(at + 5, streamId);
    this.#length = end;
    return at + FRAME_HEAD_BYTES;
  }

  #uint32(at: number, value: number): void {
    const bytes = this.#bytes;
    bytes[at] = value >>> 24;
    bytes[at + 1] = value >>> 16;
    bytes[at + 2] = value >>> 8;
    bytes[at + 3] = value;
  }
}

export function readUint32(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}
