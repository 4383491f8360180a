/**
 * Traffic management on real processes and sockets: control, a name server that tests two web servers, and a resolver for names outside.
 * One web server dies and leaves dig's answers within the thresholds; an ALIAS at the top of a zone follows a name outside.
 */
import { execFile } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAddress } from "#kit";
import { dnsClasses, dnsTypes } from "../../mapping/core/dns/constants.ts";
import { readMessage, writeMessage } from "../../mapping/core/dns/wire.ts";
import { main as policyCommand } from "../../cli/policy.ts";
import { main as zoneCommand } from "../../cli/zone.ts";
import { edgeAgentsOf } from "../../transport/core/target-tests/agents.ts";
import { policyReport } from "../../mapping/core/policy/explain.ts";
import { type IsochroneProcess, requireProgram, startIsochrone, waitFor } from "../tools/processes.ts";
import { snapshot, topology } from "../unit/mapping-dns/fixture.ts";

const token = "policies-token-0123456789";
const env = { ISOCHRONE_CONTROL_TOKEN: token, ISOCHRONE_LOG: "error" };
const dig = requireProgram("dig");

async function digAt(port: number, ...args: readonly string[]): Promise<string> {
  const options = ["@127.0.0.1", "-p", String(port), "+time=2", "+tries=1", "+norecurse", "+short"];
  const { stdout } = await promisify(execFile)(dig ?? "dig", [...options, ...args]);
  return stdout.trim().split("\n").toSorted().join(" ");
}

/** A web server that says that it is well, until it is told otherwise. */
async function webServer(
  host: string,
  port: number,
): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer((request, response) => {
    response.statusCode =
      request.headers.host?.startsWith("app.own.test") && request.url === "/health" ? 200 : 404;
    response.end("all is well");
  });
  server.listen(port, host);
  await once(server, "listening");
  return { server, port: (server.address() as AddressInfo).port };
}

/** Answers A of one name behind an alias, and nothing else. */
async function resolverStandIn(
  addresses: readonly string[],
): Promise<{ readonly socket: Socket; readonly port: number }> {
  const socket = createSocket("udp4");
  socket.on("message", (bytes, from) => {
    const read = readMessage(bytes);
    const [question] = read.ok ? read.message.questions : [];
    if (!read.ok || question === undefined) return;
    const isAsked = question.name.text === "app.elsewhere.net" && question.type === dnsTypes.A;
    const answer = writeMessage({
      ...read.message,
      header: { ...read.message.header, isResponse: true, isRecursionAvailable: true },
      answers: isAsked
        ? addresses.map((text) => ({
            name: question.name,
            type: dnsTypes.A,
            class: dnsClasses.IN,
            ttlSeconds: 4,
            data: { kind: "address", address: parseAddress(text)! },
          }))
        : [],
    });
    socket.send(answer!, from.port, from.address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return { socket, port: socket.address().port };
}

describe.skipIf(dig === undefined)("traffic management", () => {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-policies-"));
  const outside = ["192.0.2.80"];
  let control: IsochroneProcess;
  let node: IsochroneProcess;
  let edge: IsochroneProcess;
  let first: Awaited<ReturnType<typeof webServer>>;
  let second: typeof first;
  let resolver: Awaited<ReturnType<typeof resolverStandIn>>;
  let dns: number;
  let admin: string;
  let controlUrl: string;

  /** In this process: on a busy machine a process a command takes long. */
  const run = async (command: typeof policyCommand, ...args: readonly string[]): Promise<void> => {
    expect(await command([...args, "--control", controlUrl])).toBe(0);
  };
  const put = async (kind: string, id: string, body: unknown): Promise<void> => {
    const response = await fetch(`${controlUrl}/v1/documents/${kind}/${id}`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ body, expectedVersion: 0 }),
    });
    expect(response.status, await response.text()).toBeLessThan(300);
  };

  const reports = async (): Promise<string> => {
    const response = await fetch(`${controlUrl}/v1/reports`, {
      headers: { authorization: `Bearer ${token}` },
    });
    return response.text();
  };

  beforeAll(async () => {
    process.env["ISOCHRONE_CONTROL_TOKEN"] = token;
    first = await webServer("127.12.0.1", 0);
    second = await webServer("127.12.0.2", first.port);
    resolver = await resolverStandIn(outside);
    control = await startIsochrone(
      ["control", "--listen", "127.0.0.1:0", "--state", join(directory, "control")],
      { env },
    );
    controlUrl = /http:\/\/\S+/.exec(control.readyLine)?.[0] ?? "";
    await put("topology", "test", topology);
    await put("map", "map", snapshot);
    node = await startIsochrone(
      [
        "dns",
        "--node",
        "ns-1",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--control",
        controlUrl,
        "--state",
        join(directory, "dns"),
        "--resolver",
        `127.0.0.1:${resolver.port}`,
      ],
      { env, timeoutMs: 60_000 },
    );
    const [agent = ""] = edgeAgentsOf("app", topology);
    edge = await startIsochrone(
      [
        "edge",
        "--node",
        agent,
        "--listen",
        "127.0.0.1:0",
        "--control",
        controlUrl,
        "--state",
        join(directory, "edge"),
      ],
      { env: { ...env, ISOCHRONE_PEER_KEY: "ab".repeat(32) }, timeoutMs: 60_000 },
    );
    dns = Number(/ready dns \S+:(\d+)/.exec(node.readyLine)?.[1]);
    admin = /admin (\S+)/.exec(node.readyLine)?.[1] ?? "";
  }, 120_000);
  afterAll(async () => {
    for (const started of [edge, node, control]) {
      started?.signal("SIGTERM");
      await started?.exit;
    }
    for (const one of [first, second]) {
      one?.server.closeAllConnections();
      one?.server.close();
    }
    resolver?.socket.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it("moves to the next target when one dies, explains it, and follows an ALIAS", async () => {
    const zone = join(directory, "own.test.zone");
    writeFileSync(
      zone,
      "$ORIGIN own.test.\n$TTL 60\n@ SOA ns h 7 7200 1800 1209600 60\n@ NS ns\nns A 192.0.2.1\n@ ALIAS app.elsewhere.net.\nvia ALIAS app\n",
    );
    await run(zoneCommand, "push", "own-test", zone, "--customer", "acme");
    const file = join(directory, "app.yaml");
    writeFileSync(
      file,
      `policyId: app
customerId: acme
names: [app.own.test]
ttlSeconds: 5
targets:
  - {targetId: one, addresses: [127.12.0.1]}
  - {targetId: two, addresses: [127.12.0.2]}
rule: {method: failover, among: [one, two]}
tests:
  - {testId: web, kind: http, host: app.own.test, port: ${first.port}, path: /health, bodyContains: well, intervalMs: 1000, timeoutMs: 500}
`,
    );
    await run(policyCommand, "check", file);
    await run(policyCommand, "push", file);
    await waitFor(async () => (await digAt(dns, "app.own.test")) === "127.12.0.1", {
      timeoutMs: 20_000,
      what: "the first target",
    });
    await waitFor(async () => (await digAt(dns, "own.test")) === "192.0.2.80", {
      timeoutMs: 20_000,
      what: "the address of the name outside at the top of the zone",
    });
    expect(await digAt(dns, "via.own.test")).toBe("127.12.0.1");
    const tested = async () =>
      /isochrone_dns_policy_tests_total\{outcome="ok"\} (\d+)/.exec(
        await (await fetch(`${admin}/metrics`)).text(),
      )?.[1];
    await waitFor(async () => Number(await tested()) >= 2, {
      timeoutMs: 20_000,
      what: "tests of both targets",
    });

    await waitFor(async () => /"nameserver".*"ready"/.test(await reports()), {
      timeoutMs: 20_000,
      what: "the name server's report",
    });
    // The edge tests too, and is heard.
    const agents = async () =>
      /isochrone_dns_policy_agents (\d+)/.exec(await (await fetch(`${admin}/metrics`)).text())?.[1];
    await waitFor(async () => (await agents()) === "2", { timeoutMs: 20_000, what: "the edge as an agent" });
    // A change that finds nobody alive is halted at this one server, and what was before comes back.
    const wrong = join(directory, "wrong.yaml");
    writeFileSync(
      wrong,
      readFileSync(file, "utf8").replace("127.12.0.1]", "127.12.0.8]").replace("127.12.0.2]", "127.12.0.9]"),
    );
    expect(await policyCommand(["push", wrong, "--control", controlUrl])).toBe(1);
    await waitFor(async () => (await digAt(dns, "app.own.test")) === "127.12.0.1", {
      timeoutMs: 20_000,
      what: "the first target again",
    });

    first.server.closeAllConnections();
    first.server.close();
    await waitFor(async () => (await digAt(dns, "app.own.test")) === "127.12.0.2", {
      timeoutMs: 30_000,
      what: "the second target",
    });
    expect(await digAt(dns, "via.own.test")).toBe("127.12.0.2");
    const explained = await fetch(`${admin}/.isochrone/where?name=app.own.test&address=192.0.2.1`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(policyReport.parse(await explained.json())).toMatchObject({
      policyId: "app",
      reason: "policy",
      answer: ["127.12.0.2"],
      targets: [
        { targetId: "one", state: "down", shareRatio: 0 },
        { targetId: "two", state: "up", shareRatio: 1 },
      ],
    });

    // Nothing lives: all are up. And the name outside has moved.
    second.server.closeAllConnections();
    second.server.close();
    outside[0] = "192.0.2.81";
    await waitFor(async () => (await digAt(dns, "app.own.test")) === "127.12.0.1", {
      timeoutMs: 30_000,
      what: "the first target again, since nothing lives",
    });
    await waitFor(async () => (await digAt(dns, "own.test")) === "192.0.2.81", {
      timeoutMs: 30_000,
      what: "the new address of the name outside",
    });
    await run(policyCommand, "withdraw", "app");
    await waitFor(async () => (await digAt(dns, "app.own.test")) === "", {
      timeoutMs: 20_000,
      what: "the name without its policy",
    });
  }, 240_000);
});
