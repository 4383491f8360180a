/** DNS messages as values (RFC 1035 section 4, RFC 6891 section 6): what the parser yields and the writer takes. */
import type { IpAddress } from "#kit";
import { dnsClasses, dnsOpcodes, rcodes } from "./constants.ts";
import type { DomainName, NameFault } from "./name.ts";

export interface DnsHeader {
  readonly id: number;
  /** QR: a response, not a query. */
  readonly isResponse: boolean;
  readonly opcode: number;
  readonly isAuthoritative: boolean;
  readonly isTruncated: boolean;
  readonly isRecursionDesired: boolean;
  readonly isRecursionAvailable: boolean;
  readonly isAuthenticData: boolean;
  readonly isCheckingDisabled: boolean;
  /** All 12 bits: the header's four, and above them the eight of an OPT record when there is one. */
  readonly rcode: number;
}

/** Of an authoritative answer without error (RFC 1035 section 4.1.1), before it has an ID. */
export const replyHeader: DnsHeader = {
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

export interface DnsQuestion {
  readonly name: DomainName;
  readonly type: number;
  readonly class: number;
}

/** RDATA; what has no form of its own here is `opaque` (RFC 3597). */
export type RecordData =
  | { readonly kind: "address"; readonly address: IpAddress }
  /** NS, CNAME, PTR. */
  | { readonly kind: "name"; readonly name: DomainName }
  | { readonly kind: "soa"; readonly soa: SoaData }
  /** HINFO, TXT: character strings of up to 255 octets. */
  | { readonly kind: "strings"; readonly strings: readonly Uint8Array[] }
  | { readonly kind: "opaque"; readonly bytes: Uint8Array };

/** RFC 1035 section 3.3.13; `minimum` is the TTL of negative answers (RFC 2308 section 4). */
export interface SoaData {
  readonly primaryName: DomainName;
  readonly hostmasterName: DomainName;
  readonly serial: number;
  readonly refreshSeconds: number;
  readonly retrySeconds: number;
  readonly expireSeconds: number;
  readonly minimumSeconds: number;
}

export interface DnsRecord {
  readonly name: DomainName;
  readonly type: number;
  readonly class: number;
  /** 0..2^31-1; a received value with the top bit set is read as 0 (RFC 2181 section 8). */
  readonly ttlSeconds: number;
  readonly data: RecordData;
}

export interface EdnsOption {
  readonly code: number;
  readonly data: Uint8Array;
}

/** The OPT record, apart from the rcode bits, which are in the header here. */
export interface Edns {
  readonly udpPayloadBytes: number;
  readonly version: number;
  /** DO (RFC 3225). */
  readonly isDnssecOk: boolean;
  /** CO (RFC 9824 section 5.1): the asker takes NXDOMAIN with a compact denial. False when absent. */
  readonly isCompactAnswersOk?: boolean;
  readonly options: readonly EdnsOption[];
}

export interface DnsMessage {
  readonly header: DnsHeader;
  readonly questions: readonly DnsQuestion[];
  readonly answers: readonly DnsRecord[];
  readonly authorities: readonly DnsRecord[];
  /** Without the OPT record. */
  readonly additionals: readonly DnsRecord[];
  readonly edns: Edns | undefined;
}

/** What a client asks: one question of class IN, without records. */
export function queryMessage(query: {
  readonly id: number;
  readonly name: DomainName;
  readonly type: number;
  readonly isRecursionDesired: boolean;
  readonly edns: Edns | undefined;
}): DnsMessage {
  const { id, name, type, isRecursionDesired, edns } = query;
  return {
    header: { ...replyHeader, id, isResponse: false, isAuthoritative: false, isRecursionDesired },
    questions: [{ name, type, class: dnsClasses.IN }],
    answers: [],
    authorities: [],
    additionals: [],
    edns,
  };
}

/** Why bytes are no message. */
export const messageFaults = [
  "header-truncated",
  "question-truncated",
  "record-truncated",
  /** The length or the content of the RDATA does not fit its type. */
  "record-data",
  /** More records than the reader is willing to look at. */
  "too-many-records",
  /** A second OPT record (RFC 6891 section 6.1.1). */
  "opt-duplicate",
  /** An OPT record whose owner is not the root, or outside of the additional section. */
  "opt-misplaced",
  /** Options that do not fill the OPT record's RDATA exactly. */
  "opt-data",
  "trailing-bytes",
] as const;
export type MessageFault = (typeof messageFaults)[number] | NameFault;

/** As far as a broken message could be understood; enough to answer FORMERR to the right asker. */
export interface PartialMessage {
  readonly header: DnsHeader;
  readonly questionCount: number;
  /** Those that were read whole before the fault. */
  readonly questions: readonly DnsQuestion[];
  readonly edns: Edns | undefined;
}

export type MessageRead =
  | { readonly ok: true; readonly message: DnsMessage }
  /** `partial` is undefined when not even the header is there. */
  | {
      readonly ok: false;
      readonly fault: MessageFault;
      readonly at: number;
      readonly partial: PartialMessage | undefined;
    };
