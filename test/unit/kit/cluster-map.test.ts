import { expect, test } from "vitest";
import {
  type ClientNetworkEntry,
  ClientNetworkTable,
  ClusterMapBuilder,
  clusterMapOf,
  decodeClusterMap,
  networkNameOf,
  PackedClusterMap,
  ParseError,
} from "#kit";
import { fromBase64, toBase64 } from "../../../kit/base64.ts";
import { type CandidateRow } from "../../../kit/documents/cluster-map/candidate-rows.ts";

test("base64 of RFC 4648, section 10, and nothing that is not canonical", () => {
  const texts = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
  for (const [length, text] of texts.entries()) {
    const bytes = new TextEncoder().encode("foobar".slice(0, length));
    expect(toBase64(bytes)).toBe(text);
    expect(fromBase64(text)).toEqual(bytes);
  }
  for (const text of ["Zh==", "Zm9=", "Zg=", "Zg", "=", "====", "Zm 9", "Zm9v\n", "Zm-_", "Zmé="])
    expect(fromBase64(text)).toBeUndefined();
});

const clusters = ["fra", "iad", "sin"].map((clusterId) => ({ clusterId: clusterId as never, load: 0.5 }));
const networks = ClientNetworkTable.of([
  { clientNetworkId: "late" as never, prefixes: ["2001:db8::/32", "192.0.2.0/24"] },
  { clientNetworkId: "early" as never, prefixes: ["10.0.0.0/8"] },
]);
const orders = (scores: number[]): CandidateRow["orders"] => {
  const one = { length: 3, positions: [2, 0, 1], scores };
  return [one, one, { length: 2, positions: [1, 0], scores: [1, 2] }];
};
const row: CandidateRow = {
  count: 3,
  clusters: [0, 1, 2],
  rttMs: [10, 20, 5],
  lossRatio: [0, 0.5, 1],
  confidence: [1, 0.5, 0],
  orders: orders([5, 10, 20]),
};

test("client networks are numbered by their lowest prefix", () => {
  expect(networks.ids).toEqual(["early", "late"]);
  expect(networks.prefixesOf(1)).toEqual(["192.0.2.0/24", "2001:db8::/32"]);
  expect(networks.indexOf("late" as never)).toBe(1);
});

test.each<[string, readonly (readonly [string, readonly string[]])[], string]>([
  [
    "a prefix of two networks",
    [
      ["a", ["10.0.0.0/8"]],
      ["b", ["10.0.0.0/8"]],
    ],
    "10.0.0.0/8 belongs to more than one",
  ],
  ["host bits", [["a", ["10.0.0.1/8"]]], "which is none"],
  ["a network without a prefix", [["a", []]], "has no prefix"],
  [
    "a name twice",
    [
      ["a", ["10.0.0.0/8"]],
      ["a", ["11.0.0.0/8"]],
    ],
    '"a" occurs more than once',
  ],
])("client networks: refuses %s", (_what, given, words) => {
  const entries = given.map(([clientNetworkId, prefixes]) => ({
    clientNetworkId: clientNetworkId as never,
    prefixes,
  }));
  expect(() => ClientNetworkTable.of(entries)).toThrow(words);
});

test("who was passed over costs at least what the chosen one costs, and keeps its place behind it", () => {
  const builder = new ClusterMapBuilder({ mapVersion: 1, networks, clusters, limitNames: ["uplink"] });
  const first = builder.row(row);
  expect(builder.row({ ...row, clusters: [0, 1, 2, 99] })).toBe(first);
  builder.place(0, first, [1, 0, 0], [3, 1, 1], [0, -1, -1]);
  builder.place(1, first);
  builder.placeFallback(first);
  const map = builder.build();
  const ranking = map.ranking(0, "interactive");
  expect(ranking.map(({ clusterId }) => clusterId)).toEqual(["fra", "sin", "iad"]);
  expect(ranking[1]?.score).toBe(ranking[0]?.score);
  expect(ranking[2]?.score).toBeCloseTo(20, 0);
  expect(ranking[1]?.terms).toMatchObject({ lossRatio: 1, confidence: 0, load: 0.5 });
  expect([0, 1, 2].map((place) => map.clusterAt(0, 0, place))).toEqual([0, 2, 1]);
  expect(map.ranking(1, "live").map(({ clusterId }) => clusterId)).toEqual(["iad", "fra"]);
  expect(map.reason(0, "interactive")).toEqual({ reason: "spilled", limitName: "uplink" });
  expect(map.reason(1, "bulk")).toEqual({ reason: "unknown", limitName: null });
});

test("a map that follows another differs where it was told to, and the other one stays", () => {
  const builder = new ClusterMapBuilder({ mapVersion: 1, networks, clusters });
  const first = builder.row(row);
  for (const network of [0, 1, 2]) builder.place(network, first);
  const before = builder.build();
  const change = (isNewRow: boolean) => {
    const next = new ClusterMapBuilder({ mapVersion: 2, networks, clusters }, before);
    if (isNewRow) next.place(0, next.row({ ...row, rttMs: [99, 20, 5] }));
    else next.place(0, first, [1, 0, 0]);
    return next.build();
  };
  expect(change(false).ranking(0, "interactive")[0]?.clusterId).toBe("fra");
  const after = change(true);
  expect(after.ranking(0, "interactive")[1]?.terms.rttMs).toBeCloseTo(99, 0);
  // The new row is the first one used: rows are numbered anew, and the others follow.
  expect(after.ranking(1, "live")).toEqual(before.ranking(1, "live"));
  expect(before.ranking(0, "interactive")[1]?.terms.rttMs).toBeCloseTo(10, 1);
  expect(
    () => new ClusterMapBuilder({ mapVersion: 2, networks, clusters: clusters.slice(1) }, before),
  ).toThrow("the same client networks, clusters and limits");
});

test.each<[string, Partial<CandidateRow>, string]>([
  ["scores that fall", { orders: orders([5, 20, 10]) }, "Scores ascend"],
  ["a cluster twice", { clusters: [0, 0, 2] }, "a cluster more than once"],
  ["a cluster that is not there", { clusters: [0, 1, 3] }, "no cluster 3 of 3"],
  ["too many candidates", { count: 65 }, "1 to 64 candidates"],
  [
    "a candidate that nobody ranks",
    { count: 3, orders: [0, 1, 2].map(() => ({ length: 1, positions: [0], scores: [1] })) as never },
    "ranked by no class",
  ],
])("a row: refuses %s", (_what, change, words) => {
  const builder = new ClusterMapBuilder({ mapVersion: 1, networks, clusters });
  expect(() => builder.row({ ...row, ...change })).toThrow(words);
});

test("equal maps are equal bytes, whatever order they were written in", () => {
  const ranked = (ids: readonly string[]) => {
    const list = ids.map((id, n) => ({
      clusterId: id as never,
      score: n + 1,
      terms: { rttMs: n + 1, lossRatio: 0, load: 0, confidence: 1 },
    }));
    return { interactive: list, bulk: list, live: list };
  };
  const one: ClientNetworkEntry[] = [
    { clientNetworkId: "a" as never, prefixes: ["10.0.0.0/9", "11.0.0.0/8"], clusters: ranked(["x", "y"]) },
    { clientNetworkId: "b" as never, prefixes: ["10.0.0.0/8"], clusters: ranked(["y"]) },
  ];
  const other = [one[1]!, { ...one[0]!, prefixes: one[0]!.prefixes.toReversed() }];
  const [a, b] = [one, other].map((clientNetworks) =>
    PackedClusterMap.of(clusterMapOf({ mapVersion: 3, clientNetworks, fallback: ranked(["x"]) })),
  );
  expect(a?.toJSON()).toBe(b?.toJSON());
  const carried = PackedClusterMap.ofText(a!.toJSON());
  expect([carried.mapVersion, carried.isDecoded]).toEqual([3, false]);
  expect(carried.table().networks.ids).toEqual(["b", "a"]);
  expect(() => PackedClusterMap.ofText("Zm9v", ["clusterMap"])).toThrow(ParseError);
});

test("a map of the first form, with every name written out, is still read", () => {
  // Encoded by the code that wrote that form: two networks, the second one with the name of its prefix.
  const text =
    "SUNNMQAAAAAAAAADFAA0HCz3MzM2xGae5mZmgFCgGAIAABYsZskAOyscAyweANYVfRfXPkjXYcFFg8VjRqAeljAsYFjAH8saNQD0sYFjAsYAeWMB4sSxLGAAEAAIAADZ22wQeZKm1A==";
  const table = PackedClusterMap.ofText(text).table();
  expect(table.networks.ids).toEqual(["old-one", networkNameOf("198.51.100.0/24")]);
  const again = PackedClusterMap.of(table);
  expect(again.toJSON()).not.toBe(text);
  expect(again.table().networks.ids).toEqual(table.networks.ids);
  expect(decodeClusterMap(again.bytes()).networks.ids).toEqual(table.networks.ids);
});
