/**
 * Behaviour that a request asks for itself: steps at the front of the path (`/delay/500/status/503`), each taken off until
 * the rest is an ordinary path, and query parameters that change what is sent. See README.md for the table.
 */

export interface ScriptLimits {
  readonly objectBytesMax: number;
  readonly delayMsMax: number;
}

/** What a step at the end of a path makes in place of content. */
export type Terminal =
  | { readonly kind: "content"; readonly path: string }
  | { readonly kind: "bytes"; readonly length: number }
  | { readonly kind: "echo" }
  | { readonly kind: "serial" }
  | { readonly kind: "hang" };

export interface Script {
  readonly terminal: Terminal;
  /** Null: what the content says (200, or 404 when there is none). */
  readonly status: number | null;
  readonly delayMs: number;
  /** No Content-Length: chunked in HTTP/1.1. */
  readonly isChunked: boolean;
  /** Reset the connection after so many body bytes; 0: before the head. Null: do not. */
  readonly resetAfterBytes: number | null;
  /** Body bytes a second; null: as fast as it goes. */
  readonly bytesPerSecond: number | null;
  /** Lower-case names of request fields that the answer varies by. */
  readonly varyBy: readonly string[];
  /** Replaces the content's Cache-Control; "" removes it. Null: leave it. */
  readonly cacheControl: string | null;
  /** Replaces the content's tags. */
  readonly tags: readonly string[] | null;
  readonly hasValidators: boolean;
  /** Further fields of the answer, in order. */
  readonly fields: readonly (readonly [string, string])[];
}

/** A request asked for something that is not known or beyond a limit; answered 400 with this text. */
export class ScriptError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ScriptError";
  }
}

const STEPS_MAX = 16;
const FIELDS_MAX = 16;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;
/** Visible characters, blanks and tabs (RFC 9110 section 5.5). */
const FIELD_VALUE = /^[\t\u0020-\u007e]{0,1024}$/;
/** Framing belongs to the server: a script may not forge it. */
const RESERVED_FIELDS: ReadonlySet<string> = new Set([
  "content-length",
  "transfer-encoding",
  "connection",
  "keep-alive",
  "trailer",
  "upgrade",
  "date",
]);

/**
 * The script of a path and query. Unknown query parameters are content (a cache key may depend on them) and ignored here.
 * Throws {@link ScriptError} for a known step or parameter with a value that is out of range.
 */
export function parseScript(path: string, query: string, limits: ScriptLimits): Script {
  const script: { -readonly [K in keyof Script]: Script[K] } = {
    terminal: { kind: "content", path },
    status: null,
    delayMs: 0,
    isChunked: false,
    resetAfterBytes: null,
    bytesPerSecond: null,
    varyBy: [],
    cacheControl: null,
    tags: null,
    hasValidators: true,
    fields: [],
  };
  readSteps(script, path, limits);
  readQuery(script, query, limits);
  return script;
}

type Draft = { -readonly [K in keyof Script]: Script[K] };

function readSteps(script: Draft, path: string, limits: ScriptLimits): void {
  let rest = path;
  for (let step = 0; step < STEPS_MAX; step++) {
    const [, name = "", argument] = /^\/([a-z]+)(?:\/([^/]*))?(?=\/|$)/.exec(rest) ?? [];
    const whole = argument === undefined ? `/${name}` : `/${name}/${argument}`;
    switch (name) {
      case "status":
        script.status = whole200to599(argument);
        break;
      case "delay":
        script.delayMs = count("delay", argument, limits.delayMsMax);
        break;
      case "slow":
        script.bytesPerSecond = Math.max(1, count("slow", argument, 1e12));
        break;
      case "vary":
        script.varyBy = [...script.varyBy, fieldName(argument).toLowerCase()];
        break;
      case "chunked":
        script.isChunked = true;
        rest = rest.slice("/chunked".length);
        continue;
      case "reset": {
        const isCount = argument !== undefined && /^[0-9]+$/.test(argument);
        script.resetAfterBytes = isCount ? count("reset", argument, limits.objectBytesMax) : 0;
        rest = rest.slice(isCount ? whole.length : "/reset".length);
        continue;
      }
      case "bytes":
        if (rest !== whole) return void (script.terminal = { kind: "content", path: rest });
        script.terminal = { kind: "bytes", length: count("bytes", argument, limits.objectBytesMax) };
        return;
      case "echo":
      case "serial":
      case "hang":
        if (rest !== `/${name}` && rest !== `/${name}/`)
          return void (script.terminal = { kind: "content", path: rest });
        script.terminal = { kind: name };
        return;
      default:
        script.terminal = { kind: "content", path: rest === "" ? "/" : rest };
        return;
    }
    rest = rest.slice(whole.length);
  }
  throw new ScriptError(`a path has at most ${STEPS_MAX} steps`);
}

function readQuery(script: Draft, query: string, limits: ScriptLimits): void {
  if (query === "") return;
  for (const [name, value] of new URLSearchParams(query)) {
    switch (name) {
      case "cc":
        script.cacheControl = fieldValue(value);
        break;
      case "delay":
        script.delayMs = count("delay", value, limits.delayMsMax);
        break;
      case "status":
        script.status = whole200to599(value);
        break;
      case "tags":
        script.tags = fieldValue(value)
          .split(/[ ,]+/)
          .filter((tag) => tag !== "");
        break;
      case "validators":
        script.hasValidators = value !== "0";
        break;
      case "h": {
        const colon = value.indexOf(":");
        const field = fieldName(value.slice(0, Math.max(0, colon)));
        if (script.fields.length >= FIELDS_MAX) throw new ScriptError(`h: at most ${FIELDS_MAX} fields`);
        script.fields = [...script.fields, [field, fieldValue(value.slice(colon + 1).trim())]];
        break;
      }
      default:
        break;
    }
  }
}

function count(name: string, text: string | undefined, max: number): number {
  const value = text !== undefined && /^[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= max))
    throw new ScriptError(
      `${name}: got ${JSON.stringify(text ?? "")}, expected a whole number from 0 to ${max}`,
    );
  return value;
}

function whole200to599(text: string | undefined): number {
  const value = text !== undefined && /^[2-5][0-9]{2}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value))
    throw new ScriptError(`status: got ${JSON.stringify(text ?? "")}, expected 200 to 599`);
  return value;
}

function fieldName(text: string | undefined): string {
  if (text === undefined || !TOKEN.test(text) || RESERVED_FIELDS.has(text.toLowerCase())) {
    throw new ScriptError(
      `got ${JSON.stringify(text ?? "")}, expected the name of a field that is not about framing`,
    );
  }
  return text;
}

function fieldValue(text: string): string {
  if (!FIELD_VALUE.test(text))
    throw new ScriptError(
      `got ${JSON.stringify(text.slice(0, 80))}, expected a field value of at most 1024 printable characters`,
    );
  return text;
}
