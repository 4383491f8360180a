/**
 * Field lists. A header section is an ordered list of [name, value] pairs; names compare without case (RFC 9110,
 * section 5.1), order among lines of one name is kept (section 5.3).
 */

export type Field = readonly [name: string, value: string];
export type Fields = readonly Field[];

/** RFC 9110, section 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Whether `text` is a token (RFC 9110, section 5.6.2). */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Whether `text` may stand in a field value: visible characters, obs-text, space and tab (RFC 9110, section 5.5). */
export function isFieldValue(text: string): boolean {
  return FIELD_VALUE.test(text);
}

// Asked some forty times for each request that is forwarded, so without an iterator, and without a list where there is one line at most.

function isNamed(field: Field, name: string): boolean {
  const fieldName = field[0];
  return fieldName === name || (fieldName.length === name.length && fieldName.toLowerCase() === name);
}

/** All lines of one field, in order, as they came. `name` is in lower case. */
export function fieldLines(fields: Fields, name: string): readonly string[] {
  let lines: string[] | undefined;
  for (let index = 0; index < fields.length; index++) {
    const field = fields[index] as Field;
    if (isNamed(field, name)) (lines ??= []).push(field[1]);
  }
  return lines ?? NO_LINES;
}
const NO_LINES: readonly string[] = [];

/** The combined value of a field: its lines joined by ", " (RFC 9110, section 5.3); undefined when it is absent. */
export function fieldValue(fields: Fields, name: string): string | undefined {
  let value: string | undefined;
  for (let index = 0; index < fields.length; index++) {
    const field = fields[index] as Field;
    if (isNamed(field, name)) value = value === undefined ? field[1] : `${value}, ${field[1]}`;
  }
  return value;
}

/** Whether the field is there at all. `name` is in lower case. */
export function hasField(fields: Fields, name: string): boolean {
  for (let index = 0; index < fields.length; index++) if (isNamed(fields[index] as Field, name)) return true;
  return false;
}

/** The fields without any line whose lower-case name is in `names`. */
export function withoutFields(fields: Fields, names: ReadonlySet<string>): Fields {
  return fields.filter(([name]) => !names.has(name.toLowerCase()));
}

const INTERNAL_PREFIX = "isochrone-";

/** Whether a field is for our own servers. */
export function isInternal(name: string): boolean {
  const { length } = INTERNAL_PREFIX;
  return name.length >= length && name.slice(0, length).toLowerCase() === INTERNAL_PREFIX;
}

/** Splits a comma-separated list at commas outside quoted strings, members trimmed, empty ones dropped (RFC 9110, 5.6.1). */
export function listMembers(value: string): readonly string[] {
  const members: string[] = [];
  let start = 0;
  let isQuoted = false;
  for (let index = 0; index < value.length; index++) {
    const code = value.charCodeAt(index);
    if (isQuoted) {
      if (code === 0x5c) index++;
      else if (code === 0x22) isQuoted = false;
    } else if (code === 0x22) isQuoted = true;
    else if (code === 0x2c) {
      const member = value.slice(start, index).trim();
      if (member !== "") members.push(member);
      start = index + 1;
    }
  }
  const last = value.slice(start).trim();
  if (last !== "") members.push(last);
  return members;
}

/**
 * Fields for one connection only. The ones of RFC 9110, section 7.6.1, with Proxy-Authentication-Info; Content-Length
 * is no hop-by-hop field but is framing too: this proxy always states its own (RFC 9112, section 6).
 */
const CONNECTION_FIELDS: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authentication-info",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);

/** Whether a field, by its lower-case name, is for one connection only. */
export function isConnectionField(name: string): boolean {
  return CONNECTION_FIELDS.has(name);
}

/**
 * Fields that a Connection option must not take away: a hostile client could otherwise have this proxy drop what the
 * origin needs for its security (abuse of hop-by-hop fields), or what the proxy itself has added.
 */
const NEVER_NOMINATED: ReadonlySet<string> = new Set([
  "host",
  "content-length",
  "cache-control",
  "authorization",
  "cookie",
  "age",
  "via",
  "cdn-loop",
  "x-forwarded-for",
  "x-forwarded-proto",
  "x-forwarded-host",
  "content-type",
  "content-encoding",
]);

const NO_OPTIONS: ReadonlySet<string> = new Set();

/** The options of Connection in lower case, without those that would hide an end-to-end field of importance. */
export function connectionOptions(fields: Fields): ReadonlySet<string> {
  const lines = fieldLines(fields, "connection");
  if (lines.length === 0) return NO_OPTIONS;
  const options = new Set<string>();
  for (const line of lines) {
    for (const member of line.split(",")) {
      const name = member.trim().toLowerCase();
      if (isToken(name) && !NEVER_NOMINATED.has(name)) options.add(name);
    }
  }
  return options;
}

/**
 * The fields that travel on: neither hop-by-hop nor nominated by Connection (RFC 9110, section 7.6.1), nor framing
 * (Content-Length, Transfer-Encoding, Trailer), which each hop states anew. Names and order are kept. Lines that do not
 * fit the grammar are dropped.
 */
export function endToEndFields(fields: Fields): Fields {
  const options = connectionOptions(fields);
  const travelling: Field[] = [];
  for (let index = 0; index < fields.length; index++) {
    const field = fields[index] as Field;
    const lower = endToEndName(field[0]);
    if (lower !== "" && !(options.size > 0 && options.has(lower)) && isFieldValue(field[1]))
      travelling.push(field);
  }
  return travelling;
}

/** Names that have been looked at, few and mostly the same: in lower case, "" for those that do not travel on. */
const endToEndNames = new Map<string, string>();
const NAMES_MAX = 1_024;
const NAME_CHARACTERS_MAX = 64;

function endToEndName(name: string): string {
  const known = endToEndNames.get(name);
  if (known !== undefined) return known;
  const lower = name.toLowerCase();
  const isEndToEnd = lower !== "content-length" && !CONNECTION_FIELDS.has(lower) && isToken(name);
  const said = isEndToEnd ? lower : "";
  if (name.length > NAME_CHARACTERS_MAX) return said;
  if (endToEndNames.size >= NAMES_MAX) endToEndNames.clear();
  // Copies: V8 has a part of a text hold all of it, here a whole head.
  endToEndNames.set(name.split("").join(""), said.split("").join(""));
  return said;
}
