/** Hit ratios over cache sizes as line charts and tables, with what no store can exceed: what `policies` and `policies-peers` kept. */
import { escapeHtml } from "./escape-html.ts";
import type { Machine } from "./machine.ts";
import type { OtherResult } from "./results.ts";

interface Point {
  readonly cachePercent: number;
  readonly objectHitPercent: number;
  readonly byteHitPercent: number;
}

interface Series {
  readonly label: string;
  /** Of this project: a policy by itself, or the edge over HTTP. */
  readonly isOurs: boolean;
  readonly isWhole: boolean;
  /** No server or policy: what none of them can exceed. */
  readonly isBound?: boolean;
  readonly points: readonly Point[];
}

interface TraceCharts {
  readonly trace: string;
  /** What was replayed and where; another part of the trace, it may be, than what the servers were asked for. */
  readonly policiesNote: string;
  readonly policies: readonly Series[];
  readonly serversNote: string;
  readonly servers: readonly Series[];
}

/** What no store of a size finds more than (policies/bounds.ts); results of before have none. */
type BoundPoints = readonly {
  readonly cachePercent: number;
  readonly atMost: Omit<Point, "cachePercent">;
}[];

/** Where a result comes from, as both programs tell it. */
interface Source {
  readonly machine?: Machine;
  readonly commit?: string;
  readonly versions?: Readonly<Record<string, string>>;
}

/** What `policies` prints, as far as charts need it. */
interface PoliciesResult extends Source {
  readonly defaultPolicy: string;
  readonly traces: readonly {
    readonly trace: string;
    readonly origin: string;
    readonly requests: number;
    readonly bounds?: BoundPoints;
    readonly policies: readonly { readonly policy: string; readonly points: readonly Point[] }[];
  }[];
}

/** What `policies-peers` prints: a server that failed at a size has no figures there. */
export interface PeersResult extends Source {
  readonly trace: string;
  readonly origin: string;
  readonly requests: number;
  readonly bounds?: BoundPoints;
  readonly runs: readonly (Pick<Point, "cachePercent"> &
    Partial<Point> & {
      readonly server: string;
      readonly commit?: string;
      readonly wrong?: number;
      readonly failed?: Readonly<Record<string, number>>;
      readonly cacheBytes?: number;
      readonly grownBytes?: number;
    })[];
}

/** The charts that a directory's other results hold, and what is left of these. */
export function hitRatioCharts(others: readonly OtherResult[]): {
  readonly html: string;
  readonly rest: readonly OtherResult[];
} {
  const named = (name: string) => others.filter(({ value }) => nameOf(value) === name);
  const policies = named("policies").flatMap(({ value }) => {
    const { traces, defaultPolicy, ...source } = value as PoliciesResult;
    return traces.map((one) => ({ ...source, ...one, defaultPolicy }));
  });
  // Two files of one name: which trace each is of stands in it.
  const peers = peerResults(others);
  const traces = [...new Set([...policies, ...peers].map(({ trace }) => trace))];
  const charts = traces.map((trace): TraceCharts => {
    const replayed = policies.find((one) => one.trace === trace);
    const asked = peers.filter((one) => one.trace === trace);
    return {
      trace,
      policiesNote: replayed === undefined ? "" : noteOf(replayed, [replayed.commit]),
      policies: [
        ...(replayed?.policies ?? []).map(({ policy, points }) => ({
          label: policy,
          isOurs: policy === replayed?.defaultPolicy,
          isWhole: true,
          points,
        })),
        ...boundSeries(replayed?.bounds),
      ],
      serversNote: asked
        .map((one) =>
          noteOf(
            one,
            one.runs.map(({ commit }) => commit ?? one.commit),
          ),
        )
        .join(" "),
      servers: asked.flatMap((one) => [...serverSeries(one), ...boundSeries(one.bounds)]),
    };
  });
  const rest = others.filter(({ value }) => !["policies", "policies-peers"].includes(nameOf(value)));
  return { html: charts.map(section).join("\n"), rest };
}

/** The results of real servers among those of a directory. */
export function peerResults(others: readonly OtherResult[]): readonly PeersResult[] {
  return others
    .filter(({ value }) => nameOf(value) === "policies-peers")
    .map(({ value }) => value as PeersResult);
}

/** What was replayed, on what, by what. */
export function noteOf(
  one: Source & { readonly requests: number; readonly origin: string },
  commits: readonly (string | undefined)[],
): string {
  const { machine, versions, requests, origin } = one;
  return [
    `${requests.toLocaleString("en-US")} requests`,
    origin,
    ...(machine === undefined ? [] : [`${machine.cpu}, ${machine.cores} cores, ${machine.kernel}`]),
    ...Object.entries(versions ?? {}).map(([name, version]) => `${name} ${version}`),
    `commit ${[...new Set(commits)].join(", ")}.`,
  ].join("; ");
}

function boundSeries(bounds: BoundPoints | undefined): readonly Series[] {
  if (bounds === undefined) return [];
  const points = bounds.map(({ cachePercent, atMost }) => ({ cachePercent, ...atMost }));
  return [{ label: "no store more", isOurs: false, isWhole: true, isBound: true, points }];
}

function nameOf(value: unknown): string {
  return typeof value === "object" && value !== null && "name" in value ? String(value.name) : "";
}

/** Share of requests without their object (of a server that restarted, say) beyond which a figure says nothing. */
const WITHOUT_SHARE_MAX = 0.001;

/** The figures of a run; undefined: it has none, or too many wrong or missing answers. */
export function pointOf(run: PeersResult["runs"][number], requests: number): Point | undefined {
  const { cachePercent, objectHitPercent, byteHitPercent, wrong = 0, failed = {} } = run;
  const without = Object.values(failed).reduce((sum, count) => sum + count, wrong);
  if (objectHitPercent === undefined || byteHitPercent === undefined) return undefined;
  return without > WITHOUT_SHARE_MAX * requests
    ? undefined
    : { cachePercent, objectHitPercent, byteHitPercent };
}

function serverSeries({ runs, requests }: Pick<PeersResult, "runs" | "requests">): readonly Series[] {
  const servers = [...new Set(runs.map(({ server }) => server))];
  return servers.map((server) => {
    const own = runs.filter((run) => run.server === server);
    const points = own.flatMap((run) => pointOf(run, requests) ?? []);
    const isWhole = points.length === own.length;
    return { label: server, isOurs: server.startsWith("isochrone/"), isWhole, points };
  });
}

function section({ trace, policiesNote, policies, serversNote, servers }: TraceCharts): string {
  const of = (title: string, note: string, series: readonly Series[]): string =>
    series.every(({ points }) => points.length === 0)
      ? ""
      : [
          `<h3>${escapeHtml(title)}</h3>`,
          `<p>${escapeHtml(note)}</p>`,
          lineChart(`${trace}, ${title}: objects found`, series, (one) => one.objectHitPercent),
          lineChart(`${trace}, ${title}: bytes found`, series, (one) => one.byteHitPercent),
          table(series),
          series.every(({ isWhole }) => isWhole)
            ? ""
            : "<p>Sizes at which a server did not start, or gave wrong answers, are left out.</p>",
        ].join("\n");
  return [
    `<h2 id="hits-${escapeHtml(trace)}">hit ratios: ${escapeHtml(trace)}</h2>`,
    of("policies in process", policiesNote, policies),
    of("servers over HTTP", serversNote, servers),
  ].join("\n");
}

/** Objects / bytes found, %, one column a size; the best of a size in bold, the bound beneath. */
function table(series: readonly Series[]): string {
  const drawn = series.filter(({ points }) => points.length > 0);
  const sizes = sizesOf(drawn);
  const at = ({ points }: Series, size: number): Point | undefined =>
    points.find(({ cachePercent }) => cachePercent === size);
  const cell = (one: Series, size: number): string => {
    const point = at(one, size);
    if (point === undefined) return "<td></td>";
    const rivals = drawn.filter(({ isBound }) => isBound !== true).flatMap((other) => at(other, size) ?? []);
    const text = (value: number, of: (point: Point) => number): string =>
      one.isBound !== true && value >= Math.max(...rivals.map(of))
        ? `<b>${value.toFixed(2)}</b>`
        : value.toFixed(2);
    return `<td>${text(point.objectHitPercent, (other) => other.objectHitPercent)} / ${text(point.byteHitPercent, (other) => other.byteHitPercent)}</td>`;
  };
  const rows = drawn.map(
    (one) => `<tr><th>${escapeHtml(one.label)}</th>${sizes.map((size) => cell(one, size)).join("")}</tr>`,
  );
  return `<table><tr><th>objects / bytes found, %</th>${sizes.map((size) => `<th>${size} %</th>`).join("")}</tr>${rows.join("")}</table>`;
}

function sizesOf(series: readonly Series[]): readonly number[] {
  const sizes = series.flatMap(({ points }) => points.map(({ cachePercent }) => cachePercent));
  return [...new Set(sizes)].toSorted((a, b) => a - b);
}

const WIDTH = 560;
const HEIGHT = 300;
const MARGIN = { left: 48, right: 170, top: 28, bottom: 36 };
const DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 4"];

/** Cache size in percent of the footprint (logarithmic) against percent found. */
function lineChart(title: string, series: readonly Series[], y: (point: Point) => number): string {
  const all = series.flatMap(({ points }) => points);
  const sizes = sizesOf(series);
  const [least = 1, most = 100] = [sizes[0], sizes.at(-1)];
  const low = Math.floor(Math.min(...all.map(y)) / 5) * 5;
  const high = Math.max(low + 5, Math.ceil(Math.max(...all.map(y)) / 5) * 5);
  const innerWidth = WIDTH - MARGIN.left - MARGIN.right;
  const innerHeight = HEIGHT - MARGIN.top - MARGIN.bottom;
  const atX = (size: number): string =>
    (MARGIN.left + (Math.log(size / least) / Math.max(1e-9, Math.log(most / least))) * innerWidth).toFixed(1);
  const atY = (value: number): string =>
    (MARGIN.top + (1 - (value - low) / (high - low)) * innerHeight).toFixed(1);
  const step = (high - low) / 5;
  const grid = Array.from({ length: 6 }, (_, index) => {
    const value = low + index * step;
    return `<line class="grid" x1="${MARGIN.left}" x2="${MARGIN.left + innerWidth}" y1="${atY(value)}" y2="${atY(value)}"/><text class="label" x="${MARGIN.left - 6}" y="${Number(atY(value)) + 4}">${Number(value.toFixed(1))}</text>`;
  });
  const ticks = sizes.map(
    (size) => `<text class="middle" x="${atX(size)}" y="${HEIGHT - MARGIN.bottom + 18}">${size} %</text>`,
  );
  const drawn = series.filter(({ points }) => points.length > 0);
  const ends = apart(drawn.map(({ points }) => Number(atY(y(points.at(-1) as Point)))));
  const lines = drawn.map(({ label, isOurs, isBound, points }, index) => {
    const dash = DASHES[index % DASHES.length] ?? "";
    const places = points.map((one) => `${atX(one.cachePercent)},${atY(y(one))}`).join(" ");
    const name = `<text x="${MARGIN.left + innerWidth + 8}" y="${((ends[index] ?? 0) + 4).toFixed(1)}">${escapeHtml(label)}</text>`;
    return `<polyline class="line${isOurs ? " default" : isBound === true ? " bound" : ""}" stroke-dasharray="${isOurs ? "" : dash}" points="${places}"/>${name}`;
  });
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" role="img" aria-label="${escapeHtml(title)}"><text x="${MARGIN.left}" y="16">${escapeHtml(title)}, %</text>${[...grid, ...ticks, ...lines].join("")}</svg>`;
}

/** Places of names, moved apart so that none lies upon another; in the order given. */
function apart(wanted: readonly number[]): readonly number[] {
  const order = wanted.map((_, index) => index).toSorted((a, b) => (wanted[a] ?? 0) - (wanted[b] ?? 0));
  const placed: number[] = [];
  let last = Number.NEGATIVE_INFINITY;
  for (const index of order) {
    last = Math.max(last + 14, wanted[index] ?? 0);
    placed[index] = last;
  }
  return placed;
}
