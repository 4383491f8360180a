/**
 * One request as a server answered it. Privacy by construction: the query is dropped, because it carries tokens, names and
 * search words that nobody needs to count traffic; the client's address is cut to /24 or /48, which still tells the network
 * but not the household (the truncation that RFC 7871 section 11.1 advises for client subnets, IPv6 cut further to the
 * usual site prefix).
 */
import {
  type ClientNetworkId,
  type ClusterId,
  formatAddress,
  forwardReasons,
  id,
  integer,
  maskAddress,
  nullable,
  number,
  object,
  oneOf,
  optional,
  type Parsed,
  parseAddress,
  type PropertyId,
  type ServerId,
  string,
} from "#kit";

/**
 * How the cache handled it: `hit` (also one that was served stale), or why the request went forward (RFC 9211 section 2.2);
 * `collapsed`: it waited for another request's forward (section 2.6); `refused`: answered by a check or limit of ours before
 * the cache was asked; `error`: no answer could be had.
 */
export const cacheStatusWords = ["hit", ...forwardReasons, "collapsed", "refused", "error"] as const;
export type CacheStatusWord = (typeof cacheStatusWords)[number];

/** Longest path that is kept; the rest of a longer one says nothing to a reader. */
export const RECORD_PATH_LENGTH_MAX = 1_024;

const bytes = () => integer({ max: Number.MAX_SAFE_INTEGER, unit: "bytes" });
const durationMs = () => number({ min: 0, max: 1e9, unit: "ms" });

export const accessRecord = object({
  /** When the request arrived. */
  atEpochMs: integer(),
  requestId: string({ max: 128 }),
  serverId: id<ServerId>(),
  clusterId: id<ClusterId>(),
  /** Null: no property has the host name. */
  propertyId: nullable(id<PropertyId>()),
  method: string({ max: 32 }),
  /** As asked, lower case, cut at 253; may be empty. */
  host: string({ min: 0, max: 253 }),
  /** Without query, cut at {@link RECORD_PATH_LENGTH_MAX}. */
  path: string({ min: 0, max: RECORD_PATH_LENGTH_MAX }),
  /** 0: the client was gone before an answer began. */
  status: integer({ max: 999 }),
  cacheStatus: oneOf(cacheStatusWords),
  /** 0: asked by a client; 1 and more: asked by a server of ours nearer to the client. */
  tier: integer({ max: 16 }),
  /** Relay cluster that the forwarded request crossed; null: direct, or not forwarded. */
  via: nullable(id<ClusterId>()),
  /** Body bytes to the client, and from it. */
  bytesDown: bytes(),
  bytesUp: bytes(),
  /** From the first byte of the request to the last of the answer, and to the first of the answer. */
  durationMs: durationMs(),
  ttfbMs: durationMs(),
  clientNetworkId: nullable(id<ClientNetworkId>()),
  /** Network address of the client's /24 or /48; null: not known. */
  clientAddress: nullable(string({ max: 45 })),
  /** What the next hop was asked by; absent: nobody was asked for this request. */
  upstreamProtocol: optional(oneOf(["http/1.1", "http/2", "link", "link-udp"])),
  /** Trace id of the request's `traceparent` (W3C Trace Context); absent: it had none that is valid. */
  traceId: optional(string({ max: 32, pattern: /^[0-9a-f]{32}$/, expected: "32 hexadecimal digits" })),
});
export type AccessRecord = Parsed<typeof accessRecord>;

/** What a server knows; {@link toAccessRecord} drops and cuts. */
export interface ServedRequest extends Omit<AccessRecord, "path" | "clientAddress"> {
  /** The request target as received, with its query. */
  readonly target: string;
  /** The peer's full address in text form; undefined: not known. */
  readonly peerAddress: string | undefined;
}

/** The record of a request that was served. Never throws: what does not fit is cut. Field by field: a copy of the rest costs twice as much. */
export function toAccessRecord(served: ServedRequest): AccessRecord {
  const { upstreamProtocol, traceId } = served;
  return {
    atEpochMs: Math.round(served.atEpochMs),
    requestId: served.requestId.slice(0, 128),
    serverId: served.serverId,
    clusterId: served.clusterId,
    propertyId: served.propertyId,
    method: served.method.slice(0, 32),
    host: served.host.slice(0, 253),
    path: recordedPath(served.target),
    status: served.status,
    cacheStatus: served.cacheStatus,
    tier: served.tier,
    via: served.via,
    bytesDown: served.bytesDown,
    bytesUp: served.bytesUp,
    durationMs: served.durationMs,
    ttfbMs: served.ttfbMs,
    clientNetworkId: served.clientNetworkId,
    clientAddress: truncatedAddress(served.peerAddress),
    ...(upstreamProtocol !== undefined && { upstreamProtocol }),
    ...(traceId !== undefined && { traceId }),
  };
}

/** The path of a target without its query, at most {@link RECORD_PATH_LENGTH_MAX} long. */
export function recordedPath(target: string): string {
  const query = target.search(/[?#]/);
  const path = query < 0 ? target : target.slice(0, query);
  return path.length <= RECORD_PATH_LENGTH_MAX ? path : path.slice(0, RECORD_PATH_LENGTH_MAX);
}

/** `198.18.1.77` -> `198.18.1.0`, `2001:db8:1:2::3` -> `2001:db8:1::`; an IPv4-mapped address as IPv4; else null. */
export function truncatedAddress(text: string | undefined): string | null {
  if (text === undefined) return null;
  const plain = text.replace(/^::ffff:(?=[0-9.]+$)/i, "");
  const address = parseAddress(plain);
  if (address === undefined) return null;
  return formatAddress(maskAddress(address, address.family === 4 ? 24 : 48));
}
