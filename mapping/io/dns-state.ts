/** The documents that a name server has in force, as the core wants them. */
import type {
  CertificateDocument,
  CountryTable,
  DnssecDocument,
  LabelMac,
  MapSnapshot,
  PolicyDocument,
  PropertyDocument,
  PropertyId,
  ServerId,
  Steps,
  TopologyDocument,
  ZoneDocument,
} from "#kit";
import { compareSerials, hasRecords, nameFromText, rootName, zoneOfDocument } from "#kit";
import { inSteps, labelMac } from "#kit/io";
import type { DnsContext } from "../core/dns/decision.ts";
import type { ZoneSigners } from "../core/dns/dnssec/secure.ts";
import { SignatureCache, type SignatureFigures, ZoneSigner } from "../core/dns/dnssec/signer.ts";
import { contextWith, type PreparedMap, prepareMap, renewContext } from "../core/dns/prepared-map.ts";
import { compilePolicy, type CompiledPolicy } from "../core/policy/compile.ts";
import { type PolicyView, type TargetBeliefs, viewOf } from "../core/policy/view.ts";
import { HostedZone } from "../core/zone/hosted-zone.ts";
import type { AliasAnswers } from "../core/zone/alias-table.ts";
import { resolve } from "../core/zone/resolve.ts";
import { dnsTypes } from "../core/dns/constants.ts";
import type { NotifyRule } from "../core/zone/notify.ts";
import type { TransferZone } from "../core/zone/transfer.ts";
import { ZoneTable } from "../core/dns/zone-table.ts";
import { MapIndex } from "../core/map-index.ts";
import { TopologyIndex } from "../core/topology-index.ts";
import { DnsCertificates } from "./dns-certificates.ts";
import { openZone, sha1, sha256 } from "./zone-key.ts";

/** Signatures of answers that are kept, and as many of denials: 20,000 sets of a large map, 30 MB with both full. */
const SIGNATURES_MAX = 32_768;

/** Earlier states of a zone that are kept for incremental transfers (RFC 1995). */
const ZONE_HISTORY_MAX = 16;

interface KeptZone {
  readonly document: ZoneDocument;
  readonly zone: HostedZone;
  readonly history: readonly HostedZone[];
}

interface Versioned<T> {
  readonly body: T;
  readonly version: number;
}

/** One change of what is in force, as it is told to another process. */
export type DnsChange =
  | {
      readonly kind: "topology";
      readonly body: TopologyDocument;
      readonly version: number;
      /** Which of its name servers they are. */
      readonly serverId: ServerId | undefined;
    }
  | { readonly kind: "property"; readonly body: PropertyDocument; readonly version: number }
  | { readonly kind: "zone"; readonly body: ZoneDocument; readonly version: number }
  | { readonly kind: "policy"; readonly body: PolicyDocument; readonly version: number }
  /** Addresses of names outside that ALIAS records lead to. */
  | { readonly kind: "aliases"; readonly answers: AliasAnswers }
  /** Of all policies; what is not named lives and takes everything. */
  | { readonly kind: "targets"; readonly beliefs: TargetBeliefs }
  | { readonly kind: "map"; readonly body: MapSnapshot }
  /** Private keys are sealed; whoever is told opens them itself. */
  | { readonly kind: "dnssec"; readonly body: DnssecDocument; readonly version: number }
  /** Its key is sealed. */
  | { readonly kind: "certificate"; readonly body: CertificateDocument }
  | { readonly kind: "liveness"; readonly down: readonly ServerId[] }
  | { readonly kind: "standing-by"; readonly isStandingBy: boolean };

/**
 * Each setter prepares what it can and throws before anything has changed; the zone table is built anew at the next
 * query after a change of topology or properties (many properties arrive together at the start).
 */
export class DnsState {
  readonly #isUp: (serverId: ServerId) => boolean;
  readonly #peerKey: Uint8Array | undefined;
  readonly #certificates: DnsCertificates;
  readonly #labelMac: LabelMac | undefined;
  #serverId: ServerId | undefined;
  #topology: Versioned<TopologyIndex> | undefined;
  readonly #properties = new Map<PropertyId, Versioned<PropertyDocument>>();
  readonly #zones = new Map<string, Versioned<KeptZone>>();
  readonly #policies = new Map<string, Versioned<CompiledPolicy>>();
  #beliefs: TargetBeliefs = {};
  #aliases: AliasAnswers = {};
  #countries: CountryTable | undefined;
  #map: MapIndex | null = null;
  #dnssec: Versioned<DnssecDocument> | undefined;
  #signers: ZoneSigners = new Map();
  readonly #signatures = new SignatureCache(SIGNATURES_MAX);
  #prepared: PreparedMap | undefined;
  #isViewOld = false;
  #isStandingBy = false;
  #isRenewing = false;
  #context: DnsContext | undefined;
  readonly #listeners = new Set<(change: DnsChange) => void>();

  /**
   * @param isUp the name server's own view of liveness
   * @param peerKey opens the keys of signed zones, and knows names that are asked for once
   * @param serverId which of the topology's name servers this is; without one of those at the top
   */
  constructor(isUp: (serverId: ServerId) => boolean, peerKey?: Uint8Array, serverId?: ServerId) {
    this.#isUp = isUp;
    this.#peerKey = peerKey;
    this.#certificates = new DnsCertificates(peerKey);
    this.#labelMac = peerKey && labelMac(peerKey);
    this.#serverId = serverId;
  }

  /**
   * `listener` is told of each change once it is in force, until what is returned is called: who serves and who is about to take over
   * both hear while one replaces the other.
   */
  onChange(listener: (change: DnsChange) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #tell(change: DnsChange): void {
    for (const listener of this.#listeners) listener(change);
  }

  /** Everything that is in force, as changes that lead there. */
  *changes(): IterableIterator<DnsChange> {
    const topology = this.#topology;
    if (topology !== undefined) {
      const { body, version } = topology;
      yield { kind: "topology", body: body.topology, version, serverId: this.#serverId };
      yield this.#liveness();
    }
    for (const { body, version } of this.#properties.values()) yield { kind: "property", body, version };
    for (const { body, version } of this.#zones.values())
      yield { kind: "zone", body: body.document, version };
    for (const { body, version } of this.#policies.values())
      yield { kind: "policy", body: body.document, version };
    yield { kind: "targets", beliefs: this.#beliefs };
    yield { kind: "aliases", answers: this.#aliases };
    if (this.#dnssec !== undefined) yield { kind: "dnssec", ...this.#dnssec };
    for (const body of this.#certificates.documents()) yield { kind: "certificate", body };
    if (this.#map !== null) yield { kind: "map", body: this.#map.snapshot };
    if (this.#isStandingBy) yield { kind: "standing-by", isStandingBy: true };
  }

  /** A change that another one has told. */
  apply(change: DnsChange): void {
    if (change.kind === "topology") {
      this.#serverId = change.serverId;
      this.setTopology(change.body, change.version);
    } else if (change.kind === "property") this.setProperty(change.body, change.version);
    else if (change.kind === "zone") this.setZone(change.body, change.version);
    else if (change.kind === "policy") this.setPolicy(change.body, change.version);
    else if (change.kind === "aliases") this.setAliases(change.answers);
    else if (change.kind === "targets") this.handleTargets(change.beliefs);
    else if (change.kind === "map") this.setMap(change.body);
    else if (change.kind === "dnssec") this.setKeys(change.body, change.version);
    else if (change.kind === "certificate") this.setCertificate(change.body);
    else if (change.kind === "standing-by") this.setStandingBy(change.isStandingBy);
    else this.handleLiveness();
  }

  #liveness(): DnsChange {
    const servers = [...(this.#topology?.body.servers.keys() ?? [])];
    return { kind: "liveness", down: servers.filter((serverId) => !this.#isUp(serverId)) };
  }

  setTopology(topology: TopologyDocument, version: number): void {
    this.#topology = { body: new TopologyIndex(topology), version };
    this.#context = undefined;
    this.#tell({ kind: "topology", body: topology, version, serverId: this.#serverId });
  }

  setProperty(property: PropertyDocument, version: number): void {
    this.#properties.set(property.propertyId, { body: property, version });
    this.#context = undefined;
    this.#tell({ kind: "property", body: property, version });
  }

  /**
   * Does in steps all that is long about a map, while the one before goes on answering; `setMap` of the same object is quick
   * afterwards. Throws ParseError when it does not decode.
   */
  *prepareMap(snapshot: MapSnapshot): Steps<void> {
    this.#prepared = yield* prepareMap(snapshot, this.#map ?? undefined, () => this.#context);
  }

  /** @returns the zone when it is new or has a later serial than before: others are to be told */
  setZone(document: ZoneDocument, version: number): HostedZone | undefined {
    const zone = hasRecords(document)
      ? HostedZone.of(zoneOfDocument(document), sha1)
      : HostedZone.unloaded(nameFromText(document.origin) ?? rootName);
    const before = this.#zones.get(document.zoneId)?.body;
    const isSame = before?.document.origin === document.origin && before.zone.isLoaded && zone.isLoaded;
    const order = isSame ? (compareSerials(zone.serial, before.zone.serial) ?? -1) : 1;
    // A zone that went back has no way from there to here.
    const history =
      !isSame || order < 0
        ? []
        : order > 0
          ? [...before.history, before.zone].slice(-ZONE_HISTORY_MAX)
          : before.history;
    this.#zones.set(document.zoneId, { body: { document, zone, history }, version });
    this.#context = undefined;
    this.#tell({ kind: "zone", body: document, version });
    return order === 0 || !zone.isLoaded ? undefined : zone;
  }

  setPolicy(document: PolicyDocument, version: number): void {
    this.#policies.set(document.policyId, { body: compilePolicy(document), version });
    this.#context = undefined;
    this.#tell({ kind: "policy", body: document, version });
  }

  /** Of client addresses: what geographic policies go by. */
  setCountries(countries: CountryTable | undefined): void {
    this.#countries = countries;
    if (this.#context !== undefined) this.#context = { ...this.#context, countries };
  }

  /** Targets of policies went down, came back, or turn another part of what they are sent away. */
  handleTargets(beliefs: TargetBeliefs): void {
    this.#beliefs = beliefs;
    this.#tell({ kind: "targets", beliefs });
    this.#renewSoon();
  }

  setAliases(answers: AliasAnswers): void {
    this.#aliases = answers;
    this.#tell({ kind: "aliases", answers });
    this.#renewSoon();
  }

  /** Names outside of all zones that ALIAS records lead to, and the names where such records stand. */
  aliasTargets(): { readonly targets: ReadonlySet<string>; readonly owners: ReadonlySet<string> } {
    const targets = new Set<string>();
    const owners = new Set<string>();
    const zones = this.context()?.zones;
    for (const { body } of this.#zones.values()) {
      if (!body.document.isActive || zones === undefined) continue;
      for (const { owner, target } of body.zone.aliases()) {
        owners.add(owner.text);
        // Aliases within our zones may lead out of them.
        const last = resolve(zones, target, dnsTypes.A)?.answers.at(-1)?.data;
        for (const name of [target, ...(last?.kind === "name" ? [last.name] : [])])
          if (zones.zoneOf(name.text) === undefined) targets.add(name.text);
      }
    }
    return { targets, owners };
  }

  #views(): ReadonlyMap<CompiledPolicy, PolicyView> {
    const views = new Map<CompiledPolicy, PolicyView>();
    for (const { body } of this.#policies.values()) {
      const { policyId } = body.document;
      const beliefs = Object.hasOwn(this.#beliefs, policyId) ? this.#beliefs[policyId] : undefined;
      if (beliefs !== undefined && body.document.isActive) views.set(body, viewOf(body, beliefs));
    }
    return views;
  }

  setMap(snapshot: MapSnapshot): void {
    const prepared =
      this.#prepared?.index.snapshot === snapshot
        ? this.#prepared
        : {
            index: new MapIndex(snapshot, this.#map ?? undefined),
            inForce: undefined,
            next: undefined,
          };
    this.#prepared = undefined;
    this.#map = prepared.index;
    if (this.#context !== undefined) this.#context = contextWith(prepared, this.#context);
    this.#tell({ kind: "map", body: snapshot });
  }

  /**
   * Zones that are signed, from now on with these keys; kept signatures of keys that stay are used on.
   *
   * @returns why keys could not be opened; they are in force all the same, see `openZone`
   */
  setKeys(document: DnssecDocument, version: number): readonly string[] {
    const opened = document.zones.map((zone) => openZone(zone, this.#peerKey));
    this.#signers = new Map(
      opened.map(({ keys }) => [keys.origin.text, new ZoneSigner(keys, sha256, this.#signatures)]),
    );
    this.#dnssec = { body: document, version };
    if (this.#context !== undefined) this.#context = { ...this.#context, signers: this.#signersInForce() };
    this.#tell({ kind: "dnssec", body: document, version });
    return opened.flatMap(({ problems }) => problems);
  }

  setCertificate(document: CertificateDocument): void {
    this.#certificates.set(document);
    this.#tell({ kind: "certificate", body: document });
  }

  /** What DNS over TLS shows where that comes from control; see {@link DnsCertificates.identityFor}. */
  tlsIdentity(): ReturnType<DnsCertificates["identityFor"]> {
    const servers = this.#topology?.body.topology.nameService.nameServers ?? [];
    const own = servers.filter(({ serverId }) => serverId === this.#serverId);
    return this.#certificates.identityFor(own.map(({ name }) => name.toLowerCase()));
  }

  /** Whether others answer, and this server refuses. */
  setStandingBy(isStandingBy: boolean): void {
    this.#isStandingBy = isStandingBy;
    if (this.#context !== undefined) this.#context = { ...this.#context, isStandingBy };
    this.#tell({ kind: "standing-by", isStandingBy });
  }
  get isStandingBy(): boolean {
    return this.#isStandingBy;
  }

  /** Zones that are signed, and what became of signatures in this process. */
  get signing(): SignatureFigures & { readonly zones: number } {
    return { zones: this.#signers.size, ...this.#signatures.figures };
  }

  /** A server that is probed went down or came back: what was computed of the old view is replaced soon. */
  handleLiveness(): void {
    this.#tell(this.#liveness());
    this.#renewSoon();
  }

  #renewSoon(): void {
    this.#isViewOld = true;
    if (!this.#isRenewing) void this.#renew();
  }

  /** All events that come while one is worked on are one. */
  async #renew(): Promise<void> {
    this.#isRenewing = true;
    try {
      while (this.#isViewOld) {
        this.#isViewOld = false;
        await inSteps(
          renewContext(
            () => this.#context,
            (next) => {
              this.#context = next;
            },
            () => ({ policyViews: this.#views(), aliases: this.#aliases }),
          ),
        );
      }
    } finally {
      this.#isRenewing = false;
    }
  }

  get topology(): TopologyIndex | undefined {
    return this.#topology?.body;
  }
  get snapshot(): MapSnapshot | null {
    return this.#map?.snapshot ?? null;
  }
  /** Those that decide. */
  get policies(): readonly CompiledPolicy[] {
    return [...this.#policies.values()].flatMap(({ body }) => (body.document.isActive ? [body] : []));
  }
  get properties(): readonly PropertyDocument[] {
    return [...this.#properties.values()].map(({ body }) => body);
  }

  /** Undefined until there is a topology: nothing is known then about what to be authoritative for. */
  context(): DnsContext | undefined {
    if (this.#context === undefined && this.#topology !== undefined) {
      const zones = new ZoneTable({
        topology: this.#topology.body.topology,
        properties: this.properties,
        serverId: this.#serverId,
        hostedZones: [...this.#zones.values()].flatMap(({ body }) =>
          body.document.isActive ? [body.zone] : [],
        ),
        policies: this.policies,
        serial: this.#serial(),
      });
      this.#context = {
        zones,
        topology: this.#topology.body,
        snapshot: this.#map,
        isUp: this.#isUp,
        signers: this.#signersInForce(),
        transfers: this.#transfers(),
        notifyRules: this.#notifyRules(),
        isStandingBy: this.#isStandingBy,
        countries: this.#countries,
        policyViews: this.#views(),
        aliases: this.#aliases,
        labelMac: this.#labelMac,
      };
    }
    return this.#context;
  }

  /** A zone that came signed is told as it is: its parent knows the keys of who signed it. */
  #signersInForce(): ZoneSigners {
    const foreign = new Set<string>();
    for (const { body } of this.#zones.values())
      if (body.document.isActive && body.zone.signatures !== undefined) foreign.add(body.zone.origin.text);
    return foreign.size === 0
      ? this.#signers
      : new Map([...this.#signers].filter(([origin]) => !foreign.has(origin)));
  }

  /** Whether the zone is signed with keys of this deployment. */
  isSignedHere(origin: string): boolean {
    return this.#signers.has(origin);
  }

  #notifyRules(): NonNullable<DnsContext["notifyRules"]> {
    const rules = new Map<string, NotifyRule>();
    for (const { body } of this.#zones.values()) {
      const { zoneId, origin, isActive, secondary } = body.document;
      if (!isActive || secondary === undefined) continue;
      const { primaries, notifiers } = secondary;
      const addresses = new Set([...primaries.map(({ address }) => address), ...notifiers]);
      rules.set(origin, {
        zoneId,
        addresses,
        keyNames: new Set(primaries.flatMap((one) => one.keyName ?? [])),
      });
    }
    return rules;
  }

  #transfers(): NonNullable<DnsContext["transfers"]> {
    const transfers = new Map<string, TransferZone>();
    for (const { body } of this.#zones.values()) {
      const { document, zone, history } = body;
      if (document.isActive && document.transfer !== undefined && zone.isLoaded)
        transfers.set(zone.origin.text, {
          zone,
          history,
          keyName: document.transfer.keyName,
          areAliasesExpanded: document.transfer.aliases === "expanded",
        });
    }
    return transfers;
  }

  /** Sum of the versions in force: the same on every name server with the same documents, greater with a newer one. */
  #serial(): number {
    let serial = this.#topology?.version ?? 0;
    for (const { version } of this.#properties.values()) serial += version;
    for (const { version } of this.#policies.values()) serial += version;
    return serial;
  }
}
