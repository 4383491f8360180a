import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { mediansOf, ratiosOf, type Run } from "../../bench/tools/measure.ts";
import { hitRatioCharts } from "../../bench/tools/hit-ratio-charts.ts";
import { reportPage } from "../../bench/tools/page.ts";
import { readmeTables, withTables } from "../../bench/tools/readme.ts";
import { headlineTable, type KeptResult, readResults } from "../../bench/tools/results.ts";
import { sampleMachine, sampleRun } from "./sample-run.ts";

function run(server: string, form: string, cpuMicroseconds: number): Run {
  return sampleRun({
    server,
    form,
    requestsPerCpuSecond: 1e6 / cpuMicroseconds,
    cpuMicrosecondsPerRequest: cpuMicroseconds,
  });
}

function comparison(name: string): KeptResult {
  const runs = [run("nginx", "tuned", 26), run("isochrone", "default", 20), run("nginx", '<b>"raw"</b>', 10)];
  return {
    name,
    title: name,
    date: "2026-11-26T00:00:00.000Z",
    commit: "abc1234",
    machine: sampleMachine,
    versions: { isochrone: "0.1.0", nginx: "1.22.1" },
    notes: {},
    options: { seconds: 5, rounds: 1 },
    workloads: [{ name: "1KiB-c32", note: "1 KiB, 32 connections" }],
    runs,
    medians: mediansOf(runs),
    ratios: ratiosOf(runs, "isochrone/default"),
    leftOut: [],
  };
}

describe("the report", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "isochrone-results-"));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  test("comparisons come in their order, what another program printed comes apart", () => {
    writeFileSync(join(directory, "a-miss.json"), JSON.stringify(comparison("miss")));
    writeFileSync(join(directory, "b-hit.json"), JSON.stringify(comparison("hit")));
    writeFileSync(join(directory, "overload.json"), JSON.stringify({ goodput: 0.97 }));
    writeFileSync(join(directory, "headline.md"), "no result");
    const results = readResults(directory);
    expect(results.comparisons.map(({ name, title }) => [name, title])).toEqual([
      ["hit", "b-hit"],
      ["miss", "a-miss"],
    ]);
    expect(results.others.map((one) => one.file)).toEqual(["overload.json"]);
    expect(reportPage(results)).toContain("&quot;goodput&quot;: 0.97");
  });

  test("hit ratios are drawn, a section a trace, whichever of the files of one name it is in", () => {
    const found = (cachePercent: number) => ({ cachePercent, objectHitPercent: 40, byteHitPercent: 30 });
    const server = (name: string, more: object = {}) =>
      [1, 10].map((size) => ({ server: name, ...found(size), ...more }));
    const policies = {
      name: "policies",
      defaultPolicy: "lru",
      traces: [
        {
          trace: "a",
          origin: "made",
          requests: 9,
          bounds: [1, 10].map((cachePercent) => ({
            cachePercent,
            atMost: { objectHitPercent: 50, byteHitPercent: 45.5 },
          })),
          policies: [{ policy: "lru", points: [found(1), found(10)] }],
        },
      ],
    };
    const peers = [
      {
        name: "policies-peers",
        requests: 9,
        trace: "a",
        origin: "made, its first 9",
        machine: comparison("hit").machine,
        versions: { nginx: "1.22.1" },
        commit: "abc1234",
        runs: [
          ...server("isochrone/default", { cacheBytes: 2e6, grownBytes: 3e6 }),
          ...server("nginx/tuned", { wrong: 3 }),
          ...server("y", { failed: { "status 503": 3 } }),
        ],
      },
      {
        name: "policies-peers",
        requests: 9,
        trace: "b",
        origin: "made otherwise",
        runs: [...server("varnish/tuned"), { server: "x", cachePercent: 1 }],
      },
    ];
    const others = [policies, ...peers, { name: "more" }].map((value, n) => ({ file: `${n}.json`, value }));
    const { html, rest } = hitRatioCharts(others);
    expect(rest.map(({ file }) => file)).toEqual(["3.json"]);
    const sections = html.split("<h2").slice(1);
    expect(sections.map((text) => /id="([^"]*)"/.exec(text)?.[1])).toEqual(["hits-a", "hits-b"]);
    const names = (text: string) =>
      [...text.matchAll(/<polyline class="([^"]*)"[^>]*><text[^>]*>([^<]*)/g)].map(
        ([, kind, name]) => `${kind} ${name}`,
      );
    const plain = html.replaceAll("/><text", "><text");
    const [a = "", b = ""] = plain.split("<h2").slice(1);
    // Objects and bytes, of the policy and of the server; who answered wrongly is not drawn.
    expect(names(a)).toEqual([
      "line default lru",
      "line bound no store more",
      "line default lru",
      "line bound no store more",
      ...Array(2).fill("line default isochrone/default"),
    ]);
    expect(a).toContain("are left out");
    // The servers were asked for another part of it than the policies.
    expect(a).toContain("9 requests; made; commit");
    expect(a).toContain(
      "9 requests; made, its first 9; Test CPU, 2 cores, Linux 6; nginx 1.22.1; commit abc1234.",
    );
    const table = readmeTables({ comparisons: [], others }).get("hit-ratios") ?? "";
    expect(table.split("\n")[0]).toBe(
      "| trace, cache in % of its footprint | isochrone/default | nginx/tuned | y | varnish/tuned | x |",
    );
    expect(table).toContain("| a, 10 %: 2 MB | 40.00 / 30.00 (3) | - | - |  |  |");
    expect(table).toContain("| b, 1 %: 0 MB |  |  |  | 40.00 / 30.00 | - |");
    expect(a).toContain("<tr><th>lru</th><td><b>40.00</b> / <b>30.00</b></td>");
    expect(a).toContain("<tr><th>no store more</th><td>50.00 / 45.50</td>");
    expect(names(b)).toEqual(["line varnish/tuned", "line varnish/tuned"]);
  });

  test("a file that is no JSON is named", () => {
    writeFileSync(join(directory, "broken.json"), "{");
    expect(() => readResults(directory)).toThrow(/broken\.json/);
  });

  test("the headline has ours first, the peers with the ratio of work behind, and what it was measured on", () => {
    const table = headlineTable(comparison("hit"));
    const [head, , row] = table.split("\n");
    expect(head).toBe("| hit | isochrone/default | nginx/tuned |");
    expect(row).toBe("| 1 KiB, 32 connections | 20.0 | 26.0 (x 1.30) |");
    expect(table).toContain(
      "Test CPU, 2 cores, Linux 6; isochrone 0.1.0, nginx 1.22.1; commit abc1234, 2026-11-26; load average 0.00 to 0.00.",
    );
  });

  test("a README's tables are written between their marks, all else stays", () => {
    const block = (name: string, content: string) => `<!-- bench: ${name} -->\n${content}\n<!-- /bench -->`;
    const text = ["# a", block("hit", "| old |"), "b", block("gone", "| kept |"), block("hit", ""), "c"].join(
      "\n",
    );
    const tables = readmeTables({ comparisons: [comparison("hit")], others: [] });
    const written = withTables(text, tables);
    const table = `\n${headlineTable(comparison("hit")).trim()}\n`;
    expect(written).toBe(
      ["# a", block("hit", table), "b", block("gone", "| kept |"), block("hit", table), "c"].join("\n"),
    );
    expect(withTables(written, tables)).toBe(written);
  });

  test("a section names its own machine", () => {
    const elsewhere = { ...comparison("hit"), title: "hit-elsewhere" };
    const machine = { ...elsewhere.machine, cpu: "Other CPU" };
    const page = reportPage({ comparisons: [comparison("hit"), { ...elsewhere, machine }], others: [] });
    const [, first = "", second = ""] = page.split("<h2");
    expect(first).toMatch(/id="hit".*\n?.*Test CPU/);
    expect(second).toMatch(/id="hit-elsewhere".*\n?.*Other CPU/);
  });

  test("the page needs nothing from elsewhere and takes no markup from data", () => {
    const page = reportPage({ comparisons: [comparison("hit")], others: [] });
    expect(page).not.toMatch(/(src|href)="?http/);
    expect(page).not.toContain('<b>"raw"</b>');
    expect(page).toContain("nginx/&lt;b&gt;");
    expect(page.match(/<rect /g)).toHaveLength(3);
    expect(page).toContain("x 1.30");
  });
});
