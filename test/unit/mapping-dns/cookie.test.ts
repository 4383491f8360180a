import { describe, expect, it } from "vitest";
import { parseAddress } from "#kit";
import { checkCookie, sipHash24 } from "../../../mapping/core/dns/cookie.ts";
import { rcodes } from "../../../mapping/core/dns/constants.ts";
import { answerTo, hex, query } from "./fixture.ts";

const text = (bytes: Uint8Array | undefined) =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString("hex");

describe("SipHash-2-4", () => {
  // The first of the authors' own vectors: key 00..0f, input 00..(n-1).
  it.each([
    [0, "310e0edd47db6f72"],
    [1, "fd67dc93c539f874"],
    [8, "6224939a79f5f593"],
    [15, "e545be4961ca29a1"],
  ])("%i octets", (count, expected) => {
    const key = Uint8Array.from({ length: 16 }, (_, n) => n);
    const input = Uint8Array.from({ length: count }, (_, n) => n);
    const out = new Uint8Array(10);
    sipHash24(Uint8Array.of(...input, 0xff), count, key, out, 2);
    expect(text(out.subarray(2))).toBe(expected);
  });
});

describe("RFC 9018 appendix A", () => {
  const secret = hex("e5e973e5a6b2a43f48e7dc849e37bfcf");
  const client = parseAddress("198.51.100.100")!;

  it("A.1: a new server cookie", () => {
    const check = checkCookie(hex("2464c4abcf10c957"), client, secret, 1_559_731_985);
    expect(check.state).toBe("client");
    expect(text(check.answer)).toBe("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
  });

  it("A.2: the same client later gets a renewed one, and what it showed was valid", () => {
    const shown = hex("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
    const check = checkCookie(shown, client, secret, 1_559_734_385);
    expect(check.state).toBe("valid");
    expect(text(check.answer)).toBe("2464c4abcf10c957010000005cf7a871d4a564a1442aca77");
  });

  it("A.4: an IPv6 client", () => {
    const key = hex("445536bcd2513298075a5d379663c962");
    const v6 = parseAddress("2001:db8:220:1:59de:d0f4:8769:82b8")!;
    const check = checkCookie(hex("22681ab97d52c298"), v6, key, 1_559_741_961);
    expect(text(check.answer)).toBe("22681ab97d52c298010000005cf7c609a6bb79d16625507a");
  });
});

describe("server cookies", () => {
  const secret = new Uint8Array(16).fill(7);
  const client = parseAddress("192.0.2.1")!;
  const now = 1_800_000_000;
  const made = checkCookie(hex("0102030405060708"), client, secret, now).answer!;
  const stateOf = (data: Uint8Array, from = client, at = now) => checkCookie(data, from, secret, at).state;

  it.each([
    ["at once", made, client, now, "valid"],
    ["after 59 minutes", made, client, now + 3_540, "valid"],
    ["after an hour and a second", made, client, now + 3_601, "client"],
    ["made by a server whose clock is four minutes ahead", made, client, now - 240, "valid"],
    ["six minutes ahead", made, client, now - 360, "client"],
    ["from another address", made, parseAddress("192.0.2.2")!, now, "client"],
    ["with one bit changed", made.map((octet, n) => (n === 23 ? octet ^ 1 : octet)), client, now, "client"],
    [
      "with another client cookie",
      made.map((octet, n) => (n === 0 ? octet ^ 1 : octet)),
      client,
      now,
      "client",
    ],
    ["of another server's form", hex("0102030405060708 1122334455667788"), client, now, "client"],
  ] as const)("shown %s", (_, data, from, at, expected) => {
    expect(stateOf(data, from, at)).toBe(expected);
  });

  it("time of 32 bits may run over", () => {
    const late = 2 ** 32 - 10;
    const data = checkCookie(hex("0102030405060708"), client, secret, late).answer!;
    expect(stateOf(data, client, late + 60)).toBe("valid");
  });

  it.each([0, 7, 9, 15, 41])("RFC 7873 5.2.2: %i octets are no cookie: FORMERR", (length) => {
    const options = [{ code: 10, data: new Uint8Array(length) }];
    const { message, decision } = answerTo(query({ options }), { service: { cookieSecret: secret } });
    expect(message.header.rcode).toBe(rcodes.FORMERR);
    expect(decision.reason).toBe("cookie-malformed");
  });

  it("an answer carries the cookie, and who shows it is known", () => {
    const service = { cookieSecret: secret };
    const first = answerTo(
      query({ ecs: "0001 18 00 c00002", options: [{ code: 10, data: hex("0102030405060708") }] }),
      {
        service,
      },
    );
    expect(first.decision.cookie).toBe("client");
    expect(first.message.edns?.options.map(({ code }) => code)).toEqual([8, 10]);
    const data = first.message.edns!.options[1]!.data;
    expect(data.length).toBe(24);
    const second = answerTo(query({ options: [{ code: 10, data }] }), { service });
    expect(second.decision.cookie).toBe("valid");
    expect(second.message.edns?.options).toEqual([{ code: 10, data }]);
  });

  it("without a secret cookies are ignored, well-formed or not", () => {
    expect(
      answerTo(query({ options: [{ code: 10, data: new Uint8Array(3) }] })).message.edns?.options,
    ).toEqual([]);
  });
});

describe("other options", () => {
  const service = { nsid: Buffer.from("lon-dns-1") };
  it("RFC 5001: the server's id to who asks for it, else none", () => {
    const asked = answerTo(query({ options: [{ code: 3, data: new Uint8Array(0) }] }), { service });
    expect(asked.message.edns?.options.map(({ code, data }) => [code, Buffer.from(data).toString()])).toEqual(
      [[3, "lon-dns-1"]],
    );
    expect(answerTo(query({ edns: true }), { service }).message.edns?.options).toEqual([]);
  });

  it.each([
    ["REFUSED outside our zones", { name: "www.other.test", edns: true }, "0014"],
    ["REFUSED for another class", { class: 3, edns: true }, "0015"],
    ["REFUSED for a transfer", { name: "shop.example", type: 252, edns: true }, "0012"],
    ["NOTIMP for MAILA", { type: 254, edns: true }, "001e"],
  ])("RFC 8914: %s says why", (_, ask, code) => {
    const [option] = answerTo(query(ask)).message.edns!.options;
    expect([option?.code, text(option?.data)]).toEqual([15, code]);
  });

  it("RFC 8914: SERVFAIL without documents is Not Ready; nothing where there is no OPT", () => {
    const bare = { context: undefined };
    expect(text(answerTo(query({ edns: true }), bare).message.edns!.options[0]?.data)).toBe("000e");
    expect(answerTo(query(), bare).message.edns).toBeUndefined();
  });
});
