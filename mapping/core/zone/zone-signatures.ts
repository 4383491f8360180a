/**
 * What a zone's primary has signed, told as it is: the signatures of a set (RFC 4035 section 3.1.1), and the records that deny a name or a
 * type, by NSEC (RFC 4035 section 3.1.3) or NSEC3 (RFC 5155 section 7.2). Nothing is verified: who validates does that.
 */
import { compareCanonically, type DomainName, labelsOf, nameFromLabels, readName, recordTypes } from "#kit";
import { dnsClasses } from "../dns/constants.ts";
import { lowerName } from "../dns/dnssec/canonical.ts";
import type { DnsRecord } from "../dns/message.ts";
import type { HostedName, HostedSet } from "./hosted-name.ts";

export type Sha1 = (bytes: Uint8Array) => Uint8Array;

/**
 * RFC 9276 section 3.2: each denial costs the hash so often, three times; BIND takes zones with more for unsigned ones. What costs more
 * is not served.
 */
const nsec3IterationsMax = 50;

/** RFC 4034 section 3.1: what stands before the signer's name. */
const RRSIG_FIXED_BYTES = 18;
const ALGORITHM_SHA1 = 1;

/** An RRset of denial, with its signatures. */
type Proof = readonly DnsRecord[];

interface Nsec3Chain {
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** By hash, in order. */
  readonly hashes: readonly string[];
  readonly at: ReadonlyMap<string, HostedName>;
}

type Denials =
  /** In canonical order. */
  | { readonly kind: "nsec"; readonly names: readonly HostedName[] }
  | ({ readonly kind: "nsec3" } & Nsec3Chain);

/** Names of the zone, as {@link ZoneSignatures} looks for them. */
interface SignedNames {
  readonly origin: DomainName;
  readonly at: (text: string) => HostedName | undefined;
}

export class ZoneSignatures {
  readonly #names: SignedNames;
  readonly #denials: Denials;
  readonly #sha1: Sha1;

  private constructor(names: SignedNames, denials: Denials, sha1: Sha1) {
    this.#names = names;
    this.#denials = denials;
    this.#sha1 = sha1;
  }

  /**
   * Undefined: the zone is not signed. Throws {@link UnfitSignatures} where a part is signed and names could not be denied.
   *
   * @param hashed names at which NSEC3 records stand, by lower-case text
   */
  static of(
    names: SignedNames,
    all: ReadonlyMap<string, HostedName>,
    hashed: ReadonlyMap<string, HostedName>,
    sha1: Sha1,
  ): ZoneSignatures | undefined {
    const { origin } = names;
    const apex = names.at(origin.text);
    const soaSignatures = apex === undefined ? [] : signaturesAt(apex, recordTypes.SOA);
    const chains = [...all.values()].filter(({ sets }) => sets.has(recordTypes.NSEC));
    if (soaSignatures.length === 0) {
      const isInPart =
        hashed.size + chains.length > 0 || all.values().some(({ sets }) => sets.has(recordTypes.RRSIG));
      if (isInPart) throw new UnfitSignatures("signatures or denials, and none of the SOA record");
      return undefined;
    }
    const parameters = apex?.sets.get(recordTypes.NSEC3PARAM)?.data.map(octetsOf).find(isInForce);
    if (parameters === undefined) {
      if (apex?.sets.has(recordTypes.NSEC) !== true)
        throw new UnfitSignatures("signatures, and neither NSEC nor NSEC3PARAM (SHA-1) at its top");
      return new ZoneSignatures(
        names,
        { kind: "nsec", names: chains.sort((a, b) => compareCanonically(a.name, b.name)) },
        sha1,
      );
    }
    const chain = chainOf(parameters, hashed);
    const signatures = new ZoneSignatures(names, { kind: "nsec3", ...chain }, sha1);
    if (!chain.at.has(hashOf(origin, chain, sha1)))
      throw new UnfitSignatures("NSEC3PARAM at its top, and no NSEC3 record of the top by it");
    return signatures;
  }

  /** Of a set that is told, with its TTL and owner; none: it is not signed, as delegations and glue. */
  signaturesOf(owner: DomainName, type: number, ttlSeconds: number): readonly DnsRecord[] {
    const at = this.#names.at(owner.text) ?? this.#wildcardFor(owner);
    if (at === undefined) return [];
    return signaturesAt(at, type).map((record) => ({ ...record, name: owner, ttlSeconds }));
  }

  /** What a validator wants beside a negative answer, or a referral without DS: the name, or what it is asked for there, is not there. */
  denialOf(name: DomainName): readonly Proof[] {
    const isThere = this.#names.at(name.text) !== undefined;
    if (this.#denials.kind === "nsec") {
      const wildcard = isThere ? undefined : this.#wildcardName(name);
      return proofs([this.#covering(name), wildcard && this.#covering(wildcard)]);
    }
    if (isThere) {
      const own = this.#matching(name);
      // RFC 5155 section 7.2.4 and 7.2.7: unsigned delegations, and what stands only for such, may have none (opt-out).
      return own === undefined ? this.#closestProof(name) : proofs([own]);
    }
    const wildcard = this.#wildcardName(name);
    const denied = wildcard && (this.#matching(wildcard) ?? this.#coveringHash(wildcard));
    return [...this.#closestProof(name), ...proofs([denied])].filter(isFirstOfOwner);
  }

  /** Beside an answer that a wildcard gave: the name itself is not there (RFC 4035 section 3.1.3.3, RFC 5155 section 7.2.6). Else none. */
  wildcardProofOf(name: DomainName): readonly Proof[] {
    if (this.#names.at(name.text) !== undefined || this.#wildcardFor(name) === undefined) return [];
    if (this.#denials.kind === "nsec") return proofs([this.#covering(name)]);
    const { next } = this.#enclosers(name);
    return proofs([this.#coveringHash(next)]);
  }

  /** The closest name that is there, and the one below it towards `name`, which is not. */
  #enclosers(name: DomainName): { readonly closest: DomainName; readonly next: DomainName } {
    const labels = labelsOf(name);
    let next = name;
    for (let n = 1; n <= labels.length; n++) {
      const above = nameFromLabels(labels.slice(n)) as DomainName;
      if (above.text === this.#names.origin.text || this.#names.at(above.text) !== undefined)
        return { closest: above, next };
      next = above;
    }
    return { closest: this.#names.origin, next };
  }

  #wildcardName(name: DomainName): DomainName | undefined {
    return nameFromLabels([Uint8Array.of(0x2a), ...labelsOf(this.#enclosers(name).closest)]);
  }

  #wildcardFor(name: DomainName): HostedName | undefined {
    const wildcard = this.#wildcardName(name);
    return wildcard && this.#names.at(wildcard.text);
  }

  /** NSEC: the last record at or before the name. */
  #covering(name: DomainName): HostedName | undefined {
    if (this.#denials.kind !== "nsec") return undefined;
    const { names } = this.#denials;
    const n = lastNotAfter(names.length, (at) => compareCanonically((names[at] as HostedName).name, name));
    return names[n];
  }

  #matching(name: DomainName): HostedName | undefined {
    return this.#denials.kind === "nsec3"
      ? this.#denials.at.get(hashOf(name, this.#denials, this.#sha1))
      : undefined;
  }

  /** NSEC3: the last record before the name's hash, around the end. */
  #coveringHash(name: DomainName): HostedName | undefined {
    if (this.#denials.kind !== "nsec3") return undefined;
    const { hashes, at } = this.#denials;
    const hash = hashOf(name, this.#denials, this.#sha1);
    const n = lastNotAfter(hashes.length, (one) => ((hashes[one] as string) <= hash ? -1 : 1));
    return at.get(hashes.at(n) as string);
  }

  /** RFC 5155 section 7.2.1: the closest name that has a record, and what covers the one below it. Only names that are there are hashed. */
  #closestProof(name: DomainName): readonly Proof[] {
    let { closest, next } =
      this.#names.at(name.text) === undefined ? this.#enclosers(name) : { closest: name, next: name };
    let match = this.#matching(closest);
    while (match === undefined && closest.text !== this.#names.origin.text) {
      next = closest;
      closest = nameFromLabels(labelsOf(closest).slice(1)) as DomainName;
      match = this.#matching(closest);
    }
    return proofs([match, this.#coveringHash(next)]);
  }
}

/** Says what the zone has and should not, or lacks. */
class UnfitSignatures extends Error {}

/** RFC 4034 section 3.1: the type that a signature is of. */
function coveredType(rdata: Uint8Array): number {
  return ((rdata[0] as number) << 8) | (rdata[1] as number);
}

function octetsOf(data: HostedSet["data"][number]): Uint8Array {
  return data.kind === "opaque" ? data.bytes : new Uint8Array();
}

/** Signatures at a name, of one set or of all, each with its set's TTL (RFC 4034 section 3). */
export function signaturesAt({ name, sets }: HostedName, type?: number): readonly DnsRecord[] {
  const signatures = sets.get(recordTypes.RRSIG);
  if (signatures === undefined) return [];
  return signatures.data.flatMap((data) => {
    const covered = coveredType(octetsOf(data));
    if (type !== undefined && covered !== type) return [];
    const { ttlSeconds } = sets.get(covered) ?? signatures;
    return { name, type: recordTypes.RRSIG, class: dnsClasses.IN, ttlSeconds, data };
  });
}

/** Whether octets are RDATA of a type of signatures or denials, as far as serving them needs it. */
export function isSignatureRdata(type: number, rdata: Uint8Array): boolean {
  switch (type) {
    case recordTypes.RRSIG: {
      const signer = rdata.length > RRSIG_FIXED_BYTES ? readName(rdata, RRSIG_FIXED_BYTES) : undefined;
      return (
        signer?.ok === true &&
        signer.next - RRSIG_FIXED_BYTES === signer.name.wire.length &&
        signer.next < rdata.length
      );
    }
    case recordTypes.NSEC: {
      const next = readName(rdata, 0);
      return next.ok && next.next === next.name.wire.length;
    }
    case recordTypes.NSEC3: {
      const saltEnd = 5 + (rdata[4] ?? 0);
      return rdata.length > saltEnd && rdata.length >= saltEnd + 1 + (rdata[saltEnd] as number);
    }
    default:
      return rdata.length >= 5 && rdata.length === 5 + (rdata[4] as number);
  }
}

/** RFC 5155 section 4.1.2: a chain with flags is not whole yet, or goes. */
function isInForce(parameters: Uint8Array): boolean {
  return parameters[0] === ALGORITHM_SHA1 && parameters[1] === 0;
}

function chainOf(parameters: Uint8Array, hashed: ReadonlyMap<string, HostedName>): Nsec3Chain {
  const iterations = ((parameters[2] as number) << 8) | (parameters[3] as number);
  if (iterations > nsec3IterationsMax)
    throw new UnfitSignatures(
      `NSEC3 with ${iterations} iterations, at most ${nsec3IterationsMax} are served`,
    );
  const at = new Map<string, HostedName>();
  for (const [text, { name, sets }] of hashed) {
    const { data } = sets.get(recordTypes.NSEC3) as HostedSet;
    // While parameters change there are two chains; one hashes to names of its own.
    if (data.some((one) => isOfChain(octetsOf(one), parameters)))
      at.set(text.slice(0, text.indexOf(".")), { name, sets });
  }
  return { iterations, salt: parameters.subarray(5), hashes: [...at.keys()].sort(), at };
}

function isOfChain(nsec3: Uint8Array, parameters: Uint8Array): boolean {
  const isSameHash = nsec3[0] === parameters[0];
  return isSameHash && parameters.subarray(2).every((octet, n) => octet === nsec3[n + 2]);
}

/** RFC 5155 section 5, as the first label of an NSEC3 record's owner. */
function hashOf(name: DomainName, { iterations, salt }: Nsec3Chain, sha1: Sha1): string {
  let octets = lowerName(name.wire);
  for (let n = 0; n <= iterations; n++) octets = sha1(joined(octets, salt));
  return base32Hex(octets);
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** RFC 4648 section 7, in lower case; its order is that of the octets. */
function base32Hex(octets: Uint8Array): string {
  let text = "";
  let bits = 0;
  let held = 0;
  for (const octet of octets) {
    held = (held << 8) | octet;
    for (bits += 8; bits >= 5; bits -= 5) text += ((held >>> (bits - 5)) & 31).toString(32);
    held &= (1 << bits) - 1;
  }
  return text;
}

/** The last place whose order is not above 0, -1 where there is none. */
function lastNotAfter(length: number, order: (at: number) => number): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (order(middle) <= 0) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function proofs(found: readonly (HostedName | undefined)[]): readonly Proof[] {
  return found.flatMap((one) => (one === undefined ? [] : [proofOf(one)])).filter(isFirstOfOwner);
}

function proofOf(at: HostedName): Proof {
  const set = (at.sets.get(recordTypes.NSEC3) ?? at.sets.get(recordTypes.NSEC)) as HostedSet;
  const { name, type, ttlSeconds } = set;
  const records = set.data.map((data): DnsRecord => ({ name, type, class: dnsClasses.IN, ttlSeconds, data }));
  return [...records, ...signaturesAt(at, type)];
}

function isFirstOfOwner(proof: Proof, n: number, all: readonly Proof[]): boolean {
  return all.findIndex((one) => one[0]?.name.text === proof[0]?.name.text) === n;
}
