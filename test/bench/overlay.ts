/**
 * What each part of the overlay is worth on an emulated network with real kernels: small objects with the parts switched off and on, where every
 * path has the same length and where a relay's is shorter.
 */
import { writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { basename } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { evaluateOverlay } from "../../cli/evaluate/overlay.ts";
import { readMatrix } from "../../cli/evaluate/matrix.ts";
import { type Options, timesOf, World } from "../lab/overlay.ts";
import { wholeNumber } from "../tools/flags.ts";
import { whyNoNetwork } from "../wan/network.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";
import {
  type OverlayPairs,
  type OverlayResult,
  type OverlayRow,
  pairsText,
} from "./tools/overlay-section.ts";
import { findProgram } from "./tools/program.ts";

export const summary = "what routing, pooling and second attempts are each worth over an emulated network";

const HELP = `Usage: npm run bench -- overlay [options]

${summary}: 10 KB at 96 ms and 1.4 % loss, once with all paths alike and once with a relay whose path is a quarter
shorter. A table goes to stderr, JSON to stdout. Needs root, network namespaces, a C compiler and nginx. nginx with
kept connections (one path, no second attempts) is asked the same over the same links. Takes 14 minutes with the defaults.

  --count N       requests of each kind (default 600, 20 to 100000)
  --matrix FILE   measured round-trip times between sites: says for how many pairs a relay is faster at all; as often as there are files
  --seed N        of the losses and of the sites (default 1)
  --out FILE      the JSON to a file too, after each kind, so that a run that is ended keeps what it has
  --help
`;

const RTT_MS = 96;
const SHORT_RTT_MS = 72;
const LOSS_PER_MILLE = 14;
const INTERVAL_MS = 50;
/** Until usual times are known. */
const WARM_UP = 60;
const TIMEOUT_MS = 10_000;
/** Probes need some rounds before a relay may be used. */
const PROBES_MS = 4_000;
const SITES = 30;
const CANDIDATES = 3;

const noRouting = { paths: { relaysMax: 0 } };
/** A connection for each request, closed behind it. */
const noPooling = { connectionsWarmMin: 0, connectionsWarmMax: 0, keepAliveMs: 1 };
const noHedging = { hedging: { ratio: 0 } };
const NGINX = "nginx, kept connections";
const KINDS: Readonly<Record<string, NonNullable<Options["transport"]>>> = {
  [NGINX]: {},
  neither: { ...noRouting, ...noPooling, ...noHedging },
  "routing alone": { ...noPooling, ...noHedging },
  "pooling alone": { ...noRouting, ...noHedging },
  both: noHedging,
  "both, second attempts": {},
};

async function measure(options: Options, who: "isochrone" | "nginx") {
  const world = await World.start("doctor", options);
  try {
    await pause(PROBES_MS);
    const ask = (count: number) =>
      world.fetch("small", { count, intervalMs: INTERVAL_MS, timeoutMs: TIMEOUT_MS }, who);
    await ask(WARM_UP);
    const before = await world.counters();
    const { p50, p90, p99, failures } = timesOf(await ask(options.count), who);
    const after = await world.counters();
    const grown = (name: string): number => (after.get(name) ?? 0) - (before.get(name) ?? 0);
    const extra = who === "nginx" ? 0 : grown('hedging_total{event="hedges"}') + grown("retries_total");
    const known = (ms: number): number | null => (Number.isFinite(ms) ? ms : null);
    return {
      p50: known(p50),
      p90: known(p90),
      p99: known(p99),
      failed: failures.length,
      extraRatio: extra / options.count,
    };
  } finally {
    await world.stop();
  }
}

function pairsOf(path: string, seed: number): OverlayPairs {
  const { figures, pairs } = evaluateOverlay(readMatrix(path, undefined), {
    sites: SITES,
    candidates: CANDIDATES,
    seed,
  });
  const matrix = basename(path).replace(/\..*$/, "");
  return { matrix, sites: SITES, pairs, ...figures.gainful };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      count: { type: "string", default: "600" },
      matrix: { type: "string", multiple: true, default: [] },
      seed: { type: "string", default: "1" },
      out: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const count = wholeNumber("count", values.count, 20, 100_000);
  const seed = wholeNumber("seed", values.seed, 0, 2 ** 31);
  const reason =
    whyNoNetwork() ?? (findProgram("nginx") === undefined ? "nginx is not installed" : undefined);
  if (reason !== undefined) throw new Error(`The overlay cannot be measured here: ${reason}`);
  const pairs = values.matrix.map((path) => pairsOf(path, seed));
  for (const one of pairs) process.stderr.write(`${pairsText(one)}\n`);
  const rows: OverlayRow[] = [];
  const keep = (isWhole: boolean): string => {
    const result: OverlayResult = {
      bench: "overlay",
      date: new Date().toISOString(),
      commit: describeCommit(),
      machine: describeMachine(),
      directMs: RTT_MS,
      lossPerMille: LOSS_PER_MILLE,
      count,
      rows,
      pairs,
      isWhole,
    };
    const text = `${JSON.stringify(result, undefined, 2)}\n`;
    if (values.out !== undefined) writeFileSync(values.out, text);
    return text;
  };
  for (const rtt of [RTT_MS, SHORT_RTT_MS])
    for (const [kind, transport] of Object.entries(KINDS)) {
      const options = { rtt, directRtt: RTT_MS, loss: LOSS_PER_MILLE, count, cuts: 1, seed, transport };
      const who = kind === NGINX ? "nginx" : "isochrone";
      const row = { relayMs: rtt, kind, ...(await measure(options, who)), load: loadavg()[0] ?? 0 };
      rows.push(row);
      keep(false);
      process.stderr.write(
        `relay ${rtt} ms  ${kind.padEnd(23)} p50 ${row.p50 ?? "-"}  p90 ${row.p90 ?? "-"}  p99 ${row.p99 ?? "-"} ms  failed ${row.failed}  extra ${row.extraRatio.toFixed(3)}\n`,
      );
    }
  const text = keep(true);
  process.stdout.write(text);
  // Without any connection kept a lossy path fails some; that is a figure, and no fault.
  return rows.every(({ kind, failed }) => failed === 0 || !kind.startsWith("both")) ? 0 : 1;
}
