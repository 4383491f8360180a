/** HTTPS records (RFC 9460) by the map, and queries for a cookie alone (RFC 7873 section 5.4). */
import { describe, expect, it } from "vitest";
import { propertyDocument, topologyDocument } from "#kit";
import { dnsTypes } from "../../../mapping/core/dns/constants.ts";
import { ZoneTable } from "../../../mapping/core/dns/zone-table.ts";
import { TopologyIndex } from "../../../mapping/core/topology-index.ts";
import { answerTo, context, ecsOf, hex, properties, query, topology } from "./fixture.ts";

/** Every cluster has a server of either family. */
const dual = topologyDocument.parse({
  ...topology,
  clusters: topology.clusters.map((cluster, n) => ({
    ...cluster,
    servers: cluster.servers.map((server, s) => ({
      ...server,
      address: s === 0 ? server.address : `2001:db8:ffff::${n + 1}`,
    })),
  })),
});
const shop = properties[0]!;
function dualContext(httpsRecord?: object) {
  const property = propertyDocument.parse({ ...shop, ...(httpsRecord && { httpsRecord }) });
  return {
    ...context(),
    topology: new TopologyIndex(dual),
    zones: new ZoneTable({ topology: dual, properties: [property], serial: 1 }),
  };
}
const rdata = (state: ReturnType<typeof dualContext>, ecs: string) => {
  const { message } = answerTo(query({ type: dnsTypes.HTTPS, ecs }), { context: state });
  const data = message.answers[0]?.data;
  return { message, hex: data?.kind === "opaque" ? Buffer.from(data.bytes).toString("hex") : undefined };
};
const BERLIN = "0001 18 00 c00002";

describe("RFC 9460: HTTPS records", () => {
  it("2.2, 7.1, 7.2, 7.3: priority 1, the owner itself, keys in ascending order, hints of both families by the map", () => {
    const { message, hex: bytes } = rdata(dualContext({ alpn: ["h2", "http/1.1"], port: 8_443 }), BERLIN);
    expect(bytes).toBe(
      [
        ["0001", "00"],
        ["0001", "000c", "026832", "08687474702f312e31"],
        ["0003", "0002", "20fb"],
        ["0004", "0004", "7f0a0101"],
        ["0006", "0010", "20010db8ffff00000000000000000001"],
      ]
        .flat()
        .join(""),
    );
    expect(message.answers[0]).toMatchObject({
      type: 65,
      class: 1,
      ttlSeconds: 20,
      name: { text: "www.shop.example" },
    });
    expect(message.header.isAuthoritative).toBe(true);
  });

  it("7.2: port 443 is not said; alpn is h2 and http/1.1 unless told", () => {
    expect(rdata(dualContext({}), BERLIN).hex).toMatch(/^0001000001000c0268320868747470(2f312e31)00040004/);
  });

  it("the hints are what A and AAAA say to the same client, with the narrower of their scopes", () => {
    const state = dualContext({});
    for (const ecs of [
      BERLIN,
      "0001 18 00 c63364",
      "0001 20 00 cb007105",
      "0002 38 00 20010db8000300",
      "0001 18 00 0a0000",
    ]) {
      const { message, hex: bytes } = rdata(state, ecs);
      const scopes = [dnsTypes.A, dnsTypes.AAAA].map((type) => {
        const one = answerTo(query({ type, ecs }), { context: state });
        for (const { data } of one.message.answers)
          if (data.kind === "address")
            expect(bytes).toContain(
              data.address.words.map((word) => word.toString(16).padStart(8, "0")).join(""),
            );
        return one.decision.scopePrefixLength ?? 0;
      });
      expect(Number.parseInt(ecsOf(message)!.slice(6, 8), 16)).toBe(Math.max(...scopes));
    }
  });

  it("RFC 2308 2.2: NODATA for a property that does not say so", () => {
    const { message } = rdata(dualContext(), BERLIN);
    expect(message.answers).toEqual([]);
    expect(message.authorities[0]?.type).toBe(dnsTypes.SOA);
  });

  it.each([
    [{ alpn: [] }, /alpn/],
    [{ alpn: ["h2", "h2"] }, /alpn/],
    [{ alpn: ["spdy"] }, /alpn/],
    [{ port: 0 }, /port/],
    [{ ech: "x" }, /ech/],
  ])("a document with %j is refused", (httpsRecord, says) => {
    expect(() => dualContext(httpsRecord)).toThrow(says);
  });
});

describe("RFC 7873 5.4: QDCOUNT 0", () => {
  const service = { cookieSecret: new Uint8Array(16).fill(7) };
  const bare = (rdata_: string, counts = "0000 0000 0000 0001", more = "") =>
    hex(
      `1234 0100 ${counts} ${more} 00 0029 04d0 00000000 ${(hex(rdata_).length + 0x10000).toString(16).slice(1)} ${rdata_}`,
    );
  const COOKIE = "000a 0008 0102030405060708";

  it("with a cookie gets a server's, NOERROR and nothing else; it is good afterwards", () => {
    const { message, decision } = answerTo(bare(COOKIE), { service });
    expect(decision).toMatchObject({ reason: "cookie-only", rcode: 0, cookie: "client" });
    expect(message).toMatchObject({ questions: [], answers: [], authorities: [], additionals: [] });
    const data = message.edns!.options[0]!.data;
    expect(data).toHaveLength(24);
    const again = answerTo(bare(`000a 0018 ${Buffer.from(data).toString("hex")}`), { service });
    expect(again.decision.cookie).toBe("valid");
  });

  it("with a client subnet beside it tells no scope", () => {
    const { message } = answerTo(bare(`0008 0007 0001 1800 c00002 ${COOKIE}`), { service });
    expect(message.edns!.options.map(({ code }) => code)).toEqual([10]);
  });

  it.each([
    ["without a cookie", bare("")],
    ["with a malformed cookie", bare("000a 0007 01020304050607")],
    ["with an answer record", bare(COOKIE, "0000 0001 0000 0001", "00 0001 0001 00000000 0004 01020304")],
    ["with octets after its end", Uint8Array.of(...bare(COOKIE), 0)],
  ])("%s is FORMERR", (_, bytes) => {
    expect(answerTo(bytes, { service }).decision).toMatchObject({ reason: "question-count", rcode: 1 });
  });
});
