/** The tables that READMEs show of kept results, each between two marks, so that nobody copies figures by hand. */
import { noteOf, peerResults, type PeersResult, pointOf } from "./hit-ratio-charts.ts";
import { linkTables } from "./link-section.ts";
import { headlineTable, type Results } from "./results.ts";

/** `<!-- bench: NAME -->` and `<!-- /bench -->`, a line each, with what is written between them. */
const BLOCK = /^<!-- bench: ([a-z0-9-]+) -->\n[^]*?^<!-- \/bench -->$/gm;

/** By name: a comparison's headline by the name of its file, `hit-ratios`, and those of links. */
export function readmeTables(results: Results): ReadonlyMap<string, string> {
  const peers = peerResults(results.others);
  return new Map([
    ...results.comparisons.map((one) => [one.title, headlineTable(one)] as const),
    ...linkTables(results.others),
    ...(peers.length === 0 ? [] : [["hit-ratios", hitRatioTable(peers)] as const]),
  ]);
}

/** The text with every block that a table has the name of written anew; the others stay as they are. */
export function withTables(text: string, tables: ReadonlyMap<string, string>): string {
  return text.replace(BLOCK, (block, name: string) => {
    const table = tables.get(name);
    return table === undefined ? block : `<!-- bench: ${name} -->\n\n${table.trim()}\n\n<!-- /bench -->`;
  });
}

const MEGABYTE = 1e6;

/** Objects / bytes found by each server at each size, and by how many MB its process grew. */
function hitRatioTable(peers: readonly PeersResult[]): string {
  const servers = [...new Set(peers.flatMap(({ runs }) => runs.map(({ server }) => server)))].toSorted(
    (a, b) => Number(b.startsWith("isochrone/")) - Number(a.startsWith("isochrone/")),
  );
  const rows = peers.flatMap((one) =>
    [...new Set(one.runs.map(({ cachePercent }) => cachePercent))].map((size) => {
      const cells = servers.map((server) => {
        const run = one.runs.find((each) => each.server === server && each.cachePercent === size);
        const point = run && pointOf(run, one.requests);
        if (point === undefined) return run === undefined ? "" : "-";
        const grown = run?.grownBytes === undefined ? "" : ` (${Math.round(run.grownBytes / MEGABYTE)})`;
        return `${point.objectHitPercent.toFixed(2)} / ${point.byteHitPercent.toFixed(2)}${grown}`;
      });
      const given = one.runs.find(({ cachePercent }) => cachePercent === size)?.cacheBytes ?? 0;
      return `| ${one.trace}, ${size} %: ${Math.round(given / MEGABYTE)} MB | ${cells.join(" | ")} |`;
    }),
  );
  return [
    `| trace, cache in % of its footprint | ${servers.join(" | ")} |`,
    `|---|${servers.map(() => "---:|").join("")}`,
    ...rows,
    "",
    "Objects / bytes found, %; in brackets the MB by which the server's processes grew (proportional set size; not what they have in files).",
    "`-`: it did not start with so few bytes, or left more than 0.1 % of the requests without their object.",
    "",
    ...peers.map(
      (one) =>
        `- ${one.trace}: ${noteOf(
          one,
          one.runs.map(({ commit }) => commit ?? one.commit),
        )}`,
    ),
    "",
  ].join("\n");
}
