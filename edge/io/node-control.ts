/**
 * What a node hears from control and tells it, once a server however many processes serve: documents, purges in order with
 * an acknowledgement each, a report a second. Control may be away at any time: what was applied last stays in force.
 */
import { join } from "node:path";
import {
  type BarredOrigin,
  certificateDocument,
  type Clock,
  comparedWith,
  type EpochMs,
  type MapSnapshot,
  mapSnapshot,
  policyDocument,
  propertyDocument,
  type PropertyCounters,
  type PurgeEntry,
  routeProblems,
  type ServerId,
  type ServerReport,
  type NameUsed,
  type ServerTiming,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import { type Logger, makeDirectory } from "#kit/io";
import { ControlClient, DocumentKeeper, NodeIdentity, type WatchEvent } from "#control";
import { dial } from "#transport";
import { type FeedStep, PurgeFeed } from "../core/purge-feed.ts";
import { clusterOf } from "../core/tiers.ts";
import { PolicyTests } from "./policy-tests.ts";
import { PurgeJournal } from "./purge-journal.ts";

/** A document in force, as it was parsed. */
export interface NodeDocument {
  /** `credentials`: by which this server knows others of ours, and they it; no document of control's, but asked of it. */
  readonly kind: "topology" | "map" | "property" | "certificate" | "credentials";
  readonly id: string;
  readonly body: unknown;
}

/** What a process must have applied before it serves. Plain data: it crosses IPC. */
export interface KnownState {
  readonly documents: readonly NodeDocument[];
  /** Control's log whose purges these are; null: what is stored may have been purged by others, and is to be forgotten. */
  readonly logId: string | null;
  readonly floor: number;
  readonly entries: readonly PurgeEntry[];
  /** What was stored before may have been purged by what control has not told yet; null: it has told all. */
  readonly distrustBefore: EpochMs | null;
}

/** What a node serves and holds, of all its processes together. */
export interface NodeFigures {
  readonly requests: number;
  readonly activeRequests: number;
  readonly cacheBytes: number;
  readonly cacheObjects: number;
  readonly properties: Readonly<Record<string, PropertyCounters>>;
  readonly links: ServerReport["links"];
  readonly originsBarred: readonly BarredOrigin[];
  /** Of users, since the last time that it was asked. */
  readonly timings: readonly ServerTiming[];
  readonly namesUsed: readonly NameUsed[];
}

/** Who serves: this process, or its workers. */
export interface NodeTarget {
  /** Puts a document in force. May throw to refuse it. */
  document(document: NodeDocument): void;
  /** Resolves with the number of removed responses when the purge holds everywhere. */
  purge(entry: PurgeEntry): number | Promise<number>;
  /** Puts a purge in force that is older than what may be stored. */
  replay(entry: PurgeEntry): void;
  /** Purges up to a number are unknown: what was stored before counts as purged. */
  lose(upTo: number): void | Promise<void>;
  /** Numbers begin anew: all that is stored is forgotten. */
  forget(): void | Promise<void>;
  /** All purges that control knew of are in force: what is stored may be served again without asking. */
  trust(): void | Promise<void>;
  figures(): NodeFigures | Promise<NodeFigures>;
}

/** As many as a report may hold. While control is away the newest wait. */
const TIMINGS_MAX = 400;

export interface NodeControlOptions {
  readonly serverId: ServerId;
  readonly controlUrl: string;
  readonly token: string;
  readonly peerKey: Uint8Array;
  readonly stateDirectory: string;
  readonly incarnation: string;
  /** Without a port for them a server has no use for keys, so that it keeps none. */
  readonly takesCertificates: boolean;
  /** Where the programs of script tests of policies lie; undefined: none is run. */
  readonly scriptsDirectory: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** From one report to the next, ms. */
const REPORT_INTERVAL_MS = 1_000;
/** Purges older than this have long been answered for: they are applied and not acknowledged, ms. */
const ACKNOWLEDGE_WITHIN_MS = 60_000;
/** Streams that bring the same purges: a lost packet costs a stream 200 ms and more, and what comes behind it waits as long. */
const PURGE_STREAMS = 2;
/** Acknowledged purges that are remembered, so that what another stream brings again is not told again. */
const ACKNOWLEDGED_MAX = 4_096;
/** How long control is waited for when the disk already holds what is needed, ms. */
const SYNC_WAIT_MS = 1_500;

export class NodeControl {
  readonly #o: NodeControlOptions;
  readonly #client: ControlClient;
  readonly #keeper: DocumentKeeper;
  readonly #identity: NodeIdentity;
  readonly #journal: PurgeJournal;
  readonly #tests: PolicyTests;
  readonly #documents = new Map<string, NodeDocument>();
  /** The last good one. */
  #map: MapSnapshot | undefined;
  readonly #hasTopology = Promise.withResolvers<TopologyDocument>();
  readonly #purgesSynced = Promise.withResolvers<void>();
  #topology: TopologyDocument | undefined;
  #target: NodeTarget | undefined;
  #watches: readonly { close(): void }[] = [];
  readonly #feed = new PurgeFeed(PURGE_STREAMS);
  /** False: what is stored may have been purged by what is not known; it must be forgotten. */
  #isTrusted = false;
  /** As {@link KnownState} has it. */
  #distrustBefore: EpochMs | null;
  /** Events are taken one after the other. */
  #taking: Promise<void> = Promise.resolve();
  /** Purges that do not hold everywhere yet, by number. */
  readonly #applying = new Map<number, Promise<void>>();
  /** Numbers, in order. */
  readonly #acknowledged = new Set<number>();
  #isPaused = false;
  #timer: NodeJS.Timeout | undefined;
  #isPublishing = false;
  #rate = { requests: 0, at: 0, perSecond: 0 };
  #report: ServerReport | undefined;
  /** Of users, until control has them. */
  #timings: readonly ServerTiming[] = [];
  #namesUsed: readonly NameUsed[] = [];
  state: ServerReport["state"] = "starting";

  constructor(options: NodeControlOptions) {
    this.#o = options;
    this.#distrustBefore = options.clock.epoch();
    const { serverId, logger, stateDirectory } = options;
    makeDirectory(stateDirectory);
    this.#client = new ControlClient({
      url: options.controlUrl,
      token: options.token,
      nodeId: serverId,
      dial,
      logger,
    });
    this.#keeper = new DocumentKeeper({ client: this.#client, stateDirectory, logger });
    this.#identity = new NodeIdentity({
      serverId,
      stateDirectory,
      sealingKey: options.peerKey,
      ask: async (...asked) => await this.#client.nodeCertificate(...asked),
      clock: options.clock,
      logger,
      onChange: (credentials) => this.#putInForce({ kind: "credentials", id: serverId, body: credentials }),
    });
    this.#tests = new PolicyTests(options);
    this.#keeper.keep(
      "policy",
      (value) => policyDocument.parse(value),
      (_id, body) => this.#tests.setPolicy(body),
    );
    this.#journal = new PurgeJournal(join(stateDirectory, "purges.log"), logger);
    this.#keep("topology", topologyDocument.parse.bind(topologyDocument));
    this.#keep("map", (value) => this.#believable(mapSnapshot.parse(value)));
    this.#keep("property", propertyDocument.parse.bind(propertyDocument));
    if (options.takesCertificates)
      this.#keep("certificate", certificateDocument.parse.bind(certificateDocument));
  }

  /** A map that could not be true is refused; the last good one stays in force. Throws Error with the reason. */
  #believable(map: MapSnapshot): MapSnapshot {
    const [problem] = routeProblems(map, comparedWith(map, this.#map));
    if (problem !== undefined) throw new Error(`map ${map.mapVersion} is refused: ${problem.detail}`);
    return map;
  }

  #putInForce(document: NodeDocument): void {
    this.#target?.document(document);
    this.#documents.set(`${document.kind}/${document.id}`, document);
  }

  #keep(kind: Exclude<NodeDocument["kind"], "credentials">, parse: (value: unknown) => unknown): void {
    this.#keeper.keep(kind, parse, (id, body) => {
      this.#putInForce({ kind, id, body });
      if (kind === "map") this.#map = body as MapSnapshot;
      if (kind !== "topology") return;
      this.#topology = body as TopologyDocument;
      this.#identity.handleTopology(this.#topology);
      this.#tests.setTopology(this.#topology);
      if (clusterOf(this.#topology, this.#o.serverId) !== undefined)
        this.#hasTopology.resolve(this.#topology);
    });
  }

  /** The documents in force. */
  get documents(): readonly NodeDocument[] {
    return [...this.#documents.values()];
  }

  /**
   * Applies what the disk holds and begins to follow control. Resolves with the first topology that names this server, or with
   * undefined when `stop` resolves before.
   */
  async start(stop: Promise<void>): Promise<TopologyDocument | undefined> {
    await this.#identity.start();
    await this.#keeper.start();
    if (this.#topology === undefined)
      this.#o.logger.info("waiting-for-topology", { control: this.#o.controlUrl });
    return await Promise.race([this.#hasTopology.promise, stop.then(() => undefined)]);
  }

  /**
   * Says who serves; everything goes there from now on. First what the disk knows of purges, then control's. Resolves when all
   * documents and purges are applied, or control has been waited for long enough.
   */
  async serve(target: NodeTarget, stop: Promise<void>): Promise<void> {
    this.#target = target;
    const kept = this.#journal.load();
    if (kept === undefined) {
      // Whatever lies on the disk may have been purged by what the journal does not tell.
      await target.forget();
    } else {
      if (kept.floor > 0) await target.lose(kept.floor);
      for (const entry of kept.entries) target.replay(entry);
      this.#feed.resume(kept.logId, kept.entries.at(-1)?.purgeSeq ?? kept.floor);
      await this.#journal.resume();
      this.#isTrusted = true;
    }
    this.#watches = Array.from({ length: PURGE_STREAMS }, (_, stream) =>
      this.#client.watch(["purge"], (event) => this.#enqueue(stream, event)),
    );
    await Promise.race([
      Promise.all([this.#keeper.synced, this.#purgesSynced.promise]),
      new Promise((resolve) => setTimeout(resolve, SYNC_WAIT_MS)),
      stop,
    ]);
    if (this.#distrustBefore !== null)
      this.#o.logger.warn("purges-unknown", { consequence: "what lies on disk is validated before use" });
  }

  /**
   * All that a process must have applied before it serves. Whoever is told of everything that reaches the target from this
   * moment on misses nothing.
   */
  known(): KnownState {
    const kept = this.#isTrusted ? this.#journal.load() : undefined;
    return {
      documents: this.documents,
      logId: kept?.logId ?? null,
      floor: kept?.floor ?? 0,
      entries: kept?.entries ?? [],
      distrustBefore: this.#distrustBefore,
    };
  }

  /** Each event is taken when those before it are, of whichever stream: none overtakes a purge that begins the numbers anew. */
  #enqueue(stream: number, event: WatchEvent): void {
    this.#taking = this.#taking.then(async () => {
      try {
        await this.#take(stream, event);
      } catch (error) {
        this.#o.logger.error("purge-failed", { error });
      }
    });
  }

  /** Control has told all purges: once they hold, what was stored before this process is as good as what it stores. */
  async #synced(): Promise<void> {
    if (this.#distrustBefore !== null && this.#isTrusted) {
      await Promise.all(this.#applying.values());
      this.#distrustBefore = null;
      await this.#target?.trust();
    }
    this.#purgesSynced.resolve();
  }

  /** Resolves when what has come so far holds. */
  async #settled(): Promise<void> {
    await this.#taking;
    await Promise.all(this.#applying.values());
  }

  async #take(stream: number, event: WatchEvent): Promise<void> {
    switch (event.type) {
      case "snapshot-begin": {
        await Promise.all(this.#applying.values());
        const { logId, oldestPurgeSeq } = event;
        for (const step of this.#feed.handleSnapshot(stream, logId, oldestPurgeSeq, this.#isTrusted))
          await this.#carryOut(step);
        break;
      }
      case "purge":
        this.#purge(stream, event.purge);
        break;
      case "heartbeat":
      case "snapshot-end":
        if (this.#feed.handleSynced(stream, event.type === "heartbeat" ? event.logId : undefined))
          await this.#synced();
        break;
      case "document":
      case "reference":
      case "report":
        break;
      default:
        event satisfies never;
    }
  }

  async #carryOut(step: FeedStep): Promise<void> {
    // Who comes up meanwhile must not take what is about to be replaced for the truth.
    this.#isTrusted = false;
    const { logId } = step;
    let floor = 0;
    switch (step.do) {
      case "begin":
        ({ floor } = step);
        break;
      case "begin-anew":
        this.#o.logger.warn("purges-begin-anew", { logId });
        this.#acknowledged.clear();
        await this.#target?.forget();
        break;
      case "lose":
        floor = step.upTo;
        this.#o.logger.warn("purges-missed", { applied: step.applied, missed: floor });
        await this.#target?.lose(floor);
        break;
      default:
        step satisfies never;
    }
    this.#feed.handleDone(step);
    await this.#journal.reset({ logId, floor, entries: [] });
    this.#isTrusted = true;
  }

  #purge(stream: number, entry: PurgeEntry): void {
    const { purgeSeq } = entry;
    const verdict = this.#feed.handlePurge(stream, entry);
    this.#o.logger.debug("purge-heard", { purgeSeq, stream, verdict });
    if (verdict === "ignore" || this.#acknowledged.has(purgeSeq)) return;
    const before = this.#applying.get(purgeSeq);
    const applied: Promise<void> = (async () => {
      // Heard again while it is being applied: it is tried again only if that fails.
      if (before !== undefined) await before;
      if (!this.#acknowledged.has(purgeSeq)) await this.#apply(entry, verdict === "apply");
    })()
      .catch((error: unknown) => this.#o.logger.error("purge-failed", { purgeSeq, error }))
      .finally(() => {
        if (this.#applying.get(purgeSeq) === applied) this.#applying.delete(purgeSeq);
      });
    this.#applying.set(purgeSeq, applied);
  }

  async #apply(entry: PurgeEntry, isNew: boolean): Promise<void> {
    const { purgeSeq } = entry;
    // It must hold everywhere, and after a crash, before anybody is told so: also when it is heard for the second time,
    // because the disk may have refused it the first time.
    const kept = this.#isPaused ? undefined : isNew ? this.#journal.append(entry) : this.#journal.settle();
    const [count, durable] = await Promise.allSettled([isNew ? this.#target?.purge(entry) : 0, kept]);
    if (count.status === "rejected") throw count.reason;
    if (durable.status === "rejected") throw durable.reason;
    const removed = count.value ?? 0;
    this.#o.logger.debug("purge-applied", { purgeSeq });
    this.#acknowledged.add(purgeSeq);
    if (this.#acknowledged.size > ACKNOWLEDGED_MAX)
      for (const oldest of this.#acknowledged.values().take(1)) this.#acknowledged.delete(oldest);
    if (this.#isPaused || this.#o.clock.epoch() - entry.atEpochMs > ACKNOWLEDGE_WITHIN_MS) return;
    void this.#client.acknowledgePurge({ purgeSeq, serverId: this.#o.serverId, removed });
  }

  /** Begins to report. */
  startReports(): void {
    this.#timer = setInterval(() => {
      // A control that hangs gets one report at a time, not a pile of them.
      if (!this.#isPublishing) void this.publish();
    }, REPORT_INTERVAL_MS);
  }

  async publish(): Promise<void> {
    this.#isPublishing = true;
    try {
      const report = await this.report();
      if (report === undefined) return;
      const isPublished = await this.#client.publishReport(report);
      // Told of once: a control of before, which refuses what it does not know, must not lose every report for it.
      const told = new Set(report.namesUsed);
      this.#namesUsed = this.#namesUsed.filter((one) => !told.has(one));
      if (!isPublished) return;
      const sent = new Set(report.timings);
      this.#timings = this.#timings.filter((one) => !sent.has(one));
    } finally {
      this.#isPublishing = false;
    }
  }

  /** Undefined while nobody serves. */
  async report(): Promise<ServerReport | undefined> {
    const { serverId, incarnation, clock } = this.#o;
    const cluster = this.#topology && clusterOf(this.#topology, serverId);
    const figures = await this.#target?.figures();
    if (figures === undefined) return undefined;
    const { clusterId, role } = cluster ?? this.#report ?? {};
    if (clusterId === undefined || role === undefined) return undefined;
    const { requests, timings, namesUsed, originsBarred, ...told } = figures;
    this.#timings = [...this.#timings, ...timings].slice(-TIMINGS_MAX);
    this.#namesUsed = [...this.#namesUsed, ...namesUsed].slice(-TIMINGS_MAX);
    const now = clock.monotonic();
    if (now - this.#rate.at >= REPORT_INTERVAL_MS / 2) {
      const perSecond = ((requests - this.#rate.requests) * 1_000) / (now - this.#rate.at);
      this.#rate = { requests, at: now, perSecond: Math.max(0, perSecond) };
    }
    const mapInForce = this.#keeper.fenceOf("map");
    const opinions = this.#tests.opinions();
    this.#report = {
      ...told,
      serverId,
      clusterId,
      role,
      incarnation,
      atEpochMs: Math.round(clock.epoch()),
      state: this.state,
      requestsPerSecond: this.#rate.perSecond,
      certificate: this.#identity.status,
      ...(originsBarred.length > 0 && { originsBarred }),
      applied: { ...this.#keeper.applied },
      ...(mapInForce !== undefined && { mapInForce }),
      ...(opinions !== undefined && { opinions }),
      ...(this.#timings.length > 0 && { timings: this.#timings }),
      ...(this.#namesUsed.length > 0 && { namesUsed: this.#namesUsed }),
    };
    return this.#report;
  }

  /** Tests of policies' targets by what became of them. */
  get testCounters(): Readonly<Record<string, number>> {
    return this.#tests.counters;
  }

  /**
   * Before the drain. With a successor the server does not go: this process goes on following and says nothing more, for it is that
   * one's to say how the server is.
   */
  async leave(hasSuccessor: boolean): Promise<void> {
    if (hasSuccessor) {
      this.#isPaused = true;
      clearInterval(this.#timer);
      return;
    }
    this.state = "draining";
    await this.publish();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#identity.close();
    this.#tests.close();
    for (const watch of this.#watches) watch.close();
    await this.#settled();
    await this.#journal.close();
    await this.#keeper.close();
    await this.#client.close();
  }
}
