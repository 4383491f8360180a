/** `isochrone config` and `isochrone purge` against a real control process. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { ControlClient } from "#control";
import { type MapSnapshot, type PropertyId, type ServerId } from "#kit";
import { createLogger } from "#kit/io";
import { main as mapCommand } from "../../cli/map.ts";
import { UsageError } from "../../cli/usage.ts";
import { type IsochroneProcess, runIsochroneHere, startIsochrone } from "../tools/processes.ts";
import { idleReport } from "../tools/server-report.ts";
import { ranking, snapshotOf } from "../unit/mapping/fixtures.ts";

const token = "test-token-0123456789";
const directory = mkdtempSync(join(tmpdir(), "isochrone-cli-"));
const file = join(directory, "shop.yaml");
let control: IsochroneProcess;
let url = "";

/** Its own runtime directory: a world that happens to run on this machine must not be found. */
const env = { ISOCHRONE_CONTROL_TOKEN: token, XDG_RUNTIME_DIR: directory, ISOCHRONE_CONTROL_URL: undefined };
const isochrone = (...args: string[]) => runIsochroneHere(args, { env });
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

describe("isochrone map", () => {
  /** In this process: a start costs more than all that it does. */
  const map = async (...args: string[]) => {
    vi.stubEnv("ISOCHRONE_CONTROL_TOKEN", token);
    const lines: string[] = [];
    const said = vi.spyOn(console, "log").mockImplementation((line: string) => void lines.push(`${line}\n`));
    const talk = vi.spyOn(console, "error").mockImplementation(() => {});
    try {
      const code = await mapCommand([...args, "--control", url]);
      return { code, stdout: lines.join(""), stderr: "" };
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      return { code: error.exitCode, stdout: lines.join(""), stderr: error.message };
    } finally {
      said.mockRestore();
      talk.mockRestore();
      vi.unstubAllEnvs();
    }
  };
  const [near, far] = [ranking(["fra", 10], ["iad", 90]), ranking(["iad", 40], ["fra", 95])];
  const version = (mapVersion: number, first: typeof near) =>
    snapshotOf([{ id: "berlin", prefixes: ["192.0.2.0/24"], ranking: first }], near, {
      mapVersion,
      ...(first === far && { suspended: { fra: true } as MapSnapshot["suspended"] }),
    });

  it("shows, tells the history and what differs, and goes back to an older one that mappers leave in force", async () => {
    expect(await map("show")).toMatchObject({ code: 1, stdout: "" });
    const client = new ControlClient({
      url,
      token,
      nodeId: "mapper",
      logger: createLogger({ role: "t", id: "t" }, { level: "silent" }),
    });
    const lease = {
      action: "hold",
      holderId: "mapper",
      term: 0,
      seenTerm: 0,
      durationMs: 60_000,
      preempts: false,
      note: "",
    } as const;
    expect(await client.lease("map", lease)).toMatchObject({ outcome: "granted", term: 1 });
    const put = (mapVersion: number, first: typeof near, expectedVersion: number, note = "") =>
      client.put(
        "map",
        "current",
        { ...version(mapVersion, first), publication: { term: 1, publisherId: "mapper" } },
        { expectedVersion, author: "mapper", note },
      );
    await put(7, near, 0, "map 7 of term 1, first: the first one");
    await put(8, far, 1, "map 8 of term 1, cycle: moved 1 live of 1 networks");
    const shown = await map("show");
    expect(shown).toMatchObject({ code: 0, stderr: "" });
    expect(shown.stdout).toMatch(/^version 2, in force: map 8 of term 1 by mapper, .* made for: cycle/);
    expect(shown.stdout).toMatch(/^ +publisher +mapper: term 1, for .* unless renewed$/m);
    expect(shown.stdout).toMatch(/^iad +1 +1 +1 +0\.00$/m);
    const one = await map("show", "1", "--network", "berlin");
    expect(one.stdout).toMatch(/^berlin: 192\.0\.2\.0\/24; map 7 of term 1 by mapper\n\ninteractive: /);
    expect((await map("history")).stdout).toMatch(
      /^version +state.*\n +2 +in force +\S+ +mapper +map 8 of term 1, cycle: moved 1 live of 1 networks\n +1 /,
    );
    const file = join(directory, "before.json");
    writeFileSync(file, (await map("show", "1", "--json")).stdout);
    const differs = await map("diff", file, "2", "--class", "live");
    expect(differs.stdout).toContain("moved 1 interactive, 1 bulk, 1 live of 1 networks");
    expect(differs.stdout).toMatch(/^\d+ bytes differ; the cluster map has \d+\n\nclient networks\n/m);
    expect(differs.stdout).toMatch(
      /^berlin +live +fra +10\.\d > 95\.\d .* iad +\d\d\.\d > \d\d\.\d .* unknown; fra is suspended$/m,
    );

    const back = await map("rollback", "1", "--hold", "1h", "--note", "too far", "--json");
    expect(JSON.parse(back.stdout)).toMatchObject({ version: 3, term: 2, activeVersion: 3 });
    await expect(put(9, far, 3)).rejects.toMatchObject({ code: "fenced" });
    expect(await client.lease("map", { ...lease, term: 1 })).toMatchObject({ outcome: "lost" });
    expect(await client.lease("map", lease)).toMatchObject({ outcome: "held", holderId: "operator" });
    const inForce = await client.document("map", "current");
    expect(inForce?.body).toMatchObject({ mapVersion: 9, reason: "rollback" });
    expect((await map("diff", "1", "3")).stdout).toContain("nobody moved of 1 networks");
    expect((await map("show")).stdout).toMatch(
      /publisher +operator: term 2, .*\(rollback to version 1 by .*: too far\)$/m,
    );
    expect(await map("release")).toMatchObject({ code: 0 });
    expect(await map("release")).toMatchObject({ code: 1 });
    expect(await client.lease("map", lease)).toMatchObject({ outcome: "granted", term: 3 });
    await client.close();
  });

  it("refuses bad usage, and says which versions there are", async () => {
    expect((await map("rollback", "99")).stderr).toContain(
      'no version 99 of the map; "isochrone map history"',
    );
    for (const args of [
      ["explode"],
      ["diff", "1"],
      ["show", "x"],
      ["diff", "1", "none.json"],
      ["rollback", "1", "--hold", "2s"],
      ["history", "--class", "live"],
    ])
      expect(await map(...args)).toMatchObject({ code: 2, stdout: "" });
  });
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
    const wrong = await runIsochroneHere(["config", "list", "--control", url], {
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
