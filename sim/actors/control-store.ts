/**
 * Control: the log of versions and activations, the stream to its watchers, purges under way, reports. The laws are control's
 * own cores; this holds the log (its disk) and sends.
 */
import type { MapDifference, PurgeAck, PurgeEntry, PurgeRequest, ServerReport, TopologyDocument } from "#kit";
import {
  differenceChain,
  DIFFERENCES_MAX,
  type KeptDifference,
} from "../../control/core/difference-chain.ts";
import { type Fence, fenceOf } from "../../control/core/fence.ts";
import {
  emptyLease,
  isLeaseHeld,
  type LeaseDecision,
  type LeaseRequest,
  type LeaseState,
  restoredLease,
} from "../../control/core/lease.ts";
import { emptyHead, type DocumentHead } from "../../control/core/document-log.ts";
import { PurgeLedger } from "../../control/core/purge-ledger.ts";
import { ReportBoard } from "../../control/core/report-board.ts";
import type { ActivationEvent, DocumentKind, PurgeResult, WatchEvent } from "../../control/core/words.ts";
import { epochOf, type Host, type Program } from "./host.ts";

export type MapDelivery =
  | { readonly form: "whole"; readonly body: unknown }
  | { readonly form: "differences"; readonly differences: readonly MapDifference[] };

export interface PutResult {
  readonly outcome: "appended" | "conflict" | "fenced" | "not-newer";
  /** The version appended, or the one that is there. */
  readonly version: number;
}

/** The newest part of the log that a watcher can resume behind; short, so that runs meet `too-old`. */
const EVENTS_KEPT = 200;
const LOG_ID = "sim-log";

interface Connection {
  readonly watcher: Host;
  readonly incarnation: number;
  readonly kinds: ReadonlySet<string>;
  readonly onEvent: (event: WatchEvent) => void;
  /** Maps are named to it, and it fetches them. */
  readonly takesReferences: boolean;
  /** Streams keep order: nothing overtakes. */
  lastArrivalAt: number;
  /** A message vanished: what comes behind it on the stream never arrives either. */
  isBroken: boolean;
}

type LogEntry =
  | ActivationEvent
  | { readonly type: "purge"; readonly seq: number; readonly purge: PurgeEntry };

export class ControlStore implements Program {
  readonly host: Host;
  // The disk.
  readonly #heads = new Map<string, DocumentHead>();
  readonly #bodies = new Map<string, unknown>();
  readonly #log: LogEntry[] = [];
  readonly #differences: (KeptDifference & { readonly difference: MapDifference })[] = [];
  #purgeSeq = 0;
  #leaseRecord: LeaseState = emptyLease("map");
  // Memory.
  #lease: LeaseState = emptyLease("map");
  #connections = new Map<string, Connection>();
  #ledger = new PurgeLedger();
  #board = new ReportBoard();
  #onPurgeDone = new Map<number, (result: PurgeResult) => void>();
  readonly counters = {
    appended: 0,
    conflicts: 0,
    fenced: 0,
    purges: 0,
    reports: 0,
    watches: 0,
    resumed: 0,
    whole: 0,
    differences: 0,
  };

  constructor(host: Host) {
    this.host = host;
  }

  start(): void {
    this.#connections = new Map();
    this.#ledger = new PurgeLedger();
    this.#board = new ReportBoard();
    this.#onPurgeDone = new Map();
    this.#lease = restoredLease(this.#leaseRecord, this.host.now);
    this.#beat();
  }

  get newestSeq(): number {
    return this.#log.at(-1)?.seq ?? 0;
  }
  get newestPurgeSeq(): number {
    return this.#purgeSeq;
  }
  get log(): readonly LogEntry[] {
    return this.#log;
  }
  headOf(kind: DocumentKind, id: string): DocumentHead {
    return this.#heads.get(`${kind}/${id}`) ?? emptyHead;
  }
  bodyOf(kind: DocumentKind, id: string, version: number): unknown {
    return this.#bodies.get(`${kind}/${id}@${version}`);
  }
  /** What is in force, in order of its place in the log. */
  active(): readonly ActivationEvent[] {
    const newest = new Map<string, ActivationEvent>();
    for (const entry of this.#log)
      if (entry.type === "document") newest.set(`${entry.kind}/${entry.id}`, entry);
    return [...newest.values()].sort((a, b) => a.seq - b.seq);
  }

  get leaseTerm(): number {
    return this.#lease.term;
  }
  /** Who may publish the map now; null: nobody. */
  get publisherId(): string | null {
    return isLeaseHeld(this.#lease, this.host.now) ? this.#lease.holderId : null;
  }

  /** Grants, renews, takes back; what has to outlive the process goes to the disk first. */
  lease(request: LeaseRequest): LeaseDecision & { readonly newest: Fence | undefined } {
    const decision = this.host.env.cores.decideLease(this.#lease, request, this.host.now);
    if (decision.mustSave) this.#leaseRecord = decision.state;
    this.#lease = decision.state;
    if (decision.outcome === "granted")
      this.host.note(`grants term ${decision.state.term} to ${request.holderId}`);
    return { ...decision, newest: this.newestMap };
  }

  /** Of the newest version that was appended. */
  get newestMap(): Fence | undefined {
    return fenceOf("map", this.bodyOf("map", "world", this.headOf("map", "world").latestVersion));
  }

  /** Appends a version and puts it in force; of a map, if there is one, with the difference that leads to it. */
  put(
    kind: DocumentKind,
    id: string,
    body: unknown,
    expectedVersion: number,
    difference?: MapDifference,
  ): PutResult {
    const key = `${kind}/${id}`;
    const head = this.headOf(kind, id);
    const fence = fenceOf(kind, body);
    if (fence !== undefined) {
      const said = this.host.env.cores.decidePublication(this.#lease.term, this.newestMap, fence);
      if (said !== "newer") {
        this.counters.fenced++;
        return { outcome: said, version: head.latestVersion };
      }
    }
    const decision = this.host.env.cores.decideAppend(head, expectedVersion, true);
    if (decision.outcome === "conflict") {
      this.counters.conflicts++;
      return { outcome: "conflict", version: head.latestVersion };
    }
    this.counters.appended++;
    this.#heads.set(key, { latestVersion: decision.version, activeVersion: head.activeVersion });
    this.#bodies.set(`${key}@${decision.version}`, body);
    if (difference !== undefined) {
      const { base, result } = difference;
      this.#differences.push({ version: decision.version, base, result, bytes: 1, difference });
      if (this.#differences.length > DIFFERENCES_MAX) this.#differences.shift();
    }
    this.#activate(kind, id, decision.version);
    return { outcome: "appended", version: decision.version };
  }

  /** A version of a map for one who has the map of that name; undefined: it was never there. */
  delivery(id: string, version: number, have: string | undefined): MapDelivery | undefined {
    const body = this.bodyOf("map", id, version);
    if (body === undefined) return undefined;
    const chain =
      have === undefined ? undefined : differenceChain(this.#differences, version, have, Infinity);
    this.counters[chain === undefined ? "whole" : "differences"]++;
    if (chain === undefined) return { form: "whole", body };
    return {
      form: "differences",
      differences: chain.map(
        (one) => this.#differences.find((kept) => kept.version === one)?.difference as MapDifference,
      ),
    };
  }

  /** Rolls forward or back to a version that is kept. */
  activate(kind: DocumentKind, id: string, version: number): boolean {
    const head = this.headOf(kind, id);
    const isKept = this.#bodies.has(`${kind}/${id}@${version}`);
    const decision = this.host.env.cores.decideActivate(head, version, isKept, head.activeVersion);
    if (decision.outcome !== "activated") return false;
    this.#activate(kind, id, version);
    return true;
  }

  #activate(kind: DocumentKind, id: string, version: number): void {
    const key = `${kind}/${id}`;
    this.#heads.set(key, { latestVersion: this.headOf(kind, id).latestVersion, activeVersion: version });
    const body = this.#bodies.get(`${key}@${version}`);
    const event: ActivationEvent = { type: "document", seq: this.newestSeq + 1, kind, id, version, body };
    this.#log.push(event);
    this.host.note(`activated ${key} version ${version} seq ${event.seq}`);
    this.#broadcast(kind, event);
  }

  /** A watcher has connected. A second connection of the same watcher for the same stream replaces the first. */
  watch(
    watcher: Host,
    stream: string,
    kinds: readonly string[],
    since: { readonly logId: string; readonly seq: number } | undefined,
    takesReferences: boolean,
    onEvent: (event: WatchEvent) => void,
  ): void {
    const connection: Connection = {
      watcher,
      incarnation: watcher.incarnation,
      kinds: new Set(kinds),
      onEvent,
      takesReferences,
      lastArrivalAt: 0,
      isBroken: false,
    };
    this.#connections.set(`${watcher.id}/${stream}`, connection);
    this.counters.watches++;
    const oldestSeq = Math.max(1, this.newestSeq - EVENTS_KEPT + 1);
    const start = this.host.env.cores.decideWatchStart(
      { logId: LOG_ID, oldestSeq, newestSeq: this.newestSeq },
      since,
    );
    if (start === "resume") {
      this.counters.resumed++;
      this.#send(connection, { type: "heartbeat", logId: LOG_ID, seq: since?.seq ?? 0 });
      for (const entry of this.#log)
        if (entry.seq > (since?.seq ?? 0)) this.#sendIfWatched(connection, entry);
      return;
    }
    const purges = this.#log.filter((entry) => entry.type === "purge");
    this.#send(connection, {
      type: "snapshot-begin",
      logId: LOG_ID,
      oldestPurgeSeq: purges[0]?.purge.purgeSeq ?? null,
    });
    for (const entry of this.active()) this.#sendIfWatched(connection, entry);
    for (const entry of purges) this.#sendIfWatched(connection, entry);
    this.#send(connection, { type: "snapshot-end", seq: this.newestSeq });
  }

  report(report: ServerReport): void {
    this.counters.reports++;
    if (!this.#board.handleReport(report, this.host.now)) return;
    this.#broadcast("report", { type: "report", report });
    if (report.opinions !== undefined) this.#broadcast("opinion", { type: "report", report });
  }

  purge(request: PurgeRequest, onDone: (result: PurgeResult) => void): PurgeEntry {
    const { now } = this.host;
    const purgeSeq = ++this.#purgeSeq;
    this.counters.purges++;
    const purge: PurgeEntry = { purgeSeq, atEpochMs: Math.round(epochOf(now)), request };
    const topology = this.active().find((entry) => entry.kind === "topology")?.body as
      | TopologyDocument
      | undefined;
    const { live, missing } = this.#board.purgeAudience(topology, now);
    this.#onPurgeDone.set(purgeSeq, onDone);
    this.#ledger.handleStart(purgeSeq, live, missing, now);
    const entry: LogEntry = { type: "purge", seq: this.newestSeq + 1, purge };
    this.#log.push(entry);
    this.host.note(
      `purge ${purgeSeq} of ${request.urls.join(" ")}${request.tags.join(" ")}: ${live.length} live, ${missing.length} missing`,
    );
    this.#broadcast("purge", entry);
    this.#settlePurges();
    return purge;
  }

  acknowledge(ack: PurgeAck): void {
    this.#ledger.handleAck(ack, this.host.now);
    this.#settlePurges();
  }

  /** An old activation arrives at a node once more, behind newer ones, as from a stream that was given up. False: nothing older was there. */
  replayOld(nodeId: string, seqOfNode: (key: string) => number | undefined): boolean {
    const connection = this.#connections.get(`${nodeId}/documents`);
    if (connection === undefined) return false;
    const old = this.#log.findLast(
      (entry) =>
        entry.type === "document" &&
        connection.kinds.has(entry.kind) &&
        entry.seq < (seqOfNode(`${entry.kind}/${entry.id}`) ?? 0),
    );
    if (old === undefined) return false;
    this.host.note(`replays seq ${old.seq} to ${nodeId}`);
    this.#send(connection, old);
    return true;
  }

  #settlePurges(): void {
    const { now } = this.host;
    this.#ledger.handleTimeout(now);
    for (let event = this.#ledger.pollEvent(); event; event = this.#ledger.pollEvent()) {
      const { progress } = event;
      if (progress.type !== "done") continue;
      this.host.note(
        `purge ${progress.purgeSeq} done: ${progress.acked}/${progress.expected} in ${Math.round(progress.elapsedMs)} ms`,
      );
      this.#onPurgeDone.get(progress.purgeSeq)?.(progress);
      this.#onPurgeDone.delete(progress.purgeSeq);
    }
    const next = this.#ledger.pollTimeout();
    if (next !== undefined) this.host.after(next - now, "purge-deadline", () => this.#settlePurges());
  }

  #beat(): void {
    for (const connection of this.#connections.values())
      this.#send(connection, { type: "heartbeat", logId: LOG_ID, seq: this.newestSeq });
    this.host.after(this.host.env.settings.heartbeatMs, "heartbeat", () => this.#beat());
  }

  #broadcast(kind: string, event: WatchEvent): void {
    for (const connection of this.#connections.values())
      if (connection.kinds.has(kind)) this.#send(connection, event);
  }

  #sendIfWatched(connection: Connection, entry: LogEntry): void {
    if (connection.kinds.has(entry.type === "purge" ? "purge" : entry.kind)) this.#send(connection, entry);
  }

  #send(connection: Connection, whole: WatchEvent): void {
    if (connection.isBroken) return;
    const { watcher, incarnation } = connection;
    const event = connection.takesReferences ? namedOnly(whole) : whole;
    const { env, now, site } = this.host;
    const delayMs = env.network.stream(site, watcher.site);
    if (delayMs === undefined || watcher.incarnation !== incarnation) {
      connection.isBroken = true;
      return;
    }
    connection.lastArrivalAt = Math.max(now + delayMs, connection.lastArrivalAt);
    env.queue.schedule(connection.lastArrivalAt, watcher.id, `watch-${event.type}`, () => {
      if (watcher.incarnation !== incarnation) return;
      watcher.arrive(
        () => connection.onEvent(event),
        () => {},
      );
    });
  }
}

/** A map by its name, as those are sent it who fetch it. */
function namedOnly(event: WatchEvent): WatchEvent {
  if (event.type !== "document" || event.kind !== "map") return event;
  const { seq, kind, id, version, body } = event;
  const fence = fenceOf(kind, body);
  return fence === undefined ? event : { type: "reference", seq, kind, id, version, fence };
}
