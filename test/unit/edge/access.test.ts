/** Tokens of signed paths, judged with a MAC that is played by the test. */
import { expect, test } from "vitest";
import { epochMs, propertyDocument } from "#kit";
import { judgeToken, tokenText, withoutToken } from "../../../edge/core/access/token.ts";

const NOW = epochMs(1_000_000);
const MAC = "ab".repeat(32);
const POLICY = { parameter: "t" };

/** A token whose MAC is right for exactly this text under the key "k1". */
const judgeWith = (signed: string, target: string, fields: readonly (readonly [string, string])[] = []) =>
  judgeToken(
    { target, fields },
    POLICY,
    (keyId, text) => (keyId === "k1" ? text === signed : undefined),
    NOW,
  );
const soon = epochMs(2_000_000);
const one = tokenText(soon, "k1", { path: "/v/a" });
const many = tokenText(soon, "k1", { acl: "/v/*" });

test.each([
  ["every spelling of its path", one, `/v/x/../%61?t=exp=2000~kid=k1~hmac=${MAC}`, undefined],
  ["encoded as a value", one, `/v/a?t=${encodeURIComponent(`exp=2000~kid=k1~hmac=${MAC}`)}`, undefined],
  ["another path", one, `/v/b?t=exp=2000~kid=k1~hmac=${MAC}`, "wrong"],
  ["another expiry", one, `/v/a?t=exp=2001~kid=k1~hmac=${MAC}`, "wrong"],
  ["its own end", tokenText(NOW, "k1", { path: "/v/a" }), `/v/a?t=exp=1000~kid=k1~hmac=${MAC}`, "expired"],
  ["an unknown key", one, `/v/a?t=exp=2000~kid=k2~hmac=${MAC}`, "unknown-key"],
  ["no token", one, "/v/a?tt=1&x=t", "missing"],
  ["a name alone", one, "/v/a?t", "malformed"],
  ["half an escape", one, "/v/a?t=%E0", "malformed"],
  ["a short MAC", one, "/v/a?t=exp=2000~kid=k1~hmac=ab", "malformed"],
  ["a field more", one, `/v/a?t=exp=2000~kid=k1~ip=1~hmac=${MAC}`, "malformed"],
  ["five tokens", one, "/v/a?t=1&t=2&t=3&t=4&t=5", "malformed"],
  ["under a prefix", many, `/v/x/y?t=exp=2000~acl=/v/*~kid=k1~hmac=${MAC}`, undefined],
  ["outside of it", many, `/w?t=exp=2000~acl=/v/*~kid=k1~hmac=${MAC}`, "path"],
  ["out of it by dots", many, `/v/../w?t=exp=2000~acl=/v/*~kid=k1~hmac=${MAC}`, "path"],
  ["out of it by encoded slashes", many, `/v/..%2fw?t=exp=2000~acl=/v/*~kid=k1~hmac=${MAC}`, "path"],
  ["out of it by backslashes", many, `/v/x%5c..%5c..%5cw?t=exp=2000~acl=/v/*~kid=k1~hmac=${MAC}`, "path"],
  ["out of it by path parameters", many, `/v/..;/w?t=exp=2000~acl=/v/*~kid=k1~hmac=${MAC}`, "path"],
  ["another prefix", many, `/v/x?t=exp=2000~acl=/*~kid=k1~hmac=${MAC}`, "wrong"],
] as const)("a token for %s", (_, signed, target, refusal) =>
  expect(judgeWith(signed, target)).toBe(refusal),
);

test("of several cookies one is enough, and the query comes first", () => {
  const good = `exp=2000~kid=k1~hmac=${MAC}`;
  expect(judgeWith(one, "/v/a", [["Cookie", `a=1; t=old; t=${good}`]])).toBeUndefined();
  expect(judgeWith(one, "/v/a?t=exp=2000~kid=k2~hmac=" + MAC, [["cookie", "t=old"]])).toBe("unknown-key");
});

test("a request without its tokens", () => {
  const strip = (target: string, cookie?: string) => {
    const { target: left, fields } = withoutToken(
      { target, fields: cookie === undefined ? [] : [["Cookie", cookie] as const] },
      "t",
    );
    return [left, fields[0]?.[1]];
  };
  expect(strip("/a?t=1")).toEqual(["/a", undefined]);
  expect(strip("/a?x=t&t=1&tt=2&t", "t=1")).toEqual(["/a?x=t&tt=2", undefined]);
  expect(strip("/a?", "t=1; a=t=2;  t=3; tt=4")).toEqual(["/a?", "a=t=2; tt=4"]);
  const plain = { target: "/t?x=t", fields: [["Cookie", "x=t"]] as const };
  expect(withoutToken(plain, "t")).toBe(plain);
});

test("a rule that requires tokens needs keys, and a plain secret is refused", () => {
  const property = {
    propertyId: "shop",
    customerId: "acme",
    hostnames: ["a.example"],
    origins: [{ scheme: "http", host: "origin.example", port: 80 }],
    rules: [{ match: { pathPrefix: "/" }, requireToken: true }],
  };
  expect(() => propertyDocument.parse(property)).toThrow("access.keys");
  expect(() =>
    propertyDocument.parse({ ...property, access: { keys: [{ keyId: "k1", sealedSecret: "secret" }] } }),
  ).toThrow("never a plain one");
});
