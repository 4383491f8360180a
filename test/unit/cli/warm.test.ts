/** What `isochrone warm` reads: lists of URLs, and what servers say became of a request. */
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { clusterCacheStatus } from "../../../cli/cache-status.ts";
import { readList } from "../../../cli/warm/list.ts";

describe("a list", () => {
  const read = (text: string | Uint8Array) =>
    readList(typeof text === "string" ? Buffer.from(text) : text, "list").map(({ href }) => href);
  const sitemap = `<?xml version="1.0" encoding="UTF-8"?>
    <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
      <url><loc>http://a.example/?x=1&amp;y=2</loc><lastmod>2026-01-01</lastmod>
        <image:image><image:loc>http://a.example/no.png</image:loc></image:image></url>
      <url><loc>
        <![CDATA[http://a.example/é]]></loc></url></urlset>`;
  const urls = ["http://a.example/?x=1&y=2", "http://a.example/%C3%A9"];

  test("lines, with comments, in any line ends", () => {
    expect(read("\uFEFF# a\r\nhttp://a.example/b?c#d\r\n\n  https://a.example:8443 ")).toEqual([
      "http://a.example/b?c",
      "https://a.example:8443/",
    ]);
  });
  test("a sitemap, plain and gzipped; other elements' locations are none", () => {
    expect(read(sitemap)).toEqual(urls);
    expect(read(gzipSync(sitemap))).toEqual(urls);
  });
  test("a sitemap may be longer than a manifest", () => {
    const path = "x".repeat(3_000);
    const many = Array.from({ length: 400 }, (_, n) => `<url><loc>http://a.example/${path}${n}</loc></url>`);
    expect(read(`<urlset>${many.join("")}</urlset>`)).toHaveLength(400);
  });

  test.each([
    ["http://a.example/\nnot a url", 'list:2: got "not a url", expected an http or https URL'],
    ["ftp://a.example/", "list:1: got"],
    ["http://me:secret@a.example/", "list:1: got"],
    [`http://a.example/${"x".repeat(4_000)}`, "list:1: got"],
    [`<urlset><url><loc>http://a.example/${"x".repeat(9_000)}</loc></url></urlset>`, "list: URL 1: got"],
    ["<urlset><url><loc>/path</loc></url></urlset>", 'list: URL 1: got "/path"'],
    [
      "<sitemapindex><sitemap/></sitemapindex>",
      "list: an index of sitemaps; give the sitemaps that it names",
    ],
    ["<html></html>", "list: an XML document <html>, expected a sitemap <urlset>"],
    [sitemap.slice(0, 300), "list: no well-formed sitemap"],
    [
      '<!DOCTYPE x [<!ENTITY a "b">]><urlset/>',
      "list: no well-formed sitemap; the last URL read was number 0",
    ],
    [gzipSync("x").subarray(0, 15), "list: no gzip that can be read"],
    [gzipSync(Buffer.alloc(52_428_801), { level: 1 }), "list: a list of more than 52428800 bytes"],
  ])("refused: %.60s", (text, message) => expect(() => read(text)).toThrow(message));
});

test.each([
  ["fra-1; hit; ttl=5", { isHit: true, isStored: false, detail: undefined }],
  [
    "par-1; hit; ttl=5, fra-1; fwd=uri-miss; ttl=5; stored",
    { isHit: false, isStored: true, detail: undefined },
  ],
  [
    "fra-2; hit; ttl=5, fra-1; fwd=uri-miss; detail=not-owner",
    { isHit: true, isStored: false, detail: undefined },
  ],
  [
    "par-1; hit, fra-2; fwd=uri-miss; detail=private, fra-1; fwd=uri-miss; detail=not-owner",
    { isHit: false, isStored: false, detail: "private" },
  ],
  ["", { isHit: false, isStored: false, detail: undefined }],
])("Cache-Status %s", (text, expected) => expect(clusterCacheStatus(text)).toEqual(expected));
