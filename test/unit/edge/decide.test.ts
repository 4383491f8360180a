import { describe, expect, test } from "vitest";
import type { PurgeState } from "../../../edge/core/purge-index.ts";
import {
  decideRequest,
  decideResponse,
  type RequestDecision,
  type ResponseContext,
} from "../../../edge/core/decide.ts";
import { fieldLines, type Fields } from "../../../edge/core/headers.ts";
import { formatHttpDate } from "../../../edge/core/http-date.ts";
import { invalidatedTargets } from "../../../edge/core/invalidation.ts";
import type { RequestHead, StoredHead } from "../../../edge/core/messages.ts";
import { postedHead } from "../../../edge/core/posted.ts";
import { policyFor } from "../../../edge/core/rules/policy-for.ts";
import { isNotModified } from "../../../edge/core/validation.ts";
import { nominatedFields, preferredLanguage, selectVariant } from "../../../edge/core/vary.ts";
import { at, get, ok, policy, stored, T0 } from "./support.ts";

const cc = (value: string, ...more: Fields): Fields => [["Cache-Control", value], ...more];

function request(
  head: RequestHead,
  variants: readonly StoredHead[],
  nowSeconds: number,
  of: Parameters<typeof policy>[0] = {},
  purge: PurgeState = "none",
): RequestDecision<StoredHead> {
  return decideRequest({
    request: head,
    policy: policy(of),
    variants,
    purgeStateOf: () => purge,
    now: at(nowSeconds),
  });
}

const words = (decision: RequestDecision<StoredHead>): string =>
  [decision.action, "reason" in decision && decision.reason, "detail" in decision && decision.detail]
    .filter(Boolean)
    .join(" ");

describe("a request (RFC 9111, 4)", () => {
  const honours = { honourRequestDirectives: true };
  test.each<[string, Fields, Fields, number, Parameters<typeof policy>[0], string]>([
    ["fresh", cc("max-age=60"), [], 59, {}, "hit"],
    ["stale", cc("max-age=60"), [], 60, {}, "validate stale expired"],
    ["no-cache", cc("max-age=60, no-cache"), [], 1, {}, "validate stale no-cache"],
    ["qualified no-cache", cc('max-age=60, no-cache="a"'), [], 1, {}, "hit"],
    [
      "while revalidating (RFC 5861, 3)",
      cc("max-age=60, stale-while-revalidate=30"),
      [],
      90,
      {},
      "hit-and-revalidate",
    ],
    ["beyond that window", cc("max-age=60, stale-while-revalidate=30"), [], 91, {}, "validate stale expired"],
    [
      "the property's window",
      cc("max-age=60"),
      [],
      70,
      { staleWhileRevalidateSeconds: 30 },
      "hit-and-revalidate",
    ],
    [
      "must-revalidate closes it (5.2.2.2)",
      cc("max-age=60, must-revalidate, stale-while-revalidate=30"),
      [],
      70,
      {},
      "validate stale expired",
    ],
    [
      "s-maxage closes the property's (5.2.2.10)",
      cc("s-maxage=60"),
      [],
      70,
      { staleWhileRevalidateSeconds: 30 },
      "validate stale expired",
    ],
    [
      "s-maxage and the origin's own window",
      cc("s-maxage=60, stale-while-revalidate=30"),
      [],
      70,
      {},
      "hit-and-revalidate",
    ],
    ["users' directives are not heard", cc("max-age=60"), cc("no-cache"), 1, {}, "hit"],
    [
      "unless the property hears them (5.2.1.4)",
      cc("max-age=60"),
      cc("no-cache"),
      1,
      honours,
      "validate request request-no-cache",
    ],
    [
      "Pragma alone (5.4)",
      cc("max-age=60"),
      [["Pragma", "no-cache"]],
      1,
      honours,
      "validate request request-no-cache",
    ],
    [
      "max-age of the request (5.2.1.1)",
      cc("max-age=60"),
      cc("max-age=5"),
      6,
      honours,
      "validate request request-max-age",
    ],
    [
      "min-fresh (5.2.1.3)",
      cc("max-age=60"),
      cc("min-fresh=30"),
      31,
      honours,
      "validate request request-max-age",
    ],
    ["max-stale (5.2.1.2)", cc("max-age=60"), cc("max-stale=20"), 75, honours, "hit stale-allowed"],
    [
      "only-if-cached (5.2.1.7)",
      cc("max-age=60"),
      cc("only-if-cached"),
      75,
      honours,
      "refuse only-if-cached",
    ],
    [
      "If-Match is for the origin (4.3.2)",
      cc("max-age=60"),
      [["If-Match", '"a"']],
      1,
      {},
      "pass request conditional",
    ],
    ["a rule that bypasses", cc("max-age=60"), [], 1, { bypass: true }, "pass bypass rule"],
  ])("%s", (_name, fields, asked, seconds, of, expected) => {
    expect(words(request(get(asked), [stored(fields)], seconds, of))).toBe(expected);
  });

  test("nothing stored, another variant stored, another method, a range", () => {
    expect(words(request(get(), [], 0))).toBe("fetch uri-miss");
    const other = stored(cc("max-age=60", ["Vary", "A"]), {}, [["A", "1"]]);
    expect(words(request(get([["A", "2"]]), [other], 0))).toBe("fetch vary-miss");
    expect(words(request(get([], { method: "POST" }), [other], 0))).toBe("pass method method");
    expect(words(request(get([["Range", "bytes=5-"]]), [], 0))).toBe("pass partial range");
    expect(words(request(get([["Range", "bytes=0-"]]), [], 0))).toBe("fetch uri-miss");
  });

  test.each<[string, string, unknown]>([
    ["in the third slice", "bytes=250-", { kind: "at", index: 2, sliceBytes: 100 }],
    ["from the beginning", "bytes=0-", { kind: "at", index: 0, sliceBytes: 100 }],
    ["from the end, which is never beyond it", "bytes=0-1,-5", { kind: "last", sliceBytes: 100 }],
    ["where the lowest begins", "bytes=900-,150-160", { kind: "at", index: 1, sliceBytes: 100 }],
    ["malformed: the whole", "bytes=9-5", undefined],
  ])("a range of what is not stored asks for one slice: %s", (_name, range, opening) => {
    const head = get([["Range", range]]);
    const common = { policy: policy(), purgeStateOf: () => "none" as const, sliceBytes: 100, now: at(0) };
    expect(decideRequest({ ...common, request: head, variants: [] })).toEqual({
      action: "fetch",
      reason: "uri-miss",
      opening,
    });
    // A stale head in slices is validated with the slice in hand; a whole is validated as a whole.
    const stale = stored(cc("max-age=0", ["ETag", '"a"']));
    const sliced = { ...stale, sliced: { totalBytes: 1_000, sliceBytes: 100, validator: '"a"' } };
    expect(decideRequest({ ...common, request: head, variants: [sliced] })).toMatchObject({ opening });
    expect(decideRequest({ ...common, request: head, variants: [stale] })).toMatchObject({
      action: "validate",
      opening: undefined,
    });
  });

  test("purged softly: validated, or served while that happens; perhaps purged: validated; purged hard: not there", () => {
    const fresh = stored(cc("max-age=60"));
    const mayBeStale = stored(cc("max-age=60, stale-while-revalidate=9"));
    expect(words(request(get(), [mayBeStale], 1, {}, "unknown"))).toBe("validate stale purges-unknown");
    expect(words(request(get(), [fresh], 1, {}, "soft"))).toBe("validate stale purged");
    expect(words(request(get(), [mayBeStale], 1, {}, "soft"))).toBe("hit-and-revalidate");
    expect(words(request(get(), [fresh], 1, {}, "hard"))).toBe("fetch uri-miss");
    expect(words(request(get(), [{ ...fresh, isInvalidated: true }], 1))).toBe("validate stale invalidated");
  });

  test("those who validate for each use do not wait for each other", () => {
    const collapsible = (fields: Fields) => {
      const decision = request(get(), [stored(fields)], 100);
      return decision.action === "validate" && decision.isCollapsible;
    };
    expect(collapsible(cc("max-age=60"))).toBe(true);
    expect(collapsible(cc("max-age=60, no-cache"))).toBe(false);
    expect(collapsible(cc("max-age=0"))).toBe(false);
  });
});

describe("a response (RFC 9111, 3)", () => {
  const answer = (more: Partial<ResponseContext<StoredHead>>) =>
    decideResponse<StoredHead>({
      request: get(),
      policy: policy(),
      stored: undefined,
      outcome: { kind: "failure", code: "connect-timeout" },
      times: { requestTime: T0, responseTime: T0 },
      generation: 0,
      isPurgedMeanwhile: () => false,
      contentLength: undefined,
      objectBytesMax: 1_000,
      isOwner: true,
      now: T0,
      ...more,
    });
  const says = (decision: ReturnType<typeof answer>): string =>
    [decision.action, "reason" in decision && decision.reason].filter(Boolean).join(" ");
  const authorization: Fields = [["Authorization", "Basic x"]];

  test.each<[string, number, Fields, Fields, string]>([
    ["max-age", 200, cc("max-age=1"), [], "store"],
    ["no-store", 200, cc("max-age=1, no-store"), [], "pass no-store"],
    ["private", 200, cc("max-age=1, private"), [], "pass private"],
    ["qualified private keeps the rest", 200, cc('max-age=1, private="set-cookie"'), [], "store"],
    ["nothing stated", 200, [], [], "pass no-freshness"],
    ["nothing but a validator", 200, [["ETag", '"a"']], [], "store"],
    ["an odd status with freshness", 299, cc("max-age=1"), [], "store"],
    ["an odd status with a validator alone", 299, [["ETag", '"a"']], [], "pass no-freshness"],
    ["must-understand and unknown", 299, cc("max-age=1, must-understand"), [], "pass must-understand"],
    ["must-understand outweighs no-store", 200, cc("max-age=1, no-store, must-understand"), [], "store"],
    ["credentials (3.5)", 200, cc("max-age=1"), authorization, "pass authorization"],
    ["credentials, public", 200, cc("max-age=1, public"), authorization, "store"],
    ["credentials, s-maxage", 200, cc("s-maxage=1"), authorization, "store"],
    ["credentials, must-revalidate", 200, cc("max-age=1, must-revalidate"), authorization, "store"],
    ["Vary: *", 200, cc("max-age=1", ["Vary", "*"]), [], "pass vary-any"],
    ["206", 206, cc("max-age=1"), [], "pass partial"],
    ["503 with freshness", 503, cc("max-age=1"), [], "store"],
    [
      "targeted field allows what Cache-Control forbids",
      200,
      cc("no-store", ["CDN-Cache-Control", "max-age=60"]),
      [],
      "store",
    ],
  ])("%s", (_name, status, fields, asked, expected) => {
    expect(
      says(answer({ request: get(asked), outcome: { kind: "response", response: ok(fields, status) } })),
    ).toBe(expected);
  });

  const cookie = ["Set-Cookie", "a=b"] as const;
  test.each<[string, Fields, string]>([
    ["fresh alone", cc("max-age=1", cookie), "pass set-cookie"],
    ["public", cc("max-age=1, public", cookie), "store"],
    ["s-maxage", cc("s-maxage=1", cookie), "store"],
    ["a targeted field", cc("private", ["CDN-Cache-Control", "max-age=1"], cookie), "store"],
    ["the cookie is not kept", cc('max-age=1, no-cache="set-cookie"', cookie), "store"],
  ])(
    "an answer with Set-Cookie (7.3), where only those for shared caches are stored: %s",
    (_name, fields, expected) => {
      const outcome = { kind: "response", response: ok(fields) } as const;
      expect(says(answer({ outcome, policy: policy({ storeSetCookie: "if-shared" }) }))).toBe(expected);
      expect(says(answer({ outcome }))).toBe("store");
    },
  );

  test("not the owner, too large, purged meanwhile", () => {
    const outcome = { kind: "response", response: ok(cc("max-age=1")) } as const;
    expect(says(answer({ outcome, isOwner: false }))).toBe("pass not-owner");
    expect(says(answer({ outcome, contentLength: 1_001 }))).toBe("pass too-large");
    expect(says(answer({ outcome, isPurgedMeanwhile: () => true }))).toBe("pass purged-meanwhile");
  });

  test("fields that a qualified no-cache lists are not stored (5.2.2.4)", () => {
    const decision = answer({
      outcome: { kind: "response", response: ok(cc('max-age=9, no-cache="a"', ["A", "1"], ["B", "2"])) },
    });
    expect(decision.action === "store" && decision.head.fields.map(([name]) => name)).toEqual([
      "Cache-Control",
      "B",
    ]);
  });

  test("304 freshens by its fields (4.3.4)", () => {
    const old = stored(cc("max-age=1", ["ETag", '"a"'], ["X", "old"], ["Age", "5"]));
    const of = (fields: Fields) =>
      answer({
        stored: old,
        outcome: { kind: "response", response: ok(fields, 304) },
        times: { requestTime: at(9), responseTime: at(9) },
        now: at(9),
      });
    const fresh = of([
      ["ETag", '"a"'],
      ["X", "new"],
      ["Cache-Control", "max-age=30"],
    ]);
    expect(fresh.action).toBe("freshen");
    if (fresh.action !== "freshen") return;
    expect(fresh.head.fields.find(([name]) => name === "X")?.[1]).toBe("new");
    expect(fresh.fresh).toMatchObject({ ageSeconds: 0, ttlSeconds: 30, isFresh: true });
  });

  const tagged = (tag: string, ...more: Fields) => stored(cc("max-age=9", ["ETag", tag], ...more));
  const dated: Fields = [["Last-Modified", "Mon, 02 Nov 2026 08:49:37 GMT"]];
  test.each([
    ["the same strong tag", tagged('"a"'), [["ETag", '"a"']], "freshen 30"],
    ["no strong one beside a weak one (8.8.3.2)", tagged('W/"a"'), [["ETag", '"a"']], "freshen 9"],
    ["nor with a date", tagged('W/"a"', ...dated), [["ETag", '"a"'], ...dated], "freshen 9"],
    ["a weak one that corresponds", tagged('"a"'), [["ETag", 'W/"a"']], "freshen 30"],
    // RFC 9110, 13.1.2: asked by the tag alone, so it has matched; its content is validated and no field is taken over.
    ["another tag", tagged('"a"'), [["ETag", '"b"']], "freshen 9"],
    ["another date", tagged('"a"'), dated, "freshen 9"],
    // Or the date matched (13.1.3).
    ["another tag, asked by a date too", tagged('"a"', ...dated), [["ETag", '"b"']], "refetch"],
    ["a tag where none was", stored(cc("max-age=9", ...dated)), [["ETag", '"b"'], ...dated], "refetch"],
    ["no validator (15.4.5)", tagged('"a"', ...dated), [], "freshen 30"],
  ] as const)("304 with %s (RFC 9111, 4.3.4)", (_, old, fields, expected) => {
    const decision = answer({
      stored: old,
      outcome: { kind: "response", response: ok([["Cache-Control", "max-age=30"], ...fields], 304) },
      times: { requestTime: at(99), responseTime: at(99) },
      now: at(99),
    });
    const freshened = decision.action === "freshen" ? decision : undefined;
    const ttl = freshened ? ` ${freshened.fresh.ttlSeconds}` : "";
    expect(decision.action + ttl).toBe(expected);
    if (freshened === undefined) return;
    // Validated either way: its age begins anew (4.2.3). And what came with the content stays its name.
    expect(freshened.fresh).toMatchObject({ ageSeconds: 0, isFresh: true });
    expect(fieldLines(freshened.head.fields, "etag")).toEqual(fieldLines(old.fields, "etag"));
  });

  test("a failure or a 5xx is covered by what is stored, within the window (RFC 5861, 4)", () => {
    const cover = (fields: Fields, seconds: number, status?: number) =>
      says(
        answer({
          stored: stored(fields),
          now: at(seconds),
          outcome:
            status === undefined
              ? { kind: "failure", code: "x" }
              : { kind: "response", response: ok([], status) },
        }),
      );
    expect(cover(cc("max-age=1"), 100)).toBe("serve-stale stale-if-error");
    expect(cover(cc("max-age=1"), 86_402)).toBe("fail upstream-error");
    expect(cover(cc("max-age=1, stale-if-error=10"), 11)).toBe("serve-stale stale-if-error");
    expect(cover(cc("max-age=1, stale-if-error=10"), 12)).toBe("fail upstream-error");
    expect(cover(cc("max-age=1"), 100, 503)).toBe("serve-stale stale-if-error");
    expect(cover(cc("max-age=1"), 100, 501)).toBe("pass no-freshness");
    for (const forbidden of ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=1"])
      expect(cover(cc(`max-age=1, ${forbidden}`), 100)).toBe("fail upstream-error");
    // Nobody said that others may see it.
    expect(cover([["ETag", '"a"']], 100)).toBe("fail upstream-error");
  });
});

describe("conditions of a client (RFC 9110, 13)", () => {
  const has = stored([
    ["ETag", '"a"'],
    ["Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"],
  ]);
  test.each<[string, Fields, boolean]>([
    ["the tag", [["If-None-Match", '"a"']], true],
    ["weakly", [["If-None-Match", 'W/"a"']], true],
    ["in a list", [["If-None-Match", '"x", "a"']], true],
    ["any", [["If-None-Match", "*"]], true],
    ["another", [["If-None-Match", '"b"']], false],
    ["a tag with a comma", [["If-None-Match", '"x,"a",y"']], false],
    [
      "the tag comes before the date (13.2.2)",
      [
        ["If-None-Match", '"b"'],
        ["If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"],
      ],
      false,
    ],
    ["the date", [["If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"]], true],
    ["an earlier date", [["If-Modified-Since", "Sun, 06 Nov 1994 08:49:36 GMT"]], false],
    ["no date", [["If-Modified-Since", "yesterday"]], false],
  ])("%s", (_name, fields, expected) => expect(isNotModified(fields, has, T0)).toBe(expected));
});

describe("invalidation (RFC 9111, 4.4)", () => {
  test.each<[string, number, Fields, readonly string[]]>([
    ["POST", 200, [], ["/x"]],
    ["POST", 404, [], []],
    ["GET", 200, [["Location", "/y"]], []],
    [
      "PUT",
      201,
      [
        ["Location", "http://a.example/y?q"],
        ["Content-Location", "z"],
      ],
      ["/x", "/y?q", "/z"],
    ],
    ["DELETE", 200, [["Location", "http://b.example/y"]], ["/x"]],
    ["PATCH", 200, [["Location", "https://a.example/y"]], ["/x"]],
    ["M-SEARCH", 200, [], ["/x"]],
  ])("%s %i %j", (method, status, fields, targets) => {
    expect(invalidatedTargets(get([], { method }), ok(fields, status)).map(({ target }) => target)).toEqual(
      targets,
    );
  });
});

describe("Vary (RFC 9111, 4.1)", () => {
  test.each<[string, "any" | readonly string[]]>([
    ["Accept, accept", ["accept"]],
    ["B, A", ["a", "b"]],
    ["A, *", "any"],
    ["A b", "any"],
    ["", []],
    [Array.from({ length: 17 }, (_, n) => `f${n}`).join(","), "any"],
  ])("%s", (value, expected) => expect(nominatedFields([["Vary", value]])).toEqual(expected));
});

test("rules: for each setting the first matching rule that states it wins", () => {
  const caching = { ...policy(), defaultTtlSeconds: 1 };
  const of = (target: string) =>
    policyFor(
      {
        caching,
        rules: [
          { match: { pathPrefix: "/img" }, defaultTtlSeconds: 10 },
          { match: { extensions: ["png"] }, defaultTtlSeconds: 20, staleIfErrorSeconds: 5 },
          { match: { pathPrefix: "/api" }, bypass: true },
        ],
      },
      target,
    );
  expect(of("/img/a.PNG?x=.css")).toMatchObject({
    defaultTtlSeconds: 10,
    staleIfErrorSeconds: 5,
    ruleIndex: 0,
    bypass: false,
  });
  expect(of("/a.png").defaultTtlSeconds).toBe(20);
  expect(of("/api/x")).toMatchObject({ bypass: true, ruleIndex: 2, defaultTtlSeconds: 1 });
  expect(of("/").ruleIndex).toBeNull();
});

describe("a POST's answer for later GETs (RFC 9110, 9.3.3)", () => {
  const own = ["Content-Location", "/x"] as const;
  const kept = (fields: Fields, asked: Fields = [], method = "POST", status = 200): boolean =>
    postedHead(
      get(asked, { method }),
      ok(fields, status),
      policy(),
      { requestTime: T0, responseTime: T0 },
      0,
    ) !== undefined;

  test.each<[string, Fields, Fields, boolean]>([
    ["its own representation, fresh", cc("max-age=9", own), [], true],
    ["an absolute Content-Location", cc("max-age=9", ["Content-Location", "http://a.example/x"]), [], true],
    ["no Content-Location", cc("max-age=9"), [], false],
    ["another resource's", cc("max-age=9", ["Content-Location", "/y"]), [], false],
    ["another host's", cc("max-age=9", ["Content-Location", "http://b.example/x"]), [], false],
    ["two of them", cc("max-age=9", own, own), [], false],
    ["no stated freshness", [own, ["Last-Modified", formatHttpDate(at(-9_999))]], [], false],
    ["no-store", cc("max-age=9, no-store", own), [], false],
    ["not fresh", cc("max-age=0", own, ["ETag", '"a"']), [], false],
    ["sets a cookie", cc("max-age=9, public", own, ["Set-Cookie", "a=b"]), [], false],
    ["varies", cc("max-age=9", own, ["Vary", "Accept"]), [], false],
    ["asked with credentials", cc("max-age=9, public", own), [["Authorization", "x"]], false],
    ["asked with a cookie", cc("max-age=9", own), [["Cookie", "a=b"]], false],
  ])("%s", (_name, fields, asked, expected) => expect(kept(fields, asked)).toBe(expected));

  test("of no other method and status", () => {
    expect(kept(cc("max-age=9", own), [], "PUT")).toBe(false);
    expect(kept(cc("max-age=9", own), [], "POST", 201)).toBe(false);
  });
});

describe("languages (RFC 9110, 12.5.4)", () => {
  test.each<[string, string | undefined]>([
    ["de", "de"],
    ["fr;q=0.5, de;q=1.0", "de"],
    ["DE-at, en;q=0.8", "de-at"],
    ["en, de", undefined],
    ["en;q=0.5, de;q=0.5, fr;q=0.4", undefined],
    ["*", undefined],
    ["de;q=2", undefined],
    ["de, ?", undefined],
    ["de;q=0", undefined],
    ["", undefined],
  ])("%s", (value, expected) => expect(preferredLanguage([["Accept-Language", value]])).toBe(expected));

  test("a variant in the preferred language is it, one selected by the same values before it", () => {
    const german = stored(cc("max-age=9", ["Vary", "Accept-Language"], ["Content-Language", "de"]), {}, [
      ["Accept-Language", "en, de"],
    ]);
    const asked: Fields = [["Accept-Language", "fr;q=0.5, de"]];
    expect(selectVariant([german], asked)).toBe(german);
    const own = stored(cc("max-age=9", ["Vary", "Accept-Language"]), { responseTime: at(-9) }, asked);
    expect(selectVariant([german, own], asked)).toBe(own);
    expect(selectVariant([german], [["Accept-Language", "fr, de;q=0.9"]])).toBeUndefined();
    const wider = stored(cc("max-age=9", ["Vary", "Accept-Language, Cookie"], ["Content-Language", "de"]));
    expect(selectVariant([wider], asked)).toBeUndefined();
  });
});
