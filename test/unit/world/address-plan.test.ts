import { describe, expect, test } from "vitest";
import { parsePrefix, prefixContains, parseAddress } from "#kit";
import { planAddresses, propertiesOf, topologyOf, type World } from "#kit/world";
import { worldOfDisk } from "./world-of-disk.ts";

const demo = worldOfDisk("demo");
const range = { loopback: "127.10", port: 8080, dnsPort: 5300 };

describe("the address plan", () => {
  test("gives each server its own loopback address and the same port", () => {
    const plan = planAddresses(demo, range);
    expect(plan.control).toEqual({ clusterId: "zrh-service", address: "127.10.0.1", port: 8080 });
    expect(plan.mappers[0]?.address).toBe("127.10.0.2");
    expect(plan.portal.address).toBe("127.10.0.3");
    expect(plan.servers.slice(0, 3).map((server) => [server.serverId, server.address, server.port])).toEqual([
      ["fra-1", "127.10.1.1", 8080],
      ["fra-2", "127.10.1.2", 8080],
      ["lon-1", "127.10.2.1", 8080],
    ]);
    expect(plan.servers.some((server) => server.role === "service")).toBe(false);
    expect(new Set(plan.servers.map((server) => server.address)).size).toBe(plan.servers.length);
    expect(Object.keys(plan.siteOfAddress)).toHaveLength(plan.servers.length + 3);
    expect(plan.siteOfAddress["127.10.2.1"]).toBe("lon");
    expect(plan.siteOfAddress["127.10.0.1"]).toBe("zrh-service");
  });

  test("without a range shares 127.0.0.1 and counts ports up", () => {
    const plan = planAddresses(demo, { ...range, loopback: undefined });
    const ports = [plan.control, ...plan.mappers, plan.portal, ...plan.servers].map((one) => one.port);
    expect(ports).toEqual(ports.map((_, index) => 8080 + index));
    const dns = plan.servers.flatMap((server) => (server.dnsPort === null ? [] : [server.dnsPort]));
    expect(dns).toEqual([5300, 5301]);
    expect(plan.siteOfAddress["127.0.0.1:8083"]).toBe("fra");
    expect(plan.siteOfAddress["127.0.0.1:5301"]).toBe("dfw-dns");
  });

  test("says when ports or addresses do not fit", () => {
    expect(() => planAddresses(demo, { loopback: undefined, port: 65_530, dnsPort: 5300 })).toThrow(
      /must end by 65535/,
    );
    expect(() => planAddresses(demo, { loopback: undefined, port: 5290, dnsPort: 5300 })).toThrow(
      /not overlap/,
    );
    expect(() => planAddresses(demo, { ...range, loopback: "10.0" })).toThrow(/expected "127\."/);
    const cluster = demo.regions[0]!.clusters[0]!;
    const wide: World = {
      ...demo,
      regions: [
        {
          id: "r" as never,
          clusters: Array.from({ length: 600 }, (_, n) => ({ ...cluster, id: `c${n}` as never })),
        },
      ],
    };
    const plan = planAddresses(wide, range);
    expect(new Set(plan.servers.map((server) => server.address)).size).toBe(1_200);
    expect(plan.servers[255 * 2]?.address).toBe("127.11.0.1");
    expect(() => planAddresses(wide, { ...range, loopback: "127.254" })).toThrow(/room for its clusters/);
  });

  test("control stands at a parent when there is no service site", () => {
    const without: World = {
      ...demo,
      regions: demo.regions.map((region) => ({
        ...region,
        clusters: region.clusters.filter((one) => one.role !== "service"),
      })),
    };
    expect(planAddresses(without, range).control.clusterId).toBe("ams-parent");
  });
});

describe("documents of a world", () => {
  test("the topology has sites, servers and name servers, and no travel time", () => {
    const topology = topologyOf(demo, planAddresses(demo, range));
    expect(topology.name).toBe("demo");
    const roleCounts = Object.groupBy(topology.clusters, (cluster) => cluster.role);
    expect(roleCounts.edge).toHaveLength(8);
    expect(roleCounts.edge?.every((cluster) => cluster.servers.length === 2)).toBe(true);
    expect(roleCounts.parent).toHaveLength(2);
    expect(topology.nameService).toEqual({
      zones: ["shop.example", "media.example", "cdn.example"],
      hostmaster: "hostmaster.cdn.example",
      nameServers: [
        { serverId: "sto-dns-1", name: "ns1.cdn.example", address: "127.10.6.1", dnsPort: 5300 },
        { serverId: "dfw-dns-1", name: "ns2.cdn.example", address: "127.10.12.1", dnsPort: 5300 },
      ],
    });
    expect(JSON.stringify(topology)).not.toMatch(/rtt|loss/i);
  });

  test("a property's origin is the first server of its cluster", () => {
    const properties = propertiesOf(demo, planAddresses(demo, range));
    expect(properties.map((property) => [property.propertyId, property.origins])).toEqual([
      ["shop-www", [{ scheme: "http", host: "127.10.8.1", port: 8080 }]],
      ["shop-app", [{ scheme: "http", host: "127.10.8.1", port: 8080 }]],
      ["media-dl", [{ scheme: "http", host: "127.10.13.1", port: 8080 }]],
      ["media-live", [{ scheme: "http", host: "127.10.13.1", port: 8080 }]],
    ]);
    expect(properties[1]).toMatchObject({
      tiering: "direct",
      prefetch: { isEnabled: true, objectsPerPageMax: 32 },
    });
  });

  test("an origin outside of the world keeps scheme, host and port", () => {
    const customer = demo.customers[0]!;
    const property = customer.properties[0]!;
    const origins = ["https://Origin.example", "http://10.0.0.1:8081/"].map((url) => {
      const world = { ...demo, customers: [{ ...customer, properties: [{ ...property, origin: { url } }] }] };
      return propertiesOf(world, planAddresses(world, range))[0]?.origins[0];
    });
    expect(origins).toEqual([
      { scheme: "https", host: "origin.example", port: 443 },
      { scheme: "http", host: "10.0.0.1", port: 8081 },
    ]);
  });

  test("the demo's clients are 12 cities or more on 5 continents or more, with IPv4 and IPv6 prefixes that are nobody's", () => {
    const nobodys = [
      "198.18.0.0/15",
      "192.0.2.0/24",
      "198.51.100.0/24",
      "203.0.113.0/24",
      "100.64.0.0/10",
      "2001:db8::/32",
    ].map((text) => parsePrefix(text)!);
    expect(new Set(demo.clients.map((network) => network.city)).size).toBeGreaterThanOrEqual(12);
    expect(new Set(demo.clients.map((network) => network.continent)).size).toBeGreaterThanOrEqual(5);
    for (const network of demo.clients) {
      expect(network.prefixes.some((prefix) => prefix.includes("."))).toBe(true);
      expect(network.prefixes.some((prefix) => prefix.includes(":"))).toBe(true);
      for (const prefix of network.prefixes) {
        const address = parseAddress(prefix.split("/")[0]!)!;
        expect(
          nobodys.some((one) => prefixContains(one, address)),
          prefix,
        ).toBe(true);
      }
    }
  });
});
