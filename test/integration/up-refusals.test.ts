/**
 * Goal: what `isochrone up` cannot do it refuses in one line that says what to do, without leaving a process or a half-made world.
 * Method: real starts with state directories, ports and last words that cannot be had.
 */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { lockStateDirectory } from "../../cli/up/state-lock.ts";
import { type ProcessSpec, StartError, Supervisor } from "../../cli/up/supervisor.ts";
import { freePort, runIsochrone } from "../tools/processes.ts";

const LOOPBACK = "127.77";
const run = promisify(execFile);

let base = "";
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "isochrone-refusal-"));
});
afterEach(() => {
  rmSync(base, { recursive: true, force: true });
});

async function up(...args: string[]) {
  const port = String(await freePort());
  const ports = ["--port", port, "--dns-port", String(await freePort()), "--loopback", LOOPBACK];
  return runIsochrone(["up", "small", ...ports, ...args], {
    env: { XDG_RUNTIME_DIR: base },
    timeoutMs: 30_000,
  });
}

describe("state directories", () => {
  test.each([
    ["a file", () => join(base, "file"), /a part of the path is a file/],
    ["below a file", () => join(base, "file", "x"), /a part of the path is a file/],
    ["empty", () => "", /--state: got nothing, expected a directory/],
  ])("%s: one line, exit code 2", async (_what, path, message) => {
    writeFileSync(join(base, "file"), "");
    const { code, stdout, stderr } = await up("--state", path());
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/^isochrone up: [^\n]+\n$/);
    expect(stderr).toMatch(message);
  });

  test("one that another world runs in is refused before anything in it is touched", async () => {
    const state = join(base, "state");
    mkdirSync(state);
    const unlock = lockStateDirectory(state);
    const { code, stderr } = await up("--state", state);
    expect(code).toBe(2);
    expect(stderr).toBe(
      `isochrone up: A world runs in the state directory ${JSON.stringify(state)} already; stop it or give another --state\n`,
    );
    expect(existsSync(join(state, "secrets.json"))).toBe(false);
    expect(existsSync(join(state, "wan"))).toBe(false);
    unlock();
    lockStateDirectory(state)();
  });
});

test("the same port for HTTP and DNS, and ports that do not fit, are refused before a process starts", async () => {
  const same = await up("--dns-port", "19999", "--port", "19999");
  expect(same.code).toBe(2);
  expect(same.stderr).toMatch(/^isochrone up: --port and --dns-port are both 19999[^\n]*choose two ports\n$/);
  const outside = await up("--loopback", "none", "--port", "65535");
  expect(outside.code).toBe(2);
  expect(outside.stderr).toMatch(
    /^isochrone up: Cannot plan ports [^\n]*see --port, --dns-port and --loopback\n$/,
  );
});

describe("Supervisor", () => {
  const spec = (id: string, argv: readonly string[]): ProcessSpec => ({
    role: "origin",
    id,
    clusterId: "c",
    city: "City",
    address: "127.0.0.1",
    port: 1,
    adminPort: 1,
    argv,
    env: {},
  });

  test("a process that ends before it is ready fails its start, is not tried again, and no later one is left behind", async () => {
    const holder = createServer().listen(0, "127.0.0.1");
    await once(holder, "listening");
    const address = holder.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const supervisor = new Supervisor(base);
    const died: string[] = [];
    supervisor.on("died", (dead) => died.push(dead.id));
    const failure = await supervisor.start(spec("a", ["origin", "--listen", `127.0.0.1:${port}`])).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(StartError);
    expect((failure as StartError).code).toBe(2);
    expect((failure as StartError).message).toMatch(
      /Cannot listen on 127\.0\.0\.1:\d+: the address is in use/,
    );
    expect(supervisor.status()).toMatchObject([{ id: "a", state: "stopped", pid: null, restarts: 0 }]);
    expect(died).toEqual([]);
    await supervisor.stop();
    await expect(supervisor.start(spec("b", ["origin", "--listen", "127.0.0.1:0"]))).rejects.toThrow(
      "b is not started: stopping",
    );
    expect(supervisor.has("b")).toBe(false);
    holder.close();
  });
});

test("commands find no world in a state directory that none runs in, and an unusable XDG_RUNTIME_DIR is told", async () => {
  writeFileSync(join(base, "file"), "");
  const { code, stderr } = await runIsochrone(["status"], { env: { XDG_RUNTIME_DIR: join(base, "file") } });
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /^isochrone status: Cannot make the directory [^\n]*; set XDG_RUNTIME_DIR to a directory of this user\n$/,
  );
});

test("an entry of a dead world whose process number another program has is cleared away", async () => {
  const runtime = join(base, `isochrone-${process.getuid?.() ?? 0}`);
  mkdirSync(runtime, { mode: 0o700 });
  const sleeper = run("sleep", ["30"]);
  const { pid } = sleeper.child;
  const entry = join(runtime, `${pid}.json`);
  writeFileSync(
    entry,
    JSON.stringify({
      world: "small",
      worldFile: "/w.yaml",
      pid,
      startedAtEpochMs: 1,
      stateDirectory: join(base, "state"),
      adminSocket: join(base, "admin.sock"),
      controlUrl: "http://127.0.0.1:1",
      portalUrl: "http://127.0.0.1:1/",
      nameServerAdminUrls: [],
      mapperAdminUrls: ["http://127.0.0.1:1"],
      token: "t".repeat(32),
    }),
  );
  const { code, stderr } = await runIsochrone(["status"], { env: { XDG_RUNTIME_DIR: base } });
  sleeper.child.kill();
  await sleeper.catch(() => {});
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: "isochrone status: No running world; start one with: isochrone up\n",
  });
  expect(existsSync(entry)).toBe(process.platform !== "linux");
});
