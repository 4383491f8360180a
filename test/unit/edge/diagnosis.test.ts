/** Debug tokens, debug fields, references, trace ids, error pages. */
import { describe, expect, test } from "vitest";
import type { EpochMs } from "#kit";
import {
  akamaiDirectives,
  akamaiDirectivesOf,
  type DebuggedAnswer,
  debugFields,
} from "../../../edge/core/diagnosis/debug-fields.ts";
import { coversProperty, debugTokenText, parseDebugToken } from "../../../edge/core/diagnosis/debug-token.ts";
import { htmlPage, textPage, wantsHtml } from "../../../edge/core/diagnosis/error-page.ts";
import { formatReference, parseReference } from "../../../edge/core/diagnosis/reference.ts";
import { traceIdOf } from "../../../edge/core/diagnosis/trace-context.ts";

describe("a debug token", () => {
  const mac = "A".repeat(43);
  test("is read as it was made", () => {
    const text = debugTokenText(1_700_000_000_900 as EpochMs, "shop-www");
    expect(parseDebugToken(`${text}.${mac}`)).toEqual({
      signedText: text,
      mac,
      expiresAt: 1_700_000_000_000,
      scope: "shop-www",
    });
  });
  test.each([
    ["nothing", ""],
    ["another version", `v2.1700000000.*.${mac}`],
    ["no scope", `v1.1700000000..${mac}`],
    ["a scope that is no id", `v1.1700000000.Shop_1.${mac}`],
    ["a short MAC", `v1.1700000000.*.${mac.slice(1)}`],
    ["a long MAC", `v1.1700000000.*.${mac}A`],
    ["a signed expiry", `v1.-1.*.${mac}`],
    ["something behind it", `v1.1700000000.*.${mac} `],
    ["a long text", `v1.1700000000.${"a".repeat(10_000)}.${mac}`],
  ])("with %s is none", (_what, text) => {
    expect(parseDebugToken(text)).toBeUndefined();
  });
  test("opens its own property or all", () => {
    expect(coversProperty("*", undefined)).toBe(true);
    expect(coversProperty("*", "shop-www")).toBe(true);
    expect(coversProperty("shop-www", "shop-www")).toBe(true);
    expect(coversProperty("shop-www", "news-www")).toBe(false);
    expect(coversProperty("shop-www", undefined)).toBe(false);
  });
});

describe("debug fields", () => {
  const hit: DebuggedAnswer = {
    outcome: "hit",
    status: { cache: "fra-1", isHit: true, ttlSeconds: 7, key: "http://a/b" },
    cacheStatus: "fra-1; hit; ttl=7",
    requestId: "abcdefgh",
    clientAddress: "192.0.2.1",
    elapsedMs: 0.25,
    upstreamMs: undefined,
  };
  const missed: DebuggedAnswer = {
    ...hit,
    outcome: "uri-miss",
    status: { cache: "fra-1", isHit: false, fwd: "uri-miss", fwdStatus: 200, isStored: true },
    cacheStatus: "par-1; hit; ttl=7, fra-1; fwd=uri-miss; fwd-status=200; stored",
    elapsedMs: 90.04,
    upstreamMs: 81,
  };
  const all = new Set(akamaiDirectives);

  test("say the time and the request's id without being asked for more", () => {
    expect(debugFields(missed, new Set())).toEqual([
      ["Server-Timing", "cdn-cache;desc=MISS, edge;dur=90.0, upstream;dur=81.0"],
      ["Isochrone-Request-Id", "abcdefgh"],
    ]);
  });
  test("say of a hit all that was asked for", () => {
    expect(Object.fromEntries(debugFields(hit, all))).toEqual({
      "Server-Timing": "cdn-cache;desc=HIT, edge;dur=0.3",
      "Isochrone-Request-Id": "abcdefgh",
      "X-Cache": "TCP_HIT from fra-1 (isochrone) (-)",
      "X-Check-Cacheable": "YES",
      "X-Cache-Key": "http://a/b",
      "X-True-Cache-Key": "http://a/b",
      "X-Akamai-Request-ID": "abcdefgh",
      "X-Akamai-Client-IP": "192.0.2.1",
    });
  });
  test("name the cache that was asked, and how it had it", () => {
    const fields = Object.fromEntries(debugFields(missed, all));
    expect(fields["X-Cache"]).toBe("TCP_MISS from fra-1 (isochrone) (-)");
    expect(fields["X-Cache-Remote"]).toBe("TCP_HIT from par-1 (isochrone) (-)");
  });
  test.each([
    ["hit-stale", undefined, "TCP_EXPIRED_HIT"],
    ["stale", 304, "TCP_REFRESH_HIT"],
    ["stale", 200, "TCP_REFRESH_MISS"],
    ["refused", undefined, "TCP_DENIED"],
    ["error", undefined, "TCP_ERROR"],
    ["bypass", 200, "TCP_MISS"],
  ])("call %s with status %s of the next hop %s", (outcome, fwdStatus, word) => {
    const status = { cache: "c", isHit: false, ...(fwdStatus !== undefined && { fwdStatus }) };
    const fields = Object.fromEntries(debugFields({ ...hit, outcome, status }, all));
    expect(fields["X-Cache"]).toBe(`${word} from c (isochrone) (-)`);
    expect(fields["X-Check-Cacheable"]).toBe("NO");
  });
  test("directives are read from any line, without case, others passed by", () => {
    expect(akamaiDirectivesOf(["no-cache, Akamai-X-Cache-On", "akamai-x-get-client-ip ,x"])).toEqual(
      new Set(["akamai-x-cache-on", "akamai-x-get-client-ip"]),
    );
    expect(akamaiDirectivesOf([])).toEqual(new Set());
  });
});

describe("traceparent (W3C Trace Context, section 3.2.2)", () => {
  const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  test.each([
    [`00-${trace}-00f067aa0ba902b7-01`, trace],
    [`cc-${trace}-00f067aa0ba902b7-01-what-a-later-version-adds`, trace],
    [`ff-${trace}-00f067aa0ba902b7-01`, undefined],
    [`00-${"0".repeat(32)}-00f067aa0ba902b7-01`, undefined],
    [`00-${trace}-${"0".repeat(16)}-01`, undefined],
    [`00-${trace.toUpperCase()}-00f067aa0ba902b7-01`, undefined],
    [`00-${trace}-00f067aa0ba902b7-012`, undefined],
    ["", undefined],
  ])("%s has the trace id %s", (line, id) => {
    expect(traceIdOf([line])).toBe(id);
  });
  test("two of them are none", () => {
    const line = `00-${trace}-00f067aa0ba902b7-01`;
    expect(traceIdOf([line, line])).toBeUndefined();
    expect(traceIdOf([])).toBeUndefined();
  });
});

describe("a reference", () => {
  test("is read as it was written", () => {
    const reference = { server: "sin-1", requestId: "Xy_2ab-40007" };
    expect(parseReference(formatReference(reference))).toEqual(reference);
  });
  test.each(["", "sin-1", "sin-1.short", "http://a.example/", "a.b.abcdefgh1", `sin-1.${"a".repeat(65)}`])(
    "%j is none",
    (text) => {
      expect(parseReference(text)).toBeUndefined();
    },
  );
});

describe("an error page", () => {
  const page = { status: 502, text: "The next hop did not answer (connect).", reference: "sin-1.abcdefgh" };
  test("names text and reference in both forms", () => {
    expect(textPage(page)).toBe("The next hop did not answer (connect).\nReference: sin-1.abcdefgh\n");
    expect(htmlPage(page)).toContain("<code>sin-1.abcdefgh</code>");
    expect(htmlPage(page)).toContain("<p>The next hop did not answer (connect).</p>");
  });
  test.each([
    ["text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", true],
    ["application/json, text/html;q=0.5", true],
    ["*/*", false],
    ["text/html-sandboxed", false],
    [undefined, false],
  ])("Accept: %s wants HTML: %s", (accept, isHtml) => {
    expect(wantsHtml(accept)).toBe(isHtml);
  });
});
