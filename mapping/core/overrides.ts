/** What operators have said, for the networks and clusters that there are and the time that it is. */
import {
  type ClientNetworkId,
  type ClusterId,
  type EpochMs,
  greatCircleKm,
  type IpAddress,
  type MapOverrides,
  type MapPin,
  maskAddress,
  parsePrefix,
  type ServerId,
  trafficClasses,
} from "#kit";
import type { ClientNetworkInput } from "./cluster-map.ts";
import { NOWHERE } from "./network-rows.ts";
import type { TopologyIndex } from "./topology-index.ts";

export interface Overrides {
  /** By cluster number: what its scores are multiplied with. */
  readonly factors: Float64Array;
  /** By unit: the cluster that it is pinned to, or NOWHERE. */
  readonly pinned: Uint16Array;
  /** Servers that are to be emptied, those of drained clusters among them. */
  readonly drained: ReadonlySet<ServerId>;
  /** Pins in force that no client network fits. */
  readonly pinsUnmatched: number;
  /** When the next entry ends; undefined: none does. */
  readonly endsAt: EpochMs | undefined;
}

/** @param edgeIds ascending: their place is their number */
export function resolveOverrides(
  overrides: MapOverrides | undefined,
  networks: readonly ClientNetworkInput[],
  edgeIds: readonly ClusterId[],
  topology: TopologyIndex,
  now: EpochMs,
): Overrides {
  const numberOf = new Map(edgeIds.map((clusterId, c) => [clusterId, c]));
  const factors = new Float64Array(edgeIds.length).fill(1);
  const ends: number[] = [];
  const inForce = <T extends { readonly untilEpochMs?: number }>(entries: readonly T[] = []): T[] =>
    entries.filter(({ untilEpochMs }) => {
      if (untilEpochMs === undefined) return true;
      if (untilEpochMs > now) ends.push(untilEpochMs);
      return untilEpochMs > now;
    });
  for (const { clusterId, factor } of inForce(overrides?.weights)) {
    const c = numberOf.get(clusterId);
    if (c !== undefined) factors[c] = factor;
  }
  const drained = new Set<ServerId>();
  for (const { clusterId, serverId } of inForce(overrides?.drains)) {
    if (serverId !== undefined) drained.add(serverId);
    if (clusterId !== undefined)
      for (const server of topology.clusters.get(clusterId)?.servers ?? []) drained.add(server.serverId);
  }
  const pins = inForce(overrides?.pins);
  return {
    factors,
    drained,
    ...pinnedUnits(pins, networks, numberOf),
    endsAt: ends.length === 0 ? undefined : (ends.reduce((a, b) => Math.min(a, b)) as EpochMs),
  };
}

/** Narrow pins last, so that they have the last word; of equals the first one that was written. */
function pinnedUnits(
  pins: readonly MapPin[],
  networks: readonly ClientNetworkInput[],
  numberOf: ReadonlyMap<ClusterId, number>,
): Pick<Overrides, "pinned" | "pinsUnmatched"> {
  const classes = trafficClasses.length;
  const pinned = new Uint16Array(networks.length * classes).fill(NOWHERE);
  if (pins.length === 0) return { pinned, pinsUnmatched: 0 };
  const networkNumber = new Map(networks.map(({ clientNetworkId }, n) => [clientNetworkId, n]));
  const byPrefix = networksByPrefix(pins, networks);
  let pinsUnmatched = 0;
  const ordered = pins
    .map((pin, n) => ({ pin, n, width: widthOf(pin) }))
    .sort((a, b) => b.width - a.width || b.n - a.n);
  for (const { pin } of ordered) {
    const cluster = numberOf.get(pin.clusterId);
    const matched = cluster === undefined ? [] : matches(pin, networks, networkNumber, byPrefix);
    if (cluster === undefined || matched.length === 0) {
      pinsUnmatched++;
      continue;
    }
    for (const n of matched)
      for (const [k, trafficClass] of trafficClasses.entries())
        if (pin.trafficClass === undefined || pin.trafficClass === trafficClass)
          pinned[n * classes + k] = cluster;
  }
  return { pinned, pinsUnmatched };
}

/** A client network by name is narrower than any prefix, a prefix than any circle. */
function widthOf(pin: MapPin): number {
  if (pin.clientNetworkId !== undefined) return 0;
  if (pin.around !== undefined) return 1_000 + pin.around.radiusKm;
  const prefix = parsePrefix(pin.prefix ?? "");
  return prefix === undefined ? 0 : 129 - prefix.prefixLength;
}

function matches(
  pin: MapPin,
  networks: readonly ClientNetworkInput[],
  networkNumber: ReadonlyMap<ClientNetworkId, number>,
  byPrefix: ReadonlyMap<string, readonly number[]>,
): readonly number[] {
  if (pin.clientNetworkId !== undefined) {
    const n = networkNumber.get(pin.clientNetworkId);
    return n === undefined ? [] : [n];
  }
  const { around } = pin;
  if (around !== undefined)
    return [...networks.keys()].filter((n) => {
      const place = networks[n]?.coordinates ?? null;
      return place !== null && greatCircleKm(around.coordinates, place) <= around.radiusKm;
    });
  const prefix = parsePrefix(pin.prefix ?? "");
  return (prefix && byPrefix.get(prefixKey(prefix.address, prefix.prefixLength))) ?? [];
}

/** For the prefix of each pin the networks that have one within it: one walk over all prefixes, however many pins there are. */
function networksByPrefix(
  pins: readonly MapPin[],
  networks: readonly ClientNetworkInput[],
): ReadonlyMap<string, readonly number[]> {
  const found = new Map<string, number[]>();
  const lengths = { 4: new Set<number>(), 6: new Set<number>() };
  for (const pin of pins) {
    const prefix = parsePrefix(pin.prefix ?? "");
    if (prefix === undefined) continue;
    found.set(prefixKey(prefix.address, prefix.prefixLength), []);
    lengths[prefix.address.family].add(prefix.prefixLength);
  }
  if (found.size === 0) return found;
  for (const [n, { prefixes }] of networks.entries())
    for (const text of prefixes) {
      const inner = parsePrefix(text);
      if (inner === undefined) continue;
      for (const length of lengths[inner.address.family])
        if (length <= inner.prefixLength) found.get(prefixKey(inner.address, length))?.push(n);
    }
  return found;
}

function prefixKey(address: IpAddress, prefixLength: number): string {
  return `${prefixLength} ${maskAddress(address, prefixLength).words.join(" ")}`;
}
