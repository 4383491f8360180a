/** What every process tells of itself: the default metrics of prom-client, by its names. */
import type { Registry } from "prom-client";
import Counter from "prom-client/lib/counter.js";
import processStartTime from "prom-client/lib/metrics/processStartTime.js";
import osMemoryHeap from "prom-client/lib/metrics/osMemoryHeap.js";
import processOpenFileDescriptors from "prom-client/lib/metrics/processOpenFileDescriptors.js";
import processMaxFileDescriptors from "prom-client/lib/metrics/processMaxFileDescriptors.js";
import eventLoopLag from "prom-client/lib/metrics/eventLoopLag.js";
import processResources from "prom-client/lib/metrics/processResources.js";
import processHandles from "prom-client/lib/metrics/processHandles.js";
import processRequests from "prom-client/lib/metrics/processRequests.js";
import heapSizeAndUsed from "prom-client/lib/metrics/heapSizeAndUsed.js";
import heapSpacesSizeAndUsed from "prom-client/lib/metrics/heapSpacesSizeAndUsed.js";
import version from "prom-client/lib/metrics/version.js";
import gc from "prom-client/lib/metrics/gc.js";

const GROUPS = [
  processStartTime,
  osMemoryHeap,
  processOpenFileDescriptors,
  processMaxFileDescriptors,
  eventLoopLag,
  processResources,
  processHandles,
  processRequests,
  heapSizeAndUsed,
  heapSpacesSizeAndUsed,
  version,
  gc,
];
/** How often the event loop's lag is sampled, in milliseconds: the package's default. */
const LAG_SAMPLE_MS = 10;

/** Adds them to `registry`. The CPU's three are made here: the package's load OpenTelemetry. */
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
  for (const collect of GROUPS) collect(registry, { eventLoopMonitoringPrecision: LAG_SAMPLE_MS });
}
