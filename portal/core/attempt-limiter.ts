/**
 * How often a password may be tried: a token bucket for each key (an address, an account name). A try takes a token before
 * the password is hashed, so that the limit also bounds the hashing; a right password gives it back.
 */
import type { MonotonicMs } from "#kit";

export interface AttemptLimits {
  /** Tries that may come at once. */
  readonly burst: number;
  /** Time after which one more try is granted, ms. */
  readonly refillMs: number;
  /** Keys remembered. A full table forgets the key whose bucket is fullest first: the one that loses least. */
  readonly keysMax: number;
}

interface Bucket {
  tokens: number;
  at: MonotonicMs;
}

/** `retryAfterMs` 0: the try may be made. */
export interface AttemptVerdict {
  readonly isAllowed: boolean;
  readonly retryAfterMs: number;
}

export class AttemptLimiter {
  readonly #limits: AttemptLimits;
  readonly #buckets = new Map<string, Bucket>();

  constructor(limits: AttemptLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#buckets.size;
  }

  take(key: string, now: MonotonicMs): AttemptVerdict {
    const bucket = this.#bucket(key, now);
    if (bucket.tokens < 1) {
      return { isAllowed: false, retryAfterMs: Math.ceil((1 - bucket.tokens) * this.#limits.refillMs) };
    }
    bucket.tokens -= 1;
    return { isAllowed: true, retryAfterMs: 0 };
  }

  /** After a try that was right: it does not count. */
  giveBack(key: string): void {
    const bucket = this.#buckets.get(key);
    if (bucket !== undefined) bucket.tokens = Math.min(this.#limits.burst, bucket.tokens + 1);
  }

  #bucket(key: string, now: MonotonicMs): Bucket {
    const { burst, refillMs, keysMax } = this.#limits;
    const known = this.#buckets.get(key);
    if (known !== undefined) {
      known.tokens = this.#filled(known, now);
      known.at = now;
      return known;
    }
    if (this.#buckets.size >= keysMax) this.#forgetOne(now);
    const made = { tokens: burst, at: now };
    if (refillMs > 0) this.#buckets.set(key, made);
    return made;
  }

  #filled(bucket: Bucket, now: MonotonicMs): number {
    return Math.min(this.#limits.burst, bucket.tokens + (now - bucket.at) / this.#limits.refillMs);
  }

  #forgetOne(now: MonotonicMs): void {
    let fullest: string | undefined;
    let most = -1;
    for (const [key, bucket] of this.#buckets) {
      const tokens = this.#filled(bucket, now);
      if (tokens > most) {
        fullest = key;
        most = tokens;
      }
      // A full bucket says no more than none.
      if (tokens >= this.#limits.burst) break;
    }
    if (fullest !== undefined) this.#buckets.delete(fullest);
  }
}
