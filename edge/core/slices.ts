/**
 * Large objects in slices. The stored response under the cache key is a head without content; its content lies in slices of
 * equal length, each stored under a key of its own, all tied to one strong validator (RFC 9110, section 15.3.7.3), so that
 * bytes of two versions can never be mixed. What is asked of the next hop are whole slices, whatever a client asks.
 */
import { type EpochMs, xxh64Hex } from "#kit";
import type { CacheKey } from "./cache-key.ts";
import { dateValue } from "./freshness.ts";
import { type Fields, fieldLines, fieldValue } from "./headers.ts";
import { parseHttpDate } from "./http-date.ts";
import type { ResponseHead, SlicedContent, StoredHead } from "./messages.ts";
import { type PartOpening, partRange } from "./parts.ts";
import { type ByteRange, type ByteSpan, parseContentRange } from "./range.ts";
import { ENTITY_TAG } from "./validation.ts";

/**
 * Which slice is asked for first when nothing is known of an object but its key: `at` a place, or the `last`, for a range
 * that counts from the end.
 */
export type SliceOpening =
  | { readonly kind: "at"; readonly index: number; readonly sliceBytes: number }
  | { readonly kind: "last"; readonly sliceBytes: number };

/** The stored head of a sliced object. */
export type SlicedHead = StoredHead & { readonly sliced: SlicedContent };

export function isSliced<T extends StoredHead>(head: T): head is T & { readonly sliced: SlicedContent } {
  return head.sliced !== null;
}

/** Length of the content that a stored response stands for, whether it has it itself, in slices or in part. */
export function contentBytes(stored: StoredHead & { readonly body: { readonly bytes: number } }): number {
  return stored.sliced?.totalBytes ?? stored.part?.totalBytes ?? stored.body.bytes;
}

/** Smallest slice that is worth a request, bytes. */
const SLICE_BYTES_MIN = 4_096;

/** The slice length for a store that keeps objects up to `objectBytesMax`: the setting, halved until one fits. */
export function sliceBytesFor(settingBytes: number, objectBytesMax: number): number {
  let bytes = settingBytes;
  while (bytes > objectBytesMax && bytes > SLICE_BYTES_MIN) bytes = Math.floor(bytes / 2);
  return bytes;
}

/**
 * The opening for ranges: where one counts from the end, the end, which every object has; else the lowest, since when that lies
 * beyond the end all of them do, and the next hop's 416 is the answer.
 */
export function openingFor(ranges: readonly ByteRange[], sliceBytes: number): SliceOpening {
  let lowest = Number.POSITIVE_INFINITY;
  for (const range of ranges) {
    if (range.kind === "suffix") return { kind: "last", sliceBytes };
    lowest = Math.min(lowest, range.first);
  }
  return { kind: "at", index: Math.floor(lowest / sliceBytes), sliceBytes };
}

/** What is asked for in place of the whole. */
export type Opening = SliceOpening | PartOpening;

export function isSliceOpening(opening: Opening): opening is SliceOpening {
  return opening.kind === "at" || opening.kind === "last";
}

/** The Range that an opening asks for. `last` is a suffix of one slice's length: the last slice always lies within. */
export function openingRange(opening: Opening): string {
  if (!isSliceOpening(opening)) return partRange(opening);
  if (opening.kind === "last") return `bytes=-${opening.sliceBytes}`;
  const first = opening.index * opening.sliceBytes;
  return `bytes=${first}-${first + opening.sliceBytes - 1}`;
}

/**
 * Last-Modified must be older than Date by so much to be a strong validator, ms: RFC 9110, section 8.8.2.2 asks for at least
 * a second, and for more where the clocks may differ.
 */
const DATE_MARGIN_MS = 60_000;

/**
 * The strong validator of a response (RFC 9110, sections 8.8.1 to 8.8.3): its entity tag when that is strong; without any
 * entity tag its Last-Modified when that is strong. Undefined: two parts of it could not be told to belong together.
 */
export function strongValidator(response: ResponseHead, responseTime: EpochMs): string | undefined {
  const etags = fieldLines(response.fields, "etag");
  if (etags.length > 0) {
    const etag = etags[0]?.trim() ?? "";
    return etags.length === 1 && etag.startsWith('"') && ENTITY_TAG.test(etag) ? etag : undefined;
  }
  const lines = fieldLines(response.fields, "last-modified");
  const lastModified = lines.length === 1 ? lines[0]?.trim() : undefined;
  if (lastModified === undefined) return undefined;
  const modifiedAt = parseHttpDate(lastModified, responseTime);
  if (modifiedAt === undefined) return undefined;
  return dateValue(response, responseTime) - modifiedAt >= DATE_MARGIN_MS ? lastModified : undefined;
}

/** Whether a response carries `validator`: its entity tag, or its Last-Modified where the validator is a date. */
function carries(response: ResponseHead, validator: string): boolean {
  const lines = fieldLines(response.fields, validator.startsWith('"') ? "etag" : "last-modified");
  return lines.length === 1 && lines[0]?.trim() === validator;
}

/** Why a 206 does not make an object of slices; closed. */
export type NotSlicedReason = "no-validator" | "unknown-length" | "other-range";

/**
 * What a 206 to an opening says of the whole object, or why it cannot be used. `whole`: the part is all there is, and then
 * it needs no validator (RFC 9111, section 3.3: a response is complete when all of it is there).
 */
export function judgeOpening(
  opening: SliceOpening,
  response: ResponseHead,
  contentLength: number | undefined,
  responseTime: EpochMs,
):
  | { readonly kind: "whole"; readonly totalBytes: number }
  | { readonly kind: "sliced"; readonly sliced: SlicedContent; readonly span: ByteSpan }
  | { readonly kind: "refused"; readonly reason: NotSlicedReason } {
  const { sliceBytes } = opening;
  const range = parseContentRange(fieldValue(response.fields, "content-range") ?? "");
  if (range === undefined) return { kind: "refused", reason: "unknown-length" };
  const { first, last, totalBytes } = range;
  if (contentLength !== undefined && contentLength !== last - first + 1)
    return { kind: "refused", reason: "other-range" };
  if (first === 0 && last === totalBytes - 1 && totalBytes <= sliceBytes)
    return { kind: "whole", totalBytes };
  const wantedFirst =
    opening.kind === "at" ? opening.index * sliceBytes : Math.max(0, totalBytes - sliceBytes);
  const wantedLast = Math.min(wantedFirst + sliceBytes, totalBytes) - 1;
  if (first !== wantedFirst || last !== wantedLast) return { kind: "refused", reason: "other-range" };
  const validator = strongValidator(response, responseTime);
  if (validator === undefined) return { kind: "refused", reason: "no-validator" };
  return { kind: "sliced", sliced: { totalBytes, sliceBytes, validator }, span: { first, last } };
}

/** A 206's fields as the 200 would have had them: Content-Range speaks of the part (RFC 9110, section 15.3.7). */
export function fieldsOfWhole(fields: Fields): Fields {
  return fields.filter(([name]) => name.toLowerCase() !== "content-range");
}

/** What an answer to the request for one slice means. */
export type SliceVerdict =
  | "ok"
  /** The object is another one now, or gone: the head that named the slice is out of date. */
  | "changed"
  /** The next hop has no ranges after all: it answered with the whole. */
  | "rangeless"
  /** Neither the slice nor news of the object: refused or failed. */
  | "failed";

/**
 * Judges the answer to the request for slice `index`. Only a 206 of exactly that slice with the very validator counts (RFC
 * 9110, section 15.3.7.3). Slices are asked for without If-Range: for an object that has changed it would turn one slice of
 * the new version into all of it.
 */
export function judgeSlice(
  sliced: SlicedContent,
  index: number,
  response: ResponseHead,
  contentLength: number | undefined,
): SliceVerdict {
  if (response.status === 200) return carries(response, sliced.validator) ? "rangeless" : "changed";
  if (response.status === 206) {
    const range = parseContentRange(fieldValue(response.fields, "content-range") ?? "");
    const span = sliceSpan(sliced, index);
    if (!carries(response, sliced.validator) || range?.totalBytes !== sliced.totalBytes) return "changed";
    const isExact =
      range.first === span.first &&
      range.last === span.last &&
      (contentLength === undefined || contentLength === span.last - span.first + 1);
    return isExact ? "ok" : "failed";
  }
  return GONE.has(response.status) ? "changed" : "failed";
}

const GONE: ReadonlySet<number> = new Set([404, 410, 416]);

/** First and last byte of a slice in the object. */
export function sliceSpan(sliced: SlicedContent, index: number): ByteSpan {
  const first = index * sliced.sliceBytes;
  return { first, last: Math.min(first + sliced.sliceBytes, sliced.totalBytes) - 1 };
}

/** The numbers of the slices that spans touch, ascending, each once. */
export function sliceIndices(sliced: SlicedContent, spans: readonly ByteSpan[]): readonly number[] {
  const indices = new Set<number>();
  for (const { first, last } of spans)
    for (let at = Math.floor(first / sliced.sliceBytes); at <= Math.floor(last / sliced.sliceBytes); at++)
      indices.add(at);
  return [...indices].sort((a, b) => a - b);
}

/**
 * Slices to ask for while slice `index` is read: those after it that belong to the span, `aheadMax` when the client said
 * where it ends, else as many as it has read already, since a player that says "from here on" often leaves at once.
 */
export function readAhead(
  sliced: SlicedContent,
  index: number,
  span: ByteSpan,
  isEndStated: boolean,
  slicesRead: number,
  aheadMax: number,
): readonly number[] {
  const lastIndex = Math.floor(span.last / sliced.sliceBytes);
  const count = Math.min(isEndStated ? aheadMax : Math.min(aheadMax, slicesRead), lastIndex - index);
  return Array.from({ length: Math.max(0, count) }, (_, offset) => index + 1 + offset);
}

/** No URI holds it, so that no request's key is a slice's. */
const SEPARATOR = "\n";

/** What the keys of an object's slices have in common: its key, lengths, validator and variant. */
export function sliceSetKey(key: CacheKey, head: SlicedHead): string {
  const { totalBytes, sliceBytes, validator } = head.sliced;
  // A date may be the same for variants of one URI that differ.
  const variant =
    head.nominatedFields.length === 0
      ? ""
      : xxh64Hex(JSON.stringify([head.nominatedFields, head.nominatedValues]));
  return [key, totalBytes, sliceBytes, variant, validator].join(SEPARATOR);
}

/** The key under which a slice is stored. */
export function sliceKey(setKey: string, index: number): CacheKey {
  return `${setKey}${SEPARATOR}${index}` as CacheKey;
}

/** The cache key of the request that a stored key belongs to: of a slice its object's, else itself. */
export function requestKeyOf(storedKey: CacheKey): CacheKey {
  const end = storedKey.indexOf(SEPARATOR);
  return end === -1 ? storedKey : (storedKey.slice(0, end) as CacheKey);
}
