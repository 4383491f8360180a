import { describe, expect, it } from "vitest";
import { formatAddress } from "#kit";
import { dnsTypes } from "../../../mapping/core/dns/constants.ts";
import { ZoneTable } from "../../../mapping/core/dns/zone-table.ts";
import { properties, topology, zones } from "./fixture.ts";

const kindOf = (name: string, type: number = dnsTypes.A) => zones.lookup(name, type).kind;

describe("zone table", () => {
  it("tells host names that no zone holds, and those that are taken", () => {
    expect(zones.hostnamesOutside).toEqual(["www.other.test"]);
    // "outside" comes before "shop" by id and so owns the name.
    expect(zones.hostnamesTaken).toEqual(["www.shop.example"]);
    const found = zones.lookup("www.shop.example", dnsTypes.A);
    expect(found.kind === "node" && found.node.property?.propertyId).toBe("outside");
  });

  it("does not depend on the order in which properties came", () => {
    const turned = new ZoneTable({ topology, properties: properties.toReversed(), serial: 42 });
    expect(turned.lookup("www.shop.example", dnsTypes.A)).toEqual(
      zones.lookup("www.shop.example", dnsTypes.A),
    );
    expect(turned.size).toBe(zones.size);
  });

  it("knows names, empty names between, missing names and foreign names apart", () => {
    expect(kindOf("empty.shop.example")).toBe("node");
    expect(kindOf("nope.shop.example")).toBe("no-such-name");
    expect(kindOf("example")).toBe("outside-zones");
    expect(kindOf("")).toBe("outside-zones");
    expect(kindOf("xshop.example")).toBe("outside-zones");
  });

  it("an inner zone owns what is below it", () => {
    const found = zones.lookup("nope.sub.shop.example", dnsTypes.A);
    expect(found.kind === "no-such-name" && found.zone.origin.text).toBe("sub.shop.example");
  });

  it("an odd name cannot pass for a host name", () => {
    // "www\.shop.example": one label "www.shop", which the text shows with \046.
    expect(kindOf("www\\046shop.example")).toBe("outside-zones");
  });

  it("gives each edge cluster a name for beacons, below a property's host name; what is there already stays", () => {
    const [first] = properties;
    const probed = (probeDomain: string) =>
      new ZoneTable({
        topology,
        properties: [
          ...properties,
          { ...first!, propertyId: "beacons" as never, beacon: { sampleRatio: 1, probeDomain } },
        ],
        serial: 42,
      });
    const edges = topology.clusters.filter(({ role }) => role === "edge");
    const found = probed("t.shop.example");
    for (const { clusterId, servers } of edges) {
      const looked = found.lookup(`${clusterId}.t.shop.example`, dnsTypes.A);
      if (looked.kind !== "node") throw new Error(`no name for ${clusterId}`);
      expect(looked.node.addresses.map(formatAddress)).toEqual(
        servers.slice(0, 2).map(({ address }) => address),
      );
      expect(looked.node.property).toBeUndefined();
    }
    expect(found.size - zones.size).toBe(edges.length + 1);
    expect(kindOf(`${edges[0]?.clusterId}.t.shop.example`)).toBe("no-such-name");
    // Outside of our zones there is nobody to answer them.
    expect(probed("t.other.test").size).toBe(zones.size);
  });

  it("a deployment without name servers still has a well-formed SOA", () => {
    const bare = new ZoneTable({
      topology: { ...topology, nameService: { ...topology.nameService, nameServers: [] } },
      properties: [],
      serial: 0,
    });
    const found = bare.lookup("shop.example", dnsTypes.SOA);
    if (found.kind !== "node" || found.node.zone.soa.data.kind !== "soa") throw new Error("no SOA");
    const { soa } = found.node.zone.soa.data;
    expect([soa.primaryName.text, soa.serial, found.node.zone.ns.length]).toEqual(["shop.example", 1, 0]);
  });
});
