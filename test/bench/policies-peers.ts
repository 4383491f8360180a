/**
 * A trace through the real servers with the same bytes for their caches: hits as the client and the origin see them. One client,
 * a few keep-alive connections, so that requests arrive in the trace's order up to their number.
 */
import { parseArgs } from "node:util";
import { type Dispatcher, Pool } from "undici";
import { isochrone } from "./peers/isochrone.ts";
import { nginx } from "./peers/nginx.ts";
import type { RunningServer, Server } from "./peers/peer.ts";
import { trafficServer } from "./peers/traffic-server.ts";
import { varnish } from "./peers/varnish.ts";
import { boundPoints } from "./policies/bounds.ts";
import { startTraceOrigin, type TraceOrigin } from "./policies/origin.ts";
import { percent, publishJson, TRACE_HELP, TRACE_OPTIONS, traceOf } from "./policies/options.ts";
import { resized, type Trace, TRACES } from "./policies/traces.ts";
import { labelOf } from "./tools/measure.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";
import { usageOf } from "./tools/process-tree.ts";

export const summary =
  "a trace replayed through nginx, Varnish, Traffic Server and the edge with equal cache bytes";

const HELP = `Usage: npm run bench -- policies-peers [options]

${summary}

  --trace NAME        one of ${TRACES.join(", ")} (default adaptsize)
  --size-divisor N    object sizes are divided by N, at least 1 byte (default 1): large classes would take hours
  --requests N        the first N requests only (default: all)
  --sizes LIST        cache sizes in percent of the footprint of these requests (default 1,2,5,10,20,50)
  --connections N     client connections (default 4)
  --only LIST         servers by name (default: all found on PATH)
${TRACE_HELP}`;

/** A server that evicts late is made to after so many missed bytes, in shares of its cache: what it may hold beyond it. */
const SHRINK_SHARE = 0.1;

/** A server that answers more of the requests wrongly has not taken part. */
const WRONG_SHARE_MAX = 0.01;

interface Count {
  hits: number;
  /** Answers that were no 200 or had the wrong length. */
  wrong: number;
}

/** Asks for all of a trace. A hit is an answer whose origin fetch the client has seen before. */
async function ask(
  server: RunningServer,
  trace: Trace,
  connections: number,
  shrinkBytes: number,
): Promise<Count> {
  const open = (): Pool =>
    new Pool(`http://127.0.0.1:${server.port}`, { connections, pipelining: 1, allowH2: false });
  let pool = open();
  const seen = new Set<string>();
  const count: Count = { hits: 0, wrong: 0 };
  let next = 0;
  let missedBytes = 0;
  // Once more when the connection broke: a server that shrinks by a reload closes the ones that were kept.
  const one = (object: number, mayRetry = true): Promise<void> =>
    new Promise((resolve) => {
      const expected = trace.bytesOf[object] ?? 0;
      let received = 0;
      let status = 0;
      let fetch = "";
      const handler: Dispatcher.DispatchHandler = {
        onRequestStart: () => undefined,
        onResponseStart: (_controller, statusCode, headers) => {
          status = statusCode;
          fetch = String(headers["x-fetch"]);
        },
        onResponseData: (_controller, chunk) => {
          received += chunk.byteLength;
        },
        onResponseEnd: () => {
          if (status !== 200 || received !== expected) count.wrong++;
          else if (seen.has(fetch)) count.hits++;
          else missedBytes += received;
          seen.add(fetch);
          resolve();
        },
        onResponseError: () => {
          if (mayRetry) {
            resolve(one(object, false));
            return;
          }
          count.wrong++;
          resolve();
        },
      };
      pool.dispatch({ method: "GET", path: `/trace/${object}/${expected}` }, handler);
    });
  const isDue = (): boolean => server.shrink !== undefined && missedBytes >= shrinkBytes;
  while (next < trace.requests) {
    await Promise.all(
      Array.from({ length: connections }, async () => {
        while (next < trace.requests && !isDue()) await one(trace.objectOf[next++] ?? 0);
      }),
    );
    if (!isDue()) continue;
    await pool.close();
    await server.shrink?.();
    missedBytes = 0;
    pool = open();
  }
  await pool.close();
  return count;
}

async function replay(
  server: Server,
  origin: TraceOrigin,
  trace: Trace,
  cachePercent: number,
  connections: number,
) {
  const cacheBytes = Math.floor((trace.footprintBytes * cachePercent) / 100);
  const row = { server: labelOf(server), cachePercent, cacheBytes };
  try {
    const running = await server.start({ originPort: origin.port, role: "cache", workers: 1, cacheBytes });
    try {
      const before = await origin.count();
      const restBytes = usageOf(running.pids).pssBytes;
      const began = performance.now();
      const { hits, wrong } = await ask(running, trace, connections, cacheBytes * SHRINK_SHARE);
      const seconds = (performance.now() - began) / 1_000;
      const after = await origin.count();
      if (wrong > trace.requests * WRONG_SHARE_MAX)
        return { ...row, fault: `${wrong} of ${trace.requests} answers were no 200 or had the wrong length` };
      return {
        ...row,
        objectHitPercent: percent(hits / trace.requests),
        byteHitPercent: percent(1 - (after.bytes - before.bytes) / trace.requestedBytes),
        originRequests: after.requests - before.requests,
        wrong,
        // Bytes by a server's own count leave out what it takes for them: some count content alone.
        grownBytes: usageOf(running.pids).pssBytes - restBytes,
        seconds: Math.round(seconds * 10) / 10,
      };
    } finally {
      await running.stop();
    }
  } catch (error) {
    // Not every server takes every size: a storage that is too small is refused at the start.
    return { ...row, fault: String(error instanceof Error ? error.message : error).slice(0, 400) };
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      ...TRACE_OPTIONS,
      trace: { type: "string", default: "adaptsize" },
      "size-divisor": { type: "string", default: "1" },
      requests: { type: "string" },
      sizes: { type: "string", default: "1,2,5,10,20,50" },
      connections: { type: "string", default: "4" },
      only: { type: "string" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const trace = resized(
    traceOf(values.trace, values),
    Number(values["size-divisor"]),
    values.requests === undefined ? Number.POSITIVE_INFINITY : Number(values.requests),
  );
  const only = values.only?.split(",");
  const servers = [...isochrone, ...nginx, ...varnish, ...trafficServer].filter(
    (server) =>
      server.program !== undefined &&
      (server.name === "isochrone" ? server.form === "no-log" : server.form === "tuned") &&
      (only === undefined || only.includes(server.name)),
  );
  const origin = await startTraceOrigin();
  const sizes = values.sizes.split(",").map(Number);
  const runs = [];
  try {
    for (const size of sizes) {
      for (const server of servers) {
        const run = await replay(server, origin, trace, size, Number(values.connections));
        runs.push(run);
        console.error(
          "fault" in run
            ? `${size} % ${run.server.padEnd(22)} ${run.fault}`
            : `${size} % (${(run.cacheBytes / 1e6).toFixed(1)} MB) ${run.server.padEnd(22)} objects ${run.objectHitPercent.toFixed(2)} %, bytes ${run.byteHitPercent.toFixed(2)} %, wrong ${run.wrong}, grown by ${(run.grownBytes / 1e6).toFixed(1)} MB, ${run.seconds} s`,
        );
      }
    }
  } finally {
    origin.stop();
  }
  const { name, origin: made, requests, footprintBytes, requestedBytes } = trace;
  publishJson(
    {
      name: "policies-peers",
      machine: describeMachine(),
      commit: describeCommit(),
      versions: Object.fromEntries(
        await Promise.all(servers.map(async (server) => [server.name, await server.version()] as const)),
      ),
      trace: name,
      origin: made,
      requests,
      objects: trace.bytesOf.length,
      footprintBytes,
      requestedBytes,
      bounds: boundPoints(trace, sizes),
      runs,
    },
    values.out,
  );
  return runs.some((run) => run.server.startsWith("isochrone") && "wrong" in run && run.wrong > 0) ? 1 : 0;
}
