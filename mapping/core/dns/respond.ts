/**
 * One query in, one decision out: the authoritative name server without its sockets. Everything unusual gets the rcode
 * that its RFC names, or silence where an answer could be used against someone else; nothing throws on any bytes.
 */
import { type IpFamily, parseAddress, type PropertyDocument } from "#kit";
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
import type { DnsHeader, DnsMessage, DnsQuestion, DnsRecord, Edns, MessageFault } from "./message.ts";
import type { DomainName } from "./name.ts";
import { type AskedOptions, readAskedOptions, replyOptions } from "./options.ts";
import { readHeader, readMessage, writeMessage } from "./wire.ts";
import { addressRecord, infrastructureTtlSeconds, type Zone, type ZoneNode } from "./zone-table.ts";

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
  readonly fault?: MessageFault | EcsFault | undefined;
  readonly answerReason?: AnswerReason;
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
  return reply(query, { ...plain, options }, decide(question, options.ecs, query, context), service);
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
  // OPT and TSIG are never asked for (RFC 6891 section 6.1.1, RFC 8945 section 4.2).
  if (type === dnsTypes.OPT || type === dnsTypes.TSIG || type === 0) {
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
  if (found.kind === "no-such-name") {
    return {
      reason: "no-such-name",
      rcode: rcodes.NXDOMAIN,
      isAuthoritative: true,
      authorities: [found.zone.negativeSoa],
    };
  }
  return answerAt(found.node, question, ecs, query, context);
}

function answerAt(
  node: ZoneNode,
  question: DnsQuestion,
  ecs: ClientSubnet | undefined,
  query: DnsQuery,
  context: DnsContext,
): Verdict {
  const { zone } = node;
  switch (question.type) {
    case dnsTypes.A:
      return addressesAt(node, question, 4, ecs, query, context);
    case dnsTypes.AAAA:
      return addressesAt(node, question, 6, ecs, query, context);
    case dnsTypes.SOA:
      return node.isApex ? positive("apex", [zone.soa]) : noData(zone);
    case dnsTypes.NS:
      if (!node.isApex || zone.ns.length === 0) return noData(zone);
      return { ...positive("apex", zone.ns), additionals: context.zones.glueOf(zone) };
    case dnsTypes.ANY: {
      const isEmpty = !node.isApex && node.property === undefined && node.addresses.length === 0;
      if (isEmpty) return noData(zone);
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
      return noData(zone);
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
    if (own.length === 0) return noData(node.zone);
    return positive(
      "name-server-address",
      own.map((address) => addressRecord(question.name, address, infrastructureTtlSeconds)),
    );
  }
  const { property } = node;
  if (property === undefined || !property.isActive) return noData(node.zone);
  const told = ecs === undefined ? undefined : ecsAddress(ecs);
  const table = choiceTableOf(context, property, family);
  const { resolverAddress } = query;
  // The scope is about the address that was told; an answer made for the resolver's own holds for all it serves.
  const found =
    told === undefined
      ? table.lookupResolver(resolverAddress.family, resolverAddress.words)
      : table.lookup(told.family, told.words);
  const choice = table.choices[choiceOfLookup(found)] as ClusterChoice;
  const verdict = verdictOfChoice(context, node.zone, property, question.name, family, choice);
  return { ...verdict, scopePrefixLength: scopeOfLookup(found) };
}

function verdictOfChoice(
  context: DnsContext,
  zone: Zone,
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
  const verdict = answers.length === 0 ? noData(zone) : positive("address", answers);
  return { ...verdict, answerReason: choice.reason };
}

/** What the answer to one choice is but for id, flags, question and OPT, which the query decides. */
export interface ChoiceReply {
  readonly reason: ReplyReason;
  readonly rcode: Rcode;
  readonly type: number;
  readonly answerReason: AnswerReason | undefined;
  /** The octets after the question; names point into a question of this owner's length. */
  readonly body: Uint8Array;
  readonly answers: number;
  readonly authorities: number;
}

/**
 * The reply to a question of `type` (A, AAAA or HTTPS) for a host name of an active property, in the octets that {@link respond} would
 * write; undefined when it needs more sections than answers and authorities, or more than 255 records.
 */
export function replyOfChoice(
  context: DnsContext,
  owner: DomainName,
  node: ZoneNode,
  type: number,
  choice: ClusterChoice | undefined,
): ChoiceReply | undefined {
  const { property, zone } = node;
  if (property === undefined) return undefined;
  const verdict =
    choice === undefined
      ? noData(zone)
      : verdictOfChoice(context, zone, property, owner, type === dnsTypes.A ? 4 : 6, choice);
  const { answers = [], authorities = [], additionals = [] } = verdict;
  const bytes = writeMessage({
    header: plainHeader,
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
    body: bytes.slice(headerBytes + owner.wire.length + 4),
    answers: answers.length,
    authorities: authorities.length,
  };
}

const plainHeader: DnsHeader = {
  id: 0,
  isResponse: true,
  opcode: dnsOpcodes.QUERY,
  isAuthoritative: true,
  isTruncated: false,
  isRecursionDesired: false,
  isRecursionAvailable: false,
  isAuthenticData: false,
  isCheckingDisabled: false,
  rcode: rcodes.NOERROR,
};

function positive(reason: ReplyReason, answers: readonly DnsRecord[]): Verdict {
  return { reason, rcode: rcodes.NOERROR, isAuthoritative: true, answers };
}

function noData(zone: Zone): Verdict {
  return { reason: "no-data", rcode: rcodes.NOERROR, isAuthoritative: true, authorities: [zone.negativeSoa] };
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
            options: replyOptions(options, scopePrefixLength, verdict.reason, service),
          },
  };
  const bytesMax =
    query.isCut === true
      ? 0
      : query.transport === "tcp"
        ? tcpMessageBytesMax
        : edns === undefined
          ? udpPayloadBytesMin
          : Math.min(Math.max(edns.udpPayloadBytes, udpPayloadBytesMin), udpPayloadBytesMax);
  let message = full;
  let bytes = writeMessage(message);
  // What is additional may be left out without a word (RFC 2181 section 9).
  if ((bytes === undefined || bytes.length > bytesMax) && message.additionals.length > 0) {
    message = { ...message, additionals: [] };
    bytes = writeMessage(message);
  }
  if (bytes === undefined || bytes.length > bytesMax) {
    // RFC 2181 section 9: half an RRset is worse than none; the asker comes back over TCP. The OPT stays (RFC 6891 section 7).
    message = { ...message, header: { ...message.header, isTruncated: true }, answers: [], authorities: [] };
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
    isKnownClient: options?.cookie?.state === "valid",
  };
}
