/** The last routers that answered before a client network, as traces have seen them: who shares one shares the way. Bounded memory. */
import type { ClientNetworkId } from "#kit";

/** Routers kept of a network, the one that is nearest to it first. */
export const LAST_HOPS_MAX = 2;

export class LastHopTable {
  readonly #networksMax: number;
  /** Traced the longest ago first (insertion order). */
  readonly #hops = new Map<ClientNetworkId, readonly string[]>();
  readonly counters = { traces: 0, networksDropped: 0 };

  /** @param networksMax networks kept; beyond it the one that was traced the longest ago is dropped and counted */
  constructor(networksMax = 200_000) {
    if (!(Number.isSafeInteger(networksMax) && networksMax >= 1))
      throw new RangeError(`Last hops need a whole number of networks >= 1, got ${networksMax}`);
    this.#networksMax = networksMax;
  }

  get size(): number {
    return this.#hops.size;
  }

  /** @param hops canonical addresses, the one nearest to the network first; those beyond `LAST_HOPS_MAX` are left out */
  handleTrace(clientNetworkId: ClientNetworkId, hops: readonly string[]): void {
    if (hops.length === 0) return;
    this.counters.traces++;
    this.#hops.delete(clientNetworkId);
    this.#hops.set(clientNetworkId, hops.slice(0, LAST_HOPS_MAX));
    if (this.#hops.size <= this.#networksMax) return;
    for (const oldest of this.#hops.keys()) {
      this.#hops.delete(oldest);
      this.counters.networksDropped++;
      return;
    }
  }

  /** Of the newest trace; empty when there was none. */
  of(clientNetworkId: ClientNetworkId): readonly string[] {
    return this.#hops.get(clientNetworkId) ?? [];
  }
}
