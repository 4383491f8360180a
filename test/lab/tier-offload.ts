/**
 * `npm run lab -- tier-offload`: a trace replayed through eight edges and two parents (test/tools/tier-nodes.ts). How much of it
 * the origin is spared, beside what an endless cache would spare it.
 */
import { Readable } from "node:stream";
import { parseArgs } from "node:util";
import { UsageError } from "../../cli/usage.ts";
import { Random, type ServerId } from "#kit";
import { BYTE_TRACES, traceByName, TRACES } from "../bench/policies/traces.ts";
import { wholeNumber } from "../tools/flags.ts";
import { dataDirectory } from "../tools/processes.ts";
import { askedSpan, TierNodes, transportResponse } from "../tools/tier-nodes.ts";

export const summary = "a trace through 8 edges and 2 parents: how much of it reaches the origin";

const HELP = `Usage: npm run lab -- tier-offload [options]

${summary}

  --traces LIST       some of ${[...TRACES, ...BYTE_TRACES].join(", ")} (default: all)
  --requests N        of each, the first N (default 100000)
  --edge-percent N    memory of the edges together, of the footprint (default 20)
  --parent-percent N  memory of the parents together, of the footprint (default 100)
  --scale N           the synthetic traces are 1/N of what their descriptors describe
  --seed N            of the synthetic traces, and of which edge is asked (default 1)
  --help

Sizes are divided so that the footprint is 256 MiB. JSON on stdout. Exit code: 0 done, 2 bad usage or no traces.
`;

const FOOTPRINT_BYTES = 256 * 2 ** 20;
const ZEROS = Buffer.alloc(64 * 2 ** 20);

interface ReplayOptions {
  readonly requests: number;
  readonly edgePercent: number;
  readonly parentPercent: number;
  readonly seed: number;
}

async function replay(trace: ReturnType<typeof traceByName>, options: ReplayOptions) {
  const count = Math.min(options.requests, trace.requests);
  const objects = trace.objectOf.subarray(0, count);
  const footprintBytes = new Set(objects).values().reduce((sum, id) => sum + (trace.bytesOf[id] ?? 0), 0);
  const divisor = Math.max(1, footprintBytes / FOOTPRINT_BYTES);
  const bytesOf = (object: number): number =>
    Math.min(ZEROS.length, Math.max(1, Math.round((trace.bytesOf[object] ?? 0) / divisor)));
  const origin = { requests: 0, bytes: 0 };
  const nodes = new TierNodes({
    edgeClusters: 4,
    edgesPerCluster: 2,
    parents: 2,
    settingsOf: (serverId) => {
      const share = serverId.startsWith("e") ? options.edgePercent / 8 : options.parentPercent / 2;
      return { memoryBytes: Math.max(2 ** 20, Math.round((FOOTPRINT_BYTES * share) / 100)) };
    },
    origin: (request) => {
      const body = ZEROS.subarray(0, bytesOf(Number(request.path.slice(1))));
      const { first, last, isPart } = askedSpan(request, body.length);
      origin.requests++;
      origin.bytes += last - first + 1;
      return transportResponse(isPart ? 206 : 200, Readable.from([body.subarray(first, last + 1)]), [
        ["Cache-Control", "max-age=86400"],
        ["ETag", '"1"'],
        ["Content-Length", String(last - first + 1)],
        ...(isPart ? [["Content-Range", `bytes ${first}-${last}/${body.length}`] as const] : []),
      ]);
    },
  });
  const random = new Random(options.seed);
  const clients = { requests: 0, bytes: 0, failed: 0 };
  for (const object of objects) {
    const edge = nodes.edges[random.int(nodes.edges.length)] as ServerId;
    const answer = await nodes.ask(edge, `/${object}`);
    let bytes = 0;
    for await (const chunk of answer.body ?? []) bytes += chunk.byteLength;
    clients.requests++;
    clients.bytes += bytes;
    if (answer.status !== 200 || bytes !== bytesOf(object)) clients.failed++;
  }
  const distinct = new Set(objects);
  const distinctBytes = distinct.values().reduce((sum, id) => sum + bytesOf(id), 0);
  await nodes.close();
  const share = (part: number, whole: number): number => Math.round((1 - part / whole) * 10_000) / 100;
  const requestPercent = share(origin.requests, clients.requests);
  const bytePercent = share(origin.bytes, clients.bytes);
  const mostRequests = share(distinct.size, clients.requests);
  const mostBytes = share(distinctBytes, clients.bytes);
  return {
    trace: trace.name,
    clientRequests: clients.requests,
    failed: clients.failed,
    originRequests: origin.requests,
    objects: distinct.size,
    offloadPercent: { requests: requestPercent, bytes: bytePercent },
    /** Each object asked for once: what a cache without end would reach on this trace. */
    mostPercent: { requests: mostRequests, bytes: mostBytes },
    shareOfMostPercent: {
      requests: Math.round((requestPercent / mostRequests) * 10_000) / 100,
      bytes: Math.round((bytePercent / mostBytes) * 10_000) / 100,
    },
  };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      traces: { type: "string", default: [...TRACES, ...BYTE_TRACES].join(",") },
      requests: { type: "string", default: "100000" },
      "edge-percent": { type: "string", default: "20" },
      "parent-percent": { type: "string", default: "100" },
      scale: { type: "string" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const whole = (flag: string, value: string): number => wholeNumber(flag, value, 1, 100_000_000);
  const data = dataDirectory();
  if (data === undefined) throw new UsageError("where are the traces? ISOCHRONE_DATA names their directory");
  const seed = whole("seed", values.seed);
  const results = [];
  for (const name of values.traces.split(",")) {
    const trace = traceByName(
      name,
      data,
      seed,
      values.scale === undefined ? undefined : whole("scale", values.scale),
    );
    const result = await replay(trace, {
      requests: whole("requests", values.requests),
      edgePercent: whole("edge-percent", values["edge-percent"]),
      parentPercent: whole("parent-percent", values["parent-percent"]),
      seed,
    });
    console.error(JSON.stringify(result));
    results.push(result);
  }
  console.log(JSON.stringify(results, undefined, 2));
  return 0;
}
