/**
 * One query in, one decision out: the authoritative name server without its sockets. Everything unusual gets the rcode
 * that its RFC names, or silence where an answer could be used against someone else; nothing throws on any bytes.
 */
import {
  dnsOpcodes,
  rcodes,
  tcpMessageBytesMax,
  udpPayloadBytesMax,
  udpPayloadBytesMin,
} from "./constants.ts";
import { decide } from "./decide.ts";
import type { DnsContext, DnsDecision, DnsQuery, DnsService } from "./decision.ts";
import { SigningLimit } from "./dnssec/signer.ts";
import type { DnsHeader, DnsMessage, DnsQuestion, Edns } from "./message.ts";
import { type AskedOptions, readAskedOptions, replyOptions } from "./options.ts";
import { securedVerdict, type Verdict } from "./verdict.ts";
import { isSurelyOver, readHeader, readMessage, writeMessage } from "./wire.ts";

/** A query has one question and an OPT; a signed one a record more. Beyond this it is no query of a resolver. */
const QUERY_RECORDS_MAX = 16;

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
  // The body of another opcode is not ours to read: only the header is answered, and an OPT record.
  if (header.opcode !== dnsOpcodes.QUERY)
    return replyToHeader(query, bare, { reason: "opcode", rcode: rcodes.NOTIMP }, service);
  const questionCount = ((query.bytes[4] as number) << 8) | (query.bytes[5] as number);
  if (questionCount === 0) {
    const verdict = cookieOnly(query, bare, service);
    if (verdict !== undefined) return verdict;
  }
  if (questionCount !== 1)
    return replyToHeader(query, bare, { reason: "question-count", rcode: rcodes.FORMERR }, service);

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
  let verdict: Verdict = { reason: "security", rcode: rcodes.NOERROR };
  try {
    verdict = decide(question, options.ecs, query, context);
    // Who asks for such a name is told on: an address that anybody can forge would be put beside clients that are not its own.
    if (verdict.oneTimeId !== undefined && query.transport === "udp" && options.cookie?.state !== "valid")
      return reply({ ...query, isCut: true }, asked, verdict, service);
    if (edns?.isDnssecOk !== true || context === undefined || query.isCut === true)
      return reply(query, asked, verdict, service);
    // Nothing is signed for what has no room even without.
    if (isSurelyOver(verdict.answers ?? [], bytesTaken(query, edns)))
      return reply({ ...query, isCut: true }, asked, verdict, service);
    const isCompactAnswersOk = edns.isCompactAnswersOk === true;
    const isLimited = query.transport === "udp" && options.cookie?.state !== "valid";
    const secured = securedVerdict(verdict, context, isCompactAnswersOk, query.epochSeconds ?? 0, isLimited);
    return reply(query, asked, secured, service);
  } catch (error) {
    if (!(error instanceof SigningLimit)) throw error;
    // Who is not forged comes back over TCP, and has its denial.
    return reply({ ...query, isCut: true }, asked, { ...verdict, rcode: rcodes.NOERROR }, service);
  }
}

/** Who sent an OPT record gets one, whatever else is said (RFC 6891 section 6.1.1); of another version that alone is said. */
function replyToHeader(query: DnsQuery, bare: Asked, verdict: Verdict, service: DnsService): DnsDecision {
  const read = readMessage(query.bytes, QUERY_RECORDS_MAX);
  const edns = read.ok ? read.message.edns : read.partial?.edns;
  const said: Verdict =
    edns === undefined || edns.version === 0 ? verdict : { reason: "edns-version", rcode: rcodes.BADVERS };
  return reply(query, { ...bare, edns }, said, service);
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

/** SERVFAIL for a query that met a fault of our own; undefined when it must not be answered. */
export function respondInternalError(query: DnsQuery): DnsDecision {
  const header = readHeader(query.bytes);
  if (header === undefined) return { action: "drop", reason: "too-short" };
  if (header.isResponse) return { action: "drop", reason: "is-response" };
  const asked: Asked = { header, question: undefined, edns: undefined, options: undefined };
  return reply(query, asked, { reason: "internal-error", rcode: rcodes.SERVFAIL }, {});
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
  const bytesMax = query.isCut === true ? 0 : bytesTaken(query, edns) - (query.reservedBytes ?? 0);
  let message = full;
  let bytes = writeMessage(message, bytesMax);
  // What is additional may be left out without a word (RFC 2181 section 9), but not the glue of a referral (RFC 9471).
  const needed = verdict.additionalsNeeded ?? 0;
  if (bytes === undefined && message.additionals.length > needed) {
    message = { ...message, additionals: full.additionals.slice(0, needed) };
    bytes = writeMessage(message, bytesMax);
  }
  if (bytes === undefined) {
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
    oneTimeId: query.isCut === true ? undefined : verdict.oneTimeId,
    cookie: verdict.reason === "cookie-malformed" ? "malformed" : options?.cookie?.state,
  };
}

/** Octets of an answer that the asker takes. */
function bytesTaken({ transport }: DnsQuery, edns: Edns | undefined): number {
  if (transport !== "udp") return tcpMessageBytesMax;
  if (edns === undefined) return udpPayloadBytesMin;
  return Math.min(Math.max(edns.udpPayloadBytes, udpPayloadBytesMin), udpPayloadBytesMax);
}
