/** NOTIFY from primaries, and a zone whose records are not here: who is heeded, what is said. */
import { describe, expect, it } from "vitest";
import { nameFromText, parseAddress, zoneDocument, editZone } from "#kit";
import { DnsState, hmac, tsigKeysOf } from "#mapping";
import { respond } from "../../../mapping/core/dns/respond.ts";
import { readMessage } from "../../../mapping/core/dns/wire.ts";
import { answerNotify, isNotify } from "../../../mapping/core/zone/notify.ts";
import { HostedZone } from "../../../mapping/core/zone/hosted-zone.ts";
import { notifyMessage } from "../../../mapping/core/zone/transfer.ts";
import { TsigSigner } from "../../../mapping/core/zone/tsig.ts";
import { checkSecondary } from "../../../control/core/kinds.ts";
import { queryFor } from "../../tools/zones/hosted.ts";
import { linesOf } from "../../tools/zones/records.ts";
import { resolver, topology } from "../mapping-dns/fixture.ts";

const NOW = 1_790_000_000;
const secret = Buffer.alloc(32, 7).toString("base64");
const keys = tsigKeysOf([
  { name: "xfer.example", algorithm: "hmac-sha256", secret },
  { name: "other.example", algorithm: "hmac-sha256", secret },
]);
const sets = [
  { name: "@", type: "SOA", ttlSeconds: 300, data: ["ns h 7 3600 1800 1209600 60"] },
  { name: "@", type: "NS", ttlSeconds: 300, data: ["ns"] },
  { name: "a", type: "A", ttlSeconds: 60, data: ["192.0.2.1"] },
];
const followed = zoneDocument.parse({
  zoneId: "moved",
  customerId: "acme",
  origin: "moved.test",
  secondary: {
    primaries: [{ address: "192.0.2.1" }, { address: "2001:DB8::1", keyName: "xfer.example" }],
    notifiers: ["192.0.2.9"],
  },
});
const filled = zoneDocument.parse({ ...followed, sets });
/** Points into the zone that may not be here. */
const pointing = zoneDocument.parse({
  zoneId: "pointing",
  customerId: "acme",
  origin: "pointing.test",
  sets: [
    { name: "@", type: "SOA", ttlSeconds: 300, data: ["ns h 7 3600 1800 1209600 60"] },
    { name: "@", type: "NS", ttlSeconds: 300, data: ["ns.moved.test."] },
    { name: "c", type: "CNAME", ttlSeconds: 60, data: ["a.moved.test."] },
    { name: "f", type: "ALIAS", ttlSeconds: 60, data: ["a.moved.test."] },
  ],
});

function serving(...documents: readonly (typeof followed)[]): DnsState {
  const state = new DnsState(() => true);
  state.setTopology(topology, 1);
  for (const document of documents) state.setZone(document, 1);
  return state;
}
function asked(state: DnsState, name: readonly string[], type = 1): readonly string[] {
  const query = {
    bytes: queryFor([...name, "test"], type),
    transport: "udp",
    resolverAddress: resolver,
  } as const;
  const decision = respond(query, state.context());
  if (decision.action !== "reply") throw new Error(decision.reason);
  const read = readMessage(decision.bytes);
  if (!read.ok) throw new Error(read.fault);
  const { header, answers, authorities, edns } = read.message;
  const errors = (edns?.options ?? []).filter(({ code }) => code === 15).map(({ data }) => `ede ${data[1]}`);
  return [decision.reason, `rcode ${header.rcode}`, ...errors, ...linesOf([...answers, ...authorities])];
}

describe("NOTIFY", () => {
  const rules = serving(followed).context()!.notifyRules!;
  const message = (origin = "moved.test", serial = 8): Uint8Array => {
    const { soa } = HostedZone.unloaded(nameFromText(origin)!);
    const data = soa.data.kind === "soa" ? { ...soa.data, soa: { ...soa.data.soa, serial } } : soa.data;
    return notifyMessage(4_242, nameFromText(origin)!, { ...soa, data });
  };
  const signed = (bytes: Uint8Array, name: string, at = NOW): Uint8Array =>
    new TsigSigner(keys.get(name)!, hmac, new Uint8Array()).sign(bytes, at);

  it.each<[says: string, bytes: Uint8Array, from: string, rcode: number, isHeeded: boolean]>([
    ["from a primary", message(), "192.0.2.1", 0, true],
    ["from a primary over IPv6", message(), "2001:db8::1", 0, true],
    ["from a notifier", message(), "192.0.2.9", 0, true],
    ["from anywhere by a primary's key", signed(message(), "xfer.example"), "198.51.100.7", 0, true],
    ["in other letters", message("MOVED.Test"), "192.0.2.1", 0, true],
    ["from a stranger", message(), "198.51.100.7", 5, false],
    ["by another key", signed(message(), "other.example"), "198.51.100.7", 5, false],
    ["by a key, an hour ago", signed(message(), "xfer.example", NOW - 3_600), "192.0.2.1", 9, false],
    ["of a zone that is not here", message("other.test"), "192.0.2.1", 9, false],
    ["of a name in the zone", message("a.moved.test"), "192.0.2.1", 9, false],
  ])("%s", (_says, bytes, from, rcode, isHeeded) => {
    expect(isNotify(bytes)).toBe(true);
    const answer = answerNotify(bytes, parseAddress(from)!, rules, { keys, hmac }, NOW)!;
    expect(answer.heard).toEqual(isHeeded ? { zoneId: "moved", serial: 8 } : undefined);
    const read = readMessage(answer.bytes);
    if (!read.ok) throw new Error(read.fault);
    expect(read.message.header).toMatchObject({ id: 4_242, isResponse: true, opcode: 4, rcode });
    expect(read.message.answers).toEqual([]);
    expect(answer.bytes.length).toBeLessThanOrEqual(bytes.length);
    // RFC 1996 section 4.8: an answer to ours is none of theirs.
    expect(isNotify(answer.bytes)).toBe(false);
  });

  it("that cannot be read, or is of something else, is answered like any query", () => {
    const of = (bytes: Uint8Array) => answerNotify(bytes, parseAddress("192.0.2.1")!, rules, undefined, NOW);
    expect(of(message().slice(0, 20))).toBeUndefined();
    expect(of(queryFor(["moved", "test"], 6))).toBeUndefined();
    const ofAddress = message();
    ofAddress[12 + nameFromText("moved.test")!.wire.length + 1] = 1;
    expect(of(ofAddress)).toBeUndefined();
  });
});

describe("a secondary zone", () => {
  it("gets SERVFAIL while its records are not here, and says why", () => {
    const state = serving(followed, pointing);
    for (const [name, type] of [
      [["moved"], 6],
      [["a", "moved"], 1],
      [["x", "y", "moved"], 28],
    ] as const)
      expect(asked(state, name, type)).toEqual(["zone-expired", "rcode 2", "ede 24"]);
    // What is known of another zone is told; whoever asks on gets SERVFAIL.
    expect(asked(state, ["c", "pointing"])).toEqual([
      "zone-alias",
      "rcode 0",
      "c.pointing.test. 60 cname a.moved.test.",
    ]);
    expect(asked(state, ["f", "pointing"])).toEqual(["alias-unresolved", "rcode 2"]);
    state.setZone(filled, 1);
    expect(asked(state, ["a", "moved"])).toEqual(["zone-records", "rcode 0", "a.moved.test. 60 a 192.0.2.1"]);
    expect(asked(state, ["f", "pointing"])).toEqual(["alias", "rcode 0", "f.pointing.test. 60 a 192.0.2.1"]);
    state.setZone(followed, 1);
    expect(asked(state, ["a", "moved"])).toEqual(["zone-expired", "rcode 2", "ede 24"]);
    const worker = serving();
    for (const change of state.changes()) worker.apply(change);
    expect(asked(worker, ["a", "moved"])).toEqual(["zone-expired", "rcode 2", "ede 24"]);
  });

  it("has no records in control, and is not edited there", () => {
    expect(() => checkSecondary(followed)).not.toThrow();
    expect(() => checkSecondary(filled)).toThrow(/sets.*3 RRsets.*none where `secondary`/);
    expect(() => editZone(filled, [{ action: "delete", name: "a", type: "A" }])).toThrow(
      /fetched from its primaries/,
    );
    expect(() => zoneDocument.parse({ ...followed, secondary: undefined })).toThrow(
      /a SOA record at the top/,
    );
    expect(() => zoneDocument.parse({ ...followed, secondary: { primaries: [] } })).toThrow(
      /secondary.primaries/,
    );
  });
});
