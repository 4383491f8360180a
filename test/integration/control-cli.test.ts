/** `isochrone config` and `isochrone purge` against a real control process. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ControlClient } from "#control";
import { type PropertyId, type ServerId } from "#kit";
import { createLogger } from "#kit/io";
import { type IsochroneProcess, runIsochrone, startIsochrone } from "../tools/processes.ts";
import { idleReport } from "../tools/server-report.ts";

const token = "test-token-0123456789";
const directory = mkdtempSync(join(tmpdir(), "isochrone-cli-"));
const file = join(directory, "shop.yaml");
let control: IsochroneProcess;
let url = "";

/** Its own runtime directory: a world that happens to run on this machine must not be found. */
const env = { ISOCHRONE_CONTROL_TOKEN: token, XDG_RUNTIME_DIR: directory, ISOCHRONE_CONTROL_URL: undefined };
const isochrone = (...args: string[]) => runIsochrone(args, { env });
const config = (...args: string[]) => isochrone("config", ...args, "--control", url);

const yaml = (dnsTtlSeconds: number, port = "9000") => `propertyId: shop-www
customerId: shop
hostnames: [www.shop.example]
origins:
  - scheme: http
    host: 127.0.0.1
    port: ${port}
dnsTtlSeconds: ${dnsTtlSeconds}
`;

beforeAll(async () => {
  control = await startIsochrone(
    ["control", "--listen", "127.0.0.1:0", "--state", join(directory, "state")],
    { env },
  );
  url = control.readyLine.split(" ").at(-1) ?? "";
});
afterAll(async () => {
  await control.stop();
  rmSync(directory, { recursive: true, force: true });
});

describe("isochrone config", () => {
  it("takes a property from file to force and back", async () => {
    writeFileSync(file, yaml(20));
    expect(await isochrone("config", "check", file)).toMatchObject({ code: 0, stderr: "" });
    const first = await config("push", file, "--note", "first", "--activate");
    expect(first).toMatchObject({ code: 0, stdout: "shop-www: version 1 stored, active\n" });
    writeFileSync(file, yaml(60));
    const second = await config("push", file);
    expect(second.stdout).toBe(
      "~ dnsTtlSeconds: 20 -> 60\nshop-www: version 2 stored, not active; put it in force with: isochrone config activate shop-www --version 2\n",
    );
    expect((await config("push", file)).stdout).toBe("shop-www: nothing to push, version 2 says the same\n");
    expect((await config("diff", "shop-www", "--from", "1", "--to", "2")).stdout).toBe(
      "~ dnsTtlSeconds: 20 -> 60\n",
    );
    expect((await config("activate", "shop-www", "--version", "2")).stdout).toContain(
      "version 2 is active (was 1)",
    );
    expect((await config("rollback", "shop-www")).stdout).toContain("version 1 is active (was 2)");
    expect(JSON.parse((await config("show", "shop-www")).stdout)).toMatchObject({ dnsTtlSeconds: 20 });
    const versions = await config("versions", "shop-www", "--json");
    expect(JSON.parse(versions.stdout)).toMatchObject([
      { version: 1, activeVersion: 1, note: "first" },
      { version: 2 },
    ]);
    expect((await config("list")).stdout).toMatch(/^property +newest +active .*\nshop-www +2 +1 /);
    expect(await config("rollback", "shop-www")).toMatchObject({ code: 1, stdout: "" });
  });

  it("tells offline what a file's rules do, and warns of what is likely not meant", async () => {
    const ruled = join(directory, "ruled.yaml");
    writeFileSync(
      ruled,
      `${yaml(20)}rules:
  - { match: { extensions: [css, php] }, overrideTtlSeconds: 60, key: { query: none } }
  - { match: { pathPrefix: /tv/, not: [{ countries: [DE] }] }, deny: true }
  - match: { pathPrefix: /api/ }
    rewrite: { prefix: /api/, replacement: /v2/ }
    requestHeaders: { set: [{ name: X-From, value: cdn }] }
`,
    );
    const checked = await isochrone("config", "check", ruled);
    expect(checked).toMatchObject({ code: 0, stderr: "" });
    expect(checked.stdout).toContain("warning: rules[0] gives a TTL by extension alone");
    const tried = await isochrone("config", "try", ruled, "http://www.shop.example/api/a.css?b=1");
    expect(tried).toMatchObject({ code: 0, stderr: "" });
    for (const line of [
      "rule 1    no: pathPrefix",
      "rule 2    holds",
      "origins   http://127.0.0.1:9000",
      "rewrite   /api/ -> /v2/: /v2/a.css?b=1",
      "to origin X-From: cdn",
      "ttl       60 s, whatever the origin states",
      "key       http://www.shop.example/api/a.css",
    ])
      expect(tried.stdout).toContain(`  ${line}\n`);
    const countries = join(directory, "countries.csv");
    writeFileSync(countries, "192.0.2.0/24,DE\n");
    const client = ["--countries", countries, "--client", "192.0.2.7", "--json"];
    const inside = await isochrone("config", "try", ruled, "http://www.shop.example/tv/1", ...client);
    expect(JSON.parse(inside.stdout)).toMatchObject({ property: "shop-www", ruled: { answer: null } });
    expect(await isochrone("config", "try", ruled, "http://other.example/")).toMatchObject({
      code: 1,
      stdout: "421: other.example is no host name of shop-www\n",
    });
  });

  it("refuses a bad file with one line: file, line, column, path, value, expectation", async () => {
    const bad = join(directory, "bad.yaml");
    writeFileSync(bad, yaml(20, "99999"));
    const refused = await isochrone("config", "check", bad);
    expect(refused).toMatchObject({ code: 2, stdout: "" });
    expect(refused.stderr).toBe(
      `isochrone config: ${bad}:7:11: origins[0].port: got 99999, expected a whole number from 1 to 65535\n`,
    );
    expect(await config("push", bad)).toMatchObject({ code: 2, stdout: "" });
    writeFileSync(bad, `${yaml(20)}colour: red\n`);
    expect((await isochrone("config", "check", bad)).stderr).toContain(
      `${bad}:9:1: colour: got "red", expected no such key`,
    );
    writeFileSync(bad, "");
    expect(await isochrone("config", "check", bad)).toMatchObject({ code: 2 });
    writeFileSync(bad, JSON.stringify({ propertyId: "shop-www" }));
    expect((await isochrone("config", "check", bad)).stderr).toContain(`${bad}:1:1: customerId: got nothing`);
    expect(await isochrone("config", "check", join(directory, "none.yaml"))).toMatchObject({ code: 2 });
  });

  it("says what to do about bad usage, a wrong token and an absent control", async () => {
    expect(await config("explode")).toMatchObject({ code: 2 });
    expect(await config("activate", "shop-www")).toMatchObject({ code: 2 });
    expect(await config("list", "--version", "1")).toMatchObject({ code: 2 });
    expect(await config("show", "nobody")).toMatchObject({ code: 1 });
    const wrong = await runIsochrone(["config", "list", "--control", url], {
      env: { ...env, ISOCHRONE_CONTROL_TOKEN: "wrong" },
    });
    expect(wrong).toMatchObject({ code: 1 });
    expect(wrong.stderr).toContain("set ISOCHRONE_CONTROL_TOKEN");
    const absent = await isochrone("config", "list", "--control", "http://127.0.0.1:1");
    expect(absent).toMatchObject({ code: 1 });
    expect(absent.stderr.trim().split("\n")).toHaveLength(1);
    const none = await isochrone("config", "list");
    expect(none).toMatchObject({ code: 1 });
    expect(none.stderr).toContain("--control URL");
  });
});

describe("isochrone purge", () => {
  it("ends with how many servers acknowledged, and exit code 1 when not all did", async () => {
    const logger = createLogger({ role: "test", id: "purge" }, { level: "silent" });
    const client = new ControlClient({ url, token, nodeId: "fra-1", logger });
    const serverId = "fra-1" as ServerId;
    const seen: unknown[] = [];
    let isDeaf = false;
    client.watch(["purge"], (event) => {
      if (event.type !== "purge") return;
      seen.push(event.purge.request);
      if (!isDeaf) void client.acknowledgePurge({ purgeSeq: event.purge.purgeSeq, serverId, removed: 7 });
    });
    const report = idleReport(serverId);
    const reporting = setInterval(() => void client.publishReport(report), 500);
    try {
      expect(await client.publishReport(report)).toBe(true);
      const args = ["purge", "--property", "shop-www", "--control", url];
      const done = await isochrone(...args, "--tag", "a", "--tag", "b", "--soft");
      expect(done).toMatchObject({ code: 0, stderr: "" });
      expect(done.stdout).toMatch(
        /^purge 1: sent to 1 servers\n {2}fra-1: 7 removed after \d+ ms\n1\/1 servers in \d+ ms\n$/,
      );
      expect(seen).toEqual([
        { propertyId: "shop-www" as PropertyId, urls: [], tags: ["a", "b"], mode: "soft" },
      ]);
      isDeaf = true;
      const fewer = await isochrone(...args, "--url", "http://www.shop.example/a");
      expect(fewer.code).toBe(1);
      expect(fewer.stdout).toMatch(/not acknowledged: fra-1\n0\/1 servers in \d+ ms\n$/);
      expect(await isochrone(...args)).toMatchObject({ code: 2 });
      const foreign = await isochrone(...args, "--url", "http://evil.example/a");
      expect(foreign).toMatchObject({ code: 2 });
      expect(foreign.stderr).toContain("urls[0]");
    } finally {
      clearInterval(reporting);
      await client.close();
    }
  });
});
