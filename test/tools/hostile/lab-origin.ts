/**
 * The origin of the slow-client lab, in a thread of its own so that the clients' work does not slow its answers:
 * `/large` 10 MiB; `/hit/...` and `/key/...` 1 KiB, `/sized/BYTES/...` as many, all stored for an hour; everything else 1 KiB
 * that may not be stored. Content of requests is read and thrown away. Says its port to the parent.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { parentPort } from "node:worker_threads";

const SMALL = Buffer.alloc(1_024, "s");
const LARGE = Buffer.alloc(10 * 2 ** 20, "l");
const STORED = "max-age=3600";

const server = createServer((request, response) => {
  const url = request.url ?? "";
  const sized = /^\/sized\/([0-9]{1,7})\//.exec(url)?.[1];
  const body = sized === undefined ? (url === "/large" ? LARGE : SMALL) : LARGE.subarray(0, Number(sized));
  const cacheControl = /^\/(large$|hit\/|key\/|sized\/)/.test(url) ? STORED : "no-store";
  // Content is waited for: an early answer would hide how long the server in between lets it drip.
  request.resume().once("end", () => {
    response.writeHead(200, { "Cache-Control": cacheControl, "Content-Length": body.byteLength }).end(body);
  });
});
server.keepAliveTimeout = 60_000;
server.listen({ port: 0, host: "127.0.0.1", backlog: 4_096 }, () => {
  parentPort?.postMessage((server.address() as AddressInfo).port);
});
