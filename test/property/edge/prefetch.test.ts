/** Laws of what finds references: the cut of the input does not matter, bounds hold, work is linear. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { epochMs } from "#kit";
import { CssSheetReader } from "../../../edge/core/prefetch/css-sheet.ts";
import { DashReader } from "../../../edge/core/prefetch/dash.ts";
import { HlsReader } from "../../../edge/core/prefetch/hls.ts";
import { HtmlReader } from "../../../edge/core/prefetch/html.ts";
import { addressName } from "../../../edge/core/prefetch/sequence.ts";

const MAX = 5;
const scope = {
  page: { scheme: "http", host: "h", target: "/" },
  isOwnHost: () => true,
  referencesMax: MAX,
} as const;

const words = {
  html: [
    "<img src=/a>",
    "<img ",
    "src='/b'",
    ">",
    "<!--",
    "-->",
    "--!>",
    "<script>",
    "</script>",
    "<script src=/c>",
    '"',
    "'",
    "<",
    "x",
    " ",
    "<link rel=stylesheet href=/d>",
    "=",
    "/",
    "<style>",
    "</style>",
    "@import '/e';",
    "<picture>",
    "<template>",
    "</template>",
    "<base href=/q/>",
    "&amp;",
    "<img srcset='/f 1x, /g 2x'>",
  ],
  css: [
    "@import ",
    "@import '/i';",
    "@font-face{src:url(/f)}",
    "'/a'",
    "url(",
    "/b",
    ")",
    '"',
    ";",
    "{",
    "}",
    "@font-face{",
    "src:",
    "url('/c')",
    "/*",
    "*/",
    "\\",
    "\n",
    "unicode-range:u+20",
    "unicode-range:u+400",
    "x",
    " ",
    ",",
  ],
  hls: [
    "#EXTM3U\n",
    "#EXTINF:2,\n",
    "a.ts\n",
    "b.ts\n",
    "#EXT-X-BYTERANGE:5@3\n",
    "#EXT-X-BYTERANGE:5\n",
    "#EXT-X-ENDLIST",
    "\n",
    "\r",
    '#EXT-X-MAP:URI="m"\n',
    "#EXT-X-STREAM-INF:\n",
    '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p"\n',
    "x",
  ],
  dash: [
    '<Representation id="a"><SegmentTemplate media="$Number$" duration="1"/></Representation>',
    '<SegmentTemplate media="$Time$"><SegmentTimeline><S t="1" d="2" r="3"/></SegmentTimeline></SegmentTemplate>',
    "<MPD>",
    "<Period>",
    "<AdaptationSet>",
    '<Representation id="a">',
    '<SegmentTemplate media="$Number$" duration="1"/>',
    "<SegmentTemplate media='$Time$'><SegmentTimeline>",
    '<S t="1" d="2" r="3"/>',
    "</SegmentTimeline></SegmentTemplate>",
    "</Representation>",
    "</AdaptationSet>",
    "</Period>",
    "</MPD>",
    "<BaseURL>b/</BaseURL>",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "&",
    "<",
    "x",
  ],
};

const readers = {
  html: () => {
    const reader = new HtmlReader(scope);
    const found: string[] = [];
    return { write: (text: string) => found.push(...reader.write(text).map(addressName)), end: () => found };
  },
  css: () => {
    const reader = new CssSheetReader(scope);
    const found: string[] = [];
    return { write: (text: string) => found.push(...reader.write(text).map(addressName)), end: () => found };
  },
  hls: () => {
    const reader = new HlsReader(scope);
    return { write: (text: string) => reader.write(text), end: () => reader.plan(3) };
  },
  dash: () => {
    const reader = new DashReader(scope, epochMs(1_000));
    return { write: (text: string) => reader.write(text), end: () => reader.plan() };
  },
};

test.each(["html", "css", "hls", "dash"] as const)("%s: the same in any pieces, within the bound", (kind) => {
  let findings = 0;
  // Beginnings that are well-formed, so that what is found is not always nothing.
  const start = { html: "", css: "", hls: "#EXTM3U\n", dash: "<MPD><Period><AdaptationSet>" }[kind];
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...words[kind]), { maxLength: 30 }),
      fc.integer({ min: 1, max: 9 }),
      (parts, size) => {
        const text = start + parts.join("");
        const read = (step: number) => {
          const reader = readers[kind]();
          for (let at = 0; at < text.length; at += step) reader.write(text.slice(at, at + step));
          return reader.end();
        };
        const whole = read(text.length + 1);
        expect(read(size)).toEqual(whole);
        if (Array.isArray(whole)) expect(whole.length).toBeLessThanOrEqual(MAX);
        if (whole !== undefined && (!Array.isArray(whole) || whole.length > 0)) findings++;
      },
    ),
    { numRuns: 400 },
  );
  expect(findings).toBeGreaterThan(10);
});

test("hostile pages cost one step a character, and no more than the bound", () => {
  for (const unit of [
    "<",
    "<!--",
    "</",
    "<img src=",
    '<img src="',
    "<a ",
    "&#",
    "<script></scrip",
    "<img srcset='a,",
  ]) {
    const reader = new HtmlReader({ ...scope, referencesMax: 50 });
    const text = unit.repeat(20_000);
    for (let at = 0; at < text.length; at += 3) reader.write(text.slice(at, at + 3));
    expect(reader.charactersRead).toBe(text.length);
  }
  const endless = new HtmlReader(scope);
  for (let n = 0; n < 300; n++) endless.write("x".repeat(10_000));
  expect([endless.charactersRead, endless.isDone]).toEqual([1_048_576, true]);
});
