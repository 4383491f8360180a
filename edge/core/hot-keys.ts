/**
 * Keys of other servers that are asked for here so often that a copy pays: a server that does not own a key keeps its
 * answers for a moment once it has been asked for `requestsMin` times within about a second. So a hot key is spread over
 * as many servers as are asked for it, and its owner gets a few requests a second from each, however hot it is.
 *
 * A copy goes after `copyMs`, used or not: what is still hot has earned the next one within a few requests, since counts
 * fade by half a second; what has cooled is forgotten. Until then it is a stored response like any other: it ages,
 * is validated and purged alike. What `copyMs` bounds beside memory is how long it may outlive the owner's being
 * invalidated by an unsafe request of which this server hears nothing (RFC 9111, section 4.4).
 */
import { type MonotonicMs, xxh32 } from "#kit";
import { FrequencySketch } from "./eviction/frequency-sketch.ts";

export interface HotKeySettings {
  /** Requests within about a second from which on a key is hot, 1..15. */
  readonly requestsMin: number;
  /** How long a copy is kept, ms. */
  readonly copyMs: number;
  readonly copiesMax: number;
  readonly copiesBytesMax: number;
}

/** Two bytes a column: 16 KiB, which tell apart some thousand keys a second. */
const SKETCH_COLUMNS = 8_192;
/** Counts are halved so often, ms. */
const HALVING_MS = 1_000;
/** After so many halvings nothing is left of a 4-bit count. */
const HALVINGS_MAX = 4;

interface Copy {
  readonly endsAt: MonotonicMs;
  readonly bytes: number;
}

export class HotKeys {
  readonly #settings: HotKeySettings;
  readonly #sketch = new FrequencySketch(SKETCH_COLUMNS);
  /** Oldest first, since all live equally long. */
  readonly #copies = new Map<string, Copy>();
  #bytes = 0;
  #halvesAt: MonotonicMs;
  readonly counters = { copied: 0, refused: 0 };

  constructor(settings: HotKeySettings, now: MonotonicMs) {
    this.#settings = settings;
    this.#halvesAt = (now + HALVING_MS) as MonotonicMs;
  }

  /** Copies that are kept, and the bytes of their content. */
  get copies(): number {
    return this.#copies.size;
  }
  get bytes(): number {
    return this.#bytes;
  }

  has(key: string): boolean {
    return this.#copies.has(key);
  }

  /** Counts a request that its owner has to answer; true: it is hot, and its answer is to be kept. */
  handleRequest(key: string, now: MonotonicMs): boolean {
    for (let n = 0; n < HALVINGS_MAX && now >= this.#halvesAt; n++) {
      this.#sketch.halve();
      this.#halvesAt = (this.#halvesAt + HALVING_MS) as MonotonicMs;
    }
    if (now >= this.#halvesAt) this.#halvesAt = (now + HALVING_MS) as MonotonicMs;
    const hash = xxh32(key);
    this.#sketch.add(hash, Number.POSITIVE_INFINITY);
    return this.#sketch.count(hash) >= this.#settings.requestsMin;
  }

  /** A hot key's answer is here; false: there is no room for it. */
  handleCopy(key: string, bytes: number, now: MonotonicMs): boolean {
    const { copiesMax, copiesBytesMax, copyMs } = this.#settings;
    this.#drop(key);
    if (this.#copies.size >= copiesMax || this.#bytes + bytes > copiesBytesMax) {
      this.counters.refused++;
      return false;
    }
    this.#copies.set(key, { endsAt: (now + copyMs) as MonotonicMs, bytes });
    this.#bytes += bytes;
    this.counters.copied++;
    return true;
  }

  /** The keys whose copies have had their time. */
  handleTimeout(now: MonotonicMs): readonly string[] {
    const ended: string[] = [];
    for (const [key, { endsAt }] of this.#copies) {
      if (endsAt > now) break;
      ended.push(key);
    }
    for (const key of ended) this.#drop(key);
    return ended;
  }

  /** When the next copy has had its time; undefined: there is none. */
  pollTimeout(): MonotonicMs | undefined {
    return this.#copies.values().next().value?.endsAt;
  }

  #drop(key: string): void {
    const copy = this.#copies.get(key);
    if (copy === undefined) return;
    this.#copies.delete(key);
    this.#bytes -= copy.bytes;
  }
}
