/**
 * What an exchange leaves in the old generation: `node young-garbage.ts plain|undici` prints bytes an exchange. In a process of its own, so
 * that nothing else fills the heap.
 */
import { duplexPair } from "node:stream";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { PathPool, Stop, transportDefaults } from "#transport";

const AT_ONCE = 16;
const EACH = 2_000;
const CONTENT = "x".repeat(1_024);
const ANSWER = `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n${CONTENT}`;

// With content, though empty, a request is undici's.
const body = process.argv[2] === "undici" ? new Uint8Array(0) : undefined;
const pool = new PathPool({
  label: "origin",
  settings: transportDefaults,
  connect: () => {
    const [near, far] = duplexPair();
    far.on("data", () => far.write(ANSWER));
    return Promise.resolve(near);
  },
  onConnecting: () => {},
  onConnected: () => {},
});

async function ask(): Promise<void> {
  const head = await pool.request({
    method: "GET",
    path: "/",
    headers: [["Host", "example.com"]],
    body,
    signal: new Stop(),
    connectMs: 60_000,
    headersMs: 60_000,
    bodyMs: 60_000,
  });
  let bytes = 0;
  for await (const chunk of head.body) bytes += (chunk as Buffer).byteLength;
  if (bytes !== CONTENT.length) throw new Error(`${bytes} bytes, expected ${CONTENT.length}`);
}

async function many(count: number): Promise<void> {
  const line = async (): Promise<void> => {
    for (let index = 0; index < count; index++) await ask();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, line));
}

function oldBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name: name }) => name === "old_space")?.space_used_size ?? 0;
}

// Code is compiled, connections are open.
await many(EACH / 2);
setFlagsFromString("--expose-gc");
(runInNewContext("gc") as () => void)();
const before = oldBytes();
await many(EACH);
console.log((oldBytes() - before) / (AT_ONCE * EACH));
process.exit(0);
