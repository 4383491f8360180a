/**
 * `npm run lab -- tier-offload`: a trace replayed through eight edges and two parents, which are whole edges of the product but
 * for their sockets: what one asks of another is handed over in this process. How much of it the origin is spared, beside
 * what an endless cache would spare it.
 */
import { Readable } from "node:stream";
import { parseArgs } from "node:util";
import { UsageError } from "../../cli/usage.ts";
import { mapSnapshot, propertyDocument, Random, type ServerId, topologyDocument } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { Edge, edgeDefaults, NodeRouting, PurgeIndex, type Upstream } from "#edge";
import type { TransportRequest, TransportResponse } from "#transport";
import { traceByName, TRACES } from "../bench/policies/traces.ts";
import { wholeNumber } from "../tools/flags.ts";
import { dataDirectory } from "../tools/processes.ts";
import { HOST, tierWorld } from "../tools/tier-world.ts";

export const summary = "a trace through 8 edges and 2 parents: how much of it reaches the origin";

const HELP = `Usage: npm run lab -- tier-offload [options]

${summary}

  --traces LIST       some of ${TRACES.join(", ")} (default: all)
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
  const world = tierWorld({
    edgeClusters: 4,
    edgesPerCluster: 2,
    parents: 2,
    originPort: 1,
    portOf: () => 2,
  });
  const property = propertyDocument.parse(world.property);
  const topology = topologyDocument.parse({
    ...world.topology,
    // Each address once.
    clusters: (world.topology["clusters"] as { servers: { port: number }[] }[]).map((cluster, c) => ({
      ...cluster,
      servers: cluster.servers.map((server, n) => ({
        ...server,
        port: server.port === 1 ? 1 : 10 * c + n + 10,
      })),
    })),
  });
  const snapshot = mapSnapshot.parse(world.map);
  const origin = { requests: 0, bytes: 0 };
  const nodes = new Map<ServerId, Edge>();
  const upstream = (self: ServerId): Upstream => ({
    request: async (target, request) => {
      if (target.kind === "server") return await asked(nodes, self, target.serverId, request);
      const object = Number(request.path.slice(1));
      const body = ZEROS.subarray(0, bytesOf(object));
      const range = request.headers.find(([name]) => name === "Range")?.[1];
      const [first = 0, last = body.length - 1] = (
        /^bytes=([0-9]+)-([0-9]+)$/.exec(range ?? "")?.slice(1) ?? []
      ).map((text) => Math.min(Number(text), body.length - 1));
      origin.requests++;
      origin.bytes += last - first + 1;
      return answered(range === undefined ? 200 : 206, body.subarray(first, last + 1), [
        ["Cache-Control", "max-age=86400"],
        ["ETag", '"1"'],
        ...(range === undefined ? [] : [["Content-Range", `bytes ${first}-${last}/${body.length}`] as const]),
      ]);
    },
    explainPath: () => {
      throw new Error("Nobody explains here");
    },
    linkReports: () => [],
    isServerUp: () => true,
    takeRetry: () => true,
  });
  for (const { role, servers } of topology.clusters) {
    if (role === "origin") continue;
    for (const { serverId } of servers) {
      const share = role === "edge" ? options.edgePercent / 8 : options.parentPercent / 2;
      const settings = {
        ...edgeDefaults,
        memoryBytes: Math.max(2 ** 20, Math.round((FOOTPRINT_BYTES * share) / 100)),
      };
      const routing = new NodeRouting(serverId, topology, settings, () => true);
      routing.setSnapshot(snapshot);
      routing.setProperty(property);
      const edge = new Edge({
        settings,
        clock: systemClock,
        logger: createLogger({ role: "edge", id: serverId }, { level: "silent" }),
        cacheName: serverId,
        routing,
        upstream: upstream(serverId),
        tier: () => routing.tier,
        purges: new PurgeIndex(),
      });
      nodes.set(serverId, edge);
    }
  }
  const edges = Array.from(nodes.keys()).filter((id) => id.startsWith("e"));
  const random = new Random(options.seed);
  const clients = { requests: 0, bytes: 0, failed: 0 };
  for (const object of objects) {
    const edge = nodes.get(edges[random.int(edges.length)] as ServerId);
    if (edge === undefined) throw new Error("No edge");
    const answer = await handle(edge, `/${object}`, undefined, []);
    let bytes = 0;
    for await (const chunk of answer.body ?? []) bytes += chunk.byteLength;
    clients.requests++;
    clients.bytes += bytes;
    if (answer.status !== 200 || bytes !== bytesOf(object)) clients.failed++;
  }
  const distinct = new Set(objects);
  const distinctBytes = distinct.values().reduce((sum, id) => sum + bytesOf(id), 0);
  for (const edge of nodes.values()) await edge.close();
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

type Headers = TransportRequest["headers"];

function handle(edge: Edge, target: string, peer: ServerId | undefined, headers: Headers) {
  const value = (name: string): string | undefined => headers.find(([one]) => one === name)?.[1];
  return edge.handle({
    head: {
      method: "GET",
      scheme: "http",
      host: HOST,
      target,
      fields: headers.filter(([name]) => !name.startsWith("Isochrone-")),
    },
    httpVersion: "1.1",
    remoteAddress: "192.0.2.1",
    body: undefined,
    bodyBytes: undefined,
    signal: new AbortController().signal,
    peer,
    hop: {
      tier: peer === undefined ? undefined : Number(value("Isochrone-Tier") ?? "0"),
      isOwner: value("Isochrone-Owner") === "1",
    },
    requestId: "replayed0",
    receivedAt: systemClock.epoch(),
    startedAt: systemClock.monotonic(),
  });
}

/** What one server answers another. */
async function asked(
  nodes: ReadonlyMap<ServerId, Edge>,
  self: ServerId,
  serverId: ServerId,
  request: TransportRequest,
): Promise<TransportResponse> {
  const edge = nodes.get(serverId);
  if (edge === undefined) throw new Error(`No server ${serverId}`);
  const answer = await handle(edge, request.path, self, request.headers);
  const length =
    answer.bodyBytes === undefined ? [] : [["Content-Length", String(answer.bodyBytes)] as const];
  return response(answer.status, Readable.from(answer.body ?? []), [...answer.fields, ...length]);
}

const answered = (status: number, body: Buffer, headers: Headers): TransportResponse =>
  response(status, Readable.from([body]), [...headers, ["Content-Length", String(body.length)]]);

function response(status: number, body: Readable, headers: Headers): TransportResponse {
  return {
    status,
    headers,
    body,
    path: { via: null, reason: "only-path" },
    timings: { connectMs: 0, ttfbMs: 0, attempts: 1 },
    trailers: () => [],
    resumes: () => 0,
  };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      traces: { type: "string", default: TRACES.join(",") },
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
