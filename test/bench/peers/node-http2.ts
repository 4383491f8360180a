/**
 * A bare node:http2 server that answers each path with what its origin said once: no cache, no checks, no log. What an edge on
 * node:http2 costs can come near to it and not below.
 */
import { readFileSync } from "node:fs";
import { createSecureServer } from "node:http2";
import { freePort } from "../../tools/processes.ts";
import { listening, startProgram } from "../tools/program.ts";
import { header, type Server } from "./peer.ts";

export const nodeHttp2: Server = {
  name: "node-http2",
  form: "bare",
  note: "node:http2 alone, a constant answer: the least that HTTP/2 costs in Node",
  program: process.execPath,
  version: async () => process.versions.node,
  start: async (setting) => {
    const { certificate } = setting;
    if (certificate === undefined) throw new Error("node-http2 speaks TLS only, and has no certificate");
    const port = await freePort();
    const program = startProgram(process.execPath, [
      import.meta.filename,
      "serve",
      String(port),
      String(setting.originPort),
      certificate.certificateFile,
      certificate.keyFile,
    ]);
    await listening(program, "node-http2", port);
    return { port, tlsPort: port, pids: [program.pid], stop: () => program.stop() };
  },
  protocol: "h2",
  isHit: (headers) => header(headers, "x-cache") === "HIT",
};

interface Kept {
  readonly head: string[];
  readonly content: Buffer;
}

async function fetched(originPort: string, path: string): Promise<Kept> {
  const response = await fetch(`http://127.0.0.1:${originPort}${path}`);
  const content = Buffer.from(await response.arrayBuffer());
  // As many fields as a cache answers with.
  const head = [":status", String(response.status), "x-cache", "HIT", "age", "1", "via", "2 bare"];
  head.push("date", new Date().toUTCString(), "content-length", String(content.byteLength));
  for (const name of ["cache-control", "etag", "content-type"]) {
    const value = response.headers.get(name);
    if (value !== null) head.push(name, value);
  }
  return { head, content };
}

function serve([port, originPort = "", certificateFile = "", keyFile = ""]: readonly string[]): void {
  const kept = new Map<string, Promise<Kept>>();
  const ready = new Map<string, Kept>();
  const server = createSecureServer({
    cert: readFileSync(certificateFile),
    key: readFileSync(keyFile),
    ciphers: "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384",
  });
  server.on("stream", (stream, headers) => {
    const path = headers[":path"] ?? "/";
    stream.on("error", () => {});
    const one = ready.get(path);
    if (one !== undefined) {
      stream.respond(one.head);
      stream.end(one.content);
      return;
    }
    let waiting = kept.get(path);
    if (waiting === undefined) kept.set(path, (waiting = fetched(originPort, path)));
    void waiting.then((found) => {
      ready.set(path, found);
      if (stream.destroyed) return;
      stream.respond(found.head);
      stream.end(found.content);
    });
  });
  server.on("sessionError", () => {});
  server.listen(Number(port), "127.0.0.1");
}

if (process.argv[2] === "serve" && process.argv[1] === import.meta.filename) serve(process.argv.slice(3));
