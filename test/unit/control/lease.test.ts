import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type MonotonicMs } from "#kit";
import {
  decideLease,
  emptyLease,
  isLeaseHeld,
  leaseOutcomes,
  type LeaseRequest,
  type LeaseState,
  restoredLease,
} from "../../../control/core/lease.ts";

const at = (ms: number) => ms as MonotonicMs;
const request = (changes: Partial<LeaseRequest> = {}): LeaseRequest => ({
  action: "hold",
  holderId: "a",
  term: 0,
  seenTerm: 0,
  durationMs: 4_000,
  preempts: false,
  note: "",
  ...changes,
});
const heldByB: LeaseState = {
  ...emptyLease("map"),
  term: 5,
  holderId: "b",
  durationMs: 4_000,
  expiresAt: at(4_000),
};

describe("decideLease", () => {
  const cases = [
    ["nobody has it", emptyLease("map"), request(), 0, "granted", 1],
    ["another one has it", heldByB, request(), 3_999, "held", 5],
    ["its time is over", heldByB, request(), 4_000, "granted", 6],
    ["it was given back", { ...heldByB, holderId: null }, request(), 0, "granted", 6],
    ["an operator takes it", heldByB, request({ preempts: true }), 0, "granted", 6],
    ["a newer term was met elsewhere", emptyLease("map"), request({ seenTerm: 41 }), 0, "granted", 42],
    ["the holder goes on", heldByB, request({ holderId: "b", term: 5 }), 3_999, "renewed", 5],
    [
      "the holder goes on late, and nobody took it",
      heldByB,
      request({ holderId: "b", term: 5 }),
      9_000,
      "renewed",
      5,
    ],
    // It started anew, or two processes have one name: the term tells them apart.
    ["the holder's name without its term", heldByB, request({ holderId: "b" }), 0, "held", 5],
    ["the holder of a term that is over", heldByB, request({ holderId: "b", term: 4 }), 9_000, "lost", 5],
    ["another one's term", heldByB, request({ term: 5 }), 9_000, "lost", 5],
    ["given back", heldByB, request({ action: "release", holderId: "b", term: 5 }), 0, "released", 5],
    ["given back by who has it no more", heldByB, request({ action: "release", term: 5 }), 0, "lost", 5],
  ] as const;
  it.each(cases)("%s", (_what, state, asked, now, outcome, term) => {
    const decision = decideLease(state, asked, at(now));
    expect([decision.outcome, decision.state.term]).toEqual([outcome, term]);
    if (outcome === "granted")
      expect(decision).toMatchObject({ mustSave: true, state: { holderId: "a", expiresAt: now + 4_000 } });
    if (outcome === "released") expect(isLeaseHeld(decision.state, at(now))).toBe(false);
  });
  it("has a case for every outcome", () => {
    expect(new Set(cases.map((one) => one[4]))).toEqual(new Set(leaseOutcomes));
  });

  it("never grants a term twice, and no two hold it at once (random requests, restarts of control among them)", () => {
    const step = fc.record({
      holderId: fc.constantFrom("a", "b", "c"),
      action: fc.constantFrom("hold", "hold", "hold", "release"),
      usesTerm: fc.boolean(),
      passMs: fc.nat(3_000),
      restarts: fc.nat(9).map((n) => n === 0),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let state = emptyLease("map");
        let [now, newest] = [0, 0];
        const held = new Map<string, { term: number; until: number }>();
        for (const { holderId, action, usesTerm, passMs, restarts } of steps) {
          now += passMs;
          if (restarts) state = restoredLease(state, at(now));
          const term = usesTerm ? (held.get(holderId)?.term ?? 0) : 0;
          if (action === "release" && term === 0) continue;
          const decision = decideLease(state, request({ holderId, action: action as "hold", term }), at(now));
          state = decision.state;
          if (decision.outcome === "granted") {
            expect(state.term).toBeGreaterThan(newest);
            for (const [other, { until }] of held)
              if (other !== holderId) expect(until).toBeLessThanOrEqual(now);
            newest = state.term;
          }
          if (decision.outcome === "granted" || decision.outcome === "renewed")
            held.set(holderId, { term: state.term, until: now + 4_000 });
          else if (decision.outcome === "released" || decision.outcome === "lost") held.delete(holderId);
        }
      }),
    );
  });
});
