/** The frames of a session but content, one after the other as they are to be sent. */
import { ByteWriter, numberBytes } from "./bytes.ts";
import type { HeadEncoder } from "./head-encoder.ts";
import { FRAME, type SessionReason, sessionReasons, type StreamReason, streamReasons } from "./words.ts";

export class FrameWriter extends ByteWriter {
  frame(type: number, id: number, payload: Uint8Array): void {
    this.#head(type, id, payload.byteLength);
    this.append(payload);
  }

  /** The head, or the trailers, that the encoder has; `first`: type and flags. */
  encoded(first: number, id: number, encoder: HeadEncoder): void {
    this.#head(first, id, encoder.payloadBytes);
    encoder.writeTo(this);
  }

  /** A ping whose answer will have the same number in it. */
  ping(number: number): void {
    this.#head(FRAME.ping, 0, 4);
    for (let shift = 24; shift >= 0; shift -= 8) this.byte((number >>> shift) & 0xff);
  }

  credit(id: number, bytes: number): void {
    this.#head(FRAME.credit, id, numberBytes(bytes));
    this.number(bytes);
  }

  cancel(id: number, reason: StreamReason): void {
    this.#head(FRAME.cancel, id, 1);
    this.byte(streamReasons.indexOf(reason));
  }

  udp(context: number): void {
    this.#head(FRAME.udp, 0, numberBytes(context));
    this.number(context);
  }

  move(id: number, channel: number, stream: number): void {
    this.#head(FRAME.move, id, 1 + numberBytes(stream));
    this.byte(channel);
    this.number(stream);
  }

  /** `lastId`: streams above were not begun with, and will not be. */
  goaway(reason: SessionReason, lastId: number): void {
    this.#head(FRAME.goaway, 0, 1 + numberBytes(lastId));
    this.byte(sessionReasons.indexOf(reason));
    this.number(lastId);
  }

  #head(first: number, id: number, payloadBytes: number): void {
    this.byte(first);
    this.number(id);
    this.number(payloadBytes);
  }
}
