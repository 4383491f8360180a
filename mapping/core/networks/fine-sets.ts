/** The sets that decisions ask for, before there is a bound on how many. */
import type { Profiles } from "./block-figures.ts";
import { SITES_KEPT } from "./bounded-merge.ts";
import { grown } from "./columns.ts";
import { GroupSplitter, type SplitSettings } from "./profile-groups.ts";
import type { ProfileSum } from "./site-profile.ts";

/** Runs of cells, column by column. */
interface RunColumns {
  readonly count: number;
  readonly asNumbers: Uint32Array;
  readonly places: Int32Array;
  readonly signatures: Float64Array;
  /** -1: not measured. */
  readonly profiles: Int32Array;
}

/** Sets by number, column by column. */
export type SetColumns = ReturnType<FineSets["columns"]>;

/** The sets before the bound: groups of one AS and place, split by what was measured, and by path where nothing was. */
export class FineSets {
  readonly #splitter: GroupSplitter;
  #count = 0;
  #weights = new Float64Array(1_024);
  #asNumbers = new Uint32Array(1_024);
  #places = new Int32Array(1_024);
  #offsets = new Uint32Array(1_025);
  #sites = new Uint16Array(1_024);
  #rttMs = new Float32Array(1_024);
  readonly #siteCount: number;

  constructor(profiles: Profiles, settings: SplitSettings) {
    this.#splitter = new GroupSplitter(profiles, settings);
    this.#siteCount = profiles.siteCount;
  }

  /** The set of each run. Groups are numbered as they occur, so by address. */
  assign(runs: RunColumns, weights: Float64Array): Uint32Array {
    const setOf = new Uint32Array(runs.count);
    for (const members of groupsOf(runs)) this.#group(members, runs, weights, setOf);
    return setOf;
  }

  columns() {
    return {
      count: this.#count,
      weights: this.#weights.subarray(0, this.#count),
      asNumbers: this.#asNumbers.subarray(0, this.#count),
      places: this.#places.subarray(0, this.#count),
      profiles: {
        offsets: this.#offsets.subarray(0, this.#count + 1),
        sites: this.#sites,
        rttMs: this.#rttMs,
        siteCount: this.#siteCount,
      } satisfies Profiles,
    };
  }

  #group(members: Uint32Array, runs: RunColumns, weights: Float64Array, setOf: Uint32Array): void {
    const first = members[0] as number;
    const label = { asNumber: runs.asNumbers[first] as number, place: runs.places[first] as number };
    const bySignature = new Map<number, Map<number, number>>();
    const isMeasured = (run: number): boolean => runs.profiles[run] !== -1;
    const measured = members.filter(isMeasured);
    if (measured.length > 0) {
      const profiles = [...Map.groupBy(measured, (run) => runs.profiles[run] as number)].map(
        ([profile, own]) => ({
          profile,
          own,
          weight: own.reduce((sum, run) => sum + (weights[run] as number), 0),
        }),
      );
      const split = this.#splitter.split(profiles);
      const base = this.#count;
      for (const set of this.#splitter.sets) this.#add(label, set);
      for (const [n, { own, weight }] of profiles.entries()) {
        const set = base + (split[n] as number);
        (this.#weights[set] as number) += weight;
        for (const run of own) {
          setOf[run] = set;
          const signature = runs.signatures[run] as number;
          const sums = bySignature.get(signature) ?? new Map<number, number>();
          sums.set(set, (sums.get(set) ?? 0) + (weights[run] as number));
          bySignature.set(signature, sums);
        }
      }
    }
    // What is reached over the same path is taken to be like the most that was measured of it.
    for (const run of members) {
      if (isMeasured(run)) continue;
      const signature = runs.signatures[run] as number;
      let sums = bySignature.get(signature);
      if (sums === undefined) {
        sums = new Map([[this.#add(label), 1]]);
        bySignature.set(signature, sums);
      }
      const set = heaviest(sums);
      setOf[run] = set;
      (this.#weights[set] as number) += weights[run] as number;
    }
  }

  #add({ asNumber, place }: { asNumber: number; place: number }, profile?: ProfileSum): number {
    const set = this.#count++;
    if (set >= this.#weights.length) {
      this.#weights = grown(this.#weights, set * 2);
      this.#asNumbers = grown(this.#asNumbers, set * 2);
      this.#places = grown(this.#places, set * 2);
      this.#offsets = grown(this.#offsets, set * 2 + 1);
    }
    this.#asNumbers[set] = asNumber;
    this.#places[set] = place;
    const from = this.#offsets[set] as number;
    if (from + SITES_KEPT > this.#sites.length) {
      this.#sites = grown(this.#sites, this.#sites.length * 2);
      this.#rttMs = grown(this.#rttMs, this.#rttMs.length * 2);
    }
    const nearest = (profile?.sites ?? [])
      .map((site) => ({ site, ms: profile?.meanMs(site) ?? 0 }))
      .sort((a, b) => a.ms - b.ms || a.site - b.site)
      .slice(0, SITES_KEPT);
    for (const [n, { site, ms }] of nearest.entries()) {
      this.#sites[from + n] = site;
      this.#rttMs[from + n] = ms;
    }
    this.#offsets[set + 1] = from + nearest.length;
    return set;
  }
}

/** Runs of one AS and place, by the address of the first. */
function* groupsOf({ count, asNumbers, places }: RunColumns): Generator<Uint32Array> {
  const groupOf = new Uint32Array(count);
  const numbers = new Map<number, number>();
  for (let run = 0; run < count; run++) {
    // Exact: 32 bits of AS number above 21 of the place.
    const key = (asNumbers[run] as number) * 0x20_0000 + (places[run] as number) + 1;
    let group = numbers.get(key);
    if (group === undefined) {
      group = numbers.size;
      numbers.set(key, group);
    }
    groupOf[run] = group;
  }
  const ends = new Uint32Array(numbers.size + 1);
  for (const group of groupOf) (ends[group + 1] as number)++;
  for (let group = 0; group < numbers.size; group++) (ends[group + 1] as number) += ends[group] as number;
  const members = new Uint32Array(count);
  const next = ends.slice();
  for (let run = 0; run < count; run++) {
    const group = groupOf[run] as number;
    members[next[group] as number] = run;
    (next[group] as number)++;
  }
  for (let group = 0; group < numbers.size; group++) yield members.subarray(ends[group], ends[group + 1]);
}

/** Ties: the lowest number. */
function heaviest(sums: ReadonlyMap<number, number>): number {
  let best = -1;
  let most = -1;
  for (const [set, weight] of sums)
    if (weight > most || (weight === most && set < best)) {
      best = set;
      most = weight;
    }
  return best;
}
