/** Where the edge clusters are believed to be: their labels, compared with the links that were measured. */
import type { ClusterEntry, ClusterId, Coordinates, MonotonicMs } from "#kit";
import type { LinkTable } from "./link-table.ts";
import { placedSites } from "./locate.ts";

/** From one comparison to the next, ms: labels do not change, but evidence grows; it costs the square of the edge clusters. */
const INTERVAL_MS = 60_000;

export class EdgePlaces {
  /** By number of the cluster; null for those whose label cannot be true. */
  #places: readonly (Coordinates | null)[] = [];
  #at: MonotonicMs | undefined;

  get all(): readonly (Coordinates | null)[] {
    return this.#places;
  }

  of(cluster: number): Coordinates | null {
    return this.#places[cluster] ?? null;
  }

  /** The clusters have changed. */
  handleChanged(): void {
    this.#at = undefined;
  }

  /** Compares when it is time to; true: some are believed to be elsewhere than before. */
  update(
    edgeIds: readonly ClusterId[],
    sites: readonly ClusterEntry[],
    links: LinkTable,
    now: MonotonicMs,
  ): boolean {
    if (this.#at !== undefined && now - this.#at < INTERVAL_MS) return false;
    this.#at = now;
    const rttMs = (a: ClusterId, b: ClusterId): number | undefined => links.measured(a, b, null, now)?.rttMs;
    const believed = new Map(placedSites(sites, rttMs, []).map((site) => [site.clusterId, site.coordinates]));
    const before = this.#places;
    this.#places = edgeIds.map((clusterId) => believed.get(clusterId) ?? null);
    return this.#places.some(
      (place, c) => place?.latitude !== before[c]?.latitude || place?.longitude !== before[c]?.longitude,
    );
  }
}
