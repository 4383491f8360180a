/** Places with travel times, found by distance: those that are within a few kilometres of each other are one. */
import { type Coordinates, quantile } from "#kit";
import { kmBetween, type Vector, vectorOf } from "./sphere.ts";

/** Somebody with travel times: a client network that was measured, or a cluster. */
export interface Anchor {
  readonly id: string;
  /** Where it is believed to be. */
  readonly coordinates: Coordinates | null;
  /** To a cluster by its number; undefined: not measured. */
  rttMs(cluster: number): number | undefined;
  /** The clusters to which a client network has times; empty for a cluster, which has them to most others. */
  readonly measured: readonly number[];
}

/** Those of one place speak together, by the median: one with a bad access or a wrong label decides nothing. */
export class Spot {
  readonly vector: Vector;
  readonly anchors: Anchor[] = [];
  readonly #rttMs = new Map<number, number | undefined>();

  constructor(place: Coordinates) {
    this.vector = vectorOf(place);
  }

  rttMs(cluster: number): number | undefined {
    if (this.anchors.length === 1) return (this.anchors[0] as Anchor).rttMs(cluster);
    if (this.#rttMs.has(cluster)) return this.#rttMs.get(cluster);
    const times = this.anchors.flatMap((anchor) => anchor.rttMs(cluster) ?? []).sort((a, b) => a - b);
    const rttMs = times.length === 0 ? undefined : quantile(times, 0.5);
    this.#rttMs.set(cluster, rttMs);
    return rttMs;
  }
}

export interface NearSpot {
  readonly spot: Spot;
  readonly km: number;
}

/** Of those of one place so many are asked. */
const ANCHORS_MAX = 64;
/** A place is a square of this size, degrees: 11 km at the equator. */
const SPOT_DEGREES = 0.1;
/** Side of the squares that are searched, degrees. */
const CELL_DEGREES = 5;
const COLUMNS = 360 / CELL_DEGREES;
const ROWS = 180 / CELL_DEGREES;

export class NearbySpots {
  readonly #cells = new Map<number, Spot[]>();
  readonly #spots = new Map<string, Spot>();

  /** One without coordinates is left out. All are added before the first is looked for. */
  add(anchor: Anchor): void {
    if (anchor.coordinates === null) return;
    const { latitude, longitude } = anchor.coordinates;
    const key = `${Math.floor(latitude / SPOT_DEGREES)} ${Math.floor(longitude / SPOT_DEGREES)}`;
    let spot = this.#spots.get(key);
    if (spot === undefined) {
      spot = new Spot(anchor.coordinates);
      this.#spots.set(key, spot);
      const cell = cellOf(rowOf(latitude), columnOf(longitude));
      const others = this.#cells.get(cell);
      if (others === undefined) this.#cells.set(cell, [spot]);
      else others.push(spot);
    }
    if (spot.anchors.length < ANCHORS_MAX) spot.anchors.push(anchor);
  }

  /**
   * The nearest first, about `count` of them: rings of squares are looked at until there are enough, and one more, since squares
   * have corners. Ties in the order of the anchors.
   */
  nearest(place: Coordinates, count: number): NearSpot[] {
    const row = rowOf(place.latitude);
    const column = columnOf(place.longitude);
    const found: Spot[] = [];
    let last = Infinity;
    for (let ring = 0; ring <= Math.min(last, COLUMNS / 2); ring++) {
      for (const cell of ringOf(row, column, ring)) found.push(...(this.#cells.get(cell) ?? []));
      if (last === Infinity && found.length >= Math.min(count, this.#spots.size)) last = ring + 1;
    }
    const vector = vectorOf(place);
    return found
      .map((spot): NearSpot => ({ spot, km: kmBetween(vector, spot.vector) }))
      .sort((a, b) => a.km - b.km)
      .slice(0, count);
  }
}

function rowOf(latitude: number): number {
  return Math.min(ROWS - 1, Math.floor((latitude + 90) / CELL_DEGREES));
}

function columnOf(longitude: number): number {
  return Math.floor((longitude + 180) / CELL_DEGREES) % COLUMNS;
}

function cellOf(row: number, column: number): number {
  return row * COLUMNS + column;
}

/** The squares at this distance in squares, the date line crossed; none twice. */
function ringOf(row: number, column: number, ring: number): Set<number> {
  const cells = new Set<number>();
  const add = (r: number, c: number): void => {
    if (r >= 0 && r < ROWS) cells.add(cellOf(r, (c + COLUMNS) % COLUMNS));
  };
  for (let step = -ring; step <= ring; step++) {
    add(row - ring, column + step);
    add(row + ring, column + step);
    add(row + step, column - ring);
    add(row + step, column + ring);
  }
  return cells;
}
