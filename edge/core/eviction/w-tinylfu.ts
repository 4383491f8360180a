/**
 * W-TinyLFU: a window of recent entries in front of a main part to which only those are admitted that were used more often
 * than what they would push out (Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM TOS
 * 13(4), 2017, section 4), for entries of any size (Einziger, Eytan, Friedman, Manes, "Lightweight Robust Size Aware Cache
 * Management", ACM TOS 18(3), 2022, section 3). The main part is a segmented LRU: probation, protected.
 *
 * Two ways to weigh a candidate against the oldest of the main part:
 *
 * - `aggregated-victims` (the paper's AV): its count against the sum of the counts of all that would have to go. Best in
 *   objects, and loses bytes, because a large object has to outdo many small ones.
 * - `scaled-victim` (ours): its count against that of the first victim, each divided by bytes^(1/4): a candidate 16 times
 *   larger needs twice the count. The paper's IV is the same with bytes^0. Its window moves: ghosts of the candidates that lost
 *   and of the entries that main let go say, by the bytes that had to be fetched again, which of the two parts is too small. Where
 *   most objects are asked for once or twice it stays at its least; where the next use depends on the last one only (tc-0,
 *   `npm run bench -- policies`) it grows until this is nearly LRU.
 */
import { FrequencySketch } from "./frequency-sketch.ts";
import { GhostTable } from "./ghost-table.ts";
import { type EvictionNode, type EvictionPolicy, IN_NO_QUEUE, NodeQueue } from "./policy.ts";

/** How candidates and victims are weighed. */
export type VictimWeighing = "aggregated-victims" | "scaled-victim";

/** Share of the window; of `scaled-victim` the least. The paper's 1 % serves traces of databases; content that is asked for again
 * soon or never needs more room to show it. Of 10..50 %, less than 40 lost bytes to LRU in large stores, more lost objects in small
 * ones (bench `policies`). */
const WINDOW_SHARES: Readonly<Record<VictimWeighing, number>> = {
  "aggregated-victims": 0.01,
  "scaled-victim": 0.4,
};
/** The most that the window grows to: a rest of main keeps what is used most. */
const WINDOW_SHARE_MAX = 0.95;
/** By how many of its bytes an object moves the bound when main's ghosts know it; 1 for the window's. Candidates that lost are many
 * and a few of each come back whatever the traffic: at 1 the window grew where that cost objects (bench `policies`). */
const MAIN_GHOST_WEIGHT = 2;
/** One ghost of each kind for so many bytes of the store: 0.4 % of it in all, enough for objects of 4 KiB. */
const BYTES_A_GHOST = 4_096;
/** Share of the main part that is protected (the paper's figure). */
const PROTECTED_SHARE = 0.8;
/** One column of the sketch for so many bytes of the store: 0.2 % of it. */
const BYTES_A_COLUMN = 1_024;
/** Counts are halved after so many uses an entry (the paper's figure), and never sooner than after `SAMPLE_USES_MIN`. */
const SAMPLE_USES_AN_ENTRY = 10;
const SAMPLE_USES_MIN = 64;

export class WTinyLfuPolicy<Node extends EvictionNode> implements EvictionPolicy<Node> {
  readonly overheadBytes: number;
  readonly #windowBytesMin: number;
  readonly #windowBytesMax: number;
  #windowBytes: number;
  #mainBytes: number;
  readonly #onEvicted: (node: Node) => void;
  readonly #isAggregated: boolean;
  readonly #window = new NodeQueue<Node>(1);
  readonly #probation = new NodeQueue<Node>(2);
  readonly #protected = new NodeQueue<Node>(3);
  readonly #sketch: FrequencySketch;
  /** What was not admitted to main, and what left it; absent where the window does not move. */
  readonly #rejected: GhostTable | undefined;
  readonly #evicted: GhostTable | undefined;

  constructor(bytesMax: number, onEvicted: (node: Node) => void, weighing: VictimWeighing) {
    const columns = bytesMax / BYTES_A_COLUMN;
    const ghosts = bytesMax / BYTES_A_GHOST;
    this.#isAggregated = weighing === "aggregated-victims";
    this.overheadBytes =
      FrequencySketch.bytesFor(columns) + (this.#isAggregated ? 0 : 2 * GhostTable.bytesFor(ghosts));
    const nodeBytes = bytesMax - this.overheadBytes;
    this.#sketch = new FrequencySketch(columns);
    this.#rejected = this.#isAggregated ? undefined : new GhostTable(ghosts, nodeBytes);
    this.#evicted = this.#isAggregated ? undefined : new GhostTable(ghosts, nodeBytes);
    this.#windowBytesMin = nodeBytes * WINDOW_SHARES[weighing];
    this.#windowBytesMax = nodeBytes * WINDOW_SHARE_MAX;
    this.#windowBytes = this.#windowBytesMin;
    this.#mainBytes = nodeBytes - this.#windowBytes;
    this.#onEvicted = onEvicted;
  }

  get bytes(): number {
    return this.#window.bytes + this.#probation.bytes + this.#protected.bytes;
  }

  hit(node: Node): void {
    this.#count(node);
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
    this.#count(node);
    if (this.#rejected?.take(node.hash) === true) this.#moveWindow(node.bytes);
    if (this.#evicted?.take(node.hash) === true) this.#moveWindow(-MAIN_GHOST_WEIGHT * node.bytes);
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
  #count(node: Node): void {
    const entries = this.#window.count + this.#probation.count + this.#protected.count;
    this.#sketch.add(node.hash, Math.max(SAMPLE_USES_MIN, entries * SAMPLE_USES_AN_ENTRY));
  }

  /** Moves the bound between window and main. What main has beyond it goes; of the window nothing has to, it goes over to main. */
  #moveWindow(bytes: number): void {
    const nodeBytes = this.#windowBytes + this.#mainBytes;
    this.#windowBytes = Math.min(
      this.#windowBytesMax,
      Math.max(this.#windowBytesMin, this.#windowBytes + bytes),
    );
    this.#mainBytes = nodeBytes - this.#windowBytes;
    while (this.#probation.bytes + this.#protected.bytes > this.#mainBytes) this.#evictOldest();
    this.#boundWindow();
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
    if (
      candidate.bytes > this.#mainBytes ||
      (overBytes > 0 &&
        !(this.#isAggregated ? this.#outweighsAll(candidate, overBytes) : this.#outweighsFirst(candidate)))
    ) {
      this.#rejected?.add(candidate.hash, candidate.bytes);
      this.#onEvicted(candidate);
      return false;
    }
    while (this.#probation.bytes + this.#protected.bytes + candidate.bytes > this.#mainBytes)
      this.#evictOldest();
    this.#probation.push(candidate);
    return true;
  }

  /** Weighs against the oldest by count / bytes^(1/4). A victim that wins goes to the front of its queue: the next candidate
   * meets another, so one that is no longer used is not for ever the one to beat. */
  #outweighsFirst(candidate: Node): boolean {
    const victim = this.#probation.oldest ?? this.#protected.oldest;
    if (victim === undefined) return true;
    const scale = Math.sqrt(Math.sqrt(candidate.bytes / victim.bytes));
    if (this.#sketch.count(candidate.hash) > this.#sketch.count(victim.hash) * scale) return true;
    this.#queueOf(victim).toNewest(victim);
    return false;
  }

  /** Weighs against the sum of the oldest that would make up `overBytes`; those that were looked at win and move on, as above. */
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
    this.#evicted?.add(victim.hash, victim.bytes);
    this.#onEvicted(victim);
  }
}
