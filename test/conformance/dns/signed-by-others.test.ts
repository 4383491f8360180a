/**
 * Zones that their primaries have signed, told as they are: the example zones of RFC 4035 and RFC 5155 (appendices A) and what those say
 * of questions about them (appendices B), and what a zone must have to be served so.
 */
import { describe, expect, it } from "vitest";
import { recordTypes, type ZoneData, zoneDataOf, type ZoneRecord } from "#kit";
import type { DnsRecord } from "../../../mapping/core/dns/message.ts";
import { readMessage } from "../../../mapping/core/dns/wire.ts";
import { respond } from "../../../mapping/core/dns/respond.ts";
import { ZoneTable } from "../../../mapping/core/dns/zone-table.ts";
import { HostedZone } from "../../../mapping/core/zone/hosted-zone.ts";
import { queryFor, zoneFrom } from "../../tools/zones/hosted.ts";
import { type Nsec3Parameters, sha1, signedByOther } from "../../tools/zones/signed.ts";
import { context, properties, resolver, topology } from "../../unit/mapping-dns/fixture.ts";

/** `b` of RFC 4035 and `c` of RFC 5155 are unsigned delegations. */
const exampleText = `$ORIGIN example.
$TTL 3600
@ SOA ns1 bugs.x.w 1 3600 300 3600000 3600
@ NS ns1
@ NS ns2
@ MX 1 xx
@ DNSKEY 256 3 13 AAAA
2t7b4g4vsa5smi47k61mv5bv1a22bojr A 192.0.2.127
a NS ns1.a
a NS ns2.a
a DS 57855 5 1 B6DCD485719ADCA18E5F3D48A2331627FDD3636B
ns1.a A 192.0.2.5
ns2.a A 192.0.2.6
ai A 192.0.2.9
ai HINFO "KLH-10" "ITS"
ai AAAA 2001:db8::f00:baa9
CUT NS ns1.CUT
CUT NS ns2.CUT
ns1.CUT A 192.0.2.7
ns2.CUT A 192.0.2.8
alias CNAME ai
kept TYPE65401 \\# 12 026169076578616d706c6500
d DNAME w
ns1 A 192.0.2.1
ns2 A 192.0.2.2
*.w MX 1 ai
x.w MX 1 xx
x.y.w MX 1 xx
xx A 192.0.2.10
xx HINFO "KLH-10" "TOPS-20"
xx AAAA 2001:db8::f00:baaa
`;
const rfcNames = (text: string): string =>
  text.replaceAll(/^(2t7b|alias|kept|d ).*\n/gm, (line) => (line.startsWith("2t7b") ? line : ""));
const rfc5155: Nsec3Parameters = {
  iterations: 12,
  salt: Uint8Array.of(0xaa, 0xbb, 0xcc, 0xdd),
  optedOut: ["c.example"],
};
const withNsec = signedByOther(zoneFrom(exampleText.replaceAll("CUT", "b").replace(/^2t7b.*\n/m, "")));
const withNsec3 = signedByOther(zoneFrom(rfcNames(exampleText.replaceAll("CUT", "c"))), rfc5155);

function asked(zone: ZoneData, name: string, type: number) {
  const hostedZones = [HostedZone.of(zone, sha1)];
  const state = { ...context(), zones: new ZoneTable({ topology, properties, hostedZones, serial: 7 }) };
  const query = queryFor(name.split("."), type);
  // DO, in the flags of the OPT record that ends the query.
  query[query.length - 4]! |= 0x80;
  const decision = respond({ bytes: query, transport: "tcp", resolverAddress: resolver }, state);
  const read = decision.action === "reply" ? readMessage(decision.bytes) : undefined;
  if (read?.ok !== true) throw new Error("no answer");
  const { answers, authorities, additionals, header } = read.message;
  return {
    rcode: header.rcode,
    answers: answers.map(told),
    authorities: authorities.map(told),
    additionals: additionals.map(told),
    records: [...answers, ...authorities],
  };
}

const typeNames = new Map<number, string>(
  Object.entries(recordTypes).map(([text, code]) => [code, text] as const),
);
/** Owner and type; of a signature what it is of, and what name was signed. */
function told({ name, type, data }: DnsRecord): string {
  const owner = name.text.replace("\\042", "*");
  if (type !== recordTypes.RRSIG || data.kind !== "opaque") return `${owner} ${typeNames.get(type) ?? type}`;
  const covered = (data.bytes[0]! << 8) | data.bytes[1]!;
  const signed = Buffer.from(data.bytes).toString("latin1").split("by ")[1]?.replace("\\042", "*");
  return `${owner} RRSIG ${typeNames.get(covered) ?? covered} ${signed}`;
}
const both = (set: string): readonly string[] => {
  const [owner, type] = set.split(" ");
  return [set, `${owner} RRSIG ${type} ${owner}`];
};
const soa = both("example SOA");
const H = {
  example: "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom",
  a: "35mthgpgcu1qg68fab165klnsnk3dpvl",
  ns1: "2t7b4g4vsa5smi47k61mv5bv1a22bojr",
  ns2: "q04jkcevqvmu85r014c7dkba38o0ji5r",
  w: "k8udemvp1j2f7eg6jebps17vp3n8i58h",
  anyW: "r53bq7cc2uvmubfu5ocmm6pers9tk9en",
  xw: "b4um86eghhds6nea196smvmlo4ors995",
  yw: "ji6neoaepv8b5o6k4ev33abha8ht9fgc",
};
const nsec3 = (...hashes: readonly string[]): readonly string[] =>
  hashes.flatMap((hash) => both(`${hash}.example NSEC3`));
const nsec = (...names: readonly string[]): readonly string[] =>
  names.flatMap((name) => both(`${name} NSEC`));
const sorted = (lines: readonly string[]): readonly string[] => [...lines].sort();

type Vector = [
  says: string,
  name: string,
  type: number,
  rcode: number,
  answers: readonly string[],
  authorities: readonly string[],
];

describe("RFC 4035 appendix B: a zone with NSEC", () => {
  it.each<Vector>([
    ["B.1 an answer", "x.w.example", recordTypes.MX, 0, both("x.w.example MX"), []],
    ["B.2 no such name", "ml.example", recordTypes.A, 3, [], [...soa, ...nsec("kept.example", "example")]],
    ["B.3 no data", "ns1.example", recordTypes.MX, 0, [], [...soa, ...nsec("ns1.example")]],
    ["no data at an empty name", "y.w.example", recordTypes.A, 0, [], [...soa, ...nsec("x.w.example")]],
    [
      "B.4 a referral, signed",
      "mc.a.example",
      recordTypes.MX,
      0,
      [],
      ["a.example NS", "a.example NS", ...both("a.example DS")],
    ],
    [
      "B.5 a referral, unsigned",
      "mc.b.example",
      recordTypes.MX,
      0,
      [],
      ["b.example NS", "b.example NS", ...nsec("b.example")],
    ],
    [
      "B.6 a wildcard",
      "a.z.w.example",
      recordTypes.MX,
      0,
      ["a.z.w.example MX", "a.z.w.example RRSIG MX *.w.example"],
      nsec("x.y.w.example"),
    ],
    [
      "B.7 no data of a wildcard",
      "a.z.w.example",
      recordTypes.AAAA,
      0,
      [],
      [...soa, ...nsec("x.y.w.example", "*.w.example")],
    ],
    ["B.8 DS of the zone itself", "example", recordTypes.DS, 0, [], [...soa, ...nsec("example")]],
    ["DS at a cut (3.1.4.1)", "a.example", recordTypes.DS, 0, both("a.example DS"), []],
    ["no DS at a cut (3.1.4.1)", "b.example", recordTypes.DS, 0, [], [...soa, ...nsec("b.example")]],
    [
      "an alias, each link signed",
      "alias.example",
      recordTypes.A,
      0,
      [...both("alias.example CNAME"), ...both("ai.example A")],
      [],
    ],
    [
      "what stands beside an alias (2.5)",
      "alias.example",
      recordTypes.NSEC,
      0,
      both("alias.example NSEC"),
      [],
    ],
    ["keys", "example", 48, 0, ["example 48", "example RRSIG 48 example"], []],
    [
      "a DNAME; its CNAME is not signed (RFC 6672 section 5.3.1)",
      "x.d.example",
      recordTypes.MX,
      0,
      [...both("d.example DNAME"), "x.d.example CNAME", ...both("x.w.example MX")],
      [],
    ],
    ["ANY: a set that is signed (RFC 8482 section 4.1)", "ns1.example", 255, 0, both("ns1.example A"), []],
    [
      "a type of ours that is not flattened",
      "kept.example",
      recordTypes.A,
      0,
      [],
      [...soa, ...nsec("kept.example")],
    ],
  ])("%s", (_says, name, type, rcode, answers, authorities) => {
    const got = asked(withNsec, name, type);
    expect({ rcode: got.rcode, answers: sorted(got.answers), authorities: sorted(got.authorities) }).toEqual({
      rcode,
      answers: sorted(answers),
      authorities: sorted(authorities),
    });
  });

  it("glue is not signed, other additional records are (2.2, 3.1.1)", () => {
    expect(sorted(asked(withNsec, "mc.a.example", recordTypes.A).additionals)).toEqual([
      "ns1.a.example A",
      "ns2.a.example A",
    ]);
    expect(asked(withNsec, "x.w.example", recordTypes.MX).additionals).toContain(
      "xx.example RRSIG A xx.example",
    );
  });

  it("signatures have the TTL of their set, in a negative answer too (RFC 4034 section 3)", () => {
    const { records } = asked(withNsec, "ml.example", recordTypes.A);
    expect(records.map((one) => [told(one), one.ttlSeconds])).toContainEqual([
      "example RRSIG SOA example",
      3_600,
    ]);
    expect(records.map((one) => [told(one), one.ttlSeconds])).toContainEqual([
      "kept.example RRSIG NSEC kept.example",
      60,
    ]);
  });
});

describe("RFC 5155 appendix B: a zone with NSEC3 and opt-out", () => {
  it.each<Vector>([
    ["B.1 no such name", "a.c.x.w.example", recordTypes.A, 3, [], [...soa, ...nsec3(H.example, H.xw, H.a)]],
    ["B.2 no data", "ns1.example", recordTypes.MX, 0, [], [...soa, ...nsec3(H.ns1)]],
    ["B.2.1 no data at an empty name", "y.w.example", recordTypes.A, 0, [], [...soa, ...nsec3(H.yw)]],
    [
      "B.3 a referral, opted out",
      "mc.c.example",
      recordTypes.MX,
      0,
      [],
      ["c.example NS", "c.example NS", ...nsec3(H.a, H.example)],
    ],
    [
      "B.4 a wildcard",
      "a.z.w.example",
      recordTypes.MX,
      0,
      ["a.z.w.example MX", "a.z.w.example RRSIG MX *.w.example"],
      nsec3(H.ns2),
    ],
    [
      "B.5 no data of a wildcard",
      "a.z.w.example",
      recordTypes.AAAA,
      0,
      [],
      [...soa, ...nsec3(H.w, H.ns2, H.anyW)],
    ],
    ["B.6 DS of the zone itself", "example", recordTypes.DS, 0, [], [...soa, ...nsec3(H.example)]],
    [
      "no DS at a cut that is opted out (7.2.4)",
      "c.example",
      recordTypes.DS,
      0,
      [],
      [...soa, ...nsec3(H.a, H.example)],
    ],
    ["the parameters", "example", recordTypes.NSEC3PARAM, 0, both("example NSEC3PARAM"), []],
  ])("%s", (_says, name, type, rcode, answers, authorities) => {
    const got = asked(withNsec3, name, type);
    expect({ rcode: got.rcode, answers: sorted(got.answers), authorities: sorted(got.authorities) }).toEqual({
      rcode,
      answers: sorted(answers),
      authorities: sorted(authorities),
    });
  });

  it("the names of NSEC3 records are no names of the zone (7.2.8), unless they are", () => {
    expect(asked(withNsec3, `${H.xw}.example`, recordTypes.NSEC3).rcode).toBe(3);
    expect(asked(withNsec3, `${H.ns1}.example`, recordTypes.A)).toMatchObject({
      rcode: 0,
      answers: both(`${H.ns1}.example A`),
    });
  });
});

describe("a zone that its primary has signed", () => {
  const recordsOf = (zone: ZoneData): ZoneRecord[] =>
    [...zone.sets.values()].flatMap((sets) =>
      [...sets.values()].flatMap(({ name, type, ttlSeconds, rdata }) =>
        rdata.map((one) => ({ name, type, ttlSeconds, rdata: one, line: 0 })),
      ),
    );
  const without = (zone: ZoneData, isLeftOut: (record: ZoneRecord) => boolean) => () => {
    const read = zoneDataOf(
      zone.origin,
      recordsOf(zone).filter((one) => !isLeftOut(one)),
    );
    if (!read.ok) throw new Error(read.problem.expected);
    return HostedZone.of(read.zone, sha1);
  };
  const isOf =
    (...types: readonly number[]) =>
    ({ type }: ZoneRecord): boolean =>
      types.includes(type);
  const { RRSIG, NSEC, NSEC3, NSEC3PARAM } = recordTypes;

  it.each<[says: string, make: () => HostedZone, why: RegExp]>([
    ["no signature of the SOA", without(withNsec, isOf(RRSIG)), /none of the SOA record/],
    ["no chain", without(withNsec, isOf(NSEC)), /neither NSEC nor NSEC3PARAM/],
    ["no parameters", without(withNsec3, isOf(NSEC3PARAM)), /neither NSEC nor NSEC3PARAM/],
    [
      "no hash of the top",
      without(withNsec3, (one) => one.type === NSEC3 && one.name.text.startsWith(H.example)),
      /no NSEC3 record of the top/,
    ],
    [
      "a hash that costs too much",
      () => HostedZone.of(signedByOther(zoneFrom(exampleText), { ...rfc5155, iterations: 51 }), sha1),
      /51 iterations, at most 50/,
    ],
  ])("is refused with %s", (_says, make, why) => {
    expect(make).toThrow(why);
  });

  it("is not signed where nothing of it is: answers have no proofs", () => {
    const bare = without(withNsec, isOf(RRSIG, NSEC))();
    expect(bare.signatures).toBeUndefined();
  });

  it("has no names of ours: a host name in it is not answered by the map", () => {
    const property = { ...properties[0]!, hostnames: ["cdn.example"] };
    const hostedZones = [HostedZone.of(withNsec, sha1)];
    const zones = new ZoneTable({ topology, properties: [property], hostedZones, serial: 7 });
    expect(zones.hostnamesOutside).toEqual(["cdn.example"]);
    expect(zones.isMapped("cdn.example", recordTypes.A)).toBe(false);
  });

  it("is handed on whole, NSEC3 included, each signature with the TTL of its set", () => {
    const lines = (records: Iterable<DnsRecord | ZoneRecord>): string[] =>
      [...records].map(({ name, type }) => `${name.text} ${type}`).sort();
    const handed = [...HostedZone.of(withNsec3, sha1).recordsWithSoaTwice()].slice(1);
    expect(lines(handed)).toEqual(lines(recordsOf(withNsec3)));
    expect(
      handed.filter((one) => told(one) === "example RRSIG NSEC3PARAM example").map((one) => one.ttlSeconds),
    ).toEqual([0]);
    expect(
      handed.filter((one) => told(one) === "example RRSIG MX example").map((one) => one.ttlSeconds),
    ).toEqual([3_600]);
  });
});
