/** Vectors by RFC section: bytes in, decision and reply out. Each line says which sentence it holds the server to. */
import { describe, expect, it } from "vitest";
import { formatAddress } from "#kit";
import { dnsTypes, rcodes } from "../../../mapping/core/dns/constants.ts";
import { DnsCounters } from "../../../mapping/core/dns/counters.ts";
import { readMessage } from "../../../mapping/core/dns/wire.ts";
import {
  answerTo,
  type Ask,
  context,
  decide,
  ecsOf,
  hex,
  query,
  wideContext,
} from "../../unit/mapping-dns/fixture.ts";

const WWW = "03777777 0473686f70 076578616d706c65 00"; // www.shop.example
const headerOf = (flags: string, counts = "0001 0000 0000 0000") => `1234 ${flags} ${counts}`;
const OPT = (payload: string, ttl: string, rdata = "") =>
  `00 0029 ${payload} ${ttl} ${(rdata.replaceAll(/\s/g, "").length / 2).toString(16).padStart(4, "0")} ${rdata}`;

interface Vector {
  readonly says: string;
  readonly bytes: string;
  readonly transport?: "udp" | "tcp";
  /** Dropped with this reason, or replied with rcode and reason. */
  readonly drop?: string;
  readonly rcode?: number;
  readonly reason?: string;
  readonly fault?: string;
  /** Exact reply in hex, where the whole of it matters. */
  readonly reply?: string;
  readonly hasOpt?: boolean;
  readonly questions?: number;
}

const vectors: readonly Vector[] = [
  {
    says: "RFC 1035 4.1.1: eleven octets are no header",
    bytes: "1234 0000 0001 0000 0000 00",
    drop: "too-short",
  },
  { says: "no octets at all", bytes: "", drop: "too-short" },
  {
    says: "RFC 1035 4.1.1: QR=1 is never answered",
    bytes: `${headerOf("8000")} ${WWW} 0001 0001`,
    drop: "is-response",
  },
  { says: "QR=1 is never answered, not even when malformed", bytes: headerOf("8000"), drop: "is-response" },
  { says: "QR=1 with another opcode neither", bytes: headerOf("a800"), drop: "is-response" },
  ...[1, 2, 3, 4, 5, 6, 7, 15].map(
    (opcode): Vector => ({
      says: `RFC 1035 4.1.1: opcode ${opcode} is not implemented; header only, opcode copied`,
      bytes: `${headerOf(((opcode << 11) | 0x0100).toString(16).padStart(4, "0"))} ${WWW} 0001 0001`,
      rcode: rcodes.NOTIMP,
      reason: "opcode",
      reply: `1234 ${(0x8000 | (opcode << 11) | 0x0100 | 4).toString(16)} 0000 0000 0000 0000`,
    }),
  ),
  ...[1, 4, 5, 9, 15].map(
    (opcode): Vector => ({
      says: `RFC 6891 6.1.1: opcode ${opcode} with an OPT record gets one`,
      bytes: `${headerOf((opcode << 11).toString(16).padStart(4, "0"), "0001 0000 0000 0001")} ${WWW} 0001 0001 ${OPT("04d0", "00008000")}`,
      rcode: rcodes.NOTIMP,
      reason: "opcode",
      reply: `1234 ${(0x8000 | (opcode << 11) | 4).toString(16)} 0000 0000 0000 0001 ${OPT("04d0", "00008000")}`,
    }),
  ),
  {
    says: "RFC 6891 6.1.3: of another version of EDNS nothing but BADVERS is said, whatever the opcode",
    bytes: `${headerOf("2000", "0001 0000 0000 0001")} ${WWW} 0006 0001 ${OPT("04d0", "00010000")}`,
    rcode: rcodes.BADVERS,
    reason: "edns-version",
    reply: `1234 a000 0000 0000 0000 0001 ${OPT("04d0", "01000000")}`,
  },
  {
    says: "RFC 6891 6.1.1: QDCOUNT 0 with an OPT record gets one",
    bytes: `${headerOf("0000", "0000 0000 0000 0001")} ${OPT("04d0", "00000000")}`,
    rcode: rcodes.FORMERR,
    reason: "question-count",
    reply: `1234 8001 0000 0000 0000 0001 ${OPT("04d0", "00000000")}`,
  },
  {
    says: "RFC 6891 6.1.3: QDCOUNT 0 and a cookie with another version of EDNS",
    bytes: `${headerOf("0000", "0000 0000 0000 0001")} ${OPT("04d0", "00010000", "000a 0008 0102030405060708")}`,
    rcode: rcodes.BADVERS,
    reason: "edns-version",
  },
  {
    says: "RFC 6891 6.1.1: QDCOUNT 2 with an OPT record gets one",
    bytes: `${headerOf("0000", "0002 0000 0000 0001")} ${WWW} 0001 0001 c00c 001c 0001 ${OPT("04d0", "00000000")}`,
    rcode: rcodes.FORMERR,
    reason: "question-count",
    hasOpt: true,
  },
  {
    says: "RFC 9619: QDCOUNT 0",
    bytes: headerOf("0000", "0000 0000 0000 0000"),
    rcode: rcodes.FORMERR,
    reason: "question-count",
    reply: "1234 8001 0000 0000 0000 0000",
  },
  {
    says: "RFC 7873 5.4: QDCOUNT 0 with a cookie, where cookies are not ours to give",
    bytes: `${headerOf("0000", "0000 0000 0000 0001")} ${OPT("04d0", "00000000", "000a 0008 0102030405060708")}`,
    rcode: rcodes.FORMERR,
    reason: "question-count",
  },
  {
    says: "RFC 9619: QDCOUNT 2",
    bytes: `${headerOf("0100", "0002 0000 0000 0000")} ${WWW} 0001 0001 c00c 001c 0001`,
    rcode: rcodes.FORMERR,
    reason: "question-count",
    reply: "1234 8101 0000 0000 0000 0000",
  },
  {
    says: "RFC 9619: QDCOUNT 65535",
    bytes: headerOf("0000", "ffff 0000 0000 0000"),
    rcode: rcodes.FORMERR,
    reason: "question-count",
  },
  {
    says: "RFC 1035 4.1.2: question cut off",
    bytes: `${headerOf("0000")} ${WWW} 0001`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "question-truncated",
    questions: 0,
  },
  {
    says: "RFC 1035 4.1.2: no question there",
    bytes: headerOf("0000"),
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "name-truncated",
  },
  {
    says: "RFC 1035 3.1: label runs over the end",
    bytes: `${headerOf("0000")} 3f 61`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "name-truncated",
  },
  {
    says: "RFC 1035 4.1.4: label type 01",
    bytes: `${headerOf("0000")} 41 61 00 0001 0001`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "name-label-type",
  },
  {
    says: "RFC 1035 4.1.4: label type 10",
    bytes: `${headerOf("0000")} 81 61 00 0001 0001`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "name-label-type",
  },
  {
    says: "RFC 1035 4.1.4: pointer to itself",
    bytes: `${headerOf("0000")} c00c 0001 0001`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "name-pointer",
  },
  {
    says: "RFC 1035 4.1.4: pointer forward",
    bytes: `${headerOf("0000")} c012 0001 0001 00`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "name-pointer",
  },
  {
    says: "RFC 1035 4.1.4: pointer into the header",
    bytes: `${headerOf("0000")} 0161 c000 0001 0001`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "name-pointer",
  },
  {
    says: "RFC 1035 4.1.4: pointer to the start of its own name",
    bytes: `${headerOf("0000")} 0161 c00c 0001 0001`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "name-pointer",
  },
  {
    says: "RFC 1035 4.1.4: half a pointer",
    bytes: `${headerOf("0000")} c0`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "name-truncated",
  },
  {
    says: "RFC 1035 2.3.4: 255 octets of name are right (and in no zone of ours)",
    bytes: `${headerOf("0000")} ${`3f${"61".repeat(63)}`.repeat(3)} 3d${"61".repeat(61)} 00 0001 0001`,
    rcode: rcodes.REFUSED,
    reason: "outside-zones",
  },
  {
    says: "RFC 1035 2.3.4: 256 octets of name",
    bytes: `${headerOf("0000")} ${`3f${"61".repeat(63)}`.repeat(3)} 3e${"61".repeat(62)} 00 0001 0001`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "name-too-long",
  },
  {
    says: "octets after the last record",
    bytes: `${headerOf("0000")} ${WWW} 0001 0001 00`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "trailing-bytes",
    questions: 1,
  },
  {
    says: "ARCOUNT 1 without a record",
    bytes: `${headerOf("0000", "0001 0000 0000 0001")} ${WWW} 0001 0001`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "name-truncated",
    questions: 1,
  },
  {
    says: "ARCOUNT 65535",
    bytes: `${headerOf("0000", "0001 0000 0000 ffff")} ${WWW} 0001 0001`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "too-many-records",
  },
  {
    says: "RFC 6891 6.1.1: two OPT records",
    bytes: `${headerOf("0000", "0001 0000 0000 0002")} ${WWW} 0001 0001 ${OPT("04d0", "00000000")} ${OPT("04d0", "00000000")}`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "opt-duplicate",
    hasOpt: true,
  },
  {
    says: "RFC 6891 6.1.2: OPT not owned by the root",
    bytes: `${headerOf("0000", "0001 0000 0000 0001")} ${WWW} 0001 0001 c00c 0029 04d0 00000000 0000`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "opt-misplaced",
    hasOpt: false,
  },
  {
    says: "RFC 6891 6.1.1: OPT in the authority section",
    bytes: `${headerOf("0000", "0001 0000 0001 0000")} ${WWW} 0001 0001 ${OPT("04d0", "00000000")}`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "opt-misplaced",
  },
  {
    says: "RFC 6891 6.1.2: option longer than the RDATA",
    bytes: `${headerOf("0000", "0001 0000 0000 0001")} ${WWW} 0001 0001 ${OPT("04d0", "00000000", "0008 0005 00")}`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "opt-data",
  },
  {
    says: "RFC 6891 6.1.2: RDLENGTH over the end",
    bytes: `${headerOf("0000", "0001 0000 0000 0001")} ${WWW} 0001 0001 00 0029 04d0 00000000 0001`,
    rcode: rcodes.FORMERR,
    reason: "malformed",
    fault: "record-truncated",
  },
  {
    says: "RFC 6891 6.1.3: version 1 is BADVERS, with question and an OPT of version 0",
    bytes: `${headerOf("0000", "0001 0000 0000 0001")} ${WWW} 0001 0001 ${OPT("04d0", "00010000")}`,
    rcode: rcodes.BADVERS,
    reason: "edns-version",
    reply: `1234 8000 0001 0000 0000 0001 ${WWW} 0001 0001 ${OPT("04d0", "01000000")}`,
  },
  {
    says: "RFC 6891 6.1.3: what version 255 keeps in its RDATA is not judged",
    bytes: `${headerOf("0000", "0001 0000 0000 0001")} ${WWW} 0001 0001 ${OPT("04d0", "00ff0000", "ffff ff")}`,
    rcode: rcodes.BADVERS,
    reason: "edns-version",
  },
  {
    says: "RFC 6891 6.1.2: unknown options are ignored",
    bytes: `${headerOf("0000", "0001 0000 0000 0001")} ${WWW} 0001 0001 ${OPT("04d0", "00000000", "fde9 0003 010203")}`,
    rcode: rcodes.NOERROR,
    reason: "address",
    hasOpt: true,
  },
  {
    says: "RFC 6891 7: no OPT when none came",
    bytes: `${headerOf("0000")} ${WWW} 0001 0001`,
    rcode: rcodes.NOERROR,
    reason: "address",
    hasOpt: false,
  },
  {
    says: "RFC 8945: a signature that we have no key for does not stop the answer",
    bytes: `${headerOf("0000", "0001 0000 0000 0001")} ${WWW} 0001 0001 0161 00 00fa 00ff 00000000 0003 010203`,
    rcode: rcodes.NOERROR,
    reason: "address",
  },
  {
    says: "RFC 1035 3.2.4: class CH",
    bytes: `${headerOf("0000")} ${WWW} 0010 0003`,
    rcode: rcodes.REFUSED,
    reason: "class",
  },
  {
    says: "RFC 1035 3.2.5: class ANY",
    bytes: `${headerOf("0000")} ${WWW} 0001 00ff`,
    rcode: rcodes.REFUSED,
    reason: "class",
  },
  { says: "class 0", bytes: `${headerOf("0000")} ${WWW} 0001 0000`, rcode: rcodes.REFUSED, reason: "class" },
  {
    says: "the root is not ours",
    bytes: `${headerOf("0000")} 00 0002 0001`,
    rcode: rcodes.REFUSED,
    reason: "outside-zones",
  },
  {
    says: "RFC 6891 6.1.1: OPT may not be asked for",
    bytes: `${headerOf("0000")} ${WWW} 0029 0001`,
    rcode: rcodes.FORMERR,
    reason: "meta-type",
  },
  {
    says: "TSIG may not be asked for",
    bytes: `${headerOf("0000")} ${WWW} 00fa 0001`,
    rcode: rcodes.FORMERR,
    reason: "meta-type",
  },
  {
    says: "RFC 1035 3.2.3: MAILB is not implemented",
    bytes: `${headerOf("0000")} ${WWW} 00fd 0001`,
    rcode: rcodes.NOTIMP,
    reason: "meta-type",
  },
  {
    says: "RFC 5936: transfers are refused over TCP",
    transport: "tcp",
    bytes: `${headerOf("0000")} 0473686f70 076578616d706c65 00 00fc 0001`,
    rcode: rcodes.REFUSED,
    reason: "zone-transfer",
  },
  {
    says: "RFC 1995: IXFR with its SOA in the authority section is refused",
    bytes: `${headerOf("0000", "0001 0000 0001 0000")} 0473686f70 076578616d706c65 00 00fb 0001 c00c 0006 0001 00000000 0016 00 00 00000001 00000000 00000000 00000000 00000000`,
    rcode: rcodes.REFUSED,
    reason: "zone-transfer",
  },
  {
    says: "RFC 1035 4.1.1, 4035 3.1.6: RD copied; AA set; RA, AD, CD, Z clear",
    bytes: `${headerOf("0170")} 02 6e73 0473686f70 076578616d706c65 00 0001 0001`,
    rcode: rcodes.NXDOMAIN,
    reason: "no-such-name",
    reply:
      "1234 8503 0001 0000 0001 0000 026e73 0473686f70 076578616d706c65 00 0001 0001 c00f 0006 0001 0000003c 0027 036e7331 c00f 0a686f73746d6173746572 c00f 0000002a 00001c20 00000708 00127500 0000003c",
  },
];

describe("vectors by RFC section", () => {
  it.each(vectors.map((vector) => [vector.says, vector] as const))("%s", (_, vector) => {
    const decision = decide(hex(vector.bytes), { transport: vector.transport ?? "udp" });
    const counters = new DnsCounters();
    counters.count(decision, "udp");
    expect(decision.reason).toBe(vector.drop ?? vector.reason);
    expect(counters.withReason(vector.drop ?? vector.reason ?? "")).toBe(1);
    if (decision.action === "drop") {
      expect(vector.drop).toBeDefined();
      return;
    }
    expect(vector.drop).toBeUndefined();
    expect(decision.rcode).toBe(vector.rcode);
    if (vector.fault !== undefined) expect(decision.fault).toBe(vector.fault);
    if (vector.reply !== undefined) {
      expect(Buffer.from(decision.bytes).toString("hex")).toBe(
        Buffer.from(hex(vector.reply)).toString("hex"),
      );
    }
    const read = readMessage(decision.bytes);
    if (!read.ok) throw new Error(`reply does not parse: ${read.fault}`);
    expect(read.message.header.isResponse).toBe(true);
    expect(read.message.header.rcode).toBe(vector.rcode);
    if (vector.hasOpt !== undefined) expect(read.message.edns !== undefined).toBe(vector.hasOpt);
    if (vector.questions !== undefined) expect(read.message.questions).toHaveLength(vector.questions);
  });
});

describe("names and types of our zones", () => {
  const table: readonly (readonly [
    string,
    Ask,
    { rcode: number; reason: string; answers: number; soa: boolean; isAuthoritative: boolean },
  ])[] = [
    ["A of a property", {}, { rcode: 0, reason: "address", answers: 2, soa: false, isAuthoritative: true }],
    [
      "AAAA of a property without IPv6 servers: NODATA with SOA",
      { type: dnsTypes.AAAA },
      { rcode: 0, reason: "no-data", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "RFC 2308 2.2: TXT of a property",
      { type: dnsTypes.TXT },
      { rcode: 0, reason: "no-data", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "RFC 9460: HTTPS of a property",
      { type: dnsTypes.HTTPS },
      { rcode: 0, reason: "no-data", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "RFC 3597: an unknown type",
      { type: 65_280 },
      { rcode: 0, reason: "no-data", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "RFC 2308 2.1: a name that is not there",
      { name: "nope.shop.example" },
      { rcode: 3, reason: "no-such-name", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "RFC 8020: nothing is below a name that is not there",
      { name: "a.b.nope.shop.example" },
      { rcode: 3, reason: "no-such-name", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "no wildcard: below a property",
      { name: "x.www.shop.example" },
      { rcode: 3, reason: "no-such-name", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "RFC 8020 2: an empty non-terminal exists",
      { name: "empty.shop.example" },
      { rcode: 0, reason: "no-data", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "an empty non-terminal has no ANY either",
      { name: "empty.shop.example", type: dnsTypes.ANY },
      { rcode: 0, reason: "no-data", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "below the empty non-terminal",
      { name: "deep.empty.shop.example" },
      { rcode: 0, reason: "address", answers: 2, soa: false, isAuthoritative: true },
    ],
    [
      "apex SOA",
      { name: "shop.example", type: dnsTypes.SOA },
      { rcode: 0, reason: "apex", answers: 1, soa: false, isAuthoritative: true },
    ],
    [
      "apex NS",
      { name: "shop.example", type: dnsTypes.NS },
      { rcode: 0, reason: "apex", answers: 2, soa: false, isAuthoritative: true },
    ],
    [
      "apex A without a property",
      { name: "shop.example" },
      { rcode: 0, reason: "no-data", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "apex A with a property",
      { name: "media.example" },
      { rcode: 0, reason: "address", answers: 2, soa: false, isAuthoritative: true },
    ],
    [
      "NS below the apex",
      { type: dnsTypes.NS },
      { rcode: 0, reason: "no-data", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "RFC 8482: ANY of a property",
      { type: dnsTypes.ANY },
      { rcode: 0, reason: "any", answers: 1, soa: false, isAuthoritative: true },
    ],
    [
      "RFC 8482: ANY of a name that is not there",
      { name: "nope.shop.example", type: dnsTypes.ANY },
      { rcode: 3, reason: "no-such-name", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "glue",
      { name: "ns1.shop.example" },
      { rcode: 0, reason: "name-server-address", answers: 1, soa: false, isAuthoritative: true },
    ],
    [
      "AAAA of a name server with IPv4 only",
      { name: "ns1.shop.example", type: dnsTypes.AAAA },
      { rcode: 0, reason: "no-data", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "a withdrawn property",
      { name: "old.shop.example" },
      { rcode: 0, reason: "no-data", answers: 0, soa: true, isAuthoritative: true },
    ],
    [
      "a property outside of our zones",
      { name: "www.other.test" },
      { rcode: 5, reason: "outside-zones", answers: 0, soa: false, isAuthoritative: false },
    ],
    [
      "a name that only ends like a zone",
      { name: "bishop.example" },
      { rcode: 5, reason: "outside-zones", answers: 0, soa: false, isAuthoritative: false },
    ],
    [
      "RFC 4035 3.1.4.1: DS of an inner zone is the outer zone's",
      { name: "sub.shop.example", type: dnsTypes.DS },
      { rcode: 0, reason: "no-data", answers: 0, soa: true, isAuthoritative: true },
    ],
  ];
  it.each(table)("%s", (_, ask, wanted) => {
    const { message, decision } = answerTo(query(ask));
    expect({
      rcode: message.header.rcode,
      reason: decision.reason,
      answers: message.answers.length,
      soa: message.authorities.some(({ type }) => type === dnsTypes.SOA),
      isAuthoritative: message.header.isAuthoritative,
    }).toEqual(wanted);
  });

  it("RFC 2308 3: the SOA of a negative answer has the negative TTL and the zone's name", () => {
    const soa = answerTo(query({ name: "nope.sub.shop.example" })).message.authorities[0]!;
    expect([soa.name.text, soa.ttlSeconds]).toEqual(["sub.shop.example", 60]);
    const outer = answerTo(query({ name: "sub.shop.example", type: dnsTypes.DS })).message.authorities[0]!;
    expect(outer.name.text).toBe("shop.example");
  });

  it("NS records come with the addresses that we are authoritative for, and only those", () => {
    const { message } = answerTo(query({ name: "shop.example", type: dnsTypes.NS }));
    expect(message.answers.map(({ data }) => data.kind === "name" && data.name.text)).toEqual([
      "ns1.shop.example",
      "ns2.elsewhere.test",
    ]);
    expect(message.additionals.map(({ name }) => name.text)).toEqual(["ns1.shop.example"]);
  });

  it("RFC 8482 4.2: the one HINFO says so", () => {
    const record = answerTo(query({ type: dnsTypes.ANY })).message.answers[0]!;
    expect(record.type).toBe(dnsTypes.HINFO);
    expect(record.data.kind === "strings" && Buffer.from(record.data.strings[0]!).toString()).toBe("RFC8482");
  });

  it("keeps the letter case of the question in question and owner (0x20)", () => {
    const { message, decision } = answerTo(query({ name: "wWw.ShOp.eXaMpLe" }));
    expect(Buffer.from(decision.bytes).includes("wWw")).toBe(true);
    expect(Buffer.from(message.answers[0]!.name.wire).toString("latin1")).toContain("ShOp");
    expect(message.header.rcode).toBe(0);
  });

  it("answers SERVFAIL while there are no documents, but still FORMERR for what is malformed", () => {
    expect(answerTo(query(), { context: undefined }).decision).toMatchObject({
      rcode: 2,
      reason: "no-documents",
    });
    expect(answerTo(hex(headerOf("0000")), { context: undefined }).decision.rcode).toBe(1);
  });

  it("a property's TTL is 20 s unless it says otherwise", () => {
    expect(answerTo(query()).message.answers.map(({ ttlSeconds }) => ttlSeconds)).toEqual([20, 20]);
  });
});

describe("RFC 7871", () => {
  const addresses = (ask: Ask, options?: Parameters<typeof answerTo>[1]) =>
    answerTo(query(ask), options).message.answers.map(({ data }) =>
      data.kind === "address" ? formatAddress(data.address) : "",
    );

  it.each([
    ["IPv4 /24", "0001 18 00 c00002", "0001 18 18 c00002".replaceAll(" ", "")],
    ["IPv4 /32", "0001 20 00 c0000201", "0001 20 18 c0000201".replaceAll(" ", "")],
    ["IPv4 /25", "0001 19 00 c0000280", "0001 19 18 c0000280".replaceAll(" ", "")],
    ["IPv4 /0", "0001 00 00", "00010000"],
    ["IPv4 /1, not finer than asked", "0001 01 00 80", "00010101 80".replaceAll(" ", "")],
    [
      "IPv6 /56 (an odd number of octets)",
      "0002 38 00 20010db8000100",
      "000238 30 20010db8000100".replaceAll(" ", ""),
    ],
    ["IPv6 /48", "0002 30 00 20010db80003", "000230 30 20010db80003".replaceAll(" ", "")],
    ["IPv6 /128", `0002 80 00 20010db80002${"00".repeat(9)}01`, undefined],
    ["family 0", "0000 00 00", "00000000"],
  ])("6, 7.2.1: %s is echoed exactly, with a scope", (_, option, reply) => {
    const { message, decision } = answerTo(query({ ecs: option }));
    expect(decision.reason).toBe("address");
    const echoed = ecsOf(message) ?? "";
    const asked = option.replaceAll(" ", "");
    // Everything but the scope octet is as it came.
    expect(echoed.slice(0, 6) + echoed.slice(8)).toBe(asked.slice(0, 6) + asked.slice(8));
    expect(decision.scopePrefixLength).toBeLessThanOrEqual(Number.parseInt(asked.slice(4, 6), 16));
    if (reply !== undefined) expect(echoed).toBe(reply);
  });

  it.each([
    ["three octets", "0001 00", "ecs-short"],
    ["nothing", "", "ecs-short"],
    ["family 3", "0003 00 00", "ecs-family"],
    ["family 0 with a prefix", "0000 18 00 c00002", "ecs-family"],
    ["IPv4 /33", "0001 21 00 c000020000", "ecs-source-too-long"],
    ["IPv6 /129", `0002 81 00 ${"20".repeat(17)}`, "ecs-source-too-long"],
    ["a scope in the query", "0001 18 18 c00002", "ecs-scope"],
    ["too few octets", "0001 18 00 c000", "ecs-address-length"],
    ["too many octets", "0001 18 00 c0000200", "ecs-address-length"],
    ["IPv4 written in 16 octets", `0001 20 00 ${"c0".repeat(16)}`, "ecs-address-length"],
    ["a dirty tail of one bit", "0001 17 00 c00003", "ecs-dirty-tail"],
    ["a dirty tail in IPv6", "0002 39 00 20010db8000100 01", "ecs-dirty-tail"],
    ["family 0 with octets", "0000 00 00 00", "ecs-address-length"],
  ])("6: %s is FORMERR, with an OPT but no ECS", (_, option, fault) => {
    const { message, decision } = answerTo(query({ ecs: option }));
    expect(decision).toMatchObject({ reason: "ecs-malformed", rcode: rcodes.FORMERR, fault });
    expect(message.edns).toBeDefined();
    expect(ecsOf(message)).toBeUndefined();
  });

  it("two client subnets in one query are FORMERR", () => {
    const option = { code: 8, data: hex("0001 18 00 c00002") };
    expect(answerTo(query({ options: [option, option] })).decision).toMatchObject({
      rcode: 1,
      fault: "ecs-duplicate",
    });
  });

  it("7.2.1: no ECS in the answer when none was asked", () => {
    expect(ecsOf(answerTo(query({ edns: true })).message)).toBeUndefined();
  });

  it("two client networks get different clusters, from the same resolver", () => {
    const berlin = addresses({ ecs: "0001 18 00 c00002" });
    const tokyo = addresses({ ecs: "0001 18 00 cb0071" });
    expect(berlin.every((address) => address.startsWith("127.10.1."))).toBe(true);
    expect(tokyo.every((address) => address.startsWith("127.10.3."))).toBe(true);
    expect([berlin.length, tokyo.length]).toEqual([2, 2]);
  });

  it("7.1.2: a source prefix of 0 uses nothing of the client: the resolver's address decides, scope 0", () => {
    const from = (resolverAddress: string) => addresses({ ecs: "0001 00 00" }, { resolverAddress })[0];
    expect(from("192.0.2.53")).toMatch(/^127\.10\.1\./);
    expect(from("203.0.113.53")).toMatch(/^127\.10\.3\./);
    expect(answerTo(query({ ecs: "0001 00 00" })).decision.scopePrefixLength).toBe(0);
  });

  it("7.4: negative and refused answers hold for everyone: scope 0, still echoed", () => {
    for (const ask of [
      { name: "nope.shop.example" },
      { type: dnsTypes.TXT },
      { name: "other.test" },
      { name: "shop.example", type: dnsTypes.SOA },
    ]) {
      expect(ecsOf(answerTo(query({ ...ask, ecs: "0001 18 00 c00002" })).message)).toBe("00011800c00002");
    }
  });

  it("ECS is echoed over TCP as well", () => {
    expect(ecsOf(answerTo(query({ ecs: "0001 18 00 c00002" }), { transport: "tcp" }).message)).toBe(
      "00011818c00002",
    );
  });
});

describe("sizes (RFC 1035 4.2.1, 6891 6.2.3, 2181 9)", () => {
  it.each([
    ["no EDNS", undefined, 512],
    ["EDNS below 512 counts as 512", 100, 512],
    ["EDNS 4096 is capped at 1232", 4096, 1232],
    ["EDNS 65535 is capped at 1232", 65_535, 1232],
    ["EDNS 1000", 1000, 1000],
  ])("%s", (_, udpPayloadBytes, limit) => {
    // A name-server set that fills any UDP answer: the NS RRset is required and cannot be cut in two.
    const many = wideContext(60);
    const ask: Ask = {
      name: "shop.example",
      type: dnsTypes.NS,
      ...(udpPayloadBytes !== undefined && { udpPayloadBytes }),
    };
    const { message, decision } = answerTo(query(ask), { context: many });
    expect(decision.bytes.length).toBeLessThanOrEqual(limit);
    expect(decision.isTruncated).toBe(true);
    expect(message.header.isTruncated).toBe(true);
    expect(message.answers).toHaveLength(0);
    expect(message.edns !== undefined).toBe(udpPayloadBytes !== undefined);
    const whole = answerTo(query(ask), { context: many, transport: "tcp" });
    expect(whole.message.answers).toHaveLength(60);
    expect(whole.decision.isTruncated).toBe(false);
  });

  it("glue is left out before anything is truncated", () => {
    const some = wideContext(12);
    const { message, decision } = answerTo(query({ name: "shop.example", type: dnsTypes.NS }), {
      context: some,
    });
    expect(decision.isTruncated).toBe(false);
    expect([message.answers.length, message.additionals.length]).toEqual([12, 0]);
    expect(
      answerTo(query({ name: "shop.example", type: dnsTypes.NS, udpPayloadBytes: 1232 }), { context: some })
        .message.additionals,
    ).toHaveLength(12);
  });
});

describe("liveness", () => {
  const first = (down: readonly string[]) => {
    const { message, decision } = answerTo(query({ ecs: "0001 18 00 c00002" }), { context: context(down) });
    return {
      reason: decision.answerReason,
      servers: message.answers.map(({ data }) =>
        data.kind === "address" ? formatAddress(data.address) : "",
      ),
    };
  };
  it("a dead server is not named; its cluster answers for it", () => {
    expect(first(["fra-1"])).toEqual({ reason: "mapped", servers: ["127.10.1.2"] });
  });
  it("a dead cluster's clients get the next one", () => {
    const { reason, servers } = first(["fra-1", "fra-2"]);
    expect(reason).toBe("first-cluster-down");
    expect(servers.every((address) => address.startsWith("127.10.2."))).toBe(true);
  });
  it("all down: an answer all the same", () => {
    const { reason, servers } = first(["fra-1", "fra-2", "nyc-1", "nyc-2", "sin-1", "sin-2"]);
    expect([reason, servers.length]).toEqual(["all-down", 2]);
  });
  it("no map: an answer all the same, for everyone", () => {
    const { message, decision } = answerTo(query({ ecs: "0001 18 00 c00002" }), {
      context: context([], null),
    });
    expect([decision.answerReason, message.answers.length, decision.scopePrefixLength]).toEqual([
      "no-map",
      2,
      0,
    ]);
  });
});
