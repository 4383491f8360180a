/** The name server with late inputs beside another one, over real sockets: stands by, stands in for a poisoned and for a dead one, stands by again. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readMessage } from "../../mapping/core/dns/wire.ts";
import { freePort, type IsochroneProcess, startIsochrone, waitFor } from "../tools/processes.ts";
import { properties, query, snapshot, topology } from "../unit/mapping-dns/fixture.ts";

const token = "stand-in-token-0123456789";
const env = { ISOCHRONE_CONTROL_TOKEN: token, ISOCHRONE_LOG: "error" };
const DELAY_SECONDS = 600;

describe("isochrone dns --input-delay", () => {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-stand-in-"));
  const running = new Set<IsochroneProcess>();
  afterAll(async () => {
    await Promise.all([...running].map((one) => one.stop()));
    rmSync(directory, { recursive: true, force: true });
  });
  async function start(...args: readonly string[]): Promise<IsochroneProcess> {
    const one = await startIsochrone(args, { env, timeoutMs: 60_000 });
    running.add(one);
    return one;
  }
  /** The rcode; "empty": NOERROR without an address. */
  async function outcomeAt(port: number): Promise<number | "empty" | "silent"> {
    const socket = createSocket("udp4");
    try {
      const reply = once(socket, "message", { signal: AbortSignal.timeout(2_000) });
      socket.send(query(), port, "127.0.0.1");
      const read = readMessage((await reply)[0] as Uint8Array);
      if (!read.ok) return "silent";
      return read.message.answers.length > 0 ? 0 : read.message.header.rcode || "empty";
    } catch {
      return "silent";
    } finally {
      socket.close();
    }
  }

  it("refuses while the other answers, answers from before when it is poisoned or dead, and takes nothing meanwhile", async () => {
    const control = await start("control", "--listen", "127.0.0.1:0", "--state", join(directory, "control"));
    const controlUrl = /(http:\S+)/.exec(control.readyLine)?.[1] ?? "";
    const put = async (kind: string, id: string, body: unknown, expectedVersion = 0): Promise<void> => {
      const response = await fetch(`${controlUrl}/v1/documents/${kind}/${id}`, {
        method: "POST",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: JSON.stringify({ body, expectedVersion, activate: true }),
      });
      if (!response.ok) throw new Error(`${kind}/${id}: ${response.status} ${await response.text()}`);
    };
    const [normalPort, latePort] = [await freePort(), await freePort()];
    const ports = [normalPort, latePort];
    const nameServers = topology.nameService.nameServers.map((one, n) => ({
      ...one,
      address: "127.0.0.1",
      dnsPort: ports[n],
    }));
    await put("topology", "test", { ...topology, nameService: { ...topology.nameService, nameServers } });
    await put("property", "shop", properties[0]);
    await put("map", "map", snapshot);
    const run = (id: string, port: number, ...more: readonly string[]) =>
      start(
        "dns",
        "--node",
        id,
        "--listen",
        `127.0.0.1:${port}`,
        "--admin",
        "127.0.0.1:0",
        "--control",
        controlUrl,
        "--state",
        join(directory, id),
        ...more,
      );
    const normal = await run("ns-1", normalPort);
    const late = await run("ns-2", latePort, "--input-delay", String(DELAY_SECONDS), "--workers", "2");
    const admin = /admin (\S+)/.exec(late.readyLine)?.[1] ?? "";
    const metric = async (name: string): Promise<number> => {
      const text = await (await fetch(`${admin}/metrics`)).text();
      return Number(new RegExp(`^${name} (\\S+)`, "m").exec(text)?.[1]);
    };
    const becomes = (rcode: number) =>
      waitFor(async () => (await outcomeAt(latePort)) === rcode, {
        timeoutMs: 30_000,
        what: `rcode ${rcode}`,
      });

    await becomes(5);
    expect(await outcomeAt(normalPort)).toBe(0);
    expect((await fetch(`${admin}/readyz`)).status).toBe(503);

    // The input that empties the other: it is held here, and will be.
    await put("property", "shop", { ...properties[0], isActive: false }, 1);
    await waitFor(async () => (await outcomeAt(normalPort)) === "empty", {
      timeoutMs: 10_000,
      what: "the other to have nothing to say",
    });
    await becomes(0);
    expect(await metric("isochrone_dns_documents_held")).toBe(1);
    expect(await metric("isochrone_dns_standing_by")).toBe(0);
    expect((await fetch(`${admin}/readyz`)).status).toBe(200);

    // Mended, it answers again, and the late one stands by.
    await put("property", "shop", properties[0], 2);
    await waitFor(async () => (await outcomeAt(normalPort)) === 0, {
      timeoutMs: 10_000,
      what: "the other's answer",
    });
    await becomes(5);

    normal.signal("SIGKILL");
    await becomes(0);
  });
});
