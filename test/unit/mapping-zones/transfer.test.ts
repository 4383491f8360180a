/** Transfers and their signatures without sockets: who gets what, and what is said to who gets nothing. */
import { describe, expect, it } from "vitest";
import { nameFromText, zoneDocument, type ZoneDocument, zoneOfDocument, editZone } from "#kit";
import { hmac, tsigKeysOf } from "#mapping";
import { readMessage, writeMessage } from "../../../mapping/core/dns/wire.ts";
import { HostedZone } from "../../../mapping/core/zone/hosted-zone.ts";
import { answerSigned, answerTransfer, type TransferContext } from "../../../mapping/core/zone/transfer.ts";
import { TsigSigner, verifyTsig } from "../../../mapping/core/zone/tsig.ts";
import { randomBelow } from "../../tools/hostile/dns-packets.ts";
import type { DnsRecord } from "../../../mapping/core/dns/message.ts";
import { linesOf } from "../../tools/zones/records.ts";
import { zoneFrom } from "../../tools/zones/hosted.ts";

const NOW = 1_790_000_000;
const secret = Buffer.alloc(32, 7).toString("base64");
const keys = tsigKeysOf([
  { name: "xfer.example", algorithm: "hmac-sha256", secret },
  { name: "other.example", algorithm: "hmac-sha512", secret },
]);
const strangers = tsigKeysOf([
  { name: "xfer.example", algorithm: "hmac-sha256", secret: Buffer.alloc(32, 8).toString("base64") },
  { name: "stranger.example", algorithm: "hmac-sha256", secret },
]);

const first = zoneDocument.parse({
  zoneId: "moved",
  customerId: "acme",
  origin: "moved.test",
  sets: [
    { name: "@", type: "SOA", ttlSeconds: 300, data: ["ns h 7 3600 1800 1209600 60"] },
    { name: "@", type: "NS", ttlSeconds: 300, data: ["ns"] },
    { name: "a", type: "A", ttlSeconds: 60, data: ["192.0.2.1"] },
  ],
});
const a = (data: string, ttlSeconds = 60) =>
  ({ action: "set", name: "a", type: "A", ttlSeconds, data: [data] }) as const;
const second = editZone(first, [a("192.0.2.2")]);
const third = editZone(second, [
  a("192.0.2.2", 30),
  { action: "delete", name: "@", type: "NS" },
  { action: "set", name: "@", type: "NS", ttlSeconds: 300, data: ["ns.b."] },
]);
const hosted = (document: ZoneDocument): HostedZone => HostedZone.of(zoneOfDocument(document));
const context: TransferContext = {
  zones: new Map([
    [
      "moved.test",
      { zone: hosted(third), history: [hosted(first), hosted(second)], keyName: "xfer.example" },
    ],
  ]),
  keys,
  hmac,
};

function request(type: number, serial?: number, origin = "moved.test"): Uint8Array {
  const name = nameFromText(origin)!;
  const { soa } = hosted(first);
  const held =
    soa.data.kind === "soa"
      ? { ...soa, data: { ...soa.data, soa: { ...soa.data.soa, serial: serial ?? 0 } } }
      : soa;
  return writeMessage({
    header: {
      id: 77,
      isResponse: false,
      opcode: 0,
      isAuthoritative: false,
      isTruncated: false,
      isRecursionDesired: false,
      isRecursionAvailable: false,
      isAuthenticData: false,
      isCheckingDisabled: false,
      rcode: 0,
    },
    questions: [{ name, type, class: 1 }],
    answers: [],
    authorities: serial === undefined ? [] : [held],
    additionals: [],
    edns: undefined,
  })!;
}

const signedBy = (bytes: Uint8Array, name: string, with_ = keys, atSeconds = NOW): Uint8Array =>
  new TsigSigner(with_.get(name)!, hmac, new Uint8Array()).sign(bytes, atSeconds);

function told(bytes: Uint8Array) {
  const transfer = answerTransfer(bytes, context, NOW)!;
  const messages = [...transfer.messages].map((one) => {
    const read = readMessage(one);
    if (!read.ok) throw new Error(read.fault);
    return read.message;
  });
  const rcode = messages[0]!.header.rcode;
  return {
    reason: transfer.reason,
    rcode,
    lines: messages.flatMap(({ answers }) => answers.map((one) => linesOf([one])[0])),
    messages,
  };
}
const soaLine = (serial: number): string =>
  `moved.test. 300 soa ns.moved.test. h.moved.test. ${serial} 3600 1800 1209600 60`;
/** RFC 8945 section 4.2: the error stands four octets before the end where nothing else follows. */
const tsigError = (bytes: Uint8Array): number => (bytes.at(-4)! << 8) | bytes.at(-3)!;

describe("transfers", () => {
  it("AXFR: everything between two copies of the SOA (RFC 5936 section 2.2)", () => {
    const { reason, rcode, lines } = told(signedBy(request(252), "xfer.example"));
    expect([reason, rcode, lines[0], lines.at(-1), lines.length]).toEqual([
      "axfr",
      0,
      soaLine(9),
      soaLine(9),
      4,
    ]);
  });

  it("IXFR: each step's old and new records between their SOAs (RFC 1995 section 4)", () => {
    expect(told(signedBy(request(251, 7), "xfer.example")).lines).toEqual([
      soaLine(9),
      soaLine(7),
      "a.moved.test. 60 a 192.0.2.1",
      soaLine(8),
      "a.moved.test. 60 a 192.0.2.2",
      soaLine(8),
      "moved.test. 300 ns ns.moved.test.",
      "a.moved.test. 60 a 192.0.2.2",
      soaLine(9),
      "moved.test. 300 ns ns.b.",
      "a.moved.test. 30 a 192.0.2.2",
      soaLine(9),
    ]);
  });

  it.each<[says: string, serial: number, reason: string, lines: number]>([
    ["the serial in force: its SOA alone", 9, "up-to-date", 1],
    ["a later serial: the SOA alone", 10, "up-to-date", 1],
    ["a serial that is not kept: the whole zone", 3, "axfr", 4],
    ["the last step only", 8, "ixfr", 8],
  ])("IXFR from %s", (_says, serial, reason, lines) => {
    const result = told(signedBy(request(251, serial), "xfer.example"));
    expect([result.reason, result.lines.length]).toEqual([reason, lines]);
  });

  it.each<[says: string, bytes: Uint8Array, reason: string, rcode: number, error: number | undefined]>([
    ["no signature", request(252), "refused", 5, undefined],
    ["another zone's key", signedBy(request(252), "other.example"), "refused", 5, 0],
    ["a zone that is not here", signedBy(request(252, undefined, "x.test"), "xfer.example"), "refused", 5, 0],
    ["an unknown key: BADKEY", signedBy(request(252), "stranger.example", strangers), "bad-signature", 9, 17],
    ["another secret: BADSIG", signedBy(request(252), "xfer.example", strangers), "bad-signature", 9, 16],
    [
      "a clock that is five minutes and one second off: BADTIME",
      signedBy(request(252), "xfer.example", keys, NOW - 301),
      "bad-signature",
      9,
      undefined,
    ],
    ["IXFR without the SOA that is held", signedBy(request(251), "xfer.example"), "malformed", 1, 0],
  ])("nothing for %s", (_says, bytes, reason, rcode, error) => {
    const result = told(bytes);
    expect([result.reason, result.rcode, result.lines]).toEqual([reason, rcode, []]);
    const first = [...answerTransfer(bytes, context, NOW)!.messages][0]!;
    if (error !== undefined) expect(tsigError(first)).toBe(error);
  });

  it("tells who has the key what the time is here (RFC 8945 section 5.2.3)", () => {
    const bytes = [
      ...answerTransfer(signedBy(request(252), "xfer.example", keys, NOW - 9_999), context, NOW)!.messages,
    ][0]!;
    expect(Buffer.from(bytes.subarray(-10)).toString("hex")).toBe(
      `00120006${NOW.toString(16).padStart(12, "0")}`,
    );
  });

  it("ALIAS as it stands, or as the addresses that it has at that time; whole then, and not without one of them", () => {
    const sets = [
      ...first.sets.filter(({ type }) => type !== "A"),
      { name: "@", type: "ALIAS", ttlSeconds: 60, data: ["b."] },
    ];
    const zone = hosted(zoneDocument.parse({ ...first, sets }));
    const fetched = (type: number, areAliasesExpanded: boolean, isKnown = true) => {
      const aaaa = { name: zone.origin, type: 28, class: 1, ttlSeconds: 9 } as const;
      const words = [0x2001_0db8, 0, 0, 1];
      const transfer = answerTransfer(
        signedBy(type === 252 ? request(252) : request(251, 6), "xfer.example"),
        {
          ...context,
          zones: new Map([
            ["moved.test", { zone, history: [], keyName: "xfer.example", areAliasesExpanded }],
          ]),
          addressesAt: (_owner, of) =>
            !isKnown
              ? undefined
              : of === 1
                ? []
                : [{ ...aaaa, data: { kind: "address", address: { family: 6, words } } }],
        },
        NOW,
      )!;
      const lines = [...transfer.messages].flatMap((one) => {
        const read = readMessage(one);
        return read.ok ? linesOf(read.message.answers) : [read.fault];
      });
      return [transfer.reason, ...lines.filter((line) => !/ (soa|ns) /.test(line))];
    };
    expect(fetched(252, false)).toEqual(["axfr", "moved.test. 60 alias b."]);
    expect(fetched(252, true)).toEqual(["axfr", "moved.test. 9 aaaa 2001:db8::1"]);
    expect(fetched(251, true)).toEqual(["axfr", "moved.test. 9 aaaa 2001:db8::1"]);
    expect(fetched(252, true, false)).toEqual(["alias-unresolved"]);
  });

  it("IXFR of a large zone has pauses in it, that others have their turn while it is gone through", () => {
    const large = (address: string, serial: number) =>
      HostedZone.of(
        zoneFrom(
          `$ORIGIN moved.test.\n$TTL 60\n@ SOA ns h ${serial} 3 2 9 60\n@ NS ns\n${Array.from({ length: 5_000 }, (_, n) => `n${n} A 192.0.2.1\n`).join("")}a A ${address}\n`,
        ),
      );
    const zones = new Map([
      [
        "moved.test",
        { zone: large("192.0.2.9", 8), history: [large("192.0.2.8", 7)], keyName: "xfer.example" },
      ],
    ]);
    const { messages } = answerTransfer(
      signedBy(request(251, 7), "xfer.example"),
      { ...context, zones },
      NOW,
    )!;
    const all = [...messages];
    expect(all.filter((one) => one.length === 0)).toHaveLength(10);
    const read = all.filter((one) => one.length > 0).map((one) => readMessage(one));
    expect(
      read.flatMap((one) =>
        one.ok ? one.message.answers.flatMap((record) => linesOf([record])) : [one.fault],
      ),
    ).toEqual([
      "moved.test. 60 soa ns.moved.test. h.moved.test. 8 3 2 9 60",
      "moved.test. 60 soa ns.moved.test. h.moved.test. 7 3 2 9 60",
      "a.moved.test. 60 a 192.0.2.8",
      "moved.test. 60 soa ns.moved.test. h.moved.test. 8 3 2 9 60",
      "a.moved.test. 60 a 192.0.2.9",
      "moved.test. 60 soa ns.moved.test. h.moved.test. 8 3 2 9 60",
    ]);
  });

  it("what a zone lacks of another one is what brute force finds", () => {
    const random = randomBelow(11);
    const draw = (): HostedZone => {
      const lines = Array.from({ length: 12 }, () => {
        const owner = ["a", "A", "b", "b.a", "*.c"][random(5)];
        const data = [
          `A 192.0.2.${random(3)}`,
          `TXT "${random(3)}"`,
          `MX 1 m${random(2)}`,
          `DNAME d${random(2)}`,
        ];
        return `${owner} ${60 + random(2)} ${data[random(random(9) === 0 ? 4 : 3)]}`;
      });
      try {
        return HostedZone.of(
          zoneFrom(
            `$ORIGIN z.test.\n$TTL 60\n@ SOA ns h ${random(9)} 3 2 9 60\n@ NS ns\n${lines.join("\n")}\n`,
          ),
        );
      } catch {
        return draw();
      }
    };
    const keyOf = (record: DnsRecord): string =>
      `${Buffer.from(record.name.wire).toString("latin1")} ${linesOf([record])[0]}`;
    const records = (zone: HostedZone): readonly string[] =>
      [...zone.recordsWithSoaTwice()].filter(({ type }) => type !== 6).map(keyOf);
    let differences = 0;
    for (let n = 0; n < 300; n++) {
      const [one, other] = [draw(), draw()];
      const known = new Set(records(other));
      const expected = records(one).filter((key) => !known.has(key));
      const found = [...one.lackingIn(other)].flatMap((record) =>
        record === undefined ? [] : [keyOf(record)],
      );
      expect(found.sort()).toEqual(expected.sort());
      expect([...one.lackingIn(one)]).toEqual([]);
      differences += found.length;
    }
    expect(differences).toBeGreaterThan(1_000);
  });

  it("is silent about anything else", () => {
    expect(answerTransfer(signedBy(request(1), "xfer.example"), context, NOW)).toBeUndefined();
    expect(answerTransfer(Uint8Array.of(1, 2, 3), context, NOW)).toBeUndefined();
  });
});

describe("signatures", () => {
  it("signs the answer to any signed query, which verifies with the request's MAC before it", () => {
    const bytes = signedBy(request(6), "xfer.example");
    const answered = answerSigned(bytes, context, NOW, (query) => query);
    const before = verifyTsig(bytes, keys, hmac, NOW);
    expect(before.kind).toBe("good");
    expect(answered?.bytes?.length).toBe(bytes.length * 2 - request(6).length);
    expect(answerSigned(request(6), context, NOW, (query) => query)).toBeUndefined();
  });

  it("no mutated request passes, and none makes it throw", () => {
    const random = randomBelow(5);
    const good = signedBy(request(252), "xfer.example");
    let passed = 0;
    for (let n = 0; n < 3_000; n++) {
      let bytes = Uint8Array.from(good);
      for (let count = 1 + random(4); count > 0; count--) bytes[random(bytes.length)] = random(256);
      if (random(4) === 0) bytes = bytes.slice(0, random(bytes.length));
      const verdict = verifyTsig(bytes, keys, hmac, NOW);
      for (const one of answerTransfer(bytes, context, NOW)?.messages ?? [])
        if (one.length < 12) throw new Error("short");
      // Neither the id (the original one is) nor the letters of names are signed. All else must be as it was.
      const signedPart = (one: Uint8Array): string =>
        Buffer.from(one.subarray(2)).toString("latin1").toLowerCase();
      if (verdict.kind === "good" && signedPart(bytes) !== signedPart(good)) passed++;
    }
    expect(passed).toBe(0);
  });
});
