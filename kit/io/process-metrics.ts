/** What every process tells of itself: the default metrics of prom-client, by its names. */
import { createRequire } from "node:module";
import {
  constants,
  type NodeGCPerformanceDetail,
  type PerformanceEntry,
  PerformanceObserver,
} from "node:perf_hooks";
import type { DefaultMetricsCollectorConfiguration, Registry, RegistryContentType } from "prom-client";
import Counter from "prom-client/lib/counter.js";
import Histogram from "prom-client/lib/histogram.js";

const GROUPS = [
  "processStartTime",
  "osMemoryHeap",
  "processOpenFileDescriptors",
  "processMaxFileDescriptors",
  "eventLoopLag",
  "processResources",
  "processHandles",
  "processRequests",
  "heapSizeAndUsed",
  "heapSpacesSizeAndUsed",
  "version",
];
type Collect = (
  registry: Registry,
  config: DefaultMetricsCollectorConfiguration<RegistryContentType>,
) => void;
/** How often the event loop's lag is sampled, in milliseconds: the package's default. */
const LAG_SAMPLE_MS = 10;

type GarbageEntry = PerformanceEntry & { readonly detail: NodeGCPerformanceDetail };

const COLLECTIONS = new Map([
  [constants.NODE_PERFORMANCE_GC_MAJOR, "major"],
  [constants.NODE_PERFORMANCE_GC_MINOR, "minor"],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, "incremental"],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, "weakcb"],
]);
/** Of this process: one for all registries. */
let collections: Histogram | undefined;

/**
 * Adds `nodejs_gc_duration_seconds` alone: a tenth of a millisecond for each collection, and no timer. The package's own counts the first
 * of those that come together.
 */
export function collectGarbageMetrics(registry: Registry): void {
  if (collections === undefined) {
    const histogram = new Histogram({
      name: "nodejs_gc_duration_seconds",
      help: "Garbage collection duration by kind, one of major, minor, incremental or weakcb.",
      labelNames: ["kind"],
      buckets: [0.001, 0.01, 0.1, 1, 2, 5],
      registers: [],
    });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as unknown as readonly GarbageEntry[]) {
        const kind = COLLECTIONS.get(entry.detail.kind ?? 0);
        if (kind !== undefined) histogram.observe({ kind }, entry.duration / 1_000);
      }
    }).observe({ entryTypes: ["gc"] });
    collections = histogram;
  }
  registry.registerMetric(collections);
}

/** Adds them to `registry`, and loads them now: only what serves metrics pays for them. The CPU's three are made here: the package's load OpenTelemetry. */
export function collectProcessMetrics(registry: Registry): void {
  const counterOf = (name: string, help: string, collect?: () => void): Counter =>
    new Counter({ name, help, registers: [registry], ...(collect === undefined ? {} : { collect }) });
  let before = process.cpuUsage();
  const user = counterOf("process_cpu_user_seconds_total", "Total user CPU time spent in seconds.", () => {
    const now = process.cpuUsage();
    const userSeconds = (now.user - before.user) / 1e6;
    const systemSeconds = (now.system - before.system) / 1e6;
    before = now;
    user.inc(userSeconds);
    system.inc(systemSeconds);
    total.inc(userSeconds + systemSeconds);
  });
  const system = counterOf("process_cpu_system_seconds_total", "Total system CPU time spent in seconds.");
  const total = counterOf("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.");
  const require = createRequire(import.meta.url);
  for (const group of GROUPS) {
    const collect: Collect = require(`prom-client/lib/metrics/${group}.js`);
    collect(registry, { eventLoopMonitoringPrecision: LAG_SAMPLE_MS });
  }
  collectGarbageMetrics(registry);
}
