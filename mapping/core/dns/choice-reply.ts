/** What is said of one choice: of a cluster by the map, or of targets by a policy. Shared by the full path and the fast one. */
import { type ClusterId, type IpAddress, type IpFamily, parseAddress, type PropertyDocument } from "#kit";
import type { AnswerReason, ClusterChoice } from "../answer.ts";
import type { CompiledPolicy } from "../policy/compile.ts";
import type { PolicyChoice } from "../policy/decide.ts";
import { serversOfChoice } from "./choice-table.ts";
import { dnsClasses, dnsTypes, headerBytes, type Rcode } from "./constants.ts";
import type { DnsContext, ReplyReason } from "./decision.ts";
import { type DnsQuestion, type DnsRecord, replyHeader } from "./message.ts";
import type { DomainName } from "./name.ts";
import { httpsRecordOf } from "./service-binding.ts";
import { noData, positive, securedVerdict, type Verdict } from "./verdict.ts";
import { writeMessage } from "./wire.ts";
import { addressRecord, type ZoneNode } from "./zone-table.ts";

export function verdictOfChoice(
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

export function verdictOfPolicy(
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

export function verdictOfBinding(
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
 * The reply to a question of `type` (A, AAAA or HTTPS) for a host name of an active property, in the octets that `respond` would
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
