/** A query that ends a worker: kept for the operator, and dropped by the other workers, over both transports. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { treeOf } from "../bench/tools/process-tree.ts";
import { type IsochroneProcess, startIsochrone, waitFor } from "../tools/processes.ts";
import { query } from "../unit/mapping-dns/fixture.ts";

describe.skipIf(process.platform !== "linux")("a query that ends a worker", () => {
  let server: IsochroneProcess | undefined;
  let directory = "";
  let port = 0;
  let admin = "";
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "isochrone-crash-"));
    server = await startIsochrone(
      [
        "--world",
        "deploy/worlds/small.yaml",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--workers",
        "3",
      ].concat("--crash-file", join(directory, "crashes.ndjson")),
      { script: "test/tools/dns-with-fault.ts", env: { ISOCHRONE_LOG: "error" }, timeoutMs: 60_000 },
    );
    port = Number(/:(\d+)\b/.exec(server.readyLine)?.[1]);
    admin = /admin (\S+)/.exec(server.readyLine)?.[1] ?? "";
  });
  afterAll(async () => {
    await server?.stop();
    await rm(directory, { recursive: true });
  });

  const event = async (name: string): Promise<number> => {
    const text = await (await fetch(`${admin}/metrics`)).text();
    return Number(new RegExp(`event="${name}"\\} (\\d+)`).exec(text)?.[1] ?? 0);
  };
  const workers = async (): Promise<number> => {
    const text = await (await fetch(`${admin}/metrics`)).text();
    return Number(/^isochrone_dns_workers (\d+)/m.exec(text)?.[1]);
  };
  const quarantined = async (): Promise<number> => {
    const text = await (await fetch(`${admin}/metrics`)).text();
    return [...text.matchAll(/reason="quarantined".*\} (\d+)/g)].reduce(
      (sum, [, count]) => sum + Number(count),
      0,
    );
  };
  const kept = (): readonly { readonly packetHex: string; readonly client: string; readonly why: string }[] =>
    readFileSync(join(directory, "crashes.ndjson"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  /** From sockets of their own, so that every worker may get one. */
  async function send(bytes: Uint8Array, times: number): Promise<void> {
    for (let n = 0; n < times; n++) {
      const socket = createSocket("udp4");
      await new Promise((resolve) => socket.send(bytes, port, "127.0.0.1", resolve));
      socket.close();
    }
  }
  async function isServing(): Promise<boolean> {
    const socket = createSocket("udp4");
    try {
      const reply = once(socket, "message", { signal: AbortSignal.timeout(2_000) });
      socket.send(query(), port, "127.0.0.1");
      await reply;
      return true;
    } catch {
      return false;
    } finally {
      socket.close();
    }
  }

  it("an abort: one worker ends, its bytes are in the file, and the same to all others is dropped", async () => {
    const deadly = query({ name: "crash.shop.example", ecs: "0001 18 00 c00002" });
    await send(deadly, 1);
    await waitFor(async () => (await event("query-ended-worker")) === 1, {
      timeoutMs: 10_000,
      what: "its record",
    });
    expect(kept()).toMatchObject([
      { packetHex: Buffer.from(deadly).toString("hex"), client: "127.0.0.1", why: "SIGABRT" },
    ]);
    // Another id, other letters: dropped by whoever gets it, the successor too.
    await send(query({ id: 7, name: "CRASH.shop.example", ecs: "0001 18 00 c00002" }), 40);
    await waitFor(async () => (await quarantined()) === 40, { timeoutMs: 10_000, what: "40 dropped" });
    expect(await event("worker-died")).toBe(1);
    expect(await isServing()).toBe(true);
  });

  it("over TCP: the connection ends with its worker, and the next one is closed without an answer", async () => {
    const deadly = query({ name: "crash.media.example" });
    const overTcp = async (): Promise<number> => {
      const socket = connect({ port, host: "127.0.0.1" });
      let bytes = 0;
      socket.on("data", (chunk) => (bytes += chunk.length)).on("error", () => socket.destroy());
      socket.end(Buffer.concat([Buffer.from([0, deadly.length]), deadly]));
      await once(socket, "close");
      return bytes;
    };
    expect(await overTcp()).toBe(0);
    await waitFor(async () => (await event("query-ended-worker")) === 2, {
      timeoutMs: 10_000,
      what: "its record",
    });
    expect(kept().at(-1)?.packetHex).toBe(Buffer.from(deadly).toString("hex"));
    for (let n = 0; n < 10; n++) expect(await overTcp()).toBe(0);
    expect(await event("worker-died")).toBe(2);
  });

  it("one that never returns: its worker is killed for it; a worker that is stopped from outside says nothing about its query", async () => {
    await send(query({ name: "spin.shop.example" }), 1);
    await waitFor(async () => (await event("query-ended-worker")) === 3, {
      timeoutMs: 20_000,
      what: "its record",
    });
    expect(kept().at(-1)?.why).toBe("SIGKILL");
    await waitFor(async () => (await workers()) === 3, { timeoutMs: 30_000, what: "three workers" });
    process.kill(treeOf(server?.pid ?? 0)[1] as number, "SIGKILL");
    await waitFor(async () => (await event("worker-died")) === 4, { timeoutMs: 10_000, what: "its end" });
    expect(kept()).toHaveLength(3);
    expect(await isServing()).toBe(true);
  });
});
