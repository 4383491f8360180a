/**
 * One run: a world on the stage, faults from the seed, then the heal, then the wait for everything to converge. The shape is
 * TigerBeetle's VOPR: seed -> swarm of faults -> safety phase -> heal -> liveness phase.
 */
import type { ClusterEntry, MapSnapshot, ServerId, TopologyDocument } from "#kit";
import { Random } from "#kit";
import {
  type AddressPlan,
  planAddresses,
  propertiesOf,
  topologyOf,
  type World,
  WorldLinks,
} from "#kit/world";
import { compareFences, type Fence, fenceOf } from "../control/core/fence.ts";
import { opinionDefaults } from "../mapping/core/policy/opinions.ts";
import { standInProbes } from "../mapping/core/dns/stand-in.ts";
import type { ClientNetworkInput } from "../mapping/core/cluster-map.ts";
import { pathChooserDefaults } from "../transport/core/path-chooser.ts";
import { Catalog } from "./actors/catalog.ts";
import { Client } from "./actors/client.ts";
import { ControlStore } from "./actors/control-store.ts";
import type { DocumentFollower } from "./actors/document-follower.ts";
import { Edge } from "./actors/edge.ts";
import { Host, type Program } from "./actors/host.ts";
import { Mapper } from "./actors/mapper.ts";
import { addressIn, NameServer } from "./actors/name-server.ts";
import { Operator } from "./actors/operator.ts";
import { Origin } from "./actors/origin.ts";
import { POLICY_TEST, policyOver } from "./actors/policy-agent.ts";
import type { Stage } from "./actors/stage.ts";
import { type SimSettings, simDefaults } from "./config.ts";
import { boundsOf } from "./core/bounds.ts";
import { EventQueue } from "./core/event-queue.ts";
import type { Fault, FaultKind } from "./core/faults.ts";
import { Incidents } from "./core/incidents.ts";
import { Judge } from "./core/invariants.ts";
import { Network } from "./core/network.ts";
import { reportOf, type SimReport } from "./core/report.ts";
import { Statistics } from "./core/statistics.ts";
import { drawFaults } from "./core/swarm.ts";
import { Trace } from "./core/trace.ts";
import { productionCores, type SimCores } from "./cores.ts";
import { Injector } from "./injector.ts";
import { rttMsMaxOf, targetsOf } from "./targets.ts";

export interface SimOptions {
  readonly world: World;
  readonly seed: string | number;
  /** Length of the safety phase, virtual seconds. */
  readonly seconds?: number;
  /** These kinds, each at least once; undefined: the seed draws. */
  readonly kinds?: readonly FaultKind[] | undefined;
  /** These faults and no drawn ones. */
  readonly faults?: readonly Fault[] | undefined;
  readonly cores?: Partial<SimCores>;
  readonly settings?: Partial<SimSettings>;
  /** Gets every notable event as a line. */
  readonly onLine?: (line: string) => void;
  /** Makes the actors in the reverse order; nothing may depend on it. For tests. */
  readonly isReversed?: boolean;
}

/** The world lacks something without which nothing can be simulated. */
export class UnfitWorldError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "UnfitWorldError";
  }
}

/** Shortest safety phase that has room for a fault after the warm-up, virtual seconds. */
export const SECONDS_MIN = 30;
const SECONDS_DEFAULT = 120;
/** How often convergence is looked at, ms; and how long the converged system is watched. */
const CONVERGENCE_STEP_MS = 250;
const AFTER_CONVERGENCE_MS = 5_000;

interface Cast {
  readonly control: ControlStore;
  readonly mappers: readonly Mapper[];
  readonly nameServers: readonly NameServer[];
  readonly edges: ReadonlyMap<string, Edge>;
}

/** Runs one simulation. Throws UnfitWorldError for a world without edges, name servers, origins or demand; RangeError for bad options. */
export function simulate(options: SimOptions): SimReport {
  const { world, seed } = options;
  const seconds = options.seconds ?? SECONDS_DEFAULT;
  if (!(seconds >= SECONDS_MIN && seconds <= 86_400))
    throw new RangeError(`A simulation needs ${SECONDS_MIN} to 86400 virtual seconds, got ${seconds}`);
  const { stage, cast, trace } = setUp(options);
  const { queue, judge, incidents, statistics } = stage;
  const observe = (at: typeof queue.now, owner: string, label: string): void => trace.event(at, owner, label);
  const isStopped = (): boolean => judge.violation !== undefined;

  queue.runUntil(seconds * 1_000, observe, isStopped);
  trace.note(queue.now, "phase", "all faults are over; everything must converge");
  const healedAt = queue.now;
  const mapAtHeal = cast.control.newestMap;
  let convergedMs: number | null = null;
  let missing = "";
  while (!isStopped() && queue.now - healedAt <= stage.bounds.convergeMs) {
    const lack = lacking(stage, cast, mapAtHeal);
    if (lack === undefined) {
      convergedMs = queue.now - healedAt;
      break;
    }
    missing = lack;
    queue.runUntil(queue.now + CONVERGENCE_STEP_MS, observe, isStopped);
  }
  judge.check(
    "not-converged",
    queue.now,
    isStopped() || convergedMs !== null,
    () => `${Math.round(queue.now - healedAt)} ms after the last fault: ${missing}`,
  );
  queue.runUntil(queue.now + AFTER_CONVERGENCE_MS, observe, isStopped);
  return reportOf({
    world: world.name,
    seed: String(seed),
    seconds,
    digest: trace.digest(),
    requestedKinds: options.kinds ?? options.faults?.map((fault) => fault.kind),
    incidents,
    judge,
    statistics,
    lastEvents: trace.last,
    convergedMs,
    events: queue.executed,
  });
}

function setUp(options: SimOptions): { readonly stage: Stage; readonly cast: Cast; readonly trace: Trace } {
  const { world, seed, isReversed = false } = options;
  const settings: SimSettings = { ...simDefaults, ...options.settings };
  const plan = planAddresses(world, { loopback: "127.10", port: 8080, dnsPort: 5300 });
  const topology = topologyOf(world, plan);
  const properties = propertiesOf(world, plan);
  const links = new WorldLinks(world);
  const random = new Random(seed);
  const trace = new Trace(options.onLine);
  const queue = new EventQueue();
  const clusterOf = new Map<string, ClusterEntry>();
  const serverAt = new Map<string, string>();
  for (const cluster of topology.clusters)
    for (const server of cluster.servers) {
      clusterOf.set(server.serverId, cluster);
      serverAt.set(`${server.address}:${server.port}`, server.serverId);
    }
  const originOf = new Map<string, string>();
  const originsOf = new Map<string, readonly string[]>();
  for (const { propertyId, origins } of properties) {
    const originId = serverAt.get(`${origins[0]?.host}:${origins[0]?.port}`);
    if (originId === undefined) continue;
    originOf.set(propertyId, originId);
    const all = origins.flatMap(({ host, port }) => serverAt.get(`${host}:${port}`) ?? []);
    originsOf.set(propertyId, all.length === origins.length ? all : [originId]);
  }
  const served = properties.filter((property) => originOf.has(property.propertyId));
  checkWorld(topology, world, served.length);

  const siteIds = [...topology.clusters.map((one) => one.clusterId), ...world.clients.map((one) => one.id)];
  const bounds = boundsOf({
    ...settings,
    standInLiveness: standInProbes,
    targetLiveness: POLICY_TEST,
    opinionSilentMs: opinionDefaults.silentAfterMs,
    ttlSecondsMax: Math.max(...properties.map((property) => property.dnsTtlSeconds)),
    rttMsMax: rttMsMaxOf(siteIds, links),
    probeIntervalMs: pathChooserDefaults.probeIntervalMs,
    probeTimeoutMs: pathChooserDefaults.probeTimeoutMs,
    probeLossesMax: pathChooserDefaults.probeLossesMax,
    warmUpIntervalMs: pathChooserDefaults.warmUpIntervalMs,
  });
  const roles = new Map(topology.clusters.map((one) => [one.clusterId as string, one.role]));
  const incidents = new Incidents(bounds, {
    roleOf: (clusterId) => roles.get(clusterId),
    clusterOf: (serverId) => clusterOf.get(serverId)?.clusterId,
  });
  const cores = { ...productionCores, ...options.cores };
  const addressOf = new Map(
    topology.clusters.flatMap(({ servers }) => servers.map((one) => [one.serverId as string, one.address])),
  );
  const origins = [...new Set([...originsOf.values()].flat())].sort();
  const policy = policyOver(origins.map((serverId) => [serverId, addressOf.get(serverId) ?? ""]));
  const stage: Stage = {
    queue,
    network: new Network(links, random.split("network")),
    trace,
    random,
    cores,
    settings,
    hosts: new Map(),
    topology,
    properties: served,
    catalog: new Catalog(served, settings.objectsPerProperty),
    bounds,
    judge: new Judge((violation) => trace.note(violation.at, "judge", `broken: ${violation.invariant}`)),
    incidents,
    statistics: new Statistics(),
    clusterOf,
    originOf,
    originsOf,
    policy,
    testAgents: new Set<string>([
      ...topology.clusters.flatMap(({ role, servers }) =>
        role === "nameserver" ? servers.map(({ serverId }) => serverId) : [],
      ),
      ...cores.edgeAgentsOf(policy.policyId, topology),
    ]),
  };
  const cast = makeCast(stage, world, plan, isReversed);
  const faults =
    options.faults ??
    drawFaults(
      random.split("swarm"),
      targetsOf(
        topology,
        world.clients.map((one) => one.id),
        links,
        plan.control.clusterId,
        [...originsOf.values()].flat(),
        plan.mappers.map(({ mapperId }) => mapperId),
        cast.nameServers.some(({ isStandIn }) => isStandIn),
      ),
      {
        warmUpMs: settings.warmUpMs,
        endMs: (options.seconds ?? SECONDS_DEFAULT) * 1_000,
        kinds: options.kinds,
      },
    );
  for (const fault of faults) cast.injector.plan(fault);
  return { stage, cast, trace };
}

function checkWorld(topology: TopologyDocument, world: World, served: number): void {
  const lacks = (what: string): never => {
    throw new UnfitWorldError(`World "${world.name}" cannot be simulated: it has ${what}`);
  };
  const has = (role: string): boolean =>
    topology.clusters.some((one) => one.role === role && one.servers.length > 0);
  if (!has("edge")) lacks("no cluster of role edge");
  if (!has("nameserver")) lacks("no cluster of role nameserver");
  if (served === 0) lacks("no property with an origin among its clusters");
  if (world.clients.every((client) => client.demandPerSecond === 0)) lacks("no client network with demand");
}

/** Makes every actor. Their order does not matter: events are ordered by time and owner. */
function makeCast(
  stage: Stage,
  world: World,
  plan: AddressPlan,
  isReversed: boolean,
): Cast & { readonly injector: Injector } {
  const { topology, settings } = stage;
  const ordered = <T>(items: readonly T[]): readonly T[] => (isReversed ? items.toReversed() : items);
  const controlSite = plan.control.clusterId;
  const control = new ControlStore(new Host(stage, "control", controlSite));
  const programs: { readonly host: Host; readonly program: Program }[] = [
    { host: control.host, program: control },
  ];
  const nameServers: NameServer[] = [];
  const inputDelaySecondsOf = new Map(
    world.regions.flatMap(({ clusters }) => clusters).map((one) => [one.id as string, one.inputDelaySeconds]),
  );
  const edges = new Map<string, Edge>();
  const origins = new Map<string, Origin>();
  const followers = new Map<string, DocumentFollower>();
  for (const cluster of ordered(topology.clusters))
    for (const { serverId } of ordered(cluster.servers)) {
      const host = new Host(stage, serverId, cluster.clusterId);
      if (cluster.role === "edge" || cluster.role === "parent") {
        const edge = new Edge(stage, host, control, edges, origins);
        edges.set(serverId, edge);
        followers.set(serverId, edge.follower);
        programs.push({ host, program: edge });
      } else if (cluster.role === "nameserver") {
        const delaySeconds = inputDelaySecondsOf.get(cluster.clusterId);
        const late = delaySeconds !== undefined && {
          delayMs: delaySeconds * 1_000,
          others: () => nameServers.filter((one) => one.host !== host),
        };
        const nameServer = new NameServer(stage, host, control, late || undefined);
        nameServers.push(nameServer);
        followers.set(serverId, nameServer.follower);
        programs.push({ host, program: nameServer });
      } else if (cluster.role === "origin") {
        const origin = new Origin(stage, host);
        origins.set(serverId, origin);
        programs.push({ host, program: origin });
      }
      // A relay has no memory that matters here: it forwards while its host serves.
      else programs.push({ host, program: { start: () => {} } });
    }
  nameServers.sort((a, b) => (a.host.id < b.host.id ? -1 : 1));
  const networks: ClientNetworkInput[] = world.clients.map((client) => ({
    clientNetworkId: client.id,
    prefixes: client.prefixes,
    coordinates: client.coordinates,
    demandPerSecond: client.demandPerSecond,
  }));
  const mappers = plan.mappers.map(
    ({ mapperId, clusterId }) => new Mapper(stage, new Host(stage, mapperId, clusterId), control, networks),
  );
  for (const mapper of mappers) programs.push({ host: mapper.host, program: mapper });
  const operator = new Operator(stage, new Host(stage, "operator", controlSite), control);
  programs.push({ host: operator.host, program: operator });
  const demand = world.clients.reduce((sum, client) => sum + client.demandPerSecond, 0);
  for (const client of ordered(world.clients)) {
    const host = new Host(stage, `client/${client.id}`, client.id);
    const requestsPerSecond = (settings.requestsPerSecond * client.demandPerSecond) / demand;
    programs.push({
      host,
      program: new Client({
        stage,
        host,
        address: addressIn(client.prefixes),
        nameServers,
        edges,
        requestsPerSecond,
      }),
    });
  }
  // What an operator would have pushed before anything runs.
  control.put("topology", "world", topology, 0);
  for (const property of stage.properties) control.put("property", property.propertyId, property, 0);
  for (const { host, program } of ordered(programs)) host.run(program);
  return {
    control,
    mappers,
    nameServers,
    edges,
    injector: new Injector(stage, control, origins, followers, nameServers),
  };
}

/** What keeps the system from having converged; undefined: nothing. */
function lacking(
  stage: Stage,
  { control, mappers, nameServers, edges }: Cast,
  mapAtHeal: Fence | undefined,
): string | undefined {
  const edgeServers = stage.topology.clusters
    .filter((one) => one.role === "edge")
    .flatMap((one) => one.servers.map((server) => server.serverId));
  const down = [...stage.hosts.values()].find((host) => !host.isServing);
  if (down !== undefined) return `${down.id} does not run`;
  const active = control.active();
  const inForce = active.find(({ kind }) => kind === "map")?.body as MapSnapshot | undefined;
  if (Object.values(inForce?.suspended ?? {}).some(Boolean)) return "the map suspends clusters";
  const isOld = (map: Fence | undefined): boolean =>
    map === undefined || (mapAtHeal !== undefined && compareFences(map, mapAtHeal) <= 0);
  if (isOld(fenceOf("map", inForce))) return "no map has been published since";
  const publishers = mappers.filter(({ election }) => election.state === "publisher");
  if (publishers.length !== 1 || publishers[0]?.host.id !== control.publisherId)
    return `the publisher is ${control.publisherId}, and ${publishers.map(({ host }) => host.id).join(" and ")} take themselves for it`;
  for (const nameServer of nameServers) {
    const id = edgeServers.find((one: ServerId) => !nameServer.isUp(one));
    if (id !== undefined) return `${nameServer.host.id} takes ${id} for down`;
    if (nameServer.isStandIn) {
      if (nameServer.givesAddresses) return `${nameServer.host.id} stands in for the others`;
    } else if (isOld(nameServer.mapInForce)) return `${nameServer.host.id} has a map of before`;
  }
  const followers = [
    // Who takes documents late has those of before.
    ...nameServers
      .filter(({ isStandIn }) => !isStandIn)
      .map(({ host, follower }) => ({ id: host.id, follower })),
    ...[...edges.values()].map(({ host, follower }) => ({ id: host.id, follower })),
  ];
  for (const { id, follower } of followers)
    for (const entry of active) {
      // A map comes every few seconds and may be under way.
      if (entry.kind !== "map" && follower.seqOf(`${entry.kind}/${entry.id}`) !== entry.seq)
        return `${id} lacks ${entry.kind}/${entry.id} of seq ${entry.seq}`;
    }
  for (const edge of edges.values())
    if (edge.generation < control.newestPurgeSeq)
      return `${edge.host.id} has applied purge ${edge.generation} of ${control.newestPurgeSeq}`;
  return undefined;
}
