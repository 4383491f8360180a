/** Certificates of a deployment: pushed sealed, served by every node, swapped, withdrawn, refused without harm. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { get } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { connect, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ControlClient } from "#control";
import { createLogger } from "#kit/io";
import { makeCertificate, type TestCertificate } from "../tools/certificates.ts";
import { HOST, tierWorld } from "../tools/tier-world.ts";
import { fetchFrom, TestOrigin, until } from "./edge-support.ts";

const root = join(import.meta.dirname, "..", "..");
const token = "0123456789abcdef0123456789abcdef";
const peerKey = "00112233445566778899aabbccddeeff";
const environment = {
  ...process.env,
  ISOCHRONE_CONTROL_TOKEN: token,
  ISOCHRONE_PEER_KEY: peerKey,
  ISOCHRONE_LOG: "warn",
};

const state = mkdtempSync(join(tmpdir(), "isochrone-certificates-"));
const children: ChildProcess[] = [];
const origin = new TestOrigin();
const servers = ["e1-1", "e1-2"] as const;
const tlsPorts: number[] = [];
/** The second one is a server of two processes. */
const WORKERS = 2;
let workersPort: number;
/** Connections at once: the kernel gives them to the one worker or the other. */
const CONNECTIONS = 6;
let controlUrl: string;
let client: ControlClient;

function spawned(argv: readonly string[], more: NodeJS.ProcessEnv = {}): ChildProcess {
  return spawn(process.execPath, [join(root, "cli", "isochrone.js"), ...argv], {
    env: { ...environment, ...more },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

async function start(argv: readonly string[], more: NodeJS.ProcessEnv = {}): Promise<string> {
  const child = spawned(argv, more);
  children.push(child);
  child.stderr?.resume();
  let text = "";
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    text += chunk.toString();
    const line = text.split("\n").find((one) => one.startsWith("ready"));
    if (line !== undefined) return line;
  }
  throw new Error(`${argv.join(" ")} ended before it was ready: ${text}`);
}

function nodeArguments(n: number): readonly string[] {
  const serverId = servers[n] ?? "";
  return `edge --node ${serverId} --listen 127.0.0.1:0 --tls-listen 127.0.0.1:0 --control ${controlUrl}`
    .split(" ")
    .concat("--state", join(state, serverId), "--workers", String(n === 0 ? 1 : WORKERS))
    .concat("--run", join(state, "run"));
}

/** Runs `isochrone certificate ...` to its end. */
async function run(argv: readonly string[], more: NodeJS.ProcessEnv = {}) {
  const child = spawned(["certificate", ...argv, "--control", controlUrl], more);
  let output = "";
  let error = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    error += chunk.toString();
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, output, error };
}

function files(name: string, certificate: Pick<TestCertificate, "certPem" | "keyPem">): readonly string[] {
  const chain = join(state, `${name}.crt`);
  const key = join(state, `${name}.key`);
  // As many tools write it: the key beside the chain in one file. It must not travel.
  writeFileSync(chain, `${certificate.certPem}${certificate.keyPem}`);
  writeFileSync(key, certificate.keyPem);
  return ["--chain", chain, "--key", key];
}

/** Fingerprint that a node serves for a name, or the alert. */
async function served(port: number, servername = HOST): Promise<string> {
  const socket: TLSSocket = connect({ port, host: "127.0.0.1", servername, rejectUnauthorized: false });
  try {
    await once(socket, "secureConnect");
    return socket.getPeerCertificate().fingerprint256;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "";
  } finally {
    socket.destroy();
  }
}

const everywhere = async (expected: string | RegExp): Promise<boolean> => {
  const [alone = 0, shared = 0] = tlsPorts;
  const ports = [alone, ...Array.from({ length: CONNECTIONS }, () => shared)];
  const found = await Promise.all(ports.map(async (port) => await served(port)));
  return found.every((one) => (typeof expected === "string" ? one === expected : expected.test(one)));
};

/** All that control and the nodes keep on their disks. */
function kept(directory: string): string {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), "latin1"))
    .join("\n");
}

beforeAll(async () => {
  await origin.start();
  origin.answer = (_request, response) => response.writeHead(200).end("hello");
  const control = await start(["control", "--listen", "127.0.0.1:0", "--state", join(state, "control")]);
  controlUrl = /http:\/\/[^ ]+/.exec(control)?.[0] ?? "";
  client = new ControlClient({
    url: controlUrl,
    token,
    nodeId: "test",
    logger: createLogger({ role: "test", id: "test" }, { level: "silent" }),
  });
  const { topology } = tierWorld({
    edgeClusters: 1,
    edgesPerCluster: servers.length,
    parents: 0,
    originPort: origin.port,
    portOf: (serverId) => 1 + servers.findIndex((one) => one === serverId),
  });
  await client.put("topology", "world", topology, { expectedVersion: 0 });
  for (const n of servers.keys()) {
    const line = await start(nodeArguments(n));
    workersPort = Number(/http:\/\/127\.0\.0\.1:(\d+)/.exec(line)?.[1]);
    tlsPorts.push(Number(/tls https:\/\/127\.0\.0\.1:(\d+)/.exec(line)?.[1]));
  }
});
afterAll(async () => {
  await client.close();
  for (const child of children) child.kill("SIGKILL");
  await origin.stop();
  rmSync(state, { recursive: true, force: true });
});

test("a deployment's certificate: pushed, swapped, kept sealed, refused without harm, withdrawn", async () => {
  expect(await everywhere(/HANDSHAKE_FAILURE/)).toBe(true);
  const first = makeCertificate({ names: [HOST, "*.shop.example"] });
  const pushed = await run(["push", "shop", ...files("first", first)]);
  expect(pushed).toMatchObject({ code: 0, error: "" });
  expect(pushed.output).toBe(`shop: version 1 is active (${HOST}, *.shop.example)\n`);
  await until(() => everywhere(first.fingerprint), "both nodes serve it");
  expect(await served(tlsPorts[0]!, "other.example")).toMatch(/HANDSHAKE_FAILURE/);

  const open = connect({
    port: tlsPorts[0]!,
    host: "127.0.0.1",
    servername: HOST,
    rejectUnauthorized: false,
  });
  await once(open, "secureConnect");
  const session = new Promise<Buffer>((resolve) => open.once("session", resolve));
  const second = makeCertificate({ names: [HOST], notAfterMs: Date.now() + 3_600_000 });
  const renewed = await run(["push", "shop", ...files("second", second)]);
  expect(renewed.code).toBe(0);
  expect(renewed.error).toMatch(/^warning: the certificate is about to expire \(/);
  await until(() => everywhere(second.fingerprint), "both nodes serve the new one");
  const { body } = await fetchFrom(workersPort, "/metrics");
  expect(body.toString()).toMatch(/^isochrone_edge_workers_living 2$/m);
  expect(body.toString()).toMatch(/^isochrone_edge_tls_certificates 1$/m);
  // The connection from before goes on, and its session is resumed at the other node.
  open.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`);
  const [answer] = (await once(open, "data")) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 /);
  const resumed = connect({
    port: tlsPorts[1]!,
    host: "127.0.0.1",
    servername: HOST,
    rejectUnauthorized: false,
    session: await session,
  });
  await once(resumed, "secureConnect");
  expect(resumed.isSessionReused()).toBe(true);
  open.destroy();
  resumed.destroy();

  // The private key is nowhere in the open: not in control, not at a node.
  await client.documents("certificate");
  const secret = second.keyPem.split("\n")[1] ?? "";
  expect(secret.length).toBeGreaterThan(40);
  for (const name of ["control", ...servers]) {
    const text = kept(join(state, name));
    expect(text).toContain("v1.");
    expect(text).not.toContain(secret);
    expect(text).not.toContain("PRIVATE KEY");
  }

  // Sealed under another key, or for another certificate: each node keeps what it has.
  const foreign = await run(["push", "shop", ...files("third", first)], {
    ISOCHRONE_PEER_KEY: "ff".repeat(16),
  });
  expect(foreign.code).toBe(0);
  const mine = (await client.document("certificate", "shop"))?.body as Record<string, unknown>;
  const other = makeCertificate({ names: [HOST] });
  await client.put(
    "certificate",
    "swapped",
    { ...mine, certificateId: "swapped", chainPem: other.certPem },
    { expectedVersion: 0 },
  );
  expect(await everywhere(second.fingerprint)).toBe(true);

  const listed = await run(["list"]);
  expect(listed.output).toMatch(/shop +3 +served +www\.shop\.example/);
  const again = await run(["push", "shop", ...files("fourth", second)]);
  expect(again.code).toBe(0);

  // What a node kept does not open under its new key: it starts all the same, with the rest.
  const [before] = children.splice(1, 1);
  before?.kill("SIGKILL");
  await once(before!, "exit");
  const line = await start(nodeArguments(0), { ISOCHRONE_PEER_KEY: "ee".repeat(16) });
  tlsPorts[0] = Number(/tls https:\/\/127\.0\.0\.1:(\d+)/.exec(line)?.[1]);
  expect(await served(tlsPorts[0])).toMatch(/HANDSHAKE_FAILURE/);
  const metrics = await fetchFrom(Number(/http:\/\/127\.0\.0\.1:(\d+)/.exec(line)?.[1]), "/metrics");
  expect(metrics.body.toString()).toMatch(
    /^isochrone_edge_documents_unusable_total\{kind="certificate"\} 1$/m,
  );
  expect((await run(["withdraw", "shop"])).output).toBe("shop: version 5 withdraws it\n");
  await until(() => everywhere(/HANDSHAKE_FAILURE/), "nobody serves it");
}, 60_000);

test("pages under https time clusters by names of their own, which one certificate covers; those names have nothing else", async () => {
  const domain = `t.${HOST}`;
  const certificate = makeCertificate({ names: [HOST, `*.${domain}`] });
  expect((await run(["push", "beacon", ...files("beacon", certificate)])).code).toBe(0);
  const { property } = tierWorld({
    edgeClusters: 1,
    edgesPerCluster: servers.length,
    parents: 0,
    originPort: origin.port,
    portOf: () => 1,
  });
  const withBeacon = (beacon: object) => ({ ...property, beacon });
  const refused = withBeacon({ sampleRatio: 1, probeDomain: "t.other.example" });
  await expect(client.put("property", "shop", refused, { expectedVersion: 0 })).rejects.toThrow(
    /probeDomain/,
  );
  await client.put("property", "shop", withBeacon({ sampleRatio: 1 }), {
    expectedVersion: 0,
    activate: true,
  });
  const port = tlsPorts[1] ?? 0;
  const ask = async (host: string, path: string) => {
    const request = get({
      host: "127.0.0.1",
      port,
      path,
      servername: host,
      ca: certificate.certPem,
      headers: { host: `${host}:${port}` },
      agent: false,
    });
    const [response] = (await once(request, "response")) as [IncomingMessage];
    return { status: response.statusCode, headers: response.headers, body: await text(response) };
  };
  const handedOut = async () => JSON.parse((await ask(HOST, "/.isochrone/beacon")).body) as unknown;
  await until(
    async () => JSON.stringify(await handedOut().catch(() => undefined)) === '{"isSampled":false}',
    "the beacon is on, and has no names to hand out",
  );
  const named = withBeacon({ sampleRatio: 1, probeDomain: domain });
  await client.put("property", "shop", named, { expectedVersion: 1, activate: true });
  const url = `https://e1.${domain}:${port}/.isochrone/beacon/probe`;
  await until(async () => {
    const given = (await handedOut()) as { candidates?: unknown };
    return JSON.stringify(given.candidates) === JSON.stringify([{ clusterId: "e1", url }]);
  }, "names are handed out");
  expect(await ask(`e1.${domain}`, "/.isochrone/beacon/probe?1")).toMatchObject({
    status: 200,
    headers: { "timing-allow-origin": "*", "access-control-allow-origin": "*" },
    body: "",
  });
  for (const path of ["/", "/.isochrone/beacon", "/.isochrone/status", "/metrics"])
    expect((await ask(`e1.${domain}`, path)).status, path).toBe(421);
  expect((await ask(HOST, "/")).status).toBe(200);
}, 60_000);

test("what does not fit is refused before control is asked", async () => {
  const one = makeCertificate({ names: [HOST] });
  const mixed = { certPem: one.certPem, keyPem: makeCertificate({ names: [HOST] }).keyPem };
  const wrong = await run(["push", "shop", ...files("wrong", mixed)]);
  expect(wrong).toMatchObject({ code: 2, output: "" });
  expect(wrong.error).toMatch(/the private key does not belong to the first certificate\n$/);
  expect((await run(["push", "shop"])).error).toMatch(/needs --chain FILE and --key FILE/);
  await expect(
    client.put(
      "certificate",
      "plain",
      {
        certificateId: "plain",
        hostnames: [HOST],
        chainPem: one.certPem,
        sealedKey: one.keyPem,
        fingerprint: one.fingerprint,
      },
      { expectedVersion: 0 },
    ),
  ).rejects.toThrow(/sealedKey/);
});
