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

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
