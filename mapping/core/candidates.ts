/**
 * Which clusters a client network is scored against when there are too many for all: the nearest by geography. What was measured, and
 * where the network is now, is added by whoever asks.
 */
import type { Coordinates } from "#kit";
import { type Vector, vectorOf } from "./sphere.ts";

/** Degrees of a cell: places in it share one order of all clusters, from which the nearest are taken by their true distance. */
const CELL_DEGREES = 5;
/** Of the cell's order so many are looked at for each candidate, so that the cell's middle decides nothing. */
const LOOKED_AT_RATIO = 3;
/** Chords of the unit sphere are squared (0..4) and counted in steps of this: half a metre at close quarters. */
const STEPS = 2 ** 34;
const NUMBERS = 2 ** 16;
/** A cluster of which nobody knows where it is stands behind the antipode. */
const UNKNOWN_STEPS = 5 * STEPS;

/** Clusters by number, in the order of their distance. Deterministic; ties by number. */
export class NearestClusters {
  readonly #vectors: readonly (Vector | null)[];
  readonly #candidatesMax: number;
  readonly #all: Uint16Array;
  /** By cell: every cluster, nearest to its middle first. */
  readonly #cells = new Map<number, { readonly number: number; readonly order: Uint16Array }>();
  readonly #orders: Uint16Array[];

  /** @param places by cluster number, at most 65,535; null where none can be believed */
  constructor(places: readonly (Coordinates | null)[], candidatesMax: number) {
    this.#vectors = places.map((place) => (place === null ? null : vectorOf(place)));
    this.#candidatesMax = candidatesMax;
    this.#all = Uint16Array.from(places.keys());
    this.#orders = [this.#all];
  }

  /** The orders of all clusters that were asked for; the first one is that of nowhere. */
  get orders(): readonly Uint16Array[] {
    return this.#orders;
  }

  /** The number, in `orders`, of the order of all clusters around a place. */
  orderNumber(place: Coordinates | null): number {
    return place === null ? 0 : this.#cellOf(place).number;
  }

  /** The candidates of a place, ascending by number. All clusters where there are no more than the maximum. */
  near(place: Coordinates | null): Uint16Array {
    if (this.#all.length <= this.#candidatesMax) return this.#all;
    if (place === null) return this.#spread();
    const { order } = this.#cellOf(place);
    const looked = order.subarray(0, Math.min(order.length, this.#candidatesMax * LOOKED_AT_RATIO));
    return this.#sorted(vectorOf(place), looked).subarray(0, this.#candidatesMax).sort();
  }

  /** Of a network that nobody can place all that can be said is that it is somewhere: one cluster of each part of the list. */
  #spread(): Uint16Array {
    const step = this.#all.length / this.#candidatesMax;
    return Uint16Array.from({ length: this.#candidatesMax }, (_, n) => Math.floor(n * step));
  }

  #cellOf({ latitude, longitude }: Coordinates): { readonly number: number; readonly order: Uint16Array } {
    const row = Math.floor((latitude + 90) / CELL_DEGREES);
    const column = Math.floor((longitude + 180) / CELL_DEGREES);
    const key = row * 1_000 + column;
    let cell = this.#cells.get(key);
    if (cell === undefined) {
      const middle = {
        latitude: Math.min(90, (row + 0.5) * CELL_DEGREES - 90),
        longitude: (column + 0.5) * CELL_DEGREES - 180,
      };
      cell = { number: this.#orders.length, order: this.#sorted(vectorOf(middle), this.#all) };
      this.#cells.set(key, cell);
      this.#orders.push(cell.order);
    }
    return cell;
  }

  /** Distance and number in one float, which sorts natively. */
  #sorted([x, y, z]: Vector, clusters: Uint16Array): Uint16Array {
    const keys = new Float64Array(clusters.length);
    for (let n = 0; n < keys.length; n++) {
      const cluster = clusters[n] as number;
      const to = this.#vectors[cluster];
      let steps = UNKNOWN_STEPS;
      if (to !== null && to !== undefined)
        steps = Math.round(((x - to[0]) ** 2 + (y - to[1]) ** 2 + (z - to[2]) ** 2) * STEPS);
      keys[n] = steps * NUMBERS + cluster;
    }
    keys.sort();
    const sorted = new Uint16Array(keys.length);
    for (let n = 0; n < keys.length; n++) sorted[n] = (keys[n] as number) % NUMBERS;
    return sorted;
  }
}
