import Counter from "prom-client/lib/counter.js";
import Gauge from "prom-client/lib/gauge.js";
import Registry from "prom-client/lib/registry.js";
import { collectProcessMetrics } from "#kit/io";
import type { NodeAuthority } from "./node-authority.ts";
import type { ControlService } from "./service.ts";

/** Prometheus text of one control process. The numbers live in the service; they are read when asked for. */
export function metricsOf(service: ControlService, authority: NodeAuthority | undefined): Registry {
  const registry = new Registry();
  collectProcessMetrics(registry);
  const gauge = (name: string, help: string, value: () => number) => {
    const metric: Gauge = new Gauge({
      name: `isochrone_control_${name}`,
      help,
      registers: [registry],
      collect: () => metric.set(value()),
    });
  };
  const counter = (
    name: string,
    help: string,
    label: string,
    values: () => Readonly<Record<string, number>>,
  ) => {
    const metric: Counter = new Counter({
      name: `isochrone_control_${name}_total`,
      help,
      labelNames: [label],
      registers: [registry],
      collect: () => {
        metric.reset();
        for (const [name, value] of Object.entries(values())) metric.inc({ [label]: name }, value);
      },
    });
  };
  gauge("watchers", "Watch streams open", () => service.hub.watcherCount);
  gauge("reports", "Servers that reported of late", () => service.board.size);
  gauge("purges_open", "Purges waiting for acknowledgements", () => service.ledger.openCount);
  gauge("log_seq", "Newest place in the log", () => service.store.bounds().newestSeq);
  counter("changes", "Changes by outcome", "outcome", () => service.counters);
  counter(
    "leases",
    "Requests for the publisher's lease by outcome",
    "outcome",
    () => service.publishers.counters,
  );
  counter("key_rolls", "Steps that keys of signed zones took", "step", () => service.keys.counters);
  counter("rollouts", "Roll-outs by what became of them", "outcome", () => service.rollouts.counters);
  gauge("rollouts_running", "Roll-outs under way", () => service.rollouts.runningCount);
  counter(
    "map_deliveries",
    "Maps fetched by reference, and their bytes",
    "what",
    () => service.deliveries.counters,
  );
  if (authority !== undefined)
    counter(
      "node_certificates",
      "Requests of servers for their certificates by outcome",
      "outcome",
      () => authority.counters,
    );
  gauge("map_term", "Newest term of the map's publisher", () => service.publishers.leases()[0]?.term ?? 0);
  gauge("map_lease_held", "1 while a publisher of the map is elected", () =>
    typeof service.publishers.leases()[0]?.holderId === "string" ? 1 : 0,
  );
  counter("watch", "Watch streams and lines by what became of them", "outcome", () => service.hub.counters);
  counter("purges", "Purges and their acknowledgements by outcome", "outcome", () => service.ledger.counters);
  return registry;
}
