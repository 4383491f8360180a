import { describe, expect, test } from "vitest";
import {
  changesText,
  mapChanges,
  networkMoves,
  pathChanges,
  tierChanges,
} from "../../../mapping/core/map-changes.ts";
import { cluster, ranking, snapshotOf } from "./fixtures.ts";

const near = ranking(["fra", 10], ["iad", 90]);
const far = ranking(["iad", 40], ["fra", 95]);
const tier = (first: string, originClusterId: string | null = null) => ({
  edgeClusterId: cluster("fra"),
  originClusterId: originClusterId as never,
  parents: [{ clusterId: cluster(first), costMs: 7 }],
});
const path = (via: string | null, to = "org") => ({
  fromClusterId: cluster("fra"),
  toClusterId: cluster(to),
  candidates: [{ via: via as never, rttMs: 30, lossRatio: 0 }],
});
const before = snapshotOf(
  [
    { id: "berlin", prefixes: ["192.0.2.0/24"], ranking: near },
    { id: "gone", prefixes: ["198.51.100.0/24"], ranking: near },
    { id: "still", prefixes: ["203.0.113.0/24"], ranking: near },
  ],
  near,
  {
    tiers: [tier("ams"), tier("ams", "org")],
    paths: [path(null), path("rly", "far")],
    suspended: { iad: true } as never,
  },
);
// Another network in front of the others: numbers are not names.
const now = snapshotOf(
  [
    { id: "new", prefixes: ["10.0.0.0/8"], ranking: near },
    { id: "berlin", prefixes: ["192.0.2.0/24"], ranking: far },
    { id: "still", prefixes: ["203.0.113.0/24"], ranking: near },
  ],
  near,
  {
    mapVersion: 2,
    tiers: [tier("lon"), tier("ams", "org")],
    paths: [path("rly")],
    suspended: { fra: true } as never,
  },
);

describe("what differs between two maps", () => {
  test("is counted by class, and told in a line", () => {
    const changes = mapChanges(before, now);
    expect(changes).toEqual({
      networks: 3,
      networksAdded: 1,
      networksRemoved: 1,
      moved: { interactive: 1, bulk: 1, live: 1 },
      suspended: ["fra"],
      newlySuspended: ["fra"],
      noLongerSuspended: ["iad"],
      tiers: 1,
      paths: 2,
    });
    expect(changesText(changes)).toBe(
      "moved 1 interactive, 1 bulk, 1 live of 3 networks; 1 added, 1 removed; suspended fra (new); back iad; 1 first parents; 2 first paths",
    );
    expect(changesText(mapChanges(now, now))).toBe("nobody moved of 3 networks; suspended fra");
  });

  test("is shown by network with both clusters before and now", () => {
    const [move, ...more] = networkMoves(before, now, ["live"]);
    expect(more).toEqual([]);
    expect(move).toMatchObject({ clientNetworkId: "berlin", trafficClass: "live" });
    const rtts = [move?.from, move?.to].map((side) => [
      side?.clusterId,
      Math.round(side?.before?.terms.rttMs ?? 0),
      Math.round(side?.now?.terms.rttMs ?? 0),
    ]);
    expect(rtts).toEqual([
      ["fra", 10, 95],
      ["iad", 90, 40],
    ]);
    expect([...networkMoves(before, now)]).toHaveLength(3);
  });

  test("names first parents and first paths, those that are gone too", () => {
    expect(tierChanges(before, now)).toEqual([
      {
        edgeClusterId: "fra",
        originClusterId: null,
        before: { clusterId: "ams", costMs: 7 },
        now: { clusterId: "lon", costMs: 7 },
      },
    ]);
    expect(pathChanges(before, now).map((one) => [one.toClusterId, one.before?.via, one.now?.via])).toEqual([
      ["org", null, "rly"],
      ["far", "rly", undefined],
    ]);
  });
});
