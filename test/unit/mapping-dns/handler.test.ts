/** What the sockets ask, under a flood from one network: rate limit, slip, cookies, and what goes out against what comes in. */
import { describe, expect, it } from "vitest";
import { createLogger } from "#kit/io";
import { DnsHandler, WAIT, WAIT_FIRST } from "#mapping";
import { DnsCounters } from "../../../mapping/core/dns/counters.ts";
import { ResponseRateLimit } from "../../../mapping/core/dns/rate-limit.ts";
import { readMessage } from "../../../mapping/core/dns/wire.ts";
import { context, hex, query } from "./fixture.ts";

const state = context();
const FLOOD = 2_000;

function flood(bytes: (n: number) => Uint8Array) {
  const rateLimit = new ResponseRateLimit({ perSecond: 20, slip: 2, seed: 1 });
  const handler = new DnsHandler({
    context: () => state,
    counters: new DnsCounters(),
    logger: createLogger({ role: "nameserver", id: "test" }),
    service: { cookieSecret: new Uint8Array(16).fill(3) },
    rateLimit,
  });
  const out = new Uint8Array(1_300);
  const sender = { family: 4 as const, words: Uint32Array.of(0xc0000201, 0, 0, 0), port: 5353 };
  const sums = { bytesIn: 0, bytesOut: 0, full: 0, cut: 0, silent: 0 };
  for (let n = 0; n < FLOOD; n++) {
    const asked = bytes(n);
    const length = handler.answerUdp(asked, 0, asked.length, sender, out, 0);
    sums.bytesIn += asked.length;
    sums.bytesOut += length;
    if (length === 0) {
      sums.silent++;
      continue;
    }
    const read = readMessage(out.slice(0, length));
    if (!read.ok) throw new Error(`a reply does not parse: ${read.fault}`);
    const { header, answers, authorities, edns, questions } = read.message;
    expect(header.rcode === 0 || header.rcode === 3).toBe(true);
    expect(questions).toHaveLength(1);
    expect(edns !== undefined).toBe(asked[11] === 1);
    if (header.isTruncated) {
      sums.cut++;
      expect(answers.length + authorities.length).toBe(0);
    } else sums.full++;
  }
  return { ...sums, rateLimit, handler };
}

describe("a flood from one network", () => {
  it.each([
    ["a name with a client subnet (fast path)", () => query({ ecs: "0001 18 00 c00002" })],
    ["a name without EDNS (fast path)", () => query()],
    ["names that do not exist (full path)", (n: number) => query({ name: `x${n}.shop.example`, edns: true })],
  ])("%s: less goes out than comes in, and every other answer held back says TC", (_, bytes) => {
    const { bytesIn, bytesOut, full, cut, silent, rateLimit } = flood(bytes);
    expect(bytesOut).toBeLessThanOrEqual(bytesIn);
    expect(full).toBeGreaterThanOrEqual(20);
    expect(full).toBeLessThan(FLOOD / 4);
    expect(Math.abs(cut - silent)).toBeLessThanOrEqual(1);
    expect(rateLimit.counters).toEqual({ slipped: cut, dropped: silent, cut: 0 });
  });

  it("who shows a cookie of ours gets every answer", () => {
    const options = [{ code: 10, data: hex("0102030405060708") }];
    const { handler } = flood(() => query());
    const out = new Uint8Array(1_300);
    // Another network has room yet: it gets its cookie, and shows it from then on.
    const other = { family: 4 as const, words: Uint32Array.of(0xcb007101, 0, 0, 0), port: 5353 };
    const asked = query({ options });
    const length = handler.answerUdp(asked, 0, asked.length, other, out, 0);
    const read = readMessage(out.slice(0, length));
    const data = read.ok ? read.message.edns?.options[0]?.data : undefined;
    expect(data).toHaveLength(24);
    const known = query({ options: [{ code: 10, data: data! }] });
    for (let n = 0; n < 200; n++) {
      const bytes = handler.answerUdp(known, 0, known.length, other, out, 0);
      expect((out[2] as number) & 0x02).toBe(0);
      expect(bytes).toBe(length);
    }
  });
});

describe("forged senders in many networks", () => {
  const SURPLUS = 3_000;
  function forged(mayWait: boolean, bytes: (n: number) => Uint8Array, surplusBytesPerSecond = SURPLUS) {
    const rateLimit = new ResponseRateLimit({
      perSecond: 500,
      slip: 2,
      seed: 1,
      surplusBytesPerSecond,
    });
    const counters = new DnsCounters();
    const handler = new DnsHandler({
      context: () => state,
      counters,
      logger: createLogger({ role: "nameserver", id: "test" }),
      service: { cookieSecret: new Uint8Array(16).fill(3) },
      rateLimit,
    });
    const out = new Uint8Array(1_300);
    const ask = (word: number, asked: Uint8Array) => {
      const sender = { family: 4 as const, words: Uint32Array.of(word, 0, 0, 0), port: 53, mayWait };
      return handler.answerUdp(asked, 0, asked.length, sender, out, 0);
    };
    let surplus = 0;
    let longest = 0;
    const beganMs = performance.now();
    for (let n = 0; n < FLOOD; n++) {
      const asked = bytes(n);
      surplus += Math.max(0, ask(n * 0x1_0001, asked)) - asked.length;
      longest = Math.max(longest, surplus);
    }
    return {
      ask,
      handler,
      rateLimit,
      counters,
      longest,
      seconds: (performance.now() - beganMs) / 1_000,
      out,
    };
  }

  it.each([
    ["a name with a client subnet (fast path)", () => query({ ecs: "0001 18 00 c00002" })],
    [
      "a name with a client cookie, whose TC form is longer than it",
      () => query({ options: [{ code: 10, data: new Uint8Array(8) }] }),
    ],
    ["names that do not exist (full path)", (n: number) => query({ name: `x${n}.shop.example`, edns: true })],
  ])("%s: never more goes out than comes in and the budget has", (_, bytes) => {
    const { longest, rateLimit, seconds } = forged(false, bytes);
    expect(rateLimit.counters.cut).toBeGreaterThan(FLOOD / 4);
    expect(rateLimit.counters.dropped).toBe(0);
    expect(longest).toBeLessThanOrEqual(SURPLUS * (1 + seconds) + 1);
  });

  it("who has come over TCP, or shown a cookie, gets whole answers all the same", () => {
    const { ask, handler, out } = forged(false, () => query(), 10);
    const isWhole = (word: number, asked = query()) =>
      ask(word, asked) > 0 && ((out[2] as number) & 0x02) === 0;
    expect(isWhole(0xcb00_7101)).toBe(false);
    handler.answerTcp(query(), { family: 4, words: [0xcb00_7101] }, 53, "tcp");
    expect(isWhole(0xcb00_7101)).toBe(true);
    expect(isWhole(0xcb00_7102)).toBe(false);
  });

  it("names that cost much are put off, those of who is known less, up to a rate; common ones are for all at once", () => {
    const missing = query({ name: "none.shop.example" });
    const { ask, handler, counters } = forged(true, () => missing);
    expect(counters.queries).toBe(0);
    expect(ask(1, missing)).toBe(WAIT);
    expect(ask(1, query())).toBeGreaterThan(0);
    const known = 0xcb00_7101;
    handler.answerTcp(query(), { family: 4, words: [known] }, 53, "tcp");
    // A flood through a resolver that is known is a flood all the same.
    const asked = Array.from({ length: 1_000 }, () => ask(known, missing));
    const first = asked.filter((bytes) => bytes === WAIT_FIRST).length;
    expect(asked.slice(0, 100).every((bytes) => bytes === WAIT_FIRST)).toBe(true);
    expect(first).toBeLessThan(500);
    expect(asked.filter((bytes) => bytes === WAIT).length).toBe(1_000 - first);
    expect(ask(known, query())).toBeGreaterThan(0);
  });
});
