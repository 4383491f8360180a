/**
 * The whole mapping engine at the scale that Akamai has published: 444,000 client networks (Chen, Sitaraman, Torres, "End-user mapping",
 * SIGCOMM 2015) and 2,642 clusters. A turn is estimates -> scores -> allocation under every limit -> snapshot -> check, and its encoding;
 * a death is a cluster's servers down -> a snapshot in which its own units have moved. The world is drawn from a seed: networks in
 * cities around two hundred hubs, demands by Pareto's law, capacities half where the demand is and half anywhere, 70 % of all wanted.
 */
import { parseArgs } from "node:util";
import {
  type Coordinates,
  epochMs,
  monotonicMs,
  PackedClusterMap,
  Random,
  type ServerId,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import { type ClientNetworkInput, MapEngine } from "#mapping";
import { wholeNumber } from "../tools/flags.ts";
import { cpuSecondsOf } from "./tools/cpu.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary = "a whole turn of the mapping engine at published scale, and a cluster's death";

const HUBS = 200;
const REGIONS = 50;
const UTILISATION_RATIO = 0.7;
const CYCLE_MS = 10_000;
/** Clusters that each measured network was measured against. */
const MEASURED_EACH = 5;

const help = `Usage: npm run bench -- map-engine [options]

${summary}

  --networks N   client networks (default 444000)
  --clusters N   edge clusters (default 2642)
  --places N     cities that the networks are in (default 40000)
  --pairs N      measured pairs (default 10000)
  --turns N      turns after the first one (default 2)
  --deaths N     clusters that die, one after the other (default 5)
  --seed N       of the drawn world (default 1)
  --help
`;

function draw(networkCount: number, clusterCount: number, placeCount: number, random: Random) {
  const hubs = Array.from({ length: HUBS }, () => [-40 + 100 * random.float(), -180 + 360 * random.float()]);
  const around = (degrees: number): Coordinates => {
    const [latitude = 0, longitude = 0] = hubs[Math.floor(random.float() ** 2 * HUBS)] ?? [];
    return {
      latitude: Math.max(-89, Math.min(89, latitude + random.normal(0, degrees))),
      longitude: Math.max(-180, Math.min(180, longitude + random.normal(0, degrees))),
    };
  };
  const sites = Array.from({ length: clusterCount }, () => around(4));
  const places = Array.from({ length: placeCount }, () => around(6));
  const networks = Array.from({ length: networkCount }, (_, n): ClientNetworkInput => {
    const place = n < placeCount ? n : Math.floor(random.float() ** 2 * placeCount);
    return {
      clientNetworkId: `n${n.toString(36)}` as ClientNetworkInput["clientNetworkId"],
      prefixes: [`${1 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}.0/24`],
      coordinates: places[place] ?? null,
      demandPerSecond: Math.min(200, (1 - random.float()) ** (-1 / 1.2)),
    };
  });
  return { sites, networks };
}

/** Capacities half where the demand is; uplinks and regions' uplinks that are scarce as well. */
function topologyOf(
  sites: readonly Coordinates[],
  networks: readonly ClientNetworkInput[],
  random: Random,
): TopologyDocument {
  const near = new Float64Array(sites.length);
  const total = networks.reduce((sum, network) => sum + network.demandPerSecond, 0);
  // The nearest of a few drawn ones: enough to put capacity where people are.
  for (const { coordinates, demandPerSecond } of networks) {
    let best = 0;
    let least = Infinity;
    for (let draw = 0; draw < 40; draw++) {
      const c = Math.floor(random.float() * sites.length);
      const site = sites[c] as Coordinates;
      const far = Math.hypot(
        site.latitude - (coordinates?.latitude ?? 0),
        site.longitude - (coordinates?.longitude ?? 0),
      );
      if (far < least) [best, least] = [c, far];
    }
    (near[best] as number) += demandPerSecond;
  }
  const shares = sites.map(() => 0.2 + 1.6 * random.float());
  const all = shares.reduce((sum, share) => sum + share, 0);
  const bitsPerRequest = 3.84e6;
  const bits = new Float64Array(REGIONS);
  const clusters = sites.map((coordinates, c) => {
    const wanted = 0.5 * (near[c] as number) + (0.5 * total * (shares[c] as number)) / all;
    const capacityPerSecond = Math.max(1, wanted / UTILISATION_RATIO / 0.85 / 2);
    const bitsPerSecondMax = capacityPerSecond * bitsPerRequest * (0.9 + 0.4 * random.float());
    (bits[c % REGIONS] as number) += 2 * bitsPerSecondMax;
    return {
      clusterId: `c${c}`,
      regionId: `r${c % REGIONS}`,
      role: "edge",
      city: `city ${c}`,
      coordinates,
      servers: [1, 2].map((n) => ({
        serverId: `c${c}-${n}`,
        address: `10.${c >> 8}.${c & 255}.${n}`,
        port: 80,
        capacityPerSecond,
        bitsPerSecondMax,
      })),
    };
  });
  return topologyDocument.parse({
    name: "bench",
    clusters,
    limits: Array.from(bits.subarray(0, Math.min(REGIONS, sites.length)), (sum, r) => ({
      name: `uplink-${r}`,
      regionId: `r${r}`,
      bitsPerSecondMax: 0.8 * sum,
    })),
    nameService: { zones: [], nameServers: [] },
  });
}

/** A few networks know their travel times to a few clusters. */
function measure(
  engine: MapEngine,
  networks: readonly ClientNetworkInput[],
  clusterCount: number,
  pairs: number,
  random: Random,
): void {
  const measured = Math.ceil(pairs / MEASURED_EACH);
  for (let m = 0; m < measured; m++) {
    const network = networks[Math.floor((m * networks.length) / measured)] as ClientNetworkInput;
    for (let n = 0; n < MEASURED_EACH; n++) {
      const to = `c${Math.floor(random.float() * clusterCount)}` as Parameters<
        MapEngine["handleSample"]
      >[0]["to"];
      for (let sample = 0; sample < 6; sample++)
        engine.handleSample({
          from: network.clientNetworkId,
          to,
          rttMs: 5 + 200 * random.float(),
          at: monotonicMs(sample * 100),
        });
    }
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      networks: { type: "string", default: "444000" },
      clusters: { type: "string", default: "2642" },
      places: { type: "string", default: "40000" },
      pairs: { type: "string", default: "10000" },
      turns: { type: "string", default: "2" },
      deaths: { type: "string", default: "5" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const networkCount = wholeNumber("networks", values.networks, 1, 500_000);
  const clusterCount = wholeNumber("clusters", values.clusters, 2, 5_000);
  const placeCount = wholeNumber("places", values.places, 1, 500_000);
  const pairs = wholeNumber("pairs", values.pairs, 0, 1_000_000);
  const turns = wholeNumber("turns", values.turns, 1, 100);
  const deaths = wholeNumber("deaths", values.deaths, 0, clusterCount - 1);
  const random = new Random(wholeNumber("seed", values.seed, 0, 2 ** 31));
  const { sites, networks } = draw(networkCount, clusterCount, Math.min(placeCount, networkCount), random);
  const topology = topologyOf(sites, networks, random);
  const engine = new MapEngine({ epochOf: (now) => epochMs(1e12 + now) });
  const before = process.memoryUsage().rss;
  console.error(`${networkCount} networks and ${clusterCount} clusters drawn`);

  let now = 1_000;
  const set = cpuSecondsOf(() => {
    engine.handleTopology(topology, monotonicMs(0));
    engine.handleClientNetworks(networks, monotonicMs(0));
    measure(engine, networks, clusterCount, pairs, random);
  });
  let rssBytes = 0;
  const turn = (): { seconds: number; encodeSeconds: number; bytes: number } => {
    const made = cpuSecondsOf(() => {
      engine.handleTimeout(monotonicMs(now));
      return engine.pollEvent();
    });
    if (made.value?.type !== "snapshot")
      throw new Error(`No snapshot at ${now}: ${JSON.stringify(made.value?.problems ?? "nothing was due")}`);
    const { clusterMap } = made.value.snapshot;
    const encoded = cpuSecondsOf(() => PackedClusterMap.of(clusterMap.table()).bytes().length);
    rssBytes = Math.max(rssBytes, process.memoryUsage().rss);
    console.error(`${made.value.reason}: ${made.seconds.toFixed(3)} CPU-seconds, ${encoded.value} bytes`);
    return { seconds: made.seconds, encodeSeconds: encoded.seconds, bytes: encoded.value };
  };
  const first = turn();
  const later = Array.from({ length: turns }, () => {
    now += CYCLE_MS;
    return turn();
  });
  const moves = engine.counters.moves;
  const reasons = { ...engine.reasons };
  const died = Array.from({ length: deaths }, (_, death) => {
    const cluster = Math.floor((death * clusterCount) / deaths);
    now += 1_000;
    const units = engine.counters.moves;
    for (const n of [1, 2]) engine.handleLiveness(`c${cluster}-${n}` as ServerId, false, monotonicMs(now));
    const { seconds } = turn();
    return { units: engine.counters.moves - units, milliseconds: seconds * 1e3 };
  });
  const result = {
    name: "map-engine",
    date: new Date().toISOString(),
    commit: describeCommit(),
    machine: describeMachine(),
    networks: networkCount,
    clusters: clusterCount,
    places: placeCount,
    measuredPairs: engine.estimator.size,
    setUpCpuSeconds: set.seconds,
    firstTurnCpuSeconds: first.seconds,
    turnCpuSecondsMax: Math.max(...later.map(({ seconds }) => seconds)),
    encodeCpuSeconds: Math.max(first.encodeSeconds, ...later.map(({ encodeSeconds }) => encodeSeconds)),
    encodedBytes: later.at(-1)?.bytes ?? first.bytes,
    movesWithUnchangedInputs: moves,
    reasons,
    deaths: {
      count: died.length,
      movesMax: Math.max(0, ...died.map(({ units }) => units)),
      cpuMillisecondsMax: Math.max(0, ...died.map(({ milliseconds }) => milliseconds)),
    },
    rssBytesOfTheWorld: before,
    rssBytes,
  };
  console.log(JSON.stringify(result, undefined, 2));
  return 0;
}
