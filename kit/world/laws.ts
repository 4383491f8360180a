/**
 * The laws of a world that span its parts: names that must differ, ends that must exist, origins that can serve. Shape is
 * checked before (world.ts). Each law throws {@link ParseError} at the second of two things that collide.
 */
import { formatPath, limitProblem, ParseError, type Path, propertyDocument } from "#kit";
import { serverIdOf } from "./address-plan.ts";
import { rawPropertyDocument } from "./property-of.ts";
import type { World, WorldCluster } from "./world.ts";

/** The map of a topology holds at most this many clusters. */
const CLUSTERS_MAX = 5_000;

/** The deployment's own account at the portal; each customer's account has the customer's name. */
const OPERATOR = "operator";

/** Throws {@link ParseError} on the first law that the world breaks, in file order of the sections. */
export function checkLaws(world: World): void {
  const clusters = checkSites(world);
  for (const [n, site] of (world.mappers ?? []).entries())
    if (!clusters.has(site)) throw new ParseError(["mappers", n], site, "the id of a cluster");
  checkPrefixes(world);
  checkLinks(world, clusters);
  checkLimits(world);
  checkNameServers(world, clusters);
  checkCustomers(world, clusters);
}

/** Refuses the second use of a name and says where the first one is. */
class Names {
  readonly #what: string;
  readonly #first = new Map<string, Path>();

  constructor(what: string) {
    this.#what = what;
  }

  has(name: string): boolean {
    return this.#first.has(name);
  }

  take(name: string, at: Path): void {
    const first = this.#first.get(name);
    if (first !== undefined) {
      throw new ParseError(at, name, `${this.#what} that ${formatPath(first)} does not use`);
    }
    this.#first.set(name, at);
  }
}

/** Clusters and client networks share one set of names, because links name either. Returns the clusters by name. */
function checkSites(world: World): ReadonlyMap<string, WorldCluster> {
  const regionNames = new Names("a region name");
  const siteNames = new Names("a name (links name clusters and client networks alike)");
  const clusters = new Map<string, WorldCluster>();
  const places: [WorldCluster, Path][] = [];
  for (const [r, region] of world.regions.entries()) {
    regionNames.take(region.id, ["regions", r, "id"]);
    for (const [c, cluster] of region.clusters.entries()) {
      const at = ["regions", r, "clusters", c];
      siteNames.take(cluster.id, [...at, "id"]);
      clusters.set(cluster.id, cluster);
      places.push([cluster, at]);
      if (clusters.size > CLUSTERS_MAX) {
        throw new ParseError(at, cluster.id, `at most ${CLUSTERS_MAX} clusters in all regions`);
      }
    }
  }
  for (const [n, network] of world.clients.entries()) siteNames.take(network.id, ["clients", n, "id"]);
  for (const [cluster, at] of places) {
    const last = serverIdOf(cluster.id, cluster.servers);
    if (last.length > 63) {
      throw new ParseError([...at, "id"], cluster.id, `a name whose servers (${last}) are at most 63 long`);
    }
    for (let n = 1; n <= cluster.servers; n++) {
      const serverId = serverIdOf(cluster.id, n);
      if (siteNames.has(serverId)) {
        throw new ParseError(
          [...at, "id"],
          cluster.id,
          `a name whose server ${serverId} is not named like another site`,
        );
      }
    }
  }
  if (!places.some(([cluster]) => cluster.role === "edge")) {
    throw new ParseError(
      ["regions"],
      world.regions.map((region) => region.id),
      "at least one cluster of role edge",
    );
  }
  return clusters;
}

/** Prefixes may nest (the longest match decides), but not repeat. */
function checkPrefixes(world: World): void {
  const prefixes = new Names("a prefix");
  for (const [n, network] of world.clients.entries()) {
    for (const [p, prefix] of network.prefixes.entries())
      prefixes.take(prefix, ["clients", n, "prefixes", p]);
  }
}

function checkLinks(world: World, clusters: ReadonlyMap<string, WorldCluster>): void {
  const clients = new Set<string>(world.clients.map((network) => network.id));
  const directions = new Names("a link");
  for (const [n, link] of world.links.given.entries()) {
    const at = ["links", "given", n];
    for (const end of ["from", "to"] as const) {
      if (!clusters.has(link[end]) && !clients.has(link[end])) {
        throw new ParseError([...at, end], link[end], "the id of a cluster or of a client network");
      }
    }
    if (link.from === link.to)
      throw new ParseError([...at, "to"], link.to, "the other end of the link, not the same site");
    if (clients.has(link.from) && clients.has(link.to)) {
      throw new ParseError(
        [...at, "to"],
        link.to,
        "a cluster, because client networks do not speak to each other",
      );
    }
    if (link.rttMs === undefined && link.lossRatio === undefined && link.bandwidthMbps === undefined) {
      throw new ParseError(at, link, "rttMs, lossRatio or bandwidthMbps");
    }
    directions.take(`${link.from} to ${link.to}`, at);
    if (link.isOneWay !== true) directions.take(`${link.to} to ${link.from}`, at);
  }
}

function checkLimits(world: World): void {
  const clusters = world.regions.flatMap((region) =>
    region.clusters.map((cluster) => ({ clusterId: cluster.id, regionId: region.id })),
  );
  const wrong = limitProblem(world.limits, clusters);
  if (wrong !== undefined) throw new ParseError(wrong.at, wrong.value, wrong.expected);
}

/** Two levels of name servers: who stands with an edge has a zone to answer for, and somebody is at the top. */
function checkNameServers(world: World, clusters: ReadonlyMap<string, WorldCluster>): void {
  const { delegation, zone } = world.nameService;
  for (const [r, region] of world.regions.entries())
    for (const [c, { role, edgeCluster }] of region.clusters.entries()) {
      if (edgeCluster === undefined) continue;
      const at = ["regions", r, "clusters", c, "edgeCluster"];
      if (role !== "nameserver") throw new ParseError(at, edgeCluster, "nothing: it is for role nameserver");
      if (clusters.get(edgeCluster)?.role !== "edge")
        throw new ParseError(at, edgeCluster, "the id of a cluster of role edge");
      if (delegation === undefined)
        throw new ParseError(at, edgeCluster, "nothing, or nameService.delegation with a zone");
    }
  checkStandIns(world);
  if (delegation === undefined) return;
  const at = ["nameService", "delegation", "zone"];
  if (!delegation.zone.endsWith(`.${zone}`))
    throw new ParseError(at, delegation.zone, `a name below ${zone}, the zone of the name servers`);
  const nameServers = [...clusters.values()].filter(({ role }) => role === "nameserver");
  for (const [isTop, what] of [
    [false, 'a cluster of role nameserver with an "edgeCluster", to delegate it to'],
    [true, 'a cluster of role nameserver without "edgeCluster", to delegate it'],
  ] as const)
    if (!nameServers.some(({ edgeCluster }) => (edgeCluster === undefined) === isTop))
      throw new ParseError(at, delegation.zone, what);
}

/** A name server with delayed input stands in for others: there has to be one, and it is at the top like them. */
function checkStandIns(world: World): void {
  const all = world.regions.flatMap((region) => region.clusters);
  const isTop = (one: WorldCluster) => one.role === "nameserver" && one.edgeCluster === undefined;
  const hasOthers = all.some((one) => isTop(one) && one.inputDelaySeconds === undefined);
  for (const [r, region] of world.regions.entries())
    for (const [c, one] of region.clusters.entries()) {
      const { inputDelaySeconds } = one;
      if (inputDelaySeconds === undefined) continue;
      const at = ["regions", r, "clusters", c, "inputDelaySeconds"];
      if (!isTop(one))
        throw new ParseError(at, inputDelaySeconds, "nothing: it is for role nameserver without edgeCluster");
      if (!hasOthers)
        throw new ParseError(
          at,
          inputDelaySeconds,
          "nothing, or another name server, for which it stands in",
        );
    }
}

function checkCustomers(world: World, clusters: ReadonlyMap<string, WorldCluster>): void {
  const customerNames = new Names("a customer name");
  const propertyNames = new Names("a property name");
  const hostnames = new Names("a host name");
  const zones = new Names("a zone");
  const ownZone = world.nameService.zone;
  zones.take(ownZone, ["nameService", "zone"]);
  for (const [c, customer] of world.customers.entries()) {
    customerNames.take(customer.id, ["customers", c, "id"]);
    if (customer.id === OPERATOR) {
      throw new ParseError(
        ["customers", c, "id"],
        customer.id,
        `a customer name other than ${OPERATOR}, whose account sees every customer`,
      );
    }
    for (const [z, zone] of customer.zones.entries()) zones.take(zone, ["customers", c, "zones", z]);
    for (const [p, property] of customer.properties.entries()) {
      const at = ["customers", c, "properties", p];
      propertyNames.take(property.id, [...at, "id"]);
      for (const [h, hostname] of property.hostnames.entries()) {
        const here = [...at, "hostnames", h];
        hostnames.take(hostname, here);
        if (!customer.zones.some((zone) => isInZone(hostname, zone))) {
          const list = customer.zones.length === 0 ? "none is stated" : customer.zones.slice(0, 8).join(", ");
          throw new ParseError(
            here,
            hostname,
            `a host name inside a zone of customer ${customer.id} (${list})`,
          );
        }
        if (isInZone(hostname, ownZone)) {
          throw new ParseError(
            here,
            hostname,
            `a host name outside of ${ownZone}, the zone of the name servers`,
          );
        }
      }
      if ("cluster" in property.origin) {
        const origin = clusters.get(property.origin.cluster);
        if (origin?.role !== "origin") {
          const why = origin === undefined ? "" : ` (that one's role is ${origin.role})`;
          throw new ParseError(
            [...at, "origin", "cluster"],
            property.origin.cluster,
            `a cluster of role origin${why}`,
          );
        }
      }
      checkPropertyDocument(world, c, p);
    }
  }
}

function isInZone(hostname: string, zone: string): boolean {
  return hostname === zone || hostname.endsWith(`.${zone}`);
}

/** The property document that is made of it must be valid; its errors are told at the place in the world they come from. */
function checkPropertyDocument(world: World, customerIndex: number, propertyIndex: number): void {
  const customer = world.customers[customerIndex];
  const property = customer?.properties[propertyIndex];
  if (customer === undefined || property === undefined) return;
  try {
    // The address of an origin cluster is not planned yet; any will do to check the rest.
    propertyDocument.parse(
      rawPropertyDocument(customer.id, property, () => ({ address: "127.0.0.1", port: 80 })),
    );
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    const at: Path = ["customers", customerIndex, "properties", propertyIndex];
    const [first, ...rest] = error.path;
    if (first === "origins")
      throw new ParseError([...at, "origin", "url"], originText(property.origin), error.expected);
    if (first === "propertyId") throw new ParseError([...at, "id"], error.value, error.expected);
    if (first === "hostnames")
      throw new ParseError([...at, "hostnames", ...rest], error.value, error.expected);
    throw new ParseError([...at, "settings", ...error.path], error.value, error.expected);
  }
}

function originText(origin: World["customers"][number]["properties"][number]["origin"]): unknown {
  return "url" in origin ? origin.url : origin;
}
