/**
 * S3-FIFO: new entries go through a small queue and reach the main one only when they were hit there, or come back soon
 * after they left (a ghost); the main queue is FIFO with re-insertion of what was hit (Yang, Zhang, Qiu, Yue, Rashmi, "FIFO
 * Queues are All You Need for Cache Eviction", SOSP 2023, algorithm 1). Queues are bounded in bytes, not in entries.
 */
import { GhostTable } from "./ghost-table.ts";
import { type EvictionNode, type EvictionPolicy, NodeQueue } from "./policy.ts";

/** Share of the bytes for the small queue, the paper's figure. */
const SMALL_SHARE = 0.1;
/** Two bits, as in the paper. */
const FREQUENCY_MAX = 3;
/** Hits in the small queue that lead to the main one. The paper says 2; one is better from 5 % of the footprint on (bench `policies`). */
const PROMOTION_HITS = 1;
/** One ghost for so many bytes of the store: 0.4 % of it, enough for objects of 2 KiB; of smaller ones the oldest are lost early. */
const BYTES_A_GHOST = 2_048;

export class S3FifoPolicy<Node extends EvictionNode> implements EvictionPolicy<Node> {
  readonly overheadBytes: number;
  /** What is left of the store for nodes. */
  #bytesMax: number;
  readonly #onEvicted: (node: Node) => void;
  readonly #small = new NodeQueue<Node>(1);
  readonly #main = new NodeQueue<Node>(2);
  readonly #ghosts: GhostTable;

  constructor(bytesMax: number, onEvicted: (node: Node) => void) {
    const ghosts = bytesMax / BYTES_A_GHOST;
    this.overheadBytes = GhostTable.bytesFor(ghosts);
    this.#bytesMax = bytesMax - this.overheadBytes;
    this.#ghosts = new GhostTable(ghosts, this.#bytesMax * (1 - SMALL_SHARE));
    this.#onEvicted = onEvicted;
  }

  get bytes(): number {
    return this.#small.bytes + this.#main.bytes;
  }
  get bytesMax(): number {
    return this.#bytesMax + this.overheadBytes;
  }
  set bytesMax(bytesMax: number) {
    this.#bytesMax = bytesMax - this.overheadBytes;
    this.#evictUntil(this.#bytesMax);
  }

  hit(node: Node, uses = 1): void {
    node.frequency = Math.min(FREQUENCY_MAX, node.frequency + uses);
  }

  admit(node: Node): boolean {
    node.frequency = 0;
    if (node.bytes > this.#bytesMax) {
      this.#onEvicted(node);
      return false;
    }
    this.#evictUntil(this.#bytesMax - node.bytes);
    if (this.#ghosts.take(node.hash)) this.#main.push(node);
    else this.#small.push(node);
    return true;
  }

  resize(node: Node, bytes: number): boolean {
    const queue = this.#queueOf(node);
    // Out of its queue while others make room for it, so that it is not its own victim.
    queue.remove(node);
    node.bytes = bytes;
    if (bytes > this.#bytesMax) {
      this.#onEvicted(node);
      return false;
    }
    this.#evictUntil(this.#bytesMax - bytes);
    queue.push(node);
    return true;
  }

  remove(node: Node): void {
    this.#queueOf(node).remove(node);
  }

  #queueOf(node: Node): NodeQueue<Node> {
    return node.queue === this.#small.id ? this.#small : this.#main;
  }

  /** Ends: every step takes a node out, moves one from small to main, or lowers a frequency. */
  #evictUntil(bytes: number): void {
    while (this.#small.bytes + this.#main.bytes > bytes) {
      if (this.#small.bytes > this.#bytesMax * SMALL_SHARE || this.#main.oldest === undefined)
        this.#evictFromSmall();
      else this.#evictFromMain(this.#main.oldest);
    }
  }

  #evictFromSmall(): void {
    const node = this.#small.oldest;
    if (node === undefined) return;
    this.#small.remove(node);
    if (node.frequency >= PROMOTION_HITS) {
      node.frequency = 0;
      this.#main.push(node);
      return;
    }
    this.#ghosts.add(node.hash, node.bytes);
    this.#onEvicted(node);
  }

  #evictFromMain(node: Node): void {
    this.#main.remove(node);
    if (node.frequency > 0) {
      node.frequency--;
      this.#main.push(node);
    } else this.#onEvicted(node);
  }
}
