import { describe, expect, test } from "vitest";
import { placedSites } from "#mapping";
import { geographyRttMs } from "../../../mapping/core/estimator.ts";
import { believedPlace, type Sighting } from "../../../mapping/core/locate.ts";

const places = {
  paris: { latitude: 48.9, longitude: 2.35 },
  london: { latitude: 51.5, longitude: -0.1 },
  newYork: { latitude: 40.7, longitude: -74 },
  tokyo: { latitude: 35.7, longitude: 139.7 },
  sydney: { latitude: -33.9, longitude: 151.2 },
};
const { paris, london, newYork, tokyo, sydney } = places;
const all = Object.values(places);
/** What somebody at `place` measures, `ratio` times as slow as is usual. */
const seenFrom = (place: typeof paris, from: readonly (typeof paris)[], ratio = 1): Sighting[] =>
  from.map((coordinates) => ({ coordinates, rttMs: geographyRttMs(place, coordinates) * ratio }));

describe("a network's place", () => {
  test("is its label as long as nothing speaks against it, a bad access included", () => {
    expect(believedPlace(paris, [], all)).toEqual({ coordinates: paris, source: "label" });
    expect(believedPlace(paris, seenFrom(paris, [london, newYork, tokyo], 2), all).source).toBe("label");
  });
  test("cannot be where light would be too slow: it is where the times fit", () => {
    const sightings = seenFrom(tokyo, [tokyo, sydney, newYork]);
    expect(believedPlace(paris, sightings, all)).toEqual({ coordinates: tokyo, source: "measured" });
    expect(believedPlace(null, sightings, all)).toEqual({ coordinates: tokyo, source: "measured" });
  });
  test("is doubted when everything near is far, and another place explains it", () => {
    // Nothing is too fast for Paris: only sites near the label were measured.
    const sightings = seenFrom(sydney, [paris, london, { latitude: 52.4, longitude: 4.9 }]);
    expect(believedPlace(paris, sightings, [...all]).source).toBe("measured");
    expect(believedPlace(paris, sightings.slice(0, 2), all).source).toBe("label");
    expect(believedPlace(paris, sightings, [paris, london])).toEqual({ coordinates: paris, source: "label" });
  });
  test("is unknown when nothing fits", () => {
    expect(believedPlace(null, [], all)).toEqual({ coordinates: null, source: "unknown" });
    expect(believedPlace(paris, [{ coordinates: tokyo, rttMs: 1 }], [paris]).source).toBe("unknown");
  });
});

test("a site whose label cannot be true is put where its links fit", () => {
  const truth = { p: paris, l: london, n: newYork, t: tokyo, s: sydney };
  const sites = (Object.keys(truth) as (keyof typeof truth)[]).map((clusterId) => ({
    clusterId,
    coordinates: clusterId === "l" ? sydney : truth[clusterId],
  }));
  const rttMs = (a: keyof typeof truth, b: keyof typeof truth) => geographyRttMs(truth[a], truth[b]);
  const found = placedSites(sites, rttMs, [london]);
  expect(found.find((site) => site.clusterId === "l")?.coordinates).toEqual(london);
  expect(found.filter((site) => site.clusterId !== "l")).toEqual(sites.filter((s) => s.clusterId !== "l"));
});

test("two liars on one coast do not take an honest site beyond the sea with them", () => {
  // Where they are, and what their labels say: two that stand in the west of America, as Portland and San Jose of WonderNetwork.
  const truly = {
    osaka: { latitude: 34.7, longitude: 135.5 },
    taipei: { latitude: 25, longitude: 121.5 },
    portland: { latitude: 45.5, longitude: -122.7 },
    sanJose: { latitude: 37.3, longitude: -121.9 },
    chicago: { latitude: 41.9, longitude: -87.7 },
    miami: { latitude: 25.8, longitude: -80.2 },
  };
  const labels: typeof truly = {
    ...truly,
    portland: { latitude: 18.1, longitude: -76.5 },
    sanJose: { latitude: 9.9, longitude: -84.1 },
  };
  type Name = keyof typeof truly;
  const names = Object.keys(truly) as Name[];
  // A straight cable, so that the labels are too far for light.
  const rttMs = (a: Name, b: Name) => (a === b ? 0 : geographyRttMs(truly[a], truly[b]) * 0.75);
  const found = placedSites(
    names.map((clusterId) => ({ clusterId, coordinates: labels[clusterId] })),
    rttMs,
    [],
  );
  const placeOf = (name: Name) => found.find(({ clusterId }) => clusterId === name)?.coordinates;
  for (const honest of ["osaka", "taipei", "chicago", "miami"] as const)
    expect(placeOf(honest), honest).toEqual(truly[honest]);
  for (const liar of ["portland", "sanJose"] as const) expect(placeOf(liar), liar).toEqual(truly.chicago);
});
