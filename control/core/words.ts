/** The words of control's documents: kinds, versions, activations and what a watcher is sent. */
import type { PurgeAck, PurgeEntry, ServerReport, ServerId } from "#kit";

/** Who is who; a customer's property; the mapping engine's snapshot; a server certificate with its key sealed; what operators say against the map; keys of signed zones, sealed; a customer's zone; a customer's traffic management. */
export const documentKinds = [
  "topology",
  "property",
  "map",
  "certificate",
  "overrides",
  "dnssec",
  "zone",
  "policy",
] as const;
export type DocumentKind = (typeof documentKinds)[number];

/** What can be watched: activations of a kind, purges, servers' reports (ephemeral), and of these the ones with opinions on policies' targets. */
export const watchKinds = [...documentKinds, "purge", "report", "opinion"] as const;
export type WatchKind = (typeof watchKinds)[number];

/** Header with which a watcher says that it takes references ({@link ReferenceEvent}); a control of before sends bodies all the same. */
export const TAKES_HEADER = "isochrone-takes";
export const TAKES_REFERENCES = "references";

/** One immutable version without its body. */
export interface DocumentSummary {
  readonly kind: DocumentKind;
  readonly id: string;
  /** 1 for the first; grows by one with each version appended to this `kind/id`. */
  readonly version: number;
  /** The version in force, null while none ever was. The same in every summary of one `kind/id`. */
  readonly activeVersion: number | null;
  readonly createdAtEpochMs: number;
  /** Who appended it, as they named themselves; control proves only that they held the token. */
  readonly author: string;
  readonly note: string;
}

/** One immutable version with its body, in the canonical form that the schema of its kind gave it. */
export interface DocumentRecord extends DocumentSummary {
  readonly body: unknown;
}

/** One place in two bodies that differs; `from` absent: added, `to` absent: removed. */
export interface DocumentChange {
  /** `caching.defaultTtlSeconds`, `origins[0].host`. */
  readonly path: string;
  readonly from?: unknown;
  readonly to?: unknown;
}

/** A version came into force. `seq` grows with each activation and purge of one log and is never reused. */
export interface ActivationEvent {
  readonly type: "document";
  readonly seq: number;
  readonly kind: DocumentKind;
  readonly id: string;
  readonly version: number;
  readonly body: unknown;
}

/**
 * As {@link ActivationEvent}, without the body: sent instead of it to those who asked for references to what is large. They fetch it, and say
 * what they have, so that a difference will do.
 */
export interface ReferenceEvent extends Omit<ActivationEvent, "type" | "body"> {
  readonly type: "reference";
  /** Of the publication, as fence.ts compares them. */
  readonly fence: { readonly term: number; readonly version: number };
}

/** A purge was accepted. */
export interface PurgeEvent {
  readonly type: "purge";
  readonly seq: number;
  readonly purge: PurgeEntry;
}

/**
 * What a watcher is sent. A watcher that names no place, or one that is no longer kept, gets `snapshot-begin`, every
 * active document, every kept purge, `snapshot-end`; then, like one that resumed, what happens.
 */
export type WatchEvent =
  | {
      readonly type: "snapshot-begin";
      /** Names this log; a control that was set up anew has another one, and its `seq` starts again. */
      readonly logId: string;
      /**
       * The oldest purge that is still kept, null if none ever was. A server whose last applied purge is older than the one
       * before it has missed purges: its cache may hold what should be gone.
       */
      readonly oldestPurgeSeq: number | null;
    }
  | ActivationEvent
  | ReferenceEvent
  | PurgeEvent
  | { readonly type: "report"; readonly report: ServerReport }
  | { readonly type: "snapshot-end"; readonly seq: number }
  /** First thing after a resume, then each second. Everything up to `seq` has been sent on this stream. */
  | { readonly type: "heartbeat"; readonly logId: string; readonly seq: number };

/** Progress of a purge, in order: `accepted`, any number of `ack`, `done`. */
export type PurgeProgress =
  | {
      readonly type: "accepted";
      readonly purgeSeq: number;
      /** Edges and parents: those that reported within 5 s and those that the topology names. */
      readonly servers: readonly ServerId[];
      /** Those of `servers` that have not reported within 5 s. */
      readonly missing: readonly ServerId[];
    }
  | ({ readonly type: "ack"; readonly elapsedMs: number } & Pick<PurgeAck, "serverId" | "removed">)
  | PurgeResult;

/** How a purge ended. */
export interface PurgeResult {
  readonly type: "done";
  readonly purgeSeq: number;
  readonly acked: number;
  readonly expected: number;
  /** Servers that have not acknowledged; empty when `acked` equals `expected`. */
  readonly unacknowledged: readonly ServerId[];
  readonly elapsedMs: number;
}

/**
 * What became of an acknowledgement. `unexpected` and `repeated` change nothing; `closed`: waiting has ended before; `unknown`:
 * there is no such purge.
 */
export const ackOutcomeWords = ["counted", "repeated", "unexpected", "closed", "unknown"] as const;
export type AckOutcome = (typeof ackOutcomeWords)[number];
