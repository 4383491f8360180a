/** Goal: plans of faults are drawn as documented, and blame goes where it belongs. Method: many seeds; incidents by hand. */
import { describe, expect, test } from "vitest";
import { Random } from "#kit";
import type { Bounds } from "../../../sim/core/bounds.ts";
import { type Fault, type FaultKind, faultKinds } from "../../../sim/core/faults.ts";
import { Incidents, type RequestRecord } from "../../../sim/core/incidents.ts";
import { drawFaults, type Targets } from "../../../sim/core/swarm.ts";

const targets: Targets = {
  servers: ["fra-1", "fra-2", "iad-1"],
  clusters: ["fra", "iad"],
  links: ["fra|par", "iad|par"],
  clientLinks: ["berlin|fra"],
  sites: ["fra", "iad"],
  origins: ["dub-1"],
  mappers: ["mapper", "mapper-2"],
  nodes: ["fra-1"],
  poisonable: ["topology"],
};
const plan = (seed: number, kinds?: readonly FaultKind[]): Fault[] =>
  drawFaults(new Random(seed), targets, { warmUpMs: 15_000, endMs: 120_000, kinds });

describe("a swarm", () => {
  test("is the same for the same seed, lies within its time, and over many seeds has every kind and leaves every kind out", () => {
    const had = new Map<FaultKind, number>();
    for (let seed = 0; seed < 60; seed++) {
      const faults = plan(seed);
      expect(plan(seed)).toEqual(faults);
      expect(faults.length).toBeGreaterThan(0);
      for (const { at, durationMs } of faults) {
        expect(at).toBeGreaterThanOrEqual(15_000);
        expect(at + durationMs).toBeLessThanOrEqual(120_000);
      }
      for (const kind of new Set(faults.map((fault) => fault.kind))) had.set(kind, (had.get(kind) ?? 0) + 1);
    }
    for (const kind of faultKinds) {
      expect(had.get(kind) ?? 0, kind).toBeGreaterThan(5);
      expect(had.get(kind) ?? 0, kind).toBeLessThan(55);
    }
  });

  test("has each kind that is asked for and no other, and never two faults in one process at once", () => {
    for (let seed = 0; seed < 40; seed++) {
      const kinds: FaultKind[] = ["server-crash", "server-hang", "cluster-loss"];
      const faults = plan(seed, kinds);
      expect(new Set(faults.map((fault) => fault.kind))).toEqual(new Set(kinds));
      for (const a of faults)
        for (const b of faults) {
          const isSame = a.target === b.target || a.target.startsWith(`${b.target}-`);
          if (a !== b && isSame) expect(a.at > b.at + b.durationMs || b.at > a.at + a.durationMs).toBe(true);
        }
    }
  });
});

describe("blame", () => {
  const bounds: Bounds = {
    nameServerDownMs: 3_000,
    nameServerUpMs: 3_000,
    standInMs: 5_000,
    standByMs: 8_000,
    targetDownMs: 12_000,
    targetUpMs: 14_000,
    ttlMs: 20_000,
    clientMs: 24_000,
    pathMs: 3_000,
    upstreamMs: 10_000,
    aftermathMs: 5_000,
    convergeMs: 60_000,
  };
  const roles: Readonly<Record<string, string>> = { fra: "edge", iad: "edge", par: "parent" };
  const incidentsWith = (kind: FaultKind, target: string): Incidents => {
    const incidents = new Incidents(bounds, {
      roleOf: (id) => roles[id],
      clusterOf: (id) => id.replace(/-\d+$/, ""),
    });
    incidents.add({ id: "f", kind, target, at: 10_000, durationMs: 60_000, degree: 0 }).startedAt = 10_000;
    return incidents;
  };
  const lost = (startedAt: number, more: Partial<RequestRecord> = {}): RequestRecord => ({
    clientId: "berlin",
    propertyId: "shop",
    originServerIds: ["dub-origin-1"],
    startedAt,
    endedAt: startedAt + 1_000,
    reason: "connect-timeout",
    clusters: ["fra"],
    ...more,
  });

  test("goes to a dead server within detection and TTL, and to nobody after, though it is dead still", () => {
    const incidents = incidentsWith("server-crash", "fra-1");
    expect(incidents.blame(lost(12_000))?.fault.id).toBe("f");
    expect(incidents.blame(lost(45_000))).toBeUndefined();
    expect(incidents.all[0]).toMatchObject({ failed: 1, lastHitAt: 13_000 });
  });

  test("does not go to a fault that the request never met, nor to one that nobody may notice", () => {
    expect(incidentsWith("server-crash", "iad-1").blame(lost(12_000))).toBeUndefined();
    expect(incidentsWith("link-cut", "iad|par").blame(lost(12_000))).toBeUndefined();
    expect(incidentsWith("client-cut", "paris|fra").blame(lost(12_000))).toBeUndefined();
    expect(incidentsWith("origin-outage", "sea-1").blame(lost(12_000))).toBeUndefined();
    for (const kind of ["control-loss", "control-partition", "mapper-crash", "document-replay"] as const)
      expect(incidentsWith(kind, "control").blame(lost(12_000))).toBeUndefined();
  });

  test("goes to a poisoned document where a name was not resolved, until who stands in has had its time", () => {
    const incidents = incidentsWith("document-poison", "topology");
    expect(incidents.blame(lost(12_000, { reason: "dns-timeout", clusters: [] }))?.fault.id).toBe("f");
    expect(incidents.blame(lost(12_000))).toBeUndefined();
    expect(incidents.blame(lost(65_000, { reason: "dns-timeout", clusters: [] }))).toBeUndefined();
  });

  test("a request that was over before the fault began is not its fault", () => {
    expect(incidentsWith("server-crash", "fra-1").blame(lost(8_000))).toBeUndefined();
  });
});
