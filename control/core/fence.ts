/**
 * Which of two versions of a fenced document is the newer one, whatever control's log says: by the term of its publisher,
 * then by the publisher's own number. A publisher that stood still for a minute and goes on, a copy of control from last night,
 * a message that took the long way: none of them puts an older map over a newer one.
 */
import type { DocumentKind } from "./words.ts";

export interface Fence {
  /** 0: published without an election. */
  readonly term: number;
  readonly version: number;
}

/** Lexicographic; 0: the same publication. */
export function compareFences(a: Fence, b: Fence): number {
  return a.term - b.term || a.version - b.version;
}

/** Read from the body as it came, before it is parsed; undefined: the kind is not fenced, or the body is none of it. */
export function fenceOf(kind: DocumentKind, body: unknown): Fence | undefined {
  if (kind !== "map") return undefined;
  const { mapVersion, publication } = fieldsOf(body);
  if (!isCount(mapVersion)) return undefined;
  const { term } = fieldsOf(publication);
  return { term: isCount(term) ? term : 0, version: mapVersion };
}

/**
 * As {@link fenceOf}, of a body's canonical text: there the fence stands before the cluster map, which may have 25 MB and is not read.
 * Throws SyntaxError when the text is no JSON.
 */
export function fenceOfText(kind: DocumentKind, bodyText: string): Fence | undefined {
  if (kind !== "map") return undefined;
  const end = bodyText.indexOf(',"clusterMap":"');
  return fenceOf(kind, JSON.parse(end === -1 ? bodyText : `${bodyText.slice(0, end)}}`));
}

export type PublicationDecision = "newer" | "fenced" | "not-newer";

/**
 * Whether control takes a publication. `fenced`: of another term than the one that was granted last. `not-newer`: a delayed message of
 * that term.
 * @param term 0: no term was ever granted
 * @param newest of what control has; undefined: it has nothing
 */
export function decidePublication(
  term: number,
  newest: Fence | undefined,
  offered: Fence,
): PublicationDecision {
  if (offered.term !== term) return "fenced";
  return newest !== undefined && compareFences(offered, newest) <= 0 ? "not-newer" : "newer";
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
