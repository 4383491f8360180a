/** What differs between two versions of a document, as a person reads it: one line for each place, in document order. */
import type { Change } from "./wire.ts";

/** More than anybody reads. */
export const CHANGES_MAX = 1_000;

/** One place where two documents differ, as control's diff says it: `from` absent, added; `to` absent, removed. */
export interface Difference {
  readonly path: string;
  readonly from?: unknown;
  readonly to?: unknown;
}

/** At most {@link CHANGES_MAX}. */
export function changesOf(differences: readonly Difference[]): readonly Change[] {
  return differences.slice(0, CHANGES_MAX).map((one) => ({
    path: one.path,
    kind: !("from" in one) ? "added" : !("to" in one) ? "removed" : "changed",
    from: "from" in one ? JSON.stringify(one.from) : null,
    to: "to" in one ? JSON.stringify(one.to) : null,
  }));
}
