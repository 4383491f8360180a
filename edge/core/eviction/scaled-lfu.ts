/**
 * W-TinyLFU for objects of any size, with a window that is as large as the traffic wants it: a window of recent entries in front of a
 * main part (segmented LRU: probation, protected) to which only those are admitted that outweigh the oldest there (Einziger, Friedman,
 * Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM TOS 13(4), 2017, section 4).
 *
 * An entry weighs its count of uses divided by bytes^(1/4): a candidate 16 times larger needs twice the count. Without the bytes large objects
 * cost many small ones their place; by bytes^(1/2) more objects are found and fewer bytes (bench `policies`).
 *
 * How large the window is, miniature caches tell (window-choice.ts): where most objects are asked for once or twice a small one is best; where
 * the next use depends on the last one only (tc-0), a window of nearly everything, which is nearly LRU.
 */
import { FrequencySketch } from "./frequency-sketch.ts";
import { type EvictionNode, type EvictionPolicy, IN_NO_QUEUE } from "./policy.ts";
import { ScaledQueues } from "./scaled-queues.ts";
import { firstWindowShare, miniatureBytesFor, WindowChoice } from "./window-choice.ts";

/** One column of the sketch for so many bytes of the store: 0.2 % of it. */
const BYTES_A_COLUMN = 1_024;
/** Counts are halved after so many uses an entry (the paper's figure), and never sooner than after `SAMPLE_USES_MIN`. */
const SAMPLE_USES_AN_ENTRY = 10;
const SAMPLE_USES_MIN = 64;

export class ScaledLfuPolicy<Node extends EvictionNode> implements EvictionPolicy<Node> {
  readonly overheadBytes: number;
  readonly #queues: ScaledQueues<Node>;
  readonly #sketch: FrequencySketch;
  readonly #onEvicted: (node: Node) => void;
  /** Made when something has to go for the first time: until then every window finds the same. */
  #choice: WindowChoice | undefined;
  /** Of the beginning. */
  readonly #firstBytesMax: number;

  constructor(bytesMax: number, onEvicted: (node: Node) => void) {
    const columns = bytesMax / BYTES_A_COLUMN;
    this.overheadBytes = FrequencySketch.bytesFor(columns) + miniatureBytesFor(bytesMax);
    this.#firstBytesMax = bytesMax;
    this.#sketch = new FrequencySketch(columns);
    this.#onEvicted = onEvicted;
    const countOf = (hash: number): number => this.#sketch.count(hash);
    this.#queues = new ScaledQueues(
      bytesMax - this.overheadBytes,
      firstWindowShare(bytesMax),
      countOf,
      (node: Node) => {
        this.#choice ??= this.#beginChoice(countOf);
        onEvicted(node);
      },
    );
  }

  get bytes(): number {
    return this.#queues.bytes;
  }
  get bytesMax(): number {
    return this.#queues.bytesMax + this.overheadBytes;
  }
  set bytesMax(bytesMax: number) {
    this.#queues.bytesMax = bytesMax - this.overheadBytes;
  }

  hit(node: Node, uses = 1): void {
    this.#count(node, uses);
    this.#queues.use(node);
  }

  admit(node: Node): boolean {
    this.#count(node, 1);
    if (node.bytes > this.#queues.bytesMax) {
      this.#onEvicted(node);
      return false;
    }
    this.#queues.insert(node);
    return node.queue !== IN_NO_QUEUE;
  }

  resize(node: Node, bytes: number): boolean {
    return this.#queues.resize(node, bytes);
  }

  remove(node: Node): void {
    this.#queues.remove(node);
  }

  #beginChoice(countOf: (hash: number) => number): WindowChoice {
    const choice = new WindowChoice(this.#firstBytesMax, this.#queues.bytesMax, countOf);
    choice.begin(this.#queues.oldest, this.#queues.count);
    return choice;
  }

  /** Uses of a key, kept or not. */
  #count({ hash, bytes }: Node, uses: number): void {
    this.#sketch.add(hash, Math.max(SAMPLE_USES_MIN, this.#queues.count * SAMPLE_USES_AN_ENTRY), uses);
    // Every window finds the further ones of a moment.
    const windowShare = this.#choice?.use(hash, bytes);
    if (windowShare !== undefined) this.#queues.windowShare = windowShare;
  }
}
