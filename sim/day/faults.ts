/** What goes wrong in a day, by seed. */
import type { Random } from "#kit";

export const dayFaultKinds = {
  "server-crash": "one server of a cluster is dead",
  "cluster-loss": "every server of a cluster is dead",
  "region-loss": "every server of a region is dead",
  "link-cut": "a client network and the cluster that is nearest to it do not reach each other",
  "mapper-crash": "the mapping process ends, and starts again from its last map",
  "stale-reports": "nothing is heard of the load of a region's servers",
} as const;
export type DayFaultKind = keyof typeof dayFaultKinds;

export interface DayFault {
  readonly kind: DayFaultKind;
  /** Virtual seconds. */
  readonly at: number;
  readonly until: number;
  /** A server, cluster, region, `network|cluster`, or the mapper. */
  readonly target: string;
}

/** How many of each a day has, and how long each lasts, s. */
const PER_DAY: Readonly<
  Record<DayFaultKind, readonly [count: number, secondsMin: number, secondsMax: number]>
> = {
  "server-crash": [24, 60, 3_600],
  "cluster-loss": [8, 120, 3_600],
  "region-loss": [1, 900, 1_800],
  "link-cut": [24, 120, 3_600],
  "mapper-crash": [4, 20, 300],
  "stale-reports": [4, 300, 3_600],
};

export interface DayTargets {
  readonly servers: readonly string[];
  readonly clusters: readonly string[];
  readonly regions: readonly string[];
  /** `network|cluster`. */
  readonly links: readonly string[];
}

/** In order of time; each kind at least once, all over before the last twentieth of the time. */
export function drawDayFaults(random: Random, targets: DayTargets, seconds: number): DayFault[] {
  const end = seconds * 0.95;
  const faults: DayFault[] = [];
  for (const [kind, [perDay, min, max]] of Object.entries(PER_DAY) as [
    DayFaultKind,
    (typeof PER_DAY)[DayFaultKind],
  ][]) {
    const ofKind = random.split(kind);
    const count = Math.max(1, Math.round((perDay * seconds) / 86_400));
    for (let n = 0; n < count; n++) {
      const lasts = Math.min(ofKind.uniform(min, max), end / 4);
      const at = ofKind.uniform(end / 20, end - lasts);
      faults.push({ kind, at, until: at + lasts, target: targetOf(ofKind, kind, targets) });
    }
  }
  return faults.sort((a, b) => a.at - b.at || (a.kind < b.kind ? -1 : 1));
}

function targetOf(random: Random, kind: DayFaultKind, targets: DayTargets): string {
  switch (kind) {
    case "server-crash":
      return random.pick(targets.servers);
    case "cluster-loss":
      return random.pick(targets.clusters);
    case "region-loss":
    case "stale-reports":
      return random.pick(targets.regions);
    case "link-cut":
      return random.pick(targets.links);
    case "mapper-crash":
      return "mapper";
    default:
      return kind satisfies never;
  }
}
