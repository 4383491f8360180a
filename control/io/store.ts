/**
 * What a store of control must do; one contract test holds every implementation to it. Synchronous on purpose: a change is
 * decided, written and synchronised in one turn, so that no two requests interleave and "acknowledged" means "on the disk".
 */
import type { PropertyDocument, PurgeEntry, PurgeRequest, Steps } from "#kit";
import type { KeptDifference } from "../core/difference-chain.ts";
import type { LogBounds, VersionConflict } from "../core/document-log.ts";
import type { LeaseRecord } from "../core/lease.ts";
import type { Rollout } from "../core/rollout.ts";
import type { DocumentKind, DocumentSummary } from "../core/words.ts";
import type { ActiveDocuments, ZoneClaim } from "../core/claims.ts";

export interface AppendCommand {
  readonly kind: DocumentKind;
  readonly id: string;
  /** Canonical JSON of the body, checked by its schema. */
  readonly bodyText: string;
  /** What `keepInSteps` gave for the body. */
  readonly upload?: number | undefined;
  readonly expectedVersion: number;
  readonly activates: boolean;
  readonly author: string;
  readonly note: string;
  readonly atEpochMs: number;
  /** What leads to this version from another one; kept for the newest versions. */
  readonly difference?: { readonly base: string; readonly result: string; readonly text: string } | undefined;
}

export interface ActivateCommand {
  readonly kind: DocumentKind;
  readonly id: string;
  readonly version: number;
  readonly expectedActiveVersion: number | null;
  /** Told to everyone also where it is in force already: some were offered another one. */
  readonly isToldAgain?: boolean;
  /** {@link DocumentStore.saveRollout} in the same step, where the version comes into force: either both are kept or neither. */
  readonly rollout?: Rollout | undefined;
}

export interface StoredActivation {
  readonly type: "document";
  /** Only these servers are told: it is being tried on them. Absent: it is in force. */
  readonly audience?: ReadonlySet<string> | undefined;
  readonly seq: number;
  readonly kind: DocumentKind;
  readonly id: string;
  readonly version: number;
  readonly bodyText: string;
}
export interface StoredPurge {
  readonly type: "purge";
  readonly seq: number;
  readonly purge: PurgeEntry;
}
export type StoredEvent = StoredActivation | StoredPurge;

export interface StoredDocument {
  readonly summary: DocumentSummary;
  readonly bodyText: string;
}

export type AppendResult =
  | {
      readonly outcome: "appended";
      readonly summary: DocumentSummary;
      /** Absent when the version was not put in force. */
      readonly event: StoredActivation | undefined;
    }
  | VersionConflict;

export type ActivateResult =
  | {
      readonly outcome: "activated";
      readonly summary: DocumentSummary;
      readonly event: StoredActivation;
    }
  | { readonly outcome: "unchanged"; readonly summary: DocumentSummary }
  | { readonly outcome: "unknown-version" }
  | VersionConflict;

/** Methods that change return only once the change would survive a power cut; they throw when it could not be made. */
export interface DocumentStore {
  /**
   * Writes what is long of a body ahead of the version that is appended with it, in the turn of the last step; without that it is forgotten.
   * Undefined: nothing was written.
   */
  keepInSteps(bodyText: string): Steps<number | undefined>;
  append(command: AppendCommand): AppendResult;
  activate(command: ActivateCommand): ActivateResult;
  /** Keeps where a roll-out stands; one for each document. */
  saveRollout(rollout: Rollout): void;
  /** {@link saveRollout}, and a place in the log at which the servers of its stage are told of its version. */
  offer(rollout: Rollout): StoredActivation;
  appendPurge(request: PurgeRequest, atEpochMs: number): StoredPurge;
  /** Replaces what is kept of the lease of that name. */
  saveLease(lease: LeaseRecord): void;

  leases(): readonly LeaseRecord[];
  /** By kind and id; with `id`: of documents of this name. */
  rollouts(id?: string): readonly Rollout[];
  /** The version asked for, or the active one; undefined when there is none. */
  document(kind: DocumentKind, id: string, version?: number): StoredDocument | undefined;
  /** Kept versions, oldest first. */
  versions(kind: DocumentKind, id: string): readonly DocumentSummary[];
  /** Differences of the newest versions, ascending by version. */
  differences(kind: DocumentKind, id: string): readonly KeptDifference[];
  /** The text of one of them; undefined: it is not kept. */
  differenceText(kind: DocumentKind, id: string, version: number): string | undefined;
  /** The newest version of each document of a kind, by id. */
  documents(kind: DocumentKind): readonly DocumentSummary[];
  /** Documents of a kind. */
  documentCount(kind: DocumentKind): number;
  /** Properties in force, by id. */
  activeProperties(): readonly PropertyDocument[];
  /** Policies in force, by id. */
  activePolicies(): ActiveDocuments["policies"];
  /** Zones in force, by id; without their records. */
  activeZones(): readonly ZoneClaim[];

  bounds(): LogBounds;
  /**
   * At most `limit` events behind `afterSeq` and up to `upToSeq`, in order. An activation whose body has been pruned is left
   * out: a later one of the same document follows.
   */
  events(afterSeq: number, upToSeq: number, limit: number): readonly StoredEvent[];
  /**
   * Places of the activations in force, with the newest offers of roll-outs under way, and then of the kept purges, each in order: what a
   * snapshot consists of.
   */
  snapshotSeqs(): { readonly documents: readonly number[]; readonly purges: readonly number[] };
  /** The event at a place, undefined when it is no longer kept. */
  event(seq: number): StoredEvent | undefined;
  /** Null when no purge is kept. */
  oldestPurgeSeq(): number | null;
  /** 0 when there never was one. */
  newestPurgeSeq(): number;

  close(): void;
}
