/**
 * Names that stay. What was measured of a network is kept under its name, and a client network that has another name is another one to the map; so a
 * set that is cut anew from a table of today keeps the name that most of it had yesterday.
 */
import { type ClientNetworkId, type IpPrefix, networkNameOf, parsePrefix } from "#kit";
import { cellCount, cellOf, isOneFamily, prefixesOfCells } from "./cells.ts";
import type { BlockDemand } from "./block-figures.ts";
import { type CellRuns, flattenPrefixes, layRuns } from "./cell-runs.ts";
import type { NetworkSets } from "./client-networks.ts";
import { demandsOf, weightsOf } from "./run-demands.ts";

/** Who had which prefixes before. */
export interface NamedNetwork {
  readonly clientNetworkId: ClientNetworkId;
  readonly prefixes: readonly string[];
}

/**
 * The name of each set. Of all pairs of an old name and a new set the one with most demand in common comes first, and each name goes to one set: a
 * network that was split leaves its name to the part with the most demand, a set that was merged takes the name that brought most.
 * Space without demand counts a little. What has no name yet gets one of its lowest prefix, and never one that was in use before. Ties: the name, then the address.
 */
export function nameNetworks(
  sets: NetworkSets,
  before: readonly NamedNetwork[],
  demand: BlockDemand | null,
): ClientNetworkId[] {
  const names: (ClientNetworkId | undefined)[] = Array.from({ length: sets.count });
  const taken = new Set<string>(before.map(({ clientNetworkId }) => clientNetworkId));
  const isKept = new Uint8Array(before.length);
  for (const { old, set } of overlaps(sets, before, demand)) {
    if (isKept[old] === 1 || names[set] !== undefined) continue;
    isKept[old] = 1;
    names[set] = before[old]?.clientNetworkId;
  }
  for (let run = 0; run < sets.runs.count; run++) {
    const set = sets.runs.values[run] as number;
    if (names[set] !== undefined) continue;
    // Runs ascend: the first one of a set has its lowest prefix.
    const first = sets.runs.firsts[run] as number;
    const [lowest = ""] = prefixesOfCells(first, sets.runs.ends[run] as number);
    let name = networkNameOf(lowest);
    for (let salt = 1; taken.has(name); salt++) name = networkNameOf(lowest, salt);
    taken.add(name);
    names[set] = name;
  }
  return names as ClientNetworkId[];
}

/** Old names and new sets that have cells in common, those with most demand first. */
function overlaps(sets: NetworkSets, before: readonly NamedNetwork[], demand: BlockDemand | null) {
  const layers = layRuns(sets.runs, [runsOfNetworks(before)]);
  const [newOf, oldOf] = layers.values as [Int32Array, Int32Array];
  const weightOf = weightsOf(layers, demandsOf(layers, demand, 0).demands);
  const weights = new Map<number, number>();
  for (let run = 0; run < layers.count; run++) {
    const old = oldOf[run] as number;
    if (old === -1) continue;
    const key = old * sets.count + (newOf[run] as number);
    weights.set(key, (weights.get(key) ?? 0) + (weightOf[run] as number));
  }
  const pairs = [...weights].map(([key, weight]) => ({
    old: Math.floor(key / sets.count),
    set: key % sets.count,
    weight,
  }));
  const nameAt = (index: number): string => before[index]?.clientNetworkId ?? "";
  return pairs.sort(
    (a, b) =>
      b.weight - a.weight || (a.old === b.old ? a.set - b.set : nameAt(a.old) < nameAt(b.old) ? -1 : 1),
  );
}

/**
 * The space of named networks; values are their numbers. Prefixes finer than a cell count as their cell where nothing else holds it.
 * Throws RangeError for a prefix that is none.
 */
export function runsOfNetworks(networks: readonly NamedNetwork[]): CellRuns {
  const firsts: number[] = [];
  const sizes: number[] = [];
  const values: number[] = [];
  for (const [n, { clientNetworkId, prefixes }] of networks.entries())
    for (const text of prefixes) {
      const prefix: IpPrefix | undefined = parsePrefix(text);
      if (prefix === undefined)
        throw new RangeError(`Client network "${clientNetworkId}" has the prefix ${JSON.stringify(text)}`);
      firsts.push(cellOf(prefix.address));
      sizes.push(Math.max(1, cellCount(prefix)));
      values.push(n);
    }
  return flattenPrefixes(firsts, sizes, values);
}

/** How two cuts of address space differ, the second seen from the first. */
export interface NetworksDiff {
  /** Names in both. */
  readonly kept: number;
  readonly gone: readonly ClientNetworkId[];
  readonly added: readonly ClientNetworkId[];
  /** Of names in both: those whose address space is the same. */
  readonly unchanged: number;
  /** Cells of IPv4 (/24) and of IPv6 (/48) in both, and how many of them are of the same name. */
  readonly cells: Readonly<Record<4 | 6, { readonly common: number; readonly sameName: number }>>;
}

export function diffNetworks(a: readonly NamedNetwork[], b: readonly NamedNetwork[]): NetworksDiff {
  const idsOf = (networks: readonly NamedNetwork[]) =>
    new Map(networks.map((one, n) => [one.clientNetworkId, n]));
  const [before, after] = [idsOf(a), idsOf(b)];
  const [runs, others] = [runsOfNetworks(a), runsOfNetworks(b)];
  const cells = { 4: { common: 0, sameName: 0 }, 6: { common: 0, sameName: 0 } };
  const same = new Float64Array(a.length);
  let at = 0;
  for (let run = 0; run < runs.count; run++) {
    const [first, end] = [runs.firsts[run] as number, runs.ends[run] as number];
    while (at < others.count && (others.ends[at] as number) <= first) at++;
    for (let other = at; other < others.count && (others.firsts[other] as number) < end; other++) {
      const count =
        Math.min(end, others.ends[other] as number) - Math.max(first, others.firsts[other] as number);
      const tally = cells[isOneFamily(first, 0) ? 4 : 6];
      tally.common += count;
      const own = runs.values[run] as number;
      if (a[own]?.clientNetworkId !== b[others.values[other] as number]?.clientNetworkId) continue;
      tally.sameName += count;
      (same[own] as number) += count;
    }
  }
  const sizeA = sizesByValue(runs, a.length);
  const sizeB = sizesByValue(others, b.length);
  const kept = [...before].filter(([id]) => after.has(id));
  return {
    kept: kept.length,
    gone: [...before.keys()].filter((id) => !after.has(id)),
    added: [...after.keys()].filter((id) => !before.has(id)),
    unchanged: kept.filter(([id, n]) => same[n] === sizeA[n] && same[n] === sizeB[after.get(id) as number])
      .length,
    cells,
  };
}

function sizesByValue(runs: CellRuns, count: number): Float64Array {
  const sizes = new Float64Array(count);
  for (let run = 0; run < runs.count; run++)
    (sizes[runs.values[run] as number] as number) +=
      (runs.ends[run] as number) - (runs.firsts[run] as number);
  return sizes;
}
