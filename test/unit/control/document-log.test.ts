import { describe, expect, it } from "vitest";
import { applyReasons, decideApply, fenceOf } from "#control";
import { backoffDelayMs } from "../../../control/core/backoff.ts";
import {
  decideActivate,
  decideAppend,
  decideWatchStart,
  emptyHead,
  pruneUpTo,
  retentionDefaults,
  watchStarts,
} from "../../../control/core/document-log.ts";

describe("decideAppend", () => {
  it.each([
    [emptyHead, 0, { outcome: "appended", version: 1, activates: true }],
    [emptyHead, 1, { outcome: "conflict", presentVersion: 0 }],
    [{ latestVersion: 3, activeVersion: 1 }, 3, { outcome: "appended", version: 4, activates: true }],
    [{ latestVersion: 3, activeVersion: 1 }, 2, { outcome: "conflict", presentVersion: 3 }],
  ])("%j expecting %i", (head, expectedVersion, decision) => {
    expect(decideAppend(head, expectedVersion, true)).toEqual(decision);
  });
});

describe("decideActivate", () => {
  const head = { latestVersion: 3, activeVersion: 2 };
  it.each([
    [3, true, 2, { outcome: "activated", version: 3 }],
    [1, true, 2, { outcome: "activated", version: 1 }],
    [2, true, 2, { outcome: "unchanged", version: 2 }],
    [3, true, null, { outcome: "conflict", presentVersion: 2 }],
    [3, true, 1, { outcome: "conflict", presentVersion: 2 }],
    [4, true, 2, { outcome: "unknown-version" }],
    [0, true, 2, { outcome: "unknown-version" }],
    [1, false, 2, { outcome: "unknown-version" }],
  ])("version %i, kept %s, expecting %s", (version, isKept, expected, decision) => {
    expect(decideActivate(head, version, isKept, expected)).toEqual(decision);
  });
});

describe("decideWatchStart", () => {
  const bounds = { logId: "a", oldestSeq: 5, newestSeq: 9 };
  const cases = [
    [undefined, "fresh"],
    [{ logId: "b", seq: 9 }, "other-log"],
    [{ logId: "a", seq: 10 }, "ahead"],
    [{ logId: "a", seq: 9 }, "resume"],
    // Place 4 has seen 4; 5 is the first that is kept, so nothing is missing.
    [{ logId: "a", seq: 4 }, "resume"],
    [{ logId: "a", seq: 3 }, "too-old"],
  ] as const;
  it.each(cases)("%j: %s", (since, start) => {
    expect(decideWatchStart(bounds, since)).toBe(start);
  });
  it("has a case for every reason", () => {
    expect(new Set(cases.map(([, start]) => start))).toEqual(new Set(watchStarts));
  });
  it("resumes in a log in which nothing ever happened", () => {
    expect(decideWatchStart({ logId: "a", oldestSeq: 1, newestSeq: 0 }, { logId: "a", seq: 0 })).toBe(
      "resume",
    );
  });
});

describe("pruneUpTo", () => {
  it("lets only maps go", () => {
    expect(pruneUpTo("map", 51, retentionDefaults)).toBe(1);
    expect(pruneUpTo("map", 50, retentionDefaults)).toBe(0);
    expect(pruneUpTo("property", 10_000, retentionDefaults)).toBe(0);
  });
});

const fence = (term: number, version: number) => ({ term, version });

describe("fenceOf", () => {
  it.each([
    ["map", { mapVersion: 7, publication: { term: 3, publisherId: "mapper" } }, fence(3, 7)],
    ["map", { mapVersion: 7 }, fence(0, 7)],
    ["map", { mapVersion: "7" }, undefined],
    ["map", null, undefined],
    ["property", { mapVersion: 7 }, undefined],
  ] as const)("%s %j: %j", (kind, body, found) => expect(fenceOf(kind, body)).toEqual(found));
});

describe("decideApply", () => {
  const applied = { logId: "a", seq: 7, version: 3 };
  const cases = [
    [undefined, { logId: "a", seq: 1, version: 1 }, true, "first"],
    [applied, { logId: "a", seq: 8, version: 4 }, true, "newer"],
    // An explicit roll-back: a lower version, decided later.
    [applied, { logId: "a", seq: 8, version: 1 }, true, "newer"],
    [applied, { logId: "a", seq: 7, version: 3 }, false, "same"],
    // A delayed message, even with a higher version number: what is in force was decided after it.
    [applied, { logId: "a", seq: 6, version: 4 }, false, "older"],
    [applied, { logId: "b", seq: 1, version: 1 }, true, "new-log"],
    ...[fence(2, 9), fence(3, 1)].flatMap((newer) => [
      [
        { ...applied, fence: fence(2, 8) },
        { logId: "a", seq: 8, version: 4, fence: newer },
        true,
        "newer",
      ] as const,
    ]),
    // A delayed publisher got it into the log, or the log is last night's copy: its place is newer, what it holds is not.
    [
      { ...applied, fence: fence(2, 8) },
      { logId: "a", seq: 8, version: 4, fence: fence(1, 99) },
      false,
      "fenced",
    ],
    [
      { ...applied, fence: fence(2, 8) },
      { logId: "b", seq: 8, version: 4, fence: fence(2, 7) },
      false,
      "fenced",
    ],
    [
      { ...applied, fence: fence(2, 8) },
      { logId: "b", seq: 8, version: 4, fence: fence(2, 8) },
      false,
      "same",
    ],
    // Control was put back to an older copy of its log and has gone on from there.
    [
      { ...applied, fence: fence(2, 8) },
      { logId: "a", seq: 5, version: 4, fence: fence(3, 1) },
      true,
      "newer",
    ],
    [
      { ...applied, fence: fence(2, 8) },
      { logId: "a", seq: 5, version: 4, fence: fence(2, 7) },
      false,
      "older",
    ],
    // What was published before there were terms gives way to the first term, and to nothing older.
    [
      { ...applied, fence: fence(0, 8) },
      { logId: "a", seq: 8, version: 4, fence: fence(1, 1) },
      true,
      "newer",
    ],
  ] as const;
  it.each(cases)("%j offered %j: %s, %s", (state, offered, mayApply, reason) => {
    expect(decideApply(state, offered)).toEqual({ mayApply, reason });
  });
  it("has a case for every reason", () => {
    expect(new Set(cases.map((one) => one[3]))).toEqual(new Set(applyReasons));
  });
});

describe("backoffDelayMs", () => {
  it("doubles from 100 ms to 2 s, half of it drawn", () => {
    expect([0, 1, 2, 3, 4, 5, 99_999].map((failures) => backoffDelayMs(failures, 0))).toEqual([
      50, 100, 200, 400, 800, 1_000, 1_000,
    ]);
    expect(backoffDelayMs(0, 0.5)).toBe(75);
    expect(backoffDelayMs(99_999, 0.999)).toBeLessThan(2_000);
  });
});
