/**
 * The origin of a replay, a process of its own: `/trace/OBJECT/BYTES` is a body of so many bytes that may be stored for a day.
 * Every answer has a number of its own in `X-Fetch`, so that a client sees, whatever a cache says, whether the origin was asked
 * for it. `/.count`: JSON of requests and body bytes so far.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { dieWithUs } from "../tools/program.ts";

interface OriginCount {
  readonly requests: number;
  readonly bytes: number;
}

export interface TraceOrigin {
  readonly port: number;
  count(): Promise<OriginCount>;
  stop(): void;
}

export async function startTraceOrigin(): Promise<TraceOrigin> {
  const child = fork(import.meta.filename, ["serve"], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  dieWithUs(child.pid ?? -1);
  const [port] = (await once(child, "message")) as [number];
  return {
    port,
    count: async () => (await (await fetch(`http://127.0.0.1:${port}/.count`)).json()) as OriginCount,
    stop: () => void child.kill("SIGKILL"),
  };
}

const CHUNK = Buffer.alloc(2 ** 20, "0123456789abcdef");

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

function serve(): void {
  let requests = 0;
  let sentBytes = 0;
  const server = createServer((request, response) => {
    if (request.url === "/.count") {
      response.end(JSON.stringify({ requests, bytes: sentBytes }));
      return;
    }
    const [, kind, object, size] = (request.url ?? "").split("/");
    const bytes = Number(size);
    if (kind !== "trace" || !(bytes >= 0)) {
      response.writeHead(404, { "content-length": 0 }).end();
      return;
    }
    requests++;
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
      "x-fetch": requests,
      ...(range !== undefined && { "content-range": `bytes ${first}-${last}/${bytes}` }),
    });
    let left = length;
    const send = (): void => {
      while (left > 0) {
        const part = left >= CHUNK.byteLength ? CHUNK : CHUNK.subarray(0, left);
        left -= part.byteLength;
        if (!response.write(part) && left > 0) {
          response.once("drain", send);
          return;
        }
      }
      response.end();
    };
    send();
  });
  server.keepAliveTimeout = 120_000;
  server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
  process.once("disconnect", () => process.exit(0));
}

if (process.argv[2] === "serve" && process.argv[1] === import.meta.filename) serve();
