import { describe, expect, test } from "vitest";
import { type MapSnapshot, routeProblems } from "#kit";
import { snapshotProblems } from "#mapping";
import { refusalOf } from "../../../mapping/core/snapshot-check.ts";
import { ranking, snapshotOf } from "./fixtures.ts";

const networks = Array.from({ length: 12 }, (_, n) => ({
  id: `net-${n}`,
  prefixes: [`10.0.${n}.0/24`],
  ranking: ranking(
    ...(["fra", "iad", "sin", "gru"] as const)
      .map((id, c) => [id, 10 + ((c + n) % 4) * 20] as const)
      .sort((a, b) => a[1] - b[1]),
  ),
}));
const fallback = ranking(["fra", 50], ["iad", 60], ["sin", 70], ["gru", 80]);
const inForce = snapshotOf(networks, fallback);
const make = (rest: Partial<MapSnapshot>, some = networks): MapSnapshot =>
  snapshotOf(some, fallback, { mapVersion: 2, ...rest });
const with1 = (terms: object, score = 10): MapSnapshot => {
  const one = {
    ...ranking(["fra", score])[0],
    terms: { rttMs: 10, lossRatio: 0, load: 0, confidence: 1, ...terms },
  };
  return make({}, [
    { ...(networks[0] as (typeof networks)[0]), ranking: [one as never] },
    ...networks.slice(1),
  ]);
};

test.each<[string, MapSnapshot, readonly string[]]>([
  ["the next version of the same", make({}), []],
  ["half of the networks", make({}, networks.slice(0, 6)), []],
  ["one cluster suspended", make({ suspended: { fra: true } as never }), []],
  ["no network at all", make({}, []), ["emptied", "shrunk", "prefixes-shrunk"]],
  ["less than half of the networks", make({}, networks.slice(0, 5)), ["shrunk", "prefixes-shrunk"]],
  ["a version that is not newer", make({ mapVersion: 1 }), ["version-not-newer"]],
  [
    "everyone to one place",
    make(
      {},
      networks.map((one) => ({ ...one, ranking: ranking(["fra", 1], ["iad", 2], ["sin", 3], ["gru", 4]) })),
    ),
    ["one-cluster-for-all"],
  ],
  [
    "most clusters suspended",
    make({ suspended: { fra: true, iad: true, sin: true } as never }),
    ["mostly-suspended"],
  ],
  ["a metric that is no number", with1({ rttMs: Number.NaN }), ["metric-not-a-number"]],
  ["a negative metric", with1({ lossRatio: -0.1 }), ["metric-not-a-number"]],
  ["an infinite score", with1({}, Infinity), ["metric-not-a-number"]],
])("%s", (_what, next, reasons) => {
  expect(snapshotProblems(next, inForce).map((problem) => problem.reason)).toEqual(reasons);
});

test("all travel times zero", () => {
  const zero = ranking(["fra", 0], ["iad", 0]);
  const next = snapshotOf(
    networks.map((one) => ({ ...one, ranking: zero })),
    fallback,
    { mapVersion: 2 },
  );
  expect(snapshotProblems(next, undefined).map((problem) => problem.reason)).toEqual(["metric-all-zero"]);
});

test.each<[string, MapSnapshot, readonly number[]]>([
  ["nothing", make({}), []],
  ["one that has an absurd figure", with1({ rttMs: Number.NaN }), [0]],
  [
    "all, to one place",
    make(
      {},
      networks.map((one) => ({ ...one, ranking: ranking(["fra", 1], ["iad", 2], ["sin", 3], ["gru", 4]) })),
    ),
    [...networks.keys()],
  ],
  [
    "all, to travel times of zero",
    make(
      {},
      networks.map((one) => ({
        ...one,
        ranking: ranking(["fra", 0]).map((entry) => ({ ...entry, terms: { ...entry.terms, rttMs: 0 } })),
      })),
    ),
    [...networks.keys()],
  ],
])("who is told what has changed, %s, says what a look at everybody says", (_, next, changed) => {
  const { networks: table } = next.clusterMap.table();
  const numbers = changed.map((n) => table.indexOf(`net-${n}` as never) as number);
  const told = snapshotProblems(next, inForce, numbers);
  // Another object, so that nothing is remembered of the first look.
  const again = { ...next, clusterMap: next.clusterMap.withVersion(next.mapVersion) };
  expect(told).toEqual(snapshotProblems(again, inForce));
  // And the next one counts on from it.
  const third = { ...next, mapVersion: 3, clusterMap: next.clusterMap.withVersion(3) };
  expect(snapshotProblems(third, next, [])).toEqual(
    snapshotProblems({ ...third, clusterMap: next.clusterMap.withVersion(3) }, next),
  );
});

test("one of two clusters for everyone is no surprise", () => {
  const two = networks.map((one, n) => ({ ...one, ranking: ranking([n % 2 === 0 ? "fra" : "iad", 1]) }));
  const next = networks.map((one) => ({ ...one, ranking: ranking(["fra", 1]) }));
  const pair = ranking(["fra", 50], ["iad", 60]);
  const problems = snapshotProblems(snapshotOf(next, pair, { mapVersion: 2 }), snapshotOf(two, pair));
  expect(problems).toEqual([]);
});

test("the first snapshot is compared with nothing", () => {
  expect(snapshotProblems(make({}, networks.slice(0, 1)), undefined)).toEqual([]);
});

const path = (rttMs: number, fromClusterId = "fra") => ({
  fromClusterId: fromClusterId as never,
  toClusterId: "org" as never,
  candidates: [{ via: null, rttMs, lossRatio: 0 }],
});
const paths = ["fra", "iad", "sin", "gru"].map((from) => path(10, from));

describe("who receives a map", () => {
  const good = make({ paths });
  const few = make({ mapVersion: 3, paths }, networks.slice(0, 3));
  const hourMs = 3_600_000;

  test.each<[string, MapSnapshot, readonly string[]]>([
    ["no path any more", make({ paths: [] }), ["paths-emptied"]],
    [
      "paths that take no time",
      make({ paths: paths.map(({ fromClusterId }) => path(0, fromClusterId)) }),
      ["paths-all-zero"],
    ],
    [
      "most clusters suspended",
      make({ paths, suspended: { fra: true, iad: true, sin: true } as never }),
      ["mostly-suspended"],
    ],
    ["the next one", good, []],
  ])("asks of its routes alone: %s", (_what, next, reasons) => {
    expect(routeProblems(next, good).map(({ reason }) => reason)).toEqual(reasons);
  });

  test("refuses a shrunken map, unless an operator answers for it or the one in force is an hour old", () => {
    expect(refusalOf(few, good)?.reason).toBe("shrunk");
    expect(
      refusalOf(make({ ...rest(few), isChangeAccepted: true }, networks.slice(0, 3)), good),
    ).toBeUndefined();
    expect(refusalOf(make({ ...rest(few), reason: "rollback" }, networks.slice(0, 3)), good)).toBeUndefined();
    expect(
      refusalOf(make({ ...rest(few), createdAtEpochMs: hourMs + 1 }, networks.slice(0, 3)), good),
    ).toBeUndefined();
    expect(refusalOf(few, undefined)).toBeUndefined();
  });

  test("leaves the order of versions to those who keep documents, and no absurd figure to anybody", () => {
    expect(refusalOf(make({ mapVersion: 1, paths }), good)).toBeUndefined();
    expect(
      refusalOf(make({ ...rest(with1({ rttMs: -1 })), isChangeAccepted: true }, []), undefined)?.reason,
    ).toBe("emptied");
    expect(refusalOf(with1({ rttMs: -1 }), undefined)?.reason).toBe("metric-not-a-number");
  });
});

function rest({ mapVersion, paths: own }: MapSnapshot): Partial<MapSnapshot> {
  return { mapVersion, paths: own };
}
