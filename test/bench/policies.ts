/** Hit ratios of the eviction policies, and what second-hit admission saves a disk, on recorded and synthetic traces. */
import { parseArgs } from "node:util";
import {
  EVICTION_POLICIES,
  type EvictionPolicyName,
  evictionPolicy,
} from "../../edge/core/eviction/policies.ts";
import { percent, publishJson, TRACE_HELP, TRACE_OPTIONS, traceOf } from "./policies/options.ts";
import { boundPoints } from "./policies/bounds.ts";
import type { DiskAdmission } from "./policies/model-disk.ts";
import { type MakePolicy, replayer, SLICE_BYTES, type TierRatios } from "./policies/replay.ts";
import { resized, TRACES, type Trace } from "./policies/traces.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary =
  "eviction policies on traces: hit ratios by objects and bytes, disk writes by admission";

const SIZES_PERCENT = [1, 2, 5, 10, 20, 50] as const;
/** Disk tiers, in percent of the footprint, each behind a memory of a tenth of it. */
const DISKS_PERCENT = [5, 10, 20, 50] as const;
const MEMORY_OF_DISK = 0.1;
/** 64 of the smallest segments. */
const DISK_BYTES_MIN = 2 ** 28;
/** The edge's own is worth-0.2; those beside it show what its bound costs and saves. */
const ADMISSIONS: readonly DiskAdmission[] = ["all", "second-request", "second-fetch", 0.05, 0.1, 0.2, 0.3];

const HELP = `Usage: npm run bench -- policies [options]

${summary}

  --traces LIST       some of ${TRACES.join(", ")} (default: all)
${TRACE_HELP}`;

const byName =
  (name: EvictionPolicyName): MakePolicy =>
  (bytesMax, onEvicted) =>
    evictionPolicy(name, bytesMax, onEvicted);

/** What an admission saves beside one that takes all. Of a small trace sizes are multiplied, so that a disk has 64 segments as real ones have. */
function evaluateDisks(whole: Trace) {
  const least = (whole.footprintBytes * Math.min(...DISKS_PERCENT)) / 100;
  const sizeFactor = Math.max(1, Math.ceil(DISK_BYTES_MIN / least));
  const trace = resized(whole, 1 / sizeFactor, whole.requests);
  const replay = replayer(trace);
  return DISKS_PERCENT.map((size) => {
    const diskBytes = (trace.footprintBytes * size) / 100;
    const runOf = (admission: DiskAdmission): TierRatios =>
      replay.tiers(byName(EVICTION_POLICIES[0]), diskBytes * MEMORY_OF_DISK, diskBytes, admission);
    const all = runOf("all");
    const rows = ADMISSIONS.map((admission) => {
      const run = admission === "all" ? all : runOf(admission);
      const row = {
        admission: typeof admission === "number" ? `worth-${admission}` : admission,
        writes: run.writes,
        writtenBytes: run.writtenBytes,
        objectHitPercent: percent(run.objectHitRatio),
        byteHitPercent: percent(run.byteHitRatio),
        unreadWritesPercent: percent(run.unreadWrites / run.writes),
        savedWritesPercent: percent(1 - run.writes / all.writes),
        savedBytesPercent: percent(1 - run.writtenBytes / all.writtenBytes),
      };
      console.error(
        `${trace.name.padEnd(10)} disk ${String(size).padStart(2)} % ${row.admission.padEnd(15)} writes -${row.savedWritesPercent.toFixed(1)} %, bytes -${row.savedBytesPercent.toFixed(1)} %, hits ${row.objectHitPercent.toFixed(2)}/${row.byteHitPercent.toFixed(2)}, never read ${row.unreadWritesPercent.toFixed(1)} %`,
      );
      return row;
    });
    return { diskPercent: size, memoryPercent: size * MEMORY_OF_DISK, sizeFactor, admissions: rows };
  });
}

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
  const disks = evaluateDisks(trace);
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
    bounds: boundPoints(trace, SIZES_PERCENT),
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
