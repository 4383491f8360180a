/** `isochrone edge` as a process: usage errors, the ready line, workers that die, signals. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { fetchFrom, TestOrigin, until } from "./edge-support.ts";
import { runIsochroneHere } from "../tools/processes.ts";

const command = join(import.meta.dirname, "..", "..", "cli", "isochrone.js");
const origin = new TestOrigin();
const children: ChildProcess[] = [];

function run(...argv: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, [command, "edge", ...argv], {
    env: { ...process.env, ISOCHRONE_LOG: "warn" },
  });
  children.push(child);
  return child;
}

async function ended(child: ChildProcess): Promise<{ readonly code: number | null; readonly error: string }> {
  let error = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    error += chunk.toString();
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, error };
}

async function readyLine(child: ChildProcess): Promise<string> {
  let text = "";
  while (!text.includes("\n")) {
    const [chunk] = (await once(child.stdout as NodeJS.ReadableStream, "data")) as [Buffer];
    text += chunk.toString();
  }
  return text.trim();
}

beforeAll(async () => {
  await origin.start();
  origin.answer = (_request, response) =>
    response.writeHead(200, { "cache-control": "max-age=60" }).end("ok");
});
afterAll(async () => {
  for (const child of children) if (child.exitCode === null) child.kill("SIGKILL");
  await origin.stop();
});

test.each([
  [["--listen", "127.0.0.1:0"], /expected either --origin \(alone\) or --node/],
  [["--listen", "8080", "--origin", "http://127.0.0.1:1"], /--listen: got "8080", expected ADDRESS:PORT/],
  [["--listen", "127.0.0.1:0", "--origin", "ftp://a"], /--origin: got "ftp:\/\/a", expected http/],
  [
    ["--listen", "127.0.0.1:0", "--origin", "http://a", "--memory", "lots"],
    /--memory: got "lots", expected a size/,
  ],
  [["--listen", "127.0.0.1:0", "--origin", "http://a", "--workers", "0"], /--workers: got "0"/],
  [["--listen", "127.0.0.1:0", "--origin", "http://a", "--state", "x"], /--state belongs to --node/],
  [["--listen", "127.0.0.1:0", "--origin", "http://a", "--link", "off"], /--link belongs to --node/],
  [["--listen", "127.0.0.1:0", "--origin", "http://a", "--link-udp", "auto"], /--link-udp belongs to --node/],
  [
    ["--listen", "127.0.0.1:0", "--origin", "http://a", "--link", "on", "--replace"],
    /--link belongs to --node/,
  ],
  [["--listen", "127.0.0.1:0", "--origin", "http://a", "--colour"], /Unknown option '--colour'/],
])("%j is refused in one line with exit code 2", async (argv, expected) => {
  const { code, stderr } = await runIsochroneHere(["edge", ...argv]);
  expect(code).toBe(2);
  expect(stderr).toMatch(expected);
  expect(stderr.trim().split("\n")).toHaveLength(1);
});

test.each(["/proc/nope", "/dev/null/x"])(
  "a disk directory that cannot be made (%s) is one line and exit code 2, never tried for ever",
  async (directory) => {
    const child = run("--listen", "127.0.0.1:0", "--origin", "http://127.0.0.1:1", "--disk", directory);
    const { code, error } = await ended(child);
    expect(code).toBe(2);
    expect(error).toContain(`Cannot use the disk store "${directory}"`);
    expect(error.trim().split("\n")).toHaveLength(1);
  },
  20_000,
);

test.each(["1", "2"])("an address in use is one line and exit code 2, with %s worker(s)", async (workers) => {
  const holder = createServer().listen(0, "127.0.0.1");
  await once(holder, "listening");
  const { port } = holder.address() as { port: number };
  const { code, error } = await ended(
    run("--listen", `127.0.0.1:${port}`, "--origin", `http://127.0.0.1:${origin.port}`, "--workers", workers),
  );
  holder.close();
  expect(code).toBe(2);
  expect(error).toMatch(/the address is in use; stop the process that holds it/);
  expect(error.trim().split("\n")).toHaveLength(1);
});

test("workers share the port; one that is killed is replaced; SIGTERM ends all with 0", async () => {
  const child = run(
    ..."--listen 127.0.0.1:0 --workers 2 --admin 127.0.0.1:0".split(" "),
    "--origin",
    `http://127.0.0.1:${origin.port}`,
  );
  const ready = /^ready edge http:\/\/127\.0\.0\.1:(\d+) origin \S+ admin http:\/\/127\.0\.0\.1:(\d+)$/.exec(
    await readyLine(child),
  );
  expect(ready).not.toBeNull();
  const port = Number(ready?.[1]);
  const adminPort = Number(ready?.[2]);
  expect((await fetchFrom(port, "/a")).status).toBe(200);
  expect((await fetchFrom(adminPort, "/readyz")).status).toBe(200);
  expect((await fetchFrom(adminPort, "/metrics")).body.toString()).toContain("isochrone_edge_requests_total");
  const workers = await childrenOf(child.pid ?? 0);
  expect(workers).toHaveLength(2);
  const [killed = 0] = workers;
  process.kill(killed, "SIGKILL");
  await until(async () => {
    const now = await childrenOf(child.pid ?? 0);
    return now.length === 2 && !now.includes(killed);
  }, "the worker is replaced");
  // A connection may still land on the socket of the dead one for a moment: ask until it answers.
  await until(async () => (await fetchFrom(port, "/a").catch(() => undefined))?.status === 200, "it serves");
  child.kill("SIGTERM");
  expect((await ended(child)).code).toBe(0);
  for (const pid of workers) expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
}, 30_000);

test.each(["1", "2"])(
  "Ctrl-C that the terminal gives to all and SIGTERM on top finish a download, %s worker(s)",
  async (workers) => {
    const child = run(
      ..."--listen 127.0.0.1:0 --workers".split(" "),
      workers,
      "--origin",
      `http://127.0.0.1:${origin.port}`,
    );
    const port = Number(/^ready edge http:\/\/127\.0\.0\.1:(\d+) /.exec(await readyLine(child))?.[1]);
    const begun = Promise.withResolvers<() => void>();
    const before = origin.answer;
    origin.answer = (request, response) => {
      if (request.url !== "/slow") {
        response.end("ok");
        return;
      }
      response.writeHead(200, { "content-length": "10" });
      response.write("first");
      begun.resolve(() => response.end("final"));
    };
    try {
      const download = fetchFrom(port, "/slow");
      const finish = await begun.promise;
      const end = ended(child);
      const pids = [child.pid ?? 0, ...(await childrenOf(child.pid ?? 0))];
      for (const signal of ["SIGINT", "SIGTERM"] as const) for (const pid of pids) process.kill(pid, signal);
      // Drained when it takes no more: from then on only the download is left.
      await until(
        async () => (await fetchFrom(port, "/other").catch(() => undefined)) === undefined,
        "it takes nothing new",
      );
      finish();
      const answer = await download;
      expect(answer.body.toString()).toBe("firstfinal");
      expect((await end).code).toBe(0);
    } finally {
      origin.answer = before;
    }
  },
  30_000,
);

/** Process ids of the children, from /proc where there is one, else from ps. */
async function childrenOf(pid: number): Promise<readonly number[]> {
  const ps = spawn("ps", ["-o", "pid=", "--ppid", String(pid)]);
  let text = "";
  ps.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  await once(ps, "close");
  return text
    .split("\n")
    .map(Number)
    .filter((one) => one > 0);
}
