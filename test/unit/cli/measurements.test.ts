import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { main } from "../../../cli/measurements.ts";
import { formatOf } from "../../../cli/measurements/formats.ts";
import { encode, mmdbFile } from "../../tools/mmdb-file.ts";
import { peerTable } from "../../tools/mrt-records.ts";

const directory = mkdtempSync(join(tmpdir(), "isochrone-measurements-"));
afterAll(() => rmSync(directory, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

function file(name: string, content: string | Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

/** Runs the command and returns its lines of JSON. */
async function run(...argv: string[]): Promise<{ code: number; reports: Record<string, unknown>[] }> {
  const reports: Record<string, unknown>[] = [];
  vi.spyOn(console, "log").mockImplementation((text: string) => void reports.push(JSON.parse(text)));
  const code = await main([...argv, "--json"]);
  vi.restoreAllMocks();
  return { code, reports };
}

const atlas = {
  type: "ping",
  af: 4,
  proto: "ICMP",
  prb_id: 6798,
  msm_id: 1,
  timestamp: 1_700_000_000,
  from: "198.18.0.1",
  dst_addr: "192.0.2.9",
  result: [{ rtt: 1.5 }, { x: "*" }],
};
const anchor = {
  probe: 6771,
  ip_v4: "192.0.2.1",
  ip_v6: "2001:DB8::1",
  as_v4: 64500,
  as_v6: null,
  city: "Abu Dhabi",
  country: "AE",
  geometry: { type: "Point", coordinates: [54.4, 24.5] },
  is_disabled: false,
};
const probe = {
  agent: "a",
  method: "tcp",
  target: "tcp x:1",
  from: null,
  to: "192.0.2.9",
  at: 1.7e12,
  rttMs: 3,
};
const line = "TABLE_DUMP2|1277971199|B|192.0.2.1|64500|10.0.0.0/8|64500 7|IGP|192.0.2.1|0|0||NAG||\n";
const mmdb = mmdbFile({ ipVersion: 4, recordBits: 24, networks: [["0.0.0.0/1", 0]], data: encode("x") });

describe("isochrone measurements check", () => {
  test.each([
    ["a.ndjson", `${JSON.stringify(atlas)}\n`, "atlas", { pings: 1, samples: 2, lost: 1, agents: 1 }],
    ["b.json", `[${JSON.stringify(atlas)}]`, "atlas", { pings: 1, traceroutes: 0 }],
    ["c.ndjson", JSON.stringify(probe), "probe", { samples: 1, unmeasured: 0 }],
    [
      "anchors.json",
      JSON.stringify({ count: 1, results: [anchor] }),
      "anchors",
      { disabled: 0, "with IPv6": 1 },
    ],
    ["d.txt", line, "bgp-text", { "IPv4 routes": 1, peers: 1, "origin AS": 1 }],
    [
      "table.txt",
      "BGP table version is 0\n   Network          Next Hop            Metric LocPrf Weight Path\n*> 3.0.0.0          192.0.2.11             165             0 1673 80 i\n",
      "bgp-table",
      { "IPv4 routes": 1, peers: 1, "origin AS": 1 },
    ],
    ["e.mrt", Uint8Array.from(peerTable), "mrt", { "IPv4 routes": 0 }],
    // Of 2018: the first byte of the time is a bracket.
    ["bracket.mrt", Uint8Array.from([0x5b, ...peerTable.slice(1)]), "mrt", { "IPv4 routes": 0 }],
    ["f.csv", '1.0.0.0,1.0.0.255,13335,"Cloudflare, Inc."\n', "as-csv", { ranges: 1 }],
    ["g.csv", "16777216,16777471,AU\n", "place-csv", { ranges: 1 }],
    [
      "h.csv",
      "42540488161975842760550356425300246528,42540488241204005274814694018844196863,US",
      "place-csv",
      { ranges: 1 },
    ],
    ["i.mmdb", mmdb, "mmdb", { type: "Test", "IP version": 4 }],
  ])("tells what %s is and what is in it, gzipped or not", async (name, content, format, facts) => {
    const { code, reports } = await run("check", file(name, content), file(`${name}.gz`, gzipSync(content)));
    expect(code).toBe(0);
    expect(reports).toHaveLength(2);
    for (const report of reports)
      expect(report).toMatchObject({ format, summary: { taken: 1, skipped: {} }, facts });
  });

  test("counts what is skipped; nothing read is exit code 1", async () => {
    const broken = file("broken.txt", `${line}TABLE_DUMP2|x\n`);
    const { code, reports } = await run("check", broken);
    expect([code, reports[0]]).toMatchObject([0, { summary: { taken: 1, skipped: { malformed: 1 } } }]);
    expect((await run("check", file("empty.txt", ""), "--format", "mrt")).code).toBe(1);
  });

  test.each([
    [["check", "FILE"], "looks like no known format; name it with --format"],
    [["check", "FILE", "--format", "x"], '--format: got "x", expected one of atlas, anchors, probe'],
    [["check", "/nonexistent/x"], 'Cannot read "/nonexistent/x": ENOENT'],
    [["check", "CUT"], "unexpected end of file"],
    [["check", "FILE", "--format", "mmdb"], "a MaxMind DB, whose metadata has a marker"],
    [["check"], "no file is named"],
    [["look", "FILE"], 'got "look", expected check, import or show'],
    [
      ["import", "ROUTES", "--mapper", "http://127.0.0.1:1"],
      'only samples (atlas, probe) go to the mapper; "check" reads it',
    ],
    [["import", "PROBE", "--mapper", "http://127.0.0.1:1"], "does it run?"],
    [["import", "PROBE", "--mapper", "ftp://x"], "expected http://ADDRESS:PORT"],
  ])("refuses in one line: %o", async (argv, message) => {
    const named: Readonly<Record<string, string>> = {
      FILE: file("none", "hello, world\n"),
      CUT: file("cut.gz", gzipSync(line.repeat(100)).subarray(0, 60)),
      ROUTES: file("routes", line),
      PROBE: file("probe", JSON.stringify(probe)),
    };
    vi.stubEnv("ISOCHRONE_CONTROL_TOKEN", "t");
    await expect(main(argv.map((one) => named[one] ?? one))).rejects.toThrow(message);
    vi.unstubAllEnvs();
  });

  test("formats are not guessed from too little", () => {
    for (const text of ["", "{}", "a,b,c", "1.0.0.0,1.0.0.255", '{"x":1}'])
      expect(formatOf(new TextEncoder().encode(text), "x")).toBeUndefined();
  });
});

test("import hands samples over in batches, and sums up what the mapper says", async () => {
  const bodies: string[] = [];
  const seen: (string | undefined)[] = [];
  const server = createServer((request: IncomingMessage, response) => {
    seen.push(request.method, request.url, request.headers.authorization);
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => (body += text));
    request.on("end", () => {
      bodies.push(body);
      const taken = body.split("\n").length - 1;
      const examples = [{ reason: "unknown-to", where: "sample 1", why: "no server" }];
      response.end(JSON.stringify({ taken, skipped: { "unknown-to": 1 }, examples }));
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  vi.stubEnv("ISOCHRONE_CONTROL_TOKEN", "secret");
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const many = file("many.ndjson", `${JSON.stringify(atlas)}\n`.repeat(3_000));
    const { code, reports } = await run("import", many, "--mapper", url);
    expect(code).toBe(0);
    expect(reports[0]).toMatchObject({
      facts: { samples: 6_000 },
      mapper: {
        taken: 6_000 - bodies.length,
        skipped: { "unknown-to": bodies.length },
        examples: [{ where: "sample 1" }],
      },
    });
    expect(bodies.length).toBeGreaterThan(1);
    expect(seen.slice(0, 3)).toEqual(["POST", "/.isochrone/measurements", "Bearer secret"]);
    expect(JSON.parse(bodies[0]?.split("\n")[0] ?? "")).toEqual({
      source: "atlas",
      method: "icmp",
      agent: "6798",
      from: "198.18.0.1",
      to: "192.0.2.9",
      at: 1_700_000_000_000,
      rttMs: 1.5,
    });
  } finally {
    vi.unstubAllEnvs();
    server.close();
  }
});

test("show asks for a pair, and says in one line what is not known of it", async () => {
  const pair = {
    from: "berlin",
    to: "fra",
    spanMs: 3_600_000,
    quantiles: [0.25, 0.5, 0.75],
    figures: { rttMs: [10, 12.345, 20], answered: 3, lost: 1, ageMs: 2_000, agents: 1 },
    provenance: [{ source: "probe", method: "tcp", agent: "one", samples: 4, newestAt: 1_700_000_000_000 }],
    windows: [{ at: 1_699_999_800_000, answered: 0, lost: 1, rttMs: [null, null, null] }],
  };
  const urls: (string | undefined)[] = [];
  const answers = [
    [200, pair],
    [404, { error: 'nothing was measured from "berlin" to "fra" in 1h' }],
    [400, { error: "expected ?from=ID" }],
    [200, { ...pair, extra: 1 }],
    [500, { error: "x" }],
  ] as const;
  const server = createServer((request, response) => {
    const [status, body] = answers[urls.push(request.url) - 1]!;
    response.writeHead(status).end(JSON.stringify(body));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  vi.stubEnv("ISOCHRONE_CONTROL_TOKEN", "secret");
  const said: string[] = [];
  vi.spyOn(console, "log").mockImplementation((text: string) => void said.push(text));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const show = () => main(["show", "berlin", "fra", "--span", "1h", "--mapper", url]);
    expect(await show()).toBe(0);
    expect(urls).toEqual(["/.isochrone/measurements?from=berlin&to=fra&span=1h"]);
    expect(said[0]).toMatch(/^berlin to fra: newest sample 2 s old, by 1 agents\n/);
    expect(said[0]).toMatch(/\nall +10\.00 +12\.35 +20\.00 +3 +1\n/);
    expect(said[0]).toMatch(/\n2023-11-14T22:10 +- +- +- +0 +1\n/);
    expect(said[0]).toMatch(/\nprobe +tcp +one +4 +\d+ s ago$/);
    await expect(show()).rejects.toMatchObject({
      exitCode: 1,
      message: expect.stringContaining("nothing was measured"),
    });
    await expect(show()).rejects.toMatchObject({ exitCode: 2 });
    await expect(show()).rejects.toThrow("extra: got 1, expected no such key");
    await expect(show()).rejects.toThrow("status 500; is it a mapper of this version?");
    await expect(main(["show", "berlin"])).rejects.toThrow("show takes FROM and TO");
  } finally {
    vi.unstubAllEnvs();
    server.close();
  }
});
