/** Hit ratios of the eviction policies, and what second-hit admission saves a disk, on recorded and synthetic traces. */
import { parseArgs } from "node:util";
import {
  EVICTION_POLICIES,
  type EvictionPolicyName,
  evictionPolicy,
} from "../../edge/core/eviction/policies.ts";
import { percent, publishJson, TRACE_HELP, TRACE_OPTIONS, traceOf } from "./policies/options.ts";
import { type MakePolicy, replayer, SLICE_BYTES } from "./policies/replay.ts";
import { TRACES, type Trace } from "./policies/traces.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary =
  "eviction policies on traces: hit ratios by objects and bytes, disk writes by admission";

const SIZES_PERCENT = [1, 2, 5, 10, 20, 50] as const;
/** Disk tiers, in percent of the footprint, each behind a memory of a tenth of it. */
const DISKS_PERCENT = [5, 10, 20, 50] as const;
const MEMORY_OF_DISK = 0.1;

const HELP = `Usage: npm run bench -- policies [options]

${summary}

  --traces LIST       some of ${TRACES.join(", ")} (default: all)
${TRACE_HELP}`;

const byName =
  (name: EvictionPolicyName): MakePolicy =>
  (bytesMax, onEvicted) =>
    evictionPolicy(name, bytesMax, onEvicted);

function evaluate(trace: Trace) {
  const replay = replayer(trace);
  const policies = EVICTION_POLICIES.map((policy) => {
    const points = SIZES_PERCENT.map((size) => {
      const { objectHitRatio, byteHitRatio } = replay.memory(
        byName(policy),
        (trace.footprintBytes * size) / 100,
      );
      return {
        cachePercent: size,
        objectHitPercent: percent(objectHitRatio),
        byteHitPercent: percent(byteHitRatio),
      };
    });
    console.error(
      `${trace.name.padEnd(10)} ${policy.padEnd(17)} ${points.map((p) => `${p.objectHitPercent.toFixed(1)}/${p.byteHitPercent.toFixed(1)}`.padStart(11)).join(" ")}`,
    );
    return { policy, points };
  });
  const disks = DISKS_PERCENT.map((size) => {
    const diskBytes = (trace.footprintBytes * size) / 100;
    // As many keys as the disk would hold objects of the mean size: older ones would have left the disk as well.
    const filterKeys = (replay.pieces * size) / 100;
    const runs = ([undefined, "request", "fetch"] as const).map((second) => {
      const run = replay.tiers(
        byName(EVICTION_POLICIES[0]),
        diskBytes * MEMORY_OF_DISK,
        byName("lru"),
        diskBytes,
        second && filterKeys,
        second,
      );
      return {
        admission: second === undefined ? "all" : (`second-${second}` as const),
        writes: run.writes,
        writtenBytes: run.writtenBytes,
        objectHitPercent: percent(run.objectHitRatio),
        byteHitPercent: percent(run.byteHitRatio),
        filterBytes: run.filterBytes,
      };
    });
    const all = runs[0];
    const rows = runs.map((run) => ({
      ...run,
      savedWritesPercent: percent(1 - run.writes / (all?.writes ?? 1)),
      savedBytesPercent: percent(1 - run.writtenBytes / (all?.writtenBytes ?? 1)),
    }));
    for (const row of rows)
      console.error(
        `${trace.name.padEnd(10)} disk ${String(size).padStart(2)} % ${row.admission.padEnd(15)} writes -${row.savedWritesPercent.toFixed(1)} %, bytes -${row.savedBytesPercent.toFixed(1)} %, hits ${row.objectHitPercent.toFixed(1)}/${row.byteHitPercent.toFixed(1)}`,
      );
    return { diskPercent: size, memoryPercent: size * MEMORY_OF_DISK, admissions: rows };
  });
  const { name, origin, requests, footprintBytes, requestedBytes } = trace;
  return {
    trace: name,
    origin,
    requests,
    objects: trace.bytesOf.length,
    footprintBytes,
    requestedBytes,
    // What a store without bounds would have: all but the first request for each object.
    bound: {
      objectHitPercent: percent(1 - trace.bytesOf.length / requests),
      byteHitPercent: percent(1 - footprintBytes / requestedBytes),
    },
    policies,
    disks,
  };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { ...TRACE_OPTIONS, traces: { type: "string", default: TRACES.join(",") } },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  console.error(
    `${"".padEnd(28)} ${SIZES_PERCENT.map((size) => `${size} %`.padStart(11)).join(" ")}   objects/bytes, %`,
  );
  const traces = values.traces.split(",").map((name) => evaluate(traceOf(name, values)));
  publishJson(
    {
      name: "policies",
      machine: describeMachine(),
      commit: describeCommit(),
      sliceBytes: SLICE_BYTES,
      defaultPolicy: EVICTION_POLICIES[0],
      traces,
    },
    values.out,
  );
  return await Promise.resolve(0);
}
