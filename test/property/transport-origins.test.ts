/** Laws of the choice among origin servers, whatever happens to them and in whatever order. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type MonotonicMs, monotonicMs, ORIGIN_POLICY } from "#kit";
import { OriginGroup, type OriginUse } from "../../transport/core/origin-group.ts";
import { originGroupSettings, originOutcomes } from "../../transport/core/origin-words.ts";

const server = fc.record({
  scheme: fc.constant("http" as const),
  host: fc.constant("origin.example"),
  port: fc.constant(80),
  priority: fc.nat(2),
  weight: fc.nat(3),
  requestsMax: fc.integer({ min: 1, max: 4 }),
});

const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ type: fc.constant("wait" as const), ms: fc.nat(20_000) }) },
  {
    weight: 20,
    arbitrary: fc.record({
      type: fc.constant("request" as const),
      outcome: fc.constantFrom(...originOutcomes, undefined),
      isRepeatable: fc.boolean(),
      times: fc.integer({ min: 1, max: 12 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("end" as const), times: fc.nat(10) }) },
  {
    weight: 4,
    arbitrary: fc.record({ type: fc.constant("checks" as const), isOn: fc.boolean(), isOk: fc.boolean() }),
  },
);

test("limits hold, drained servers rest, one server at least is never ejected, and all heal", () => {
  let ejections = 0;
  let lastResorts = 0;
  let opened = 0;
  fc.assert(
    fc.property(
      fc.array(server, { minLength: 1, maxLength: 5 }).filter((all) => all.some(({ weight }) => weight > 0)),
      fc.array(step, { maxLength: 60 }),
      (servers, steps) => {
        const policy = { ...ORIGIN_POLICY, requestsMax: 7 };
        const group = new OriginGroup({
          ...originGroupSettings(servers, policy),
          check: { intervalMs: 1_000, timeoutMs: 500, jitterRatio: 0.2, downThreshold: 2, okThreshold: 2 },
        });
        const open: OriginUse[] = [];
        let now = monotonicMs(0);
        const check = (isOk: boolean): void => {
          group.handleTimeout(now);
          for (let probe = group.pollCheck(now); probe; probe = group.pollCheck(now))
            group.handleCheck(probe.probeId, isOk, now);
        };
        const law = (): void => {
          const states = group.states(now);
          expect(group.active).toBe(open.length);
          const wanted = states.filter(({ weight }) => weight > 0);
          const ejected = wanted.filter(({ ejection }) => ejection !== undefined);
          expect(ejected.length).toBeLessThan(wanted.length);
          expect(ejected.length).toBeLessThanOrEqual(Math.max(1, Math.floor(wanted.length / 2)));
          for (const { active, requestsMax } of states) expect(active).toBeLessThanOrEqual(requestsMax);
        };
        for (const one of steps) {
          if (one.type === "wait") {
            now = (now + one.ms) as MonotonicMs;
          } else if (one.type === "end") {
            for (const use of open.splice(0, one.times)) {
              group.handleOutcome(use, "ok", now);
              group.handleEnd(use);
              group.handleEnd(use);
            }
          } else if (one.type === "checks") {
            if (one.isOn) group.startChecks(now);
            else group.stopChecks();
            check(one.isOk);
          } else {
            for (let n = 0; n < one.times; n++) {
              const { indexes } = group.order(now, one.isRepeatable);
              expect(new Set(indexes).size).toBe(indexes.length);
              for (const index of indexes) expect(servers[index]?.weight).toBeGreaterThan(0);
              const [first] = indexes;
              if (first === undefined) continue;
              const use = group.begin(first, now);
              if (one.outcome === undefined) open.push(use);
              else {
                group.handleOutcome(use, one.outcome, now);
                group.handleOutcome(use, "unreachable", now);
                group.handleEnd(use);
              }
            }
          }
          law();
        }
        for (const use of open) group.handleEnd(use);
        // A quarter of an hour in which every request is answered, and every check.
        const before = group.counters.refused;
        for (let n = 0; n < 180; n++) {
          now = (now + 5_000) as MonotonicMs;
          check(true);
          for (const [index] of [group.order(now, true).indexes]) {
            if (index === undefined) continue;
            const use = group.begin(index, now);
            group.handleOutcome(use, "ok", now);
            group.handleEnd(use);
          }
        }
        const last = group.states(now);
        expect(last.filter(({ bar }) => bar !== undefined && bar !== "drained")).toEqual(
          // Nobody asks one of a lower priority, so nothing tells that it is well: the next to ask it will.
          last.filter(({ bar }) => bar === "breaker-trying"),
        );
        expect(group.counters.refused - before).toBeLessThan(20);
        ejections += group.counters.ejections;
        lastResorts += group.counters.lastResorts;
        opened += group.counters.breakersOpened;
      },
    ),
    { numRuns: 150 },
  );
  // A run in which nothing of it happened proves nothing.
  expect([ejections > 0, lastResorts > 0, opened > 0]).toEqual([true, true, true]);
});
