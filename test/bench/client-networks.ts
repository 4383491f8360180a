/** How few client networks a world of blocks comes to, what that costs in travel time, and how many names survive a day. */
import { createReadStream, existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createGunzip } from "node:zlib";
import { formatPrefix, xxh32 } from "#kit";
import {
  type BgpSink,
  BgpTextReader,
  type CutInput,
  cutClientNetworks,
  cutDefaults,
  diffNetworks,
  MrtReader,
  nameNetworks,
  type NetworkSets,
  networkRecords,
  RouteTable,
} from "#mapping";
import { wholeNumber } from "../tools/flags.ts";
import { dataDirectory } from "../tools/processes.ts";
import { ClientWorld } from "./tools/client-world.ts";
import { cpuSecondsOf } from "./tools/cpu.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary =
  "client networks: sets, CPU-seconds and memory of a cut, and the travel time that fewer sets cost";

const help = `Usage: npm run bench -- client-networks [options]

${summary}

Real tables: how many sets they come to, and how many names stay when 3 % of the prefixes are withdrawn, 3 % are new and 2 %
go over another path. A drawn world: blocks of clients, a share of them measured; for each bound on the number of sets, and without one for several
limits of what a joint decision may cost, the mean round trip, weighted by demand, of the best site for each set, beside the best one for each block.

  --routes FILE        a table as text or MRT; may be given several times (default: those of ISOCHRONE_DATA)
  --blocks N           /24 blocks of the drawn world, 1000..8000000 (default 3760000); 0: none
  --sites N            sites (default 60)
  --measured-percent N blocks that are measured (default 30)
  --counts LIST        bounds (default 10000,50000,150000)
  --seed N             of the drawn world (default 1)
  --help
`;

const TABLES = ["bgp/rib-2010-07-01.txt.gz", "bgp/rib-2002-07-22.mrt.gz"];
/** What a joint decision may cost a block, where the number of sets is not bounded, ms. */
const DIFFERENCES_MS = [5, 1, 0.2];
/** A block that loses more than this is told of, ms. */
const LOST_MS = [1, 10] as const;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      routes: { type: "string", multiple: true },
      blocks: { type: "string", default: "3760000" },
      sites: { type: "string", default: "60" },
      "measured-percent": { type: "string", default: "30" },
      counts: { type: "string", default: "10000,50000,150000" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const blocks = wholeNumber("blocks", values.blocks, 0, 8_000_000);
  const sites = wholeNumber("sites", values.sites, 8, 1_000);
  const measuredRatio = wholeNumber("measured-percent", values["measured-percent"], 0, 100) / 100;
  const seed = wholeNumber("seed", values.seed, 0, 2 ** 31);
  const counts = values.counts.split(",").map((text) => wholeNumber("counts", text, 1, 8_000_000));
  const tables = values.routes ?? realTables();
  const real = [];
  for (const file of tables) {
    real.push(await measureTable(file));
    console.error(`${file} done`);
  }
  const result = {
    name: "client-networks",
    date: new Date().toISOString(),
    commit: describeCommit(),
    machine: describeMachine(),
    tables: real,
    drawn:
      blocks === 0
        ? null
        : measureWorld(new ClientWorld({ blocks, sites, measuredRatio, seed }), counts, measuredRatio),
  };
  console.log(JSON.stringify(result, undefined, 2));
  return 0;
}

/** On a machine without the data nothing real is measured, and the JSON says so by having none. */
function realTables(): string[] {
  const directory = dataDirectory();
  const files = TABLES.map((name) => join(directory ?? "", name)).filter(
    (file) => directory !== undefined && existsSync(file),
  );
  if (files.length < TABLES.length)
    console.error("real tables are missing: ISOCHRONE_DATA names where they are");
  return files;
}

const NOTHING = { places: null, autonomousSystems: null, measured: null, demand: null };

/** The table as it stands, and a day later: what becomes of a prefix hangs on its hash. */
async function measureTable(file: string) {
  const today = new RouteTable();
  const tomorrow = new RouteTable();
  const fateOf = (prefix: Parameters<BgpSink["route"]>[0]["prefix"]): number =>
    xxh32(formatPrefix(prefix)) / 2 ** 32;
  const sink: BgpSink = {
    route: (route) => {
      const fate = fateOf(route.prefix);
      if (fate >= 0.03) today.route(route);
      if (fate < 0.06 && fate >= 0.03) return;
      tomorrow.route(fate < 0.08 && fate >= 0.06 ? { ...route, asPath: [64_999, ...route.asPath] } : route);
    },
  };
  const before = process.cpuUsage();
  const reader = file.includes(".txt") ? new BgpTextReader(sink) : new MrtReader(sink);
  for await (const chunk of createReadStream(file).pipe(createGunzip()) as AsyncIterable<Buffer>)
    reader.read(chunk);
  reader.end();
  const { user, system } = process.cpuUsage(before);
  const cut = cpuSecondsOf(() => cutClientNetworks({ ...NOTHING, routes: today.build() }));
  const sets = cut.value;
  const records = [...networkRecords(sets, nameNetworks(sets, [], null))];
  const next = cutClientNetworks({ ...NOTHING, routes: tomorrow.build() });
  const named = cpuSecondsOf(() => nameNetworks(next, records, null));
  const { kept, cells } = diffNetworks(records, [...networkRecords(next, named.value)]);
  return {
    file: file.split("/").at(-1),
    prefixes: today.prefixCount,
    sets: sets.count,
    readTwiceCpuSeconds: (user + system) / 1e6,
    cutCpuSeconds: cut.seconds,
    nextDay: {
      prefixes: tomorrow.prefixCount,
      sets: next.count,
      nameCpuSeconds: named.seconds,
      namesKeptRatio: kept / records.length,
      spaceUnderSameNameRatio: cells[4].sameName / cells[4].common,
    },
  };
}

function measureWorld(world: ClientWorld, counts: readonly number[], measuredRatio: number) {
  console.error(`drawn: ${world.blocks} blocks in ${world.prefixCount} prefixes`);
  const input: CutInput = {
    routes: world.routes().build(),
    places: world.places(),
    autonomousSystems: null,
    measured: world.measured(),
    demand: world.demands(),
  };
  const best = bestOfBlocks(world);
  const meanBestMs = weightedMean(world, best);
  const points = [
    ...counts.map((countMax) => ({ countMax, differenceMsMax: cutDefaults.differenceMsMax })),
    ...DIFFERENCES_MS.map((differenceMsMax) => ({ countMax: world.blocks, differenceMsMax })),
  ];
  const curve = points.map((settings) => {
    const { value: sets, seconds } = cpuSecondsOf(() => cutClientNetworks(input, settings));
    const figures = {
      ...settings,
      sets: sets.count,
      cutCpuSeconds: seconds,
      ...lossOf(world, blocksOf(world, sets), best),
    };
    console.error(JSON.stringify(figures));
    return figures;
  });
  return {
    blocks: world.blocks,
    prefixes: world.prefixCount,
    sites: world.sites,
    measuredRatio,
    /** With a set for each block. */
    meanBestMs,
    curve,
    /** With a set for each announced prefix, as it stands. */
    byPrefix: { sets: world.prefixCount, ...lossOf(world, blocksByPrefix(world), best) },
    rssBytes: process.memoryUsage().rss,
  };
}

function bestOfBlocks(world: ClientWorld): Float32Array {
  const best = new Float32Array(world.blocks);
  for (let block = 0; block < world.blocks; block++) {
    let least = Infinity;
    for (let site = 0; site < world.sites; site++) least = Math.min(least, world.rttMs(block, site));
    best[block] = least;
  }
  return best;
}

function weightedMean(world: ClientWorld, rttMs: Float32Array): number {
  let sum = 0;
  let weights = 0;
  for (let block = 0; block < world.blocks; block++) {
    const weight = world.demand[block] as number;
    sum += weight * (rttMs[block] as number);
    weights += weight;
  }
  return sum / weights;
}

/** Numbers of blocks, set by set. */
type BlocksOfSets = { readonly members: Uint32Array; readonly ends: Uint32Array };

function grouped(world: ClientWorld, count: number, setOf: Int32Array): BlocksOfSets {
  const ends = new Uint32Array(count + 1);
  for (const set of setOf) if (set >= 0) (ends[set + 1] as number)++;
  for (let set = 0; set < count; set++) (ends[set + 1] as number) += ends[set] as number;
  const next = ends.slice();
  const members = new Uint32Array(world.blocks);
  for (let block = 0; block < world.blocks; block++) {
    const set = setOf[block] as number;
    if (set < 0) throw new Error(`Block ${block} is in no set`);
    members[next[set] as number] = block;
    (next[set] as number)++;
  }
  return { members, ends };
}

function blocksOf(world: ClientWorld, { count, runs }: NetworkSets): BlocksOfSets {
  const setOf = new Int32Array(world.blocks).fill(-1);
  let run = 0;
  for (let block = 0; block < world.blocks; block++) {
    const cell = world.cellOf(block);
    while (run < runs.count && (runs.ends[run] as number) <= cell) run++;
    if ((runs.firsts[run] as number) <= cell) setOf[block] = runs.values[run] as number;
  }
  return grouped(world, count, setOf);
}

function blocksByPrefix(world: ClientWorld): BlocksOfSets {
  return grouped(
    world,
    world.prefixCount,
    Int32Array.from({ length: world.blocks }, (_, block) => world.prefixOf(block)),
  );
}

/** What the best site for each set costs over the best one for each block; all by true travel times. */
function lossOf(world: ClientWorld, { members, ends }: BlocksOfSets, best: Float32Array) {
  const sums = new Float64Array(world.sites);
  const rttMs = new Float32Array(world.blocks);
  for (let set = 0; set + 1 < ends.length; set++) {
    const own = members.subarray(ends[set], ends[set + 1]);
    sums.fill(0);
    for (const block of own)
      for (let site = 0; site < world.sites; site++)
        (sums[site] as number) += (world.demand[block] as number) * world.rttMs(block, site);
    const site = sums.indexOf(sums.reduce((least, sum) => Math.min(least, sum), Infinity));
    for (const block of own) rttMs[block] = world.rttMs(block, site);
  }
  const lost = LOST_MS.map((ms) => {
    const isLost = Float32Array.from(rttMs, (value, block) => (value - (best[block] as number) > ms ? 1 : 0));
    return [`demandLosing${ms}MsRatio`, weightedMean(world, isLost)] as const;
  });
  const meanMs = weightedMean(world, rttMs);
  return { meanMs, lossMs: meanMs - weightedMean(world, best), ...Object.fromEntries(lost) };
}
