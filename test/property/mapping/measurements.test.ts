import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AtlasReader, atlasSamples, RTT_MS_MAX } from "#mapping";
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
});
