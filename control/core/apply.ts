/**
 * Whether a node takes a document that it is offered. Order is that of control's log (`seq`), not of version numbers: a
 * roll-back is a lower version with a higher seq, a delayed or repeated message is a lower or equal seq.
 */

import { compareFences, type Fence } from "./fence.ts";

/** What a node has in force for one `kind/id`. */
export interface AppliedState {
  readonly logId: string;
  readonly seq: number;
  readonly version: number;
  /** Of a kind that is published under a lease: it decides alone, also in a log that was put back to an older copy. */
  readonly fence?: Fence | undefined;
}

export const applyReasons = ["first", "newer", "new-log", "same", "older", "fenced"] as const;
/**
 * `first`: nothing was in force. `newer`: activated later in the same log. `new-log`: control was set up anew, its log is
 * the one in force now. `same`: already in force. `older`: a delayed message; taking it would roll back what was decided since.
 * `fenced`: control's log says that it is newer, its publisher's term and number say that it is not.
 */
export type ApplyReason = (typeof applyReasons)[number];

export interface ApplyDecision {
  readonly mayApply: boolean;
  readonly reason: ApplyReason;
}

/** Never throws. */
export function decideApply(applied: AppliedState | undefined, offered: AppliedState): ApplyDecision {
  if (applied === undefined) return { mayApply: true, reason: "first" };
  const isSameLog = applied.logId === offered.logId;
  const isLater = !isSameLog || offered.seq > applied.seq;
  if (applied.fence !== undefined && offered.fence !== undefined) {
    const order = compareFences(offered.fence, applied.fence);
    if (order > 0) return { mayApply: true, reason: isSameLog ? "newer" : "new-log" };
    return { mayApply: false, reason: order === 0 ? "same" : isLater ? "fenced" : "older" };
  }
  if (!isSameLog) return { mayApply: true, reason: "new-log" };
  if (isLater) return { mayApply: true, reason: "newer" };
  return { mayApply: false, reason: offered.seq === applied.seq ? "same" : "older" };
}
