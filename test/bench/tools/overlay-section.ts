/** What `overlay` kept, for the report's page: bars and tables of times, and for how many pairs of sites a relay is faster at all. */
import { escapeHtml } from "./escape-html.ts";
import type { Machine } from "./machine.ts";
import { figure, type OtherResult } from "./results.ts";

export interface OverlayRow {
  /** Round trip over a relay's path, ms. */
  readonly relayMs: number;
  /** Which parts were on; or the peer. */
  readonly kind: string;
  /** ms; null: so many failed that there is none. */
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly failed: number;
  /** Requests at the origin beyond those of the client, for each of the client's. */
  readonly extraRatio: number;
  readonly load: number;
}

export interface OverlayPairs {
  readonly matrix: string;
  readonly sites: number;
  readonly pairs: number;
  /** Shares of the pairs for which any relay is faster, and one by 10 % and 5 ms, 0..1. */
  readonly any: number;
  readonly clear: number;
}

export interface OverlayResult {
  readonly bench: "overlay";
  readonly date: string;
  readonly commit: string;
  readonly machine: Machine;
  readonly directMs: number;
  readonly lossPerMille: number;
  readonly count: number;
  readonly rows: readonly OverlayRow[];
  readonly pairs: readonly OverlayPairs[];
  /** False: it was ended before all was measured. */
  readonly isWhole: boolean;
}

/** A sentence for each matrix. */
export function pairsText({ matrix, sites, pairs, any, clear }: OverlayPairs): string {
  const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
  return `${matrix}: of ${pairs} pairs of ${sites} sites a relay is faster for ${percent(any)} at all, and for ${percent(clear)} by 10 % and 5 ms; for the rest routing gives nothing.`;
}

const LABEL_WIDTH = 200;
const BAR_WIDTH = 420;
const VALUE_WIDTH = 120;
const BAR_HEIGHT = 9;
const GROUP_GAP = 10;
const QUANTILES = ["p50", "p90", "p99"] as const;

function chart(rows: readonly OverlayRow[], title: string): string {
  // Where all lie within two powers of ten a linear scale shows nothing of the medians.
  const values = rows.flatMap((row) => QUANTILES.map((name) => row[name])).filter((ms) => ms !== null);
  const [least, most] = [Math.min(...values, 1_000) / 2, Math.max(...values, 1)];
  const widthOf = (ms: number): number =>
    Math.max(1, (BAR_WIDTH * Math.log(ms / least)) / Math.log(most / least));
  const groupHeight = QUANTILES.length * BAR_HEIGHT + GROUP_GAP;
  const shapes = rows.flatMap((row, group) => {
    const top = group * groupHeight + GROUP_GAP / 2;
    const label = `<text class="label" x="${LABEL_WIDTH - 8}" y="${top + 18}">${escapeHtml(row.kind)}</text>`;
    const bars = QUANTILES.map((name, index) => {
      const ms = row[name];
      const y = top + index * BAR_HEIGHT;
      const width = ms === null ? BAR_WIDTH : widthOf(ms);
      const text = `${name} ${ms === null ? "none: too many failed" : `${figure(ms)} ms`}`;
      return `<rect class="${name === "p50" ? "ours" : "peer"}" x="${LABEL_WIDTH}" y="${y}" height="${BAR_HEIGHT - 2}" width="${width.toFixed(1)}"/><text x="${(LABEL_WIDTH + width + 5).toFixed(1)}" y="${y + 8}">${text}</text>`;
    });
    return [label, ...bars];
  });
  const [width, height] = [LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH, rows.length * groupHeight];
  return `<svg viewBox="0 0 ${width} ${height}" width="${width}" role="img" aria-label="${escapeHtml(title)}">${shapes.join("")}</svg>`;
}

function section(file: string, result: OverlayResult): string {
  const { directMs, lossPerMille, count, rows, pairs, machine, commit, date } = result;
  const loads = rows.map(({ load }) => load);
  const parts = [
    `<h2 id="${escapeHtml(file)}">The overlay: ${escapeHtml(file.replace(/\.json$/, ""))}</h2>`,
    `<p>${count} requests for 10 KB each way of asking, one after the other, over an emulated network with kernel TCP: ${directMs} ms and ${lossPerMille / 10} % loss to the origin directly.`,
    `${escapeHtml(`${machine.cpu}, ${machine.cores} cores, ${machine.kernel}; commit ${commit}, ${date.slice(0, 10)}`)}; load average ${figure(Math.min(...loads))} to ${figure(Math.max(...loads))}. Bars are on a logarithmic scale.</p>`,
  ];
  if (!result.isWhole) parts.push("<p><strong>Ended before all was measured.</strong></p>");
  for (const relayMs of new Set(rows.map((row) => row.relayMs))) {
    const own = rows.filter((row) => row.relayMs === relayMs);
    const title =
      relayMs === directMs
        ? `All paths ${directMs} ms: routing can only avoid losses`
        : `A relay's path ${relayMs} ms, direct ${directMs} ms`;
    const cells = own.map(
      (row) =>
        `<tr><td>${escapeHtml(row.kind)}</td>${QUANTILES.map((name) => `<td>${row[name] === null ? "-" : figure(row[name])}</td>`).join("")}<td>${row.failed}</td><td>${(100 * row.extraRatio).toFixed(1)} %</td></tr>`,
    );
    parts.push(
      `<h3>${escapeHtml(title)}</h3>`,
      chart(own, title),
      `<table class="figures"><thead><tr><th>what is on</th><th>p50 ms</th><th>p90 ms</th><th>p99 ms</th><th>failed</th><th>extra requests</th></tr></thead><tbody>${cells.join("")}</tbody></table>`,
    );
  }
  for (const one of pairs) parts.push(`<p>${escapeHtml(pairsText(one))}</p>`);
  return parts.join("\n");
}

function isOverlay(value: unknown): value is OverlayResult {
  return typeof value === "object" && value !== null && "bench" in value && value.bench === "overlay";
}

/** The sections of those results that are the overlay's, and the results that are not. */
export function overlaySections(others: readonly OtherResult[]): {
  readonly html: string;
  readonly rest: readonly OtherResult[];
} {
  const html: string[] = [];
  const rest: OtherResult[] = [];
  for (const other of others)
    if (isOverlay(other.value) && other.value.rows.length > 0) html.push(section(other.file, other.value));
    else rest.push(other);
  return { html: html.join("\n"), rest };
}
