/** What every process tells of itself: the default metrics of prom-client, by its names. */
import { createRequire } from "node:module";
import type { DefaultMetricsCollectorConfiguration, Registry, RegistryContentType } from "prom-client";
import Counter from "prom-client/lib/counter.js";

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
  "gc",
];
type Collect = (
  registry: Registry,
  config: DefaultMetricsCollectorConfiguration<RegistryContentType>,
) => void;
/** How often the event loop's lag is sampled, in milliseconds: the package's default. */
const LAG_SAMPLE_MS = 10;

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
}
