/** The live view: states of servers, links in use, and what each account may see of them. */
import { describe, expect, it } from "vitest";
import { monotonicMs } from "#kit";
import { changesOf } from "../../../portal/core/changes.ts";
import { Fleet } from "../../../portal/core/fleet.ts";
import { foreignPurgeUrl, maySee, ownershipFault } from "../../../portal/core/tenancy.ts";
import { map, news, property, report, shop, topology } from "./fixtures.ts";

const at = monotonicMs;
const operator = { name: "operator", customerId: null };
const acme = { name: "acme", customerId: "acme" };

function newFleet(): Fleet {
  const fleet = new Fleet({ propertiesMax: 10, pairsMax: 100, serversMax: 100 });
  fleet.handleConnection(true, at(0));
  fleet.handleTopology(topology);
  fleet.handleMap(map);
  fleet.handleProperty(shop);
  fleet.handleProperty(news);
  return fleet;
}

describe("Fleet: states", () => {
  it("takes a server for down after three seconds without a report, and not before anybody could have heard one", () => {
    const fleet = newFleet();
    expect(fleet.stateOf("ams-1", "edge", at(3_000))).toBe("unknown");
    expect(fleet.stateOf("ams-1", "edge", at(3_001))).toBe("down");
    fleet.handleReport(report("ams-1"), at(4_000));
    expect(fleet.stateOf("ams-1", "edge", at(7_000))).toBe("ready");
    expect(fleet.stateOf("ams-1", "edge", at(7_001))).toBe("down");
  });

  it("says what the server says of itself", () => {
    const fleet = newFleet();
    fleet.handleReport(report("ams-1", {}, { state: "draining" }), at(1_000));
    expect(fleet.stateOf("ams-1", "edge", at(1_500))).toBe("draining");
  });

  it("calls nobody down while control cannot be heard, nor right after it is back", () => {
    const fleet = newFleet();
    fleet.handleReport(report("ams-1"), at(1_000));
    fleet.handleConnection(false, at(2_000));
    expect(fleet.stateOf("ams-1", "edge", at(60_000))).toBe("unknown");
    fleet.handleConnection(true, at(61_000));
    expect(fleet.stateOf("ams-1", "edge", at(63_000))).toBe("unknown");
    expect(fleet.stateOf("ams-1", "edge", at(64_001))).toBe("down");
  });

  it("knows no rate while it hears nobody, and none of a server that is down", () => {
    const fleet = newFleet();
    fleet.handleConnection(true, at(0));
    for (let second = 0; second <= 5; second++)
      for (const serverId of ["ams-1", "ams-2"])
        fleet.handleReport(
          report(serverId, { shop: { requests: second * 10, hits: 0 } }),
          at(second * 1_000),
        );
    fleet.handleReport(report("ams-2", { shop: { requests: 80, hits: 0 } }), at(8_000));
    const ams = (now: number) =>
      fleet
        .view(operator, at(now), 0)
        .sites.find((site) => site.clusterId === "ams")
        ?.servers.map((one) => [one.state, one.requestsPerSecond]);
    expect(ams(8_500)).toEqual([
      ["down", 0],
      ["ready", expect.closeTo(10, 0)],
    ]);
    fleet.handleConnection(false, at(8_600));
    expect(ams(12_000)).toEqual([
      ["unknown", null],
      ["unknown", null],
    ]);
    expect(fleet.view(operator, at(12_000), 0).totals).toMatchObject({
      requestsPerSecond: null,
      hitRatio: null,
      bytesPerSecond: null,
      errorsPerSecond: null,
    });
  });

  it("does not expect reports of origins", () => {
    expect(newFleet().stateOf("dub-1", "origin", at(60_000))).toBe("unwatched");
  });

  it("counts ready servers among those that report at all", () => {
    const fleet = newFleet();
    fleet.handleReport(report("ams-1"), at(10_000));
    fleet.handleReport(report("ams-2", {}, { state: "draining" }), at(10_000));
    const { totals } = fleet.view(operator, at(10_000), 0);
    expect(totals.serversUp).toBe(1);
    expect(totals.serversWatched).toBe(19);
  });

  it("tells how far a version has come, by the servers' own word", () => {
    const fleet = newFleet();
    fleet.handleReport(report("ams-1", {}, { applied: { "property/shop": 2 } }), at(0));
    fleet.handleReport(report("ams-2", {}, { applied: { "property/shop": 1 } }), at(0));
    fleet.handleReport(report("cdg-1", {}, { applied: { "property/shop": 2 } }), at(0));
    expect(fleet.rollout("shop", 2, at(0))).toEqual({ applied: 1, live: 2 });
    expect(fleet.rollout("shop", 2, at(9_000))).toEqual({ applied: 0, live: 0 });
  });
});

describe("Fleet: links in use", () => {
  const links = (fleet: Fleet, now: number) =>
    new Map(
      fleet
        .view(operator, at(now), 0)
        .links.map((link) => [`${link.fromClusterId}>${link.toClusterId}`, link]),
    );

  it("goes edge to parent to origin, as the map names them", () => {
    const found = links(newFleet(), 0);
    expect([...found.keys()].sort()).toEqual([
      "ams>fra",
      "fra>dub",
      "iad>dub",
      "jnb>fra",
      "nyc>iad",
      "sao>iad",
      "syd>fra",
      "tyo>fra",
    ]);
    expect(found.get("ams>fra")?.kind).toBe("parent");
    expect(found.get("fra>dub")?.kind).toBe("origin");
  });

  it("takes the map's first path while nothing is measured, and says so", () => {
    expect(links(newFleet(), 0).get("syd>fra")).toMatchObject({
      via: "sin",
      srttMs: 250,
      directSrttMs: 290,
      basis: "map",
    });
    expect(links(newFleet(), 0).get("ams>fra")).toMatchObject({ via: null, srttMs: null, basis: "none" });
  });

  it("takes the quickest measured path; paths without samples do not count", () => {
    const fleet = newFleet();
    const path = (via: string | null, srttMs: number, samples: number) => ({
      toClusterId: "fra",
      via,
      srttMs,
      rttvarMs: 1,
      lossRatio: 0,
      samples,
    });
    fleet.handleReport(
      report("syd-1", {}, { links: [path("sin", 300, 9), path(null, 280, 9), path("mia", 1, 0)] }),
      at(0),
    );
    expect(links(fleet, 0).get("syd>fra")).toMatchObject({
      via: null,
      srttMs: 280,
      directSrttMs: null,
      basis: "measured",
    });
    fleet.handleReport(report("syd-1", {}, { links: [path("sin", 240, 9), path(null, 280, 9)] }), at(1_000));
    expect(links(fleet, 1_000).get("syd>fra")).toMatchObject({ via: "sin", srttMs: 240, directSrttMs: 280 });
    // A report of a server that has gone silent is no measurement any more.
    expect(links(fleet, 9_000).get("syd>fra")).toMatchObject({ basis: "map" });
  });

  it("leaves a path that loses everything, however quick it was", () => {
    const fleet = newFleet();
    const path = (via: string | null, srttMs: number, lossRatio: number) => ({
      toClusterId: "fra",
      via,
      srttMs,
      rttvarMs: 1,
      lossRatio,
      samples: 9,
    });
    fleet.handleReport(report("syd-1", {}, { links: [path("sin", 240, 1), path("mia", 260, 0.1)] }), at(0));
    expect(links(fleet, 0).get("syd>fra")).toMatchObject({ via: "mia", srttMs: 260 });
    fleet.handleReport(report("syd-1", {}, { links: [path(null, 100, 1), path("mia", 260, 0)] }), at(1_000));
    expect(links(fleet, 1_000).get("syd>fra")).toMatchObject({ via: "mia", directSrttMs: null });
  });

  it("goes straight to the origin for a property that skips the tier, and nowhere for one that is withdrawn", () => {
    const fleet = new Fleet({ propertiesMax: 10, pairsMax: 100, serversMax: 100 });
    fleet.handleTopology(topology);
    fleet.handleMap(map);
    fleet.handleProperty(property("shop", "acme", { tiering: "direct" }));
    expect(links(fleet, 0).get("ams>dub")?.kind).toBe("origin");
    expect(links(fleet, 0).has("ams>fra")).toBe(false);
    fleet.handleProperty(property("shop", "acme", { isActive: false }));
    expect(links(fleet, 0).size).toBe(0);
  });

  it("is busy where requests of the viewer's own properties came in", () => {
    const fleet = newFleet();
    fleet.handleReport(report("ams-1", { news: { requests: 0, hits: 0 } }), at(0));
    fleet.handleReport(report("ams-1", { news: { requests: 9, hits: 0 } }), at(1_000));
    const busy = (viewer: typeof operator | typeof acme) =>
      fleet
        .view(viewer, at(1_000), 0)
        .links.filter((link) => link.isBusy)
        .map((link) => link.fromClusterId);
    expect(busy(operator).sort()).toEqual(["ams", "fra"]);
    expect(busy(acme)).toEqual([]);
  });
});

describe("tenancy", () => {
  it("gives a customer its own traffic and no operator's details", () => {
    const fleet = newFleet();
    const traffic = (shopRequests: number, newsRequests: number) => ({
      shop: { requests: shopRequests, hits: 0 },
      news: { requests: newsRequests, hits: newsRequests },
    });
    fleet.handleReport(report("ams-1", traffic(0, 0)), at(0));
    fleet.handleReport(report("ams-1", traffic(5, 100), { requestsPerSecond: 105 }), at(1_000));
    const own = fleet.view(acme, at(1_000), 0);
    expect(own.totals).toMatchObject({ requestsPerSecond: 5, hitRatio: 0 });
    const server = own.sites.flatMap((site) => site.servers).find((one) => one.serverId === "ams-1");
    expect(server).toMatchObject({ requestsPerSecond: 5, hitRatio: 0 });
    const text = JSON.stringify(own);
    for (const hidden of ["127.10.", "8080", "news", "globex", "incarnation", "cacheBytes", "105"])
      expect(text).not.toContain(hidden);
    const whole = fleet.view(operator, at(1_000), 0);
    expect(whole.totals.requestsPerSecond).toBe(105);
    expect(JSON.stringify(whole)).toContain("127.10.1.1");
  });

  it("lets operators see all, customers their own", () => {
    expect([maySee(operator, "acme"), maySee(acme, "acme"), maySee(acme, "globex")]).toEqual([
      true,
      true,
      false,
    ]);
  });

  it("does not let a version change its name or owner", () => {
    expect(ownershipFault(shop, "shop", "acme")).toBeUndefined();
    expect(ownershipFault(shop, "other", "acme")?.path).toEqual(["propertyId"]);
    expect(ownershipFault(shop, "shop", "globex")?.path).toEqual(["customerId"]);
  });

  it("finds the purge URL that is another property's", () => {
    const hostOf = (url: string) => (URL.canParse(url) ? new URL(url).hostname : undefined);
    const own = ["https://www.shop.example/a", "http://www.shop.example:8080/b"];
    expect(foreignPurgeUrl(own, shop.hostnames, hostOf)).toBeUndefined();
    expect(foreignPurgeUrl([...own, "https://www.news.example/a"], shop.hostnames, hostOf)).toBe(2);
    expect(foreignPurgeUrl(["https://www.shop.example@evil.example/"], shop.hostnames, hostOf)).toBe(0);
    expect(foreignPurgeUrl(["https://"], shop.hostnames, hostOf)).toBe(0);
  });
});

describe("changesOf", () => {
  it("names what was added, removed and changed", () => {
    expect(
      changesOf([
        { path: "a", to: 1 },
        { path: "b", from: [1] },
        { path: "c", from: null, to: "x" },
      ]),
    ).toEqual([
      { path: "a", kind: "added", from: null, to: "1" },
      { path: "b", kind: "removed", from: "[1]", to: null },
      { path: "c", kind: "changed", from: "null", to: '"x"' },
    ]);
  });
});
