/**
 * Zones handed to other name servers: whole (AXFR, RFC 5936) or as what has changed since a serial (IXFR, RFC 1995). Only to who signs with
 * the key that the zone names. Messages are made as they are sent, so that a large zone is never there twice.
 */
import { type DomainName, nameToText, recordTypes, rootName, compareSerials } from "#kit";
import {
  dnsClasses,
  dnsOpcodes,
  dnsTypes,
  headerBytes,
  rcodes,
  tcpMessageBytesMax,
} from "../dns/constants.ts";
import { type DnsQuestion, type DnsRecord, replyHeader } from "../dns/message.ts";
import { readMessage, writeMessage } from "../dns/wire.ts";
import type { HostedZone } from "./hosted-zone.ts";
import { answerMessage, answerToUnfit, type RequestHead } from "./signed-reply.ts";
import { type Hmac, tsigBytes, type TsigKeys, TsigSigner, type TsigVerdict, verifyTsig } from "./tsig.ts";

/** A zone that may be fetched. */
export interface TransferZone {
  readonly zone: HostedZone;
  /** Earlier states, oldest first, each with a serial before the next one's. */
  readonly history: readonly HostedZone[];
  /** Lower-case name of the key that requests must be signed with. */
  readonly keyName: string;
  /** ALIAS records are handed out as the addresses of their targets. */
  readonly areAliasesExpanded?: boolean;
}

export interface TransferContext {
  /** By lower-case origin. */
  readonly zones: ReadonlyMap<string, TransferZone>;
  readonly keys: TsigKeys;
  readonly hmac: Hmac;
  /** What the asker would be told of an ALIAS's addresses; undefined: they are not known. */
  readonly addressesAt?: (owner: DomainName, type: number) => readonly DnsRecord[] | undefined;
}

export type TransferReason =
  | "alias-unresolved"
  | "axfr"
  | "ixfr"
  | "up-to-date"
  | "refused"
  | "bad-signature"
  | "malformed";

export interface Transfer {
  /** Lower-case name that was asked for. */
  readonly zone: string;
  readonly reason: TransferReason;
  /** Each a message; to be sent in turn. An empty one is none: another one follows, and others may have their turn before it. */
  readonly messages: Iterable<Uint8Array>;
}

/** RFC 5936 section 2.2: as many records a message as fit; this leaves room for names that do not compress. */
const MESSAGE_BYTES = 16_384;
const QUERY_RECORDS_MAX = 8;
const NOT_YET = new Uint8Array();
/** Fixed part of a record: type, class, TTL, RDATA length. */
const RECORD_BYTES = 10;

/** Undefined: no request for a transfer. Never throws. */
export function answerTransfer(
  bytes: Uint8Array,
  context: TransferContext | undefined,
  nowSeconds: number,
): Transfer | undefined {
  const read = readMessage(bytes, QUERY_RECORDS_MAX);
  if (!read.ok || context === undefined) return undefined;
  const { header, questions, authorities, edns } = read.message;
  const [question, ...more] = questions;
  const isTransfer = question?.type === dnsTypes.AXFR || question?.type === dnsTypes.IXFR;
  if (header.opcode !== dnsOpcodes.QUERY || header.isResponse || !isTransfer || more.length > 0)
    return undefined;
  // BADVERS is said as to any query.
  if (edns !== undefined && edns.version !== 0) return undefined;
  const verdict = verifyTsig(bytes, context.keys, context.hmac, nowSeconds);
  return {
    zone: question.name.text,
    ...decide({ header, question, edns, authorities }, verdict, context, nowSeconds),
  };
}

interface Asked extends RequestHead {
  readonly question: DnsQuestion;
  /** The SOA that the asker has, for IXFR. */
  readonly authorities: readonly DnsRecord[];
}

function decide(
  asked: Asked,
  verdict: TsigVerdict,
  context: TransferContext,
  nowSeconds: number,
): Omit<Transfer, "zone"> {
  const { question } = asked;
  const unfit = answerToUnfit(verdict, asked, context.hmac, nowSeconds);
  if (unfit !== undefined)
    return { reason: verdict.kind === "bad" ? "bad-signature" : "malformed", messages: [unfit] };
  const bare = (rcode: number): Uint8Array => answerMessage(asked, rcode) as Uint8Array;
  const found = context.zones.get(question.name.text);
  // Without a key, or with another zone's: nobody is told even whether the zone is here.
  if (verdict.kind !== "good") return { reason: "refused", messages: [bare(rcodes.REFUSED)] };
  const signer = new TsigSigner(verdict.key, context.hmac, verdict.mac);
  const room = tcpMessageBytesMax - tsigBytes(verdict.key);
  const signed = (messages: Iterable<Uint8Array>): Iterable<Uint8Array> =>
    eachSigned(messages, signer, nowSeconds);
  if (found === undefined || found.keyName !== verdict.key.name.text || question.class !== dnsClasses.IN)
    return { reason: "refused", messages: signed([bare(rcodes.REFUSED)]) };
  const { zone } = found;
  const whole = (): Omit<Transfer, "zone"> => {
    const records = found.areAliasesExpanded === true ? expanded(zone, context) : zone.recordsWithSoaTwice();
    // Half a zone would be believed: who comes again later has all of it.
    if (records === undefined)
      return { reason: "alias-unresolved", messages: signed([bare(rcodes.SERVFAIL)]) };
    return { reason: "axfr", messages: signed(messagesOf(asked, room, records)) };
  };
  if (question.type === dnsTypes.AXFR) return whole();
  const known = heldBy(asked);
  if (known?.kind !== "soa") return { reason: "malformed", messages: signed([bare(rcodes.FORMERR)]) };
  const { serial } = known.soa;
  const order = compareSerials(zone.serial, serial);
  // RFC 1995 section 4: who has this serial, or a later one, gets the SOA alone.
  if (order !== undefined && order <= 0)
    return { reason: "up-to-date", messages: signed(messagesOf(asked, room, [zone.soa])) };
  // What an ALIAS was expanded to back then is not known any more.
  const hasExpanded = found.areAliasesExpanded === true && [zone, ...found.history].some(hasAliases);
  const changes = hasExpanded ? undefined : changesSince(found, serial);
  if (changes === undefined) return whole();
  return { reason: "ixfr", messages: signed(messagesOf(asked, room, changes)) };
}

/** RFC 1995 section 3: the SOA that the asker has is all that the authority section of an IXFR query holds. */
function heldBy({ question, authorities }: Asked): DnsRecord["data"] | undefined {
  const [held, ...more] = authorities;
  return more.length === 0 && held?.name.text === question.name.text ? held.data : undefined;
}

/**
 * Any other query that is signed is answered with a signature (RFC 8945 section 5.3): secondaries ask for the SOA so. Undefined: it is not
 * signed. Never throws but what `answer` throws.
 *
 * @param answer of the query as if it were not signed, which leaves room for so many octets; undefined: silence
 */
export function answerSigned(
  bytes: Uint8Array,
  { keys, hmac }: Pick<TransferContext, "keys" | "hmac">,
  nowSeconds: number,
  answer: (bytes: Uint8Array, signatureBytes: number) => Uint8Array | undefined,
): SignedAnswer | undefined {
  // The counts of records; a message without one has no signature.
  if (bytes.length < headerBytes || bytes.subarray(6, headerBytes).every((octet) => octet === 0))
    return undefined;
  const verdict = verifyTsig(bytes, keys, hmac, nowSeconds);
  if (verdict.kind === "none") return undefined;
  const read = readMessage(bytes, QUERY_RECORDS_MAX);
  if (!read.ok || read.message.header.isResponse) return undefined;
  const { header, questions, edns } = read.message;
  const [question] = questions;
  const unfit = answerToUnfit(verdict, { header, question, edns }, hmac, nowSeconds);
  if (unfit !== undefined || verdict.kind !== "good")
    return { bytes: unfit, question, refused: verdict.kind === "bad" ? rcodes.NOTAUTH : rcodes.FORMERR };
  const plain = answer(bytes, tsigBytes(verdict.key));
  const signer = new TsigSigner(verdict.key, hmac, verdict.mac);
  return { bytes: plain === undefined ? undefined : signer.sign(plain, nowSeconds), question };
}

export interface SignedAnswer {
  /** Undefined: silence. */
  readonly bytes: Uint8Array | undefined;
  readonly question: DnsQuestion | undefined;
  /** Why `answer` was not asked: the signature is none that holds. */
  readonly refused?: typeof rcodes.NOTAUTH | typeof rcodes.FORMERR;
}

function* eachSigned(
  messages: Iterable<Uint8Array>,
  signer: TsigSigner,
  nowSeconds: number,
): Generator<Uint8Array> {
  for (const one of messages) yield one === NOT_YET ? one : signer.sign(one, nowSeconds);
}

function hasAliases(zone: HostedZone): boolean {
  return zone.aliases().next().done !== true;
}

/** Every record between two copies of the SOA, addresses in the place of ALIAS records; undefined: those of one are not known. */
function expanded(zone: HostedZone, { addressesAt }: TransferContext): readonly DnsRecord[] | undefined {
  const records: DnsRecord[] = [];
  for (const record of zone.recordsWithSoaTwice()) {
    if (record.type !== recordTypes.ALIAS) {
      records.push(record);
      continue;
    }
    for (const type of [recordTypes.A, recordTypes.AAAA]) {
      const found = addressesAt?.(record.name, type);
      if (found === undefined) return undefined;
      records.push(...found);
    }
  }
  return records;
}

/** RFC 1995 section 4: the SOA now; for each step the SOA before and what went, the SOA after and what came; the SOA now. */
function changesSince(
  { zone, history }: TransferZone,
  serial: number,
): Iterable<DnsRecord | undefined> | undefined {
  const from = history.findIndex((one) => one.serial === serial);
  if (from < 0) return undefined;
  const steps = [...history.slice(from), zone];
  return (function* () {
    yield zone.soa;
    for (let n = 1; n < steps.length; n++) {
      const [before, after] = [steps[n - 1] as HostedZone, steps[n] as HostedZone];
      yield before.soa;
      yield* before.lackingIn(after);
      yield after.soa;
      yield* after.lackingIn(before);
    }
    yield zone.soa;
  })();
}

/** RFC 5936 section 2.2: the question stands in the first message. Throws at a record that no message of `room` octets holds: half a zone is none. */
function* messagesOf(
  head: RequestHead,
  room: number,
  records: Iterable<DnsRecord | undefined>,
): Generator<Uint8Array> {
  const message = (of: RequestHead, answers: readonly DnsRecord[]): Uint8Array => {
    const bytes = answerMessage(of, rcodes.NOERROR, answers, room);
    if (bytes === undefined)
      throw new Error(`No message holds a record of ${nameToText(answers[0]?.name ?? rootName)}`);
    return bytes;
  };
  let batch: DnsRecord[] = [];
  let size = 0;
  let asked = head;
  for (const record of records) {
    if (record === undefined) {
      yield NOT_YET;
      continue;
    }
    const length = bytesOf(record);
    if (batch.length > 0 && size + length > MESSAGE_BYTES) {
      yield message(asked, batch);
      asked = { ...head, question: undefined };
      batch = [];
      size = 0;
    }
    batch.push(record);
    size += length;
  }
  yield message(asked, batch);
}

function bytesOf({ name, data }: DnsRecord): number {
  const fixed = name.wire.length + RECORD_BYTES;
  switch (data.kind) {
    case "address":
      return fixed + 16;
    case "name":
      return fixed + data.name.wire.length;
    case "soa":
      return fixed + data.soa.primaryName.wire.length + data.soa.hostmasterName.wire.length + 20;
    case "strings":
      return fixed + data.strings.reduce((sum, string) => sum + 1 + string.length, 0);
    case "opaque":
      return fixed + data.bytes.length;
  }
}

/** NOTIFY (RFC 1996 section 3): the zone has changed; its SOA says to which serial. */
export function notifyMessage(id: number, origin: DomainName, soa: DnsRecord): Uint8Array {
  return writeMessage({
    header: { ...replyHeader, id, isResponse: false, opcode: dnsOpcodes.NOTIFY },
    questions: [{ name: origin, type: recordTypes.SOA, class: dnsClasses.IN }],
    answers: [soa],
    authorities: [],
    additionals: [],
    edns: undefined,
  }) as Uint8Array;
}
