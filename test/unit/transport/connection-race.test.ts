import { describe, expect, test } from "vitest";
import { monotonicMs } from "#kit";
import { type NameSources, nameLookup } from "#transport";
import { AddressHistory, attemptOrder, ConnectionRace } from "../../../transport/core/connection-race.ts";
import { parseHosts } from "../../../transport/core/hosts-file.ts";

const at = monotonicMs;

describe("order of attempts (RFC 8305 section 4)", () => {
  const both = ["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2", "192.0.2.3"];

  test("families take turns, beginning with the first address's", () => {
    expect(attemptOrder(both, 0, () => false)).toEqual([
      "2001:db8::1",
      "192.0.2.1",
      "2001:db8::2",
      "192.0.2.2",
      "192.0.2.3",
    ]);
    expect(attemptOrder(["192.0.2.1", "2001:db8::1"], 0, () => false)).toEqual(["192.0.2.1", "2001:db8::1"]);
  });

  test("each connection begins with another address of the family", () => {
    const firsts = [0, 1, 2, 3].map((turn) => attemptOrder(both.slice(2), turn, () => false)[0]);
    expect(firsts).toEqual(["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1"]);
  });

  test("what failed lately comes last, and comes all the same when there is nothing else", () => {
    expect(attemptOrder(both, 0, (one) => one.includes(":"))).toEqual([
      "192.0.2.1",
      "192.0.2.2",
      "192.0.2.3",
      "2001:db8::1",
      "2001:db8::2",
    ]);
    expect(attemptOrder(["192.0.2.1"], 7, () => true)).toEqual(["192.0.2.1"]);
    expect(attemptOrder([], 1, () => true)).toEqual([]);
  });

  test("one name makes eight attempts at most, each address once", () => {
    const many = Array.from({ length: 100 }, (_, n) => `192.0.2.${n}`);
    expect(attemptOrder([...many, ...many], 3, () => false)).toHaveLength(8);
  });
});

describe("race (RFC 8305 section 5)", () => {
  test("the next attempt begins after 250 ms, or at once when one fails", () => {
    const race = new ConnectionRace(["a", "b", "c"], at(0));
    expect([race.pollStart(at(0)), race.pollStart(at(0)), race.pollTimeout()]).toEqual(["a", undefined, 250]);
    expect([race.pollStart(at(249)), race.pollStart(at(250))]).toEqual([undefined, "b"]);
    race.handleFailure("a", at(260));
    expect([race.pollStart(at(260)), race.pollTimeout(), race.isLost]).toEqual(["c", undefined, false]);
    race.handleFailure("b", at(270));
    race.handleFailure("c", at(280));
    expect(race.isLost).toBe(true);
  });

  test("an address that is silent is asked again, twice, after its time; one that refused is not", () => {
    const race = new ConnectionRace(["a", "b"], at(0), 300);
    expect([race.pollStart(at(0)), race.pollStart(at(250)), race.pollTimeout()]).toEqual(["a", "b", 550]);
    race.handleFailure("a", at(260));
    expect([race.pollStart(at(549)), race.pollStart(at(550)), race.pollStart(at(849))]).toEqual([
      undefined,
      "b",
      undefined,
    ]);
    expect([race.pollStart(at(850)), race.pollTimeout(), race.pollStart(at(9_000))]).toEqual([
      "b",
      undefined,
      undefined,
    ]);
    for (let n = 0; n < 3; n++) race.handleFailure("b", at(9_001));
    expect(race.isLost).toBe(true);
  });

  test("refused by all, nothing is asked again", () => {
    const race = new ConnectionRace(["a"], at(0), 300);
    expect(race.pollStart(at(0))).toBe("a");
    race.handleFailure("a", at(1));
    expect([race.pollTimeout(), race.pollStart(at(300)), race.isLost]).toEqual([undefined, undefined, true]);
  });

  test("what was learnt is forgotten after a minute, and bounded", () => {
    const history = new AddressHistory();
    history.handleBad("192.0.2.1", 80, at(0));
    expect([
      history.isAvoided("192.0.2.1", 80, at(59_999)),
      history.isAvoided("192.0.2.1", 443, at(0)),
      history.isAvoided("192.0.2.1", 80, at(60_000)),
    ]).toEqual([true, false, false]);
    history.handleGood("192.0.2.1", 80);
    expect(history.isAvoided("192.0.2.1", 80, at(1))).toBe(false);
    for (let n = 0; n < 2_000; n++) history.handleBad("192.0.2.1", n, at(0));
    expect(history.size).toBe(1_000);
  });
});

test("a hosts file is read as libc reads it", () => {
  const hosts = parseHosts(
    "# comment\n127.0.0.1 localhost\r\n::1\tlocalhost ip6-localhost # loop\nnonsense name\n192.0.2.1\n10.0.0.1 Origin origin\n",
  );
  expect([...hosts]).toEqual([
    ["localhost", ["127.0.0.1", "::1"]],
    ["ip6-localhost", ["::1"]],
    ["origin", ["10.0.0.1"]],
  ]);
});

describe("look-up", () => {
  const record = (address: string, ttl: number) => ({ address, ttl });
  const fails = (code: string) => () => Promise.reject(Object.assign(new Error(code), { code }));
  const sources = (more: Partial<NameSources>): NameSources => ({
    hosts: () => Promise.resolve("192.0.2.7 stated.example\n"),
    resolve4: fails("ENODATA"),
    resolve6: fails("ENODATA"),
    system: fails("ENOTFOUND"),
    now: () => 0,
    ...more,
  });

  test("the hosts file first, then both families with the shorter TTL", async () => {
    const find = nameLookup(
      sources({
        resolve4: () => Promise.resolve([record("192.0.2.1", 300), record("192.0.2.2", 60)]),
        resolve6: () => Promise.resolve([record("2001:db8::1", 120)]),
      }),
    );
    expect(await find("Stated.Example.")).toEqual({ addresses: ["192.0.2.7"], ttlMs: undefined });
    expect(await find("a.example")).toMatchObject({
      addresses: ["2001:db8::1", "192.0.2.1", "192.0.2.2"],
      ttlMs: 60_000,
    });
  });

  test("a family that fails or is slow does not keep the other one", async () => {
    const failing = nameLookup(
      sources({ resolve4: () => Promise.resolve([record("192.0.2.1", 30)]), resolve6: fails("ESERVFAIL") }),
    );
    expect(await failing("a.example")).toMatchObject({ addresses: ["192.0.2.1"], ttlMs: 30_000 });
    let answer: (records: readonly { address: string; ttl: number }[]) => void = () => {};
    const slow = nameLookup(
      sources({
        resolve4: () => Promise.resolve([record("192.0.2.1", 30)]),
        resolve6: () => new Promise((resolve) => (answer = resolve)),
      }),
    );
    const found = await slow("a.example");
    expect(found.addresses).toEqual(["192.0.2.1"]);
    answer([record("2001:db8::1", 30)]);
    expect(await found.late).toEqual(["2001:db8::1"]);
  });

  test("what DNS does not know the system may, and what DNS could not tell it is not asked for", async () => {
    const known = nameLookup(sources({ system: () => Promise.resolve(["10.0.0.9"]) }));
    expect(await known("intranet")).toEqual({ addresses: ["10.0.0.9"], ttlMs: undefined });
    let asked = 0;
    const silent = nameLookup(
      sources({
        resolve4: fails("ETIMEOUT"),
        system: () => {
          asked++;
          return Promise.resolve([]);
        },
      }),
    );
    await expect(silent("a.example")).rejects.toThrow("ETIMEOUT");
    expect(asked).toBe(0);
    await expect(nameLookup(sources({}))("gone.example")).rejects.toMatchObject({ code: "ENOTFOUND" });
  });
});
