/** ALIAS: addresses of another name under a name that may be the top of a zone; resolved behind the queries where the other name is not ours. */
import { describe, expect, it } from "vitest";
import { formatAddress, monotonicMs, parseAddress, zoneDocument } from "#kit";
import { DnsState } from "#mapping";
import { dnsTypes, rcodes } from "../../../mapping/core/dns/constants.ts";
import { SignatureCache } from "../../../mapping/core/dns/dnssec/signer.ts";
import { respond } from "../../../mapping/core/dns/respond.ts";
import { readMessage } from "../../../mapping/core/dns/wire.ts";
import { aliasDefaults, aliasKey, AliasTable } from "../../../mapping/core/zone/alias-table.ts";
import { properties, query, snapshot, topology } from "../mapping-dns/fixture.ts";
import { keySet, newKey, signersOf } from "../mapping-dns/signed.ts";

const alias = (name: string, target: string, ttlSeconds = 300) => ({
  name,
  type: "ALIAS",
  ttlSeconds,
  data: [target],
});
const sets = [
  { name: "@", type: "SOA", ttlSeconds: 300, data: ["ns h 7 7200 1800 1209600 60"] },
  { name: "@", type: "NS", ttlSeconds: 300, data: ["ns.test."] },
  { name: "@", type: "MX", ttlSeconds: 300, data: ["5 mail.test."] },
];
const document = zoneDocument.parse({
  zoneId: "own",
  customerId: "acme",
  origin: "own.test",
  sets: [
    ...sets,
    alias("@", "www.shop.example."),
    alias("out", "app.elsewhere.net."),
    alias("twice", "out"),
    alias("chain", "cname"),
    alias("short", "app.elsewhere.net.", 5),
    { name: "cname", type: "CNAME", ttlSeconds: 200, data: ["far.elsewhere.net."] },
    alias("a", "b"),
    alias("b", "a"),
    alias("self", "self"),
    alias("gone", "nope.own.test."),
    alias("*.w", "app.elsewhere.net."),
    { name: "to", type: "CNAME", ttlSeconds: 100, data: ["out"] },
  ],
});
const state = new DnsState(() => true);
state.setTopology(topology, 1);
for (const property of properties) state.setProperty(property, 1);
state.setMap(snapshot);
state.setZone(document, 1);
state.setAliases({
  [aliasKey("app.elsewhere.net", 1)]: { addresses: ["198.51.100.7", "198.51.100.8"], ttlSeconds: 30 },
  [aliasKey("app.elsewhere.net", 28)]: { addresses: [], ttlSeconds: 30 },
  [aliasKey("far.elsewhere.net", 1)]: { addresses: ["198.51.100.9"], ttlSeconds: 600 },
});
const signed = {
  ...state.context()!,
  aliases: {},
  signers: signersOf([keySet("own.test", newKey())], new SignatureCache(100)),
};

function asked(
  name: string,
  type: number = dnsTypes.A,
  more: Parameters<typeof query>[0] = {},
  context = state.context(),
) {
  const decision = respond(
    {
      bytes: query({ name, type, ...more }),
      transport: "tcp",
      resolverAddress: parseAddress("192.0.2.53")!,
      epochSeconds: 1_800_000_000,
    },
    context,
  );
  if (decision.action !== "reply") throw new Error(decision.reason);
  const read = readMessage(decision.bytes);
  if (!read.ok) throw new Error("malformed");
  const { answers, authorities } = read.message;
  return {
    reason: decision.reason,
    rcode: decision.rcode,
    scope: decision.scopePrefixLength,
    says: answers.map(({ name: owner, type: kind, ttlSeconds, data }) =>
      [owner.text, kind, ttlSeconds, data.kind === "address" ? formatAddress(data.address) : data.kind].join(
        " ",
      ),
    ),
    authorities,
  };
}

describe("a name with an ALIAS", () => {
  it("at the top of a zone has the addresses that the map gives the property, with its scope and TTL, beside other records", () => {
    const ecs = "00011800c00002";
    const own = asked("own.test", dnsTypes.A, { ecs });
    const direct = asked("www.shop.example", dnsTypes.A, { ecs });
    expect(own.says).toEqual(direct.says.map((line) => line.replace("www.shop.example", "own.test")));
    expect([own.reason, own.scope, own.says.length]).toEqual(["alias", direct.scope, 2]);
    expect(asked("own.test", dnsTypes.MX).says).toEqual(
      ["own.test 15 300 name"].map(() => expect.stringMatching(/^own.test 15 300/)),
    );
  });

  it.each<[name: string, says: readonly string[]]>([
    ["out.own.test", ["out.own.test 1 30 198.51.100.7", "out.own.test 1 30 198.51.100.8"]],
    ["twice.own.test", ["twice.own.test 1 30 198.51.100.7", "twice.own.test 1 30 198.51.100.8"]],
    ["short.own.test", ["short.own.test 1 5 198.51.100.7", "short.own.test 1 5 198.51.100.8"]],
    ["chain.own.test", ["chain.own.test 1 200 198.51.100.9"]],
    ["x.w.own.test", ["x.w.own.test 1 30 198.51.100.7", "x.w.own.test 1 30 198.51.100.8"]],
    [
      "to.own.test",
      ["to.own.test 5 100 name", "out.own.test 1 30 198.51.100.7", "out.own.test 1 30 198.51.100.8"],
    ],
  ])("%s has what its target has, for no longer", (name, says) => {
    expect(asked(name)).toMatchObject({ rcode: rcodes.NOERROR, says });
  });

  it.each([
    ["has none of the family", "out.own.test", dnsTypes.AAAA, "no-data", rcodes.NOERROR],
    ["leads to no name of ours", "gone.own.test", dnsTypes.A, "no-data", rcodes.NOERROR],
    ["was not resolved yet", "chain.own.test", dnsTypes.AAAA, "alias-unresolved", rcodes.SERVFAIL],
    ["leads in a circle", "a.own.test", dnsTypes.A, "alias-unresolved", rcodes.SERVFAIL],
    ["leads to itself", "self.own.test", dnsTypes.A, "alias-unresolved", rcodes.SERVFAIL],
  ])("that %s says so", (_says, name, type, reason, rcode) => {
    expect(asked(name, type)).toMatchObject({ reason, rcode, says: [] });
  });

  it("is signed like any other, and its denial leaves the other family and the zone's keys", () => {
    const more = { isDnssecOk: true, udpPayloadBytes: 1_232 };
    expect(asked("own.test", dnsTypes.A, more, signed).says.map((line) => line.split(" ")[1])).toEqual([
      "1",
      "1",
      "46",
    ]);
    const context = {
      ...signed,
      aliases: { [aliasKey("app.elsewhere.net", 28)]: { addresses: [], ttlSeconds: 9 } },
    };
    const denied = asked("out.own.test", dnsTypes.AAAA, more, context);
    const nsec = denied.authorities.find(({ type }) => type === dnsTypes.NSEC)?.data;
    // A is in the first octet of the map of types, AAAA (28) would be in the fourth.
    const bytes = nsec?.kind === "opaque" ? Buffer.from(nsec.bytes).toString("hex") : "";
    expect(bytes).toMatch(/40000000000[0-9a-f]/);
  });

  it("has no address beside it, and is alone", () => {
    for (const more of [
      { name: "@", type: "A", ttlSeconds: 1, data: ["192.0.2.1"] },
      alias("@", "other.test."),
    ])
      expect(() => zoneDocument.parse({ ...document, sets: [...document.sets, more] })).toThrow(
        /one ALIAS and no A or AAAA/,
      );
  });

  it("tells who is to be resolved outside, also at the end of an alias of ours", () => {
    const { targets, owners } = state.aliasTargets();
    expect([...targets].sort()).toEqual(["app.elsewhere.net", "far.elsewhere.net"]);
    expect(owners.has("out.own.test")).toBe(true);
  });
});

describe("names outside", () => {
  const at = (seconds: number) => monotonicMs(seconds * 1_000);
  const addresses = (ttlSeconds: number, chain: readonly string[] = []) =>
    ({ kind: "addresses", addresses: ["198.51.100.2", "198.51.100.1"], ttlSeconds, chain }) as const;
  const table = () => {
    const made = new AliasTable();
    made.setTargets(["app.net"], new Set(["own.test"]), at(0));
    const first = made.pollTransmit(at(0));
    made.pollTransmit(at(0));
    return { made, key: first?.key ?? "" };
  };

  it("are asked for again at half their TTL, and handed on with that half", () => {
    const { made, key } = table();
    expect(made.pollTransmit(at(1))).toBeUndefined();
    made.handleHeard(key, addresses(60), at(1));
    expect(made.pollAnswers()).toEqual({
      [key]: { addresses: ["198.51.100.1", "198.51.100.2"], ttlSeconds: 30 },
    });
    expect(made.pollAnswers()).toBeUndefined();
    expect(made.pollTransmit(at(30))).toBeUndefined();
    expect(made.pollTransmit(at(31))).toMatchObject({ key, name: "app.net" });
  });

  it("keep their answer for a day while nobody answers, asked ever more seldom", () => {
    const { made, key } = table();
    made.handleHeard(key, addresses(60), at(0));
    made.pollAnswers();
    let asked = 0;
    let gone = 0;
    for (let second = 1; second <= 90_000 && gone === 0; second++) {
      for (let next = made.pollTransmit(at(second)); next; next = made.pollTransmit(at(second)))
        if (next.key === key) {
          asked++;
          made.handleHeard(key, { kind: "failed" }, at(second));
        }
      if (made.pollAnswers() !== undefined) gone = second;
    }
    expect(gone * 1_000).toBeGreaterThan(aliasDefaults.staleMsMax);
    expect(gone * 1_000).toBeLessThan(aliasDefaults.staleMsMax + 2 * aliasDefaults.retryMsMax);
    expect(asked).toBeLessThan(aliasDefaults.staleMsMax / aliasDefaults.retryMsMax + 20);
  });

  it("that lead back to an alias of ours are not believed", () => {
    const { made, key } = table();
    made.handleHeard(key, addresses(60, ["cdn.net", "own.test"]), at(0));
    expect([made.pollAnswers(), made.counters.loops]).toEqual([undefined, 1]);
    made.setTargets([], new Set(), at(1));
    made.handleHeard(key, addresses(60), at(1));
    expect([made.pollAnswers(), made.size, made.pollTimeout()]).toEqual([undefined, 0, undefined]);
  });

  it("without an address say so for as long as may be believed", () => {
    const { made, key } = table();
    made.handleHeard(key, { kind: "nothing", ttlSeconds: 20 }, at(0));
    expect(made.pollAnswers()).toEqual({ [key]: { addresses: [], ttlSeconds: 10 } });
  });
});
