/** Laws of path choice over random networks, in virtual time. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ClusterId, monotonicMs } from "#kit";
import { LinkEstimator, PathChooser, pathChooserDefaults } from "#transport";
import { SortedWindow } from "../../transport/core/sorted-window.ts";

const relays = ["aaa", "bbb", "ccc"] as ClusterId[];
const paths = [null, ...relays];

const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({ type: fc.constant("run" as const), ms: fc.integer({ min: 1, max: 3_000 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant("truth" as const),
      path: fc.nat(3),
      rttMs: fc.option(fc.integer({ min: 1, max: 400 }), { nil: undefined }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("failure" as const), path: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("relays" as const), count: fc.nat(3) }) },
);

/** Runs a chooser against round trips by path; `check` sees every choice. */
function drive(
  chooser: PathChooser,
  truth: (number | undefined)[],
  from: number,
  ms: number,
  check: (now: number) => void,
): number {
  const end = from + ms;
  let now = from;
  const arrivals: { at: number; probeId: number; rttMs: number }[] = [];
  for (;;) {
    chooser.handleTimeout(monotonicMs(now));
    for (
      let probe = chooser.pollTransmit(monotonicMs(now));
      probe;
      probe = chooser.pollTransmit(monotonicMs(now))
    ) {
      const rttMs = truth[paths.indexOf(probe.via)];
      if (rttMs !== undefined) arrivals.push({ at: now + rttMs, probeId: probe.probeId, rttMs });
    }
    check(now);
    arrivals.sort((a, b) => a.at - b.at);
    const next = Math.min(chooser.pollTimeout(monotonicMs(now)), arrivals[0]?.at ?? Infinity);
    if (next > end) return end;
    now = Math.max(now, next);
    while (arrivals[0] && arrivals[0].at <= now) {
      const first = arrivals.shift();
      if (first) chooser.handleProbeResult(first.probeId, first.rttMs, monotonicMs(now));
    }
  }
}

describe("path chooser", () => {
  test("never names a failed path while another lives; never a relay that is no candidate", () => {
    let sawFallback = 0;
    let sawAllFailed = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), (steps) => {
        const chooser = new PathChooser({}, monotonicMs(0));
        chooser.setRelays(
          relays.map((via) => ({ via })),
          monotonicMs(0),
        );
        const truth: (number | undefined)[] = [100, 80, 120, 90];
        let now = 0;
        const check = (at: number): void => {
          const { via, reason } = chooser.choose(monotonicMs(at));
          const states = chooser.states(monotonicMs(at));
          const chosen = states.find((one) => one.via === via);
          expect(chosen).toBeDefined();
          if (reason === "all-paths-failed") {
            sawAllFailed++;
            expect(states.every((one) => one.isFailed)).toBe(true);
          } else expect(chosen?.isFailed).toBe(false);
          if (reason === "fallback-path-failed") sawFallback++;
          if (reason === "only-path") expect(states).toHaveLength(1);
        };
        for (const one of steps) {
          if (one.type === "run") now = drive(chooser, truth, now, one.ms, check);
          else if (one.type === "truth") truth[one.path] = one.rttMs;
          else if (one.type === "failure") chooser.handleFailure(paths[one.path] ?? null, monotonicMs(now));
          else
            chooser.setRelays(
              relays.slice(0, one.count).map((via) => ({ via })),
              monotonicMs(now),
            );
          check(now);
        }
      }),
      { numRuns: 300 },
    );
    // A run in which nothing failed proves nothing.
    expect(sawFallback).toBeGreaterThan(100);
    expect(sawAllFailed).toBeGreaterThan(10);
  });

  test("in steady state it is never slower than direct, nor than the best, by more than the margin", () => {
    const { switchMarginMs, switchMarginRatio } = pathChooserDefaults;
    let relayed = 0;
    fc.assert(
      fc.property(
        fc.tuple(...paths.map(() => fc.integer({ min: 1, max: 400 }))),
        fc.tuple(...paths.map(() => fc.integer({ min: 1, max: 400 }))),
        (before, after) => {
          const chooser = new PathChooser({}, monotonicMs(0));
          chooser.setRelays(
            relays.map((via) => ({ via })),
            monotonicMs(0),
          );
          const now = drive(chooser, before, 0, 30_000, () => {});
          drive(chooser, after, now, 120_000, () => {});
          const { via } = chooser.choose(monotonicMs(now + 120_000));
          const chosenMs = after[paths.indexOf(via)] ?? Infinity;
          if (via !== null) relayed++;
          const bestMs = Math.min(...after);
          // One more for estimates that still converge.
          const marginMs = Math.max(switchMarginMs, switchMarginRatio * chosenMs) + 1;
          expect(chosenMs).toBeLessThanOrEqual(bestMs + marginMs);
        },
      ),
      { numRuns: 100 },
    );
    expect(relayed).toBeGreaterThan(20);
  });
});

describe("link estimator", () => {
  test("srtt stays within the samples, rttvar and lossRatio within their bounds, whatever comes", () => {
    fc.assert(
      fc.property(
        fc.array(fc.option(fc.double({ min: 0, max: 5_000, noNaN: true }), { nil: undefined }), {
          maxLength: 300,
        }),
        (outcomes) => {
          const link = new LinkEstimator();
          const seen: number[] = [];
          for (const [n, rttMs] of outcomes.entries()) {
            if (rttMs === undefined) link.handleLoss(monotonicMs(n));
            else {
              link.handleSample(rttMs, monotonicMs(n));
              seen.push(rttMs);
            }
            expect(link.lossRatio).toBeGreaterThanOrEqual(0);
            expect(link.lossRatio).toBeLessThanOrEqual(1);
            expect(link.rttvarMs).toBeGreaterThanOrEqual(0);
            expect(link.rtoMs).toBeGreaterThanOrEqual(200);
            if (link.srttMs === undefined) continue;
            expect(link.srttMs).toBeGreaterThanOrEqual(Math.min(...seen) - 1e-6);
            expect(link.srttMs).toBeLessThanOrEqual(Math.max(...seen) + 1e-6);
          }
          expect(link.samples).toBe(seen.length);
        },
      ),
      { numRuns: 300 },
    );
  });
});

test("a sorted window holds the newest values, in order", () => {
  const value = fc.oneof(fc.integer({ min: 0, max: 5 }), fc.double({ min: 0, noNaN: true }));
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), fc.array(value, { maxLength: 40 }), (size, values) => {
      const window = new SortedWindow(size);
      for (const [place, one] of values.entries()) {
        window.add(one);
        const newest = values.slice(Math.max(0, place + 1 - size), place + 1).sort((a, b) => a - b);
        expect(Array.from({ length: window.count }, (_, rank) => window.at(rank))).toEqual(newest);
        expect(window.at(window.count)).toBeUndefined();
      }
    }),
  );
});
