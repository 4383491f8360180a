/** The table of all answers says what the one question to the map says, for clients and resolvers of both families. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { addressBits, formatAddress, type IpAddress, maskAddress, parseAddress } from "#kit";
import { answerAddresses } from "../../../mapping/core/answer.ts";
import {
  choiceOfLookup,
  choiceTableOf,
  scopeOfLookup,
  serversOfChoice,
} from "../../../mapping/core/dns/choice-table.ts";
import { context, properties } from "../../unit/mapping-dns/fixture.ts";
import { address, down, map } from "./arbitrary-maps.ts";

test("the same servers, reason and scope as answerAddresses", () => {
  let narrow = 0;
  let byResolver = 0;
  let behind = 0;
  let shared = 0;
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
          const check = (of: IpAddress, isResolver: boolean, asker?: IpAddress): number => {
            const expected = answerAddresses({
              snapshot: world,
              topology: state.topology,
              property,
              family,
              clientAddress: of,
              sourcePrefixLength: addressBits(of.family),
              isResolver,
              ...(asker && { resolverAddress: asker }),
              isUp: state.isUp,
            });
            const found = isResolver
              ? table.lookupResolver(of.family, of.words)
              : asker
                ? table.lookupBehind(asker.family, asker.words, of.family, of.words)
                : table.lookup(of.family, of.words);
            const choice = table.choices[choiceOfLookup(found)]!;
            expect(choice.reason).toBe(expected.reason);
            expect(choice.clusterId).toBe(expected.clusterId);
            expect(serversOfChoice(state, property, family, choice)).toEqual(expected.servers);
            if (!isResolver) expect(scopeOfLookup(found)).toBe(expected.scopePrefixLength);
            if (!isResolver && expected.scopePrefixLength > 0) narrow++;
            if (expected.reason === "resolver-clients") byResolver++;
            return found;
          };
          for (const of of named) check(of, true);
          for (const asker of named) {
            const found = some.map((of) => check(of, false, asker));
            // What a resolver keeps for one client it gives to all in the scope (RFC 7871 section 7.3.1), in whatever order they come.
            for (const [n, of] of some.entries()) {
              if (found[n] !== table.lookup(of.family, of.words)) behind++;
              const length = scopeOfLookup(found[n]!);
              const holds = ({ family: its, words }: IpAddress): boolean =>
                its === of.family &&
                formatAddress(maskAddress({ family: its, words }, length)) ===
                  formatAddress(maskAddress(of, length));
              for (const [m, other] of some.entries())
                if (m !== n && holds(other)) {
                  shared++;
                  const [one, its] = [found[n]!, found[m]!].map((f) => table.choices[choiceOfLookup(f)]!);
                  expect([one!.clusterId, one!.isLive]).toEqual([its!.clusterId, its!.isLive]);
                }
            }
          }
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
  expect(behind).toBeGreaterThan(50);
  expect(shared).toBeGreaterThan(50);
});
