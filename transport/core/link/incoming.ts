/**
 * What may come of a stream's content, and when more is allowed: half a window after it was read. The window doubles while its reader takes
 * half of it within two round trips, since then it, and not the path, is what holds the sender up: so it reaches twice the path's
 * bandwidth-delay product and no more. What was learnt so is where the next stream of the session goes at its first grant.
 */
import type { MonotonicMs } from "#kit";
import type { LinkLimits } from "./words.ts";

export interface Incoming {
  /** What the other side may still send, bytes. */
  receiveCredit: number;
  /** What came and was not read, bytes. */
  unreadBytes: number;
  /** What was read and not granted again, bytes. */
  owedBytes: number;
  windowBytes: number;
  grantedAt: MonotonicMs;
  /** Nothing more comes, or nothing more is wanted. */
  hasRemoteEnded: boolean;
}

/** Round trips within which half a window is read when the window is too small. */
const GROWTH_ROUND_TRIPS = 2;

export class ReceiveWindows {
  readonly #limits: Pick<LinkLimits, "windowBytes" | "windowBytesMax" | "grownBytesMax">;
  /** Growth of all streams. */
  #grownBytes = 0;
  #learntBytes: number;

  constructor(limits: Pick<LinkLimits, "windowBytes" | "windowBytesMax" | "grownBytesMax">) {
    this.#limits = limits;
    this.#learntBytes = limits.windowBytes;
  }

  get grownBytes(): number {
    return this.#grownBytes;
  }

  /** What a stream begins with. */
  get windowBytes(): number {
    return this.#limits.windowBytes;
  }

  /** `bytes` were read; how many the other side is to be granted, 0: none yet. */
  handleRead(stream: Incoming, bytes: number, rttMs: number | undefined, now: MonotonicMs): number {
    const read = Math.min(bytes, stream.unreadBytes);
    stream.unreadBytes -= read;
    stream.owedBytes += read;
    if (stream.hasRemoteEnded || stream.owedBytes < stream.windowBytes / 2) return 0;
    const isShort = rttMs !== undefined && now - stream.grantedAt < GROWTH_ROUND_TRIPS * rttMs;
    const wanted = isShort ? 2 * stream.windowBytes : stream.windowBytes;
    const granted = stream.owedBytes + this.#grow(stream, Math.max(wanted, this.#learntBytes));
    stream.owedBytes = 0;
    stream.receiveCredit += granted;
    stream.grantedAt = now;
    return granted;
  }

  /** The stream is over. */
  end(stream: Incoming): void {
    this.#grownBytes -= stream.windowBytes - this.#limits.windowBytes;
    stream.windowBytes = this.#limits.windowBytes;
  }

  /** By how much its window grows. */
  #grow(stream: Incoming, wantedBytes: number): number {
    const { windowBytesMax, grownBytesMax } = this.#limits;
    const room = grownBytesMax - this.#grownBytes;
    const more = Math.max(0, Math.min(Math.min(wantedBytes, windowBytesMax) - stream.windowBytes, room));
    stream.windowBytes += more;
    this.#grownBytes += more;
    this.#learntBytes = Math.max(this.#learntBytes, stream.windowBytes);
    return more;
  }
}
