/** A million mutated requests into the HTTP/1.1 connection; `npm run lab -- fuzz` goes on to twenty million. */
import { expect, test } from "vitest";
import { fuzzFlatPath, fuzzServer, HANG_MS } from "../tools/hostile/fuzz.ts";

const SEED = Number(process.env["ISOCHRONE_TEST_SEED"] ?? 20_261_121);

test("the flat path: no throw, no hang, nothing passed on that a strict reader reads differently, the rest handed over intact", async () => {
  const report = await fuzzFlatPath({ count: 1_000_000, seed: SEED });
  expect(report.findings).toEqual([]);
  expect(report.slowestMs).toBeLessThanOrEqual(HANG_MS);
  // A run in which hardly anything is taken, or hardly anything refused, would be vacuous.
  expect(report.accepted).toBeGreaterThan(100_000);
  expect(report.handedOver).toBeGreaterThan(100_000);
  expect(report.refused).toBeGreaterThan(10_000);
}, 180_000);

test("the whole server, both readers: no throw, an end for everybody who has said all, no request that was not sent", async () => {
  const report = await fuzzServer({ count: 10_000, seed: SEED });
  expect(report.findings).toEqual([]);
  expect(report.accepted).toBeGreaterThan(1_500);
  expect(report.refused).toBeGreaterThan(1_500);
}, 120_000);
