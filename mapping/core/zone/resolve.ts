/**
 * What an authoritative server says of a name (RFC 1034 section 4.3.2), with wildcards (RFC 4592), DNAME (RFC 6672), delegation with
 * glue (RFC 9471), occluded names, and aliases followed through all zones that are served here. Pure; work is bounded by the labels of
 * the name and the length of the chain.
 */
import {
  type DomainName,
  isAtOrBelow,
  labelsOf,
  nameFromLabels,
  nameBytesMax,
  parentText,
  readName,
  recordTypes,
} from "#kit";
import { dnsClasses, dnsTypes, type Rcode, rcodes } from "../dns/constants.ts";
import type { DnsRecord } from "../dns/message.ts";
import type { HostedName, HostedSet } from "./hosted-name.ts";
import { type HostedZone, recordsOf } from "./hosted-zone.ts";

/** Where the next part of a chain is looked up. */
export interface ZoneSet {
  /** The zone that a question for this name and type belongs to: DS at a zone's top to the zone above (RFC 4035 section 3.1.4.1). */
  readonly zoneFor: (name: string, type: number) => HostedZone | undefined;
  /** Whether another part says what of this type stands at the name: the map, whatever the name's zone holds. */
  readonly isMapped: (name: string, type: number) => boolean;
}

/** Why the answer is what it is; log word and metric label. */
export type ZoneReason =
  | "zone-records"
  | "zone-wildcard"
  | "zone-alias"
  | "alias"
  | "delegation"
  | "any"
  | "no-data"
  | "no-such-name"
  | "name-too-long"
  | "alias-chain"
  | "zone-expired";

export interface ZoneAnswer {
  readonly reason: ZoneReason;
  readonly rcode: Rcode;
  readonly isAuthoritative: boolean;
  readonly answers: readonly DnsRecord[];
  readonly authorities: readonly DnsRecord[];
  readonly additionals: readonly DnsRecord[];
  /** So many of the additionals, from the first, are glue without which the answer leads nowhere: truncate rather than drop (RFC 9471). */
  readonly additionalsNeeded: number;
  /** DS of a referral: for who asks with DO (RFC 4035 section 3.1.4). */
  readonly delegationSigners?: readonly DnsRecord[];
  /** Of what there is no data: the last name of the chain, and the types that it has; `nothing`: it does not exist. */
  readonly denial?: {
    readonly zone: HostedZone;
    readonly name: DomainName;
    readonly types: readonly number[] | "nothing";
  };
  /** An ALIAS stands at the last name of the chain: the addresses of its target follow, as that name's own. */
  readonly alias?: {
    readonly zone: HostedZone;
    readonly owner: DomainName;
    readonly target: DomainName;
    readonly ttlSeconds: number;
    /** Types that the name has, with A and AAAA. */
    readonly types: readonly number[];
  };
  /** The chain leads to a name whose records another part makes: they follow the answers here. */
  readonly tail?: DomainName;
}

/** As many aliases as a resolver follows; a chain that is longer, or a loop, is told as far as it was followed. */
export const aliasesMax = 16;

const NO_MORE = { authorities: [], additionals: [], additionalsNeeded: 0 } as const;
/** RFC 8482 section 4.2. */
const RFC8482 = Uint8Array.of(0x52, 0x46, 0x43, 0x38, 0x34, 0x38, 0x32);

/** Undefined: no zone of the set holds the name. Never throws. */
export function resolve(zones: ZoneSet, question: DomainName, type: number): ZoneAnswer | undefined {
  const answers: DnsRecord[] = [];
  const seen = new Set<string>();
  let name = question;
  for (;;) {
    const zone = zones.zoneFor(name.text, type);
    const isFirst = answers.length === 0;
    const sofar = { answers, isAuthoritative: true, ...NO_MORE };
    if (zones.isMapped(name.text, type))
      return { ...sofar, reason: "zone-alias", rcode: rcodes.NOERROR, tail: name };
    if (zone === undefined)
      return isFirst ? undefined : { ...sofar, reason: "zone-alias", rcode: rcodes.NOERROR };
    // A chain that leads into it is told so far: whoever asks for the rest gets SERVFAIL.
    if (!zone.isLoaded)
      return isFirst
        ? { ...sofar, reason: "zone-expired", rcode: rcodes.SERVFAIL, isAuthoritative: false }
        : { ...sofar, reason: "zone-alias", rcode: rcodes.NOERROR };
    if (seen.has(name.text) || seen.size >= aliasesMax)
      return { ...sofar, reason: "alias-chain", rcode: rcodes.NOERROR };
    seen.add(name.text);
    const found = lookUp(zone, name, type, (text) => zones.isMapped(text, recordTypes.A));
    switch (found.kind) {
      case "records":
        answers.push(...found.records);
        return {
          ...sofar,
          reason: isFirst ? (found.isWildcard ? "zone-wildcard" : "zone-records") : "zone-alias",
          rcode: rcodes.NOERROR,
          additionals: addressesNamed(zones, found.records, type),
        };
      case "any":
        return {
          ...sofar,
          reason: "any",
          rcode: rcodes.NOERROR,
          answers: [anyRecord(name, found.ttlSeconds)],
        };
      case "alias": {
        answers.push(...found.records);
        if (found.target === undefined) return { ...sofar, reason: "name-too-long", rcode: rcodes.YXDOMAIN };
        name = found.target;
        break;
      }
      case "flattened": {
        const { target, ttlSeconds, types } = found;
        return {
          ...sofar,
          reason: "alias",
          rcode: rcodes.NOERROR,
          alias: { zone, owner: name, target, ttlSeconds, types },
        };
      }
      case "delegation":
        return { ...referral(zone, found.cut), answers, isAuthoritative: !isFirst };
      case "no-data":
      case "no-such-name":
        return {
          ...sofar,
          reason: found.kind,
          rcode: found.kind === "no-data" ? rcodes.NOERROR : rcodes.NXDOMAIN,
          authorities: [zone.negativeSoa],
          denial: { zone, name, types: found.kind === "no-data" ? found.types : "nothing" },
        };
    }
  }
}

type Found =
  | { readonly kind: "records"; readonly records: DnsRecord[]; readonly isWildcard: boolean }
  | { readonly kind: "alias"; readonly records: DnsRecord[]; readonly target: DomainName | undefined }
  | {
      readonly kind: "flattened";
      readonly target: DomainName;
      readonly ttlSeconds: number;
      readonly types: readonly number[];
    }
  | { readonly kind: "any"; readonly ttlSeconds: number }
  | { readonly kind: "delegation"; readonly cut: HostedName }
  | { readonly kind: "no-data"; readonly types: readonly number[] }
  | { readonly kind: "no-such-name" };

/** RFC 1034 section 4.3.2 step 3, from the top of the zone down to the name. */
function lookUp(
  zone: HostedZone,
  name: DomainName,
  type: number,
  isMapped: (text: string) => boolean,
): Found {
  const path: string[] = [];
  for (let at = name.text; at !== zone.origin.text; at = parentText(at) ?? "") path.push(at);
  let encloser = zone.at(zone.origin.text) as HostedName;
  for (let n = path.length - 1; n >= 0; n--) {
    const dname = encloser.sets.get(recordTypes.DNAME);
    // RFC 6672 section 2.3: names below a DNAME are not there, whatever the zone holds.
    if (dname !== undefined) return substituted(dname, encloser, name, type);
    const text = path[n] as string;
    const next = zone.at(text);
    if (next === undefined) {
      // RFC 4592 section 3.3.1: only the wildcard right below the closest encloser counts.
      const wildcard = zone.at(encloser.name.text === "" ? "\\042" : `\\042.${encloser.name.text}`);
      return wildcard === undefined ? { kind: "no-such-name" } : matched(wildcard, name, type, true, false);
    }
    const isCut = next.sets.has(recordTypes.NS);
    // RFC 4035 section 3.1.4.1: the DS of a cut is the parent's.
    if (isCut && !(n === 0 && type === recordTypes.DS)) return { kind: "delegation", cut: next };
    encloser = next;
  }
  return matched(encloser, name, type, false, isMapped(name.text));
}

function matched(
  node: HostedName,
  owner: DomainName,
  type: number,
  isWildcard: boolean,
  isMapped: boolean,
): Found {
  const { sets } = node;
  // A name whose addresses the map says is no alias, even where its zone has one: aliases have no other records.
  const alias = isMapped ? undefined : sets.get(recordTypes.CNAME);
  // What proves it stands beside an alias and may be asked for (RFC 4035 section 2.5), of its own name alone.
  if (alias !== undefined && !sets.has(type) && !isProofType(type)) {
    const records = recordsOf(alias, owner);
    // RFC 8482 section 4.1: one RRset of those that are there; RFC 1034 section 3.6.2: nothing of the alias itself is looked up further.
    if (type === dnsTypes.ANY) return { kind: "records", records, isWildcard };
    const data = alias.data[0];
    return { kind: "alias", records, target: data?.kind === "name" ? data.name : undefined };
  }
  if (type === dnsTypes.ANY) {
    // RFC 8482 section 4.1: of a zone that another one has signed only what is signed can be told.
    const signed = sets.has(recordTypes.RRSIG) ? [...sets.values()] : [];
    const told = signed.find((one) => one.type !== recordTypes.RRSIG);
    if (told !== undefined) return { kind: "records", records: recordsOf(told, owner), isWildcard };
    const ttls = [...sets.values()].map((set) => set.ttlSeconds);
    if (isMapped || ttls.length > 0)
      return { kind: "any", ttlSeconds: Math.min(...ttls, ANY_TTL_SECONDS_MAX) };
  }
  const set = isMapped && type === recordTypes.CNAME ? undefined : sets.get(type);
  if (set !== undefined) return { kind: "records", records: recordsOf(set, owner), isWildcard };
  const flat = isMapped || sets.has(recordTypes.RRSIG) ? undefined : sets.get(recordTypes.ALIAS);
  const types = [...sets.keys()].filter((one) => !isMapped || one !== recordTypes.CNAME);
  if (flat !== undefined) types.push(recordTypes.A, recordTypes.AAAA);
  types.sort((a, b) => a - b);
  if (flat !== undefined && (type === recordTypes.A || type === recordTypes.AAAA)) {
    const data = flat.data[0];
    const target = data?.kind === "opaque" ? nameIn(data.bytes, 0) : undefined;
    if (target !== undefined) return { kind: "flattened", target, ttlSeconds: flat.ttlSeconds, types };
  }
  return { kind: "no-data", types };
}

/** Types that prove others. */
export function isProofType(type: number): boolean {
  return type === recordTypes.NSEC || type === recordTypes.RRSIG;
}

/** RFC 8482 section 4.2 leaves it open; as long as other records of the deployment. */
const ANY_TTL_SECONDS_MAX = 3_600;

function anyRecord(name: DomainName, ttlSeconds: number): DnsRecord {
  return {
    name,
    type: dnsTypes.HINFO,
    class: dnsClasses.IN,
    ttlSeconds,
    data: { kind: "strings", strings: [RFC8482, new Uint8Array(0)] },
  };
}

/** RFC 6672 section 3.2: the DNAME, and the CNAME that it amounts to for this name, with the same TTL. */
function substituted(set: HostedSet, node: HostedName, name: DomainName, type: number): Found {
  const records = recordsOf(set);
  const data = set.data[0];
  if (data?.kind !== "name") return { kind: "alias", records, target: undefined };
  const kept = labelsOf(name).slice(0, labelsOf(name).length - labelsOf(node.name).length);
  const length = kept.reduce((sum, label) => sum + 1 + label.length, data.name.wire.length);
  const target = length > nameBytesMax ? undefined : nameFromLabels([...kept, ...labelsOf(data.name)]);
  if (target === undefined) return { kind: "alias", records, target };
  const { ttlSeconds } = set;
  const alias: DnsRecord = {
    name,
    type: recordTypes.CNAME,
    class: dnsClasses.IN,
    ttlSeconds,
    data: { kind: "name", name: target },
  };
  records.push(alias);
  // The alias itself was asked for, and there it is (RFC 1034 section 4.3.2, step 3a).
  if (type === recordTypes.CNAME || type === dnsTypes.ANY)
    return { kind: "records", records, isWildcard: false };
  return { kind: "alias", records, target };
}

/** Addresses that are told unasked: what saves a question or two, and bounded, since each question pays for all of them. */
const ADDITIONALS_MAX = 100;
/** A message has room for no more addresses than that: an answer that needs so many is cut in any case. */
const GLUE_MAX = 4_096;

function referral(zone: HostedZone, cut: HostedName) {
  const ns = cut.sets.get(recordTypes.NS) as HostedSet;
  const ds = cut.sets.get(recordTypes.DS);
  const needed: DnsRecord[] = [];
  const others: DnsRecord[] = [];
  for (const data of ns.data) {
    if (data.kind !== "name") continue;
    const { text } = data.name;
    // In-domain glue is needed (RFC 9471 section 3.1), that of a sibling or of the zone itself helps.
    const isNeeded = isAtOrBelow(text, cut.name.text);
    const [to, most] = isNeeded ? [needed, GLUE_MAX] : [others, ADDITIONALS_MAX];
    for (const type of [recordTypes.A, recordTypes.AAAA]) {
      const set = isAtOrBelow(text, zone.origin.text) ? zone.at(text)?.sets.get(type) : undefined;
      if (set !== undefined && to.length <= most) to.push(...recordsOf(set));
    }
  }
  return {
    reason: "delegation",
    rcode: rcodes.NOERROR,
    authorities: recordsOf(ns),
    ...(ds !== undefined && { delegationSigners: recordsOf(ds) }),
    additionals: [...needed, ...others],
    additionalsNeeded: needed.length,
    ...(ds === undefined && { denial: { zone, name: cut.name, types: [recordTypes.NS] } }),
  } as const;
}

/** Addresses of the hosts that NS, MX and SRV records name (RFC 1035 section 3.3, RFC 2782), where they are ours to say. */
function addressesNamed(zones: ZoneSet, records: readonly DnsRecord[], type: number): DnsRecord[] {
  const offset =
    type === recordTypes.MX ? 2 : type === recordTypes.SRV ? 6 : type === recordTypes.NS ? 0 : undefined;
  if (offset === undefined) return [];
  const additionals: DnsRecord[] = [];
  const seen = new Set<string>();
  for (const { data } of records) {
    const name =
      data.kind === "name" ? data.name : data.kind === "opaque" ? nameIn(data.bytes, offset) : undefined;
    if (name === undefined || seen.has(name.text)) continue;
    seen.add(name.text);
    const zone = zones.zoneFor(name.text, recordTypes.A);
    // An address below a cut is the child's to say; a resolver that asks for it gets the referral.
    if (
      zone === undefined ||
      !zone.isLoaded ||
      zone.cutAbove(name.text) !== undefined ||
      zones.isMapped(name.text, recordTypes.A)
    )
      continue;
    for (const wanted of [recordTypes.A, recordTypes.AAAA]) {
      const set = zone.at(name.text)?.sets.get(wanted);
      if (set === undefined) continue;
      if (additionals.length + set.data.length > ADDITIONALS_MAX) return additionals;
      additionals.push(...recordsOf(set));
    }
  }
  return additionals;
}

function nameIn(rdata: Uint8Array, offset: number): DomainName | undefined {
  const read = readName(rdata, offset);
  return read.ok ? read.name : undefined;
}
