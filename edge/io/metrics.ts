/** What the edge counts. No label ever holds a URL, a host or an address: each label's values are a closed list. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { NotSlicedReason } from "../core/slices.ts";
import type { NotStoredReason } from "../core/storable.ts";
import type { Outcome } from "./exchange.ts";

/** Why a request was refused before it reached the cache. */
export type RefusedReason =
  | "malformed"
  | "version"
  | "host"
  | "method"
  | "target"
  | "framing"
  | "expectation"
  | "header-fields"
  | "overload"
  | "unknown-host"
  | "loop";

export class EdgeMetrics {
  readonly registry = new Registry();
  readonly #requests = this.#counter("requests_total", "Requests answered, by how", [
    "outcome",
    "status_class",
  ]);
  readonly #refused = this.#counter("refused_total", "Requests refused before the cache", ["reason"]);
  readonly #notStored = this.#counter("not_stored_total", "Answers that were not stored, by reason", [
    "reason",
  ]);
  readonly #slices = this.#counter("slices_total", "Slices of large objects, by what became of them", [
    "result",
  ]);
  readonly #upstream = this.#counter("upstream_requests_total", "Requests to the next hop", [
    "hop",
    "result",
  ]);
  readonly #bytesDown = this.#counter("bytes_down_total", "Content bytes sent to clients", []);
  readonly #purged = this.#counter("purges_total", "Purges applied", ["mode"]);
  readonly #prefetch = this.#counter("prefetch_total", "Objects that pages named, by what became of them", [
    "result",
  ]);
  readonly #duration = new Histogram({
    name: "isochrone_edge_request_seconds",
    help: "From the request's head to the end of its answer",
    labelNames: ["outcome"],
    buckets: [0.001, 0.005, 0.02, 0.1, 0.3, 1, 3, 10, 60],
    registers: [this.registry],
  });

  #counter(name: string, help: string, labelNames: readonly string[]): Counter {
    return new Counter({
      name: `isochrone_edge_${name}`,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
    });
  }

  /** A gauge that is read when metrics are asked for. */
  gauge(name: string, help: string, read: () => number): void {
    const gauge: Gauge = new Gauge({
      name: `isochrone_edge_${name}`,
      help,
      registers: [this.registry],
      collect: () => {
        gauge.set(read());
      },
    });
  }

  request(outcome: Outcome, status: number, seconds: number, bytesDown: number): void {
    this.#requests.inc({ outcome, status_class: `${Math.floor(status / 100)}xx` });
    this.#duration.observe({ outcome }, seconds);
    this.#bytesDown.inc(bytesDown);
  }
  refused(reason: RefusedReason): void {
    this.#refused.inc({ reason });
  }
  notStored(reason: NotStoredReason | NotSlicedReason): void {
    this.#notStored.inc({ reason });
  }
  /** `streamed`: cut from an answer that brought more than it. */
  slice(result: "fetched" | "streamed" | "changed" | "rangeless" | "failed"): void {
    this.#slices.inc({ result });
  }
  upstream(hop: "owner" | "parent" | "origin", result: "response" | "failure"): void {
    this.#upstream.inc({ hop, result });
  }
  purge(mode: "soft" | "hard"): void {
    this.#purged.inc({ mode });
  }
  prefetch(result: "asked" | "stored-already" | "queue-full" | "failed"): void {
    this.#prefetch.inc({ result });
  }
}
