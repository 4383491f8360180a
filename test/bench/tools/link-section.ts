/** What was kept of links between servers, for the report's page and for READMEs: CPU of a small request by protocol (`bench link`), times by carrier (`lab link-wan`). */
import type { LinkWanResult } from "../../lab/link-wan.ts";
import { escapeHtml } from "./escape-html.ts";
import type { Machine } from "./machine.ts";
import { figure, type OtherResult } from "./results.ts";

interface CpuResult {
  readonly name: "link";
  readonly commit: string;
  readonly machine: Machine;
  readonly setting: { readonly bytes: number };
  readonly runs: readonly {
    readonly kind: string;
    readonly clientMicroseconds: number;
    readonly serverMicroseconds: number;
  }[];
}

/** What is shown of it, in HTML and in Markdown. */
interface Table {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

const PROTOCOLS: Readonly<Record<string, string>> = {
  link: "link",
  http2: "HTTP/2",
  http1: "HTTP/1.1 over TLS",
  "product-link": "link, with all that servers do",
  "product-http1": "HTTP/1.1 without TLS, with all that servers do",
};
const LINKS: Readonly<Record<LinkWanResult["answers"][number]["link"], string>> = {
  "96ms": "96 ms, 1.4 % lost",
  "48ms": "48 ms, 1.0 % lost",
  "16ms": "16 ms, 0.7 % lost",
  clean: "96 ms, nothing lost",
  bursts: "96 ms, 1.4 % lost in bursts of 10 ms",
};
const CARRIERS: readonly (readonly [start: string, title: string])[] = [
  ["udp", "UDP with repairs"],
  ["choice", "link by UDP or TLS"],
  ["link", "link by TLS"],
  ["http2", "HTTP/2"],
  ["http1", "HTTP/1.1 over TLS"],
  ["nginx", "nginx proxy_pass"],
];

function carrierTitle(name: string): string {
  const [kind = "", control] = name.split("-");
  const title = CARRIERS.find(([start]) => start === kind)?.[1] ?? kind;
  return control === undefined ? title : `${title}, ${control === "bbr" ? "BBR" : control}`;
}

const bytesTitle = (bytes: number): string =>
  bytes < 1_000_000 ? `${bytes / 1_000} KB` : `${bytes / 1e6} MB`;
const whole = (ms: number | null): string => (ms === null ? "-" : Math.round(ms).toLocaleString("en-US"));

function cpuTable({ runs, setting }: CpuResult): Table {
  return {
    title: `CPU of a request for ${setting.bytes} bytes, us`,
    head: ["protocol", "client", "server"],
    rows: runs.map(({ kind, clientMicroseconds, serverMicroseconds }) => [
      PROTOCOLS[kind] ?? kind,
      figure(clientMicroseconds),
      figure(serverMicroseconds),
    ]),
  };
}

/** The last of several for one cell counts. */
function wanTables(results: readonly LinkWanResult[]): Table[] {
  const answers = results.flatMap((one) => one.answers);
  const tables: Table[] = [];
  for (const [link, title] of Object.entries(LINKS)) {
    const own = answers.filter((row) => row.link === link);
    const sizes = [...new Set(own.map(({ bytes }) => bytes))].toSorted((a, b) => a - b);
    if (sizes.length === 0) continue;
    const rows = [...new Set(own.map(({ carrier }) => carrier))].map((carrier) => [
      carrierTitle(carrier),
      ...sizes.map((bytes) => {
        const row = own.findLast((one) => one.carrier === carrier && one.bytes === bytes);
        return row === undefined ? "" : `${whole(row.p50)} / ${whole(row.p95)} / ${whole(row.p99)}`;
      }),
    ]);
    tables.push({
      title: `p50 / p95 / p99 until the last byte, ms: ${title}`,
      head: ["carrier", ...sizes.map(bytesTitle)],
      rows,
    });
  }
  const bulk = results.flatMap((one) => one.bulk);
  if (bulk.length > 0)
    tables.push({
      title: "One transfer without end over 100 Mbit/s, Mbit/s of content",
      head: ["link", "carrier", "Mbit/s"],
      rows: bulk.map(({ link, carrier, mbit }) => [LINKS[link], carrierTitle(carrier), figure(mbit)]),
    });
  const fairness = results.flatMap((one) => one.fairness);
  if (fairness.length > 0)
    tables.push({
      title: "Two transfers without end through 20 Mbit/s, 48 ms",
      head: [
        "one",
        "the other",
        "queue, of what the path holds",
        "the other's share",
        "Mbit/s",
        "wait p50 / p95, ms",
      ],
      rows: fairness.map(({ ours, other, queue, otherShare, mbit, queueMs }) => [
        carrierTitle(ours),
        carrierTitle(other),
        String(queue),
        `${Math.round(100 * otherShare)} %`,
        figure(mbit),
        `${whole(queueMs.p50)} / ${whole(queueMs.p95)}`,
      ]),
    });
  return tables;
}

const isCpu = (value: unknown): value is CpuResult =>
  typeof value === "object" && value !== null && "name" in value && value.name === "link" && "runs" in value;
const isWan = (value: unknown): value is LinkWanResult =>
  typeof value === "object" && value !== null && "lab" in value && value.lab === "link-wan";

function tablesOf(others: readonly OtherResult[]) {
  const cpu = others.filter(({ value }) => isCpu(value)).map(({ value }) => value as CpuResult);
  const wan = others.filter(({ value }) => isWan(value)).map(({ value }) => value as LinkWanResult);
  return { cpu: cpu.map(cpuTable), wan: wanTables(wan), all: [...cpu, ...wan] };
}

function html({ title, head, rows }: Table): string {
  const cells = (row: readonly string[], tag: string): string =>
    row.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join("");
  return `<h3>${escapeHtml(title)}</h3><table class="figures"><thead><tr>${cells(head, "th")}</tr></thead><tbody>${rows.map((row) => `<tr>${cells(row, "td")}</tr>`).join("")}</tbody></table>`;
}

function markdown({ title, head, rows }: Table): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [
    `${title}:`,
    "",
    line(head),
    `|---|${head
      .slice(1)
      .map(() => "---:|")
      .join("")}`,
    ...rows.map(line),
    "",
  ].join("\n");
}

/** The section of those results that are links', and the results that are not. */
export function linkSection(others: readonly OtherResult[]): {
  readonly html: string;
  readonly rest: readonly OtherResult[];
} {
  const { cpu, wan, all } = tablesOf(others);
  const rest = others.filter(({ value }) => !isCpu(value) && !isWan(value));
  if (all.length === 0) return { html: "", rest };
  const commits = [...new Set(all.map(({ commit }) => commit))].join(", ");
  const intro = `<p>The lab's links have 100 Mbit/s each; all carriers are asked for the same at the same moments, whatever became of what was asked before. Commit ${escapeHtml(commits)}.</p>`;
  return {
    html: ['<h2 id="links">Links between servers</h2>', intro, ...[...cpu, ...wan].map(html)].join("\n"),
    rest,
  };
}

/** Tables for READMEs by name; those that nothing was kept for are not there. */
export function linkTables(others: readonly OtherResult[]): [name: string, table: string][] {
  const { cpu, wan } = tablesOf(others);
  return [
    ...(cpu.length === 0 ? [] : [["link-cpu", cpu.map(markdown).join("\n")] as [string, string]]),
    ...(wan.length === 0 ? [] : [["link-wan", wan.map(markdown).join("\n")] as [string, string]]),
  ];
}
