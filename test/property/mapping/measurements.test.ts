import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type IpAddress, ParseError, epochMs, formatPrefix, parseAddress, parsePrefix } from "#kit";
import {
  AtlasReader,
  atlasSamples,
  type BgpRoute,
  type BgpSink,
  BgpTableTextReader,
  BgpTextReader,
  MrtReader,
  MeasurementStore,
  MmdbReader,
  ProbeReader,
  parsePing,
  parseTraceroute,
  RangeCsvReader,
  RTT_MS_MAX,
  SampleReader,
} from "#mapping";
import { encode, mmdbFile } from "../../tools/mmdb-file.ts";
import { asPathAttribute, peerTable, ribRecord, updateRecord } from "../../tools/mrt-records.ts";
import { inChunks, mutated } from "../../tools/mutations.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("mutated measurements never crash a reader; each record is taken or counted", () => {
  test("RIPE Atlas", () => {
    const base = {
      af: 4,
      proto: "ICMP",
      prb_id: 1,
      msm_id: 2,
      timestamp: 3,
      from: "192.0.2.1",
      dst_addr: "192.0.2.9",
    };
    const ping = { ...base, type: "ping", result: [{ rtt: 1.5 }, { x: "*" }] };
    const reply = { from: "192.0.2.9", rtt: 2 };
    const traceroute = { ...base, type: "traceroute", result: [{ hop: 1, result: [reply, { late: 1 }] }] };
    const records = [ping, traceroute, ping].map((one) => JSON.stringify(one));
    let taken = 0;
    let skipped = 0;
    fc.assert(
      fc.property(
        fc.oneof(mutated(bytesOf(records.join("\n"))), mutated(bytesOf(`[${records.join(",\n")}]`))),
        ({ bytes, chunkBytes }) => {
          let results = 0;
          const reader = new AtlasReader((result) => {
            results++;
            for (const { rttMs } of atlasSamples(result))
              expect(rttMs === null || (rttMs >= 0 && rttMs <= RTT_MS_MAX)).toBe(true);
          });
          inChunks(bytes, chunkBytes, (chunk) => reader.read(chunk));
          reader.end();
          expect(reader.tally.taken).toBe(results);
          taken += results;
          skipped += reader.tally.skipped();
        },
      ),
      { numRuns: 300 },
    );
    expect(Math.min(taken, skipped)).toBeGreaterThan(50);
  });

  const path = asPathAttribute(
    [
      [2, 64500, 7],
      [1, 8, 9],
    ],
    4,
  );
  const entries = [0, 1].map((peer) => ({ peer, attributes: path, pathId: 3 }));
  const mrt = Uint8Array.from([
    ...peerTable,
    ...ribRecord(8, [20, 198, 51, 112], entries),
    ...ribRecord(10, [16, 0x20, 1], entries),
    ...updateRecord(9, { attributes: path, announced: [0, 0, 0, 5, 8, 11], withdrawn: [0, 0, 0, 5, 8, 12] }),
  ]);
  const line = "TABLE_DUMP2|1277971199|B|192.0.2.1|64500|10.0.0.0/8|64500 {8,9}|IGP|192.0.2.1|0|0||NAG||";
  const table = [
    "BGP table version is 0, local router ID is 192.0.2.1",
    "   Network          Next Hop            Metric LocPrf Weight Path",
    "*  3.0.0.0          206.157.77.11          165             0 1673 701 {703,80} i",
    "*>                  144.228.240.93           4    100      0 1239 701 703 80 ?",
    "*>i198.51.100.128/25",
    "                    192.0.2.7                0             0 64500 i",
    "",
  ].join("\n");
  test.each([
    ["show ip bgp", bytesOf(table), (sink: BgpSink) => new BgpTableTextReader(sink)],
    ["MRT", mrt, (sink: BgpSink) => new MrtReader(sink)],
    ["BGP text", bytesOf(`${line}\n${line}\r\n${line}`), (sink: BgpSink) => new BgpTextReader(sink)],
  ])("%s", (name, valid, open) => {
    let taken = 0;
    let skipped = 0;
    fc.assert(
      fc.property(mutated(valid), ({ bytes, chunkBytes }) => {
        const routes: BgpRoute[] = [];
        const reader = open({ route: (one) => routes.push(one) });
        inChunks(bytes, chunkBytes, (chunk) => reader.read(chunk));
        reader.end();
        for (const { prefix, asPath, originAs } of routes) {
          expect(parsePrefix(formatPrefix(prefix))).toEqual(prefix);
          for (const number of [...asPath, ...originAs]) expect(number >>> 0).toBe(number);
        }
        // A table without its heading is talk of a router.
        if (bytes.length > 0 && name !== "show ip bgp")
          expect(reader.tally.taken + reader.tally.skipped()).toBeGreaterThan(0);
        taken += routes.length;
        skipped += reader.tally.skipped();
      }),
      { numRuns: 300 },
    );
    expect(Math.min(taken, skipped)).toBeGreaterThan(50);
  });

  test("CSV ranges: what is taken is found again, in the range that holds it", () => {
    const lines = [
      '1.0.0.0,1.0.0.255,13335,"Cloudflare, Inc."',
      "1.0.4.0,1.0.7.255,38803,G",
      "2001::,2001::ff,1,y",
    ];
    let taken = 0;
    let skipped = 0;
    fc.assert(
      fc.property(mutated(bytesOf(lines.join("\n"))), ({ bytes, chunkBytes }) => {
        const reader = RangeCsvReader.ofAutonomousSystems();
        inChunks(bytes, chunkBytes, (chunk) => reader.read(chunk));
        reader.end();
        expect(reader.tally.taken).toBe(reader.table.size);
        taken += reader.table.size;
        skipped += reader.tally.skipped();
      }),
      { numRuns: 300 },
    );
    expect(Math.min(taken, skipped)).toBeGreaterThan(50);
  });

  test("MMDB: a damaged file is refused, or its look-ups are, in bounded time", () => {
    const value = encode({ country: { iso_code: "SE" }, list: [1, 2.5, true, "x"] });
    const networks = [
      ["10.0.0.0/8", 0],
      ["192.0.2.0/24", 0],
    ] as const;
    const file = mmdbFile({ ipVersion: 4, recordBits: 28, networks, data: value });
    const addresses = ["10.1.2.3", "192.0.2.1", "0.0.0.0"].map((text) => parseAddress(text) as IpAddress);
    let refused = 0;
    let answered = 0;
    fc.assert(
      fc.property(mutated(file), ({ bytes }) => {
        try {
          const reader = new MmdbReader(bytes);
          for (const address of addresses) if (reader.lookup(address) !== undefined) answered++;
        } catch (error) {
          expect(error).toBeInstanceOf(ParseError);
          refused++;
        }
      }),
      { numRuns: 300 },
    );
    expect(Math.min(refused, answered)).toBeGreaterThan(5);
  });

  test("records of probes and samples for the mapper", () => {
    const common = { agent: "a", method: "icmp", from: "192.0.2.1", to: "192.0.2.9", at: 1.7e12, rttMs: 1.5 };
    const hops = [{ hop: 1, address: null, rttMs: null }];
    const http = { dnsMs: 0, connectMs: 1, tlsMs: null, status: 200 };
    const records = [
      { ...common, target: "icmp x", hops },
      { ...common, method: "http", target: "http x", http },
    ];
    const text = (all: readonly object[]): Uint8Array =>
      bytesOf(all.map((one) => JSON.stringify(one)).join("\n"));
    let taken = 0;
    let skipped = 0;
    for (const [valid, open] of [
      [text(records), (onOne: () => void) => new ProbeReader(onOne)],
      [
        text([1, 2, 3].map(() => ({ source: "atlas", ...common }))),
        (onOne: () => void) => new SampleReader(onOne),
      ],
    ] as const)
      fc.assert(
        fc.property(mutated(valid), ({ bytes, chunkBytes }) => {
          let found = 0;
          const reader = open(() => found++);
          inChunks(bytes, chunkBytes, (chunk) => reader.read(chunk));
          reader.end();
          expect(reader.tally.taken).toBe(found);
          taken += found;
          skipped += reader.tally.skipped();
        }),
        { numRuns: 200 },
      );
    expect(Math.min(taken, skipped)).toBeGreaterThan(50);
  });

  test("what ping and traceroute print: times and hops that can be, or nothing", () => {
    const ping =
      "64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time=0.323 ms\nFrom 192.0.2.9 icmp_seq=2 Time to live exceeded\n2 packets transmitted";
    const traceroute = " 1  10.0.0.1  0.030 ms\n 2  *\n 3  2001:db8::1  12.3 ms !N\n";
    let times = 0;
    let hops = 0;
    fc.assert(
      fc.property(mutated(bytesOf(ping)), mutated(bytesOf(traceroute)), (one, other) => {
        const decoder = new TextDecoder();
        for (const rttMs of parsePing(decoder.decode(one.bytes)).rttMs) {
          times++;
          expect(rttMs >= 0 && rttMs <= RTT_MS_MAX).toBe(true);
        }
        let before = 0;
        for (const { hop, address, rttMs } of parseTraceroute(decoder.decode(other.bytes))) {
          hops++;
          expect(hop > before && hop <= 255).toBe(true);
          before = hop;
          if (address !== null) expect(parseAddress(address)).toBeDefined();
          expect(rttMs === null || (rttMs >= 0 && rttMs <= RTT_MS_MAX)).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
    expect(Math.min(times, hops)).toBeGreaterThan(50);
  });
});

describe("the measurement store", () => {
  const WINDOW_MS = 600_000;
  const now = epochMs(1_700_000_000_000);
  const drawn = fc.record({
    agoMs: fc.integer({ min: 0, max: 40 * WINDOW_MS }),
    rttMs: fc.option(fc.double({ min: 0, max: RTT_MS_MAX, noNaN: true })),
    agent: fc.constantFrom("a", "b"),
  });

  test("in any order of time its counts are exact, its quantiles within what was measured, its memory a constant", () => {
    const bytes = new Set<number>();
    let cut = 0;
    fc.assert(
      fc.property(fc.array(drawn, { minLength: 100, maxLength: 300 }), (samples) => {
        const store = new MeasurementStore();
        const taken = samples.filter(({ agoMs, rttMs, agent }) => {
          const at = epochMs(now - agoMs);
          return (
            store.handleSample(
              { from: "x", to: "y", source: "probe", method: "tcp", agent, at, rttMs },
              now,
            ) === undefined
          );
        });
        // None is older than the week of the coarse windows.
        expect(taken).toHaveLength(samples.length);
        bytes.add(store.bytes);
        const query = { spanMs: 7 * 86_400_000, quantiles: [0, 0.25, 0.5, 1] };
        const figures = store.figures("x", "y", query, now);
        const answered = taken.flatMap(({ rttMs }) => rttMs ?? []).sort((a, b) => a - b);
        expect([figures?.answered, figures?.lost]).toEqual([answered.length, taken.length - answered.length]);
        expect(figures?.ageMs).toBe(Math.min(...taken.map(({ agoMs }) => agoMs)));
        const windows = store.windows("x", "y", query, now);
        expect(windows.reduce((sum, one) => sum + one.answered, 0)).toBe(answered.length);
        if (windows.some((one) => one.answered > 16)) cut++;
        if (answered.length === 0) return;
        // Codes of 16 bits: within 0.011 % and a tenth of a microsecond.
        const [least, most] = [answered[0] as number, answered.at(-1) as number];
        let before = least * 0.9998 - 1e-4;
        for (const rttMs of figures?.rttMs ?? []) {
          expect(rttMs).toBeGreaterThanOrEqual(before);
          expect(rttMs).toBeLessThanOrEqual(most * 1.0002 + 1e-4);
          before = rttMs;
        }
      }),
      { numRuns: 50 },
    );
    expect(bytes.size).toBe(1);
    expect(cut).toBeGreaterThan(5);
  });
});
