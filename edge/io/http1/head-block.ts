/**
 * The head of a request on the flat path. A connection repeats its header section from request to request, so what stands
 * between the target and the end of the head is compared by bytes with the connection's last one and parsed once for each
 * distinct sequence of bytes (measured: 15-19 us a hit against 25-29 with a parse for each).
 *
 * Only the canonical form is read here: HTTP/1.1, lines of `token ":" OWS value OWS CRLF` (RFC 9112, section 5), no framing
 * of content. Everything else is not judged but handed to node:http's parser with its bytes intact, so that there is one
 * reader of oddities.
 */
import type { EdgeSettings } from "../../config.ts";
import { traceIdOf } from "../../core/diagnosis/trace-context.ts";
import { HANDED_OVER } from "../../core/hand-over.ts";
import { type Field, fieldLines, type Fields, isFieldValue, isToken } from "../../core/headers.ts";
import { selectingValues } from "../../core/compression/accept-encoding.ts";
import { type CheckedRequest, checkRequest, type RefusedRequest } from "../request-check.ts";
import type { HotEntry, HotScope } from "../hot-table.ts";

/**
 * Fields that may change the decision of a hit beyond the conditions and ranges that {@link HeadBlock.isConditional} tells
 * of: with one of them a request takes the long way through the handler.
 */
const DECISIVE: ReadonlySet<string> = new Set([
  "cdn-loop",
  "if-match",
  "if-unmodified-since",
  "max-forwards",
]);
const DIRECTIVES: ReadonlySet<string> = new Set(["cache-control", "pragma"]);
const CONDITIONS: ReadonlySet<string> = new Set(["if-none-match", "if-modified-since"]);

/** A header section that was read. */
export class HeadBlock {
  /** From the space before "HTTP/1.1" to the end of the blank line, as it came. */
  readonly bytes: Buffer;
  readonly fields: Fields;
  /** The client wants the connection closed after this request (RFC 9112, section 9.6). */
  readonly isClose: boolean;
  /** Nothing in it decides about a stored answer but conditions, ranges and cache directives. */
  readonly isPlain: boolean;
  readonly hasDirectives: boolean;
  readonly isConditional: boolean;
  readonly hasRange: boolean;
  /** Of its `traceparent`. */
  readonly traceId: string | undefined;
  /** The request with target "/", or why any request with this section is refused. */
  readonly checked: CheckedRequest | RefusedRequest;
  /** Hot entries of its scheme and host, once there are some. */
  scope: HotScope | undefined;
  compared: { readonly entry: HotEntry; readonly isNotModified: boolean } | undefined;
  #variantTexts: Map<string, string> | undefined;

  constructor(
    bytes: Buffer,
    fields: Fields,
    isClose: boolean,
    names: readonly string[],
    settings: EdgeSettings,
    scheme: "http" | "https",
  ) {
    this.bytes = bytes;
    this.fields = fields;
    this.isClose = isClose;
    this.isPlain = !names.some((name) => DECISIVE.has(name) || name.startsWith("isochrone-"));
    this.hasDirectives = names.some((name) => DIRECTIVES.has(name));
    this.isConditional = names.some((name) => CONDITIONS.has(name));
    this.hasRange = names.includes("range");
    this.traceId = names.includes("traceparent") ? traceIdOf(fieldLines(fields, "traceparent")) : undefined;
    this.checked = checkRequest("GET", "/", "1.1", fields, settings, scheme);
  }

  /** The values that answers are selected by, as one text; `key` stands for `names`. */
  variantText(key: string, names: readonly string[]): string {
    const texts = (this.#variantTexts ??= new Map<string, string>());
    let text = texts.get(key);
    if (text === undefined) {
      text = JSON.stringify(selectingValues(this.fields, names));
      // A block lives as long as its connection: what it remembers is bounded.
      if (texts.size >= 16) texts.clear();
      texts.set(key, text);
    }
    return text;
  }
}

const VERSION_LINE = " HTTP/1.1\r\n";

/** Reads `bytes[start, end)`, from the space before the version to the end of the blank line; undefined: not canonical. */
export function readHeadBlock(
  bytes: Buffer,
  start: number,
  end: number,
  settings: EdgeSettings,
  scheme: "http" | "https",
): HeadBlock | undefined {
  const text = bytes.toString("latin1", start, end);
  if (!text.startsWith(VERSION_LINE)) return undefined;
  const fields: Field[] = [];
  const names: string[] = [];
  let isClose = false;
  for (let at = VERSION_LINE.length; at < text.length - 2; ) {
    const lineEnd = text.indexOf("\r\n", at);
    const colon = text.indexOf(":", at);
    if (colon <= at || colon > lineEnd) return undefined;
    const name = text.slice(at, colon);
    let first = colon + 1;
    let last = lineEnd;
    while (first < last && isBlank(text.charCodeAt(first))) first++;
    while (last > first && isBlank(text.charCodeAt(last - 1))) last--;
    const value = text.slice(first, last);
    const lower = name.toLowerCase();
    if (!isToken(name) || !isFieldValue(value) || HANDED_OVER.has(lower)) return undefined;
    if (lower === "connection") {
      const option = value.toLowerCase();
      // Other options name fields that are for this hop only, or another protocol.
      if (option !== "keep-alive" && option !== "close") return undefined;
      isClose ||= option === "close";
    }
    if (fields.length >= settings.headerFieldsMax) return undefined;
    fields.push([name, value]);
    names.push(lower);
    at = lineEnd + 2;
  }
  // The pieces outlive the read buffer that they came in.
  return new HeadBlock(Buffer.from(bytes.subarray(start, end)), fields, isClose, names, settings, scheme);
}

const isBlank = (code: number): boolean => code === 0x20 || code === 0x09;

/**
 * Whether the beginning of a head, which has not come whole yet, can still become canonical. What cannot is handed over at
 * once: node:http's parser refuses it at its first wrong byte, and so does this server then.
 */
export function mayBecomeCanonical(bytes: Buffer): boolean {
  const begins = bytes.toString("latin1", 0, 6);
  if (!"GET /".startsWith(begins.slice(0, 5)) && !"HEAD /".startsWith(begins)) return false;
  for (let at = bytes.indexOf(0x0a); at !== -1; at = bytes.indexOf(0x0a, at + 1))
    if (at === 0 || bytes[at - 1] !== 0x0d) return false;
  return true;
}

/** ": " and CRLF. */
const BETWEEN_BYTES = 4;

/**
 * Whether a head, or the beginning of one, is so long that node:http's parser refuses it too. That one counts what stands in the lines and
 * not what stands between: from so many bytes on there are too many of them or too many fields. Such a head is refused without
 * the parser, whose copy and strings take many times the head.
 */
export function isBeyondReading(
  bytes: Buffer,
  settings: { readonly headerBytesMax: number; readonly headerFieldsMax: number },
): boolean {
  const bytesMax = settings.headerBytesMax + BETWEEN_BYTES * settings.headerFieldsMax;
  return bytes.byteLength > bytesMax && mayBecomeCanonical(bytes);
}

/**
 * Whether the request line of `bytes` names another protocol than HTTP. Node's parser takes RTSP/1.0 and ICE/1.0 for HTTP/1.0
 * and does not say so.
 */
export function isOtherProtocol(bytes: Buffer): boolean {
  return /^[\r\n]*[^ \r\n]+ [^ \r\n]+ (?!HTTP\/)[^ \r\n]/.test(
    bytes.toString("latin1", 0, REQUEST_LINE_BYTES_MAX),
  );
}

/** Whether more must come before {@link isOtherProtocol} can tell. */
export function isProtocolOpen(bytes: Buffer): boolean {
  return /^[\r\n]*[A-Za-z]+(?: (?:[^ \r\n]+(?: (?:H(?:T(?:TP?)?)?)?)?)?)?$/.test(
    bytes.toString("latin1", 0, REQUEST_LINE_BYTES_MAX),
  );
}

/** A longer line is refused for its target. */
const REQUEST_LINE_BYTES_MAX = 9_000;
