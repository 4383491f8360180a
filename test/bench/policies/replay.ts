/** A trace through an eviction policy, as the stores of the edge see it: content beyond a slice comes in slices. */
import { xxh32 } from "#kit";
import { EvictionNode, type EvictionPolicy } from "../../../edge/core/eviction/policy.ts";
import { type DiskAdmission, type DiskCount, ModelDisk } from "./model-disk.ts";
import type { Trace } from "./traces.ts";

/** The edge's slice: objects beyond it are kept in slices of it. */
export const SLICE_BYTES = 2 ** 20;

export interface Ratios {
  /** Requests that found every byte of their object. */
  readonly objectHitRatio: number;
  readonly byteHitRatio: number;
}

export type TierRatios = Ratios & DiskCount;

interface Pieces {
  /** Number of an object's first piece; pieces of one object follow each other. */
  readonly first: Uint32Array;
  readonly count: number;
}

const sliceCount = (bytes: number): number => Math.ceil(bytes / SLICE_BYTES);

function piecesOf(trace: Trace): Pieces {
  const first = new Uint32Array(trace.bytesOf.length);
  let count = 0;
  for (const [object, bytes] of trace.bytesOf.entries()) {
    first[object] = count;
    count += sliceCount(bytes);
  }
  return { first, count };
}

class PieceNode extends EvictionNode {
  readonly piece: number;
  isUsed = false;
  constructor(piece: number, hash: number, bytes: number) {
    super(hash, bytes);
    this.piece = piece;
  }
}

/** A store as the policies need it: what is kept, by number of the piece. `onEvicted` is told after the change. */
class ModelStore {
  readonly #nodes: (PieceNode | undefined)[];
  readonly #policy: EvictionPolicy<PieceNode>;
  readonly #bytesMax: number;

  constructor(
    pieces: number,
    bytesMax: number,
    makePolicy: MakePolicy,
    onEvicted?: (piece: number, isUsed: boolean) => void,
  ) {
    this.#nodes = Array.from<PieceNode | undefined>({ length: pieces }).fill(undefined);
    this.#bytesMax = bytesMax;
    this.#policy = makePolicy(bytesMax, (node) => {
      this.#nodes[node.piece] = undefined;
      onEvicted?.(node.piece, node.isUsed);
    });
  }

  /** Counts a use when the piece is there. */
  hit(piece: number): boolean {
    const node = this.#nodes[piece];
    if (node === undefined) return false;
    node.isUsed = true;
    this.#policy.hit(node);
    return true;
  }

  has(piece: number): boolean {
    return this.#nodes[piece] !== undefined;
  }

  put(piece: number, hash: number, bytes: number): void {
    const node = new PieceNode(piece, hash, bytes);
    this.#nodes[piece] = node;
    this.#policy.admit(node);
    if (this.#policy.bytes + this.#policy.overheadBytes > this.#bytesMax)
      throw new Error(`A policy holds more than its ${this.#bytesMax} bytes`);
  }
}

export type MakePolicy = (
  bytesMax: number,
  onEvicted: (node: PieceNode) => void,
) => EvictionPolicy<PieceNode>;

/** Walks the pieces that a trace asks for. `ask` says whether the piece was found. */
function walk(
  trace: Trace,
  pieces: Pieces,
  hashes: Uint32Array,
  ask: (piece: number, hash: number, bytes: number) => boolean,
): Ratios {
  let hits = 0;
  let hitBytes = 0;
  for (const object of trace.objectOf) {
    const bytes = trace.bytesOf[object] ?? 0;
    const count = sliceCount(bytes);
    let isHit = true;
    for (let slice = 0; slice < count; slice++) {
      const piece = (pieces.first[object] ?? 0) + slice;
      const pieceBytes = slice === count - 1 ? bytes - SLICE_BYTES * slice : SLICE_BYTES;
      if (ask(piece, hashes[piece] ?? 0, pieceBytes)) hitBytes += pieceBytes;
      else isHit = false;
    }
    if (isHit) hits++;
  }
  return { objectHitRatio: hits / trace.requests, byteHitRatio: hitBytes / trace.requestedBytes };
}

function hashesOf(pieces: Pieces): Uint32Array {
  return Uint32Array.from({ length: pieces.count }, (_, piece) => xxh32(`piece ${piece}`));
}

/** A replayer for many runs of one trace. */
export function replayer(trace: Trace) {
  const pieces = piecesOf(trace);
  const hashes = hashesOf(pieces);
  return {
    /** One store of `bytesMax`, its policy's own memory included, empty at the start. */
    memory(makePolicy: MakePolicy, bytesMax: number): Ratios {
      const store = new ModelStore(pieces.count, bytesMax, makePolicy);
      return walk(trace, pieces, hashes, (piece, hash, bytes) => {
        if (store.hit(piece)) return true;
        store.put(piece, hash, bytes);
        return false;
      });
    },

    /** A memory store in front of a disk that takes what `admission` says. */
    tiers(
      memoryPolicy: MakePolicy,
      memoryBytes: number,
      diskBytes: number,
      admission: DiskAdmission,
    ): TierRatios {
      const disk = new ModelDisk(pieces.count, hashes, diskBytes, admission);
      const memory = new ModelStore(pieces.count, memoryBytes, memoryPolicy, (piece, isUsed) => {
        if (isUsed) disk.leavesMemory(piece);
      });
      disk.isInMemory = (piece) => memory.has(piece);
      const ratios = walk(trace, pieces, hashes, (piece, hash, bytes) => {
        if (memory.hit(piece)) {
          disk.usedInMemory(piece);
          return true;
        }
        const isOnDisk = disk.read(piece);
        memory.put(piece, hash, bytes);
        if (!isOnDisk) disk.fetched(piece, bytes);
        return isOnDisk;
      });
      return { ...ratios, ...disk.count() };
    },

    pieces: pieces.count,
  };
}
