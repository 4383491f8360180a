/** Hostile packets: mutations of real ones and plain noise. No throw, every reply parses and fits, nothing is echoed wrongly. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ecsFaults } from "../../../mapping/core/dns/ecs.ts";
import { messageFaults } from "../../../mapping/core/dns/message.ts";
import { nameFaults } from "../../../mapping/core/dns/name.ts";
import { respond } from "../../../mapping/core/dns/respond.ts";
import { dropReasons, replyReasons } from "../../../mapping/core/dns/decision.ts";
import { readMessage, writeMessage } from "../../../mapping/core/dns/wire.ts";
import { mutateDnsPacket, randomBelow } from "../../tools/hostile/dns-packets.ts";
import { context, resolver, wideContext } from "../../unit/mapping-dns/fixture.ts";

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
    const random = randomBelow(20_261_121);
    for (let n = 0; n < 100_000; n++) {
      const bytes = mutateDnsPacket(random);
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
