/**
 * What control does, apart from HTTP: checks a change against the laws, has the store make it durable, and only then
 * tells the watchers. Every method is one turn, so two requests never interleave.
 */
import {
  type Clock,
  type DnssecDocument,
  dnssecDocument,
  jsonPieces,
  type MonotonicMs,
  ParseError,
  type PropertyDocument,
  type PurgeAck,
  type PurgeRequest,
  type ServerReport,
  type Steps,
  type MapOverrides,
  type TopologyDocument,
  type PolicyDocument,
  editZone,
  type ZoneDocument,
  zoneDocument,
  zoneOfDocument,
} from "#kit";
import { controlSettings } from "../config.ts";
import { diffDocuments } from "../core/diff.ts";
import { BYTES_RATIO_MAX, differenceChain } from "../core/difference-chain.ts";
import { compareFences, decidePublication, type Fence, fenceOf, fenceOfText } from "../core/fence.ts";
import {
  type ActiveDocuments,
  checkPolicy,
  checkProperty,
  checkSignable,
  checkZone,
} from "../core/claims.ts";
import {
  checkOverrides,
  checkOwner,
  checkPurge,
  checkSecondary,
  kindRules,
  parseDocument,
} from "../core/kinds.ts";
import type { RollStep } from "../core/key-roll.ts";
import { KeyRolls, type ZoneRoll } from "../core/key-rolls.ts";
import {
  decideLease,
  emptyLease,
  isLeaseHeld,
  type LeaseName,
  leaseNames,
  type LeaseRequest,
  type LeaseState,
  restoredLease,
} from "../core/lease.ts";
import { PurgeLedger, type PurgeLedgerSettings } from "../core/purge-ledger.ts";
import { ReportBoard } from "../core/report-board.ts";
import { type Cut, type HubLine, WatchHub, type WatchHubSettings } from "../core/watch-hub.ts";
import type {
  AckOutcome,
  DocumentChange,
  DocumentKind,
  DocumentSummary,
  PurgeProgress,
  WatchEvent,
} from "../core/words.ts";
import { differenceNames, type LeaseAnswer, type ZoneEditRequest } from "../core/wire.ts";
import { conflict, fenced, notFound, Refusal, refusalOf } from "./refusal.ts";
import type { DocumentStore, StoredActivation, StoredDocument, StoredEvent } from "./store.ts";

export interface AppendInput {
  readonly body: unknown;
  readonly expectedVersion: number;
  readonly note: string;
  readonly author: string;
  readonly activate?: boolean;
  /** What leads to it from another version, as it came. */
  readonly difference?: unknown;
}

/** A body whose text was made, and written in part, ahead of its version. */
interface WrittenBody {
  readonly text: string;
  readonly upload: number | undefined;
}

/** What is kept ready of answers that every receiver of a new map asks for, bytes; the newest one is kept however large it is. */
const DELIVERIES_BYTES_MAX = 64 * 1024 * 1024;

/** A longer one is cut: with many zones, many steps are due at once. */
const ROLL_NOTE_MAX = 200;

/** Keys of one deployment in the version in force. */
interface FollowedKeys {
  readonly rolls: KeyRolls;
  readonly version: number;
  readonly document: DnssecDocument;
  zones: readonly ZoneRoll[];
}

export interface ControlServiceOptions {
  readonly store: DocumentStore;
  readonly clock: Clock;
  readonly hubSettings?: WatchHubSettings;
  readonly ledgerSettings?: PurgeLedgerSettings;
  /** Told after lines were queued, so that watchers are served, and who was cut off meanwhile. */
  readonly onPublished: (cuts: readonly Cut[]) => void;
}

/** Refuses by throwing {@link Refusal}; any other error is a fault of control or its disk. */
export class ControlService {
  readonly store: DocumentStore;
  readonly hub: WatchHub;
  readonly board = new ReportBoard();
  readonly ledger: PurgeLedger;
  readonly #clock: Clock;
  readonly #onPublished: (cuts: readonly Cut[]) => void;
  readonly #purgeListeners = new Map<number, (progress: PurgeProgress) => void>();
  #purgeTimer: NodeJS.Timeout | undefined;
  readonly #leases: Record<LeaseName, LeaseState>;
  /** Of the newest version of each fenced document, by `kind/id`; null: there is none. */
  readonly #newestFences = new Map<string, Fence | null>();
  readonly #counters = { appended: 0, activated: 0, purges: 0, conflicts: 0, refused: 0, fenced: 0 };
  readonly #rollCounters = { delegate: 0, activate: 0, undelegate: 0, remove: 0, unsign: 0 };
  readonly #rolls = new Map<string, FollowedKeys>();
  /** Answers of `delivery`, by what was asked; forgotten when another version comes into force. */
  readonly #deliveries = new Map<
    string,
    { readonly form: "whole" | "differences"; readonly bytes: Uint8Array }
  >();
  readonly #deliveryCounters = { whole: 0, wholeBytes: 0, differences: 0, differencesBytes: 0 };
  readonly #leaseCounters = { granted: 0, renewed: 0, released: 0, held: 0, lost: 0 };

  constructor(options: ControlServiceOptions) {
    this.store = options.store;
    this.#clock = options.clock;
    this.#onPublished = options.onPublished;
    this.hub = new WatchHub(options.hubSettings);
    this.ledger = new PurgeLedger(options.ledgerSettings);
    const now = this.#clock.monotonic();
    this.#leases = { map: emptyLease("map") };
    for (const record of this.store.leases()) this.#leases[record.name] = restoredLease(record, now);
  }

  get counters(): Readonly<
    Record<"appended" | "activated" | "purges" | "conflicts" | "refused" | "fenced", number>
  > {
    return this.#counters;
  }
  /** Steps that zones' keys have taken. */
  get rollCounters(): Readonly<Record<RollStep, number>> {
    return this.#rollCounters;
  }
  /** Maps that were fetched by reference, whole and as differences, and their bytes. */
  get deliveryCounters(): Readonly<
    Record<"whole" | "wholeBytes" | "differences" | "differencesBytes", number>
  > {
    return this.#deliveryCounters;
  }
  get leaseCounters(): Readonly<Record<"granted" | "renewed" | "released" | "held" | "lost", number>> {
    return this.#leaseCounters;
  }

  append(kind: DocumentKind, id: string, input: AppendInput, written?: WrittenBody): DocumentSummary {
    const activates = input.activate ?? kindRules[kind].activatesByDefault;
    const body = this.#lawful(() => {
      const parsed = parseDocument(kind, id, input.body);
      if (kind === "property") {
        const property = parsed as PropertyDocument;
        checkOwner(property, `property "${id}"`, this.#ownerOf(kind, id));
        if (activates) checkProperty(property, this.#active());
      }
      if (kind === "zone") {
        const zone = parsed as ZoneDocument;
        checkSecondary(zone);
        checkOwner(zone, `zone "${id}"`, this.#ownerOf(kind, id));
        if (activates) checkZone(zone, this.#active(), this.#topology());
        if (activates) checkSignable(zone, () => this.#signedZones());
      }
      if (kind === "policy") {
        const policy = parsed as PolicyDocument;
        checkOwner(policy, `policy "${id}"`, this.#ownerOf(kind, id));
        if (activates) checkPolicy(policy, this.#active());
      }
      if (kind === "overrides") checkOverrides(parsed as MapOverrides, this.#topology(id));
      const { documentsPerKindMax } = controlSettings;
      const isNew = input.expectedVersion === 0 && this.store.versions(kind, id).length === 0;
      if (isNew && this.store.documentCount(kind) >= documentsPerKindMax) {
        throw new ParseError(
          ["id"],
          id,
          `the id of one of the ${documentsPerKindMax} documents of kind ${kind}`,
        );
      }
      return parsed;
    });
    const fence = this.#checkFence(kind, id, body);
    const bodyText = written?.text ?? JSON.stringify(body);
    const result = this.store.append({
      kind,
      id,
      bodyText,
      upload: written?.upload,
      difference: this.#differenceOf(kind, input.difference, bodyText),
      expectedVersion: input.expectedVersion,
      activates,
      author: input.author,
      note: input.note,
      atEpochMs: Math.floor(this.#clock.epoch()),
    });
    if (result.outcome === "conflict") {
      this.#counters.conflicts++;
      throw conflict(`The newest version of ${kind}/${id}`, input.expectedVersion, result.presentVersion);
    }
    this.#counters.appended++;
    if (fence !== undefined) this.#newestFences.set(`${kind}/${id}`, fence);
    if (result.event !== undefined) this.#publishActivation(result.event);
    return result.summary;
  }

  /** RRsets of a zone in force, changed in one turn: nobody else's edit comes in between, and none is lost. */
  editZone(
    id: string,
    { edits, expectedSerial, note, author }: ZoneEditRequest,
  ): DocumentSummary & { readonly serial: number } {
    const { summary, bodyText } = this.document("zone", id, undefined);
    const newest = this.versions("zone", id).at(-1) ?? summary;
    const { edited, serial } = this.#lawful(() => {
      const before = zoneDocument.parse(JSON.parse(bodyText));
      if (expectedSerial !== undefined && before.secondary === undefined) {
        const present = zoneOfDocument(before).serial;
        if (present !== expectedSerial) {
          this.#counters.conflicts++;
          throw conflict(`The serial of zone ${JSON.stringify(id)}`, expectedSerial, present);
        }
      }
      const edited = editZone(before, edits);
      return { edited, serial: zoneOfDocument(edited).serial };
    });
    const appended = this.append("zone", id, {
      body: edited,
      expectedVersion: newest.version,
      note: note === "" ? `serial ${serial}` : note,
      author,
      activate: true,
    });
    return { ...appended, serial };
  }

  /**
   * {@link append} of a map, which may have 25 MB. Its text is what JSON.stringify makes of it, without a look at each character. What is
   * refused is refused before anything is written, and looked at again when it is.
   */
  *appendMapInSteps(id: string, input: AppendInput): Steps<DocumentSummary> {
    const map = this.#lawful(() => parseDocument("map", id, input.body));
    this.#checkFence("map", id, map);
    const pieces: string[] = [];
    for (const piece of jsonPieces(map)) {
      pieces.push(piece);
      yield;
    }
    const text = pieces.join("");
    const upload = yield* this.store.keepInSteps(text);
    return this.append("map", id, input, { text, upload });
  }

  #differenceOf(kind: DocumentKind, difference: unknown, bodyText: string) {
    if (difference === undefined) return undefined;
    if (kind !== "map")
      throw refusalOf(
        new ParseError(["difference"], kind, "a document of kind map: no other one has differences"),
      );
    const names = this.#lawful(() => differenceNames(difference, ["difference"]));
    const text = JSON.stringify(difference);
    return text.length > bodyText.length * BYTES_RATIO_MAX ? undefined : { ...names, text };
  }

  /**
   * A version for one who says what he has: the whole record, or the record with differences instead of the body; bytes of JSON. Throws
   * {@link Refusal} when there is no such version.
   * @param have the name of the map that the receiver has; undefined: it wants the whole
   */
  delivery(kind: DocumentKind, id: string, version: number, have: string | undefined): Uint8Array {
    const key = `${kind}/${id}@${version} ${have ?? ""}`;
    const ready = this.#deliveries.get(key);
    if (ready !== undefined) return this.#delivered(ready.form, ready.bytes);
    const { summary, bodyText } = this.document(kind, id, version);
    const chain =
      have === undefined
        ? undefined
        : differenceChain(this.store.differences(kind, id), version, have, bodyText.length * BYTES_RATIO_MAX);
    const texts = chain?.map((one) => this.store.differenceText(kind, id, one));
    const rest = texts === undefined ? `"body":${bodyText}` : `"differences":[${texts.join(",")}]`;
    const form = texts === undefined ? "whole" : "differences";
    const bytes = Buffer.from(`${JSON.stringify(summary).slice(0, -1)},${rest}}`);
    let total = bytes.length;
    for (const kept of this.#deliveries.values()) total += kept.bytes.length;
    if (total > DELIVERIES_BYTES_MAX) this.#deliveries.clear();
    this.#deliveries.set(key, { form, bytes });
    return this.#delivered(form, bytes);
  }

  #delivered(form: "whole" | "differences", bytes: Uint8Array): Uint8Array {
    this.#deliveryCounters[form]++;
    this.#deliveryCounters[`${form}Bytes`] += bytes.length;
    return bytes;
  }

  activate(
    kind: DocumentKind,
    id: string,
    version: number,
    expectedActiveVersion: number | null,
  ): DocumentSummary {
    const stored = this.store.document(kind, id, version);
    if (stored !== undefined) {
      this.#lawful(() => {
        // Stored under the schema of its day; what comes into force must fit today's.
        const parsed = parseDocument(kind, id, JSON.parse(stored.bodyText));
        if (kind === "property") checkProperty(parsed as PropertyDocument, this.#active());
        if (kind === "zone") checkZone(parsed as ZoneDocument, this.#active(), this.#topology());
        if (kind === "zone") checkSignable(parsed as ZoneDocument, () => this.#signedZones());
        if (kind === "policy") checkPolicy(parsed as PolicyDocument, this.#active());
      });
      this.#checkActivation(stored, expectedActiveVersion);
    }
    const result = this.store.activate({ kind, id, version, expectedActiveVersion });
    switch (result.outcome) {
      case "conflict":
        this.#counters.conflicts++;
        throw conflict(`The active version of ${kind}/${id}`, expectedActiveVersion, result.presentVersion);
      case "unknown-version":
        throw notFound(`version ${version} of ${kind}/${id}`);
      case "unchanged":
        return result.summary;
      case "activated":
        this.#publishActivation(result.event);
        return result.summary;
      default:
        return result satisfies never;
    }
  }

  #active(): ActiveDocuments {
    return {
      properties: this.store.activeProperties(),
      zones: this.store.activeZones(),
      policies: this.store.activePolicies(),
    };
  }

  document(kind: DocumentKind, id: string, version: number | undefined): StoredDocument {
    const found = this.store.document(kind, id, version);
    if (found === undefined) {
      throw notFound(
        version === undefined ? `active version of ${kind}/${id}` : `version ${version} of ${kind}/${id}`,
      );
    }
    return found;
  }

  versions(kind: DocumentKind, id: string): readonly DocumentSummary[] {
    const found = this.store.versions(kind, id);
    if (found.length === 0) throw notFound(`document ${kind}/${id}`);
    return found;
  }

  diff(kind: DocumentKind, id: string, from: number, to: number): readonly DocumentChange[] {
    const [before, after] = [from, to].map((version) =>
      JSON.parse(this.document(kind, id, version).bodyText),
    );
    return diffDocuments(before, after);
  }

  /** Grants, renews, takes back. The answer says who has it now, whatever became of the request. */
  lease(name: LeaseName, request: LeaseRequest): LeaseAnswer {
    const now = this.#clock.monotonic();
    const { outcome, state, mustSave } = decideLease(this.#leases[name], request, now);
    if (mustSave) this.store.saveLease(state);
    this.#leases[name] = state;
    this.#leaseCounters[outcome]++;
    return { ...this.#shownLease(name, now), outcome };
  }

  leases(): readonly LeaseAnswer[] {
    const now = this.#clock.monotonic();
    return leaseNames.map((name) => this.#shownLease(name, now));
  }

  /**
   * Has the keys of signed zones take the steps that are due, each as a new version; to be called now and then.
   *
   * @returns the steps taken now, for the log
   */
  rollKeys(): readonly ZoneRoll[] {
    const moved: ZoneRoll[] = [];
    const ids = this.store.documents("dnssec").map(({ id }) => id);
    for (const id of this.#rolls.keys()) if (!ids.includes(id)) this.#rolls.delete(id);
    for (const id of ids) moved.push(...this.#rollKeysOf(id));
    return moved;
  }

  /** Where the rolls of a deployment stand, as of the last {@link rollKeys}; empty before it. */
  keyRolls(id: string): readonly ZoneRoll[] {
    return this.#rolls.get(id)?.zones ?? [];
  }

  /** Origins of the zones that name servers sign. */
  #signedZones(): ReadonlySet<string> {
    const documents = this.store.documents("dnssec").flatMap(({ id }) => {
      const stored = this.store.document("dnssec", id);
      return stored === undefined ? [] : [dnssecDocument.parse(JSON.parse(stored.bodyText))];
    });
    return new Set(documents.flatMap(({ zones }) => zones.map(({ zone }) => zone)));
  }

  #rollKeysOf(id: string): readonly ZoneRoll[] {
    const stored = this.store.document("dnssec", id);
    if (stored === undefined) return [];
    const { version } = stored.summary;
    let followed = this.#rolls.get(id);
    if (followed?.version !== version) {
      const document = dnssecDocument.parse(JSON.parse(stored.bodyText));
      followed = { rolls: followed?.rolls ?? new KeyRolls(), version, document, zones: [] };
      this.#rolls.set(id, followed);
    }
    const { document, zones } = followed.rolls.handle({
      document: followed.document,
      version,
      topology: this.#topology(id),
      hostedOrigins: () =>
        new Set(this.store.activeZones().flatMap(({ isActive, origin }) => (isActive ? [origin] : []))),
      reports: this.reports(),
      nowEpochMs: Math.floor(this.#clock.epoch()),
    });
    followed.zones = zones;
    if (document === followed.document) return [];
    const newest = this.store.versions("dnssec", id).at(-1);
    const taken = zones.filter((zone) => zone.taken.length > 0);
    const steps = taken.flatMap((zone) =>
      zone.taken.map(({ step, keyId }) => `${zone.zone} ${step} ${keyId}`),
    );
    this.append("dnssec", id, {
      body: document,
      expectedVersion: newest?.version ?? 0,
      note: steps.join(", ").slice(0, ROLL_NOTE_MAX),
      author: "control",
      activate: true,
    });
    for (const zone of taken) for (const { step } of zone.taken) this.#rollCounters[step]++;
    return taken;
  }

  report(report: ServerReport): void {
    if (!this.board.handleReport(report, this.#clock.monotonic())) {
      throw new Refusal(503, {
        error: `Control keeps reports of ${this.board.size} servers and has no room for one more`,
        code: "overloaded",
      });
    }
    const bytes = lineOf({ type: "report", report });
    this.#publish({ kind: "report", bytes, replaces: `report/${report.serverId}` });
    if (report.opinions !== undefined)
      this.#publish({ kind: "opinion", bytes, replaces: `opinion/${report.serverId}` });
  }

  reports(): readonly ServerReport[] {
    return this.board.reports(this.#clock.monotonic());
  }

  /**
   * Numbers a purge and sends it out. `onProgress` is called from now until `done`; the result says nothing more.
   * The caller may go away: the purge goes on.
   */
  purge(request: PurgeRequest, onProgress: (progress: PurgeProgress) => void): void {
    const startedAt = this.#clock.monotonic();
    this.#lawful(() => {
      const active = this.store.document("property", request.propertyId);
      checkPurge(request, active && (JSON.parse(active.bodyText) as PropertyDocument));
    });
    if (!this.ledger.hasRoom) {
      throw new Refusal(
        503,
        { error: `${this.ledger.openCount} purges are under way; try again in a second`, code: "overloaded" },
        { "retry-after": "1" },
      );
    }
    const event = this.store.appendPurge(request, Math.floor(this.#clock.epoch()));
    this.#counters.purges++;
    const { purgeSeq } = event.purge;
    this.#purgeListeners.set(purgeSeq, onProgress);
    const { live, missing } = this.board.purgeAudience(this.#topology(), startedAt);
    // Told first, counted second: an acknowledgement cannot come before this turn ends.
    this.#publish({ kind: "purge", bytes: lineOfStored(event) });
    this.ledger.handleStart(purgeSeq, live, missing, startedAt);
    this.#drainLedger();
  }

  acknowledge(ack: PurgeAck): AckOutcome {
    if (ack.purgeSeq > this.store.newestPurgeSeq()) return "unknown";
    const outcome = this.ledger.handleAck(ack, this.#clock.monotonic());
    this.#drainLedger();
    return outcome;
  }

  /** To be called each heartbeat: a sign of life to every watcher, and the end of those that take nothing. */
  heartbeat(): void {
    const { logId, newestSeq } = this.store.bounds();
    const now = this.#clock.monotonic();
    const bytes = lineOf({ type: "heartbeat", logId, seq: newestSeq });
    const cuts = this.hub.publish({ kind: "heartbeat", bytes, replaces: "heartbeat" }, now);
    this.#onPublished([...cuts, ...this.hub.handleTimeout(now)]);
  }

  /** Ends timers; purges under way are not followed further. */
  close(): void {
    clearTimeout(this.#purgeTimer);
    this.#purgeListeners.clear();
  }

  #shownLease(name: LeaseName, now: MonotonicMs): LeaseAnswer {
    const state = this.#leases[name];
    const isHeld = isLeaseHeld(state, now);
    const newest = this.store
      .documents(name)
      .flatMap((one) => this.#newestFence(name, one.id) ?? [])
      .toSorted(compareFences)
      .at(-1);
    return {
      name,
      outcome: "shown",
      term: state.term,
      holderId: isHeld ? state.holderId : null,
      remainingMs: isHeld ? state.expiresAt - now : 0,
      note: isHeld ? state.note : "",
      newest: newest ?? null,
    };
  }

  /** A delayed publisher is refused by its term, a delayed message of the present one by its number. */
  #checkFence(kind: DocumentKind, id: string, body: unknown): Fence | undefined {
    const fence = fenceOf(kind, body);
    if (fence === undefined) return undefined;
    const name = leaseNames.find((one) => one === kind);
    const term = name === undefined ? 0 : this.#leases[name].term;
    const newest = this.#newestFence(kind, id);
    const decision = decidePublication(term, newest, fence);
    if (decision === "newer") return fence;
    this.#counters.fenced++;
    const offered = `${kind}/${id}: version ${fence.version} of term ${fence.term}`;
    throw fenced(
      decision === "fenced"
        ? `${offered} is not of the present term ${term}; another publisher has been elected`
        : `${offered} is not newer than version ${newest?.version} of term ${newest?.term}`,
      decision,
    );
  }

  /** Nodes would refuse what is older than what they have; an operator is to learn it here. */
  #checkActivation(stored: StoredDocument, activeVersion: number | null): void {
    const { kind, id, version } = stored.summary;
    if (!leaseNames.some((one) => one === kind)) return;
    const wanted = fenceOfText(kind, stored.bodyText);
    const active = activeVersion === null ? undefined : this.store.document(kind, id, activeVersion);
    const inForce = active && fenceOfText(kind, active.bodyText);
    if (wanted === undefined || inForce === undefined || compareFences(wanted, inForce) >= 0) return;
    this.#counters.fenced++;
    throw fenced(
      `Version ${version} of ${kind}/${id} was published before the one in force and no node would take it; "isochrone map rollback ${version}" publishes its content anew`,
      "not-newer",
    );
  }

  #newestFence(kind: DocumentKind, id: string): Fence | undefined {
    const key = `${kind}/${id}`;
    let found = this.#newestFences.get(key);
    if (found === undefined) {
      const newest = this.store.versions(kind, id).at(-1);
      const stored = newest && this.store.document(kind, id, newest.version);
      found = (stored && fenceOfText(kind, stored.bodyText)) ?? null;
      this.#newestFences.set(key, found);
    }
    return found ?? undefined;
  }

  #lawful<T>(check: () => T): T {
    try {
      return check();
    } catch (error) {
      if (!(error instanceof ParseError)) throw error;
      this.#counters.refused++;
      throw refusalOf(error);
    }
  }

  #ownerOf(kind: "property" | "zone" | "policy", id: string): string | undefined {
    const newest = this.store.versions(kind, id).at(-1);
    const stored = newest && this.store.document(kind, id, newest.version);
    return stored && (JSON.parse(stored.bodyText) as Pick<PropertyDocument, "customerId">).customerId;
  }

  /** Without a name the only one, or any. */
  #topology(name?: string): TopologyDocument | undefined {
    const newest = this.store
      .documents("topology")
      .filter((one) => name === undefined || one.id === name)
      .map((one) => this.store.document("topology", one.id))
      .find((one) => one !== undefined);
    return newest && (JSON.parse(newest.bodyText) as TopologyDocument);
  }

  /** Those in force. */
  topologies(): readonly TopologyDocument[] {
    return this.store
      .documents("topology")
      .map((one) => this.store.document("topology", one.id))
      .flatMap((one) => (one === undefined ? [] : [JSON.parse(one.bodyText) as TopologyDocument]));
  }

  #publishActivation(event: StoredActivation): void {
    this.#counters.activated++;
    this.#deliveries.clear();
    const reference = referenceOfStored(event);
    this.#publish({
      kind: event.kind,
      bytes: lineOfStored(event),
      ...(reference !== undefined && { reference }),
    });
  }

  #publish(line: HubLine): void {
    this.#onPublished(this.hub.publish(line, this.#clock.monotonic()));
  }

  #drainLedger(): void {
    for (let event = this.ledger.pollEvent(); event !== undefined; event = this.ledger.pollEvent()) {
      this.#purgeListeners.get(event.purgeSeq)?.(event.progress);
      if (event.progress.type === "done") this.#purgeListeners.delete(event.purgeSeq);
    }
    clearTimeout(this.#purgeTimer);
    const at = this.ledger.pollTimeout();
    if (at === undefined) return;
    // One more: timers may fire a fraction of a millisecond early, and would then be armed again at once.
    const delayMs = Math.max(0, at - this.#clock.monotonic()) + 1;
    this.#purgeTimer = setTimeout(() => {
      this.ledger.handleTimeout(this.#clock.monotonic());
      this.#drainLedger();
    }, delayMs);
  }
}

/** One line of NDJSON. */
export function lineOf(value: WatchEvent | PurgeProgress): Uint8Array {
  return Buffer.from(`${JSON.stringify(value)}\n`);
}

/** An activation without its body, for those who fetch it; undefined: of a kind that is sent as it is. */
export function referenceOfStored(event: StoredEvent): Uint8Array | undefined {
  if (event.type === "purge" || event.kind !== "map") return undefined;
  const { seq, kind, id, version, bodyText } = event;
  const fence = fenceOfText(kind, bodyText);
  return fence && lineOf({ type: "reference", seq, kind, id, version, fence });
}

/** As {@link lineOf}, with the body put in as the text that it is stored as. */
export function lineOfStored(event: StoredEvent): Uint8Array {
  if (event.type === "purge") return lineOf(event);
  const { type, seq, kind, id, version, bodyText } = event;
  const head = JSON.stringify({ type, seq, kind, id, version });
  return Buffer.from(`${head.slice(0, -1)},"body":${bodyText}}\n`);
}
