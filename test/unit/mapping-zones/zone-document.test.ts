/** A zone as a document: canonical form, refusals with path, edits with their serial, and the laws among zones in control. */
import { describe, expect, it } from "vitest";
import { ParseError, zoneDocument, type ZoneDocument, zoneOfDocument, editZone, type ZoneEdit } from "#kit";
import { DnsState } from "#mapping";
import { checkZone } from "../../../control/core/claims.ts";
import { topology } from "../mapping-dns/fixture.ts";

const soa = { name: "@", type: "SOA", ttlSeconds: 300, data: ["ns hostmaster 7 7200 1800 1209600 60"] };
const ns = { name: "@", type: "ns", ttlSeconds: 300, data: ["ns", "ns2.test."] };
const sets = [{ name: "www", type: "A", ttlSeconds: 60, data: ["192.0.2.1"] }, ns, soa];
const body = { zoneId: "example-com", customerId: "acme", origin: "example.com", sets };
const document = zoneDocument.parse(body);

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof ParseError) return error.message;
    throw error;
  }
  throw new Error("was taken");
}

describe("a zone's document", () => {
  it("has one form: absolute names, in canonical order, the SOA first", () => {
    expect(document.sets).toEqual([
      {
        name: "example.com.",
        type: "SOA",
        ttlSeconds: 300,
        data: ["ns.example.com. hostmaster.example.com. 7 7200 1800 1209600 60"],
      },
      { name: "example.com.", type: "NS", ttlSeconds: 300, data: ["ns.example.com.", "ns2.test."] },
      { name: "www.example.com.", type: "A", ttlSeconds: 60, data: ["192.0.2.1"] },
    ]);
    expect(zoneDocument.parse(document)).toEqual(document);
    expect([document.isActive, zoneOfDocument(document).serial]).toEqual([true, 7]);
  });

  it.each<[says: string, changed: readonly object[], expected: RegExp]>([
    [
      "RDATA that is none",
      [soa, ns, { ...sets[0], data: ["192.0.2"] }],
      /^sets\[2\]: got "192\.0\.2", expected an IPv4 address/,
    ],
    [
      "a name outside",
      [soa, ns, { ...sets[0], name: "www.example.net." }],
      /^sets\[2\]: .*at or below example\.com\./,
    ],
    [
      "a CNAME beside others",
      [soa, ns, sets[0] as object, { ...sets[0], type: "CNAME", data: ["x"] }],
      /^sets\[3\]: .*CNAME alone/,
    ],
    ["no SOA", [ns], /^sets: .*SOA record at the top/],
    ["no NS", [soa], /^sets: .*NS records at the top/],
    [
      "two lines in one",
      [soa, ns, { ...sets[0], data: ["192.0.2.1\nx A 192.0.2.2"] }],
      /^sets\[2\]\.data\[0\]: .*one line/,
    ],
    ["a name that goes on", [soa, ns, { ...sets[0], name: "a 60 A 192.0.2.1 ;" }], /^sets\[2\]\.name: /],
    ["a directive for a name", [soa, ns, { ...sets[0], name: "$GENERATE" }], /^sets\[2\]\.name: /],
    ["a signature", [soa, ns, { ...sets[0], type: "RRSIG" }], /^sets\[2\]: .*made here/],
  ])("refuses %s", (_says, changed, expected) => {
    expect(refusal(() => zoneDocument.parse({ ...body, sets: changed }))).toMatch(expected);
  });
});

describe("edits", () => {
  const after = (edits: readonly ZoneEdit[]): ZoneDocument => editZone(document, edits);
  const lines = (edits: readonly ZoneEdit[]): readonly string[] =>
    after(edits)
      .sets.slice(2)
      .map(({ name, type, ttlSeconds, data }) => `${name} ${ttlSeconds} ${type} ${data.join(" | ")}`);
  const a = (name: string, ...data: string[]) => ({ name, type: "A", ttlSeconds: 30, data });

  it("set replaces or makes, add adds, delete takes away, the serial grows", () => {
    expect(lines([{ action: "set", ...a("WWW", "192.0.2.9") }])).toEqual(["WWW.example.com. 30 A 192.0.2.9"]);
    expect(lines([{ action: "set", ...a("x", "192.0.2.9") }])).toEqual([
      "www.example.com. 60 A 192.0.2.1",
      "x.example.com. 30 A 192.0.2.9",
    ]);
    expect(lines([{ action: "add", ...a("www", "192.0.2.9") }])).toEqual([
      "www.example.com. 30 A 192.0.2.1 | 192.0.2.9",
    ]);
    expect(lines([{ action: "delete", name: "www.example.com.", type: "a" }])).toEqual([]);
    expect(zoneOfDocument(after([{ action: "delete", name: "www", type: "A" }])).serial).toBe(8);
  });

  it("takes a later serial from a SOA that is set, and no earlier one", () => {
    const withSerial = (serial: number): ZoneEdit => ({
      action: "set",
      ...soa,
      data: [`ns hostmaster ${serial} 7200 1800 1209600 60`],
    });
    expect(zoneOfDocument(after([withSerial(2026112601)])).serial).toBe(2026112601);
    expect(refusal(() => after([withSerial(6)]))).toMatch(/a serial after 7/);
  });

  it("all or none: nothing to delete, a zone that could not be served", () => {
    const edit: ZoneEdit = { action: "set", ...a("x", "192.0.2.9") };
    expect(refusal(() => after([edit, { action: "delete", name: "y", type: "A" }]))).toMatch(/^edits\[1\]: /);
    expect(refusal(() => after([{ action: "delete", name: "@", type: "NS" }]))).toMatch(
      /NS records at the top/,
    );
    expect(
      refusal(() => after([{ action: "set", name: "www", type: "CNAME", ttlSeconds: 1, data: ["x"] }])),
    ).toMatch(/CNAME alone/);
  });
});

describe("zones among others", () => {
  it("control gives a name to one active zone", () => {
    const other = zoneDocument.parse({ ...body, zoneId: "other" });
    const check = (zone: ZoneDocument, zones: readonly ZoneDocument[]) =>
      checkZone(zone, { zones, properties: [], policies: [] }, topology);
    check(document, [document]);
    check(document, [{ ...other, isActive: false }]);
    check({ ...document, isActive: false }, [other]);
    expect(refusal(() => check(document, [other]))).toMatch(/"other" has example.com/);
    expect(refusal(() => check({ ...document, origin: "shop.example" }, []))).toMatch(/the topology has it/);
  });

  it("a name server answers for the active ones, and tells its workers of all", () => {
    const state = new DnsState(() => true);
    state.setTopology(topology, 1);
    const served = () => state.context()?.zones.lookup("www.example.com", 1).kind;
    state.setZone(document, 1);
    expect(served()).toBe("hosted");
    const worker = new DnsState(() => true);
    for (const change of state.changes()) worker.apply(change);
    expect(worker.context()?.zones.lookup("www.example.com", 1).kind).toBe("hosted");
    state.setZone({ ...document, isActive: false }, 2);
    expect(served()).toBe("outside-zones");
  });
});
