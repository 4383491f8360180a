/** Who was there before an attack, and what ended a worker: what is looked at first, and what is not looked at. */
import { describe, expect, it } from "vitest";
import { addressHash } from "../../../mapping/core/dns/octet-budget.ts";
import { Quarantine } from "../../../mapping/core/dns/quarantine.ts";
import { ResolverHistory } from "../../../mapping/core/dns/resolver-history.ts";
import { query } from "./fixture.ts";

const MINUTE = 60_000;
const placeOf = (word: number) => addressHash(7, 4, [word]);
const steady = placeOf(0xc000_0235);

describe("resolvers with a history", () => {
  function asked(history: ResolverHistory, hash: number, minutes: number, fromMinute = 0): void {
    for (let minute = 0; minute < minutes; minute++)
      for (let n = 0; n < 20; n++) history.handleCommon(hash, (fromMinute + minute) * MINUTE + n);
  }

  it("five different minutes make one, many queries in one minute do not, an hour of silence ends it", () => {
    const history = new ResolverHistory();
    asked(history, steady, 4);
    expect(history.isSteady(steady, 4 * MINUTE)).toBe(false);
    asked(history, steady, 1, 4);
    expect(history.isSteady(steady, 4 * MINUTE + 1)).toBe(true);
    expect(history.isSteady(placeOf(0xc000_0236), 4 * MINUTE + 1)).toBe(false);
    expect(history.isSteady(steady, 64 * MINUTE)).toBe(true);
    expect(history.isSteady(steady, 65 * MINUTE)).toBe(false);
    asked(history, steady, 1, 66);
    expect(history.isSteady(steady, 66 * MINUTE)).toBe(false);
  });

  it("a million forged senders do not take the place of one that is there", () => {
    const history = new ResolverHistory();
    const resolvers = Array.from({ length: 500 }, (_, n) => placeOf(0xc600_0000 + n * 7_919));
    for (const hash of resolvers) asked(history, hash, 5);
    const before = resolvers.filter((hash) => history.isSteady(hash, 5 * MINUTE));
    expect(before.length).toBeGreaterThan(490);
    for (let n = 0; n < 1_000_000; n++)
      history.handleCommon(placeOf(Math.imul(n, 0x9e37_79b1)), 5 * MINUTE + n / 100);
    expect(before.filter((hash) => !history.isSteady(hash, 15 * MINUTE))).toEqual([]);
  });
});

describe("queries that ended a worker", () => {
  const holds = (quarantine: Quarantine, bytes: Uint8Array, nowMs = 0) =>
    quarantine.holds(bytes, 0, bytes.length, nowMs);
  const deadly = query({ name: "x.shop.example", type: 99, options: [{ code: 3, data: new Uint8Array(3) }] });

  it("the same packet is dropped whatever its id and case, another one with its question is not; for ten minutes", () => {
    const quarantine = new Quarantine();
    expect(quarantine.isOn).toBe(false);
    quarantine.add(deadly, 0);
    expect(quarantine.isOn).toBe(true);
    const variant = query({
      name: "X.sHop.example",
      type: 99,
      id: 9,
      options: [{ code: 3, data: new Uint8Array(3) }],
    });
    expect(holds(quarantine, variant)).toBe(true);
    expect(holds(quarantine, query({ name: "x.shop.example", type: 99 }))).toBe(false);
    expect(holds(quarantine, query())).toBe(false);
    expect(holds(quarantine, deadly, 599_999)).toBe(true);
    expect(holds(quarantine, deadly, 600_000)).toBe(false);
    expect(quarantine.dropped).toBe(2);
  });

  it("a second crash with the same question drops the question; other names and types go on", () => {
    const quarantine = new Quarantine();
    quarantine.add(deadly, 0);
    quarantine.add(query({ name: "x.shop.example", type: 99, ecs: "0001 18 00 c00002" }), 1_000);
    expect(holds(quarantine, query({ name: "x.SHOP.example", type: 99 }), 1_000)).toBe(true);
    expect(holds(quarantine, query({ name: "x.shop.example", type: 1 }), 1_000)).toBe(false);
    expect(holds(quarantine, query({ name: "y.shop.example", type: 99 }), 1_000)).toBe(false);
  });

  it("keeps so many: the oldest goes, and what is no question is kept as a packet alone", () => {
    const quarantine = new Quarantine();
    quarantine.add(Uint8Array.of(1, 2, 3), 0);
    expect(holds(quarantine, Uint8Array.of(9, 9, 3))).toBe(true);
    for (let n = 0; n < 64; n++) quarantine.add(query({ name: `n${n}.shop.example` }), 0);
    expect(holds(quarantine, Uint8Array.of(9, 9, 3))).toBe(false);
    expect(holds(quarantine, query({ name: "n0.shop.example" }))).toBe(true);
  });
});
