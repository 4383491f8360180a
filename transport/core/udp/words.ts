/** Words, sizes and limits of the UDP carrier; README.md has the bytes. */

export const UDP_VERSION = 1;

/** First byte, connection, packet number. */
export const CONNECTION_BYTES = 8;
export const PACKET_NUMBER_BYTES = 6;
export const HEADER_BYTES = 1 + CONNECTION_BYTES + PACKET_NUMBER_BYTES;
/** What the seal of a packet adds: the tag of AES-GCM. */
export const TAG_BYTES = 16;

/** A datagram that every path takes (RFC 9000, section 14), and the largest that is tried: IPv6 and UDP heads in an Ethernet frame. */
export const DATAGRAM_BYTES_MIN = 1_200;
export const DATAGRAM_BYTES_MAX = 1_452;

export const FRAME = {
  padding: 0,
  ping: 1,
  ack: 2,
  data: 3,
  repair: 4,
  challenge: 5,
  response: 6,
  close: 7,
} as const;

export const CHALLENGE_BYTES = 8;
/** Ranges of an acknowledgement. */
export const ACK_RANGES_MAX = 32;
/** An acknowledgement waits for another packet this long at most, ms; and for so many packets. */
export const ACK_DELAY_MS_MAX = 5;
export const ACK_PACKETS_MAX = 4;
/** Unit of the delay in an acknowledgement, ms. */
export const ACK_DELAY_UNIT_MS = 1 / 8;

/** Channels of a connection; each is one stream of bytes in order. */
export const CHANNELS_MAX = 64;
/** What may be under way in a channel beyond the first byte that has not come, bytes: 100 Mbit/s over 300 ms. */
export const CHANNEL_WINDOW_BYTES = 4 << 20;
/** What a side keeps of all channels that came out of order, bytes, and pieces. */
export const HELD_BYTES_MAX = 16 << 20;
export const HELD_PIECES_MAX = 32_768;
/** A channel takes more while less than this waits to be sent, bytes. */
export const QUEUED_BYTES_LOW = 64 << 10;

/** Ranges of packet numbers that are remembered; below the oldest, a number counts as one that came already. */
export const RECEIVED_RANGES_MAX = 128;

/** Silence while something is under way, ms, after which the other side is given up; and without. */
export const SILENCE_MS_MAX = 10_000;
export const IDLE_MS_MAX = 60_000;

/** RFC 9000, section 8.1: to an address that is not validated, three times what came from it. */
export const AMPLIFICATION_MAX = 3;

/** RFC 9001, section 6.6: packets that AES-GCM may seal under one key. */
export const SEALED_PACKETS_MAX = 2 ** 23;

/** Why a connection ended, by number on the wire; append only. */
export const closeReasons = [
  "done",
  "silent",
  "idle",
  "frame",
  "number",
  "ack-unsent",
  "channel",
  "window",
  "held-bytes",
  "repair",
  "key-update",
] as const;
export type CloseReason = (typeof closeReasons)[number];

/** Why a datagram was not taken; nothing is kept of it. */
export const dropReasons = ["length", "version", "connection", "duplicate", "unopened", "ended"] as const;
export type DropReason = (typeof dropReasons)[number];

/** Seals and opens packets; keys and their epochs are its own. */
export interface PacketProtection {
  /**
   * Seals `packet[headerBytes, payloadEnd)` in place under the key of `epoch`, the bytes before it being authenticated too. The tag follows. `number`
   * is used once under a key.
   */
  seal(packet: Uint8Array, headerBytes: number, payloadEnd: number, number: number, epoch: number): void;
  /** Opens in place `packet[headerBytes, end - TAG_BYTES)`. False: it is not authentic, and its bytes are to be ignored. */
  open(packet: Uint8Array, headerBytes: number, end: number, number: number, epoch: number): boolean;
}

export type UdpEvent =
  /** Bytes of a channel, in order; the receiver's own. */
  | { readonly kind: "data"; readonly channel: number; readonly bytes: Uint8Array }
  /** Of what a channel has queued little is left. */
  | { readonly kind: "writable"; readonly channel: number }
  /** The other side is heard from another address now. */
  | { readonly kind: "moved"; readonly remote: string }
  | { readonly kind: "closed"; readonly reason: CloseReason };
