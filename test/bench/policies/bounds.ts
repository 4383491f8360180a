/**
 * What any store could have found in a trace, whatever its policy knows: measures for those that know the past only. Objects are whole
 * here, which holds for slices too: a request whose every slice was found has had them all kept since the last request for it.
 *
 * - {@link Bounds.atMost}: no store of so many bytes finds more. To be found, an object has to be kept since its last request; that takes bytes
 *   x requests of the store's bytes x the trace's requests. The intervals that take the least for what they give, until all is taken: PFOO-L
 *   of Berger, Beckmann, Harchol-Balter, "Practical Bounds on Optimal Caching with Variable Object Sizes", POMACS 2(2), 2018, section 4.
 * - {@link Bounds.clairvoyant}: one that can be had when the future is known: what is asked for again last goes first (Belady, IBM Systems
 *   Journal 5(2), 1966), its distance weighed by bytes, or, for bytes found, as it is.
 */
import { percents } from "./options.ts";
import type { Ratios } from "./replay.ts";
import type { Trace } from "./traces.ts";

interface Bounds {
  atMost(storeBytes: number): Ratios;
  clairvoyant(storeBytes: number): Ratios;
}

const NEVER = 0xffff_ffff;

/** The bounds of stores of so many percent of the footprint, as results have them. */
export function boundPoints(trace: Trace, sizesPercent: readonly number[]) {
  const bounds = boundsOf(trace);
  return sizesPercent.map((cachePercent) => {
    const storeBytes = (trace.footprintBytes * cachePercent) / 100;
    return {
      cachePercent,
      atMost: percents(bounds.atMost(storeBytes)),
      clairvoyant: percents(bounds.clairvoyant(storeBytes)),
    };
  });
}

export function boundsOf(trace: Trace): Bounds {
  const { requests, requestedBytes } = trace;
  const nextOf = nextRequests(trace);
  const bytesAt = Float64Array.from(trace.objectOf, (object) => trace.bytesOf[object] ?? 0);
  const lengthAt = Float64Array.from(nextOf, (next, request) => next - request);
  const again = Uint32Array.from(nextOf.keys().filter((request) => nextOf[request] !== NEVER));
  const costOf = (request: number): number => (lengthAt[request] ?? 0) * (bytesAt[request] ?? 0);
  const byCost = again.slice().sort((a, b) => costOf(a) - costOf(b));
  const byLength = again.sort((a, b) => (lengthAt[a] ?? 0) - (lengthAt[b] ?? 0));

  /** Sum of what the intervals in this order give until `room` is used up, the last one in part. */
  const fill = (order: Uint32Array, room: number, valueOf: (request: number) => number): number => {
    let value = 0;
    let left = room;
    for (const request of order) {
      const cost = costOf(request);
      if (cost > left) return value + (valueOf(request) * left) / cost;
      left -= cost;
      value += valueOf(request);
    }
    return value;
  };

  /** Keeps what is asked for again the soonest. `weigh`: whether a larger object counts as one that is further away. */
  const keepNearest = (storeBytes: number, weigh: boolean): Ratios => {
    const farthest = new Farthest();
    /** By object: when it is asked for again, if it is kept. */
    const keptUntil = new Float64Array(trace.bytesOf.length).fill(NEVER);
    let usedBytes = 0;
    let hits = 0;
    let hitBytes = 0;
    for (let request = 0; request < requests; request++) {
      const object = trace.objectOf[request] ?? 0;
      const bytes = bytesAt[request] ?? 0;
      if (keptUntil[object] === request) {
        hits++;
        hitBytes += bytes;
        usedBytes -= bytes;
      }
      const next = nextOf[request] ?? NEVER;
      keptUntil[object] = next;
      if (next === NEVER) continue;
      usedBytes += bytes;
      // A distance from now would have to be worked out anew at each request; with its end alone the order stays nearly the same.
      farthest.push(weigh ? (next - request) * bytes : next, request);
      while (usedBytes > storeBytes) {
        const kept = farthest.pop();
        const victim = trace.objectOf[kept] ?? 0;
        // Asked for again since, so no longer what it was.
        if (keptUntil[victim] !== nextOf[kept] || (nextOf[kept] ?? 0) <= request) continue;
        keptUntil[victim] = NEVER;
        usedBytes -= bytesAt[kept] ?? 0;
      }
    }
    return { objectHitRatio: hits / requests, byteHitRatio: hitBytes / requestedBytes };
  };

  return {
    atMost: (storeBytes) => ({
      objectHitRatio: fill(byCost, storeBytes * requests, () => 1) / requests,
      byteHitRatio:
        fill(byLength, storeBytes * requests, (request) => bytesAt[request] ?? 0) / requestedBytes,
    }),
    clairvoyant: (storeBytes) => ({
      objectHitRatio: keepNearest(storeBytes, true).objectHitRatio,
      byteHitRatio: keepNearest(storeBytes, false).byteHitRatio,
    }),
  };
}

/** By request: which request asks for the same object next, or {@link NEVER}. */
function nextRequests({ objectOf, bytesOf, requests }: Trace): Uint32Array {
  const next = new Uint32Array(requests);
  const seen = new Uint32Array(bytesOf.length).fill(NEVER);
  for (let request = requests - 1; request >= 0; request--) {
    const object = objectOf[request] ?? 0;
    next[request] = seen[object] ?? NEVER;
    seen[object] = request;
  }
  return next;
}

/** A heap of numbers with the largest key first. */
class Farthest {
  readonly #keys: number[] = [];
  readonly #values: number[] = [];

  push(key: number, value: number): void {
    let at = this.#keys.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((this.#keys[parent] ?? 0) >= key) break;
      this.#set(at, this.#keys[parent] ?? 0, this.#values[parent] ?? 0);
      at = parent;
    }
    this.#set(at, key, value);
  }

  /** The value of the largest key; not to be asked of an empty heap. */
  pop(): number {
    const first = this.#values[0] ?? 0;
    const key = this.#keys.pop() ?? 0;
    const value = this.#values.pop() ?? 0;
    const { length } = this.#keys;
    if (length === 0) return first;
    let at = 0;
    for (let child = 1; child < length; child = 2 * at + 1) {
      if (child + 1 < length && (this.#keys[child + 1] ?? 0) > (this.#keys[child] ?? 0)) child++;
      if ((this.#keys[child] ?? 0) <= key) break;
      this.#set(at, this.#keys[child] ?? 0, this.#values[child] ?? 0);
      at = child;
    }
    this.#set(at, key, value);
    return first;
  }

  #set(at: number, key: number, value: number): void {
    this.#keys[at] = key;
    this.#values[at] = value;
  }
}
