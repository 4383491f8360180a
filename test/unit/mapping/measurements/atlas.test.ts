import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { AtlasReader, type AtlasResult, atlasSamples, parseAtlasResult } from "#mapping";
import { dataFile } from "../../../tools/data-file.ts";

const ping = {
  fw: 5020,
  type: "ping",
  af: 4,
  proto: "ICMP",
  prb_id: 6798,
  msm_id: 26858348,
  timestamp: 1599523340,
  from: "185.34.2.114",
  dst_addr: "203.119.111.139",
  result: [
    { rtt: 182.5 },
    { x: "*" },
    { rtt: 183.25, dup: 1 },
    { error: "sendto failed: Network is unreachable" },
  ],
};
const traceroute = {
  fw: 4970,
  type: "traceroute",
  af: 6,
  proto: "UDP",
  prb_id: 6019,
  msm_id: 23449934,
  timestamp: 1574867159,
  from: "2001:db8:0::1",
  dst_addr: "2001:DB8::9",
  result: [
    { hop: 1, result: [{ x: "*" }, { from: "2001:db8::2", rtt: 1.4, ttl: 254, icmpext: { version: 2 } }] },
    { hop: 2, error: "connect failed" },
    {
      hop: 3,
      result: [
        { from: "2001:db8::9", rtt: 9.5 },
        { x: "*" },
        { from: "2001:db8::9", late: 2 },
        { from: "2001:db8::8", rtt: 3, err: "H" },
      ],
    },
  ],
};

describe("a result of RIPE Atlas", () => {
  test("ping: answered, lost, not sent; a duplicate is no packet", () => {
    const result = parseAtlasResult(ping);
    expect(result).toEqual({
      type: "ping",
      probeId: 6798,
      measurementId: 26858348,
      at: 1599523340000,
      method: "icmp",
      family: 4,
      from: "185.34.2.114",
      to: "203.119.111.139",
      packets: [{ outcome: "answered", from: null, rttMs: 182.5 }, { outcome: "lost" }, { outcome: "error" }],
    });
    expect(atlasSamples(result).map(({ agent, rttMs }) => [agent, rttMs])).toEqual([
      ["6798", 182.5],
      ["6798", null],
    ]);
  });

  test("traceroute: hops with canonical addresses; samples are what the target answered or left out", () => {
    const result = parseAtlasResult(traceroute);
    if (result.type !== "traceroute") throw new Error(`a ${result.type}`);
    expect(result).toMatchObject({
      method: "udp",
      from: "2001:db8::1",
      to: "2001:db8::9",
    });
    expect(result.hops).toEqual([
      { hop: 1, replies: [{ outcome: "lost" }, { outcome: "answered", from: "2001:db8::2", rttMs: 1.4 }] },
      {
        hop: 3,
        replies: [
          { outcome: "answered", from: "2001:db8::9", rttMs: 9.5 },
          { outcome: "lost" },
          { outcome: "late" },
          { outcome: "answered", from: "2001:db8::8", rttMs: 3 },
        ],
      },
    ]);
    expect(atlasSamples(result).map(({ rttMs }) => rttMs)).toEqual([9.5, null]);
  });

  test("a traceroute that did not arrive says nothing of the path's loss; an unresolved name nothing at all", () => {
    const [first] = traceroute.result;
    expect(atlasSamples(parseAtlasResult({ ...traceroute, result: [first] }))).toEqual([]);
    const { dst_addr: _, ...unresolved } = ping;
    expect(atlasSamples(parseAtlasResult({ ...unresolved, result: [{ error: "dns" }, { x: "*" }] }))).toEqual(
      [],
    );
  });

  test.each([
    [{ ...ping, result: [{ rtt: -1 }] }, "result[0].rtt: got -1, expected a number from 0 to 60000 (ms)"],
    [{ ...ping, result: [{ rtt: "9" }] }, 'result[0].rtt: got "9", expected'],
    [{ ...ping, result: [{}] }, "result[0].rtt: got nothing, expected"],
    [{ ...ping, result: [{ x: 1 }] }, 'result[0].x: got 1, expected "*"'],
    [
      { ...ping, result: Array.from({ length: 257 }, () => ({ x: "*" })) },
      "expected a list of at most 256 elements",
    ],
    [{ ...ping, dst_addr: "010.0.0.1" }, 'dst_addr: got "010.0.0.1", expected an IPv4 address'],
    [{ ...ping, af: 6 }, "dst_addr: got"],
    [{ ...ping, prb_id: 0 }, "prb_id: got 0, expected a whole number from 1 to"],
    [{ ...ping, timestamp: 1e12 }, "timestamp: got 1000000000000, expected a whole number"],
    [{ ...ping, proto: "GRE" }, 'proto: got "GRE", expected "ICMP", "UDP" or "TCP"'],
    [{ ...traceroute, result: [{ hop: 256, result: [] }] }, "result[0].hop: got 256, expected"],
    [{ ...traceroute, result: [{ hop: 1 }] }, "result[0].result: got nothing, expected a list"],
    [{ ...traceroute, result: [{ hop: 1, result: [{ from: "x", rtt: 1 }] }] }, "result[0].result[0].from"],
    [[], "(document): got [], expected a mapping"],
  ])("is refused whole, with path, value and expectation: %#", (value, message) => {
    expect(() => parseAtlasResult(value)).toThrow(message);
  });
});

/** Reads `text` in chunks of `size` bytes. */
function readAll(text: string | Uint8Array, size: number): { results: AtlasResult[]; reader: AtlasReader } {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  const results: AtlasResult[] = [];
  const reader = new AtlasReader((result) => results.push(result));
  for (let at = 0; at < bytes.length; at += size) reader.read(bytes.subarray(at, at + size));
  reader.end();
  return { results, reader };
}

describe("the reader", () => {
  const one = JSON.stringify(ping);
  const other = JSON.stringify({ ...ping, msm_name: 'a "quoted\\" name ]}, with [brackets' });
  test.each([
    ["one a line", `${one}\n\r\n${other}\r\n`],
    ["one a line without a last line feed", `\n ${one}\n${other}`],
    ["an array, as the API answers", `[${one},${other}]\n`],
    ["an array over several lines", ` [\n${one},\n${other}\n]`],
  ])("takes %s, whatever the chunks", (_, text) => {
    for (const size of [1, 7, 64, 1e6]) {
      const { results, reader } = readAll(text, size);
      expect(results).toEqual([parseAtlasResult(ping), parseAtlasResult(ping)]);
      expect(reader.tally.summary()).toEqual({ taken: 2, skipped: {}, examples: [] });
    }
  });

  test("skips what it cannot take, says where and why, and goes on", () => {
    const dns = JSON.stringify({ ...ping, type: "dns" });
    const lines = [
      one,
      "{not json",
      dns,
      JSON.stringify({ ...ping, af: 5 }),
      `"${"x".repeat(2 ** 20)}"`,
      one,
    ];
    for (const text of [lines.join("\n"), `[${lines.filter((line) => line !== "{not json").join(",")}]`]) {
      const isArray = text.startsWith("[");
      const { reader } = readAll(text, 50_000);
      expect(reader.tally.summary().skipped).toEqual({
        ...(!isArray && { "not-json": 1 }),
        "other-type": 1,
        refused: 1,
        "too-long": 1,
      });
      expect(reader.tally.taken).toBe(2);
      expect(reader.tally.summary().examples).toContainEqual({
        reason: "refused",
        where: isArray ? "record 3" : "record 4",
        why: "af: got 5, expected 4 or 6",
      });
    }
  });

  test("an input that is cut within an array loses its last record only, and says so", () => {
    const { results, reader } = readAll(`[${one},${one.slice(0, 40)}`, 1e6);
    expect(results).toHaveLength(1);
    expect(reader.tally.skipped("cut-off")).toBe(1);
  });
});

const measured = dataFile("ripe_atlas/results.ndjson");
describe.skipIf(measured === undefined)("2,000 results of real probes", () => {
  test("are all read; lost and late packets are told apart", () => {
    const { results, reader } = readAll(readFileSync(measured!), 65_536);
    expect(reader.tally.summary()).toEqual({ taken: 2_000, skipped: {}, examples: [] });
    const replies = results.flatMap((one) =>
      one.type === "ping" ? one.packets : one.hops.flatMap((hop) => hop.replies),
    );
    const count = (outcome: string): number => replies.filter((one) => one.outcome === outcome).length;
    // 2,998 - 4 duplicates + 24,915; 5 + 2,415; 7: counted in the file by other means.
    expect([count("answered"), count("lost"), count("late"), count("error")]).toEqual([27_909, 2_420, 7, 0]);
    const samples = results.flatMap((one) => atlasSamples(one));
    expect(samples.filter(({ rttMs }) => rttMs !== null).length).toBeGreaterThan(3_000);
    expect(samples.every(({ from }) => from !== null)).toBe(true);
  });
});
