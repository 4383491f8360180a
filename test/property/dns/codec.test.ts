/** Our codec against itself and against dns2, an independent one. */
import { Packet } from "dns2";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addressFromBytes, formatAddress } from "#kit";
import { dnsClasses, dnsTypes } from "../../../mapping/core/dns/constants.ts";
import { echoEcs, encodeEcs, parseEcs } from "../../../mapping/core/dns/ecs.ts";
import type { DnsMessage, DnsRecord } from "../../../mapping/core/dns/message.ts";
import { type DomainName, nameFromText, parentText, readName } from "../../../mapping/core/dns/name.ts";
import { readMessage, writeMessage } from "../../../mapping/core/dns/wire.ts";
import { answerTo, query } from "../../unit/mapping-dns/fixture.ts";

interface Dns2Record {
  readonly name: string;
  readonly type: number;
  readonly ttl: number;
  readonly address?: string;
  readonly ns?: string;
  readonly primary?: string;
  readonly serial?: number;
  readonly minimum?: number;
  readonly rdata?: readonly {
    readonly ednsCode: number;
    readonly sourcePrefixLength?: number;
    readonly ip?: string;
  }[];
}
interface Dns2Packet {
  readonly header: Readonly<Record<string, number>>;
  readonly questions: readonly { readonly name: string; readonly type: number; readonly class: number }[];
  readonly answers: readonly Dns2Record[];
  readonly authorities: readonly Dns2Record[];
  readonly additionals: readonly Dns2Record[];
  readonly errors: readonly unknown[];
}
/** Its own types leave out what is compared here. */
const parseByDns2 = (bytes: Buffer) => Packet.parse(bytes) as unknown as Dns2Packet;

const label = fc.stringMatching(/^[A-Za-z0-9_]([A-Za-z0-9_-]{0,14}[A-Za-z0-9])?$/);
const name: fc.Arbitrary<DomainName> = fc
  .array(label, { minLength: 1, maxLength: 6 })
  .map((labels) => nameFromText(labels.join(".")) as DomainName);
const u32 = fc.nat({ max: 0xffff_ffff });
const ttlSeconds = fc.nat({ max: 0x7fff_ffff });
const octets = (max: number) => fc.uint8Array({ maxLength: max });

const data = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }).map((bytes) => ({
    type: dnsTypes.A,
    data: { kind: "address" as const, address: addressFromBytes(4, bytes) },
  })),
  fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => ({
    type: dnsTypes.AAAA,
    data: { kind: "address" as const, address: addressFromBytes(6, bytes) },
  })),
  fc
    .tuple(fc.constantFrom(dnsTypes.NS, dnsTypes.CNAME, dnsTypes.PTR), name)
    .map(([type, target]) => ({ type, data: { kind: "name" as const, name: target } })),
  fc
    .tuple(octets(40), octets(40))
    .map(([a, b]) => ({ type: dnsTypes.HINFO, data: { kind: "strings" as const, strings: [a, b] } })),
  fc
    .array(octets(255), { minLength: 1, maxLength: 3 })
    .map((strings) => ({ type: dnsTypes.TXT, data: { kind: "strings" as const, strings } })),
  octets(64).map((bytes) => ({ type: 65_280, data: { kind: "opaque" as const, bytes } })),
  fc
    .tuple(name, name, u32, u32, u32, u32, u32)
    .map(
      ([
        primaryName,
        hostmasterName,
        serial,
        refreshSeconds,
        retrySeconds,
        expireSeconds,
        minimumSeconds,
      ]) => ({
        type: dnsTypes.SOA,
        data: {
          kind: "soa" as const,
          soa: {
            primaryName,
            hostmasterName,
            serial,
            refreshSeconds,
            retrySeconds,
            expireSeconds,
            minimumSeconds,
          },
        },
      }),
    ),
);
const record: fc.Arbitrary<DnsRecord> = fc.tuple(name, ttlSeconds, data).map(([owner, ttl, body]) => ({
  name: owner,
  type: body.type,
  class: dnsClasses.IN,
  ttlSeconds: ttl,
  data: body.data,
}));
const message: fc.Arbitrary<DnsMessage> = fc.record({
  header: fc.record({
    id: fc.nat({ max: 0xffff }),
    isResponse: fc.boolean(),
    opcode: fc.nat({ max: 15 }),
    isAuthoritative: fc.boolean(),
    isTruncated: fc.boolean(),
    isRecursionDesired: fc.boolean(),
    isRecursionAvailable: fc.boolean(),
    isAuthenticData: fc.boolean(),
    isCheckingDisabled: fc.boolean(),
    rcode: fc.nat({ max: 15 }),
  }),
  questions: fc.array(fc.record({ name, type: fc.nat({ max: 0xffff }), class: fc.nat({ max: 0xffff }) }), {
    maxLength: 2,
  }),
  answers: fc.array(record, { maxLength: 4 }),
  authorities: fc.array(record, { maxLength: 2 }),
  additionals: fc.array(record, { maxLength: 2 }),
  edns: fc.option(
    fc.record({
      udpPayloadBytes: fc.nat({ max: 0xffff }),
      version: fc.constant(0),
      isDnssecOk: fc.boolean(),
      options: fc.array(fc.record({ code: fc.nat({ max: 0xffff }), data: octets(20) }), { maxLength: 3 }),
    }),
    { nil: undefined },
  ),
});

/** Texts only: the written form may point at a suffix in other letter case. */
const plain = (one: DnsMessage): string =>
  JSON.stringify(one, (key, value: unknown) =>
    key === "wire" ? undefined : value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value,
  );

describe("codec", () => {
  it("what is written reads as the same value", () => {
    fc.assert(
      fc.property(message, (one) => {
        const bytes = writeMessage(one);
        if (bytes === undefined) throw new Error("too long");
        const read = readMessage(bytes);
        if (!read.ok) throw new Error(`${read.fault} at ${read.at}`);
        expect(plain(read.message)).toBe(plain(one));
      }),
      { numRuns: 2_000 },
    );
  });

  it("every prefix of a message is refused or is not the message", () => {
    fc.assert(
      fc.property(message, fc.nat(), (one, cut) => {
        const bytes = writeMessage(one) as Uint8Array;
        const read = readMessage(bytes.slice(0, cut % bytes.length));
        expect(read.ok).toBe(false);
      }),
      { numRuns: 2_000 },
    );
  });

  it("names: text and wire agree; the parent is one label shorter", () => {
    fc.assert(
      fc.property(name, (one) => {
        const padded = Uint8Array.of(...new Uint8Array(12), ...one.wire);
        const read = readName(padded, 12);
        expect(read).toEqual({ ok: true, name: one, next: padded.length });
        const parent = parentText(one.text);
        expect(parent === "" ? one.text : one.text.slice(one.text.length - parent!.length)).toBe(
          parent === "" ? one.text : parent,
        );
        expect(one.text.includes(".")).toBe(parent !== "");
      }),
    );
  });

  it("no octet but a separator puts a dot in the text", () => {
    const read = readName(Uint8Array.of(...new Uint8Array(12), 3, 0x61, 0x2e, 0x62, 0), 12);
    expect(read.ok && read.name.text).toBe("a\\046b");
  });

  it("RFC 7871: a client subnet survives, and its echo differs in the scope only", () => {
    const subnet = fc.constantFrom(1 as const, 2 as const).chain((family) =>
      fc
        .tuple(
          fc.nat({ max: family === 1 ? 32 : 128 }),
          fc.uint8Array({ minLength: 16, maxLength: 16 }),
          fc.nat({ max: 200 }),
        )
        .map(([source, bytes, scope]) => {
          const address = bytes.slice(0, Math.ceil(source / 8));
          const tail = address.length * 8 - source;
          if (tail > 0) address[address.length - 1]! &= 0xff << tail;
          return { ecs: { family, sourcePrefixLength: source, scopePrefixLength: 0, address }, scope };
        }),
    );
    fc.assert(
      fc.property(subnet, ({ ecs, scope }) => {
        const asked = encodeEcs(ecs);
        expect(parseEcs(asked, "query")).toEqual({ ok: true, ecs });
        const echoed = echoEcs(ecs, scope);
        expect(echoed[3]).toBe(Math.min(scope, ecs.sourcePrefixLength));
        echoed[3] = 0;
        expect(echoed).toEqual(asked);
        // One octet more, one fewer, or any bit in the tail: refused.
        expect(parseEcs(Uint8Array.of(...asked, 0), "query").ok).toBe(false);
        if (ecs.address.length > 0) expect(parseEcs(asked.slice(0, -1), "query").ok).toBe(false);
        if (ecs.sourcePrefixLength % 8 !== 0) {
          asked[asked.length - 1]! |= 1;
          expect(parseEcs(asked, "query")).toEqual({ ok: false, fault: "ecs-dirty-tail" });
        }
      }),
    );
  });
});

describe("dns2 reads our answers as we mean them", () => {
  it("any mix of the records that both know", () => {
    // dns2 knows no PTR target or HINFO form of ours, so the shared ones are compared.
    const shared = record.filter(
      ({ type }) =>
        type === dnsTypes.A || type === dnsTypes.AAAA || type === dnsTypes.NS || type === dnsTypes.SOA,
    );
    fc.assert(
      fc.property(message, fc.array(shared, { maxLength: 5 }), (one, answers) => {
        const bytes = writeMessage({
          ...one,
          answers,
          authorities: [],
          additionals: [],
          edns: undefined,
        }) as Uint8Array;
        const read = readMessage(bytes);
        if (!read.ok) throw new Error(read.fault);
        const packet = parseByDns2(Buffer.from(bytes));
        expect(packet.errors).toEqual([]);
        expect(packet.header["id"]).toBe(one.header.id);
        expect(packet.header["qr"]).toBe(Number(one.header.isResponse));
        expect(packet.header["opcode"]).toBe(one.header.opcode);
        expect(packet.header["aa"]).toBe(Number(one.header.isAuthoritative));
        expect(packet.header["tc"]).toBe(Number(one.header.isTruncated));
        expect(packet.header["rd"]).toBe(Number(one.header.isRecursionDesired));
        expect(packet.header["rcode"]).toBe(one.header.rcode);
        expect(packet.questions.map((question) => question.name.toLowerCase())).toEqual(
          one.questions.map((question) => question.name.text),
        );
        expect(packet.answers.map((answer) => answer.name.toLowerCase())).toEqual(
          answers.map((answer) => answer.name.text),
        );
        for (const [index, answer] of packet.answers.entries()) {
          const wanted = answers[index]!;
          expect([answer.type, answer.ttl]).toEqual([wanted.type, wanted.ttlSeconds]);
          if (wanted.data.kind === "address" && wanted.type === dnsTypes.A)
            expect(answer.address).toBe(formatAddress(wanted.data.address));
          if (wanted.data.kind === "name") expect(answer.ns?.toLowerCase()).toBe(wanted.data.name.text);
          if (wanted.data.kind === "soa") {
            expect([answer.primary?.toLowerCase(), answer.serial, answer.minimum]).toEqual([
              wanted.data.soa.primaryName.text,
              wanted.data.soa.serial,
              wanted.data.soa.minimumSeconds,
            ]);
          }
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it("an address answer with client subnet", () => {
    const { decision } = answerTo(query({ name: "wWw.shop.example", ecs: "0001 18 00 c00002" }));
    const packet = parseByDns2(Buffer.from(decision.bytes));
    expect(packet.errors).toEqual([]);
    expect(packet.questions[0]?.name).toBe("wWw.shop.example");
    expect(packet.answers.map(({ address }) => address)).toHaveLength(2);
    expect(packet.answers.every(({ address }) => address?.startsWith("127.10.1."))).toBe(true);
    expect(packet.additionals[0]?.rdata?.[0]).toMatchObject({
      ednsCode: 8,
      sourcePrefixLength: 24,
      ip: "192.0.2.0",
    });
  });
});
