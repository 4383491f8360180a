/** What the edge counts. No label ever holds a URL, a host or an address: each label's values are a closed list. */
import type { Metric } from "prom-client";
import Counter from "prom-client/lib/counter.js";
import Gauge from "prom-client/lib/gauge.js";
import Registry from "prom-client/lib/registry.js";
import type { PrefetchKind } from "#kit";
import type { TokenRefusal } from "../core/access/token.ts";
import type { SuppressReason } from "../core/prefetch/ledger.ts";
import type { Coding, DictionaryCoding } from "../core/compression/accept-encoding.ts";
import type { HandOverReason } from "../core/hand-over.ts";
import type { ShedReason } from "../core/overload/reasons.ts";
import type { NotSlicedReason } from "../core/slices.ts";
import type { NotStoredReason } from "../core/storable.ts";
import type { Outcome } from "./exchange.ts";
import type { NodeDocument } from "./node-control.ts";

type AnyCoding = Coding | DictionaryCoding | "identity";

/** How the making of a form of a stored content ended. */
type CodingResult = "done" | "copied" | "useless" | "gone" | "failed" | "queue-full";

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
  | "pipeline"
  | "connections"
  | "slow-head"
  | "slow-body"
  | "slow-reader"
  | "unknown-host"
  | "loop"
  /** A rule of the property denies it. */
  | "rule"
  /** It has no valid token, which a rule of the property requires. */
  | `token-${TokenRefusal}`;

/** Upper bounds of the buckets of request durations, seconds. */
const BUCKETS_SECONDS = [0.001, 0.005, 0.02, 0.1, 0.3, 1, 3, 10, 60] as const;

interface OutcomeCounts {
  /** Answers by the first digit of their status. */
  readonly byClass: Float64Array;
  /** Answers by duration: the first bucket that is not exceeded; the last one has no bound. */
  readonly buckets: Float64Array;
  seconds: number;
}

interface MetricRow {
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** A metric of the registry whose values are read when it is asked for. What the registry needs of one is `get`. */
function readMetric(
  name: string,
  help: string,
  type: "counter" | "histogram",
  read: () => readonly MetricRow[],
): Metric {
  const metric = {
    name,
    get: () => Promise.resolve({ name, help, type, values: read(), aggregator: "sum" }),
    reset: () => {},
  };
  return metric as unknown as Metric;
}

/** What came of tests of traffic policies' targets, which are the node's own, whoever of its processes serves. */
export function registerPolicyTests(
  registry: Pick<Registry, "registerMetric">,
  read: () => Readonly<Record<string, number>>,
): void {
  registry.registerMetric(
    readMetric(
      "isochrone_edge_policy_tests_total",
      "Tests of traffic policies' targets, by outcome",
      "counter",
      () => Object.entries(read()).map(([outcome, value]) => ({ labels: { outcome }, value })),
    ),
  );
}

export class EdgeMetrics {
  readonly registry = new Registry();
  readonly #refused = this.#counter("refused_total", "Requests refused before the cache", ["reason"]);
  readonly #handedOver = this.#counter(
    "handed_over_total",
    "Connections of HTTP/1.1 that node:http's parser took over, by what came",
    ["reason"],
  );
  readonly #shed = this.#counter("shed_total", "Requests that were not forwarded because of load", [
    "reason",
  ]);
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
  readonly #servedLate = this.#counter(
    "served_late_total",
    "Fills whose clients got what is stale because the next hop let them wait",
    [],
  );
  readonly #earlyHints = this.#counter("early_hints_total", "Interim answers 103 that were sent", []);
  readonly #documentsUnusable = this.#counter(
    "documents_unusable_total",
    "Documents kept from before that could not be put in force at the start",
    ["kind"],
  );
  readonly #purged = this.#counter("purges_total", "Purges applied", ["mode"]);
  readonly #coded = this.#counter(
    "coded_total",
    "Answers that went out in another coding than they are stored in, hits of rendered answers not counted; busy: they did not",
    ["coding", "how"],
  );
  readonly #codedBytes = this.#counter(
    "coded_bytes_total",
    "Content before and after compression: of answers as they went by, of stored contents once",
    ["how", "side"],
  );
  readonly #codingJobs = this.#counter(
    "coding_jobs_total",
    "Compressions of stored contents; copied: another worker has made it",
    ["coding", "result"],
  );
  readonly #decodingRefused = this.#counter(
    "decoding_refused_total",
    "Contents that were not decoded: too large for their length, or malformed",
    ["reason"],
  );
  readonly #prefetch = this.#counter(
    "prefetch_total",
    "Objects that were found to be needed next, by where and by what became of them",
    ["kind", "result"],
  );
  /** By outcome. Counted in plain numbers, since it is done for each request; Prometheus reads them when it asks. */
  readonly #outcomes = new Map<Outcome, OutcomeCounts>();
  #bytesDown = 0;

  constructor() {
    this.registry.registerMetric(
      readMetric("isochrone_edge_requests_total", "Requests answered, by how", "counter", () =>
        [...this.#outcomes].flatMap(([outcome, { byClass }]) =>
          [...byClass].flatMap((value, index) =>
            value === 0 ? [] : [{ labels: { outcome, status_class: `${index}xx` }, value }],
          ),
        ),
      ),
    );
    this.registry.registerMetric(
      readMetric("isochrone_edge_bytes_down_total", "Content bytes sent to clients", "counter", () => [
        { labels: {}, value: this.#bytesDown },
      ]),
    );
    const name = "isochrone_edge_request_seconds";
    this.registry.registerMetric(
      readMetric(name, "From the request's head to the end of its answer", "histogram", () =>
        [...this.#outcomes].flatMap(([outcome, { buckets, seconds }]) => {
          let count = 0;
          const rows = [...buckets].map((inBucket, index) => {
            count += inBucket;
            const le = BUCKETS_SECONDS[index] ?? "+Inf";
            return { metricName: `${name}_bucket`, labels: { le, outcome }, value: count };
          });
          return [
            ...rows,
            { metricName: `${name}_sum`, labels: { outcome }, value: seconds },
            { metricName: `${name}_count`, labels: { outcome }, value: count },
          ];
        }),
      ),
    );
  }

  readonly #beacons = this.#counter("beacon_total", "Beacons and timings of users, by what became of them", [
    "outcome",
  ]);

  beacon(outcome: string, count: number): void {
    this.#beacons.inc({ outcome }, count);
  }

  #counter(name: string, help: string, labelNames: readonly string[]): Counter {
    return new Counter({
      name: `isochrone_edge_${name}`,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
    });
  }

  /**
   * A gauge that is read when metrics are asked for. `ofWorkers`: what it is for a server of several, who each have a part (sum)
   * or each the same.
   */
  gauge(name: string, help: string, read: () => number, ofWorkers: "sum" | "min" | "max" = "sum"): void {
    const gauge: Gauge = new Gauge({
      name: `isochrone_edge_${name}`,
      help,
      registers: [this.registry],
      aggregator: ofWorkers,
      collect: () => {
        gauge.set(read());
      },
    });
  }

  /** A counter whose value is kept elsewhere and read when metrics are asked for; `name` ends in `_total`. */
  total(name: string, help: string, read: () => number): void {
    this.registry.registerMetric(
      readMetric(`isochrone_edge_${name}`, help, "counter", () => [{ labels: {}, value: read() }]),
    );
  }

  /** The same with a label: each of its values with what was counted for it. */
  totals(
    name: string,
    help: string,
    label: string,
    read: () => Iterable<readonly [value: string, count: number]>,
  ): void {
    this.registry.registerMetric(
      readMetric(`isochrone_edge_${name}`, help, "counter", () =>
        Array.from(read(), ([one, value]) => ({ labels: { [label]: one }, value })),
      ),
    );
  }

  /** A request was answered. On the hit path: no allocation. */
  request(outcome: Outcome, status: number, seconds: number, bytesDown: number): void {
    let counts = this.#outcomes.get(outcome);
    if (counts === undefined) {
      counts = {
        byClass: new Float64Array(10),
        buckets: new Float64Array(BUCKETS_SECONDS.length + 1),
        seconds: 0,
      };
      this.#outcomes.set(outcome, counts);
    }
    const statusClass = Math.floor(status / 100);
    counts.byClass[statusClass] = (counts.byClass[statusClass] ?? 0) + 1;
    let index = 0;
    while (index < BUCKETS_SECONDS.length && seconds > (BUCKETS_SECONDS[index] ?? 0)) index++;
    counts.buckets[index] = (counts.buckets[index] ?? 0) + 1;
    counts.seconds += seconds;
    this.#bytesDown += bytesDown;
  }
  refused(reason: RefusedReason): void {
    this.#refused.inc({ reason });
  }
  handedOver(reason: HandOverReason): void {
    this.#handedOver.inc({ reason });
  }
  shed(reason: ShedReason): void {
    this.#shed.inc({ reason });
  }
  notStored(reason: NotStoredReason | NotSlicedReason): void {
    this.#notStored.inc({ reason });
  }
  /** `streamed`: cut from an answer that brought more than it. */
  slice(result: "fetched" | "streamed" | "changed" | "rangeless" | "failed"): void {
    this.#slices.inc({ result });
  }
  upstream(
    hop: "owner" | "parent" | "origin",
    result: "response" | "failure" | "resumed" | "repeated",
  ): void {
    this.#upstream.inc({ hop, result });
  }
  servedLate(): void {
    this.#servedLate.inc();
  }
  purge(mode: "soft" | "hard"): void {
    this.#purged.inc({ mode });
  }
  coded(coding: AnyCoding, how: "kept" | "streamed" | "decoded" | "busy"): void {
    this.#coded.inc({ coding, how });
  }
  codedBytes(how: "stored" | "streamed", before: number, after: number): void {
    this.#codedBytes.inc({ how, side: "before" }, before);
    this.#codedBytes.inc({ how, side: "after" }, after);
  }
  codingJob(coding: AnyCoding, result: CodingResult): void {
    this.#codingJobs.inc({ coding, result });
  }
  decodingRefused(reason: "too-large" | "malformed"): void {
    this.#decodingRefused.inc({ reason });
  }
  documentUnusable(kind: NodeDocument["kind"]): void {
    this.#documentsUnusable.inc({ kind });
  }
  earlyHints(): void {
    this.#earlyHints.inc();
  }
  prefetch(
    kind: PrefetchKind,
    result: "asked" | "stored-already" | "failed" | "rule" | SuppressReason,
  ): void {
    this.#prefetch.inc({ kind, result });
  }
}
