/** The sections of an answer with what a validator wants beside them (RFC 4035 section 3.1, RFC 9824 section 3). */
import { dnsTypes } from "../constants.ts";
import type { DnsRecord } from "../message.ts";
import { type DomainName, parentText } from "../name.ts";
import { HostedZone } from "../../zone/hosted-zone.ts";
import type { Zone, ZoneTable } from "../zone-table.ts";
import { nsecRecord, type TypesAtName } from "./nsec.ts";
import type { Signatures, ZoneSigner } from "./signer.ts";

/** Signers by the text of their zone's origin; a zone without one is not signed. */
export type ZoneSigners = ReadonlyMap<string, ZoneSigner>;

export interface Sections {
  readonly answers: readonly DnsRecord[];
  readonly authorities: readonly DnsRecord[];
  readonly additionals: readonly DnsRecord[];
}

/** What an answer denies, so that it can be proven: the type at `name`, or the name itself. */
export interface Denial {
  readonly zone: Zone;
  readonly name: DomainName;
  readonly types: TypesAtName;
}

export interface SecureSections extends Sections {
  /** Something in it is signed. */
  readonly isSigned: boolean;
  /** When the first of its signatures is to be made anew; infinity where there is none. */
  readonly renewAtSeconds: number;
}

/** The NSEC record that proves it; its TTL is that of the negative answer (RFC 9077 section 3). */
export function denialRecord({ zone, name, types }: Denial): DnsRecord {
  return nsecRecord(name, types, zone.negativeSoa.ttlSeconds, zone.origin);
}

/**
 * Adds signatures, and the records of a denial, where the zones are signed: made here, or taken from who has signed the zone. Throws what
 * signing throws.
 *
 * @param isLimited the asker may be forged: `SigningLimit` is thrown when too much would have to be signed for such ones
 */
export function secure(
  sections: Sections,
  denial: Denial | undefined,
  zones: ZoneTable,
  signers: ZoneSigners,
  nowSeconds: number,
  isLimited = false,
): SecureSections {
  let renewAtSeconds = Number.POSITIVE_INFINITY;
  const add = (out: DnsRecord[], set: readonly DnsRecord[], signatures: Signatures | undefined): void => {
    out.push(...set);
    if (signatures === undefined) return;
    out.push(...signatures.records);
    renewAtSeconds = Math.min(renewAtSeconds, signatures.renewAtSeconds);
  };
  let isSignedByOther = false;
  const signed = (records: readonly DnsRecord[]): DnsRecord[] => {
    const out: DnsRecord[] = [];
    for (const set of setsOf(records)) {
      const other = signedBy(set, zones);
      if (other === undefined) add(out, set, signaturesOf(set, zones, signers, nowSeconds, isLimited));
      else {
        const { name, type, ttlSeconds } = set[0] as DnsRecord;
        out.push(...set, ...other.signaturesOf(name, type, ttlSeconds));
        isSignedByOther = true;
      }
    }
    return out;
  };
  const answers = signed(sections.answers);
  const authorities = signed(sections.authorities);
  for (const set of setsOf(sections.answers)) {
    const { name } = set[0] as DnsRecord;
    for (const proof of signedBy(set, zones)?.wildcardProofOf(name) ?? []) authorities.push(...proof);
  }
  if (denial?.zone instanceof HostedZone)
    for (const proof of denial.zone.signatures?.denialOf(denial.name) ?? []) authorities.push(...proof);
  const denier = denial === undefined ? undefined : signers.get(denial.zone.origin.text);
  if (denial !== undefined && denier !== undefined) {
    const set = [denialRecord(denial)];
    add(authorities, set, denier.sign(set, nowSeconds, isLimited));
  }
  // Glue of a referral is not ours to sign (RFC 4035 section 2.2).
  const additionals = isReferral(sections.authorities, zones)
    ? sections.additionals
    : signed(sections.additionals);
  const isSigned = isSignedByOther || renewAtSeconds < Number.POSITIVE_INFINITY;
  return { answers, authorities, additionals, isSigned, renewAtSeconds };
}

function isReferral(authorities: readonly DnsRecord[], zones: ZoneTable): boolean {
  return authorities.some(
    ({ type, name }) => type === dnsTypes.NS && zones.zoneOf(name.text)?.origin.text !== name.text,
  );
}

/** Signatures of the zone that a set belongs to, if that came signed. */
function signedBy(set: readonly DnsRecord[], zones: ZoneTable): HostedZone["signatures"] {
  const { name, type } = set[0] as DnsRecord;
  return zones.hasZonesSignedByOthers ? zones.zoneFor(name.text, type)?.signatures : undefined;
}

/** Of one set; undefined: it is not signed. */
function signaturesOf(
  set: readonly DnsRecord[],
  zones: ZoneTable,
  signers: ZoneSigners,
  nowSeconds: number,
  isLimited: boolean,
): Signatures | undefined {
  const { name, type } = set[0] as DnsRecord;
  if (type === dnsTypes.RRSIG) return undefined;
  // RFC 4035 section 2.4: the DS of a zone belongs to the zone above.
  const at = type === dnsTypes.DS ? parentText(name.text) : name.text;
  const zone = at === undefined ? undefined : zones.zoneOf(at);
  if (zone === undefined) return undefined;
  // RFC 4035 section 2.2: the NS set at a cut and what lies below it are not signed.
  if (type === dnsTypes.NS && name.text !== zone.origin.text) return undefined;
  // What a wildcard or a DNAME makes has a name for each question, as denials have.
  const isMade = zone instanceof HostedZone && zone.at(name.text) === undefined;
  return signers.get(zone.origin.text)?.sign(set, nowSeconds, isLimited, isMade);
}

/** Records of one owner and type that stand together. */
function* setsOf(records: readonly DnsRecord[]): IterableIterator<readonly DnsRecord[]> {
  for (let at = 0; at < records.length; ) {
    const { name, type } = records[at] as DnsRecord;
    let end = at + 1;
    while (end < records.length && records[end]?.type === type && records[end]?.name.text === name.text)
      end++;
    yield records.slice(at, end);
    at = end;
  }
}
