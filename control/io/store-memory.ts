/** The store without a disk, for tests and the simulator. Keeps every law of the one on SQLite but durability. */
import type { PropertyDocument, PurgeRequest, Steps } from "#kit";
import { DIFFERENCES_MAX, type KeptDifference } from "../core/difference-chain.ts";
import {
  decideActivate,
  decideAppend,
  type DocumentHead,
  emptyHead,
  type LogBounds,
  pruneUpTo,
  type Retention,
  retentionDefaults,
} from "../core/document-log.ts";
import type { LeaseRecord } from "../core/lease.ts";
import { offeredTo, type Rollout } from "../core/rollout.ts";
import type { DocumentKind, DocumentSummary } from "../core/words.ts";
import type { ActiveDocuments, ZoneClaim } from "../core/claims.ts";
import type {
  ActivateCommand,
  ActivateResult,
  AppendCommand,
  AppendResult,
  DocumentStore,
  StoredActivation,
  StoredDocument,
  StoredEvent,
  StoredPurge,
} from "./store.ts";

type VersionRow = Omit<DocumentSummary, "activeVersion"> & { readonly bodyText: string };
type DifferenceRow = KeptDifference & { readonly text: string };
interface DocumentRow {
  readonly kind: DocumentKind;
  readonly id: string;
  head: DocumentHead;
  activeSeq: number;
  readonly versions: Map<number, VersionRow>;
  readonly differences: DifferenceRow[];
}
type LogRow =
  | {
      readonly type: "document";
      readonly kind: DocumentKind;
      readonly id: string;
      readonly version: number;
      readonly audience?: ReadonlySet<string>;
    }
  | { readonly type: "purge"; readonly purgeSeq: number };

export class MemoryStore implements DocumentStore {
  readonly #logId: string;
  readonly #retention: Retention;
  readonly #documents = new Map<string, DocumentRow>();
  readonly #log = new Map<number, LogRow>();
  /** By purgeSeq. */
  readonly #purges = new Map<number, StoredPurge>();
  readonly #leases = new Map<string, LeaseRecord>();
  readonly #rollouts = new Map<string, { readonly rollout: Rollout; readonly offerSeq: number }>();
  #newestSeq = 0;
  #newestPurgeSeq = 0;

  constructor(options: { readonly logId: string; readonly retention?: Partial<Retention> }) {
    this.#logId = options.logId;
    this.#retention = { ...retentionDefaults, ...options.retention };
  }

  // oxlint-disable-next-line require-yield -- a name in memory is no step
  *keepInSteps(): Steps<undefined> {
    return undefined;
  }

  append(command: AppendCommand): AppendResult {
    const { kind, id, bodyText, author, note, atEpochMs } = command;
    const key = `${kind}/${id}`;
    const present = this.#documents.get(key);
    const decision = decideAppend(present?.head ?? emptyHead, command.expectedVersion, command.activates);
    if (decision.outcome === "conflict") return decision;
    const { version } = decision;
    const row: DocumentRow = present ?? {
      kind,
      id,
      head: emptyHead,
      activeSeq: 0,
      versions: new Map(),
      differences: [],
    };
    this.#documents.set(key, row);
    row.versions.set(version, { kind, id, version, createdAtEpochMs: atEpochMs, author, note, bodyText });
    row.head = { ...row.head, latestVersion: version };
    const { difference } = command;
    if (difference !== undefined)
      row.differences.push({ version, ...difference, bytes: Buffer.byteLength(difference.text) });
    while ((row.differences[0]?.version ?? version) <= version - DIFFERENCES_MAX) row.differences.shift();
    const event = decision.activates ? this.#activateRow(row, version) : undefined;
    const last = pruneUpTo(kind, version, this.#retention);
    for (const old of row.versions.keys()) {
      if (old <= last && old !== row.head.activeVersion) row.versions.delete(old);
    }
    return { outcome: "appended", summary: this.#summary(row, version), event };
  }

  activate(command: ActivateCommand): ActivateResult {
    const row = this.#documents.get(`${command.kind}/${command.id}`);
    if (row === undefined) return { outcome: "unknown-version" };
    const { version } = command;
    const decision = decideActivate(
      row.head,
      version,
      row.versions.has(version),
      command.expectedActiveVersion,
    );
    if (decision.outcome === "unchanged" && command.isToldAgain !== true)
      return { outcome: "unchanged", summary: this.#summary(row, version) };
    if (decision.outcome !== "activated" && decision.outcome !== "unchanged") return decision;
    if (command.rollout !== undefined) this.saveRollout(command.rollout);
    const event = this.#activateRow(row, version);
    return { outcome: "activated", summary: this.#summary(row, version), event };
  }

  appendPurge(request: PurgeRequest, atEpochMs: number): StoredPurge {
    const purgeSeq = ++this.#newestPurgeSeq;
    const seq = this.#appendLog({ type: "purge", purgeSeq });
    const stored: StoredPurge = { type: "purge", seq, purge: { purgeSeq, atEpochMs, request } };
    this.#purges.set(purgeSeq, stored);
    for (const old of this.#purges.keys()) {
      if (old > purgeSeq - this.#retention.purgesMax) break;
      this.#purges.delete(old);
    }
    return stored;
  }

  saveRollout(rollout: Rollout): void {
    const key = `${rollout.kind}/${rollout.id}`;
    this.#rollouts.set(key, { rollout, offerSeq: this.#rollouts.get(key)?.offerSeq ?? 0 });
  }

  offer(rollout: Rollout): StoredActivation {
    const { kind, id, version } = rollout;
    const audience = offeredTo(rollout);
    const seq = this.#appendLog({ type: "document", kind, id, version, audience });
    this.#rollouts.set(`${kind}/${id}`, { rollout, offerSeq: seq });
    const bodyText = this.#documents.get(`${kind}/${id}`)?.versions.get(version)?.bodyText ?? "null";
    return { type: "document", seq, kind, id, version, bodyText, audience };
  }

  rollouts(id?: string): readonly Rollout[] {
    return [...this.#rollouts.keys()]
      .sort()
      .flatMap((key) => this.#rollouts.get(key)?.rollout ?? [])
      .filter((one) => id === undefined || one.id === id);
  }

  saveLease({ name, term, holderId, durationMs, note }: LeaseRecord): void {
    this.#leases.set(name, { name, term, holderId, durationMs, note });
  }

  leases(): readonly LeaseRecord[] {
    return [...this.#leases.values()];
  }

  document(kind: DocumentKind, id: string, version?: number): StoredDocument | undefined {
    const row = this.#documents.get(`${kind}/${id}`);
    const wanted = version ?? row?.head.activeVersion ?? undefined;
    const found = wanted === undefined ? undefined : row?.versions.get(wanted);
    if (row === undefined || found === undefined) return undefined;
    return { summary: this.#summary(row, found.version), bodyText: found.bodyText };
  }

  differences(kind: DocumentKind, id: string): readonly KeptDifference[] {
    return (this.#documents.get(`${kind}/${id}`)?.differences ?? []).map(({ text: _text, ...kept }) => kept);
  }

  differenceText(kind: DocumentKind, id: string, version: number): string | undefined {
    return this.#documents.get(`${kind}/${id}`)?.differences.find((one) => one.version === version)?.text;
  }

  versions(kind: DocumentKind, id: string): readonly DocumentSummary[] {
    const row = this.#documents.get(`${kind}/${id}`);
    return row === undefined ? [] : [...row.versions.keys()].map((version) => this.#summary(row, version));
  }

  documents(kind: DocumentKind): readonly DocumentSummary[] {
    return this.#rows(kind).map((row) => this.#summary(row, row.head.latestVersion));
  }

  documentCount(kind: DocumentKind): number {
    return this.#rows(kind).length;
  }

  activeProperties(): readonly PropertyDocument[] {
    return this.#active("property");
  }

  activePolicies(): ActiveDocuments["policies"] {
    return this.#active("policy");
  }

  activeZones(): readonly ZoneClaim[] {
    return this.#active("zone");
  }

  #active<T>(kind: DocumentKind): readonly T[] {
    return this.#rows(kind).flatMap((row) => {
      const active = row.versions.get(row.head.activeVersion ?? 0);
      return active === undefined ? [] : [JSON.parse(active.bodyText) as T];
    });
  }

  bounds(): LogBounds {
    const oldestSeq = this.#log.keys().next().value ?? this.#newestSeq + 1;
    return { logId: this.#logId, oldestSeq, newestSeq: this.#newestSeq };
  }

  events(afterSeq: number, upToSeq: number, limit: number): readonly StoredEvent[] {
    const found: StoredEvent[] = [];
    for (const seq of this.#log.keys()) {
      if (seq > upToSeq || found.length >= limit) break;
      const event = seq > afterSeq ? this.event(seq) : undefined;
      if (event !== undefined) found.push(event);
    }
    return found;
  }

  snapshotSeqs(): { readonly documents: readonly number[]; readonly purges: readonly number[] } {
    const documents = [...this.#documents.values()]
      .filter((row) => row.head.activeVersion !== null)
      .map((row) => row.activeSeq);
    for (const { rollout, offerSeq } of this.#rollouts.values())
      if (rollout.state === "running" && this.#log.has(offerSeq)) documents.push(offerSeq);
    documents.sort((a, b) => a - b);
    return { documents, purges: [...this.#purges.values()].map((purge) => purge.seq) };
  }

  event(seq: number): StoredEvent | undefined {
    for (const purge of this.#purges.values()) if (purge.seq === seq) return purge;
    const logged = this.#log.get(seq);
    if (logged?.type === "document") {
      const { kind, id, version, audience } = logged;
      const bodyText = this.#documents.get(`${kind}/${id}`)?.versions.get(version)?.bodyText;
      return bodyText === undefined
        ? undefined
        : { type: "document", seq, kind, id, version, bodyText, ...(audience !== undefined && { audience }) };
    }
    // An activation in force outlives its row in the log.
    for (const row of this.#documents.values()) {
      if (row.activeSeq !== seq || row.head.activeVersion === null) continue;
      const { kind, id, head } = row;
      const version = head.activeVersion as number;
      const bodyText = row.versions.get(version)?.bodyText;
      if (bodyText !== undefined) return { type: "document", seq, kind, id, version, bodyText };
    }
    return undefined;
  }

  oldestPurgeSeq(): number | null {
    return this.#purges.keys().next().value ?? null;
  }

  newestPurgeSeq(): number {
    return this.#newestPurgeSeq;
  }

  close(): void {
    // Nothing is held.
  }

  #rows(kind: DocumentKind): DocumentRow[] {
    return [...this.#documents.values()]
      .filter((row) => row.kind === kind)
      .sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  }

  #activateRow(row: DocumentRow, version: number): StoredActivation {
    const { kind, id } = row;
    const seq = this.#appendLog({ type: "document", kind, id, version });
    row.head = { ...row.head, activeVersion: version };
    row.activeSeq = seq;
    return {
      type: "document",
      seq,
      kind,
      id,
      version,
      bodyText: row.versions.get(version)?.bodyText ?? "null",
    };
  }

  #appendLog(row: LogRow): number {
    const seq = ++this.#newestSeq;
    this.#log.set(seq, row);
    for (const old of this.#log.keys()) {
      if (old > seq - this.#retention.eventsMax) break;
      this.#log.delete(old);
    }
    return seq;
  }

  #summary(row: DocumentRow, version: number): DocumentSummary {
    const stored = row.versions.get(version);
    if (stored === undefined) throw new RangeError(`${row.kind}/${row.id} has no version ${version}`);
    const { kind, id, createdAtEpochMs, author, note } = stored;
    return { kind, id, version, activeVersion: row.head.activeVersion, createdAtEpochMs, author, note };
  }
}
