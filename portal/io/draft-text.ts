/** The text of a draft, JSON or YAML, to a value and back, with the line of each place: errors belong beside the field. */
import { formatPath, ParseError, type Path, quoteValue } from "#kit";
import { isNode, isPair, isMap, LineCounter, parseDocument, stringify } from "yaml";
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

/** Reads a draft. A JSON draft must be JSON; the YAML reader (JSON is a part of YAML 1.2) only finds its places. */
export function readDraft(text: string, format: DraftFormat): DraftText {
  const lines = new LineCounter();
  // No aliases, no merge keys, no custom tags: a document is plain data, and a bomb of aliases is none.
  const document = parseDocument(text, {
    lineCounter: lines,
    uniqueKeys: true,
    merge: false,
    schema: "core",
    strict: true,
    prettyErrors: false,
    stringKeys: true,
  });
  const [wrong] = document.errors;
  if (wrong !== undefined) return refused(format, wrong.message, lines.linePos(wrong.pos[0]));
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 0 });
    if (format === "json") value = JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return refused(format, why, jsonErrorPlace(why, lines));
  }
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

function refused(format: DraftFormat, why: string, at: { line: number; col: number } | undefined): DraftText {
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

/** V8 says `at position 12`. */
function jsonErrorPlace(message: string, lines: LineCounter): { line: number; col: number } | undefined {
  const position = /at position (\d+)/.exec(message)?.[1];
  return position === undefined ? undefined : lines.linePos(Number(position));
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
