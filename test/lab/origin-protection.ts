/**
 * What reaches an origin through a cache when many ask at once, for parts of large objects, for what cannot be stored, and
 * while it fails. Counted at the origin (requests, content bytes, connections) and at the clients (answers, time). The edge,
 * nginx and Varnish one after the other in the same run, each as shipped and nginx also with its own means of protection.
 */
import { once } from "node:events";
import { Agent, type ClientRequest, type IncomingMessage, request } from "node:http";
import { type AddressInfo, connect, createServer } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { isochrone } from "../bench/peers/isochrone.ts";
import { nginx } from "../bench/peers/nginx.ts";
import { type RunningServer, type Server, writeConfiguration } from "../bench/peers/peer.ts";
import { varnish } from "../bench/peers/varnish.ts";
import { describeCommit, describeMachine } from "../bench/tools/machine.ts";
import { usageOf } from "../bench/tools/process-tree.ts";
import { dieWithUs, findProgram, listening, scratchDirectory, startProgram } from "../bench/tools/program.ts";
import { wholeNumber } from "../tools/flags.ts";
import { freePort, startIsochrone } from "../tools/processes.ts";
import { contentOf, RangeOrigin } from "../tools/range-origin.ts";

export const summary =
  "what reaches an origin: collapsed misses, ranges, uncacheable bursts, failures; with nginx and Varnish";

const MEBIBYTE = 2 ** 20;
const SIZE = 10 * MEBIBYTE;

const HELP = `Usage: npm run lab -- origin-protection [options]

${summary}

  --only LIST     servers by name/form: isochrone/no-log, isochrone/2-workers, nginx/default, nginx/protecting, varnish/default (default: all on PATH)
  --clients N     clients that miss one key at once (default 2000)
  --large SIZE    also an object of so many MiB through the edge, whose memory is watched (default 0: left out)
  --help
`;

/** nginx as its documentation advises for this: one fetch at a time for a key, slices of 1 MiB, stale while it fails. */
async function startProtecting(originPort: number): Promise<RunningServer> {
  const directory = scratchDirectory("nginx-protecting", true);
  const port = await freePort();
  const configuration = writeConfiguration(join(directory, "nginx.conf"), [
    process.getuid?.() === 0 && `user ${userInfo().username};`,
    "worker_processes 1;",
    "daemon off;",
    `pid ${directory}/nginx.pid;`,
    `error_log ${directory}/error.log crit;`,
    "worker_rlimit_nofile 65536;",
    "events { worker_connections 16384; }",
    "http {",
    "  access_log off;",
    ...["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
      (name) => `  ${name}_temp_path ${directory}/${name};`,
    ),
    `  proxy_cache_path ${directory}/cache keys_zone=lab:64m max_size=1g use_temp_path=off;`,
    `  upstream origin { server 127.0.0.1:${originPort}; keepalive 64; }`,
    "  server {",
    `    listen 127.0.0.1:${port} backlog=4096;`,
    "    location / {",
    "      slice 1m;",
    "      proxy_cache lab;",
    "      proxy_cache_key $uri$is_args$args$slice_range;",
    "      proxy_set_header Range $slice_range;",
    "      proxy_http_version 1.1;",
    '      proxy_set_header Connection "";',
    "      proxy_pass http://origin;",
    "      proxy_cache_lock on;",
    "      proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;",
    "    }",
    "  }",
    "}",
  ]);
  const program = startProgram(findProgram("nginx") ?? "nginx", ["-p", directory, "-c", configuration]);
  await listening(program, "nginx protecting", port);
  return { port, tlsPort: undefined, pids: [program.pid], stop: () => program.stop() };
}

interface Subject {
  readonly label: string;
  readonly start: (originPort: number) => Promise<RunningServer>;
  readonly isFound: boolean;
}

function subject(servers: readonly Server[], form: string, workers = 1): Subject[] {
  return servers
    .filter((server) => server.form === form)
    .map((server) => ({
      label: `${server.name}/${workers > 1 ? `${workers}-workers` : server.form}`,
      isFound: server.program !== undefined,
      start: (originPort) => server.start({ originPort, role: "cache", workers }),
    }));
}

const SUBJECTS: readonly Subject[] = [
  ...subject(isochrone, "no-log"),
  ...subject(isochrone, "no-log", 2),
  ...subject(nginx, "default"),
  { label: "nginx/protecting", isFound: findProgram("nginx") !== undefined, start: startProtecting },
  ...subject(varnish, "default"),
];

interface Got {
  readonly status: number;
  readonly body: Buffer;
  readonly contentType: string;
  /** Ended before its stated length. */
  readonly isCut: boolean;
  readonly ms: number;
}

const agent = new Agent({ keepAlive: false, maxSockets: 4_000 });

function send(port: number, path: string, headers: Record<string, string> = {}): ClientRequest {
  const outgoing = request({ host: "127.0.0.1", port, path, headers, agent });
  outgoing.end();
  return outgoing;
}

async function get(port: number, path: string, headers: Record<string, string> = {}): Promise<Got> {
  const begunAt = performance.now();
  const outgoing = send(port, path, headers);
  const chunks: Buffer[] = [];
  let status = 0;
  let contentType = "";
  let isCut = false;
  try {
    const [response] = (await once(outgoing, "response")) as [IncomingMessage];
    status = response.statusCode ?? 0;
    contentType = response.headers["content-type"] ?? "";
    for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  } catch {
    isCut = true;
  }
  return { status, contentType, body: Buffer.concat(chunks), isCut, ms: performance.now() - begunAt };
}

const many = async (count: number, one: (n: number) => Promise<Got>): Promise<Got[]> =>
  await Promise.all(Array.from({ length: count }, (_, n) => one(n)));

/** At most so many at once. */
async function inTurns(count: number, atOnce: number, one: (n: number) => Promise<Got>): Promise<Got[]> {
  const got: Got[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let n = next++; n < count; n = next++) got[n] = await one(n);
    }),
  );
  return got;
}

const okOf = (got: readonly Got[]): number =>
  got.filter(({ status, isCut }) => status < 400 && !isCut).length;
const wallMs = (got: readonly Got[]): number => Math.max(...got.map(({ ms }) => ms));

/** `clients` clients ask for one key that nobody has asked for; the origin takes half a second. */
async function misses(port: number, origin: RangeOrigin, clients: number) {
  origin.reset();
  origin.totalBytes = 1_000;
  origin.latencyMs = 500;
  const got = await many(clients, () => get(port, "/missed"));
  origin.latencyMs = 0;
  origin.totalBytes = SIZE;
  return { clients, answeredOk: okOf(got), originRequests: origin.requests.length };
}

/** The first client goes away while the origin works on its request. */
async function leaderAborts(port: number, origin: RangeOrigin) {
  origin.reset();
  origin.totalBytes = 1_000;
  origin.latencyMs = 500;
  const leader = connect(port, "127.0.0.1");
  leader.write(`GET /abandoned HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const others = many(100, () => get(port, "/abandoned"));
  await new Promise((resolve) => setTimeout(resolve, 150));
  leader.destroy();
  const got = await others;
  origin.latencyMs = 0;
  origin.totalBytes = SIZE;
  return { waiting: 100, answeredOk: okOf(got), originRequests: origin.requests.length };
}

/** The first connection for an object dies in its middle while 50 read it. */
async function originDies(port: number, origin: RangeOrigin) {
  origin.reset();
  origin.cutAfterBytes = 4.5 * MEBIBYTE;
  origin.cuts = 1;
  const got = await many(50, () => get(port, "/dying"));
  origin.cuts = 0;
  const whole = contentOf(1, 0, SIZE - 1);
  return {
    readers: got.length,
    whole: got.filter(({ body, isCut }) => !isCut && body.equals(whole)).length,
    cut: got.filter(({ isCut, status }) => isCut || status >= 400).length,
    shortOrWrong: got.filter(({ status, body, isCut }) => status < 400 && !isCut && !body.equals(whole))
      .length,
    originRequests: origin.requests.length,
    originMebibytes: mebibytes(origin.sentBytes),
  };
}

const mebibytes = (bytes: number): number => Math.round((bytes / MEBIBYTE) * 100) / 100;

async function oneByte(port: number, origin: RangeOrigin) {
  origin.reset();
  const at = 5 * MEBIBYTE + 12_345;
  const got = await get(port, "/one-byte", { range: `bytes=${at}-${at}` });
  await settled(origin);
  const isRight = got.status === 206 && got.body.equals(contentOf(1, at, at));
  return { isRight, originRequests: origin.requests.length, originMebibytes: mebibytes(origin.sentBytes) };
}

/** Until the origin has sent nothing for a moment: a cache may go on with the whole object. */
async function settled(origin: RangeOrigin): Promise<void> {
  for (let sent = -1; sent !== origin.sentBytes; ) {
    sent = origin.sentBytes;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

async function overlapping(port: number, origin: RangeOrigin) {
  origin.reset();
  const firsts = Array.from({ length: 1_001 }, (_, n) => n * 10_000);
  const specs = firsts.map((first) => `${first}-`).join(",");
  const one = await get(port, "/in-one-request", { range: `bytes=${specs}` });
  await settled(origin);
  const inOneRequest = {
    status: one.status,
    answerMebibytes: mebibytes(one.body.byteLength),
    originRequests: origin.requests.length,
    originMebibytes: mebibytes(origin.sentBytes),
  };
  origin.reset();
  const got = await inTurns(1_001, 200, (n) => {
    const first = firsts[n] ?? 0;
    return get(port, "/in-many-requests", { range: `bytes=${first}-${Math.min(SIZE, first + 40_000) - 1}` });
  });
  await settled(origin);
  const right = got.filter(({ status, body }, n) => {
    const first = firsts[n] ?? 0;
    return status === 206 && body.equals(contentOf(1, first, Math.min(SIZE, first + 40_000) - 1));
  }).length;
  return {
    inOneRequest,
    inManyRequests: {
      right,
      originRequests: origin.requests.length,
      originMebibytes: mebibytes(origin.sentBytes),
    },
  };
}

/** 100 at once for one key whose answers are for one client only, against the same straight to the origin. */
async function uncacheable(port: number, origin: RangeOrigin) {
  origin.totalBytes = 1_000;
  // Long enough that it is waiting which is measured, not the work of a busy machine.
  origin.latencyMs = 1_000;
  origin.fields = { "Cache-Control": "private" };
  let notOk = 0;
  const burst = async (to: number, path: string): Promise<number> => {
    const got = await many(100, () => get(to, path));
    notOk += got.length - okOf(got);
    return wallMs(got);
  };
  const median = (values: readonly number[]): number =>
    values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
  const direct: number[] = [];
  const known: number[] = [];
  await burst(origin.port, "/api/0");
  const first = await burst(port, "/api/0");
  for (let round = 0; round < 5; round++) {
    direct.push(await burst(origin.port, "/api/0"));
    known.push(await burst(port, "/api/0"));
  }
  for (let n = 1; n < 10; n++) await get(port, `/api/${n}`);
  const ofFamily: number[] = [];
  for (let round = 0; round < 5; round++) ofFamily.push(await burst(port, `/api/new-${round}`));
  origin.fields = {};
  origin.latencyMs = 0;
  origin.totalBytes = SIZE;
  const ratio = (ms: number): number => Math.round((ms / median(direct)) * 100) / 100;
  return {
    atOnce: 100,
    /** Of 1,100: shed or failed ones; the ratios say little where there are many. */
    notOk,
    directMs: Math.round(median(direct)),
    firstBurst: ratio(first),
    knownKey: ratio(median(known)),
    newKeyOfKnownFolder: ratio(median(ofFamily)),
  };
}

/** Errors that state a lifetime, and an origin that takes connections and drops them. */
async function failures(
  port: number,
  origin: RangeOrigin,
  start: (originPort: number) => Promise<RunningServer>,
) {
  origin.reset();
  origin.answer = (_request, response) => {
    response.writeHead(404, { "Cache-Control": "max-age=5" }).end("no");
    return true;
  };
  const errors = await inTurns(1_000, 100, () => get(port, "/gone"));
  origin.answer = undefined;
  const statedLifetime = {
    requests: errors.length,
    answered404: errors.filter(({ status }) => status === 404).length,
    originRequests: origin.requests.length,
  };
  let dials = 0;
  const dead = createServer((socket) => {
    dials++;
    socket.on("error", () => {});
    socket.resume();
    socket.destroy();
  });
  dead.listen(0, "127.0.0.1");
  await once(dead, "listening");
  const server = await start((dead.address() as AddressInfo).port);
  try {
    dials = 0;
    const got = await inTurns(2_000, 200, () => get(server.port, "/a"));
    return {
      statedLifetime,
      droppingOrigin: {
        requests: got.length,
        answered5xx: got.filter(({ status }) => status >= 500).length,
        originConnections: dials,
        seconds: Math.round(wallMs(got)) / 1_000,
      },
    };
  } finally {
    await server.stop();
    dead.close();
  }
}

/** An object that is larger than the server's memory, which has no disk: two clients read it at once, then its end is asked for. */
async function large(origin: RangeOrigin, totalMebibytes: number) {
  origin.reset();
  origin.totalBytes = totalMebibytes * MEBIBYTE;
  const at = `http://127.0.0.1:${origin.port}`;
  const edge = await startIsochrone(
    ["edge", "--listen", "127.0.0.1:0", "--origin", at, "--memory", "256MiB"],
    { env: { ISOCHRONE_LOG: "error" } },
  );
  dieWithUs(edge.pid);
  const port = Number(/:(\d+)\b/.exec(edge.readyLine)?.[1]);
  let residentMaxBytes = 0;
  const watch = setInterval(() => {
    residentMaxBytes = Math.max(residentMaxBytes, usageOf([edge.pid]).rssBytes);
  }, 200);
  const begunAt = performance.now();
  try {
    const readers = await Promise.all(Array.from({ length: 2 }, () => readWhole(port, "/large")));
    const seconds = (performance.now() - begunAt) / 1_000;
    const { sentBytes } = origin;
    const originRequests = origin.requests.length;
    origin.reset();
    const end = await get(port, "/large", { range: "bytes=-1000" });
    return {
      mebibytes: totalMebibytes,
      memorySetting: "256MiB",
      readers: readers.length,
      readersRight: readers.filter((bytes) => bytes === origin.totalBytes).length,
      originRequests,
      originMebibytes: mebibytes(sentBytes),
      seconds: Math.round(seconds * 10) / 10,
      residentMaxMebibytes: Math.round(residentMaxBytes / MEBIBYTE),
      endIsRight: end.body.equals(contentOf(1, origin.totalBytes - 1_000, origin.totalBytes - 1)),
      endOriginMebibytes: mebibytes(origin.sentBytes),
    };
  } finally {
    clearInterval(watch);
    await edge.stop();
    origin.totalBytes = SIZE;
  }
}

/** Bytes that were read and right. */
async function readWhole(port: number, path: string): Promise<number> {
  const [response] = (await once(send(port, path), "response")) as [IncomingMessage];
  let at = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    if (!chunk.equals(contentOf(1, at, at + chunk.byteLength - 1))) return -1;
    at += chunk.byteLength;
  }
  return at;
}

async function measure(one: Subject, origin: RangeOrigin, clients: number) {
  const server = await one.start(origin.port);
  const step = async <T>(name: string, run: () => Promise<T>): Promise<T> => {
    console.error(`origin-protection: ${one.label}: ${name}`);
    return await run();
  };
  try {
    return {
      misses: await step("misses", () => misses(server.port, origin, clients)),
      leaderAborts: await step("leader aborts", () => leaderAborts(server.port, origin)),
      originDies: await step("origin's connection dies", () => originDies(server.port, origin)),
      oneByteOf10Mebibytes: await step("one byte", () => oneByte(server.port, origin)),
      overlappingRanges: await step("1,001 overlapping ranges", () => overlapping(server.port, origin)),
      uncacheableTimes: await step("uncacheable", () => uncacheable(server.port, origin)),
      failures: await step("failures", () => failures(server.port, origin, one.start)),
    };
  } finally {
    await server.stop();
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: "string" },
      clients: { type: "string", default: "2000" },
      large: { type: "string", default: "0" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const wanted = values.only?.split(",");
  const clients = wholeNumber("clients", values.clients, 0, 3_500);
  const largeMebibytes = wholeNumber("large", values.large, 0, 100_000);
  const origin = new RangeOrigin(SIZE);
  await origin.start();
  const servers: Record<string, Awaited<ReturnType<typeof measure>>> = {};
  try {
    for (const one of SUBJECTS) {
      if (wanted !== undefined && !wanted.includes(one.label)) continue;
      if (!one.isFound) console.error(`origin-protection: left out, not on PATH: ${one.label}`);
      else servers[one.label] = await measure(one, origin, clients);
    }
    const passed = largeMebibytes === 0 ? undefined : await large(origin, largeMebibytes);
    const result = { commit: describeCommit(), machine: describeMachine(), servers, large: passed };
    console.log(JSON.stringify(result, undefined, 2));
    const own = Object.entries(servers).filter(([label]) => label.startsWith("isochrone/"));
    return own.every(([, one]) => isProtecting(one, clients)) ? 0 : 1;
  } finally {
    await origin.stop();
  }
}

/** What must hold of the edge whatever the machine's speed. */
function isProtecting(own: Awaited<ReturnType<typeof measure>>, clients: number): boolean {
  const { misses: missed, leaderAborts: left, originDies: died, oneByteOf10Mebibytes: byte } = own;
  const { inOneRequest, inManyRequests } = own.overlappingRanges;
  return (
    missed.originRequests === 1 &&
    missed.answeredOk === clients &&
    left.originRequests === 1 &&
    left.answeredOk === left.waiting &&
    died.shortOrWrong === 0 &&
    byte.isRight &&
    byte.originMebibytes <= 1 &&
    inOneRequest.originMebibytes <= SIZE / MEBIBYTE &&
    inManyRequests.right === 1_001 &&
    inManyRequests.originMebibytes <= SIZE / MEBIBYTE
  );
}
