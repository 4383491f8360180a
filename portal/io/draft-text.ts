/** The text of a draft, JSON or YAML, to a value and back, with the line of each place: errors belong beside the field. */
import { formatPath, ParseError, type Path, quoteValue } from "#kit";
import { isMap, isNode, isPair, isSeq, LineCounter, parseDocument, stringify } from "yaml";
import { DEPTH_MAX, isShallow, type JsonNode, jsonPlaces, JsonTextError } from "../core/json-places.ts";
import type { DraftFault } from "../core/wire.ts";

export type DraftFormat = "json" | "yaml";

export type DraftText =
  | { readonly value: unknown; readonly fault: null; readonly locate: (path: Path) => Place }
  | { readonly value: undefined; readonly fault: DraftFault; readonly locate: null };

export interface Place {
  readonly line: number | null;
  readonly column: number | null;
}

const NOWHERE: Place = { line: null, column: null };

/** Half the limit of JSON: YAML costs ten times the time to read, on the thread that serves everybody. */
export const YAML_CHARACTERS_MAX = 128 * 1024;

/** Reads a draft. No text within the limits takes long: deep and wide ones are refused before they are built. */
export function readDraft(text: string, format: DraftFormat): DraftText {
  return format === "json" ? readJson(text) : readYaml(text);
}

function readJson(text: string): DraftText {
  const lines = new LineCounter();
  lines.addNewLine(0);
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) lines.addNewLine(at + 1);
  let root: JsonNode;
  try {
    root = jsonPlaces(text);
  } catch (error) {
    if (!(error instanceof JsonTextError)) throw error;
    return refused("json", error.message, lines.linePos(error.offset));
  }
  const locate = (path: Path): Place => {
    let node = root;
    for (const step of path) {
      const child = node.children?.get(String(step));
      if (child === undefined) break;
      node = child;
    }
    const { line, col } = lines.linePos(node.offset);
    return { line, column: col };
  };
  return { value: JSON.parse(text) as unknown, fault: null, locate };
}

function readYaml(text: string): DraftText {
  const lines = new LineCounter();
  if (text.length > YAML_CHARACTERS_MAX)
    return refused("yaml", `${text.length} characters, at most ${YAML_CHARACTERS_MAX}; JSON may be longer`);
  const deep = deepLine(text);
  if (deep !== undefined) return refused("yaml", `more than ${DEPTH_MAX} levels`, { line: deep, col: 1 });
  // No aliases, no merge keys, no custom tags: a document is plain data, and a bomb of aliases is none.
  const document = parseDocument(text, {
    lineCounter: lines,
    // The reader's own test compares every key with every other one; `doubleKey` does not.
    uniqueKeys: false,
    merge: false,
    schema: "core",
    strict: true,
    prettyErrors: false,
    stringKeys: true,
  });
  const [wrong] = document.errors;
  if (wrong !== undefined) return refused("yaml", wrong.message, lines.linePos(wrong.pos[0]));
  const double = doubleKey(document.contents);
  if (double !== undefined) return refused("yaml", "a key that stands there already", lines.linePos(double));
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    return refused("yaml", error instanceof Error ? error.message : String(error));
  }
  if (!isShallow(value)) return refused("yaml", `more than ${DEPTH_MAX} levels`);
  const locate = (path: Path): Place => {
    for (let length = path.length; length >= 0; length--) {
      const node = nodeAt(document.contents, path.slice(0, length));
      if (node !== undefined) {
        const { line, col } = lines.linePos(node);
        return { line, column: col };
      }
    }
    return NOWHERE;
  };
  return { value, fault: null, locate };
}

/**
 * The first line of a YAML text that may be too deep for a reader that recurses; undefined: none. Counts brackets without
 * looking at quotes and columns without looking at blocks, so it may refuse what nobody writes.
 */
function deepLine(text: string): number | undefined {
  let open = 0;
  for (const [index, line] of text.split("\n").entries()) {
    const { length } = /^(?:[ \t]|[-?:](?=\s|$))*/.exec(line)?.[0] ?? "";
    if (length > 8 * DEPTH_MAX) return index + 1;
    for (const character of line) {
      if (character === "[" || character === "{") open += 1;
      else if ((character === "]" || character === "}") && open > 0) open -= 1;
      if (open > DEPTH_MAX) return index + 1;
    }
  }
  return undefined;
}

/** Offset of a key that its mapping has twice. */
function doubleKey(root: unknown): number | undefined {
  const rest: unknown[] = [root];
  for (let node = rest.pop(); node !== undefined; node = rest.pop()) {
    if (isMap(node)) {
      const seen = new Set<string>();
      for (const { key, value } of node.items) {
        const name = keyOf(key);
        if (seen.has(name)) return isNode(key) ? key.range?.[0] : 0;
        seen.add(name);
        rest.push(value);
      }
    } else if (isSeq(node)) for (const item of node.items) rest.push(item);
  }
  return undefined;
}

/** Where the key of a path stands (or the element, in a list), as an offset. */
function nodeAt(root: unknown, path: Path): number | undefined {
  let node = root;
  let offset = isNode(root) ? root.range?.[0] : undefined;
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isPair(item) && keyOf(item.key) === String(step));
      if (pair === undefined) return undefined;
      offset = isNode(pair.key) ? pair.key.range?.[0] : undefined;
      node = pair.value;
    } else if (typeof node === "object" && node !== null && "items" in node && Array.isArray(node.items)) {
      node = node.items[Number(step)];
      if (node === undefined) return undefined;
      offset = isNode(node) ? node.range?.[0] : undefined;
    } else {
      return undefined;
    }
  }
  return offset;
}

function keyOf(key: unknown): string {
  return typeof key === "object" && key !== null && "value" in key ? String(key.value) : String(key);
}

function refused(format: DraftFormat, why: string, at?: { line: number; col: number }): DraftText {
  const name = format === "json" ? "JSON" : "YAML";
  const [sentence = why] = why.split("\n");
  return {
    value: undefined,
    locate: null,
    fault: {
      path: "(document)",
      value: sentence.slice(0, 200),
      expected: `${name} that can be read`,
      line: at?.line ?? null,
      column: at?.col ?? null,
    },
  };
}

/** A refused value, as the editor shows it. */
export function faultOf(error: ParseError, locate: ((path: Path) => Place) | null): DraftFault {
  return {
    path: formatPath(error.path),
    value: error.value === undefined ? "nothing" : quoteValue(error.value),
    expected: error.expected,
    ...(locate?.(error.path) ?? NOWHERE),
  };
}

export function writeDraft(value: unknown, format: DraftFormat): string {
  return format === "json" ? `${JSON.stringify(value, null, 2)}\n` : stringify(value, { lineWidth: 0 });
}
