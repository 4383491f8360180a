/**
 * What a careful operator wants to know of a zone that could be served: what will not be found by who asks for it, and what is likely
 * to be a slip. What makes a zone impossible to serve is refused before (`zoneDataOf`).
 */
import {
  compareSerials,
  type DomainName,
  isAtOrBelow,
  nameToText,
  parentText,
  rdataText,
  readName,
  recordTypes,
  type RrSet,
  typeText,
  type ZoneData,
  type ZoneRecord,
} from "#kit";

export type FindingRule =
  | "ns-without-address"
  | "missing-glue"
  | "ns-is-alias"
  | "mx-is-alias"
  | "srv-is-alias"
  | "target-without-address"
  | "alias-loop"
  | "alias-to-nothing"
  | "occluded"
  | "single-name-server"
  | "ttl-differs"
  | "ttl-unusual"
  | "duplicate"
  | "soa-timers"
  | "serial-not-newer"
  | "serial-unusual"
  | "ds-without-ns"
  | "wildcard-delegation"
  | "null-mx-beside-others"
  | "several-spf"
  | "obsolete-type"
  | "private-address";

export interface Finding {
  readonly severity: "error" | "warning";
  readonly rule: FindingRule;
  /** In the file, from 1; 0: in none. */
  readonly line: number;
  readonly name: string;
  readonly type: string;
  readonly text: string;
}

const HOUR_SECONDS = 3_600;
const DAY_SECONDS = 86_400;
const ALIASES_MAX = 16;

/**
 * @param records in the order of the file, for what RRsets do not tell any more
 * @param serialInForce of the zone that this one is to replace
 * @returns in the order of lines
 */
export function checkZone(
  zone: ZoneData,
  records: readonly ZoneRecord[],
  serialInForce?: number,
): readonly Finding[] {
  const check = new Check(zone);
  check.records(records);
  check.soa(serialInForce);
  for (const sets of zone.sets.values()) for (const set of sets.values()) check.set(set, sets);
  return check.findings.toSorted((a, b) => a.line - b.line);
}

class Check {
  readonly findings: Finding[] = [];
  readonly #zone: ZoneData;
  readonly #origin: string;

  constructor(zone: ZoneData) {
    this.#zone = zone;
    this.#origin = zone.origin.text;
  }

  #say(severity: Finding["severity"], rule: FindingRule, set: Named, text: string): void {
    this.findings.push({
      severity,
      rule,
      line: set.line,
      name: nameToText(set.name),
      type: typeText(set.type),
      text,
    });
  }

  /** RFC 2181 section 5.2 and 5. */
  records(records: readonly ZoneRecord[]): void {
    const seen = new Set<string>();
    for (const record of records) {
      const set = this.#setAt(record.name.text, record.type);
      if (set === undefined) continue;
      if (record.ttlSeconds !== set.ttlSeconds)
        this.#say(
          "warning",
          "ttl-differs",
          record,
          `TTL ${record.ttlSeconds} where another record of the same name and type has ${set.ttlSeconds}; the least is served`,
        );
      const key = `${record.name.text} ${record.type} ${record.rdata.join()}`;
      if (seen.has(key))
        this.#say("warning", "duplicate", record, "the same record stands there before; it is served once");
      seen.add(key);
    }
  }

  /** RFC 1912 section 2.2, RFC 2308 section 5, RFC 1982. */
  soa(serialInForce: number | undefined): void {
    const set = this.#setAt(this.#origin, recordTypes.SOA) as RrSet;
    const [, , serial = 0, refresh = 0, retry = 0, expire = 0, minimum = 0] = (wordsOf(set)[0] ?? []).map(
      Number,
    );
    if (retry >= refresh)
      this.#say("warning", "soa-timers", set, `retry ${retry} s is not below refresh ${refresh} s`);
    if (expire <= refresh + retry)
      this.#say(
        "warning",
        "soa-timers",
        set,
        `expire ${expire} s is not above refresh and retry, ${refresh + retry} s: one failed transfer ends the zone at its secondaries`,
      );
    if (minimum > DAY_SECONDS)
      this.#say(
        "warning",
        "soa-timers",
        set,
        `minimum ${minimum} s: a name that is asked for too early stays away for over a day`,
      );
    if (serial === 0)
      this.#say("warning", "serial-unusual", set, "serial 0: some secondaries take it for none");
    const order = serialInForce === undefined ? undefined : compareSerials(serial, serialInForce);
    if (serialInForce !== undefined && !(order !== undefined && order > 0))
      this.#say(
        "error",
        "serial-not-newer",
        set,
        `serial ${serial} is not after ${serialInForce} (RFC 1982): secondaries would not take the zone`,
      );
  }

  set(set: RrSet, sets: ReadonlyMap<number, RrSet>): void {
    const { type, name } = set;
    const { text } = name;
    const covered = this.#coveredBy(text);
    if (covered !== undefined) {
      const isGlue = covered.type === recordTypes.NS && (type === recordTypes.A || type === recordTypes.AAAA);
      const isUsed = isGlue && targetsOf(covered).some((target) => target.text === text);
      if (!isUsed && !(isGlue && this.#isNameServer(text)))
        this.#say(
          "warning",
          "occluded",
          set,
          `below the ${typeText(covered.type)} of ${nameToText(covered.name)}: never served from here`,
        );
      return;
    }
    this.#ttl(set);
    if (text.startsWith("\\042.") && (type === recordTypes.NS || type === recordTypes.DNAME))
      this.#say(
        "warning",
        "wildcard-delegation",
        set,
        `${typeText(type)} at a wildcard: what it means is left open (RFC 4592 sections 4.2, 4.4)`,
      );
    if (type === recordTypes.NS) this.#nameServers(set);
    else if (type === recordTypes.MX) this.#mail(set);
    else if (type === recordTypes.SRV) this.#hosts(set, "srv-is-alias");
    else if (type === recordTypes.CNAME) this.#alias(set);
    else if (type === recordTypes.DS && !sets.has(recordTypes.NS))
      this.#say(
        "error",
        "ds-without-ns",
        set,
        "DS without NS at its name: nothing is delegated there (RFC 4035 section 2.4)",
      );
    else if (type === recordTypes.TXT) {
      const policies = wordsOf(set).filter(([first = ""]) => /^"v=spf1[ "]/i.test(first));
      if (policies.length > 1)
        this.#say(
          "error",
          "several-spf",
          set,
          `${policies.length} SPF policies: mail receivers fail on more than one (RFC 7208 section 3.2)`,
        );
    } else if (type === SPF)
      this.#say(
        "warning",
        "obsolete-type",
        set,
        "SPF records are not asked for any more (RFC 7208 section 3.1); write TXT",
      );
    else if (type === recordTypes.A && wordsOf(set).some(([address = ""]) => PRIVATE.test(address)))
      this.#say(
        "warning",
        "private-address",
        set,
        "an address that only its own network reaches (RFC 1918, RFC 1122)",
      );
  }

  #ttl(set: RrSet): void {
    if (set.ttlSeconds === 0) this.#say("warning", "ttl-unusual", set, "TTL 0: every query comes here");
    if (set.ttlSeconds > 7 * DAY_SECONDS)
      this.#say(
        "warning",
        "ttl-unusual",
        set,
        `TTL ${set.ttlSeconds} s: over a week until a change is seen everywhere`,
      );
    const isDelegation = set.type === recordTypes.NS && set.name.text === this.#origin;
    if (isDelegation && set.ttlSeconds > 0 && set.ttlSeconds < HOUR_SECONDS / 12)
      this.#say(
        "warning",
        "ttl-unusual",
        set,
        `TTL ${set.ttlSeconds} s on name servers: resolvers come back for them all the time`,
      );
  }

  #nameServers(set: RrSet): void {
    const isApex = set.name.text === this.#origin;
    if (set.rdata.length < 2)
      this.#say(
        "warning",
        "single-name-server",
        set,
        "one name server only: RFC 2182 section 5 wants two, apart from each other",
      );
    for (const target of targetsOf(set)) {
      const { text } = target;
      if (!isAtOrBelow(text, this.#origin)) continue;
      const isBelowCut = !isApex && isAtOrBelow(text, set.name.text);
      if (this.#setAt(text, recordTypes.CNAME) !== undefined)
        this.#say("error", "ns-is-alias", set, `${nameToText(target)} is an alias (RFC 2181 section 10.3)`);
      else if (!this.#hasAddress(text) && (isBelowCut || this.#coveredBy(text) === undefined))
        this.#say(
          "error",
          isBelowCut ? "missing-glue" : "ns-without-address",
          set,
          `${nameToText(target)} has no address in this zone${isBelowCut ? ", and cannot be found without (RFC 9471)" : ""}`,
        );
    }
  }

  #mail(set: RrSet): void {
    if (set.rdata.length > 1 && targetsOf(set).some(({ text }) => text === ""))
      this.#say(
        "error",
        "null-mx-beside-others",
        set,
        '"." says that no mail is taken, and stands alone (RFC 7505 section 3)',
      );
    this.#hosts(set, "mx-is-alias");
  }

  #hosts(set: RrSet, aliasRule: FindingRule): void {
    for (const target of targetsOf(set)) {
      const { text } = target;
      if (text === "" || !isAtOrBelow(text, this.#origin) || this.#coveredBy(text) !== undefined) continue;
      if (this.#setAt(text, recordTypes.CNAME) !== undefined)
        this.#say("error", aliasRule, set, `${nameToText(target)} is an alias (RFC 2181 section 10.3)`);
      else if (!this.#hasAddress(text) && this.#wildcardOf(text) === undefined)
        this.#say(
          "error",
          "target-without-address",
          set,
          `${nameToText(target)} has no address in this zone`,
        );
    }
  }

  #alias(set: RrSet): void {
    const seen = new Set([set.name.text]);
    let at: RrSet | undefined = set;
    while (at !== undefined) {
      const target: DomainName | undefined = targetsOf(at)[0];
      if (target === undefined || !isAtOrBelow(target.text, this.#origin)) return;
      if (this.#coveredBy(target.text) !== undefined) return;
      if (seen.has(target.text) || seen.size > ALIASES_MAX) {
        this.#say(
          "error",
          "alias-loop",
          set,
          `leads to ${nameToText(target)} again, or over more than ${ALIASES_MAX} aliases`,
        );
        return;
      }
      seen.add(target.text);
      if (!this.#exists(target.text)) {
        this.#say("warning", "alias-to-nothing", set, `${nameToText(target)} does not exist in this zone`);
        return;
      }
      at = this.#setAt(target.text, recordTypes.CNAME);
    }
  }

  #setAt(name: string, type: number): RrSet | undefined {
    return this.#zone.sets.get(name)?.get(type);
  }

  #hasAddress(name: string): boolean {
    const sets = this.#zone.sets.get(name);
    return sets?.has(recordTypes.A) === true || sets?.has(recordTypes.AAAA) === true;
  }

  #isNameServer(name: string): boolean {
    this.#nameServerNames ??= new Set(
      [...this.#zone.sets.values()].flatMap((sets) => {
        const set = sets.get(recordTypes.NS);
        return set === undefined ? [] : targetsOf(set).map(({ text }) => text);
      }),
    );
    return this.#nameServerNames.has(name);
  }
  #nameServerNames: ReadonlySet<string> | undefined;

  /** The cut at or above the name, or the DNAME above it, that takes it out of the zone; for the records of a cut itself, none. */
  #coveredBy(name: string): RrSet | undefined {
    let covering: RrSet | undefined;
    for (let at: string | undefined = name; at !== undefined && at !== ""; at = parentText(at)) {
      const sets = this.#zone.sets.get(at);
      const ns = at === this.#origin || at === name ? undefined : sets?.get(recordTypes.NS);
      const dname = at === name ? undefined : sets?.get(recordTypes.DNAME);
      covering = ns ?? dname ?? covering;
      if (at === this.#origin) break;
    }
    return covering;
  }

  #exists(name: string): boolean {
    if (this.#zone.sets.has(name) || this.#wildcardOf(name) !== undefined) return true;
    if (this.#above === undefined) {
      this.#above = new Set();
      for (const one of this.#zone.sets.keys())
        for (let at = parentText(one); at !== undefined && !this.#above.has(at); at = parentText(at))
          this.#above.add(at);
    }
    return this.#above.has(name);
  }
  /** Names that have others below them. */
  #above: Set<string> | undefined;

  #wildcardOf(name: string): ReadonlyMap<number, RrSet> | undefined {
    for (let at = parentText(name); at !== undefined; at = parentText(at)) {
      const sets = this.#zone.sets.get(`\\042.${at}`);
      if (sets !== undefined) return sets;
      if (at === this.#origin || this.#zone.sets.has(at)) return undefined;
    }
    return undefined;
  }
}

type Named = Pick<RrSet, "name" | "type" | "line">;
const SPF = 99;
const PRIVATE = /^(10\.|127\.|169\.254\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|0\.)/;

/** Hosts that NS, CNAME, DNAME, MX and SRV records name. */
function targetsOf(set: RrSet): readonly DomainName[] {
  const offset = set.type === recordTypes.MX ? 2 : set.type === recordTypes.SRV ? 6 : 0;
  return set.rdata.flatMap((rdata) => {
    const read = readName(rdata, offset);
    return read.ok ? [read.name] : [];
  });
}

function wordsOf(set: RrSet): readonly (readonly string[])[] {
  return set.rdata.map((rdata) => {
    const text = rdataText(set.type, rdata) ?? "";
    return set.type === recordTypes.TXT ? [text] : text.split(" ");
  });
}
