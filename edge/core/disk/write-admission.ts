/**
 * Which objects a full disk takes: those of a kind that is read from it often enough to be worth the write. Kinds are how the object came
 * up (fetched, fetched again within memory's sight, leaving memory after it was used there) and how large it is. Of each kind it is
 * counted how many came back to the disk, written or not, while the disk would still have had them.
 *
 * Second-hit admission (Maggs, Sitaraman, "Algorithmic Nuggets in Content Delivery", ACM SIGCOMM CCR 45(3), 2015, section 3) is what it
 * begins with and what it mostly comes to; it differs where all uses of an object fall into its time in memory (then the second use says
 * nothing), and where most of what was asked for once comes back. Deciding by categories whose worth is measured is CacheSack's way (Yang
 * et al., "CacheSack: Admission Optimization for Google Datacenter Flash Caches", USENIX ATC 2022).
 */
import { SecondHitFilter } from "../eviction/second-hit.ts";

/** Why an object is offered: it was fetched; or it leaves memory, where it was used, and is not on disk. */
export type WriteOccasion = "fetched" | "leaving-memory";

/**
 * Reads that a write has to be worth: of which less than one in five is read is not written. At 0.1 a store of half of the AdaptSize trace's
 * footprint saves 24 % of its writes, at 0.2 48 %, at 0.3 50 %, with the same hits; one of a fifth of tc-0's saves 4 % at 0.1 and 11 % at 0.2 for
 * 0.02 and 0.4 points of its hits; one of a twentieth 32 and 39 % at none (bench `policies`).
 */
const READS_A_WRITE_MIN = 0.2;

const OCCASIONS = ["once", "again", "used"] as const;
/** Upper ends of the classes of sizes, bytes; slices of large objects are the last one. */
const SIZES_BELOW = [65_536, 1_048_576, Number.POSITIVE_INFINITY] as const;
const KINDS = OCCASIONS.length * SIZES_BELOW.length;
/** What is taken for granted of each kind until it is known, and how many candidates that weighs as much as. */
const PRIOR_WORTH = { once: 0, again: 1, used: 1 } as const;
const PRIOR_CANDIDATES = 20;
/** Counts of a kind are halved at so many candidates: traffic changes. */
const CANDIDATES_MAX = 2_000;

/** One remembered candidate for so many bytes of the disk, 8 bytes each. */
const BYTES_A_CANDIDATE = 32_768;
const CANDIDATES_REMEMBERED_MIN = 4_096;
const CANDIDATES_REMEMBERED_MAX = 262_144;
const WAYS = 4;
/** Parts of a disk's life that an age is told in. */
const TICKS_A_LIFE = 1_024;
const TICK_BITS = 28;
/** Of the whole disk this much is behind an object when it goes: a segment is being written and one reclaimed. */
const LIFE_SHARE = 0.9;
/** Candidates that were overwritten while they lived, in shares of the table, until only half of the keys are looked at. */
const LOST_SHARE_MAX = 1 / 16;

/** Shape of an admission: what it is made for. */
export interface WriteAdmissionOptions {
  /** Of the disk whose life ends when so much has been written after an object, > 0. */
  readonly diskBytes: number;
  /** How many keys' first fetch is remembered; see {@link SecondHitFilter}. */
  readonly keys: number;
  /** Reads that a write has to be worth, 0..1. */
  readonly readsAWriteMin?: number;
}

export class WriteAdmission {
  readonly #readsAWriteMin: number;
  readonly #fetched: SecondHitFilter;
  /** Buckets of (hash, kind and tick). */
  readonly #table: Uint32Array;
  readonly #bucketMask: number;
  readonly #bytesATick: number;
  /** Only hashes whose first so many bits are zero are remembered. */
  #skippedBits = 0;
  #lost = 0;
  readonly #candidates = new Float64Array(KINDS);
  readonly #returns = new Float64Array(KINDS);

  constructor({ diskBytes, keys, readsAWriteMin = READS_A_WRITE_MIN }: WriteAdmissionOptions) {
    this.#readsAWriteMin = readsAWriteMin;
    this.#fetched = new SecondHitFilter(keys);
    const wanted = Math.min(
      CANDIDATES_REMEMBERED_MAX,
      Math.max(CANDIDATES_REMEMBERED_MIN, diskBytes / BYTES_A_CANDIDATE),
    );
    const buckets = 2 ** Math.ceil(Math.log2(wanted / WAYS));
    this.#bucketMask = buckets - 1;
    this.#table = new Uint32Array(buckets * WAYS * 2);
    this.#bytesATick = Math.max(1, (diskBytes * LIFE_SHARE) / TICKS_A_LIFE);
  }

  /** Memory that it takes. */
  get bytes(): number {
    return this.#fetched.bytes + this.#table.byteLength;
  }

  /**
   * Whether to write an object that is not on disk. `hash`: its key's; `writtenBytes`: all that the disk was given to write so far.
   * A disk that is not full takes everything.
   */
  admits(
    hash: number,
    bytes: number,
    occasion: WriteOccasion,
    writtenBytes: number,
    isFull: boolean,
  ): boolean {
    const kind = this.#kindOf(hash, bytes, occasion);
    const worth = this.#worthOf(kind);
    this.#remember(hash, kind, writtenBytes);
    return !isFull || worth >= this.#readsAWriteMin;
  }

  /** Memory does not have the object and the disk is asked, or would have been: it was worth a write, if it has not grown too old. */
  returned(hash: number, writtenBytes: number): void {
    if (!this.#isLookedAt(hash)) return;
    const tick = this.#tickOf(writtenBytes);
    const table = this.#table;
    const base = (hash & this.#bucketMask) * WAYS * 2;
    for (let at = base; at < base + WAYS * 2; at += 2) {
      if (table[at] !== hash || ageOf(table[at + 1] ?? 0, tick) > TICKS_A_LIFE) continue;
      const kind = (table[at + 1] ?? 0) >>> TICK_BITS;
      this.#returns[kind] = (this.#returns[kind] ?? 0) + 1;
      table[at + 1] = 0;
      return;
    }
  }

  /** Reads that a write of each kind is taken to be worth, 0..1. */
  get worth(): readonly {
    readonly use: (typeof OCCASIONS)[number];
    readonly bytesBelow: number;
    readonly worth: number;
  }[] {
    return Array.from({ length: KINDS }, (_, kind) => ({
      use: OCCASIONS[Math.floor(kind / SIZES_BELOW.length)] ?? "once",
      bytesBelow: SIZES_BELOW[kind % SIZES_BELOW.length] ?? 0,
      worth: this.#worthOf(kind),
    }));
  }

  #kindOf(hash: number, bytes: number, occasion: WriteOccasion): number {
    const use = occasion === "leaving-memory" ? "used" : this.#fetched.isSecond(hash) ? "again" : "once";
    return OCCASIONS.indexOf(use) * SIZES_BELOW.length + SIZES_BELOW.findIndex((below) => bytes < below);
  }

  #worthOf(kind: number): number {
    const prior = PRIOR_WORTH[OCCASIONS[Math.floor(kind / SIZES_BELOW.length)] ?? "once"];
    const returns = (this.#returns[kind] ?? 0) + prior * PRIOR_CANDIDATES;
    return Math.min(1, returns / ((this.#candidates[kind] ?? 0) + PRIOR_CANDIDATES));
  }

  #remember(hash: number, kind: number, writtenBytes: number): void {
    if (!this.#isLookedAt(hash)) return;
    this.#candidates[kind] = (this.#candidates[kind] ?? 0) + 1;
    if ((this.#candidates[kind] ?? 0) > CANDIDATES_MAX) {
      this.#candidates[kind] = (this.#candidates[kind] ?? 0) / 2;
      this.#returns[kind] = (this.#returns[kind] ?? 0) / 2;
    }
    const tick = this.#tickOf(writtenBytes);
    const table = this.#table;
    const base = (hash & this.#bucketMask) * WAYS * 2;
    let slot = base;
    let oldest = -1;
    for (let at = base; at < base + WAYS * 2; at += 2) {
      const age = table[at] === hash ? Number.POSITIVE_INFINITY : ageOf(table[at + 1] ?? 0, tick);
      if (age <= oldest) continue;
      oldest = age;
      slot = at;
    }
    if (oldest <= TICKS_A_LIFE && ++this.#lost > table.length * (LOST_SHARE_MAX / 2)) this.#lookAtHalf();
    table[slot] = hash;
    table[slot + 1] = ((kind << TICK_BITS) | tick) >>> 0;
  }

  /** Half of the keys, with all their candidates, instead of all keys with half of theirs: those that are lost would count as not worth it. */
  #lookAtHalf(): void {
    this.#lost = 0;
    this.#skippedBits = Math.min(31, this.#skippedBits + 1);
  }

  #isLookedAt(hash: number): boolean {
    return this.#skippedBits === 0 || hash >>> (32 - this.#skippedBits) === 0;
  }

  /** Begins one life on, so that the zeroes of a new table are too old. */
  #tickOf(writtenBytes: number): number {
    return (TICKS_A_LIFE + 1 + Math.floor(writtenBytes / this.#bytesATick)) % 2 ** TICK_BITS;
  }
}

/** Ticks since a remembered one. After a quarter of a million lives an old one looks young once. */
const ageOf = (kindAndTick: number, tick: number): number => (tick - kindAndTick) & (2 ** TICK_BITS - 1);
