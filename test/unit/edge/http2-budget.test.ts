/** Budgets of an HTTP/2 session (RFC 9113, section 10.5). */
import { expect, test } from "vitest";
import type { MonotonicMs } from "#kit";
import { http2Budgets, SessionBudget } from "../../../edge/core/http2-budget.ts";

const at = (ms: number): MonotonicMs => ms as MonotonicMs;

test.each([
  ["handleReset", "resets", "rapid-reset"],
  ["handlePing", "pings", "ping-flood"],
  ["handleSettings", "settings", "settings-flood"],
] as const)("%s: the burst, then what time gives back, then a fault", (method, kind, fault) => {
  const { burst, perSecond } = http2Budgets[kind];
  const budget = new SessionBudget(at(0));
  for (let n = 0; n < burst; n++) expect(budget[method](at(0))).toBeUndefined();
  for (let n = 0; n < perSecond; n++) expect(budget[method](at(1_000))).toBeUndefined();
  expect(budget[method](at(1_000))).toBe(fault);
});

test("requests, content and window updates explain bytes; what nothing explains is a flood", () => {
  const budget = new SessionBudget(at(0));
  budget.handleRequest(16_384);
  budget.handleContent(1_000_000);
  // 2 MB for the content, 16 KiB for the head, a sixteenth of what was sent.
  expect(budget.handleTotals(2_000_000 + 16_384 + 62_500, 1_000_000, at(1_000))).toBeUndefined();
  expect(budget.handleTotals(2_078_884 + 65_536, 1_000_000, at(2_000))).toBeUndefined();
  expect(budget.wasFlooding(2_144_420 + 8_191, 1_000_000)).toBe(false);
  expect(budget.wasFlooding(2_144_420 + 8_192, 1_000_000)).toBe(true);
  expect(budget.handleTotals(2_144_420 + 65_536, 1_000_000, at(2_000))).toBe("control-flood");
});
