/**
 * What an answer says about how it came to be, to somebody who may know: Server-Timing (W3C) and the debug fields that
 * users of Akamai ask for with `Pragma: akamai-x-...`, under the names that their tools read.
 */
import { type ForwardReason, forwardReasons } from "#kit";
import type { CacheStatus } from "../cache-status.ts";
import type { Field, Fields } from "../headers.ts";

/** What diagnosis reads of an answer. */
export interface DebuggedAnswer {
  /** "hit", "hit-stale", "collapsed", "refused", "error", or why it was forwarded. */
  readonly outcome: string;
  readonly status: CacheStatus | undefined;
  /** Cache-Status of the whole chain, this cache's member last. */
  readonly cacheStatus: string;
  readonly requestId: string;
  readonly clientAddress: string;
  /** From the request's arrival until the answer could begin, ms. */
  readonly elapsedMs: number;
  /** From asking the next hop to its answer's head, ms; undefined: nobody was asked for this. */
  readonly upstreamMs: number | undefined;
}

/** The directives that are understood. */
export const akamaiDirectives = [
  "akamai-x-cache-on",
  "akamai-x-cache-remote-on",
  "akamai-x-check-cacheable",
  "akamai-x-get-cache-key",
  "akamai-x-get-true-cache-key",
  "akamai-x-get-request-id",
  "akamai-x-get-client-ip",
] as const;
type AkamaiDirective = (typeof akamaiDirectives)[number];

/** The directives among the values of Pragma. Names without case, others ignored. */
export function akamaiDirectivesOf(lines: readonly string[]): ReadonlySet<AkamaiDirective> {
  const stated = lines
    .join(",")
    .toLowerCase()
    .split(",")
    .map((one) => one.trim());
  return new Set(akamaiDirectives.filter((one) => stated.includes(one)));
}

/** The fields for one answer. */
export function debugFields(answer: DebuggedAnswer, asked: ReadonlySet<AkamaiDirective>): Fields {
  const { status, requestId } = answer;
  const fields: Field[] = [
    ["Server-Timing", serverTiming(answer)],
    ["Isochrone-Request-Id", requestId],
  ];
  const name = status?.cache ?? "isochrone";
  if (asked.has("akamai-x-cache-on"))
    fields.push(["X-Cache", `${wordOf(answer)} from ${name} (isochrone) (-)`]);
  if (asked.has("akamai-x-cache-remote-on")) {
    const remote = remoteOf(answer.cacheStatus);
    if (remote !== undefined)
      fields.push([
        "X-Cache-Remote",
        `${remote.isHit ? "TCP_HIT" : "TCP_MISS"} from ${remote.name} (isochrone) (-)`,
      ]);
  }
  if (asked.has("akamai-x-check-cacheable"))
    fields.push(["X-Check-Cacheable", status?.isHit === true || status?.isStored === true ? "YES" : "NO"]);
  if (status?.key !== undefined) {
    if (asked.has("akamai-x-get-cache-key")) fields.push(["X-Cache-Key", status.key]);
    if (asked.has("akamai-x-get-true-cache-key")) fields.push(["X-True-Cache-Key", status.key]);
  }
  if (asked.has("akamai-x-get-request-id")) fields.push(["X-Akamai-Request-ID", requestId]);
  if (asked.has("akamai-x-get-client-ip")) fields.push(["X-Akamai-Client-IP", answer.clientAddress]);
  return fields;
}

/** `cdn-cache;desc=HIT, edge;dur=0.4, upstream;dur=81.0`: `upstream` is part of `edge`. */
function serverTiming({ outcome, elapsedMs, upstreamMs }: DebuggedAnswer): string {
  const word = isForward(outcome) ? "MISS" : outcome.toUpperCase();
  const timing = `cdn-cache;desc=${word}, edge;dur=${elapsedMs.toFixed(1)}`;
  return upstreamMs === undefined ? timing : `${timing}, upstream;dur=${upstreamMs.toFixed(1)}`;
}

const isForward = (outcome: string): outcome is ForwardReason =>
  (forwardReasons as readonly string[]).includes(outcome);

/** Akamai's word for how an answer was had. */
function wordOf({ outcome, status }: DebuggedAnswer): string {
  switch (outcome) {
    case "hit":
      return "TCP_HIT";
    case "hit-stale":
      return "TCP_EXPIRED_HIT";
    case "refused":
      return "TCP_DENIED";
    case "error":
      return "TCP_ERROR";
    case "stale":
      return status?.fwdStatus === 304 ? "TCP_REFRESH_HIT" : "TCP_REFRESH_MISS";
    default:
      return "TCP_MISS";
  }
}

/** The cache that was asked by this one, from a Cache-Status whose members stand in their order (RFC 9211, section 2). */
function remoteOf(cacheStatus: string): { readonly name: string; readonly isHit: boolean } | undefined {
  // Members are of our own making or were bounded on their way; a comma in a quoted string of a foreign one only mislabels.
  const member = cacheStatus.split(",").at(-2)?.trim();
  const name = member?.split(";", 1)[0]?.trim();
  if (member === undefined || name === undefined || !/^[!-~]{1,128}$/.test(name)) return undefined;
  return { name, isHit: /;\s*hit\b/.test(member) };
}
