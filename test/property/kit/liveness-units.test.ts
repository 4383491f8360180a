import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LivenessMonitor } from "../../../kit/liveness.ts";
import { monotonicMs, plusMs } from "../../../kit/time.ts";
import { TimerHeap } from "../../../kit/timer-heap.ts";
import { formatDurationMs, parseBytes, parseDurationMs } from "../../../kit/units.ts";

describe("LivenessMonitor against a model", () => {
  const step = fc.record({
    waitMs: fc.nat({ max: 700 }),
    id: fc.constantFrom("a", "b", "c"),
    action: fc.constantFrom("answer", "refuse", "nothing", "passive-ok", "passive-failed"),
  });

  it("state follows the consecutive evidence, one probe a target is in flight, events alternate", () => {
    let downs = 0;
    let ups = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 40, maxLength: 120, size: "max" }), (steps) => {
        const settings = { intervalMs: 500, timeoutMs: 300, downThreshold: 2, okThreshold: 2 };
        const monitor = new LivenessMonitor(settings);
        let now = monotonicMs(0);
        monitor.setTargets([{ id: "b" }, { id: "a" }, { id: "c" }], now);
        const flying = new Map<string, { probeId: number; until: number }>();
        const model = new Map(
          ["a", "b", "c"].map((id) => [id, { isDown: false, failures: 0, successes: 0 }]),
        );
        const seen = new Map<string, string>();
        const failed = (id: string): void => {
          const m = model.get(id) as { isDown: boolean; failures: number; successes: number };
          m.successes = 0;
          if (++m.failures >= 2) m.isDown = true;
        };
        const probed = (id: string): void => {
          const m = model.get(id) as { isDown: boolean; failures: number; successes: number };
          m.failures = 0;
          if (m.isDown && ++m.successes >= 2) {
            m.isDown = false;
            m.successes = 0;
          }
        };
        for (const { waitMs, id, action } of steps) {
          now = plusMs(now, waitMs);
          monitor.handleTimeout(now);
          for (const [target, { until }] of flying)
            if (until <= now) {
              flying.delete(target);
              failed(target);
            }
          for (let probe = monitor.pollTransmit(now); probe; probe = monitor.pollTransmit(now)) {
            expect(flying.has(probe.id)).toBe(false);
            flying.set(probe.id, { probeId: probe.probeId, until: now + probe.timeoutMs });
          }
          const flight = flying.get(id);
          if ((action === "answer" || action === "refuse") && flight) {
            flying.delete(id);
            monitor.handleProbeResult(flight.probeId, action === "answer", now);
            if (action === "answer") probed(id);
            else failed(id);
          } else if (action === "passive-ok" || action === "passive-failed") {
            monitor.handlePassive(id, action === "passive-ok", now);
            const m = model.get(id) as { isDown: boolean; failures: number };
            if (action === "passive-failed") failed(id);
            else if (!m.isDown) m.failures = 0;
          }
          for (let event = monitor.pollEvent(); event; event = monitor.pollEvent()) {
            expect(event.state).not.toBe(seen.get(event.id) ?? "up");
            seen.set(event.id, event.state);
            if (event.state === "down") downs++;
            else ups++;
          }
          for (const [target, { isDown }] of model) {
            expect(monitor.isUp(target)).toBe(!isDown);
            expect(seen.get(target) ?? "up").toBe(isDown ? "down" : "up");
          }
          expect(monitor.pollTimeout(now)).toBeGreaterThanOrEqual(now);
        }
      }),
      { numRuns: 300 },
    );
    expect(downs).toBeGreaterThan(50);
    expect(ups).toBeGreaterThan(10);
  });
});

describe("TimerHeap equals a sorted list", () => {
  it("for any sequence of set, delete and take", () => {
    const command = fc.tuple(
      fc.constantFrom("set", "set", "delete", "take"),
      fc.nat({ max: 15 }),
      fc.nat({ max: 20 }),
    );
    fc.assert(
      fc.property(fc.array(command, { maxLength: 100 }), (commands) => {
        const heap = new TimerHeap();
        const model = new Map<string, number>();
        for (const [verb, name, at] of commands) {
          const id = `t${name}`;
          const first = [...model].sort((a, b) => a[1] - b[1] || (a[0] < b[0] ? -1 : 1))[0];
          expect(heap.next()).toBe(first?.[1]);
          if (verb === "set") {
            heap.set(id, monotonicMs(at));
            model.set(id, at);
          } else if (verb === "delete") {
            expect(heap.delete(id)).toBe(model.delete(id));
          } else {
            const due = first && first[1] <= at ? first[0] : undefined;
            expect(heap.take(monotonicMs(at))).toBe(due);
            if (due !== undefined) model.delete(due);
          }
          expect(heap.size).toBe(model.size);
        }
      }),
    );
  });
});

describe("units", () => {
  it("a whole number of milliseconds is read back from its printed form", () => {
    fc.assert(
      fc.property(fc.oneof(fc.nat(), fc.nat({ max: 1e13 })), (ms) => {
        expect(parseDurationMs(formatDurationMs(ms))).toBe(ms);
      }),
    );
  });

  it("parseBytes gives a whole number or nothing", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1e6, noNaN: true }),
        fc.constantFrom("", "KB", "MiB", "TB"),
        (n, unit) => {
          const bytes = parseBytes(`${n}${unit}`);
          if (bytes !== undefined) expect(Number.isSafeInteger(bytes)).toBe(true);
        },
      ),
    );
  });
});
