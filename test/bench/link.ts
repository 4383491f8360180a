/**
 * CPU of a small request between two servers of ours, on each side: the link protocol beside HTTP/2 and HTTP/1.1, all over TLS 1.3 with certificates
 * of both sides, all asked through undici's Dispatcher by the same handler and answered with the same head. The server is a process of
 * its own; the kinds take turns, so that a noisy minute hits all alike.
 */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { constants, createSecureServer } from "node:http2";
import { createServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Client, type Dispatcher, Pool } from "undici";
import type { NodeCredentials, ServerId } from "#kit";
import {
  dial,
  LinkPool,
  type LinkPoolOptions,
  LinkServer,
  NodeTrust,
  UdpDialer,
  UdpEndpoint,
} from "#transport";
import { LINK_ALPN } from "../../transport/core/link/words.ts";
import { makeCertificate } from "../tools/certificates.ts";
import { wholeNumber } from "../tools/flags.ts";
import { testAuthority } from "../tools/node-credentials.ts";
import { benchTopology, productAsker, serveProduct } from "./tools/link-product.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary = "CPU of a small request between servers: link protocol, HTTP/2, HTTP/1.1, over TLS";

/** The first four are protocols alone, `link-udp` the link by UDP whether that pays or not; the last two what a server asks another one by and answers with, all of it. */
const KINDS = ["link", "link-udp", "http2", "http1", "product-link", "product-http1"] as const;
type Kind = (typeof KINDS)[number];
/** Sessions of the link and of HTTP/2 alike. */
const SESSIONS = 4;
const WARM_REQUESTS = 4_000;

const help = `Usage: npm run bench -- link [options]

${summary}

  --requests N     of a round (default 20000)
  --concurrency N  requests at once (default 64)
  --bytes N        content of an answer (default 1024)
  --rounds N       of each kind, in turns; the median counts (default 5)
  --only LIST      some of link, link-udp, http2, http1, product-link, product-http1 (default all)
  --out FILE       the JSON to a file too
  --help
`;

const REQUEST_FIELDS = [
  "accept",
  "*/*",
  "accept-encoding",
  "gzip, deflate, br",
  "user-agent",
  "Mozilla/5.0 (X11; Linux x86_64)",
  "isochrone-tier",
  "0",
  "isochrone-request-id",
  "AbCdEfGh0000",
  "x-forwarded-for",
  "203.0.113.9",
  "via",
  "1.1 isochrone",
  "x-forwarded-proto",
  "https",
];
const ANSWER_FIELDS = [
  "content-type",
  "text/html; charset=utf-8",
  "etag",
  '"5f3c-1"',
  "cache-control",
  "public, max-age=3600",
  "last-modified",
  "Tue, 01 Sep 2026 00:00:00 GMT",
  "date",
  "Fri, 27 Nov 2026 00:00:00 GMT",
  "age",
  "12",
  "cache-status",
  "fra-1; hit; ttl=3588",
  "accept-ranges",
  "bytes",
];

interface Certificates {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Of servers of ours. */
  readonly edge: NodeCredentials;
  readonly parent: NodeCredentials;
}

async function certificates(): Promise<Certificates> {
  const authority = makeCertificate({ names: ["authority"], isAuthority: true });
  const own = makeCertificate({ names: ["edge.test"], issuer: authority });
  const ours = await testAuthority();
  return {
    ca: authority.certPem,
    cert: own.certPem,
    key: own.keyPem,
    edge: await ours.credentials(benchTopology(1), "edge-1"),
    parent: await ours.credentials(benchTopology(1), "parent-1"),
  };
}

function trustOf(credentials: NodeCredentials): NodeTrust {
  const trust = new NodeTrust();
  trust.set(credentials);
  return trust;
}

/** What the child does: answers, and says what it has used when asked. */
async function serve(kind: Kind, bytes: number): Promise<void> {
  const [{ ca, cert, key, parent }] = (await once(process, "message")) as [Certificates];
  const trust = trustOf(parent);
  const content = Buffer.alloc(bytes, "x");
  const fields = [...ANSWER_FIELDS, "content-length", String(bytes)];
  const tls = { ca, cert, key, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.3" } as const;
  let port: number;
  if (isOfProduct(kind)) port = await serveProduct(ANSWER_FIELDS, content, trust);
  else if (kind === "link" || kind === "link-udp") {
    const links = new LinkServer({
      trust,
      mayCome: () => true,
      handshakesMax: 16,
      handshakeTimeoutMs: 5_000,
      handle: (request) => {
        request.writeHead(200, fields);
        request.write(content);
        request.end();
      },
    });
    const server = createTcpServer({ noDelay: true }, (socket) => links.accept(socket, Buffer.alloc(0)));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    port = (server.address() as AddressInfo).port;
    if (kind === "link-udp") links.setUdp(await UdpEndpoint.bind("127.0.0.1", 0));
  } else {
    const server =
      kind === "http2"
        ? createSecureServer({ ...tls, settings: { maxConcurrentStreams: 256 } })
        : createServer({ ...tls, keepAlive: true });
    if (kind === "http2") {
      const head = { [constants.HTTP2_HEADER_STATUS]: 200, ...pairsOf(fields) };
      server.on("stream", (stream: import("node:http2").ServerHttp2Stream) => {
        stream.respond(head);
        stream.end(content);
      });
    } else
      server.on("request", (_request: unknown, response: import("node:http").ServerResponse) => {
        response.writeHead(200, fields);
        response.end(content);
      });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    port = (server.address() as AddressInfo).port;
  }
  process.on("message", () => process.send?.(process.cpuUsage()));
  process.once("disconnect", () => process.exit(0));
  process.send?.(port);
}

const isOfProduct = (kind: Kind): boolean => kind.startsWith("product-");

function pairsOf(fields: readonly string[]): Record<string, string> {
  const pairs: Record<string, string> = {};
  for (let at = 0; at < fields.length; at += 2) pairs[fields[at] as string] = fields[at + 1] as string;
  return pairs;
}

/** Everything by UDP as soon as it is open, without a race after the first. */
function byUdp(dialer: UdpDialer, tcpPort: number): LinkPoolOptions["udp"] {
  return {
    connect: async (told) => await dialer.open({ ...told, host: "127.0.0.1", tcpPort }),
    settings: { packetsMin: 0, lossRatioMin: 0, racesMin: 0, raceEvery: Infinity },
  };
}

function clientOf(
  kind: Kind,
  port: number,
  { ca, cert, key, edge }: Certificates,
  concurrency: number,
  dialer: UdpDialer,
): Dispatcher {
  const origin = `https://127.0.0.1:${port}`;
  const connect = { ca, cert, key, servername: "edge.test" };
  if (kind === "link" || kind === "link-udp")
    return new LinkPool({
      label: "the bench",
      udp: kind === "link" ? undefined : byUdp(dialer, port),
      sessionsMax: SESSIONS,
      connect: (signal) =>
        dial({
          host: "127.0.0.1",
          port,
          signal,
          tls: {
            servername: "parent-1",
            peer: trustOf(edge).clientOptions(
              { serverId: "parent-1" as ServerId, roles: ["parent"] },
              LINK_ALPN,
            ),
          },
        }),
    });
  if (kind === "http1")
    return new Pool(origin, { connections: concurrency, pipelining: 1, connect, allowH2: false });
  const clients = Array.from(
    { length: SESSIONS },
    () => new Client(origin, { connect, allowH2: true, pipelining: 256, maxConcurrentStreams: 256 }),
  );
  let turn = 0;
  // A pool of undici has one session of HTTP/2; these have as many as the link.
  return {
    dispatch: (options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler) =>
      (clients[turn++ % SESSIONS] as Client).dispatch(options, handler),
    destroy: async () => {
      await Promise.all(clients.map((client) => client.destroy()));
    },
  } as unknown as Dispatcher;
}

/** Who asks: `count` times, so many at once. Rejects for a wrong answer. */
interface Asker {
  readonly load: (count: number, concurrency: number, bytes: number) => Promise<void>;
  readonly stop: () => Promise<void>;
}

function load(
  client: Dispatcher,
  origin: string,
  count: number,
  concurrency: number,
  bytes: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let begun = 0;
    let ended = 0;
    const next = (): void => {
      if (begun === count) return;
      const number = begun++;
      let status = 0;
      let came = 0;
      client.dispatch(
        {
          origin,
          method: "GET",
          path: `/assets/${number}.html`,
          headers: ["host", "edge.test", ...REQUEST_FIELDS],
        },
        {
          onRequestStart: () => {},
          onResponseStart: (_controller, code) => {
            status = code;
          },
          onResponseData: (_controller, chunk) => {
            came += chunk.byteLength;
          },
          onResponseEnd: () => {
            if (status !== 200 || came !== bytes) {
              reject(new Error(`A wrong answer: status ${status}, ${came} bytes`));
              return;
            }
            ended++;
            if (ended === count) resolve();
            else next();
          },
          onResponseError: (_controller, error) => reject(error),
        },
      );
    };
    for (let left = concurrency; left > 0; left--) next();
  });
}

class Contender {
  readonly kind: Kind;
  readonly #child: ChildProcess;
  readonly #asker: Asker;
  readonly runs: { readonly client: number; readonly server: number }[] = [];

  private constructor(kind: Kind, child: ChildProcess, asker: Asker) {
    this.kind = kind;
    this.#child = child;
    this.#asker = asker;
  }

  static async start(kind: Kind, concurrency: number, bytes: number): Promise<Contender> {
    const child = fork(join(import.meta.dirname, "run.ts"), [
      "link",
      "--serve",
      kind,
      "--bytes",
      String(bytes),
    ]);
    const pems = await certificates();
    child.send(pems);
    const [port] = (await once(child, "message")) as [number];
    if (isOfProduct(kind)) {
      const asker = await productAsker(port, kind === "product-link", REQUEST_FIELDS, trustOf(pems.edge));
      return new Contender(kind, child, asker);
    }
    const dialer = new UdpDialer();
    const client = clientOf(kind, port, pems, concurrency, dialer);
    return new Contender(kind, child, {
      load: async (...of) => await load(client, `https://127.0.0.1:${port}`, ...of),
      stop: async () => {
        await client.destroy();
        await dialer.close();
      },
    });
  }

  /** One round; us of CPU a request, on each side. */
  async run(requests: number, concurrency: number, bytes: number, isCounted: boolean): Promise<void> {
    const serverBefore = await this.#serverMicroseconds();
    const before = process.cpuUsage();
    await this.#asker.load(requests, concurrency, bytes);
    const used = process.cpuUsage(before);
    const server = ((await this.#serverMicroseconds()) - serverBefore) / requests;
    if (isCounted) this.runs.push({ client: (used.user + used.system) / requests, server });
  }

  async #serverMicroseconds(): Promise<number> {
    this.#child.send("usage");
    const [{ user, system }] = (await once(this.#child, "message")) as [NodeJS.CpuUsage];
    return user + system;
  }

  async stop(): Promise<void> {
    await this.#asker.stop();
    this.#child.disconnect();
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      requests: { type: "string", default: "20000" },
      concurrency: { type: "string", default: "64" },
      bytes: { type: "string", default: "1024" },
      rounds: { type: "string", default: "5" },
      only: { type: "string", default: KINDS.join() },
      out: { type: "string" },
      serve: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const bytes = wholeNumber("bytes", values.bytes, 0, 2 ** 24);
  const serving = KINDS.find((kind) => kind === values.serve);
  if (serving !== undefined) {
    await serve(serving, bytes);
    return await new Promise<number>(() => {});
  }
  const requests = wholeNumber("requests", values.requests, 1, 10_000_000);
  const concurrency = wholeNumber("concurrency", values.concurrency, 1, 1_024);
  const rounds = wholeNumber("rounds", values.rounds, 1, 100);
  const contenders: Contender[] = [];
  try {
    for (const kind of KINDS.filter((one) => values.only.split(",").includes(one)))
      contenders.push(await Contender.start(kind, concurrency, bytes));
    for (const one of contenders) await one.run(WARM_REQUESTS, concurrency, bytes, false);
    for (let round = 0; round < rounds; round++)
      for (const one of contenders) await one.run(requests, concurrency, bytes, true);
  } finally {
    await Promise.all(contenders.map((one) => one.stop()));
  }
  const runs = contenders.map(({ kind, runs }) => ({
    kind,
    clientMicroseconds: Number(median(runs.map(({ client }) => client)).toFixed(1)),
    serverMicroseconds: Number(median(runs.map(({ server }) => server)).toFixed(1)),
    rounds: runs.map(({ client, server }) => [Number(client.toFixed(1)), Number(server.toFixed(1))]),
  }));
  for (const { kind, clientMicroseconds, serverMicroseconds } of runs)
    console.error(
      `${kind}: client ${clientMicroseconds} us, server ${serverMicroseconds} us of CPU a request`,
    );
  const setting = { requests, concurrency, bytes, sessions: SESSIONS };
  const text = JSON.stringify(
    { name: "link", machine: describeMachine(), commit: describeCommit(), setting, runs },
    undefined,
    1,
  );
  console.log(text);
  if (values.out !== undefined) writeFileSync(values.out, `${text}\n`);
  return 0;
}
