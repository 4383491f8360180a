/** Ranges of bytes (RFC 9110, section 14), answered from a whole stored object. */
import type { EpochMs } from "#kit";
import { type Fields, fieldLines } from "./headers.ts";
import { parseHttpDate } from "./http-date.ts";
import type { ResponseHead } from "./messages.ts";
import { stronglyEqual } from "./validation.ts";

/** One range as it was asked, before the size is known. `suffix` counts from the end. */
export type ByteRange =
  | { readonly kind: "from"; readonly first: number; readonly last: number | undefined }
  | { readonly kind: "suffix"; readonly length: number };

/**
 * The one range that a request asks for; undefined when Range is absent, of another unit, malformed or of several ranges:
 * then the whole representation is the answer, as RFC 9110, section 14.2 allows for each.
 */
export function requestedRange(fields: Fields): ByteRange | undefined {
  const lines = fieldLines(fields, "range");
  if (lines.length !== 1) return undefined;
  const match = /^bytes=[ \t]*([0-9]{0,15})-([0-9]{0,15})[ \t]*$/i.exec(lines[0] ?? "");
  if (!match) return undefined;
  const [, first = "", last = ""] = match;
  if (first === "") return last === "" ? undefined : { kind: "suffix", length: Number(last) };
  if (last !== "" && Number(last) < Number(first)) return undefined;
  return { kind: "from", first: Number(first), last: last === "" ? undefined : Number(last) };
}

/** First and last byte, inclusive. */
export interface ByteSpan {
  readonly first: number;
  readonly last: number;
}

/** Where a range lies in `size` bytes, or unsatisfiable (RFC 9110, section 14.1.2). */
export function resolveRange(range: ByteRange, size: number): ByteSpan | "unsatisfiable" {
  if (range.kind === "suffix") {
    if (range.length === 0 || size === 0) return "unsatisfiable";
    return { first: Math.max(0, size - range.length), last: size - 1 };
  }
  if (range.first >= size) return "unsatisfiable";
  return { first: range.first, last: Math.min(range.last ?? size - 1, size - 1) };
}

/** Whether If-Range, if there is one, lets the range apply (RFC 9110, section 13.1.5): strong tag or exact date. */
export function ifRangeHolds(fields: Fields, stored: ResponseHead, now: EpochMs): boolean {
  const lines = fieldLines(fields, "if-range");
  if (lines.length === 0) return true;
  const value = (lines[0] ?? "").trim();
  if (lines.length > 1) return false;
  if (value.startsWith('"') || value.startsWith("W/")) {
    const etag = fieldLines(stored.fields, "etag")[0];
    return etag !== undefined && stronglyEqual(value, etag);
  }
  const lastModified = fieldLines(stored.fields, "last-modified")[0];
  // Section 8.8.2.2: a date is a strong validator only when it is clearly older than the response.
  const modifiedAt = lastModified === undefined ? undefined : parseHttpDate(lastModified, now);
  const dateLine = fieldLines(stored.fields, "date")[0];
  const date = dateLine === undefined ? undefined : parseHttpDate(dateLine, now);
  if (modifiedAt === undefined || (date !== undefined && date - modifiedAt < 1_000)) return false;
  return value === lastModified;
}

/** Content-Range of a 206 (RFC 9110, section 14.4). */
export function contentRange(span: ByteSpan, size: number): string {
  return `bytes ${span.first}-${span.last}/${size}`;
}
