import { describe, expect, test } from "vitest";
import { type ClusterId, Random } from "#kit";
import { type Estimate, estimateByGeography, geographyRttMs } from "../../../mapping/core/estimator.ts";
import {
  ProbeSchedule,
  type ProbeScheduleSettings,
  type ProbeView,
} from "../../../mapping/core/probe-schedule.ts";
import { guessUnmeasured } from "../../../mapping/core/unmeasured.ts";
import { at, cluster, network } from "./fixtures.ts";

const CYCLE_MS = 20_000;

/** Networks and sites anywhere, with travel times that geography tells badly: each network's own detour to each site. */
function world(networks: number, sites: number, seed = 1) {
  const random = new Random(seed);
  const place = () => ({ latitude: -60 + 120 * random.float(), longitude: -180 + 360 * random.float() });
  const all = Array.from({ length: networks }, (_, n) => ({
    clientNetworkId: network(`n${n}`),
    coordinates: place(),
    demandPerSecond: n % 10 === 0 ? 10 : 1,
  }));
  const where = Array.from({ length: sites }, (_, c) => ({
    clusterId: cluster(`c${c}`),
    coordinates: place(),
  }));
  const truth = all.map(({ coordinates }) =>
    where.map((site) => geographyRttMs(coordinates, site.coordinates) * (1 + 3 * random.float())),
  );
  const known = new Map<string, { rttMs: number; at: number }>();
  let now = 0;
  const view: ProbeView = {
    networks: all,
    sites: where,
    siteRttMs: (a, b) => geographyRttMs(where[a]?.coordinates ?? place(), where[b]?.coordinates ?? place()),
    asked: (n) => where.flatMap((_, c) => (known.has(`${n} ${c}`) ? [c] : [])),
    measured: (n, c) => {
      const found = known.get(`${n} ${c}`);
      return found && ({ rttMs: found.rttMs, ageMs: now - found.at } as Estimate);
    },
  };
  return { view, where, truth, known, tick: (ms: number) => (now += ms) };
}

/** Runs cycles in which the agents of `alive` do what they are told; the pairs of each cycle, and the mean loss over the best site by demand. */
function run(
  made: ReturnType<typeof world>,
  settings: Partial<ProbeScheduleSettings>,
  cycles: number,
  alive: (clusterId: ClusterId, cycle: number) => boolean = () => true,
) {
  const schedule = new ProbeSchedule({ cycleMs: CYCLE_MS, ...settings });
  const counts: number[] = [];
  for (let cycle = 0; cycle < cycles; cycle++) {
    const now = at(made.tick(CYCLE_MS));
    for (const { clusterId } of made.where) if (alive(clusterId, cycle)) schedule.handleAgent(clusterId, now);
    schedule.plan(made.view, now);
    let count = 0;
    for (const [c, { clusterId }] of made.where.entries())
      for (const { clientNetworkId } of schedule.planOf(clusterId, now)?.probes ?? []) {
        count++;
        if (!alive(clusterId, cycle)) continue;
        const n = Number(clientNetworkId.slice(1));
        made.known.set(`${n} ${c}`, { rttMs: made.truth[n]?.[c] ?? Number.NaN, at: now });
        schedule.handleResult(clientNetworkId, clusterId);
      }
    counts.push(count);
  }
  return { schedule, counts };
}
/** The site of least time is taken, by the map's own guess where it was not measured. */
function lossRatio({ view, where, truth }: ReturnType<typeof world>): number {
  let [paid, best] = [0, 0];
  for (const [n, { coordinates, demandPerSecond }] of view.networks.entries()) {
    const guesses = where.map(({ coordinates: site }) => estimateByGeography(coordinates, site));
    const known = guesses.flatMap(({ rttMs: guessMs }, c) => {
      const measured = view.measured(n, c);
      return measured === undefined ? [] : [{ clusterId: c, rttMs: measured.rttMs, guessMs }];
    });
    const expected = guesses.map(
      (guess, c) => (view.measured(n, c) ?? guessUnmeasured(guess, c, known, view.siteRttMs)).rttMs,
    );
    const times = truth[n] ?? [];
    paid += demandPerSecond * (times[expected.indexOf(Math.min(...expected))] ?? Number.NaN);
    best += demandPerSecond * Math.min(...times);
  }
  return paid / best;
}

describe("a schedule of probes", () => {
  test("keeps within its budget, and more of it brings the map nearer to the best there is", () => {
    const ratios = [0, 60, 180, 1_800].map((probesPerMinute) => {
      const made = world(100, 12);
      const { counts, schedule } = run(made, { probesPerMinute }, 10);
      expect(Math.max(...counts)).toBeLessThanOrEqual(probesPerMinute / 3);
      const { explorations, refreshments, results } = schedule.counters;
      expect(explorations + refreshments).toBe(counts.reduce((a, b) => a + b, 0));
      expect(results).toBe(explorations + refreshments);
      return lossRatio(made);
    });
    expect(ratios).toEqual(ratios.toSorted((a, b) => b - a));
    expect(ratios[0]).toBeGreaterThan(1.1);
    expect(ratios[3]).toBeLessThan(1.02);
  });

  test("spends where the demand is, first on the unknown and then on what is old", () => {
    const made = world(40, 6);
    const { schedule } = run(made, { probesPerMinute: 12 }, 1);
    const first = made.where.flatMap(
      ({ clusterId }) => schedule.planOf(clusterId, at(CYCLE_MS))?.probes ?? [],
    );
    expect(first.map(({ clientNetworkId }) => clientNetworkId).sort()).toEqual(["n0", "n10", "n20", "n30"]);
    run(made, { probesPerMinute: 600 }, 20);
    const later = run(made, { probesPerMinute: 600 }, 1).schedule.counters;
    expect(later.refreshments).toBeGreaterThan(later.explorations);
  });

  test("a dead agent's share goes to the others, and what it owed may be planned again", () => {
    const made = world(60, 4);
    const dead = made.where[0]?.clusterId;
    const isAlive = (clusterId: ClusterId, cycle: number) => clusterId !== dead || cycle < 1;
    const { schedule, counts } = run(made, { probesPerMinute: 90, agentCyclesMax: 2 }, 8, isAlive);
    expect(counts).toEqual(Array.from({ length: 8 }, () => 30));
    expect(schedule.planOf(dead ?? cluster("x"), at(8 * CYCLE_MS))).toBeUndefined();
    expect(schedule.counters.unanswered).toBeGreaterThan(0);
    expect(schedule.agentsAlive(at(8 * CYCLE_MS))).toBe(3);
  });

  test("nobody is asked too often, no agent is given too much, and plans end", () => {
    const made = world(30, 10);
    const { schedule } = run(made, { probesPerMinute: 6_000, perAgentMax: 5, perNetworkMax: 2 }, 3);
    const now = at(3 * CYCLE_MS);
    const plans = made.where.map(({ clusterId }) => schedule.planOf(clusterId, now)?.probes ?? []);
    expect(Math.max(...plans.map(({ length }) => length))).toBe(5);
    const counts = Map.groupBy(plans.flat(), ({ clientNetworkId }) => clientNetworkId);
    expect(Math.max(...[...counts.values()].map(({ length }) => length))).toBeLessThanOrEqual(2);
    const after = at(7 * CYCLE_MS);
    expect(made.where.map(({ clusterId }) => schedule.planOf(clusterId, after))).toEqual(
      plans.map(() => undefined),
    );
  });

  test("without agents there is nothing to plan; networks may change between plans", () => {
    const made = world(5, 3);
    expect(run(made, {}, 2, () => false).counts).toEqual([0, 0]);
    const { schedule } = run(made, { probesPerMinute: 600 }, 1);
    const fewer = { ...made.view, networks: made.view.networks.slice(3) };
    schedule.plan(fewer, at(2 * CYCLE_MS));
    const named = made.where.flatMap(
      ({ clusterId }) => schedule.planOf(clusterId, at(2 * CYCLE_MS))?.probes ?? [],
    );
    for (const { clientNetworkId } of named) expect(["n3", "n4"]).toContain(clientNetworkId);
  });
});
