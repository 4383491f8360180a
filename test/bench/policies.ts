/** Hit ratios of the eviction policies, and what second-hit admission saves a disk, on recorded and synthetic traces. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { UsageError } from "../../cli/usage.ts";
import {
  EVICTION_POLICIES,
  type EvictionPolicyName,
  evictionPolicy,
} from "../../edge/core/eviction/policies.ts";
import { type MakePolicy, replayer, SLICE_BYTES } from "./policies/replay.ts";
import { TRACES, traceByName, type Trace } from "./policies/traces.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary =
  "eviction policies on traces: hit ratios by objects and bytes, disk writes by admission";

const SIZES_PERCENT = [1, 2, 5, 10, 20, 50] as const;
/** Disk tiers, in percent of the footprint, each behind a memory of a tenth of it. */
const DISKS_PERCENT = [5, 10, 20, 50] as const;
const MEMORY_OF_DISK = 0.1;

const HELP = `Usage: npm run bench -- policies [options]

${summary}

  --data DIR       directory with traces/adaptsize-request.trace[.xz] and traces/tragen/ (default: $ISOCHRONE_DATA)
  --traces LIST    some of ${TRACES.join(", ")} (default: all)
  --seed N         seed of the synthetic traces (default 1)
  --scale N        the synthetic traces are 1/N of what their descriptors describe (default: 100, 8 for tc-0)
  --out FILE       keep the JSON there too
  --help`;

const byName =
  (name: EvictionPolicyName): MakePolicy =>
  (bytesMax, onEvicted) =>
    evictionPolicy(name, bytesMax, onEvicted);

const percent = (ratio: number): number => Math.round(ratio * 10_000) / 100;

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
    options: {
      data: { type: "string", default: process.env["ISOCHRONE_DATA"] ?? "" },
      traces: { type: "string", default: TRACES.join(",") },
      seed: { type: "string", default: "1" },
      scale: { type: "string" },
      out: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  if (values.data === "")
    throw new UsageError(
      "policies: where are the traces? --data DIR or ISOCHRONE_DATA names their directory",
    );
  console.error(
    `${"".padEnd(28)} ${SIZES_PERCENT.map((size) => `${size} %`.padStart(11)).join(" ")}   objects/bytes, %`,
  );
  const traces = values.traces
    .split(",")
    .map((name) =>
      evaluate(
        traceByName(
          name,
          values.data,
          Number(values.seed),
          values.scale === undefined ? undefined : Number(values.scale),
        ),
      ),
    );
  const text = JSON.stringify(
    {
      name: "policies",
      machine: describeMachine(),
      commit: describeCommit(),
      sliceBytes: SLICE_BYTES,
      defaultPolicy: EVICTION_POLICIES[0],
      traces,
    },
    undefined,
    1,
  );
  console.log(text);
  if (values.out !== undefined) {
    mkdirSync(dirname(values.out), { recursive: true });
    writeFileSync(values.out, `${text}\n`);
  }
  return await Promise.resolve(0);
}
