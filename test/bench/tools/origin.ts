/**
 * The origin behind every server of a benchmark: node:http in a process of its own, so that what it costs is never counted with a
 * server and never delays the one who measures. It answers by path and counts what it was asked.
 *
 * `/KIND/BYTES/anything`: a body of so many bytes. KIND `cached` may be stored for a day, `private` may not be stored.
 * `/text/NAME`: a text of `texts.ts`, stored for a day. `/version/NAME/old` and `/next`: two versions of one script; browsers keep the one
 * as a dictionary for the other (RFC 9842).
 * `/.count`: how many requests there were, as a number.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { dieWithUs } from "./program.ts";
import { TEXTS, VERSIONS } from "./texts.ts";

export const BYTES_MAX = 64 * 2 ** 20;

export interface Origin {
  readonly port: number;
  /** Requests that reached it so far. */
  requests(): Promise<number>;
  stop(): void;
}

export async function startOrigin(): Promise<Origin> {
  const child = fork(import.meta.filename, ["serve"], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  dieWithUs(child.pid ?? -1);
  const [port] = (await once(child, "message")) as [number];
  return {
    port,
    requests: async () => Number(await (await fetch(`http://127.0.0.1:${port}/.count`)).text()),
    stop: () => void child.kill("SIGKILL"),
  };
}

/** The entity tag of every answer; strong, the same for all, because only its round trip is measured. */
export const ENTITY_TAG = '"bench-1"';

function serve(): void {
  let requests = 0;
  const bodies = new Map<number, Buffer>();
  const server = createServer((request, response) => {
    if (request.url === "/.count") {
      response.end(String(requests));
      return;
    }
    requests += 1;
    const [, kind, size = "", version] = (request.url ?? "").split("/");
    const text = kind === "text" ? TEXTS[size] : undefined;
    const pair = kind === "version" ? VERSIONS[size] : undefined;
    const content = text?.read() ?? (pair && (version === "old" ? pair.read().old : pair.read().next));
    if (content !== undefined) {
      response.writeHead(200, {
        "content-type": text?.type ?? "text/javascript",
        "content-length": content.byteLength,
        "cache-control": "public, max-age=86400",
        etag: ENTITY_TAG,
        ...(pair !== undefined && { "use-as-dictionary": `match="/version/${size}/*"` }),
      });
      response.end(content);
      return;
    }
    const bytes = Number(size);
    if ((kind !== "cached" && kind !== "private") || !(bytes >= 0 && bytes <= BYTES_MAX)) {
      response.writeHead(404, { "content-length": 0 }).end();
      return;
    }
    let body = bodies.get(bytes);
    if (body === undefined) {
      body = Buffer.alloc(bytes, "0123456789abcdef");
      bodies.set(bytes, body);
    }
    response.writeHead(200, {
      "content-type": "application/octet-stream",
      "content-length": bytes,
      "cache-control": kind === "cached" ? "public, max-age=86400" : "private, no-store",
      etag: ENTITY_TAG,
      "last-modified": "Mon, 02 Nov 2026 00:00:00 GMT",
    });
    response.end(body);
  });
  // A proxy keeps its connections between the rounds of a benchmark.
  server.keepAliveTimeout = 120_000;
  server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
  process.once("disconnect", () => process.exit(0));
}

if (process.argv[2] === "serve" && process.argv[1] === import.meta.filename) serve();
