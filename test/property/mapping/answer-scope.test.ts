import * as fc from "fast-check";
import { expect, test } from "vitest";
import { addressBits, type IpAddress, maskAddress, type ServerId } from "#kit";
import { answerAddresses } from "#mapping";
import { property, ranking, snapshotOf, topologyOf } from "../../unit/mapping/fixtures.ts";

const ids = ["fra", "iad", "sin"] as const;
const topology = topologyOf(ids.map((id) => ({ id })));
const servers = topology.clusters.flatMap((cluster) => cluster.servers.map((server) => server.serverId));
const order = fc
  .shuffledSubarray([...ids], { minLength: 1 })
  .map((some) => ranking(...some.map((id, n) => [id, 10 + n] as const)));

/** Prefixes in 10.0.0.0/24 only: small enough to ask every address of a scope, nested on purpose. */
const prefix = fc
  .record({ last: fc.integer({ min: 0, max: 255 }), length: fc.integer({ min: 24, max: 32 }) })
  .map(({ last, length }) => `10.0.0.${(last >> (32 - length)) << (32 - length)}/${length}`);
const networks = fc
  .uniqueArray(fc.record({ prefix, ranking: order }), { maxLength: 10, selector: (one) => one.prefix })
  .map((some) => some.map((one, n) => ({ id: `net-${n}`, prefixes: [one.prefix], ranking: one.ranking })));

test("every address within the scope gets the same answer, and one bit wider some address does not", () => {
  let narrow = 0;
  fc.assert(
    fc.property(
      networks,
      order,
      fc.subarray([...servers]),
      fc.integer({ min: 0, max: 255 }),
      (some, fallback, down, last) => {
        const snapshot = snapshotOf(some, fallback);
        const isDown = new Set<ServerId>(down);
        const ask = (address: IpAddress) =>
          answerAddresses({
            snapshot,
            topology,
            property,
            family: 4,
            clientAddress: address,
            sourcePrefixLength: 32,
            isUp: (serverId) => !isDown.has(serverId),
          });
        const base = 0x0a000000;
        const own: IpAddress = { family: 4, words: [base + last] };
        const { servers: answered, scopePrefixLength } = ask(own);
        expect(answered.length).toBeGreaterThan(0);
        const within = (length: number): IpAddress[] => {
          const first = (maskAddress(own, length).words[0] as number) >>> 0;
          const all: IpAddress[] = [];
          // Outside of 10.0.0.0/24 everyone has the fallback: its two neighbours stand for them.
          for (let word = 0; word < 256; word++) all.push({ family: 4, words: [base + word] });
          all.push(
            { family: 4, words: [base - 1] },
            { family: 4, words: [base + 256] },
            { family: 4, words: [0] },
          );
          const mask = length === 0 ? 0 : (0xffff_ffff << (addressBits(4) - length)) >>> 0;
          return all.filter(({ words }) => ((words[0] as number) & mask) >>> 0 === first);
        };
        for (const address of within(scopePrefixLength)) expect(ask(address).servers).toEqual(answered);
        if (scopePrefixLength === 0) return;
        narrow++;
        const wider = within(scopePrefixLength - 1).map((address) => ask(address).servers[0]?.serverId);
        expect(new Set(wider).size).toBeGreaterThan(1);
      },
    ),
    { numRuns: 300 },
  );
  expect(narrow).toBeGreaterThan(20);
});
