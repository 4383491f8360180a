/** The overlay's part of the report. */
import { describe, expect, test } from "vitest";
import { reportPage } from "../../bench/tools/page.ts";
import { type OverlayResult, overlaySections, pairsText } from "../../bench/tools/overlay-section.ts";
import { sampleMachine } from "./sample-run.ts";

const row = { p50: 101, p90: 140, p99: 320, failed: 0, extraRatio: 0.04, load: 0.5 };
const result: OverlayResult = {
  bench: "overlay",
  date: "2026-11-27T00:00:00.000Z",
  commit: "abc1234",
  machine: sampleMachine,
  directMs: 96,
  lossPerMille: 14,
  count: 600,
  rows: [
    { ...row, relayMs: 96, kind: "pooling alone" },
    { ...row, relayMs: 96, kind: "<routing> alone", p99: null, failed: 9 },
    { ...row, relayMs: 72, kind: "both, second attempts", p50: 77 },
  ],
  pairs: [{ matrix: "wonder", sites: 30, pairs: 870, any: 0.613, clear: 0.128 }],
  isWhole: true,
};

describe("the overlay's section", () => {
  const { html, rest } = overlaySections([
    { file: "overlay.json", value: result },
    { file: "purge.json", value: { bench: "purge" } },
    { file: "empty.json", value: { ...result, rows: [] } },
  ]);

  test("has a chart and a table for each length of the relay's path, and takes nothing else", () => {
    expect(html.match(/<svg /g)).toHaveLength(2);
    expect(html.match(/<table /g)).toHaveLength(2);
    expect(html).toContain("All paths 96 ms: routing can only avoid losses");
    expect(html).toMatch(/A relay.{1,5}s path 72 ms, direct 96 ms/);
    expect(html).toContain("p50 77.0 ms");
    expect(rest.map(({ file }) => file)).toEqual(["purge.json", "empty.json"]);
  });

  test("says plainly what has no figure, what failed, and for how many pairs routing gives nothing", () => {
    expect(html).toContain("p99 none: too many failed");
    expect(html).toContain("&lt;routing&gt; alone");
    expect(html).not.toMatch(/NaN|Infinity|undefined|null/);
    expect(html).toContain(
      "of 870 pairs of 30 sites a relay is faster for 61 % at all, and for 13 % by 10 % and 5 ms; for the rest routing gives nothing.",
    );
    expect(pairsText({ ...result.pairs[0]!, any: 0, clear: 0 })).toContain("for 0 % at all");
    expect(html).not.toContain("Ended before");
    const part = overlaySections([{ file: "overlay.json", value: { ...result, isWhole: false } }]);
    expect(part.html).toContain("Ended before all was measured");
  });

  test("stands in the page", () => {
    const page = reportPage({ comparisons: [], others: [{ file: "overlay.json", value: result }] });
    expect(page).toContain('<h2 id="overlay.json">The overlay: overlay</h2>');
    expect(page).not.toContain("what it printed");
  });
});
