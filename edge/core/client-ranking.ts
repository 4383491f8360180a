import {
  type ClientNetworkTable,
  type ClusterId,
  type IpAddress,
  type IpFamily,
  type MapSnapshot,
  NONE,
  PrefixRanges,
  type TrafficClass,
} from "#kit";

type Ranges = Readonly<Record<IpFamily, PrefixRanges>>;

/** Made when the first client is looked for: most edges never are asked. Client networks seldom change from map to map. */
const rangesOf = new WeakMap<ClientNetworkTable, Ranges>();

/**
 * The clusters that the map ranks for a client, best first; the fallback's for an address that no client network holds. Throws ParseError
 * when the cluster map does not decode.
 */
export function clientRanking(
  { clusterMap }: MapSnapshot,
  address: IpAddress,
  trafficClass: TrafficClass,
): readonly ClusterId[] {
  const table = clusterMap.table();
  const { networks } = table;
  let ranges = rangesOf.get(networks);
  if (ranges === undefined) {
    ranges = { 4: new PrefixRanges(4, networks.ipv4), 6: new PrefixRanges(6, networks.ipv6) };
    rangesOf.set(networks, ranges);
  }
  const family = ranges[address.family];
  const network = family.valueOf(family.find(address.words));
  return table
    .ranking(network === NONE ? table.fallbackNumber : network, trafficClass)
    .map(({ clusterId }) => clusterId);
}
