/**
 * While one process replaces another both serve, each with a store of its own: what an unsafe request changes at one of them
 * (RFC 9111, section 4.4) the others hear before it is answered. Those that drain make a chain, since the successor of one may be
 * replaced itself.
 */
import type { Logger } from "#kit/io";
import type { CacheKey } from "../core/cache-key.ts";

export type Invalidate = (keys: readonly CacheKey[]) => Promise<void>;

export class InvalidationChain {
  readonly #apply: Invalidate;
  readonly #logger: Logger;
  /** Tells that process; undefined: there is none. */
  predecessor: Invalidate | undefined;
  successor: Invalidate | undefined;

  /** `apply`: marks keys as changed in this process and its workers. */
  constructor(apply: Invalidate, logger: Logger) {
    this.#apply = apply;
    this.#logger = logger;
  }

  /** Changed by a request here, where it is marked already. None of these rejects. */
  async fromHere(keys: readonly CacheKey[]): Promise<void> {
    await Promise.all([this.#tell("predecessor", keys), this.#tell("successor", keys)]);
  }

  async fromPredecessor(keys: readonly CacheKey[]): Promise<void> {
    await Promise.all([this.#apply(keys), this.#tell("successor", keys)]);
  }

  async fromSuccessor(keys: readonly CacheKey[]): Promise<void> {
    await Promise.all([this.#apply(keys), this.#tell("predecessor", keys)]);
  }

  async #tell(whom: "predecessor" | "successor", keys: readonly CacheKey[]): Promise<void> {
    try {
      await this[whom]?.(keys);
    } catch (error) {
      // One that has gone has nothing stored any more.
      if (this[whom] !== undefined) this.#logger.warn("invalidation-not-passed-on", { whom, error });
    }
  }
}
