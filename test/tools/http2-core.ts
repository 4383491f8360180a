/** Our own HTTP/2 connection without a socket, and what it was heard to say. */
import {
  type AtOnce,
  Http2Connection,
  type Http2Handler,
  type Http2Limits,
} from "../../edge/core/http2/connection.ts";
import { FRAME, type Frame, frame, PREFACE } from "./http2-frames.ts";

export const LIMITS: Http2Limits = {
  streamsMax: 8,
  windowBytes: 100_000,
  headerBytesMax: 4_096,
  headerFieldsMax: 64,
};

export interface Heard {
  readonly raw: readonly string[];
  readonly hasContent: boolean;
  /** One of each DATA frame. */
  readonly content: Buffer[];
  end: "open" | "ended" | number;
}

/** Remembers what a client asked for; answers when it is told to. */
export class HeardRequests implements Http2Handler {
  readonly requests = new Map<number, Heard>();
  readonly counts = { reset: 0, ping: 0, settings: 0, request: 0 };
  discardedBytes = 0;
  atOnce: ((raw: readonly string[], bytesMax: number) => AtOnce | undefined) | undefined;
  onEnd: ((id: number) => void) | undefined;
  onContent: ((id: number, bytes: number) => void) | undefined;

  answerAtOnce(raw: readonly string[], bytesMax: number): AtOnce | undefined {
    return this.atOnce?.(raw, bytesMax);
  }
  request(id: number, raw: readonly string[], hasContent: boolean): void {
    this.requests.set(id, { raw: [...raw], hasContent, content: [], end: hasContent ? "open" : "ended" });
    if (!hasContent) this.onEnd?.(id);
  }
  content(id: number, bytes: Uint8Array): void {
    this.requests.get(id)?.content.push(Buffer.from(bytes));
    this.onContent?.(id, bytes.byteLength);
  }
  contentEnd(id: number): void {
    const heard = this.requests.get(id);
    if (heard !== undefined) heard.end = "ended";
    this.onEnd?.(id);
  }
  reset(id: number, code: number): void {
    const heard = this.requests.get(id);
    if (heard !== undefined) heard.end = code;
  }
  drained(): void {}
  discarded(bytes: number): void {
    this.discardedBytes += bytes;
  }
  counted(what: keyof HeardRequests["counts"]): void {
    this.counts[what]++;
  }
}

/** What is written since the last call. */
export function taken(connection: Http2Connection): Buffer {
  const bytes = Buffer.from(connection.output.view);
  connection.output.clear();
  return bytes;
}

export function framesOf(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at + 9 <= bytes.length; ) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    frames.push({
      type: bytes.readUInt8(at + 3),
      flags: bytes.readUInt8(at + 4),
      streamId: bytes.readUInt32BE(at + 5),
      payload: bytes.subarray(at + 9, end),
    });
    at = end;
  }
  return frames;
}

/** A connection whose client has begun, with what it has said so far taken. */
export function begun(limits: Http2Limits = LIMITS, settings: Uint8Array = Buffer.alloc(0)) {
  const heard = new HeardRequests();
  const connection = new Http2Connection(limits, heard);
  connection.receive(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0, settings)]));
  taken(connection);
  return { connection, heard };
}
