/**
 * The link between servers of ours, over real sockets: a server's transport on one end, an edge's front on the other. What is asked by
 * link has to come to the same code, and be answered in the same way, as over HTTP/1.1.
 */
import { once } from "node:events";
import {
  type AddressInfo,
  connect as connectTcp,
  createServer as createTcpServer,
  type Server,
  type Socket,
} from "node:net";
import { Readable } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import { type Answer, EdgeMetrics, EdgeServer, type EdgeSettings, edgeDefaults } from "#edge";
import { systemClock } from "#kit/io";
import {
  installWan,
  PeerVerifier,
  RelayServer,
  Transport,
  type TransportRequest,
  type TransportSettings,
} from "#transport";
import {
  authority,
  clusterId,
  logger,
  peerKey,
  serverId,
  topologyOf,
  until,
  wanOf,
} from "./transport-support.ts";

type Inbound = Parameters<ConstructorParameters<typeof EdgeServer>[0]["handle"]>[0];
type Handle = (inbound: Inbound) => Answer | Promise<Answer>;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const record = { outcome: "hit", status: undefined, propertyId: undefined, upstream: undefined } as const;

function answer(status: number, fields: Answer["fields"], content?: Iterable<string | Buffer>): Answer {
  const pieces = content && Array.from(content, (one) => Buffer.from(one));
  return {
    status,
    fields,
    body: pieces && Readable.from(pieces),
    bodyBytes: pieces?.reduce((sum, { byteLength }) => sum + byteLength, 0),
    record,
  };
}

async function serverOf(
  handle: Handle,
  more: {
    readonly link?: boolean;
    readonly mayCome?: () => boolean;
    readonly settings?: Partial<EdgeSettings>;
    readonly port?: number;
  } = {},
) {
  const metrics = new EdgeMetrics();
  const server = new EdgeServer({
    handle,
    admin: (inbound, host) =>
      host.startsWith("127.0.0.1") && inbound.head.target === "/livez"
        ? Promise.resolve(answer(200, [], ["ok\n"]))
        : undefined,
    verifier: new PeerVerifier({ key: peerKey, clock: systemClock }),
    settings: { ...edgeDefaults, drainTimeoutMs: 500, ...more.settings },
    clock: systemClock,
    metrics,
    logger,
    onServed: undefined,
    link: more.link === false ? undefined : { trust: parentTrust, mayCome: more.mayCome ?? (() => true) },
  });
  const port = await server.listen("127.0.0.1", more.port ?? 0);
  cleanups.push(() => server.drain());
  const metric = async (name: string): Promise<number> => {
    const found = await metrics.registry.getSingleMetric(`isochrone_edge_${name}`)?.get();
    return (found?.values ?? []).reduce((sum, { value }) => sum + value, 0);
  };
  return { server, port, metric };
}

function transportTo(
  ports: readonly number[],
  settings: Partial<TransportSettings> = {},
  topology = topologyOf([
    { id: "fra", role: "edge", ports: [1] },
    { id: "iad", role: "parent", ports },
  ]),
): Transport {
  const transport = new Transport({
    selfServerId: serverId("fra-1"),
    selfClusterId: clusterId("fra"),
    topology,
    peerKey,
    trust: edgeTrust,
    clock: systemClock,
    logger,
    settings,
  });
  cleanups.push(() => transport.close());
  return transport;
}

const certified = topologyOf([
  { id: "fra", role: "edge", ports: [1] },
  { id: "nyc", role: "relay", ports: [2] },
  { id: "iad", role: "parent", ports: [3] },
]);
const edgeTrust = await authority.trust(certified, "fra-1");
const parentTrust = await authority.trust(certified, "iad-1");
const parent = { kind: "server", serverId: serverId("iad-1") } as const;

async function ask(transport: Transport, path: string, more: Partial<TransportRequest> = {}) {
  const response = await transport.request(parent, {
    method: "GET",
    path,
    headers: [["Host", "www.shop.example"]],
    ...more,
  });
  const pieces: Buffer[] = [];
  for await (const piece of response.body) pieces.push(piece as Buffer);
  return { ...response, content: Buffer.concat(pieces) };
}

/** Asks until it goes by link. */
async function linked(transport: Transport, path = "/warm"): Promise<void> {
  for (let turn = 0; (await ask(transport, path)).protocol !== "link"; turn++) {
    if (turn > 200) throw new Error("no link is spoken");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const linkOf = (transport: Transport) => transport.explainPath(parent).link;

describe("the same as over HTTP/1.1", () => {
  const seen: unknown[] = [];
  const large = Buffer.alloc(900_000, "large ");
  async function handle(inbound: Inbound): Promise<Answer> {
    const { head, peer, hop, httpVersion, bodyBytes, requestId, remoteAddress } = inbound;
    let content = "";
    for await (const piece of inbound.body ?? []) content += piece as string;
    const fields = head.fields
      .map(([name, value]) => [name.toLowerCase(), value])
      .filter(([name]) => !["isochrone-peer", "connection", "transfer-encoding"].includes(name ?? ""));
    seen.push({
      head: { ...head, fields },
      peer,
      hop,
      httpVersion,
      bodyBytes,
      requestId,
      remoteAddress,
      hasBody: inbound.body !== undefined,
      content,
    });
    if (head.target === "/hints")
      inbound.sendInterim?.(103, [
        ["Link", "</a.css>; rel=preload"],
        ["Link", "</b.js>; rel=preload"],
      ]);
    const fresh: Answer["fields"] = [
      ["ETag", '"one"'],
      ["Cache-Control", "max-age=60"],
      ["Set-Cookie", "a=1"],
      ["Set-Cookie", "b=2"],
      ["Connection", "close"],
    ];
    switch (head.target) {
      case "/unchanged":
        return answer(304, fresh);
      case "/empty":
        return answer(204, []);
      case "/part":
        return answer(206, [["Content-Range", "bytes 0-3/9"]], ["part"]);
      case "/large":
        return answer(200, fresh, [
          large.subarray(0, 1),
          large.subarray(1, 400_000),
          large.subarray(400_000),
        ]);
      case "/odd":
        return answer(999, [["X-Odd", "blåbær"]], ["odd"]);
      case "/many":
        return answer(
          200,
          Array.from({ length: 400 }, (_, n) => [`X-${n}`, String(n)] as const),
          [],
        );
      case "/unknown-length":
        return { ...answer(200, fresh, ["one", "two"]), bodyBytes: undefined };
      default:
        return answer(200, fresh, [`content of ${head.target}`]);
    }
  }

  const cases: readonly (readonly [string, Partial<TransportRequest> & { readonly path: string }])[] = [
    [
      "a GET with its hop's fields",
      {
        path: "/a?b=1",
        headers: [
          ["Host", "www.shop.example"],
          ["Accept", "*/*"],
          ["X-Forwarded-Proto", "https"],
          ["Isochrone-Tier", "0"],
          ["Isochrone-Owner", "1"],
          ["Isochrone-Request-Id", "AbCdEfGh0000"],
          ["Cookie", "a=1; b=2"],
        ],
      },
    ],
    ["a HEAD", { path: "/a", method: "HEAD" }],
    [
      "304",
      {
        path: "/unchanged",
        headers: [
          ["Host", "www.shop.example"],
          ["If-None-Match", '"one"'],
        ],
      },
    ],
    ["204", { path: "/empty" }],
    [
      "a range",
      {
        path: "/part",
        headers: [
          ["Host", "www.shop.example"],
          ["Range", "bytes=0-3"],
        ],
      },
    ],
    ["more than a window", { path: "/large" }],
    ["a length that is not known", { path: "/unknown-length" }],
    ["a status of no class", { path: "/odd" }],
    ["400 fields", { path: "/many" }],
    ["interim answers", { path: "/hints" }],
    ["content of a stated length", { path: "/post", method: "POST", body: Buffer.from("four") }],
    [
      "no content of a POST",
      {
        path: "/post",
        method: "POST",
        headers: [
          ["Host", "www.shop.example"],
          ["Content-Length", "0"],
        ],
      },
    ],
    ["an unusual method", { path: "/dav", method: "PROPFIND" }],
    ["a target that is none", { path: "/%\u00e9" }],
    ["TRACE", { path: "/", method: "TRACE" }],
  ];

  test.each(cases)("%s", async (_name, { path, ...more }) => {
    const { port, metric } = await serverOf(handle);
    const both = [];
    for (const link of [true, false]) {
      const transport = transportTo([port], { link });
      if (link) await linked(transport);
      seen.length = 0;
      const interim: unknown[] = [];
      const got = await ask(transport, path, {
        ...more,
        onInterim: (status, headers) =>
          interim.push([status, headers.map(([name, value]) => [name.toLowerCase(), value])]),
      });
      expect(got.protocol).toBe(link ? "link" : "http/1.1");
      const { status, headers, content } = got;
      const fields = headers
        .map(([name, value]) => [name.toLowerCase(), value])
        .filter(([name]) => !["connection", "transfer-encoding", "keep-alive"].includes(name ?? ""));
      // Each request without an id gets one.
      const told = seen.map((one) => ({ ...(one as object), requestId: expect.any(String) }));
      both.push({ status, fields, content: content.toString(), interim, seen: told });
    }
    expect(both[0]).toEqual(both[1]);
    expect(await metric("link_requests_total")).toBeGreaterThan(0);
  });

  test("what no link carries goes by HTTP/1.1", async () => {
    const { port } = await serverOf(handle);
    const transport = transportTo([port]);
    await linked(transport);
    const got = await ask(transport, "/", { headers: [["Host", "no host"]] });
    expect([got.status, got.protocol]).toEqual([400, "http/1.1"]);
    expect((await ask(transport, "/")).protocol).toBe("link");
  });

  test("content whose length is not known, as a stream, with pauses", async () => {
    const { port } = await serverOf(handle);
    const transport = transportTo([port]);
    await linked(transport);
    seen.length = 0;
    async function* pieces() {
      for (let n = 0; n < 40; n++) {
        yield large.subarray(n * 20_000, (n + 1) * 20_000);
        if (n % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    const got = await ask(transport, "/post", { method: "POST", body: Readable.from(pieces()) });
    expect([got.status, got.protocol]).toEqual([200, "link"]);
    expect((seen[0] as { content: string }).content).toBe(large.subarray(0, 800_000).toString());
  });
});

describe("what goes wrong", () => {
  test("a client that goes is told to the handler, whether it waits or reads; the session goes on", async () => {
    const signals: AbortSignal[] = [];
    const { port } = await serverOf((inbound) => {
      if (inbound.head.target === "/warm") return answer(200, [], ["warm"]);
      signals.push(inbound.signal);
      if (inbound.head.target === "/silent") return new Promise(() => {});
      return { ...answer(200, []), body: endless() };
    });
    const transport = transportTo([port]);
    await linked(transport);
    const stop = new AbortController();
    const silent = ask(transport, "/silent", { signal: stop.signal });
    await until(() => signals.length === 1);
    stop.abort();
    await expect(silent).rejects.toMatchObject({ code: "aborted" });
    await until(() => signals[0]?.aborted);
    const response = await transport.request(parent, { method: "GET", path: "/endless", headers: [] });
    await once(response.body, "readable");
    response.body.destroy();
    await until(() => signals.at(-1)?.aborted);
    expect((await ask(transport, "/warm")).protocol).toBe("link");
    expect(linkOf(transport)).toMatchObject({ sessions: 1, streams: 0 });
  });

  test("content is let go of when its client goes, also while its next piece is waited for", async () => {
    let isLetGo = false;
    const silent = {
      [Symbol.asyncIterator]: () => ({
        next: (() => {
          let begun = false;
          return async () => {
            if (begun) return await new Promise<never>(() => {});
            begun = true;
            return { done: false as const, value: Buffer.from("beginning") };
          };
        })(),
        return: async () => {
          isLetGo = true;
          return await Promise.resolve({ done: true as const, value: undefined });
        },
      }),
    };
    const { port } = await serverOf(({ head }) =>
      head.target === "/warm" ? answer(200, [], ["warm"]) : { ...answer(200, []), body: silent },
    );
    const transport = transportTo([port]);
    await linked(transport);
    const response = await transport.request(parent, { method: "GET", path: "/silent", headers: [] });
    await once(response.body, "readable");
    response.body.destroy();
    await until(() => isLetGo);
    expect((await ask(transport, "/warm")).protocol).toBe("link");
  });

  test("an answer that breaks off is never taken for a whole one", async () => {
    const { port } = await serverOf(({ head }) =>
      head.target === "/warm" ? answer(200, [], ["warm"]) : { ...answer(200, []), body: breaking() },
    );
    const transport = transportTo([port], { resumesMax: 0 });
    await linked(transport);
    await expect(ask(transport, "/breaking")).rejects.toMatchObject({ code: "connection-lost" });
  });

  test("a reader that stands still holds up the handler, and nobody else", async () => {
    let taken = 0;
    const { port } = await serverOf(({ head }) =>
      head.target === "/large"
        ? {
            ...answer(200, []),
            body: endless(() => {
              taken += 1;
            }),
          }
        : answer(200, [], [head.target]),
    );
    const transport = transportTo([port]);
    await linked(transport);
    const response = await transport.request(parent, { method: "GET", path: "/large", headers: [] });
    await once(response.body, "readable");
    let before = -1;
    await until(() => {
      const isStill = taken === before;
      before = taken;
      return isStill && taken > 0;
    });
    // Its window and what waits on the way, pieces of 64 KiB: not what a process has room for.
    expect(taken).toBeLessThan(200);
    const others = await Promise.all(Array.from({ length: 20 }, (_, n) => ask(transport, `/${n}`)));
    expect(others.map(({ content }) => content.toString())).toEqual(others.map((_, n) => `/${n}`));
    response.body.destroy();
  });

  test("a reader that reads nothing for too long is given up", async () => {
    const { port } = await serverOf(
      ({ head }) =>
        head.target === "/large" ? { ...answer(200, []), body: endless() } : answer(200, [], ["warm"]),
      { settings: { writeStallMs: 200 } },
    );
    const transport = transportTo([port], { resumesMax: 0 });
    await linked(transport);
    const response = await transport.request(parent, { method: "GET", path: "/large", headers: [] });
    const failed = once(response.body, "error");
    await once(response.body, "readable");
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    response.body.resume();
    await failed;
    expect((await ask(transport, "/warm")).status).toBe(200);
  });
});

describe("peers of other versions, and such as come and go", () => {
  test("one that speaks no link is asked by HTTP/1.1, and not asked for a link again at once", async () => {
    const { port, metric } = await serverOf(({ head, peer }) => answer(200, [], [`${head.target} ${peer}`]), {
      link: false,
    });
    const transport = transportTo([port]);
    const asked = await Promise.all(Array.from({ length: 30 }, (_, n) => ask(transport, `/${n}`)));
    expect(asked.map(({ content }) => content.toString())).toEqual(asked.map((_, n) => `/${n} fra-1`));
    await until(() => linkOf(transport)?.state === "refused");
    for (let n = 0; n < 10; n++) expect((await ask(transport, "/again")).protocol).toBe("http/1.1");
    expect(linkOf(transport)).toMatchObject({ state: "refused", sessions: 0 });
    expect(transport.explainPath(parent).protocol).toBe("http/1.1");
    // One try, and no more.
    expect(await metric("refused_total")).toBe(1);
  });

  test("one that does not take our certificate is asked by HTTP/1.1, and nothing is lost to its judgement, which comes late", async () => {
    const { port } = await serverOf(({ head, peer }) => answer(200, [], [`${head.method} ${peer}`]), {
      mayCome: () => false,
    });
    const transport = transportTo([port]);
    for (let turn = 0; linkOf(transport)?.state !== "refused"; turn++) {
      if (turn > 500) throw new Error("it is not seen that it refuses");
      const got = await ask(transport, "/", { method: "POST", body: Readable.from([Buffer.from("four")]) });
      expect([got.protocol, got.content.toString()]).toEqual(["http/1.1", "POST fra-1"]);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(linkOf(transport)).toMatchObject({ sessions: 0, streams: 0 });
  });

  test("one that goes finishes what it has begun; nothing that is asked meanwhile is lost, whatever its method", async () => {
    let begun = 0;
    const handle = async ({ head, body }: Inbound): Promise<Answer> => {
      begun++;
      let bytes = 0;
      for await (const piece of body ?? []) bytes += (piece as Buffer).byteLength;
      await new Promise((resolve) => setTimeout(resolve, head.target === "/slow" ? 300 : 2));
      return answer(200, [], [`${head.method} ${bytes}`]);
    };
    let running = await serverOf(handle);
    const proxy = await proxyTo(running.port);
    const transport = transportTo([proxy.port]);
    await linked(transport);
    const slow = Array.from({ length: 10 }, () => ask(transport, "/slow"));
    await until(() => begun >= 11);
    let asked = 0;
    let isOver = false;
    const failures: unknown[] = [];
    const one = async (n: number): Promise<void> => {
      while (!isOver) {
        const isPost = n % 2 === 1;
        try {
          const got = await ask(transport, "/quick", {
            // What a client of an edge sends is a stream, which cannot be sent twice.
            ...(isPost && { method: "POST", body: Readable.from([Buffer.from("four")]) }),
          });
          if (got.content.toString() !== (isPost ? "POST 4" : "GET 0")) failures.push(got.status);
        } catch (error) {
          failures.push(error);
        }
        asked++;
      }
    };
    const askers = Array.from({ length: 16 }, (_, n) => one(n));
    // A successor takes what is new before its predecessor takes leave, as with --replace.
    for (let turn = 0; turn < 3; turn++) {
      const next = await serverOf(handle);
      proxy.connectTo(next.port);
      const before = asked;
      await running.server.drain(500);
      running = next;
      await until(() => asked > before + 100);
    }
    isOver = true;
    await Promise.all(askers);
    expect(failures).toEqual([]);
    expect((await Promise.all(slow)).map(({ content }) => content.toString())).toEqual(
      slow.map(() => "GET 0"),
    );
    expect(linkOf(transport)?.state).toBe("spoken");
  });

  test("one that dies with many requests under way: what is safe is asked again elsewhere, what is not never", async () => {
    const asked = { GET: 0, POST: 0 };
    const dead = await serverOf(({ head }) => {
      if (head.target === "/warm") return answer(200, [], ["warm"]);
      asked[head.method as "GET" | "POST"]++;
      return new Promise(() => {});
    });
    const proxy = await proxyTo(dead.port);
    const transport = transportTo([proxy.port]);
    await linked(transport);
    const living = await serverOf(({ head }) => {
      asked[head.method as "GET" | "POST"]++;
      return answer(200, [], ["living"]);
    });
    const gets = Promise.allSettled(Array.from({ length: 8 }, (_, n) => ask(transport, `/get/${n}`)));
    const posts = Promise.allSettled(
      Array.from({ length: 8 }, (_, n) =>
        ask(transport, `/post/${n}`, { method: "POST", body: Buffer.from("four") }),
      ),
    );
    await until(() => asked.GET >= 8 && asked.POST === 8);
    proxy.connectTo(living.port);
    proxy.cut();
    for (const one of await gets) expect(one.status).toBe("fulfilled");
    for (const one of await posts)
      expect(one).toMatchObject({ status: "rejected", reason: { code: "connection-lost" } });
    expect(asked.POST).toBe(8);
  });

  test("a session that stands still holds nobody up: its requests are asked for elsewhere, new ones go past it", async () => {
    const { port } = await serverOf(({ head }) => answer(200, [], [head.target]));
    const proxy = await proxyTo(port);
    const transport = transportTo([proxy.port]);
    await linked(transport);
    // More at once than one session is for.
    for (let turn = 0; (linkOf(transport)?.sessions ?? 0) < 4; turn++) {
      if (turn > 50) throw new Error("no four sessions");
      await Promise.all(Array.from({ length: 64 }, (_, n) => ask(transport, `/many/${n}`)));
    }
    proxy.freezeOne();
    const all = await Promise.all(Array.from({ length: 200 }, (_, n) => ask(transport, `/late/${n}`)));
    expect(all.map(({ content }) => content.toString())).toEqual(all.map((_, n) => `/late/${n}`));
    expect(linkOf(transport)?.stuckSessions).toBeLessThanOrEqual(1);
    await Promise.all(Array.from({ length: 50 }, (_, n) => ask(transport, `/after/${n}`)));
    // Nothing waited for its end.
    expect(proxy.frozen()).toBe(1);
  });
});

describe("over a relay", () => {
  test("a link is spoken through its tunnel, from end to end, and what is under way when that falls silent is asked elsewhere", async () => {
    const { port } = await serverOf(({ head, peer }) => answer(200, [], [`${head.target} ${peer}`]));
    const relay = new RelayServer({
      dial: async ({ port: to }) => {
        const socket = connectTcp(to, "127.0.0.1");
        await once(socket, "connect");
        return socket;
      },
      trust: await authority.trust(certified, "nyc-1"),
      clock: systemClock,
      logger,
      onRequest: (request, response) => {
        response.statusCode = request.url === "/livez" ? 200 : 404;
        response.end("ok\n");
      },
    });
    const { port: relayPort } = await relay.listen("127.0.0.1", 0);
    const sites = [
      { id: "fra", role: "edge", ports: [1] },
      { id: "nyc", role: "relay", ports: [relayPort] },
      { id: "iad", role: "parent", ports: [port] },
    ];
    const topology = topologyOf(sites);
    relay.setTopology(topology);
    const links = { "fra|iad": 120, "fra|nyc": 10, "nyc|iad": 10 };
    installWan(wanOf(sites, "fra", links));
    const transport = transportTo([port], {}, topology);
    cleanups.push(async () => {
      installWan(undefined);
      await relay.drain(0);
    });
    transport.start();
    await until(() => transport.explainPath(parent).chosen.via === "nyc", 30_000);
    for (let turn = 0; turn < 300; turn++) {
      const got = await ask(transport, "/through");
      expect(got.content.toString()).toBe("/through fra-1");
      if (got.protocol === "link" && got.path.via === "nyc") break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(transport.explainPath(parent)).toMatchObject({
      chosen: { via: "nyc" },
      protocol: "link",
      link: { state: "spoken" },
    });
    // The relay's path falls silent with requests under way, and stays so: each is answered over the other one.
    const outcomes: Promise<unknown>[] = [];
    for (let turn = 0; turn < 60; turn++) {
      if (turn === 10) installWan(wanOf(sites, "fra", links, [["fra", "nyc"]]));
      for (let n = 0; n < 4; n++) outcomes.push(ask(transport, `/cut/${turn}/${n}`));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const settled = await Promise.allSettled(outcomes);
    expect(settled.filter(({ status }) => status === "rejected")).toEqual([]);
    await until(() => transport.explainPath(parent).chosen.via === null);
    await until(() => transport.explainPath(parent).protocol === "link");
  });
});

async function* endless(onPiece: () => void = () => {}): AsyncGenerator<Uint8Array> {
  const piece = Buffer.alloc(65_536, "x");
  for (;;) {
    onPiece();
    yield piece;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function* breaking(): AsyncGenerator<Uint8Array> {
  yield Buffer.from("half");
  await new Promise((resolve) => setTimeout(resolve, 50));
  throw new Error("broken off");
}

/** Something in the way that can cut what it carries, carry on to elsewhere, or stop carrying. */
async function proxyTo(port: number) {
  let target = port;
  const pairs = new Map<Socket, Socket>();
  let frozen: Socket | undefined;
  const proxy: Server = createTcpServer((socket) => {
    const onward = connectTcp(target, "127.0.0.1");
    socket.pipe(onward).pipe(socket);
    pairs.set(socket, onward);
    for (const one of [socket, onward]) {
      one.on("error", () => {});
      one.once("close", () => {
        pairs.delete(socket);
        socket.destroy();
        onward.destroy();
      });
    }
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const cut = (): void => {
    for (const socket of pairs.keys()) socket.destroy();
  };
  cleanups.push(() => {
    cut();
    proxy.close();
  });
  return {
    port: (proxy.address() as AddressInfo).port,
    cut,
    /** What connects from now on. */
    connectTo: (next: number) => {
      target = next;
    },
    freezeOne: () => {
      // The last that was opened: a session of the link.
      const [socket, onward] = [...pairs].at(-1) ?? [];
      socket?.unpipe();
      onward?.unpipe();
      socket?.pause();
      onward?.pause();
      frozen = socket;
    },
    frozen: () => (frozen !== undefined && pairs.has(frozen) ? 1 : 0),
  };
}
