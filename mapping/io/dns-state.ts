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

  /** @param isUp the name server's own view of liveness */
  constructor(isUp: (serverId: ServerId) => boolean) {
    this.#isUp = isUp;
  }

  setTopology(topology: TopologyDocument, version: number): void {
    this.#topology = { body: new TopologyIndex(topology), version };
    this.#context = undefined;
  }

  setProperty(property: PropertyDocument, version: number): void {
    this.#properties.set(property.propertyId, { body: property, version });
    this.#context = undefined;
  }

  setMap(snapshot: MapSnapshot): void {
    this.#map = new MapIndex(snapshot, this.#map ?? undefined);
    if (this.#context !== undefined) this.#context = { ...this.#context, snapshot: this.#map };
  }

  /** A server that is probed went down or came back: what was computed of the old view is let go. */
  handleLiveness(): void {
    if (this.#context !== undefined) this.#context = { ...this.#context };
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
