/** What is under way by number is as in a Map; an answer that comes whole counts as one whose head and end come in the same moment. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { monotonicMs } from "#kit";
import { edgeDefaults } from "#edge";
import { IdTable } from "../../../edge/core/overload/id-table.ts";
import { OriginLimiter } from "../../../edge/core/overload/origin-limiter.ts";

test("a table by number is a map", () => {
  const act = fc.record({
    isSet: fc.boolean(),
    // Numbers in turn, and such as meet in one place of the table.
    id: fc.oneof(
      fc.nat(40),
      fc.nat(40).map((n) => 2 ** 33 + 64 * n),
      fc.nat({ max: Number.MAX_SAFE_INTEGER }),
    ),
  });
  fc.assert(
    fc.property(fc.array(act, { maxLength: 400 }), (acts) => {
      const table = new IdTable<number>();
      const map = new Map<number, number>();
      for (const [place, { isSet, id }] of acts.entries()) {
        if (isSet) {
          table.set(id, place);
          map.set(id, place);
        } else expect(table.delete(id)).toBe(map.delete(id));
      }
      expect(table.size).toBe(map.size);
      for (const { id } of acts) expect(table.get(id)).toBe(map.get(id));
    }),
  );
});

test("a table with many numbers keeps those that stay", () => {
  const table = new IdTable<number>();
  for (let id = 0; id < 20_000; id++) {
    table.set(id, id);
    if (id >= 300) table.delete(id - 300 + (id % 7 === 0 ? 1 : 0));
  }
  const map = new Map<number, number>();
  for (let id = 0; id < 20_000; id++) {
    map.set(id, id);
    if (id >= 300) map.delete(id - 300 + (id % 7 === 0 ? 1 : 0));
  }
  expect(table.size).toBe(map.size);
  for (let id = 0; id < 20_000; id++) expect(table.get(id)).toBe(map.get(id));
});

test("an answer that comes whole is one whose head and end come at once", () => {
  const settings = {
    limitMax: 64,
    limitMin: 2,
    limitInitial: 4,
    burstMax: 8,
    queueMax: 32,
    allowanceMs: edgeDefaults.originWaitMs,
    probeIntervalMs: edgeDefaults.originProbeIntervalMs,
    queueDelayMs: edgeDefaults.queueDelayMs,
    queueDelayBurstMs: edgeDefaults.queueDelayBurstMs,
  };
  const act = fc.record({
    kind: fc.constantFrom("offer", "answer", "fail", "timeout"),
    answer: fc.constantFrom("good", "rejected", "neutral"),
    which: fc.nat(),
    afterMs: fc.nat(40),
  } as const);
  fc.assert(
    fc.property(fc.array(act, { maxLength: 300 }), (acts) => {
      const whole = new OriginLimiter(settings, true, monotonicMs(0), 0);
      const parts = new OriginLimiter(settings, true, monotonicMs(0), 0);
      const both = [whole, parts];
      const open: number[] = [];
      let ms = 0;
      for (const [id, { kind, answer, which, afterMs }] of acts.entries()) {
        ms += afterMs;
        const now = monotonicMs(ms);
        const one = open[which % Math.max(1, open.length)] ?? -1;
        if (kind === "offer") {
          const [first, second] = both.map((limiter) => limiter.offer(id, "p", false, now));
          expect(first).toEqual(second);
          if (first?.kind === "admitted") open.push(id);
        } else if (kind === "answer" && one >= 0) {
          whole.handleAnswer(one, answer, now);
          parts.handleHead(one, answer, now);
          parts.handleEnd(one, now);
        } else if (kind === "fail" && one >= 0)
          for (const limiter of both) limiter.handleFailure(one, "failed", which % 2 === 0, now);
        else if (kind === "timeout") for (const limiter of both) limiter.handleTimeout(now);
        if (one >= 0 && (kind === "answer" || kind === "fail")) open.splice(open.indexOf(one), 1);
        for (let event = whole.pollEvent(); ; event = whole.pollEvent()) {
          expect(event).toEqual(parts.pollEvent());
          if (event === undefined) break;
          if (event.shed === undefined) open.push(event.id);
        }
        const stateOf = (limiter: OriginLimiter) => [
          limiter.limit,
          limiter.inFlight,
          limiter.queued,
          limiter.pollTimeout(),
        ];
        expect(stateOf(whole)).toEqual(stateOf(parts));
      }
    }),
  );
});
