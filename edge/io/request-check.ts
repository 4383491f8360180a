/**
 * What a request must look like before anything is decided about it (RFC 9112, section 3; RFC 9110, section 7.2). Node's
 * parser has read it already; here it is held to the strict grammar, so that nothing that two readers could take
 * differently goes further.
 */
import { canonicalHost, uriTarget } from "../core/cache-key.ts";
import { type Field, type Fields, fieldLines, isToken } from "../core/headers.ts";
import type { EdgeSettings } from "../config.ts";
import type { RefusedReason } from "./metrics.ts";

/** A request that passed. */
export interface CheckedRequest {
  readonly method: string;
  /** Authority as it was sent, for peer proofs. */
  readonly hostAsSent: string;
  readonly host: string;
  readonly target: string;
  readonly fields: Fields;
  /** Whether content follows, and its stated length. */
  readonly hasContent: boolean;
  readonly bodyBytes: number | undefined;
}

/** A request that did not, and what to answer. */
export interface RefusedRequest {
  readonly refusedStatus: number;
  readonly reason: RefusedReason;
  readonly message: string;
}

/** A host name or address as an authority holds it, with an optional port; no user information (RFC 9110, 4.2.4). */
const AUTHORITY = /^(?:\[[0-9a-f:.]{2,45}\]|[a-z0-9_](?:[a-z0-9_.-]{0,252}))(?::([0-9]{1,5}))?$/i;

/** Visible ASCII and no more: no blank, no control, no raw UTF-8 in a target (RFC 3986). */
const TARGET = /^[\x21-\x7e]+$/;

const refused = (refusedStatus: number, reason: RefusedReason, message: string): RefusedRequest => ({
  refusedStatus,
  reason,
  message,
});

/** Pairs of node:http's flat list. */
export function fieldsOf(rawHeaders: readonly string[]): Fields {
  const fields: Field[] = [];
  for (let index = 0; index + 1 < rawHeaders.length; index += 2)
    fields.push([rawHeaders[index] ?? "", rawHeaders[index + 1] ?? ""]);
  return fields;
}

export function checkRequest(
  method: string,
  url: string,
  httpVersion: string,
  fields: Fields,
  settings: EdgeSettings,
  scheme: "http" | "https",
  hostWhenAbsent?: string,
): CheckedRequest | RefusedRequest {
  if (fields.length > settings.headerFieldsMax)
    return refused(431, "header-fields", `more than ${settings.headerFieldsMax} header fields`);
  // RFC 9112, section 2.3: another major version frames its messages in another way. RFC 9110, section 15.6.6.
  if (httpVersion !== "1.1" && httpVersion !== "1.0")
    return refused(505, "version", `HTTP/${httpVersion} is not spoken here, expected HTTP/1.1 or HTTP/1.0`);
  if (!isToken(method)) return refused(400, "method", "the method is no token");
  // RFC 9110, section 9.3.8: TRACE would show what this proxy adds; section 9.3.6: this is no tunnel.
  if (method === "TRACE" || method === "CONNECT") return refused(405, "method", `${method} is not served`);
  if (url.length > settings.targetCharactersMax)
    return refused(414, "target", `the target is longer than ${settings.targetCharactersMax} characters`);
  if (!TARGET.test(url) || url.includes("#"))
    return refused(400, "target", "the target holds characters that no URI has");
  const hosts = fieldLines(fields, "host");
  if (hosts.length > 1 || (hosts.length === 0 && httpVersion !== "1.0"))
    return refused(400, "host", "expected exactly one Host field");
  let authority = hosts[0] ?? hostWhenAbsent ?? "";
  let target = url;
  if (!url.startsWith("/") && url !== "*") {
    // Section 3.2.2: the absolute form outranks Host.
    const match = /^(https?):\/\/([^/?#]+)(.*)$/i.exec(url);
    if (!match) return refused(400, "target", "the target is neither a path nor an http URI");
    authority = match[2] ?? "";
    const rest = match[3] ?? "";
    target = rest.startsWith("/") ? rest : `/${rest}`;
  }
  // Section 3.2: an invalid Host is refused even where the target outranks it.
  if (hosts[0] !== undefined && authority !== hosts[0] && !isAuthority(hosts[0]))
    return refused(400, "host", "the Host field is no host name or address");
  if (url === "*" && method !== "OPTIONS") return refused(400, "target", '"*" is for OPTIONS only');
  if (!isAuthority(authority)) return refused(400, "host", "the host is no host name or address");
  const framing = checkFraming(fields, httpVersion);
  if ("refusedStatus" in framing) return framing;
  return {
    method,
    hostAsSent: authority,
    host: canonicalHost(authority.replace(/\.(?=:|$)/, ""), scheme),
    target: uriTarget(target),
    fields,
    ...framing,
  };
}

function isAuthority(text: string): boolean {
  const match = AUTHORITY.exec(text);
  return match !== null && (match[1] === undefined || Number(match[1]) <= 65_535);
}

/** RFC 9112, section 6: one way to tell where the content ends, or none. */
function checkFraming(
  fields: Fields,
  httpVersion: string,
): Pick<CheckedRequest, "hasContent" | "bodyBytes"> | RefusedRequest {
  const codings = fieldLines(fields, "transfer-encoding");
  const lengths = fieldLines(fields, "content-length");
  if (codings.length > 0) {
    if (lengths.length > 0) return refused(400, "framing", "both Transfer-Encoding and Content-Length");
    if (httpVersion === "1.0") return refused(400, "framing", "Transfer-Encoding in HTTP/1.0");
    // Nothing but "chunked": other codings, lists and oddities are where readers disagree.
    if (codings.length > 1 || codings[0]?.toLowerCase() !== "chunked")
      return refused(codings.length === 1 ? 501 : 400, "framing", "a transfer coding other than chunked");
    return { hasContent: true, bodyBytes: undefined };
  }
  if (lengths.length === 0) return { hasContent: false, bodyBytes: undefined };
  if (lengths.length > 1 || !/^[0-9]{1,15}$/.test(lengths[0] ?? ""))
    return refused(400, "framing", "Content-Length is not one number");
  const bodyBytes = Number(lengths[0]);
  return { hasContent: bodyBytes > 0, bodyBytes };
}
