/** What is to be said of one question, before it is put into bytes, and what every verdict is made of. */
import type { ClusterId } from "#kit";
import type { AnswerReason } from "../answer.ts";
import { HostedZone } from "../zone/hosted-zone.ts";
import { dnsTypes, type Rcode, rcodes } from "./constants.ts";
import type { DnsContext, DnsQuery, ReplyReason } from "./decision.ts";
import { type Denial, denialRecord, secure } from "./dnssec/secure.ts";
import type { ZoneSigner } from "./dnssec/signer.ts";
import type { EcsFault } from "./ecs.ts";
import type { DnsRecord, MessageFault } from "./message.ts";
import type { DomainName } from "./name.ts";
import { policyFacts } from "./policy-answer.ts";
import type { Zone, ZoneNode } from "./zone-table.ts";

/** What is to be said, before it is put into bytes. */
export interface Verdict {
  readonly reason: ReplyReason;
  readonly rcode: Rcode;
  readonly isAuthoritative?: boolean;
  readonly answers?: readonly DnsRecord[];
  readonly authorities?: readonly DnsRecord[];
  readonly additionals?: readonly DnsRecord[];
  /** DS records of a referral, for who asks with DO. */
  readonly delegationSigners?: readonly DnsRecord[];
  /** So many of the additionals, from the first, are not left out (RFC 9471). */
  readonly additionalsNeeded?: number;
  readonly fault?: MessageFault | EcsFault | undefined;
  readonly answerReason?: AnswerReason;
  readonly clusterId?: ClusterId | null;
  /** What is denied, for a negative answer or a referral. */
  readonly denial?: Denial;
  /** When a signature in it is to be made anew. */
  readonly renewAtSeconds?: number;
  /** Bits of the client's address on which the answer depends; 0 when absent. */
  readonly scopePrefixLength?: number;
  /** The name is one of ours that is asked for once. */
  readonly oneTimeId?: string;
}

export function positive(reason: ReplyReason, answers: readonly DnsRecord[]): Verdict {
  return { reason, rcode: rcodes.NOERROR, isAuthoritative: true, answers };
}

export function noData(context: DnsContext, node: ZoneNode, name: DomainName): Verdict {
  const { zone } = node;
  return {
    reason: "no-data",
    rcode: rcodes.NOERROR,
    isAuthoritative: true,
    authorities: [zone.negativeSoa],
    ...(isSigned(context, zone) && { denial: { zone, name, types: typesAt(context, node, name) } }),
  };
}

export function denialItself(denial: Denial): Verdict {
  return positive("security", [denialRecord(denial)]);
}

/** The signatures of a denial by themselves. Throws `SigningLimit` where the asker may be forged and too many were made. */
export function signaturesOf(
  signer: ZoneSigner,
  denial: Denial,
  { epochSeconds = 0, transport }: DnsQuery,
): readonly DnsRecord[] {
  return signer.sign([denialRecord(denial)], epochSeconds, transport === "udp").records;
}

export function isSigned(context: DnsContext, zone: Zone): boolean {
  return context.signers?.has(zone.origin.text) ?? false;
}

/** The types that `name` has, but for RRSIG and NSEC: what its NSEC record says, which validators may answer from (RFC 8198). */
export function typesAt(context: DnsContext, node: ZoneNode, name: DomainName): readonly number[] {
  const { signers, zones } = context;
  // Seen from above a zone of ours is a cut.
  if (!node.isApex && zones.isOrigin(name.text))
    return (signers?.get(name.text)?.records.ds.length ?? 0) > 0 ? [dnsTypes.NS, dnsTypes.DS] : [dnsTypes.NS];
  const types: number[] = [];
  if (node.zone instanceof HostedZone) {
    // An alias that is there for nobody is no alias to validators either, which take none in a proof of what is not there.
    const isMapped = zones.isMapped(name.text, dnsTypes.A);
    for (const type of node.zone.at(name.text)?.sets.keys() ?? [])
      if (!isMapped || type !== dnsTypes.CNAME) types.push(type);
  }
  if (node.isApex) {
    const records = signers?.get(node.zone.origin.text)?.records;
    types.push(dnsTypes.SOA, dnsTypes.DNSKEY);
    if (node.zone.ns.length > 0) types.push(dnsTypes.NS);
    if ((records?.cds.length ?? 0) > 0) types.push(dnsTypes.CDS, dnsTypes.CDNSKEY);
  }
  if (node.delegatedNumber !== undefined) {
    for (const { address } of zones.delegation?.servers ?? [])
      types.push(address.family === 4 ? dnsTypes.A : dnsTypes.AAAA);
  } else if (node.addresses.length > 0) {
    for (const { family } of node.addresses) types.push(family === 4 ? dnsTypes.A : dnsTypes.AAAA);
  } else if (node.policy !== undefined) {
    const { targets } = node.policy;
    const facts = policyFacts(context, node.policy);
    for (const [family, type] of [
      [4, dnsTypes.A],
      [6, dnsTypes.AAAA],
    ] as const) {
      const has = targets.some(
        ({ isEnabled, addressNumbers, propertyId }) =>
          isEnabled &&
          (addressNumbers[family].length > 0 ||
            (propertyId !== undefined && facts.isServed(propertyId, family))),
      );
      const at = types.indexOf(type);
      // What the customer's zone has of the type is not answered.
      if (at >= 0) types.splice(at, 1);
      if (has) types.push(type);
    }
  } else if (node.property?.isActive === true) {
    const edges = [...context.topology.edgeClusters.values()];
    if (edges.some(({ servers }) => servers[4].length > 0)) types.push(dnsTypes.A);
    if (edges.some(({ servers }) => servers[6].length > 0)) types.push(dnsTypes.AAAA);
    if (types.length > 0 && node.property.httpsRecord !== undefined) types.push(dnsTypes.HTTPS);
  }
  return types;
}

const noSigners: NonNullable<DnsContext["signers"]> = new Map();

/** The verdict as who set DO is to see it. */
export function securedVerdict(
  verdict: Verdict,
  context: DnsContext,
  isCompactAnswersOk: boolean,
  epochSeconds: number,
  isLimited: boolean,
): Verdict {
  const { signers = noSigners, zones } = context;
  const { answers = [], additionals = [], denial, delegationSigners = [] } = verdict;
  const authorities = [...(verdict.authorities ?? []), ...delegationSigners];
  if (signers.size === 0 && !zones.hasZonesSignedByOthers) return { ...verdict, authorities };
  const sections = { answers, authorities, additionals };
  const secured = secure(sections, denial, zones, signers, epochSeconds, isLimited);
  if (!secured.isSigned) return { ...verdict, authorities };
  // RFC 9824 section 3.1 and 5.1: the NSEC record says that the name exists, for who does not know better.
  const rcode =
    verdict.rcode === rcodes.NXDOMAIN &&
    !isCompactAnswersOk &&
    denial !== undefined &&
    signers.has(denial.zone.origin.text)
      ? rcodes.NOERROR
      : verdict.rcode;
  return { ...verdict, ...secured, rcode };
}
