/**
 * A trace through the real servers with the same bytes for their caches: hits as the client and the origin see them. One client,
 * a few keep-alive connections, so that requests arrive in the trace's order up to their number.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import { type Dispatcher, Pool } from "undici";
import { UsageError } from "../../cli/usage.ts";
import { isochrone } from "./peers/isochrone.ts";
import { nginx } from "./peers/nginx.ts";
import type { RunningServer, Server } from "./peers/peer.ts";
import { trafficServer } from "./peers/traffic-server.ts";
import { varnish } from "./peers/varnish.ts";
import { boundPoints } from "./policies/bounds.ts";
import { isPieceOf } from "./policies/content.ts";
import { startTraceOrigin, type TraceOrigin } from "./policies/origin.ts";
import { percent, TRACE_HELP, TRACE_OPTIONS, traceOf } from "./policies/options.ts";
import { resized, type Trace, TRACES } from "./policies/traces.ts";
import { positiveNumber } from "../tools/flags.ts";
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
  --share LIST        NAME=N: a server gets N times the bytes, such as varnish=0.7 so that it takes as much memory as the edge
${TRACE_HELP}

Rows of the same replay that FILE has and that were not run now stay there: a long replay is run in pieces.`;

/** A server that evicts late is made to after so many missed bytes, in shares of its cache: what it may hold beyond it. */
const SHRINK_SHARE = 0.1;

/** How often an object is asked for at most, and when again after a refusal, ms. */
const ATTEMPTS = 20;
const REFUSED_WAIT_MS = 500;

/** A server that leaves more of the requests without their object has not taken part. */
const FAILED_SHARE_MAX = 0.01;

const SERVERS = [...isochrone, ...nginx, ...varnish, ...trafficServer].filter(
  ({ name, form, program }) => program !== undefined && form === (name === "isochrone" ? "no-log" : "tuned"),
);

interface Count {
  /** Answers for which the origin was asked for nothing of the object. */
  hits: number;
  /** Answers 200 whose content was not the object's, byte for byte. */
  wrong: number;
  /** Answers 503 after which the object was asked for again: a server on a busy machine sheds. */
  refused: number;
  /** No answer 200 in the end, by status or by how the connection broke. */
  readonly failed: Record<string, number>;
}

/** Asks for all of a trace. */
async function ask(
  server: RunningServer,
  origin: TraceOrigin,
  trace: Trace,
  connections: number,
  shrinkBytes: number,
): Promise<Count> {
  const open = (): Pool =>
    new Pool(`http://127.0.0.1:${server.port}`, { connections, pipelining: 1, allowH2: false });
  let pool = open();
  const count: Count = { hits: 0, wrong: 0, refused: 0, failed: {} };
  /** Requests for an object that the origin had when an answer last ended. One that came meanwhile is the miss of the first answer to end. */
  const accounted = Uint32Array.from(trace.bytesOf, (_, object) => origin.requestsOf(object));
  let next = 0;
  let missedBytes = 0;
  const fail = (why: string): void => void (count.failed[why] = (count.failed[why] ?? 0) + 1);
  // Again when the connection broke, since a server that shrinks by a reload closes the ones that were kept; and when it was refused.
  const one = (object: number, attempts = ATTEMPTS): Promise<void> =>
    new Promise((resolve) => {
      const expected = trace.bytesOf[object] ?? 0;
      let received = 0;
      let isRight = true;
      let status = 0;
      let detail = "";
      const handler: Dispatcher.DispatchHandler = {
        onRequestStart: () => undefined,
        onResponseStart: (_controller, statusCode, headers) => {
          status = statusCode;
          detail = /;\s*detail=[^;]*/.exec(String(headers["cache-status"]))?.[0] ?? "";
        },
        onResponseData: (_controller, chunk) => {
          isRight &&= isPieceOf(chunk, object, received);
          received += chunk.byteLength;
        },
        onResponseEnd: () => {
          if (status === 503 && attempts > 1) {
            count.refused++;
            setTimeout(() => resolve(one(object, attempts - 1)), REFUSED_WAIT_MS);
            return;
          }
          if (status !== 200) fail(`status ${status}${detail}`);
          else if (!isRight || received !== expected) {
            count.wrong++;
            console.error(
              `${server.port}: object ${object} of ${expected} bytes: ${received} bytes came, ${isRight ? "the right ones" : "not its own"}`,
            );
          } else if (accounted[object] === origin.requestsOf(object)) count.hits++;
          else missedBytes += received;
          accounted[object] = origin.requestsOf(object);
          resolve();
        },
        onResponseError: (_controller, error) => {
          if (attempts === ATTEMPTS) {
            resolve(one(object, attempts - 1));
            return;
          }
          fail(`connection: ${error.message}`);
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
  share: number,
  connections: number,
) {
  const cacheBytes = Math.floor((trace.footprintBytes * cachePercent * share) / 100);
  const name = `${labelOf(server)}${share === 1 ? "" : ` x ${share}`}`;
  const row = { server: name, cachePercent, cacheBytes, commit: describeCommit() };
  try {
    const running = await server.start({ originPort: origin.port, role: "cache", workers: 1, cacheBytes });
    try {
      const before = await origin.count();
      const restBytes = usageOf(running.pids).pssBytes;
      const began = performance.now();
      const { hits, wrong, refused, failed } = await ask(
        running,
        origin,
        trace,
        connections,
        cacheBytes * SHRINK_SHARE,
      );
      const seconds = (performance.now() - began) / 1_000;
      const after = await origin.count();
      const failures = Object.values(failed).reduce((sum, count) => sum + count, 0);
      if (failures > trace.requests * FAILED_SHARE_MAX)
        return {
          ...row,
          fault: `${failures} of ${trace.requests} without their object: ${JSON.stringify(failed)}`,
        };
      return {
        ...row,
        objectHitPercent: percent(hits / trace.requests),
        byteHitPercent: percent(1 - (after.bytes - before.bytes) / trace.requestedBytes),
        originRequests: after.requests - before.requests,
        wrong,
        refused,
        failed,
        // Bytes by a server's own count leave out what it takes for them: some count content alone.
        grownBytes: usageOf(running.pids).pssBytes - restBytes,
        seconds: Math.round(seconds * 10) / 10,
        loadAverage: Math.round((loadavg()[0] ?? 0) * 10) / 10,
      };
    } finally {
      await running.stop();
    }
  } catch (error) {
    // Not every server takes every size: a storage that is too small is refused at the start.
    return { ...row, fault: String(error instanceof Error ? error.message : error).slice(0, 400) };
  }
}

type Row = Awaited<ReturnType<typeof replay>>;

/** The rows that a file has of the same replay, and has not anew: a long one is run in pieces. */
function keptRows(out: string | undefined, origin: string, runs: readonly Row[]): readonly Row[] {
  if (out === undefined || !existsSync(out)) return [];
  const kept = JSON.parse(readFileSync(out, "utf8")) as {
    readonly origin: string;
    readonly runs: readonly Row[];
  };
  if (kept.origin !== origin)
    throw new UsageError(
      `${out} has rows of another replay: ${JSON.stringify(kept.origin)}, not ${JSON.stringify(origin)}`,
    );
  return kept.runs.filter(
    ({ server, cachePercent }) =>
      !runs.some((run) => run.server === server && run.cachePercent === cachePercent),
  );
}

async function resultOf(trace: Trace, out: string | undefined, runs: readonly Row[]): Promise<object> {
  const { name, origin, requests, footprintBytes, requestedBytes } = trace;
  const all = [...keptRows(out, origin, runs), ...runs].toSorted((a, b) => a.cachePercent - b.cachePercent);
  return {
    name: "policies-peers",
    machine: describeMachine(),
    commit: describeCommit(),
    versions: Object.fromEntries(
      await Promise.all(SERVERS.map(async (server) => [server.name, await server.version()] as const)),
    ),
    trace: name,
    origin,
    requests,
    objects: trace.bytesOf.length,
    footprintBytes,
    requestedBytes,
    bounds: boundPoints(trace, [...new Set(all.map(({ cachePercent }) => cachePercent))]),
    runs: all,
  };
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
      share: { type: "string" },
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
  const servers = SERVERS.filter((server) => only === undefined || only.includes(server.name));
  const shares = new Map(
    values.share?.split(",").map((text) => {
      const [server = "", share] = text.split("=");
      return [server, positiveNumber("share", share ?? "", 10)] as const;
    }),
  );
  const sizes = values.sizes.split(",").map((text) => positiveNumber("sizes", text, 100));
  const runs: Row[] = [];
  // Rows of another replay: said before the work.
  keptRows(values.out, trace.origin, runs);
  const origin = await startTraceOrigin(trace.bytesOf.length);
  try {
    for (const size of sizes) {
      for (const server of servers) {
        const share = shares.get(server.name) ?? 1;
        const run = await replay(server, origin, trace, size, share, Number(values.connections));
        runs.push(run);
        // After each row: who ends a long run keeps what it has.
        if (values.out !== undefined)
          writeFileSync(
            values.out,
            `${JSON.stringify(await resultOf(trace, values.out, runs), undefined, 1)}\n`,
          );
        console.error(
          "fault" in run
            ? `${size} % ${run.server.padEnd(22)} ${run.fault}`
            : `${size} % (${(run.cacheBytes / 1e6).toFixed(1)} MB) ${run.server.padEnd(22)} objects ${run.objectHitPercent.toFixed(2)} %, bytes ${run.byteHitPercent.toFixed(2)} %, origin ${run.originRequests}, wrong ${run.wrong}, refused ${run.refused}, failed ${JSON.stringify(run.failed)}, grown by ${(run.grownBytes / 1e6).toFixed(1)} MB, ${run.seconds} s`,
        );
      }
    }
  } finally {
    await origin.stop();
  }
  console.log(JSON.stringify(await resultOf(trace, values.out, runs), undefined, 1));
  return runs.some((run) => run.server.startsWith("isochrone") && "wrong" in run && run.wrong > 0) ? 1 : 0;
}
