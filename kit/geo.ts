/** A place on the earth in degrees, WGS 84: latitude -90..90 (north positive), longitude -180..180 (east positive). */
export type Coordinates = { readonly latitude: number; readonly longitude: number };

/** Mean radius R1 of the earth, km. Source: GRS 80 (Moritz, Journal of Geodesy 74, 2000). */
export const EARTH_RADIUS_KM = 6371.0088;

/** Speed of light in vacuum, km/s. Source: the definition of the metre, CGPM 1983. */
export const LIGHT_KM_PER_SECOND = 299_792.458;

/**
 * Speed of light in fibre as a share of that in vacuum. Source: the group index of single-mode fibre is about 1.468
 * at 1550 nm (Corning SMF-28 data sheet), 0.68; 2/3 is the bound commonly used to locate hosts by delay
 * (Katz-Bassett et al., IMC 2006).
 */
export const FIBRE_SPEED_RATIO = 2 / 3;

/** Great-circle distance in km on the mean sphere, by the haversine formula. Off by at most 0.6 % from the ellipsoid. */
export function greatCircleKm(a: Coordinates, b: Coordinates): number {
  const radians = Math.PI / 180;
  const halfLatitude = ((b.latitude - a.latitude) * radians) / 2;
  const halfLongitude = ((b.longitude - a.longitude) * radians) / 2;
  const h =
    Math.sin(halfLatitude) ** 2 +
    Math.cos(a.latitude * radians) * Math.cos(b.latitude * radians) * Math.sin(halfLongitude) ** 2;
  // Rounding may carry h past 1 for antipodes.
  return 2 * EARTH_RADIUS_KM * Math.asin(Math.sqrt(Math.min(1, h)));
}

/** The least round-trip time in ms over `km` of straight fibre: no real path is faster, most take 1.5 to 3 times it. */
export function fibreRttMsMin(km: number): number {
  return (2 * km * 1000) / (LIGHT_KM_PER_SECOND * FIBRE_SPEED_RATIO);
}
