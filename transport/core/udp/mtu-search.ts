/**
 * The largest datagram that a path takes: RFC 8899 (DPLPMTUD), over three sizes. A packet of padding tries the next one; three that are lost end
 * the search, and full packets that are lost while small ones come bring the size back to the least.
 */
import { type MonotonicMs, plusMs } from "#kit";
import { DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MIN } from "./words.ts";

/** PPPoE and tunnels in between; Ethernet with IPv6. */
const SIZES = [DATAGRAM_BYTES_MIN, 1_350, DATAGRAM_BYTES_MAX] as const;
/** MAX_PROBES (section 5.1.2). */
const PROBES_MAX = 3;
/** Probe timeouts in a row with a larger size than the least: a black hole (section 4.3). */
const BLACK_HOLE_TIMEOUTS = 2;
/** PMTU_RAISE_TIMER (section 5.1.1), ms. */
const RAISE_MS = 600_000;

export class MtuSearch {
  #index = 0;
  #probes = 0;
  #isUnderWay = false;
  #pausedUntil: MonotonicMs | undefined;

  /** Bytes of a datagram. */
  get bytes(): number {
    return SIZES[this.#index] as number;
  }

  /** Size to be tried now; 0: none. */
  probe(now: MonotonicMs): number {
    if (this.#isUnderWay || (this.#pausedUntil !== undefined && now < this.#pausedUntil)) return 0;
    return SIZES[this.#index + 1] ?? 0;
  }

  handleSent(): void {
    this.#isUnderWay = true;
  }

  handleAcked(bytes: number): void {
    this.#isUnderWay = false;
    this.#probes = 0;
    const index = SIZES.findIndex((size) => size === bytes);
    // A probe that left before the path was found to be a black hole says nothing.
    if (index === this.#index + 1) this.#index = index;
  }

  handleLost(now: MonotonicMs): void {
    this.#isUnderWay = false;
    if (++this.#probes < PROBES_MAX) return;
    this.#probes = 0;
    this.#pausedUntil = plusMs(now, RAISE_MS);
  }

  /** So many probe timeouts in a row. */
  handleProbeTimeout(timeouts: number, now: MonotonicMs): void {
    if (this.#index === 0 || timeouts < BLACK_HOLE_TIMEOUTS) return;
    this.#index = 0;
    this.#pausedUntil = plusMs(now, RAISE_MS);
  }

  handlePathChanged(): void {
    this.#index = 0;
    this.#probes = 0;
    this.#isUnderWay = false;
    this.#pausedUntil = undefined;
  }
}
