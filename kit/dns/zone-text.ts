/**
 * The words of a zone file (RFC 1035 section 5.1): characters to tokens with their place. Every fault carries line and column.
 */

/** Why a text is no zone; the place counts from 1. */
export class ZoneTextError extends Error {
  readonly line: number;
  readonly column: number;
  readonly value: string;
  readonly expected: string;
  constructor(at: Place, value: string, expected: string) {
    const shown = value.length > 80 ? `${value.slice(0, 77)}...` : value;
    super(`line ${at.line}, column ${at.column}: got ${JSON.stringify(shown)}, expected ${expected}`);
    this.name = "ZoneTextError";
    this.line = at.line;
    this.column = at.column;
    this.value = shown;
    this.expected = expected;
  }
}

export interface Place {
  readonly line: number;
  readonly column: number;
}

export interface Token extends Place {
  /** As it stands, escapes unread, without the quotes. */
  readonly raw: string;
  readonly isQuoted: boolean;
}

/** What stands between two ends of a line; parentheses join lines. */
export interface ZoneLine extends Place {
  /** The owner is that of the record before. */
  readonly startsBlank: boolean;
  readonly tokens: readonly Token[];
}

/** One TXT of 64 KiB, each octet written as `\DDD`. */
const TOKEN_CHARACTERS_MAX = 262_144;

/** The lines that hold something. Throws {@link ZoneTextError}. Linear in the length of `text`. */
export function* zoneLines(text: string): Generator<ZoneLine> {
  let at = 0;
  let line = 1;
  let lineStart = 0;
  const place = (): Place => ({ line, column: at - lineStart + 1 });
  while (at < text.length) {
    const start = place();
    const startsBlank = isBlank(text[at] as string);
    const tokens: Token[] = [];
    let opened: Place | undefined;
    for (;;) {
      const char = text[at];
      if (char === undefined) break;
      if (char === "\n") {
        at++;
        line++;
        lineStart = at;
        if (opened === undefined) break;
      } else if (isBlank(char) || (char === "\r" && (text[at + 1] ?? "\n") === "\n")) at++;
      else if (char === ";") {
        while (at < text.length && text[at] !== "\n") at++;
      } else if (char === "(") {
        if (opened !== undefined)
          throw new ZoneTextError(place(), "(", "no second parenthesis before the first is closed");
        opened = place();
        at++;
      } else if (char === ")") {
        if (opened === undefined)
          throw new ZoneTextError(place(), ")", "a parenthesis that was opened before");
        opened = undefined;
        at++;
      } else {
        const from = place();
        const read = readToken(text, at, from);
        tokens.push(read.token);
        at = read.next;
      }
    }
    if (opened !== undefined) throw new ZoneTextError(opened, "(", "a closing parenthesis before the end");
    if (tokens.length > 0) yield { ...start, startsBlank, tokens };
  }
}

function isBlank(char: string): boolean {
  return char === " " || char === "\t";
}

function readToken(
  text: string,
  from: number,
  place: Place,
): { readonly token: Token; readonly next: number } {
  let at = from;
  let raw = "";
  let quotes = 0;
  for (; at < text.length; at++) {
    const char = text[at] as string;
    if (char === "\n" || (char === "\r" && (text[at + 1] ?? "\n") === "\n")) {
      if (quotes % 2 === 1) throw new ZoneTextError(place, raw, "a closing quote on the same line");
      break;
    }
    if (char < " " && char !== "\t")
      throw new ZoneTextError(place, char, "no control characters; \\DDD writes them");
    if (char === '"') {
      quotes++;
      // A quote that closes what began with one ends the token: "a""b" are two.
      if (quotes % 2 === 0 && text[from] === '"') {
        at++;
        break;
      }
      continue;
    }
    if (quotes % 2 === 0 && (isBlank(char) || char === ";" || char === "(" || char === ")")) break;
    raw += char;
    if (char === "\\") {
      const next = text[at + 1];
      if (next === undefined || next === "\n" || next === "\r")
        throw new ZoneTextError(place, raw, "a character after the backslash");
      raw += next;
      at++;
    }
    if (raw.length > TOKEN_CHARACTERS_MAX)
      throw new ZoneTextError(place, raw, `at most ${TOKEN_CHARACTERS_MAX} characters without a blank`);
  }
  if (quotes % 2 === 1) throw new ZoneTextError(place, raw, "a closing quote");
  return { token: { ...place, raw, isQuoted: text[from] === '"' }, next: at };
}

const encoder = new TextEncoder();

/** Octets of a token: `\DDD` and `\X` read (RFC 1035 section 5.1), everything else as UTF-8. Throws {@link ZoneTextError}. */
export function octetsOf(token: Token): Uint8Array {
  const { raw } = token;
  if (!raw.includes("\\")) return encoder.encode(raw);
  const octets: number[] = [];
  for (let at = 0; at < raw.length; ) {
    const read = readCharacter(token, at);
    for (const octet of read.octets) octets.push(octet);
    at = read.next;
  }
  return Uint8Array.from(octets);
}

/** One character of a token, escaped or not. */
export function readCharacter(
  token: Token,
  at: number,
): { readonly octets: Uint8Array; readonly next: number; readonly isEscaped: boolean } {
  const { raw } = token;
  const char = raw[at] as string;
  if (char !== "\\") {
    const whole = String.fromCodePoint(raw.codePointAt(at) as number);
    return { octets: encoder.encode(whole), next: at + whole.length, isEscaped: false };
  }
  const digits = raw.slice(at + 1, at + 4);
  if (/^\d/.test(digits)) {
    if (!/^\d{3}$/.test(digits) || Number(digits) > 255)
      throw new ZoneTextError(token, raw, "three digits from 000 to 255 after a backslash before a digit");
    return { octets: Uint8Array.of(Number(digits)), next: at + 4, isEscaped: true };
  }
  const whole = String.fromCodePoint(raw.codePointAt(at + 1) as number);
  return { octets: encoder.encode(whole), next: at + 1 + whole.length, isEscaped: true };
}

const TTL_UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 };
/** RFC 2181 section 8. */
export const ttlSecondsMax = 0x7fff_ffff;

/** `3600` or `1h30m`, seconds; undefined when it is neither or over 2^31 - 1. */
export function secondsFromText(text: string): number | undefined {
  if (/^\d{1,10}$/.test(text)) return Number(text) <= ttlSecondsMax ? Number(text) : undefined;
  if (!/^(\d{1,10}[smhdw]){1,5}$/i.test(text)) return undefined;
  let seconds = 0;
  for (const [, count = "0", unit = "s"] of text.matchAll(/(\d+)([smhdw])/gi))
    seconds += Number(count) * (TTL_UNITS[unit.toLowerCase()] as number);
  return seconds <= ttlSecondsMax ? seconds : undefined;
}

/** In quotes, with octets that are no printable ASCII as `\DDD`. */
export function quoted(octets: Uint8Array): string {
  let text = '"';
  for (const octet of octets) {
    if (octet === 0x22 || octet === 0x5c) text += `\\${String.fromCharCode(octet)}`;
    else if (octet >= 0x20 && octet < 0x7f) text += String.fromCharCode(octet);
    else text += `\\${String(octet).padStart(3, "0")}`;
  }
  return `${text}"`;
}
