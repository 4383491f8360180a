/** Reads a world file: YAML 1.2 in, a world or one line that says where it is wrong out. */
import { Document, isAlias, isMap, isPair, isScalar, isSeq, LineCounter, parseDocument } from "yaml";
import { ParseError, type Path } from "#kit";
import { checkLaws } from "./laws.ts";
import { type World, worldSchema } from "./world.ts";

/** Longest world text, in UTF-16 units: 16 Mi, thousands of sites; a longer file is a mistake or an attack. */
export const WORLD_TEXT_LENGTH_MAX = 16 * 1024 * 1024;
/** How many times aliases may multiply nodes; stops "billion laughs" before it is expanded. */
const ALIAS_COUNT_MAX = 100;
/** Longest reason of the YAML parser that is told. */
const REASON_LENGTH_MAX = 300;

/** A world file was refused. The message is one line: `FILE:LINE:COLUMN: path: got VALUE, expected ...`. */
export class WorldError extends Error {
  readonly fileName: string;
  /** From 1. */
  readonly line: number;
  /** From 1, in UTF-16 units. */
  readonly column: number;

  constructor(fileName: string, line: number, column: number, what: string, options?: ErrorOptions) {
    super(oneLine(`${fileName}:${line}:${column}: ${what}`), options);
    this.name = "WorldError";
    this.fileName = fileName;
    this.line = line;
    this.column = column;
  }
}

/**
 * The world that `yamlText` states. `fileName` is only for messages.
 *
 * Throws {@link WorldError}, and nothing else, when the text is not one YAML 1.2 document with string keys that each occur
 * once, does not fit the schema (unknown keys are refused) or breaks a law of laws.ts.
 */
export function parseWorld(yamlText: string, fileName: string): World {
  return parseYaml(yamlText, fileName, "a world", (value) => {
    const world = worldSchema.parse(value);
    checkLaws(world);
    return world;
  });
}

/**
 * What `parse` makes of the one YAML 1.2 (or JSON) document in `yamlText`. `what` names it in messages: "a world".
 *
 * Throws {@link WorldError} when the text is not such a document with string keys that each occur once, or `parse` throws
 * ParseError: the message then has the line and column of the value that the error's path leads to.
 */
export function parseYaml<T>(
  yamlText: string,
  fileName: string,
  what: string,
  parse: (value: unknown) => T,
): T {
  if (yamlText.length > WORLD_TEXT_LENGTH_MAX) {
    const problem = `(document): got ${yamlText.length} characters, expected at most ${WORLD_TEXT_LENGTH_MAX}`;
    throw new WorldError(fileName, 1, 1, problem);
  }
  const lines = new LineCounter();
  const fail = (offset: number, problem: string, cause?: unknown): never => {
    const { line, col } = lines.linePos(Math.min(offset, yamlText.length));
    throw new WorldError(fileName, Math.max(1, line), Math.max(1, col), problem, { cause });
  };
  // What is not UTF-8 was decoded to U+FFFD: a name with it is not the one that was meant.
  const undecoded = yamlText.indexOf("\uFFFD");
  if (undecoded !== -1) {
    const before = yamlText.slice(0, undecoded).split("\n");
    const problem = "(document): got bytes that are not UTF-8 (or U+FFFD itself), expected UTF-8 text";
    throw new WorldError(fileName, before.length, (before.at(-1)?.length ?? 0) + 1, problem);
  }
  const { document, value } = readYaml(yamlText, what, lines, fail);
  try {
    return parse(value);
  } catch (error) {
    if (error instanceof ParseError) return fail(offsetOf(document, error), error.message, error);
    throw error;
  }
}

type Fail = (offset: number, what: string, cause?: unknown) => never;

function readYaml(
  yamlText: string,
  expected: string,
  lines: LineCounter,
  fail: Fail,
): { document: Document.Parsed; value: unknown } {
  let document: Document.Parsed;
  let value: unknown;
  try {
    document = parseDocument(yamlText, {
      lineCounter: lines,
      prettyErrors: false,
      strict: true,
      stringKeys: true,
      uniqueKeys: true,
      version: "1.2",
    });
    const problem = document.errors[0] ?? document.warnings[0];
    if (problem !== undefined) {
      const what = problem.message.slice(0, REASON_LENGTH_MAX);
      return fail(
        problem.pos[0],
        `(document): got invalid YAML (${problem.code}: ${what}), expected one YAML 1.2 document`,
        problem,
      );
    }
    if (document.contents === null || (isScalar(document.contents) && document.contents.value === null)) {
      return fail(yamlText.length, `(document): got an empty document, expected ${expected}`);
    }
    value = document.toJS({ maxAliasCount: ALIAS_COUNT_MAX });
  } catch (error) {
    if (error instanceof WorldError) throw error;
    // Nesting so deep that the parser's stack ends, or aliases beyond the count.
    const reason = error instanceof Error ? error.message.slice(0, REASON_LENGTH_MAX) : "unknown";
    return fail(0, `(document): got YAML that cannot be expanded (${reason}), expected ${expected}`, error);
  }
  return { document, value };
}

/**
 * Where in the text an error's path is: the value; the key, when the key itself is wrong; the nearest thing around it, when
 * it is missing.
 */
function offsetOf(document: Document.Parsed, error: ParseError): number {
  const path: Path = error.path;
  const isAboutKey =
    error.expected.startsWith("no such key") || (path.length > 0 && error.value === path.at(-1));
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (const [depth, step] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(step));
      if (pair === undefined) return offset;
      const keyOffset = startOf(pair.key) ?? offset;
      if (depth === path.length - 1 && isAboutKey) return keyOffset;
      node = pair.value;
      offset = startOf(node) ?? keyOffset;
    } else if (isSeq(node) && typeof step === "number") {
      const item: unknown = node.items[step];
      if (item === undefined) return offset;
      node = item;
      offset = startOf(node) ?? offset;
    } else return offset;
  }
  return offset;
}

/** Offset of a node's first character; undefined for nodes without a place of their own. */
function startOf(node: unknown): number | undefined {
  if (isPair(node) || typeof node !== "object" || node === null || !("range" in node)) return undefined;
  const { range } = node;
  return Array.isArray(range) && typeof range[0] === "number" ? range[0] : undefined;
}

function oneLine(text: string): string {
  // Control characters, the two Unicode line ends and runs of blanks: a message is one line in any log.
  return text.replace(/[\p{Cc}\u2028\u2029\s]+/gu, " ");
}
