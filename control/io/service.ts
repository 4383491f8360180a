/**
 * What control does, apart from HTTP: checks a change against the laws, has the store make it durable, and only then
 * tells the watchers. Every method is one turn, so two requests never interleave.
 */
import {
  type Clock,
  jsonPieces,
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
import { opinionsAlone } from "../core/opinions-alone.ts";
import { BYTES_RATIO_MAX } from "../core/difference-chain.ts";
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
import { PurgeLedger, type PurgeLedgerSettings } from "../core/purge-ledger.ts";
import { ReportBoard } from "../core/report-board.ts";
import { type RolloutMode, type RolloutSettings, type StagedKind, stagedKinds } from "../core/rollout.ts";
import { type Cut, type HubLine, WatchHub, type WatchHubSettings } from "../core/watch-hub.ts";
import type {
  AckOutcome,
  DocumentChange,
  DocumentKind,
  DocumentSummary,
  PurgeProgress,
} from "../core/words.ts";
import { differenceNames, type ZoneEditRequest } from "../core/wire.ts";
import { KeyRoller } from "./key-roller.ts";
import { lineOf, lineOfStored, referenceOfStored } from "./lines.ts";
import { MapDeliveries } from "./map-deliveries.ts";
import { Publishers } from "./publishers.ts";
import { Rollouts } from "./rollouts.ts";
import { conflict, notFound, Refusal, refusalOf } from "./refusal.ts";
import type { DocumentStore, StoredActivation, StoredDocument } from "./store.ts";

export interface AppendInput {
  readonly body: unknown;
  readonly expectedVersion: number;
  readonly note: string;
  readonly author: string;
  readonly activate?: boolean | undefined;
  /** Of a kind that is rolled out; staged unless it says otherwise. */
  readonly rollout?: RolloutMode | undefined;
  /** What leads to it from another version, as it came. */
  readonly difference?: unknown;
}

/** A body whose text was made, and written in part, ahead of its version. */
interface WrittenBody {
  readonly text: string;
  readonly upload: number | undefined;
}

export interface ControlServiceOptions {
  readonly store: DocumentStore;
  readonly clock: Clock;
  readonly hubSettings?: WatchHubSettings;
  readonly ledgerSettings?: PurgeLedgerSettings;
  readonly rolloutSettings?: RolloutSettings | undefined;
  /** Told after lines were queued, so that watchers are served, and who was cut off meanwhile. */
  readonly onPublished: (cuts: readonly Cut[]) => void;
}

/** Refuses by throwing {@link Refusal}; any other error is a fault of control or its disk. */
export class ControlService {
  readonly store: DocumentStore;
  readonly hub: WatchHub;
  readonly board = new ReportBoard();
  readonly keys: KeyRoller;
  readonly rollouts: Rollouts;
  readonly deliveries: MapDeliveries;
  readonly publishers: Publishers;
  readonly ledger: PurgeLedger;
  readonly #clock: Clock;
  readonly #onPublished: (cuts: readonly Cut[]) => void;
  readonly #purgeListeners = new Map<number, (progress: PurgeProgress) => void>();
  #purgeTimer: NodeJS.Timeout | undefined;
  /** Those in force, parsed once. */
  readonly #topologies = new Map<string, { readonly version: number; readonly document: TopologyDocument }>();
  readonly #counters = { appended: 0, activated: 0, purges: 0, conflicts: 0, refused: 0 };

  constructor(options: ControlServiceOptions) {
    this.store = options.store;
    this.#clock = options.clock;
    this.#onPublished = options.onPublished;
    this.hub = new WatchHub(options.hubSettings);
    this.ledger = new PurgeLedger(options.ledgerSettings);
    this.deliveries = new MapDeliveries(this.store);
    const common = { store: this.store, clock: this.#clock, board: this.board };
    this.keys = new KeyRoller({
      ...common,
      topology: (name) => this.#topology(name),
      append: (id, body, expectedVersion, note) =>
        void this.append("dnssec", id, { body, expectedVersion, note, author: "control", activate: true }),
    });
    this.rollouts = new Rollouts({
      ...common,
      settings: options.rolloutSettings,
      topology: () => this.#topology(),
      checkLaws: (kind, id, version) => this.#checkStored(this.document(kind, id, version)),
      onEvent: (event) => this.#publishActivation(event),
    });
    this.publishers = new Publishers(this.store, this.#clock);
  }

  get counters(): Readonly<
    Record<"appended" | "activated" | "purges" | "conflicts" | "refused" | "fenced", number>
  > {
    return { ...this.#counters, fenced: this.publishers.fenced };
  }

  append(kind: DocumentKind, id: string, input: AppendInput, written?: WrittenBody): DocumentSummary {
    const activates = input.activate ?? kindRules[kind].activatesByDefault;
    const staged = activates ? stagedKinds.find((one) => one === kind) : undefined;
    if (staged !== undefined && input.rollout !== "at-once") this.rollouts.checkMayBegin(staged, id);
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
        if (activates) checkSignable(zone, () => this.keys.signedZones());
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
    const fence = this.publishers.checkFence(kind, id, body);
    const bodyText = written?.text ?? JSON.stringify(body);
    const result = this.store.append({
      kind,
      id,
      bodyText,
      upload: written?.upload,
      difference: this.#differenceOf(kind, input.difference, bodyText),
      expectedVersion: input.expectedVersion,
      activates: activates && staged === undefined,
      author: input.author,
      note: input.note,
      atEpochMs: Math.floor(this.#clock.epoch()),
    });
    if (result.outcome === "conflict") {
      this.#counters.conflicts++;
      throw conflict(`The newest version of ${kind}/${id}`, input.expectedVersion, result.presentVersion);
    }
    this.#counters.appended++;
    if (fence !== undefined) this.publishers.handlePublication(kind, id, fence);
    if (result.event !== undefined) this.#publishActivation(result.event);
    return staged === undefined
      ? result.summary
      : this.#putInForce(staged, id, result.summary.version, input.rollout);
  }

  /** A stored version that is lawful: in stages, or where it cannot or must not be, everywhere. */
  #putInForce(kind: StagedKind, id: string, version: number, mode: RolloutMode = "staged"): DocumentSummary {
    const isFollowed =
      mode === "at-once"
        ? this.rollouts.supersede(kind, id, version)
        : this.rollouts.begin(kind, id, version) !== undefined;
    if (!isFollowed) {
      const inForce = this.store.document(kind, id)?.summary.version ?? null;
      const isToldAgain = mode === "at-once";
      const result = this.store.activate({ kind, id, version, expectedActiveVersion: inForce, isToldAgain });
      if (result.outcome === "activated") this.#publishActivation(result.event);
    }
    return this.document(kind, id, version).summary;
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
    this.publishers.checkFence("map", id, map);
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

  /** See {@link MapDeliveries}. Throws {@link Refusal} when there is no such version. */
  delivery(kind: DocumentKind, id: string, version: number, have: string | undefined): Uint8Array {
    return this.deliveries.delivery(kind, id, version, have, () => this.document(kind, id, version));
  }

  activate(
    kind: DocumentKind,
    id: string,
    version: number,
    expectedActiveVersion: number | null,
    mode?: RolloutMode,
  ): DocumentSummary {
    const stored = this.store.document(kind, id, version);
    const staged = stagedKinds.find((one) => one === kind);
    if (staged !== undefined && mode !== "at-once") this.rollouts.checkMayBegin(staged, id);
    if (stored !== undefined) {
      this.#checkStored(stored);
      this.publishers.checkActivation(stored, expectedActiveVersion);
      const inForce = this.store.document(kind, id)?.summary.version ?? null;
      if (
        staged !== undefined &&
        inForce === expectedActiveVersion &&
        (mode === "at-once" || inForce !== version)
      )
        return this.#putInForce(staged, id, version, mode);
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

  /** Stored under the schema of its day; what comes into force must fit today's, and what else is in force. */
  #checkStored({ summary: { kind, id }, bodyText }: StoredDocument): void {
    this.#lawful(() => {
      const parsed = parseDocument(kind, id, JSON.parse(bodyText));
      if (kind === "property") checkProperty(parsed as PropertyDocument, this.#active());
      if (kind === "zone") checkZone(parsed as ZoneDocument, this.#active(), this.#topology());
      if (kind === "zone") checkSignable(parsed as ZoneDocument, () => this.keys.signedZones());
      if (kind === "policy") checkPolicy(parsed as PolicyDocument, this.#active());
    });
  }

  #active(): ActiveDocuments {
    return {
      properties: this.store.activeProperties(),
      zones: this.store.activeZones(),
      policies: [...this.store.activePolicies(), ...this.rollouts.documents()],
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
      this.#publish({
        kind: "opinion",
        bytes: lineOf({ type: "report", report: opinionsAlone(report) }),
        replaces: `opinion/${report.serverId}`,
      });
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
    return this.topologies().find((one) => name === undefined || one.name === name);
  }

  /** Those in force. */
  topologies(): readonly TopologyDocument[] {
    return this.store.documents("topology").flatMap(({ id, activeVersion }) => {
      if (activeVersion === null) return [];
      const known = this.#topologies.get(id);
      if (known?.version === activeVersion) return [known.document];
      const document = JSON.parse(this.document("topology", id, activeVersion).bodyText) as TopologyDocument;
      this.#topologies.set(id, { version: activeVersion, document });
      return [document];
    });
  }

  #publishActivation(event: StoredActivation): void {
    if (event.audience === undefined) this.#counters.activated++;
    this.deliveries.forget();
    const reference = referenceOfStored(event);
    this.#publish({
      kind: event.kind,
      bytes: lineOfStored(event),
      audience: event.audience,
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
