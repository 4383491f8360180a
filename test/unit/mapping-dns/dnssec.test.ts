/** DNSSEC as the core makes it: canonical forms, names that follow, types that are said to be there, lives of signatures. */
import { createPublicKey, verify } from "node:crypto";
import { describe, expect, it } from "vitest";
import { parseAddress } from "#kit";
import { canonicalSet } from "../../../mapping/core/dns/dnssec/canonical.ts";
import { dsData, keyTagOf } from "../../../mapping/core/dns/dnssec/keys.ts";
import { nextName, typeBitmap } from "../../../mapping/core/dns/dnssec/nsec.ts";
import { SignatureCache, ZoneSigner } from "../../../mapping/core/dns/dnssec/signer.ts";
import { dnsTypes, rcodes } from "../../../mapping/core/dns/constants.ts";
import { DnsCounters } from "../../../mapping/core/dns/counters.ts";
import { FastPath } from "../../../mapping/core/dns/fast-path.ts";
import type { DnsMessage, DnsRecord } from "../../../mapping/core/dns/message.ts";
import { nameFromText } from "../../../mapping/core/dns/name.ts";
import { respond } from "../../../mapping/core/dns/respond.ts";
import { readMessage } from "../../../mapping/core/dns/wire.ts";
import { sha256 } from "#mapping";
import { hostedContext, zoneFrom } from "../../tools/zones/hosted.ts";
import { type Ask, context, hex, query, resolver, wideContext } from "./fixture.ts";
import { keySet, newKey, signersOf } from "./signed.ts";

const NOW = 1_800_000_000;
const shopKey = newKey();
const mediaKey = newKey();
const keySets = [keySet("shop.example", shopKey), keySet("media.example", mediaKey)];
const signed = { ...context(), signers: signersOf(keySets) };
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** The answer to who set DO, read. */
function ask(asked: Ask & { flags?: number; now?: number; of?: typeof signed; tcp?: boolean }): DnsMessage {
  const bytes = query({ isDnssecOk: true, edns: true, ...asked });
  // The OPT record's flags: 11 octets from the end, after root, type, size and extended rcode.
  if (asked.flags !== undefined) bytes[bytes.length - 4]! |= asked.flags;
  const decision = respond(
    {
      bytes,
      transport: asked.tcp === true ? "tcp" : "udp",
      resolverAddress: resolver,
      epochSeconds: asked.now ?? NOW,
    },
    asked.of ?? signed,
  );
  if (decision.action !== "reply") throw new Error(decision.reason);
  const read = readMessage(decision.bytes);
  if (!read.ok) throw new Error(read.fault);
  return read.message;
}

const dataOf = (record: DnsRecord | undefined): Buffer => {
  if (record?.data.kind !== "opaque") throw new Error("not opaque");
  return Buffer.from(record.data.bytes);
};
const types = (records: readonly DnsRecord[]): number[] => records.map(({ type }) => type);
/** Types in an NSEC record, of windows 0 and 1. */
function bitmapOf(record: DnsRecord | undefined): number[] {
  const data = dataOf(record);
  let at = 0;
  while (data[at] !== 0 || at === 0) at += 1 + data[at]!;
  const found: number[] = [];
  for (at++; at < data.length; at += 2 + data[at + 1]!)
    for (let bit = 0; bit < data[at + 1]! * 8; bit++)
      if (data[at + 2 + (bit >>> 3)]! & (0x80 >>> (bit & 7))) found.push(data[at]! * 256 + bit);
  return found;
}
/** Whether an RRSIG is good for the set, by node:crypto alone. */
function isGood(signature: DnsRecord | undefined, set: readonly DnsRecord[], publicKey: Uint8Array): boolean {
  const data = dataOf(signature);
  const signatureAt = data.length - 64;
  const key = createPublicKey({
    key: {
      kty: "EC",
      crv: "P-256",
      x: Buffer.from(publicKey.subarray(0, 32)).toString("base64url"),
      y: Buffer.from(publicKey.subarray(32)).toString("base64url"),
    },
    format: "jwk",
  });
  const over = Buffer.concat([data.subarray(0, signatureAt), canonicalSet(set)]);
  return verify("sha256", over, { key, dsaEncoding: "ieee-p1363" }, data.subarray(signatureAt));
}

describe("canonical form", () => {
  it("RFC 4034 6.2, 6.3: owners and names in lower case, sorted by RDATA, each once", () => {
    const record = (name: string, type: number, bytes: string): DnsRecord => ({
      name: nameFromText(name)!,
      type,
      class: 1,
      ttlSeconds: 60,
      data: { kind: "opaque", bytes: hex(bytes) },
    });
    const mx = [record("WWW.Example", 15, "0014 024d58 00"), record("www.example", 15, "000a 014D 00")];
    expect(hexOf(canonicalSet([...mx, mx[1]!]))).toBe(
      hexOf(
        hex(
          "03777777076578616d706c6500 000f 0001 0000003c 0005 000a016d00" +
            "03777777076578616d706c6500 000f 0001 0000003c 0006 0014026d7800",
        ),
      ),
    );
    // An unknown type's octets are no names, whatever they look like (RFC 3597 section 7).
    expect(hexOf(canonicalSet([record("a", 65280, "014D00")]))).toMatch(/014d00$/);
    // RDATA that does not fit its type ends the walk, not the process.
    expect(canonicalSet([record("a", dnsTypes.SRV, "00ff")])).toHaveLength(3 + 10 + 2);
  });

  it("RFC 6605 6.1: key tag and DS of the example key", () => {
    const key = Buffer.from(
      "GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
      "base64",
    );
    expect(keyTagOf(key)).toBe(55_648);
    expect(hexOf(dsData(nameFromText("Example.NET")!, key, sha256))).toBe(
      "d9600d02b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17",
    );
  });
});

describe("NSEC", () => {
  it("the next name is the least that has room", () => {
    const next = (text: string): string => {
      const found = nextName(hex(text));
      return found === undefined ? "none" : hexOf(found);
    };
    expect(next("0161 00")).toBe("0100016100");
    // 254 octets: a label before it has no room, one more octet has.
    const label = (n: number, fill = "61"): string => n.toString(16).padStart(2, "0") + fill.repeat(n);
    const tail = label(63) + label(63) + label(63);
    expect(next(`${label(60)}${tail}00`)).toBe(`${label(61, "61").slice(0, -2)}00${tail}00`);
    // 255 octets: the last octet counts up, over upper case, and what is all ff is cut.
    expect(next(`${label(61)}${tail}00`)).toBe(`3d${"61".repeat(60)}62${tail}00`);
    expect(next(`3d${"61".repeat(60)}40${tail}00`)).toBe(`3d${"61".repeat(60)}5b${tail}00`);
    expect(next(`3d${"61".repeat(59)}62ff${tail}00`)).toBe(`3c${"61".repeat(59)}63${tail}00`);
    expect(next(`${label(61, "ff")}${tail}00`)).toBe("none");
  });

  it("RFC 4034 4.1.2: type bit maps", () => {
    expect(hexOf(typeBitmap([1, 15, 46, 47, 1234]))).toBe(`0006400100000003041b${"00".repeat(26)}20`);
  });
});

describe("a signed zone", () => {
  it("signs what the map answers, in any case of letters, and nothing for who did not set DO", () => {
    const message = ask({ name: "wWw.shop.EXAMPLE" });
    expect(types(message.answers)).toEqual([1, 1, 46]);
    expect(isGood(message.answers[2], message.answers.slice(0, 2), shopKey.publicKey)).toBe(true);
    expect(isGood(message.answers[2], message.answers.slice(0, 1), shopKey.publicKey)).toBe(false);
    const plain = ask({ isDnssecOk: false });
    expect(types(plain.answers)).toEqual([1, 1]);
    expect(ask({ isDnssecOk: false, name: "nope.shop.example" }).header.rcode).toBe(rcodes.NXDOMAIN);
  });

  it("RFC 9824 3.1, 5.1: a name that is not there is NOERROR with NXNAME, or NXDOMAIN for who set CO", () => {
    const message = ask({ name: "noPe.shop.example" });
    expect(message.header.rcode).toBe(rcodes.NOERROR);
    expect(types(message.authorities)).toEqual([6, 46, 47, 46]);
    expect(bitmapOf(message.authorities[2])).toEqual([46, 47, 128]);
    expect(
      hexOf(dataOf(message.authorities[2])).startsWith(hexOf(hex("0100 046e6f7065 0473686f70 07"))),
    ).toBe(true);
    expect(isGood(message.authorities[3], [message.authorities[2]!], shopKey.publicKey)).toBe(true);
    expect(isGood(message.authorities[1], [message.authorities[0]!], shopKey.publicKey)).toBe(true);
    const known = ask({ name: "nope.shop.example", flags: 0x40 });
    expect([known.header.rcode, known.edns?.isCompactAnswersOk]).toEqual([rcodes.NXDOMAIN, true]);
    expect(bitmapOf(known.authorities[2])).toEqual([46, 47, 128]);
    expect(ask({ name: "www.shop.example", flags: 0x40 }).edns?.isCompactAnswersOk).toBe(true);
  });

  const bitmaps: readonly [string, number, number[]][] = [
    ["www.shop.example", dnsTypes.TXT, [1, 46, 47]],
    ["www.shop.example", dnsTypes.AAAA, [1, 46, 47]],
    ["empty.shop.example", dnsTypes.A, [46, 47]], // an empty non-terminal
    ["old.shop.example", dnsTypes.A, [46, 47]], // withdrawn
    ["ns1.shop.example", dnsTypes.AAAA, [1, 46, 47]],
    ["shop.example", dnsTypes.MX, [2, 6, 46, 47, 48, 59, 60]],
    ["media.example", dnsTypes.MX, [1, 2, 6, 46, 47, 48, 59, 60]],
    ["sub.shop.example", dnsTypes.DS, [2, 46, 47]], // an unsigned zone below a signed one
  ];
  it.each(bitmaps)("%s type %i: NODATA says what is there", (name, type, expected) => {
    const message = ask({ name, type });
    expect(message.header.rcode).toBe(rcodes.NOERROR);
    expect(message.answers).toEqual([]);
    expect(bitmapOf(message.authorities.find((record) => record.type === dnsTypes.NSEC))).toEqual(expected);
  });

  it("an unsigned zone below is not signed, a signed one has its DS above", () => {
    expect(types(ask({ name: "nope.sub.shop.example" }).authorities)).toEqual([6]);
    const both = { ...context(), signers: signersOf([...keySets, keySet("sub.shop.example", mediaKey)]) };
    const ds = ask({ name: "sub.shop.example", type: dnsTypes.DS, of: both });
    expect(types(ds.answers)).toEqual([43, 46]);
    expect(ds.answers.map(({ ttlSeconds }) => ttlSeconds)).toEqual([7_200, 7_200]);
    expect(isGood(ds.answers[1], [ds.answers[0]!], shopKey.publicKey)).toBe(true);
    const nsec = ask({ name: "sub.shop.example", type: dnsTypes.MX, of: both }).authorities;
    expect(isGood(nsec[3], [nsec[2]!], mediaKey.publicKey)).toBe(true);
  });

  it("DNSKEY, CDS and CDNSKEY stand at the apex, with or without DO, and nowhere in an unsigned zone", () => {
    for (const type of [dnsTypes.DNSKEY, dnsTypes.CDS, dnsTypes.CDNSKEY]) {
      expect(types(ask({ name: "shop.example", type }).answers)).toEqual([type, 46]);
      expect(types(ask({ name: "shop.example", type, isDnssecOk: false }).answers)).toEqual([type]);
      expect(ask({ name: "sub.shop.example", type }).answers).toEqual([]);
      expect(ask({ name: "www.shop.example", type }).answers).toEqual([]);
    }
  });

  it("NSEC and RRSIG may be asked for, NXNAME may not", () => {
    expect(bitmapOf(ask({ name: "nope.shop.example", type: dnsTypes.NSEC }).answers[0])).toEqual([
      46, 47, 128,
    ]);
    expect(types(ask({ type: dnsTypes.RRSIG }).answers)).toEqual([46]);
    const refused = ask({ type: dnsTypes.NXNAME });
    expect([refused.header.rcode, hexOf(refused.edns?.options.at(-1)?.data ?? hex(""))]).toEqual([
      rcodes.FORMERR,
      "001e",
    ]);
  });

  it("an answer of many records is cut over UDP, whole over TCP", () => {
    const wide = { ...wideContext(40), signers: signed.signers };
    const asked = { name: "shop.example", type: dnsTypes.NS, of: wide };
    expect(ask(asked).header.isTruncated).toBe(true);
    const whole = ask({ ...asked, tcp: true });
    expect(isGood(whole.answers.at(-1), whole.answers.slice(0, -1), shopKey.publicKey)).toBe(true);
  });
});

it("a name whose addresses the map says is no alias, to validators neither", () => {
  const zone = zoneFrom(
    "$ORIGIN other.test.\n$TTL 60\n@ SOA ns h 1 2 1 4 30\n@ NS ns\nwww CNAME elsewhere.test.\nplain CNAME x\n",
  );
  const of = { ...hostedContext([zone]), signers: signersOf([keySet("other.test", newKey())]) };
  /** Bits of the first window of the NSEC record that answers or denies. */
  const typesOf = (name: string, type: number): readonly number[] => {
    const { answers, authorities } = ask({ name, type, of, now: NOW });
    const data = dataOf([...answers, ...authorities].find((one) => one.type === dnsTypes.NSEC));
    const bitmap = data.subarray(name.length + 2 + 2 + 2);
    return [...bitmap].flatMap((octet, n) =>
      [0, 1, 2, 3, 4, 5, 6, 7].flatMap((bit) => ((octet & (0x80 >> bit)) === 0 ? [] : [n * 8 + bit])),
    );
  };
  for (const type of [dnsTypes.AAAA, dnsTypes.TXT, dnsTypes.DS, dnsTypes.CNAME, dnsTypes.NSEC])
    expect([type, typesOf("www.other.test", type)]).toEqual([
      type,
      [dnsTypes.A, dnsTypes.RRSIG, dnsTypes.NSEC],
    ]);
  expect(typesOf("plain.other.test", dnsTypes.NSEC)).toEqual([dnsTypes.CNAME, dnsTypes.RRSIG, dnsTypes.NSEC]);
});

describe("signatures", () => {
  const set: DnsRecord[] = [
    {
      name: nameFromText("www.shop.example")!,
      type: 1,
      class: 1,
      ttlSeconds: 20,
      data: { kind: "address", address: parseAddress("192.0.2.1")! },
    },
  ];
  const timing = { skewSeconds: 600, lifeSeconds: 100_000, jitterRatio: 0.1, renewRatio: 0.25 };
  const windowOf = (record: DnsRecord | undefined): [number, number] => {
    const data = dataOf(record);
    return [data.readUInt32BE(12), data.readUInt32BE(8)];
  };

  it("are kept until a quarter of their life is left, or the clock jumps back before their inception", () => {
    const cache = new SignatureCache(100);
    const signer = new ZoneSigner(keySet("shop.example", shopKey), sha256, cache, timing);
    const first = signer.sign(set, NOW);
    const [inception, expiration] = windowOf(first.records[0]);
    expect(inception).toBe(NOW - 600);
    expect(expiration).toBeGreaterThanOrEqual(NOW + 90_000);
    expect(expiration).toBeLessThanOrEqual(NOW + 100_000);
    expect(first.renewAtSeconds - NOW).toBe(Math.floor((expiration - NOW) * 0.75));
    expect(signer.sign(set, first.renewAtSeconds - 1).records).toEqual(first.records);
    expect(cache.figures).toMatchObject({ signed: 1, reused: 1, renewed: 0 });
    expect(windowOf(signer.sign(set, first.renewAtSeconds).records[0])[0]).toBe(first.renewAtSeconds - 600);
    // An hour back, and ten minutes forth in the past's own terms.
    const back = signer.sign(set, NOW - 3_600);
    expect(windowOf(back.records[0])[0]).toBe(NOW - 4_200);
    expect(cache.figures).toMatchObject({ signed: 3, renewed: 2 });
  });

  it("are bounded, and a flood of denials takes no answer's place", () => {
    const cache = new SignatureCache(10);
    const signer = new ZoneSigner(keySet("shop.example", shopKey), sha256, cache, timing);
    signer.sign(set, NOW);
    for (let n = 0; n < 50; n++)
      ask({ name: `n${n}.shop.example`, of: { ...signed, signers: new Map([["shop.example", signer]]) } });
    expect(cache.figures.entries).toBeLessThanOrEqual(20);
    expect(cache.figures.evicted).toBeGreaterThan(30);
    const before = cache.figures.signed;
    signer.sign(set, NOW);
    expect(cache.figures.signed).toBe(before);
  });

  it("of new denials are so many a second for who may be forged; over TCP and for what is kept there is no limit", () => {
    const cache = new SignatureCache(1_000, 5);
    const of = { ...context(), signers: signersOf([keySet("shop.example", shopKey)], cache) };
    const cut = (n: number, now: number, more: Ask & { tcp?: boolean } = {}): boolean =>
      ask({ name: `f${n}.shop.example`, of, now, ...more }).header.isTruncated;
    const flood = Array.from({ length: 8 }, (_, n) => cut(n, NOW));
    expect(flood).toEqual([false, false, false, false, false, true, true, true]);
    expect(cut(0, NOW)).toBe(false);
    expect(cut(20, NOW, { type: dnsTypes.NSEC })).toBe(true);
    expect(cut(7, NOW, { tcp: true })).toBe(false);
    expect(ask({ of, now: NOW }).answers).toHaveLength(3);
    expect(cut(8, NOW + 1)).toBe(false);
    expect(cache.figures.limited).toBe(4);
  });

  it("of what wildcards and DNAMEs make are limited alike, and take no answer's place", () => {
    const cache = new SignatureCache(10, 5);
    const wild = hostedContext([
      zoneFrom(
        "$ORIGIN w.test.\n$TTL 60\n@ SOA ns h 1 2 1 4 30\n@ NS ns\n*.w TXT x\nd DNAME w\nhost TXT y\n",
      ),
    ]);
    const of = { ...wild, signers: signersOf([keySet("w.test", newKey())], cache) };
    const cut = (name: string, more: Ask & { tcp?: boolean } = {}): boolean =>
      ask({ name: `${name}.w.test`, type: dnsTypes.TXT, of, now: NOW, ...more }).header.isTruncated;
    expect(cut("host")).toBe(false);
    expect(Array.from({ length: 7 }, (_, n) => cut(`x${n}.w`))).toEqual([
      ...Array.from({ length: 5 }, () => false),
      true,
      true,
    ]);
    expect([cut("x0.d"), cut("x0.w"), cut("x9.w", { tcp: true }), cut("x9.w")]).toEqual([
      true,
      false,
      false,
      false,
    ]);
    for (let n = 0; n < 50; n++) cut(`y${n}.w`, { tcp: true });
    const { signed: before } = cache.figures;
    cut("host");
    expect(cache.figures.signed).toBe(before);
    // Asked for by themselves, signatures are made as well.
    expect([cut("z1", { type: dnsTypes.RRSIG }), cut("z1", { type: dnsTypes.RRSIG, tcp: true })]).toEqual([
      true,
      false,
    ]);
  });

  it("by a key that fails: nothing of the fast path, and the full one throws for its caller to say SERVFAIL", () => {
    const broken = {
      publicKey: shopKey.publicKey,
      sign: (): Uint8Array => {
        throw new Error("no key");
      },
    };
    const of = { ...context(), signers: signersOf([keySet("shop.example", broken)]) };
    expect(() => ask({ of })).toThrow("no key");
    const bytes = query({ isDnssecOk: true, edns: true });
    const words = { family: 4 as const, words: new Uint32Array(4) };
    const fast = new FastPath(new DnsCounters());
    expect(fast.answer(bytes, 0, bytes.length, words, of, new Uint8Array(1_300), 0, NOW)).toBe(0);
    expect(fast.answer(query(), 0, query().length, words, of, new Uint8Array(1_300), 0, NOW)).toBeGreaterThan(
      0,
    );
  });
});
