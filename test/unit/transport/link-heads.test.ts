/** Heads of the link protocol: their bytes, and what is refused by which reason. */
import { describe, expect, test } from "vitest";
import { xxh64Hex } from "#kit";
import { ByteWriter } from "../../../transport/core/link/bytes.ts";
import { decodeRequest, decodeResponse } from "../../../transport/core/link/head-decoder.ts";
import { HeadEncoder } from "../../../transport/core/link/head-encoder.ts";
import { KNOWN_METHODS, KNOWN_NAMES, KNOWN_PAIRS } from "../../../transport/core/link/static-table.ts";
import type { LinkRequestHead, LinkResponseHead } from "../../../transport/core/link/words.ts";
import { get, wireHead, wireNumber } from "../../tools/link-core.ts";

function encoded(head: LinkRequestHead | LinkResponseHead): Buffer | string {
  const encoder = new HeadEncoder();
  const fault = "method" in head ? encoder.request(head) : encoder.response(head);
  if (fault !== undefined) return fault;
  const out = new ByteWriter();
  encoder.writeTo(out);
  expect(out.length).toBe(encoder.payloadBytes);
  return Buffer.from(out.view());
}
const request = (bytes: Buffer | string) =>
  typeof bytes === "string" ? bytes : decodeRequest(bytes, 0, bytes.byteLength);
const response = (bytes: Buffer | string) =>
  typeof bytes === "string" ? bytes : decodeResponse(bytes, 0, bytes.byteLength);

test("the tables are those of version 1", () => {
  expect(KNOWN_NAMES.length).toBeLessThanOrEqual(64);
  expect(KNOWN_PAIRS.length).toBeLessThanOrEqual(128);
  for (const [name] of KNOWN_PAIRS) expect(KNOWN_NAMES).toContain(name);
  // Appending is all that a version may do: then this changes, and the parts that were there do not.
  expect(xxh64Hex(JSON.stringify([KNOWN_METHODS, KNOWN_NAMES, KNOWN_PAIRS]))).toBe("98d8c5d9d79c759e");
});

test("a request in bytes", () => {
  const head = get("/x?y", {
    authority: "www.example.com",
    fields: ["Accept-Encoding", "br", "user-agent", "curl/8", "X-Own", "1"],
  });
  const accept = KNOWN_PAIRS.findIndex(([name, value]) => name === "accept-encoding" && value === "br");
  const agent = KNOWN_NAMES.indexOf("user-agent");
  const bytes = wireHead(
    [0x11, 15, 4, 0x80 | accept, 0x40 | agent, 6, 5, 1],
    "www.example.com/x?ycurl/8x-own1",
  );
  expect(encoded(head)).toEqual(bytes);
  expect(request(bytes)).toEqual({
    ...head,
    fields: ["accept-encoding", "br", "user-agent", "curl/8", "x-own", "1"],
  });
});

test.each<[string, LinkRequestHead]>([
  ["nothing but what must be", get()],
  ["an unknown method", get("/", { method: "PURGE" })],
  ["each urgency: live", get("/", { urgency: "live" })],
  ["each urgency: background", get("/", { urgency: "background" })],
  ["the whole server", get("*", { method: "OPTIONS" })],
  ["an empty value", get("/", { fields: ["accept", "", "x", ""] })],
  ["octets of obs-text, those of Windows-1252 too", get("/\u00e9", { fields: ["x", "a\u0080\u009f\u00ff"] })],
  ["repetitions in their order", get("/", { fields: ["cookie", "a", "x", "1", "cookie", "b", "x", "2"] })],
  ["a long name", get("/", { fields: ["n".repeat(64), "v"] })],
  [
    "as many fields as may be",
    get("/", { fields: Array.from({ length: 512 }, (_, n) => (n % 2 ? "v" : "x")) }),
  ],
  ["a head of nearly 64 KiB", get("/", { fields: ["x", "v".repeat(65_500)] })],
])("a request comes back as it was: %s", (_name, head) => {
  expect(request(encoded(head))).toEqual(head);
});

test.each([100, 103, 200, 404, 999])("status %i comes back", (status) => {
  const head = { status, fields: ["age", "7", "content-type", "text/html"] };
  expect(response(encoded(head))).toEqual(head);
});

describe("who writes is refused", () => {
  test.each<[string, LinkRequestHead | LinkResponseHead]>([
    ["method", get("/", { method: "GET /" })],
    ["method", get("/", { method: "CONNECT" })],
    ["method", get("/", { method: "" })],
    ["authority", get("/", { authority: "a/b" })],
    ["path", get("x")],
    ["path", get("")],
    ["path", get("*")],
    ["path", get("/a b")],
    ["path", get("/\u0100")],
    ["field-name", get("/", { fields: ["", "v"] })],
    ["field-name", get("/", { fields: ["a b", "v"] })],
    ["field-name", get("/", { fields: ["Connection", "close"] })],
    ["field-name", get("/", { fields: ["transfer-encoding", "chunked"] })],
    ["field-name", get("/", { fields: ["host", "a"] })],
    ["field-value", get("/", { fields: ["x", "a\r\nb: c"] })],
    ["field-value", get("/", { fields: ["x", " a"] })],
    ["field-value", get("/", { fields: ["x", "a\t"] })],
    ["field-value", get("/", { fields: ["accept", "\u0100"] })],
    ["field-count", get("/", { fields: ["x"] })],
    ["field-count", get("/", { fields: Array.from({ length: 2_050 }, () => "x") })],
    ["head-form", get("/", { fields: ["x", "v".repeat(65_536)] })],
    ["status", { status: 101, fields: [] }],
    ["status", { status: 1_000, fields: [] }],
  ])("%s", (reason, head) => {
    expect(encoded(head)).toBe(reason);
  });
});

describe("who reads refuses", () => {
  const pairs = KNOWN_PAIRS.length;
  test.each<[string, string, Buffer]>([
    ["head-form", "nothing", Buffer.alloc(0)],
    ["head-form", "a structure longer than all", Buffer.of(5, 0x11)],
    ["head-form", "no structure", Buffer.of(0)],
    ["head-form", "text that nobody asked for", wireHead([0x11, 1, 1], "a/b")],
    ["urgency", "one that is not", wireHead([0x31, 1, 1], "a/")],
    ["method", "a number that is not", wireHead([0x1f, 1, 1], "a/")],
    ["method", "a known one written out", wireHead([0x10, 3, 1, 1], "GETa/")],
    ["method", "none", wireHead([0x10, 0, 1, 1], "a/")],
    ["method", "longer than the text", wireHead([0x10, 9, 1, 1], "PURGEa/")],
    ["authority", "a slash in it", wireHead([0x11, 2, 1], "a//")],
    ["authority", "a length that is not there", wireHead([0x11], "a/")],
    ["authority", "a length in a longer form", wireHead([0x11, 0x40, 1, 1], "a/")],
    ["path", "no slash", wireHead([0x11, 1, 1], "ab")],
    ["path", "a blank", wireHead([0x11, 1, 3], "a/ b")],
    ["path", "cut", wireHead([0x11, 1, 0x40], "a/")],
    ["field-name", "a pair that is not", wireHead([0x11, 1, 1, 0x80 | pairs], "a/")],
    ["field-name", "a name that is not", wireHead([0x11, 1, 1, 0x7f, 1], "a/v")],
    ["field-name", "a capital", wireHead([0x11, 1, 1, 1, 1], "a/Xv")],
    ["field-name", "of a connection", wireHead([0x11, 1, 1, 2, 1], "a/tev")],
    ["field-name", "a short name in the long form", wireHead([0x11, 1, 1, 0, 1, 1], "a/xv")],
    ["field-value", "a line break", wireHead([0x11, 1, 1, 1, 3], "a/xa\nb")],
    ["field-value", "a blank at its end", wireHead([0x11, 1, 1, 1, 2], "a/xa ")],
    ["field-value", "longer than the text", wireHead([0x11, 1, 1, 1, 9], "a/xv")],
    ["field-count", "too many", wireHead([0x11, 1, 1, Buffer.alloc(1_025, 0x80)], "a/")],
  ])("%s: %s", (reason, _what, bytes) => {
    expect(request(bytes)).toBe(reason);
  });
  test.each([0, 99, 101, 1_000, 65_535])("status %i", (status) => {
    expect(response(wireHead([status >> 8, status & 0xff], ""))).toBe("status");
  });
  test("a long number where a short one would do", () => {
    expect(wireNumber(0x3f)).toEqual(Buffer.of(0x3f));
    expect(request(wireHead([0x11, 1, Buffer.of(0x80, 0, 0, 1)], "a/"))).toBe("path");
  });
});
