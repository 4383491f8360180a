/** Several workers as one server, and one server after the other: what clients and the origin see of it. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { Agent } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { rollingRestart } from "../lab/rolling-restart.ts";
import { workerDeath } from "../lab/worker-death.ts";
import {
  freePort,
  type IsochroneProcess,
  runIsochrone,
  startIsochrone,
  waitFor,
} from "../tools/processes.ts";
import { script } from "../tools/text-samples.ts";
import { fetchFrom, TestOrigin, until } from "./edge-support.ts";

const WORKERS = 2;
const env: Record<string, string> = { ISOCHRONE_LOG: "error" };
const origin = new TestOrigin();
let directory: string;
let edge: IsochroneProcess;
let port: number;
let adminPort: number;
/** A process that took over and that `edge.stop` does not reach. */
let successor: number | undefined;

const argv = (...more: readonly string[]): readonly string[] => [
  ...[
    `edge --memory 64MiB --disk-size 64MiB --workers ${WORKERS} --run ${join(directory, "run")}`,
    `--listen 127.0.0.1:${port} --admin 127.0.0.1:${adminPort} --disk ${join(directory, "disk")}`,
    `--origin http://127.0.0.1:${origin.port} --prefetch on`,
  ].flatMap((part) => part.split(" ")),
  ...more,
];
const start = async (): Promise<void> => {
  edge = await startIsochrone(argv(), { env });
};

/** A request on a connection of its own: any worker may get it. */
const ask = async (path: string, method = "GET") =>
  await fetchFrom(port, path, { method, headers: { host: "www.shop.example", connection: "close" } });

/** The same on a connection that stays open. */
function connection() {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return async (path: string, method = "GET") =>
    await fetchFrom(port, path, { method, headers: { host: "www.shop.example" }, agent });
}

/** Replaces the server; what drains and what serves hear of each other's unsafe requests (RFC 9111, 4.4). */
async function replaceWithUnsafeRequests(flags: readonly string[] = []): Promise<number> {
  const [first, second] = [connection(), connection()];
  await first("/kept-0");
  await second("/kept-1");
  const { code, stdout, stderr } = await runIsochrone([...argv(...flags), "--replace"], { env });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  successor = Number(/by process ([0-9]+)/.exec(stdout)?.[1]);
  await waitFor(async () => (await metric("disk_objects")) >= 2, {
    timeoutMs: 30_000,
    what: "the disk to be handed over",
  });
  for (const path of ["/kept-0", "/kept-1"]) expect((await ask(path)).cacheStatus).toMatch(/^hit/);
  const last = await first("/kept-0", "POST");
  expect(last.headers.connection).toBe("close");
  expect((await ask("/kept-0")).cacheStatus).toMatch(/^fwd=/);
  await ask("/kept-1", "POST");
  expect((await second("/kept-1")).cacheStatus).toMatch(/^fwd=/);
  await ask("/kept-1");
  return successor;
}

async function metric(name: string, room = "edge"): Promise<number> {
  const { body } = await fetchFrom(adminPort, "/metrics", { headers: { connection: "close" } });
  return Number(new RegExp(`^isochrone_${room}_${name} ([0-9]+)`, "m").exec(body.toString())?.[1]);
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "isochrone-workers-"));
  await origin.start();
  port = await freePort();
  adminPort = await freePort();
  // A service manager that keeps what it is told.
  const programs = join(directory, "bin");
  await mkdir(programs);
  const told = `#!/bin/sh\necho "$@" >> "${join(directory, "told")}"\n`;
  await writeFile(join(programs, "systemd-notify"), told, { mode: 0o755 });
  env["NOTIFY_SOCKET"] = join(directory, "notify");
  env["PATH"] = `${programs}:${process.env["PATH"] ?? ""}`;
  await start();
});
const toldLines = async (): Promise<readonly string[]> =>
  (await readFile(join(directory, "told"), "utf8")).trimEnd().split("\n");
beforeEach(() => {
  origin.seen.length = 0;
});
afterEach(() => {
  origin.answer = (_request, response) => response.end("ok");
});
afterAll(async () => {
  if (successor !== undefined) process.kill(successor, "SIGKILL");
  await edge.stop();
  await origin.stop();
  await rm(directory, { recursive: true, force: true });
});

test("2,000 concurrent misses at all workers are one request to the origin", async () => {
  origin.answer = (_request, response) =>
    setTimeout(
      () => response.writeHead(200, { "cache-control": "max-age=60" }).end("z".repeat(2_000)),
      1_000,
    );
  const answers = await Promise.all(Array.from({ length: 2_000 }, () => ask("/flash")));
  expect(answers.every(({ status, body }) => status === 200 && body.length === 2_000)).toBe(true);
  expect(origin.seen).toHaveLength(1);
  expect(await metric("siblings_asked_total")).toBeGreaterThan(0);
});

test("who answers cannot be told: one Via, one Cache-Status member, one Age, hits from copies", async () => {
  origin.answer = (_request, response) =>
    response.writeHead(200, { "cache-control": "max-age=600", age: "100", etag: '"1"' }).end("one");
  const asked = await metric("siblings_asked_total");
  const answers: Awaited<ReturnType<typeof ask>>[] = [];
  for (let n = 0; n < 60; n++) answers.push(await ask(`/same-${n % 6}`));
  expect(origin.seen).toHaveLength(6);
  for (const { headers, body } of answers) {
    expect(body.toString()).toBe("one");
    expect(headers.via).toMatch(/^1\.1 edge-[0-9a-f]{8}$/);
    expect(headers["cache-status"]).toMatch(
      /^edge-[0-9a-f]{8}; (hit; ttl=\d+|fwd=uri-miss; fwd-status=200; ttl=\d+; stored)$/,
    );
    expect(Number(headers.age)).toBeGreaterThanOrEqual(100);
    expect(Number(headers.age)).toBeLessThan(110);
  }
  expect(answers.filter(({ cacheStatus }) => cacheStatus.startsWith("hit"))).toHaveLength(54);
  // Copies: most hits at the other worker did not ask the owner again.
  expect(await metric("siblings_copied_total")).toBeGreaterThan(0);
  expect(await metric("siblings_wanted_total")).toBeGreaterThan(0);
  // The owner answers for another worker at most where nobody has the object yet: after that it gives it away.
  expect((await metric("siblings_asked_total")) - asked).toBeLessThanOrEqual(6);
  const range = await fetchFrom(port, "/same-1", {
    headers: { host: "www.shop.example", connection: "close", range: "bytes=1-1" },
  });
  expect([range.status, range.body.toString()]).toEqual([206, "n"]);
  const unchanged = await fetchFrom(port, "/same-2", {
    headers: { host: "www.shop.example", connection: "close", "if-none-match": '"1"' },
  });
  expect(unchanged.status).toBe(304);
});

test("what one worker prefetched and another one is asked for counts as used, and is asked for once", async () => {
  const images = Array.from({ length: 12 }, (_, n) => `/page/${n}.png`);
  origin.answer = (request, response) => {
    const type = request.url === "/page/" ? "text/html" : "image/png";
    response.writeHead(200, { "cache-control": "max-age=600", "content-type": type });
    response.end(images.map((path) => `<img src="${path}">`).join(""));
  };
  await ask("/page/");
  await until(() => origin.seen.length === 1 + images.length, "all images are asked for");
  await until(async () => (await metric("prefetch_active")) === 0, "they are there");
  for (const path of images) expect((await ask(path)).cacheStatus).toMatch(/^hit/);
  await until(async () => (await metric("prefetch_used_total")) === images.length, "every use is known");
  expect(await metric("prefetch_fetched_total")).toBe(images.length);
  expect(origin.seen).toHaveLength(1 + images.length);
});

test("variants and contents of every size come right from every worker", async () => {
  const sizes = [0, 1, 1_000, 65_536, 65_537, 200_000];
  const bodyOf = (language: string, size: number): string => language.repeat(size).slice(0, size);
  origin.answer = (request, response) => {
    const size = Number(request.url?.split("/").at(-1));
    response.writeHead(200, { "cache-control": "max-age=600", vary: "accept-language" });
    response.end(bodyOf(request.headers["accept-language"] ?? "", size));
  };
  const secondAttempts = async () => await metric('hedging_total\\{event="hedges"\\}', "transport");
  const [copied, before] = [await metric("siblings_copied_total"), await secondAttempts()];
  // All at once: the owner is asked for several in one frame.
  const round = async (): Promise<void> => {
    await Promise.all(
      sizes.flatMap((size) =>
        ["en", "de"].map(async (language) => {
          const headers = { host: "www.shop.example", connection: "close", "accept-language": language };
          const { status, body } = await fetchFrom(port, `/sized/${size}`, { headers });
          expect([status, body.toString() === bodyOf(language, size)], `${language} ${size}`).toEqual([
            200,
            true,
          ]);
        }),
      ),
    );
  };
  for (let n = 0; n < 8; n++) await round();
  const asked = origin.seen.map(({ url, headers }) => `${url} ${headers["accept-language"]}`);
  expect([...new Set(asked)].sort()).toEqual(
    sizes.flatMap((size) => [`/sized/${size} de`, `/sized/${size} en`]).sort(),
  );
  // A machine that stood still for a while has sent second attempts, which are no misses; not each of them arrives.
  expect(asked.length - 2 * sizes.length).toBeLessThanOrEqual((await secondAttempts()) - before);
  expect(await metric("siblings_copied_total")).toBeGreaterThan(copied);
});

test("a form is made once, by the worker that owns the key, for all of them", async () => {
  const text = script(20_000);
  origin.answer = (_request, response) =>
    response.writeHead(200, { "cache-control": "max-age=600", "content-type": "text/javascript" }).end(text);
  const get = async (coding: string) =>
    await fetchFrom(port, "/form.js", {
      headers: { host: "www.shop.example", connection: "close", "accept-encoding": coding },
    });
  const jobs = (coding: string, result: string) =>
    metric(`coding_jobs_total\\{coding="${coding}",result="${result}"\\}`);
  for (const coding of ["br", "gzip"]) {
    await until(async () => {
      await get(coding);
      return (await jobs(coding, "copied")) === WORKERS - 1;
    }, `every worker has ${coding}`);
    expect(await jobs(coding, "done")).toBe(1);
  }
  const kept = await Promise.all(Array.from({ length: 20 }, () => get("br")));
  for (const { headers, body } of kept) {
    expect(headers["content-length"]).toBe(String(body.byteLength));
    expect(brotliDecompressSync(body).equals(text)).toBe(true);
  }
  expect(origin.seen).toHaveLength(1);
});

test("an unsafe request invalidates at every worker before it is answered (RFC 9111, 4.4)", async () => {
  let version = 1;
  origin.answer = (request, response) => {
    if (request.method === "POST") version++;
    response.writeHead(200, { "cache-control": request.method === "GET" ? "max-age=600" : "no-store" });
    response.end(`version ${version}`);
  };
  for (let round = 1; round <= 5; round++) {
    for (let n = 0; n < 8; n++) expect((await ask("/changing")).body.toString()).toBe(`version ${round}`);
    expect((await ask("/changing", "POST")).status).toBe(200);
  }
});

test("a worker that is killed takes only its own connections; what it kept on disk is there again", async () => {
  const result = await workerDeath({ workers: 2, kills: 2, clients: 16, objects: 100, log: () => {} });
  expect(result).toMatchObject({ kills: 2, lostBeyond: 0, probesFailed: 0, damaged: 0 });
  expect(result.lostOwn + result.requests).toBeGreaterThan(100);
  expect(result.readableRatio).toBeGreaterThanOrEqual(0.99);
});

test("a primary that is killed: downloads end whole, and the next server has port and disk at once", async () => {
  // Small: the parts on disk have 4 MiB each, and other tests count what is there.
  const piece = Buffer.alloc(4 * 1_024, "d");
  const pieces = 16;
  let sending = 0;
  // Without a length and a validator: no slices, each is one stream to its end.
  origin.answer = (_request, response) => {
    response.writeHead(200, { "cache-control": "max-age=600" });
    let left = pieces;
    response.write(piece);
    sending++;
    const timer = setInterval(() => {
      if (--left > 0) response.write(piece);
      else {
        clearInterval(timer);
        response.end();
      }
    }, 150);
  };
  const downloads = Array.from({ length: 8 }, (_, n) => ask(`/download-${n}`));
  const lengths = Promise.all(
    downloads.map(async (download) => await download.then(({ body }) => body.length, String)),
  );
  await until(() => sending === 8, "all downloads are under way");
  const killed = edge;
  killed.signal("SIGKILL");
  await start();
  expect((await ask("/download-0")).status).toBe(200);
  expect(await lengths).toEqual(Array.from({ length: 8 }, () => pieces * piece.byteLength));
  // Its output ends when the last of its workers has ended.
  await killed.exit;
  expect(killed.stderr()).toBe("");
});

test("what was cached survives a replacement on disk; a successor that fails changes nothing", async () => {
  origin.answer = (_request, response) =>
    response.writeHead(200, { "cache-control": "max-age=600" }).end("kept");
  for (let n = 0; n < 20; n++) await ask(`/kept-${n}`);
  await until(async () => (await metric("disk_objects")) >= 20, "all are on disk");
  const failed = await runIsochrone([...argv("--disk", "/proc/nope"), "--replace"], { env });
  expect(failed.code).toBe(1);
  expect(failed.stderr).toMatch(/Not replaced, the running server goes on: ended-before-ready/);
  // The successor may have said that it is the one to watch.
  const isMain = `--ready --pid=${edge.pid}`;
  expect((await toldLines()).slice(-2)).toEqual([isMain, isMain]);
  expect((await ask("/kept-0")).cacheStatus).toMatch(/^hit/);
  const stdout = edge.stdout();
  const pid = await replaceWithUnsafeRequests();
  expect((await toldLines()).at(-1)).toBe(`--ready --pid=${pid}`);
  await until(async () => (await metric("disk_objects")) >= 20, "all are on disk again");
  origin.seen.length = 0;
  for (let n = 0; n < 20; n++) expect((await ask(`/kept-${n}`)).cacheStatus).toMatch(/^hit/);
  expect(origin.seen).toHaveLength(0);
  // The old process has gone by itself; the new one writes to the same place.
  expect(edge.stdout().length).toBeGreaterThan(stdout.length);
  process.kill(pid, "SIGTERM");
  expect((await edge.exit).code).toBe(0);
  successor = undefined;
  await start();
});

test("what was invalidated while the worker that owns it was dead does not come back from its disk", async () => {
  let version = 1;
  origin.answer = (_request, response) =>
    response.writeHead(200, { "cache-control": "max-age=600" }).end(`version ${version}`);
  const paths = Array.from({ length: 16 }, (_, n) => `/dead-${n}`);
  const before = await metric("disk_objects");
  for (const path of paths) await ask(path);
  await until(async () => (await metric("disk_objects")) >= before + paths.length, "all are on disk");
  version++;
  const children = async () =>
    (await readFile(`/proc/${edge.pid}/task/${edge.pid}/children`, "utf8")).trim().split(" ").map(Number);
  const workers = await children();
  const change = async (some: readonly string[]) =>
    await Promise.all(some.map(async (path) => await ask(path, "POST")));
  process.kill(workers[0] as number, "SIGKILL");
  // Some before its death is noticed, some before the next one serves.
  await change(paths.slice(0, 8));
  const next = await waitFor(async () => (await children()).find((pid) => !workers.includes(pid)), {
    timeoutMs: 10_000,
    what: "another worker",
  });
  process.kill(next, "SIGSTOP");
  await change(paths.slice(8));
  process.kill(next, "SIGCONT");
  await until(async () => (await metric("workers_living")) === WORKERS, "the worker is replaced");
  for (const path of paths) expect((await ask(path)).body.toString()).toBe("version 2");
});

test("what was invalidated while the server had another number of processes does not come back", async () => {
  await edge.stop();
  let version = 1;
  origin.answer = (request, response) => {
    if (request.method === "POST") version++;
    response.writeHead(200, { "cache-control": request.method === "GET" ? "max-age=600" : "no-store" });
    response.end(`version ${version}`);
  };
  for (const workers of [2, 1, 2]) {
    edge = await startIsochrone([...argv(), "--workers", String(workers)], { env });
    const before = await metric("disk_objects");
    expect((await ask("/layout")).body.toString()).toBe(`version ${version}`);
    expect((await ask("/layout", "POST")).status).toBe(200);
    expect((await ask("/layout")).body.toString()).toBe(`version ${version}`);
    for (let n = 0; n < 4; n++) await ask(`/layout-${workers}-${n}`);
    await until(async () => (await metric("disk_objects")) >= before + 5, "all are on disk");
    await edge.stop();
  }
  edge = await startIsochrone([...argv(), "--workers", "1"], { env });
  const pid = await replaceWithUnsafeRequests(["--workers", "1"]);
  process.kill(pid, "SIGTERM");
  expect((await edge.exit).code).toBe(0);
  successor = undefined;
  await start();
});

test("nobody to replace is said in one line", async () => {
  const { code, stderr } = await runIsochrone([...argv(), "--replace", "--run", join(directory, "other")], {
    env,
  });
  expect(code).toBe(2);
  expect(stderr).toMatch(/^isochrone edge: Cannot replace: no edge of this user listens on .*\n$/);
});

test.each([2])("what cannot be used is said in one line at the start, %s worker(s)", async (workers) => {
  const tell = async (flag: string, value: string): Promise<string> => {
    const flags = ["--workers", String(workers), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    const { code, stderr } = await runIsochrone([...argv(), "--run", directory, ...flags, flag, value], {
      env,
    });
    expect(code).toBe(2);
    return stderr;
  };
  await writeFile(join(directory, "file"), "");
  expect(await tell("--access-log", join(directory, "file", "access.log"))).toMatch(
    /^isochrone edge: Cannot use the access log ".+": .+a part of the path is a file.+\(EEXIST\); name a file that this process may write\n/,
  );
  // Of the addresses for documentation (RFC 5737): no machine's own.
  expect(await tell("--listen", "192.0.2.1:80")).toMatch(
    /^isochrone edge: Cannot listen on 192\.0\.2\.1:80: this machine has no such address.+\n$/,
  );
});

// One process alone is replaced in edge-node.test.ts and by `npm run lab -- rolling-restart`.
test.each([{ workers: 2, restarts: 2 }])(
  "no request is lost over $restarts replacement(s), $workers worker(s)",
  async ({ workers, restarts }) => {
    const result = await rollingRestart({
      requests: 2_000 * restarts,
      restarts,
      workers,
      clients: 8,
      idlers: 4,
      downloads: 2,
      downloadMs: 1_500,
      log: () => {},
    });
    expect(result).toMatchObject({ lost: 0, failedStatuses: 0, downloadsBroken: 0, restarts });
    expect(result.requests).toBeGreaterThanOrEqual(2_000 * restarts);
    expect(result.downloadsAcrossRestart).toBeGreaterThan(0);
  },
);
