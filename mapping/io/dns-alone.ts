/**
 * A name server's supply without a deployment: documents that follow from a world file, and a map that the production
 * engine makes, in this process, from noisy samples of the world's links. Nothing that decides reads the links themselves.
 */
import { type EpochMs, epochMs, type MapSnapshot, type MonotonicMs, monotonicMs, plusMs } from "#kit";
import { type Logger, systemClock } from "#kit/io";
import { planAddresses, propertiesOf, topologyOf, type World, WorldLinks } from "#kit/world";
import { MapEngine } from "../core/engine.ts";
import type { DnsContext } from "../core/dns/decision.ts";
import { DnsState } from "./dns-state.ts";
import { clientNetworksOf, MeasurementFeed } from "./feed.ts";

/** The addresses that `isochrone up` gives to the same world. */
const ADDRESSES = { loopback: "127.10", port: 8080, dnsPort: 5300 } as const;
/** How often due samples are taken and the engine is asked for a map. */
const TICK_INTERVAL_MS = 200;
/** How much measuring goes into the map of one question. */
const QUESTION_TICKS = 50;

/** An engine that knows a world's topology and client networks, and what feeds it. Time is handed in. */
function engineOf(world: World, now: MonotonicMs, epochOf: (at: MonotonicMs) => EpochMs) {
  const plan = planAddresses(world, ADDRESSES);
  const topology = topologyOf(world, plan);
  const engine = new MapEngine({ epochOf });
  engine.handleTopology(topology, now);
  engine.handleClientNetworks(clientNetworksOf(world), now);
  const feed = new MeasurementFeed({ world, links: new WorldLinks(world) });
  // The warm-up: the first map rests on measurements.
  for (const sample of feed.poll(now)) engine.handleSample(sample);
  return { engine, feed, topology, properties: propertiesOf(world, plan) };
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
  readonly #feed: MeasurementFeed;
  #timer: NodeJS.Timeout | undefined;

  /** Topology and properties are in force at once; the map from {@link start} on. */
  constructor(world: World, state: DnsState, logger: Logger) {
    this.#state = state;
    this.#logger = logger;
    const offsetMs = systemClock.epoch() - systemClock.monotonic();
    const { engine, feed, topology, properties } = engineOf(world, systemClock.monotonic(), (at) =>
      epochMs(at + offsetMs),
    );
    this.#engine = engine;
    this.#feed = feed;
    state.setTopology(topology, 1);
    for (const property of properties) state.setProperty(property, 1);
  }

  /** Makes the first map before it returns, then a new one each cycle. */
  start(): void {
    this.#tick();
    this.#timer = setInterval(() => this.#tick(), TICK_INTERVAL_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const now = systemClock.monotonic();
    for (const sample of this.#feed.poll(now)) this.#engine.handleSample(sample);
    this.#engine.handleTimeout(now);
    const snapshot = takeSnapshot(this.#engine);
    if (snapshot === undefined) return;
    this.#state.setMap(snapshot);
    this.#logger.debug("map-applied", { mapVersion: snapshot.mapVersion, reason: snapshot.reason });
  }
}

/**
 * What a name server that had just measured this world would answer from; every server is taken to be up.
 */
export function measuredContext(world: World): DnsContext | undefined {
  const start = monotonicMs(0);
  const { engine, feed, topology, properties } = engineOf(world, start, () => systemClock.epoch());
  let now = start;
  for (let n = 0; n < QUESTION_TICKS; n++) {
    now = plusMs(now, TICK_INTERVAL_MS);
    for (const sample of feed.poll(now)) engine.handleSample(sample);
  }
  engine.handleTimeout(now);
  const state = new DnsState(() => true);
  state.setTopology(topology, 1);
  for (const property of properties) state.setProperty(property, 1);
  const snapshot = takeSnapshot(engine);
  if (snapshot !== undefined) state.setMap(snapshot);
  return state.context();
}
