/** Goal: the simulated drivers run with production's settings. Method: compare with the rooms' own tables. */
import { expect, test } from "vitest";
import { simDefaults } from "#sim";
import { transportDefaults } from "#transport";

test("transport's settings are the same in the simulator", () => {
  const { attemptsMax, connectTimeoutMs, headersTimeoutMs, keepAliveMs, upstreamLiveness } = simDefaults;
  expect({ attemptsMax, connectTimeoutMs, headersTimeoutMs, keepAliveMs }).toEqual({
    attemptsMax: transportDefaults.attemptsMax,
    connectTimeoutMs: transportDefaults.connectTimeoutMs,
    headersTimeoutMs: transportDefaults.headersTimeoutMs,
    keepAliveMs: transportDefaults.keepAliveMs,
  });
  expect(upstreamLiveness).toMatchObject({
    intervalMs: transportDefaults.livenessIntervalMs,
    timeoutMs: transportDefaults.livenessTimeoutMs,
    downThreshold: transportDefaults.livenessDownThreshold,
    okThreshold: transportDefaults.livenessOkThreshold,
  });
});
