/** Whose a name is, and what is said of it: refused, referred, denied, answered by the map or from a customer's zone. */
import { parseAddress, readOneTimeLabel } from "#kit";
import { aliasKey } from "../zone/alias-table.ts";
import { isProofType, resolve, type ZoneAnswer } from "../zone/resolve.ts";
import { dnsClasses, dnsTypes, rcodes } from "./constants.ts";
import type { DnsContext, DnsQuery } from "./decision.ts";
import { type Denial, denialRecord } from "./dnssec/secure.ts";
import type { ClientSubnet } from "./ecs.ts";
import type { DnsQuestion, DnsRecord } from "./message.ts";
import { answerAt, referral } from "./node-answer.ts";
import { denialItself, isSigned, positive, signaturesOf, typesAt, type Verdict } from "./verdict.ts";
import { addressRecord, type Zone } from "./zone-table.ts";

/** An ALIAS that leads to another one of ours, and so on. */
const ALIAS_DEPTH_MAX = 4;

export function decide(
  question: DnsQuestion,
  ecs: ClientSubnet | undefined,
  query: DnsQuery,
  context: DnsContext | undefined,
): Verdict {
  const { type } = question;
  // OPT, TSIG and NXNAME are never asked for (RFC 6891 section 6.1.1, RFC 8945 section 4.2, RFC 9824 section 3.5).
  if (type === dnsTypes.OPT || type === dnsTypes.TSIG || type === dnsTypes.NXNAME || type === 0) {
    return { reason: "meta-type", rcode: rcodes.FORMERR };
  }
  if (type === dnsTypes.MAILA || type === dnsTypes.MAILB || type === dnsTypes.TKEY) {
    return { reason: "meta-type", rcode: rcodes.NOTIMP };
  }
  if (question.class !== dnsClasses.IN) return { reason: "class", rcode: rcodes.REFUSED };
  if (context === undefined) return { reason: "no-documents", rcode: rcodes.SERVFAIL };
  const found = context.zones.lookup(question.name.text, type);
  if (found.kind === "outside-zones") return { reason: "outside-zones", rcode: rcodes.REFUSED };
  if (type === dnsTypes.AXFR || type === dnsTypes.IXFR)
    return { reason: "zone-transfer", rcode: rcodes.REFUSED };
  if (found.kind === "delegation") return referral(found, query, context);
  if (found.kind === "hosted") return hostedVerdict(question, ecs, query, context);
  if (found.kind === "no-such-name") return noSuchName(found.zone, question, context);
  const { node } = found;
  if (node.oneTimeLabel === undefined) return answerAt(node, question, ecs, query, context);
  const { labelMac } = context;
  const label = labelMac && readOneTimeLabel(labelMac, node.oneTimeLabel, query.epochSeconds ?? 0);
  if (label === undefined) return noSuchName(node.zone, question, context);
  return { ...answerAt(node, question, ecs, query, context), oneTimeId: label.id };
}

/** The NSEC record of a name, or one of its signatures, which answers for all of them as of ANY (RFC 8482 section 4.1). */
function proven(
  denial: Denial,
  type: number,
  before: readonly DnsRecord[],
  query: DnsQuery,
  context: DnsContext,
): Verdict {
  if (type === dnsTypes.NSEC) return positive("security", [...before, denialRecord(denial)]);
  const signer = context.signers?.get(denial.zone.origin.text);
  return positive("security", [
    ...before,
    ...(signer === undefined ? [] : signaturesOf(signer, denial, query)),
  ]);
}

function noSuchName(zone: Zone, { name, type }: DnsQuestion, context: DnsContext): Verdict {
  const denial: Denial = { zone, name, types: "nothing" };
  // RFC 9824 section 3.4: who asks for the record itself gets it.
  if (type === dnsTypes.NSEC && isSigned(context, zone)) return denialItself(denial);
  return {
    reason: "no-such-name",
    rcode: rcodes.NXDOMAIN,
    isAuthoritative: true,
    authorities: [zone.negativeSoa],
    denial,
  };
}

/** Of a customer's zone; where an alias leads to a host name of the map's, its answer follows the aliases. */
function hostedVerdict(
  question: DnsQuestion,
  ecs: ClientSubnet | undefined,
  query: DnsQuery,
  context: DnsContext,
): Verdict {
  const { name, type } = question;
  const apex = context.zones.zoneFor(name.text, type);
  if (apex?.isLoaded === false) return { reason: "zone-expired", rcode: rcodes.SERVFAIL };
  // What is only signed zones' is the signer's to say; such records in a zone that is signed here are not served.
  const signer = apex?.origin.text === name.text ? context.signers?.get(name.text) : undefined;
  if (signer !== undefined) {
    const { dnskey, cds, cdnskey } = signer.records;
    const own = type === dnsTypes.DNSKEY ? dnskey : type === dnsTypes.CDS ? cds : cdnskey;
    const isOwnType = type === dnsTypes.DNSKEY || type === dnsTypes.CDS || type === dnsTypes.CDNSKEY;
    if (isOwnType && own.length > 0) return positive("apex", own);
  }
  const answer = resolve(context.zones, name, type);
  if (answer === undefined) return { reason: "outside-zones", rcode: rcodes.REFUSED };
  if (answer.alias !== undefined) {
    const flat = flattened(answer.alias, question, ecs, query, context);
    return { ...flat, answers: [...answer.answers, ...(flat.answers ?? [])] };
  }
  if (answer.tail === undefined) {
    const verdict = withSignersTypes(answer, context);
    const { denial } = verdict;
    if (denial === undefined || !isProofType(type) || !isSigned(context, denial.zone)) return verdict;
    // RFC 9824 section 3.4: what is made for the denial of others is there when it is asked for itself.
    return proven(denial, type, answer.answers, query, context);
  }
  const rest = decide({ ...question, name: answer.tail }, ecs, query, context);
  return { ...rest, isAuthoritative: true, answers: [...answer.answers, ...(rest.answers ?? [])] };
}

/** The addresses of an ALIAS's target under the name where it stands: ours by map, policy or zone, others' as they were resolved. */
function flattened(
  { zone, owner, target, ttlSeconds, types }: NonNullable<ZoneAnswer["alias"]>,
  question: DnsQuestion,
  ecs: ClientSubnet | undefined,
  query: DnsQuery,
  context: DnsContext,
): Verdict {
  const { type } = question;
  const unresolved: Verdict = { reason: "alias-unresolved", rcode: rcodes.SERVFAIL };
  const noAddress: ZoneAnswer = {
    reason: "no-data",
    rcode: rcodes.NOERROR,
    isAuthoritative: true,
    answers: [],
    authorities: [zone.negativeSoa],
    additionals: [],
    additionalsNeeded: 0,
    // What there is of the other family is not denied.
    denial: { zone, name: owner, types: types.filter((one) => one !== type) },
  };
  const nothing = withSignersTypes(noAddress, context);
  const depth = query.aliasDepth ?? 0;
  if (depth >= ALIAS_DEPTH_MAX) return unresolved;
  let name = target;
  let found: Verdict | undefined;
  let ttlMax = ttlSeconds;
  if (context.zones.zoneOf(target.text) !== undefined) {
    found = decide({ ...question, name: target }, ecs, { ...query, aliasDepth: depth + 1 }, context);
    const { answers = [] } = found;
    ttlMax = Math.min(ttlMax, ...answers.map((one) => one.ttlSeconds));
    const own = answers.filter((one) => one.type === type);
    if (own.length > 0) {
      const records = own.map((one) => ({ ...one, name: owner, ttlSeconds: ttlMax }));
      const { answerReason, clusterId, scopePrefixLength = 0 } = found;
      return {
        ...positive("alias", records),
        scopePrefixLength,
        ...(answerReason !== undefined && { answerReason }),
        ...(clusterId !== undefined && { clusterId }),
      };
    }
    const { reason } = found;
    if (reason === "alias-unresolved" || reason === "alias-chain" || reason === "zone-expired")
      return unresolved;
    const last = answers.at(-1)?.data;
    // A chain within our zones that leads out of them is followed by whoever resolves names outside.
    if (last?.kind !== "name" || context.zones.zoneOf(last.name.text) !== undefined) return nothing;
    name = last.name;
  }
  const resolved = context.aliases?.[aliasKey(name.text, type)];
  if (resolved === undefined) return unresolved;
  if (resolved.addresses.length === 0) return nothing;
  const seconds = Math.min(ttlMax, resolved.ttlSeconds);
  return positive(
    "alias",
    resolved.addresses.flatMap((text) => {
      const address = parseAddress(text);
      return address === undefined ? [] : [addressRecord(owner, address, seconds)];
    }),
  );
}

/** A denial at a name that has more types than its zone holds: keys at the top, addresses by the map. */
function withSignersTypes(answer: ZoneAnswer, context: DnsContext): Verdict {
  const { denial } = answer;
  if (denial === undefined || denial.types === "nothing" || !isSigned(context, denial.zone)) return answer;
  const types = new Set(denial.types);
  const { name, zone } = denial;
  if (name.text === zone.origin.text) {
    const { cds, cdnskey } = context.signers?.get(name.text)?.records ?? { cds: [], cdnskey: [] };
    types.add(dnsTypes.DNSKEY);
    if (cds.length > 0) types.add(dnsTypes.CDS);
    if (cdnskey.length > 0) types.add(dnsTypes.CDNSKEY);
  }
  const mapped = context.zones.lookup(name.text, dnsTypes.A);
  if (mapped.kind === "node") for (const type of typesAt(context, mapped.node, name)) types.add(type);
  return { ...answer, denial: { ...denial, types: [...types].sort((a, b) => a - b) } };
}
