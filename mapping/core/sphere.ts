/** Places as vectors on the unit sphere: where distances are computed by the million. */
import { type Coordinates, EARTH_RADIUS_KM } from "#kit";

export type Vector = readonly [x: number, y: number, z: number];

export function vectorOf({ latitude, longitude }: Coordinates): Vector {
  const radians = Math.PI / 180;
  const across = Math.cos(latitude * radians);
  return [
    across * Math.cos(longitude * radians),
    across * Math.sin(longitude * radians),
    Math.sin(latitude * radians),
  ];
}

/** The great circle, from the chord. Within 0.1 m of `greatCircleKm`, but near the antipode, where it is within 100 m. */
export function kmBetween(a: Vector, b: Vector): number {
  const chord = Math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2);
  return 2 * EARTH_RADIUS_KM * Math.asin(Math.min(1, chord / 2));
}
