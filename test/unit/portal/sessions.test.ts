/** Sessions, tries of passwords and stated accounts, with time as an argument. */
import { describe, expect, it } from "vitest";
import { type MonotonicMs, monotonicMs } from "#kit";
import { parseAccounts } from "../../../portal/core/accounts.ts";
import { AttemptLimiter } from "../../../portal/core/attempt-limiter.ts";
import { SessionTable } from "../../../portal/core/session-table.ts";

const at = (ms: number): MonotonicMs => monotonicMs(ms);
const anna = { name: "anna", customerId: "acme" };
const ben = { name: "ben", customerId: null };

describe("SessionTable", () => {
  const limits = { lifetimeMs: 1_000, sessionsMax: 3, sessionsPerAccountMax: 2 };

  it("ends a session at the end of its life, not before", () => {
    const table = new SessionTable(limits);
    table.begin("k", anna, at(0));
    expect(table.find("k", at(999))?.viewer).toEqual(anna);
    expect(table.find("k", at(1_000))).toBeUndefined();
    expect(table.size).toBe(0);
    expect(table.ended.expired).toBe(1);
  });

  it("ends a session at log-out, once", () => {
    const table = new SessionTable(limits);
    table.begin("k", anna, at(0));
    expect(table.end("k")).toBe(true);
    expect(table.end("k")).toBe(false);
    expect(table.find("k", at(1))).toBeUndefined();
    expect(table.ended.logout).toBe(1);
  });

  it("lets the oldest session of an account give way to a new one of the same account", () => {
    const table = new SessionTable(limits);
    table.begin("a1", anna, at(0));
    table.begin("b1", ben, at(1));
    table.begin("a2", anna, at(2));
    table.begin("a3", anna, at(3));
    expect(table.find("a1", at(4))).toBeUndefined();
    expect(table.find("b1", at(4))?.viewer).toEqual(ben);
    expect(table.ended.displaced).toBe(1);
  });

  it("never holds more than its limit", () => {
    const table = new SessionTable(limits);
    for (let index = 0; index < 50; index++)
      table.begin(`k${index}`, { name: `n${index}`, customerId: null }, at(index));
    expect(table.size).toBe(3);
    expect(table.ended.displaced).toBe(47);
  });
});

describe("AttemptLimiter", () => {
  const limits = { burst: 3, refillMs: 100, keysMax: 4 };

  it("allows a burst, then one more for each refill, and says when", () => {
    const limiter = new AttemptLimiter(limits);
    for (let index = 0; index < 3; index++) expect(limiter.take("a", at(0)).isAllowed).toBe(true);
    expect(limiter.take("a", at(0))).toEqual({ isAllowed: false, retryAfterMs: 100 });
    expect(limiter.take("a", at(60))).toEqual({ isAllowed: false, retryAfterMs: 40 });
    expect(limiter.take("a", at(100)).isAllowed).toBe(true);
    expect(limiter.take("a", at(100)).isAllowed).toBe(false);
  });

  it("does not count what is given back", () => {
    const limiter = new AttemptLimiter(limits);
    for (let index = 0; index < 20; index++) {
      expect(limiter.take("a", at(0)).isAllowed).toBe(true);
      limiter.giveBack("a");
    }
  });

  it("keeps keys apart", () => {
    const limiter = new AttemptLimiter(limits);
    for (let index = 0; index < 4; index++) limiter.take("a", at(0));
    expect(limiter.take("a", at(0)).isAllowed).toBe(false);
    expect(limiter.take("b", at(0)).isAllowed).toBe(true);
  });

  it("forgets the key that loses least when it is full, not the one that is blocked", () => {
    const limiter = new AttemptLimiter(limits);
    for (let index = 0; index < 4; index++) limiter.take("blocked", at(0));
    for (let index = 0; index < 50; index++) limiter.take(`other-${index}`, at(0));
    expect(limiter.size).toBe(4);
    expect(limiter.take("blocked", at(0)).isAllowed).toBe(false);
  });
});

describe("parseAccounts", () => {
  it("reads operators and customers", () => {
    const text = JSON.stringify([
      { name: "operator", password: "12345678", customerId: null },
      { name: "acme", password: "abcdefgh", customerId: "acme" },
    ]);
    expect(parseAccounts(text).map((one) => one.customerId)).toEqual([null, "acme"]);
  });

  it.each([
    ["no JSON", "secret-in-here", "got no JSON"],
    ["no list", "{}", "the list: expected a list"],
    ["an empty list", "[]", "the list: expected a list of 1 to 500"],
    [
      "a short password",
      '[{"name":"a","password":"geheim!","customerId":null}]',
      "0.password: expected a password of 8 to 256",
    ],
    [
      "an unknown key",
      '[{"name":"a","password":"geheim-genug","customerId":null,"admin":true}]',
      "0.admin: expected no such key",
    ],
    ["a missing customer", '[{"name":"a","password":"geheim-genug"}]', "0.customerId: expected"],
    [
      "a name twice",
      '[{"name":"a","password":"geheim-genug","customerId":null},{"name":"a","password":"geheim-genug","customerId":null}]',
      "1: expected a name that [0] does not use",
    ],
  ])("refuses %s and never quotes a password", (_what, text, message) => {
    expect(() => parseAccounts(text)).toThrow(message);
    expect(() => parseAccounts(text)).toThrow(/^(?!.*(?:geheim|secret-in-here)).*$/);
  });
});
