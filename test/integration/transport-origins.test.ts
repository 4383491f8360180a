/** Servers of an origin behind an edge of the product, over real connections: shares, failover, checks, breaker, limits. */
import { createHmac } from "node:crypto";
import { createServer as createTlsServer } from "node:https";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Server, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { afterEach, expect, test } from "vitest";
import {
  type ClusterId,
  propertyDocument,
  type PropertyDocument,
  type ServerId,
  topologyDocument,
} from "#kit";
import { systemClock } from "#kit/io";
import {
  AccessKeys,
  type Answer,
  Diagnosis,
  Edge,
  edgeDefaults,
  type Fields,
  makeAccessKey,
  makeClientCertificate,
  NodeRouting,
  OriginIdentities,
} from "#edge";
import { dial, OriginResolver, Transport, type TransportSettings } from "#transport";
import { makeCertificate } from "../tools/certificates.ts";
import { logger, peerKey, until } from "./transport-support.ts";

const self = "fra-1" as ServerId;
const HOST = "www.shop.example";
const topology = topologyDocument.parse({
  name: "lab",
  clusters: [
    {
      clusterId: "fra",
      regionId: "r",
      role: "edge",
      city: "fra",
      coordinates: { latitude: 0, longitude: 0 },
      servers: [{ serverId: self, address: "127.0.0.1", port: 1 }],
    },
  ],
  nameService: { zones: [], nameServers: [] },
});

/** A server of the origin. `answer` is what it does with requests that are no checks. */
class OriginServer {
  asked = 0;
  checks = 0;
  isWell = true;
  port = 0;
  #server: Server | undefined;
  readonly #answer: (request: IncomingMessage, response: ServerResponse) => void;

  constructor(answer = (_: IncomingMessage, response: ServerResponse): void => void response.end("ok")) {
    this.#answer = answer;
  }

  async start(): Promise<this> {
    const server = createServer((request, response) => {
      if (request.method === "HEAD") response.end();
      else if (request.url === "/health") {
        this.checks++;
        response.writeHead(this.isWell ? 200 : 503).end();
      } else {
        this.asked++;
        this.#answer(request, response);
      }
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.port, "127.0.0.1", resolve));
    this.port = (server.address() as AddressInfo).port;
    ends.push(() => this.stop());
    return this;
  }

  async stop(): Promise<void> {
    const server = this.#server as ReturnType<typeof createServer> | undefined;
    this.#server = undefined;
    server?.closeAllConnections();
    await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
  }
}

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

type Asked = { readonly status: number; readonly text: string; readonly answer: Answer };

/** An edge with one property, whose origins are `servers`. */
function edgeWith(
  servers: readonly { readonly port: number }[],
  origins: readonly object[],
  originPolicy: object,
  settings: Partial<TransportSettings> = {},
  more: object = {},
) {
  const property: PropertyDocument = propertyDocument.parse({
    propertyId: "shop",
    customerId: "acme",
    hostnames: [HOST],
    tiering: "direct",
    origins: servers.map(({ port }, index) => ({
      scheme: "http",
      host: "127.0.0.1",
      port,
      ...origins[index],
    })),
    originPolicy,
    ...more,
  });
  const transport = new Transport({
    selfServerId: self,
    selfClusterId: "fra" as ClusterId,
    topology,
    peerKey,
    clock: systemClock,
    logger,
    settings,
  });
  const routing = new NodeRouting(self, topology, edgeDefaults, () => true);
  const identities = new OriginIdentities(peerKey, logger);
  /** As a node does with a new version. */
  const put = (document: PropertyDocument): void => {
    routing.setProperty(document);
    identities.open(document);
    transport.setOriginGroups(routing.originGroups((auth) => identities.of(auth)));
  };
  put(property);
  transport.start();
  const accessKeys = new AccessKeys(peerKey, logger);
  accessKeys.open(property);
  const diagnosis = new Diagnosis({ serverName: self, clock: systemClock, secret: undefined });
  const edge = new Edge({
    settings: { ...edgeDefaults, responseTimeoutMs: 300 },
    clock: systemClock,
    logger,
    cacheName: self,
    routing,
    upstream: transport,
    diagnosis,
    accessKeys,
  });
  ends.push(
    () => transport.close(),
    () => edge.close(),
  );
  let count = 0;
  const ask = async (method = "GET", fields: Fields = []): Promise<Asked> => {
    const answer = await edge.handle({
      // Each its own, so that nothing is answered from the cache.
      head: { method, scheme: "http", host: HOST, target: `/${++count}`, fields },
      httpVersion: "1.1",
      remoteAddress: "192.0.2.1",
      body: undefined,
      bodyBytes: undefined,
      signal: new AbortController().signal,
      peer: undefined,
      hop: { tier: undefined, isOwner: false },
      requestId: "replayed0",
      receivedAt: systemClock.epoch(),
      startedAt: systemClock.monotonic(),
    });
    let text = "";
    const { body } = answer;
    if (body instanceof Uint8Array) text = Buffer.from(body).toString();
    else if (body !== undefined) for await (const chunk of body) text += Buffer.from(chunk).toString();
    return { status: answer.status, text, answer };
  };
  const states = () => transport.origins.states("shop") ?? [];
  return { ask, states, transport, diagnosis, put, property };
}

test("shares go by weight, a server that dies costs no request, and its check brings it back", async () => {
  const servers = await Promise.all([new OriginServer(), new OriginServer()].map((one) => one.start()));
  const [one, two] = servers as [OriginServer, OriginServer];
  const { ask, states, transport } = edgeWith(
    servers,
    [
      { priority: 0, weight: 3 },
      { priority: 0, weight: 1 },
    ],
    {
      healthCheck: { path: "/health", intervalSeconds: 1, downThreshold: 1, okThreshold: 1 },
      slowStartSeconds: 0,
    },
  );
  const askAll = async (n: number): Promise<number[]> => {
    const statuses = [];
    for (let k = 0; k < n; k++) statuses.push((await ask()).status);
    return statuses;
  };
  expect(new Set(await askAll(40))).toEqual(new Set([200]));
  expect([one.asked, two.asked]).toEqual([30, 10]);
  // Dies in the middle of service: nobody notices.
  await one.stop();
  expect(new Set(await askAll(40))).toEqual(new Set([200]));
  await until(() => states()[0]?.bar === "check-failed");
  const before = two.asked;
  await askAll(10);
  expect(two.asked - before).toBe(10);
  await one.start();
  await until(() => states()[0]?.check === "up");
  // Well, but its check says that it is not to be asked.
  two.isWell = false;
  await until(() => states()[1]?.bar === "check-failed");
  const seen = two.asked;
  await askAll(10);
  expect(two.asked).toBe(seen);
  expect(transport.origins.totals().get("wentUp")).toBe(1);
});

test("an answer of 503 is asked of another server, once, for safe requests, within the budget", async () => {
  const failing = (status: number) =>
    new OriginServer((_, response) => void response.writeHead(status).end("down"));
  const well = await new OriginServer().start();
  const [one, two] = await Promise.all([failing(503).start(), failing(500).start()]);
  const policy = { outlierDetection: { isEnabled: false } };
  const retry = { ratio: 0, minPerSecond: 0, initial: 3 };
  const { ask } = edgeWith([one, well, two], [], policy, { retry });
  expect(await ask()).toMatchObject({ status: 200, text: "ok" });
  expect([one.asked, well.asked, two.asked]).toEqual([1, 1, 0]);
  expect((await ask("POST")).status).toBe(503);
  expect(well.asked).toBe(1);
  // The other has no answer: what the first one said stands, and the third is not asked.
  await well.stop();
  expect(await ask()).toMatchObject({ status: 503, text: "down" });
  expect([one.asked, two.asked]).toEqual([3, 0]);
  await well.start();
  expect((await ask()).status).toBe(200);
  // The budget had three.
  expect((await ask()).status).toBe(503);
  expect([one.asked, well.asked]).toEqual([5, 2]);
  // Another server's failure is its answer; and whose document says so has none repeated.
  expect((await edgeWith([one, two], [], policy).ask()).status).toBe(500);
  expect((await edgeWith([one, well], [], { ...policy, repeatedStatuses: [] }).ask()).status).toBe(503);
  expect((await edgeWith([two, well], [], policy).ask()).status).toBe(500);
});

test("a silent origin is not waited for again, and the client is told when to come back", async () => {
  const server = await new OriginServer(() => {}).start();
  const { ask, states, transport, diagnosis, put, property } = edgeWith([server], [{}], {
    breaker: { failures: 2, openSeconds: 600, openSecondsMax: 600 },
    outlierDetection: { isEnabled: false },
  });
  expect([(await ask()).status, (await ask()).status]).toEqual([504, 504]);
  const { status, text, answer } = await ask();
  expect(status).toBe(503);
  expect(text).toMatch(/^The origin cannot be asked at the moment \(origin-unavailable\)\.\nReference: /);
  expect(Number(answer.fields.find(([name]) => name === "Retry-After")?.[1])).toBeGreaterThan(590);
  // What the operator finds under the reference of the page.
  expect(diagnosis.faultOf("replayed0")?.message).toMatch(
    /^Cannot ask an origin of "shop": http:\/\/127\.0\.0\.1:\d+ breaker-open for \d+\.\d s$/,
  );
  expect(server.asked).toBe(2);
  expect(states()[0]).toMatchObject({ breaker: "open", bar: "breaker-open" });
  expect(transport.origins.barred()).toEqual([
    { origin: "shop", server: states()[0]?.name, reason: "breaker-open" },
  ]);
  // A version that leaves the origins as they are keeps what is known of them; one that changes them begins anew.
  put({ ...property, origins: [...property.origins], dnsTtlSeconds: 30 });
  expect(states()[0]?.breaker).toBe("open");
  put({ ...property, origins: property.origins.map((one) => ({ ...one, weight: 2 })) });
  expect(states()[0]?.breaker).toBe("closed");
});

test("a full server's requests go to the next one, and with both full they are refused at once", async () => {
  const held: ServerResponse[] = [];
  const hold = (_: IncomingMessage, response: ServerResponse): void => void held.push(response);
  const servers = await Promise.all(
    [new OriginServer(hold), new OriginServer(hold)].map((one) => one.start()),
  );
  const { ask } = edgeWith(
    servers,
    [{ requestsMax: 1 }, { requestsMax: 1 }],
    {},
    { headersTimeoutMs: 5_000 },
  );
  const first = ask("POST");
  await until(() => servers[0]?.asked === 1);
  const second = ask("POST");
  await until(() => servers[1]?.asked === 1);
  const { status, text } = await ask();
  expect([status, text.split("\n")[0]]).toEqual([
    503,
    "Too many requests at the moment (origin-requests-max).",
  ]);
  for (const response of held.splice(0)) response.end("ok");
  expect([(await first).status, (await second).status]).toEqual([200, 200]);
  const third = ask("POST");
  await until(() => held.length === 1);
  held[0]?.end("ok");
  expect((await third).status).toBe(200);
});

test("a name of several addresses leads to the one that listens, and refused ones are passed by next time", async () => {
  const server = await new OriginServer().start();
  const addresses = ["127.0.0.9", "127.0.0.8", "127.0.0.1"];
  const resolver = new OriginResolver({
    clock: systemClock,
    lookup: () => Promise.resolve({ addresses, ttlMs: 60_000 }),
  });
  for (let n = 0; n < 3; n++) {
    const connection = await dial({ host: "origin.example", port: server.port, resolver });
    expect((connection as Socket).remoteAddress).toBe("127.0.0.1");
    connection.destroy();
  }
  await server.stop();
  await expect(dial({ host: "origin.example", port: server.port, resolver })).rejects.toMatchObject({
    code: "connect-failed",
    retry: "safe",
  });
});

test("requests to an origin carry a signature that clients cannot forge, with the first key that opens", async () => {
  const seen: IncomingMessage[] = [];
  const server = await new OriginServer((request, response) => {
    seen.push(request);
    response.end("ok");
  }).start();
  const secret = "correct-horse-battery";
  const keys = [
    // Sealed for another property: it does not open here.
    { ...makeAccessKey("other", "k0", secret, peerKey) },
    makeAccessKey("shop", "k1", secret, peerKey),
  ];
  const { ask } = edgeWith([server], [{}], {}, {}, { originAuth: { keys } });
  const forged = "v1;kid=k1;ts=1;mac=00";
  expect((await ask("GET", [["Isochrone-Origin-Auth", forged]])).status).toBe(200);
  const [request] = seen;
  const sent = String(request?.headers["isochrone-origin-auth"]);
  const [, kid, ts, mac] = /^v1;kid=([a-z0-9]+);ts=([0-9]+);mac=([0-9a-f]{64})$/.exec(sent) ?? [];
  expect(kid).toBe("k1");
  expect(Math.abs(Number(ts) - Date.now() / 1_000)).toBeLessThan(60);
  const text = `v1|k1|${ts}|GET|${HOST}|${request?.url}`;
  expect(mac).toBe(createHmac("sha256", secret).update(text).digest("hex"));
});

test("an origin that asks for a client certificate gets the property's; another version's from then on", async () => {
  const authority = makeCertificate({ names: ["test authority"], isAuthority: true });
  const [own, one, two] = [HOST, "edge-one", "edge-two"].map((name) =>
    makeCertificate({ names: [name], issuer: authority }),
  ) as [typeof authority, typeof authority, typeof authority];
  const seen: string[] = [];
  const server = createTlsServer(
    {
      key: own.keyPem,
      cert: own.certPem,
      ca: authority.certPem,
      requestCert: true,
      rejectUnauthorized: true,
    },
    (request, response) => {
      if (request.url !== "/health")
        seen.push((request.socket as TLSSocket).getPeerCertificate().fingerprint256);
      response.end("ok");
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  ends.push(() => Promise.resolve(server.close()));
  const { port } = server.address() as AddressInfo;
  const sealed = (propertyId: string, { certPem, keyPem }: typeof authority) => ({
    clientCertificate: makeClientCertificate(propertyId, certPem, keyPem, peerKey, "test").clientCertificate,
  });
  const originAuth = sealed("shop", one);
  expect(JSON.stringify(originAuth)).not.toContain("PRIVATE");
  const secure = { scheme: "https", hostHeader: HOST };
  const policy = {
    healthCheck: { path: "/health", intervalSeconds: 1, okThreshold: 1 },
    outlierDetection: { isEnabled: false },
    breaker: null,
  };
  const settings = { ca: authority.certPem, attemptsMax: 1 };
  const { ask, put, property, states } = edgeWith([{ port }], [secure], policy, settings, { originAuth });
  const statuses = async (count: number) =>
    await Promise.all(Array.from({ length: count }, async () => (await ask()).status));
  expect(await statuses(3)).toEqual([200, 200, 200]);
  expect(new Set(seen.splice(0))).toEqual(new Set([one.fingerprint]));
  await until(() => states()[0]?.check === "up");
  put(propertyDocument.parse({ ...property, originAuth: sealed("shop", two) }));
  expect(await statuses(3)).toEqual([200, 200, 200]);
  expect(new Set(seen.splice(0))).toEqual(new Set([two.fingerprint]));
  // What was sealed for another property is nobody's here, and without one the origin answers nothing.
  put(propertyDocument.parse({ ...property, originAuth: sealed("other", two) }));
  expect(await statuses(1)).toEqual([502]);
  put(propertyDocument.parse({ ...property, originAuth: undefined }));
  expect(await statuses(1)).toEqual([502]);
  expect(seen).toEqual([]);
  // The pair has to be one.
  expect(() => makeClientCertificate("shop", one.certPem, two.keyPem, peerKey, "c.pem")).toThrow(
    /does not belong/,
  );
});
