/** Links' part of the report. */
import { describe, expect, test } from "vitest";
import { linkSection, linkTables } from "../../bench/tools/link-section.ts";
import { reportPage } from "../../bench/tools/page.ts";
import type { LinkWanResult } from "../../lab/link-wan.ts";
import { sampleMachine } from "./sample-run.ts";

const row = {
  link: "96ms",
  bytes: 10_000,
  carrier: "udp",
  count: 600,
  late: 0,
  p50: 97.2,
  p95: 101,
  p99: 104.6,
} as const;
const wan: LinkWanResult = {
  lab: "link-wan",
  commit: "abc1234",
  answers: [
    { ...row, p99: 999 },
    row,
    { ...row, bytes: 1_000_000, p50: 183 },
    { ...row, carrier: "nginx-cubic", p50: 1_234.5, p95: null, p99: null },
    { ...row, link: "bursts", carrier: "link-bbr" },
  ],
  bulk: [{ link: "clean", carrier: "udp", mbit: 93.4 }],
  fairness: [
    {
      ours: "udp",
      other: "link-cubic",
      queue: 0.5,
      otherShare: 0.54,
      mbit: 18.9,
      queueMs: { p50: 9.9, p95: 21 },
    },
  ],
};
const cpu = {
  name: "link",
  commit: "def5678",
  machine: sampleMachine,
  setting: { bytes: 1_024 },
  runs: [{ kind: "link", clientMicroseconds: 8.4, serverMicroseconds: 7.6 }],
};
const others = [
  { file: "link.json", value: cpu },
  { file: "link-wan.json", value: wan },
  { file: "purge.json", value: { bench: "purge" } },
];

describe("the section of links", () => {
  test("has both tables, one of times for each link, and takes nothing else", () => {
    const { html, rest } = linkSection(others);
    expect(rest.map(({ file }) => file)).toEqual(["purge.json"]);
    expect(html.match(/<table /g)).toHaveLength(5);
    expect(html).toContain("Commit def5678, abc1234");
    expect(html).toContain("<td>nginx proxy_pass, cubic</td><td>1,235 / - / -</td>");
    expect(html).not.toMatch(/NaN|undefined|null|999/);
    expect(reportPage({ comparisons: [], others: [...others] })).toContain('<h2 id="links">');
    expect(linkSection([]).html).toBe("");
  });

  test("stands in READMEs as tables", () => {
    const tables = new Map(linkTables(others));
    expect([...tables.keys()]).toEqual(["link-cpu", "link-wan"]);
    expect(tables.get("link-cpu")).toContain("| link | 8.40 | 7.60 |");
    const text = tables.get("link-wan") ?? "";
    expect(text).toContain("| carrier | 10 KB | 1 MB |");
    expect(text).toContain("| UDP with repairs | 97 / 101 / 105 | 183 / 101 / 105 |");
    expect(text).toContain("| UDP with repairs | link by TLS, cubic | 0.5 | 54 % | 18.9 | 10 / 21 |");
    expect(linkTables([])).toEqual([]);
  });
});
