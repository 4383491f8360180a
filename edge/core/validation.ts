/** Conditional requests: answering a client's, making our own, and freshening by a 304 (RFC 9110, 13; RFC 9111, 4.3). */
import type { EpochMs } from "#kit";
import { type Field, type Fields, fieldLines, fieldValue, hasField, withoutFields } from "./headers.ts";
import { formatHttpDate, parseHttpDate } from "./http-date.ts";
import type { ExchangeTimes, ResponseHead, StoredHead } from "./messages.ts";

/** Fields that make a request conditional. */
export const CONDITIONAL_FIELDS: ReadonlySet<string> = new Set([
  "if-match",
  "if-none-match",
  "if-modified-since",
  "if-unmodified-since",
  "if-range",
]);

/** What is left out where an answer must not depend on what one client has: its conditions and its range. */
export const UNCONDITIONAL: ReadonlySet<string> = new Set([...CONDITIONAL_FIELDS, "range"]);

/** Entity tags of a list, as they stand; a tag may hold a comma, so splitting goes by the quotes (RFC 9110, 8.8.3). */
export function entityTags(value: string): readonly string[] {
  return value.match(/(?:W\/)?"[^"]*"|[^\s,]+/g) ?? [];
}

/** Weak comparison (RFC 9110, section 8.8.3.2). */
export function weaklyEqual(a: string, b: string): boolean {
  return a.replace(/^W\//, "") === b.replace(/^W\//, "");
}

function isWeak(tag: string): boolean {
  return tag.startsWith("W/");
}

/** Strong comparison (RFC 9110, section 8.8.3.2): equal and neither weak. */
export function stronglyEqual(a: string, b: string): boolean {
  return a === b && a.startsWith('"');
}

/**
 * Whether a stored response answers a client's conditional GET or HEAD with 304 (RFC 9111, section 4.3.2). If-None-Match
 * comes first, and then If-Modified-Since is not looked at (RFC 9110, section 13.2.2). Without Last-Modified, Date or the
 * arrival is compared. A malformed date is ignored.
 */
export function isNotModified(
  requestFields: Fields,
  stored: ResponseHead & ExchangeTimes,
  now: EpochMs,
): boolean {
  if (stored.status !== 200) return false;
  const ifNoneMatch = fieldValue(requestFields, "if-none-match");
  if (ifNoneMatch !== undefined) {
    if (ifNoneMatch.trim() === "*") return true;
    const etag = fieldLines(stored.fields, "etag")[0];
    return etag !== undefined && entityTags(ifNoneMatch).some((tag) => weaklyEqual(tag, etag));
  }
  const lines = fieldLines(requestFields, "if-modified-since");
  const since = lines.length === 1 ? parseHttpDate(lines[0] ?? "", now) : undefined;
  if (since === undefined) return false;
  const modified = fieldLines(stored.fields, "last-modified")[0] ?? fieldLines(stored.fields, "date")[0];
  const modifiedAt =
    (modified === undefined ? undefined : parseHttpDate(modified, now)) ?? stored.responseTime;
  return modifiedAt <= since;
}

/** Whether a request carries a condition that only the origin may evaluate (RFC 9111, section 4.3.2). */
export function hasOriginOnlyCondition(requestFields: Fields): boolean {
  return hasField(requestFields, "if-match") || hasField(requestFields, "if-unmodified-since");
}

/**
 * The conditional fields that validate a stored response upstream (RFC 9111, section 4.3.1): every validator it has, as
 * it was received. Empty: it has none, and the request goes out unconditionally.
 */
export function validatingFields(stored: ResponseHead): Fields {
  const fields: Field[] = [];
  const etag = fieldLines(stored.fields, "etag")[0];
  if (etag !== undefined) fields.push(["If-None-Match", etag]);
  const lastModified = fieldLines(stored.fields, "last-modified")[0];
  if (lastModified !== undefined) fields.push(["If-Modified-Since", lastModified]);
  return fields;
}

/** RFC 9110, section 8.8.3: an entity tag is quoted; what is not validates nothing. */
export const ENTITY_TAG = /^(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"$/;

/**
 * What a 304 to our own validation does with the stored response: `update` it by its fields, or only `reuse` it, or `none`:
 * it speaks of another one.
 *
 * RFC 9111, section 4.3.4: a strong validator in the 304 updates what has the same strong one and nothing else; a weak one what
 * it corresponds to; a Last-Modified alone likewise. With no validator in it, it answers our own request (RFC 9110, section
 * 15.4.5, lets a server leave Last-Modified out).
 *
 * Where nothing may be updated the 304 still says that the condition was false (RFC 9110, section 13.1.2). If the stored tag was
 * all that it asked about, then the tag matched and the content is validated, whatever the 304 calls it: an origin that adds a
 * suffix for the coding, or makes the tag weak only where it compresses. Where a date was asked about too, it may be the date that
 * matched, and the content another.
 */
export function selectedBy(notModified: ResponseHead, stored: ResponseHead): "update" | "reuse" | "none" {
  const tag = fieldLines(notModified.fields, "etag")[0];
  const storedTag = fieldLines(stored.fields, "etag")[0];
  const storedLastModified = fieldLines(stored.fields, "last-modified")[0];
  if (tag !== undefined && ENTITY_TAG.test(tag)) {
    if (storedTag === undefined) return "none";
    if (weaklyEqual(tag, storedTag)) return isWeak(tag) || !isWeak(storedTag) ? "update" : "reuse";
    return storedLastModified === undefined ? "reuse" : "none";
  }
  const lastModified = fieldLines(notModified.fields, "last-modified")[0];
  if (lastModified === undefined || lastModified === storedLastModified) return "update";
  return storedLastModified === undefined ? "reuse" : "none";
}

/** Fields that describe the stored content and stay whatever a 304 says (RFC 9111, section 3.2; RFC 9110, section 15.4.5). */
const NOT_UPDATED: ReadonlySet<string> = new Set([
  "content-encoding",
  "content-length",
  "content-location-length",
  "content-md5",
  "content-range",
]);

/** Age belongs to the message that carried it: the stored one's must not outlive its validation (RFC 9111, section 5.1). */
const REPLACED_ALWAYS: ReadonlySet<string> = new Set(["age", "date", "cache-status"]);

/**
 * Header fields of a stored response after a 304 or a matching HEAD (RFC 9111, section 3.2): the newer lines replace. The entity
 * tag that came with the content stays its name.
 */
export function updatedFields(stored: Fields, newer: Fields): Fields {
  const replaced = new Set(REPLACED_ALWAYS);
  const hasTag = hasField(stored, "etag");
  const updates = newer.filter(([name]) => {
    const lower = name.toLowerCase();
    return !NOT_UPDATED.has(lower) && !(hasTag && lower === "etag");
  });
  for (const [name] of updates) replaced.add(name.toLowerCase());
  return [...withoutFields(stored, replaced), ...updates];
}

/**
 * The stored response freshened (RFC 9111, section 4.3.4): the fields of `newer`, new times, no longer invalidated. Without
 * `newer` it keeps its own fields but for the time: its age counts from when it was generated or validated (section 4.2.3).
 */
export function freshen(
  stored: StoredHead,
  newer: ResponseHead | undefined,
  times: ExchangeTimes,
  generation: number,
): StoredHead {
  const updates = newer?.fields ?? [["Date", formatHttpDate(times.responseTime)] as const];
  return {
    ...stored,
    fields: updatedFields(stored.fields, updates),
    requestTime: times.requestTime,
    responseTime: times.responseTime,
    generation,
    isInvalidated: false,
  };
}

/**
 * RFC 9111, section 4.3.5: whether the answer to a HEAD shows that the stored GET response is still the present one: each
 * of ETag, Last-Modified and Content-Length that it carries is equal.
 */
export function headMatches(stored: ResponseHead, head: ResponseHead, storedBodyBytes: number): boolean {
  for (const name of ["etag", "last-modified"]) {
    const value = fieldLines(head.fields, name)[0];
    if (value !== undefined && value !== fieldLines(stored.fields, name)[0]) return false;
  }
  const length = fieldLines(head.fields, "content-length")[0];
  return length === undefined || Number(length) === storedBodyBytes;
}

/** Fields of a 304 (RFC 9110, section 15.4.5): those that a 200 would have carried and that a cache needs. */
const NOT_MODIFIED_FIELDS: ReadonlySet<string> = new Set([
  "cache-control",
  "cdn-cache-control",
  "isochrone-cache-control",
  "surrogate-control",
  "content-location",
  "date",
  "etag",
  "expires",
  "last-modified",
  "vary",
]);

/** The stored fields that go into a 304 for the client. */
export function notModifiedFields(stored: Fields): Fields {
  return stored.filter(([name]) => NOT_MODIFIED_FIELDS.has(name.toLowerCase()));
}
