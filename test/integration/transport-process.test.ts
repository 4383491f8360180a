/** The relay as a process: documents from control, last known good without it, reports, refusals, a clean end. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { ControlClient } from "#control";
import { propertyDocument } from "#kit";
import { dial, NodeTrust } from "#transport";
import { RELAY_ALPN } from "../../transport/core/relay-policy.ts";
import { newKey, requestBy } from "../tools/node-credentials.ts";
import {
  freePort,
  type IsochroneProcess,
  runIsochrone,
  runIsochroneHere,
  startIsochrone,
  waitFor,
} from "../tools/processes.ts";
import { close, listen, logger, peerKey, serverId, topologyOf } from "./transport-support.ts";

const token = "test-token-of-thirty-two-characters";
const env = {
  ISOCHRONE_CONTROL_TOKEN: token,
  ISOCHRONE_PEER_KEY: peerKey.toString("hex"),
  ISOCHRONE_WAN: undefined,
};
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), "isochrone-relay-"));
  cleanups.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function start(...args: string[]): Promise<IsochroneProcess> {
  const started = await startIsochrone(args, { env });
  cleanups.push(() => started.stop());
  return started;
}

/** The status of a tunnel to `authority` through the relay, and what the target answers. */
async function tunnel(trust: NodeTrust, port: number, authority: string): Promise<string> {
  const peer = trust.clientOptions({ serverId: serverId("nyc-1"), roles: ["relay"] }, RELAY_ALPN);
  const connection = await dial({ host: "127.0.0.1", port, tls: { servername: "nyc-1", peer } });
  connection.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  connection.write(`GET / HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`);
  let text = "";
  for await (const chunk of connection) text += String(chunk);
  return text;
}

describe("isochrone relay", () => {
  test("takes documents from control, forwards, reports, and starts from its disk without control", async () => {
    const origin = await listen((_request, response) => response.end("from the origin"));
    cleanups.push(() => close(origin.server));
    const [controlPort, port] = [await freePort(), await freePort()];
    const url = `http://127.0.0.1:${controlPort}`;
    const state = directory();
    const control = await start("control", "--listen", `127.0.0.1:${controlPort}`, "--state", directory());
    const client = new ControlClient({ url, token, nodeId: "test", logger });
    cleanups.push(() => client.close());
    const sites = [
      { id: "fra", role: "edge", ports: [1] },
      { id: "nyc", role: "relay", ports: [port] },
    ];
    await client.put("topology", "lab", topologyOf(sites), { expectedVersion: 0 });
    const property = propertyDocument.parse({
      propertyId: "shop-www",
      customerId: "shop",
      hostnames: ["www.shop.example"],
      origins: [{ scheme: "http", host: "127.0.0.1", port: origin.port }],
    });
    await client.put("property", "shop-www", property, { expectedVersion: 0, activate: true });

    const args = [
      "relay",
      "--node",
      "nyc-1",
      "--listen",
      `127.0.0.1:${port}`,
      "--control",
      url,
      "--state",
      state,
    ];
    const keyPem = newKey();
    const certificate = await client.nodeCertificate(serverId("fra-1"), requestBy("fra-1", keyPem));
    const trust = new NodeTrust();
    trust.set({ ...certificate, keyPem });
    const first = await start(...args);
    expect(first.readyLine).toBe(`ready relay nyc-1 on http://127.0.0.1:${port}`);
    const readyz = async (): Promise<boolean> =>
      (await fetch(`http://127.0.0.1:${port}/readyz`)).status === 200;
    await waitFor(readyz, { timeoutMs: 10_000, what: "the relay to be ready" });
    const authority = `127.0.0.1:${origin.port}`;
    await waitFor(async () => (await tunnel(trust, port, authority)).includes("from the origin"), {
      timeoutMs: 10_000,
      what: "a tunnel to the origin",
    });
    expect(await tunnel(trust, port, `127.0.0.1:${controlPort}`)).toMatch(
      /^HTTP\/1\.1 403 [^]*target-not-permitted/,
    );
    const report = await waitFor(
      async () => (await client.reports()).find((one) => one.serverId === "nyc-1" && one.state === "ready"),
      { timeoutMs: 10_000, what: "the relay's report" },
    );
    expect(report).toMatchObject({
      clusterId: "nyc",
      role: "relay",
      certificate: { state: "valid" },
      applied: { "property/shop-www": 1, "topology/lab": 1 },
    });
    const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    expect(metrics).toMatch(/^isochrone_relay_tunnels_total\{outcome="granted"\} [1-9]/m);
    expect(metrics).toMatch(/^isochrone_relay_tunnels_total\{outcome="target-not-permitted"\} 1$/m);
    expect(metrics).toMatch(/^isochrone_relay_node_certificate_seconds_left 8[0-9]{4}/m);
    expect((await client.nodes()).map((one) => one.serverId)).toEqual(["fra-1", "nyc-1"]);
    const status = `http://127.0.0.1:${port}/.isochrone/status`;
    expect((await fetch(status)).status).toBe(401);
    const known = await fetch(status, { headers: { Authorization: `Bearer ${token}` } });
    expect(await known.json()).toMatchObject({ serverId: "nyc-1", state: "ready" });

    expect(await first.stop()).toEqual({ code: 0, signal: null });
    await control.stop();
    await start(...args);
    await waitFor(readyz, { timeoutMs: 10_000, what: "readiness from the disk alone" });
    expect(await tunnel(trust, port, authority)).toContain("from the origin");
  });

  const good = [
    "--node",
    "nyc-1",
    "--listen",
    "127.0.0.1:0",
    "--control",
    "http://127.0.0.1:1",
    "--state",
    "unused",
  ];
  const without = (flag: string): string[] =>
    good.filter((_, index) => index !== good.indexOf(flag) && index !== good.indexOf(flag) + 1);
  const wanFile = join(tmpdir(), `isochrone-wan-${process.pid}.json`);
  test.each([
    { args: without("--node"), extra: {}, wrong: /--node is missing/ },
    { args: [...without("--node"), "--node", "NYC"], extra: {}, wrong: /--node: got "NYC", expected a name/ },
    { args: [...without("--listen"), "--listen", "nowhere"], extra: {}, wrong: /--listen: got "nowhere"/ },
    { args: [...good, "--frobnicate"], extra: {}, wrong: /frobnicate/ },
    { args: good, extra: { ISOCHRONE_PEER_KEY: undefined }, wrong: /ISOCHRONE_PEER_KEY is not set/ },
    { args: good, extra: { ISOCHRONE_PEER_KEY: "12" }, wrong: /hexadecimal/ },
    { args: good, extra: { ISOCHRONE_WAN: wanFile }, wrong: /self: got nothing/ },
  ])("refuses $wrong with exit code 2 and one line", async ({ args, extra, wrong }) => {
    writeFileSync(wanFile, JSON.stringify({ siteOfAddress: {}, links: {} }));
    cleanups.push(() => rmSync(wanFile, { force: true }));
    const ended = await runIsochroneHere(["relay", ...args], { env: { ...env, ...extra } });
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(wrong);
    expect(ended.stderr.trim().split("\n")).toHaveLength(1);
    expect(ended.stderr).not.toContain(env.ISOCHRONE_PEER_KEY);
  });

  test("an address in use: exit code 2 and what to do", async () => {
    const taken = await listen((_request, response) => response.end());
    cleanups.push(() => close(taken.server));
    const args = [...without("--listen"), "--listen", `127.0.0.1:${taken.port}`];
    const ended = await runIsochrone(["relay", ...args], { env, cwd: directory() });
    expect(ended).toMatchObject({ code: 2 });
    expect(ended.stderr).toMatch(/the address is in use; stop the process/);
  });
});
