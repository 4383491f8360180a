/** Names of ours and of the map's: what is said of a type at one of them, to whoever asks. */
import { addressBits, type IpFamily, type PropertyDocument } from "#kit";
import type { ClusterChoice } from "../answer.ts";
import type { CompiledPolicy } from "../policy/compile.ts";
import { drawOf } from "../policy/draw.ts";
import { choiceOfLookup, choiceTableOf, scopeOfLookup } from "./choice-table.ts";
import { verdictOfBinding, verdictOfChoice, verdictOfPolicy } from "./choice-reply.ts";
import { dnsClasses, dnsTypes, rcodes } from "./constants.ts";
import type { DnsContext, DnsQuery } from "./decision.ts";
import { nameServersFor } from "./delegation.ts";
import type { Denial } from "./dnssec/secure.ts";
import { type ClientSubnet, ecsAddress } from "./ecs.ts";
import type { DnsQuestion, DnsRecord } from "./message.ts";
import type { DomainName } from "./name.ts";
import { choosePolicy } from "./policy-answer.ts";
import { denialItself, noData, positive, signaturesOf, typesAt, type Verdict } from "./verdict.ts";
import {
  addressRecord,
  infrastructureTtlSeconds,
  type Zone,
  type ZoneLookup,
  type ZoneNode,
} from "./zone-table.ts";

const ZERO_HINFO: DnsRecord["data"] = {
  kind: "strings",
  strings: [Uint8Array.of(0x52, 0x46, 0x43, 0x38, 0x34, 0x38, 0x32), new Uint8Array(0)], // "RFC8482", ""
};

export function answerAt(
  node: ZoneNode,
  question: DnsQuestion,
  ecs: ClientSubnet | undefined,
  query: DnsQuery,
  context: DnsContext,
): Verdict {
  const { zone } = node;
  const nothing = (): Verdict => noData(context, node, question.name);
  switch (question.type) {
    case dnsTypes.A:
      return addressesAt(node, question, 4, ecs, query, context);
    case dnsTypes.AAAA:
      return addressesAt(node, question, 6, ecs, query, context);
    case dnsTypes.HTTPS:
      return serviceBindingAt(node, question, ecs, query, context);
    case dnsTypes.SOA:
      return node.isApex ? positive("apex", [zone.soa]) : nothing();
    case dnsTypes.NS:
      if (!node.isApex || zone.ns.length === 0) return nothing();
      return { ...positive("apex", zone.ns), additionals: glueOf(zone, query, context) };
    case dnsTypes.ANY: {
      const isEmpty =
        !node.isApex &&
        node.property === undefined &&
        node.policy === undefined &&
        node.addresses.length === 0 &&
        node.delegatedNumber === undefined;
      if (isEmpty) return nothing();
      return positive("any", [
        {
          name: question.name,
          type: dnsTypes.HINFO,
          class: dnsClasses.IN,
          ttlSeconds: infrastructureTtlSeconds,
          data: ZERO_HINFO,
        },
      ]);
    }
    default:
      return securityRecords(node, question, query, context) ?? nothing();
  }
}

/** To the name servers of the delegated zone that are near the resolver, with their addresses (RFC 1034 section 4.2.1, RFC 9471). */
export function referral(
  { zone, delegation }: Extract<ZoneLookup, { kind: "delegation" }>,
  query: DnsQuery,
  context: DnsContext,
): Verdict {
  const { origin, ns, names, ttlSeconds } = delegation;
  const delegationSigners = context.signers?.get(origin.text)?.records.ds ?? [];
  const glue = ([4, 6] as const).flatMap((family) =>
    nameServersFor(context, delegation, query.resolverAddress, family).map((address, n) =>
      addressRecord(names[n] as DomainName, address, ttlSeconds),
    ),
  );
  return {
    reason: "delegation",
    rcode: rcodes.NOERROR,
    isAuthoritative: false,
    authorities: ns,
    additionals: glue,
    additionalsNeeded: glue.length,
    delegationSigners,
    ...(delegationSigners.length === 0 && { denial: { zone, name: origin, types: [dnsTypes.NS] } }),
  };
}

/** Addresses of the name servers that an NS set of ours names. */
function glueOf(zone: Zone, query: DnsQuery, context: DnsContext): readonly DnsRecord[] {
  const { delegation } = context.zones;
  if (delegation === undefined || zone.origin.text !== delegation.origin.text)
    return context.zones.glueOf(zone);
  return ([4, 6] as const).flatMap((family) =>
    nameServersFor(context, delegation, query.resolverAddress, family).map((address, n) =>
      addressRecord(delegation.names[n] as DomainName, address, delegation.ttlSeconds),
    ),
  );
}

/** What only a signed zone has; undefined: nothing of the type. */
function securityRecords(
  node: ZoneNode,
  question: DnsQuestion,
  query: DnsQuery,
  context: DnsContext,
): Verdict | undefined {
  const { name, type } = question;
  if (type === dnsTypes.DS) {
    const ds = node.isApex ? [] : (context.signers?.get(name.text)?.records.ds ?? []);
    return ds.length === 0 ? undefined : positive("security", ds);
  }
  const signer = context.signers?.get(node.zone.origin.text);
  if (signer === undefined) return undefined;
  const { dnskey, cds, cdnskey } = signer.records;
  const denial: Denial = { zone: node.zone, name, types: typesAt(context, node, name) };
  switch (type) {
    case dnsTypes.DNSKEY:
      return node.isApex ? positive("apex", dnskey) : undefined;
    case dnsTypes.CDS:
      return node.isApex && cds.length > 0 ? positive("apex", cds) : undefined;
    case dnsTypes.CDNSKEY:
      return node.isApex && cdnskey.length > 0 ? positive("apex", cdnskey) : undefined;
    case dnsTypes.NSEC:
      return denialItself(denial);
    case dnsTypes.RRSIG:
      // Signatures by themselves are of no use: one of them answers, as of ANY (RFC 8482 section 4.1).
      return positive("security", signaturesOf(signer, denial, query));
    default:
      return undefined;
  }
}

function addressesAt(
  node: ZoneNode,
  question: DnsQuestion,
  family: IpFamily,
  ecs: ClientSubnet | undefined,
  query: DnsQuery,
  context: DnsContext,
): Verdict {
  if (node.addresses.length > 0) {
    const own = node.addresses.filter((address) => address.family === family);
    if (own.length === 0) return noData(context, node, question.name);
    return positive(
      "name-server-address",
      own.map((address) => addressRecord(question.name, address, infrastructureTtlSeconds)),
    );
  }
  if (node.delegatedNumber !== undefined) return delegatedServerAt(node, question, family, query, context);
  if (node.policy !== undefined) return policyAt(node, node.policy, question, family, ecs, query, context);
  const { property } = node;
  if (property === undefined || !property.isActive) return noData(context, node, question.name);
  const { choice, scopePrefixLength } = chosenFor(context, property, family, ecs, query);
  const verdict = verdictOfChoice(context, node, property, question.name, family, choice);
  return { ...verdict, scopePrefixLength };
}

/** By a customer's policy; where it chooses the edges, as the map has it for the property. */
function policyAt(
  node: ZoneNode,
  policy: CompiledPolicy,
  question: DnsQuestion,
  family: IpFamily,
  ecs: ClientSubnet | undefined,
  query: DnsQuery,
  context: DnsContext,
): Verdict {
  const told = ecs === undefined ? undefined : ecsAddress(ecs);
  const { bytes, resolverAddress, epochSeconds = 0 } = query;
  const choice = choosePolicy(context, policy, {
    family,
    client: told ?? resolverAddress,
    sourcePrefixLength:
      told === undefined ? addressBits(resolverAddress.family) : (ecs?.sourcePrefixLength ?? 0),
    isResolver: told === undefined,
    draw: drawOf(((bytes[0] as number) << 8) | (bytes[1] as number), resolverAddress.words, epochSeconds),
  });
  const { scopePrefixLength } = choice;
  const property = choice.propertyId === undefined ? undefined : context.zones.property(choice.propertyId);
  if (property === undefined)
    return { ...verdictOfPolicy(context, node, policy, question, family, choice), scopePrefixLength };
  const found = chosenFor(context, property, family, ecs, query);
  const dnsTtlSeconds = Math.min(property.dnsTtlSeconds, policy.document.ttlSeconds);
  const verdict = verdictOfChoice(
    context,
    node,
    { ...property, dnsTtlSeconds },
    question.name,
    family,
    found.choice,
  );
  return { ...verdict, scopePrefixLength: Math.max(scopePrefixLength, found.scopePrefixLength) };
}

/** HTTPS: what A and AAAA would say to the same asker, in one record. */
function serviceBindingAt(
  node: ZoneNode,
  question: DnsQuestion,
  ecs: ClientSubnet | undefined,
  query: DnsQuery,
  context: DnsContext,
): Verdict {
  const { property } = node;
  if (node.addresses.length > 0 || node.policy !== undefined || property?.isActive !== true)
    return noData(context, node, question.name);
  if (property.httpsRecord === undefined) return noData(context, node, question.name);
  const ipv4 = chosenFor(context, property, 4, ecs, query);
  const ipv6 = chosenFor(context, property, 6, ecs, query);
  const verdict = verdictOfBinding(context, node, property, question.name, ipv4.choice, ipv6.choice);
  return { ...verdict, scopePrefixLength: Math.max(ipv4.scopePrefixLength, ipv6.scopePrefixLength) };
}

function chosenFor(
  context: DnsContext,
  property: PropertyDocument,
  family: IpFamily,
  ecs: ClientSubnet | undefined,
  { resolverAddress }: DnsQuery,
): { readonly choice: ClusterChoice; readonly scopePrefixLength: number } {
  const told = ecs === undefined ? undefined : ecsAddress(ecs);
  const table = choiceTableOf(context, property, family);
  // The scope is about the address that was told; an answer made for the resolver's own holds for all it serves.
  const found =
    told === undefined
      ? table.lookupResolver(resolverAddress.family, resolverAddress.words)
      : table.lookupBehind(resolverAddress.family, resolverAddress.words, told.family, told.words);
  return {
    choice: table.choices[choiceOfLookup(found)] as ClusterChoice,
    scopePrefixLength: scopeOfLookup(found),
  };
}

/** A name server of the delegated zone: by the resolver's own address, as in the referral. */
function delegatedServerAt(
  node: ZoneNode,
  question: DnsQuestion,
  family: IpFamily,
  query: DnsQuery,
  context: DnsContext,
): Verdict {
  const { delegation } = context.zones;
  const addresses =
    delegation === undefined ? [] : nameServersFor(context, delegation, query.resolverAddress, family);
  const address = addresses[node.delegatedNumber ?? 0];
  if (delegation === undefined || address === undefined) return noData(context, node, question.name);
  const record = addressRecord(question.name, address, delegation.ttlSeconds);
  return positive("name-server-address", [record]);
}
