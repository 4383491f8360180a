/**
 * Goal: fifty downloads that their clients broke off hold no later request back, whatever may be done with the answers. Method: an origin
 * whose answers never end, so that who waits for one of them waits for ever.
 */
import type { ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fetchFrom, startEdge, type TestEdge, TestOrigin, until } from "./edge-support.ts";

const MIBIBYTE = 2 ** 20;
const DOWNLOADS = 50;
const BYTES = 10 * MIBIBYTE;
const BEGINNING_BYTES = 2 * MIBIBYTE;
const READ_BYTES = 64 * 1_024;

const origin = new TestOrigin();
let edge: TestEdge;
const open = new Set<ServerResponse>();

/** Sends the beginning, and keeps the rest back. */
function send(response: ServerResponse): void {
  open.add(response);
  response.once("close", () => open.delete(response));
  response.write(Buffer.alloc(BEGINNING_BYTES));
}

/** Reads the beginning of a download. */
async function begin(path: string): Promise<Socket> {
  const socket = connect(edge.port, "127.0.0.1").on("error", () => {});
  socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${edge.port}\r\n\r\n`);
  let bytes = 0;
  socket.on("data", (chunk: Buffer) => {
    bytes += chunk.byteLength;
    if (bytes > READ_BYTES) socket.pause();
  });
  await until(() => bytes > READ_BYTES, `${path} has begun`);
  return socket;
}

const kinds = [
  // A slice that has begun is brought to its end.
  { what: "in slices", isLetGo: false, fields: { "Cache-Control": "max-age=60", ETag: '"1"' } },
  { what: "stored whole", isLetGo: true, fields: { "Cache-Control": "max-age=60" } },
  { what: "not stored", isLetGo: true, fields: { "Cache-Control": "no-store" } },
];

beforeEach(async () => {
  origin.answer = ({ method, url }, response) => {
    const fields = kinds[Number(/^\/big-([0-9])/.exec(url ?? "")?.[1])]?.fields;
    if (fields === undefined) {
      response.writeHead(200, { "Cache-Control": "max-age=60" }).end(`${method} of ${url}`);
      return;
    }
    response.writeHead(200, { ...fields, "Content-Length": BYTES });
    send(response);
  };
  await origin.start();
  edge = await startEdge(origin, { memoryBytes: 512 * MIBIBYTE });
});
afterEach(async () => {
  await edge.running.stop();
  await origin.stop();
});

describe("after fifty downloads were broken off", () => {
  test.each(kinds.map(({ what, isLetGo }, kind) => ({ what, isLetGo, kind })))(
    "of objects that are $what, a POST and a GET are answered, and the origin is let go",
    async ({ kind, isLetGo }) => {
      const sockets = await Promise.all(
        Array.from({ length: DOWNLOADS }, async (_, n) => await begin(`/big-${kind}/${n}`)),
      );
      // A second attempt of a late one is given up when the first is answered.
      await until(() => open.size === DOWNLOADS, "the origin has each download once");
      for (const [n, socket] of sockets.entries()) {
        if (n % 2 === 0) socket.resetAndDestroy();
        else socket.destroy();
      }
      const posted = fetchFrom(edge.port, "/form", { method: "POST", body: "x" });
      const got = await Promise.all([fetchFrom(edge.port, "/small"), fetchFrom(edge.port, "/other")]);
      expect((await posted).body.toString()).toBe("POST of /form");
      expect(got.map(({ body }) => body.toString())).toEqual(["GET of /small", "GET of /other"]);
      if (!isLetGo) for (const response of open) response.write(Buffer.alloc(MIBIBYTE));
      await until(() => open.size === 0, "the origin has nothing open");
      await until(async () => (await edge.metric("fills_active")) === 0, "all fills have ended");
      expect(await edge.metric("fill_bytes")).toBe(0);
      // No half an object is left; whole slices are.
      const again = await begin(`/big-${kind}/0`);
      const asked = origin.seen.filter(({ url }) => url === `/big-${kind}/0`);
      expect(asked).toHaveLength(isLetGo ? 2 : 1);
      again.destroy();
    },
  );
});
