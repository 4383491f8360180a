/**
 * How a version that was only named is fetched: as differences from what is there, if that is possible and they fit; else whole. A fetch goes
 * on until it is answered or a newer version is named: control says nothing twice.
 */
import { backoffDelayMs } from "./backoff.ts";

export const fetchOutcomes = [
  "fetched",
  "unusable-differences",
  "missing",
  "refused",
  "unreachable",
  "superseded",
] as const;
/**
 * `unusable-differences`: they do not follow on what is there, or lead elsewhere. `missing`: control does not keep the version any more; a newer
 * one follows. `refused`: control did not understand the question. `superseded`: a newer version was named meanwhile.
 */
export type FetchOutcome = (typeof fetchOutcomes)[number];

export type FetchStep =
  | { readonly type: "ask"; readonly wantsDifferences: boolean; readonly delayMs: number }
  | { readonly type: "end" };

/** One version's fetch. */
export class FetchPlan {
  #wantsDifferences = true;
  #failures = 0;

  /** What to do first. */
  get first(): FetchStep {
    return { type: "ask", wantsDifferences: this.#wantsDifferences, delayMs: 0 };
  }

  /** @param jitter uniform in [0, 1) */
  next(outcome: FetchOutcome, jitter: number): FetchStep {
    if (outcome === "fetched" || outcome === "missing" || outcome === "superseded") return { type: "end" };
    if (outcome !== "unreachable") this.#wantsDifferences = false;
    const delayMs = outcome === "unusable-differences" ? 0 : backoffDelayMs(this.#failures++, jitter);
    return { type: "ask", wantsDifferences: this.#wantsDifferences, delayMs };
  }
}
