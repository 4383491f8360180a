import { expect, test } from "vitest";
import { RestartPolicy } from "../../../cli/up/restart-policy.ts";

const settings = { firstMs: 1_000, maxMs: 8_000, stableMs: 20_000 };

test("a child that keeps dying young waits twice as long each time, up to the longest pause", () => {
  const policy = new RestartPolicy(settings);
  const delays = [10, 10, 10, 10, 10, 10].map((livedMs) => policy.handleDeath(livedMs));
  expect(delays).toEqual([1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
});

test("a long life clears the record", () => {
  const policy = new RestartPolicy(settings);
  for (let death = 0; death < 100; death++) policy.handleDeath(0);
  expect(policy.handleDeath(20_000)).toBe(1_000);
  expect(policy.handleDeath(19_999)).toBe(2_000);
});
