import { describe, expect, test } from "vitest";
import { type ClientNetworkId, Random } from "#kit";
import { diffNetworks, type NamedNetwork, nameNetworks, type NetworkSets, networkRecords } from "#mapping";
import { cut, demandOf, type Route } from "./fixtures.ts";

const named = (sets: NetworkSets, before: readonly NamedNetwork[]) => [
  ...networkRecords(sets, nameNetworks(sets, before, null)),
];
const id = (text: string) => text as ClientNetworkId;

describe("names", () => {
  const one = { clientNetworkId: id("old"), prefixes: ["10.0.0.0/22"] };

  test("new ones are of the lowest prefix, the same in every run and fit an id", () => {
    const sets = cut({
      routes: [
        ["10.0.0.0/24", [1, 7]],
        ["10.0.1.0/24", [1, 8]],
        ["2001:db8::/32", [9]],
      ],
    });
    const names = nameNetworks(sets, [], null);
    expect(names).toEqual(nameNetworks(sets, [], null));
    expect(new Set(names).size).toBe(3);
    for (const name of names) expect(name).toMatch(/^n[0-9a-z]{8,13}$/);
  });

  test("a set that grew keeps its name, so does the one that it was merged with if it brings more", () => {
    const grown = cut({ routes: [["10.0.0.0/20", [1, 7]]] });
    expect(nameNetworks(grown, [one], null)).toEqual(["old"]);
    const more = { clientNetworkId: id("more"), prefixes: ["10.0.8.0/21"] };
    expect(nameNetworks(grown, [one, more], null)).toEqual(["more"]);
    const demand = demandOf({ "10.0.0.0/22": 50, "10.0.8.0/21": 2 });
    expect(nameNetworks(cut({ routes: [["10.0.0.0/20", [1, 7]]], demand }), [one, more], demand)).toEqual([
      "old",
    ]);
  });

  test("of a set that was split the part with the most demand keeps the name, however small it is", () => {
    const routes: Route[] = [
      ["10.0.0.0/22", [1, 7]],
      ["10.0.3.0/24", [1, 8]],
    ];
    expect(nameNetworks(cut({ routes }), [one], null)[0]).toBe("old");
    const demand = demandOf({ "10.0.0.0/22": 1, "10.0.3.0/24": 90 });
    const [rest, part] = nameNetworks(cut({ routes, demand }), [one], demand);
    expect(part).toBe("old");
    expect(rest).not.toBe("old");
  });

  test("a name that was in use goes to nobody else, though the same prefix would ask for it", () => {
    const sets = cut({ routes: [["10.0.0.0/24", [1, 7]]] });
    const [own] = nameNetworks(sets, [], null);
    const [other] = nameNetworks(
      sets,
      [{ clientNetworkId: own as ClientNetworkId, prefixes: ["10.9.0.0/16"] }],
      null,
    );
    expect(other).not.toBe(own);
  });
});

/** 1,200 prefixes of 200 origins with a few paths each; `day` withdraws some, announces others and changes some paths. */
function table(day: 0 | 1): Route[] {
  const random = new Random(7);
  return Array.from({ length: 1_200 }, (_, n): (readonly [Route, number])[] => {
    const origin = 1 + Math.floor(200 * random.float() ** 2);
    const path = [10 + Math.floor(3 * random.float()), origin];
    const size = 18 + Math.floor(7 * random.float());
    const fate = random.float();
    const announced: Route = [`${10 + (n >> 6)}.${(n & 63) * 4}.0.0/${size}`, path];
    const moved: Route = [announced[0], [99, origin]];
    return [[day === 1 && fate < 0.02 ? moved : announced, fate]];
  })
    .flat()
    .filter(([, fate]) => (day === 0 ? fate < 0.97 : fate > 0.05 || fate < 0.02))
    .map(([route]) => route);
}

test("over two tables, 3 % withdrawn, 3 % new and 2 % over other paths, nine names of ten stay with what they stood for", () => {
  const yesterday = named(cut({ routes: table(0) }), []);
  const today = named(cut({ routes: table(1).reverse() }), yesterday);
  const found = diffNetworks(yesterday, today);
  const { common, sameName } = found.cells[4];
  expect(yesterday.length).toBeGreaterThan(300);
  expect(found.added.length).toBeGreaterThan(10);
  expect(found.kept / yesterday.length).toBeGreaterThan(0.9);
  expect(sameName / common).toBeGreaterThan(0.95);
  expect(found.kept + found.gone.length).toBe(yesterday.length);
  expect(found.kept + found.added.length).toBe(today.length);
  // Without the names of yesterday many would be called otherwise.
  const anew = diffNetworks(yesterday, named(cut({ routes: table(1) }), []));
  expect(anew.cells[4].sameName).toBeLessThan(sameName);
});

test("a difference tells kept, gone, added and unchanged names, and how much space has the same one", () => {
  const of = (...some: [string, ...string[]][]): NamedNetwork[] =>
    some.map(([name, ...prefixes]) => ({ clientNetworkId: id(name), prefixes }));
  const before = of(
    ["a", "10.0.0.0/23"],
    ["b", "10.0.2.0/23"],
    ["c", "10.1.0.0/16"],
    ["v6", "2001:db8::/47"],
  );
  const after = of(
    ["a", "10.0.0.0/24"],
    ["b", "10.0.2.0/23", "10.0.1.0/24"],
    ["v6", "2001:db8::/47"],
    ["d", "10.2.0.0/16"],
  );
  expect(diffNetworks(before, after)).toEqual({
    kept: 3,
    gone: ["c"],
    added: ["d"],
    unchanged: 1,
    cells: { 4: { common: 4, sameName: 3 }, 6: { common: 2, sameName: 2 } },
  });
});
