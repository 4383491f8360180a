/** Transport towards servers of ours: proofs, liveness, metrics. */
import type { RequestListener } from "node:http";
import { Registry } from "prom-client";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "#kit/io";
import { PeerVerifier, Transport } from "#transport";
import {
  clusterId,
  close,
  Lab,
  type Listening,
  listen,
  logger,
  peerKey,
  serverId,
  topologyOf,
  until,
} from "./transport-support.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function parents(
  ...handlers: RequestListener[]
): Promise<{ transport: Transport; servers: Listening[] }> {
  const servers: Listening[] = [];
  for (const handler of handlers) {
    const one = await listen(handler);
    servers.push(one);
    cleanups.push(() => close(one.server));
  }
  const transport = new Transport({
    selfServerId: serverId("fra-1"),
    selfClusterId: clusterId("fra"),
    topology: topologyOf([
      { id: "fra", role: "edge", ports: [1] },
      { id: "iad", role: "parent", ports: servers.map((one) => one.port) },
    ]),
    peerKey,
    clock: systemClock,
    logger,
    settings: { livenessIntervalMs: 200, livenessTimeoutMs: 200 },
  });
  cleanups.push(() => transport.close());
  return { transport, servers };
}

const target = (name: string) => ({ kind: "server", serverId: serverId(name) }) as const;

describe("servers of ours", () => {
  test("get a proof that holds, a fresh one for each request; a forged one is replaced", async () => {
    const verifier = new PeerVerifier({ key: peerKey, clock: systemClock });
    const verdicts: unknown[] = [];
    const { transport } = await parents((request, response) => {
      const { method = "", url = "", headers } = request;
      const proof = headers["isochrone-peer"];
      const header = typeof proof === "string" ? proof : undefined;
      verdicts.push(verifier.verify(header, { method, host: headers.host ?? "", path: url }));
      response.end();
    });
    for (let n = 0; n < 3; n++) {
      const response = await transport.request(target("iad-1"), {
        method: "GET",
        path: "/a?b=1",
        headers: [
          ["Host", "www.shop.example"],
          ["Isochrone-Peer", "forged"],
        ],
      });
      response.body.resume();
    }
    const proven = { isProven: true, serverId: "fra-1" };
    expect(verdicts).toEqual([proven, proven, proven]);
  });

  test("a hung server is down within seconds while its neighbour stays up, and comes back", async () => {
    let isHung = false;
    const { transport } = await parents(
      (_request, response) => {
        if (!isHung) response.end("ok");
      },
      (_request, response) => response.end("ok"),
    );
    transport.start();
    await until(() => transport.linkReports().some((one) => one.toClusterId === "iad" && one.samples > 3));
    isHung = true;
    const startedMs = performance.now();
    await until(() => !transport.isServerUp(serverId("iad-1")));
    expect(performance.now() - startedMs).toBeLessThan(3_000);
    expect(transport.isServerUp(serverId("iad-2"))).toBe(true);
    expect(transport.isServerUp(serverId("nobody-1"))).toBe(true);
    // The cluster's link stands as long as one of its servers answers.
    expect(transport.linkReports().find((one) => one.toClusterId === "iad")?.lossRatio).toBeLessThan(1);
    isHung = false;
    await until(() => transport.isServerUp(serverId("iad-1")), 20_000);
  });

  test("a crashed server costs an error that is safe to repeat, and counts as down", async () => {
    const { transport, servers } = await parents((_request, response) => response.end("ok"));
    await (servers[0] && close(servers[0].server));
    const asked = (): Promise<unknown> =>
      transport.request(target("iad-1"), {
        method: "GET",
        path: "/",
        headers: [["Host", "www.shop.example"]],
      });
    await expect(asked()).rejects.toMatchObject({ code: "connect-failed", retry: "safe" });
    await expect(asked()).rejects.toThrow(/parent "iad-1"|127\.0\.0\.1/);
    expect(transport.isServerUp(serverId("iad-1"))).toBe(false);
  });

  test("that the topology does not know are refused", async () => {
    const { transport } = await parents((_request, response) => response.end("ok"));
    const asked = transport.request(target("xyz-1"), { method: "GET", path: "/", headers: [] });
    await expect(asked).rejects.toMatchObject({ code: "unknown-server", source: "configuration" });
  });

  test("metrics count requests by path and reason", async () => {
    const { transport } = await parents((_request, response) => response.end("ok"));
    const registry = new Registry();
    transport.registerMetrics(registry);
    for (let n = 0; n < 3; n++)
      (await transport.request(target("iad-1"), { method: "GET", path: "/", headers: [] })).body.resume();
    await registry.metrics();
    // A second scrape must not count anything twice.
    const text = await registry.metrics();
    expect(text).toMatch(/^isochrone_transport_requests_total 3$/m);
    expect(text).toMatch(/^isochrone_transport_responses_total\{path="direct",reason="only-path"\} 3$/m);
    expect(text).toMatch(/^isochrone_transport_connections [1-3]$/m);
    expect(text).not.toContain("127.0.0.1");
  });
});

describe("an idle target", () => {
  test("is hardly probed, yet the first request over its cut path is answered over another within seconds", async () => {
    const origin = await listen((_request, response) => response.end("ok"));
    const lab = await Lab.start({
      origin,
      links: { "fra|sfo": 20, "fra|nyc": 20 },
      relayLegMs: 40,
      settings: { idleTargetMs: 300 },
    });
    cleanups.push(() => lab.close());
    lab.transport.start();
    const paths = () => lab.transport.explainPath(lab.target).candidates;
    await until(() => paths().every((one) => one.samples >= 3) && paths().length === 2);
    expect((await lab.get()).via).toBeNull();
    // Longer than a full pace of probes: by now the next one is due in the time of an idle target.
    await until(() => paths().every((one) => (one.ageMs ?? 0) > 1_600));
    lab.cut(["fra", "sfo"]);
    const answer = await lab.get();
    expect(answer).toMatchObject({ status: 200, via: "nyc" });
    expect(answer.ms).toBeLessThan(4_000);
  });
});

test("an origin that is a server of ours, or a name for this machine, is never connected to", async () => {
  const { transport, servers } = await parents((_request, response) => response.end("admin"));
  const port = servers[0]?.port ?? 0;
  const before = servers[0]?.accepted;
  for (const [host, reason] of [
    ["127.0.0.1", "own-server"],
    ["localhost", "loopback-by-name"],
    ["169.254.169.254", "link-local"],
  ] as const) {
    const origin = { scheme: "http", host, port } as const;
    const failure: unknown = await transport
      .request({ kind: "origin", origin }, { method: "GET", path: "/metrics", headers: [] })
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "address-not-permitted" });
    expect(String(failure)).toContain(reason);
  }
  expect(servers[0]?.accepted).toBe(before);
});

describe("a server that hangs", () => {
  test("whoever waits for it is told as soon as it is down, once, and may ask another", async () => {
    let isHung = false;
    let asked = 0;
    const { transport } = await parents((request, response) => {
      if (request.url === "/x") asked++;
      if (!isHung) response.end("ok");
    });
    transport.start();
    await until(() => transport.linkReports().some((one) => one.samples > 3));
    isHung = true;
    const startedMs = performance.now();
    const failure: unknown = await transport
      .request(target("iad-1"), { method: "GET", path: "/x", headers: [["Host", "www.shop.example"]] })
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "server-down", retry: "safe" });
    expect(performance.now() - startedMs).toBeLessThan(3_000);
    expect(asked).toBe(1);
    expect(transport.isServerUp(serverId("iad-1"))).toBe(false);
  });

  test("is noticed in the own cluster too, where it owns keys", async () => {
    let isHung = false;
    const peer = await listen((_request, response) => {
      if (!isHung) response.end("ok");
    });
    cleanups.push(() => close(peer.server));
    const transport = new Transport({
      selfServerId: serverId("fra-1"),
      selfClusterId: clusterId("fra"),
      topology: topologyOf([{ id: "fra", role: "edge", ports: [1, peer.port] }]),
      peerKey,
      clock: systemClock,
      logger,
      settings: { livenessIntervalMs: 200, livenessTimeoutMs: 200 },
    });
    cleanups.push(() => transport.close());
    transport.start();
    await until(() => peer.accepted > 0);
    expect(transport.isServerUp(serverId("fra-2"))).toBe(true);
    isHung = true;
    await until(() => !transport.isServerUp(serverId("fra-2")), 3_000);
    isHung = false;
    await until(() => transport.isServerUp(serverId("fra-2")), 5_000);
    expect(transport.linkReports()).toEqual([]);
  });
});
