/**
 * The head of an HTTP/2 request as the same strict check sees it that HTTP/1.1 goes through. nghttp2 has held the frames to
 * RFC 9113, section 8 (pseudo fields first and once, lower-case names, no connection-specific fields, content length against
 * DATA); what it leaves open is closed here.
 */
import type { EdgeSettings } from "../../config.ts";
import { type Field, type Fields, isFieldValue, isToken } from "../../core/headers.ts";
import { HeadBlock } from "../http1/head-block.ts";
import { type CheckedRequest, checkRequest, type RefusedRequest } from "../request-check.ts";

/** What repeats from request to request: everything but the path. */
export interface Http2Head {
  readonly method: string;
  /** As HTTP/1.1 would have sent them: Host first, cookies in one line. */
  readonly fields: Fields;
  /** Why any request with this head is refused. */
  readonly refused: RefusedRequest | undefined;
  /** For look-ups in the hot table; undefined: a request that takes the long way. */
  readonly block: HeadBlock | undefined;
}

/** Fields of one connection (RFC 9113, section 8.2.2). TE may say "trailers", which asks for nothing that is done here. */
const CONNECTION_SPECIFIC: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);

const refused = (reason: RefusedRequest["reason"], message: string): RefusedRequest => ({
  refusedStatus: 400,
  reason,
  message,
});

/** What a field of a header list counts beside its name and value (RFC 9113, section 6.5.2). The path has a limit of its own. */
const FIELD_OVERHEAD_BYTES = 32;

/** A block of HTTP/2 is told by its fields: {@link isSameHead}. */
const NO_BYTES = Buffer.alloc(0);

/** @param raw names and values in turn, as node:http2 gives them */
export function readHttp2Head(raw: readonly string[], settings: EdgeSettings): Http2Head {
  let method = "";
  let scheme = "";
  let authority: string | undefined;
  let host: string | undefined;
  let cookie: string | undefined;
  let fault: RefusedRequest | undefined;
  let listBytes = 0;
  const fields: Field[] = [];
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] ?? "";
    const value = raw[index + 1] ?? "";
    if (name !== ":path") listBytes += name.length + value.length + FIELD_OVERHEAD_BYTES;
    if (name.charCodeAt(0) === 0x3a) {
      if (name === ":method") method = value;
      else if (name === ":scheme") scheme = value;
      else if (name === ":authority") authority = value;
      else if (name !== ":path") fault ??= refused("malformed", "an unknown pseudo field");
      continue;
    }
    if (!isToken(name) || !isFieldValue(value))
      fault ??= refused("malformed", "a field name or value holds characters that none has");
    if (CONNECTION_SPECIFIC.has(name))
      fault ??= refused("framing", `"${name}" has no meaning in HTTP/2 (RFC 9113, section 8.2.2)`);
    if (name === "host") {
      if (host !== undefined) fault ??= refused("host", "more than one Host field");
      host = value;
    } else if (name === "cookie") {
      // RFC 9113, section 8.2.3: what was split for compression is one line for everybody else.
      cookie = cookie === undefined ? value : `${cookie}; ${value}`;
    } else if (name !== "te") fields.push([name, value]);
  }
  // What SETTINGS_MAX_HEADER_LIST_SIZE announces is advice (section 10.5.1); nghttp2 itself takes 64 KiB.
  if (listBytes > settings.headerBytesMax)
    fault = {
      refusedStatus: 431,
      reason: "header-fields",
      message: `a header list of more than ${settings.headerBytesMax} bytes`,
    };
  if (cookie !== undefined) fields.push(["cookie", cookie]);
  // RFC 9113, section 8.3.1: two different answers to "which host" are none.
  if (authority !== undefined && host !== undefined && authority.toLowerCase() !== host.toLowerCase())
    fault ??= refused("host", "Host and :authority differ");
  const named = authority ?? host;
  if (named !== undefined) fields.unshift(["host", named]);
  if (scheme !== "https" && method !== "CONNECT")
    fault ??= refused("target", "the scheme of a request over TLS is https");
  const mayBeHot =
    fault === undefined &&
    (method === "GET" || method === "HEAD") &&
    !fields.some(([name]) => name === "content-length" || name === "expect");
  const names = fields.map(([name]) => name);
  const block = mayBeHot ? new HeadBlock(NO_BYTES, fields, false, names, settings, "https") : undefined;
  return { method, fields, refused: fault, block };
}

export function checkHttp2Request(
  head: Http2Head,
  path: string,
  settings: EdgeSettings,
): CheckedRequest | RefusedRequest {
  if (head.refused !== undefined) return head.refused;
  // RFC 9113, section 8.3.1: a path, or "*"; there is no absolute form.
  if (!path.startsWith("/") && path !== "*" && head.method !== "CONNECT")
    return refused("target", "the path does not begin with a slash");
  return checkRequest(head.method, path, "1.1", head.fields, settings, "https");
}

/** Whether two lists say the same but for the path. */
export function isSameHead(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index += 2)
    if (a[index] !== b[index] || (a[index + 1] !== b[index + 1] && a[index] !== ":path")) return false;
  return true;
}

export function pathOf(raw: readonly string[]): string {
  for (let index = 0; index < raw.length; index += 2) if (raw[index] === ":path") return raw[index + 1] ?? "";
  return "";
}
