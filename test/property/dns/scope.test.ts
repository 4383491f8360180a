/** The scope law: within the prefix that an answer claims, everyone gets this same answer; and it could not claim more. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addressFromBytes, addressToBytes, formatPrefix, type IpAddress, maskAddress } from "#kit";
import { TopologyIndex } from "../../../mapping/core/topology-index.ts";
import type { DnsContext } from "../../../mapping/core/dns/decision.ts";
import { encodeEcs } from "../../../mapping/core/dns/ecs.ts";
import { MapIndex } from "../../../mapping/core/map-index.ts";
import { answerTo, query, topology, zones } from "../../unit/mapping-dns/fixture.ts";
import { entriesOf, snapshotFrom } from "../../tools/map-snapshot.ts";

const clusterOrders = [
  ["fra", "nyc", "sin"],
  ["nyc", "sin", "fra"],
  ["sin", "fra", "nyc"],
];
const ranking = (order: readonly string[]) => {
  const ranked = order.map((clusterId, n) => ({
    clusterId,
    score: n + 1,
    terms: { rttMs: 1, lossRatio: 0, load: 0, confidence: 1 },
  }));
  return { interactive: ranked, bulk: ranked, live: ranked };
};

/** Random nested client networks in 10.0.0.0/8, few enough bits that neighbours meet. */
const map = fc
  .uniqueArray(fc.tuple(fc.nat({ max: 255 }), fc.integer({ min: 9, max: 28 }), fc.nat({ max: 2 })), {
    minLength: 1,
    maxLength: 12,
    selector: ([a, length]) => formatPrefix({ address: base(a, length), prefixLength: length }),
  })
  .map(
    (entries) =>
      new MapIndex(
        snapshotFrom({
          clientNetworks: entries.map(([a, length, order], n) => ({
            clientNetworkId: `n${n}`,
            prefixes: [formatPrefix({ address: base(a, length), prefixLength: length })],
            clusters: ranking(clusterOrders[order]!),
          })),
          fallback: ranking(clusterOrders[0]!),
        }),
      ),
  );
function base(a: number, length: number): IpAddress {
  return maskAddress(addressFromBytes(4, Uint8Array.of(10, a & 3, (a >> 2) << 2, a & 0xf0)), length);
}

const up = fc.uniqueArray(fc.constantFrom("fra-1", "fra-2", "nyc-1", "nyc-2", "sin-1", "sin-2"), {
  maxLength: 4,
});

function ask(address: IpAddress, context: DnsContext): { readonly servers: string; readonly scope: number } {
  const data = encodeEcs({
    family: 1,
    sourcePrefixLength: 32,
    scopePrefixLength: 0,
    address: addressToBytes(address),
  });
  const { message, decision } = answerTo(query({ ecs: Buffer.from(data).toString("hex") }), { context });
  return {
    servers: JSON.stringify(message.answers.map((answer) => answer.data)),
    scope: decision.scopePrefixLength ?? -1,
  };
}

describe("scope", () => {
  it("every address in the scope gets the same answer, and one bit less would not hold", () => {
    let specific = 0;
    fc.assert(
      fc.property(
        map,
        up,
        fc.uint8Array({ minLength: 3, maxLength: 3 }),
        fc.array(fc.uint8Array({ minLength: 4, maxLength: 4 }), { minLength: 20, maxLength: 20 }),
        (index, down, low, others) => {
          const dead = new Set<string>(down);
          const context: DnsContext = {
            zones,
            topology: new TopologyIndex(topology),
            snapshot: index,
            isUp: (serverId) => !dead.has(serverId),
          };
          const address = addressFromBytes(4, Uint8Array.of(10, low[0]! & 3, low[1]!, low[2]!));
          const { servers, scope } = ask(address, context);
          if (scope > 0) specific++;
          // Random neighbours, and those that differ in each single bit: the ones that a wrong scope would catch.
          const inside = (bits: number) => {
            const kept = addressToBytes(maskAddress(address, bits));
            const free = (n: number) => (n < bits / 8 - 1 && bits % 8 === 0 ? 0 : 0xff);
            return others.map((other) => {
              const mixed = addressToBytes(address).map((octet, n) => {
                const keep = Math.max(0, Math.min(8, bits - n * 8));
                const mask = (0xff << (8 - keep)) & 0xff;
                return (octet & mask) | (other[n]! & ~mask & free(n));
              });
              expect(addressToBytes(maskAddress(addressFromBytes(4, mixed), bits))).toEqual(kept);
              return addressFromBytes(4, mixed);
            });
          };
          const flips = Array.from({ length: 32 - scope }, (_, n) => {
            const bytes = addressToBytes(address);
            const bit = scope + n;
            bytes[bit >> 3]! ^= 0x80 >> (bit & 7);
            return addressFromBytes(4, bytes);
          });
          for (const other of [...inside(scope), ...flips]) expect(ask(other, context).servers).toBe(servers);
          // Widest: somewhere in the other half of the next wider prefix the answer differs. The map's own edges are where.
          if (scope > 0) {
            const wider = entriesOf(index.snapshot)
              .flatMap(({ prefixes }) => prefixes)
              .flatMap((text) => edges(text));
            const outer = formatPrefix({ address: maskAddress(address, scope - 1), prefixLength: scope - 1 });
            const within = [...wider, ...edges(outer)].filter(
              (other) =>
                formatPrefix({ address: maskAddress(other, scope - 1), prefixLength: scope - 1 }) === outer,
            );
            expect(within.some((other) => ask(other, context).servers !== servers)).toBe(true);
          }
        },
      ),
      { numRuns: 300 },
    );
    expect(specific).toBeGreaterThan(50);
  });
});

/** First and last address of a prefix, and the ones just outside of it. */
function edges(text: string): IpAddress[] {
  const [dotted = "", length = "0"] = text.split("/");
  const first = dotted.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0);
  const size = 2 ** (32 - Number(length));
  return [first, first + size - 1, first - 1, first + size]
    .filter((word) => word >= 0 && word <= 0xffff_ffff)
    .map((word) => ({ family: 4, words: [word] }));
}
