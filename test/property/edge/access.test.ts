/** Tokens put anywhere into a request are taken off again, and open exactly what they were signed for. */
import { createHmac } from "node:crypto";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type EpochMs, epochMs } from "#kit";
import { judgeToken, tokenText, withoutToken } from "../../../edge/core/access/token.ts";
import { normalPath } from "../../../edge/core/rules/request-facts.ts";

const KEY = "0123456789abcdef";
const hmac = (text: string): string => createHmac("sha256", KEY).update(text).digest("hex");
const isRight = (keyId: string, text: string, mac: string): boolean | undefined =>
  keyId === "k1" ? hmac(text) === mac : undefined;
const NOW = epochMs(1_000_000_000);

const word = fc.constantFrom("a", "b=1", "tt", "tt=2", "x=t", "=t", "", "T=1", "t%3D1");
const token = fc.constantFrom("t", "t=", "t=1", "t=a=b", "t=~*/");
const path = fc
  .array(fc.constantFrom("a", "b", "..", ".", "%61", "%2F", ""), { minLength: 1, maxLength: 5 })
  .map((parts) => `/${parts.join("/")}`);

/** Some of `tokens` put between `words`, by the places that `places` names. */
const mixed = (words: readonly string[], tokens: readonly string[], places: readonly number[]): string[] => {
  const all = [...words];
  for (const [index, one] of tokens.entries()) all.splice((places[index] ?? 0) % (all.length + 1), 0, one);
  return all;
};

test("a request with tokens and one without are the same to keys, rules and origins", () => {
  const places = fc.array(fc.nat(9), { minLength: 3, maxLength: 3 });
  fc.assert(
    fc.property(
      path,
      fc.array(word, { minLength: 1, maxLength: 4 }),
      fc.array(token, { maxLength: 3 }),
      places,
      (at, words, tokens, where) => {
        const fields = [["Cookie", words.join("; ")]] as const;
        const bare = { target: `${at}?${words.join("&")}`, fields };
        const sent = {
          target: `${at}?${mixed(words, tokens, where).join("&")}`,
          fields: [["Cookie", mixed(words, tokens, where).join("; ")] as const],
        };
        const stripped = withoutToken(sent, "t");
        expect(stripped.target).toBe(bare.target);
        const cookies = (text: string | undefined): string[] =>
          (text ?? "").split(";").map((one) => one.trim());
        expect(cookies(stripped.fields[0]?.[1])).toEqual(cookies(fields[0][1]));
        expect(withoutToken(stripped, "t")).toBe(stripped);
      },
    ),
    { numRuns: 500 },
  );
});

test("a token opens its own path, or those below its prefix, until its end, and nothing when a character of it is another", () => {
  let opened = 0;
  fc.assert(
    fc.property(
      path,
      path,
      fc.boolean(),
      fc.integer({ min: -2, max: 2 }),
      fc.nat(),
      (signed, asked, isPrefix, seconds, place) => {
        const expiresAt = (NOW + seconds * 1_000) as EpochMs;
        const prefix = normalPath(signed);
        const text = tokenText(expiresAt, "k1", isPrefix ? { acl: `${prefix}*` } : { path: signed });
        const mac = hmac(text);
        const value = `${isPrefix ? text : text.slice(0, text.indexOf("~path="))}~hmac=${mac}`;
        const judge = (one: string) =>
          judgeToken(
            { target: `${asked}?t=${encodeURIComponent(one)}`, fields: [] },
            { parameter: "t" },
            isRight,
            NOW,
          );
        const now = normalPath(asked);
        const covers = isPrefix ? now.startsWith(prefix) && !/%2F\/?\.\.|\.\.%2F/.test(now) : now === prefix;
        expect(judge(value) === undefined).toBe(covers && seconds > 0);
        if (covers && seconds > 0) opened++;
        const at = place % value.length;
        const other = value[at] === "0" ? "1" : "0";
        expect(judge(value.slice(0, at) + other + value.slice(at + 1))).not.toBeUndefined();
      },
    ),
    { numRuns: 500 },
  );
  expect(opened).toBeGreaterThan(20);
});
