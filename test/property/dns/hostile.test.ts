/** Hostile packets: mutations of real ones and plain noise. No throw, every reply parses and fits, nothing is echoed wrongly. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ecsFaults } from "../../../mapping/core/dns/ecs.ts";
import { messageFaults } from "../../../mapping/core/dns/message.ts";
import { nameFaults } from "../../../mapping/core/dns/name.ts";
import { respond } from "../../../mapping/core/dns/respond.ts";
import { dropReasons, replyReasons } from "../../../mapping/core/dns/decision.ts";
import { readMessage, writeMessage } from "../../../mapping/core/dns/wire.ts";
import { context, hex, query, resolver, wideContext } from "../../unit/mapping-dns/fixture.ts";

const seeds: readonly Uint8Array[] = [
  query(),
  query({ name: "WwW.shop.EXAMPLE", ecs: "0001 18 00 c00002" }),
  query({ ecs: "0002 38 00 20010db8000100", type: 28 }),
  query({ name: "shop.example", type: 2, udpPayloadBytes: 4096 }),
  query({ name: "shop.example", type: 6, edns: true, isDnssecOk: true }),
  query({
    name: "a.b.c.d.nope.shop.example",
    type: 255,
    options: [{ code: 10, data: hex("0102030405060708") }],
  }),
  query({ name: "media.example", version: 1 }),
  // Pointers and records of every kind that the reader knows.
  hex(
    "1234 0000 0001 0001 0001 0001 0473686f70 076578616d706c65 00 00fb 0001 c00c 0005 0001 00000000 0004 0161 c00c c00c 0006 0001 00000000 0018 c00c c00c 00000001 00000000 00000000 00000000 00000000 00 0029 04d0 00000000 0007 0008 0003 000000",
  ),
  hex(
    "1234 0000 0001 0000 0000 0002 03777777 0473686f70 076578616d706c65 00 0001 0001 c00c 000d 0001 00000000 0004 01610162 c010 0010 0001 00000000 0003 020000",
  ),
];

/** xorshift32: the corpus is the same in every run. */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

function mutate(random: (below: number) => number): Uint8Array {
  let bytes = Uint8Array.from(seeds[random(seeds.length)]!);
  for (let count = 1 + random(6); count > 0; count--) {
    const at = random(Math.max(1, bytes.length));
    switch (random(9)) {
      case 0:
        bytes[at] = random(256);
        break;
      case 1:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
        break;
      case 2:
        bytes = bytes.slice(0, at);
        break;
      case 3:
        bytes = Uint8Array.of(...bytes.slice(0, at), random(256), ...bytes.slice(at));
        break;
      case 4: // A pointer to anywhere.
        bytes[at] = 0xc0 | random(64);
        bytes[at + 1] = random(256);
        break;
      case 5: // Section counts, where most faults of name servers have been.
        bytes[4 + random(8)] = [0, 1, 2, 255][random(4)]!;
        break;
      case 6: // A splice of two packets.
        bytes = Uint8Array.of(...bytes.slice(0, at), ...seeds[random(seeds.length)]!.slice(random(40)));
        break;
      case 7: // One more OPT.
        bytes = Uint8Array.of(...bytes, ...hex("00 0029 04d0 00000000 0000"));
        bytes[11] = (bytes[11]! + 1) & 0xff;
        break;
      default: // QR and opcode are kept harmless in most cases, so that deeper code is reached.
        bytes[2] = 0;
        bytes[5] = 1;
    }
  }
  return bytes;
}

const rare = new Map<string, number>();
const narrow = context();
const wide = wideContext(60);

function check(bytes: Uint8Array, transport: "udp" | "tcp", state: typeof narrow | undefined): void {
  const decision = respond({ bytes, transport, resolverAddress: resolver }, state);
  rare.set(decision.reason, (rare.get(decision.reason) ?? 0) + 1);
  if (decision.action === "drop") {
    expect(dropReasons).toContain(decision.reason);
    if (bytes.length >= 12 && (bytes[2]! & 0x80) === 0) throw new Error("dropped a query");
    return;
  }
  if (!replyReasons.includes(decision.reason)) throw new Error(decision.reason);
  if (decision.fault !== undefined) {
    rare.set(decision.fault, (rare.get(decision.fault) ?? 0) + 1);
    if (![...messageFaults, ...nameFaults, ...ecsFaults].includes(decision.fault))
      throw new Error(decision.fault);
  }
  const read = readMessage(decision.bytes);
  if (!read.ok) throw new Error(`reply does not parse: ${read.fault}`);
  const { header, questions, answers, edns } = read.message;
  const asked = readMessage(bytes);
  if (header.id !== ((bytes[0]! << 8) | bytes[1]!)) throw new Error("id");
  if (!header.isResponse || header.isRecursionAvailable || header.isAuthenticData) throw new Error("flags");
  if (header.isTruncated && answers.length > 0) throw new Error("half an answer");
  const limit =
    transport === "tcp"
      ? 65_535
      : edns === undefined
        ? 512
        : Math.min(1232, Math.max(512, asked.ok ? (asked.message.edns?.udpPayloadBytes ?? 0) : 1232));
  if (decision.bytes.length > limit)
    throw new Error(`reply of ${decision.bytes.length} octets, limit ${limit}`);
  if (asked.ok && edns !== undefined && asked.message.edns === undefined)
    throw new Error("OPT that was not asked for");
  // The question comes back octet by octet, case included.
  if (questions[0] !== undefined && asked.ok) {
    if (Buffer.compare(questions[0].name.wire, asked.message.questions[0]!.name.wire) !== 0)
      throw new Error("question");
  }
  // Our writer and reader agree on every reply.
  expect(writeMessage(read.message)).toEqual(decision.bytes);
}

describe("hostile packets", () => {
  it("100,000 mutations: no throw, every reply parses and is never larger than allowed", () => {
    const random = generator(20_261_121);
    for (let n = 0; n < 100_000; n++) {
      const bytes = mutate(random);
      try {
        check(bytes, n % 8 === 0 ? "tcp" : "udp", n % 16 === 0 ? undefined : n % 3 === 0 ? wide : narrow);
      } catch (error) {
        throw new Error(`packet ${Buffer.from(bytes).toString("hex")}`, { cause: error });
      }
    }
    // A run in which the rare never happened proves nothing.
    for (const reason of [
      "too-short",
      "is-response",
      "opcode",
      "question-count",
      "malformed",
      "ecs-malformed",
      "edns-version",
      "address",
      "no-such-name",
      "outside-zones",
      "class",
      "no-documents",
      "name-pointer",
      "name-label-type",
      "opt-duplicate",
      "opt-data",
      "trailing-bytes",
      "record-data",
      "ecs-dirty-tail",
      "ecs-address-length",
    ]) {
      expect(rare.get(reason) ?? 0, reason).toBeGreaterThan(0);
    }
  });

  it("noise of any length, up to the largest datagram", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2_000 }), (bytes) => {
        check(bytes, "udp", narrow);
      }),
      { numRuns: 3_000 },
    );
  });

  it("a packet built to make name reading slow is bounded", () => {
    // 5,000 records, each owned by a pointer into a chain of pointers.
    const parts: number[] = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0x13, 0x88, 0, 0, 1, 0, 1];
    let previous = 12;
    for (let n = 0; n < 5_000; n++) {
      const here = parts.length;
      parts.push(0xc0 | (previous >> 8), previous & 0xff, 0, 16, 0, 1, 0, 0, 0, 0, 0, 2, 1, 97);
      if (here < 0x3fff) previous = here;
    }
    const decision = respond(
      { bytes: Uint8Array.from(parts), transport: "tcp", resolverAddress: resolver },
      narrow,
    );
    expect(decision).toMatchObject({ action: "reply", reason: "malformed", fault: "too-many-records" });
    // Without the limit on records the limit on pointers ends it: the 128th link of the chain.
    expect(readMessage(Uint8Array.from(parts))).toMatchObject({ ok: false, fault: "name-pointer" });
  });
});
