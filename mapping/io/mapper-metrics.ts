/** The mapper's metrics in Prometheus text; read when they are scraped. Labels come from closed lists, and clusters. */
import { type PlacementReason, placementReasons, trafficClasses } from "#kit";
import type { CounterConfiguration } from "prom-client";
import Counter from "prom-client/lib/counter.js";
import Gauge from "prom-client/lib/gauge.js";
import Registry from "prom-client/lib/registry.js";
import { collectProcessMetrics } from "#kit/io";
import { electionStates } from "../core/publisher-election.ts";
import type { Mapper } from "./mapper.ts";

type Add<L extends string> = (labels: Record<L, string>, value: number) => void;
/** Both begin at 0 and count what they are told of at a scrape. */
type MetricKind = new (configuration: CounterConfiguration<string>) => Counter | Gauge;

export function mapperMetrics(mapper: Mapper): Registry {
  const registry = new Registry();
  collectProcessMetrics(registry);
  const gauge = (name: string, help: string, read: () => number): void => {
    const one: Gauge = new Gauge({ name, help, registers: [registry], collect: () => one.set(read()) });
  };
  const { engine, publisher, prober, store, lease } = mapper;
  gauge("isochrone_map_version", "Version of the newest snapshot", () => engine.snapshot?.mapVersion ?? 0);
  gauge("isochrone_map_created_seconds", "When the newest snapshot was made, epoch seconds", () =>
    Math.round((engine.snapshot?.createdAtEpochMs ?? 0) / 1_000),
  );
  gauge("isochrone_mapper_pairs", "Pairs with measurements", () => engine.estimator.size);
  gauge(
    "isochrone_mapper_series",
    "Pairs by who measures them and how, of which measurements are kept",
    () => store.seriesCount,
  );
  gauge("isochrone_mapper_store_bytes", "What the kept measurements take", () => store.bytes);
  gauge("isochrone_mapper_resolvers", "Resolvers of which clients are known", () => engine.resolvers.size);
  gauge("isochrone_mapper_links", "Links that servers report", () => engine.links.size);
  gauge("isochrone_mapper_servers_up", "Servers that answer probes", () => prober.counts.up);
  gauge("isochrone_mapper_servers_probed", "Servers that are probed", () => prober.counts.probed);
  gauge("isochrone_mapper_control_connected", "1 while control can be reached", () =>
    mapper.client.state === "connected" ? 1 : 0,
  );
  const labelled =
    (Kind: MetricKind) =>
    <L extends string>(
      name: string,
      help: string,
      labelNames: readonly L[],
      read: (add: Add<L>) => void,
    ): void => {
      const one = new Kind({
        name,
        help,
        labelNames: [...labelNames],
        registers: [registry],
        collect: () => {
          one.reset();
          read((labels, value) => one.inc(labels, value));
        },
      });
    };
  const counter = labelled(Counter);
  const gauges = labelled(Gauge);
  counter(
    "isochrone_mapper_events_total",
    "What the engine and the publisher counted, by part and event",
    ["part", "event"],
    (add) => {
      for (const [part, counters] of Object.entries({
        engine: engine.counters,
        estimator: engine.estimator.counters,
        links: engine.links.counters,
        measurements: store.counters,
        "measurements-file": mapper.measurements.counters,
        resolvers: engine.resolvers.counters,
        "resolvers-file": mapper.resolvers.counters,
        publisher: publisher.counters,
        election: lease.election.counters,
        probes: mapper.planning.schedule.counters,
        timings: mapper.timingQuota.counters,
        names: mapper.namePairs.counters,
        documents: mapper.keeper.counters,
      }))
        for (const [event, count] of Object.entries(counters)) add({ part, event }, count);
    },
  );
  counter(
    "isochrone_map_refused_total",
    "Snapshots of this mapper that were absurd and not published, by reason",
    ["reason"],
    (add) => mapper.refusedByReason.forEach((count, reason) => add({ reason }, count)),
  );
  counter("isochrone_mapper_samples_total", "Measurements taken, by source", ["source"], (add) =>
    mapper.samplesBySource.forEach((count, source) => add({ source }, count)),
  );
  counter("isochrone_mapper_solver_cpu_seconds_total", "CPU time of making snapshots", [], (add) =>
    add({}, mapper.solverCpuSeconds),
  );
  gauges("isochrone_mapper_election", "1 for the state that this mapper is in", ["state"], (add) => {
    for (const state of electionStates) add({ state }, Number(state === lease.election.state));
  });
  gauge("isochrone_map_term", "Term of the map in force", () => mapper.inForce?.publication?.term ?? 0);
  gauge(
    "isochrone_mapper_unsaved_samples",
    "Measurements that are not on the disk yet",
    () => mapper.measurements.unsaved,
  );
  gauge(
    "isochrone_probe_agents",
    "Clusters whose probe agent asks for its plan",
    () => mapper.planning.agentsAlive,
  );
  gauge(
    "isochrone_map_age_seconds",
    "Age of the map in force; NaN: there is none",
    () => mapper.inForceAgeSeconds() ?? Number.NaN,
  );
  gauges(
    "isochrone_map_servers",
    "Servers by the map that they go by: the one in force, an older one, none",
    ["map"],
    (add) => {
      for (const [map, count] of Object.entries(mapper.mapsOfServers())) add({ map }, count);
    },
  );
  gauges(
    "isochrone_map_placements",
    "Client networks of the newest snapshot by class and by why they are sent where they are",
    ["class", "reason"],
    (add) => {
      for (const [k, trafficClass] of trafficClasses.entries())
        for (const [reason, count] of placementsOf(mapper, k)) add({ class: trafficClass, reason }, count);
    },
  );
  gauges(
    "isochrone_cluster_allocated_load",
    "Demand over capacity in the newest snapshot",
    ["cluster"],
    (add) => engine.load.forEach((value, cluster) => add({ cluster }, value)),
  );
  return registry;
}

function placementsOf({ engine }: Mapper, k: number): ReadonlyMap<PlacementReason, number> {
  const counts = new Map<PlacementReason, number>();
  if (engine.snapshot === undefined) return counts;
  const { networks, parts } = engine.snapshot.clusterMap.table();
  const byCode = placementReasons.map(() => 0);
  for (let n = 0; n < networks.size; n++) {
    const code = parts.placements.reasons[n * trafficClasses.length + k] as number;
    byCode[code] = (byCode[code] ?? 0) + 1;
  }
  for (const [code, count] of byCode.entries())
    if (count > 0) counts.set(placementReasons[code] ?? "unknown", count);
  return counts;
}
