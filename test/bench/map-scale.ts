/**
 * The allocation at the scale that Akamai has published: 444,000 client networks (Chen, Sitaraman, Torres, "End-user mapping", SIGCOMM
 * 2015) and 2,642 clusters, three traffic classes each, two resources (requests and bits), regions with an uplink of their own.
 * The world is drawn from a seed: clusters anywhere, most of the clients in one part of it, demands by Pareto's law, capacities
 * half where the demand is and half anywhere, 70 % of all capacity wanted. So many first choices are full, which is the hard case.
 */
import { parseArgs } from "node:util";
import { Placement, type PlacementLimit } from "#mapping";
import { Random } from "#kit";
import { wholeNumber } from "../tools/flags.ts";
import { cpuSecondsOf } from "./tools/cpu.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary =
  "the allocation of 444,000 client networks to 2,642 clusters, and what a cluster's death costs";

const CLASSES = 3;
/** What a request of each class weighs, bits over those of the first one. */
const BITS = [1, 30, 10] as const;
const RANKED = 16;
/** Clusters near a cell of the world that a network may rank. */
const NEAR = 40;
const CELLS_A_SIDE = 48;
const REGIONS = 50;
const UTILISATION_RATIO = 0.7;

const help = `Usage: npm run bench -- map-scale [options]

${summary}

  --networks N   client networks (default 444000)
  --clusters N   clusters (default 2642)
  --deaths N     clusters that die, one after the other (default 20)
  --seed N       of the drawn world (default 1)
  --help
`;

interface Drawn {
  readonly placement: Placement;
  readonly limits: readonly PlacementLimit[];
  readonly units: number;
}

function draw(networks: number, clusterCount: number, seed: number): Drawn {
  const random = new Random(seed);
  const at = Array.from({ length: clusterCount }, () => [random.float(), random.float()] as const);
  const orders = Array.from({ length: CELLS_A_SIDE ** 2 }, (_, cell) => {
    const x = ((cell % CELLS_A_SIDE) + 0.5) / CELLS_A_SIDE;
    const y = (Math.floor(cell / CELLS_A_SIDE) + 0.5) / CELLS_A_SIDE;
    const distance = Float64Array.from(at, ([cx, cy]) => Math.hypot(cx - x, cy - y));
    return Uint16Array.from(at.keys()).sort((a, b) => (distance[a] as number) - (distance[b] as number));
  });
  const units = networks * CLASSES;
  const offsets = Uint32Array.from({ length: units + 1 }, (_, unit) => unit * RANKED);
  const clusters = new Uint16Array(units * RANKED);
  const costs = new Float32Array(units * RANKED);
  const demands = [new Float32Array(units), new Float32Array(units)] as const;
  const orderOf = new Uint32Array(units);
  const near = [new Float64Array(clusterCount), new Float64Array(clusterCount)] as const;
  for (let network = 0; network < networks; network++) {
    const isCrowded = random.float() < 0.6;
    const x = isCrowded ? 0.2 + 0.2 * random.float() : random.float();
    const y = isCrowded ? 0.4 + 0.2 * random.float() : random.float();
    const cell = Math.floor(y * CELLS_A_SIDE) * CELLS_A_SIDE + Math.floor(x * CELLS_A_SIDE);
    const order = orders[cell] as Uint16Array;
    const demand = Math.min(200, (1 - random.float()) ** (-1 / 1.2));
    const rtts = Array.from(order.subarray(0, NEAR), (cluster) => {
      const [cx, cy] = at[cluster] as readonly [number, number];
      return { cluster, cost: 5 + 200 * Math.hypot(cx - x, cy - y) * (1 + 0.5 * random.float()) };
    }).sort((a, b) => a.cost - b.cost);
    for (let trafficClass = 0; trafficClass < CLASSES; trafficClass++) {
      const unit = network * CLASSES + trafficClass;
      orderOf[unit] = cell;
      for (const [resource, weight] of [1, BITS[trafficClass] as number].entries()) {
        const sums = near[resource] as Float64Array;
        (demands[resource] as Float32Array)[unit] = demand * weight;
        const [first] = rtts;
        if (first !== undefined) (sums[first.cluster] as number) += demand * weight;
      }
      for (let place = 0; place < RANKED; place++) {
        clusters[unit * RANKED + place] = rtts[place]?.cluster ?? 0;
        costs[unit * RANKED + place] = rtts[place]?.cost ?? 0;
      }
    }
  }
  const limits: PlacementLimit[] = [];
  for (const [resource, sums] of near.entries()) {
    const total = sums.reduce((sum, one) => sum + one, 0);
    const shares = at.map(() => 0.2 + 1.6 * random.float());
    const all = shares.reduce((sum, one) => sum + one, 0);
    for (const [cluster, share] of shares.entries())
      limits.push({
        resource,
        max: (0.5 * (sums[cluster] as number) + (0.5 * total * share) / all) / UTILISATION_RATIO,
        clusters: [cluster],
      });
    if (resource === 0) continue;
    const regionOf = (cluster: number): number => Math.floor((at[cluster]?.[0] ?? 0) * REGIONS);
    for (let region = 0; region < REGIONS; region++) {
      const own = [...at.keys()].filter((cluster) => regionOf(cluster) === region);
      const capacity = own.reduce((sum, cluster) => sum + (limits[clusterCount + cluster]?.max ?? 0), 0);
      limits.push({ resource, max: 0.9 * capacity, clusters: own });
    }
  }
  const placement = new Placement({
    clusterCount,
    demands,
    offsets,
    clusters,
    costs,
    limits,
    fallback: { orders, orderOf },
  });
  return { placement, limits, units };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      networks: { type: "string", default: "444000" },
      clusters: { type: "string", default: "2642" },
      deaths: { type: "string", default: "20" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const networks = wholeNumber("networks", values.networks, 1, 2_000_000);
  const clusterCount = wholeNumber("clusters", values.clusters, NEAR, 65_535);
  const deaths = wholeNumber("deaths", values.deaths, 0, clusterCount - 1);
  const { placement, limits, units } = draw(
    networks,
    clusterCount,
    wholeNumber("seed", values.seed, 0, 2 ** 31),
  );
  console.error(`${units} units drawn`);
  const placed = cpuSecondsOf(() => placement.place());
  let best = 0;
  let overflow = 0;
  for (let unit = 0; unit < units; unit++) {
    if (placement.isOverflow(unit)) overflow++;
    else if (placement.isBest(unit)) best++;
  }
  const exceeded = limits.filter(({ max }, limit) => placement.used(limit) > max * (1 + 1e-6)).length;
  console.error(`placed in ${placed.seconds.toFixed(2)} CPU-seconds`);
  const died = Array.from({ length: deaths }, (_, death) => {
    const { value, seconds } = cpuSecondsOf(() =>
      placement.handleDown(Math.floor((death * clusterCount) / deaths)),
    );
    return { units: value, milliseconds: seconds * 1e3 };
  });
  const result = {
    name: "map-scale",
    date: new Date().toISOString(),
    commit: describeCommit(),
    machine: describeMachine(),
    networks,
    clusters: clusterCount,
    units,
    limits: limits.length,
    placeCpuSeconds: placed.seconds,
    bestRatio: best / units,
    overflowUnits: overflow,
    limitsExceeded: exceeded,
    deaths: {
      count: died.length,
      unitsMax: Math.max(0, ...died.map((one) => one.units)),
      cpuMillisecondsMax: Math.max(0, ...died.map((one) => one.milliseconds)),
    },
    rssBytes: process.memoryUsage().rss,
  };
  console.log(JSON.stringify(result, undefined, 2));
  return exceeded > 0 && overflow === 0 ? 1 : 0;
}
