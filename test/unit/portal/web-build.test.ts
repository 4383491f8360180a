/** Building the page: once for two starts, never half, and a failure that says why. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createLogger } from "#kit/io";
import { webBuild } from "#portal";

let distDirectory: string;
const logger = createLogger({ role: "portal", id: "test" }, { level: "silent" });

beforeEach(() => {
  distDirectory = mkdtempSync(join(tmpdir(), "portal-dist-"));
});
afterEach(() => rmSync(distDirectory, { recursive: true }));

function builder() {
  const calls: string[] = [];
  const build = async (directory: string): Promise<void> => {
    calls.push(directory);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "index.html"), "<p>");
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { calls, build };
}

it("builds once for two starts at the same time, and not again", async () => {
  const { calls, build } = builder();
  const options = { logger, timeoutMs: 5_000, distDirectory, build };
  const [first, second] = await Promise.all([webBuild(options), webBuild(options)]);
  expect(first).toBe(second);
  expect(await webBuild(options)).toBe(first);
  expect(calls).toHaveLength(1);
  expect(readdirSync(first).sort()).toEqual(["index.html", "index.html.gz"]);
  expect(readdirSync(distDirectory)).toHaveLength(1);
});

it("takes over the lock of a process that is gone", async () => {
  const { calls, build } = builder();
  // Linux gives out process ids up to 4,194,304.
  writeFileSync(join(distDirectory, "build.lock"), "4194305");
  await webBuild({ logger, timeoutMs: 5_000, distDirectory, build });
  expect(calls).toHaveLength(1);
});

it("says who holds the lock when it waits in vain", async () => {
  writeFileSync(join(distDirectory, "build.lock"), String(process.pid));
  await expect(webBuild({ logger, timeoutMs: 1, distDirectory, build: builder().build })).rejects.toThrow(
    new RegExp(`process ${process.pid} holds .*build\\.lock`),
  );
});

it("says why a build failed, and leaves neither a lock nor half a build in place", async () => {
  const build = async (): Promise<void> => {
    throw new Error("the build ended with code 1: no such module");
  };
  await expect(webBuild({ logger, timeoutMs: 5_000, distDirectory, build })).rejects.toThrow(
    "no such module",
  );
  expect(readdirSync(distDirectory)).toEqual([]);
});
