/** The portal's metrics, as Prometheus reads them. Labels come from closed lists: route patterns, methods, results. */
import Counter from "prom-client/lib/counter.js";
import Gauge from "prom-client/lib/gauge.js";
import Histogram from "prom-client/lib/histogram.js";
import Registry from "prom-client/lib/registry.js";
import { collectProcessMetrics } from "#kit/io";
import type { SessionTable } from "../core/session-table.ts";
import type { Hub } from "./hub.ts";

const loginResults = ["accepted", "refused", "limited", "busy"] as const;

export class PortalMetrics {
  readonly registry = new Registry();
  readonly requests = new Counter({
    name: "isochrone_portal_requests_total",
    help: "Requests answered, by route and status",
    labelNames: ["route", "method", "status"] as const,
    registers: [this.registry],
  });
  readonly seconds = new Histogram({
    name: "isochrone_portal_request_seconds",
    help: "Time to the end of the answer, streams left out",
    labelNames: ["route"] as const,
    buckets: [0.002, 0.01, 0.05, 0.2, 1, 5],
    registers: [this.registry],
  });
  readonly logins = new Counter({
    name: "isochrone_portal_logins_total",
    help: "Log-ins, by result",
    labelNames: ["result"] as const,
    registers: [this.registry],
  });
  readonly purges = new Gauge({
    name: "isochrone_portal_purges_running",
    help: "Purges whose progress is being followed",
    registers: [this.registry],
  });

  constructor() {
    collectProcessMetrics(this.registry);
    for (const result of loginResults) this.logins.inc({ result }, 0);
  }

  /** Gauges that are read when somebody asks. */
  observe(hub: Hub, sessions: SessionTable): void {
    const gauge = (name: string, help: string, read: () => number): void => {
      const made: Gauge = new Gauge({
        name,
        help,
        registers: [this.registry],
        collect: () => made.set(read()),
      });
    };
    gauge("isochrone_portal_sessions", "Sessions that are open", () => sessions.size);
    gauge(
      "isochrone_portal_sessions_displaced",
      "Sessions that gave way at a limit",
      () => sessions.ended.displaced,
    );
    gauge("isochrone_portal_streams", "Live pages", () => hub.streams);
    gauge(
      "isochrone_portal_stream_skips",
      "States left out for pages that read too slowly",
      () => hub.counters.slowSkips,
    );
    gauge("isochrone_portal_reports", "Server reports taken", () => hub.counters.reports);
    gauge("isochrone_portal_graphs", "Properties with a graph", () => hub.fleet.ledger.counters.graphs);
    gauge(
      "isochrone_portal_ledger_ignored",
      "Counters left out at a limit",
      () => hub.fleet.ledger.counters.ignored,
    );
    gauge(
      "isochrone_portal_ledger_resets",
      "Counter resets seen in reports",
      () => hub.fleet.ledger.counters.resets,
    );
  }
}
