/** The emulated network of a child process: from its file at the start, then from its supervisor's messages. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { close, listen, wanOf } from "./transport-support.ts";

const root = join(import.meta.dirname, "..", "..");

/** Under the emulated network it was started with, says how long a connection took. */
const script = `
import { dial, installWanFromEnvironment } from "#transport";
installWanFromEnvironment();
// The emulation does not keep a process alive; a server's socket does, here the channel must.
process.channel.ref();
const measure = async () => {
  const startedMs = performance.now();
  try {
    (await dial({ host: "127.0.0.1", port: Number(process.env.TARGET_PORT), timeoutMs: 1_000 })).destroy();
  } catch (error) {
    return error.code;
  }
  return performance.now() - startedMs;
};
process.on("message", async (message) => {
  if (message.type === "measure") process.send(await measure());
});
process.on("disconnect", () => process.exit(0));
process.send("up");
`;

test("a child feels the file's links, a message's links, a cut, and keeps the last good state", {
  timeout: 20_000,
}, async () => {
  const origin = await listen((_request, response) => response.end());
  const sites = [
    { id: "fra", role: "edge", ports: [1] },
    { id: "sfo", role: "origin", ports: [origin.port] },
  ];
  const directory = mkdtempSync(join(tmpdir(), "isochrone-wan-"));
  const file = join(directory, "wan.json");
  writeFileSync(file, JSON.stringify(wanOf(sites, "fra", { "fra|sfo": 150 })));
  const child = spawn(join(root, "node_modules/node/bin/node"), ["--input-type=module", "--eval", script], {
    cwd: root,
    env: { ...process.env, ISOCHRONE_WAN: file, TARGET_PORT: String(origin.port) },
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  let complaints = "";
  child.stderr?.on("data", (chunk: Buffer) => (complaints += chunk.toString()));
  const exited = once(child, "exit");
  const answer = async (): Promise<unknown> => ((await once(child, "message")) as unknown[])[0];
  const measure = async (): Promise<unknown> => {
    const answered = answer();
    child.send({ type: "measure" });
    return await answered;
  };
  try {
    expect(await answer()).toBe("up");
    expect(await measure()).toBeGreaterThan(148);
    child.send({ type: "wan", state: wanOf(sites, "fra", { "fra|sfo": 20 }) });
    const shorter = await measure();
    expect(shorter).toBeGreaterThan(18);
    expect(shorter).toBeLessThan(140);
    child.send({ type: "wan", state: { self: "fra" } });
    expect(await measure()).toBeGreaterThan(18);
    expect(complaints).toMatch(/refused a wan message: siteOfAddress: got nothing/);
    child.send({ type: "wan", state: wanOf(sites, "fra", { "fra|sfo": 20 }, [["fra", "sfo"]]) });
    expect(await measure()).toBe("connect-timeout");
  } finally {
    child.disconnect();
    expect((await exited)[0]).toBe(0);
    await close(origin.server);
    rmSync(directory, { recursive: true, force: true });
  }
});
