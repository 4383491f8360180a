/** Least recently used goes first; everything that fits is admitted. The measure that others are held against. */
import { type EvictionNode, type EvictionPolicy, NodeQueue } from "./policy.ts";

export class LruPolicy<Node extends EvictionNode> implements EvictionPolicy<Node> {
  readonly overheadBytes = 0;
  #bytesMax: number;
  readonly #onEvicted: (node: Node) => void;
  readonly #queue = new NodeQueue<Node>(1);

  constructor(bytesMax: number, onEvicted: (node: Node) => void) {
    this.#bytesMax = bytesMax;
    this.#onEvicted = onEvicted;
  }

  get bytes(): number {
    return this.#queue.bytes;
  }
  get bytesMax(): number {
    return this.#bytesMax;
  }
  set bytesMax(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#evictUntil(bytesMax);
  }

  hit(node: Node): void {
    this.#queue.toNewest(node);
  }

  admit(node: Node): boolean {
    if (node.bytes > this.#bytesMax) {
      this.#onEvicted(node);
      return false;
    }
    this.#evictUntil(this.#bytesMax - node.bytes);
    this.#queue.push(node);
    return true;
  }

  resize(node: Node, bytes: number): boolean {
    this.#queue.remove(node);
    node.bytes = bytes;
    return this.admit(node);
  }

  remove(node: Node): void {
    this.#queue.remove(node);
  }

  #evictUntil(bytes: number): void {
    while (this.#queue.bytes > bytes && this.#queue.oldest !== undefined) {
      const victim = this.#queue.oldest;
      this.#queue.remove(victim);
      this.#onEvicted(victim);
    }
  }
}
