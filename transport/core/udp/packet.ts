/** Heads of packets and the frames in them. What is read is bounded by the packet; nothing is kept. */
import { type ByteReader, writeNumber } from "../link/bytes.ts";
import { SYMBOLS_MAX } from "./reed-solomon.ts";
import {
  ACK_RANGES_MAX,
  CHALLENGE_BYTES,
  CHANNELS_MAX,
  type CloseReason,
  CONNECTION_BYTES,
  closeReasons,
  DATAGRAM_BYTES_MAX,
  type DropReason,
  FRAME,
  HEADER_BYTES,
  PACKET_NUMBER_BYTES,
  TAG_BYTES,
  UDP_VERSION,
} from "./words.ts";

/** The first byte: 0101, version (2 bits), whether the packet belongs to a group, parity of the key's epoch. */
const FIXED_BITS = 0x50;
const GROUP_FLAG = 0x02;
const EPOCH_FLAG = 0x01;

/** Writes a whole number of 48 bits; where it ends. */
export function writeNumber48(bytes: Uint8Array, at: number, value: number): number {
  const high = Math.floor(value / 2 ** 32);
  const low = value >>> 0;
  bytes[at] = high >>> 8;
  bytes[at + 1] = high;
  bytes[at + 2] = low >>> 24;
  bytes[at + 3] = low >>> 16;
  bytes[at + 4] = low >>> 8;
  bytes[at + 5] = low;
  return at + PACKET_NUMBER_BYTES;
}

export function readNumber48(bytes: Uint8Array, at: number): number {
  const byte = (index: number): number => bytes[at + index] as number;
  return (
    (byte(0) * 256 + byte(1)) * 2 ** 32 +
    (((byte(2) << 24) | (byte(3) << 16) | (byte(4) << 8) | byte(5)) >>> 0)
  );
}

/** A channel offset or packet number; -1: there is none. */
function number48(payload: ByteReader): number {
  if (payload.at + PACKET_NUMBER_BYTES > payload.end) return -1;
  const value = readNumber48(payload.bytes, payload.at);
  payload.at += PACKET_NUMBER_BYTES;
  return value;
}

export interface PacketHead {
  readonly number: number;
  readonly isInGroup: boolean;
  /** Lowest bit of the key's epoch. */
  readonly epochBit: number;
}

export function writeHead(bytes: Uint8Array, connection: Uint8Array, head: PacketHead): void {
  bytes[0] = FIXED_BITS | (UDP_VERSION << 2) | (head.isInGroup ? GROUP_FLAG : 0) | head.epochBit;
  bytes.set(connection, 1);
  writeNumber48(bytes, 1 + CONNECTION_BYTES, head.number);
}

/** `connection`: the name under which this side is addressed. */
export function readHead(bytes: Uint8Array, connection: Uint8Array): PacketHead | DropReason {
  if (bytes.length <= HEADER_BYTES + TAG_BYTES || bytes.length > DATAGRAM_BYTES_MAX) return "length";
  const first = bytes[0] as number;
  if ((first & 0xfc) !== (FIXED_BITS | (UDP_VERSION << 2))) return "version";
  for (let at = 0; at < CONNECTION_BYTES; at++) if (bytes[1 + at] !== connection[at]) return "connection";
  return {
    number: readNumber48(bytes, 1 + CONNECTION_BYTES),
    isInGroup: (first & GROUP_FLAG) !== 0,
    epochBit: first & EPOCH_FLAG,
  };
}

/** An acknowledgement: packets that came, the newest range first, as pairs of first number and number behind the last. */
export interface Ack {
  readonly ranges: readonly number[];
  /** How long the largest one waited for this frame, in units of ACK_DELAY_UNIT_MS. */
  readonly delayUnits: number;
  /** How many packets were restored in all so far, modulo 2^30: they count as come, but the path has lost them (as the CE count of RFC 9000, section 19.3.2). */
  readonly restored: number;
}

/** Takes frames; `bytes[from, to)` is valid during the call. A reason ends the connection. */
export interface FrameSink {
  ack(ack: Ack): CloseReason | undefined;
  data(channel: number, offset: number, bytes: Uint8Array): CloseReason | undefined;
  repair(first: number, sources: number, index: number, symbol: Uint8Array): CloseReason | undefined;
  challenge(bytes: Uint8Array): void;
  response(bytes: Uint8Array): void;
  close(reason: CloseReason): void;
}

/** Reads the frames of a packet. Whether one of them asks for an acknowledgement, or why the packet cannot be. */
export function readFrames(payload: ByteReader, sink: FrameSink): boolean | CloseReason {
  let isEliciting = false;
  while (payload.at < payload.end) {
    const type = payload.byte();
    if (type !== FRAME.padding && type !== FRAME.ack && type !== FRAME.close) isEliciting = true;
    const fault = readFrame(type, payload, sink);
    if (fault !== undefined) return fault;
  }
  return isEliciting;
}

function readFrame(type: number, payload: ByteReader, sink: FrameSink): CloseReason | undefined {
  switch (type) {
    case FRAME.padding:
      payload.at = payload.end;
      return undefined;
    case FRAME.ping:
      return undefined;
    case FRAME.ack: {
      const ack = readAck(payload);
      return typeof ack === "string" ? ack : sink.ack(ack);
    }
    case FRAME.data:
      return readData(payload, sink);
    case FRAME.repair:
      return readRepair(payload, sink);
    case FRAME.challenge:
    case FRAME.response: {
      if (payload.at + CHALLENGE_BYTES > payload.end) return "frame";
      const bytes = payload.bytes.subarray(payload.at, payload.at + CHALLENGE_BYTES);
      payload.at += CHALLENGE_BYTES;
      if (type === FRAME.challenge) sink.challenge(bytes);
      else sink.response(bytes);
      return undefined;
    }
    case FRAME.close: {
      const reason = closeReasons[payload.byte()];
      if (reason === undefined) return "frame";
      sink.close(reason);
      // What follows is for nobody.
      payload.at = payload.end;
      return undefined;
    }
    default:
      return "frame";
  }
}

function readRepair(payload: ByteReader, sink: FrameSink): CloseReason | undefined {
  const first = number48(payload);
  const sources = payload.byte();
  const index = payload.byte();
  if (first < 0 || index < 0 || sources === 0 || sources + index >= SYMBOLS_MAX) return "repair";
  const symbol = payload.bytes.subarray(payload.at, payload.end);
  payload.at = payload.end;
  return symbol.length < SYMBOL_LENGTH_BYTES ? "repair" : sink.repair(first, sources, index, symbol);
}

/** Each symbol of a group begins with its payload's length. */
export const SYMBOL_LENGTH_BYTES = 2;

function readData(payload: ByteReader, sink: FrameSink): CloseReason | undefined {
  const channel = payload.byte();
  const offset = number48(payload);
  const length = payload.number();
  if (offset < 0 || length <= 0 || payload.at + length > payload.end) return "frame";
  if (channel >= CHANNELS_MAX) return "channel";
  const bytes = payload.bytes.subarray(payload.at, payload.at + length);
  payload.at += length;
  return sink.data(channel, offset, bytes);
}

function readAck(payload: ByteReader): Ack | CloseReason {
  const largest = number48(payload);
  const delayUnits = payload.number();
  const restored = payload.number();
  const count = payload.byte();
  if (largest < 0 || delayUnits < 0 || restored < 0 || count < 1 || count > ACK_RANGES_MAX) return "frame";
  const ranges: number[] = [];
  let to = largest + 1;
  for (let index = 0; index < count; index++) {
    const gap = index === 0 ? 0 : payload.number();
    const length = payload.number();
    if (gap < 0 || length < 1 || (index > 0 && gap < 1)) return "number";
    to -= gap;
    const from = to - length;
    if (from < 0) return "number";
    ranges.push(from, to);
    to = from;
  }
  return { ranges, delayUnits, restored };
}

/** Writes an ACK of what {@link readAck} would give back; where it ends. */
export function writeAck(bytes: Uint8Array, at: number, { ranges, delayUnits, restored }: Ack): number {
  bytes[at] = FRAME.ack;
  let next = writeNumber48(bytes, at + 1, (ranges[1] as number) - 1);
  next = writeNumber(bytes, next, delayUnits);
  next = writeNumber(bytes, next, restored);
  bytes[next++] = ranges.length / 2;
  for (let index = 0; index < ranges.length; index += 2) {
    if (index > 0)
      next = writeNumber(bytes, next, (ranges[index - 2] as number) - (ranges[index + 1] as number));
    next = writeNumber(bytes, next, (ranges[index + 1] as number) - (ranges[index] as number));
  }
  return next;
}

/** Type, channel, offset, longest length. */
export const DATA_HEAD_BYTES = 1 + 1 + PACKET_NUMBER_BYTES + 2;

/** Writes the head of a DATA frame of up to 16,383 bytes; where its bytes begin. */
export function writeDataHead(
  bytes: Uint8Array,
  at: number,
  channel: number,
  offset: number,
  length: number,
): number {
  bytes[at] = FRAME.data;
  bytes[at + 1] = channel;
  return writeNumber(bytes, writeNumber48(bytes, at + 2, offset), length);
}

export const REPAIR_HEAD_BYTES = 1 + PACKET_NUMBER_BYTES + 2;

export function writeRepair(
  bytes: Uint8Array,
  at: number,
  first: number,
  sources: number,
  index: number,
  symbol: Uint8Array,
): number {
  bytes[at] = FRAME.repair;
  const next = writeNumber48(bytes, at + 1, first);
  bytes[next] = sources;
  bytes[next + 1] = index;
  bytes.set(symbol, next + 2);
  return next + 2 + symbol.length;
}
