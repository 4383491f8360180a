/** Policies against plain readings of them: who is handed out, in which shares, for how wide a neighbourhood. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  countryOf,
  type CountryTable,
  formatAddress,
  maskAddress,
  parseAddress,
  parseCountries,
  parsePrefix,
  type PolicyRule,
  prefixContains,
} from "#kit";
import { decidePolicy } from "../../../mapping/core/policy/decide.ts";
import { viewOf } from "../../../mapping/core/policy/view.ts";
import { askedOf, chosen, draw, factsOf, namesOf, policyOf } from "./fixture.ts";

const five = ["a", "b", "c", "d", "e"];
const countries = parseCountries(
  "203.0.112.0/22,DE\n203.0.114.0/24,FR\n198.18.0.0/15,US\n100.64.0.0/10,JP\n2001:db8::/32,DE\n",
  "countries",
);

describe("shares", () => {
  const weights = [1, 2, 5, 0];
  const rule = {
    method: "weighted",
    among: weights.map((weight, n) => ({ to: five[n], weight })),
  };

  it("are those of the weights, with four standard deviations", () => {
    const policy = policyOf(rule, five.slice(0, 4));
    const counts = new Map<string, number>();
    const draws = 20_000;
    for (let n = 0; n < draws; n++) {
      const [first = ""] = chosen(policy, [], askedOf("203.0.113.1", draw(n)));
      counts.set(first, (counts.get(first) ?? 0) + 1);
    }
    for (const [n, weight] of weights.entries()) {
      const share = weight / 8;
      const deviation = Math.sqrt(draws * share * (1 - share));
      expect(Math.abs((counts.get(five[n] as string) ?? 0) - draws * share)).toBeLessThanOrEqual(
        4 * deviation,
      );
    }
  });

  it("of who is down go to the others by weight, and weight 0 is for when nobody else is left", () => {
    const policy = policyOf(rule, five.slice(0, 4));
    let first = 0;
    for (let n = 0; n < 9_000; n++)
      if (chosen(policy, ["c"], askedOf("203.0.113.1", draw(n)))[0] === "a") first++;
    expect(Math.abs(first - 3_000)).toBeLessThan(4 * Math.sqrt(9_000 * (1 / 3) * (2 / 3)));
    expect(chosen(policy, ["a", "b", "c"])).toEqual(["d"]);
  });

  it("do not depend on the client: scope 0", () => {
    const policy = policyOf(rule, five.slice(0, 4));
    expect(decidePolicy(policy, askedOf(), factsOf(policy)).scopePrefixLength).toBe(0);
  });

  it("of who turns a part away go down to that part", () => {
    const policy = policyOf({ method: "weighted", among: [{ to: "a" }, { to: "b" }] }, ["a", "b"]);
    let first = 0;
    for (let n = 0; n < 10_000; n++)
      if (chosen(policy, [], askedOf("203.0.113.1", draw(n)), { accepted: { a: 0.4 } })[0] === "a") first++;
    expect(Math.abs(first - 2_000)).toBeLessThan(4 * Math.sqrt(10_000 * 0.2 * 0.8));
    const all = { accepted: { a: 0, b: 0 } };
    expect(decidePolicy(policy, askedOf(), factsOf(policy, [], all)).reason).toBe("policy-all-loaded");
  });
});

describe("sticky", () => {
  const targets = five.slice(0, 4);
  const rule = (names: readonly string[]) => ({ method: "sticky", among: names.map((to) => ({ to })) });
  const clients = Array.from({ length: 4_000 }, (_, n) => `10.${n >> 8}.${n & 255}.7`);
  const of = (names: readonly string[], down: readonly string[] = []) => {
    const policy = policyOf(rule(names), names);
    return clients.map((client, n) => chosen(policy, down, askedOf(client, draw(n)))[0]);
  };
  const before = of(targets);

  it("is the same for the same network whatever the lot, with the network's scope", () => {
    const policy = policyOf(rule(targets), targets);
    const choice = decidePolicy(policy, askedOf("10.1.2.3", 5), factsOf(policy));
    expect(choice.scopePrefixLength).toBe(24);
    for (const other of ["10.1.2.250", "10.1.2.0"])
      expect(chosen(policy, [], askedOf(other, 99))).toEqual(namesOf(policy, choice));
    expect(decidePolicy(policy, askedOf(), factsOf(policy, ["a", "b", "c"])).scopePrefixLength).toBe(0);
  });

  it.each([
    ["a death", () => of(targets, ["b"])],
    ["a target that was taken out", () => of(["a", "c", "d"])],
  ])("moves at %s nobody but whom it concerns, to all others", (_what, moved) => {
    const after = moved();
    for (const [n, one] of before.entries()) if (one !== "b") expect(after[n]).toBe(one);
    expect(new Set(after.filter((_one, n) => before[n] === "b"))).toEqual(new Set(["a", "c", "d"]));
  });

  it("moves for a new target no more than its share, and to it alone", () => {
    const after = of(five);
    const moved = after.filter((one, n) => one !== before[n]);
    expect(new Set(moved)).toEqual(new Set(["e"]));
    expect(Math.abs(moved.length - 800)).toBeLessThan(4 * Math.sqrt(4_000 * 0.2 * 0.8));
  });
});

describe("what is handed out", () => {
  const addresses = Array.from({ length: 5 }, (_, n) => `198.51.100.${n + 1}`);
  const policy = policyOf("a", ["a"], { targets: [{ targetId: "a", addresses }], handoutLimit: 2 });

  it("is n of m addresses in turn, each first as often as the others", () => {
    const first = new Map<number, number>();
    for (let n = 0; n < 5_000; n++) {
      const choice = decidePolicy(policy, askedOf("203.0.113.1", draw(n)), factsOf(policy));
      expect(new Set(choice.addresses).size).toBe(2);
      const [one = -1] = choice.addresses;
      first.set(one, (first.get(one) ?? 0) + 1);
    }
    for (let n = 0; n < 5; n++)
      expect(Math.abs((first.get(n) ?? 0) - 1_000)).toBeLessThan(4 * Math.sqrt(5_000 * 0.2 * 0.8));
  });

  it("is nothing of a family that no target has, and says so", () => {
    expect(decidePolicy(policy, askedOf("203.0.113.1", 0, { family: 6 }), factsOf(policy))).toMatchObject({
      addresses: [],
      reason: "policy-no-target",
    });
  });

  it("is nobody who was taken out by hand, even when nothing else lives", () => {
    const two = policyOf({ method: "ranked", among: ["a", "b"] }, ["a", "b"], {
      targets: [
        { targetId: "a", addresses: ["198.51.100.1"], isEnabled: false },
        { targetId: "b", addresses: ["198.51.100.2"] },
      ],
    });
    expect([chosen(two), chosen(two, ["b"])]).toEqual([["b"], ["b"]]);
  });
});

describe("when nothing lives", () => {
  const rule = { method: "failover", among: ["a", { method: "all", among: ["b", "c"] }] };

  it("all are up", () => {
    const policy = policyOf(rule, ["a", "b", "c"]);
    expect(decidePolicy(policy, askedOf(), factsOf(policy, ["a", "b", "c"]))).toMatchObject({
      targets: [0],
      reason: "policy-all-down",
    });
  });

  it("nothing is handed out where the policy wants it so", () => {
    const policy = policyOf(rule, ["a", "b", "c"], { isFailClosed: true });
    expect(decidePolicy(policy, askedOf(), factsOf(policy, ["a", "b", "c"]))).toMatchObject({
      addresses: [],
      reason: "policy-closed",
    });
    expect(chosen(policy, ["a", "b"])).toEqual(["c"]);
  });
});

describe("who is left out", () => {
  it("is never more than the share allows, longest down first, and nobody comes back when another one goes", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.array(fc.nat({ max: 5 }), { minLength: 13, maxLength: 13 }),
        fc.nat({ max: 4_095 }),
        (count, liveRatioMin, since, mask) => {
          const names = Array.from({ length: count }, (_, n) => `t${n}`);
          const policy = policyOf({ method: "all", among: names }, names, { liveRatioMin });
          const view = (isDown: (n: number) => boolean) =>
            viewOf(
              policy,
              Object.fromEntries(
                names.flatMap((name, n) =>
                  isDown(n) ? [[name, { downSinceEpochMs: since[n], accepted: 1 }]] : [],
                ),
              ),
            );
          const down = (n: number): boolean => ((mask >> n) & 1) === 1;
          const { isLive, spared } = view(down);
          const out = names.map((_, n) => n).filter((n) => isLive[n] === 0);
          const isDown = names.map((_, n) => n).filter(down);
          expect(out.length).toBeLessThanOrEqual(count * (1 - liveRatioMin) + 1e-9);
          expect([...out, ...spared].sort((a, b) => a - b)).toEqual(isDown);
          for (const one of out)
            for (const other of spared) expect(since[one]).toBeLessThanOrEqual(since[other] as number);
          // One more goes down, later than all others.
          const next = names.findIndex((_, n) => !down(n));
          if (next === -1) return;
          since[next] = 6;
          const later = view((n) => n === next || down(n));
          for (const one of out) expect(later.isLive[one]).toBe(0);
        },
      ),
    );
  });
});

/** A plain reading: lists of names, no numbers, no sharing, addresses one by one. */
function plain(rule: PolicyRule, client: string, isUp: (name: string) => boolean): readonly string[] {
  const firstOf = (rules: readonly PolicyRule[]): readonly string[] =>
    rules.map((one) => plain(one, client, isUp)).find((some) => some.length > 0) ?? [];
  if (typeof rule === "string") return isUp(rule) ? [rule] : [];
  const address = parseAddress(client);
  if (address === undefined) throw new Error(client);
  switch (rule.method) {
    case "ranked":
      return [...new Set(rule.among.flatMap((one) => plain(one, client, isUp)))];
    case "failover":
      return firstOf(rule.among);
    case "geographic": {
      const country = countryOf(countries, address);
      const found =
        rule.cases.find((one) => one.countries.includes(country)) ??
        rule.cases.find((one) =>
          country === "DE" || country === "FR"
            ? one.continents.includes("EU")
            : country === "US" && one.continents.includes("NA"),
        );
      return firstOf(found === undefined ? [rule.otherwise] : [found.to, rule.otherwise]);
    }
    case "cidr": {
      const all = rule.cases.flatMap(({ prefixes, to }) =>
        prefixes.flatMap((text) => {
          const prefix = parsePrefix(text);
          return prefix !== undefined && prefixContains(prefix, address) ? [{ prefix, to }] : [];
        }),
      );
      all.sort((a, b) => b.prefix.prefixLength - a.prefix.prefixLength);
      return firstOf(all[0] === undefined ? [rule.otherwise] : [all[0].to, rule.otherwise]);
    }
    case "all":
    case "performance":
    case "sticky":
    case "weighted":
      throw new Error(`${rule.method} is by lot or by the map`);
  }
}

const PREFIXES = [
  "203.0.112.0/20",
  "203.0.113.0/24",
  "203.0.113.128/25",
  "198.18.0.0/16",
  "100.64.0.0/12",
  "0.0.0.0/1",
];
const rules = fc.letrec<{ rule: PolicyRule; two: readonly PolicyRule[] }>((tie) => ({
  rule: fc.oneof(
    { depthSize: "small", maxDepth: 3 },
    fc.constantFrom<PolicyRule>(...five),
    tie("two").map((among): PolicyRule => ({ method: "failover", among, liveTargetsMin: 1 })),
    tie("two").map((among): PolicyRule => ({ method: "ranked", among })),
    fc.tuple(tie("two"), tie("rule"), fc.constantFrom("DE", "FR", "US", "ZZ")).map(
      ([[one, other], otherwise, country]): PolicyRule => ({
        method: "geographic",
        cases: [
          { countries: [country], continents: [], to: one as PolicyRule },
          { countries: [], continents: ["EU"], to: other as PolicyRule },
        ],
        otherwise,
      }),
    ),
    fc.tuple(tie("two"), tie("rule"), fc.shuffledSubarray(PREFIXES, { minLength: 2 })).map(
      ([[one, other], otherwise, [first, ...rest]]): PolicyRule => ({
        method: "cidr",
        cases: [
          { prefixes: [first as string], to: one as PolicyRule },
          { prefixes: rest, to: other as PolicyRule },
        ],
        otherwise,
      }),
    ),
  ),
  two: fc.tuple(tie("rule"), tie("rule")),
}));
const clients = fc.oneof(
  fc.nat({ max: 4_095 }).map((n) => `203.0.${112 + (n >> 8)}.${n & 255}`),
  fc.nat({ max: 65_535 }).map((n) => `198.${18 + (n & 1)}.${n >> 8}.${n & 255}`),
  fc.nat({ max: 0xffff_ffff }).map((n) => formatAddress({ family: 4, words: [n] })),
);

describe("a tree of rules", () => {
  const used = (rule: PolicyRule): string[] =>
    five.filter((name) => JSON.stringify(rule).includes(`"${name}"`));

  it("means what a plain reading says, and holds for everyone within the scope", () => {
    fc.assert(
      fc.property(
        rules.rule,
        fc.nat({ max: 31 }),
        clients,
        fc.integer({ min: 0, max: 32 }),
        fc.array(fc.nat({ max: 0xffff_ffff }), { minLength: 8, maxLength: 8 }),
        (rule, mask, client, source, others) => {
          const names = used(rule);
          const policy = policyOf(rule, names);
          const down = names.filter((name) => ((mask >> five.indexOf(name)) & 1) === 1);
          const facts = factsOf(policy, down, { countries });
          const address = maskAddress(parseAddress(client) ?? { family: 4, words: [0] }, source);
          const asked = (one: typeof address) =>
            decidePolicy(policy, askedOf(formatAddress(one), 0, { sourcePrefixLength: source }), facts);
          const choice = asked(address);
          const isUp = (name: string): boolean => !down.includes(name);
          const text = formatAddress(address);
          const expected = plain(policy.document.rule, text, isUp);
          expect(namesOf(policy, choice)).toEqual(
            expected.length > 0 ? expected : plain(policy.document.rule, text, () => true),
          );
          const scope = choice.scopePrefixLength;
          expect(scope).toBeLessThanOrEqual(source);
          for (const noise of others) {
            const inside =
              scope === 0
                ? noise
                : ((address.words[0] as number) & ~(2 ** (32 - scope) - 1)) |
                  (noise & (2 ** (32 - scope) - 1));
            const other = maskAddress({ family: 4, words: [inside >>> 0] }, source);
            expect(asked(other).addresses).toEqual(choice.addresses);
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  it("never goes to a worse group when more lives", () => {
    const policy = policyOf({ method: "failover", among: five }, five);
    fc.assert(
      fc.property(fc.nat({ max: 31 }), fc.nat({ max: 31 }), (one, more) => {
        const place = (mask: number): number => {
          const [first = ""] = chosen(
            policy,
            five.filter((_, n) => ((mask >> n) & 1) === 0),
          );
          return five.indexOf(first);
        };
        const both = one | more;
        if (one !== 0) expect(place(both)).toBeLessThanOrEqual(place(one));
        if (one === 0 && both !== 0) expect((both >> place(both)) & 1).toBe(1);
      }),
    );
  });

  it("gives health, weight and geography together", () => {
    const policy = policyOf(
      {
        method: "geographic",
        cases: [
          {
            continents: ["EU"],
            to: {
              method: "weighted",
              among: [
                { to: "a", weight: 3 },
                { to: "b", weight: 1 },
              ],
            },
          },
        ],
        otherwise: { method: "failover", among: ["c", "d", "e"] },
      },
      five,
    );
    const facts = { countries };
    let first = 0;
    for (let n = 0; n < 4_000; n++)
      if (chosen(policy, [], askedOf("203.0.113.5", draw(n)), facts)[0] === "a") first++;
    expect(Math.abs(first - 3_000)).toBeLessThan(4 * Math.sqrt(4_000 * 0.75 * 0.25));
    expect(chosen(policy, ["a"], askedOf("203.0.113.5"), facts)).toEqual(["b"]);
    // Europe has nobody left.
    expect(chosen(policy, ["a", "b", "c"], askedOf("203.0.113.5"), facts)).toEqual(["d"]);
    expect(chosen(policy, [], askedOf("198.18.0.1"), facts)).toEqual(["c"]);
    // Without a table of countries nobody is anywhere.
    expect(chosen(policy, [], askedOf("203.0.113.5"))).toEqual(["c"]);
  });

  it("looks at no more of the table of countries for many rules than for one", () => {
    const rule = { method: "geographic", cases: [{ countries: ["DE"], to: "a" }], otherwise: "b" };
    const runs = (count: number): number => {
      let sum = 0;
      const counted: CountryTable = Object.create(countries, {
        lookupScope: {
          value: (...args: Parameters<CountryTable["lookupScope"]>) => {
            sum += args[2] ?? Number.POSITIVE_INFINITY;
            return countries.lookupScope(...args);
          },
        },
      }) as CountryTable;
      const policy = policyOf({ method: "ranked", among: Array.from({ length: count }, () => rule) }, [
        "a",
        "b",
      ]);
      expect(chosen(policy, [], askedOf(), { countries: counted })).toEqual(["a"]);
      return sum;
    };
    expect(runs(1)).toBe(4_096);
    expect(runs(63)).toBeLessThanOrEqual(4_096);
    expect(runs(63)).toBeGreaterThan(4_000);
  });

  it("waits with a group until enough of it live, and takes what there is when none has", () => {
    const policy = policyOf(
      {
        method: "failover",
        liveTargetsMin: 2,
        among: [
          { method: "all", among: ["a", "b", "c"] },
          { method: "all", among: ["d", "e"] },
        ],
      },
      five,
    );
    expect(new Set(chosen(policy, ["a"]))).toEqual(new Set(["b", "c"]));
    expect(new Set(chosen(policy, ["a", "b"]))).toEqual(new Set(["d", "e"]));
    expect(chosen(policy, ["a", "b", "d"])).toEqual(["c"]);
  });
});
