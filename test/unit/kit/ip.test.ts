import { describe, expect, it } from "vitest";
import type { IpAddress } from "../../../kit/ip.ts";
import {
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

function address(text: string): IpAddress {
  const parsed = parseAddress(text);
  if (!parsed) throw new Error(`not an address: ${text}`);
  return parsed;
}

describe("parseAddress and formatAddress", () => {
  it.each([
    ["0.0.0.0", "0.0.0.0"],
    ["255.255.255.255", "255.255.255.255"],
    ["192.0.2.1", "192.0.2.1"],
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
    ["2001:0db8::0001", "2001:db8::1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"], // RFC 5952, 4.2.2: one group is not shortened
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"], // 4.2.3: the longest run
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"], // 4.2.3: the first of equals
    ["::ffff:192.0.2.1", "::ffff:192.0.2.1"], // 5
    ["::FFFF:c000:201", "::ffff:192.0.2.1"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
    ["1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
    ["ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
    ["0:0:0:0:0:0:0:0", "::"],
    ["1:0:0:0:0:0:0:0", "1::"],
  ])("%s is %s", (text, canonical) => {
    const parsed = address(text);
    expect(formatAddress(parsed)).toBe(canonical);
    expect(parsed.family).toBe(text.includes(":") ? 6 : 4);
    expect(parseAddress(canonical)).toEqual(parsed);
  });

  it.each(
    [
      ["", " ", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.00", "1.2.3.", ".1.2.3", "1..2.3"],
      ["1.2.3.4 ", "+1.2.3.4", "0x1.2.3.4", "1e0.2.3.4", "१.2.3.4", "1.2.3.4/24", "127.1", "2130706433"],
      [":", ":::", "::1::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4::5:6:7:8", "::12345"],
      [
        "::g",
        "::1%eth0",
        "[::1]",
        "1.2.3.4::",
        "::1.2.3",
        "::01.2.3.4",
        "::1.2.3.4:5",
        ":1:2:3:4:5:6:7",
        "1:",
      ],
      ["1:2:3:4:5:6:7:1.2.3.4", "1:2:3:4:5:6:7:", `::${"0".repeat(60)}`],
    ].flat(),
  )("refuses %j", (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });
});

describe("prefixes", () => {
  it.each([
    ["0.0.0.0/0", "0.0.0.0/0"],
    ["10.0.0.0/8", "10.0.0.0/8"],
    ["192.0.2.1", "192.0.2.1/32"],
    ["::/0", "::/0"],
    ["2001:db8::/33", "2001:db8::/33"],
    ["2001:db8:8000::/33", "2001:db8:8000::/33"],
    ["::1", "::1/128"],
  ])("%s is %s", (text, canonical) => {
    const prefix = parsePrefix(text);
    expect(prefix && formatPrefix(prefix)).toBe(canonical);
  });

  it.each(
    [
      [
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/08",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "10.0.0.0/ 8",
        "/8",
      ],
      ["10/8", "2001:db8::1/64", "::/129", "::/1000", "2001:db8:8000::/32", "10.0.0.0/8.0", "10.0.0.0/1e1"],
    ].flat(),
  )("refuses %j", (text) => {
    expect(parsePrefix(text)).toBeUndefined();
  });

  it("contains its first and last address and nothing beside", () => {
    const prefix = parsePrefix("10.128.0.0/9");
    if (!prefix) throw new Error("prefix");
    for (const [text, inside] of [
      ["10.127.255.255", false],
      ["10.128.0.0", true],
      ["10.255.255.255", true],
      ["11.0.0.0", false],
      ["::ffff:10.128.0.0", false],
    ] as const)
      expect(prefixContains(prefix, address(text)), text).toBe(inside);
  });

  it("masks at every kind of boundary", () => {
    const all = address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    for (const [length, text] of [
      [0, "::"],
      [1, "8000::"],
      [32, "ffff:ffff::"],
      [33, "ffff:ffff:8000::"],
      [64, "ffff:ffff:ffff:ffff::"],
      [127, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"],
      [128, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
    ] as const)
      expect(formatAddress(maskAddress(all, length))).toBe(text);
    expect(() => maskAddress(all, 129)).toThrow(/0\.\.128/);
    expect(() => maskAddress(address("1.2.3.4"), 33)).toThrow(/0\.\.32/);
    expect(() => maskAddress(all, 1.5)).toThrow(RangeError);
  });
});

describe("bytes", () => {
  it("fills up short arrays, as ECS sends them (RFC 7871, 6)", () => {
    expect(formatAddress(addressFromBytes(4, Uint8Array.of(198, 51, 100)))).toBe("198.51.100.0");
    expect(formatAddress(addressFromBytes(4, new Uint8Array()))).toBe("0.0.0.0");
    expect(formatAddress(addressFromBytes(6, Uint8Array.of(0x20, 1, 0xd, 0xb8, 0xff)))).toBe(
      "2001:db8:ff00::",
    );
  });

  it("refuses too many", () => {
    expect(() => addressFromBytes(4, new Uint8Array(5))).toThrow(/at most 4 bytes, got 5/);
    expect(() => addressFromBytes(6, new Uint8Array(17))).toThrow(/at most 16 bytes, got 17/);
  });

  it("come back as they were", () => {
    expect([...addressToBytes(address("255.0.128.1"))]).toEqual([255, 0, 128, 1]);
    expect(addressToBytes(address("::1"))).toHaveLength(16);
  });

  it("orders IPv4 before IPv6, then by value, unsigned", () => {
    const sorted = ["0.0.0.0", "127.255.255.255", "128.0.0.0", "::", "::ffff:1.2.3.4", "8000::", "ffff::"];
    const shuffled = [5, 0, 3, 6, 1, 4, 2].map((index) => address(sorted[index] as string));
    expect(shuffled.sort(compareAddresses).map(formatAddress)).toEqual(sorted);
  });
});
