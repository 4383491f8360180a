/**
 * W-TinyLFU: a window of recent entries in front of a main part to which only those are admitted that were used more often
 * than what they would push out (Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM TOS
 * 13(4), 2017, section 4), for entries of any size (Einziger, Eytan, Friedman, Manes, "Lightweight Robust Size Aware Cache
 * Management", ACM TOS 18(3), 2022, section 3). The main part is a segmented LRU: probation, protected.
 *
 * A candidate is weighed against all that would have to go (the paper's aggregated victims): its count against the sum of theirs. Best in
 * objects, and loses bytes, because a large object has to outdo many small ones.
 */
import { FrequencySketch } from "./frequency-sketch.ts";
import { type EvictionNode, type EvictionPolicy, IN_NO_QUEUE, NodeQueue } from "./policy.ts";

/** Share of the window, the paper's figure. */
const WINDOW_SHARE = 0.01;
/** Share of the main part that is protected (the paper's figure). */
const PROTECTED_SHARE = 0.8;
/** One column of the sketch for so many bytes of the store: 0.2 % of it. */
const BYTES_A_COLUMN = 1_024;
/** Counts are halved after so many uses an entry (the paper's figure), and never sooner than after `SAMPLE_USES_MIN`. */
const SAMPLE_USES_AN_ENTRY = 10;
const SAMPLE_USES_MIN = 64;

export class WTinyLfuPolicy<Node extends EvictionNode> implements EvictionPolicy<Node> {
  readonly overheadBytes: number;
  #windowBytes = 0;
  #mainBytes = 0;
  readonly #onEvicted: (node: Node) => void;
  readonly #window = new NodeQueue<Node>(1);
  readonly #probation = new NodeQueue<Node>(2);
  readonly #protected = new NodeQueue<Node>(3);
  readonly #sketch: FrequencySketch;

  constructor(bytesMax: number, onEvicted: (node: Node) => void) {
    const columns = bytesMax / BYTES_A_COLUMN;
    this.overheadBytes = FrequencySketch.bytesFor(columns);
    this.#sketch = new FrequencySketch(columns);
    this.#onEvicted = onEvicted;
    this.bytesMax = bytesMax;
  }

  get bytesMax(): number {
    return this.#windowBytes + this.#mainBytes + this.overheadBytes;
  }
  set bytesMax(bytesMax: number) {
    const nodeBytes = bytesMax - this.overheadBytes;
    this.#windowBytes = nodeBytes * WINDOW_SHARE;
    this.#mainBytes = nodeBytes - this.#windowBytes;
    this.#boundWindow();
    while (this.#probation.bytes + this.#protected.bytes > this.#mainBytes) this.#evictOldest();
  }

  get bytes(): number {
    return this.#window.bytes + this.#probation.bytes + this.#protected.bytes;
  }

  hit(node: Node, uses = 1): void {
    this.#count(node, uses);
    if (node.queue !== this.#probation.id) {
      this.#queueOf(node).toNewest(node);
      return;
    }
    this.#probation.remove(node);
    this.#protected.push(node);
    const protectedBytes = this.#mainBytes * PROTECTED_SHARE;
    while (this.#protected.bytes > protectedBytes && this.#protected.oldest !== undefined) {
      const oldest = this.#protected.oldest;
      this.#protected.remove(oldest);
      this.#probation.push(oldest);
    }
  }

  admit(node: Node): boolean {
    this.#count(node, 1);
    // What would flush the window whole is weighed at once.
    if (node.bytes > this.#windowBytes) return this.#admitToMain(node);
    this.#window.push(node);
    this.#boundWindow();
    return true;
  }

  resize(node: Node, bytes: number): boolean {
    const queue = this.#queueOf(node);
    queue.resize(node, bytes);
    if (bytes > this.#mainBytes) {
      queue.remove(node);
      this.#onEvicted(node);
      return false;
    }
    // The newest, so that what it needs is taken from others first.
    queue.toNewest(node);
    this.#boundWindow();
    while (this.#probation.bytes + this.#protected.bytes > this.#mainBytes) this.#evictOldest();
    return node.queue !== IN_NO_QUEUE;
  }

  remove(node: Node): void {
    this.#queueOf(node).remove(node);
  }

  #queueOf(node: Node): NodeQueue<Node> {
    if (node.queue === this.#window.id) return this.#window;
    return node.queue === this.#probation.id ? this.#probation : this.#protected;
  }

  /** A use of a key, kept or not. */
  #count(node: Node, uses: number): void {
    const entries = this.#window.count + this.#probation.count + this.#protected.count;
    this.#sketch.add(node.hash, Math.max(SAMPLE_USES_MIN, entries * SAMPLE_USES_AN_ENTRY), uses);
  }

  #boundWindow(): void {
    while (this.#window.bytes > this.#windowBytes && this.#window.oldest !== undefined) {
      const candidate = this.#window.oldest;
      this.#window.remove(candidate);
      this.#admitToMain(candidate);
    }
  }

  /** Takes a node that is in no queue into the main part, or evicts it. */
  #admitToMain(candidate: Node): boolean {
    const overBytes = this.#probation.bytes + this.#protected.bytes + candidate.bytes - this.#mainBytes;
    if (candidate.bytes > this.#mainBytes || (overBytes > 0 && !this.#outweighsAll(candidate, overBytes))) {
      this.#onEvicted(candidate);
      return false;
    }
    while (this.#probation.bytes + this.#protected.bytes + candidate.bytes > this.#mainBytes)
      this.#evictOldest();
    this.#probation.push(candidate);
    return true;
  }

  /** Weighs against the sum of the oldest that would make up `overBytes`; those that were looked at win and go to
   * the front of their queue: the next candidate meets others, so one that is no longer used is not for ever the one to beat. */
  #outweighsAll(candidate: Node, overBytes: number): boolean {
    const count = this.#sketch.count(candidate.hash);
    let sum = 0;
    let freedBytes = 0;
    let looked = 0;
    let victim = this.#probation.oldest ?? this.#protected.oldest;
    while (victim !== undefined && freedBytes < overBytes && sum < count) {
      sum += this.#sketch.count(victim.hash);
      freedBytes += victim.bytes;
      looked++;
      victim = this.#newerInMain(victim);
    }
    if (count > sum) return true;
    for (; looked > 0; looked--) {
      const oldest = this.#probation.oldest ?? this.#protected.oldest;
      if (oldest !== undefined) this.#queueOf(oldest).toNewest(oldest);
    }
    return false;
  }

  #newerInMain(node: Node): Node | undefined {
    const newer = node.newer as Node | undefined;
    return newer ?? (node.queue === this.#probation.id ? this.#protected.oldest : undefined);
  }

  #evictOldest(): void {
    const victim = this.#probation.oldest ?? this.#protected.oldest;
    if (victim === undefined) return;
    this.#queueOf(victim).remove(victim);
    this.#onEvicted(victim);
  }
}
