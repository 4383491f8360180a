/** The words of the link protocol: frames, reasons, limits, what passes in and out of a session. README.md has the bytes. */

export const LINK_VERSION = 1;
/** Names by which TLS agrees on a version (RFC 7301), the best first. Who knows none of them goes on speaking HTTP. */
export const LINK_ALPN: readonly string[] = ["isochrone-link/1"];

/** Low half of a frame's first byte. */
export const FRAME = {
  hello: 1,
  head: 2,
  data: 3,
  trailers: 4,
  credit: 5,
  cancel: 6,
  ping: 7,
  pong: 8,
  goaway: 9,
  /** Of a client, to who has offered UDP: it will come by UDP, under keys that this number makes. */
  udp: 10,
  /** Of a client: the rest of an answer that comes by UDP is to come on this stream. */
  move: 11,
} as const;
/** In the high half: the sender's half of the stream ends with this frame. */
export const END_FLAG = 0x10;

/** Why a session ends, by the code that GOAWAY tells: the place in this list. New ones are appended. */
export const sessionReasons = [
  /** No fault: the sender has had enough of it. */
  "done",
  "version",
  "hello-first",
  "hello-value",
  "frame-type",
  "frame-flags",
  "frame-length",
  "number",
  "stream-id",
  "streams-exceeded",
  "credit-exceeded",
  "credit-overflow",
  "cancel-flood",
  "control-flood",
  /** Nothing came for too long. */
  "silent",
  "internal",
] as const;
export type SessionReason = (typeof sessionReasons)[number];

/** Why a stream ends before its end, by the code that CANCEL tells: the place in this list. New ones are appended. */
export const streamReasons = [
  "given-up",
  /** Nothing was done for it: it may be asked again. */
  "refused",
  "internal",
  /** The answer did not need the rest of the request's content. */
  "not-needed",
  "head-form",
  "order",
  "method",
  "authority",
  "path",
  "urgency",
  "status",
  "field-name",
  "field-value",
  "field-count",
  "content-length",
  /** The session is gone; never on the wire. */
  "session-lost",
  /** What is left of the answer comes on the stream that has asked for it. */
  "moved",
] as const;
export type StreamReason = (typeof streamReasons)[number];

/** `live`: somebody waits and it must not wait behind anything. `background`: nobody waits. The code is the place. */
export const urgencies = ["live", "normal", "background"] as const;
export type Urgency = (typeof urgencies)[number];

/** [name, value, name, value, ...]: names in lower case, order and repetitions kept. */
export type FlatFields = readonly string[];

export interface LinkRequestHead {
  readonly method: string;
  readonly authority: string;
  /** Origin form, or "*". */
  readonly path: string;
  readonly urgency: Urgency;
  readonly fields: FlatFields;
}

export interface LinkResponseHead {
  /** 100 to 199, but not 101: interim, and the final one is still to come. */
  readonly status: number;
  readonly fields: FlatFields;
}

/** Bounds of one side; some are told to the other side by HELLO. */
export interface LinkLimits {
  /** Streams of the other side that may be open at once: at least {@link STREAMS_MIN}. */
  readonly streamsMax: number;
  /** What may come of each stream before it is read, bytes: at least {@link WINDOW_BYTES_MIN}. */
  readonly windowBytes: number;
  /** How far that grows for a stream whose reader keeps pace, bytes. */
  readonly windowBytesMax: number;
  /** Growth of all streams of a session together, bytes. */
  readonly grownBytesMax: number;
  /** Silence before a ping while streams are open, and while none is, ms. */
  readonly busyPingMs: number;
  readonly idlePingMs: number;
  /** From a ping to the end of a session on which nothing comes, ms. Also for the first HELLO. */
  readonly silenceMs: number;
  /** Of a server that takes the UDP carrier, version 1 (`core/udp`): on which port. */
  readonly udpPort?: number | undefined;
}

/** What each side may use before it has read the other's HELLO, which can only allow more. */
export const STREAMS_MIN = 100;
export const WINDOW_BYTES_MIN = 256 * 1_024;

export const linkDefaults: LinkLimits = {
  streamsMax: 256,
  // A warm connection of 100 Mbit/s over 80 ms has a megabyte on its way.
  windowBytes: 2 ** 20,
  windowBytesMax: 16 * 2 ** 20,
  grownBytesMax: 64 * 2 ** 20,
  // Soon: a ping costs a frame of 7 bytes, and who waits on a session that is stuck would wait for its repeats.
  busyPingMs: 250,
  idlePingMs: 15_000,
  silenceMs: 10_000,
};

/** Longest payloads, bytes. */
export const HEAD_BYTES_MAX = 65_536;
export const DATA_BYTES_MAX = 16_384;
/** Fields of a head: more than any server of ours takes of a client, and what an origin may answer with. */
export const FIELDS_MAX = 1_024;
/** Streams of one session; then another one has to be opened. What fits a number of the wire. */
export const STREAM_ID_MAX = 2 ** 30 - 1;

/** What a session tells. `bytes` are part of what was handed in: who keeps them copies them, unless nobody writes there again. */
export type LinkEvent =
  /** The other side's HELLO is here. */
  | { readonly kind: "open" }
  | {
      readonly kind: "request";
      readonly id: number;
      readonly head: LinkRequestHead;
      readonly isEnd: boolean;
    }
  | {
      readonly kind: "response";
      readonly id: number;
      readonly head: LinkResponseHead;
      readonly isEnd: boolean;
    }
  | { readonly kind: "data"; readonly id: number; readonly bytes: Uint8Array; readonly isEnd: boolean }
  | { readonly kind: "trailers"; readonly id: number; readonly fields: FlatFields }
  /** It has ended before its end, by either side's fault or will. */
  | { readonly kind: "cancelled"; readonly id: number; readonly reason: StreamReason }
  /** The other side wants no more of what we send on it; its own half was whole. */
  | { readonly kind: "stopped"; readonly id: number; readonly reason: StreamReason }
  /** All that was queued for it has left. */
  | { readonly kind: "drained"; readonly id: number }
  /** To a server: it has ended as it should, on both sides. */
  | { readonly kind: "done"; readonly id: number }
  /** The other side begins nothing new, or takes nothing new. */
  | { readonly kind: "goaway"; readonly reason: SessionReason }
  /** To a server that has offered it: the client will come by UDP. `context` tells its keys from all others of the session. */
  | { readonly kind: "udp"; readonly context: number }
  /** To a server: what is left of the answer on a stream of a channel is to come on this one, without a head. */
  | { readonly kind: "move"; readonly id: number; readonly channel: number; readonly stream: number }
  /** A fault of either side: what waits is to be sent, then the connection to be closed. All streams are cancelled. */
  | { readonly kind: "closed"; readonly reason: SessionReason };
