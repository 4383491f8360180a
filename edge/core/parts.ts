/**
 * Kept parts: a 206 that cannot become an object of slices (core/slices.ts), because nothing strong would tie another part to it,
 * is kept as it is, and answers requests for ranges that lie wholly within it (RFC 9111, section 3.3). It is never put together
 * with another one (section 3.4), nor used for anything else: for other requests it is as if nothing was kept. A key has one for
 * each variant, under the key itself, so that the next part, or the whole, takes its place.
 */
import type { EpochMs } from "#kit";
import { type Fields, fieldValue } from "./headers.ts";
import type { ExchangeTimes, PartialContent, RequestHead, ResponseHead, StoredHead } from "./messages.ts";
import {
  type ByteRange,
  type ByteSpan,
  ifRangeHolds,
  parseContentRange,
  requestedRanges,
  resolveRanges,
} from "./range.ts";
import { CONDITIONAL_FIELDS } from "./validation.ts";

/** The head of a kept part. */
export type PartHead = StoredHead & { readonly part: PartialContent };

export function isPart<T extends StoredHead>(head: T): head is T & { readonly part: PartialContent } {
  return head.part !== null;
}

/**
 * What a request for one range asks of the next hop where there are no slices: `asked`, the client's own range; `kept`, that of
 * the part which is validated.
 */
export type PartOpening =
  | { readonly kind: "asked"; readonly range: ByteRange }
  | { readonly kind: "kept"; readonly span: ByteSpan };

/** The Range that it asks for. */
export function partRange(opening: PartOpening): string {
  if (opening.kind === "kept") return `bytes=${opening.span.first}-${opening.span.last}`;
  const { range } = opening;
  return range.kind === "suffix" ? `bytes=-${range.length}` : `bytes=${range.first}-${range.last ?? ""}`;
}

/** What is asked to validate a stored response for nobody in particular; undefined: the whole. */
export function partOpening(stored: StoredHead): PartOpening | undefined {
  return isPart(stored) ? { kind: "kept", span: stored.part } : undefined;
}

/**
 * The range of a request whose answer may be kept as a part: a single one without conditions, since the answer to any other is not
 * the part that was asked for, and not longer than `bytesMax`. One of open end is: what is not in slices, and came not whole
 * with its first slice, is long.
 */
export function askedRange(
  request: RequestHead,
  ranges: readonly ByteRange[],
  bytesMax: number,
): PartOpening | undefined {
  const [range, ...more] = ranges;
  if (range === undefined || more.length > 0) return undefined;
  const bytes =
    range.kind === "suffix" ? range.length : (range.last ?? Number.POSITIVE_INFINITY) - range.first + 1;
  if (bytes > bytesMax) return undefined;
  return request.fields.some(([name]) => CONDITIONAL_FIELDS.has(name.toLowerCase()))
    ? undefined
    : { kind: "asked", range };
}

/**
 * Where the content of a 206 lies. Where its first byte lies is believed, and how many there are is a fact. If Content-Range and
 * the length disagree, a part that says that it reaches the end of the representation ends it where it really ends; what any other
 * one holds cannot be known, nor what one holds that states no length: undefined.
 */
export function judgePart(
  response: ResponseHead,
  contentLength: number | undefined,
): PartialContent | undefined {
  const range = parseContentRange(fieldValue(response.fields, "content-range") ?? "");
  if (range === undefined || contentLength === undefined || contentLength === 0) return undefined;
  // RFC 9110, section 15.3.7.2: several parts state their ranges inside; with one outside too it is unclear what this is.
  if (/^multipart\/byteranges\b/i.test(fieldValue(response.fields, "content-type") ?? "")) return undefined;
  const { first, last, totalBytes } = range;
  if (contentLength === last - first + 1) return { first, last, totalBytes };
  if (last !== totalBytes - 1) return undefined;
  return { first, last: first + contentLength - 1, totalBytes: first + contentLength };
}

/**
 * The fields of the answer that brought a part, for who asked for all of it: where Content-Range was not what the content is, it
 * passes as the origin said it, since that is between the two. From the store it is told as it is.
 */
export function fieldsAsStated(fields: Fields, statedRange: string): Fields {
  return fields.map((field) =>
    field[0].toLowerCase() === "content-range" ? [field[0], statedRange] : field,
  );
}

/** Whether a part answers a request: a GET for ranges that lie wholly within it, which If-Range lets apply. */
export function answersFromPart(
  request: RequestHead,
  stored: ResponseHead & ExchangeTimes & { readonly part: PartialContent },
  now: EpochMs,
): boolean {
  if (request.method !== "GET") return false;
  const ranges = requestedRanges(request.fields);
  if (ranges === undefined || !ifRangeHolds(request.fields, stored, now)) return false;
  const { part } = stored;
  const spans = resolveRanges(ranges, part.totalBytes);
  return (
    spans !== "unsatisfiable" && spans.every(({ first, last }) => first >= part.first && last <= part.last)
  );
}

/** Whether what is stored stays when a part of the same variant has come: a whole that was answered after the part was asked for. */
export function outranksPart(present: StoredHead, part: PartHead): boolean {
  return !isPart(present) && !present.isInvalidated && present.responseTime >= part.requestTime;
}
