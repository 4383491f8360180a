/** Goal: what the other suites and `.ci/run` stand on does what it says. Method: real processes of this checkout. */
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { freePort, runIsochrone, startIsochrone } from "../tools/processes.ts";

const root = join(import.meta.dirname, "..", "..");
let directory = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "isochrone-tools-"));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

describe("startIsochrone and runIsochrone", () => {
  test("a process is ready when it says so, and ends on SIGTERM", async () => {
    const origin = await startIsochrone(["origin", "--listen", "127.0.0.1:0"]);
    expect(origin.readyLine).toMatch(/^ready\b/);
    expect(origin.stdout()).toContain(origin.readyLine);
    expect(await origin.stop()).toEqual({ code: 0, signal: null });
    expect(() => process.kill(origin.pid, 0)).toThrow(/ESRCH/);
  });

  test("a process that ends before it is ready fails with its own words", async () => {
    await expect(startIsochrone(["no-such-command"])).rejects.toThrow(
      /Ended with code 2 before it was ready: "isochrone no-such-command"[^]*no such command/,
    );
  });

  test("a command's exit code and output are handed over", async () => {
    const { code, stdout, stderr } = await runIsochrone(["--version"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

test("freePort gives a port that can be listened on", async () => {
  const port = await freePort();
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(port, "127.0.0.1", resolve);
  });
  expect(server.address()).toMatchObject({ port });
  await new Promise((resolve) => server.close(resolve));
});

test("the CI reporter counts passes, failures, skips, and files that do not load", () => {
  symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
  writeFileSync(
    join(directory, "a.test.js"),
    `import { expect, test } from "vitest";
     test("one", () => {});
     test("two", () => {});
     test("three", () => expect(1).toBe(2));
     test.skip("four", () => {});`,
  );
  writeFileSync(join(directory, "b.test.js"), `import "./missing.js";`);
  const counts = join(directory, "counts");
  const run = spawnSync(
    join(root, "node_modules", ".bin", "vitest"),
    ["run", "--root", directory, "--reporter", join(root, "test", "tools", "ci-reporter.ts")],
    {
      cwd: directory,
      encoding: "utf8",
      env: {
        PATH: `${join(root, "node_modules", ".bin")}${delimiter}${process.env["PATH"] ?? ""}`,
        ISOCHRONE_TEST_COUNTS: counts,
      },
    },
  );
  expect(run.status).toBe(1);
  expect(readFileSync(counts, "utf8")).toBe("2 2 1 finished\n");
});

test(".ci/run counts a gate that failed beside the tests, on its last line and in its exit code", () => {
  mkdirSync(join(directory, ".ci"));
  mkdirSync(join(directory, "bin"));
  copyFileSync(join(root, ".ci", "run"), join(directory, ".ci", "run"));
  const program = (path: string, script: string) =>
    writeFileSync(join(directory, path), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  mkdirSync(join(directory, "node_modules", ".bin"), { recursive: true });
  program("node_modules/.bin/node", "echo v24");
  program("bin/node", "echo v24");
  program("bin/apt-get", "true");
  program(
    "bin/npm",
    `case "$*" in *"run --silent ok"*) exit "$GATE" ;; test) echo "5 0 0 finished" >"$ISOCHRONE_TEST_COUNTS" ;; esac`,
  );
  const run = (gate: string) =>
    spawnSync(join(directory, ".ci", "run"), {
      encoding: "utf8",
      env: {
        ...process.env,
        GATE: gate,
        PATH: `${join(directory, "bin")}${delimiter}${process.env["PATH"] ?? ""}`,
      },
    });
  const good = run("0");
  expect({ code: good.status, last: good.stdout.trim().split("\n").at(-1) }).toEqual({
    code: 0,
    last: "5 passed, 0 failed",
  });
  const bad = run("1");
  expect({ code: bad.status, last: bad.stdout.trim().split("\n").at(-1) }).toEqual({
    code: 1,
    last: "5 passed, 1 failed",
  });
});

/** A Node of the machine's own that is too old to run TypeScript, where there is one. */
function oldNode(): string | undefined {
  for (const path of ["/usr/bin/node", "/usr/local/bin/node"]) {
    const { stdout } = spawnSync(path, ["--version"], { encoding: "utf8" });
    if (/^v(1\d|2[0-3])\./.test(stdout ?? "")) return path;
  }
  return undefined;
}

describe.skipIf(oldNode() === undefined)("under an old Node", () => {
  test("the command runs with the pinned Node and hands its exit code over", () => {
    const bin = join(root, "cli", "isochrone.js");
    const good = spawnSync(oldNode() ?? "", [bin, "--version"], { encoding: "utf8" });
    expect({ code: good.status, stderr: good.stderr }).toEqual({ code: 0, stderr: "" });
    const bad = spawnSync(oldNode() ?? "", [bin, "no-such-command"], { encoding: "utf8" });
    expect(bad.status).toBe(2);
  });

  test("without the pinned Node one line says what to do", () => {
    mkdirSync(join(directory, "cli"));
    writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
    copyFileSync(join(root, "cli", "isochrone.js"), join(directory, "cli", "isochrone.js"));
    const run = spawnSync(oldNode() ?? "", [join(directory, "cli", "isochrone.js")], { encoding: "utf8" });
    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(/^isochrone: Node [^\n]+ does not exist: run "npm ci" in [^\n]+\n$/);
  });
});
