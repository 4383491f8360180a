/** Requests signed by TSIG (RFC 8945), and transfers, as the sockets hand them over: octets in, what is said, a line each. */
import { createHmac } from "node:crypto";
import { describe, expect, it } from "vitest";
import { createLogger } from "#kit/io";
import { DnsHandler, hmac, tsigKeysOf } from "#mapping";
import { DnsCounters } from "../../../mapping/core/dns/counters.ts";
import { ResponseRateLimit } from "../../../mapping/core/dns/rate-limit.ts";
import { readMessage } from "../../../mapping/core/dns/wire.ts";
import { HostedZone } from "../../../mapping/core/zone/hosted-zone.ts";
import { TsigVerifier } from "../../../mapping/core/zone/tsig.ts";
import { hostedContext, zoneFrom } from "../../tools/zones/hosted.ts";

const SECRET = Buffer.alloc(32, 7);
const keys = tsigKeysOf([
  { name: "xfer.example", algorithm: "hmac-sha256", secret: SECRET.toString("base64") },
]);
/** An answer to `tNNN TXT` has 34 octets and NNN of text. */
const sized = [380, 460, 1_080, 1_180];
const zone = zoneFrom(`$ORIGIN z.test.
$TTL 300
@ SOA ns hm 9 7200 1800 1209600 60
@ NS ns
ns A 192.0.2.1
${sized.map((size) => `t${size} TXT ${Array.from({ length: size / 20 }, () => `"${"x".repeat(19)}"`).join(" ")}`).join("\n")}
`);
const state = {
  ...hostedContext([zone]),
  transfers: new Map([["z.test", { zone: HostedZone.of(zone), history: [], keyName: "xfer.example" }]]),
};
const counters = new DnsCounters();
const withKeys = { tsig: { keys, hmac } };
const handlerOf = (
  service: ConstructorParameters<typeof DnsHandler>[0]["service"] = withKeys,
  transfers = state.transfers,
  limit = { perSecond: 0, slip: 0 },
) =>
  new DnsHandler({
    context: () => ({ ...state, transfers }),
    counters,
    logger: createLogger({ role: "nameserver", id: "test" }, { level: "silent" }),
    service,
    rateLimit: new ResponseRateLimit({ ...limit, seed: 1 }),
  });
const handler = handlerOf();
const withoutKeys = handlerOf({});

const u16 = (value: number) => Buffer.from([value >> 8, value & 0xff]);
const name = (text: string) =>
  Buffer.concat([
    ...text.split(".").map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.alloc(1),
  ]);
const TYPES = { A: 1, SOA: 6, TXT: 16, OPT: 41, TSIG: 250, IXFR: 251, AXFR: 252 } as const;
const record = (owner: Buffer, type: number, ofClass: number, ttl: number, data: Buffer) =>
  Buffer.concat([owner, u16(type), u16(ofClass), u16(ttl >>> 16), u16(ttl & 0xffff), u16(data.length), data]);
const opt = (version = 0, payload = 1_232) =>
  record(Buffer.alloc(1), TYPES.OPT, payload, version << 16, Buffer.alloc(0));
const soa = (serial: number, owner = "z.test") =>
  record(
    name(owner),
    TYPES.SOA,
    1,
    0,
    Buffer.concat([
      name("ns"),
      name("hm"),
      ...[serial, 1, 2, 3, 4].flatMap((n) => [u16(n >>> 16), u16(n & 0xffff)]),
    ]),
  );

interface Request {
  readonly name?: string;
  readonly type?: keyof typeof TYPES;
  readonly opcode?: number;
  readonly questions?: number;
  readonly authorities?: readonly Buffer[];
  readonly additionals?: readonly Buffer[];
}
function request({
  name: asked = "z.test",
  type = "SOA",
  opcode = 0,
  questions = 1,
  authorities = [],
  additionals = [],
}: Request = {}): Buffer {
  const question = Buffer.concat([name(asked), u16(TYPES[type]), u16(1)]);
  return Buffer.concat([
    u16(0x1234),
    u16((opcode << 11) | 0x0100),
    u16(questions),
    u16(0),
    u16(authorities.length),
    u16(additionals.length),
    ...Array.from({ length: questions }, () => question),
    ...authorities,
    ...additionals,
  ]);
}

interface Signing {
  readonly key?: string;
  readonly algorithm?: string;
  readonly ageSeconds?: number;
  /** The MAC is cut to, or filled with zeros to, so many octets. */
  readonly macBytes?: number;
  readonly isForged?: boolean;
  readonly class?: number;
  readonly ttl?: number;
  /** So many octets less than the RDATA has. */
  readonly lacks?: number;
}
function tsig(message: Buffer, signing: Signing = {}): Buffer {
  const {
    key = "xfer.example",
    algorithm = "hmac-sha256",
    ageSeconds = 0,
    macBytes = 32,
    isForged = false,
    lacks = 0,
  } = signing;
  const seconds = Math.floor(Date.now() / 1_000) - ageSeconds;
  const times = Buffer.concat([
    u16(Math.floor(seconds / 2 ** 32)),
    u16(seconds >>> 16),
    u16(seconds & 0xffff),
    u16(300),
  ]);
  const variables = Buffer.concat([
    name(key),
    u16(255),
    u16(0),
    u16(0),
    name(algorithm),
    times,
    u16(0),
    u16(0),
  ]);
  const right = createHmac("sha256", SECRET).update(message).update(variables).digest();
  const mac = Buffer.concat([isForged ? Buffer.alloc(32, 1) : right, Buffer.alloc(64)]).subarray(0, macBytes);
  const data = Buffer.concat([name(algorithm), times, u16(macBytes), mac, u16(0x1234), u16(0), u16(0)]);
  return record(
    name(key),
    TYPES.TSIG,
    signing.class ?? 255,
    signing.ttl ?? 0,
    data.subarray(0, data.length - lacks),
  );
}
/** The message with a record more in its additional section. */
function adding(message: Buffer, more: Buffer): Buffer {
  const whole = Buffer.concat([message, more]);
  whole.writeUInt16BE(message.readUInt16BE(10) + 1, 10);
  return whole;
}
const signed = (asked: Request = {}, signing: Signing = {}): Buffer =>
  adding(request(asked), tsig(request(asked), signing));
const macOf = (message: Buffer): Buffer => message.subarray(message.length - 38, message.length - 6);

/** What came back: rcode, opcode, flags, answers, OPT, error and MAC's length of the TSIG record; and whether that verifies. */
function said(bytes: Uint8Array | undefined, of: Buffer): string {
  if (bytes === undefined) return "silence";
  const read = readMessage(bytes);
  if (!read.ok) return `unreadable: ${read.fault}`;
  const { header, answers, additionals, edns } = read.message;
  const words = [`rcode ${header.rcode}`];
  if (header.opcode !== 0) words.push(`opcode ${header.opcode}`);
  if (header.isTruncated) words.push("tc");
  if (answers.length > 0) words.push(`${answers.length} answers`);
  if (edns !== undefined) words.push("opt");
  const last = additionals.at(-1);
  if (last?.type === TYPES.TSIG && last.data.kind === "opaque") {
    const data = Buffer.from(last.data.bytes);
    const macLength = data.readUInt16BE(data.indexOf(0) + 9);
    words.push(`tsig error ${data.readUInt16BE(data.indexOf(0) + 13 + macLength)}`);
    if (macLength === 0) words.push("unsigned");
    else if (of.length > 100) {
      const verifier = new TsigVerifier(keys.get("xfer.example")!, hmac, macOf(of));
      const fault = verifier.handle(bytes, Math.floor(Date.now() / 1_000));
      if (fault !== undefined) words.push(fault.replace(/: clocks are .*/, ""));
    }
  }
  return words.join(", ");
}
const sender = { family: 4 as const, words: Uint32Array.of(0xc0000201, 0, 0, 0), port: 5353 };
const out = new Uint8Array(2_000);
function overUdp(bytes: Buffer, by = handler): Uint8Array | undefined {
  const length = by.answerUdp(bytes, 0, bytes.length, { ...sender }, out, 0);
  return length > 0 ? out.slice(0, length) : undefined;
}
function overTcp(bytes: Buffer): Uint8Array | undefined {
  const answer = handler.answerTcp(bytes, { family: 4, words: [0xc0000201] }, 5353, "tcp");
  return answer === undefined || answer instanceof Uint8Array ? answer : [...answer][0];
}

type Vector = readonly [says: string, bytes: Buffer, udp: string, tcp?: string];
const bare = request();
const vectors: readonly Vector[] = [
  ["5.3: a good signature is answered with one", signed(), "rcode 0, 1 answers, tsig error 0"],
  ["5.3: behind the OPT record", signed({ additionals: [opt()] }), "rcode 0, 1 answers, opt, tsig error 0"],
  [
    "5.2.1: a key that is not here: BADKEY, unsigned",
    signed({}, { key: "who.example" }),
    "rcode 9, tsig error 17, unsigned",
  ],
  [
    "5.2.1: another algorithm than the key's",
    signed({}, { algorithm: "hmac-sha512" }),
    "rcode 9, tsig error 17, unsigned",
  ],
  [
    "5.2.2: a MAC that does not hold: BADSIG",
    signed({}, { isForged: true }),
    "rcode 9, tsig error 16, unsigned",
  ],
  ["5.2.2.1: no MAC", signed({}, { macBytes: 0 }), "rcode 1"],
  ["5.2.2.1: nine octets of it", signed({}, { macBytes: 9 }), "rcode 1"],
  ["5.2.2.1: less than half of it", signed({}, { macBytes: 15 }), "rcode 1"],
  ["5.2.2.1: more than all of it", signed({}, { macBytes: 33 }), "rcode 1"],
  [
    "5.2.4: half of it holds, and is not enough here: BADTRUNC, signed",
    signed({}, { macBytes: 16 }),
    "rcode 9, tsig error 22",
  ],
  [
    "5.2.2: half of a wrong one: BADSIG",
    signed({}, { macBytes: 16, isForged: true }),
    "rcode 9, tsig error 16, unsigned",
  ],
  [
    "5.2.3: of another time: BADTIME, signed",
    signed({}, { ageSeconds: 1_000 }),
    "rcode 9, tsig error 18, a signature of another time",
  ],
  ["4.2: another class than ANY", signed({}, { class: 1 }), "rcode 1"],
  ["4.2: a TTL", signed({}, { ttl: 1 }), "rcode 1"],
  ["5.2: RDATA that ends early", signed({}, { lacks: 4 }), "rcode 1"],
  ["5.1: two signatures", adding(signed(), tsig(signed())), "rcode 1"],
  ["5.1: one that is not the last record", adding(signed(), opt()), "rcode 1, opt"],
  [
    "5.1: one in the answer section",
    (() => {
      const moved = Buffer.from(signed());
      moved.writeUInt16BE(1, 6);
      moved.writeUInt16BE(0, 10);
      return moved;
    })(),
    "rcode 1",
  ],
  [
    "5.2: the opcode of a request that is refused is its own",
    signed({ opcode: 5 }, { key: "who.example" }),
    "rcode 9, opcode 5, tsig error 17, unsigned",
  ],
  [
    "5.2: NOTIFY too",
    signed({ opcode: 4 }, { key: "who.example" }),
    "rcode 9, opcode 4, tsig error 17, unsigned",
  ],
  [
    "RFC 6891 6.1.3: another version of EDNS, signed",
    signed({ additionals: [opt(1)] }),
    "rcode 16, opt, tsig error 0",
  ],
  ["RFC 9619: two questions, signed", signed({ questions: 2 }), "rcode 1, tsig error 0"],
  [
    "5.3: 512 octets with the signature in them",
    signed({ name: "t380.z.test", type: "TXT" }),
    "rcode 0, 1 answers, tsig error 0",
  ],
  [
    "5.3: what has no room beside its signature is cut, and signed",
    signed({ name: "t460.z.test", type: "TXT" }),
    "rcode 0, tc, tsig error 0",
    "rcode 0, 1 answers, tsig error 0",
  ],
  [
    "5.3: 1,232 octets with the signature in them",
    signed({ name: "t1080.z.test", type: "TXT", additionals: [opt()] }),
    "rcode 0, 1 answers, opt, tsig error 0",
  ],
  [
    "5.3: and over them",
    signed({ name: "t1180.z.test", type: "TXT", additionals: [opt()] }),
    "rcode 0, tc, opt, tsig error 0",
    "rcode 0, 1 answers, opt, tsig error 0",
  ],
  [
    "RFC 5936 2.2.1: AXFR, which needs TCP",
    signed({ type: "AXFR" }),
    "rcode 5, tsig error 0",
    "rcode 0, 8 answers, tsig error 0",
  ],
  [
    "RFC 6891 6.1.1: AXFR with an OPT record has one in its answer",
    signed({ type: "AXFR", additionals: [opt()] }),
    "rcode 5, opt, tsig error 0",
    "rcode 0, 8 answers, opt, tsig error 0",
  ],
  [
    "RFC 6891 6.1.3: AXFR of another version of EDNS",
    signed({ type: "AXFR", additionals: [opt(1)] }),
    "rcode 16, opt, tsig error 0",
  ],
  [
    "AXFR with half of the MAC",
    signed({ type: "AXFR" }, { macBytes: 16, isForged: true }),
    "rcode 9, tsig error 16, unsigned",
  ],
  ["AXFR without a signature", request({ type: "AXFR" }), "rcode 5"],
  [
    "RFC 1995 3: IXFR with the SOA that is held",
    signed({ type: "IXFR", authorities: [soa(9)] }),
    "rcode 5, tsig error 0",
    "rcode 0, 1 answers, tsig error 0",
  ],
  [
    "RFC 1995 3: of two",
    signed({ type: "IXFR", authorities: [soa(9), soa(8)] }),
    "rcode 5, tsig error 0",
    "rcode 1, tsig error 0",
  ],
  [
    "RFC 1995 3: of another zone",
    signed({ type: "IXFR", authorities: [soa(9, "y.test")] }),
    "rcode 5, tsig error 0",
    "rcode 1, tsig error 0",
  ],
  ["no signature at all", bare, "rcode 0, 1 answers"],
];

describe("RFC 8945", () => {
  it.each(vectors.map(([says, bytes, udp, tcp = udp]) => ({ says, bytes, udp, tcp })))(
    "$says",
    ({ bytes, udp, tcp }) => {
      const datagram = overUdp(bytes);
      expect([said(datagram, bytes), said(overTcp(bytes), bytes)]).toEqual([udp, tcp]);
      expect(datagram!.length).toBeLessThanOrEqual(bytes.includes(opt()) ? 1_232 : 512);
    },
  );

  it("5.2.1: where there are no keys every one is BADKEY", () => {
    expect(said(overUdp(signed(), withoutKeys), signed())).toBe("rcode 9, tsig error 17, unsigned");
    expect(said(overUdp(bare, withoutKeys), bare)).toBe("rcode 0, 1 answers");
  });

  it("RFC 5936 2.2: a record that has no room beside a signature ends the transfer, before its last SOA", () => {
    const long = zoneFrom(
      `$ORIGIN z.test.\n$TTL 300\n@ SOA ns hm 9 7200 1800 1209600 60\n@ NS ns\na A 192.0.2.1\nlong TXT ${`"${"x".repeat(255)}" `.repeat(255)} "${"x".repeat(160)}"\n`,
    );
    const transfers = new Map([
      ["z.test", { zone: HostedZone.of(long), history: [], keyName: "xfer.example" }],
    ]);
    const silent = handlerOf(withKeys, transfers);
    const answer = silent.answerTcp(
      signed({ type: "AXFR" }),
      { family: 4, words: [0xc0000201] },
      5353,
      "tcp",
    );
    if (answer === undefined || answer instanceof Uint8Array) throw new Error("no transfer");
    const read = [...answer].map((one) => readMessage(one));
    expect(read.map((one) => (one.ok ? one.message.answers.length : one.fault))).toEqual([3]);
  });

  it("bad signatures of one network are answered as seldom as other queries, good ones always", () => {
    const limited = handlerOf(withKeys, state.transfers, { perSecond: 20, slip: 2 });
    const answered = (bytes: Buffer): number =>
      Array.from({ length: 500 }, () => overUdp(bytes, limited)).filter((one) => one !== undefined).length;
    const bad = answered(signed({}, { isForged: true }));
    expect(bad).toBeGreaterThanOrEqual(20);
    expect(bad).toBeLessThan(250);
    expect(answered(signed())).toBe(500);
  });

  it("what is refused is counted", () => {
    const before = counters.withReason("bad-signature");
    overUdp(signed({}, { isForged: true }));
    overTcp(signed({}, { macBytes: 3 }));
    overTcp(signed({ type: "AXFR" }, { isForged: true }));
    expect(counters.withReason("bad-signature")).toBe(before + 3);
    const refused = counters.withReason("zone-transfer");
    overTcp(request({ type: "AXFR" }));
    expect(counters.withReason("zone-transfer")).toBe(refused + 1);
  });
});
