/**
 * JSON as a configuration must be read: JSON.parse keeps the last of two equal keys, so a document that says a thing twice
 * would be taken for one that says it once.
 */
import { formatPath, ParseError } from "#kit";

/** RFC 8259 lets a reader bound the depth (section 9); deeper documents would exhaust the stack of later readers. */
const DEPTH_MAX = 100;

/** Throws ParseError for a key that stands twice in one object or a nesting of more than 100; SyntaxError from JSON.parse. */
export function parseStrictJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  checkShape(text);
  return value;
}

/** One pass over text that is known to be well-formed. */
function checkShape(text: string): void {
  /** Keys so far of each open object, undefined for a list. */
  const open: (Set<string> | undefined)[] = [];
  /** Steps to where we are: the present key, or the index within a list. */
  const path: (string | number)[] = [];
  let isKeyNext = false;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x22: {
        const from = at;
        at = endOfString(text, at);
        const keys = open.at(-1);
        if (!isKeyNext || keys === undefined) break;
        isKeyNext = false;
        const key = JSON.parse(text.slice(from, at + 1)) as string;
        path[path.length - 1] = key;
        if (keys.has(key)) throw new ParseError([...path], key, "each key once in an object");
        keys.add(key);
        break;
      }
      case 0x7b: // {
      case 0x5b: {
        // [
        const isObject = text.charCodeAt(at) === 0x7b;
        if (open.length >= DEPTH_MAX) {
          throw new ParseError([], formatPath(path), `a nesting of at most ${DEPTH_MAX}`);
        }
        open.push(isObject ? new Set() : undefined);
        path.push(0);
        isKeyNext = isObject;
        break;
      }
      case 0x7d: // }
      case 0x5d: // ]
        open.pop();
        path.pop();
        isKeyNext = false;
        break;
      case 0x2c: {
        // A comma: the next key or the next element.
        const last = path.at(-1);
        if (open.at(-1) !== undefined) isKeyNext = true;
        else if (typeof last === "number") path[path.length - 1] = last + 1;
        break;
      }
      default:
        break;
    }
  }
}

/** Index of the closing quote of the string that opens at `from`. */
function endOfString(text: string, from: number): number {
  let at = from + 1;
  while (text.charCodeAt(at) !== 0x22) at += text.charCodeAt(at) === 0x5c ? 2 : 1;
  return at;
}
