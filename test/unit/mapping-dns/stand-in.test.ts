/** The name server that takes its documents late: what it has in force, and when it answers, over hours of a virtual clock. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { monotonicMs, plusMs } from "#kit";
import { HoldBack } from "../../../control/core/hold-back.ts";
import { canariesOf, StandIn } from "../../../mapping/core/dns/stand-in.ts";
import { context, decide, query } from "./fixture.ts";

const HOUR = 3_600_000;

describe("documents held back", () => {
  it("each is in force between one delay and two after it came, and two of a document wait at most", () => {
    const changes = fc.array(
      fc.tuple(fc.constantFrom("map", "shop", "topology"), fc.integer({ min: 1, max: HOUR })),
      {
        minLength: 1,
        maxLength: 60,
      },
    );
    fc.assert(
      fc.property(changes, (steps) => {
        const held = new HoldBack<{ key: string; cameMs: number }>(HOUR);
        const inForce = new Map<string, number>();
        const came: { key: string; atMs: number }[] = [];
        let nowMs = 0;
        const run = (untilMs: number): void => {
          for (
            let dueMs = held.pollTimeout();
            dueMs !== undefined && dueMs <= untilMs;
            dueMs = held.pollTimeout()
          )
            for (const { key, cameMs } of held.pollDue(dueMs)) {
              expect(dueMs - cameMs).toBeGreaterThanOrEqual(HOUR);
              expect(cameMs).toBeGreaterThan(inForce.get(key) ?? -1);
              inForce.set(key, cameMs);
            }
          nowMs = untilMs;
          expect(held.size).toBeLessThanOrEqual(6);
        };
        for (const [key, waitMs] of steps) {
          run(nowMs + waitMs);
          held.handleOffer(key, { key, cameMs: nowMs }, nowMs);
          came.push({ key, atMs: nowMs });
          // Whatever came two delays ago, it or a later one is in force.
          for (const { key: old, atMs } of came)
            if (nowMs - atMs > 2 * HOUR) expect(inForce.get(old) ?? -1).toBeGreaterThanOrEqual(atMs);
        }
        run(nowMs + 2 * HOUR);
        expect(held.size).toBe(0);
        for (const { key, atMs } of came) expect(inForce.get(key)).toBeGreaterThanOrEqual(atMs);
      }),
    );
  });

  it("frozen, nothing comes into force; afterwards it has its time to show itself anew", () => {
    const held = new HoldBack<string>(HOUR);
    held.handleOffer("map", "a", 0);
    held.freeze(true, 0.5 * HOUR);
    expect([held.pollDue(9 * HOUR), held.pollTimeout()]).toEqual([[], undefined]);
    held.freeze(false, 9 * HOUR);
    // Told again that it may changes nothing.
    held.freeze(false, 9.5 * HOUR);
    expect([held.pollDue(9.9 * HOUR), held.pollTimeout()]).toEqual([[], 10 * HOUR]);
    expect(held.pollDue(10 * HOUR)).toEqual(["a"]);
  });

  it("thawed, what harmed the others is forgotten where something newer waits behind it", () => {
    const held = new HoldBack<string>(HOUR);
    held.handleOffer("map", "poison", 0);
    held.handleOffer("topology", "only", 0);
    held.freeze(true, 0.1 * HOUR);
    held.handleOffer("map", "good", 0.5 * HOUR);
    held.freeze(false, 0.6 * HOUR);
    expect(held.pollDue(1.5 * HOUR)).toEqual([]);
    expect(held.pollDue(1.6 * HOUR).toSorted()).toEqual(["good", "only"]);
    expect(held.size).toBe(0);
  });
});

describe("standing in", () => {
  /** Runs for a while; each other answers so many of five names, undefined: it is silent. */
  function run(
    standIn: StandIn,
    fromMs: number,
    seconds: number,
    answers: Readonly<Record<string, number | undefined>>,
  ) {
    let now = monotonicMs(fromMs);
    for (let step = 0; step < seconds * 10; step++) {
      now = plusMs(now, 100);
      standIn.handleTimeout(now);
      for (let probe = standIn.pollTransmit(now); probe; probe = standIn.pollTransmit(now)) {
        const answered = answers[probe.id];
        if (answered !== undefined) standIn.handleAnswers(probe.probeId, 5, answered, now);
      }
    }
    return now;
  }

  it("begins when all others are gone or poisoned, not before, and ends when one is back for a while", () => {
    const standIn = new StandIn(HOUR);
    expect(standIn.isStandingBy).toBe(false);
    standIn.setOthers(["a", "b"], monotonicMs(0));
    expect(standIn.isStandingBy).toBe(true);
    let now = run(standIn, 0, 60, { a: 5, b: 5 });
    now = run(standIn, now, 3_600, { a: undefined, b: 5 });
    expect(standIn.isStandingBy).toBe(true);
    // Three names of five is what a customer may have withdrawn; two are left of a poisoned one.
    now = run(standIn, now, 60, { a: undefined, b: 3 });
    expect(standIn.isStandingBy).toBe(true);
    now = run(standIn, now, 8, { a: undefined, b: 2 });
    expect(standIn.isStandingBy).toBe(false);
    now = run(standIn, now, 3, { a: undefined, b: 5 });
    expect(standIn.isStandingBy).toBe(false);
    now = run(standIn, now, 10, { a: undefined, b: 5 });
    expect(standIn.isStandingBy).toBe(true);
    run(standIn, now, 10, { a: 0, b: undefined });
    expect(standIn.isStandingBy).toBe(false);
  });

  it("nothing that waits comes into force while one that did well does not, for eight delays at most", () => {
    const standIn = new StandIn(HOUR);
    standIn.setOthers(["a", "b", "c", "late"], monotonicMs(0));
    let now = run(standIn, 0, 1.5, { a: 5, b: 5, c: 5, late: 0 });
    // What befell one before it was first asked may wait here.
    expect([standIn.isStandingBy, standIn.mayTake(now)]).toEqual([true, false]);
    now = run(standIn, now, 60, { a: 5, b: 5, c: 5, late: 5 });
    expect(standIn.mayTake(now)).toBe(true);
    standIn.setOthers(["a", "b", "c"], now);
    // One probe of one of them may be chance.
    now = run(standIn, now, 1, { a: 2, b: 5, c: 5 });
    expect(standIn.mayTake(now)).toBe(true);
    // Of most of them it is not, however short.
    now = run(standIn, now, 1.2, { a: 0, b: 0, c: 5 });
    expect([standIn.isStandingBy, standIn.mayTake(now)]).toEqual([true, false]);
    now = run(standIn, now, 10, { a: 5, b: 5, c: 5 });
    expect(standIn.mayTake(now)).toBe(true);
    now = run(standIn, now, 6, { a: undefined, b: 5, c: 5 });
    expect([standIn.isStandingBy, standIn.mayTake(now)]).toEqual([true, false]);
    const harmedAt = now;
    // It comes back, and fails again before it has done well for a delay: the same harm.
    now = run(standIn, now, 10, { a: 5, b: 5, c: 5 });
    expect(standIn.mayTake(now)).toBe(true);
    now = run(standIn, now, 1_800, { a: undefined, b: 5, c: 5 });
    expect(standIn.mayTake(now)).toBe(false);
    for (let left = 7.4; left > 0; left--) now = run(standIn, now, 3_600, { a: undefined, b: 5, c: 5 });
    expect(standIn.mayTake(now)).toBe(now - harmedAt >= 8 * HOUR - 10_000);
    now = run(standIn, now, 3_600, { a: undefined, b: 5, c: 5 });
    expect(standIn.mayTake(now)).toBe(true);
    // Taken out of the topology it is forgotten; without any other there is nobody to go by.
    standIn.setOthers(["b", "c"], now);
    expect(standIn.mayTake(now)).toBe(true);
    standIn.setOthers([], now);
    expect(standIn.mayTake(now)).toBe(true);
  });

  it("who was taken out of the topology is no witness by an answer that comes late", () => {
    const standIn = new StandIn(HOUR);
    standIn.setOthers(["a", "gone"], monotonicMs(0));
    let now = run(standIn, 0, 60, { a: 5, gone: 5 });
    const late: number[] = [];
    for (const end = now + 2_000; now < end; now = plusMs(now, 100))
      for (let probe = standIn.pollTransmit(now); probe; probe = standIn.pollTransmit(now))
        if (probe.id === "gone") late.push(probe.probeId);
        else standIn.handleAnswers(probe.probeId, 5, 5, now);
    standIn.setOthers(["a"], now);
    expect(late).not.toEqual([]);
    for (const probeId of late) standIn.handleAnswers(probeId, 5, 5, now);
    expect(standIn.mayTake(now)).toBe(true);
    // All that are left are in doubt.
    now = run(standIn, now, 1.2, { a: 0 });
    expect([standIn.isStandingBy, standIn.mayTake(now)]).toEqual([true, false]);
  });

  it("asks for names from all over, others each time", () => {
    const names = Array.from({ length: 100 }, (_, n) => `n${n}`);
    expect(canariesOf(names, 0)).toEqual(["n0", "n20", "n40", "n60", "n80"]);
    expect(canariesOf(names, 99)).toEqual(["n99", "n19", "n39", "n59", "n79"]);
    expect(canariesOf(["a", "b"], 7)).toEqual(["b", "a"]);
    expect(canariesOf([], 7)).toEqual([]);
  });

  it("while others answer every query is refused, and says why", () => {
    const standingBy = { ...context(), isStandingBy: true };
    for (const name of ["www.shop.example", "none.shop.example", "example.org"]) {
      const decision = decide(query({ name, edns: true }), { context: standingBy });
      expect(decision).toMatchObject({ action: "reply", reason: "standing-by", rcode: 5 });
      const bytes = decision.action === "reply" ? Buffer.from(decision.bytes).toString("hex") : "";
      // Extended error 14, Not Ready (RFC 8914).
      expect(bytes).toMatch(/000f0002000e$/);
    }
  });
});
