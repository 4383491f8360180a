/**
 * Cache-Control and its targeted forms as directives (RFC 9111, section 5.2; RFC 9213). The reader is tolerant of form
 * and strict of meaning: whatever cannot be understood never makes a response fresher or more public.
 */
import { type Fields, fieldLines, isToken, listMembers } from "./headers.ts";

/** Directives by lower-case name; each with its arguments in order of appearance, null where it had none. */
export type Directives = ReadonlyMap<string, readonly (string | null)[]>;

/** Directives read from one field line set; beyond this the rest is ignored and the set counts as damaged. */
const DIRECTIVES_MAX = 64;

/** RFC 9111, section 1.2.2: a delta-seconds beyond this is taken for it; a cache never needs more than 68 years. */
export const DELTA_SECONDS_MAX = 2_147_483_648;

/** Unquotes a quoted-string (RFC 9110, section 5.6.4); undefined when it is damaged. */
function unquote(text: string): string | undefined {
  if (text.length < 2 || !text.endsWith('"')) return undefined;
  let result = "";
  for (let index = 1; index < text.length - 1; index++) {
    let char = text[index] ?? "";
    if (char === '"') return undefined;
    if (char === "\\") {
      index++;
      if (index >= text.length - 1) return undefined;
      char = text[index] ?? "";
    }
    result += char;
  }
  return result;
}

/**
 * What single lines said. One answer is judged by several decisions, and one site's answers say the same, so that most lines are
 * found here; what is found is the same as what is read.
 */
const known = new Map<string, Directives>();
const KNOWN_MAX = 256;
const KNOWN_CHARACTERS_MAX = 256;

/**
 * Reads Cache-Control lines. A member that is no directive (a blank before "=", a name that is no token) is skipped. An
 * argument may be a token or a quoted string, as RFC 9111, section 5.2 asks; a damaged one is kept as it stands, so
 * that `deltaSeconds` sees an invalid value instead of none. Never throws.
 */
export function parseDirectives(lines: readonly string[]): Directives {
  const [line] = lines;
  if (line === undefined) return NO_DIRECTIVES;
  if (lines.length > 1 || line.length > KNOWN_CHARACTERS_MAX) return readDirectives(lines);
  let directives = known.get(line);
  if (directives === undefined) {
    directives = readDirectives(lines);
    if (known.size >= KNOWN_MAX) known.clear();
    known.set(line, directives);
  }
  return directives;
}
const NO_DIRECTIVES: Directives = new Map();

function readDirectives(lines: readonly string[]): Directives {
  const directives = new Map<string, (string | null)[]>();
  let count = 0;
  for (const line of lines) {
    for (const member of listMembers(line)) {
      if (++count > DIRECTIVES_MAX) return directives;
      const equals = member.indexOf("=");
      const name = (equals === -1 ? member : member.slice(0, equals)).toLowerCase();
      if (!isToken(name)) continue;
      let argument: string | null = null;
      if (equals !== -1) {
        const raw = member.slice(equals + 1);
        argument = raw.startsWith('"') ? (unquote(raw) ?? raw) : raw;
      }
      const known = directives.get(name);
      if (known) known.push(argument);
      else directives.set(name, [argument]);
    }
  }
  return directives;
}

/** The Cache-Control directives of a message. */
export function cacheControl(fields: Fields): Directives {
  return parseDirectives(fieldLines(fields, "cache-control"));
}

/** What a delta-seconds directive says: absent, or seconds, or something that cannot be understood. */
export type DeltaSeconds = number | "invalid" | undefined;

/**
 * A delta-seconds argument (RFC 9111, section 1.2.2): digits only, capped at 2^31. `invalid` when it is malformed or
 * stated more than once with different values: such a response counts as stale (section 4.2.1).
 */
export function deltaSeconds(directives: Directives, name: string): DeltaSeconds {
  const args = directives.get(name);
  if (args === undefined) return undefined;
  let result: number | undefined;
  for (const argument of args) {
    if (argument === null || !/^[0-9]+$/.test(argument)) return "invalid";
    const seconds = argument.length > 10 ? DELTA_SECONDS_MAX : Math.min(Number(argument), DELTA_SECONDS_MAX);
    if (result !== undefined && result !== seconds) return "invalid";
    result = seconds;
  }
  return result;
}

/**
 * Field names that a qualified directive (`no-cache="a, b"`, `private="a"`) lists, lower case; undefined when the
 * directive is absent, `all` when it stands without a readable list (RFC 9111, sections 5.2.2.4 and 5.2.2.7).
 */
export function qualifiedFields(directives: Directives, name: string): "all" | readonly string[] | undefined {
  const args = directives.get(name);
  if (args === undefined) return undefined;
  const names: string[] = [];
  for (const argument of args) {
    if (argument === null) return "all";
    const listed = argument.split(",").map((one) => one.trim().toLowerCase());
    if (listed.length === 0 || !listed.every(isToken)) return "all";
    names.push(...listed);
  }
  return names;
}

/** Fields that speak to this cache before Cache-Control does, most specific first (RFC 9213, section 2). */
export const TARGETED_FIELDS = ["isochrone-cache-control", "cdn-cache-control"] as const;

/** Where the directives that govern a response came from. */
export type DirectiveSource = (typeof TARGETED_FIELDS)[number] | "surrogate-control" | "cache-control";

/** What may stand in a Dictionary of Structured Fields (RFC 9651, sections 3 and 4.2). */
const SF_KEY = "[a-z*][a-z0-9_\\-.*]*";
const SF_BARE_ITEMS = {
  number: "-?(?:[0-9]{1,12}\\.[0-9]{1,3}|[0-9]{1,15})",
  token: "[A-Za-z*][!#$%&'*+\\-.^_`|~0-9A-Za-z:/]*",
  string: '"(?:[ !#-[\\]-~]|\\\\["\\\\])*"',
  boolean: "\\?[01]",
  bytes: ":[A-Za-z0-9+/=]*:",
  date: "@-?[0-9]{1,15}",
  displayString: '%"(?:[ !#$&-~]|%[0-9a-f]{2})*"',
};
const SF_BARE_ITEM = Object.values(SF_BARE_ITEMS).join("|");
const SF_PARAMETERS = `(?:; *${SF_KEY}(?:=(?:${SF_BARE_ITEM}))?)*`;
const SF_INNER_LIST = `\\( *(?:(?:${SF_BARE_ITEM})${SF_PARAMETERS}(?: +|(?=\\))))*\\)`;
const SF_MEMBER = new RegExp(`^(${SF_KEY})(?:=(${SF_BARE_ITEM}|${SF_INNER_LIST}))?${SF_PARAMETERS}$`);

/**
 * A targeted field is a Structured Fields Dictionary (RFC 9213, section 2.1; RFC 9651): one that does not parse is
 * ignored whole, and so is one that is empty. Types count: an argument keeps the form that its type has, so that what is no
 * integer (max-age="60", max-age=1.5) is invalid for `deltaSeconds`. Parameters say nothing. The last of equal keys wins.
 */
function parseTargeted(lines: readonly string[]): Directives | undefined {
  const result = new Map<string, (string | null)[]>();
  const text = lines.join(",").trim();
  // An empty member between commas is a parse error in a dictionary.
  if (text === "" || /,\s*(,|$)/.test(text)) return undefined;
  for (const member of listMembers(text).slice(0, DIRECTIVES_MAX)) {
    const match = SF_MEMBER.exec(member);
    if (match === null) return undefined;
    const [, name = "", value = "?1"] = match;
    if (value === "?0") result.delete(name);
    else if (value === "?1") result.set(name, [null]);
    else if (value.startsWith('"') && !TIMES.test(name)) result.set(name, [unquote(value) ?? value]);
    else result.set(name, [value]);
  }
  return result.size === 0 ? undefined : result;
}

/** Directives whose argument is an integer (RFC 9111, section 5.2.2; RFC 5861): a string is none. */
const TIMES = /^(?:max-age|s-maxage|stale-)/;

/**
 * The directives that govern a response in this cache: the first targeted field that is there and valid, then
 * Surrogate-Control (W3C Edge Architecture, legacy), then Cache-Control. A valid targeted field replaces Cache-Control
 * and Expires altogether (RFC 9213, section 2.2).
 */
export function governingDirectives(fields: Fields): {
  readonly source: DirectiveSource;
  readonly directives: Directives;
} {
  for (const source of TARGETED_FIELDS) {
    const lines = fieldLines(fields, source);
    if (lines.length === 0) continue;
    const directives = parseTargeted(lines);
    if (directives !== undefined) return { source, directives };
  }
  const surrogate = fieldLines(fields, "surrogate-control");
  if (surrogate.length > 0) {
    const directives = parseSurrogate(surrogate);
    if (directives.size > 0) return { source: "surrogate-control", directives };
  }
  return { source: "cache-control", directives: cacheControl(fields) };
}

/**
 * Surrogate-Control (W3C Edge Architecture 1.0): members may carry `;target`, which names one surrogate; what is meant for another
 * is skipped. `max-age=60+30`: for 30 s more the stale answer may be served before it is validated.
 */
function parseSurrogate(lines: readonly string[]): Directives {
  const own = lines.flatMap((line) =>
    listMembers(line).flatMap((member) => {
      const [directive = "", target] = member.split(";");
      if (target !== undefined && target.trim() !== "isochrone") return [];
      const extended = /^max-age=([0-9]+)\+([0-9]+)$/i.exec(directive.trim());
      return extended === null
        ? [directive]
        : [`max-age=${extended[1]}`, `stale-while-revalidate=${extended[2]}`];
    }),
  );
  return parseDirectives(own);
}
