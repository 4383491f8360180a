/**
 * The swarm: which faults a seed brings. Not every kind in every run (swarm testing, Groce et al., ISSTA 2012): a run without
 * crashes goes deeper into partitions than one in which everything happens at once.
 */
import type { Random } from "#kit";
import { type Fault, type FaultKind, faultKinds } from "./faults.ts";

/** What of a world can be hit. All lists sorted. */
export interface Targets {
  /** Servers of role edge, parent, relay and nameserver. */
  readonly servers: readonly string[];
  /** Edge and parent clusters. */
  readonly clusters: readonly string[];
  /** `a|b` for the links that requests cross between clusters. */
  readonly links: readonly string[];
  /** `client|cluster`, each client network with the edge that is nearest to it. */
  readonly clientLinks: readonly string[];
  /** Sites that a partition may separate from control: those of edges, parents and name servers. */
  readonly sites: readonly string[];
  readonly origins: readonly string[];
  readonly mappers: readonly string[];
  /** Nodes that follow documents. */
  readonly nodes: readonly string[];
  /** Documents on which name servers choke: where somebody stands in for them, or no name could be resolved. */
  readonly poisonable: readonly string[];
}

export interface SwarmOptions {
  /** No fault before this time, ms: caches and estimates have to be warm, or nothing could be lost. */
  readonly warmUpMs: number;
  /** Every fault is over by then, ms. */
  readonly endMs: number;
  /** Exactly these kinds; undefined: drawn. */
  readonly kinds: readonly FaultKind[] | undefined;
}

const KIND_RATIO = 0.5;
const FAULTS_PER_KIND_MAX = 2;
const DURATION_MS_MIN = 6_000;
const DURATION_MS_MAX = 30_000;
/** Tries to place a fault beside the others; on a short run some do not fit. */
const PLACEMENTS_MAX = 30;

/** Faults in order of time. At least one of each kind that was asked for and has a target in this world. */
export function drawFaults(random: Random, targets: Targets, options: SwarmOptions): Fault[] {
  const kinds = options.kinds ?? drawKinds(random.split("kinds"));
  const faults: Fault[] = [];
  for (const kind of faultKinds) {
    if (!kinds.includes(kind)) continue;
    const ofKind = random.split(kind);
    const count = 1 + ofKind.int(FAULTS_PER_KIND_MAX);
    for (let n = 1; n <= count; n++) {
      const fault = place(ofKind, kind, `${kind}-${n}`, targets, faults, options);
      if (fault !== undefined) faults.push(fault);
    }
  }
  return faults.sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));
}

function drawKinds(random: Random): FaultKind[] {
  const kinds = faultKinds.filter(() => random.chance(KIND_RATIO));
  return kinds.length > 0 ? kinds : [random.pick(faultKinds)];
}

function place(
  random: Random,
  kind: FaultKind,
  id: string,
  targets: Targets,
  others: readonly Fault[],
  { warmUpMs, endMs }: SwarmOptions,
): Fault | undefined {
  const room = endMs - warmUpMs;
  if (room < DURATION_MS_MIN) return undefined;
  for (let placement = 0; placement < PLACEMENTS_MAX; placement++) {
    const durationMs = Math.round(random.uniform(DURATION_MS_MIN, Math.min(DURATION_MS_MAX, room)));
    const at = Math.round(warmUpMs + random.uniform(0, room - durationMs));
    const target = drawTarget(random, kind, targets);
    const degree = drawDegree(random, kind);
    if (target === undefined) return undefined;
    const fault = { id, kind, at, durationMs, target, degree };
    if (!others.some((other) => isSameThing(fault, other))) return fault;
  }
  return undefined;
}

function drawTarget(random: Random, kind: FaultKind, targets: Targets): string | undefined {
  const one = (list: readonly string[]): string | undefined =>
    list.length === 0 ? undefined : random.pick(list);
  switch (kind) {
    case "server-crash":
    case "server-hang":
      return one(targets.servers);
    case "cluster-loss":
      return one(targets.clusters);
    case "link-cut":
    case "link-lossy":
      return one(targets.links);
    case "client-cut":
      return one(targets.clientLinks);
    case "control-loss":
      return "control";
    case "mapper-crash":
    case "mapper-hang":
      return one(targets.mappers);
    case "control-partition": {
      if (targets.sites.length === 0) return undefined;
      const count = 1 + random.int(targets.sites.length);
      return random.shuffle(targets.sites).slice(0, count).sort().join(",");
    }
    case "origin-outage":
      return one(targets.origins);
    case "document-replay":
      return one(targets.nodes);
    case "document-poison":
      return one(targets.poisonable);
    default:
      return kind satisfies never;
  }
}

function drawDegree(random: Random, kind: FaultKind): number {
  if (kind === "link-lossy") return Math.round(random.uniform(0.1, 0.33) * 1_000) / 1_000;
  if (kind === "origin-outage") return random.chance(0.5) ? 1 : 0;
  return 0;
}

const OF_A_PROCESS: ReadonlySet<FaultKind> = new Set([
  "server-crash",
  "server-hang",
  "cluster-loss",
  "origin-outage",
  "mapper-crash",
  "mapper-hang",
  "control-loss",
  "document-poison",
]);

/** A server cannot crash while it hangs: faults that hold the same process must not overlap. */
function isSameThing(a: Fault, b: Fault): boolean {
  if (a.at + a.durationMs < b.at || b.at + b.durationMs < a.at) return false;
  const isOfServer = (fault: Fault): boolean => OF_A_PROCESS.has(fault.kind);
  if (!isOfServer(a) || !isOfServer(b)) return false;
  return a.target === b.target || a.target.startsWith(`${b.target}-`) || b.target.startsWith(`${a.target}-`);
}
