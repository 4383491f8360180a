/**
 * What an exchange leaves behind goes with the young generation: nothing of one keeps the next from that. Where it did, each was copied twice and
 * waited for a collection of the old one, at a third of the CPU that a request took.
 */
import { duplexPair } from "node:stream";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { PathPool, Stop, transportDefaults } from "#transport";

const AT_ONCE = 8;
const EACH = 4_000;
const ANSWER = `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n${"x".repeat(1_024)}`;

function oldBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name: name }) => name === "old_space")?.space_used_size ?? 0;
}

test("an exchange", async () => {
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
  const ask = async (): Promise<void> => {
    const head = await pool.request({
      method: "GET",
      path: "/",
      headers: [["Host", "example.com"]],
      body: undefined,
      signal: new Stop(),
      connectMs: 5_000,
      headersMs: 5_000,
      bodyMs: 5_000,
    });
    let bytes = 0;
    for await (const chunk of head.body) bytes += (chunk as Buffer).byteLength;
    expect(bytes).toBe(1_024);
  };
  const many = async (count: number): Promise<void> => {
    const line = async (): Promise<void> => {
      for (let index = 0; index < count; index++) await ask();
    };
    await Promise.all(Array.from({ length: AT_ONCE }, line));
  };
  // Code is compiled, connections are open.
  await many(EACH / 4);
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  const before = oldBytes();
  await many(EACH);
  const grownBytes = oldBytes() - before;
  await pool.close();
  expect(grownBytes / (AT_ONCE * EACH)).toBeLessThan(200);
}, 60_000);
