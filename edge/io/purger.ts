/** Applies purges to one process: its index, then the bytes of what is in memory. */
import type { PurgeEntry } from "#kit";
import { targetWithoutToken } from "../core/access/token.ts";
import { type CacheKey, parseAbsoluteUri, purgeKeys } from "../core/cache-key.ts";
import { PLAIN_POLICY } from "../core/policy.ts";
import { policyFor } from "../core/rules/policy-for.ts";
import type { Edge } from "./edge.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { type NodeRouting, withoutPort } from "./node-routing.ts";

export class Purger {
  readonly #edge: Edge;
  readonly #routing: NodeRouting;
  readonly #metrics: EdgeMetrics;
  #isSweeping = false;
  #mustSweepAgain = false;

  constructor(edge: Edge, routing: NodeRouting, metrics: EdgeMetrics) {
    this.#edge = edge;
    this.#routing = routing;
    this.#metrics = metrics;
  }

  /**
   * Puts a purge in force, unless it or a newer one is already, and frees what it meant: all that is stored is older. Returns how
   * many stored responses were removed, as far as is known.
   */
  apply(entry: PurgeEntry): number {
    const keys = this.#mark(entry);
    if (keys === undefined) return 0;
    const { mode, tags, prefixes = [], hosts = [], isWholeProperty = false } = entry.request;
    const { store } = this.#edge;
    // The index alone makes the purge hold; this frees the bytes and counts what was there.
    let removed = 0;
    for (const key of keys) removed += mode === "hard" ? store.delete(key) : store.memory.peek(key).length;
    const isByKey = tags.length + prefixes.length + hosts.length === 0 && !isWholeProperty;
    if (mode === "hard" && !isByKey) removed += this.#sweep();
    return removed;
  }

  /** A purge from before this process began: what lies on the disk may be newer, so that only the index hears of it. */
  replay(entry: PurgeEntry): void {
    this.#mark(entry);
  }

  /** The keys that it names; undefined: it was in force. */
  #mark({ purgeSeq, request }: PurgeEntry): readonly CacheKey[] | undefined {
    const { purges } = this.#edge;
    const property = this.#routing.property(request.propertyId);
    const keys: CacheKey[] = [];
    for (const url of request.urls) {
      const address = parseAbsoluteUri(url);
      const host = withoutPort(address?.host ?? "");
      // One customer's purge never reaches another's host, whatever URL it names.
      if (address === undefined || (property !== undefined && !property.hostnames.includes(host))) continue;
      const access = property?.access;
      const target =
        access === undefined ? address.target : targetWithoutToken(address.target, access.parameter);
      keys.push(
        ...purgeKeys(
          `${address.scheme}://${host}${target}`,
          property === undefined ? PLAIN_POLICY : policyFor(property, target, host),
        ),
      );
    }
    const { tags, isWholeProperty = false } = request;
    const prefixes = (request.prefixes ?? []).flatMap((prefix) => {
      const address = parseAbsoluteUri(prefix);
      const host = withoutPort(address?.host ?? "");
      const isOurs = address !== undefined && (property === undefined || property.hostnames.includes(host));
      return isOurs ? [`${host}${address.target}`] : [];
    });
    // The marks are the property's own, so that a foreign host among them means nothing.
    const hosts = request.hosts ?? [];
    const selection = { keys, tags, prefixes, hosts, isWhole: isWholeProperty };
    if (!purges.apply(purgeSeq, request.propertyId, selection, request.mode)) return undefined;
    this.#metrics.purge(request.mode);
    return keys;
  }

  /** Purges up to a number are not known: what was stored before it counts as purged. */
  lose(upTo: number): void {
    this.#edge.purges.lose(upTo);
    this.#sweep();
  }

  /** Control's numbers begin anew: nothing stored can be compared with them. Resolves when that would survive a crash. */
  async forget(): Promise<void> {
    const { purges, store } = this.#edge;
    store.clear();
    purges.restart();
    await store.disk?.flush();
  }

  /**
   * Frees what was purged. A small store is done at once and its count returned; of a large one the rest follows in turns, so that
   * requests are answered in between, and one walk does for all purges that came meanwhile.
   */
  #sweep(): number {
    if (this.#isSweeping) {
      this.#mustSweepAgain = true;
      return 0;
    }
    const walk = this.#edge.handler.sweepPurged(
      (key) => this.#routing.propertyOf(parseAbsoluteUri(key)?.host ?? "")?.property.propertyId ?? "",
    );
    const { done, value } = walk.next();
    if (done === true) return value;
    this.#isSweeping = true;
    const goOn = (): void => {
      if (walk.next().done !== true) {
        setImmediate(goOn);
        return;
      }
      this.#isSweeping = false;
      if (!this.#mustSweepAgain) return;
      this.#mustSweepAgain = false;
      this.#sweep();
    };
    setImmediate(goOn);
    return 0;
  }
}
