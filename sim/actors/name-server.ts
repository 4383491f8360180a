/** A name server: documents, its own view of who lives, and mapping's answer. */
import { type IpAddress, type MapSnapshot, type PropertyDocument, parsePrefix } from "#kit";
import type { AnswerReason } from "../../mapping/core/answer.ts";
import { MapIndex } from "../../mapping/core/map-index.ts";
import { refusalOf } from "../../mapping/core/snapshot-check.ts";
import { TopologyIndex } from "../../mapping/core/topology-index.ts";
import type { ControlStore } from "./control-store.ts";
import type { Fence } from "../../control/core/fence.ts";
import { DocumentFollower, isForward, placeOf } from "./document-follower.ts";
import type { Host, Program } from "./host.ts";
import { Probes } from "./probes.ts";
import type { Stage } from "./stage.ts";

export interface DnsAnswer {
  readonly serverIds: readonly string[];
  readonly ttlSeconds: number;
  readonly reason: AnswerReason | "unconfigured";
}

/** Bits of the client's address in ECS (RFC 7871, section 11.1 recommends 24 for IPv4). */
const SOURCE_PREFIX_LENGTH = 24;
/** How often what it believes is compared with the truth, ms. */
const CHECK_MS = 250;

/** The first address of a client network's first IPv4 prefix. */
export function addressIn(prefixes: readonly string[]): IpAddress {
  for (const text of prefixes) {
    const prefix = parsePrefix(text);
    if (prefix?.address.family === 4) return prefix.address;
  }
  const first = parsePrefix(prefixes[0] ?? "");
  if (first === undefined) throw new RangeError(`Client network without a prefix: ${prefixes.join(" ")}`);
  return first.address;
}

export class NameServer implements Program {
  readonly host: Host;
  readonly follower: DocumentFollower;
  readonly #stage: Stage;
  #topology: TopologyIndex;
  #hasTopology = false;
  #properties = new Map<string, PropertyDocument>();
  #map: MapIndex | null = null;
  #probes!: Probes;

  constructor(stage: Stage, host: Host, control: ControlStore) {
    this.#stage = stage;
    this.host = host;
    this.#topology = new TopologyIndex(stage.topology);
    this.follower = new DocumentFollower(host, control, ["topology", "property", "map"], {
      onDocument: (kind, _id, body) => {
        if (kind === "topology") this.#hasTopology = true;
        else if (kind === "property") {
          const property = body as PropertyDocument;
          this.#properties.set(property.propertyId, property);
        } else return this.#takesMap(body as MapSnapshot);
        return true;
      },
      prepare: (map) => MapIndex.inSteps(map, this.#map ?? undefined),
      onApplied: (key, before, after) =>
        stage.judge.check(
          "document-went-back",
          host.now,
          isForward(before, after),
          () =>
            `${host.id} has ${key} of ${before && placeOf(before)} in force and applies ${placeOf(after)}`,
        ),
    });
  }

  start(): void {
    this.#hasTopology = false;
    this.#properties = new Map();
    this.#map = null;
    this.#probes = new Probes(this.host, this.#stage.settings.nameServerLiveness, (event) => {
      this.host.note(`takes ${event.id} for ${event.state} (${event.reason})`);
      this.#stage.statistics.count("liveness", `${event.state}-${event.reason}`);
      if (event.state === "down") this.#stage.incidents.handleDetected(this.host.id, event.id, this.host.now);
    });
    this.#topology = new TopologyIndex(this.#stage.topology);
    this.#probes.watch(this.#edgeServers());
    this.follower.start();
    this.#check();
  }

  get mapInForce(): Fence | undefined {
    return this.follower.fenceOf("map/world");
  }
  isUp(serverId: string): boolean {
    return this.#probes.monitor.isUp(serverId);
  }

  /** As the process does, once the map is prepared: what could not be true is refused, and the last good map stays in force. */
  #takesMap(snapshot: MapSnapshot): boolean {
    const problem = refusalOf(snapshot, this.#map?.snapshot);
    if (problem !== undefined) {
      this.#stage.statistics.count("map-refused-by-name-server", problem.reason);
      this.host.note(`refuses map ${snapshot.mapVersion}: ${problem.detail}`);
      return false;
    }
    this.#map = new MapIndex(snapshot, this.#map ?? undefined);
    return true;
  }

  query(hostname: string, clientAddress: IpAddress, respond: (answer: DnsAnswer) => void): void {
    const { judge, statistics } = this.#stage;
    const { now } = this.host;
    const property = [...this.#properties.values()].find((one) => one.hostnames.includes(hostname));
    const propertyId = property?.propertyId ?? "";
    judge.check(
      "node-forgot",
      now,
      property !== undefined || !this.follower.isOnDisk("topology/world"),
      () => `${this.host.id} has its documents on disk and refuses ${hostname}`,
    );
    if (property === undefined || !this.#hasTopology) {
      statistics.count("dns", "unconfigured");
      respond({ serverIds: [], ttlSeconds: 0, reason: "unconfigured" });
      return;
    }
    const answer = this.#stage.cores.answerAddresses({
      snapshot: this.#map,
      topology: this.#topology,
      property,
      family: 4,
      clientAddress,
      sourcePrefixLength: clientAddress.family === 4 ? SOURCE_PREFIX_LENGTH : 56,
      isUp: this.#probes.isUp,
    });
    const serverIds = answer.servers.map((server) => server.serverId);
    statistics.count("dns", answer.reason);
    judge.check(
      "node-forgot",
      now,
      answer.reason !== "no-map" || !this.follower.isOnDisk("map/world"),
      () => `${this.host.id} has a map on its disk and answers without one`,
    );
    judge.check(
      "dns-answer-empty",
      now,
      serverIds.length > 0,
      () => `${this.host.id} answers ${propertyId} with no address (${answer.reason})`,
    );
    this.#judgeAnswer(serverIds, answer.reason, propertyId);
    respond({ serverIds, ttlSeconds: answer.ttlSeconds, reason: answer.reason });
  }

  #judgeAnswer(serverIds: readonly string[], reason: AnswerReason, propertyId: string): void {
    const { judge, bounds, hosts } = this.#stage;
    const { now } = this.host;
    if (this.host.aliveForMs(now) < Math.max(bounds.nameServerDownMs, bounds.nameServerUpMs)) return;
    if (reason === "all-down") {
      const living = this.#edgeServers().find(
        (id) => (hosts.get(id)?.aliveForMs(now) ?? 0) > bounds.nameServerUpMs,
      );
      judge.check(
        "dns-answer-empty",
        now,
        living === undefined,
        () => `${this.host.id} answers that all are down, and ${living} lives`,
      );
      return;
    }
    for (const id of serverIds) {
      const deadMs = hosts.get(id)?.deadForMs(now) ?? 0;
      judge.check(
        "dns-names-dead",
        now,
        deadMs <= bounds.nameServerDownMs,
        () =>
          `${this.host.id} names ${id} for ${propertyId}, dead for ${Math.round(deadMs)} ms (bound ${Math.round(bounds.nameServerDownMs)} ms)`,
      );
    }
  }

  /** Invariant dns-drops-live: what it believes of each server against the truth. */
  #check(): void {
    const { judge, bounds, hosts, network } = this.#stage;
    const { now } = this.host;
    if (this.host.aliveForMs(now) > bounds.nameServerUpMs)
      for (const id of this.#edgeServers()) {
        const server = hosts.get(id);
        if (server === undefined || server.aliveForMs(now) <= bounds.nameServerUpMs) continue;
        if (network.wholeForMs(this.host.site, server.site, now) <= bounds.nameServerUpMs) continue;
        judge.check(
          "dns-drops-live",
          now,
          this.#probes.monitor.isUp(id),
          () => `${this.host.id} takes ${id} for down, alive for ${Math.round(server.aliveForMs(now))} ms`,
        );
      }
    this.host.after(CHECK_MS, "check", () => this.#check());
  }

  #edgeServers(): string[] {
    return [...this.#topology.edgeClusters.values()].flatMap(({ entry }) =>
      entry.servers.map((server) => server.serverId),
    );
  }
}
