/** Names that are asked for once: who is answered, and whom a name server tells on. */
import { describe, expect, it } from "vitest";
import { type IpAddress, makeOneTimeLabel, parseAddress } from "#kit";
import { labelMac } from "#kit/io";
import { dnsTypes, rcodes } from "../../../mapping/core/dns/constants.ts";
import { NamesAsked } from "../../../mapping/core/dns/names-asked.ts";
import { ZoneTable } from "../../../mapping/core/dns/zone-table.ts";
import { answerTo, context, properties, query, topology } from "./fixture.ts";

const mac = labelMac(Buffer.alloc(16, 7));
const NOW = 1_700_000_000;
const nonce = new Uint8Array(6);
const label = makeOneTimeLabel(mac, "192.0.2.0", NOW + 100, nonce);
const id = label.slice(5, 25);
const DOMAIN = "t.www.shop.example";
const zones = new ZoneTable({
  topology,
  properties: properties.map((one) =>
    one.propertyId === "shop" ? { ...one, beacon: { sampleRatio: 1, probeDomain: DOMAIN } } : one,
  ),
  serial: 42,
});
const once = { ...context(), zones, labelMac: mac };
const ask = (name: string, more: Parameters<typeof answerTo>[1] = {}) =>
  answerTo(query({ name }), { context: once, epochSeconds: NOW, transport: "tcp", ...more });

describe("a name that is asked for once", () => {
  it("is answered as its property is, and tells who asks", () => {
    const { message, decision } = ask(`${label}.${DOMAIN}`);
    expect(message.header.rcode).toBe(rcodes.NOERROR);
    const plain = ask("deep.empty.shop.example");
    expect(message.answers.map(({ data }) => data)).toEqual(plain.message.answers.map(({ data }) => data));
    expect(message.answers.length).toBeGreaterThan(0);
    expect(decision.oneTimeId).toBe(id);
    expect(plain.decision.oneTimeId).toBeUndefined();
    const mixed = ask(`${label.replace("once", "oNcE")}.${DOMAIN.toUpperCase()}`);
    expect(mixed.decision.oneTimeId).toBe(id);
  });

  it("over UDP is asked for again over TCP, unless a cookie shows where the asker is", () => {
    const first = ask(`${label}.${DOMAIN}`, { transport: "udp" });
    expect([first.message.header.isTruncated, first.message.answers]).toEqual([true, []]);
    expect(first.decision.oneTimeId).toBeUndefined();
    const service = { cookieSecret: new Uint8Array(16).fill(3) };
    const withCookie = (data: Uint8Array) =>
      answerTo(query({ name: `${label}.${DOMAIN}`, options: [{ code: 10, data }] }), {
        context: once,
        epochSeconds: NOW,
        transport: "udp",
        service,
      });
    const shown = withCookie(new Uint8Array(8));
    expect(shown.decision.oneTimeId).toBeUndefined();
    const data = shown.message.edns?.options[0]?.data ?? new Uint8Array(0);
    const known = withCookie(data);
    expect([known.decision.oneTimeId, known.message.header.isTruncated]).toEqual([id, false]);
  });

  it.each([
    ["made by others", makeOneTimeLabel(labelMac(Buffer.alloc(16, 8)), "192.0.2.0", NOW + 100, nonce), mac],
    ["that has ended", makeOneTimeLabel(mac, "192.0.2.0", NOW - 1, nonce), mac],
    ["where the server has no key", label, undefined],
  ])("%s is not there", (_what, text, labelMacHere) => {
    const { message, decision } = ask(`${text}.${DOMAIN}`, { context: { ...once, labelMac: labelMacHere } });
    expect([message.header.rcode, decision.reason]).toEqual([rcodes.NXDOMAIN, "no-such-name"]);
    expect(decision.oneTimeId).toBeUndefined();
  });

  it("stands below the domain of a property that has one, and nowhere else", () => {
    for (const name of [`${label}.shop.example`, `${label}.${label}.${DOMAIN}`, `x.${label}.${DOMAIN}`])
      expect(ask(name).message.header.rcode).toBe(rcodes.NXDOMAIN);
    expect(zones.lookup(`${label}.${DOMAIN}`, dnsTypes.TXT).kind).toBe("node");
    // The cluster that is called so keeps its name.
    expect(ask(`fra.${DOMAIN}`).decision.reason).toBe("name-server-address");
  });
});

describe("what a name server tells on", () => {
  const resolver = parseAddress("198.51.100.1") as IpAddress;
  const subnet = {
    family: 1,
    sourcePrefixLength: 20,
    scopePrefixLength: 0,
    address: Uint8Array.of(192, 0, 32),
  } as const;

  it("is each asker of a name once, with whom it asks for", () => {
    const names = new NamesAsked();
    names.handleQuery("a", resolver, undefined);
    names.handleQuery("a", resolver, undefined);
    names.handleQuery("b", resolver, subnet);
    names.handleQuery("c", resolver, { ...subnet, sourcePrefixLength: 0, address: new Uint8Array(0) });
    expect(names.drain()).toEqual([
      { id: "a", resolver: "198.51.100.1" },
      { id: "b", resolver: "198.51.100.1", clientSubnet: "192.0.32.0/20" },
      { id: "c", resolver: "198.51.100.1" },
    ]);
    names.handleQuery("a", resolver, undefined);
    expect(names.drain()).toEqual([]);
    expect(names.counters).toEqual({ "name-asked": 3, "name-asked-again": 2, "name-asked-dropped": 0 });
  });

  it("is at most four askers of a name, and what a report holds", () => {
    const names = new NamesAsked();
    const from = (n: number): IpAddress => ({ family: 4, words: [n] });
    for (let n = 0; n < 10; n++) names.handleQuery("a", from(n), undefined);
    expect(names.drain()).toHaveLength(4);
    for (let n = 0; n < 500; n++) names.handleQuery(`name-${n}`, from(1), undefined);
    expect(names.drain()).toHaveLength(400);
    expect(names.counters["name-asked-dropped"]).toBe(100);
  });
});
