/** The production map of a user world: measured with noise, made by the engine, asked by the production answer. */
import {
  type ClientNetworkId,
  type ClusterId,
  epochMs,
  formatAddress,
  formatPrefix,
  greatCircleKm,
  type IpAddress,
  plusMs,
  Random,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import {
  type Answer,
  answerAddresses,
  type ClientNetworkInput,
  MapEngine,
  mapIndexOf,
  noisySample,
  TopologyIndex,
} from "#mapping";
import { evaluationProperty, START } from "../deployment.ts";
import type { DelayModel } from "./delay-model.ts";
import type { City } from "./places.ts";
import type { Place, UserWorld } from "./world.ts";

/** Each network is measured against so many sites, the nearest by geography, and so often. */
const MEASURED_SITES = 16;
const PINGS = 5;
/** Enough for everyone: this evaluation is about distance. */
const CAPACITY_PER_SECOND = 1e9;
const DEMAND_PER_SECOND = 1e6;
/** Pairs of resolver and client that were seen; a resolver with less than the engine wants is mapped by its own address. */
const BEACONS = 1e6;

export interface UserMap {
  readonly answer: (address: IpAddress, sourcePrefixLength: number, isResolver?: boolean) => Answer;
  /** Index into the places of the world. */
  readonly placeOf: ReadonlyMap<ClusterId, number>;
}

/** @param sites the places that have a cluster of ours, as indexes */
export function mapUsers(
  world: UserWorld,
  cities: readonly City[],
  delays: DelayModel,
  sites: readonly number[],
  seed: number,
): UserMap {
  const topology = topologyOf(world, cities, sites);
  const engine = new MapEngine({ epochOf: (now) => epochMs(now) });
  engine.handleTopology(topology, START);
  const networks = networksOf(world, cities);
  const noise = new Random(seed).split("pings");
  const placeOf = new Map(sites.map((place, n) => [topology.clusters[n]?.clusterId as ClusterId, place]));
  for (const { network, place } of networks)
    for (const { clusterId, at } of nearestSites(topology, network, placeOf)) {
      const rttMs = rttBetween(world, delays, place, at);
      for (let ping = 0; ping < PINGS; ping++)
        engine.handleSample({
          from: network.clientNetworkId,
          to: clusterId,
          rttMs: noisySample(rttMs, 0, noise),
          at: plusMs(START, ping * 1_000),
        });
    }
  const now = plusMs(START, PINGS * 1_000);
  for (const { resolver, clientNetworkId, weight } of beacons(world, seed))
    engine.resolvers.handlePair(resolver, clientNetworkId, weight, epochMs(now), epochMs(now));
  engine.handleClientNetworks(
    networks.map(({ network }) => network),
    now,
  );
  engine.handleTimeout(now);
  const event = engine.pollEvent();
  if (event?.type !== "snapshot") throw new RangeError("the engine made no map of the users");
  const index = new TopologyIndex(topology);
  const map = mapIndexOf(event.snapshot);
  return {
    placeOf,
    answer: (clientAddress, sourcePrefixLength, isResolver = false) =>
      answerAddresses({
        snapshot: map,
        topology: index,
        property: evaluationProperty,
        family: 4,
        clientAddress,
        sourcePrefixLength,
        isUp: () => true,
        isResolver,
      }),
  };
}

/** What a round trip costs between two places, ms, without the access of the users. */
export function rttBetween(world: UserWorld, delays: DelayModel, from: number, to: number): number {
  return delays.rttMs(world.places[from] as Place, world.places[to] as Place);
}

function topologyOf(world: UserWorld, cities: readonly City[], sites: readonly number[]): TopologyDocument {
  return topologyDocument.parse({
    name: "users",
    clusters: sites.map((place, n) => {
      const city = cities[(world.places[place] as Place).city] as City;
      return {
        clusterId: `site-${place}`,
        regionId: city.part.toLowerCase().replaceAll(" ", "-"),
        role: "edge",
        city: city.name.slice(0, 80) || "unnamed",
        coordinates: city.coordinates,
        servers: [
          {
            serverId: `site-${place}-1`,
            address: `10.${n >> 8}.${n & 255}.1`,
            port: 80,
            capacityPerSecond: CAPACITY_PER_SECOND,
          },
        ],
      };
    }),
    nameService: { zones: [], nameServers: [] },
  });
}

/** One client network a place with users, all its prefixes in it; and one for each place of the public resolver. */
function networksOf(
  world: UserWorld,
  cities: readonly City[],
): { readonly network: ClientNetworkInput; readonly place: number }[] {
  const coordinatesOf = (place: number) => (cities[(world.places[place] as Place).city] as City).coordinates;
  const users = Map.groupBy(world.pieces, ({ place }) => place);
  const ofUsers = [...users].map(([place, pieces]) => ({
    place,
    network: {
      clientNetworkId: `place-${place}` as ClientNetworkId,
      prefixes: pieces.map(({ prefix }) => formatPrefix(prefix)),
      coordinates: coordinatesOf(place),
      demandPerSecond: DEMAND_PER_SECOND * pieces.reduce((sum, { demand }) => sum + demand, 0),
    },
  }));
  const ofPublic = world.resolvers.flatMap(({ kind, place, address }, n) =>
    kind === "public"
      ? [
          {
            place,
            network: {
              clientNetworkId: `public-${n}` as ClientNetworkId,
              prefixes: [formatPrefix({ address, prefixLength: 27 })],
              coordinates: coordinatesOf(place),
              demandPerSecond: 0,
            },
          },
        ]
      : [],
  );
  return [...ofUsers, ...ofPublic];
}

/** The sites that a network is measured against: by geography, ties by order. */
function nearestSites(
  topology: TopologyDocument,
  { coordinates }: ClientNetworkInput,
  placeOf: ReadonlyMap<ClusterId, number>,
): { readonly clusterId: ClusterId; readonly at: number }[] {
  return topology.clusters
    .map((cluster) => ({ cluster, km: coordinates ? greatCircleKm(coordinates, cluster.coordinates) : 0 }))
    .sort((a, b) => a.km - b.km)
    .slice(0, MEASURED_SITES)
    .map(({ cluster: { clusterId } }) => ({ clusterId, at: placeOf.get(clusterId) as number }));
}

/** Who was seen behind which resolver, as beacons at the edge would tell: in proportion to demand, in a seeded order. */
function beacons(
  { pieces, resolvers, publicRatio }: UserWorld,
  seed: number,
): { readonly resolver: string; readonly clientNetworkId: ClientNetworkId; readonly weight: number }[] {
  const weights = new Map<string, number>();
  for (const { place, demand, resolver, publicResolver } of pieces)
    for (const [n, ratio] of [
      [resolver, 1 - publicRatio],
      [publicResolver, publicRatio],
    ] as const) {
      const key = `${n} ${place}`;
      weights.set(key, (weights.get(key) ?? 0) + BEACONS * demand * ratio);
    }
  return new Random(seed)
    .split("beacons")
    .shuffle([...weights])
    .map(([key, weight]) => {
      const [n, place] = key.split(" ");
      return {
        resolver: formatAddress((resolvers[Number(n)] as UserWorld["resolvers"][number]).address),
        clientNetworkId: `place-${place}` as ClientNetworkId,
        weight: Math.max(1e-3, weight),
      };
    });
}
