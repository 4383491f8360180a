/**
 * Goal: a run is a function of world, seed and options, whatever the order in which things were made.
 * Method: run twice, in reverse order of creation, with another seed; compare digests and whole reports.
 */
import { expect, test } from "vitest";
import { broken, run, small, withStandIn } from "./fixture.ts";

test("the same seed gives the same digest and the same report, also when the actors are made in the reverse order", () => {
  const first = run({ seed: 5 });
  expect(run({ seed: 5 })).toEqual(first);
  const reversed = run({ seed: 5, isReversed: true });
  expect(reversed.digest).toBe(first.digest);
  expect(reversed).toEqual(first);
});

test("another seed gives another digest", () => {
  const digests = [1, 2, 3, 4].map((seed) => run({ seed, seconds: 30 }).digest);
  expect(new Set(digests).size).toBe(4);
});

test("a swarm of fifteen seeds on the small world holds, and between them every kind of fault happens and every invariant is asked", () => {
  const kinds = new Set<string>();
  const asked = new Set<string>();
  for (let seed = 1; seed <= 15; seed++) {
    const report = run({ world: small, seed, seconds: 120 });
    expect(`${seed} ${broken(report)}`).toBe(`${seed} ok`);
    for (const kind of Object.keys(report.fired)) kinds.add(kind);
    for (const [name, count] of Object.entries(report.checks)) if (count > 0) asked.add(name);
  }
  expect(kinds.size).toBe(12);
  expect(asked.size).toBe(14);
}, 60_000);

test("a swarm of eight seeds holds where somebody stands in for the name servers, who has to in some of them", () => {
  let stoodIn = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const report = run({ world: withStandIn, seed, seconds: 120 });
    expect(`${seed} ${broken(report)}`).toBe(`${seed} ok`);
    stoodIn += report.reasons["stand-in"]?.["stands-in"] ?? 0;
  }
  expect(stoodIn).toBeGreaterThan(0);
}, 60_000);
