/**
 * The laws of the log: immutable numbered versions, compare-and-set, activation forward and back, a place (`seq`) that only
 * grows. Pure decisions over the head of one document; a store carries them out in one transaction.
 */
import type { DocumentKind } from "./words.ts";

/** What has to be known of one `kind/id` to decide about it. */
export interface DocumentHead {
  /** 0 when there is none. */
  readonly latestVersion: number;
  readonly activeVersion: number | null;
}

export const emptyHead: DocumentHead = { latestVersion: 0, activeVersion: null };

/** The sender expected another version than the one that is there. */
export interface VersionConflict {
  readonly outcome: "conflict";
  readonly presentVersion: number | null;
}

export type AppendDecision =
  | { readonly outcome: "appended"; readonly version: number; readonly activates: boolean }
  | VersionConflict;

/** Appends `expectedVersion + 1` or nothing: of two writers that read the same version exactly one wins. */
export function decideAppend(
  head: DocumentHead,
  expectedVersion: number,
  activates: boolean,
): AppendDecision {
  return expectedVersion === head.latestVersion
    ? { outcome: "appended", version: head.latestVersion + 1, activates }
    : { outcome: "conflict", presentVersion: head.latestVersion };
}

export type ActivateDecision =
  | { readonly outcome: "activated"; readonly version: number }
  /** It is in force already: no new place in the log, so that a repeated request is harmless. */
  | { readonly outcome: "unchanged"; readonly version: number }
  | { readonly outcome: "unknown-version" }
  | VersionConflict;

/**
 * @param isKept whether the body of that version is still stored
 * @param expectedActiveVersion null: nothing is in force
 */
export function decideActivate(
  head: DocumentHead,
  version: number,
  isKept: boolean,
  expectedActiveVersion: number | null,
): ActivateDecision {
  if (expectedActiveVersion !== head.activeVersion) {
    return { outcome: "conflict", presentVersion: head.activeVersion };
  }
  if (version < 1 || version > head.latestVersion || !isKept) return { outcome: "unknown-version" };
  return { outcome: version === head.activeVersion ? "unchanged" : "activated", version };
}

/** How much of the past is kept. */
export interface Retention {
  /** Versions of one map; the mapping engine makes one every few seconds. Others are kept for good. */
  readonly mapVersionsMax: number;
  /** Purges; a server that was away for more of them has to distrust its cache. */
  readonly purgesMax: number;
  /** Places in the log that a watcher can resume behind. */
  readonly eventsMax: number;
}

export const retentionDefaults: Retention = { mapVersionsMax: 50, purgesMax: 1_000, eventsMax: 10_000 };

/**
 * Versions up to which (inclusive) a document's bodies may go after an append; 0 for none. The store spares the active
 * one wherever it stands, because a roll-back may have put an old one in force.
 */
export function pruneUpTo(kind: DocumentKind, latestVersion: number, retention: Retention): number {
  return kind === "map" ? Math.max(0, latestVersion - retention.mapVersionsMax) : 0;
}

/** What a log still holds. */
export interface LogBounds {
  readonly logId: string;
  /** The first place that is kept; `newestSeq + 1` when none is. */
  readonly oldestSeq: number;
  /** 0 when nothing ever happened. */
  readonly newestSeq: number;
}

export const watchStarts = ["resume", "fresh", "other-log", "too-old", "ahead"] as const;
/**
 * `resume`: everything behind the place is still there. The others begin with a snapshot - `fresh`: no place was named;
 * `other-log`: it is one of a control that was set up anew since; `too-old`: part of what follows it is gone; `ahead`: this
 * log has never been there, so it was put back to an older copy.
 */
export type WatchStart = (typeof watchStarts)[number];

export function decideWatchStart(
  bounds: LogBounds,
  since: { readonly logId: string; readonly seq: number } | undefined,
): WatchStart {
  if (since === undefined) return "fresh";
  if (since.logId !== bounds.logId) return "other-log";
  if (since.seq > bounds.newestSeq) return "ahead";
  return since.seq + 1 < bounds.oldestSeq ? "too-old" : "resume";
}
