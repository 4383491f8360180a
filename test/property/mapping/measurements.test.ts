import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatPrefix, parsePrefix } from "#kit";
import {
  AtlasReader,
  atlasSamples,
  type BgpRoute,
  type BgpSink,
  BgpTextReader,
  MrtReader,
  RTT_MS_MAX,
} from "#mapping";
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
});
