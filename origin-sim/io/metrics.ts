import Counter from "prom-client/lib/counter.js";
import Gauge from "prom-client/lib/gauge.js";
import Registry from "prom-client/lib/registry.js";
import { collectProcessMetrics } from "#kit/io";

/** The origin's metrics. Labels come from closed lists only: kinds of content and fault, status codes. */
export class OriginMetrics {
  readonly registry = new Registry();
  readonly requests = new Counter({
    name: "isochrone_origin_requests_total",
    help: "Requests for content, by kind of content and status (0: cut off before a head).",
    labelNames: ["kind", "status"],
    registers: [this.registry],
  });
  readonly bodyBytes = new Counter({
    name: "isochrone_origin_body_bytes_total",
    help: "Body bytes sent.",
    registers: [this.registry],
  });
  readonly faults = new Counter({
    name: "isochrone_origin_faults_total",
    help: "Requests that met the fault in force, by its kind.",
    labelNames: ["kind"],
    registers: [this.registry],
  });
  readonly refused = new Counter({
    name: "isochrone_origin_refused_total",
    help: "Requests refused by a limit, by the limit's name.",
    labelNames: ["limit"],
    registers: [this.registry],
  });
  readonly held = new Gauge({
    name: "isochrone_origin_held_requests",
    help: "Requests that are delayed or hung now.",
    registers: [this.registry],
  });

  constructor() {
    collectProcessMetrics(this.registry);
  }
}
