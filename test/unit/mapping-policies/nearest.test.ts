/** The nearest target by the map, against scores that are added up one by one; and the scope against brute force. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatAddress, parseAddress } from "#kit";
import { MapIndex } from "../../../mapping/core/map-index.ts";
import type { CompiledPolicy } from "../../../mapping/core/policy/compile.ts";
import { decidePolicy, type PolicyFacts } from "../../../mapping/core/policy/decide.ts";
import { nearestTableOf, scoresFor } from "../../../mapping/core/policy/nearest.ts";
import { TopologyIndex } from "../../../mapping/core/topology-index.ts";
import { ranking, snapshotOf, topologyOf } from "../mapping/fixtures.ts";
import { askedOf, factsOf, namesOf, policyOf } from "./fixture.ts";

const topology = new TopologyIndex(
  topologyOf([
    { id: "fra", latitude: 50, longitude: 8 },
    { id: "iad", latitude: 39, longitude: -77 },
    { id: "nrt", latitude: 36, longitude: 140 },
  ]),
);
const map = new MapIndex(
  snapshotOf(
    [
      { id: "berlin", prefixes: ["10.1.0.0/16"], ranking: ranking(["fra", 12], ["iad", 95], ["nrt", 240]) },
      { id: "paris", prefixes: ["10.2.0.0/15"], ranking: ranking(["fra", 10], ["iad", 85], ["nrt", 230]) },
      { id: "boston", prefixes: ["10.4.0.0/16"], ranking: ranking(["iad", 11], ["fra", 90], ["nrt", 160]) },
      { id: "osaka", prefixes: ["10.5.0.0/16"], ranking: ranking(["nrt", 9], ["iad", 150], ["fra", 220]) },
      // The data centres' own networks, as the map measured them.
      {
        id: "dc-east",
        prefixes: ["198.51.100.1/32"],
        ranking: ranking(["iad", 3], ["fra", 88], ["nrt", 158]),
      },
      {
        id: "dc-west",
        prefixes: ["198.51.100.2/32"],
        ranking: ranking(["fra", 4], ["iad", 86], ["nrt", 225]),
      },
    ],
    ranking(["iad", 50], ["fra", 60], ["nrt", 100]),
  ),
);
const tokyo = { latitude: 35.6, longitude: 139.7 };
const policy = policyOf({ method: "performance", among: ["east", "west", "far"] }, ["east", "west", "far"], {
  targets: [
    { targetId: "east", addresses: ["198.51.100.1"] },
    { targetId: "west", addresses: ["198.51.100.2"] },
    { targetId: "far", addresses: ["198.51.100.3"], coordinates: tokyo },
  ],
});
const facts = (of: CompiledPolicy, down: readonly string[] = []): PolicyFacts =>
  factsOf(of, down, {
    nearest: (node, targets, depth, { client, isResolver }) => {
      const table = nearestTableOf({ policy: of, node, targets, depth }, map, topology);
      return isResolver ? table.lookupResolver(client) : table.lookup(client);
    },
  });
const first = (client: string, down: readonly string[] = []) =>
  namesOf(policy, decidePolicy(policy, askedOf(client), facts(policy, down)))[0];

describe("performance", () => {
  it("sends everyone to the data centre that is nearest by what was measured, or by its place", () => {
    expect([first("10.1.0.1"), first("10.4.3.2"), first("10.5.9.9")]).toEqual(["west", "east", "far"]);
    expect([first("10.1.0.1", ["west"]), first("10.5.9.9", ["far"])]).toEqual(["east", "east"]);
    // Of whom the map knows nothing: the order for everyone else.
    expect(first("192.0.2.1")).toBe("east");
  });

  it("goes by the sum of both ways over the best cluster", () => {
    const of = (client: string) =>
      scoresFor(policy, map, topology, parseAddress(client) ?? { family: 4, words: [0] }, undefined);
    const [east = 0, west = 0, far = 0] = of("10.1.0.1");
    expect(west).toBeLessThan(east);
    expect(east).toBeLessThan(far);
    // 12 + 4 ms through fra, at the confidence of the map.
    expect(west).toBeGreaterThan(16);
    expect(west).toBeLessThan(25);
    expect(scoresFor(policy, null, topology, { family: 4, words: [0] }, undefined)).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  it("without a map goes by the customer's order, for everyone", () => {
    const choice = decidePolicy(policy, askedOf("10.5.0.1"), factsOf(policy));
    expect([namesOf(policy, choice), choice.scopePrefixLength]).toEqual([["east"], 0]);
  });

  it("has the widest scope in which the same one is nearest, whoever lives", () => {
    const boundaries = [
      "10.0.0.0",
      "10.1.0.0",
      "10.1.255.255",
      "10.2.0.0",
      "10.3.255.255",
      "10.4.0.0",
      "10.5.0.0",
      "10.5.255.255",
      "10.6.0.0",
      "198.51.100.1",
      "198.51.100.0",
    ];
    const word = (text: string): number => parseAddress(text)?.words[0] as number;
    // All addresses at which anything begins or ends: between them nothing changes.
    const edges = [0, 0xffff_ffff, ...boundaries.map(word)];
    fc.assert(
      fc.property(
        fc.oneof(
          fc.constantFrom(...edges),
          fc.nat({ max: 0xffff_ffff }),
          fc.nat({ max: 0x7ffff }).map((n) => word("10.0.0.0") + n),
        ),
        fc.subarray(["east", "west", "far"], { maxLength: 2 }),
        (client, down) => {
          const asked = (one: number) =>
            decidePolicy(policy, askedOf(formatAddress({ family: 4, words: [one] })), facts(policy, down));
          const choice = asked(client);
          const scope = choice.scopePrefixLength;
          const size = 2 ** (32 - scope);
          const start = client - (client % size);
          for (const one of [
            start,
            start + size - 1,
            ...edges.filter((edge) => edge >= start && edge < start + size),
          ])
            expect(asked(one).addresses).toEqual(choice.addresses);
          if (scope === 0) return;
          // One bit less, and somebody gets another answer.
          const wider = size * 2;
          const from = client - (client % wider);
          const inside = edges.filter((edge) => edge >= from && edge < from + wider);
          const all = [
            from,
            from + wider - 1,
            from + size,
            from + size - 1,
            ...inside,
            ...inside
              .flatMap((edge) => [edge - 1, edge + 1])
              .filter((edge) => edge >= from && edge < from + wider),
          ];
          expect(all.some((one) => asked(one).addresses[0] !== choice.addresses[0])).toBe(true);
        },
      ),
    );
  });

  it("takes the next ones where the nearest turns a part away", () => {
    const shed = factsOf(policy, [], { accepted: { west: 0 }, nearest: facts(policy).nearest });
    expect(namesOf(policy, decidePolicy(policy, askedOf("10.1.0.1"), shed))).toEqual(["east"]);
  });
});
