/**
 * How large the window of scaled W-TinyLFU should be, by miniature caches: each of {@link WINDOW_SHARES} is tried on a sample of the keys, in
 * a store that is as much smaller as the sample (Waldspurger, Saemundsson, Ahmad, Park, "Cache Modeling and Optimization using Miniature
 * Simulations", USENIX ATC 2017). A hit counts for objects and for bytes alike: 1 / requests + its bytes / bytes requested, of all that was looked at.
 *
 * The present share gives way to one that was better by more than chance makes probable: where they differ, the gains have to exceed one and a half
 * times their standard deviation. By the better score alone stores of a few thousand objects changed their window at random and lost up to 1.5 % of
 * their hits (bench `policies`).
 */
import { EvictionNode } from "./policy.ts";
import { ScaledQueues } from "./scaled-queues.ts";

/**
 * What is tried. Smaller windows lost bytes to LRU in large stores; the largest leaves a rest for what is used most. A store begins with the
 * first: with 0.4 it found 0.3 % more objects in the 67,000 requests of AdaptSize, and lost 0.5 % of the bytes of large tc-0 stores.
 */
export const WINDOW_SHARES = [0.7, 0.4, 0.95] as const;

/** One entry of each miniature for so many bytes of the store, 1.5 % of it in all; and the most, which 128 MiB have. */
const BYTES_AN_ENTRY = 32_768;
const ENTRIES_MAX = 4_096;
/** Fewer tell nothing: of 85 and 425 a store of AdaptSize changed its window at random. One below 16 MiB keeps a window of 0.4. */
const ENTRIES_MIN = 512;
/** A node, and its place in the map of its miniature. */
const ENTRY_BYTES = 160;

/** Looked-at uses between two judgements, and what is left of the evidence after each: it reaches some thirty of them back. */
const USES_A_JUDGEMENT = 200;
const EVIDENCE_KEPT = 0.97;
/** Standard deviations that a gain has to have: with 2 AdaptSize was learnt later, with no gain elsewhere. */
const DEVIATIONS_MIN = 1.5;
/** And its least in shares of all that could be gained: what is less is not worth what a change costs. */
const GAIN_SHARE_MIN = 0.001;
/** A miniature that is filled less does not tell yet. */
const FILLED_MIN = 0.8;

/** Memory of the miniatures of a store of `bytesMax`. */
export function miniatureBytesFor(bytesMax: number): number {
  return entriesFor(bytesMax) * WINDOW_SHARES.length * ENTRY_BYTES;
}

function entriesFor(bytesMax: number): number {
  const entries = Math.min(ENTRIES_MAX, Math.floor(bytesMax / BYTES_AN_ENTRY));
  return entries < ENTRIES_MIN ? 0 : entries;
}

/** The share that a store of `bytesMax` begins with. */
export function firstWindowShare(bytesMax: number): number {
  return entriesFor(bytesMax) === 0 ? WINDOW_SHARES[1] : WINDOW_SHARES[0];
}

interface Miniature {
  readonly windowShare: number;
  readonly nodes: Map<number, EvictionNode>;
  readonly queues: ScaledQueues<EvictionNode>;
  /** Worth of its hits beyond those of the present share's, and the sum of squares of each difference. */
  gain: number;
  squares: number;
}

export class WindowChoice {
  readonly #entriesMax: number;
  readonly #bytesMax: number;
  readonly #miniatures: readonly Miniature[];
  #present = 0;
  /** Only hashes whose first so many bits are zero are looked at. */
  #skippedBits = 0;
  #uses = 0;
  #usedBytes = 0;
  #usesToJudgement = USES_A_JUDGEMENT;

  /** `storeBytes`: by which it is sized; `bytesMax`: what the store has for nodes. `countOf`: uses of a key, by its hash. */
  constructor(storeBytes: number, bytesMax: number, countOf: (hash: number) => number) {
    this.#entriesMax = entriesFor(storeBytes);
    this.#bytesMax = bytesMax;
    this.#miniatures = WINDOW_SHARES.map((windowShare) => {
      const nodes = new Map<number, EvictionNode>();
      const queues = new ScaledQueues<EvictionNode>(bytesMax, windowShare, countOf, ({ hash }) =>
        nodes.delete(hash),
      );
      return { windowShare, nodes, queues, gain: 0, squares: 0 };
    });
  }

  /**
   * Takes in what the store holds, from its oldest node on, so that the miniatures need not fill up again. All in one go: `count` says
   * beforehand how few to look at, so that a million nodes take some 20 ms.
   */
  begin(oldest: EvictionNode | undefined, count: number): void {
    if (this.#entriesMax === 0) return;
    while (count > this.#entriesMax * 2 ** this.#skippedBits) this.#lookAtHalf();
    for (let node = oldest; node !== undefined; node = node.newer) {
      if (!this.#isLookedAt(node.hash, node.bytes)) continue;
      for (const miniature of this.#miniatures) this.#hits(miniature, node.hash, node.bytes);
      this.#boundEntries();
    }
  }

  /** A use of a key, kept by the store or not. A new share for the window; undefined: it stays. */
  use(hash: number, bytes: number): number | undefined {
    if (!this.#isLookedAt(hash, bytes)) return undefined;
    this.#uses++;
    this.#usedBytes += bytes;
    const isHit = this.#hits(this.#miniatures[this.#present], hash, bytes);
    // In hits of the mean size: half for the object, half for its bytes.
    const worth = (1 + (bytes * this.#uses) / this.#usedBytes) / 2;
    for (const [index, miniature] of this.#miniatures.entries()) {
      if (index === this.#present) continue;
      const difference = (Number(this.#hits(miniature, hash, bytes)) - Number(isHit)) * worth;
      miniature.gain += difference;
      miniature.squares += difference ** 2;
    }
    this.#boundEntries();
    return --this.#usesToJudgement > 0 ? undefined : this.#judge();
  }

  #isLookedAt(hash: number, bytes: number): boolean {
    if (this.#skippedBits > 0 && hash >>> (32 - this.#skippedBits) !== 0) return false;
    return this.#entriesMax > 0 && bytes <= this.#bytesMax;
  }

  #boundEntries(): void {
    for (const { nodes } of this.#miniatures)
      if (nodes.size > this.#entriesMax) {
        this.#lookAtHalf();
        return;
      }
  }

  /** Uses a key in a miniature. Whether it was there. */
  #hits(miniature: Miniature | undefined, hash: number, bytes: number): boolean {
    if (miniature === undefined) return false;
    const { nodes, queues } = miniature;
    const present = nodes.get(hash);
    if (present !== undefined) {
      queues.use(present);
      return true;
    }
    const storeBytes = queues.bytesMax;
    if (bytes > storeBytes) return false;
    const node = new EvictionNode(hash, bytes);
    nodes.set(hash, node);
    queues.insert(node);
    return false;
  }

  #judge(): number | undefined {
    this.#usesToJudgement = USES_A_JUDGEMENT;
    const before = this.#present;
    if (this.#miniatures.every(({ queues }) => queues.bytes >= queues.bytesMax * FILLED_MIN)) {
      let most = this.#uses * GAIN_SHARE_MIN;
      for (const [index, { gain, squares }] of this.#miniatures.entries()) {
        if (gain <= most || gain <= DEVIATIONS_MIN * Math.sqrt(squares)) continue;
        most = gain;
        this.#present = index;
      }
    }
    const kept = this.#present === before ? EVIDENCE_KEPT : 0;
    for (const miniature of this.#miniatures) {
      // What spoke against a share for long weighs no more than what would be enough for it.
      const least = -DEVIATIONS_MIN * Math.sqrt(miniature.squares);
      miniature.gain = Math.max(least, miniature.gain) * kept;
      miniature.squares *= kept;
    }
    this.#uses *= EVIDENCE_KEPT;
    this.#usedBytes *= EVIDENCE_KEPT;
    return this.#present === before ? undefined : this.#miniatures[this.#present]?.windowShare;
  }

  /** Half of the keys in miniatures of half of the size: the same store, seen with less of its objects. */
  #lookAtHalf(): void {
    this.#skippedBits++;
    const scale = 2 ** this.#skippedBits;
    for (const { nodes, queues } of this.#miniatures) {
      for (const [hash, node] of nodes) {
        if (hash >>> (32 - this.#skippedBits) === 0) continue;
        nodes.delete(hash);
        queues.remove(node);
      }
      queues.bytesMax = this.#bytesMax / scale;
    }
  }
}
