/** All channels of a connection: whose turn it is to send, and what is held of what came out of order. */
import { DATA_HEAD_BYTES, writeDataHead } from "./packet.ts";
import { ReceiveChannel } from "./receive-channel.ts";
import { SendChannel } from "./send-channel.ts";
import { type CloseReason, HELD_BYTES_MAX, HELD_PIECES_MAX, QUEUED_BYTES_LOW } from "./words.ts";

/** Content is not cut into less than this because little room is left, bytes. */
const PIECE_BYTES_MIN = 64;

export class SendChannels {
  readonly #channels = new Map<number, SendChannel>();
  /** Those that have something to send, in turns. */
  readonly #ready = new Set<number>();
  readonly #writable: (channel: number) => void;

  /** `writable`: little is left of what a channel has queued. */
  constructor(writable: (channel: number) => void) {
    this.#writable = writable;
  }

  get hasSome(): boolean {
    return this.#ready.size > 0;
  }

  /** Bytes that would leave now if there were no bound on the rate, of transfers of which no more than `longBytes` has left. */
  readyBytes(longBytes: number): number {
    let bytes = 0;
    for (const channel of this.#ready) {
      const sending = this.#channels.get(channel) as SendChannel;
      if (sending.transferBytes <= longBytes) bytes += sending.readyBytes;
    }
    return bytes;
  }

  isWritable(channel: number): boolean {
    return (this.#channels.get(channel)?.queuedBytes ?? 0) < QUEUED_BYTES_LOW;
  }

  isDelivered(channel: number): boolean {
    return this.#channels.get(channel)?.isDelivered ?? true;
  }

  send(channel: number, bytes: Uint8Array): void {
    let sending = this.#channels.get(channel);
    if (sending === undefined) {
      sending = new SendChannel();
      this.#channels.set(channel, sending);
    }
    sending.push(bytes);
    this.#schedule(channel, sending);
  }

  /** Writes DATA frames from `from` to `limit` at most, and which bytes they have (channel, offset, length) to `pieces`; where they end. */
  fill(into: Uint8Array, from: number, limit: number, pieces: number[]): number {
    let at = from;
    for (const channel of this.#ready) {
      const room = limit - at - DATA_HEAD_BYTES;
      if (room < PIECE_BYTES_MIN) break;
      const sending = this.#channels.get(channel) as SendChannel;
      const wasFull = sending.queuedBytes >= QUEUED_BYTES_LOW;
      const piece = sending.take(room);
      // Who goes on sending stands last.
      this.#ready.delete(channel);
      this.#schedule(channel, sending);
      if (piece === undefined) continue;
      at = writeDataHead(into, at, channel, piece.offset, piece.length);
      sending.copy(piece.offset, piece.length, into, at);
      at += piece.length;
      pieces.push(channel, piece.offset, piece.length);
      if (wasFull && sending.queuedBytes < QUEUED_BYTES_LOW) this.#writable(channel);
    }
    return at;
  }

  handleAcked(pieces: readonly number[]): void {
    this.#each(pieces, (sending, offset, length) => sending.handleAcked(offset, length));
  }

  handleLost(pieces: readonly number[]): void {
    this.#each(pieces, (sending, offset, length) => sending.handleLost(offset, length));
  }

  clear(): void {
    this.#channels.clear();
    this.#ready.clear();
  }

  #each(
    pieces: readonly number[],
    handle: (sending: SendChannel, offset: number, length: number) => void,
  ): void {
    for (let index = 0; index < pieces.length; index += 3) {
      const channel = pieces[index] as number;
      const sending = this.#channels.get(channel) as SendChannel;
      handle(sending, pieces[index + 1] as number, pieces[index + 2] as number);
      this.#schedule(channel, sending);
    }
  }

  #schedule(channel: number, sending: SendChannel): void {
    if (sending.hasSome) this.#ready.add(channel);
    else this.#ready.delete(channel);
  }
}

export class ReceiveChannels {
  readonly #channels = new Map<number, ReceiveChannel>();
  #heldBytes = 0;
  #heldPieces = 0;

  /** Bytes that came out of order. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Takes the bytes of a DATA frame; those that are next in the channel are given to `hand`. */
  receive(
    channel: number,
    offset: number,
    bytes: Uint8Array,
    hand: (bytes: Uint8Array) => void,
  ): CloseReason | undefined {
    let receiving = this.#channels.get(channel);
    if (receiving === undefined) {
      receiving = new ReceiveChannel();
      this.#channels.set(channel, receiving);
    }
    if (!receiving.isInWindow(offset, bytes.length)) return "window";
    this.#heldBytes -= receiving.heldBytes;
    this.#heldPieces -= receiving.heldPieces;
    receiving.receive(offset, bytes, hand);
    this.#heldBytes += receiving.heldBytes;
    this.#heldPieces += receiving.heldPieces;
    return this.#heldBytes > HELD_BYTES_MAX || this.#heldPieces > HELD_PIECES_MAX ? "held-bytes" : undefined;
  }

  clear(): void {
    this.#channels.clear();
    this.#heldBytes = 0;
    this.#heldPieces = 0;
  }
}
