/** When a busy socket is left alone for a moment: the decision alone, by a clock of its own. */
import { describe, expect, it } from "vitest";
import { GATHER_MS, GATHERED_MIN, Gathering } from "../../../mapping/core/dns/gathering.ts";

/** Wakes that come `everyMs`, in each of which `waits` bring so many datagrams; how often each wake waited. */
function wakes(gathering: Gathering, count: number, everyMs: number, broughtBy: () => number): number[] {
  let nowMs = 1_000;
  return Array.from({ length: count }, () => {
    nowMs += everyMs;
    gathering.begin(nowMs);
    let waits = 0;
    let datagrams = 1;
    while (gathering.isWorthAWait(datagrams, nowMs)) {
      waits++;
      nowMs += GATHER_MS;
      datagrams = broughtBy();
    }
    return waits;
  });
}

describe("datagrams that gather", () => {
  it("who is busy waits until the event loop is to have its turn; the first wake does not", () => {
    const [first, ...others] = wakes(new Gathering(), 20, GATHER_MS / 2, () => GATHERED_MIN);
    expect(first).toBe(0);
    // 2 ms a turn.
    expect(new Set(others)).toEqual(new Set([2 / GATHER_MS]));
  });

  it("who is not busy never waits", () => {
    expect(wakes(new Gathering(), 20, GATHER_MS, () => 64)).toEqual(Array.from({ length: 20 }, () => 0));
  });

  it("who asks one query after the other waits for one of 64", () => {
    const waited = wakes(new Gathering(), 641, GATHER_MS / 4, () => 1);
    expect(waited.reduce((sum, one) => sum + one, 0)).toBe(10);
    expect(Math.max(...waited)).toBe(1);
  });

  it("a wait that brings too little ends waiting within the turn, until it is tried again", () => {
    const gathering = new Gathering();
    let left = 3;
    const waited = wakes(gathering, 70, GATHER_MS / 4, () => (left-- > 0 ? GATHERED_MIN : GATHERED_MIN - 1));
    expect(waited.slice(0, 65)).toEqual([0, 4, ...Array.from({ length: 63 }, () => 0)]);
    expect(waited[65]).toBe(1);
  });
});
