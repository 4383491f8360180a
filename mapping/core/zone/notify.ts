/** NOTIFY from primaries (RFC 1996): heeded where it comes from one, by address or by key; a forged one costs them a question. */
import { formatAddress, type IpAddress, recordTypes } from "#kit";
import { dnsClasses, dnsOpcodes, headerBytes, rcodes } from "../dns/constants.ts";
import type { DnsQuestion } from "../dns/message.ts";
import { readMessage } from "../dns/wire.ts";
import { answerMessage, answerToUnfit } from "./signed-reply.ts";
import type { TransferContext } from "./transfer.ts";
import { TsigSigner, type TsigVerdict, verifyTsig } from "./tsig.ts";

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
  const { header, questions, answers, edns } = read.message;
  const [question, ...more] = questions;
  // RFC 1996 section 3.7: of a zone's SOA; others are for later standards to say.
  if (question?.type !== recordTypes.SOA || question.class !== dnsClasses.IN || more.length > 0)
    return undefined;
  // BADVERS is said as to any query.
  if (edns !== undefined && edns.version !== 0) return undefined;
  const verdict: TsigVerdict =
    tsig === undefined ? { kind: "none" } : verifyTsig(bytes, tsig.keys, tsig.hmac, nowSeconds);
  const head = { header, question, edns };
  const reply = (rcode: number): Uint8Array => answerMessage(head, rcode) as Uint8Array;
  if (verdict.kind === "malformed") return undefined;
  if (verdict.kind === "bad" && tsig !== undefined) {
    const unfit = answerToUnfit(verdict, head, tsig.hmac, nowSeconds) as Uint8Array;
    return { bytes: unfit, rcode: rcodes.NOTAUTH, question, heard: undefined };
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
