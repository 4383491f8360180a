/** `isochrone where`: why a client is sent where it is sent, as a value that a name server sends and a command prints. */
import {
  addressBits,
  array,
  boolean,
  type ClientNetworkId,
  type ClusterId,
  type CustomerId,
  formatAddress,
  formatPrefix,
  id,
  type IpFamily,
  integer,
  nullable,
  number,
  object,
  oneOf,
  type Parsed,
  type PropertyId,
  parsePrefix,
  placementReasons,
  type ServerId,
  string,
  trafficClasses,
} from "#kit";
import { type AnswerCandidate, answerAddresses, answerReasons } from "./answer.ts";
import { dnsTypes } from "./dns/constants.ts";
import { nameServersFor } from "./dns/delegation.ts";
import { nameFromText } from "./dns/name.ts";
import type { DnsContext } from "./dns/decision.ts";
import { explainPolicy, type PolicyReport } from "./policy/explain.ts";
import { wayOf, wayReport } from "./way.ts";

const candidateOutcomes = [
  "chosen",
  "lower-rank",
  "no-live-server",
  "suspended",
  "no-address",
  "not-edge",
] as const satisfies readonly AnswerCandidate["outcome"][];

const whereServer = object({
  serverId: id<ServerId>(),
  address: string(),
  port: integer(),
  isUp: boolean(),
  /** From 1 for the servers that the answer names, in its order; null for the others of the cluster. */
  rank: nullable(integer({ min: 1 })),
});

/** One cluster that was considered; the terms are the map's and absent for a last resort that it does not rank. */
const whereCandidate = object({
  clusterId: id<ClusterId>(),
  city: string(),
  outcome: oneOf(candidateOutcomes),
  score: nullable(number()),
  terms: nullable(object({ rttMs: number(), lossRatio: number(), load: number(), confidence: number() })),
  serversUp: integer(),
  servers: integer(),
});

/** What `/.isochrone/where` answers and `isochrone where --json` prints. */
export const whereReport = object({
  name: string(),
  /** Canonical prefix that was asked about; a single address is written without its length. */
  client: string(),
  propertyId: id<PropertyId>(),
  customerId: id<CustomerId>(),
  trafficClass: oneOf(trafficClasses),
  /** Null: no client network of the map holds the address. */
  clientNetworkId: nullable(id<ClientNetworkId>()),
  /** The prefix of that client network that matched. */
  matchedPrefix: nullable(string()),
  /** What is known of the clients behind the address, when a resolver's was asked about and the map was made for them. */
  resolver: nullable(object({ clientNetworks: integer(), weight: number() })),
  /** Null: there is no map yet. */
  mapVersion: nullable(integer()),
  mapCreatedAtEpochMs: nullable(integer()),
  mapReason: nullable(string()),
  reason: oneOf(answerReasons),
  clusterId: nullable(id<ClusterId>()),
  city: nullable(string()),
  ttlSeconds: integer(),
  scopePrefixLength: integer({ max: 128 }),
  /** Every server of the chosen cluster. */
  servers: array(whereServer),
  /** In the order in which they were considered. */
  candidates: array(whereCandidate),
  /** Why the engine sends the client network where it does, and the limit that turned it away from a better place. */
  placement: nullable(object({ reason: oneOf(placementReasons), limitName: nullable(string()) })),
  /** How it goes on from the chosen cluster, by the same map; null: there is no cluster, or no map. */
  way: nullable(wayReport),
});
export type WhereReport = Parsed<typeof whereReport>;

/** Why there is nothing to explain. */
export const whereRefusals = [
  "bad-name",
  "bad-address",
  "outside-zones",
  "no-such-name",
  "no-property",
  "no-documents",
] as const;
export type WhereRefusal = (typeof whereRefusals)[number];

export type WhereResult =
  | { readonly ok: true; readonly report: WhereReport }
  /** A customer's policy decides, and explains itself. */
  | {
      readonly ok: false;
      readonly reason: "policy";
      readonly message: string;
      readonly policy: PolicyReport;
    }
  | { readonly ok: false; readonly reason: WhereRefusal; readonly message: string };

/**
 * Asks the same objects that a DNS query would. `client` is an address or a prefix such as "203.0.113.0/24" (what an ECS
 * option would carry). Never throws.
 *
 * @param isResolver the address is a resolver's that tells nothing of its clients
 */
export function explainWhere(
  name: string,
  client: string,
  context: DnsContext | undefined,
  isResolver = false,
): WhereResult {
  const refuse = (reason: WhereRefusal, message: string): WhereResult => ({ ok: false, reason, message });
  const domain = name.length <= 255 ? nameFromText(name) : undefined;
  if (domain === undefined)
    return refuse("bad-name", `Not a host name: ${JSON.stringify(name.slice(0, 255))}`);
  const prefix = client.length <= 64 ? parsePrefix(client) : undefined;
  if (prefix === undefined) {
    return refuse(
      "bad-address",
      `Not an address or a prefix without host bits: ${JSON.stringify(client.slice(0, 64))}`,
    );
  }
  if (context === undefined) return refuse("no-documents", "The name server has no topology yet");
  const found = context.zones.lookup(domain.text, dnsTypes.A);
  if (found.kind === "outside-zones") {
    return refuse(
      "outside-zones",
      `${domain.text} lies in no zone of these name servers (they answer REFUSED)`,
    );
  }
  if (found.kind === "no-such-name") {
    return refuse(
      "no-such-name",
      `${domain.text} does not exist in zone ${found.zone.origin.text} (NXDOMAIN)`,
    );
  }
  if (found.kind === "delegation") {
    const near = nameServersFor(context, found.delegation, prefix.address, prefix.address.family);
    return refuse(
      "no-property",
      `${domain.text} is answered by the name servers of ${found.delegation.origin.text} near the resolver: one at this address is sent to ${[...new Set(near.map(formatAddress))].join(", ") || "none"}`,
    );
  }
  if (found.kind === "node" && found.node.policy !== undefined && found.node.addresses.length === 0) {
    const policy = explainPolicy(domain.text, prefix, context, found.node.policy, isResolver);
    const message = `${domain.text} is decided by policy ${policy.policyId}`;
    return { ok: false, reason: "policy", message, policy };
  }
  const { property, addresses } =
    found.kind === "hosted" ? { property: undefined, addresses: [] } : found.node;
  if (property === undefined || !property.isActive || addresses.length > 0) {
    return refuse(
      "no-property",
      `${domain.text} exists but is no active property: its answer does not depend on the client`,
    );
  }
  const ask = (family: IpFamily) =>
    answerAddresses({
      snapshot: context.snapshot,
      topology: context.topology,
      property,
      family,
      clientAddress: prefix.address,
      sourcePrefixLength: prefix.prefixLength,
      isResolver,
      isUp: context.isUp,
    });
  const ipv4 = ask(4);
  const answer = ipv4.reason === "no-edge" ? ask(6) : ipv4;
  const { explanation } = answer;
  const map = context.snapshot?.snapshot;
  const cluster = answer.clusterId === null ? undefined : context.topology.clusters.get(answer.clusterId);
  const ranks = new Map(answer.servers.map((server, index) => [server.serverId, index + 1]));
  return {
    ok: true,
    report: {
      name: domain.text,
      client:
        prefix.prefixLength === addressBits(prefix.address.family)
          ? formatAddress(prefix.address)
          : formatPrefix(prefix),
      propertyId: property.propertyId,
      customerId: property.customerId,
      trafficClass: explanation.trafficClass,
      clientNetworkId: explanation.clientNetworkId,
      matchedPrefix: context.snapshot?.matchedPrefix(prefix.address) ?? null,
      resolver:
        explanation.resolver === null
          ? null
          : { clientNetworks: explanation.resolver.clientNetworks, weight: explanation.resolver.weight },
      mapVersion: explanation.mapVersion,
      mapCreatedAtEpochMs: map?.createdAtEpochMs ?? null,
      mapReason: map?.reason ?? null,
      reason: answer.reason,
      clusterId: answer.clusterId,
      city: cluster?.city ?? null,
      ttlSeconds: answer.ttlSeconds,
      scopePrefixLength: answer.scopePrefixLength,
      servers: (cluster?.servers ?? [])
        .map((server) => ({
          serverId: server.serverId,
          address: server.address,
          port: server.port,
          isUp: context.isUp(server.serverId),
          rank: ranks.get(server.serverId) ?? null,
        }))
        .sort((a, b) => (a.rank ?? Infinity) - (b.rank ?? Infinity) || (a.serverId < b.serverId ? -1 : 1)),
      candidates: explanation.candidates.map((candidate) => ({
        clusterId: candidate.clusterId,
        outcome: candidate.outcome,
        score: candidate.score ?? null,
        terms: candidate.terms ?? null,
        serversUp: candidate.serversUp,
        servers: candidate.servers,
        city: context.topology.clusters.get(candidate.clusterId)?.city ?? candidate.clusterId,
      })),
      placement: explanation.placement,
      way:
        map === undefined || answer.clusterId === null
          ? null
          : wayOf(map, context.topology.topology, answer.clusterId, property),
    },
  };
}
