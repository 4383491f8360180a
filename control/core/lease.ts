/**
 * Who may publish a kind of document: a lease with a term. Of several publishers control grants it to one, for a while that
 * its own monotonic clock measures; no clock of another machine is believed. The term grows with each grant and never goes
 * back, so what a delayed holder still sends is told by its term (fencing tokens: Gray and Cheriton, "Leases", SOSP 1989;
 * Burrows, "The Chubby lock service", OSDI 2006, sections 2.4 and 2.8).
 */
import { type MonotonicMs, plusMs } from "#kit";

/** Each names the kind of document that it is needed for. */
export const leaseNames = ["map"] as const;
export type LeaseName = (typeof leaseNames)[number];

/** What of a lease outlives control's process. */
export interface LeaseRecord {
  readonly name: LeaseName;
  /** The newest term that was ever granted; 0: none was. */
  readonly term: number;
  /** Null: given back. */
  readonly holderId: string | null;
  readonly durationMs: number;
  /** Why it was taken, as the holder says. */
  readonly note: string;
}

export interface LeaseState extends LeaseRecord {
  readonly expiresAt: MonotonicMs;
}

export interface LeaseRequest {
  readonly action: "hold" | "release";
  readonly holderId: string;
  /** The term that the sender holds; 0: it wants one. */
  readonly term: number;
  /** The newest term that the sender has met anywhere: the next one is above it, also when control was set up anew. */
  readonly seenTerm: number;
  readonly durationMs: number;
  /** Takes it from whoever has it: an operator's roll-back. */
  readonly preempts: boolean;
  readonly note: string;
}

export const leaseOutcomes = ["granted", "renewed", "released", "held", "lost"] as const;
/**
 * `granted`: a new term. `renewed`: the sender's term goes on. `released`: given back. `held`: another one has it. `lost`: the
 * sender's term is over, because a newer one was granted or it was given back.
 */
export type LeaseOutcome = (typeof leaseOutcomes)[number];

export interface LeaseDecision {
  readonly outcome: LeaseOutcome;
  readonly state: LeaseState;
  /** Whether it has to be durable before the answer. A renewal need not: after a restart the whole duration counts again. */
  readonly mustSave: boolean;
}

export function emptyLease(name: LeaseName): LeaseState {
  return { name, term: 0, holderId: null, durationMs: 0, note: "", expiresAt: 0 as MonotonicMs };
}

/** After a restart of control the holder, if there is one, has its whole duration again: it may still publish. */
export function restoredLease(record: LeaseRecord, now: MonotonicMs): LeaseState {
  return { ...record, expiresAt: plusMs(now, record.durationMs) };
}

export function isLeaseHeld({ holderId, expiresAt }: LeaseState, now: MonotonicMs): boolean {
  return holderId !== null && now < expiresAt;
}

/** Never throws. A term is only worth something together with its holder: the same name twice is two holders. */
export function decideLease(state: LeaseState, request: LeaseRequest, now: MonotonicMs): LeaseDecision {
  const isHolder = request.term > 0 && request.term === state.term && request.holderId === state.holderId;
  if (request.action === "release") {
    if (!isHolder) return { outcome: "lost", state, mustSave: false };
    return { outcome: "released", state: { ...state, holderId: null }, mustSave: true };
  }
  const { holderId, durationMs, note } = request;
  const expiresAt = plusMs(now, durationMs);
  // Over time, but nobody has had it since: nothing can have been published under a newer term.
  if (isHolder)
    return {
      outcome: "renewed",
      state: { ...state, durationMs, expiresAt },
      mustSave: durationMs !== state.durationMs,
    };
  if (request.term > 0) return { outcome: "lost", state, mustSave: false };
  if (isLeaseHeld(state, now) && !request.preempts) return { outcome: "held", state, mustSave: false };
  const term = Math.max(state.term, request.seenTerm) + 1;
  return {
    outcome: "granted",
    state: { name: state.name, term, holderId, durationMs, note, expiresAt },
    mustSave: true,
  };
}
