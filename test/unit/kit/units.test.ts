import { describe, expect, it } from "vitest";
import { formatBytes, formatDurationMs, parseBytes, parseDurationMs } from "../../../kit/units.ts";

describe("bytes", () => {
  it.each([
    ["123", 123],
    ["0", 0],
    ["7B", 7],
    ["64KB", 64_000],
    ["1.5MB", 1_500_000],
    ["1.1KB", 1100],
    ["2GB", 2e9],
    ["1TB", 1e12],
    ["1KiB", 1024],
    ["256MiB", 268_435_456],
    ["1.5GiB", 1_610_612_736],
    ["1TiB", 2 ** 40],
    ["9007199254740991", Number.MAX_SAFE_INTEGER],
  ])("%s is %i", (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  it.each([
    "",
    "B",
    "-1",
    "+1",
    "1 KB",
    " 1",
    "1k",
    "1kb",
    "1kib",
    "1K",
    "1.KB",
    ".5KB",
    "1e3",
    "0x10",
    "1.5",
    "1.0001KB",
    "NaN",
    "9007199254740992",
    "99999TiB",
    "1,5MB",
  ])("refuses %j", (text) => {
    expect(parseBytes(text)).toBeUndefined();
  });

  it.each([
    [0, "0B"],
    [1023, "1023B"],
    [1024, "1KiB"],
    [1536, "1.5KiB"],
    [268_435_456, "256MiB"],
    [1_535_345_345, "1.43GiB"],
    [2 ** 20 - 1, "1MiB"],
    [2 ** 50, "1024TiB"],
  ])("%i prints as %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});

describe("durations", () => {
  it.each([
    ["200ms", 200],
    ["0.25ms", 0.25],
    ["1.5s", 1500],
    ["1.1s", 1100],
    ["5m", 300_000],
    ["1h", 3_600_000],
    ["2d", 172_800_000],
    ["0s", 0],
  ])("%s is %d ms", (text, ms) => {
    expect(parseDurationMs(text)).toBe(ms);
  });

  it.each(["", "5", "s", "-1s", "1 s", "1S", "1M", "1min", "1h30m", "1e3ms", "99999999999999d", "Infinitys"])(
    "refuses %j",
    (text) => {
      expect(parseDurationMs(text)).toBeUndefined();
    },
  );

  it.each([
    [0, "0ms"],
    [0.123, "0.12ms"],
    [200, "200ms"],
    [1500, "1.5s"],
    [61_000, "61s"],
    [90_000, "1.5m"],
    [300_000, "5m"],
    [129_600_000, "1.5d"],
    [3_723_456, "3723.456s"],
  ])("%d ms prints as %s", (ms, text) => {
    expect(formatDurationMs(ms)).toBe(text);
  });
});
