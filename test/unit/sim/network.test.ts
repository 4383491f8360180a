/** Goal: the virtual network does what a link does. Method: a two-site truth, counted over many messages. */
import { describe, expect, test } from "vitest";
import { monotonicMs, Random } from "#kit";
import { Network } from "../../../sim/core/network.ts";

const network = (lossRatio: number, seed = 1): Network =>
  new Network({ between: () => ({ rttMs: 100, lossRatio }) }, new Random(seed));
const at = monotonicMs;

describe("a link", () => {
  test("takes half its round trip, never less", () => {
    const one = network(0);
    for (let n = 0; n < 200; n++) expect(one.datagram("a", "b")).toBeGreaterThanOrEqual(50);
  });

  test("loses its share of datagrams, and delays its share of segments by a retransmission", () => {
    const one = network(0.2);
    let lost = 0;
    let late = 0;
    for (let n = 0; n < 5_000; n++) {
      if (one.datagram("a", "b") === undefined) lost++;
      if ((one.stream("a", "b") ?? 0) >= 250) late++;
    }
    expect(lost / 5_000).toBeCloseTo(0.1, 1);
    expect(late / 5_000).toBeCloseTo(0.1, 1);
    expect(one.counters.lost).toBe(lost);
  });

  test("cut twice and mended once is still cut; how long is counted from the first cut", () => {
    const one = network(0);
    one.cut("a", "b", at(1_000));
    one.cut("b", "a", at(2_000));
    one.mend("a", "b", at(3_000));
    expect(one.stream("b", "a")).toBeUndefined();
    expect(one.cutForMs("b", "a", at(4_000))).toBe(3_000);
    one.mend("a", "b", at(5_000));
    expect(one.stream("a", "b")).toBeDefined();
    expect(one.wholeForMs("a", "b", at(5_500))).toBe(500);
    expect(one.wholeForMs("a", "c", at(5_500))).toBe(Number.POSITIVE_INFINITY);
    expect(() => one.mend("a", "b", at(6_000))).toThrow(RangeError);
  });

  test("what happens on one link does not depend on the traffic of another", () => {
    const quiet = network(0.3, 9);
    const busy = network(0.3, 9);
    for (let n = 0; n < 100; n++) busy.stream("c", "d");
    expect(Array.from({ length: 20 }, () => busy.stream("a", "b"))).toEqual(
      Array.from({ length: 20 }, () => quiet.stream("a", "b")),
    );
  });
});
