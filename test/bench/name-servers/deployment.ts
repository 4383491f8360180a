/**
 * The deployment that all name servers of the benchmark serve: one zone with a few host names, clusters of two servers, client networks
 * with a first cluster each. Neighbouring networks often share it, as they do in a real map. Drawn from a seed.
 */
import {
  type MapSnapshot,
  type PolicyDocument,
  policyDocument,
  type PropertyDocument,
  propertyDocument,
  Random,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import { snapshotFrom } from "../../tools/map-snapshot.ts";

export const ZONE = "cdn.example";
export const ANSWER_TTL_SECONDS = 20;
const HOST_LABELS = ["www", "img", "video", "api"] as const;
const SERVERS_A_CLUSTER = 2;
/** Traffic management: what each name is decided by, among the first servers of the first clusters. */
export const POLICY_METHODS = ["weighted", "failover", "performance"] as const;
export type PolicyMethod = (typeof POLICY_METHODS)[number];
const POLICY_TARGETS = 8;
/** Share of client networks that are IPv6. */
const IPV6_RATIO = 0.1;
/** How often a network has the first cluster of its neighbour. */
const SAME_AS_NEIGHBOUR_RATIO = 0.6;
const RANKED = 3;

/** One client network: where it begins, how long its prefix is, where it is sent. */
export interface DrawnNetwork {
  readonly prefix: string;
  readonly family: 4 | 6;
  /** The octets of the prefix that an ECS option carries: 3 of a /24 (IPv4), 7 of a /56 (IPv6), some address within. */
  readonly ecsOctets: readonly number[];
  /** Index into the clusters, best first. */
  readonly clusters: readonly number[];
}

export interface Deployment {
  readonly hostnames: readonly string[];
  /** IPv4 addresses of the servers of each cluster. */
  readonly addresses: readonly (readonly string[])[];
  readonly networks: readonly DrawnNetwork[];
  readonly topology: TopologyDocument;
  readonly properties: readonly PropertyDocument[];
  readonly snapshot: MapSnapshot;
  readonly policies: readonly PolicyDocument[];
  /** Addresses among which policies decide, with weights; the first is the one that lives for failover. */
  readonly targets: readonly { readonly address: string; readonly weight: number }[];
}

export function policyName(method: PolicyMethod): string {
  return `${method}.${ZONE}`;
}

const clusterId = (index: number): string => `c${index + 1}`;

function drawNetworks(count: number, clusters: number, random: Random): DrawnNetwork[] {
  const networks: DrawnNetwork[] = [];
  let last = 0;
  const first = (): number => {
    if (!random.chance(SAME_AS_NEIGHBOUR_RATIO)) last = random.int(clusters);
    return last;
  };
  const ranking = (): number[] => {
    const best = first();
    return Array.from({ length: Math.min(RANKED, clusters) }, (_, place) => (best + place * 7) % clusters);
  };
  // /24 counted from 11.0.0.0 on, with gaps: networks of 1 to 16 of them.
  let at = 11 * 65_536;
  const ipv6Count = Math.round(count * IPV6_RATIO);
  while (networks.length < count - ipv6Count) {
    const bits = random.int(5);
    at = Math.ceil(at / 2 ** bits) * 2 ** bits;
    const octets = [(at >>> 16) & 255, (at >>> 8) & 255, at & 255];
    const within = at + random.int(2 ** bits);
    networks.push({
      prefix: `${octets.join(".")}.0/${24 - bits}`,
      family: 4,
      ecsOctets: [(within >>> 16) & 255, (within >>> 8) & 255, within & 255],
      clusters: ranking(),
    });
    at += 2 ** bits * (random.chance(0.3) ? 1 + random.int(4) : 1);
  }
  for (let index = 0; index < ipv6Count; index++) {
    const low = index * 3;
    networks.push({
      prefix: `2a00:${(0x100 + (low >>> 16)).toString(16)}:${(low & 0xffff).toString(16)}::/48`,
      family: 6,
      ecsOctets: [0x2a, 0, 1, (low >>> 16) & 255, (low >>> 8) & 255, low & 255, random.int(256)],
      clusters: ranking(),
    });
  }
  return networks;
}

/** @param port of all edge servers, for their liveness */
export function drawDeployment(options: {
  readonly networks: number;
  readonly clusters: number;
  readonly seed: number;
  readonly port: number;
  readonly dnsPort: number;
}): Deployment {
  const random = new Random(options.seed);
  const hostnames = HOST_LABELS.map((label) => `${label}.${ZONE}`);
  const addresses = Array.from({ length: options.clusters }, (_, cluster) =>
    Array.from({ length: SERVERS_A_CLUSTER }, (_unused, server) => `127.20.${cluster + 1}.${server + 1}`),
  );
  const networks = drawNetworks(options.networks, options.clusters, random);
  const site = (id: string, role: string, servers: readonly string[]) => ({
    clusterId: id,
    regionId: "world",
    role,
    city: id,
    coordinates: { latitude: 0, longitude: 0 },
    servers: servers.map((address, index) => ({
      serverId: `${id}-${index + 1}`,
      address,
      port: options.port,
    })),
  });
  const ranked = (order: readonly number[]) => {
    const entries = order.map((index, place) => ({
      clusterId: clusterId(index),
      score: 10 * (place + 1),
      terms: { rttMs: 10 * (place + 1), lossRatio: 0, load: 0.5, confidence: 1 },
    }));
    return { interactive: entries, bulk: entries, live: entries };
  };
  const targets = addresses
    .slice(0, POLICY_TARGETS)
    .map(([address = ""], index) => ({ address, weight: POLICY_TARGETS - index }));
  return {
    hostnames,
    addresses,
    networks,
    targets,
    policies: POLICY_METHODS.map((method) => {
      const ids = targets.map((_, index) => `t${index + 1}`);
      return policyDocument.parse({
        policyId: method,
        customerId: "bench",
        names: [policyName(method)],
        ttlSeconds: ANSWER_TTL_SECONDS,
        targets: targets.map(({ address }, index) => ({
          targetId: ids[index],
          addresses: [address],
          coordinates: { latitude: 0, longitude: index * 20 },
        })),
        rule:
          method === "weighted"
            ? { method, among: targets.map(({ weight }, index) => ({ to: ids[index], weight })) }
            : { method, among: ids },
      });
    }),
    topology: topologyDocument.parse({
      name: "bench",
      clusters: [
        ...addresses.map((servers, index) => site(clusterId(index), "edge", servers)),
        site("ns", "nameserver", ["127.0.0.1"]),
      ],
      nameService: {
        zones: [ZONE],
        hostmaster: `hostmaster.${ZONE}`,
        nameServers: [
          { serverId: "ns-1", name: `ns1.${ZONE}`, address: "127.0.0.1", dnsPort: options.dnsPort },
        ],
      },
    }),
    properties: hostnames.map((hostname, index) =>
      propertyDocument.parse({
        propertyId: HOST_LABELS[index],
        customerId: "bench",
        hostnames: [hostname],
        origins: [{ scheme: "http", host: "127.0.0.1", port: options.port }],
        dnsTtlSeconds: ANSWER_TTL_SECONDS,
      }),
    ),
    snapshot: snapshotFrom({
      createdAtEpochMs: Date.now(),
      clientNetworks: networks.map(({ prefix, clusters }, index) => ({
        clientNetworkId: `n${index + 1}`,
        prefixes: [prefix],
        clusters: ranked(clusters),
      })),
      fallback: ranked([0, 1, 2].filter((index) => index < options.clusters)),
    }),
  };
}

/** The servers that a client of the network must be told of, in any order: those of its first cluster. */
export function addressesFor(deployment: Deployment, network: DrawnNetwork): readonly string[] {
  return deployment.addresses[network.clusters[0] ?? 0] ?? [];
}
