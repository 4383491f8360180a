/** The queues of scaled W-TinyLFU (scaled-lfu.ts) for a window that is given: what a store and its miniatures have in common. */
import { type EvictionNode, IN_NO_QUEUE, NodeQueue } from "./policy.ts";

/** Share of the main part that is protected (the paper's figure). */
const PROTECTED_SHARE = 0.8;

export class ScaledQueues<Node extends EvictionNode> {
  #bytesMax: number;
  #windowShare: number;
  readonly #countOf: (hash: number) => number;
  readonly #onEvicted: (node: Node) => void;
  readonly #window = new NodeQueue<Node>(1);
  readonly #probation = new NodeQueue<Node>(2);
  readonly #protected = new NodeQueue<Node>(3);

  /** `windowShare`: below 1. `countOf`: uses of a key, by its hash. `onEvicted` is told of what goes to make room. */
  constructor(
    bytesMax: number,
    windowShare: number,
    countOf: (hash: number) => number,
    onEvicted: (node: Node) => void,
  ) {
    this.#bytesMax = bytesMax;
    this.#windowShare = windowShare;
    this.#countOf = countOf;
    this.#onEvicted = onEvicted;
  }

  get bytes(): number {
    return this.#window.bytes + this.#probation.bytes + this.#protected.bytes;
  }
  get count(): number {
    return this.#window.count + this.#probation.count + this.#protected.count;
  }
  get bytesMax(): number {
    return this.#bytesMax;
  }
  set bytesMax(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#makeRoom();
  }
  /** Nothing goes when it changes: as room is needed, the part that is beyond its share gives way. */
  set windowShare(windowShare: number) {
    this.#windowShare = windowShare;
  }

  /** The oldest node of the window, which has all nodes in the order of their last use until something had to go. */
  get oldest(): Node | undefined {
    return this.#window.oldest;
  }

  /** A node that is here was used. */
  use(node: Node): void {
    if (node.queue !== this.#probation.id) {
      this.#queueOf(node).toNewest(node);
      return;
    }
    this.#probation.remove(node);
    this.#protected.push(node);
    const protectedBytes = this.#mainBytesMax * PROTECTED_SHARE;
    while (this.#protected.bytes > protectedBytes && this.#protected.oldest !== undefined) {
      const oldest = this.#protected.oldest;
      this.#protected.remove(oldest);
      this.#probation.push(oldest);
    }
  }

  /** Takes in a node of at most `bytesMax`; it may go at once. */
  insert(node: Node): void {
    this.#window.push(node);
    this.#makeRoom();
  }

  /** False: the node had to go. */
  resize(node: Node, bytes: number): boolean {
    const queue = this.#queueOf(node);
    queue.resize(node, bytes);
    if (bytes > this.#bytesMax) {
      queue.remove(node);
      this.#onEvicted(node);
      return false;
    }
    // The newest, so that what it needs is taken from others first.
    queue.toNewest(node);
    this.#makeRoom();
    return node.queue !== IN_NO_QUEUE;
  }

  remove(node: Node): void {
    this.#queueOf(node).remove(node);
  }

  get #mainBytesMax(): number {
    return this.#bytesMax * (1 - this.#windowShare);
  }

  #queueOf(node: Node): NodeQueue<Node> {
    if (node.queue === this.#window.id) return this.#window;
    return node.queue === this.#probation.id ? this.#probation : this.#protected;
  }

  /** Ends: each step takes a node out of the window or out of the main part, and none comes to the window. */
  #makeRoom(): void {
    while (this.bytes > this.#bytesMax) {
      const candidate = this.#window.oldest;
      if (candidate !== undefined && this.#window.bytes > this.#bytesMax * this.#windowShare) {
        this.#window.remove(candidate);
        this.#admitToMain(candidate);
      } else this.#evictOldestOfMain();
    }
  }

  /** Takes a node that is in no queue into the main part, or evicts it. */
  #admitToMain(candidate: Node): void {
    const roomBytes = this.#mainBytesMax - candidate.bytes;
    const isOver = this.#probation.bytes + this.#protected.bytes > roomBytes;
    if (roomBytes < 0 || (isOver && !this.#outweighsOldest(candidate))) {
      this.#onEvicted(candidate);
      return;
    }
    while (this.#probation.bytes + this.#protected.bytes > roomBytes) this.#evictOldestOfMain();
    this.#probation.push(candidate);
  }

  /** A victim that wins goes to the front of its queue: the next candidate meets another, so one that is no longer used is not for
   * ever the one to beat. */
  #outweighsOldest(candidate: Node): boolean {
    const victim = this.#probation.oldest ?? this.#protected.oldest;
    if (victim === undefined) return true;
    const scale = Math.sqrt(Math.sqrt(candidate.bytes / victim.bytes));
    if (this.#countOf(candidate.hash) > this.#countOf(victim.hash) * scale) return true;
    this.#queueOf(victim).toNewest(victim);
    return false;
  }

  #evictOldestOfMain(): void {
    const victim = this.#probation.oldest ?? this.#protected.oldest;
    if (victim === undefined) return;
    this.#queueOf(victim).remove(victim);
    this.#onEvicted(victim);
  }
}
