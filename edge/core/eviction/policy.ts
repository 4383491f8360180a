/**
 * Which entries a store of bounded bytes keeps. A policy orders nodes, it holds no content: the store's entries are nodes
 * (they extend {@link EvictionNode}), so that a hit costs neither a look-up nor an allocation.
 */

/** Queue number of a node that no policy holds. */
export const IN_NO_QUEUE = 0;

/** One entry as a policy sees it. Between `admit` and its leaving every field is the policy's to write. */
export class EvictionNode {
  /** Bytes that the entry takes in all, > 0; changed by `resize` only. */
  bytes: number;
  /** 32-bit hash of the entry's key, seeded by the process: names it in sketches and ghost queues. */
  readonly hash: number;
  /** Which of the policy's queues holds it; {@link IN_NO_QUEUE}: it is not, or no longer, kept. */
  queue: number = IN_NO_QUEUE;
  /** Hits as the policy counts them, saturating. */
  frequency = 0;
  /** Neighbours in its queue, towards its head (newest) and its tail. */
  newer: EvictionNode | undefined = undefined;
  older: EvictionNode | undefined = undefined;

  constructor(hash: number, bytes: number) {
    this.hash = hash;
    this.bytes = bytes;
  }
}

/**
 * Invariant after every call: `bytes + overheadBytes <= bytesMax`. Nodes that leave by the policy's decision are told to
 * the callback that its maker was given, once each, with their queue already {@link IN_NO_QUEUE}; what `remove` takes out
 * is not told. No method throws.
 */
export interface EvictionPolicy<Node extends EvictionNode> {
  /** Bytes of all nodes that are kept. */
  readonly bytes: number;
  /** Bytes of the policy's own memory: ghost queues and sketches. Fixed at its making. */
  readonly overheadBytes: number;
  /** What nodes and overhead may take, > `overheadBytes`. Nodes go at once for a lower one. Sketches and ghosts stay as large as for the first. */
  bytesMax: number;
  /** Uses of a node that is kept, 1 by default: all since it was told of last. */
  hit(node: Node, uses?: number): void;
  /** Takes a new node in. False: it was not admitted, or went at once; the callback was told. */
  admit(node: Node): boolean;
  /** Sets the bytes of a node that is kept. False: it had to go for it; the callback was told. */
  resize(node: Node, bytes: number): boolean;
  /** Takes out a node that is kept. */
  remove(node: Node): void;
}

/** A doubly linked queue of nodes, newest first, that knows its bytes. */
export class NodeQueue<Node extends EvictionNode> {
  /** This queue's number in the `queue` of its nodes. */
  readonly id: number;
  newest: Node | undefined = undefined;
  oldest: Node | undefined = undefined;
  bytes = 0;
  count = 0;

  constructor(id: number) {
    this.id = id;
  }

  /** Puts a node that is in no queue at the head. */
  push(node: Node): void {
    node.queue = this.id;
    node.newer = undefined;
    node.older = this.newest;
    if (this.newest === undefined) this.oldest = node;
    else this.newest.newer = node;
    this.newest = node;
    this.bytes += node.bytes;
    this.count++;
  }

  /** Takes out a node that is in this queue. */
  remove(node: Node): void {
    const newer = node.newer as Node | undefined;
    const older = node.older as Node | undefined;
    if (newer === undefined) this.newest = older;
    else newer.older = older;
    if (older === undefined) this.oldest = newer;
    else older.newer = newer;
    node.newer = undefined;
    node.older = undefined;
    node.queue = IN_NO_QUEUE;
    this.bytes -= node.bytes;
    this.count--;
  }

  /** Moves a node of this queue to its head. */
  toNewest(node: Node): void {
    if (this.newest === node) return;
    this.remove(node);
    this.push(node);
  }

  /** Sets the bytes of a node of this queue. */
  resize(node: Node, bytes: number): void {
    this.bytes += bytes - node.bytes;
    node.bytes = bytes;
  }
}
