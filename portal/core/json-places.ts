/**
 * Where things stand in a JSON text (RFC 8259): the offset of each key and element, so that an error can be shown beside its
 * line. One pass, bounded depth, duplicate keys refused; what it accepts `JSON.parse` accepts.
 */

/** Deeper than any document of ours by far; shallow enough that no walker of the value can run out of stack. */
export const DEPTH_MAX = 32;

export interface JsonNode {
  /** Of the key in an object, of the value elsewhere. */
  readonly offset: number;
  /** By key, or by index as text; undefined: a scalar. */
  readonly children: ReadonlyMap<string, JsonNode> | undefined;
}

/** The text is no JSON: what was found at `offset`, and what would have fitted. */
export class JsonTextError extends Error {
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(message);
    this.name = "JsonTextError";
    this.offset = offset;
  }
}

const SPACE = /[ \t\n\r]*/y;
// oxlint-disable-next-line eslint/no-control-regex -- RFC 8259 section 7: control characters must be escaped
const TEXT = /"[^"\\\u0000-\u001f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\u0000-\u001f]*)*"/y;
const SCALAR = /(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)(?![\w.+-])/y;

/** Reads the whole text; throws {@link JsonTextError}. */
export function jsonPlaces(text: string): JsonNode {
  let at = 0;
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  };
  const fail = (expected: string): never => {
    const got = at >= text.length ? "the end" : JSON.stringify(text.slice(at, at + 12));
    throw new JsonTextError(at, `got ${got}, expected ${expected}`);
  };
  const key = (): string => {
    const found = take(TEXT) ?? fail('a key in double quotes (or no comma before "}")');
    return JSON.parse(found) as string;
  };
  const value = (depth: number): ReadonlyMap<string, JsonNode> | undefined => {
    const opened = text[at];
    if (opened !== "{" && opened !== "[") {
      if ((opened === '"' ? take(TEXT) : take(SCALAR)) === undefined)
        fail(opened === '"' ? "a text that ends on its line" : "a value");
      return undefined;
    }
    if (depth >= DEPTH_MAX) fail(`no more than ${DEPTH_MAX} levels`);
    const closing = opened === "{" ? "}" : "]";
    const children = new Map<string, JsonNode>();
    at += 1;
    take(SPACE);
    if (text[at] === closing) {
      at += 1;
      return children;
    }
    for (;;) {
      const offset = at;
      let name = String(children.size);
      if (opened === "{") {
        name = key();
        if (children.has(name)) {
          at = offset;
          fail(`each key once; ${JSON.stringify(name)} stands there already`);
        }
        take(SPACE);
        if (text[at] !== ":") fail('":" behind a key');
        at += 1;
        take(SPACE);
      }
      children.set(name, { offset, children: value(depth + 1) });
      take(SPACE);
      if (text[at] === closing) break;
      if (text[at] !== ",") fail(`"," or "${closing}"`);
      at += 1;
      take(SPACE);
    }
    at += 1;
    return children;
  };
  take(SPACE);
  const offset = at;
  const children = value(0);
  take(SPACE);
  if (at < text.length) fail("nothing more");
  return { offset, children };
}

/** Whether a value of JSON is at most {@link DEPTH_MAX} levels deep. Never recurses: the value may be as deep as it likes. */
export function isShallow(value: unknown): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    const next: unknown[] = [];
    for (const one of level)
      if (typeof one === "object" && one !== null) for (const child of Object.values(one)) next.push(child);
    if (depth >= DEPTH_MAX && next.length > 0) return false;
    level = next;
  }
  return true;
}
