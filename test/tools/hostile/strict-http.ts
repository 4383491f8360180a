/**
 * A reader of HTTP/1.1 messages that shares no code with the edge, in two tempers:
 *
 * - `strict`: what RFC 9112 lets a sender generate, and nothing more. It judges bytes that a proxy sent.
 * - `permitted`: the most that RFC 9112 lets a recipient take (bare LF at the end of a line, section 2.2; white space in the
 *   request line, section 3; obs-fold as a space, section 5.2; equal lengths in a list, section 6.3; ...). It says which
 *   requests a client may be taken to have sent: a proxy may forward these or fewer, never others.
 *
 * Text is one character a byte (latin1). Pure; never throws.
 */

export type Temper = "strict" | "permitted";

export interface ReadRequest {
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly content: string;
  readonly trailers: readonly (readonly [name: string, value: string])[];
  /** The connection ends after this message, whatever follows. */
  readonly isLast: boolean;
}

export type ReadStep =
  | { readonly kind: "request"; readonly request: ReadRequest; readonly next: number }
  /** The bytes so far are the beginning of a message; `head` when its header section is whole. */
  | { readonly kind: "incomplete"; readonly head: string | undefined }
  | { readonly kind: "fault"; readonly rule: string; readonly head: string | undefined };

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;
/** RFC 3986, sections 3.3 and 3.4: path characters and the query, percent-encoding well-formed. */
const ORIGIN_FORM = /^\/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*$/;
const ABSOLUTE_FORM = /^https?:\/\/[^/?#@]+(?:[/?]|$)/i;
const HOST = /^(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?$/;
/** Beyond this a length cannot be told exactly in the numbers that most readers use. */
const LENGTH_DIGITS_MAX = 15;
const CHUNK_DIGITS_MAX = 13;

class Fault extends Error {}
class Incomplete extends Error {}

/** A cursor over lines; throws Fault and Incomplete, which do not leave this file. */
class Lines {
  readonly text: string;
  readonly temper: Temper;
  at: number;

  constructor(text: string, at: number, temper: Temper) {
    this.text = text;
    this.at = at;
    this.temper = temper;
  }

  /** The next line without its end. `mayBeBareLf`: section 2.2 speaks of start-line and fields only. */
  next(mayBeBareLf = true): string {
    const end = this.text.indexOf("\n", this.at);
    const upTo = end < 0 ? this.text.length : end;
    const isCrlf = end > 0 && this.text[end - 1] === "\r" && end > this.at;
    const line = this.text.slice(this.at, isCrlf ? end - 1 : upTo);
    if (this.temper === "strict" || !mayBeBareLf) {
      // A CR at the very end may be half a line end.
      const cr = line.indexOf("\r");
      if (cr >= 0 && !(end < 0 && cr === line.length - 1)) throw new Fault("bare CR");
      if (end >= 0 && !isCrlf) throw new Fault("bare LF");
    }
    if (end < 0) throw new Incomplete();
    this.at = end + 1;
    return line;
  }
}

/** Reads one request that begins at `offset`. */
export function readRequest(text: string, offset: number, temper: Temper): ReadStep {
  const lines = new Lines(text, offset, temper);
  let head: string | undefined;
  try {
    let line = lines.next();
    // Section 2.2: a server SHOULD ignore at least one empty line before the request line; no sender may make one.
    while (/^\r*$/.test(line) && temper === "permitted") line = lines.next();
    const [method, target, version] = requestLine(line, temper);
    const fields = fieldSection(lines, temper);
    head = text.slice(offset, lines.at);
    checkTarget(method, target, fields, version, temper);
    const framing = framingOf(fields, version, temper);
    let content = "";
    let trailers: ReadRequest["trailers"] = [];
    if (framing.kind === "chunked") [content, trailers] = chunkedContent(lines, temper);
    else if (framing.bytes > 0) {
      if (text.length - lines.at < framing.bytes) return { kind: "incomplete", head };
      content = text.slice(lines.at, lines.at + framing.bytes);
      lines.at += framing.bytes;
    }
    const isLast = framing.isLast || isClosing(fields, version);
    const request = { method, target, version, fields, content, trailers, isLast };
    return { kind: "request", request, next: lines.at };
  } catch (error) {
    if (error instanceof Incomplete) return { kind: "incomplete", head };
    if (error instanceof Fault) return { kind: "fault", rule: error.message, head };
    throw error;
  }
}

function requestLine(line: string, temper: Temper): readonly [string, string, string] {
  // Section 3: a recipient MAY split on white space, taking SP, HTAB, VT, FF and bare CR for it.
  const parts =
    temper === "strict"
      ? line.split(" ")
      : line.replace(/^[ \t\v\f\r]+|[ \t\v\f\r]+$/g, "").split(/[ \t\v\f\r]+/);
  const [method = "", target = "", version = ""] = parts;
  if (parts.length !== 3) throw new Fault("request line is not three words");
  if (!TOKEN.test(method)) throw new Fault("method is no token");
  if (!(temper === "strict" ? /^HTTP\/1\.1$/ : /^HTTP\/1\.[0-9]$/).test(version)) throw new Fault("version");
  return [method, target, version];
}

function fieldSection(lines: Lines, temper: Temper): [string, string][] {
  const fields: [string, string][] = [];
  let isFirst = true;
  for (;;) {
    const line = lines.next();
    if (line === "") return fields;
    if (/^[ \t]/.test(line)) {
      if (temper === "strict") throw new Fault("obs-fold");
      const last = fields.at(-1);
      // Section 2.2: lines that begin with white space right after the request line are consumed unread.
      if (last !== undefined) last[1] = `${last[1]} ${clean(line)}`.trim();
      else if (!isFirst) throw new Fault("obs-fold");
      isFirst = false;
      continue;
    }
    isFirst = false;
    const colon = line.indexOf(":");
    if (colon < 0) throw new Fault("field line without colon");
    const name = line.slice(0, colon);
    // Section 5.1: white space before the colon MUST be refused by servers.
    if (!TOKEN.test(name)) throw new Fault("field name is no token");
    const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "");
    if (temper === "strict" && !VALUE.test(value)) throw new Fault("field value");
    fields.push([name, temper === "strict" ? value : clean(value)]);
  }
}

/** RFC 9110, section 5.5: NUL, CR and LF in a value may be replaced by SP. */
const clean = (value: string): string => value.replace(/[\r\n\0]/g, " ").replace(/^[ \t]+|[ \t]+$/g, "");

function linesOf(fields: ReadRequest["fields"], name: string): string[] {
  return fields.filter((field) => field[0].toLowerCase() === name).map((field) => field[1]);
}

function checkTarget(
  method: string,
  target: string,
  fields: ReadRequest["fields"],
  version: string,
  temper: Temper,
): void {
  const hosts = linesOf(fields, "host");
  // Section 3.2: a request with a missing, second or invalid Host MUST be refused.
  if (hosts.length > 1 || (hosts.length === 0 && version !== "HTTP/1.0"))
    throw new Fault("Host is not one field");
  if (hosts[0] !== undefined && hosts[0] !== "" && !HOST.test(hosts[0]))
    throw new Fault("Host is no authority");
  if (temper === "strict") {
    if (hosts[0] === "") throw new Fault("Host is empty");
    // To an origin a proxy sends the origin form, or "*" (sections 3.2.1 and 3.2.4).
    if (!ORIGIN_FORM.test(target) && !(target === "*" && method === "OPTIONS")) throw new Fault("target");
  } else if (!/^[\x21-\x7e\x80-\xff]+$/.test(target)) throw new Fault("target");
  else if (!target.startsWith("/") && !ABSOLUTE_FORM.test(target) && target !== "*" && method !== "CONNECT")
    throw new Fault("target form");
}

/** Section 9.6: a server must not process what comes after a request that says close; section 9.3: nor after HTTP/1.0. */
function isClosing(fields: ReadRequest["fields"], version: string): boolean {
  const options = linesOf(fields, "connection")
    .flatMap((line) => line.split(","))
    .map((option) => option.trim().toLowerCase());
  return options.includes("close") || (version === "HTTP/1.0" && !options.includes("keep-alive"));
}

interface Framing {
  readonly kind: "length" | "chunked";
  readonly bytes: number;
  readonly isLast: boolean;
}

function framingOf(fields: ReadRequest["fields"], version: string, temper: Temper): Framing {
  const codings = linesOf(fields, "transfer-encoding");
  const lengths = linesOf(fields, "content-length");
  if (temper === "strict") {
    if (codings.length > 0 && lengths.length > 0)
      throw new Fault("both Transfer-Encoding and Content-Length");
    if (codings.length > 1 || lengths.length > 1) throw new Fault("framing field twice");
    if (codings[0] !== undefined) {
      if (codings[0].toLowerCase() !== "chunked") throw new Fault("transfer coding");
      return { kind: "chunked", bytes: 0, isLast: false };
    }
    return { kind: "length", bytes: lengthOf(lengths[0] ?? "0"), isLast: false };
  }
  if (codings.length > 0) {
    // RFC 9110, section 5.6.1.2: empty members of a list are to be ignored.
    const members = codings
      .flatMap((line) => line.split(","))
      .map((member) => member.trim().toLowerCase())
      .filter((member) => member !== "");
    if (members.at(-1) !== "chunked" || members.indexOf("chunked") !== members.length - 1)
      throw new Fault("chunked is not the last coding, once");
    for (const member of members) if (!TOKEN.test(member)) throw new Fault("transfer coding");
    // Section 6.1: HTTP/1.0 with a coding, and a length beside a coding, are faulty: nothing may follow.
    return { kind: "chunked", bytes: 0, isLast: lengths.length > 0 || version === "HTTP/1.0" };
  }
  const members = lengths.flatMap((line) => line.split(",")).map((member) => member.trim());
  const [first] = members;
  if (first === undefined) return { kind: "length", bytes: 0, isLast: false };
  if (members.some((member) => member !== first)) throw new Fault("different lengths");
  return { kind: "length", bytes: lengthOf(first), isLast: false };
}

function lengthOf(value: string): number {
  if (!/^[0-9]+$/.test(value)) throw new Fault("Content-Length is no number");
  const digits = value.replace(/^0+(?=.)/, "");
  if (digits.length > LENGTH_DIGITS_MAX) throw new Fault("Content-Length is too large");
  return Number(digits);
}

/** Section 7.1. A proxy that codes anew has no extension and no trailer to send: in the strict temper both are faults. */
function chunkedContent(lines: Lines, temper: Temper): [string, ReadRequest["trailers"]] {
  let content = "";
  for (;;) {
    const line = lines.next(false);
    const match = (
      temper === "strict" ? /^([0-9A-Fa-f]+)$/ : /^([0-9A-Fa-f]+)(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?$/
    ).exec(line);
    const digits = match?.[1]?.replace(/^0+(?=.)/, "");
    if (digits === undefined) throw new Fault("chunk size");
    if (digits.length > CHUNK_DIGITS_MAX) throw new Fault("chunk size is too large");
    const bytes = Number.parseInt(digits, 16);
    if (bytes === 0) break;
    const end = lines.at + bytes;
    if (lines.text.length >= end + 1 && lines.text[end] !== "\r") throw new Fault("chunk data without CRLF");
    if (lines.text.length >= end + 2 && lines.text[end + 1] !== "\n")
      throw new Fault("chunk data without CRLF");
    if (lines.text.length < end + 2) throw new Incomplete();
    content += lines.text.slice(lines.at, end);
    lines.at = end + 2;
  }
  const trailers = fieldSection(lines, temper);
  if (temper === "strict" && trailers.length > 0) throw new Fault("trailer");
  return [content, trailers];
}

/** All that the bytes hold, up to the first fault or the end; `tail` is how they end. */
export function readRequests(
  text: string,
  temper: Temper,
): {
  readonly requests: readonly ReadRequest[];
  readonly tail: Exclude<ReadStep, { kind: "request" }> | undefined;
} {
  const requests: ReadRequest[] = [];
  let at = 0;
  while (at < text.length) {
    const step = readRequest(text, at, temper);
    if (step.kind !== "request") return { requests, tail: step };
    requests.push(step.request);
    at = step.next;
    if (step.request.isLast) return { requests, tail: undefined };
  }
  return { requests, tail: undefined };
}

export interface ReadResponse {
  readonly status: number;
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly content: string;
}

/**
 * All complete responses on a connection, strictly. `isHead(index)`: whether the nth final response answers a HEAD.
 * `isClosed`: the connection ended, which ends a content without framing.
 */
export function readResponses(
  text: string,
  isHead: (index: number) => boolean,
  isClosed: boolean,
): { readonly responses: readonly ReadResponse[]; readonly fault: string | undefined } {
  const responses: ReadResponse[] = [];
  const lines = new Lines(text, 0, "strict");
  let index = 0;
  try {
    while (lines.at < text.length) {
      const status = /^HTTP\/1\.1 ([1-5][0-9]{2}) [\t\x20-\x7e\x80-\xff]*$/.exec(lines.next())?.[1];
      if (status === undefined) throw new Fault("status line");
      const fields = fieldSection(lines, "strict");
      const code = Number(status);
      let content = "";
      if (code >= 200 && code !== 204 && code !== 304 && !isHead(index)) {
        const framing = framingOf(fields, "HTTP/1.1", "strict");
        const isUnframed = linesOf(fields, "content-length").length === 0 && framing.kind === "length";
        if (framing.kind === "chunked") [content] = chunkedContent(lines, "strict");
        else {
          const bytes = isUnframed ? text.length - lines.at : framing.bytes;
          if (text.length - lines.at < bytes || (isUnframed && !isClosed)) throw new Incomplete();
          content = text.slice(lines.at, lines.at + bytes);
          lines.at += bytes;
        }
      }
      responses.push({ status: code, fields, content });
      if (code >= 200) index += 1;
    }
    return { responses, fault: undefined };
  } catch (error) {
    if (error instanceof Incomplete) return { responses, fault: undefined };
    if (error instanceof Fault) return { responses, fault: error.message };
    throw error;
  }
}
