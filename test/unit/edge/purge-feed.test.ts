/** Goal: over several streams of control each purge is handed on once and in order, and an old log's numbers never hide a new one's. */
import { describe, expect, it } from "vitest";
import type { PropertyId, PurgeEntry } from "#kit";
import { PurgeFeed } from "../../../edge/core/purge-feed.ts";

const entry = (purgeSeq: number): PurgeEntry => ({
  purgeSeq,
  atEpochMs: 0,
  request: { propertyId: "shop" as PropertyId, urls: [], tags: ["a"], mode: "hard" },
});

function begun(): PurgeFeed {
  const feed = new PurgeFeed(2);
  for (const stream of [0, 1])
    for (const step of feed.handleSnapshot(stream, "a", 1, true)) feed.handleDone(step);
  return feed;
}

describe("purges over two streams", () => {
  it("hands on what either brings first, and names it when it comes again", () => {
    const feed = begun();
    const told = [
      [0, 1],
      [0, 2],
      [1, 1],
      [1, 2],
      [1, 3],
      [0, 3],
    ].map(([stream = 0, seq = 0]) => feed.handlePurge(stream, entry(seq)));
    expect(told).toEqual(["apply", "apply", "repeat", "repeat", "apply", "repeat"]);
    expect(feed.counters).toEqual({ applied: 3, repeated: 3, otherLog: 0 });
  });

  it("begins anew with another log, and takes nothing of the one before from the stream that still brings it", () => {
    const feed = begun();
    feed.handlePurge(0, entry(900));
    const steps = feed.handleSnapshot(0, "b", 1, true);
    expect(steps).toEqual([{ do: "begin-anew", logId: "b" }]);
    for (const step of steps) feed.handleDone(step);
    expect(feed.handlePurge(1, entry(901))).toBe("ignore");
    expect(feed.handleSynced(1, undefined)).toBe(false);
    expect(feed.handlePurge(0, entry(1))).toBe("apply");
    // The other one hears of the new log: nothing is to be done, and it is listened to again.
    expect(feed.handleSnapshot(1, "b", 1, true)).toEqual([]);
    expect(feed.handlePurge(1, entry(1))).toBe("repeat");
    expect(feed.handlePurge(1, entry(2))).toBe("apply");
    expect(feed.handleSynced(1, undefined)).toBe(true);
    expect(feed.counters.otherLog).toBe(1);
  });

  it("loses what control keeps no more, once for both streams", () => {
    const feed = new PurgeFeed(2);
    feed.resume("a", 5);
    expect(feed.handleSnapshot(0, "a", 6, true)).toEqual([]);
    const [step] = feed.handleSnapshot(0, "a", 9, true);
    expect(step).toEqual({ do: "lose", logId: "a", upTo: 8, applied: 5 });
    if (step !== undefined) feed.handleDone(step);
    expect(feed.handleSnapshot(1, "a", 9, true)).toEqual([]);
    expect(feed.handlePurge(1, entry(8))).toBe("repeat");
    expect(feed.handlePurge(1, entry(9))).toBe("apply");
  });

  it("asks again for a step that failed", () => {
    const feed = new PurgeFeed(2);
    expect(feed.handleSnapshot(0, "a", 3, false)).toEqual([
      { do: "begin", logId: "a", floor: 0 },
      { do: "lose", logId: "a", upTo: 2, applied: 0 },
    ]);
    // Nothing was carried out: purges of it have no place yet.
    expect(feed.handlePurge(0, entry(3))).toBe("ignore");
    expect(feed.handleSnapshot(1, "a", 3, false)).toHaveLength(2);
  });

  it("is synced by a stream that resumes where it broke off", () => {
    const feed = new PurgeFeed(2);
    feed.resume("a", 5);
    expect(feed.handleSynced(0, undefined)).toBe(false);
    expect(feed.handleSynced(0, "a")).toBe(true);
    expect(feed.handlePurge(0, entry(6))).toBe("apply");
  });
});
