/** The report as one HTML page that needs nothing else: tables, bar charts as SVG, the machine. */
import { labelOf, type Run } from "./measure.ts";
import { escapeHtml } from "./escape-html.ts";
import { hitRatioCharts } from "./hit-ratio-charts.ts";
import { linkSection } from "./link-section.ts";
import { overlaySections } from "./overlay-section.ts";
import { figure, type KeptResult, provenance, type Results, rowsOf } from "./results.ts";

const BAR_HEIGHT = 20;
const BAR_GAP = 6;
const LABEL_WIDTH = 170;
const BAR_WIDTH = 420;
const VALUE_WIDTH = 150;

/** Horizontal bars of CPU microseconds a request (shorter is better); whiskers reach from the best round to the worst. */
export function barChart(title: string, medians: readonly Run[], runs: readonly Run[]): string {
  const bars = medians.toSorted((a, b) => a.cpuMicrosecondsPerRequest - b.cpuMicrosecondsPerRequest);
  const of = (bar: Run): number[] =>
    runs.filter((run) => labelOf(run) === labelOf(bar)).map((run) => run.cpuMicrosecondsPerRequest);
  const max = Math.max(1e-9, ...bars.flatMap((bar) => [bar.cpuMicrosecondsPerRequest, ...of(bar)]));
  const height = bars.length * (BAR_HEIGHT + BAR_GAP) + BAR_GAP;
  const width = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH;
  const x = (value: number): string => (LABEL_WIDTH + (value / max) * BAR_WIDTH).toFixed(1);
  const shapes = bars.map((bar, index) => {
    const top = BAR_GAP + index * (BAR_HEIGHT + BAR_GAP);
    const middle = top + BAR_HEIGHT / 2;
    const value = bar.cpuMicrosecondsPerRequest;
    const spread = of(bar);
    const [low, high] = [Math.min(value, ...spread), Math.max(value, ...spread)];
    return [
      `<text class="label" x="${LABEL_WIDTH - 8}" y="${middle + 4}">${escapeHtml(labelOf(bar))}</text>`,
      `<rect class="${bar.server === "isochrone" ? "ours" : "peer"}" x="${LABEL_WIDTH}" y="${top}" height="${BAR_HEIGHT}" width="${(Number(x(value)) - LABEL_WIDTH).toFixed(1)}"/>`,
      `<line class="spread" x1="${x(low)}" x2="${x(high)}" y1="${middle}" y2="${middle}"/>`,
      `<text x="${(Number(x(high)) + 6).toFixed(1)}" y="${middle + 4}">${figure(value)} us</text>`,
    ].join("");
  });
  return `<svg viewBox="0 0 ${width} ${height}" width="${width}" role="img" aria-label="${escapeHtml(title)}">${shapes.join("")}</svg>`;
}

const MEBIBYTE = 2 ** 20;

function table(head: readonly string[], rows: readonly (readonly string[])[], kind = "figures"): string {
  const cells = (row: readonly string[], tag: "td" | "th"): string =>
    row.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join("");
  return `<table class="${kind}"><thead><tr>${cells(head, "th")}</tr></thead><tbody>${rows.map((row) => `<tr>${cells(row, "td")}</tr>`).join("")}</tbody></table>`;
}

function comparisonSection(result: KeptResult): string {
  const isScaling = result.name === "workers";
  const { memoryBytes, virtualization, congestionControl } = result.machine;
  const parts = [
    `<h2 id="${escapeHtml(result.title)}">${escapeHtml(result.title)}</h2>`,
    `<p>${result.options.rounds} rounds of ${result.options.seconds} s, servers taking turns. ${escapeHtml(provenance(result))}`,
    `Memory ${figure(memoryBytes / 2 ** 30)} GiB, virtualization ${escapeHtml(virtualization)}, congestion control ${escapeHtml(congestionControl)}.</p>`,
  ];
  for (const row of rowsOf(result)) {
    if (row.runs.length === 0) continue;
    parts.push(
      `<h3>${escapeHtml(row.note)}</h3>`,
      barChart(
        row.note,
        row.runs,
        result.runs.filter((run) => run.workload === row.workload),
      ),
      table(
        [
          "server",
          "CPU us a request",
          isScaling ? "scaling" : "work of ours over this",
          "over the rounds",
          "user us",
          "requests per CPU-second",
          "requests/s",
          "p50 ms",
          "p99 ms",
          "PSS MiB",
          "RSS MiB",
          "errors",
        ],
        row.runs.map((run) => {
          const ratio = result.ratios.find(
            (one) => one.workload === row.workload && (isScaling ? one.server : one.peer) === labelOf(run),
          );
          return [
            labelOf(run),
            figure(run.cpuMicrosecondsPerRequest),
            ratio === undefined ? "" : `x ${ratio.ratio.toFixed(2)}`,
            ratio === undefined ? "" : `${ratio.ratioMin.toFixed(2)} to ${ratio.ratioMax.toFixed(2)}`,
            figure((run.userSeconds / Math.max(1, run.requests)) * 1e6),
            figure(run.requestsPerCpuSecond),
            figure(run.requestsPerSecond),
            figure(run.p50Ms),
            figure(run.p99Ms),
            figure(run.pssBytes / MEBIBYTE),
            figure(run.rssBytes / MEBIBYTE),
            String(run.errors),
          ];
        }),
      ),
    );
  }
  if (isScaling)
    parts.push(
      "<p>Scaling: what two workers do over what one does, by completed requests where they are full, else by twice the work of a CPU-second.</p>",
    );
  if (result.leftOut.length > 0)
    parts.push(
      "<h3>Left out</h3>",
      table(
        ["server", "workload", "why"],
        result.leftOut.map((one) => [one.server, one.workload, one.why]),
        "words",
      ),
    );
  parts.push(
    "<h3>Forms</h3>",
    table(
      ["server", "what it is"],
      Object.entries(result.notes).map(([label, note]) => [label, note]),
      "words",
    ),
  );
  return parts.join("\n");
}

const STYLE = `
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; display: block; overflow-x: auto; }
th, td { padding: 0.15rem 0.6rem; border-bottom: 1px solid #8886; text-align: right; }
td { white-space: nowrap; } th { vertical-align: bottom; }
th:first-child, td:first-child, .words th, .words td { text-align: left; } .words td { white-space: normal; }
svg { max-width: 100%; height: auto; } svg text { font-size: 12px; fill: currentColor; } svg .label { text-anchor: end; }
.grid { stroke: #8886; } svg .middle { text-anchor: middle; } .line { fill: none; stroke: #8a94a6; stroke-width: 1.5; }
svg .line.default { stroke: #0a7d6c; stroke-width: 2.5; } svg .line.bound { stroke: #b3541e; stroke-dasharray: 1 3; }
.ours { fill: #0a7d6c; } .peer { fill: #8a94a6; } .spread { stroke: currentColor; stroke-width: 1.5; }
pre { overflow-x: auto; background: #8881; padding: 0.6rem; }
`;

/** The whole page. */
export function reportPage(results: Results): string {
  const overlay = overlaySections(results.others);
  const links = linkSection(overlay.rest);
  const charts = hitRatioCharts(links.rest);
  return [
    "<!doctype html>",
    '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
    `<title>Isochrone: benchmarks</title><style>${STYLE}</style></head><body>`,
    "<h1>Isochrone: benchmarks</h1>",
    "<p>The figure is server CPU time: user + system time of the server's whole process tree, for each request; the servers of a section ran at the",
    "same time on one machine, which it names, and took turns. Shorter bars are better; the line through a bar reaches from the best round to the worst.",
    "A load average well above the number of cores means that others were at work.</p>",
    ...results.comparisons.map(comparisonSection),
    overlay.html,
    links.html,
    charts.html,
    ...charts.rest.map(
      (other) =>
        `<h2>${escapeHtml(other.file.replace(/\.json$/, ""))}</h2><details><summary>what it printed</summary><pre>${escapeHtml(JSON.stringify(other.value, undefined, 2))}</pre></details>`,
    ),
    "</body></html>",
    "",
  ].join("\n");
}
