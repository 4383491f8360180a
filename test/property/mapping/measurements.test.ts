import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type IpAddress, ParseError, formatPrefix, parseAddress, parsePrefix } from "#kit";
import {
  AtlasReader,
  atlasSamples,
  type BgpRoute,
  type BgpSink,
  BgpTextReader,
  MrtReader,
  MmdbReader,
  RangeCsvReader,
  RTT_MS_MAX,
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
  test.each([
    ["MRT", mrt, (sink: BgpSink) => new MrtReader(sink)],
    ["BGP text", bytesOf(`${line}\n${line}\r\n${line}`), (sink: BgpSink) => new BgpTextReader(sink)],
  ])("%s", (_, valid, open) => {
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
        if (bytes.length > 0) expect(reader.tally.taken + reader.tally.skipped()).toBeGreaterThan(0);
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
});
