/** A customer's zone as it is answered from: every name that exists in it, empty ones included, with its RRsets. Immutable. */
import {
  type DomainName,
  nameFromLabels,
  labelsOf,
  nameToText,
  parentText,
  readName,
  recordTypes,
  type ZoneData,
} from "#kit";
import { dnsClasses } from "../dns/constants.ts";
import type { DnsRecord, RecordData } from "../dns/message.ts";
import { readData } from "../dns/wire.ts";
import { type HostedName, type HostedSet, isSameName } from "./hosted-name.ts";
import { type Sha1, signaturesAt, ZoneSignatures } from "./zone-signatures.ts";

const NO_SETS: ReadonlyMap<number, HostedSet> = new Map();

export class HostedZone {
  readonly origin: DomainName;
  readonly serial: number;
  readonly soa: DnsRecord;
  /** The SOA as it stands in a negative answer: TTL is the lesser of its own and the minimum (RFC 2308 section 3). */
  readonly negativeSoa: DnsRecord;
  readonly ns: readonly DnsRecord[];
  readonly #names: ReadonlyMap<string, HostedName>;
  /** Names of NSEC3 records, which are no names of the zone (RFC 5155 section 7.2.8). */
  readonly #hashed: ReadonlyMap<string, HostedName>;
  /** What its primary has signed, and is told as it is; undefined: the zone came unsigned. */
  readonly signatures: ZoneSignatures | undefined;

  /** False: a secondary zone of which nothing is here, or nothing that may still be told: SERVFAIL. */
  readonly isLoaded: boolean;

  private constructor(
    origin: DomainName,
    serial: number,
    names: ReadonlyMap<string, HostedName>,
    isLoaded = true,
    hashed: ReadonlyMap<string, HostedName> = new Map(),
    sha1?: Sha1,
  ) {
    const apex = (names.get(origin.text) as HostedName).sets;
    this.origin = origin;
    this.serial = serial;
    this.#names = names;
    this.isLoaded = isLoaded;
    this.#hashed = hashed;
    const at = (text: string): HostedName | undefined => names.get(text);
    this.signatures = sha1 && ZoneSignatures.of({ origin, at }, names, hashed, sha1);
    this.soa = recordsOf(apex.get(recordTypes.SOA) as HostedSet)[0] as DnsRecord;
    const { data } = this.soa;
    const minimumSeconds = data.kind === "soa" ? data.soa.minimumSeconds : 0;
    this.negativeSoa = { ...this.soa, ttlSeconds: Math.min(this.soa.ttlSeconds, minimumSeconds) };
    this.ns = recordsOf(apex.get(recordTypes.NS) as HostedSet);
  }

  /**
   * @param sha1 for zones that may have been signed by their primary; throws for one that was in part
   */
  static of(zone: ZoneData, sha1?: Sha1): HostedZone {
    const names = new Map<string, HostedName>();
    const hashed = new Map<string, HostedName>();
    for (const [text, sets] of zone.sets) {
      const hosted = new Map<number, HostedSet>();
      let name = zone.origin;
      for (const set of sets.values()) {
        name = set.name;
        hosted.set(set.type, {
          name,
          type: set.type,
          ttlSeconds: set.ttlSeconds,
          data: set.rdata.map((rdata) => dataOf(set.type, rdata)),
        });
      }
      const isHashed = hosted.has(recordTypes.NSEC3);
      if (isHashed) hashed.set(text, { name, sets: hosted });
      if (!isHashed || hosted.keys().some((type) => !hashTypes.has(type)))
        names.set(text, { name, sets: hosted });
    }
    for (const { name } of names.values()) addEmptyAbove(names, name, zone.origin.text);
    return new HostedZone(zone.origin, zone.serial, names, true, hashed, sha1);
  }

  /** In the place of a zone whose records are not here; its SOA is never told. */
  static unloaded(origin: DomainName): HostedZone {
    const soa = {
      primaryName: origin,
      hostmasterName: origin,
      serial: 0,
      refreshSeconds: 0,
      retrySeconds: 0,
      expireSeconds: 0,
      minimumSeconds: 0,
    };
    const sets = new Map<number, HostedSet>([
      [recordTypes.SOA, { name: origin, type: recordTypes.SOA, ttlSeconds: 0, data: [{ kind: "soa", soa }] }],
      [recordTypes.NS, { name: origin, type: recordTypes.NS, ttlSeconds: 0, data: [] }],
    ]);
    return new HostedZone(origin, 0, new Map([[origin.text, { name: origin, sets }]]), false);
  }

  /** The zone with names that exist for another reason than a record: host names of properties. */
  withNames(added: Iterable<DomainName>): HostedZone {
    // Signed by another one, it has no proof of them.
    if (this.signatures !== undefined) return this;
    const names = new Map(this.#names);
    for (const name of added) {
      if (!names.has(name.text)) names.set(name.text, { name, sets: NO_SETS });
      addEmptyAbove(names, name, this.origin.text);
    }
    return names.size === this.#names.size
      ? this
      : new HostedZone(this.origin, this.serial, names, this.isLoaded);
  }

  get size(): number {
    return this.#names.size;
  }

  /** What stands at a lower-case text, occluded or not. */
  at(text: string): HostedName | undefined {
    return this.#names.get(text);
  }

  /**
   * The cut at or above `text` (which lies in this zone), highest first; undefined when the zone itself is authoritative for it.
   * Everything at a cut but DS, and all below it, belongs to another zone (RFC 2181 section 6).
   */
  cutAbove(text: string): HostedName | undefined {
    let cut: HostedName | undefined;
    for (
      let at: string | undefined = text;
      at !== undefined && at !== this.origin.text;
      at = parentText(at)
    ) {
      const name = this.#names.get(at);
      if (name?.sets.has(recordTypes.NS) === true) cut = name;
    }
    return cut;
  }

  /** What stands at a lower-case text, be it the name of a denial. */
  #standingAt(text: string): HostedName | undefined {
    return this.#names.get(text) ?? this.#hashed.get(text);
  }

  /**
   * Records but the SOA that `other` does not have, or has with another TTL or other letters in its owner; undefined now and then, so that
   * who goes through a large zone can leave off for a while.
   */
  *lackingIn(other: HostedZone): Generator<DnsRecord | undefined> {
    let seen = 0;
    for (const names of [this.#names.values(), this.#hashedAlone()])
      for (const at of names) {
        if (++seen % NAMES_AT_ONCE === 0) yield undefined;
        const there = other.#standingAt(at.name.text);
        if (there === undefined) yield* recordsAt(at);
        else if (!isSameName(at, there)) yield* recordsLackingIn(at, there);
      }
  }

  *#hashedAlone(): Generator<HostedName> {
    for (const [text, at] of this.#hashed) if (!this.#names.has(text)) yield at;
  }

  /** ALIAS records: where they stand, and the name whose addresses they take. None are flattened that another one has signed. */
  *aliases(): Generator<{ readonly owner: DomainName; readonly target: DomainName }> {
    if (this.signatures !== undefined) return;
    for (const { name, sets } of this.#names.values()) {
      const data = sets.get(recordTypes.ALIAS)?.data[0];
      const read = data?.kind === "opaque" ? readName(data.bytes, 0) : undefined;
      if (read?.ok === true) yield { owner: name, target: read.name };
    }
  }

  /** Every record between two copies of the SOA (RFC 5936 section 2.2). */
  *recordsWithSoaTwice(): Generator<DnsRecord> {
    yield this.soa;
    for (const at of this.#names.values()) yield* recordsAt(at);
    for (const at of this.#hashedAlone()) yield* recordsAt(at);
    yield this.soa;
  }
}

/** Some 0.3 ms. */
const NAMES_AT_ONCE = 1_000;

/** What an NSEC3 record's name has of its own. */
const hashTypes: ReadonlySet<number> = new Set([recordTypes.NSEC3, recordTypes.RRSIG]);

/** All that stands at a name but the SOA, each signature with the TTL of its set. */
export function* recordsAt(at: HostedName): Generator<DnsRecord> {
  for (const set of at.sets.values()) {
    if (set.type === recordTypes.SOA) continue;
    if (set.type !== recordTypes.RRSIG) yield* recordsOf(set);
    else yield* signaturesAt(at);
  }
}

function* recordsLackingIn(at: HostedName, there: HostedName): Generator<DnsRecord> {
  const known = new Set([...recordsAt(there)].map(keyOf));
  for (const record of recordsAt(at)) if (!known.has(keyOf(record))) yield record;
}

/** By what makes a record one. */
function keyOf({ name, type, ttlSeconds, data }: DnsRecord): string {
  const head = `${nameToText(name)} ${type} ${ttlSeconds}`;
  switch (data.kind) {
    case "address":
      return `${head} ${data.address.words.join()}`;
    case "name":
      return `${head} ${nameToText(data.name)}`;
    case "soa":
      return head;
    case "strings":
      return `${head} ${data.strings.map((string) => string.join()).join("/")}`;
    case "opaque":
      return `${head} ${data.bytes.join()}`;
  }
}

/** The records of a set; under another owner where a wildcard was expanded. */
export function recordsOf(set: HostedSet, owner: DomainName = set.name): DnsRecord[] {
  const { type, ttlSeconds } = set;
  return set.data.map((data) => ({ name: owner, type, class: dnsClasses.IN, ttlSeconds, data }));
}

function dataOf(type: number, rdata: Uint8Array): RecordData {
  if (type === recordTypes.DNAME) {
    const read = readName(rdata, 0);
    if (read.ok) return { kind: "name", name: read.name };
  }
  return readData(rdata, type, dnsClasses.IN, 0, rdata.length) ?? { kind: "opaque", bytes: rdata };
}

function addEmptyAbove(names: Map<string, HostedName>, name: DomainName, origin: string): void {
  const labels = labelsOf(name);
  let text = name.text;
  for (let n = 1; text !== origin; n++) {
    text = parentText(text) ?? "";
    if (names.has(text)) return;
    const above = nameFromLabels(labels.slice(n));
    if (above !== undefined) names.set(text, { name: above, sets: NO_SETS });
  }
}
