import { beforeAll, describe, expect, test } from "vitest";
import { type DayReport, productionCores, simulateDay } from "#sim";
import { generateWorld, parseWorld } from "#kit/world";

/**
 * Goal: over a large world with demand that follows the sun, whatever dies, the map keeps users away from what is dead, stays within its quota, and
 * comes back. Method: a lean day (ten minutes, ten clusters) with one fault of each kind; the long one is a command.
 */
const world = generateWorld({ clusters: 10, seed: 1 });
const options = { world, seed: 1, seconds: 600 };

describe("a lean day", () => {
  let report: DayReport;
  beforeAll(() => {
    report = simulateDay(options);
  });
  test("every invariant was asked and held, and every fault that a detector must notice was noticed", () => {
    expect(report.broken).toBeNull();
    expect(report.verdict).toBe("ok");
    for (const name of [
      "dns-answer-empty",
      "client-asks-dead",
      "document-went-back",
      "quota-exceeded",
    ] as const)
      expect(report.checks[name]).toBeGreaterThan(50);
    expect(Object.values(report.faults).every((count) => count === 1)).toBe(true);
    expect(report.day.lostRatio).toBeGreaterThan(0);
    expect(report.mapsRefused).toBe(0);
  });
  test("a name server that takes nobody for dead is found out", () => {
    const blind: typeof productionCores.liveness = (settings, id) => {
      const monitor = productionCores.liveness(settings, id);
      return id === "name-server" ? Object.assign(monitor, { isUp: () => true }) : monitor;
    };
    const { broken } = simulateDay({ ...options, cores: { liveness: blind, mapEngine: deafEngine } });
    expect(broken?.invariant).toBe("client-asks-dead");
  });
});

/** And whose map does not hear of deaths either: each alone is made good by the other. */
function deafEngine(...args: Parameters<typeof productionCores.mapEngine>) {
  const engine = productionCores.mapEngine(...args);
  return Object.assign(engine, { handleLiveness: () => {} });
}

test("a generated world is the same for a seed and another for another, and a world file that is read", () => {
  expect(parseWorld(JSON.stringify(world), "generated")).toEqual(world);
  expect(generateWorld({ clusters: 10, seed: 1 })).toEqual(world);
  expect(generateWorld({ clusters: 10, seed: 2 }).clients[0]).not.toEqual(world.clients[0]);
  expect(() => generateWorld({ clusters: 3, seed: 1 })).toThrow(/4 to 240 edge clusters, got 3/);
});
