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
  type ServerId,
  type ServerReport,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import {
  type Answer,
  answerAddresses,
  type ClientNetworkInput,
  MapEngine,
  mapEngineDefaults,
  mapIndexOf,
  noisySample,
  TopologyIndex,
} from "#mapping";
import { evaluationProperty, START } from "../deployment.ts";
import type { DelayModel } from "./delay-model.ts";
import type { City } from "./places.ts";
import type { Piece, Place, UserWorld } from "./world.ts";

/** Each network is measured against so many sites, the nearest by geography, and so often. */
const MEASURED_SITES = 16;
const PINGS = 5;
/** Each server measures its links to so many other sites, the same ones for all: a full mesh of 1,280 is more than servers measure. */
const LINKED_SITES = 128;
/** Enough for everyone: this evaluation is about distance. */
const CAPACITY_PER_SECOND = 1e9;
const DEMAND_PER_SECOND = 1e6;
/** Pairs of resolver and client that were seen; a resolver with less than the engine wants is mapped by its own address. */
const BEACONS = 1e6;

export interface UserMap {
  /** For a resolver that told nothing of its clients. */
  readonly answerResolver: (resolver: IpAddress) => Answer;
  /** By the address alone, or for the resolver that told it. */
  readonly answer: (address: IpAddress, resolver?: IpAddress) => Answer;
  /** Index into the places of the world. */
  readonly placeOf: ReadonlyMap<ClusterId, number>;
  /** The same map with what a query more must spare, ms. */
  readonly priced: (queryPriceMs: number) => UserMap;
}

/** Sources are 24 bits long, as resolvers send them (RFC 7871 section 11.1). */
export const SOURCE_LENGTH = 24;

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
  const nearest = new Map<number, ReturnType<typeof nearestSites>>();
  for (const { network, place } of networks) {
    const measured = nearest.get(place) ?? nearestSites(topology, network, placeOf);
    nearest.set(place, measured);
    for (const { clusterId, at } of measured) {
      const rttMs = rttBetween(world, delays, place, at);
      for (let ping = 0; ping < PINGS; ping++)
        engine.handleSample({
          from: network.clientNetworkId,
          to: clusterId,
          rttMs: noisySample(rttMs, 0, noise),
          at: plusMs(START, ping * 1_000),
        });
    }
  }
  let now = plusMs(START, PINGS * 1_000);
  for (const { resolver, clientNetworkId, weight } of beacons(world, seed))
    engine.resolvers.handlePair(resolver, clientNetworkId, weight, epochMs(now), epochMs(now));
  engine.handleClientNetworks(
    networks.map(({ network }) => network),
    now,
  );
  const index = new TopologyIndex(topology);
  const priced = (queryPriceMs: number): UserMap => {
    for (const report of linkReports(world, delays, [...placeOf], seed))
      engine.links.handleReport(report, now);
    engine.handleQueryPrice(queryPriceMs);
    engine.handleTimeout(now);
    now = plusMs(now, mapEngineDefaults.cycleMs);
    const event = engine.pollEvent();
    if (event?.type !== "snapshot") throw new RangeError("the engine made no map of the users");
    const snapshot = mapIndexOf(event.snapshot);
    const common = {
      snapshot,
      topology: index,
      property: evaluationProperty,
      family: 4,
      isUp: () => true,
    } as const;
    return {
      placeOf,
      priced,
      answerResolver: (resolver) =>
        answerAddresses({ ...common, clientAddress: resolver, sourcePrefixLength: 32, isResolver: true }),
      answer: (clientAddress, resolverAddress) =>
        answerAddresses({
          ...common,
          clientAddress,
          sourcePrefixLength: SOURCE_LENGTH,
          ...(resolverAddress && { resolverAddress }),
        }),
    };
  };
  return priced(0);
}

/** What a round trip costs between two places, ms, without the access of the users. */
export function rttBetween(world: UserWorld, delays: DelayModel, from: number, to: number): number {
  return delays.rttMs(world.places[from] as Place, world.places[to] as Place);
}

function linkReports(
  world: UserWorld,
  delays: DelayModel,
  sites: readonly (readonly [ClusterId, number])[],
  seed: number,
): Pick<ServerReport, "serverId" | "clusterId" | "links">[] {
  const noise = new Random(seed).split("links");
  return sites.map(([clusterId, place]) => ({
    serverId: `${clusterId}-1` as ServerId,
    clusterId,
    links: sites.slice(0, LINKED_SITES).flatMap(([toClusterId, to]) => {
      const srttMs = to === place ? null : noisySample(rttBetween(world, delays, place, to), 0, noise);
      return srttMs === null
        ? []
        : [{ toClusterId, via: null, srttMs, rttvarMs: 0, lossRatio: 0, samples: PINGS }];
    }),
  }));
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

/** One client network for each provider's users in a place, as production groups by AS and place; and one for each place of the public resolver. */
function networksOf(
  world: UserWorld,
  cities: readonly City[],
): { readonly network: ClientNetworkInput; readonly place: number }[] {
  const coordinatesOf = (place: number) => (cities[(world.places[place] as Place).city] as City).coordinates;
  const users = Map.groupBy(world.pieces, networkIdOf);
  const ofUsers = [...users].map(([clientNetworkId, pieces]) => ({
    place: (pieces[0] as Piece).place,
    network: {
      clientNetworkId,
      prefixes: pieces.map(({ prefix }) => formatPrefix(prefix)),
      coordinates: coordinatesOf((pieces[0] as Piece).place),
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
  const weights = new Map<number, Map<ClientNetworkId, number>>();
  for (const piece of pieces)
    for (const [resolver, ratio] of [
      [piece.resolver, 1 - publicRatio],
      [piece.publicResolver, publicRatio],
    ] as const) {
      let clients = weights.get(resolver);
      if (clients === undefined) weights.set(resolver, (clients = new Map()));
      const id = networkIdOf(piece);
      clients.set(id, (clients.get(id) ?? 0) + BEACONS * piece.demand * ratio);
    }
  const seen = [...weights].flatMap(([n, clients]) =>
    [...clients].map(([clientNetworkId, weight]) => ({
      resolver: formatAddress((resolvers[n] as UserWorld["resolvers"][number]).address),
      clientNetworkId,
      weight: Math.max(1e-3, weight),
    })),
  );
  return new Random(seed).split("beacons").shuffle(seen);
}

function networkIdOf({ place, provider }: Piece): ClientNetworkId {
  return `as-${provider}-${place}` as ClientNetworkId;
}
