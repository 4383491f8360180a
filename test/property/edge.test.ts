/** Laws of the cache policy that hold for any input. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { epochMs } from "#kit";
import { decideRequest, decideResponse } from "../../edge/core/decide.ts";
import { ageValue, currentAgeMs, freshness } from "../../edge/core/freshness.ts";
import { endToEndFields, type Fields } from "../../edge/core/headers.ts";
import { formatHttpDate, parseHttpDate } from "../../edge/core/http-date.ts";
import type { StoredHead } from "../../edge/core/messages.ts";
import { PurgeIndex } from "../../edge/core/purge-index.ts";
import { matchesVariant, nominatedValue, selectVariant } from "../../edge/core/vary.ts";
import { get, policy, stored, T0 } from "../unit/edge/support.ts";

const directive = fc.constantFrom(
  "max-age=60",
  "max-age=0",
  "s-maxage=10",
  "no-store",
  "private",
  "public",
  "no-cache",
  "must-revalidate",
  "must-understand",
  'max-age="5"',
  "max-age=-1",
  "stale-if-error=9",
  "stale-while-revalidate=9",
  'private="a"',
  'x="no-store"',
  ", ,",
  '"',
);
const fields: fc.Arbitrary<Fields> = fc.array(
  fc.oneof(
    fc.tuple(
      fc.constantFrom("Cache-Control", "CACHE-CONTROL"),
      fc.array(directive, { maxLength: 4 }).map((list) => list.join(", ")),
    ),
    fc.tuple(fc.constant("Age"), fc.oneof(fc.nat().map(String), fc.string())),
    fc.tuple(
      fc.constantFrom("Date", "Expires", "Last-Modified"),
      fc.oneof(
        fc.integer({ min: -1e9, max: 1e9 }).map((ms) => formatHttpDate(epochMs(T0 + ms))),
        fc.string(),
      ),
    ),
    fc.tuple(fc.constant("Vary"), fc.constantFrom("A", "A, B", "b", "*", "c d")),
    fc.tuple(fc.constant("ETag"), fc.constantFrom('"a"', 'W/"a"', "a")),
  ),
  { maxLength: 6 },
);
const time = fc.integer({ min: -1e12, max: 1e12 }).map((ms) => epochMs(T0 + ms));

test("age is never negative and never falls while time goes on", () => {
  fc.assert(
    fc.property(fields, time, time, time, fc.nat(1e9), (list, requestTime, responseTime, now, later) => {
      const response = { status: 200, fields: list, requestTime, responseTime };
      const age = currentAgeMs(response, response, now);
      expect(age).toBeGreaterThanOrEqual(0);
      expect(currentAgeMs(response, response, epochMs(now + later))).toBeGreaterThanOrEqual(age);
      expect(freshness(response, policy(), now).ageSeconds).toBeGreaterThanOrEqual(0);
      const stated = ageValue(response);
      if (stated === "invalid") expect(freshness(response, policy(), now).isFresh).toBe(false);
    }),
  );
});

test("no-store and private are never stored, whatever else is said, unless must-understand allows it", () => {
  let forbidden = 0;
  fc.assert(
    fc.property(
      fields,
      fc.constantFrom("no-store", "private"),
      fc.integer({ min: 200, max: 599 }),
      fc.option(fc.nat(1e6), { nil: null }),
      (list, word, status, overrideTtlSeconds) => {
        const all: Fields = [...list, ["Cache-Control", word]];
        const decision = decideResponse<StoredHead>({
          request: get(),
          policy: policy({ overrideTtlSeconds, defaultTtlSeconds: 60 }),
          stored: undefined,
          outcome: { kind: "response", response: { status, fields: all } },
          times: { requestTime: T0, responseTime: T0 },
          generation: 0,
          isPurgedMeanwhile: () => false,
          contentLength: undefined,
          objectBytesMax: 1e9,
          isOwner: true,
          now: T0,
        });
        const understands = list.some(([, value]) => /must-understand/.test(value));
        // An unclosed quote before it may swallow the line it stands in, never another line.
        if (word === "no-store" && understands) return;
        forbidden++;
        expect(decision.action).not.toBe("store");
      },
    ),
    { numRuns: 500 },
  );
  expect(forbidden).toBeGreaterThan(100);
});

test("what is served without asking is fresh, or in a window, and of the right variant", () => {
  let hits = 0;
  fc.assert(
    fc.property(fields, fields, fields, fc.nat(200_000), (list, first, second, afterMs) => {
      const object = stored([...list, ["Cache-Control", "max-age=100"]], {}, first);
      const now = epochMs(T0 + afterMs);
      const decision = decideRequest({
        request: get(second),
        policy: policy(),
        variants: [object],
        purgeStateOf: () => "none" as const,
        now,
      });
      if (decision.action !== "hit" && decision.action !== "hit-and-revalidate") return;
      hits++;
      expect(matchesVariant(object, second)).toBe(true);
      for (const name of object.nominatedFields)
        expect(nominatedValue(second, name)).toBe(nominatedValue(first, name));
      if (decision.action === "hit") expect(decision.fresh.isFresh).toBe(true);
    }),
    { numRuns: 1_000 },
  );
  expect(hits).toBeGreaterThan(20);
});

test("a variant is selected only for requests that agree in every nominated field", () => {
  const value = fc.option(fc.constantFrom("1", "2", " 1 ", "1,2", "1, 2"), { nil: undefined });
  const ask = fc
    .record({ a: value, b: value })
    .map(
      ({ a, b }): Fields => [
        ...(a === undefined ? [] : [["A", a] as const]),
        ...(b === undefined ? [] : [["b", b] as const]),
      ],
    );
  fc.assert(
    fc.property(fc.array(ask, { minLength: 1, maxLength: 5 }), ask, (originals, presented) => {
      const variants = originals.map((original) => stored([["Vary", "A, B"]], {}, original));
      const selected = selectVariant(variants, presented);
      const isThere = originals.some((original) =>
        ["a", "b"].every((name) => nominatedValue(original, name) === nominatedValue(presented, name)),
      );
      expect(selected !== undefined).toBe(isThere);
    }),
  );
});

test("framing and nominated fields never pass", () => {
  const name = fc.constantFrom(
    "Transfer-Encoding",
    "content-length",
    "Connection",
    "TE",
    "X-A",
    "x-b",
    "Keep-Alive",
    "Upgrade",
    "Trailer",
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(name, fc.oneof(fc.string(), fc.constantFrom("x-a", "X-B, x-a", "close"))), {
        maxLength: 10,
      }),
      (list) => {
        const passed = endToEndFields(list).map(([one]) => one.toLowerCase());
        for (const one of passed) expect(["x-a", "x-b"]).toContain(one);
        const nominated = list
          .filter(([one]) => one === "Connection")
          .flatMap(([, value]) => value.split(",").map((part) => part.trim().toLowerCase()));
        for (const one of passed) expect(nominated).not.toContain(one);
      },
    ),
  );
});

test("HTTP dates are read back as they were written", () => {
  fc.assert(
    fc.property(fc.integer({ min: -60_000_000_000, max: 200_000_000_000 }), (seconds) => {
      const when = epochMs(seconds * 1_000);
      expect(parseHttpDate(formatHttpDate(when), T0)).toBe(when);
      expect(formatHttpDate(when)).toBe(new Date(when).toUTCString());
    }),
  );
});

test("the purge index agrees with a list of all purges, and forgetting only makes it stricter", () => {
  const name = fc.constantFrom("a", "b", "c", "d");
  const purge = fc.record({
    keys: fc.array(name, { maxLength: 2 }),
    tags: fc.array(name, { maxLength: 2 }),
    mode: fc.constantFrom("soft" as const, "hard" as const),
  });
  fc.assert(
    fc.property(
      fc.array(purge, { maxLength: 12 }),
      fc.nat(12),
      name,
      fc.array(name, { maxLength: 2 }),
      fc.integer({ min: 1, max: 20 }),
      (purges, generation, key, tags, marksMax) => {
        const exact = new PurgeIndex();
        const small = new PurgeIndex(0, marksMax);
        let expected: "none" | "soft" | "hard" = "none";
        for (const [index, one] of purges.entries()) {
          exact.apply(index + 1, "p", one, one.mode);
          small.apply(index + 1, "p", one, one.mode);
          const isMeant = one.keys.includes(key) || one.tags.some((tag) => tags.includes(tag));
          if (index + 1 > generation && isMeant && expected !== "hard") expected = one.mode;
        }
        expect(exact.stateOf("p", key, { generation, tags })).toBe(expected);
        if (expected !== "none") expect(small.stateOf("p", key, { generation, tags })).not.toBe("none");
      },
    ),
    { numRuns: 500 },
  );
});

test("purges by prefix, host and property agree with a reading of the URL", () => {
  const segments = fc.array(fc.constantFrom("a", "b", ""), { maxLength: 4 });
  const host = fc.constantFrom("h", "g");
  fc.assert(
    fc.property(
      fc.record({ host, segments, query: fc.constantFrom("", "?a/b") }),
      fc.record({ host, segments, isWhole: fc.boolean(), isHost: fc.boolean() }),
      (one, purge) => {
        const index = new PurgeIndex();
        const prefix = `${purge.host}/${purge.segments.join("/")}`;
        const selection = purge.isWhole
          ? { isWhole: true }
          : purge.isHost
            ? { hosts: [purge.host] }
            : { prefixes: [prefix] };
        index.apply(1, "p", selection, "hard");
        const path = `${one.host}/${one.segments.join("/")}`;
        const isBelow = path === prefix || path.startsWith(prefix.endsWith("/") ? prefix : `${prefix}/`);
        const isMeant = purge.isWhole || (purge.isHost ? one.host === purge.host : isBelow);
        expect(index.stateOf("p", `http://${path}${one.query}`, { generation: 0, tags: [] })).toBe(
          isMeant ? "hard" : "none",
        );
      },
    ),
    { numRuns: 1_000 },
  );
});
