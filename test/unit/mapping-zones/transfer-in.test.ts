/** Zones as they come from a primary: what is read, what is refused whole, and signatures over many messages. */
import { describe, expect, it } from "vitest";
import {
  nameFromText,
  recordText,
  zoneDataOf,
  zoneDocument,
  type ZoneDocument,
  zoneOfDocument,
  editZone,
} from "#kit";
import { hmac, tsigKeysOf } from "#mapping";
import { HostedZone } from "../../../mapping/core/zone/hosted-zone.ts";
import { answerTransfer, type TransferContext } from "../../../mapping/core/zone/transfer.ts";
import {
  changedRecords,
  transferQuery,
  type TransferRead,
  TransferReader,
} from "../../../mapping/core/zone/transfer-in.ts";
import { TsigSigner, TsigVerifier } from "../../../mapping/core/zone/tsig.ts";
import { randomBelow } from "../../tools/hostile/dns-packets.ts";

const NOW = 1_790_000_000;
const AXFR = 252;
const IXFR = 251;
const SOA = 6;
const keys = tsigKeysOf([
  { name: "xfer.example", algorithm: "hmac-sha256", secret: Buffer.alloc(32, 7).toString("base64") },
]);
const key = keys.get("xfer.example")!;
const origin = nameFromText("moved.test")!;

const many = Array.from({ length: 800 }, (_, n) => ({
  name: `host-${n}`,
  type: "A",
  ttlSeconds: 60,
  data: [`192.0.2.${n % 256}`],
}));
const first = zoneDocument.parse({
  zoneId: "moved",
  customerId: "acme",
  origin: "moved.test",
  sets: [
    { name: "@", type: "SOA", ttlSeconds: 300, data: ["ns h 7 3600 1800 1209600 60"] },
    { name: "@", type: "NS", ttlSeconds: 300, data: ["ns"] },
    { name: "@", type: "MX", ttlSeconds: 300, data: ["5 mail", "6 mail.x"] },
    ...many,
  ],
});
const second = editZone(first, [
  { action: "set", name: "a", type: "A", ttlSeconds: 60, data: ["192.0.2.2"] },
]);
const third = editZone(second, [
  { action: "set", name: "a", type: "A", ttlSeconds: 30, data: ["192.0.2.2", "192.0.2.3"] },
  { action: "delete", name: "host-799", type: "A" },
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

/** A question, its answer by ours as a primary, and who reads it. */
function exchange(type: typeof AXFR | typeof IXFR, held?: ZoneDocument) {
  const { soa, serial } = held === undefined ? {} : hosted(held);
  const plain = transferQuery(77, origin, type, soa);
  const signer = new TsigSigner(key, hmac, new Uint8Array());
  const messages = [...answerTransfer(signer.sign(plain, NOW), context, NOW)!.messages];
  const reader = () =>
    new TransferReader({
      id: 77,
      origin,
      type,
      recordsMax: 10_000,
      verifier: new TsigVerifier(key, hmac, signer.lastMac),
      ...(serial !== undefined && { heldSerial: serial }),
    });
  return { messages, reader };
}
function readAll(messages: readonly Uint8Array[], reader: TransferReader): TransferRead {
  for (const [n, one] of messages.entries()) {
    const read = reader.handleMessage(one, NOW);
    if (read.kind !== "more" && read.kind !== "refused" && n < messages.length - 1)
      throw new Error(`ends as ${read.kind} before the last message`);
    if (read.kind !== "more") return read;
  }
  return { kind: "more" };
}
const textOf = (document: ZoneDocument): readonly string[] =>
  zoneOfDocument(document)
    .sets.values()
    .flatMap((sets) => sets.values())
    .flatMap(({ name, type, ttlSeconds, rdata }) =>
      rdata.map((one) => recordText({ name, type, ttlSeconds, rdata: one, line: 0 })),
    )
    .toArray()
    .sort();

describe("what our own transfers say", () => {
  it("is the zone, record for record, over several signed messages", () => {
    const { messages, reader } = exchange(AXFR);
    expect(messages.length).toBeGreaterThan(2);
    const read = readAll(messages, reader());
    if (read.kind !== "whole") throw new Error(JSON.stringify(read));
    expect(read.records.map(recordText).sort()).toEqual(textOf(third));
  });

  it.each([
    ["two changes", first],
    ["one change", second],
  ])("is the zone, by %s", (_says, held) => {
    const { messages, reader } = exchange(IXFR, held);
    const read = readAll(messages, reader());
    if (read.kind !== "changes") throw new Error(JSON.stringify(read));
    const changed = changedRecords(zoneOfDocument(held), read.changes);
    if ("why" in changed) throw new Error(changed.why);
    const made = zoneDataOf(origin, changed.records);
    expect(changed.records.map(recordText).sort()).toEqual(textOf(third));
    expect(made.ok && made.zone.serial).toBe(9);
  });

  it("is its serial alone where nothing is newer", () => {
    const { messages, reader } = exchange(IXFR, third);
    expect(readAll(messages, reader())).toEqual({ kind: "serial", serial: 9 });
  });

  it("does not fit another zone: changes are taken exactly or not at all", () => {
    const { messages, reader } = exchange(IXFR, second);
    const read = readAll(messages, reader());
    if (read.kind !== "changes") throw new Error(JSON.stringify(read));
    expect(changedRecords(zoneOfDocument(first), read.changes)).toEqual({
      why: "what goes is not here: A of a.moved.test",
    });
    const twice = { ...read.changes[0]!, removed: [] };
    expect(changedRecords(zoneOfDocument(third), [twice])).toEqual({
      why: "what comes is here already: A of a.moved.test",
    });
  });
});

describe("signatures of a transfer", () => {
  const unsigned = (bytes: Uint8Array): Uint8Array => {
    // The TSIG record of this key is as long in all of them but for nothing.
    const length = key.name.wire.length + 10 + nameFromText(key.algorithm)!.wire.length + 16 + 32;
    const bare = Uint8Array.from(bytes.subarray(0, bytes.length - length));
    bare[11]!--;
    return bare;
  };
  const refusal = (messages: readonly Uint8Array[], reader: TransferReader): string => {
    const read = readAll(messages, reader);
    return read.kind === "refused" ? read.why : read.kind;
  };

  it("messages between signed ones may be without (RFC 8945 section 5.3.1); the last one may not", () => {
    const { messages, reader } = exchange(AXFR);
    const bare = messages.map(unsigned);
    expect(refusal([messages[0]!, ...bare.slice(1)], reader())).toBe("no signature on its last message");
    expect(refusal(bare, reader())).toBe("no signature");
    expect(refusal([messages[0]!, bare[1]!, ...messages.slice(2)], reader())).toMatch(/does not hold/);
  });

  it("and a signature covers those before it that have none", () => {
    const { messages, reader } = exchange(AXFR);
    const [one, two, three] = messages as [Uint8Array, Uint8Array, Uint8Array];
    const time = Buffer.alloc(8);
    time.writeUIntBE(NOW, 0, 6);
    time.writeUInt16BE(300, 6);
    const octets = Buffer.concat([
      Uint8Array.of(0, 32),
      one.slice(-38, -6),
      unsigned(two),
      unsigned(three),
      time,
    ]);
    const covering = Uint8Array.from(three);
    covering.set(hmac(key.algorithm, key.secret, octets), three.length - 38);
    expect(messages.length).toBe(3);
    expect(readAll([one, unsigned(two), covering], reader()).kind).toBe("whole");
    expect(refusal([one, unsigned(two).with(400, 0xff), covering], reader())).toMatch(/does not hold|read/);
  });

  it.each<[says: string, change: (messages: Uint8Array[]) => Uint8Array[], why: RegExp]>([
    ["one message is left out", (all) => [all[0]!, ...all.slice(2)], /does not hold/],
    ["two are in another order", (all) => [all[0]!, all[2]!, all[1]!, ...all.slice(3)], /does not hold/],
    [
      "an octet is another one",
      (all) => all.map((one, n) => (n === 1 ? one.with(300, one[300]! ^ 1) : one)),
      /does not hold|cannot be read|another/,
    ],
  ])("do not hold when %s", (_says, change, why) => {
    const { messages, reader } = exchange(AXFR);
    expect(refusal(change(messages), reader())).toMatch(why);
  });

  it("no mutated transfer is taken for another zone, and none makes the reader throw", () => {
    const random = randomBelow(9);
    const { messages, reader } = exchange(IXFR, first);
    const message = messages[0]!;
    let refused = 0;
    for (let n = 0; n < 1_000; n++) {
      let bytes = Uint8Array.from(message);
      for (let count = 1 + random(4); count > 0; count--) bytes[random(bytes.length)] = random(256);
      if (random(4) === 0) bytes = bytes.slice(0, random(bytes.length));
      const signed = reader().handleMessage(bytes, NOW);
      if (signed.kind === "refused") refused++;
      // Without a key nothing is known to be wrong, but it is read or refused.
      new TransferReader({ id: 77, origin, type: IXFR, heldSerial: 7, recordsMax: 100 }).handleMessage(
        bytes,
        NOW,
      );
    }
    // The id is not signed, nor the letters of names.
    expect(refused).toBeGreaterThan(950);
  });
});

/** Of an unsigned answer, by what stands in its answer section. */
function plain(
  records: readonly [name: string, type: number, rdata: readonly number[]][],
  head: readonly number[] = [],
) {
  const wire = (name: string): Uint8Array => nameFromText(name)!.wire;
  const parts: number[] = [0, 77, 0x84, 0, 0, 0, 0, records.length, 0, 0, 0, 0];
  for (const [at, octet] of head.entries()) if (octet >= 0) parts[at] = octet;
  for (const [name, type, rdata] of records)
    parts.push(
      ...wire(name),
      type >> 8,
      type & 255,
      0,
      1,
      0,
      0,
      0,
      60,
      rdata.length >> 8,
      rdata.length & 255,
      ...rdata,
    );
  return Uint8Array.from(parts);
}
const soaOf = (serial: number): [string, number, readonly number[]] => [
  "moved.test",
  SOA,
  [0, 0, 0, 0, 0, serial, ...Array.from({ length: 16 }, () => 1)],
];
const a: [string, number, readonly number[]] = ["a.moved.test", 1, [192, 0, 2, 1]];

describe("a transfer is refused", () => {
  it.each<[says: string, type: typeof AXFR | typeof IXFR | typeof SOA, bytes: Uint8Array, why: RegExp]>([
    ["for its rcode", AXFR, plain([], [0, 77, 0x84, 5]), /rcode REFUSED/],
    ["for another id", AXFR, plain([soaOf(8)], [0, 78]), /something else/],
    ["as a question", AXFR, plain([soaOf(8)], [0, 77, 0x04]), /something else/],
    ["truncated", AXFR, plain([soaOf(8)], [0, 77, 0x86]), /truncated/],
    ["without a SOA first", AXFR, plain([a, soaOf(8)]), /no SOA record at its beginning/],
    ["with nothing in it", AXFR, plain([]), /no SOA record at its beginning/],
    ["with two serials", AXFR, plain([soaOf(8), a, soaOf(9)]), /serial 9 at its end/],
    ["with more after its end", AXFR, plain([soaOf(8), a, soaOf(8), a]), /after its last SOA/],
    ["with RDATA that is none", AXFR, plain([soaOf(8), ["a.moved.test", 1, [1, 2, 3]]]), /RDATA.*A of a/],
    ["with a SOA that is none", AXFR, plain([["moved.test", SOA, [0, 0]]]), /RDATA/],
    ["with a signature that is none", AXFR, plain([soaOf(8), ["a.moved.test", 46, [0]]]), /TYPE46 of a/],
    ["with changes from elsewhere", IXFR, plain([soaOf(9), soaOf(6), a]), /serial 6 at its end/],
    [
      "with changes that do not meet",
      IXFR,
      plain([soaOf(9), soaOf(7), soaOf(8), a, soaOf(7)]),
      /serial 7 behind/,
    ],
    [
      "with too many records",
      AXFR,
      plain([soaOf(8), ...Array.from({ length: 20 }, () => a)]),
      /more than 20 records/,
    ],
    ["without authority", SOA, plain([soaOf(8)], [0, 77, 0x80]), /no question|without authority/],
  ])("%s", (_says, type, bytes, why) => {
    const reader = new TransferReader({ id: 77, origin, type, heldSerial: 7, recordsMax: 20 });
    const read = reader.handleMessage(bytes, NOW);
    expect(read.kind).toBe("refused");
    expect(read.kind === "refused" && read.why).toMatch(why);
  });

  it("a record at a time is read too", () => {
    const reader = new TransferReader({ id: 77, origin, type: AXFR, recordsMax: 20 });
    expect(reader.handleMessage(plain([soaOf(8)]), NOW)).toEqual({ kind: "more" });
    expect(reader.handleMessage(plain([a]), NOW)).toEqual({ kind: "more" });
    expect(reader.handleMessage(plain([soaOf(8)]), NOW)).toMatchObject({ kind: "whole" });
  });
});
