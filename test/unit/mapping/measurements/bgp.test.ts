import { createReadStream } from "node:fs";
import { createGunzip } from "node:zlib";
import { describe, expect, test } from "vitest";
import { formatPrefix } from "#kit";
import { type BgpRoute, BgpTextReader, type BgpWithdrawal, MrtReader, type ReadSummary } from "#mapping";
import { dataFile } from "../../../tools/data-file.ts";
import {
  asPathAttribute,
  mrtRecord,
  peerTable,
  ribRecord,
  u16,
  u32,
  updateRecord,
} from "../../../tools/mrt-records.ts";

interface Taken {
  readonly routes: BgpRoute[];
  readonly withdrawals: BgpWithdrawal[];
  readonly summary: ReadSummary;
}

function readAll(Reader: typeof MrtReader | typeof BgpTextReader, bytes: Uint8Array, size = 1e6): Taken {
  const routes: BgpRoute[] = [];
  const withdrawals: BgpWithdrawal[] = [];
  const reader = new Reader({
    route: (one) => routes.push(one),
    withdrawal: (one) => withdrawals.push(one),
  });
  for (let at = 0; at < bytes.length; at += size) reader.read(bytes.subarray(at, at + size));
  reader.end();
  return { routes, withdrawals, summary: reader.tally.summary() };
}
const mrt = (...records: readonly number[][]): Taken => readAll(MrtReader, Uint8Array.from(records.flat()));
const text = (...lines: readonly string[]): Taken =>
  readAll(BgpTextReader, new TextEncoder().encode(lines.join("\n")));
const shown = ({ prefix, asPath, originAs, peerAs, pathId }: BgpRoute) => [
  formatPrefix(prefix),
  asPath,
  originAs,
  peerAs,
  pathId,
];

const path = asPathAttribute([[2, 64500, 64510, 64510]], 4);
const ORIGIN_IGP = [0x40, 1, 1, 0];

describe("MRT", () => {
  test("a table of IPv4 and IPv6 routes by peer, in chunks of any size", () => {
    const bytes = Uint8Array.from([
      ...peerTable,
      ...ribRecord(
        2,
        [20, 198, 51, 0x7f],
        [
          { peer: 0, attributes: [...ORIGIN_IGP, ...path] },
          {
            peer: 1,
            attributes: asPathAttribute(
              [
                [2, 4200000001],
                [1, 1, 2],
              ],
              4,
            ),
          },
        ],
      ),
      ...ribRecord(
        4,
        [32, 0x20, 0x01, 0x0d, 0xb8],
        [
          {
            peer: 1,
            attributes: asPathAttribute(
              [
                [3, 65000],
                [2, 7],
              ],
              4,
            ),
          },
        ],
      ),
    ]);
    for (const size of [1, 5, 13, 1_000]) {
      const { routes, summary } = readAll(MrtReader, bytes, size);
      expect(summary).toEqual({ taken: 3, skipped: {}, examples: [] });
      expect(routes.map(shown)).toEqual([
        // Bits behind the prefix are irrelevant (RFC 4271 section 4.3).
        ["198.51.112.0/20", [64500, 64510, 64510], [64510], 64500, null],
        ["198.51.112.0/20", [4200000001], [1, 2], 4200000001, null],
        ["2001:db8::/32", [7], [7], 4200000001, null],
      ]);
      expect(routes[1]).toMatchObject({ peerAddress: "2001:db8::1", at: 1_700_000_000_000 });
    }
  });

  test("add-path (RFC 8050): each route with its identifier", () => {
    const entries = [1, 2].map((pathId) => ({ peer: 0, attributes: path, pathId }));
    const { routes } = mrt(peerTable, ribRecord(8, [8, 10], entries), ribRecord(10, [0], entries));
    expect(routes.map((one) => [formatPrefix(one.prefix), one.pathId])).toEqual([
      ["10.0.0.0/8", 1],
      ["10.0.0.0/8", 2],
      ["::/0", 1],
      ["::/0", 2],
    ]);
  });

  test("TABLE_DUMP, whose narrow path is completed by AS4_PATH (RFC 6793 section 4.2.3)", () => {
    const attributes = [
      ...asPathAttribute([[2, 64500, 23456, 23456]], 2),
      ...asPathAttribute([[2, 200000, 200001]], 4, 17),
    ];
    const tooLong = [...asPathAttribute([[2, 64500]], 2), ...asPathAttribute([[2, 1, 200000]], 4, 17)];
    const record = (value: readonly number[]) =>
      mrtRecord(12, 1, [
        0,
        0,
        0,
        1,
        203,
        0,
        113,
        0,
        24,
        1,
        ...u32(0),
        192,
        0,
        2,
        1,
        ...u16(64500),
        ...u16(value.length),
        ...value,
      ]);
    const { routes } = mrt(record(attributes), record(tooLong));
    expect(routes.map((one) => one.asPath)).toEqual([[64500, 200000, 200001], [64500]]);
    expect(routes.map((one) => formatPrefix(one.prefix))).toEqual(["203.0.113.0/24", "203.0.113.0/24"]);
  });

  test("updates: announced, withdrawn, and both of IPv6 through the attributes of RFC 4760", () => {
    const reach = [0x80, 14, 12, ...u16(2), 1, 4, 1, 2, 3, 4, 0, 16, 0x20, 0x01];
    const unreach = [0x80, 15, 6, ...u16(2), 1, 16, 0x20, 0x02];
    const { routes, withdrawals } = mrt(
      updateRecord(1, {
        attributes: asPathAttribute([[2, 64500, 9]], 2),
        announced: [8, 10],
        withdrawn: [16, 172, 16],
      }),
      updateRecord(4, { attributes: [...path, ...reach, ...unreach] }),
      updateRecord(9, { attributes: path, announced: [...u32(5), 8, 11] }),
    );
    expect(routes.map((one) => [formatPrefix(one.prefix), one.originAs, one.pathId])).toEqual([
      ["10.0.0.0/8", [9], null],
      ["2001::/16", [64510], null],
      ["11.0.0.0/8", [64510], 5],
    ]);
    expect(withdrawals.map((one) => formatPrefix(one.prefix))).toEqual(["172.16.0.0/16", "2002::/16"]);
  });

  test.each([
    [
      "a prefix that is too long",
      ribRecord(2, [33, 1, 2, 3, 4, 5], []),
      "malformed",
      "a prefix of IPv4 with 33 bits",
    ],
    [
      "a peer that the table lacks",
      ribRecord(2, [8, 1], [{ peer: 2, attributes: path }]),
      "no-peer",
      "peer 2 of 2",
    ],
    [
      "no path",
      ribRecord(2, [8, 1], [{ peer: 0, attributes: ORIGIN_IGP }]),
      "malformed",
      "without an AS path",
    ],
    [
      "attributes that are longer than told",
      ribRecord(2, [8, 1], [{ peer: 0, attributes: [0x40, 2, 9, 2] }]),
      "malformed",
      "attribute 2 needs 9 bytes at 3, 1 are left",
    ],
    [
      "a segment of no kind",
      ribRecord(2, [8, 1], [{ peer: 0, attributes: asPathAttribute([[5, 1]], 4) }]),
      "malformed",
      "a segment of type 5",
    ],
    [
      "fewer entries than told",
      mrtRecord(13, 2, [...u32(0), 8, 1, ...u16(3)]),
      "malformed",
      "the peer's index needs 2 bytes",
    ],
    ["an empty record", mrtRecord(13, 2, []), "malformed", "the sequence number"],
    ["multicast", ribRecord(3, [8, 224], []), "other-type", "type 13, subtype 3"],
    [
      "a keepalive",
      mrtRecord(16, 4, [
        ...u32(1),
        ...u32(2),
        0,
        0,
        0,
        1,
        ...u32(1),
        ...u32(2),
        ...Array<number>(16).fill(255),
        0,
        19,
        4,
      ]),
      "other-type",
      "a BGP message of type 4",
    ],
    [
      "an announcement without path",
      updateRecord(4, { announced: [8, 10] }),
      "malformed",
      "without an AS path",
    ],
  ])("skips %s, says why, and goes on with the next record", (_, broken, reason, why) => {
    const good = ribRecord(2, [8, 10], [{ peer: 0, attributes: path }]);
    const { routes, summary } = mrt(peerTable, broken, good);
    expect(routes.map((one) => formatPrefix(one.prefix))).toEqual(["10.0.0.0/8"]);
    expect(summary).toMatchObject({ taken: 2, skipped: { [reason]: 1 } });
    expect(summary.examples[0]).toMatchObject({
      where: `byte ${peerTable.length}`,
      why: expect.stringContaining(why),
    });
  });

  test("a table of peers that cannot be read takes the one before it out of force", () => {
    const broken = mrtRecord(13, 1, [...u32(1), ...u16(9)]);
    const { routes, summary } = mrt(
      peerTable,
      broken,
      ribRecord(2, [8, 10], [{ peer: 0, attributes: path }]),
    );
    expect([routes, summary.skipped]).toEqual([[], { malformed: 1, "no-peer": 1 }]);
  });

  test("a record of an absurd length is passed over without being held; a cut one is counted once", () => {
    const huge = mrtRecord(13, 2, Array<number>(100).fill(0), 2 ** 32 - 1);
    expect(mrt(peerTable, huge).summary.skipped).toEqual({ "too-long": 1, "cut-off": 1 });
    const long = Uint8Array.from(mrtRecord(13, 2, [], 4_194_305));
    const bytes = new Uint8Array(long.length + 4_194_305 + peerTable.length);
    bytes.set(long);
    bytes.set(peerTable, long.length + 4_194_305);
    expect(readAll(MrtReader, bytes).summary).toMatchObject({ taken: 1, skipped: { "too-long": 1 } });
    expect(mrt(peerTable.slice(0, -1)).summary).toMatchObject({ taken: 0, skipped: { "cut-off": 1 } });
    expect(mrt(peerTable, peerTable.slice(0, 5)).summary).toMatchObject({
      taken: 1,
      skipped: { "cut-off": 1 },
    });
  });
});

describe("the text of bgpdump -m", () => {
  const line = (fields: Partial<Record<"kind" | "peer" | "as" | "prefix" | "path", string>> = {}): string => {
    const { kind = "B", peer = "192.0.2.1", as = "64500", prefix = "10.0.0.0/8", path = "64500 7" } = fields;
    return `TABLE_DUMP2|1277971199|${kind}|${peer}|${as}|${prefix}|${path}|IGP|192.0.2.1|0|0||NAG||`;
  };

  test("routes with prepending, sets, confederations and asdot; withdrawals", () => {
    const { routes, withdrawals, summary } = text(
      line({ path: "64500 7 7 7" }),
      line({ path: "64500 {8,9}" }),
      line({ path: "(65001 65002) 64500 1.10", as: "1.2" }),
      line({ prefix: "2001:db8:ff::/32", peer: "2001:DB8::1", path: "" }),
      line({ kind: "W" }),
    );
    expect(summary).toEqual({ taken: 5, skipped: {}, examples: [] });
    expect(routes.map(shown)).toEqual([
      ["10.0.0.0/8", [64500, 7, 7, 7], [7], 64500, null],
      ["10.0.0.0/8", [64500], [8, 9], 64500, null],
      ["10.0.0.0/8", [64500, 65546], [65546], 65538, null],
      ["2001:db8::/32", [], [], 64500, null],
    ]);
    expect(withdrawals.map((one) => formatPrefix(one.prefix))).toEqual(["10.0.0.0/8"]);
  });

  test.each([
    [line({ prefix: "10.0.0.0/33" }), "malformed", 'the prefix: got "10.0.0.0/33", expected ADDRESS/LENGTH'],
    [line({ prefix: "10.0.0.0" }), "malformed", "the prefix"],
    [line({ prefix: "010.0.0.0/8" }), "malformed", "the prefix"],
    [line({ peer: "peer" }), "malformed", 'the peer\'s address: got "peer"'],
    [line({ as: "4294967296" }), "malformed", "an AS number"],
    [line({ path: "64500 0x7" }), "malformed", 'an AS number: got "0x7"'],
    [line({ path: "(64500 7" }), "malformed", "its confederation to be closed"],
    [line({ kind: "X" }), "malformed", "the kind"],
    [line({ kind: "STATE" }), "other-type", "a session's state"],
    ["BGP4MP|now|A|192.0.2.1|1|10.0.0.0/8|1", "malformed", "epoch seconds"],
    ["hello", "malformed", "the format"],
    ["x".repeat(65_537), "too-long", "more than 65536 characters"],
  ])("skips %#, says why, and goes on", (broken, reason, why) => {
    const { routes, summary } = text(broken, line());
    expect(routes).toHaveLength(1);
    expect(summary).toMatchObject({ taken: 1, skipped: { [reason]: 1 } });
    expect(summary.examples[0]).toMatchObject({ where: "line 1", why: expect.stringContaining(why) });
  });
});

/** Reads the first `bytesMax` of a gzipped file as it comes, and tells what was in it. */
async function readFile(Reader: typeof MrtReader | typeof BgpTextReader, path: string, bytesMax = Infinity) {
  const peers = new Set<string>();
  const prefixes = new Set<string>();
  const found = { routes: 0, withdrawals: 0, withPathId: 0, ipv6: 0, withoutPath: 0 };
  const reader = new Reader({
    route: ({ prefix, asPath, originAs, peerAddress, pathId }) => {
      found.routes++;
      peers.add(peerAddress);
      prefixes.add(formatPrefix(prefix));
      if (pathId !== null) found.withPathId++;
      if (prefix.address.family === 6) found.ipv6++;
      if (asPath.length === 0) found.withoutPath++;
      else if (originAs.length === 0) throw new Error("a path without an origin");
    },
    withdrawal: () => found.withdrawals++,
  });
  let bytes = 0;
  for await (const chunk of createReadStream(path).pipe(createGunzip())) {
    reader.read(chunk as Uint8Array);
    bytes += (chunk as Uint8Array).length;
    if (bytes >= bytesMax) break;
  }
  if (bytes < bytesMax) reader.end();
  return { ...found, peers: peers.size, prefixes: prefixes.size, summary: reader.tally.summary() };
}

/** Text and MRT of real collectors; of the long ones the first part only, `isochrone measurements check` reads them whole. */
describe("real collectors", () => {
  const cases = [
    ["bgp/bgpdump-bview.64k_stream_overflow.gz", { routes: 23, ipv6: 23, peers: 23, prefixes: 1 }, {}],
    ["bgp/bgpdump-bview.ipv4_unicast_add_path.gz", { withPathId: 62, withoutPath: 2, ipv6: 0 }, {}],
    ["bgp/bgpdump-bview.ipv6_unicast_add_path.gz", { withPathId: 62, withoutPath: 2, ipv6: 62 }, {}],
    [
      "bgp/updates-2016-08-11.mrt.gz",
      { routes: 39_256, withdrawals: 1_956, ipv6: 6_546 },
      { "other-type": 190 },
    ],
  ] as const;
  for (const [name, expected, skipped] of cases) {
    const path = dataFile(name);
    test.skipIf(path === undefined)(`${name}: every record is read`, async () => {
      const { summary, ...found } = await readFile(MrtReader, path!);
      expect(found).toMatchObject(expected);
      expect(summary.skipped).toEqual(skipped);
    });
  }
  const rib = dataFile("bgp/rib-2002-07-22.mrt.gz");
  test.skipIf(rib === undefined)("TABLE_DUMP of 2002", async () => {
    const { routes, withoutPath, summary } = await readFile(MrtReader, rib!, 300_000);
    expect([summary.skipped, withoutPath]).toEqual([{}, 0]);
    expect(routes).toBeGreaterThan(4_000);
  });
  const table = dataFile("bgp/rib-2010-07-01.txt.gz");
  test.skipIf(table === undefined)("a full table of 2010 as text", async () => {
    const { routes, peers, prefixes, summary } = await readFile(BgpTextReader, table!, 1_000_000);
    expect(summary.skipped).toEqual({});
    expect([routes > 7_000, prefixes > 3_000, peers > 1]).toEqual([true, true, true]);
  });
});
