import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { main } from "../../../cli/networks.ts";
import { encode, mmdbFile } from "../../tools/mmdb-file.ts";

const directory = mkdtempSync(join(tmpdir(), "isochrone-networks-"));
afterAll(() => rmSync(directory, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

const path = (name: string): string => join(directory, name);
function file(name: string, content: string | Uint8Array): string {
  writeFileSync(path(name), content);
  return path(name);
}

/** Runs the command; what it says on standard error is left away. */
async function run(...argv: string[]): Promise<{ code: number; said: string[] }> {
  const said: string[] = [];
  vi.spyOn(console, "log").mockImplementation((text: string) => void said.push(text));
  vi.spyOn(console, "error").mockImplementation(() => {});
  const code = await main(argv);
  vi.restoreAllMocks();
  return { code, said };
}
const json = (said: readonly string[]): unknown => JSON.parse(said[0] ?? "");

const route = (prefix: string, ...asPath: number[]): string =>
  `TABLE_DUMP2|1277971199|B|192.0.2.1|64500|${prefix}|${asPath.join(" ")}|IGP|192.0.2.1|0|0||NAG||\n`;
const yesterday = file(
  "yesterday.txt",
  route("10.0.0.0/22", 1, 7) + route("10.0.4.0/22", 1, 8) + route("2001:db8::/32", 1, 7),
);
const today = file(
  "today.txt",
  route("10.0.0.0/21", 1, 7) + route("10.0.6.0/24", 1, 9) + route("2001:db8::/32", 1, 7),
);
const places = file(
  "places.csv",
  "10.0.0.0,10.0.1.255,DE,,,Berlin,,52.5,13.4,\n10.0.2.0,10.0.3.255,US,,,Boston,,42.4,-71,\n",
);
const demand = file(
  "demand.ndjson",
  '{"prefix":"10.0.0.0/24","demandPerSecond":5}\n{"prefix":"192.0.2.0/24","demandPerSecond":2}\n',
);

const idleRecord = {
  requestId: "r",
  serverId: "fra-1",
  clusterId: "fra",
  propertyId: null,
  method: "GET",
  host: "www.shop.example",
  path: "/",
  status: 200,
  cacheStatus: "hit",
  via: null,
  bytesDown: 1,
  bytesUp: 0,
  durationMs: 1,
  ttfbMs: 1,
  clientNetworkId: null,
};

describe("isochrone networks", () => {
  test("builds a file from routes, places and demand; shows and compares what is in it", async () => {
    const out = path("a.ndjson.gz");
    const built = await run(
      "build",
      "--routes",
      yesterday,
      "--places",
      places,
      "--demand",
      demand,
      "--out",
      out,
      "--json",
    );
    expect(built.code).toBe(0);
    expect(json(built.said)).toMatchObject({
      networks: 4,
      prefixes: 4,
      demandPerSecond: 5,
      unroutedDemandPerSecond: 2,
      names: { kept: 0, added: 4, gone: 0 },
    });
    expect(gunzipSync(readFileSync(out)).toString().split("\n")).toHaveLength(4 + 3);
    expect(json((await run("show", "10.0.1.9", "--file", out, "--json")).said)).toMatchObject({
      matchedPrefix: "10.0.0.0/23",
      asNumber: 7,
      city: "Berlin",
      demandPerSecond: 5,
    });
    expect((await run("show", "2001:db8::1", "--file", out)).said[0]).toMatch(
      /by 2001:db8::\/32\n {2}AS {6}7\n/,
    );
    await expect(run("show", "203.0.113.1", "--file", out)).rejects.toMatchObject({ exitCode: 1 });

    // The file at --out is whose names are kept.
    const other = file("b.ndjson.gz", readFileSync(out));
    const again = await run("build", "--routes", today, "--places", places, "--out", other, "--json");
    expect(json(again.said)).toMatchObject({ networks: 4, names: { kept: 3, added: 1, gone: 1 } });
    const { code, said } = await run("diff", out, other);
    expect([code, said[0]]).toEqual([
      0,
      expect.stringContaining("kept 3, of which 2 have the same address space"),
    ]);
    expect(json((await run("diff", out, out, "--json")).said)).toMatchObject({
      kept: 4,
      unchanged: 4,
      gone: [],
    });
  });

  test("learns from access records what each block asks, for the next build", async () => {
    const record = (second: number, clientAddress: string | null, tier = 0): string => {
      const served = { ...idleRecord, atEpochMs: 1_700_000_000_000 + second * 1_000, clientAddress, tier };
      return `${JSON.stringify(served)}\n`;
    };
    const records = file(
      "access.ndjson",
      Array.from({ length: 101 }, (_, second) => record(second, "10.0.0.0")).join("") +
        Array.from({ length: 51 }, (_, second) => record(second * 2, "2001:db8:7::")).join("") +
        record(3, "10.0.0.0", 1) +
        record(4, null) +
        "no record\n",
    );
    const out = path("learnt.ndjson");
    const { said } = await run("demand", records, "--out", out, "--json");
    expect(json(said)).toMatchObject({
      blocks: 2,
      requests: 152,
      spanMs: 100_000,
      skipped: { "from a server of ours": 1, "client unknown": 1, "no record": 1 },
    });
    const built = await run(
      "build",
      "--routes",
      yesterday,
      "--demand",
      out,
      "--out",
      path("l.ndjson"),
      "--json",
    );
    const { demandPerSecond, unroutedDemandPerSecond } = json(built.said) as Record<string, number>;
    expect(demandPerSecond).toBeCloseTo(1.52, 2);
    expect(unroutedDemandPerSecond).toBeCloseTo(0, 9);
  });

  test("takes places from MMDB of both families, and AS numbers for routes where there are none", async () => {
    const city = (name: string) => encode({ country: { iso_code: "DE" }, city: { names: { en: name } } });
    const data = [...city("Berlin"), ...city("Munich")];
    const second = city("Berlin").length;
    const database = mmdbFile({
      ipVersion: 6,
      recordBits: 28,
      networks: [
        ["10.0.0.0/22", 0],
        // Finer than a cell: the first address stands for it.
        ["10.0.4.0/25", second],
        ["10.0.4.128/25", 0],
        ["2001:db8::/32", second],
      ],
      data,
    });
    const systems = file(
      "as.csv",
      "10.0.0.0,10.0.7.255,7,Seven\n2001:db8::,2001:db8:ffff:ffff:ffff:ffff:ffff:ffff,7,Seven\n",
    );
    const out = path("mmdb.ndjson");
    expect(
      (await run("build", "--as", systems, "--places", file("p.mmdb", database), "--out", out)).code,
    ).toBe(0);
    const cityOf = async (address: string) =>
      (json((await run("show", address, "--file", out, "--json")).said) as { city: string | null }).city;
    for (const [address, expected] of [
      ["10.0.3.1", "Berlin"],
      ["10.0.4.200", "Munich"],
      ["10.0.5.1", null],
      ["2001:db8:5::1", "Munich"],
    ] as const)
      expect(await cityOf(address), address).toBe(expected);
  });

  test.each([
    [["build", "--out", "OUT"], "--routes is missing"],
    [["build", "--routes", "ROUTES"], "--out is missing"],
    [["build", "--routes", "PLACES", "--out", "OUT"], "looks like place-csv, expected a BGP table"],
    [
      ["build", "--routes", "ROUTES", "--places", "ROUTES", "--out", "OUT"],
      "looks like bgp-text, expected places",
    ],
    [
      ["build", "--routes", "ROUTES", "--places", "PLACES", "--places", "PLACES", "--out", "OUT"],
      "10.0.0.0/24 is in two tables",
    ],
    [["build", "--routes", "ROUTES", "--demand", "ROUTES", "--out", "OUT"], "Nothing could be read of"],
    [
      ["build", "--routes", "ROUTES", "--count", "0", "--out", "OUT"],
      "expected a whole number from 1 to 500000",
    ],
    [
      ["build", "--routes", "ROUTES", "--difference-ms=-1", "--out", "OUT"],
      "expected a number from 0 to 1000",
    ],
    [
      ["build", "--routes", "ROUTES", "--before", "ROUTES", "--out", "OUT"],
      "Cannot take client networks from",
    ],
    [["build", "--routes", "/nonexistent/x", "--out", "OUT"], "ENOENT"],
    [["demand", "--out", "OUT"], "no file of access records"],
    [["demand", "ROUTES", "--out", "OUT"], "The files have no request of a client"],
    [["demand", "ROUTES", "--out", "OUT", "--half-life", "1m"], "expected a time from 1h to 365d"],
    [["show", "10.0.0", "--file", "OUT"], "expected an IPv4 or IPv6 address"],
    [["show", "10.0.0.1", "--file", "ROUTES"], "line[1]"],
    [["diff", "ROUTES"], "diff takes OLD and NEW"],
    [["cut"], "expected build, demand, show or diff"],
  ])("refuses %j", async (argv, why) => {
    const names: Record<string, string> = { ROUTES: today, PLACES: places, OUT: path("none.ndjson") };
    await expect(run(...argv.map((word) => names[word] ?? word))).rejects.toThrow(why);
  });
});
