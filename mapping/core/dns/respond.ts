/**
 * One query in, one decision out: the authoritative name server without its sockets. Everything unusual gets the rcode
 * that its RFC names, or silence where an answer could be used against someone else; nothing throws on any bytes.
 */
import {
  addressBits,
  type ClusterId,
  type IpAddress,
  type IpFamily,
  parseAddress,
  type PropertyDocument,
} from "#kit";
import type { AnswerReason, ClusterChoice } from "../answer.ts";
import { choiceOfLookup, choiceTableOf, scopeOfLookup, serversOfChoice } from "./choice-table.ts";
import {
  dnsClasses,
  dnsOpcodes,
  dnsTypes,
  headerBytes,
  type Rcode,
  rcodes,
  tcpMessageBytesMax,
  udpPayloadBytesMax,
  udpPayloadBytesMin,
} from "./constants.ts";
import type { DnsContext, DnsDecision, DnsQuery, DnsService, ReplyReason } from "./decision.ts";
import { type ClientSubnet, type EcsFault, ecsAddress } from "./ecs.ts";
import {
  type DnsHeader,
  type DnsMessage,
  type DnsQuestion,
  type DnsRecord,
  type Edns,
  type MessageFault,
  replyHeader,
} from "./message.ts";
import { nameServersFor } from "./delegation.ts";
import { type Denial, denialRecord, secure } from "./dnssec/secure.ts";
import { SigningLimit } from "./dnssec/signer.ts";
import type { DomainName } from "./name.ts";
import { type AskedOptions, readAskedOptions, replyOptions } from "./options.ts";
import type { CompiledPolicy } from "../policy/compile.ts";
import type { PolicyChoice } from "../policy/decide.ts";
import { drawOf } from "../policy/draw.ts";
import { choosePolicy, policyFacts } from "./policy-answer.ts";
import { HostedZone } from "../zone/hosted-zone.ts";
import { aliasKey } from "../zone/alias-table.ts";
import { resolve, type ZoneAnswer } from "../zone/resolve.ts";
import { httpsRecordOf } from "./service-binding.ts";
import { readHeader, readMessage, writeMessage } from "./wire.ts";
import {
  addressRecord,
  infrastructureTtlSeconds,
  type Zone,
  type ZoneLookup,
  type ZoneNode,
} from "./zone-table.ts";

/** A query has one question and an OPT; a signed one a record more. Beyond this it is no query of a resolver. */
const QUERY_RECORDS_MAX = 16;
const ZERO_HINFO: DnsRecord["data"] = {
  kind: "strings",
  strings: [Uint8Array.of(0x52, 0x46, 0x43, 0x38, 0x34, 0x38, 0x32), new Uint8Array(0)], // "RFC8482", ""
};

/** What is to be said, before it is put into bytes. */
interface Verdict {
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
}

/** What of the query the reply repeats. */
interface Asked {
  readonly header: DnsHeader;
  readonly question: DnsQuestion | undefined;
  readonly edns: Edns | undefined;
  readonly options: AskedOptions | undefined;
}

/**
 * Decides one query. Never throws on any bytes. `context` undefined: no documents yet, every well-formed query gets
 * SERVFAIL, so that resolvers turn to another name server at once.
 */
export function respond(
  query: DnsQuery,
  context: DnsContext | undefined,
  service: DnsService = {},
): DnsDecision {
  const header = readHeader(query.bytes);
  if (header === undefined) return { action: "drop", reason: "too-short" };
  if (header.isResponse) return { action: "drop", reason: "is-response" };
  const bare: Asked = { header, question: undefined, edns: undefined, options: undefined };
  // The body of another opcode is not ours to read: only the header is answered.
  if (header.opcode !== dnsOpcodes.QUERY)
    return reply(query, bare, { reason: "opcode", rcode: rcodes.NOTIMP }, service);
  const questionCount = ((query.bytes[4] as number) << 8) | (query.bytes[5] as number);
  if (questionCount === 0) {
    const verdict = cookieOnly(query, bare, service);
    if (verdict !== undefined) return verdict;
  }
  if (questionCount !== 1)
    return reply(query, bare, { reason: "question-count", rcode: rcodes.FORMERR }, service);

  const read = readMessage(query.bytes, QUERY_RECORDS_MAX);
  if (!read.ok) {
    const asked = { ...bare, question: read.partial?.questions[0], edns: read.partial?.edns };
    return reply(query, asked, { reason: "malformed", rcode: rcodes.FORMERR, fault: read.fault }, service);
  }
  const { questions, edns } = read.message;
  const question = questions[0] as DnsQuestion;
  const plain: Asked = { header, question, edns, options: undefined };
  if (edns !== undefined && edns.version !== 0) {
    return reply(query, plain, { reason: "edns-version", rcode: rcodes.BADVERS }, service);
  }
  const askedOptions = readAskedOptions(
    edns?.options ?? [],
    query.resolverAddress,
    service,
    query.epochSeconds ?? 0,
  );
  if (!askedOptions.ok) {
    return reply(
      query,
      plain,
      { reason: askedOptions.reason, rcode: rcodes.FORMERR, fault: askedOptions.fault },
      service,
    );
  }
  const { options } = askedOptions;
  const asked: Asked = { ...plain, options };
  if (context?.isStandingBy === true)
    return reply(query, asked, { reason: "standing-by", rcode: rcodes.REFUSED }, service);
  const verdict = decide(question, options.ecs, query, context);
  if (edns?.isDnssecOk !== true || context === undefined || query.isCut === true)
    return reply(query, asked, verdict, service);
  const isCompactAnswersOk = edns.isCompactAnswersOk === true;
  const isLimited = query.transport === "udp" && options.cookie?.state !== "valid";
  try {
    const secured = securedVerdict(verdict, context, isCompactAnswersOk, query.epochSeconds ?? 0, isLimited);
    return reply(query, asked, secured, service);
  } catch (error) {
    if (!(error instanceof SigningLimit)) throw error;
    // Who is not forged comes back over TCP, and has its denial.
    return reply({ ...query, isCut: true }, asked, { ...verdict, rcode: rcodes.NOERROR }, service);
  }
}

/** RFC 7873 section 5.4: who asks nothing but shows a cookie gets one, with the rest empty; undefined: it is no such query. */
function cookieOnly(query: DnsQuery, bare: Asked, service: DnsService): DnsDecision | undefined {
  const read = readMessage(query.bytes, QUERY_RECORDS_MAX);
  if (!read.ok || read.message.edns?.version !== 0) return undefined;
  const { edns, answers, authorities, additionals } = read.message;
  if (answers.length + authorities.length + additionals.length > 0) return undefined;
  const asked = readAskedOptions(edns.options, query.resolverAddress, service, query.epochSeconds ?? 0);
  if (!asked.ok || asked.options.cookie === undefined) return undefined;
  const { cookie, isNsidAsked } = asked.options;
  // A client subnet of no question has no answer whose scope could be told.
  const options: AskedOptions = { cookie, isNsidAsked, ecs: undefined };
  return reply(query, { ...bare, edns, options }, { reason: "cookie-only", rcode: rcodes.NOERROR }, service);
}

/** The verdict as who set DO is to see it. */
function securedVerdict(
  verdict: Verdict,
  context: DnsContext,
  isCompactAnswersOk: boolean,
  epochSeconds: number,
  isLimited: boolean,
): Verdict {
  const { signers, zones } = context;
  const { answers = [], additionals = [], denial, delegationSigners = [] } = verdict;
  const authorities = [...(verdict.authorities ?? []), ...delegationSigners];
  if (signers === undefined || signers.size === 0) return { ...verdict, authorities };
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

/** SERVFAIL for a query that met a fault of our own; undefined when it must not be answered. */
export function respondInternalError(query: DnsQuery): DnsDecision {
  const header = readHeader(query.bytes);
  if (header === undefined) return { action: "drop", reason: "too-short" };
  if (header.isResponse) return { action: "drop", reason: "is-response" };
  const asked: Asked = { header, question: undefined, edns: undefined, options: undefined };
  return reply(query, asked, { reason: "internal-error", rcode: rcodes.SERVFAIL }, {});
}

function decide(
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
  if (found.kind === "no-such-name") {
    const denial: Denial = { zone: found.zone, name: question.name, types: "nothing" };
    // RFC 9824 section 3.4: who asks for the record itself gets it.
    if (type === dnsTypes.NSEC && isSigned(context, found.zone)) return denialItself(denial);
    return {
      reason: "no-such-name",
      rcode: rcodes.NXDOMAIN,
      isAuthoritative: true,
      authorities: [found.zone.negativeSoa],
      denial,
    };
  }
  return answerAt(found.node, question, ecs, query, context);
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
  if (answer.tail === undefined) return withSignersTypes(answer, context);
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
    if (found.reason === "alias-unresolved" || found.reason === "alias-chain") return unresolved;
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
/** An ALIAS that leads to another one of ours, and so on. */
const ALIAS_DEPTH_MAX = 4;

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

/** To the name servers of the delegated zone that are near the resolver, with their addresses (RFC 1034 section 4.2.1, RFC 9471). */
function referral(
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

function answerAt(
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
      return positive("security", signer.sign([denialRecord(denial)], query.epochSeconds ?? 0).records);
    default:
      return undefined;
  }
}

function denialItself(denial: Denial): Verdict {
  return positive("security", [denialRecord(denial)]);
}

function isSigned(context: DnsContext, zone: Zone): boolean {
  return context.signers?.has(zone.origin.text) ?? false;
}

/** The types that `name` has, but for RRSIG and NSEC: what its NSEC record says, which validators may answer from (RFC 8198). */
function typesAt(context: DnsContext, node: ZoneNode, name: DomainName): readonly number[] {
  const { signers, zones } = context;
  // Seen from above a zone of ours is a cut.
  if (!node.isApex && zones.isOrigin(name.text))
    return (signers?.get(name.text)?.records.ds.length ?? 0) > 0 ? [dnsTypes.NS, dnsTypes.DS] : [dnsTypes.NS];
  const types: number[] = [];
  if (node.zone instanceof HostedZone) types.push(...(node.zone.at(name.text)?.sets.keys() ?? []));
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

function verdictOfPolicy(
  context: DnsContext,
  node: ZoneNode,
  { document, addresses }: CompiledPolicy,
  { name, type }: Pick<DnsQuestion, "name" | "type">,
  family: IpFamily,
  { addresses: numbers, reason }: PolicyChoice,
): Verdict {
  const { ttlSeconds } = document;
  if (numbers.length > 0)
    return positive(
      reason,
      numbers.map((number) => addressRecord(name, addresses[family][number] as IpAddress, ttlSeconds)),
    );
  const { denial, ...verdict } = noData(context, node, name);
  // It may be believed no longer than an address.
  const soa = node.zone.negativeSoa;
  const authorities = [{ ...soa, ttlSeconds: Math.min(soa.ttlSeconds, ttlSeconds) }];
  // Nothing lives of a family that there is: its type is not there now.
  const types =
    denial === undefined || denial.types === "nothing" ? [] : denial.types.filter((one) => one !== type);
  return { ...verdict, reason, authorities, ...(denial && { denial: { ...denial, types } }) };
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

function verdictOfBinding(
  context: DnsContext,
  node: ZoneNode,
  property: PropertyDocument,
  owner: DomainName,
  ipv4: ClusterChoice,
  ipv6: ClusterChoice,
): Verdict {
  const named = [
    ...serversOfChoice(context, property, 4, ipv4),
    ...serversOfChoice(context, property, 6, ipv6),
  ];
  const addresses = named.flatMap(({ address }) => parseAddress(address) ?? []);
  const record = addresses.length === 0 ? undefined : httpsRecordOf(owner, property, addresses);
  const verdict = record === undefined ? noData(context, node, owner) : positive("address", [record]);
  // Where both families have servers the first one is told; it is the one that most clients use.
  const { reason, clusterId } = ipv4.clusterId === null ? ipv6 : ipv4;
  return { ...verdict, answerReason: reason, clusterId };
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

function verdictOfChoice(
  context: DnsContext,
  node: ZoneNode,
  property: PropertyDocument,
  owner: DomainName,
  family: IpFamily,
  choice: ClusterChoice,
): Verdict {
  const answers: DnsRecord[] = [];
  for (const server of serversOfChoice(context, property, family, choice)) {
    const address = parseAddress(server.address);
    if (address !== undefined) answers.push(addressRecord(owner, address, property.dnsTtlSeconds));
  }
  const verdict = answers.length === 0 ? noData(context, node, owner) : positive("address", answers);
  return { ...verdict, answerReason: choice.reason, clusterId: choice.clusterId };
}

/** What the answer to one choice is but for id, flags, question and OPT, which the query decides. */
export interface ChoiceReply {
  readonly reason: ReplyReason;
  readonly rcode: Rcode;
  readonly type: number;
  readonly answerReason: AnswerReason | undefined;
  readonly clusterId: ClusterId | null;
  /** The octets after the question; names point into a question of this owner's length. */
  readonly body: Uint8Array;
  readonly answers: number;
  readonly authorities: number;
  /** Seconds since 1970 from which on it is to be made anew, for its signatures' sake; infinity where it has none. */
  readonly renewAtSeconds: number;
}

/**
 * The reply to a question of `type` (A, AAAA or HTTPS) for a host name of an active property, in the octets that {@link respond} would
 * write; undefined when it needs more sections than answers and authorities, or more than 255 records.
 *
 * @param choice for A and AAAA; for HTTPS the one of A, with `other` the one of AAAA; undefined: there is no record
 * @param signedAtSeconds the time, when it is for who set DO; undefined: without signatures
 */
export function replyOfChoice(
  context: DnsContext,
  owner: DomainName,
  node: ZoneNode,
  type: number,
  choice: ClusterChoice | undefined,
  other: ClusterChoice | undefined,
  signedAtSeconds?: number,
): ChoiceReply | undefined {
  const { property } = node;
  if (property === undefined) return undefined;
  const plain =
    choice === undefined
      ? noData(context, node, owner)
      : other !== undefined
        ? verdictOfBinding(context, node, property, owner, choice, other)
        : verdictOfChoice(context, node, property, owner, type === dnsTypes.A ? 4 : 6, choice);
  return replyOfVerdict(context, owner, type, plain, signedAtSeconds);
}

/** As {@link replyOfChoice}, for what a policy has chosen: addresses of its targets, or nothing. */
export function replyOfPolicy(
  context: DnsContext,
  owner: DomainName,
  node: ZoneNode,
  type: number,
  choice: PolicyChoice,
  signedAtSeconds?: number,
): ChoiceReply | undefined {
  const { policy } = node;
  if (policy === undefined) return undefined;
  const family = type === dnsTypes.A ? 4 : 6;
  const plain = verdictOfPolicy(context, node, policy, { name: owner, type }, family, choice);
  return replyOfVerdict(context, owner, type, plain, signedAtSeconds);
}

function replyOfVerdict(
  context: DnsContext,
  owner: DomainName,
  type: number,
  plain: Verdict,
  signedAtSeconds: number | undefined,
): ChoiceReply | undefined {
  const verdict =
    signedAtSeconds === undefined ? plain : securedVerdict(plain, context, false, signedAtSeconds, false);
  const { answers = [], authorities = [], additionals = [] } = verdict;
  const bytes = writeMessage({
    header: replyHeader,
    questions: [{ name: owner, type, class: dnsClasses.IN }],
    answers,
    authorities,
    additionals,
    edns: undefined,
  });
  if (bytes === undefined || additionals.length > 0 || answers.length > 255 || authorities.length > 255)
    return undefined;
  return {
    reason: verdict.reason,
    rcode: verdict.rcode,
    type,
    answerReason: verdict.answerReason,
    clusterId: verdict.clusterId ?? null,
    body: bytes.slice(headerBytes + owner.wire.length + 4),
    answers: answers.length,
    authorities: authorities.length,
    renewAtSeconds: verdict.renewAtSeconds ?? Number.POSITIVE_INFINITY,
  };
}

function positive(reason: ReplyReason, answers: readonly DnsRecord[]): Verdict {
  return { reason, rcode: rcodes.NOERROR, isAuthoritative: true, answers };
}

function noData(context: DnsContext, node: ZoneNode, name: DomainName): Verdict {
  const { zone } = node;
  return {
    reason: "no-data",
    rcode: rcodes.NOERROR,
    isAuthoritative: true,
    authorities: [zone.negativeSoa],
    ...(isSigned(context, zone) && { denial: { zone, name, types: typesAt(context, node, name) } }),
  };
}

/** Puts a verdict into as many bytes as the asker takes. */
function reply(query: DnsQuery, asked: Asked, verdict: Verdict, service: DnsService): DnsDecision {
  const { header, question, edns, options } = asked;
  const ecs = options?.ecs;
  const scopePrefixLength =
    ecs === undefined ? undefined : Math.min(verdict.scopePrefixLength ?? 0, ecs.sourcePrefixLength);
  const full: DnsMessage = {
    header: {
      id: header.id,
      isResponse: true,
      opcode: header.opcode,
      isAuthoritative: verdict.isAuthoritative ?? false,
      isTruncated: false,
      // RFC 1035 section 4.1.1: RD is copied, RA says that there is no recursion here; RFC 4035 section 3.1.6: AD and
      // CD are clear in an authoritative answer.
      isRecursionDesired: header.isRecursionDesired,
      isRecursionAvailable: false,
      isAuthenticData: false,
      isCheckingDisabled: false,
      rcode: verdict.rcode,
    },
    questions: question === undefined ? [] : [question],
    answers: verdict.answers ?? [],
    authorities: verdict.authorities ?? [],
    additionals: verdict.additionals ?? [],
    // RFC 6891 section 7: an OPT in the answer only when there was one in the query.
    edns:
      edns === undefined
        ? undefined
        : {
            udpPayloadBytes: udpPayloadBytesMax,
            version: 0,
            isDnssecOk: edns.isDnssecOk, // RFC 3225 section 3: copied.
            // RFC 9824 section 5.1: so is CO, which means nothing without DO.
            isCompactAnswersOk: edns.isDnssecOk && edns.isCompactAnswersOk === true,
            options: replyOptions(options, scopePrefixLength, verdict.reason, service),
          },
  };
  const bytesMax =
    query.isCut === true
      ? 0
      : query.transport !== "udp"
        ? tcpMessageBytesMax
        : edns === undefined
          ? udpPayloadBytesMin
          : Math.min(Math.max(edns.udpPayloadBytes, udpPayloadBytesMin), udpPayloadBytesMax);
  let message = full;
  let bytes = writeMessage(message);
  // What is additional may be left out without a word (RFC 2181 section 9), but not the glue of a referral (RFC 9471).
  const needed = verdict.additionalsNeeded ?? 0;
  if ((bytes === undefined || bytes.length > bytesMax) && message.additionals.length > needed) {
    message = { ...message, additionals: full.additionals.slice(0, needed) };
    bytes = writeMessage(message);
  }
  if (bytes === undefined || bytes.length > bytesMax) {
    // RFC 2181 section 9: half an RRset is worse than none; the asker comes back over TCP. The OPT stays (RFC 6891 section 7).
    message = {
      ...message,
      header: { ...message.header, isTruncated: true },
      answers: [],
      authorities: [],
      additionals: [],
    };
    bytes = writeMessage(message) as Uint8Array; // At most 12 + 259 + 11 + 24 + 28 + 68 + 6 octets.
  }
  return {
    action: "reply",
    bytes,
    reason: verdict.reason,
    rcode: verdict.rcode,
    question,
    isTruncated: message.header.isTruncated,
    fault: verdict.fault,
    answerReason: verdict.answerReason,
    scopePrefixLength,
    clusterId: verdict.clusterId ?? null,
    clientSubnet: ecs,
    cookie: verdict.reason === "cookie-malformed" ? "malformed" : options?.cookie?.state,
  };
}
