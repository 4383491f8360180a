/** The table of all answers says what the one question to the map says, for clients and resolvers of both families. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  addressBits,
  addressFromBytes,
  formatAddress,
  formatPrefix,
  type IpAddress,
  maskAddress,
  type MapSnapshot,
  parseAddress,
} from "#kit";
import { answerAddresses } from "../../../mapping/core/answer.ts";
import {
  choiceOfLookup,
  choiceTableOf,
  scopeOfLookup,
  serversOfChoice,
} from "../../../mapping/core/dns/choice-table.ts";
import { context, properties, ranking, snapshot } from "../../unit/mapping-dns/fixture.ts";

const orders = [
  ["fra", "nyc", "sin"],
  ["nyc", "sin"],
  ["sin", "fra"],
  ["gone", "fra"],
] as const;
const order = fc.constantFrom(...orders).map((ids) => ranking(...ids));

/** Few distinct octets, so that prefixes nest, touch and repeat, up to the very ends of the family. */
const octet = fc.constantFrom(0, 1, 2, 127, 128, 254, 255);
const address = fc.oneof(
  fc
    .array(octet, { minLength: 4, maxLength: 4 })
    .map((octets) => addressFromBytes(4, Uint8Array.from(octets))),
  fc
    .array(octet, { minLength: 16, maxLength: 16 })
    .map((octets) => addressFromBytes(6, Uint8Array.from(octets))),
);
const prefix = fc
  .tuple(address, fc.nat({ max: 128 }))
  .map(([of, length]) => ({ of, length: Math.min(length, addressBits(of.family)) }))
  .map(({ of, length }) => formatPrefix({ address: maskAddress(of, length), prefixLength: length }));

const map = fc
  .record({
    networks: fc.uniqueArray(fc.tuple(prefix, order), { maxLength: 14, selector: ([text]) => text }),
    resolvers: fc.uniqueArray(fc.tuple(address, order), {
      maxLength: 4,
      selector: ([of]) => formatAddress(of),
    }),
    fallback: order,
    suspended: fc.constantFrom({}, { fra: true }, { nyc: true, sin: true }),
  })
  .map(
    ({ networks, resolvers, fallback, suspended }) =>
      ({
        ...snapshot,
        clientNetworks: networks.map(([text, clusters], n) => ({
          clientNetworkId: `n${n}`,
          prefixes: [text],
          clusters,
        })),
        resolvers: resolvers.map(([of, clusters]) => ({
          address: formatAddress(of),
          clusters,
          weight: 1,
          clientNetworks: 1,
        })),
        fallback,
        suspended,
      }) as unknown as MapSnapshot,
  );
const down = fc.subarray(["fra-1", "fra-2", "nyc-1", "nyc-2", "sin-1", "sin-2"]);

test("the same servers, reason and scope as answerAddresses", () => {
  let narrow = 0;
  let byResolver = 0;
  fc.assert(
    fc.property(
      fc.option(map, { freq: 20 }),
      down,
      fc.array(address, { minLength: 8, maxLength: 8 }),
      (world, dead, some) => {
        const state = context(dead, world);
        const property = properties[0]!;
        const named = (world?.resolvers ?? []).map((one) => parseAddress(one.address)!);
        for (const family of [4, 6] as const) {
          const table = choiceTableOf(state, property, family);
          const check = (of: IpAddress, isResolver: boolean): void => {
            const expected = answerAddresses({
              snapshot: world,
              topology: state.topology,
              property,
              family,
              clientAddress: of,
              sourcePrefixLength: addressBits(of.family),
              isResolver,
              isUp: state.isUp,
            });
            const found = isResolver
              ? table.lookupResolver(of.family, of.words)
              : table.lookup(of.family, of.words);
            const choice = table.choices[choiceOfLookup(found)]!;
            expect(choice.reason).toBe(expected.reason);
            expect(choice.clusterId).toBe(expected.clusterId);
            expect(serversOfChoice(state, property, family, choice)).toEqual(expected.servers);
            if (!isResolver) expect(scopeOfLookup(found)).toBe(expected.scopePrefixLength);
            if (!isResolver && expected.scopePrefixLength > 0) narrow++;
            if (expected.reason === "resolver-clients") byResolver++;
          };
          for (const of of named) check(of, true);
          for (const of of some) {
            check(of, false);
            check(of, true);
          }
        }
      },
    ),
    { numRuns: 150 },
  );
  // A run in which the rare never happened proves nothing.
  expect(narrow).toBeGreaterThan(200);
  expect(byResolver).toBeGreaterThan(20);
});
