/**
 * The cluster map at the scale that Akamai has published: 444,000 client networks (Chen, Sitaraman, Torres, "End-User Mapping", SIGCOMM 2015)
 * and 2,642 clusters. What it costs in bytes, what a cycle's difference costs, what it costs to encode, decode, check and look up.
 *
 * Prefixes and origin AS are those of a real BGP table (`bgpdump -m`), cut further until there are enough networks. The rest is drawn: each AS has a
 * place, its networks lie around it, each sees the nearest clusters with a round-trip time up to 1.5 times the distance's. So neighbours in
 * address space see about the same clusters by figures of their own, as measured networks do; `--shared` is the share of networks of
 * which nothing was measured, which have the row of another one of their AS.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import {
  applyClusterMapDiff,
  type CandidateRow,
  type ClientNetworkId,
  ClientNetworkTable,
  ClusterMapBuilder,
  type ClusterMapTable,
  type ClusterId,
  decodeClusterMap,
  diffClusterMaps,
  encodeClusterMap,
  formatPrefix,
  type IpPrefix,
  type MapSnapshot,
  networkNameOf,
  PackedClusterMap,
  parsePrefix,
  PrefixRanges,
  Random,
  type Steps,
  trafficClasses,
} from "#kit";
import { choiceTableOf, scopeOfLookup } from "../../mapping/core/dns/choice-table.ts";
import { prepareMap } from "../../mapping/core/dns/prepared-map.ts";
import { mapChanges } from "../../mapping/core/map-changes.ts";
import { MapIndex } from "../../mapping/core/map-index.ts";
import { snapshotProblems } from "../../mapping/core/snapshot-check.ts";
import { TopologyIndex } from "../../mapping/core/topology-index.ts";
import { wholeNumber } from "../tools/flags.ts";
import { dataDirectory } from "../tools/processes.ts";
import { cpuSecondsOf } from "./tools/cpu.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary = "the cluster map of 444,000 client networks: bytes, differences, encoding, look-ups";

const ROUTES = "bgp/rib-2010-07-01.txt.gz";
const CELLS_A_SIDE = 48;
/** Clusters near a cell of the world that a network may rank. */
const NEAR = 40;
const LOOKUPS = 2_000_000;
/** One in so many networks has a name that its prefix does not give. */
const KEPT_NAMES_EVERY = 50;
/** Share of client networks that are measured anew from one map to the next. */
const REMEASURED_RATIO = 0.01;
const BEST = [1, 1, 1] as const;

const help = `Usage: npm run bench -- map-snapshot [options]

${summary}

  --networks N     client networks (default 444000)
  --clusters N     clusters (default 2642)
  --candidates N   clusters that a network ranks (default 8)
  --shared N       percent of networks that share the row of another one (default 0)
  --routes FILE    a BGP table as text, gzip (default: ${ROUTES} where ISOCHRONE_DATA says)
  --seed N         of what is drawn (default 1)
  --help
`;

interface Routed {
  readonly prefix: IpPrefix;
  readonly origin: string;
}

/** The table's prefixes, then halves and quarters of those that are not /24 yet. */
function routes(file: string, count: number, random: Random): Routed[] {
  const origins = new Map<string, Routed>();
  for (const line of gunzipSync(readFileSync(file)).toString("latin1").split("\n")) {
    const fields = line.split("|");
    const [text = "", asPath = ""] = [fields[5], fields[6]];
    const prefix = parsePrefix(text);
    if (prefix !== undefined) origins.set(text, { prefix, origin: asPath.split(" ").at(-1) ?? "" });
  }
  const all = [...origins.values()].slice(0, count);
  const whole = all.length;
  for (let n = 0; all.length < count; n = (n + 1) % whole) {
    const { prefix, origin } = all[n] as Routed;
    if (prefix.prefixLength >= 24) continue;
    const prefixLength = Math.min(24, prefix.prefixLength + 1 + random.int(4));
    const [word = 0] = prefix.address.words;
    const part = random.int(2 ** (prefixLength - prefix.prefixLength)) * 2 ** (32 - prefixLength);
    const cut: IpPrefix = { address: { family: 4, words: [word + part] }, prefixLength };
    const text = formatPrefix(cut);
    if (origins.has(text)) continue;
    origins.set(text, { prefix: cut, origin });
    all.push({ prefix: cut, origin });
  }
  return all;
}

interface World {
  readonly networks: ClientNetworkTable;
  /** By number in the table. */
  readonly originOf: readonly string[];
  readonly clusterAt: readonly (readonly [number, number])[];
  readonly clusterIds: readonly ClusterId[];
  readonly near: readonly (readonly number[])[];
  readonly originAt: Map<string, readonly [number, number]>;
}

function drawRow(
  { clusterAt, near, originAt }: World,
  origin: string,
  candidates: number,
  random: Random,
): CandidateRow {
  let place = originAt.get(origin);
  if (place === undefined) originAt.set(origin, (place = [random.float(), random.float()]));
  const within = (value: number): number => Math.min(0.999, Math.max(0, value + random.normal(0, 0.02)));
  const [x, y] = [within(place[0]), within(place[1])];
  const confidence = random.chance(0.5) ? 0.3 : 0.6 + 0.4 * random.float();
  const seen = (near[Math.floor(y * CELLS_A_SIDE) * CELLS_A_SIDE + Math.floor(x * CELLS_A_SIDE)] ?? [])
    .map((cluster) => {
      const [cx, cy] = clusterAt[cluster] as readonly [number, number];
      const rttMs = 3 + 150 * Math.hypot(cx - x, cy - y) * (1 + 0.5 * random.float());
      const lossRatio = random.chance(0.9) ? 0 : 0.001 + 0.02 * random.float();
      return { cluster, rttMs, lossRatio, confidence: random.chance(0.8) ? confidence : 0.3 };
    })
    .sort((a, b) => a.rttMs - b.rttMs)
    .slice(0, candidates);
  const orders = [0, 1, 3].map((throughputWeight) => {
    const scores = seen.map(
      ({ rttMs, lossRatio, confidence: sure }) =>
        rttMs * (1 + throughputWeight * Math.sqrt(lossRatio) + (1 - sure)) + 200 * lossRatio,
    );
    const positions = [...scores.keys()].sort((a, b) => (scores[a] as number) - (scores[b] as number));
    return {
      length: positions.length,
      positions,
      scores: positions.map((position) => scores[position] as number),
    };
  });
  return {
    count: seen.length,
    clusters: seen.map(({ cluster }) => cluster),
    rttMs: seen.map(({ rttMs }) => rttMs),
    lossRatio: seen.map(({ lossRatio }) => lossRatio),
    confidence: seen.map((one) => one.confidence),
    orders: orders as unknown as CandidateRow["orders"],
  };
}

function drawWorld(routed: readonly Routed[], clusterCount: number, random: Random): World {
  // As they are named in production: by their lowest prefix, but for the few that kept the name of an earlier cut.
  const nameOf = (n: number): ClientNetworkId =>
    networkNameOf(formatPrefix((routed[n] as Routed).prefix), n % KEPT_NAMES_EVERY === 0 ? 1 : 0);
  const networks = ClientNetworkTable.of(
    routed.map(({ prefix }, n) => ({ clientNetworkId: nameOf(n), prefixes: [formatPrefix(prefix)] })),
  );
  const originOf: string[] = Array.from({ length: routed.length }, () => "");
  for (const [n, { origin }] of routed.entries()) originOf[networks.indexOf(nameOf(n)) ?? 0] = origin;
  const clusterAt = Array.from({ length: clusterCount }, () => [random.float(), random.float()] as const);
  const near = Array.from({ length: CELLS_A_SIDE ** 2 }, (_, cell) => {
    const [x, y] = [
      ((cell % CELLS_A_SIDE) + 0.5) / CELLS_A_SIDE,
      (Math.floor(cell / CELLS_A_SIDE) + 0.5) / CELLS_A_SIDE,
    ];
    const distances = clusterAt.map(([cx, cy]) => Math.hypot(cx - x, cy - y));
    return [...distances.keys()]
      .sort((a, b) => (distances[a] as number) - (distances[b] as number))
      .slice(0, NEAR);
  });
  const clusterIds = clusterAt.map((_, n) => `c${String(n).padStart(5, "0")}` as ClusterId);
  return { networks, originOf, clusterAt, clusterIds, near, originAt: new Map() };
}

function drawMap(world: World, candidates: number, sharedRatio: number, random: Random): ClusterMapTable {
  const { networks, originOf, clusterIds } = world;
  const clusters = clusterIds.map((clusterId) => ({ clusterId, load: random.float() }));
  const builder = new ClusterMapBuilder({ mapVersion: 1, networks, clusters });
  const rowOfOrigin = new Map<string, number>();
  let row = 0;
  for (let n = 0; n < networks.size; n++) {
    const origin = originOf[n] as string;
    const shared = rowOfOrigin.get(origin);
    row =
      shared !== undefined && random.chance(sharedRatio)
        ? shared
        : builder.row(drawRow(world, origin, candidates, random));
    rowOfOrigin.set(origin, row);
    builder.place(n, row, undefined, BEST);
  }
  builder.placeFallback(row);
  return builder.build();
}

/** The next map: some networks measured anew, the cluster that most are sent to dead and its clients where they spill to, every load another one. */
function nextMap(
  world: World,
  map: ClusterMapTable,
  candidates: number,
  remeasuredRatio: number,
  hasDeath: boolean,
  random: Random,
) {
  const { networks, originOf, clusterIds } = world;
  const counts = new Uint32Array(clusterIds.length);
  for (let n = 0; n < networks.size; n++) (counts[map.firstCluster(n, 0)] as number)++;
  const dead = counts.indexOf(Math.max(...counts));
  const clusters = clusterIds.map((clusterId) => ({ clusterId, load: random.float() }));
  const builder = new ClusterMapBuilder({ mapVersion: 2, networks, clusters }, map);
  let moved = 0;
  for (let n = 0; n < networks.size; n++) {
    if (random.chance(remeasuredRatio))
      builder.place(
        n,
        builder.row(drawRow(world, originOf[n] as string, candidates, random)),
        undefined,
        BEST,
      );
    else if (hasDeath && trafficClasses.some((_, k) => map.firstCluster(n, k) === dead)) {
      builder.place(
        n,
        map.rowOf(n),
        trafficClasses.map((_, k) => (map.firstCluster(n, k) === dead ? 1 : 0)),
        BEST,
      );
      moved++;
    }
  }
  return { table: builder.build(), moved };
}

function snapshotOf(table: ClusterMapTable): MapSnapshot {
  const clusterMap = PackedClusterMap.of(table);
  const { mapVersion } = table;
  return {
    mapVersion,
    createdAtEpochMs: 0,
    reason: "cycle",
    clusterMap,
    tiers: [],
    paths: [],
    suspended: {},
  };
}

/** Median of three runs of many look-ups, a CPU-second. */
function perCpuSecond(count: number, once: (n: number) => number): number {
  let sum = 0;
  const rates = [0, 1, 2].map(() => {
    const { seconds } = cpuSecondsOf(() => {
      for (let n = 0; n < count; n++) sum += once(n);
    });
    return count / seconds;
  });
  if (Number.isNaN(sum)) throw new Error("A look-up gave no number");
  return rates.toSorted((a, b) => a - b)[1] as number;
}

/** Drives steps to their end: CPU of all, and of the longest one, which includes what the collector did meanwhile. */
function longestStep(steps: Steps<unknown>) {
  const milliseconds: number[] = [];
  for (let isDone: boolean | undefined = false; isDone !== true; ) {
    const { value, seconds } = cpuSecondsOf(() => steps.next());
    milliseconds.push(seconds * 1e3);
    isDone = value.done;
  }
  console.error(
    milliseconds
      .map((ms, n) => [n, ms] as const)
      .filter(([, ms]) => ms > 8)
      .map(([n, ms]) => `${n}:${ms.toFixed(0)}`)
      .join(" "),
    milliseconds.length,
  );
  return {
    cpuSeconds: milliseconds.reduce((sum, ms) => sum + ms, 0) / 1e3,
    steps: milliseconds.length,
    longestMs: Math.max(...milliseconds),
  };
}

/** What a name server does with it. */
function lookups(world: World, snapshot: MapSnapshot, random: Random) {
  const { networks, clusterIds } = world;
  const ranges = cpuSecondsOf(() => new PrefixRanges(4, networks.ipv4));
  const index = new MapIndex(snapshot);
  const topology = new TopologyIndex({
    name: "bench",
    clusters: clusterIds.map((clusterId, n) => ({
      clusterId,
      regionId: "r" as never,
      role: "edge",
      city: clusterId,
      coordinates: { latitude: 0, longitude: 0 },
      servers: [
        {
          serverId: `${clusterId}-1` as never,
          address: `10.${n >> 8}.${n & 255}.1`,
          port: 80,
          capacityPerSecond: 100,
        },
      ],
    })),
    nameService: { zones: [], nameServers: [] },
    limits: [],
    shareMax: 1,
  } as never);
  const context = {
    zones: { policies: [], mappedNodes: () => [] } as never,
    topology,
    snapshot: index,
    isUp: () => true,
  };
  const property = { propertyId: "p", trafficClass: "interactive" } as never;
  const table = cpuSecondsOf(() => choiceTableOf(context, property, 4));
  const again = cpuSecondsOf(() => choiceTableOf({ ...context }, property, 4));
  // As a map comes: its text, with the map before in force and asked.
  const text = snapshot.clusterMap.toJSON();
  const next = { ...snapshot, clusterMap: PackedClusterMap.ofText(text) };
  const change = longestStep(prepareMap(next, index, () => context));
  const { words } = networks.ipv4;
  // Clients where there are some, anywhere in their networks.
  const addresses = Array.from({ length: 65_536 }, () => ({
    family: 4 as const,
    words: [((words[random.int(words.length)] as number) | random.int(256)) >>> 0],
  }));
  const at = (n: number): (typeof addresses)[number] => addresses[n & 65_535] as (typeof addresses)[number];
  return {
    mapChangeCpuSeconds: change.cpuSeconds,
    mapChangeSteps: change.steps,
    mapChangeLongestStepCpuMilliseconds: change.longestMs,
    prefixRangesCpuSeconds: ranges.seconds,
    prefixRangesBytes: ranges.value.byteLength,
    networkLookupsPerCpuSecond: perCpuSecond(LOOKUPS, (n) => index.lookup(at(n))),
    answersFirstCpuSeconds: table.seconds,
    answersAfterLivenessChangeCpuSeconds: again.seconds,
    ecsLookupsPerCpuSecond: perCpuSecond(LOOKUPS, (n) => scopeOfLookup(table.value.lookup(4, at(n).words))),
  };
}

function differences(world: World, map: ClusterMapTable, candidates: number, random: Random) {
  const base = PackedClusterMap.of(map);
  const whole = base.bytes().length;
  const of = (name: string, remeasuredRatio: number, hasDeath: boolean) => {
    const { table, moved } = nextMap(world, map, candidates, remeasuredRatio, hasDeath, random);
    const next = PackedClusterMap.of(table);
    const expected = next.bytes();
    const diff = cpuSecondsOf(() => diffClusterMaps(base, next));
    const applied = cpuSecondsOf(() => applyClusterMapDiff(base, diff.value));
    // The publisher's note: tables of one engine share their networks.
    const note = cpuSecondsOf(() =>
      mapChanges(snapshotOf(map), { ...snapshotOf(table), mapVersion: table.mapVersion }),
    );
    const isExact = Buffer.compare(applied.value.bytes(), expected) === 0;
    if (!isExact) throw new Error(`The difference "${name}" does not lead to the map that it was made from`);
    return {
      name,
      moved,
      bytes: diff.value.length,
      ratio: diff.value.length / whole,
      diffCpuSeconds: diff.seconds,
      applyCpuSeconds: applied.seconds,
      noteCpuSeconds: note.seconds,
      isExact,
    };
  };
  return [
    of("loads alone", 0, false),
    of("the busiest cluster dead", 0, true),
    of("1 % measured anew, the busiest cluster dead", REMEASURED_RATIO, true),
  ];
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      networks: { type: "string", default: "444000" },
      clusters: { type: "string", default: "2642" },
      candidates: { type: "string", default: "8" },
      shared: { type: "string", default: "0" },
      routes: { type: "string" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const candidates = wholeNumber("candidates", values.candidates, 2, 64);
  const sharedPercent = wholeNumber("shared", values.shared, 0, 99);
  const clusterCount = wholeNumber("clusters", values.clusters, NEAR, 65_535);
  const networkCount = wholeNumber("networks", values.networks, 1, 1_000_000);
  const random = new Random(wholeNumber("seed", values.seed, 0, 2 ** 31));
  const data = dataDirectory();
  const file = values.routes ?? (data === undefined ? undefined : join(data, ROUTES));
  if (file === undefined)
    throw new Error(`where is the BGP table? --routes FILE, or ISOCHRONE_DATA for ${ROUTES}`);
  const world = drawWorld(routes(file, networkCount, random), clusterCount, random);
  const map = drawMap(world, candidates, sharedPercent / 100, random);
  console.error(`${map.networks.size} networks, ${map.parts.rows.size} rows drawn`);
  const encoded = cpuSecondsOf(() => encodeClusterMap(map));
  const decoded = cpuSecondsOf(() => decodeClusterMap(encoded.value));
  const packed = PackedClusterMap.of(map);
  const text = cpuSecondsOf(() => packed.toJSON());
  const snapshot = snapshotOf(decoded.value);
  const checked = cpuSecondsOf(() => snapshotProblems(snapshot, undefined));
  console.error(`${encoded.value.length} bytes`);
  const result = {
    name: "map-snapshot",
    date: new Date().toISOString(),
    commit: describeCommit(),
    machine: describeMachine(),
    networks: map.networks.size,
    prefixes: map.networks.prefixCount,
    clusters: clusterCount,
    candidates,
    sharedPercent,
    rows: map.parts.rows.size,
    encodedBytes: encoded.value.length,
    bytesPerNetwork: encoded.value.length / map.networks.size,
    documentTextBytes: text.value.length,
    tableBytes: map.byteLength,
    encodeCpuSeconds: encoded.seconds,
    decodeCpuSeconds: decoded.seconds,
    checkCpuSeconds: checked.seconds,
    differences: differences(world, map, candidates, random),
    lookups: lookups(world, snapshot, random),
    rssBytes: process.memoryUsage().rss,
  };
  console.log(JSON.stringify(result, undefined, 2));
  return 0;
}
