/** Variants of one URI (RFC 9111, section 4.1; RFC 9110, section 12.5.5). */
import { type Fields, fieldLines, isToken } from "./headers.ts";
import type { StoredHead } from "./messages.ts";

/** Field names that one Vary may nominate; more counts as "*": a key of unbounded width serves nobody twice. */
export const NOMINATED_FIELDS_MAX = 16;

/** Stored variants of one URI; the least recently stored goes first. Bounds what a hostile `Vary: Cookie` can hold. */
export const VARIANTS_MAX = 32;

/** Fields that the origin sees with a value of ours, not the request's: what varies by them cannot be told apart here. */
const STATED_HERE: ReadonlySet<string> = new Set(["x-forwarded-for", "via", "cdn-loop"]);

/**
 * The lower-case field names that Vary nominates, sorted, unique; "any" for "*", for more than
 * {@link NOMINATED_FIELDS_MAX}, and for members that are no field names: what cannot be understood may vary by anything.
 */
export function nominatedFields(fields: Fields): "any" | readonly string[] {
  const lines = fieldLines(fields, "vary");
  if (lines.length === 0) return NONE;
  const names = new Set<string>();
  for (const line of lines) {
    for (const member of line.split(",")) {
      const name = member.trim().toLowerCase();
      if (name === "") continue;
      if (name === "*" || !isToken(name) || STATED_HERE.has(name)) return "any";
      names.add(name);
      if (names.size > NOMINATED_FIELDS_MAX) return "any";
    }
  }
  return [...names].sort();
}
const NONE: readonly string[] = [];

/**
 * A request's normalised value of a nominated field, null when absent. Lines are combined and the white space around
 * commas is removed: both change nothing for any list. Nothing else is folded that could matter (RFC 9111, section 4.1).
 */
export function nominatedValue(fields: Fields, name: string): string | null {
  const lines = fieldLines(fields, name);
  if (lines.length === 0) return null;
  const members = lines
    .join(",")
    .split(",")
    .map((member) => member.trim());
  // RFC 9110, sections 12.5.3 and 12.5.4: these lists are without case, and their order says nothing: preference is q's.
  if (name === "accept-language" || name === "accept-encoding")
    return members
      .map((member) => member.toLowerCase())
      .sort()
      .join(",");
  return members.join(",");
}

/** The values of all nominated fields, in the order of `names`. */
export function nominatedValues(fields: Fields, names: readonly string[]): readonly (string | null)[] {
  return names.map((name) => nominatedValue(fields, name));
}

/** Whether a stored response's nominated fields match those of a presented request (RFC 9111, section 4.1). */
export function matchesVariant(stored: StoredHead, requestFields: Fields): boolean {
  return stored.nominatedFields.every(
    (name, index) => nominatedValue(requestFields, name) === stored.nominatedValues[index],
  );
}

/**
 * The one language that a request prefers before all others, lower case: that of the highest weight in Accept-Language (RFC 9110,
 * sections 12.4.2 and 12.5.4). Undefined: several share it, it is "*", or the field cannot be read.
 */
export function preferredLanguage(fields: Fields): string | undefined {
  const lines = fieldLines(fields, "accept-language");
  let best = 0;
  let preferred: string | undefined;
  for (const member of lines.flatMap((line) => line.split(","))) {
    if (member.trim() === "") continue;
    const match =
      /^\s*(\*|[a-z]{1,8}(?:-[a-z0-9]{1,8})*)\s*(?:;\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?$/i.exec(
        member,
      );
    if (match === null) return undefined;
    const weight = match[2] === undefined ? 1 : Number(match[2]);
    if (weight > best) [best, preferred] = [weight, match[1]?.toLowerCase()];
    else if (weight === best) preferred = undefined;
  }
  return preferred === "*" ? undefined : preferred;
}

/**
 * Whether a stored response is in the very language that a request prefers, and was selected by Accept-Language alone: an origin
 * that has it and negotiates would answer with it, whatever else the field lists (RFC 9111, section 4.1: matching by what the
 * specification of the field says).
 */
function isInPreferredLanguage(stored: StoredHead, preferred: string): boolean {
  if (stored.nominatedFields.length !== 1 || stored.nominatedFields[0] !== "accept-language") return false;
  const lines = fieldLines(stored.fields, "content-language");
  return lines.length === 1 && lines[0]?.trim().toLowerCase() === preferred;
}

/** The newest by response time (RFC 9111, section 4: "the most recent"), the later in the list among equals. */
function newest<T extends StoredHead>(variants: readonly T[]): T | undefined {
  let selected: T | undefined;
  for (const variant of variants)
    if (selected === undefined || variant.responseTime >= selected.responseTime) selected = variant;
  return selected;
}

/**
 * The variant to answer with: the newest of those that were selected by the same values, else of those that are in the language
 * which the request prefers. Undefined when none matches.
 */
export function selectVariant<T extends StoredHead>(
  variants: readonly T[],
  requestFields: Fields,
): T | undefined {
  const same = newest(variants.filter((variant) => matchesVariant(variant, requestFields)));
  if (same !== undefined || variants.length === 0) return same;
  const preferred = preferredLanguage(requestFields);
  return preferred === undefined
    ? undefined
    : newest(variants.filter((variant) => isInPreferredLanguage(variant, preferred)));
}

/** Whether two stored responses were selected by the same nominated fields and values: the newer replaces the older. */
export function isSameVariant(a: StoredHead, b: StoredHead): boolean {
  return (
    a.nominatedFields.length === b.nominatedFields.length &&
    a.nominatedFields.every((name, index) => name === b.nominatedFields[index]) &&
    a.nominatedValues.every((value, index) => value === b.nominatedValues[index])
  );
}
