import { describe, expect, test } from "vitest";
import { fibreRttMsMin, greatCircleKm } from "#kit";
import { type World, WorldLinks } from "#kit/world";
import { worldOfDisk } from "./world-of-disk.ts";

const demo = worldOfDisk("demo");
const links = new WorldLinks(demo);
const clusters = demo.regions.flatMap((region) => region.clusters);

describe("links of a world", () => {
  test("what is given stands both ways, the rest of the pair is generated", () => {
    expect(links.between("gru", "dub-origin")).toEqual({
      rttMs: 246,
      lossRatio: 0.008,
      bandwidthMbps: 1_000,
    });
    expect(links.between("dub-origin", "gru")).toEqual(links.between("gru", "dub-origin"));
    expect(links.between("nairobi", "jnb")).toEqual({ rttMs: 74, lossRatio: 0.01, bandwidthMbps: 50 });
  });

  test("a one-way link stands one way", () => {
    const oneWay: World = {
      ...demo,
      links: {
        ...demo.links,
        given: [{ from: "fra" as never, to: "iad" as never, rttMs: 500, isOneWay: true }],
      },
    };
    const bent = new WorldLinks(oneWay);
    expect(bent.between("fra", "iad").rttMs).toBe(500);
    expect(bent.between("iad", "fra").rttMs).toBe(links.between("iad", "fra").rttMs);
  });

  test("no generated link beats light in fibre, and all are the same both ways", () => {
    const given = new Set(
      demo.links.given.flatMap((link) => [`${link.from}|${link.to}`, `${link.to}|${link.from}`]),
    );
    let generated = 0;
    for (const pair of links.clusterPairs()) {
      expect(pair.rttMs).toBe(links.between(pair.to, pair.from).rttMs);
      if (given.has(`${pair.from}|${pair.to}`)) continue;
      const a = clusters.find((cluster) => cluster.id === pair.from)!;
      const b = clusters.find((cluster) => cluster.id === pair.to)!;
      expect(pair.rttMs).toBeGreaterThan(fibreRttMsMin(greatCircleKm(a.coordinates, b.coordinates)));
      expect(pair.lossRatio).toBeGreaterThanOrEqual(0);
      expect(pair.lossRatio).toBeLessThanOrEqual(0.05);
      generated++;
    }
    expect(generated).toBeGreaterThan(200);
  });

  test("the spread of detours is as the model says", () => {
    const ratios: number[] = [];
    for (const pair of links.clusterPairs()) {
      const a = clusters.find((cluster) => cluster.id === pair.from)!;
      const b = clusters.find((cluster) => cluster.id === pair.to)!;
      const km = greatCircleKm(a.coordinates, b.coordinates);
      if (km > 1_000 && pair.from < pair.to) ratios.push(Math.log(pair.rttMs / fibreRttMsMin(km)));
    }
    const mean = ratios.reduce((sum, value) => sum + value, 0) / ratios.length;
    expect(Math.exp(mean)).toBeGreaterThan(1.6);
    expect(Math.exp(mean)).toBeLessThan(2.1);
    expect(new Set(ratios.map((value) => value.toFixed(3))).size).toBeGreaterThan(ratios.length / 2);
  });

  test("a pair does not change when the file is put in another order or others are added", () => {
    const turned: World = {
      ...demo,
      regions: [...demo.regions]
        .reverse()
        .map((region) => ({ ...region, clusters: [...region.clusters].reverse() })),
      clients: demo.clients.slice(3),
    };
    const other = new WorldLinks(turned);
    for (const pair of links.clusterPairs()) {
      expect(other.between(pair.from, pair.to)).toEqual(links.between(pair.from, pair.to));
    }
    const reseeded = new WorldLinks({ ...demo, seed: demo.seed + 1 });
    expect(reseeded.between("fra", "iad").rttMs).not.toBe(links.between("fra", "iad").rttMs);
  });

  test("within a site it is 0.2 ms, and an unknown site is an error", () => {
    expect(links.between("fra", "fra")).toEqual({ rttMs: 0.2, lossRatio: 0, bandwidthMbps: 10_000 });
    expect(() => links.between("fra", "nowhere")).toThrow('Unknown site "nowhere"');
  });

  test("the demo has at least two edge-origin pairs that are 25 % faster through a relay, and a lossy link", () => {
    const ofRole = (role: string) =>
      clusters.filter((cluster) => cluster.role === role).map((cluster) => cluster.id);
    const faster = ofRole("edge").flatMap((edge) =>
      ofRole("origin")
        .filter((origin) => {
          const direct = links.between(edge, origin).rttMs;
          const relayed = ofRole("relay").map(
            (relay) => links.between(edge, relay).rttMs + links.between(relay, origin).rttMs,
          );
          return Math.min(...relayed) <= 0.75 * direct;
        })
        .map((origin) => `${edge} ${origin}`),
    );
    expect(faster).toEqual(expect.arrayContaining(["gru dub-origin", "sin dub-origin", "jnb sea-origin"]));
    expect(Math.max(...[...links.clusterPairs()].map((pair) => pair.lossRatio))).toBe(0.03);
  });
});
