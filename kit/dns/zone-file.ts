/**
 * Zone files (RFC 1035 section 5.1, RFC 2308 section 4 for $TTL), read whole or refused with line and column. `$INCLUDE` is refused: a
 * file of a customer names no file of ours. `$GENERATE` (BIND's) is taken, bounded.
 */
import { type DomainName, isAtOrBelow, nameToText, rootName } from "./name.ts";
import { nameOfToken, readRdata, Words } from "./rdata-read.ts";
import { rdataText } from "./rdata-write.ts";
import { isSignatureType, mayStandInZone, recordTypes, typeFromText, typeText } from "./record-types.ts";
import { secondsFromText, type Token, type ZoneLine, zoneLines, ZoneTextError } from "./zone-text.ts";

/** One record as it is stored: RDATA with its names uncompressed. Class IN. */
export interface ZoneRecord {
  readonly name: DomainName;
  readonly type: number;
  readonly ttlSeconds: number;
  readonly rdata: Uint8Array;
  /** Where it stands in the file that it was read from, from 1; 0: in none. */
  readonly line: number;
}

export const zoneRecordsMax = 200_000;
export const zoneTextCharactersMax = 64 * 1024 * 1024;
/** Of all records together: a line of $GENERATE makes a hundred thousand times what it has. */
const ZONE_RDATA_BYTES_MAX = 64 * 1024 * 1024;

export interface ZoneFileOptions {
  /** What names are below until `$ORIGIN` says otherwise; without one the file must begin with `$ORIGIN`. */
  readonly origin?: DomainName | undefined;
  readonly recordsMax?: number;
  /** Signatures and denials may stand in it, as RFC 3597 section 5 writes them: another one has signed it. */
  readonly mayBeSigned?: boolean;
}

export interface ZoneFile {
  /** Of the SOA record's owner. */
  readonly origin: DomainName;
  /** In the order of the file. */
  readonly records: readonly ZoneRecord[];
}

/** Throws {@link ZoneTextError}. Every record lies at or below the SOA's owner; types of signatures and of messages are refused. */
export function readZoneFile(text: string, options: ZoneFileOptions = {}): ZoneFile {
  if (text.length > zoneTextCharactersMax)
    throw new ZoneTextError(
      { line: 1, column: 1 },
      `${text.length} characters`,
      `at most ${zoneTextCharactersMax}`,
    );
  const reader = new Reader(options);
  for (const line of zoneLines(text)) reader.handleLine(line);
  return reader.finish();
}

class Reader {
  readonly #recordsMax: number;
  readonly #mayBeSigned: boolean;
  readonly #records: ZoneRecord[] = [];
  #origin: DomainName | undefined;
  #owner: DomainName | undefined;
  #defaultTtlSeconds: number | undefined;
  #lastTtlSeconds: number | undefined;
  #soa: ZoneRecord | undefined;
  #rdataBytes = 0;

  constructor({ origin, recordsMax = zoneRecordsMax, mayBeSigned = false }: ZoneFileOptions) {
    this.#origin = origin;
    this.#mayBeSigned = mayBeSigned;
    this.#recordsMax = recordsMax;
  }

  handleLine(line: ZoneLine): void {
    const [first] = line.tokens as readonly [Token, ...Token[]];
    const directive = first.isQuoted ? "" : first.raw.toUpperCase();
    const words = new Words(line.tokens.slice(1), line);
    switch (directive) {
      case "$ORIGIN":
        this.#origin = nameOfToken(words.next("a domain name"), this.#origin ?? rootName);
        words.end("$ORIGIN");
        return;
      case "$TTL": {
        const token = words.next("a TTL");
        this.#defaultTtlSeconds = secondsFromText(token.raw);
        if (this.#defaultTtlSeconds === undefined)
          throw new ZoneTextError(token, token.raw, "a TTL from 0 to 2147483647 s, such as 3600 or 1h");
        words.end("$TTL");
        return;
      }
      case "$GENERATE":
        this.#generate(line, words);
        return;
      case "$INCLUDE":
        throw new ZoneTextError(first, first.raw, "no $INCLUDE: a zone file is whole in itself");
      default:
        if (directive.startsWith("$"))
          throw new ZoneTextError(first, first.raw, "a record, $ORIGIN, $TTL or $GENERATE");
        this.#record(line);
    }
  }

  finish(): ZoneFile {
    const soa = this.#soa;
    if (soa === undefined)
      throw new ZoneTextError({ line: 1, column: 1 }, "no SOA record", "a SOA record at the top of the zone");
    for (const { name, line } of this.#records)
      if (!isAtOrBelow(name.text, soa.name.text))
        throw new ZoneTextError(
          { line, column: 1 },
          nameToText(name),
          `a name at or below ${nameToText(soa.name)}`,
        );
    return { origin: soa.name, records: this.#records };
  }

  #record(line: ZoneLine): void {
    const { tokens, startsBlank } = line;
    const origin = this.#origin;
    if (origin === undefined)
      throw new ZoneTextError(line, tokens[0]?.raw ?? "", "$ORIGIN first, or an origin told beside the file");
    if (!startsBlank) this.#owner = nameOfToken(tokens[0] as Token, origin);
    const name = this.#owner;
    if (name === undefined)
      throw new ZoneTextError(line, "a blank", "an owner: there is no record before this one");
    const words = new Words(startsBlank ? tokens : tokens.slice(1), tokens.at(-1) ?? line);
    const { type, stated } = readTypeAndTtl(words, this.#mayBeSigned);
    const rdata = readRdata(type, words, origin);
    if (stated !== undefined) this.#lastTtlSeconds = stated;
    // RFC 2308 section 4; before it RFC 1035 took the last one stated. A SOA without any has its own minimum, as BIND does it.
    let ttlSeconds = stated ?? this.#defaultTtlSeconds ?? this.#lastTtlSeconds;
    if (ttlSeconds === undefined && type === recordTypes.SOA) {
      ttlSeconds = new DataView(rdata.buffer, rdata.byteOffset + rdata.length - 4).getUint32(0);
      this.#lastTtlSeconds = ttlSeconds;
    }
    if (ttlSeconds === undefined)
      throw new ZoneTextError(line, "no TTL", "$TTL before the first record, or a TTL in it");
    const record = { name, type, ttlSeconds, rdata, line: line.line };
    if (type === recordTypes.SOA) {
      if (this.#soa !== undefined)
        throw new ZoneTextError(line, "a second SOA record", `one, and line ${this.#soa.line} has it`);
      this.#soa = record;
    }
    if (this.#records.length >= this.#recordsMax)
      throw new ZoneTextError(line, "one more record", `at most ${this.#recordsMax} records`);
    this.#rdataBytes += rdata.length;
    if (this.#rdataBytes > ZONE_RDATA_BYTES_MAX)
      throw new ZoneTextError(
        line,
        "one more record",
        `RDATA of at most ${ZONE_RDATA_BYTES_MAX} octets in all records together`,
      );
    this.#records.push(record);
  }

  #generate(line: ZoneLine, words: Words): void {
    const range = words.next("a range such as 1-10 or 0-100/2");
    const [, from = "", to = "", step = "1"] = /^(\d{1,9})-(\d{1,9})(?:\/(\d{1,9}))?$/.exec(range.raw) ?? [];
    const [first, last, by] = [Number(from), Number(to), Number(step)];
    if (from === "" || last < first || by < 1)
      throw new ZoneTextError(
        range,
        range.raw,
        "a range such as 1-10 or 0-100/2, the first not above the last",
      );
    if ((last - first) / by >= this.#recordsMax - this.#records.length)
      throw new ZoneTextError(
        range,
        range.raw,
        `a range that leaves the zone within ${this.#recordsMax} records`,
      );
    const owner = words.next("the owner");
    const rest = words.rest("type and RDATA");
    for (let value = first; value <= last; value += by) {
      const tokens = [owner, ...rest].map((token) => ({ ...token, raw: substituted(token, value) }));
      this.#record({ ...line, startsBlank: false, tokens });
    }
  }
}

/** `[TTL] [class] type` with TTL and class in either order. */
function readTypeAndTtl(
  words: Words,
  mayBeSigned: boolean,
): { readonly type: number; readonly stated: number | undefined } {
  let stated: number | undefined;
  let hasClass = false;
  for (;;) {
    const token = words.next("a record type");
    const { raw } = token;
    const upper = raw.toUpperCase();
    if (stated === undefined && /^\d/.test(raw)) {
      stated = secondsFromText(raw);
      if (stated === undefined) throw new ZoneTextError(token, raw, "a TTL from 0 to 2147483647 s");
    } else if (!hasClass && /^(IN|CH|HS|CS|CLASS\d{1,5})$/.test(upper)) {
      if (upper !== "IN" && upper !== "CLASS1") throw new ZoneTextError(token, raw, "class IN");
      hasClass = true;
    } else {
      const type = typeFromText(raw);
      if (type === undefined) throw new ZoneTextError(token, raw, "a record type, such as MX or TYPE65280");
      if (!mayStandInZone(type) || (!mayBeSigned && isSignatureType(type)))
        throw new ZoneTextError(
          token,
          raw,
          "a type that zones are written with: signatures and denials are made here, not taken",
        );
      return { type, stated };
    }
  }
}

const WIDTH_MAX = 64;

/** `$` and `${offset,width,base}` of $GENERATE; `$$` and `\$` are a dollar sign. */
function substituted(token: Token, value: number): string {
  return token.raw.replaceAll(/\\\$|\$\$|\$\{([^}]*)\}|\$/g, (match, modifiers: string | undefined) => {
    if (match === "\\$" || match === "$$") return "$";
    const parts = /^(-?\d{1,9})(?:,(\d{1,3})(?:,([doxX]))?)?$/.exec(modifiers ?? "0");
    const [, offset = "0", width = "0", base = "d"] = parts ?? [];
    const shown = value + Number(offset);
    if (parts === null || shown < 0 || Number(width) > WIDTH_MAX)
      throw new ZoneTextError(
        token,
        match,
        `\${offset,width,base} with a value that is not below 0, a width up to ${WIDTH_MAX} and base d, o, x or X`,
      );
    const digits = shown.toString(base === "d" ? 10 : base === "o" ? 8 : 16).padStart(Number(width), "0");
    return base === "X" ? digits.toUpperCase() : digits;
  });
}

/** One record as a line of a zone file, all names absolute. */
export function recordText({ name, type, ttlSeconds, rdata }: ZoneRecord): string {
  const words = rdataText(type, rdata) ?? "";
  return `${nameToText(name)} ${ttlSeconds} IN ${typeText(type)}${words === "" ? "" : ` ${words}`}`;
}
