/** Which places count as one: those that travel times cannot tell apart. */
import type { Coordinates } from "#kit";
import type { Place } from "../measurements/places.ts";

/** Half the sphere's circumference over 180 degrees, km. */
const KM_PER_DEGREE = 111.2;
/** Round trip in fibre, km for a ms: the speed of light times 2/3, there and back. */
const KM_PER_MS = 99.9;

/**
 * A name for the square of about `sideMs` of travel time that holds the place, and the country: at borders routes change. Places without
 * coordinates go by country and city.
 */
export function placeKey({ country, city, coordinates }: Place, sideMs: number): string {
  if (coordinates === null) return `${country} ${city}`;
  const side = (sideMs * KM_PER_MS) / KM_PER_DEGREE;
  const row = Math.round(coordinates.latitude / side);
  // Meridians come closer towards the poles.
  const shrink = Math.max(0.05, Math.cos((row * side * Math.PI) / 180));
  return `${country} ${row} ${Math.round((coordinates.longitude * shrink) / side)}`;
}

const HILBERT_BITS = 15;

/** Position along a Hilbert curve over the map, 0..2^30: near on the curve is near on the ground. */
export function hilbertOf({ latitude, longitude }: Coordinates): number {
  const cells = 2 ** HILBERT_BITS;
  let x = Math.min(cells - 1, Math.floor(((longitude + 180) / 360) * cells));
  let y = Math.min(cells - 1, Math.floor(((latitude + 90) / 180) * cells));
  let at = 0;
  for (let side = cells / 2; side >= 1; side /= 2) {
    const right = (x & side) > 0 ? 1 : 0;
    const upper = (y & side) > 0 ? 1 : 0;
    at += side * side * ((3 * right) ^ upper);
    if (upper === 0) {
      if (right === 1) {
        x = cells - 1 - x;
        y = cells - 1 - y;
      }
      [x, y] = [y, x];
    }
  }
  return at;
}
