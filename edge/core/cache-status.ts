/** Cache-Status (RFC 9211): one member a tier, the one nearest the origin first. */

import type { ForwardReason } from "#kit";

/** What one cache says about one request. */
export interface CacheStatus {
  /** Name of the cache: the server's id. */
  readonly cache: string;
  /** Answered from the store; exclusive with `fwd`. */
  readonly isHit: boolean;
  readonly fwd?: ForwardReason;
  readonly fwdStatus?: number;
  /** Remaining freshness in seconds, negative when stale. */
  readonly ttlSeconds?: number;
  readonly isStored?: boolean;
  readonly isCollapsed?: boolean;
  readonly key?: string;
  /** A token or any text; a closed list of ours wherever the core speaks. */
  readonly detail?: string;
}

/** A string of Structured Fields (RFC 9651, section 3.3.3); what is not printable ASCII becomes "?". */
function sfString(text: string): string {
  return `"${text.replace(/[^\x20-\x7e]/g, "?").replace(/["\\]/g, "\\$&")}"`;
}

/** A token where the grammar allows it, else a string (RFC 9651, section 3.3.4). */
function sfTokenOrString(text: string): string {
  return /^[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*$/.test(text) ? text : sfString(text);
}

/** One member of the list. `hit` and `fwd` exclude each other (RFC 9211, section 2.1). */
export function formatCacheStatus(status: CacheStatus): string {
  let text = sfTokenOrString(status.cache);
  if (status.isHit) text += "; hit";
  else if (status.fwd !== undefined) {
    text += `; fwd=${status.fwd}`;
    if (status.fwdStatus !== undefined) text += `; fwd-status=${status.fwdStatus}`;
  }
  if (status.ttlSeconds !== undefined) text += `; ttl=${Math.trunc(status.ttlSeconds)}`;
  if (status.isStored === true) text += "; stored";
  if (status.isCollapsed === true) text += "; collapsed";
  if (status.key !== undefined) text += `; key=${sfString(status.key)}`;
  if (status.detail !== undefined) text += `; detail=${sfTokenOrString(status.detail)}`;
  return text;
}

/** The field value with this cache's member last (RFC 9211, section 2); what upstream sent is kept up to a bound. */
export function appendCacheStatus(upstream: string | undefined, own: CacheStatus): string {
  const member = formatCacheStatus(own);
  return upstream === undefined || upstream === "" || upstream.length > CACHE_STATUS_BYTES_MAX
    ? member
    : `${upstream}, ${member}`;
}

/** Longest value of upstream members that is passed on: a hostile origin could otherwise fill the header block. */
export const CACHE_STATUS_BYTES_MAX = 2_048;
