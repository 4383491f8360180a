import { describe, expect, test } from "vitest";
import type { ServerId } from "#kit";
import { cacheKey, parseAbsoluteUri, purgeKeys } from "../../../edge/core/cache-key.ts";
import { appendCacheStatus, formatCacheStatus } from "../../../edge/core/cache-status.ts";
import { endToEndFields, listMembers } from "../../../edge/core/headers.ts";
import { appendLoop, appendVia, isLoop } from "../../../edge/core/loops.ts";
import { ownersOf } from "../../../edge/core/owner.ts";
import { PurgeIndex } from "../../../edge/core/purge-index.ts";
import { RANGE_PARTS_MAX, requestedRanges, resolveRanges } from "../../../edge/core/range.ts";
import { tagsOf } from "../../../edge/core/tags.ts";
import { at } from "./support.ts";

describe("fields", () => {
  test("hop-by-hop and nominated fields go, framing goes, important ones cannot be nominated away (RFC 9110, 7.6.1)", () => {
    const kept = endToEndFields([
      ["Connection", "X-A, Cookie, close"],
      ["X-A", "1"],
      ["Cookie", "c"],
      ["Transfer-Encoding", "chunked"],
      ["Content-Length", "3"],
      ["TE", "trailers"],
      ["Bad Name", "1"],
      ["Ok", "a\nb"],
      ["Fine", "v"],
    ]);
    expect(kept).toEqual([
      ["Cookie", "c"],
      ["Fine", "v"],
    ]);
  });
  test("commas in quoted strings do not split a list", () => {
    expect(listMembers('a, "b, \\" c" , ,d')).toEqual(["a", '"b, \\" c"', "d"]);
  });
});

describe("keys", () => {
  const of = (target: string, keyQuery: "all" | "sorted" | "none") =>
    cacheKey({ scheme: "http", host: "a", target }, { keyQuery });
  test("the query is keyed as the policy says", () => {
    expect(of("/x?b=2&a=1&b=1", "all")).toBe("http://a/x?b=2&a=1&b=1");
    expect(of("/x?b=2&a=1&b=1", "sorted")).toBe("http://a/x?a=1&b=2&b=1");
    expect(of("/x?b", "none")).toBe("http://a/x");
  });
  test("a purge means both schemes, the canonical host, and what the key holds of the query", () => {
    expect(purgeKeys("http://A.example:80/x?b&a#f", { keyQuery: "sorted" })).toEqual([
      "http://a.example/x?a&b",
      "https://a.example/x?a&b",
    ]);
    expect(purgeKeys("ftp://a/", { keyQuery: "all" })).toEqual([]);
    expect(parseAbsoluteUri("http://user@a/")).toBeUndefined();
    expect(parseAbsoluteUri("http://a")?.target).toBe("/");
  });
});

test("Cache-Status (RFC 9211)", () => {
  expect(formatCacheStatus({ cache: "fra-1", isHit: true, ttlSeconds: -3 })).toBe("fra-1; hit; ttl=-3");
  expect(
    formatCacheStatus({
      cache: "fra 1",
      isHit: false,
      fwd: "stale",
      fwdStatus: 304,
      isStored: true,
      isCollapsed: true,
      key: 'a"b',
      detail: "x y",
    }),
  ).toBe('"fra 1"; fwd=stale; fwd-status=304; stored; collapsed; key="a\\"b"; detail="x y"');
  expect(appendCacheStatus("par-1; hit", { cache: "fra-1", isHit: false, fwd: "uri-miss" })).toBe(
    "par-1; hit, fra-1; fwd=uri-miss",
  );
});

test("CDN-Loop and Via", () => {
  expect(isLoop([["CDN-Loop", "a, fra-1; v=1"]], "fra-1")).toBe(true);
  expect(
    isLoop(
      [
        ["CDN-Loop", "a"],
        ["CDN-Loop", "fra-12"],
      ],
      "fra-1",
    ),
  ).toBe(false);
  expect(isLoop([["CDN-Loop", Array.from({ length: 20 }, (_, n) => `c${n}`).join(",")]], "fra-1")).toBe(true);
  expect(appendLoop([["CDN-Loop", "a"]], "fra-1")).toBe("a, fra-1");
  expect(appendVia([], "1.0", "fra-1")).toBe("1.0 fra-1");
});

test.each<[string, number, unknown]>([
  ["bytes=0-4", 10, [[0, 4]]],
  ["bytes=5-", 10, [[5, 9]]],
  ["bytes=5-99", 10, [[5, 9]]],
  ["bytes=-3", 10, [[7, 9]]],
  ["bytes=-30", 10, [[0, 9]]],
  ["bytes=-0", 10, "unsatisfiable"],
  ["bytes=10-", 10, "unsatisfiable"],
  ["bytes=0-0", 0, "unsatisfiable"],
  ["bytes=4-2", 10, undefined],
  // Section 5.6.1.2: a recipient ignores empty members.
  [
    "bytes=0-1, ,\t,300-301",
    1_000,
    [
      [0, 1],
      [300, 301],
    ],
  ],
  ["bytes=", 10, undefined],
  ["bytes=,", 10, undefined],
  ["bytes=0-1,x", 10, undefined],
  ["items=0-1", 10, undefined],
  ["bytes=a-b", 10, undefined],
  // Overlapping, touching and nearly touching ones are one part (section 15.3.7.2).
  ["bytes=0-1,3-4", 10, [[0, 4]]],
  ["bytes=0-9,5-20,21-30", 1_000, [[0, 30]]],
  [
    "bytes=0-0,81-81",
    1_000,
    [
      [0, 0],
      [81, 81],
    ],
  ],
  ["bytes=0-0,80-80", 1_000, [[0, 80]]],
  // In the order of asking; what cannot be satisfied drops out.
  [
    "bytes=-1,500-501,2000-,0-0",
    1_000,
    [
      [999, 999],
      [500, 501],
      [0, 0],
    ],
  ],
  // A bridge joins what was apart.
  ["bytes=0-99,900-999,50-950", 1_000, [[0, 999]]],
])("ranges %s of %i bytes (RFC 9110, 14)", (value, size, expected) => {
  const ranges = requestedRanges([["Range", value]]);
  const spans = ranges && resolveRanges(ranges, size);
  expect(Array.isArray(spans) ? spans.map(({ first, last }) => [first, last]) : spans).toEqual(expected);
});

test("more parts than RANGE_PARTS_MAX are refused, as many overlapping ones are one (RFC 9110, 14.2)", () => {
  const resolve = (specs: readonly string[]): unknown => {
    const ranges = requestedRanges([["Range", `bytes=${specs.join(",")}`]]);
    return ranges && resolveRanges(ranges, 1e6);
  };
  const apart = (count: number): string[] =>
    Array.from({ length: count }, (_, n) => `${n * 1_000}-${n * 1_000}`);
  expect(resolve(apart(RANGE_PARTS_MAX))).toHaveLength(RANGE_PARTS_MAX);
  expect(resolve(apart(RANGE_PARTS_MAX + 1))).toBe("unsatisfiable");
  expect(resolve(Array.from({ length: 1_001 }, (_, n) => `${n}-`))).toEqual([{ first: 0, last: 999_999 }]);
});

test("tags: both fields, unique, bounded", () => {
  expect(
    tagsOf([
      ["Surrogate-Key", "a b  a"],
      ["Cache-Tag", "b, c"],
    ]),
  ).toEqual(["a", "b", "c"]);
  expect(tagsOf([["Surrogate-Key", Array.from({ length: 500 }, (_, n) => `t${n}`).join(" ")]])).toHaveLength(
    128,
  );
});

describe("purge index", () => {
  test("hits what is older, by key and by tag of the same scope, and nothing newer", () => {
    const index = new PurgeIndex();
    index.apply(5, "p1", { keys: ["k"], tags: ["t"] }, "hard");
    expect(index.stateOf("p1", "k", { generation: 4, tags: [] })).toBe("hard");
    expect(index.stateOf("p1", "k", { generation: 5, tags: [] })).toBe("none");
    expect(index.stateOf("p1", "other", { generation: 4, tags: ["t"] })).toBe("hard");
    expect(index.stateOf("p2", "other", { generation: 4, tags: ["t"] })).toBe("none");
    index.apply(6, "p1", { keys: ["k"], tags: [] }, "soft");
    expect(index.stateOf("p1", "k", { generation: 5, tags: [] })).toBe("soft");
    expect(index.stateOf("p1", "k", { generation: 4, tags: [] })).toBe("hard");
  });
  test("a number that was applied changes nothing", () => {
    const index = new PurgeIndex();
    expect(index.apply(5, "p", { keys: ["k"], tags: [] }, "hard")).toBe(true);
    expect(index.apply(5, "p", { keys: ["j"], tags: [] }, "hard")).toBe(false);
    expect(index.stateOf("p", "j", { generation: 1, tags: [] })).toBe("none");
    expect(index.counters.purges).toBe(1);
  });
  test("what is forgotten counts as softly purged", () => {
    const index = new PurgeIndex(0, 2);
    index.apply(1, "p", { keys: ["a"], tags: [] }, "hard");
    index.apply(2, "p", { keys: ["b"], tags: [] }, "hard");
    index.apply(3, "p", { keys: ["c"], tags: [] }, "hard");
    expect(index.stateOf("p", "anything", { generation: 0, tags: [] })).toBe("soft");
    expect(index.stateOf("p", "anything", { generation: 1, tags: [] })).toBe("none");
    expect(index.stateOf("p", "b", { generation: 1, tags: [] })).toBe("hard");
    expect(index.counters).toEqual({ purges: 3, marks: 2, floor: 1 });
  });
  test.each([
    ["http://h/a/b", "h/a/b", true],
    ["https://h/a/b?q=1", "h/a/b", true],
    ["http://h/a/b/c", "h/a/b", true],
    ["http://h/a/bc", "h/a/b", false],
    ["http://h/a/b", "h/a/b/", false],
    ["http://h/a/b/", "h/a/b/", true],
    ["http://h/a/b/c/d", "h/a/b/", true],
    ["http://h/", "h/", true],
    ["http://h/x?/a/", "h/x", true],
    ["http://h/x?/a/", "h/x?/a", false],
    ["http://other/a/b", "h/a/b", false],
    [`http://h/${"s/".repeat(40)}x`, `h/${"s/".repeat(30)}`, true],
  ])("%s is of the prefix %s: %s", (key, prefix, isMeant) => {
    const index = new PurgeIndex();
    index.apply(1, "p", { prefixes: [prefix] }, "hard");
    expect(index.stateOf("p", key, { generation: 0, tags: [] })).toBe(isMeant ? "hard" : "none");
    expect(index.stateOf("other", key, { generation: 0, tags: [] })).toBe("none");
    expect(index.stateOf("p", key, { generation: 1, tags: [] })).toBe("none");
  });
  test("a host and a whole property, of their scope alone", () => {
    const index = new PurgeIndex();
    index.apply(1, "p", { hosts: ["h"] }, "soft");
    index.apply(2, "q", { isWhole: true }, "hard");
    expect(index.stateOf("p", "https://h/a", { generation: 0, tags: [] })).toBe("soft");
    expect(index.stateOf("p", "https://g/a", { generation: 0, tags: [] })).toBe("none");
    expect(index.stateOf("q", "https://g/a", { generation: 1, tags: [] })).toBe("hard");
    expect(index.stateOf("q", "https://g/a", { generation: 2, tags: [] })).toBe("none");
  });
  test("what was stored before a start is unknown until all purges are known; what is known to be purged stays purged", () => {
    const index = new PurgeIndex();
    const older = { generation: 0, tags: [], responseTime: at(0) };
    index.apply(1, "p", { keys: ["k"] }, "hard");
    index.distrust(at(1));
    expect(index.stateOf("p", "k", older)).toBe("hard");
    expect(index.stateOf("p", "other", older)).toBe("unknown");
    expect(index.stateOf("p", "other", { ...older, generation: 1 })).toBe("unknown");
    expect(index.stateOf("p", "other", { ...older, responseTime: at(1) })).toBe("none");
    index.trust();
    expect(index.stateOf("p", "other", older)).toBe("none");
  });
  test("a fill is not joined after a purge that could mean it", () => {
    const index = new PurgeIndex();
    index.apply(3, "p", { keys: [], tags: ["t"] }, "hard");
    expect(index.mayJoin("p", "k", 2, undefined)).toBe(false);
    expect(index.mayJoin("p", "k", 2, ["other"])).toBe(true);
    expect(index.mayJoin("p", "k", 2, ["t"])).toBe(false);
    expect(index.mayJoin("p", "k", 3, undefined)).toBe(true);
  });
});

test("owners: the live in the key's order; a death moves only its own keys", () => {
  const peers = ["s-1", "s-2", "s-3"].map((id) => ({ id: id as ServerId }));
  const keys = Array.from({ length: 300 }, (_, n) => `http://a/${n}`);
  const before = keys.map((key) => ownersOf(key, peers, undefined, () => true)[0]);
  const after = keys.map((key) => ownersOf(key, peers, undefined, (id) => id !== "s-2")[0]);
  expect(new Set(before).size).toBe(3);
  for (const [index, owner] of before.entries()) if (owner !== "s-2") expect(after[index]).toBe(owner);
  expect(after).not.toContain("s-2");
  expect(ownersOf("k", peers, "s-1" as ServerId, () => false)).toEqual(["s-1"]);
});
