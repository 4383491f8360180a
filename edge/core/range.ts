/** Ranges of bytes (RFC 9110, section 14): what was asked, where it lies, what is worth sending. Sections are of RFC 9110. */
import type { EpochMs } from "#kit";
import { isDateAmbiguous } from "./compression/codable.ts";
import { type Fields, fieldLines } from "./headers.ts";
import { parseHttpDate } from "./http-date.ts";
import type { ExchangeTimes, RequestHead, ResponseHead } from "./messages.ts";
import { isNotModified, stronglyEqual } from "./validation.ts";

/** One range as it was asked, before the size is known. `suffix` counts from the end. */
export type ByteRange =
  | { readonly kind: "from"; readonly first: number; readonly last: number | undefined }
  | { readonly kind: "suffix"; readonly length: number };

/** First and last byte, inclusive. */
export interface ByteSpan {
  readonly first: number;
  readonly last: number;
}

/**
 * Ranges with a gap of fewer bytes between them are sent as one: a part of multipart/byteranges costs about as much
 * (section 15.3.7.2 names 80 bytes).
 */
const GAP_BYTES = 80;

/** Parts of one answer. Players and PDF readers ask for a handful; more is refused with 416 (section 15.5.17). */
export const RANGE_PARTS_MAX = 64;

/**
 * The ranges that a request asks for, in its order, never empty; undefined when Range is absent, of another unit or malformed:
 * then the whole representation is the answer (section 14.2). How many there may be is bounded by the header section alone.
 */
export function requestedRanges(fields: Fields): readonly ByteRange[] | undefined {
  const lines = fieldLines(fields, "range");
  const line = lines.length === 1 ? (lines[0] ?? "") : "";
  const unit = /^bytes=/i.exec(line);
  if (unit === null) return undefined;
  const ranges: ByteRange[] = [];
  for (const spec of line.slice(unit[0].length).split(",")) {
    const text = spec.trim();
    // Section 5.6.1.2: empty members of a list are ignored.
    if (text === "") continue;
    const match = /^([0-9]{0,15})-([0-9]{0,15})$/.exec(text);
    if (match === null) return undefined;
    const [, first = "", last = ""] = match;
    if (first === "") {
      if (last === "") return undefined;
      ranges.push({ kind: "suffix", length: Number(last) });
    } else {
      if (last !== "" && Number(last) < Number(first)) return undefined;
      ranges.push({ kind: "from", first: Number(first), last: last === "" ? undefined : Number(last) });
    }
  }
  return ranges.length === 0 ? undefined : ranges;
}

/** Where one range lies in `size` bytes; undefined when it cannot be satisfied (section 14.1.2). */
function spanOf(range: ByteRange, size: number): ByteSpan | undefined {
  if (range.kind === "suffix")
    return range.length === 0 || size === 0
      ? undefined
      : { first: Math.max(0, size - range.length), last: size - 1 };
  return range.first >= size
    ? undefined
    : { first: range.first, last: Math.min(range.last ?? size - 1, size - 1) };
}

/**
 * What is sent for ranges of `size` bytes: spans that neither overlap nor nearly touch, in the order in which their first
 * member was asked (section 15.3.7.2), so that whatever was asked no byte is sent, or fetched, twice. `unsatisfiable`: none
 * lies within, or more than {@link RANGE_PARTS_MAX} are left (section 14.2 allows to refuse them).
 */
export function resolveRanges(
  ranges: readonly ByteRange[],
  size: number,
): readonly ByteSpan[] | "unsatisfiable" {
  const placed = ranges.flatMap((range, order) => {
    const span = spanOf(range, size);
    return span === undefined ? [] : [{ ...span, order }];
  });
  placed.sort((a, b) => a.first - b.first || a.order - b.order);
  const merged: { first: number; last: number; order: number }[] = [];
  for (const span of placed) {
    const before = merged.at(-1);
    if (before !== undefined && span.first <= before.last + GAP_BYTES) {
      before.last = Math.max(before.last, span.last);
      before.order = Math.min(before.order, span.order);
    } else merged.push({ ...span });
  }
  if (merged.length === 0 || merged.length > RANGE_PARTS_MAX) return "unsatisfiable";
  merged.sort((a, b) => a.order - b.order);
  return merged.map(({ first, last }) => ({ first, last }));
}

/** Whether If-Range, if there is one, lets the range apply (section 13.1.5): strong tag or exact date. */
export function ifRangeHolds(fields: Fields, stored: ResponseHead, now: EpochMs): boolean {
  const lines = fieldLines(fields, "if-range");
  if (lines.length === 0) return true;
  const value = (lines[0] ?? "").trim();
  if (lines.length > 1) return false;
  if (value.startsWith('"') || value.startsWith("W/")) {
    const etag = fieldLines(stored.fields, "etag")[0];
    return etag !== undefined && stronglyEqual(value, etag);
  }
  if (isDateAmbiguous(fields, stored)) return false;
  const lastModified = fieldLines(stored.fields, "last-modified")[0];
  // Section 8.8.2.2: a date is a strong validator only when it is clearly older than the response.
  const modifiedAt = lastModified === undefined ? undefined : parseHttpDate(lastModified, now);
  const dateLine = fieldLines(stored.fields, "date")[0];
  const date = dateLine === undefined ? undefined : parseHttpDate(dateLine, now);
  if (modifiedAt === undefined || (date !== undefined && date - modifiedAt < 1_000)) return false;
  return value === lastModified;
}

/** What of a stored response's content answers a request. */
export type Selection =
  /** 304: the client has it already (RFC 9111, section 4.3.2). */
  | { readonly kind: "not-modified" }
  | { readonly kind: "whole" }
  /** 206 with one or several parts, never none. */
  | { readonly kind: "spans"; readonly spans: readonly ByteSpan[] }
  /** 416. */
  | { readonly kind: "unsatisfiable" };

const NOT_MODIFIED: Selection = { kind: "not-modified" };
const WHOLE: Selection = { kind: "whole" };
const UNSATISFIABLE: Selection = { kind: "unsatisfiable" };

/**
 * Selects the content for a request from a stored response of `totalBytes` (undefined: still arriving, of unstated length).
 * Conditions come before ranges (section 13.2.2); a range has a meaning for GET of a 200 alone (section 14.2). What is
 * still arriving (`isSeekable` false) is read once from its beginning, so that several ranges of it get the whole.
 */
export function selectContent(
  request: RequestHead,
  stored: ResponseHead & ExchangeTimes,
  totalBytes: number | undefined,
  isSeekable: boolean,
  now: EpochMs,
): Selection {
  if (isNotModified(request.fields, stored, now)) return NOT_MODIFIED;
  if (request.method !== "GET" || stored.status !== 200 || totalBytes === undefined) return WHOLE;
  const ranges = requestedRanges(request.fields);
  if (ranges === undefined || !ifRangeHolds(request.fields, stored, now)) return WHOLE;
  const spans = resolveRanges(ranges, totalBytes);
  if (spans === "unsatisfiable") return UNSATISFIABLE;
  return spans.length > 1 && !isSeekable ? WHOLE : { kind: "spans", spans };
}

/** Content-Range of a 206 (section 14.4). */
export function contentRange(span: ByteSpan, size: number): string {
  return `bytes ${span.first}-${span.last}/${size}`;
}

/** A Content-Range that states where its content lies in a representation of known length; undefined for any other. */
export function parseContentRange(
  value: string,
): { readonly first: number; readonly last: number; readonly totalBytes: number } | undefined {
  const match = /^bytes[ \t]+([0-9]{1,15})-([0-9]{1,15})\/([0-9]{1,15})$/i.exec(value.trim());
  if (match === null) return undefined;
  const [first, last, totalBytes] = [Number(match[1]), Number(match[2]), Number(match[3])];
  return first <= last && last < totalBytes ? { first, last, totalBytes } : undefined;
}
