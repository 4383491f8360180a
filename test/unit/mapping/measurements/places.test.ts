import { describe, expect, test } from "vitest";
import { type IpAddress, parseAddress } from "#kit";
import { autonomousSystemOf, MmdbReader, placeOf, RangeCsvReader } from "#mapping";
import { encode, mmdbFile, pointer } from "../../../tools/mmdb-file.ts";

const at = (text: string): IpAddress => parseAddress(text) as IpAddress;
const feed = <T>(reader: RangeCsvReader<T>, ...lines: readonly string[]): RangeCsvReader<T> => {
  reader.read(new TextEncoder().encode(lines.join("\n")));
  reader.end();
  return reader;
};

describe("CSV tables of ranges", () => {
  test("autonomous systems, with quoted names, both families in one table", () => {
    const { table, tally } = feed(
      RangeCsvReader.ofAutonomousSystems(),
      '1.0.0.0,1.0.0.255,13335,"Cloudflare, Inc."',
      '1.0.1.0,1.0.1.255,13335,"Cloudflare, Inc."',
      '1.0.4.0,1.0.7.255,38803,"The ""Best"" Pty"',
      "2001::,2001:0:ffff:ffff:ffff:ffff:ffff:ffff,6939,",
    );
    expect(tally.summary()).toEqual({ taken: 4, skipped: {}, examples: [] });
    expect([table.size, table.valueCount]).toEqual([4, 3]);
    expect(table.lookup(at("1.0.0.255"))).toEqual({ asNumber: 13335, organisation: "Cloudflare, Inc." });
    expect(table.lookup(at("1.0.6.0"))?.organisation).toBe('The "Best" Pty');
    expect(table.lookup(at("2001::9"))).toEqual({ asNumber: 6939, organisation: null });
    for (const outside of ["0.255.255.255", "1.0.2.0", "1.0.8.0", "2001:1::", "::"])
      expect(table.lookup(at(outside))).toBeUndefined();
  });

  test("countries and cities; decimal numbers where the family is told", () => {
    const cities = feed(
      RangeCsvReader.ofPlaces(),
      "1.0.0.0,1.0.0.255,AU,Queensland,,South Brisbane,,-27.4767,153.017,",
      "1.0.1.0,1.0.1.255,,,,,,,,",
    ).table;
    expect(cities.lookup(at("1.0.0.9"))).toEqual({
      country: "AU",
      city: "South Brisbane",
      coordinates: { latitude: -27.4767, longitude: 153.017 },
    });
    expect(cities.lookup(at("1.0.1.9"))).toEqual({ country: null, city: null, coordinates: null });
    const ipv4 = feed(RangeCsvReader.ofPlaces(4), "16777216,16777471,AU").table;
    expect(ipv4.lookup(at("1.0.0.77"))?.country).toBe("AU");
    const ipv6 = feed(
      RangeCsvReader.ofPlaces(6),
      "42540488161975842760550356425300246528,42540488241204005274814694018844196863,US",
    ).table;
    expect(ipv6.lookup(at("2001::ffff"))?.country).toBe("US");
    expect(ipv6.lookup(at("2001:1::"))).toBeUndefined();
  });

  test.each([
    ["1.0.0.0,1.0.0.255,x", "malformed", 'the third field: got "x", expected an AS number'],
    ["1.0.0.0,1.0.0.255,4294967296,y", "malformed", "expected an AS number"],
    ["1.0.0.0,2001::,1,y", "malformed", "expected two addresses of one family"],
    ["16777216,16777471,1,y", "malformed", "expected two addresses"],
    ['1.0.0.0,1.0.0.255,1,"y', "malformed", "a quoted field that does not end"],
    ["1.0.0.255,1.0.0.0,1,y", "backwards", "the first address is behind the last one"],
    ["0.0.0.9,0.0.0.20,1,y", "out-of-order", "begins within or before the range of the line above"],
    [`1.0.0.0,1.0.0.255,1,${"y".repeat(5_000)}`, "too-long", "more than 4096 characters"],
  ])("skips %s", (line, reason, why) => {
    const { table, tally } = feed(
      RangeCsvReader.ofAutonomousSystems(),
      "0.0.0.1,0.0.0.10,1,a",
      line,
      "9.0.0.0,9.0.0.1,2,b",
    );
    expect(tally.summary()).toMatchObject({ taken: 2, skipped: { [reason]: 1 } });
    expect(tally.summary().examples[0]).toMatchObject({ where: "line 2", why: expect.stringContaining(why) });
    expect(table.lookup(at("9.0.0.1"))?.asNumber).toBe(2);
  });

  test.each([
    ["1.0.0.0,1.0.0.255,Australia", "expected a country of two capital letters"],
    ["1.0.0.0,1.0.0.255,AU,,,,,91,0,", "expected degrees of latitude and longitude"],
    ["1.0.0.0,1.0.0.255,AU,,,,,1,,", "expected degrees"],
  ])("skips a place that is none: %s", (line, why) => {
    expect(feed(RangeCsvReader.ofPlaces(), line).tally.summary()).toMatchObject({
      taken: 0,
      examples: [{ reason: "malformed", why: expect.stringContaining(why) }],
    });
  });
});

const city = encode({
  country: { iso_code: "SE" },
  city: { names: { de: "Linköping", en: "Linköping" } },
  location: { latitude: 58.4167, longitude: 15.6167 },
});
const flat = encode({
  country_code: "AU",
  city: "Sydney",
  latitude: -33.5,
  longitude: 151,
  flag: true,
  list: [1, "x"],
});
const asn = encode({ autonomous_system_number: 4200000001, autonomous_system_organization: "x".repeat(300) });
const data = [...city, ...flat, ...asn, ...pointer(city.length)];
const offsets = [0, city.length, city.length + flat.length, city.length + flat.length + asn.length] as const;

describe("the MaxMind DB format", () => {
  test.each([24, 28, 32] as const)("records of %i bits, IPv4 within IPv6, pointers", (recordBits) => {
    const networks = [
      ["192.0.2.0/24", offsets[0]],
      ["198.51.100.0/25", offsets[3]],
      ["2001:db8::/32", offsets[2]],
    ] as const;
    const reader = new MmdbReader(mmdbFile({ ipVersion: 6, recordBits, networks, data }));
    expect(reader.metadata).toMatchObject({ databaseType: "Test", ipVersion: 6, recordBits });
    const found = reader.lookup(at("192.0.2.200"));
    expect(found?.prefixLength).toBe(24);
    expect(placeOf(found!.value)).toEqual({
      country: "SE",
      city: "Linköping",
      coordinates: { latitude: 58.4167, longitude: 15.6167 },
    });
    expect(placeOf(reader.lookup(at("198.51.100.1"))!.value)).toEqual({
      country: "AU",
      city: "Sydney",
      coordinates: { latitude: -33.5, longitude: 151 },
    });
    const as = autonomousSystemOf(reader.lookup(at("2001:db8:ffff::"))!.value);
    expect([as?.asNumber, as?.organisation?.length]).toEqual([4200000001, 200]);
    for (const outside of ["192.0.3.0", "198.51.100.128", "2001:db9::"])
      expect(reader.lookup(at(outside))).toBeUndefined();
  });

  test("a tree of IPv4 knows no IPv6", () => {
    const reader = new MmdbReader(
      mmdbFile({ ipVersion: 4, recordBits: 24, networks: [["0.0.0.0/1", offsets[1]]], data }),
    );
    expect(reader.lookup(at("127.0.0.1"))?.value).toMatchObject({ list: [1, "x"], flag: true });
    expect([reader.lookup(at("128.0.0.0")), reader.lookup(at("::1"))]).toEqual([undefined, undefined]);
  });

  const one = { ipVersion: 4, recordBits: 24, networks: [["0.0.0.0/1", 0]] } as const;
  test.each([
    ["no marker", new Uint8Array(100), "expected a MaxMind DB"],
    [
      "another format",
      mmdbFile({ ...one, data, metadata: { binary_format_major_version: 3 } }),
      "got 3, expected 2",
    ],
    [
      "a width of no record",
      mmdbFile({ ...one, data, metadata: { record_size: 25 } }),
      "expected 24, 28 or 32",
    ],
    [
      "more nodes than bytes",
      mmdbFile({ ...one, data, metadata: { node_count: 4_000_000_000 } }),
      "a search tree that fits",
    ],
    [
      "no count of nodes",
      mmdbFile({ ...one, data, metadata: { node_count: "1" } }),
      'got "1", expected a whole number',
    ],
  ])("refuses a file with %s", (_, file, message) => {
    expect(() => new MmdbReader(file)).toThrow(message);
  });

  test.each([
    ["a pointer to a pointer", [...pointer(5), ...pointer(0)], "a pointer to a pointer"],
    ["a list within itself", [0x01, 0x04, ...pointer(0)], "more than 32 levels"],
    [
      "many lists within themselves",
      [0x04, 0x04, ...pointer(0), ...pointer(0), ...pointer(0), ...pointer(0)],
      "more than 32 levels",
    ],
    [
      "a million values",
      [0x1f, 0x04, 0x0f, 0, 0, ...Array<number>(5_000).fill(0x40)],
      "more than 4096 values",
    ],
    ["a text that is cut", [0x45, 65], "5 bytes"],
    ["a number of 9 bytes", [0xa9, 1, 2, 3, 4, 5, 6, 7, 8, 9], "9 bytes"],
    ["a key that is no text", [0xe1, 0xa1, 1, 0xa1, 1], "a key that is no text"],
    ["a type that is not used", [0x00, 0x06], "a value of type 13"],
    ["nothing", [], "1 bytes"],
  ])("a look-up that meets %s is refused", (_, broken, message) => {
    const reader = new MmdbReader(mmdbFile({ ...one, data: broken }));
    expect(() => reader.lookup(at("1.2.3.4"))).toThrow(message);
  });
});
