/**
 * How much more than it receives a name server sends to addresses that nobody has shown to be theirs: a forger who names a network a query
 * stays below every limit of one network, and this is what all of them get together. Beyond it answers are cut to TC, which are no longer
 * than their queries, and an honest resolver comes over TCP.
 */
import type { IpFamily } from "#kit";

/** Octets of surplus that may be spent at once, in seconds of the rate. */
const BURST_SECONDS = 1;

export class OctetBudget {
  readonly #perSecond: number;
  #credit: number;
  #atMs = 0;

  /** @param perSecond octets sent beyond those received; 0: no limit */
  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#credit = perSecond * BURST_SECONDS;
  }

  get isOn(): boolean {
    return this.#perSecond > 0;
  }

  /** Whether an answer may be sent for a query; then it is counted. @param nowMs any clock that never runs back */
  take(queryBytes: number, answerBytes: number, nowMs: number): boolean {
    const most = this.#perSecond * BURST_SECONDS;
    const earned = ((nowMs - this.#atMs) * this.#perSecond) / 1_000;
    this.#atMs = nowMs;
    const credit = Math.min(most, this.#credit + earned) + queryBytes - answerBytes;
    if (credit < 0 && answerBytes > queryBytes) {
      this.#credit = credit - queryBytes + answerBytes;
      return false;
    }
    this.#credit = Math.min(most, credit);
    return true;
  }
}

/** Addresses remembered; one that falls into the place of another takes it. */
const PLACES = 65_536;
const REMEMBERED_SECONDS = 3_600;

/**
 * Who has lately shown that its address is its own: by a cookie (RFC 7873) or a handshake of TCP. Addresses are told by their
 * {@link addressHash}. Bounded, never grows.
 */
export class KnownClients {
  readonly #marks = new Uint32Array(PLACES);
  readonly #untilSeconds = new Float64Array(PLACES);

  remember(hash: number, nowSeconds: number): void {
    this.#marks[hash & (PLACES - 1)] = hash;
    this.#untilSeconds[hash & (PLACES - 1)] = nowSeconds + REMEMBERED_SECONDS;
  }

  has(hash: number, nowSeconds: number): boolean {
    const place = hash & (PLACES - 1);
    return this.#marks[place] === hash && nowSeconds < (this.#untilSeconds[place] as number);
  }
}

/**
 * Of an address, IPv6 by its /64.
 *
 * @param seed mixed in, so that nobody outside can tell which addresses share a place
 */
export function addressHash(seed: number, family: IpFamily, words: ArrayLike<number>): number {
  const second = family === 4 ? 0x9e37_79b9 : (words[1] as number);
  return mixed(mixed(seed, words[0] as number), second) >>> 0;
}

function mixed(before: number, word: number): number {
  let hash = Math.imul(before ^ Math.imul(word, 0xcc9e_2d51), 0x1b87_3593);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x85eb_ca6b);
  return hash ^ (hash >>> 13);
}
