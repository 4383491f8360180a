/**
 * The origin of a replay, in a thread of its own: `/trace/OBJECT/BYTES` is a body of so many bytes (content.ts) that may be stored for a
 * day. It counts its requests for each object in memory that the client reads too: whatever a cache says, an answer was found only if the
 * origin was asked for nothing of the object meanwhile.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { parentPort, Worker, workerData } from "node:worker_threads";
import { pieceOf } from "./content.ts";

interface OriginCount {
  readonly requests: number;
  readonly bytes: number;
}

export interface TraceOrigin {
  readonly port: number;
  /** Requests for an object so far, modulo 2^32. */
  requestsOf(object: number): number;
  count(): Promise<OriginCount>;
  stop(): Promise<unknown>;
}

export async function startTraceOrigin(objects: number): Promise<TraceOrigin> {
  const requestsOf = new Uint32Array(new SharedArrayBuffer(4 * objects));
  const worker = new Worker(new URL(import.meta.url), { workerData: requestsOf });
  const [port] = (await once(worker, "message")) as [number];
  return {
    port,
    requestsOf: (object) => Atomics.load(requestsOf, object),
    count: async () => {
      worker.postMessage("count");
      const [count] = (await once(worker, "message")) as [OriginCount];
      return count;
    },
    stop: async () => await worker.terminate(),
  };
}

/** The range that a single `bytes=FIRST-LAST` asks for, cut at the end; undefined: the whole. */
function rangeOf(
  header: string | undefined,
  bytes: number,
): readonly [first: number, last: number] | undefined {
  const match = /^bytes=(\d+)-(\d*)$/.exec(header ?? "");
  if (match === null) return undefined;
  const first = Number(match[1]);
  const last = Math.min(bytes - 1, match[2] === "" ? bytes - 1 : Number(match[2]));
  return first <= last ? [first, last] : undefined;
}

/** The thread. */
function serve(requestsOf: Uint32Array): void {
  let requests = 0;
  let sentBytes = 0;
  const server = createServer((request, response) => {
    const [, kind, name, size] = (request.url ?? "").split("/");
    const object = Number(name);
    const bytes = Number(size);
    if (kind !== "trace" || !(object < requestsOf.length) || !(bytes >= 0)) {
      response.writeHead(404, { "content-length": 0 }).end();
      return;
    }
    requests++;
    Atomics.add(requestsOf, object, 1);
    const range = rangeOf(request.headers.range, bytes);
    const [first, last] = range ?? [0, bytes - 1];
    const length = last - first + 1;
    sentBytes += length;
    response.writeHead(range === undefined ? 200 : 206, {
      "content-type": "application/octet-stream",
      "content-length": length,
      "cache-control": "public, max-age=86400",
      "accept-ranges": "bytes",
      etag: `"${object}"`,
      ...(range !== undefined && { "content-range": `bytes ${first}-${last}/${bytes}` }),
    });
    let at = first;
    const send = (): void => {
      while (at <= last) {
        const piece = pieceOf(object, at, last - at + 1);
        at += piece.byteLength;
        if (!response.write(piece) && at <= last) {
          response.once("drain", send);
          return;
        }
      }
      response.end();
    };
    send();
  });
  server.keepAliveTimeout = 120_000;
  server.listen(0, "127.0.0.1", () => parentPort?.postMessage((server.address() as AddressInfo).port));
  parentPort?.on("message", () => parentPort?.postMessage({ requests, bytes: sentBytes }));
}

if (workerData instanceof Uint32Array) serve(workerData);
