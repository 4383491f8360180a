/**
 * Response rate limiting (Vixie, Schryver, 2012; BIND, Knot): a bucket for each client network and kind of answer, so that a forged sender
 * address gets no more than a trickle of answers. Who is limited wrongly comes back over TCP, to which every `slip`-th answer
 * that is held back invites with TC; who shows a cookie of ours is never limited.
 */
import type { IpFamily } from "#kit";
import { addressHash, KnownClients, OctetBudget } from "./octet-budget.ts";
import { ResolverHistory } from "./resolver-history.ts";

export interface RateLimitSettings {
  /** Answers of one kind to one client network, a second; also what may come at once. 0: no limit. */
  readonly perSecond: number;
  /** Every n-th answer that is held back goes out cut to TC; 0: none. */
  readonly slip: number;
  /** Mixed into the places of buckets, so that nobody outside can tell which networks share one. */
  readonly seed: number;
  /** Octets a second that all clients who have not shown that their address is theirs get beyond what they send; 0 or absent: no limit. */
  readonly surplusBytesPerSecond?: number;
}

/** Networks of a forger: what one network can spoof within (BIND's and Knot's defaults). */
const IPV4_PREFIX_MASK = 0xffff_ff00;
const IPV6_SECOND_WORD_MASK = 0xffff_ff00;
/** Buckets; networks that fall into one share it: the table never grows and cannot be emptied by forging many. */
const BUCKETS = 65_536;

export type RateVerdict = "send" | "slip" | "drop";

export class ResponseRateLimit {
  readonly #settings: RateLimitSettings;
  readonly #credits: Float32Array;
  readonly #atMs: Float64Array;
  readonly #held: Uint8Array;
  readonly #budget: OctetBudget;
  /** Who has shown a cookie, or come over TCP. */
  readonly #known = new KnownClients();
  readonly #history = new ResolverHistory();
  /** `cut`: over the budget of octets. */
  readonly counters = { slipped: 0, dropped: 0, cut: 0 };

  constructor(settings: RateLimitSettings) {
    this.#settings = settings;
    const buckets = settings.perSecond > 0 ? BUCKETS : 0;
    this.#credits = new Float32Array(buckets).fill(settings.perSecond);
    this.#atMs = new Float64Array(buckets);
    this.#held = new Uint8Array(buckets);
    this.#budget = new OctetBudget(settings.surplusBytesPerSecond ?? 0);
  }

  get isOn(): boolean {
    return this.#settings.perSecond > 0 || this.#budget.isOn;
  }

  /** The address is the sender's own: a cookie or a handshake has shown it. */
  handleProof(family: IpFamily, words: ArrayLike<number>, nowMs: number): void {
    this.#known.remember(this.#hashOf(family, words), nowMs / 1_000);
  }

  #hashOf(family: IpFamily, words: ArrayLike<number>): number {
    return addressHash(this.#settings.seed, family, words);
  }

  /** Whether a query that costs much goes before those of strangers: of who is known, up to a rate for each. */
  isFirst(family: IpFamily, words: ArrayLike<number>, nowMs: number): boolean {
    const hash = this.#hashOf(family, words);
    const isKnown = this.#known.has(hash, nowMs / 1_000) || this.#history.isSteady(hash, nowMs);
    return isKnown && this.#history.takeFirst(hash, nowMs);
  }

  /** As {@link judge}, of the answer to a common query: who asks may become somebody who was there before. */
  judgeCommon(
    family: IpFamily,
    words: ArrayLike<number>,
    kind: number,
    queryBytes: number,
    answerBytes: number,
    nowMs: number,
  ): RateVerdict {
    const hash = this.#hashOf(family, words);
    this.#history.handleCommon(hash, nowMs);
    const verdict = this.check(family, words, kind, nowMs);
    return verdict === "send" ? this.#judgeOctets(hash, queryBytes, answerBytes, nowMs) : verdict;
  }

  /** What to do with an answer that is ready, by both limits; see {@link check}. "slip": only its TC form may go out. */
  judge(
    family: IpFamily,
    words: ArrayLike<number>,
    kind: number,
    queryBytes: number,
    answerBytes: number,
    nowMs: number,
  ): RateVerdict {
    const verdict = this.check(family, words, kind, nowMs);
    if (verdict !== "send") return verdict;
    return this.#judgeOctets(this.#hashOf(family, words), queryBytes, answerBytes, nowMs);
  }

  #judgeOctets(hash: number, queryBytes: number, answerBytes: number, nowMs: number): RateVerdict {
    if (!this.#budget.isOn || this.#known.has(hash, nowMs / 1_000)) return "send";
    if (this.#budget.take(queryBytes, answerBytes, nowMs)) return "send";
    this.counters.cut++;
    return "slip";
  }

  /** Whether the TC form may go out: with a server's cookie in it, it is longer than its query. */
  mayCut(queryBytes: number, answerBytes: number, nowMs: number): boolean {
    return !this.#budget.isOn || this.#budget.take(queryBytes, answerBytes, nowMs);
  }

  /**
   * What to do with an answer that is ready.
   *
   * @param words of the address that asked, network order
   * @param kind equal for answers that are limited together: a name, or an rcode
   * @param nowMs any clock that never runs back
   */
  check(family: IpFamily, words: ArrayLike<number>, kind: number, nowMs: number): RateVerdict {
    const { perSecond, slip, seed } = this.#settings;
    if (perSecond <= 0) return "send";
    const first = family === 4 ? ((words[0] as number) & IPV4_PREFIX_MASK) | 0 : (words[0] as number) | 0;
    const second = family === 4 ? 0 : (words[1] as number) & IPV6_SECOND_WORD_MASK;
    const bucket = mix(mix(mix(seed, first), second), kind) & (BUCKETS - 1);
    const elapsedMs = nowMs - (this.#atMs[bucket] as number);
    this.#atMs[bucket] = nowMs;
    const credit = Math.min(perSecond, (this.#credits[bucket] as number) + (elapsedMs * perSecond) / 1_000);
    if (credit >= 1) {
      this.#credits[bucket] = credit - 1;
      return "send";
    }
    this.#credits[bucket] = credit;
    if (slip > 0) {
      const held = (this.#held[bucket] as number) + 1;
      this.#held[bucket] = held >= slip ? 0 : held;
      if (held >= slip) {
        this.counters.slipped++;
        return "slip";
      }
    }
    this.counters.dropped++;
    return "drop";
  }
}

/** MurmurHash3's mixing of a word into a hash (A. Appleby, public domain). */
function mix(hash: number, word: number): number {
  let h = hash ^ Math.imul(Math.imul(word, 0xcc9e_2d51), 0x1b87_3593);
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  return h ^ (h >>> 13);
}
