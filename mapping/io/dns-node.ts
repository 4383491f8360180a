/** What keeps a name server of a deployment supplied: documents from control or disk, own probes, reports. */
import {
  certificateDocument,
  dnssecDocument,
  mapSnapshot,
  policyDocument,
  propertyDocument,
  type ServerEntry,
  type ServerId,
  type ServerReport,
  type TopologyDocument,
  topologyDocument,
  type ZoneDocument,
  zoneDocument,
} from "#kit";
import { type ListenAddress, type Logger, systemClock } from "#kit/io";
import { ControlClient, DocumentKeeper } from "#control";
import { dial } from "#transport";
import type { DnsCounters } from "../core/dns/counters.ts";
import type { NamesAsked } from "../core/dns/names-asked.ts";
import { refusalOf } from "../core/snapshot-check.ts";
import type { HeardNotify } from "../core/zone/notify.ts";
import type { TopologyIndex } from "../core/topology-index.ts";
import { EdgeProber } from "./dns-liveness.ts";
import { StandInProber } from "./dns-stand-in.ts";
import { AliasResolver } from "./alias-resolver.ts";
import { DnsState } from "./dns-state.ts";
import { PolicyAgent } from "./policy-agent.ts";
import { ParentWatch } from "./parent-watch.ts";
import { SecondaryZones } from "./secondary/secondary-zones.ts";
import { type TsigKeyTexts, tsigKeysOf } from "./tsig-keys.ts";
import { ZoneNotifier } from "./zone-notify.ts";

const REPORT_INTERVAL_MS = 1_000;

export interface DnsNodeOptions {
  readonly serverId: ServerId;
  readonly controlUrl: string;
  readonly token: string;
  readonly stateDirectory: string;
  readonly counters: DnsCounters;
  readonly logger: Logger;
  /** Opens the keys of signed zones, and knows names that are asked for once. */
  readonly peerKey: Uint8Array | undefined;
  /** Who resolves names outside, for ALIAS records. */
  readonly resolvers: readonly ListenAddress[];
  /** Where the programs of script tests lie; undefined: none is run. */
  readonly testScripts: string | undefined;
  /** Of who may fetch zones and is told of changes, and of the primaries of secondary zones. */
  readonly tsigKeys?: TsigKeyTexts | undefined;
  /** Who asks for names that are asked for once; told of with the reports. */
  readonly namesAsked?: NamesAsked | undefined;
  /** Primaries of secondary zones may stand at private and other special addresses. */
  readonly mayAskPrivatePrimaries: boolean;
  /** Documents come into force so much later, and it answers only while the other name servers do not; 0: neither. */
  readonly inputDelaySeconds: number;
  /** DNS over TLS shows what control has. */
  readonly takesCertificates: boolean;
}

/** Starts with what lies on the disk; follows control in the background. */
export class DnsNode {
  readonly state: DnsState;
  readonly prober: EdgeProber;
  readonly #options: DnsNodeOptions;
  readonly #client: ControlClient;
  readonly #keeper: DocumentKeeper;
  readonly #notifier: ZoneNotifier;
  readonly #standIn: StandInProber | undefined;
  readonly #agent: PolicyAgent;
  readonly #aliases: AliasResolver;
  readonly #parents: ParentWatch;
  readonly #secondaries: SecondaryZones;
  #areAliasesOld = false;
  readonly #incarnation = `${process.pid}-${systemClock.epoch().toString(36)}`;
  readonly #firstTopology = Promise.withResolvers<void>();
  #reportTimer: NodeJS.Timeout | undefined;
  #lastReport = { queries: 0, atMs: 0 };
  /**
   * The topology is put in force last of what the disk has, or of what control has when the disk has none: a zone must not be answered
   * without its keys, or without its properties, for a moment.
   */
  #held: (() => void) | undefined;
  #isComplete = false;
  /** Workers that died or hung: what a fault of ours may end as, where there are several processes. */
  workersLost: () => number = () => 0;
  #isReporting = false;
  #isDraining = false;

  constructor(options: DnsNodeOptions) {
    const { serverId, controlUrl, token, stateDirectory, logger } = options;
    this.#options = options;
    this.prober = new EdgeProber({
      clock: systemClock,
      logger,
      dial,
      onEvent: () => this.state.handleLiveness(),
    });
    this.state = new DnsState(this.prober.isUp, options.peerKey, serverId);
    this.#client = new ControlClient({ url: controlUrl, token, nodeId: serverId, dial, logger });
    this.#agent = new PolicyAgent({
      serverId,
      client: this.#client,
      clock: systemClock,
      logger,
      scriptsDirectory: options.testScripts,
      onBeliefs: (beliefs) => this.state.handleTargets(beliefs),
    });
    this.#aliases = new AliasResolver({
      clock: systemClock,
      servers: options.resolvers,
      onAnswers: (answers) => this.state.setAliases(answers),
    });
    this.#parents = new ParentWatch(options.resolvers);
    const keys = tsigKeysOf(options.tsigKeys ?? []);
    this.#notifier = new ZoneNotifier(keys, logger);
    this.#secondaries = new SecondaryZones({
      clock: systemClock,
      logger,
      stateDirectory,
      keys,
      mayAskPrivate: options.mayAskPrivatePrimaries,
      seed: this.#incarnation,
      isSignedHere: (origin) => this.state.isSignedHere(origin),
      onZone: (document, version) => this.#setZone(document, version),
    });
    const delayMs = options.inputDelaySeconds * 1_000;
    this.#keeper = new DocumentKeeper({ client: this.#client, stateDirectory, logger, delayMs });
    this.#standIn =
      delayMs === 0
        ? undefined
        : new StandInProber({
            clock: systemClock,
            logger,
            names: () => hostnamesOf(this.state),
            delayMs,
            onChange: (isStandingBy, mayTake) => {
              this.state.setStandingBy(isStandingBy);
              // Whatever has befallen the others is on its way here.
              this.#keeper.freeze(!mayTake);
            },
          });
    this.#keeper.keep(
      "topology",
      (value) => topologyDocument.parse(value),
      (_id, body, version) => {
        if (this.#isComplete) this.#setTopology(body, version);
        else this.#held = () => this.#setTopology(body, version);
      },
    );
    this.#keeper.keep(
      "property",
      (value) => propertyDocument.parse(value),
      (_id, body, version) => this.state.setProperty(body, version),
    );
    this.#keeper.keep(
      "dnssec",
      (value) => dnssecDocument.parse(value),
      (_id, body, version) => {
        for (const problem of this.state.setKeys(body, version)) logger.error("dnssec-key", { problem });
        this.#parents.setKeys(body);
      },
    );
    if (options.takesCertificates)
      this.#keeper.keep(
        "certificate",
        (value) => certificateDocument.parse(value),
        (_id, body) => this.state.setCertificate(body),
      );
    this.#keeper.keep(
      "zone",
      (value) => zoneDocument.parse(value),
      (_id, body, version) => {
        if (!this.#secondaries.setZone(body, version)) this.#setZone(body, version);
      },
    );
    this.#keeper.keep(
      "policy",
      (value) => policyDocument.parse(value),
      (_id, body, version) => {
        this.state.setPolicy(body, version);
        this.#agent.setPolicy(body, version);
      },
    );
    this.#keeper.keep(
      "map",
      (value) => mapSnapshot.parse(value),
      (_id, body) => {
        // The publisher checks too; a name server believes nobody blindly. The last good map stays in force.
        const problem = refusalOf(body, this.state.snapshot ?? undefined);
        if (problem !== undefined) throw new Error(`map ${body.mapVersion} is refused: ${problem.detail}`);
        this.state.setMap(body);
      },
      (body) => this.state.prepareMap(body),
    );
  }

  /** Resolves when the disk has been read; rejects when the state directory cannot be used. */
  async start(): Promise<void> {
    await this.#keeper.start();
    if (this.#held === undefined) void this.#keeper.synced.then(() => this.#complete());
    else this.#complete();
    this.#lastReport = { queries: this.#options.counters.queries, atMs: performance.now() };
    this.#reportTimer = setInterval(() => void this.#report(), REPORT_INTERVAL_MS);
  }

  #setZone(document: ZoneDocument, version: number): void {
    const changed = this.state.setZone(document, version);
    this.#lookForAliases();
    if (changed !== undefined && document.isActive) this.#notifier.notify(document, changed);
  }

  /** A primary says that its zone has changed. */
  handleNotify(heard: HeardNotify): void {
    this.#secondaries.handleNotify(heard);
  }

  /** From now on there are answers. */
  #complete(): void {
    this.#isComplete = true;
    this.#held?.();
    this.#held = undefined;
  }

  /** What ALIAS records lead to may be another one; all changes that come together are looked at together. */
  #lookForAliases(): void {
    if (this.#areAliasesOld) return;
    this.#areAliasesOld = true;
    setImmediate(() => {
      this.#areAliasesOld = false;
      const { targets, owners } = this.state.aliasTargets();
      if (!this.#isDraining) this.#aliases.setTargets(targets, owners);
    });
  }

  #setTopology(body: TopologyDocument, version: number): void {
    this.state.setTopology(body, version);
    this.#agent.setTopology(body);
    this.#lookForAliases();
    this.prober.setServers(edgeServersOf(this.state.topology));
    const { nameServers } = body.nameService;
    // Name servers near the resolvers have the delegated zone alone.
    const own = nameServers.find(({ serverId }) => serverId === this.#options.serverId);
    this.#secondaries.setAsking(own !== undefined && own.edgeClusterId === undefined);
    this.#standIn?.setOthers(nameServers.filter(({ serverId }) => serverId !== this.#options.serverId));
    this.state.handleLiveness();
    this.#firstTopology.resolve();
  }

  /** Resolves with whether there is a topology, at the latest after `timeoutMs`. */
  async whenSupplied(timeoutMs: number): Promise<boolean> {
    const timer = Promise.withResolvers<void>();
    const handle = setTimeout(timer.resolve, timeoutMs);
    await Promise.race([this.#firstTopology.promise, timer.promise]);
    clearTimeout(handle);
    return this.state.topology !== undefined;
  }

  get isControlConnected(): boolean {
    return this.#keeper.state === "connected";
  }

  /** Documents in force by `kind/id`. */
  get applied(): Readonly<Record<string, number>> {
    return this.#keeper.applied;
  }

  /** What became of questions for ALIAS records' targets, and how many there are. */
  get aliasFigures(): Readonly<Record<string, number>> {
    return this.#aliases.counters;
  }

  /** Questions for the DS that zones' parents have. */
  get parentFigures(): Readonly<Record<string, number>> {
    return this.#parents.counters;
  }

  /** Secondary zones: what came of questions to their primaries, and how many are in which state. */
  get secondaryFigures() {
    return { events: this.#secondaries.counters, states: this.#secondaries.states };
  }

  /** Tests of policies' targets: what became of them, and who takes part. */
  get testFigures(): Readonly<Record<string, number>> {
    return { ...this.#agent.figures, ...this.#agent.counters };
  }

  get documentCounters(): Readonly<Record<string, number>> {
    return this.#keeper.counters;
  }
  get documentsHeld(): number {
    return this.#keeper.heldBack;
  }

  /** The report that is published; undefined while the topology does not know this server. */
  report(): ServerReport | undefined {
    const { serverId, counters, inputDelaySeconds } = this.#options;
    const entry = this.state.topology?.servers.get(serverId);
    if (entry === undefined) return undefined;
    const atMs = performance.now();
    const { queries, atMs: lastAtMs } = this.#lastReport;
    const seconds = (atMs - lastAtMs) / 1_000;
    const isReady = this.state.snapshot !== null;
    const mapInForce = this.#keeper.fenceOf("map");
    const opinions = this.#agent.opinions();
    const dsAtParent = this.#parents.seen;
    const secondaryZones = this.#secondaries.reports();
    return {
      serverId,
      clusterId: entry.cluster.clusterId,
      role: "nameserver",
      incarnation: this.#incarnation,
      atEpochMs: Math.round(systemClock.epoch()),
      state: this.#isDraining ? "draining" : isReady ? "ready" : "starting",
      requestsPerSecond: seconds > 0 ? (counters.queries - queries) / seconds : 0,
      activeRequests: 0,
      cacheBytes: 0,
      cacheObjects: 0,
      properties: {},
      links: [],
      applied: this.#keeper.applied,
      internalErrors: counters.withReason("internal-error") + this.workersLost(),
      ...(inputDelaySeconds > 0 && { inputDelaySeconds }),
      ...(opinions !== undefined && { opinions }),
      ...(dsAtParent !== undefined && { dsAtParent }),
      ...(secondaryZones !== undefined && { secondaryZones }),
      ...(mapInForce !== undefined && { mapInForce }),
    };
  }

  async #report(): Promise<void> {
    // One at a time: with control far away or dead the reports must not pile up.
    if (this.#isReporting) return;
    const report = this.report();
    if (report === undefined) return;
    this.#lastReport = { queries: this.#options.counters.queries, atMs: performance.now() };
    this.#isReporting = true;
    const namesAsked = this.#options.namesAsked?.drain() ?? [];
    await this.#client.publishReport({ ...report, ...(namesAsked.length > 0 && { namesAsked }) });
    this.#isReporting = false;
  }

  async close(): Promise<void> {
    this.#isDraining = true;
    clearInterval(this.#reportTimer);
    this.#notifier.close();
    this.#standIn?.close();
    this.#aliases.close();
    this.#parents.close();
    this.#agent.close();
    await this.#secondaries.close();
    this.prober.close();
    await this.#keeper.close();
    await this.#client.close();
  }
}

/** Names that this server has an address for, of all zones. */
function hostnamesOf(state: DnsState): readonly string[] {
  const nodes = state.context()?.zones.mappedNodes() ?? [];
  return [...nodes].map(({ name }) => name.text);
}

/** Every server that an answer may name: edges, and name servers that stand with them. */
export function edgeServersOf(topology: TopologyIndex | undefined): readonly ServerEntry[] {
  if (topology === undefined) return [];
  const { nameServers } = topology.topology.nameService;
  return [
    ...[...topology.edgeClusters.values()].flatMap(({ entry }) => entry.servers),
    ...nameServers.flatMap(({ serverId, edgeClusterId }) => {
      const server = topology.servers.get(serverId)?.server;
      return edgeClusterId === undefined || server === undefined ? [] : [server];
    }),
  ];
}
