import type { Run } from "../../bench/tools/measure.ts";

/** The machine of results in tests. */
export const sampleMachine = {
  cpu: "Test CPU",
  cores: 2,
  memoryBytes: 2 ** 30,
  kernel: "Linux 6",
  virtualization: "none",
  congestionControl: "cubic",
  node: "24",
};

/** A run of a load as the bench measures it, with what a test is about in place of plain figures. */
export function sampleRun(stated: Partial<Run> & Pick<Run, "server" | "requestsPerCpuSecond">): Run {
  return {
    form: "default",
    workload: "1KiB-c32",
    round: 1,
    requests: 1000,
    seconds: 1,
    requestsPerSecond: 1000,
    bytes: 0,
    p50Ms: 1,
    p99Ms: 2,
    errors: 0,
    cpuMicrosecondsPerRequest: 1e6 / stated.requestsPerCpuSecond,
    cpuSeconds: 1,
    userSeconds: 0.5,
    rssBytes: 1,
    pssBytes: 1,
    originRequests: 0,
    loadAverage: 0,
    ...stated,
  };
}
