/** The words of a name server: what it is asked, what it answers from, what it decides and why. */
import type { ClusterId, CountryTable, IpAddress, LabelMac, ServerId } from "#kit";
import type { AnswerReason } from "../answer.ts";
import type { MapIndex } from "../map-index.ts";
import type { CompiledPolicy } from "../policy/compile.ts";
import { policyReasons } from "../policy/decide.ts";
import type { PolicyView } from "../policy/view.ts";
import type { TopologyIndex } from "../topology-index.ts";
import type { AliasAnswers } from "../zone/alias-table.ts";
import type { NotifyRule } from "../zone/notify.ts";
import type { TransferContext } from "../zone/transfer.ts";
import type { Rcode } from "./constants.ts";
import type { ZoneSigners } from "./dnssec/secure.ts";
import type { CookieState } from "./cookie.ts";
import type { ClientSubnet, EcsFault } from "./ecs.ts";
import type { DnsQuestion, MessageFault } from "./message.ts";
import type { ZoneTable } from "./zone-table.ts";

/** Why a query got no answer at all. */
export const dropReasons = [
  /** Not even a header: nobody to answer, and what is shorter than any query is no query. */
  "too-short",
  /** QR=1: answering answers is how two servers talk for ever (RFC 1035 section 4.1.1; never answered by anyone). */
  "is-response",
  /** Like a query that ended a worker a while ago. */
  "quarantined",
] as const;
export type DropReason = (typeof dropReasons)[number];

/** Why a query got the answer it got; log word and metric label. */
export const replyReasons = [
  /** A, AAAA or HTTPS by the map. */
  "address",
  /** A or AAAA by a customer's policy: see `policyReasons`. */
  ...policyReasons,
  /** A or AAAA of a name server itself. */
  "name-server-address",
  /** SOA, NS, DNSKEY, CDS or CDNSKEY at the top of a zone. */
  "apex",
  /** DS, NSEC or RRSIG of a name in a signed zone. */
  "security",
  /** RFC 8482: ANY gets one HINFO record. */
  "any",
  /** The name is there, the type is not (RFC 2308 section 2.2). */
  "no-data",
  /** NXDOMAIN (RFC 2308 section 2.1, RFC 8020). */
  "no-such-name",
  /** Records of a customer's zone. */
  "zone-records",
  /** The same, made for the name by a wildcard (RFC 4592). */
  "zone-wildcard",
  /** At the end of a CNAME or DNAME (RFC 1034 section 3.6.2, RFC 6672). */
  "zone-alias",
  /** A or AAAA of an ALIAS: addresses of another name. */
  "alias",
  /** SERVFAIL: those of an ALIAS are not known yet, or it leads in a circle. */
  "alias-unresolved",
  /** Aliases in a loop, or too many: those that were followed. */
  "alias-chain",
  /** YXDOMAIN: what a DNAME makes of the name is too long (RFC 6672 section 2.2). */
  "name-too-long",
  /** SERVFAIL: a secondary zone that was never fetched, or not confirmed for longer than its SOA allows. */
  "zone-expired",
  /** NOERROR: a primary says that its zone has changed (RFC 1996). */
  "notify",
  /** REFUSED or NOTAUTH: NOTIFY of who may not say so, or of a zone that has no primaries. */
  "notify-refused",
  /** NOTAUTH or FORMERR: signed (TSIG) in a way that does not hold (RFC 8945 section 5.2). */
  "bad-signature",
  /** A referral: name servers of a zone below (RFC 1034 section 4.2.1). */
  "delegation",
  /** REFUSED: this server answers only while the others do not. */
  "standing-by",
  /** REFUSED: no zone of ours. */
  "outside-zones",
  /** REFUSED: only IN is served. */
  "class",
  /** REFUSED: AXFR and IXFR. */
  "zone-transfer",
  /** NOTIMP or FORMERR: a type that may not be asked for. */
  "meta-type",
  /** NOTIMP: an opcode other than QUERY. */
  "opcode",
  /** NOERROR with a cookie and nothing else: QDCOUNT 0 (RFC 7873 section 5.4). */
  "cookie-only",
  /** FORMERR: QDCOUNT other than 1 (RFC 9619). */
  "question-count",
  /** FORMERR: the bytes are no message. */
  "malformed",
  /** FORMERR: RFC 7871 section 6. */
  "ecs-malformed",
  /** FORMERR: RFC 7873 section 5.2.2. */
  "cookie-malformed",
  /** BADVERS (RFC 6891 section 6.1.3). */
  "edns-version",
  /** SERVFAIL: no topology was ever received. */
  "no-documents",
  /** SERVFAIL: a fault of our own. */
  "internal-error",
] as const;
export type ReplyReason = (typeof replyReasons)[number];

export const dnsTransports = ["udp", "tcp", "tls"] as const;
/** `tls`: over TCP (RFC 7858). */
export type DnsTransport = (typeof dnsTransports)[number];

export interface DnsQuery {
  readonly bytes: Uint8Array;
  readonly transport: DnsTransport;
  /** Who asked: whom the answer is made for when no ECS address is told. */
  readonly resolverAddress: IpAddress;
  /** The time, seconds since 1970; cookies and signatures have one. 0 when absent. */
  readonly epochSeconds?: number;
  /** ALIAS records that were followed to get here; 0 when absent. */
  readonly aliasDepth?: number;
  /** The asker is to come over TCP: whatever the answer is, only its cut form is given. */
  readonly isCut?: boolean;
  /** Octets that will be added to the answer, which has to leave room for them; 0 when absent. */
  readonly reservedBytes?: number;
}

/** What a server is, beside its documents. */
export interface DnsService {
  /** What it calls itself to who asks (RFC 5001); at most 64 octets. */
  readonly nsid?: Uint8Array | undefined;
  /** 16 octets that no client knows; without them cookies are ignored. */
  readonly cookieSecret?: Uint8Array | undefined;
  /** Keys of who may fetch zones; without them nobody may. */
  readonly tsig?: Pick<TransferContext, "keys" | "hmac"> | undefined;
}

/** The documents in force; immutable, replaced as a whole when one of them or the liveness of a server changes. */
export interface DnsContext {
  readonly zones: ZoneTable;
  readonly topology: TopologyIndex;
  /** Null: no map was ever received. */
  readonly snapshot: MapIndex | null;
  /** The name server's own view of liveness; of another view there is another context. */
  readonly isUp: (serverId: ServerId) => boolean;
  /** Of the zones that are signed; absent: none is. */
  readonly signers?: ZoneSigners;
  /** Others answer, this server does not. */
  readonly isStandingBy?: boolean;
  /** Of client addresses, for policies; absent: none is known. */
  readonly countries?: CountryTable | undefined;
  /** What targets of policies are held for; of a policy that is not there all live. */
  readonly policyViews?: ReadonlyMap<CompiledPolicy, PolicyView>;
  /** Addresses of names outside that ALIAS records lead to. */
  readonly aliases?: AliasAnswers;
  /** By which names that are asked for once are known for ours; absent: there are none. */
  readonly labelMac?: LabelMac | undefined;
  /** Zones that may be fetched, by lower-case origin. */
  readonly transfers?: TransferContext["zones"];
  /** Of secondary zones, by lower-case origin: whose NOTIFY is heeded. */
  readonly notifyRules?: ReadonlyMap<string, NotifyRule>;
}

export type DnsDecision =
  | { readonly action: "drop"; readonly reason: DropReason }
  | {
      readonly action: "reply";
      readonly bytes: Uint8Array;
      readonly reason: ReplyReason;
      readonly rcode: Rcode;
      /** What was asked; undefined when it could not be read. */
      readonly question: DnsQuestion | undefined;
      readonly isTruncated: boolean;
      /** What was wrong, for `malformed` and `ecs-malformed`. */
      readonly fault: MessageFault | EcsFault | undefined;
      /** For `address`: which rule of the map decided. */
      readonly answerReason: AnswerReason | undefined;
      /** For `address`: the cluster whose servers are named. */
      readonly clusterId: ClusterId | null;
      /** As told; undefined without one, or when it was malformed. */
      readonly clientSubnet: ClientSubnet | undefined;
      /** Whether an ECS option was echoed, and with which scope. */
      readonly scopePrefixLength: number | undefined;
      /** `valid`: the asker has shown a cookie of ours, it is where it says that it is. Undefined: it has shown none. */
      readonly cookie: CookieState | undefined;
      /** The name is one of ours that is asked for once, and the asker is where it says that it is: `OneTimeLabel.id`. */
      readonly oneTimeId?: string | undefined;
    };
