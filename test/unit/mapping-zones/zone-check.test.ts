/** What `isochrone zone check` finds: each rule in a zone that is sound but for it. */
import { describe, expect, it } from "vitest";
import { readZoneFile, zoneDataOf } from "#kit";
import { checkZone } from "#mapping";
import { compareSerials, nextSerial } from "../../../kit/dns/serial.ts";

const SOUND = `$ORIGIN example.com.
$TTL 3600
@ SOA ns1 hostmaster 2026112601 7200 1800 1209600 300
@ NS ns1
@ NS ns2
@ MX 10 mail
@ TXT "v=spf1 -all"
ns1 A 203.0.113.1
ns2 AAAA 2001:db8::2
mail A 203.0.113.3
www CNAME mail
sub NS ns.sub
sub NS ns.elsewhere.test.
ns.sub A 203.0.113.4
*.any A 203.0.113.5
link CNAME x.any
`;

function findings(text: string, serialInForce?: number) {
  const { records, origin } = readZoneFile(text);
  const read = zoneDataOf(origin, records);
  if (!read.ok) throw new Error(JSON.stringify(read.problem));
  return checkZone(read.zone, records, serialInForce);
}

describe("zone check", () => {
  it("has nothing to say of a sound zone", () => {
    expect(findings(SOUND, 2026112600)).toEqual([]);
  });

  it.each<[rule: string, severity: string, added: string, type: string]>([
    ["missing-glue", "error", "del NS ns.del\ndel NS ns1", "NS"],
    ["ns-without-address", "error", "del NS nothing\ndel NS ns1", "NS"],
    ["ns-is-alias", "error", "del NS www\ndel NS ns1", "NS"],
    ["mx-is-alias", "error", "x MX 10 www", "MX"],
    ["target-without-address", "error", "x MX 10 nothing", "MX"],
    ["srv-is-alias", "error", "_x._tcp SRV 0 0 1 www", "SRV"],
    ["null-mx-beside-others", "error", "x MX 0 .\nx MX 1 mail", "MX"],
    ["alias-loop", "error", "l CNAME l", "CNAME"],
    ["alias-to-nothing", "warning", "l CNAME nothing", "CNAME"],
    ["occluded", "warning", 'x.sub TXT "hidden"', "TXT"],
    ["occluded", "warning", 'd DNAME sub\nx.d TXT "hidden"', "TXT"],
    ["single-name-server", "warning", "del NS ns1", "NS"],
    ["ttl-differs", "warning", "mail 60 A 203.0.113.9", "A"],
    ["ttl-unusual", "warning", "x 0 A 203.0.113.9", "A"],
    ["ttl-unusual", "warning", "x 30d A 203.0.113.9", "A"],
    ["duplicate", "warning", "mail A 203.0.113.3", "A"],
    ["ds-without-ns", "error", "x DS 1 13 2 abcd", "DS"],
    ["wildcard-delegation", "warning", "*.w NS ns1\n*.w NS ns2", "NS"],
    ["several-spf", "error", '@ TXT "v=spf1 +all"', "TXT"],
    ["obsolete-type", "warning", '@ SPF "v=spf1 -all"', "SPF"],
    ["private-address", "warning", "x A 192.168.1.1", "A"],
  ])("%s (%s): %s", (rule, severity, added, type) => {
    const found = findings(`${SOUND}${added}\n`);
    expect(new Set(found.map((one) => `${one.rule} ${one.severity} ${one.type}`))).toEqual(
      new Set([`${rule} ${severity} ${type}`]),
    );
    expect(found.every(({ line, text }) => line > 0 && text !== "")).toBe(true);
  });

  it.each<[soa: string, rules: readonly string[]]>([
    ["0 7200 1800 1209600 300", ["serial-unusual", "serial-not-newer"]],
    ["2026112601 7200 7200 1209600 300", ["soa-timers"]],
    ["2026112601 7200 1800 9000 300", ["soa-timers"]],
    ["2026112601 7200 1800 1209600 86401", ["soa-timers"]],
    ["2026112600 7200 1800 1209600 300", ["serial-not-newer"]],
  ])("SOA %s", (soa, rules) => {
    const text = SOUND.replace("2026112601 7200 1800 1209600 300", soa);
    expect(findings(text, 2026112600).map(({ rule }) => rule)).toEqual(rules);
  });

  it.each<[what: string, added: string, expected: RegExp]>([
    ["a CNAME beside others", 'www TXT "x"', /CNAME alone/],
    ["two CNAMEs", "www CNAME ns1", /CNAME alone/],
    ["a CNAME at the top", "@ CNAME www", /CNAME alone/],
    ["two DNAMEs", "x DNAME a\nx DNAME b", /one DNAME/],
    ["DS at the top", "@ DS 1 13 2 abcd", /zone above/],
  ])("refuses %s whole", (_what, added, expected) => {
    expect(() => findings(`${SOUND}${added}\n`)).toThrow(expected);
  });
});

describe("serials (RFC 1982)", () => {
  it.each<[a: number, b: number, order: number | undefined]>([
    [1, 1, 0],
    [2, 1, 1],
    [1, 2, -1],
    [0, 4_294_967_295, 1],
    [4_294_967_295, 0, -1],
    [2_147_483_647, 0, 1],
    [2_147_483_648, 0, undefined],
    [2_147_483_649, 0, -1],
  ])("%i against %i", (a, b, order) => {
    expect(compareSerials(a, b)).toBe(order);
  });

  it("goes round, without 0", () => {
    expect([nextSerial(1), nextSerial(4_294_967_295)]).toEqual([2, 1]);
  });
});
