/**
 * A name server's supply without a deployment: documents that follow from a world file, and a map that the production
 * engine makes, in this process, from noisy samples of the world's links. Nothing that decides reads the links themselves.
 */
import { type EpochMs, epochMs, type MapSnapshot, type MonotonicMs, monotonicMs, plusMs, Random } from "#kit";
import { type Logger, readFileIfThere, systemClock } from "#kit/io";
import { parseWorld, planAddresses, propertiesOf, topologyOf, type World, WorldLinks } from "#kit/world";
import { MapEngine } from "../core/engine.ts";
import type { DnsContext } from "../core/dns/respond.ts";
import { OptionError } from "./dns-options.ts";
import { DnsState } from "./dns-state.ts";

/** A world of the size that the schema allows is far smaller; more is a mistake or an attack. */
const WORLD_BYTES_MAX = 16 * 1024 * 1024;
/** The addresses that `isochrone up` gives to the same world. */
const ADDRESSES = { loopback: "127.10", port: 8080, dnsPort: 5300 } as const;
/** Samples of each pair before the first map, and between two rounds of one sample each. */
const FIRST_SAMPLES = 5;
const SAMPLE_INTERVAL_MS = 1_000;
/** Queueing on the way: mean of the exponential addition, as a share of the round-trip time, and its floor. */
const QUEUEING_RATIO = 0.05;
const QUEUEING_MS_MIN = 0.2;

/** Throws {@link OptionError} when the file is missing, WorldError when it is wrong. */
export function readWorldFile(path: string): World {
  const data = readFileIfThere(path, WORLD_BYTES_MAX);
  if (data === undefined) {
    throw new OptionError(`--world: no file ${JSON.stringify(path)}; give the path of a world file`);
  }
  return parseWorld(data.toString("utf8"), path);
}

/** What probe agents at every edge cluster would see of every client network. */
class WorldProbes {
  readonly #world: World;
  readonly #links: WorldLinks;
  readonly #random: Random;
  readonly #edges: readonly World["regions"][number]["clusters"][number][];

  constructor(world: World) {
    this.#world = world;
    this.#links = new WorldLinks(world);
    this.#random = new Random(world.seed).split("dns-alone-probes");
    this.#edges = world.regions.flatMap((region) => region.clusters).filter(({ role }) => role === "edge");
  }

  /** One sample of every pair. */
  round(engine: MapEngine, at: MonotonicMs): void {
    for (const client of this.#world.clients) {
      for (const edge of this.#edges) {
        const { rttMs, lossRatio } = this.#links.between(client.id, edge.id);
        const queueingMs = this.#random.exponential(Math.max(QUEUEING_MS_MIN, rttMs * QUEUEING_RATIO));
        engine.handleSample({
          from: client.id,
          to: edge.id,
          rttMs: this.#random.chance(lossRatio) ? null : rttMs + queueingMs,
          at,
        });
      }
    }
  }
}

/** An engine that knows a world's topology and client networks, and its probes. Time is handed in. */
function engineOf(world: World, now: MonotonicMs, epochOf: (at: MonotonicMs) => EpochMs) {
  const plan = planAddresses(world, ADDRESSES);
  const topology = topologyOf(world, plan);
  const engine = new MapEngine({ epochOf });
  engine.handleTopology(topology, now);
  engine.handleClientNetworks(
    world.clients.map((client) => ({
      clientNetworkId: client.id,
      prefixes: client.prefixes,
      coordinates: client.coordinates,
      demandPerSecond: client.demandPerSecond,
    })),
    now,
  );
  return { engine, probes: new WorldProbes(world), topology, properties: propertiesOf(world, plan) };
}

/** The newest snapshot that the engine has made. */
function takeSnapshot(engine: MapEngine): MapSnapshot | undefined {
  let newest: MapSnapshot | undefined;
  for (let event = engine.pollEvent(); event !== undefined; event = engine.pollEvent()) {
    if (event.type === "snapshot") newest = event.snapshot;
  }
  return newest;
}

/** Keeps a {@link DnsState} supplied from a world. */
export class AloneMap {
  readonly #state: DnsState;
  readonly #logger: Logger;
  readonly #engine: MapEngine;
  readonly #probes: WorldProbes;
  #sampleTimer: NodeJS.Timeout | undefined;
  #mapTimer: NodeJS.Timeout | undefined;

  /** Topology and properties are in force at once; the map from {@link start} on. */
  constructor(world: World, state: DnsState, logger: Logger) {
    this.#state = state;
    this.#logger = logger;
    const offsetMs = systemClock.epoch() - systemClock.monotonic();
    const { engine, probes, topology, properties } = engineOf(world, systemClock.monotonic(), (at) =>
      epochMs(at + offsetMs),
    );
    this.#engine = engine;
    this.#probes = probes;
    state.setTopology(topology, 1);
    for (const property of properties) state.setProperty(property, 1);
  }

  /** Makes the first map before it returns, then a new one each cycle. */
  start(): void {
    for (let n = 0; n < FIRST_SAMPLES; n++) this.#probes.round(this.#engine, systemClock.monotonic());
    this.#sampleTimer = setInterval(
      () => this.#probes.round(this.#engine, systemClock.monotonic()),
      SAMPLE_INTERVAL_MS,
    );
    this.#turn();
  }

  close(): void {
    clearInterval(this.#sampleTimer);
    clearTimeout(this.#mapTimer);
  }

  #turn(): void {
    const now = systemClock.monotonic();
    this.#engine.handleTimeout(now);
    const snapshot = takeSnapshot(this.#engine);
    if (snapshot !== undefined) {
      this.#state.setMap(snapshot);
      this.#logger.debug("map-applied", { mapVersion: snapshot.mapVersion, reason: snapshot.reason });
    }
    const dueAt = this.#engine.pollTimeout();
    if (dueAt === undefined) return;
    const waitMs = Math.max(1, Math.ceil(dueAt - systemClock.monotonic()));
    this.#mapTimer = setTimeout(() => this.#turn(), waitMs);
  }
}

/**
 * What a name server that had just measured this world would answer from; every server is taken to be up.
 */
export function measuredContext(world: World): DnsContext | undefined {
  const start = monotonicMs(0);
  const { engine, probes, topology, properties } = engineOf(world, start, () => systemClock.epoch());
  for (let n = 0; n < FIRST_SAMPLES; n++) probes.round(engine, plusMs(start, n * SAMPLE_INTERVAL_MS));
  const state = new DnsState(() => true);
  state.setTopology(topology, 1);
  for (const property of properties) state.setProperty(property, 1);
  engine.handleTimeout(plusMs(start, FIRST_SAMPLES * SAMPLE_INTERVAL_MS));
  const snapshot = takeSnapshot(engine);
  if (snapshot !== undefined) state.setMap(snapshot);
  return state.context();
}
