/** What may be sent in another coding than it is stored in, and what its fields then say. Sections are of RFC 9110 unless said. */
import { cacheControl } from "../cache-control.ts";
import { type Field, type Fields, fieldLines, hasField } from "../headers.ts";
import type { ResponseHead, StoredHead } from "../messages.ts";
import { CODINGS, type Coding, type DictionaryCoding } from "./accept-encoding.ts";

/** Why a stored response is sent as it is to everybody. */
export type NotCodedReason = "status" | "no-transform" | "type" | "size" | "coding" | "secret";

/** A shorter one fits in a packet with its head: nothing is gained, and the fields that tell of a coding take 40 bytes, bytes. */
const CODED_BYTES_MIN = 256;

/**
 * Types that become smaller, without parameters: text, and what is text by another name. Images, audio, video, archives and WOFF are
 * coded already. An event stream is text that must not wait.
 */
const COMPRESSIBLE =
  /^(?:text\/(?!event-stream$)[a-z0-9.+-]+|[a-z]+\/[a-z0-9.-]+\+(?:json|xml|text|yaml)|application\/(?:javascript|x-javascript|ecmascript|json|xml|wasm|manifest|graphql|yaml|toml|rtf|x-ndjson|x-httpd-php|vnd\.ms-fontobject|x-font-(?:ttf|opentype|truetype)|vnd\.apple\.mpegurl|x-mpegurl)|font\/(?:ttf|otf|collection)|image\/(?:bmp|x-icon|vnd\.microsoft\.icon))$/;

/** Whether content of this response becomes smaller by its type. */
export function isCompressible(fields: Fields): boolean {
  const type = fieldLines(fields, "content-type")[0]?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  return COMPRESSIBLE.test(type);
}

/** The coding that content came in; "other": one that is not known here, or several on top of each other (section 8.4). */
export function codingOf(fields: Fields): Coding | "identity" | "other" {
  const value = fieldLines(fields, "content-encoding").join(",").trim().toLowerCase();
  if (value === "" || value === "identity") return "identity";
  const name = value === "x-gzip" ? "gzip" : value;
  return CODINGS.find((coding) => coding === name) ?? "other";
}

/**
 * Whether a stored response may be sent in several codings; undefined: yes. `totalBytes` undefined: not known yet.
 *
 * What is compressed tells by its length whether a guess stands beside a secret (BREACH, CRIME): so nothing is coded here but what is
 * stored for everybody, and of that nothing that sets a cookie or was made for one cookie or one user: it may hold a secret of theirs.
 */
export function notCodedReason(
  head: Pick<StoredHead, "status" | "fields" | "nominatedFields">,
  totalBytes: number | undefined,
): NotCodedReason | undefined {
  if (head.status !== 200) return "status";
  if (!isCompressible(head.fields)) return "type";
  if (totalBytes !== undefined && totalBytes < CODED_BYTES_MIN) return "size";
  if (codingOf(head.fields) === "other") return "coding";
  // Section 7.7: a proxy must not transform content whose response says so.
  if (cacheControl(head.fields).has("no-transform")) return "no-transform";
  if (
    hasField(head.fields, "set-cookie") ||
    head.nominatedFields.some((name) => name === "cookie" || name === "authorization")
  )
    return "secret";
  return undefined;
}

/** Speak of the bytes of one representation (RFC 9530; RFC 3230; RFC 1864), or of its ranges, which a coded one is not asked for by. */
const OF_ONE_REPRESENTATION: ReadonlySet<string> = new Set([
  "content-encoding",
  "content-md5",
  "content-digest",
  "repr-digest",
  "digest",
  "accept-ranges",
]);

/**
 * Fields of a response in another coding than it came in. A strong validator would say that the bytes are the same (section 8.8.1): the
 * entity tag becomes weak, so that conditions still match and no range is ever put together from two codings.
 */
export function recodedFields(fields: Fields, coding: Coding | DictionaryCoding | "identity"): Fields {
  const kept = fields.flatMap(([name, value]): readonly Field[] => {
    const lower = name.toLowerCase();
    if (OF_ONE_REPRESENTATION.has(lower)) return [];
    return [[name, lower === "etag" ? weakTag(value) : value]];
  });
  return coding === "identity" ? kept : [...kept, ["Content-Encoding", coding]];
}

/** The weak form of an entity tag (section 8.8.3). */
function weakTag(tag: string): string {
  return tag.startsWith('"') ? `W/${tag}` : tag;
}

/** Fields whose entity tag is weak: of a 304 that stands for a coded answer. */
export function weakened(fields: Fields): Fields {
  return fields.map(([name, value]) => [name, name.toLowerCase() === "etag" ? weakTag(value) : value]);
}

/** Fields with `names` among what Vary nominates (section 12.5.5); in the last line that there is. */
export function varying(fields: Fields, names: readonly string[]): Fields {
  const present = new Set(
    fieldLines(fields, "vary").flatMap((line) => line.split(",").map((name) => name.trim().toLowerCase())),
  );
  const missing = present.has("*") ? [] : names.filter((name) => !present.has(name.toLowerCase()));
  if (missing.length === 0) return fields;
  const last = fields.findLastIndex(([name]) => name.toLowerCase() === "vary");
  const added = missing.join(", ");
  if (last === -1) return [...fields, ["Vary", added]];
  return fields.map((field, index) => (index === last ? [field[0], `${field[1]}, ${added}`] : field));
}

/**
 * Whether Last-Modified may stand for several representations of one resource at once: of text that a client takes coded. Then a date
 * does not tell whether two parts belong together (section 8.8.2.2).
 */
export function isDateAmbiguous(requestFields: Fields, stored: ResponseHead): boolean {
  return hasField(requestFields, "accept-encoding") && isCompressible(stored.fields);
}
