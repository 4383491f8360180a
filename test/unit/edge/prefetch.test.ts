/** What content names, what of it is worth asking for, and what it may cost. */
import { describe, expect, test } from "vitest";
import { epochMs, monotonicMs } from "#kit";
import { cmcdHint } from "../../../edge/core/prefetch/cmcd.ts";
import { CssSheetReader } from "../../../edge/core/prefetch/css-sheet.ts";
import { DashReader } from "../../../edge/core/prefetch/dash.ts";
import { EarlyHints } from "../../../edge/core/prefetch/early-hints.ts";
import { HlsReader } from "../../../edge/core/prefetch/hls.ts";
import { HtmlReader } from "../../../edge/core/prefetch/html.ts";
import { LEDGER_LIMITS, PrefetchLedger } from "../../../edge/core/prefetch/ledger.ts";
import { linkReferences } from "../../../edge/core/prefetch/link-header.ts";
import type { ReferenceScope } from "../../../edge/core/prefetch/reference.ts";
import { addressName } from "../../../edge/core/prefetch/sequence.ts";
import { SequenceTable } from "../../../edge/core/prefetch/sequence-table.ts";
import { chosenCandidate } from "../../../edge/core/prefetch/srcset.ts";

const scope = (target = "/dir/page.html?q", referencesMax = 50): ReferenceScope => ({
  page: { scheme: "http", host: "a.example", target },
  isOwnHost: (host) => host === "a.example",
  referencesMax,
});

describe("HTML", () => {
  const of = (html: string, size = html.length, max = 50) => {
    const reader = new HtmlReader(scope(undefined, max));
    const found: string[] = [];
    for (let at = 0; at < html.length; at += size)
      found.push(...reader.write(html.slice(at, at + size)).map(({ target }) => target));
    return found;
  };
  const html = `<!doctype html><head><link rel="stylesheet" href="/a.css"><LINK REL='preload' href=b.js as=script>
    <link rel="alternate stylesheet" href="/no.css"><link rel=canonical href=/no><script src="../c.js"></script>
    <!-- <img src="/no.png"> --><script>document.write('<img src="/no2.png">')</script><style>a{}</style>
    <img alt="a > b" src="d.png?x=1&amp;y=2"><img srcset="e1.png 1x, e2.png 2x"><img loading=lazy src=/no3.png>
    <img src="http://other.example/no.png"><img src="data:image/png;base64,AA"><img src="//a.example/f.png"><img src="/a.css">`;
  const expected = ["/a.css", "/dir/b.js", "/c.js", "/dir/d.png?x=1&y=2", "/dir/e1.png", "/f.png"];
  test.each([html.length, 1, 7, 64])("in pieces of %i", (size) => expect(of(html, size)).toEqual(expected));

  test("bounded: by references, by tag, by value", () => {
    expect(of(html, html.length, 2)).toEqual(["/a.css", "/dir/b.js"]);
    expect(of(`<img ${"x".repeat(20_000)} src=/yes>`)).toEqual(["/yes"]);
    expect(of(`<img src="/${"x".repeat(5_000)}"><img src=/yes>`)).toEqual(["/yes"]);
  });

  test.each([
    ["the first base counts", "<base href=/x/><base href=/y/><img src=a>", ["/x/a"]],
    ["a base elsewhere", "<base href=http://b.example/><img src=a>", []],
    ["module and nomodule", "<script type=module src=/m></script><script nomodule src=/n></script>", ["/m"]],
    ["data in a script", '<script type="application/json" src=/no></script>', []],
    [
      "print style",
      "<link rel=stylesheet media=print href=/no><link rel=stylesheet media=all href=/y>",
      ["/y"],
    ],
    ["video poster", "<video poster=/p.jpg src=/no.mp4></video>", ["/p.jpg"]],
    ["inline style", "<style>@import '/i.css';@font-face{src:url(/f.woff2)}</style>", ["/i.css", "/f.woff2"]],
    [
      "a template is not there",
      "<template><img src=/no><template></template><img src=/no></template><img src=/y>",
      ["/y"],
    ],
    ["abrupt comments", "<!--><img src=/a><!---><img src=/b><!-- x --!><img src=/c>", ["/a", "/b", "/c"]],
    ["a comment that looks closed", "<!-- -- > <img src=/no> --><img src=/a>", ["/a"]],
    ["a script's near end tag", "<script>'</scriptx><img src=/no>'</script><img src=/a>", ["/a"]],
    ["the first of equal attributes", "<img src=/a src=/b>", ["/a"]],
    ["numeric references", "<img src='/a?x&#38;y&#x3D;1'>", ["/a?x&y=1"]],
    ["bytes beyond ASCII as sent", "<img src='/\xc3\xa9.png'>", ["/%C3%A9.png"]],
    [
      "picture: first source that fits",
      "<picture><source type=image/jxl srcset=/no><source type=image/avif srcset=/a><img src=/no></picture><img src=/b>",
      ["/a", "/b"],
    ],
    [
      "picture that depends on the screen",
      "<picture><source media='(min-width: 1px)' srcset=/no><img src=/no></picture>",
      [],
    ],
    ["plaintext", "<plaintext><img src=/no>", []],
  ])("%s", (_name, text, targets) => expect(of(text)).toEqual(targets));

  test("candidates of a srcset", () => {
    const screen = { pixelRatio: 2, viewportWidth: 500 };
    expect(chosenCandidate("a 1x, b 2x, c 3x", undefined, undefined, screen)).toBe("b");
    expect(chosenCandidate("b 2x", undefined, "a", { ...screen, pixelRatio: 1 })).toBe("a");
    expect(chosenCandidate("a 400w, b 1000w, c 2000w", "100vw", "x", screen)).toBe("b");
    expect(chosenCandidate("a 400w, b 1000w", "50vw", "x", screen)).toBeUndefined();
    expect(chosenCandidate("a,b 400w", undefined, "x", screen)).toBe("a,b");
  });
});

test("CSS: imports, fonts for basic letters, no comment, no image", () => {
  const reader = new CssSheetReader(scope("/css/a.css"));
  const found = reader.write(`/* @import "no.css"; */ @import url("b.css") screen; @import 'no2.css' print;
    .x { background: url(no.png) } @font-face { font-family: x; src: url( 'f.woff2' ) format("woff2"), url(no.ttf) }
    @font-face { src: url(no3.woff2); unicode-range: U+0400-045F } @font-face { src: url(g.woff2); unicode-range: U+0000-00FF, U+131 }
    .y::after { content: "@import 'no4.css'" } @media print { @import "no5.css"; }`);
  expect(found.map(({ target, role }) => `${role} ${target}`)).toEqual([
    "style /css/b.css",
    "font /css/f.woff2",
    "font /css/g.woff2",
  ]);
});

test("Link fields (RFC 8288)", () => {
  const found = linkReferences(
    [
      '</a.css>; rel="preload"; as=style, </b.js>; rel=modulepreload',
      '</c,d.css>; rel="x stylesheet"; title="a, <b>"',
      '</no>; rel=preload; as=style; anchor="#x", </no2>; rel=canonical, </n>; rel=next',
      "<http://b.example/no>; rel=stylesheet, not a link, </f.woff2>; rel=preload; as=font; crossorigin",
    ],
    scope("/"),
  );
  expect(found).toEqual([
    { scheme: "http", host: "a.example", target: "/a.css", role: "style" },
    { scheme: "http", host: "a.example", target: "/b.js", role: "module" },
    { scheme: "http", host: "a.example", target: "/c,d.css", role: "style" },
    { scheme: "http", host: "a.example", target: "/n", role: "document" },
    { scheme: "http", host: "a.example", target: "/f.woff2", role: "font", isAnonymous: true },
  ]);
});

describe("HLS (RFC 8216)", () => {
  const read = (text: string, size = 11) => {
    const reader = new HlsReader(scope("/v/index.m3u8"));
    for (let at = 0; at < text.length; at += size) reader.write(text.slice(at, at + size));
    return reader.plan(2);
  };
  const names = (
    list: readonly { target: string; bytes?: { from: number; to: number } | undefined }[] = [],
  ) => list.map(({ target, bytes }) => (bytes ? `${target} ${bytes.from}-${bytes.to}` : target));

  test("a recording begins at its beginning, byte ranges go on where the last ended", () => {
    const plan = read(`#EXTM3U\r
#EXT-X-MAP:URI="init.mp4",BYTERANGE="100@0"
#EXTINF:2,
#EXT-X-BYTERANGE:500@100
all.mp4
#EXTINF:2,
#EXT-X-BYTERANGE:400
all.mp4
#EXT-X-ENDLIST`);
    expect(names(plan?.first)).toEqual(["/v/init.mp4 0-99", "/v/all.mp4 100-599", "/v/all.mp4 600-999"]);
  });

  test("a live stream begins three segments from its end, and its hint comes last", () => {
    const plan = read(
      `#EXTM3U\n${[1, 2, 3, 4, 5].map((n) => `#EXTINF:2,\ns${n}.ts\n`).join("")}#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p6.ts"\n`,
    );
    expect(names(plan?.first)).toEqual(["/v/s3.ts", "/v/s4.ts"]);
    const table = new SequenceTable();
    table.set("m", "hls", plan?.sequences ?? []);
    expect(names(table.after("http://a.example/v/s4.ts", 9)?.next)).toEqual(["/v/s5.ts", "/v/p6.ts"]);
    // What the manifest names no more is forgotten.
    table.set("m", "hls", []);
    expect(table.size).toBe(0);
  });

  test("a master playlist leads to its first variant", () => {
    const plan = read(
      "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/i.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nhigh/i.m3u8\n",
    );
    expect(names(plan?.first)).toEqual(["/v/low/i.m3u8"]);
  });

  test("anything else is none", () => {
    expect(read("<html>\n#EXTINF:2,\na.ts\n")).toBeUndefined();
    expect(
      read(`#EXTM3U\n#EXTINF:1,\n${"a".repeat(5_000)}\n#EXTINF:1,\nb.ts\n#EXT-X-ENDLIST\n`)?.first,
    ).toHaveLength(1);
  });
});

describe("DASH (ISO/IEC 23009-1)", () => {
  const read = (text: string, now = 0) => {
    const reader = new DashReader(scope("/d/m.mpd"), epochMs(now));
    for (const char of text) reader.write(char);
    return reader.plan();
  };
  const targets = (list: readonly { target: string }[] = []) => list.map(({ target }) => target);

  test("numbered segments of each rendition, with what is stated above taken over", () => {
    const plan =
      read(`<?xml version="1.0"?><!-- x --><MPD mediaPresentationDuration="PT5S"><BaseURL>v/</BaseURL><Period>
      <AdaptationSet><SegmentTemplate duration="2000" timescale="1000" media="$RepresentationID$/$Number%03d$.m4s" initialization="$RepresentationID$/init"/>
      <Representation id="a"/><Representation id="b"><BaseURL>w/</BaseURL></Representation></AdaptationSet></Period></MPD>`);
    expect(targets(plan?.first)).toEqual(["/d/v/a/init", "/d/v/a/001.m4s"]);
    expect(targets(plan?.sequences[1])).toEqual([
      "/d/v/w/b/init",
      ...[1, 2, 3].map((n) => `/d/v/w/b/00${n}.m4s`),
    ]);
  });

  test("a timeline by time, and a list with ranges", () => {
    const plan = read(`<MPD><Period><AdaptationSet><Representation id="a"><SegmentTemplate media="t$Time$" >
      <SegmentTimeline><S t="10" d="5" r="1"/><S d="7"/></SegmentTimeline></SegmentTemplate></Representation></AdaptationSet>
      <AdaptationSet><Representation id="b"><SegmentList><SegmentURL media="x" mediaRange="0-9"/></SegmentList></Representation></AdaptationSet></Period></MPD>`);
    expect(targets(plan?.sequences[0])).toEqual(["/d/t10", "/d/t15", "/d/t20"]);
    expect(plan?.sequences[1]).toMatchObject([{ target: "/d/x", bytes: { from: 0, to: 9 } }]);
  });

  test("a live stream begins with the newest whole segment", () => {
    const plan = read(
      `<MPD type="dynamic" availabilityStartTime="2024-02-29T12:00:00Z"><Period><AdaptationSet>
      <SegmentTemplate duration="2" media="$Number$"/><Representation id="a"/></AdaptationSet></Period></MPD>`,
      Date.UTC(2024, 1, 29, 12, 0, 20, 500),
    );
    expect(targets(plan?.first)).toEqual(["/d/10"]);
  });

  test.each([
    ["a document type", '<!DOCTYPE x [<!ENTITY a "b">]><MPD/>'],
    [
      "an entity",
      "<MPD><Period><AdaptationSet><SegmentTemplate media='&a;$Number$' duration='1'/><Representation id='a'/></AdaptationSet></Period></MPD>",
    ],
    ["wrong nesting", "<MPD><Period></MPD></Period>"],
    ["depth", "<a>".repeat(40)],
  ])("refused: %s", (_name, text) => expect(read(text)).toBeUndefined());
});

test("CMCD names the next object of the same host (CTA-5004)", () => {
  const at = (target: string, fields: readonly (readonly [string, string])[] = []) =>
    cmcdHint(fields, scope(target));
  expect(at("/v/1.ts?CMCD=bl%3D21300%2Cnor%3D%222.ts%22%2Cnrr%3D%2210-20%22")).toMatchObject({
    target: "/v/2.ts",
    bytes: { from: 10, to: 20 },
  });
  expect(at("/v/1.ts", [["CMCD-Request", 'bl=1,nor="..%2Fw%2F2.ts"']])).toMatchObject({ target: "/w/2.ts" });
  expect(at("/v/1.ts", [["CMCD-Request", 'nor="http%3A%2F%2Fa.example%2F2.ts"']])).toBeUndefined();
  expect(at("/v/1.ts", [["CMCD-Request", 'nor="2.ts",nrr="10-"']])).toBeUndefined();
  expect(at("/v/1.ts?CMCD=%ZZ")).toBeUndefined();
  // What a player says of itself is no part of the object's name.
  expect(addressName({ scheme: "http", host: "a", target: "/1.ts?x=1&CMCD=bl%3D1" })).toBe(
    "http://a/1.ts?x=1",
  );
});

describe("the ledger", () => {
  const budget = { bytesPerSecond: 1_000, inFlightMax: 100 };
  const at = monotonicMs;

  test("what nobody uses stops, rests, and is sampled again", () => {
    const ledger = new PrefetchLedger();
    const issue = (from: number, count: number, now: number) =>
      Array.from({ length: count }, (_, n) => {
        const name = `o${from + n}`;
        const reason = ledger.begin("p", "html", name, at(now), budget);
        if (reason === undefined) ledger.end("p", name, 10);
        return reason;
      });
    const { judgedAfter, useWithinMs, pauseMs } = LEDGER_LIMITS;
    expect(issue(0, judgedAfter, 0)).toEqual(Array(judgedAfter).fill(undefined));
    const later = useWithinMs + 1;
    expect(issue(100, 1, later)).toEqual(["unused"]);
    expect(ledger.counters).toEqual({
      fetched: judgedAfter,
      used: 0,
      wasted: judgedAfter,
      wastedBytes: 10 * judgedAfter,
    });
    expect(ledger.paused(at(later))).toBe(1);
    // Other kinds go on.
    expect(ledger.begin("p", "css", "x", at(later), budget)).toBeUndefined();
    // A sample, and no more of it until its outcome is known.
    const again = later + pauseMs + 1;
    expect(issue(200, judgedAfter + 1, again).at(-1)).toBe("unused");
    for (let n = 0; n < judgedAfter; n++) ledger.use(`o${200 + n}`, at(again + 1));
    expect(issue(300, judgedAfter * 2, again + 2)).toEqual(Array(judgedAfter * 2).fill(undefined));
  });

  test("an object counts as used once and in time; it is not asked for twice", () => {
    const ledger = new PrefetchLedger();
    expect(ledger.begin("p", "html", "a", at(0), budget)).toBeUndefined();
    expect(ledger.begin("p", "html", "a", at(1), budget)).toBe("recent");
    expect([ledger.use("a", at(2)), ledger.use("a", at(3)), ledger.use("b", at(3))]).toEqual([
      "here",
      undefined,
      undefined,
    ]);
    expect(ledger.begin("p", "html", "b", at(4), budget)).toBeUndefined();
    expect(ledger.use("b", at(5 + LEDGER_LIMITS.useWithinMs))).toBeUndefined();
  });

  test("another worker's object is not asked for here, its use is told once, and it is judged there", () => {
    const ledger = new PrefetchLedger();
    ledger.handleElsewhere("a", at(0));
    expect(ledger.begin("p", "html", "a", at(1), budget)).toBe("recent");
    expect([ledger.use("a", at(2)), ledger.use("a", at(3))]).toEqual(["elsewhere", undefined]);
    ledger.handleElsewhere("b", at(4));
    ledger.sweep(at(5 + LEDGER_LIMITS.useWithinMs));
    expect(ledger.size).toBe(0);
    expect(ledger.counters).toEqual({ fetched: 0, used: 0, wasted: 0, wastedBytes: 0 });
    // Asked for by both at the same time: each judges its own.
    ledger.begin("p", "html", "c", at(50_000), budget);
    ledger.handleElsewhere("c", at(50_001));
    expect(ledger.use("c", at(50_002))).toBe("here");
  });

  test("bytes and requests in flight of a property are bounded", () => {
    const ledger = new PrefetchLedger();
    expect(ledger.begin("p", "html", "a", at(0), { ...budget, inFlightMax: 1 })).toBeUndefined();
    expect(ledger.begin("p", "html", "b", at(0), { ...budget, inFlightMax: 1 })).toBe("busy");
    expect(ledger.begin("q", "html", "c", at(0), { ...budget, inFlightMax: 1 })).toBeUndefined();
    ledger.end("p", "a", 5_000);
    expect(ledger.begin("p", "html", "b", at(0), budget)).toBe("bytes");
    // 5,000 bytes from a bucket of 2,000: 3 seconds and a bit until there is room again.
    expect(ledger.begin("p", "html", "b", at(2_999), budget)).toBe("bytes");
    expect(ledger.begin("p", "html", "b", at(3_001), budget)).toBeUndefined();
  });
});

test("early hints hold what a page cannot be shown without, in its order", () => {
  const hints = new EarlyHints();
  const reader = new HtmlReader(scope("/p"));
  hints.learn(
    scope("/p").page,
    reader.write("<link rel=stylesheet href=/a.css><script type=module src=/m.js></script><img src=/i.png>"),
  );
  expect(hints.linksOf(scope("/p").page)).toEqual([
    "</a.css>; rel=preload; as=style",
    "</m.js>; rel=modulepreload",
  ]);
  hints.learn(scope("/p").page, []);
  expect(hints.linksOf(scope("/p").page)).toBeUndefined();
});
