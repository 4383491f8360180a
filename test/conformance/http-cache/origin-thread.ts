/** The origin of the public suite in a thread of its own, so that the client's work is not taken for the origin's. */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { parentPort } from "node:worker_threads";
import { load } from "./package.ts";

type Handler = (path: string[], request: object, response: object) => void;

const handlers = new Map<string, Handler>();
for (const name of ["config", "test", "state"])
  handlers.set(name, (await load<{ default: Handler }>(`server/handle-${name}.mjs`)).default);

// The handlers write a line for each request that has no test.
console.log = () => {};

/** Requests that are kept waiting until somebody asks for `/release`. */
const held: ServerResponse[] = [];
handlers.set("hold", (_path, _request, response) => {
  held.push(response as ServerResponse);
});
handlers.set("release", (_path, _request, response) => {
  const headers = { "Cache-Control": "max-age=60" };
  (response as ServerResponse).end(String(held.length));
  for (const one of held.splice(0)) one.writeHead(200, headers).end("held");
});

const server = createServer((request, response) => {
  const [, kind = "", ...path] = new URL(request.url ?? "/", "http://origin").pathname.split("/");
  const handler = handlers.get(kind);
  if (handler === undefined) response.writeHead(404).end();
  else handler(path, request, response);
});
server.listen(0, "127.0.0.1", () => {
  parentPort?.postMessage((server.address() as AddressInfo).port);
});
