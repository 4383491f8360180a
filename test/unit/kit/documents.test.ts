import { describe, expect, test } from "vitest";
import {
  type MapSnapshot,
  mapSnapshot,
  ParseError,
  propertyDocument,
  purgeRequest,
  topologyDocument,
} from "#kit";
import { snapshotFrom } from "../../tools/map-snapshot.ts";
import { idleReport } from "../../tools/server-report.ts";

const property = {
  propertyId: "shop-www",
  customerId: "shop",
  hostnames: ["www.shop.example"],
  origins: [{ scheme: "http", host: "127.0.0.1", port: 9000 }],
};

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof ParseError) return error.message;
    throw error;
  }
  return "accepted";
}

describe("property", () => {
  test("a minimal one has no freshness of its own and asks a parent", () => {
    const parsed = propertyDocument.parse(property);
    expect(parsed.caching.defaultTtlSeconds).toBeNull();
    expect(parsed).toMatchObject({
      tiering: "parent",
      forwardsMax: null,
      dnsTtlSeconds: 20,
      isActive: true,
      rules: [],
    });
  });
  test.each([
    [
      "HTTP/2 without TLS",
      { ...property, origins: [{ ...property.origins[0], protocol: "http/2" }] },
      'origins[0].protocol: got "http/2"',
    ],
    ["no origin", { ...property, origins: [] }, "origins: got []"],
    ["a host name with a trailing dot", { ...property, hostnames: ["www.shop.example."] }, "hostnames[0]"],
    ["a host name in upper case", { ...property, hostnames: ["WWW.shop.example"] }, "hostnames[0]"],
    ["a rule that matches nothing", { ...property, rules: [{ match: {} }] }, "rules[0].match"],
    [
      "a TTL of text",
      { ...property, caching: { defaultTtlSeconds: "60" } },
      'caching.defaultTtlSeconds: got "60"',
    ],
    ["no requests at all", { ...property, forwardsMax: 0 }, "forwardsMax: got 0"],
    ["the same host name twice", { ...property, hostnames: ["a.example", "a.example"] }, "hostnames[1]"],
  ])("refuses %s", (_, value, words) => {
    expect(refusal(() => propertyDocument.parse(value))).toContain(words);
  });
});

describe("topology", () => {
  const cluster = (id: string, server: string) => ({
    clusterId: id,
    regionId: "eu",
    role: "edge",
    city: "Somewhere",
    coordinates: { latitude: 0, longitude: 0 },
    servers: [{ serverId: server, address: "127.0.0.1", port: 80 }],
  });
  const topology = (clusters: unknown[]) => ({
    name: "t",
    clusters,
    nameService: { zones: [], nameServers: [] },
  });

  test("refuses a server that stands in two clusters", () => {
    expect(
      refusal(() => topologyDocument.parse(topology([cluster("a", "s-1"), cluster("b", "s-1")]))),
    ).toContain('clusters[1].servers[0].serverId: got "s-1", expected a name that no other server has');
  });
  const withLimits = (...limits: unknown[]) => ({
    ...topology([cluster("a", "s-1"), cluster("b", "s-2")]),
    limits,
  });
  test("takes limits by cluster and by region", () => {
    const limits = [
      { name: "contract", clusterIds: ["a", "b"], requestsPerSecondMax: 100 },
      { name: "transit", regionId: "eu", bitsPerSecondMax: 1e9 },
    ];
    expect(topologyDocument.parse(withLimits(...limits))).toMatchObject({ limits, shareMax: 1 });
  });
  test.each([
    [
      "an unknown cluster",
      { clusterIds: ["a", "c"], requestsPerSecondMax: 1 },
      "limits[0].clusterIds[1]: got",
    ],
    ["a cluster twice", { clusterIds: ["a", "a"], requestsPerSecondMax: 1 }, "limits[0].clusterIds[1]: got"],
    ["an unknown region", { regionId: "us", requestsPerSecondMax: 1 }, "limits[0].regionId: got"],
    ["both", { regionId: "eu", clusterIds: ["a"], requestsPerSecondMax: 1 }, "either clusterIds or regionId"],
    ["neither", { requestsPerSecondMax: 1 }, "either clusterIds or regionId"],
    ["no bound", { regionId: "eu" }, "requestsPerSecondMax, bitsPerSecondMax or pricePerGb"],
    ["a bound of nothing", { regionId: "eu", bitsPerSecondMax: 0 }, "limits[0].bitsPerSecondMax: got 0"],
    ["a name of its own limits", { name: "capacity", regionId: "eu", bitsPerSecondMax: 1 }, "limits[0].name"],
  ])("refuses a limit with %s", (_, limit, words) => {
    expect(refusal(() => topologyDocument.parse(withLimits({ name: "l", ...limit })))).toContain(words);
  });
  test("refuses two limits of one name", () => {
    const limit = { name: "l", regionId: "eu", bitsPerSecondMax: 1 };
    expect(refusal(() => topologyDocument.parse(withLimits(limit, limit)))).toContain("limits[1]: got");
  });
  test("refuses an impossible coordinate", () => {
    const bad = { ...cluster("a", "s-1"), coordinates: { latitude: 91, longitude: 0 } };
    expect(refusal(() => topologyDocument.parse(topology([bad])))).toContain(
      "clusters[0].coordinates.latitude: got 91",
    );
  });
});

describe("map snapshot", () => {
  const ranking = [{ clusterId: "a", score: 1, terms: { rttMs: 1, lossRatio: 0, load: 0, confidence: 1 } }];
  const rankings = { interactive: ranking, bulk: ranking, live: ranking };
  const network = { clientNetworkId: "n", prefixes: ["2001:db8::/48"], clusters: rankings };
  const snapshot = (rest: object = {}): unknown =>
    JSON.parse(
      JSON.stringify({ ...snapshotFrom({ clientNetworks: [network], fallback: rankings }), ...rest }),
    );
  const resolver = { address: "192.0.2.53", clientNetworks: 1, weight: 1, clusters: rankings };

  test("carries the cluster map as one text, and looks at its head alone", () => {
    const parsed: MapSnapshot = mapSnapshot.parse(snapshot());
    expect(parsed.clusterMap.isDecoded).toBe(false);
    expect(JSON.parse(JSON.stringify(parsed))).toEqual(snapshot());
    expect(parsed.clusterMap.table().networks.prefixesOf(0)).toEqual(["2001:db8::/48"]);
  });
  test.each([
    ["a map without its cluster map", snapshot({ clusterMap: undefined }), "clusterMap"],
    [
      "a cluster map that is none",
      snapshot({ clusterMap: "AAAAAAAAAAAAAAAAAAAAAAAAAAA=" }),
      "clusterMap: got",
    ],
    ["a cluster map that is no base64", snapshot({ clusterMap: "%" }), "expected base64"],
    [
      "a cluster map of another version",
      snapshot({ mapVersion: 2 }),
      "clusterMap: got 1, expected a cluster map of version 2, as the snapshot's",
    ],
    [
      "scores out of order",
      snapshot({
        resolvers: [
          {
            ...resolver,
            clusters: {
              ...rankings,
              live: [
                { ...ranking[0], score: 2 },
                { ...ranking[0], clusterId: "b" },
              ],
            },
          },
        ],
      }),
      "resolvers[0].clusters.live[1]: got 1, expected scores in ascending order",
    ],
  ])("refuses %s", (_, value, words) => {
    expect(refusal(() => mapSnapshot.parse(value))).toContain(words);
  });
});

test("a purge must name something", () => {
  expect(refusal(() => purgeRequest.parse({ propertyId: "shop-www" }))).toContain(
    "at least one URL, tag, prefix or host, or isWholeProperty",
  );
  expect(purgeRequest.parse({ propertyId: "shop-www", tags: ["a"] }).mode).toBe("hard");
});

test("a report names all documents that a server can have applied, and is no longer than control takes one", () => {
  const documentsPerKindMax = 10_000;
  const reportBytesMax = 8 * 1024 * 1024;
  const applied = Object.fromEntries(
    ["property", "zone", "policy"].flatMap((kind) =>
      Array.from({ length: documentsPerKindMax }, (_, n) => [`${kind}/${String(n).padEnd(63, "x")}`, 1]),
    ),
  );
  const report = idleReport("lon-dns-1", { applied: { ...applied, "map/current": 1, "topology/demo": 1 } });
  expect(JSON.stringify(report).length).toBeLessThan(reportBytesMax);
});
