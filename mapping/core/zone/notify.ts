/** NOTIFY from primaries (RFC 1996): heeded where it comes from one, by address or by key; a forged one costs them a question. */
import { formatAddress, type IpAddress, recordTypes } from "#kit";
import { dnsClasses, dnsOpcodes, headerBytes, rcodes } from "../dns/constants.ts";
import { type DnsQuestion, replyHeader } from "../dns/message.ts";
import { readMessage, writeMessage } from "../dns/wire.ts";
import type { TransferContext } from "./transfer.ts";
import { TsigSigner, type TsigVerdict, unsignedTsig, verifyTsig } from "./tsig.ts";

/** Who may say that a secondary zone has changed. */
export interface NotifyRule {
  readonly zoneId: string;
  /** Canonical text. */
  readonly addresses: ReadonlySet<string>;
  /** Lower-case names of keys. */
  readonly keyNames: ReadonlySet<string>;
}

/** One that is heeded. */
export interface HeardNotify {
  readonly zoneId: string;
  /** The serial that it tells of, which is a hint. */
  readonly serial: number | undefined;
}

/** The answer, and what it says. */
export interface NotifyAnswer {
  readonly bytes: Uint8Array;
  readonly rcode: typeof rcodes.NOERROR | typeof rcodes.REFUSED | typeof rcodes.NOTAUTH;
  readonly question: DnsQuestion;
  /** Undefined: it is not heeded. */
  readonly heard: HeardNotify | undefined;
}

const QUERY_RECORDS_MAX = 8;
const CHANGED_OPCODE = dnsOpcodes.NOTIFY << 3;

/** Whether octets are to be handed to {@link answerNotify}: a look at the header. */
export function isNotify(bytes: Uint8Array): boolean {
  // QR and opcode; an answer to a NOTIFY of ours has QR.
  return bytes.length >= headerBytes && ((bytes[2] as number) & 0xf8) === CHANGED_OPCODE;
}

/** Undefined: no NOTIFY that can be read, which is answered like any query. Never throws. */
export function answerNotify(
  bytes: Uint8Array,
  from: IpAddress,
  rules: ReadonlyMap<string, NotifyRule>,
  tsig: Pick<TransferContext, "keys" | "hmac"> | undefined,
  nowSeconds: number,
): NotifyAnswer | undefined {
  const read = readMessage(bytes, QUERY_RECORDS_MAX);
  if (!read.ok || !isNotify(bytes)) return undefined;
  const { header, questions, answers } = read.message;
  const [question, ...more] = questions;
  // RFC 1996 section 3.7: of a zone's SOA; others are for later standards to say.
  if (question?.type !== recordTypes.SOA || question.class !== dnsClasses.IN || more.length > 0)
    return undefined;
  const verdict: TsigVerdict =
    tsig === undefined ? { kind: "none" } : verifyTsig(bytes, tsig.keys, tsig.hmac, nowSeconds);
  const reply = (rcode: number): Uint8Array =>
    writeMessage({
      header: {
        ...replyHeader,
        id: header.id,
        opcode: dnsOpcodes.NOTIFY,
        isAuthoritative: rcode === rcodes.NOERROR,
        rcode,
      },
      questions: [question],
      answers: [],
      authorities: [],
      additionals: [],
      edns: undefined,
    }) as Uint8Array;
  if (verdict.kind === "malformed") return undefined;
  if (verdict.kind === "bad") {
    const bytes = unsignedTsig(reply(rcodes.NOTAUTH), verdict, nowSeconds);
    return { bytes, rcode: rcodes.NOTAUTH, question, heard: undefined };
  }
  const rule = rules.get(question.name.text);
  const isTold =
    rule?.addresses.has(formatAddress(from)) === true ||
    (verdict.kind === "good" && rule?.keyNames.has(verdict.key.name.text) === true);
  const rcode = rule === undefined ? rcodes.NOTAUTH : isTold ? rcodes.NOERROR : rcodes.REFUSED;
  const plain = reply(rcode);
  const signed =
    verdict.kind === "good" && tsig !== undefined
      ? new TsigSigner(verdict.key, tsig.hmac, verdict.mac).sign(plain, nowSeconds)
      : plain;
  const soa = answers.find(
    (one) => one.type === recordTypes.SOA && one.name.text === question.name.text,
  )?.data;
  return {
    bytes: signed,
    rcode,
    question,
    heard:
      rule !== undefined && isTold
        ? { zoneId: rule.zoneId, serial: soa?.kind === "soa" ? soa.soa.serial : undefined }
        : undefined,
  };
}
