/**
 * Whether a node takes a document that it is offered. Order is that of control's log (`seq`), not of version numbers: a
 * roll-back is a lower version with a higher seq, a delayed or repeated message is a lower or equal seq.
 */

/** What a node has in force for one `kind/id`. */
export interface AppliedState {
  readonly logId: string;
  readonly seq: number;
  readonly version: number;
}

export const applyReasons = ["first", "newer", "new-log", "same", "older"] as const;
/**
 * `first`: nothing was in force. `newer`: activated later in the same log. `new-log`: control was set up anew, its log is
 * the one in force now. `same`: already in force. `older`: a delayed message; taking it would roll back what was decided since.
 */
export type ApplyReason = (typeof applyReasons)[number];

export interface ApplyDecision {
  readonly mayApply: boolean;
  readonly reason: ApplyReason;
}

/** Never throws. */
export function decideApply(applied: AppliedState | undefined, offered: AppliedState): ApplyDecision {
  if (applied === undefined) return { mayApply: true, reason: "first" };
  if (applied.logId !== offered.logId) return { mayApply: true, reason: "new-log" };
  if (offered.seq > applied.seq) return { mayApply: true, reason: "newer" };
  return { mayApply: false, reason: offered.seq === applied.seq ? "same" : "older" };
}
