/** Zone files: what is taken, in which octets, and what is refused, where. RFC 1035 section 5.1 unless another one is named. */
import { describe, expect, it } from "vitest";
import { nameFromText, rdataText, readZoneFile, recordText, typeText, ZoneTextError } from "#kit";

const HEAD = "$ORIGIN example.com.\n$TTL 300\n@ SOA ns hostmaster 1 7200 1800 1209600 300\n@ NS ns\n";
const lines = (text: string): readonly string[] => readZoneFile(text).records.map(recordText);
const after = (text: string): readonly string[] => lines(`${HEAD}${text}\n`).slice(2);

describe("taken", () => {
  it.each<[says: string, text: string, ...records: string[]]>([
    ["relative names end in the origin", "www A 192.0.2.1", "www.example.com. 300 IN A 192.0.2.1"],
    ["@ is the origin", "@ MX 10 @", "example.com. 300 IN MX 10 example.com."],
    ["a trailing dot ends a name", "a.example.com. CNAME b.test.", "a.example.com. 300 IN CNAME b.test."],
    [
      "a blank repeats the owner",
      "a A 192.0.2.1\n  AAAA 2001:db8::1",
      "a.example.com. 300 IN A 192.0.2.1",
      "a.example.com. 300 IN AAAA 2001:db8::1",
    ],
    ["letters keep their case (RFC 4343)", "WwW A 192.0.2.1", "WwW.example.com. 300 IN A 192.0.2.1"],
    ["TTL before class", "a 60 IN A 192.0.2.1", "a.example.com. 60 IN A 192.0.2.1"],
    ["class before TTL", "a IN 60 A 192.0.2.1", "a.example.com. 60 IN A 192.0.2.1"],
    ["units of time", "a 1h30m A 192.0.2.1", "a.example.com. 5400 IN A 192.0.2.1"],
    [
      "parentheses join lines",
      "a TXT ( one\n two ; a comment )\n three )",
      'a.example.com. 300 IN TXT "one" "two" "three"',
    ],
    [
      "quotes hold blanks, semicolons and parentheses",
      'a TXT "b; (c)"',
      'a.example.com. 300 IN TXT "b; (c)"',
    ],
    ["\\DDD is an octet", "a TXT \\000\\255", 'a.example.com. 300 IN TXT "\\000\\255"'],
    ["\\X is X", 'a TXT a\\;b\\"c', 'a.example.com. 300 IN TXT "a;b\\"c"'],
    ["an escaped dot parts no labels", "a\\.b A 192.0.2.1", "a\\.b.example.com. 300 IN A 192.0.2.1"],
    ["text beyond ASCII is UTF-8", 'a TXT "ä"', 'a.example.com. 300 IN TXT "\\195\\164"'],
    ["an empty string is a string", 'a TXT ""', 'a.example.com. 300 IN TXT ""'],
    ["$ORIGIN below $ORIGIN", "$ORIGIN sub\nx A 192.0.2.1", "x.sub.example.com. 300 IN A 192.0.2.1"],
    ["$TTL from there on (RFC 2308 section 4)", "$TTL 5\nx A 192.0.2.1", "x.example.com. 5 IN A 192.0.2.1"],
    [
      "carriage returns before the end of a line",
      "x A 192.0.2.1\r\ny A 192.0.2.2\r",
      "x.example.com. 300 IN A 192.0.2.1",
      "y.example.com. 300 IN A 192.0.2.2",
    ],
    [
      "$GENERATE counts",
      "$GENERATE 1-3/2 h$ A 192.0.2.$",
      "h1.example.com. 300 IN A 192.0.2.1",
      "h3.example.com. 300 IN A 192.0.2.3",
    ],
    [
      "$GENERATE with offset, width and base",
      "$GENERATE 9-10 h${1,3,x} CNAME $$x$",
      "h00a.example.com. 300 IN CNAME \\$x9.example.com.",
      "h00b.example.com. 300 IN CNAME \\$x10.example.com.",
    ],
    [
      "an unknown type (RFC 3597)",
      "a TYPE65280 \\# 3 01 02ff",
      "a.example.com. 300 IN TYPE65280 \\# 3 0102ff",
    ],
    ["a known type in generic form (RFC 3597)", "a A \\# 4 c0000201", "a.example.com. 300 IN A 192.0.2.1"],
    ["a known type by its number", "a TYPE1 192.0.2.1", "a.example.com. 300 IN A 192.0.2.1"],
    [
      "a quote in the middle of a word (RFC 9460)",
      'a HTTPS 1 . alpn="h2,h3"',
      "a.example.com. 300 IN HTTPS 1 . alpn=h2,h3",
    ],
    [
      "parameters in any order, written in theirs (RFC 9460)",
      "a SVCB 1 b port=53 alpn=dot",
      "a.example.com. 300 IN SVCB 1 b.example.com. alpn=dot port=53",
    ],
    [
      "an escaped comma in a list (RFC 9460 appendix D)",
      'a SVCB 16 b alpn="f\\\\\\\\oo\\\\,bar,h2"',
      'a.example.com. 300 IN SVCB 16 b.example.com. alpn="f\\\\\\\\oo\\\\,bar,h2"',
    ],
  ])("%s", (_says, text, ...records) => {
    expect(after(text)).toEqual(records);
  });

  it("takes a SOA without any TTL by its own minimum, and everything after it", () => {
    expect(lines("$ORIGIN x.\n@ SOA ns h 1 2 3 4 77\n  NS ns")).toEqual([
      "x. 77 IN SOA ns.x. h.x. 1 2 3 4 77",
      "x. 77 IN NS ns.x.",
    ]);
  });
});

describe("every type, as text and as octets", () => {
  it.each<[type: string, text: string, hex: string]>([
    ["A", "192.0.2.1", "c0000201"],
    ["AAAA", "2001:db8::1", "20010db8000000000000000000000001"],
    ["NS", "b.", "016200"],
    ["CNAME", "b.", "016200"],
    ["PTR", "b.", "016200"],
    ["DNAME", "b.", "016200"],
    ["MX", "10 b.", "000a016200"],
    ["AFSDB", "1 b.", "0001016200"],
    ["KX", "1 b.", "0001016200"],
    ["RP", "a. b.", "016100016200"],
    ["HINFO", '"PC" "Linux"', "025043054c696e7578"],
    ["TXT", '"a" "bc"', "0161026263"],
    ["SPF", '"v=spf1"', "06763d73706631"],
    ["SRV", "1 2 443 b.", "0001000201bb016200"],
    ["NAPTR", '100 10 "u" "E2U" "!a!b!" .', "0064000a01750345325505216121622100"],
    ["DS", "1 13 2 abcd", "00010d02abcd"],
    ["CDS", "0 0 0 00", "0000000000"],
    ["DNSKEY", "257 3 13 q80=", "0101030dabcd"],
    ["CDNSKEY", "0 3 0 AA==", "0000030000"],
    ["CERT", "1 2 13 q80=", "000100020dabcd"],
    ["SSHFP", "4 2 abcd", "0402abcd"],
    ["TLSA", "3 1 1 abcd", "030101abcd"],
    ["SMIMEA", "3 1 1 abcd", "030101abcd"],
    ["OPENPGPKEY", "q80=", "abcd"],
    ["DHCID", "q80=", "abcd"],
    ["ZONEMD", "1 1 1 abcd", "000000010101abcd"],
    ["CAA", '0 issue "ca.test"', "000569737375656361 2e74657374"],
    ["URI", '10 1 "https://b/"', "000a000168747470733a2f2f622f"],
    ["EUI48", "00-00-5e-00-53-2a", "00005e00532a"],
    ["EUI64", "00-00-5e-ef-10-00-00-2a", "00005eef1000002a"],
    [
      "LOC",
      "42 21 54.000 N 71 6 18.000 W -24.00m 30.00m 10000.00m 10.00m",
      "0033161389 17 2d d0 70 be 15 f0 00 98 8d 20",
    ],
    ["SVCB", "0 b.", "0000016200"],
    [
      "HTTPS",
      "1 . mandatory=alpn,port alpn=h2 port=8443",
      "000100 0000000400010003 00010003026832 0003000220fb",
    ],
    [
      "HTTPS",
      "1 . alpn=h2 no-default-alpn ipv4hint=192.0.2.1,192.0.2.2",
      "000100 00010003026832 00020000 00040008c0000201c0000202",
    ],
    [
      "HTTPS",
      '1 . ech=q80= ipv6hint=2001:db8::1 dohpath="/q{?dns}" key667="x"',
      "000100 00050002abcd 00060010 20010db8000000000000000000000001 000700082f717b3f646e737d 029b000178",
    ],
  ])("%s %s", (type, text, hex) => {
    const record = readZoneFile(`${HEAD}a ${type} ${text}\n`).records.at(-1);
    expect(record && typeText(record.type)).toBe(type);
    expect(Buffer.from(record?.rdata ?? []).toString("hex")).toBe(hex.replaceAll(" ", ""));
    expect(rdataText(record?.type ?? 0, record?.rdata ?? new Uint8Array())).toBe(text);
  });

  it("finds no RDATA in octets that are cut short or go on", () => {
    for (const type of [1, 2, 6, 13, 15, 16, 28, 29, 33, 35, 39, 43, 52, 64, 257])
      for (const octets of [[], [1], [192, 12]])
        expect(rdataText(type, Uint8Array.from(octets))).toBeUndefined();
  });
});

it.each([
  "a",
  "a.b.",
  "A-b_C.*.x",
  "*",
  "*.",
  "0",
  `${"a".repeat(63)}.${"B".repeat(63)}`,
  `${"a.".repeat(120)}b`,
  `${"a.".repeat(119)}bcd`,
])("a name is the same whether its characters are escaped or not: %s", (name) => {
  const escaped = name.replaceAll(/[^.]/g, (char) => `\\${String(char.charCodeAt(0)).padStart(3, "0")}`);
  const names = (text: string) => readZoneFile(`${HEAD}${text} A 192.0.2.1\n`).records.at(-1)?.name;
  const origin = name.endsWith(".") ? "example.com." : "";
  expect(names(name + origin)).toEqual(names(escaped + origin));
});

describe("refused whole, with line and column", () => {
  it.each<[says: string, text: string, line: number, column: number, expected: RegExp]>([
    ["$INCLUDE", "$INCLUDE other.zone", 5, 1, /no \$INCLUDE/],
    ["another directive", "$FOO 1", 5, 1, /\$GENERATE/],
    ["no type", "a 60 IN", 5, 6, /record type/],
    ["an unknown type's name", "a FOO x", 5, 3, /TYPE65280/],
    ["a type of messages", "a OPT x", 5, 3, /record type/],
    ["a type of questions by number", "a TYPE255 \\# 0", 5, 3, /zones are written with/],
    ["a signature", "a RRSIG A 13", 5, 3, /made here/],
    ["class CH", "a CH A 192.0.2.1", 5, 3, /class IN/],
    ["an IPv6 address where IPv4 stands", "a A 2001:db8::1", 5, 5, /an IPv4 address/],
    ["a number that is too large", "a MX 65536 b", 5, 6, /0 to 65535/],
    ["a word too many", "a A 192.0.2.1 x", 5, 15, /no more/],
    ["a word too few", "a MX 10", 5, 6, /a domain name/],
    ["a label of 64 octets", `${"a".repeat(64)} A 192.0.2.1`, 5, 1, /1 to 63 octets/],
    ["a name over 255 octets", `${`${"a".repeat(62)}.`.repeat(4)}b A 192.0.2.1`, 5, 1, /at most 255/],
    ["an empty label", "a..b A 192.0.2.1", 5, 1, /1 to 63 octets/],
    ["\\DDD above 255", "a TXT \\256", 5, 7, /000 to 255/],
    ["a backslash before the end of the line", "a TXT b\\\n", 5, 7, /after the backslash/],
    ["a quote without end", 'a TXT "b\nc"', 5, 7, /closing quote/],
    ["a parenthesis without end", "a TXT ( b\n", 5, 7, /closing parenthesis/],
    ["a parenthesis without beginning", "a TXT b )", 5, 9, /opened before/],
    ["a second parenthesis", "a TXT ( ( b ) )", 5, 9, /no second/],
    ["a control character", "a TXT b\u0001", 5, 7, /control characters/],
    ["a string over 255 octets", `a TXT ${"x".repeat(256)}`, 5, 7, /at most 255 octets/],
    ["a TTL over 2^31 - 1 (RFC 2181 section 8)", "a 2147483648 A 192.0.2.1", 5, 3, /2147483647/],
    ["hex of odd length", "a DS 1 13 2 abc", 5, 13, /pairs of hex/],
    ["base64 that is none", "a DNSKEY 257 3 13 q8", 5, 19, /base64/],
    ["generic RDATA of another length (RFC 3597)", "a TYPE65280 \\# 2 01", 5, 13, /2 octets/],
    ["generic RDATA that its type is not", "a A \\# 3 010203", 5, 5, /RDATA of A/],
    ["an unknown type in words", "a TYPE65280 foo", 5, 13, /LENGTH HEX/],
    ["a parameter twice (RFC 9460)", "a HTTPS 1 . port=1 port=2", 5, 20, /once/],
    ["an unknown parameter", "a HTTPS 1 . foo=1", 5, 13, /mandatory, alpn/],
    [
      "mandatory without what it names (RFC 9460 section 8)",
      "a HTTPS 1 . mandatory=port",
      5,
      13,
      /mandatory/,
    ],
    ["no-default-alpn without alpn (RFC 9460 section 7.1.1)", "a HTTPS 1 . no-default-alpn", 5, 13, /alpn/],
    ["a range of $GENERATE that runs backwards", "$GENERATE 3-1 h$ A 192.0.2.$", 5, 11, /range/],
    ["a range of $GENERATE without end", "$GENERATE 0-999999999 h$ A 192.0.2.1", 5, 11, /200000 records/],
    [
      "a line of $GENERATE that makes gigabytes",
      `$GENERATE 0-199990 h$ TXT ${'"${0,62}${0,62}${0,62}${0,62}" '.repeat(250)}`,
      5,
      1,
      /67108864 octets in all records together/,
    ],
    ["a second SOA", "@ SOA ns h 2 7200 1800 1209600 300", 5, 1, /line 3 has it/],
    ["a name outside of the zone", "x.example.net. A 192.0.2.1", 5, 1, /at or below/],
  ])("%s", (_says, text, line, column, expected) => {
    try {
      readZoneFile(`${HEAD}${text}`);
    } catch (error) {
      if (!(error instanceof ZoneTextError)) throw error;
      expect([error.line, error.column]).toEqual([line, column]);
      expect(error.expected).toMatch(expected);
      return;
    }
    throw new Error("was taken");
  });

  it("a file without a SOA, without $ORIGIN, without TTL, beginning with a blank", () => {
    const origin = nameFromText("example.com");
    expect(() => readZoneFile("")).toThrow(/no SOA/);
    expect(() => readZoneFile("@ NS ns")).toThrow(/\$ORIGIN first/);
    expect(() => readZoneFile("a A 192.0.2.1", { origin })).toThrow(/\$TTL/);
    expect(() => readZoneFile("  A 192.0.2.1", { origin })).toThrow(/no record before/);
    expect(() => readZoneFile(`${HEAD}a A 192.0.2.1`, { recordsMax: 2 })).toThrow(/at most 2 records/);
  });
});
