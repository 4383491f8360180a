/** Answers made from a stored response (or one being stored): conditions, ranges, and the fields that tell about the cache. */
import type { EpochMs } from "#kit";
import { appendCacheStatus, type CacheStatus } from "../core/cache-status.ts";
import { type Field, type Fields, fieldValue, isInternal, withoutFields } from "../core/headers.ts";
import { formatHttpDate } from "../core/http-date.ts";
import { appendVia } from "../core/loops.ts";
import type { RequestHead, ResponseHead, StoredHead } from "../core/messages.ts";
import { isPart } from "../core/parts.ts";
import { contentRange, selectContent } from "../core/range.ts";
import { notModifiedFields } from "../core/validation.ts";
import type { Answer, AnswerRecord } from "./exchange.ts";
import { multipart, type Readable } from "./multipart.ts";

/** Fields that each cache states anew. Alt-Svc of upstream names ports of upstream (RFC 7838, section 2.1): not of this server. */
const RESTATED: ReadonlySet<string> = new Set(["age", "alt-svc", "cache-status", "via"]);
/** What tells our own servers something and is nobody else's business. */

export interface AnswerContext {
  readonly request: RequestHead;
  readonly cacheName: string;
  readonly now: EpochMs;
  readonly record: AnswerRecord;
  readonly cacheStatus: CacheStatus;
  /** Cache-Status that came from upstream with this very answer; undefined for a hit. */
  readonly upstreamCacheStatus: string | undefined;
  /** What this server says in Alt-Svc to those who came by TLS; undefined: nothing. */
  readonly altSvc: string | undefined;
  /** For proven peers: the generation of the answer. */
  readonly generation: number | undefined;
}

/** The fields every answer carries: Date, Via, Cache-Status, and Age where it is known. */
export function downstreamFields(
  fields: Fields,
  context: AnswerContext,
  ageSeconds: number | undefined,
): Fields {
  // The next cache of ours needs what the origin says to all of them (RFC 9213); a client does not.
  const isForPeer = context.generation !== undefined;
  const told: Field[] = [];
  let hasDate = false;
  for (const field of fields) {
    const lower = field[0].toLowerCase();
    if (RESTATED.has(lower)) continue;
    if (isInternal(lower) && !(isForPeer && lower === "isochrone-cache-control")) continue;
    if (lower === "date") hasDate = true;
    told.push(field);
  }
  // RFC 9110, section 6.6.1: a recipient with a clock gives a date to an answer that came without.
  if (!hasDate) told.push(["Date", formatHttpDate(context.now)]);
  if (ageSeconds !== undefined) told.push(["Age", String(ageSeconds)]);
  told.push(["Via", appendVia(fields, "1.1", context.cacheName)]);
  told.push(["Cache-Status", appendCacheStatus(context.upstreamCacheStatus, context.cacheStatus)]);
  // An alternative must be as secure as what it stands for (RFC 7838, section 2.1).
  if (context.altSvc !== undefined && context.request.scheme === "https" && !isForPeer)
    told.push(["Alt-Svc", context.altSvc]);
  if (context.generation !== undefined) told.push(["Isochrone-Generation", String(context.generation)]);
  return told;
}

/** Whether an answer of this status has content at all (RFC 9110, section 6.4.1). */
export function mayHaveContent(method: string, status: number): boolean {
  return method !== "HEAD" && status >= 200 && status !== 204 && status !== 304;
}

/**
 * The answer to `context.request` from a stored response: 304 when the client's condition says so, 206 or 416 for ranges, else
 * the whole. `totalBytes` undefined: the content is still arriving and its length was not stated; ranges are then answered
 * with the whole (RFC 9110, section 14.2 allows it). `isSeekable`: any part of the content may be read, in any order.
 */
export function storedAnswer(
  stored: StoredHead,
  content: Readable,
  totalBytes: number | undefined,
  isSeekable: boolean,
  ageSeconds: number,
  context: AnswerContext,
): Answer {
  const { request, now, record } = context;
  const selection = selectContent(request, stored, totalBytes, isSeekable, now);
  if (selection.kind === "not-modified") {
    return {
      status: 304,
      fields: downstreamFields([...notModifiedFields(stored.fields), ...viaOf(stored)], context, ageSeconds),
      body: undefined,
      bodyBytes: undefined,
      record,
    };
  }
  const fields = downstreamFields(stored.fields, context, ageSeconds);
  if (selection.kind === "unsatisfiable") {
    return {
      status: 416,
      fields: [...withoutFields(fields, CONTENT_FIELDS), ["Content-Range", `bytes */${totalBytes ?? "*"}`]],
      body: undefined,
      bodyBytes: 0,
      record,
    };
  }
  if (selection.kind === "spans" && totalBytes !== undefined) {
    const [span, ...more] = selection.spans;
    if (span !== undefined && more.length === 0)
      return {
        status: 206,
        fields: [...withoutFields(fields, CONTENT_RANGE), ["Content-Range", contentRange(span, totalBytes)]],
        body: content.read(span.first, span.last),
        bodyBytes: span.last - span.first + 1,
        record,
      };
    const parts = multipart(content, selection.spans, totalBytes, fieldValue(stored.fields, "content-type"));
    return {
      status: 206,
      // RFC 9110, section 15.3.7.2: Content-Range stands in the parts alone.
      fields: [...withoutFields(fields, PART_FIELDS), ["Content-Type", parts.contentType]],
      body: parts.body,
      bodyBytes: parts.bodyBytes,
      record,
    };
  }
  if (isPart(stored)) throw new Error("A part is no answer to a request for more than it has");
  return {
    status: stored.status,
    fields,
    body: mayHaveContent(request.method, stored.status) ? content.read() : undefined,
    bodyBytes: totalBytes,
    record,
  };
}

const CONTENT_RANGE: ReadonlySet<string> = new Set(["content-range"]);
const PART_FIELDS: ReadonlySet<string> = new Set(["content-range", "content-type"]);
const CONTENT_FIELDS: ReadonlySet<string> = new Set([
  "content-type",
  "content-encoding",
  "content-range",
  "etag",
  "last-modified",
]);

function viaOf(response: ResponseHead): Fields {
  const via = fieldValue(response.fields, "via");
  return via === undefined ? [] : [["Via", via]];
}
