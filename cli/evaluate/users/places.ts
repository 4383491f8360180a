/** Cities of the world with their part of it: those of a measured matrix, and those where large CDNs stand. */
import { join } from "node:path";
import {
  array,
  type Coordinates,
  greatCircleKm,
  IsochroneError,
  number,
  object,
  oneOf,
  ParseError,
  record,
  string,
} from "#kit";
import { readFileIfThere } from "#kit/io";
import type { RttMatrix } from "../matrix.ts";

export const parts = [
  "Africa",
  "Asia Pacific",
  "Europe",
  "Middle East",
  "North America",
  "Oceania",
  "South America",
] as const;
export type Part = (typeof parts)[number];

export interface City {
  readonly name: string;
  readonly coordinates: Coordinates;
  readonly part: Part;
  /** Index in the matrix; null: nothing was measured there. */
  readonly measured: number | null;
}

/** Two places closer than this are one city, km: airports stand for cities in the lists. */
const SAME_CITY_KM = 40;
const FILE_BYTES_MAX = 2 ** 20;
const degrees = (max: number) => number({ min: -max, max, unit: "degrees" });
const cloudflareList = array(
  object({
    cca2: string({ min: 0, max: 2 }),
    city: string({ min: 0, max: 200 }),
    iata: string({ min: 0, max: 4 }),
    lat: degrees(90),
    lon: degrees(180),
    region: oneOf(parts),
  }),
  { min: 1, max: 2_000 },
);
const cloudFrontList = record(
  string({ min: 0, max: 8 }),
  object({
    city: string({ min: 0, max: 200 }),
    country: string({ min: 0, max: 200 }),
    countryCode: string({ min: 0, max: 2 }),
    latitude: degrees(90),
    longitude: degrees(180),
    pricingRegion: string({ min: 0, max: 200 }),
  }),
  { max: 2_000 },
);

/**
 * Measured cities first, in the order of the matrix, then those of Cloudflare's and CloudFront's lists (`pops/`) that are not
 * among them. A city without a part of its own is in that of the nearest one of Cloudflare's.
 *
 * @param matrix with coordinates; null for a city whose label is not believed, which is left out
 */
export function readCities(directory: string, matrix: RttMatrix): City[] {
  const cloudflare = readJson(join(directory, "pops", "cloudflare-locations.json"), cloudflareList);
  const cloudFront = readJson(join(directory, "pops", "aws-edge-locations.json"), cloudFrontList);
  const labelled = cloudflare.map(({ city, lat, lon, region }) => ({
    name: city,
    coordinates: { latitude: lat, longitude: lon },
    part: region,
  }));
  const cities: City[] = [];
  for (const [index, coordinates] of matrix.coordinates?.entries() ?? []) {
    if (coordinates === null) continue;
    const { part } = nearest(labelled, coordinates).place;
    cities.push({ name: matrix.names[index] ?? "", coordinates, part, measured: index });
  }
  const add = (name: string, coordinates: Coordinates, part: Part): void => {
    if (cities.length > 0 && nearest(cities, coordinates).km < SAME_CITY_KM) return;
    cities.push({ name, coordinates, part, measured: null });
  };
  for (const { name, coordinates, part } of labelled) add(name, coordinates, part);
  for (const { city, latitude, longitude } of Object.values(cloudFront)) {
    const coordinates = { latitude, longitude };
    add(city, coordinates, nearest(labelled, coordinates).place.part);
  }
  return cities;
}

function nearest<P extends { readonly coordinates: Coordinates }>(
  places: readonly P[],
  coordinates: Coordinates,
): { readonly place: P; readonly km: number } {
  let best = places[0] as P;
  let km = Infinity;
  for (const place of places) {
    const distance = greatCircleKm(place.coordinates, coordinates);
    if (distance >= km) continue;
    best = place;
    km = distance;
  }
  return { place: best, km };
}

function readJson<T>(path: string, schema: { parse(value: unknown): T }): T {
  const refused = (why: string): IsochroneError =>
    new IsochroneError(`Cannot read the list of places ${JSON.stringify(path)}: ${why}`, {
      code: "bad-places",
      source: "configuration",
      retry: "never",
    });
  const bytes = readFileIfThere(path, FILE_BYTES_MAX);
  if (bytes === undefined) throw refused("there is no such file");
  try {
    return schema.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (cause) {
    if (cause instanceof SyntaxError || cause instanceof ParseError) throw refused(cause.message);
    throw cause;
  }
}
