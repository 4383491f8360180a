import { xxh32 } from "./hash.ts";

/** What is chosen among: an id that never changes for one object, and a relative capacity (default 1, >= 0, finite). */
export type RendezvousNode = { readonly id: string; readonly weight?: number };

/**
 * Rendezvous hashing: all nodes in the order in which they should serve `key`, best first. Every machine that knows
 * the same ids and weights computes the same order; removing a node moves only the keys that it was first for.
 *
 * Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM ToN 6(1), 1998;
 * weights: Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005 (the logarithmic method): the
 * score is -weight / ln(h) with h uniform in (0, 1), so the share of a node is its weight over the sum of weights.
 *
 * Ties by id, ascending by UTF-16 code unit; nodes of weight 0 come last. Throws RangeError on a bad weight.
 */
export function rendezvousOrder<N extends RendezvousNode>(key: string, nodes: readonly N[]): N[] {
  const keyHash = xxh32(key);
  return nodes
    .map((node) => ({ node, score: scoreOf(keyHash, node) }))
    .sort((a, b) => b.score - a.score || compareIds(a.node, b.node))
    .map(({ node }) => node);
}

/**
 * The first node in rendezvous order that has room, or undefined if there are no nodes. A node has room if one more
 * unit of load keeps it within ceil(boundRatio * mean), where mean is (sum of loads + 1) shared out by weight; if
 * none has room (possible only with boundRatio < 1 or fractional loads), the first in order.
 *
 * Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent hashing with bounded loads", SODA 2018: a small ratio evens
 * the load and spreads hot keys, a large one keeps more keys on their first node.
 *
 * @param loadOf current load of a node, in units of one assignment (say, requests in flight), >= 0
 * @param boundRatio allowed load over mean load, > 0; 1.25 by default
 */
export function rendezvousPick<N extends RendezvousNode>(
  key: string,
  nodes: readonly N[],
  loadOf: (id: string) => number,
  boundRatio = 1.25,
): N | undefined {
  if (!(boundRatio > 0)) throw new RangeError(`The bound ratio must be > 0, got ${boundRatio}`);
  let loadSum = 1; // The unit that is being placed counts.
  let weightSum = 0;
  for (const node of nodes) {
    loadSum += loadOf(node.id);
    weightSum += weightOf(node);
  }
  const keyHash = xxh32(key);
  let first: N | undefined;
  let firstScore = -1;
  let best: N | undefined;
  let bestScore = -1;
  for (const node of nodes) {
    const score = scoreOf(keyHash, node);
    if (isBefore(node, score, first, firstScore)) {
      first = node;
      firstScore = score;
    }
    if (!isBefore(node, score, best, bestScore)) continue;
    const loadMax = Math.ceil((boundRatio * loadSum * weightOf(node)) / weightSum);
    if (loadOf(node.id) + 1 > loadMax) continue;
    best = node;
    bestScore = score;
  }
  return best ?? first;
}

function isBefore<N extends RendezvousNode>(
  node: N,
  score: number,
  other: N | undefined,
  otherScore: number,
): boolean {
  if (!other || score !== otherScore) return score > otherScore;
  return compareIds(node, other) < 0;
}

function compareIds(a: RendezvousNode, b: RendezvousNode): number {
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

function weightOf(node: RendezvousNode): number {
  const weight = node.weight ?? 1;
  if (!(weight >= 0 && weight < Infinity))
    throw new RangeError(
      `The weight of node ${JSON.stringify(node.id)} must be finite and >= 0, got ${weight}`,
    );
  return weight;
}

/** The hash of a node's id, kept with the object: one id is hashed for every key of every request otherwise. */
const idHashes = new WeakMap<RendezvousNode, number>();

function scoreOf(keyHash: number, node: RendezvousNode): number {
  let idHash = idHashes.get(node);
  if (idHash === undefined) {
    idHash = xxh32(node.id);
    idHashes.set(node, idHash);
  }
  // Half a step up: never 0 and never 1, so the logarithm is finite and below zero.
  const h = (mix(keyHash, idHash) + 0.5) / 0x1_0000_0000;
  return -weightOf(node) / Math.log(h);
}

/**
 * Two hashes to one, not symmetric. Hashing key and id apart and mixing here costs some ns a node where one xxh32 of
 * the joined text would cost a call into WebAssembly.
 */
function mix(keyHash: number, idHash: number): number {
  return finalise((finalise(keyHash ^ idHash) + idHash + 0x9e37_79b9) | 0) >>> 0;
}

/** The 32-bit finaliser of MurmurHash3 (A. Appleby, public domain): a bijection in which every bit moves every bit. */
function finalise(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return h ^ (h >>> 16);
}
