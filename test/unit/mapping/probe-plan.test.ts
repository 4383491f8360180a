import { describe, expect, test } from "vitest";
import { type ProbePeer, ProbePlanner } from "#mapping";
import { geographyRttMs } from "../../../mapping/core/estimator.ts";

const places = {
  paris: { latitude: 48.9, longitude: 2.35 },
  frankfurt: { latitude: 50.1, longitude: 8.7 },
  madrid: { latitude: 40.4, longitude: -3.7 },
  newYork: { latitude: 40.7, longitude: -74 },
  chicago: { latitude: 41.9, longitude: -87.6 },
  tokyo: { latitude: 35.7, longitude: 139.7 },
};
type Site = keyof typeof places;
const names = Object.keys(places) as Site[];
const sites = names.map((clusterId) => ({ clusterId, coordinates: places[clusterId] }));
const rttMs = (a: Site, b: Site) => geographyRttMs(places[a], places[b]);
const brussels = { latitude: 50.8, longitude: 4.4 };
const from = (place: typeof brussels, to: readonly Site[]) =>
  new Map(to.map((site) => [site, geographyRttMs(place, places[site])]));

/** The order in which a network that sees what `truth` says is measured. */
function order(planner: ProbePlanner<Site>, label: typeof brussels | null, truth: ReadonlyMap<Site, number>) {
  const measured = new Map<Site, number>();
  const gains: number[] = [];
  for (;;) {
    const choice = planner.next({ id: "x", coordinates: label, measured });
    if (choice === undefined) return { order: [...measured.keys()], gains };
    gains.push(choice.gainMs);
    measured.set(choice.clusterId, truth.get(choice.clusterId) ?? Infinity);
  }
}

describe("what to measure next", () => {
  test("where the label is true the near sites come first, and less and less is expected", () => {
    const found = order(new ProbePlanner(sites, rttMs, []), brussels, from(brussels, names));
    expect(found.order).toHaveLength(names.length);
    expect(new Set(found.order.slice(0, 2))).toEqual(new Set(["paris", "frankfurt"]));
    expect(found.gains[0]).toBeGreaterThan(200);
    expect(found.gains[3]).toBeLessThan(1);
  });
  test("one answer that does not fit is enough to leave a wrong label", () => {
    const truth = from(places.chicago, names);
    const found = order(new ProbePlanner(sites, rttMs, []), brussels, truth);
    expect(found.order.indexOf("chicago")).toBeLessThanOrEqual(2);
  });
  test("without labels peers that see the same promise the rest", () => {
    const bare = sites.map(({ clusterId }) => ({ clusterId, coordinates: null }));
    const peers: ProbePeer<Site>[] = [brussels, places.tokyo, places.newYork].map((place, n) => ({
      id: `peer-${n}`,
      coordinates: null,
      rttMs: from(place, names),
    }));
    const planner = new ProbePlanner<Site>(bare, () => undefined, peers);
    const measured = from(places.tokyo, ["madrid", "chicago"]);
    expect(planner.next({ id: "x", coordinates: null, measured })?.clusterId).toBe("tokyo");
    // Its own figures among the peers say nothing new.
    expect(planner.next({ id: "peer-1", coordinates: null, measured })?.clusterId).not.toBe("tokyo");
  });
  test("sites that did not answer promise nothing more, and all measured is the end", () => {
    const planner = new ProbePlanner(sites, rttMs, []);
    const silent = new Map(names.map((site) => [site, Infinity]));
    expect(planner.next({ id: "x", coordinates: brussels, measured: silent })).toBeUndefined();
    silent.delete("tokyo");
    const last = planner.next({ id: "x", coordinates: brussels, measured: silent });
    expect(last?.clusterId).toBe("tokyo");
    expect(last?.gainMs).toBeGreaterThan(0);
  });
});
