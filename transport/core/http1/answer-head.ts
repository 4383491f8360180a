/**
 * The head of an answer in HTTP/1.1 as most servers write it, read strictly (RFC 9112, sections 4 to 6). What has another form is not judged
 * here: it goes to the parser that reads everything, so that there is one reader of oddities. That is an interim answer, obs-fold, a blank
 * before a colon or behind a value, lists and repetitions in fields of framing, options of Connection beyond the two usual ones, content
 * that ends with its connection, and whatever breaks the grammar.
 */
import { TOKEN } from "./grammar.ts";

export type AnswerHead = {
  /** 200 to 599. */
  readonly status: number;
  /** In the order in which they came, octets as latin1. */
  readonly fields: readonly (readonly [name: string, value: string])[];
  /** How the content is framed: its length; or in chunks. */
  readonly contentBytes: number | "chunked";
  /** Whether the connection may carry another request (RFC 9112, section 9.3). */
  readonly mayReuse: boolean;
  /** How long the other end says that it keeps the connection when nothing goes over it, s; undefined: it does not say. */
  readonly keepAliveSeconds: number | undefined;
};

const STATUS_LINE = /^HTTP\/1\.1 ([2-5][0-9]{2}) [\t\x20-\x7e\x80-\xff]*$/;
/** RFC 9110, section 5.5, without blanks around it. */
const VALUE = /^[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?$/;
const LENGTH = /^[0-9]{1,15}$/;
const KEEP_ALIVE = /timeout=(\d+)/;

/** Lengths of the names that are looked at; of every other one the letters do not matter. */
const CONNECTION = "connection";
const KEEP_ALIVE_FIELD = "keep-alive";
const CONTENT_LENGTH = "content-length";
const TRANSFER_ENCODING = "transfer-encoding";

/** Reads `text`, from the status line to the end of the last field, without the blank line; undefined: not of this form. Never throws. */
export function parseAnswerHead(text: string): AnswerHead | undefined {
  let lineEnd = text.indexOf("\r\n");
  if (lineEnd === -1) lineEnd = text.length;
  const statusLine = STATUS_LINE.exec(text.slice(0, lineEnd));
  if (statusLine === null) return undefined;
  const status = Number(statusLine[1]);
  const fields: (readonly [string, string])[] = [];
  let length: number | undefined;
  let isChunked = false;
  let connection: string | undefined;
  let keepAliveSeconds: number | undefined;
  for (let at = lineEnd + 2; at < text.length; at = lineEnd + 2) {
    lineEnd = text.indexOf("\r\n", at);
    if (lineEnd === -1) lineEnd = text.length;
    const colon = text.indexOf(":", at);
    if (colon === -1 || colon > lineEnd) return undefined;
    const name = text.slice(at, colon);
    let from = colon + 1;
    while (from < lineEnd && (text.charCodeAt(from) === 0x20 || text.charCodeAt(from) === 0x09)) from++;
    const value = text.slice(from, lineEnd);
    if (!TOKEN.test(name) || (value !== "" && !VALUE.test(value))) return undefined;
    fields.push([name, value]);
    switch (name.length) {
      // Both have ten letters.
      case CONNECTION.length: {
        const lower = name.toLowerCase();
        if (lower === CONNECTION) {
          if (connection !== undefined) return undefined;
          connection = value.toLowerCase();
          if (connection !== "keep-alive" && connection !== "close") return undefined;
        } else if (lower === KEEP_ALIVE_FIELD) {
          if (keepAliveSeconds !== undefined) return undefined;
          const seconds = KEEP_ALIVE.exec(value)?.[1];
          if (seconds !== undefined) keepAliveSeconds = Number(seconds);
        }
        break;
      }
      case CONTENT_LENGTH.length:
        if (name.toLowerCase() !== CONTENT_LENGTH) break;
        if (length !== undefined || !LENGTH.test(value)) return undefined;
        length = Number(value);
        break;
      case TRANSFER_ENCODING.length:
        if (name.toLowerCase() !== TRANSFER_ENCODING) break;
        if (isChunked || value.toLowerCase() !== "chunked") return undefined;
        isChunked = true;
        break;
      default:
    }
  }
  // RFC 9112, section 6.3: none of these has content, though one of them says so, and what follows then is anybody's guess.
  if (status === 204 || status === 304) {
    if (isChunked || (length !== undefined && length > 0)) return undefined;
    length = 0;
  }
  if (isChunked === (length !== undefined)) return undefined;
  return {
    status,
    fields,
    contentBytes: length ?? "chunked",
    mayReuse: connection !== "close",
    keepAliveSeconds,
  };
}

/** The beginnings of a status line, of a field line, and of the blank line at the end. */
const BEGUN_STATUS_LINE =
  /^(?:H(?:T(?:T(?:P(?:\/(?:1(?:\.(?:1(?: (?:[2-5](?:[0-9](?:[0-9](?: [\t\x20-\x7e\x80-\xff]*\r?)?)?)?)?)?)?)?)?)?)?)?)?)?$/;
const BEGUN_FIELD_LINE = /^(?:\r?|[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?::[\t\x20-\x7e\x80-\xff]*\r?)?)$/;

/** Whether the beginning of a head, which has not come whole yet, can still become one that {@link parseAnswerHead} reads, as far as lines show. */
export function mayBecomeAnswerHead(text: string): boolean {
  const lines = text.split("\n");
  return lines.every(
    (line, index) =>
      (index === lines.length - 1 || line.endsWith("\r")) &&
      (index === 0 ? BEGUN_STATUS_LINE : BEGUN_FIELD_LINE).test(line),
  );
}
