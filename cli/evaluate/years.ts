/** Two matrices of different years, brought to the cities that both have: the only way to a map that is really years old. */
import { type Coordinates, greatCircleKm } from "#kit";
import type { RttMatrix } from "./matrix.ts";

/** Two points closer than this are the same city, km. */
const SAME_CITY_KM = 60;
/** Fewer cities than this tell nothing. */
const CITIES_MIN = 8;

/**
 * The cities that stand in both, each once, in the order of `before`: the nearest of the other matrix within 60 km. Both
 * matrices have the names and places of `before`. Throws RangeError without coordinates or with fewer than 8 such cities.
 */
export function sameCities(before: RttMatrix, after: RttMatrix): [before: RttMatrix, after: RttMatrix] {
  if (before.coordinates === null || after.coordinates === null)
    throw new RangeError("cities can only be matched by their coordinates, which one of the matrices lacks");
  const pairs: { readonly a: number; readonly b: number }[] = [];
  const taken = new Set<number>();
  for (const [a, place] of before.coordinates.entries()) {
    const b = nearestFree(place, after.coordinates, taken);
    if (b === undefined) continue;
    taken.add(b);
    pairs.push({ a, b });
  }
  if (pairs.length < CITIES_MIN)
    throw new RangeError(
      `the two matrices have ${pairs.length} cities in common, expected at least ${CITIES_MIN}`,
    );
  const part = (matrix: RttMatrix, of: "a" | "b"): RttMatrix => ({
    names: pairs.map(({ a }) => before.names[a] as string),
    coordinates: pairs.map(({ a }) => before.coordinates?.[a] ?? null),
    size: pairs.length,
    rttMs: (from, to) =>
      matrix.rttMs(
        (pairs[from] as { a: number; b: number })[of],
        (pairs[to] as { a: number; b: number })[of],
      ),
  });
  return [part(before, "a"), part(after, "b")];
}

function nearestFree(
  place: Coordinates | null,
  others: readonly (Coordinates | null)[],
  taken: ReadonlySet<number>,
): number | undefined {
  let best: number | undefined;
  let bestKm = SAME_CITY_KM;
  for (const [index, other] of others.entries()) {
    if (place === null || other === null || taken.has(index)) continue;
    const km = greatCircleKm(place, other);
    if (km > bestKm) continue;
    best = index;
    bestKm = km;
  }
  return best;
}
