/** The documents that a name server has in force, as the core wants them. */
import type { MapSnapshot, PropertyDocument, PropertyId, ServerId, TopologyDocument } from "#kit";
import type { DnsContext } from "../core/dns/decision.ts";
import { ZoneTable } from "../core/dns/zone-table.ts";
import { MapIndex } from "../core/map-index.ts";
import { TopologyIndex } from "../core/topology-index.ts";

interface Versioned<T> {
  readonly body: T;
  readonly version: number;
}

/** One change of what is in force, as it is told to another process. */
export type DnsChange =
  | { readonly kind: "topology"; readonly body: TopologyDocument; readonly version: number }
  | { readonly kind: "property"; readonly body: PropertyDocument; readonly version: number }
  | { readonly kind: "map"; readonly body: MapSnapshot }
  | { readonly kind: "liveness"; readonly down: readonly ServerId[] };

/**
 * Each setter prepares what it can and throws before anything has changed; the zone table is built anew at the next
 * query after a change of topology or properties (many properties arrive together at the start).
 */
export class DnsState {
  readonly #isUp: (serverId: ServerId) => boolean;
  #topology: Versioned<TopologyIndex> | undefined;
  readonly #properties = new Map<PropertyId, Versioned<PropertyDocument>>();
  #map: MapIndex | null = null;
  #context: DnsContext | undefined;
  #listener: (change: DnsChange) => void = () => {};

  /** @param isUp the name server's own view of liveness */
  constructor(isUp: (serverId: ServerId) => boolean) {
    this.#isUp = isUp;
  }

  /** Told of each change once it is in force; one listener. */
  onChange(listener: (change: DnsChange) => void): void {
    this.#listener = listener;
  }

  /** Everything that is in force, as changes that lead there. */
  *changes(): IterableIterator<DnsChange> {
    const topology = this.#topology;
    if (topology !== undefined) {
      yield { kind: "topology", body: topology.body.topology, version: topology.version };
      yield this.#liveness();
    }
    for (const { body, version } of this.#properties.values()) yield { kind: "property", body, version };
    if (this.#map !== null) yield { kind: "map", body: this.#map.snapshot };
  }

  /** A change that another one has told. */
  apply(change: DnsChange): void {
    if (change.kind === "topology") this.setTopology(change.body, change.version);
    else if (change.kind === "property") this.setProperty(change.body, change.version);
    else if (change.kind === "map") this.setMap(change.body);
    else this.handleLiveness();
  }

  #liveness(): DnsChange {
    const servers = [...(this.#topology?.body.servers.keys() ?? [])];
    return { kind: "liveness", down: servers.filter((serverId) => !this.#isUp(serverId)) };
  }

  setTopology(topology: TopologyDocument, version: number): void {
    this.#topology = { body: new TopologyIndex(topology), version };
    this.#context = undefined;
    this.#listener({ kind: "topology", body: topology, version });
  }

  setProperty(property: PropertyDocument, version: number): void {
    this.#properties.set(property.propertyId, { body: property, version });
    this.#context = undefined;
    this.#listener({ kind: "property", body: property, version });
  }

  setMap(snapshot: MapSnapshot): void {
    this.#map = new MapIndex(snapshot, this.#map ?? undefined);
    if (this.#context !== undefined) this.#context = { ...this.#context, snapshot: this.#map };
    this.#listener({ kind: "map", body: snapshot });
  }

  /** A server that is probed went down or came back: what was computed of the old view is let go. */
  handleLiveness(): void {
    if (this.#context !== undefined) this.#context = { ...this.#context };
    this.#listener(this.#liveness());
  }

  get topology(): TopologyIndex | undefined {
    return this.#topology?.body;
  }
  get snapshot(): MapSnapshot | null {
    return this.#map?.snapshot ?? null;
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
        serial: this.#serial(),
      });
      this.#context = { zones, topology: this.#topology.body, snapshot: this.#map, isUp: this.#isUp };
    }
    return this.#context;
  }

  /** Sum of the versions in force: the same on every name server with the same documents, greater with a newer one. */
  #serial(): number {
    let serial = this.#topology?.version ?? 0;
    for (const { version } of this.#properties.values()) serial += version;
    return serial;
  }
}
