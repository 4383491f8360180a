/** Answers to requests that are signed, or should have been (RFC 8945 section 5): what they repeat of the request, and what is said of a bad signature. */
import { rcodes, tcpMessageBytesMax, udpPayloadBytesMax } from "../dns/constants.ts";
import {
  type DnsHeader,
  type DnsMessage,
  type DnsQuestion,
  type DnsRecord,
  type Edns,
  replyHeader,
} from "../dns/message.ts";
import { writeMessage } from "../dns/wire.ts";
import { type Hmac, tsigErrors, TsigSigner, type TsigVerdict, unsignedTsig } from "./tsig.ts";

/** What an answer repeats of its request. */
export interface RequestHead {
  readonly header: Pick<DnsHeader, "id" | "opcode" | "isRecursionDesired">;
  readonly question: DnsQuestion | undefined;
  readonly edns: Edns | undefined;
}

/** A message that answers `head`; undefined when it is over `bytesMax` octets. */
export function answerMessage(
  { header, question, edns }: RequestHead,
  rcode: number,
  answers: readonly DnsRecord[] = [],
  bytesMax: number = tcpMessageBytesMax,
): Uint8Array | undefined {
  const { id, opcode, isRecursionDesired } = header;
  const isAuthoritative = rcode === rcodes.NOERROR;
  const message: DnsMessage = {
    header: { ...replyHeader, id, opcode, isRecursionDesired, rcode, isAuthoritative },
    questions: question === undefined ? [] : [question],
    answers,
    authorities: [],
    additionals: [],
    // RFC 6891 section 6.1.1: whoever sent an OPT record gets one.
    edns: edns && {
      udpPayloadBytes: udpPayloadBytesMax,
      version: 0,
      isDnssecOk: edns.isDnssecOk,
      options: [],
    },
  };
  return writeMessage(message, bytesMax);
}

/** RFC 8945 section 5.2: what is said of a signature that does not hold; undefined: it holds, or there is none. */
export function answerToUnfit(
  verdict: TsigVerdict,
  head: RequestHead,
  hmac: Hmac,
  nowSeconds: number,
): Uint8Array | undefined {
  if (verdict.kind === "malformed") return answerMessage(head, rcodes.FORMERR);
  if (verdict.kind !== "bad") return undefined;
  const answer = answerMessage(head, rcodes.NOTAUTH) as Uint8Array;
  const { error, key, mac, timeSeconds } = verdict;
  if (key === undefined) return unsignedTsig(answer, verdict, nowSeconds);
  const signer = new TsigSigner(key, hmac, mac);
  // RFC 8945 section 5.2.3: only who has the key is told what the time is here, and at a time that the asker takes.
  if (error !== tsigErrors.BADTIME) return signer.sign(answer, nowSeconds, error);
  const own = [0, 0, nowSeconds >>> 24, nowSeconds >>> 16, nowSeconds >>> 8, nowSeconds];
  return signer.sign(answer, timeSeconds, error, Uint8Array.from(own));
}
