/** When a body that pauses is asked for elsewhere: a lost segment is waited for, a cut path is not. */
import { describe, expect, test } from "vitest";
import { silenceLimits, suspectInMs } from "../../../transport/core/body-silence.ts";

const far = { srttMs: 100, rttvarMs: 5, typical: { medianMs: 100 } };

describe("the limits", () => {
  test("of silence are two round trips and four deviations, of quiet little more than one", () => {
    expect(silenceLimits(far, false)).toEqual({ silentMs: 220, quietMs: 109 });
    expect(silenceLimits(far, true)).toEqual({ silentMs: 220, quietMs: 150 });
  });

  test("are no shorter than disks and schedulers take, and quiet is never the longer one", () => {
    expect(silenceLimits({ srttMs: 1, rttvarMs: 0, typical: { medianMs: 1 } }, false)).toEqual({
      silentMs: 150,
      quietMs: 100,
    });
    // The path has become shorter than it was as a rule.
    expect(silenceLimits({ srttMs: 10, rttvarMs: 0, typical: { medianMs: 400 } }, false)).toEqual({
      silentMs: 150,
      quietMs: 150,
    });
  });

  test("are unknown before anything is measured", () => {
    expect(silenceLimits({ srttMs: undefined, rttvarMs: 0, typical: undefined }, false)).toBeUndefined();
  });
});

describe("a body", () => {
  const limits = { silentMs: 220, quietMs: 110 };

  test.each([
    ["whose connection nothing is known of waits for its silence", 120, undefined, 100],
    ["that has been quiet for as long as it may is suspect", 120, 110, 0],
    ["behind a lost segment waits while others arrive", 120, 30, 80],
    ["behind a lost segment does not wait for ever", 220, 0, 0],
    ["behind a lost segment is looked at when its silence is too long", 200, 0, 20],
    ["is not suspect for a quiet that its reader made", 50, 5_000, 60],
  ])("%s", (_what, silentMs, quietMs, leftMs) => {
    expect(suspectInMs(limits, silentMs, quietMs)).toBe(leftMs);
  });
});
