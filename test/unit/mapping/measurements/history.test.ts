import { expect, test } from "vitest";
import { epochMs, type MonotonicMs } from "#kit";
import { MeasuredHistory } from "../../../../mapping/core/measurements/history.ts";
import { MeasurementStore, type StoredSample } from "#mapping";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const now = epochMs(1_700_000_000_000 - (1_700_000_000_000 % HOUR));

function history(samples: readonly (readonly [agoMs: number, rttMs: number | null, method?: "http"])[]) {
  const store = new MeasurementStore();
  for (const [agoMs, rttMs, method = "icmp"] of samples) {
    const sample: StoredSample = {
      from: "net",
      to: "fra",
      source: "probe",
      agent: "one",
      method,
      at: epochMs(now - agoMs),
      rttMs,
    };
    expect(store.handleSample(sample, now)).toBeUndefined();
  }
  const found = new MeasuredHistory(store, (at) => epochMs(at));
  return { store, of: (at = 0) => found.estimate("net", "fra", (now + at) as MonotonicMs) };
}
const every = (fromMs: number, toMs: number, rttMs: number | null, stepMs = 5 * MINUTE) =>
  Array.from(
    { length: Math.floor((fromMs - toMs) / stepMs) },
    (_, n) => [fromMs - n * stepMs, rttMs === null ? null : rttMs + (n % 4)] as const,
  );

test("the lower quartile of the windows, with spread, loss, age and how sure it is", () => {
  const found = history([...every(3 * HOUR, 0, 20), [MINUTE, null]]).of();
  expect(found?.rttMs).toBeGreaterThan(19.9);
  expect(found?.rttMs).toBeLessThan(21.1);
  expect(found?.spreadMs).toBeGreaterThan(0.9);
  expect(found).toMatchObject({ ageMs: MINUTE, samples: 37 });
  expect(found?.lossRatio).toBeCloseTo((1 + 0.2) / 137, 5);
  expect(found?.confidence).toBeGreaterThan(0.99);
});

test("what was measured before the path changed does not count, a single odd window does no harm", () => {
  const up = history([...every(6 * HOUR, HOUR, 20), ...every(HOUR, 0, 60)]).of();
  expect(up?.rttMs).toBeGreaterThan(59);
  const down = history([...every(6 * HOUR, HOUR, 60), ...every(HOUR, 0, 20)]).of();
  expect(down?.rttMs).toBeLessThan(22);
  // Too few answers to be a new level by themselves.
  expect(history([...every(6 * HOUR, 0, 20), [MINUTE, 300]]).of()?.rttMs).toBeLessThan(22);
});

test("days ago counts less, and still more than what others lend; minutes ago is fresh", () => {
  const of = (agoMs: number) => history(every(agoMs + HOUR, agoMs, 20)).of();
  const [minutes, days] = [of(5 * MINUTE), of(72 * HOUR)];
  expect(minutes?.freshness).toBeGreaterThan(0.99);
  expect(days?.freshness).toBeLessThan(0.5);
  expect(days?.confidence).toBeGreaterThan(0.37);
});

test("silence of the newest window is a cut; what never answered, or only by HTTP, says nothing", () => {
  const cut = history([...every(3 * HOUR, HOUR, 20), ...every(30 * MINUTE, 0, null, MINUTE)]).of();
  expect(cut?.lossRatio).toBeGreaterThan(0.99);
  expect(history([[MINUTE, null]]).of()).toBeUndefined();
  expect(history([[MINUTE, 20, "http"]]).of()).toBeUndefined();
});

test("it is looked at again when something has come in", () => {
  const { store, of } = history(every(HOUR, 0, 20));
  expect(of()?.rttMs).toBeLessThan(22);
  for (let n = 0; n < 20; n++)
    store.handleSample(
      {
        from: "net",
        to: "fra",
        source: "probe",
        agent: "one",
        method: "icmp",
        at: epochMs(now + n),
        rttMs: 5,
      },
      now,
    );
  expect(of(MINUTE)?.rttMs).toBeLessThan(6);
});
