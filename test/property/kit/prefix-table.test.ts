import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { IpAddress, IpFamily, IpPrefix } from "../../../kit/ip.ts";
import {
  addressBits,
  addressFromBytes,
  addressToBytes,
  compareAddresses,
  formatAddress,
  formatPrefix,
  maskAddress,
  parseAddress,
  parsePrefix,
  prefixContains,
} from "../../../kit/ip.ts";
import { PrefixTable } from "../../../kit/prefix-table.ts";
import { Random } from "../../../kit/random.ts";

/** Words that make prefixes nest, touch and reach the ends of the family often. */
const word = fc.oneof(
  fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff, 0x0a00_0000, 0x0a00_8000),
  fc.nat({ max: 0xffff_ffff }),
);
const addressOf = (family: IpFamily): fc.Arbitrary<IpAddress> =>
  fc
    .array(word, { minLength: family === 4 ? 1 : 4, maxLength: family === 4 ? 1 : 4 })
    .map((words) => ({ family, words }));
const prefixOf = (family: IpFamily): fc.Arbitrary<IpPrefix> =>
  fc
    .tuple(
      addressOf(family),
      fc.oneof(fc.nat({ max: 5 }), fc.nat({ max: addressBits(family) }), fc.constant(addressBits(family))),
    )
    .map(([address, prefixLength]) => ({ address: maskAddress(address, prefixLength), prefixLength }));
const family = fc.constantFrom<IpFamily[]>(4, 6);
/** Few values, so that neighbours are often the same. */
const entriesOf = (ofFamily: IpFamily, valueMax = 2) =>
  fc.uniqueArray(fc.tuple(prefixOf(ofFamily), fc.nat({ max: valueMax })), {
    maxLength: 25,
    selector: ([prefix]) => formatPrefix(prefix),
  });

type Entries = readonly (readonly [IpPrefix, number])[];

function bruteLookup(entries: Entries, address: IpAddress) {
  let best: readonly [IpPrefix, number] | undefined;
  for (const entry of entries)
    if (prefixContains(entry[0], address) && (!best || entry[0].prefixLength > best[0].prefixLength))
      best = entry;
  return best && { prefix: best[0], value: best[1] };
}

/** The first address after the last of `prefix`, or undefined at the end of the family; by bytes, not by words. */
function addressAfter(prefix: IpPrefix): IpAddress | undefined {
  const bytes = addressToBytes(prefix.address);
  let carry = prefix.prefixLength === 0 ? 0 : 2 ** (7 - ((prefix.prefixLength - 1) & 7));
  for (let index = (prefix.prefixLength - 1) >> 3; index >= 0; index--) {
    const sum = (bytes[index] as number) + carry;
    bytes[index] = sum & 255;
    if (sum < 256) return addressFromBytes(prefix.address.family, bytes);
    carry = 1;
  }
  return undefined;
}

/** Values change only where a prefix begins or right after one ends: looking there looks everywhere. */
function bruteScope(entries: Entries, address: IpAddress, same: (a?: number, b?: number) => boolean): number {
  const value = bruteLookup(entries, address)?.value;
  const points = entries.flatMap(([prefix]) => [prefix.address, addressAfter(prefix)]);
  for (let prefixLength = 0; prefixLength <= addressBits(address.family); prefixLength++) {
    const block = { address: maskAddress(address, prefixLength), prefixLength };
    const inside = points.filter((point) => point !== undefined && prefixContains(block, point));
    if (
      [block.address, ...inside].every((point) => !point || same(value, bruteLookup(entries, point)?.value))
    )
      return prefixLength;
  }
  throw new Error("unreachable: the full length holds one address");
}

describe("PrefixTable equals brute force", () => {
  const scenario = family.chain((of) => {
    return fc.tuple(entriesOf(of), fc.array(addressOf(of), { minLength: 1, maxLength: 10 }));
  });

  it("lookup", () => {
    let found = 0;
    let nested = 0;
    fc.assert(
      fc.property(scenario, ([entries, addresses]) => {
        const table = new PrefixTable(entries);
        expect(table.size).toBe(entries.length);
        const probes = [...addresses, ...entries.map(([prefix]) => prefix.address)];
        for (const [prefix] of entries) {
          const after = addressAfter(prefix);
          if (after) probes.push(after);
        }
        for (const address of probes) {
          const expected = bruteLookup(entries, address);
          expect(table.lookup(address)).toEqual(expected);
          if (expected) found++;
          if (entries.filter(([prefix]) => prefixContains(prefix, address)).length > 1) nested++;
        }
      }),
      { numRuns: 1000 },
    );
    expect(found).toBeGreaterThan(1000);
    expect(nested).toBeGreaterThan(500);
  });

  it.each([
    ["identity", (a?: number, b?: number) => a === b],
    ["parity, none being odd", (a?: number, b?: number) => (a ?? 1) % 2 === (b ?? 1) % 2],
  ])("lookupScope by %s", (_name, same) => {
    const seen = new Set<number>();
    fc.assert(
      fc.property(scenario, ([entries, addresses]) => {
        const table = new PrefixTable(entries);
        for (const address of [...addresses, ...entries.map(([prefix]) => prefix.address)]) {
          const scope = table.lookupScope(address, same);
          expect(scope.value).toBe(bruteLookup(entries, address)?.value);
          expect(scope.scopePrefixLength).toBe(bruteScope(entries, address, same));
          seen.add(scope.scopePrefixLength);
        }
      }),
      { numRuns: 1000 },
    );
    expect(seen.size).toBeGreaterThan(60);
    expect(seen.has(0)).toBe(true);
    expect(seen.has(128)).toBe(true);
  });

  it("with so many IPv4 prefixes that the first 16 bits are indexed", () => {
    const random = new Random("indexed");
    const entries = new Map<string, readonly [IpPrefix, number]>();
    while (entries.size < 3000) {
      const prefixLength = 4 + random.int(29);
      // A quarter of them in one /16, where the index does not help.
      const first = random.chance(0.25) ? 0x0a01_0000 + random.int(0x1_0000) : random.int(2 ** 32);
      const prefix = { address: maskAddress({ family: 4, words: [first] }, prefixLength), prefixLength };
      entries.set(formatPrefix(prefix), [prefix, random.int(50)]);
    }
    // Ranges that begin right at, and right after, the first address of an index element.
    for (let high = 0; high < 0x1_0000; high += 97) {
      const prefix = { address: { family: 4 as const, words: [high * 0x1_0000] }, prefixLength: 32 };
      entries.set(formatPrefix(prefix), [prefix, 50]);
    }
    const list = [...entries.values()];
    const table = new PrefixTable(list);
    for (let n = 0; n < 1000; n++) {
      const near = random.pick(list)[0].address.words[0] as number;
      const value = random.chance(0.5) ? random.int(2 ** 32) : Math.max(0, near + random.int(3) - 1);
      const address: IpAddress = { family: 4, words: [value] };
      expect(table.lookup(address)).toEqual(bruteLookup(list, address));
    }
  });

  it("keeps the families apart, and an empty family has scope 0", () => {
    const of = (text: string): IpAddress => parseAddress(text) as IpAddress;
    const table = new PrefixTable([[parsePrefix("0.0.0.0/0") as IpPrefix, "v4"]]);
    expect(table.lookup(of("255.255.255.255"))?.value).toBe("v4");
    expect(table.lookup(of("::"))).toBeUndefined();
    expect(table.lookupScope(of("::1"), Object.is)).toEqual({ value: undefined, scopePrefixLength: 0 });
    expect(table.lookupScope(of("1.2.3.4"), Object.is)).toEqual({ value: "v4", scopePrefixLength: 0 });
  });

  it("refuses duplicates", () => {
    const prefix = parsePrefix("2001:db8::/32") as IpPrefix;
    expect(
      () =>
        new PrefixTable([
          [prefix, 1],
          [prefix, 2],
        ]),
    ).toThrow(/2001:db8::\/32 occurs more than once/);
  });
});

describe("addresses", () => {
  it("text and bytes come back as they were, and the text is canonical", () => {
    fc.assert(
      fc.property(family.chain(addressOf), (address) => {
        const text = formatAddress(address);
        expect(parseAddress(text)).toEqual(address);
        expect(text).toBe(text.toLowerCase());
        expect(addressFromBytes(address.family, addressToBytes(address))).toEqual(address);
      }),
      { numRuns: 2000 },
    );
  });

  it("a prefix contains exactly the addresses that mask to its own", () => {
    fc.assert(
      fc.property(
        family.chain((of) => fc.tuple(prefixOf(of), addressOf(of))),
        ([prefix, address]) => {
          const masked = maskAddress(address, prefix.prefixLength);
          expect(prefixContains(prefix, address)).toBe(compareAddresses(masked, prefix.address) === 0);
          expect(prefixContains({ address: masked, prefixLength: prefix.prefixLength }, address)).toBe(true);
        },
      ),
    );
  });

  it("no text makes the parsers throw", () => {
    const nearly = fc.array(
      fc.constantFrom("0", "1", "255", "f", "ffff", ":", "::", ".", "/", "8", "128", "%", " "),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          nearly.map((parts) => parts.join("")),
        ),
        (text) => {
          const address = parseAddress(text);
          if (address) expect(parseAddress(formatAddress(address))).toEqual(address);
          const prefix = parsePrefix(text);
          if (prefix) expect(parsePrefix(formatPrefix(prefix))).toEqual(prefix);
        },
      ),
      { numRuns: 5000 },
    );
  });
});
