/** Users as streams of demand: where their resolvers were last told to go, and what that costs them and the clusters. */
import {
  type ClientNetworkId,
  type ClusterId,
  type MapSnapshot,
  type ServerId,
  type TopologyDocument,
  type TrafficClass,
  trafficClasses,
} from "#kit";
import { type World } from "#kit/world";
import type { AnswerReason } from "../../mapping/core/answer.ts";
import type { ClientNetworkInput } from "../../mapping/core/cluster-map.ts";
import { mapIndexOf } from "../../mapping/core/map-index.ts";
import { topologyIndexOf } from "../../mapping/core/topology-index.ts";
import type { SimCores } from "../cores.ts";
import { addressOf } from "./address-of.ts";

/** Share of each class in the demand, as the engine has it. */
const RATIO: Readonly<Record<TrafficClass, number>> = { interactive: 0.6, bulk: 0.25, live: 0.15 };
/** The evening has so much more than the mean, the early morning so much less: a sine over local solar time with its height at 20 h. */
const DIURNAL_RATIO = 0.6;
const PEAK_HOUR = 20;

interface Sent {
  readonly clusterId: ClusterId;
  readonly serverIds: readonly string[];
}

export interface Turn {
  readonly step: number;
  /** A resolver asks anew once in so many steps: its TTL. */
  readonly steps: number;
  readonly second: number;
  readonly snapshot: MapSnapshot;
  readonly topology: TopologyDocument;
  readonly isUp: (id: ServerId) => boolean;
  readonly onAnswer: (id: ClientNetworkId, servers: number, reason: AnswerReason) => void;
}

export class DayUsers {
  readonly #world: World;
  readonly #addresses;
  readonly #rtts: readonly ReadonlyMap<ClusterId, number>[];
  readonly #answer: SimCores["answerAddresses"];
  /** By network and class. */
  readonly #sent: Partial<Record<TrafficClass, Sent>>[];
  readonly #demand: Float64Array;
  readonly #load = new Map<ClusterId, number>();
  /** The first cluster of each network and class in the newest map, by number. */
  #first: string[] = [];
  answers = 0;

  constructor(
    world: World,
    rtts: readonly (readonly { readonly clusterId: ClusterId; readonly rttMs: number }[])[],
    cores: SimCores,
  ) {
    this.#world = world;
    this.#addresses = world.clients.map(({ prefixes }) => addressOf(prefixes));
    this.#rtts = rtts.map((own) => new Map(own.map(({ clusterId, rttMs }) => [clusterId, rttMs])));
    this.#answer = cores.answerAddresses;
    this.#sent = world.clients.map(() => ({}));
    this.#demand = new Float64Array(world.clients.length);
  }

  /** Those whose entry has expired ask; then everyone's demand is where their entries say. */
  turn({ step, steps, second, snapshot, topology, isUp, onAnswer }: Turn): void {
    const map = mapIndexOf(snapshot);
    const index = topologyIndexOf(topology);
    this.#load.clear();
    for (const [n, client] of this.#world.clients.entries()) {
      this.#demand[n] = client.demandPerSecond * diurnal(second, client.coordinates.longitude);
      const own = this.#sent[n] as Partial<Record<TrafficClass, Sent>>;
      for (const [k, trafficClass] of trafficClasses.entries()) {
        if (own[trafficClass] === undefined || (step + n + k) % steps === 0) {
          const { servers, clusterId, reason } = this.#answer({
            snapshot: map,
            topology: index,
            property: { propertyId: "site" as never, trafficClass, dnsTtlSeconds: 20 },
            family: 4,
            clientAddress: this.#addresses[n] as never,
            sourcePrefixLength: 24,
            isUp,
          });
          this.answers++;
          onAnswer(client.id, servers.length, reason);
          if (clusterId !== null)
            own[trafficClass] = { clusterId, serverIds: servers.map(({ serverId }) => serverId) };
        }
        const to = own[trafficClass]?.clusterId;
        if (to === undefined) continue;
        const demand = this.#demand[n] * RATIO[trafficClass];
        this.#load.set(to, (this.#load.get(to) ?? 0) + demand);
      }
    }
  }

  loadOf(clusterId: ClusterId): number {
    return this.#load.get(clusterId) ?? 0;
  }
  get demandPerSecond(): number {
    return this.#demand.reduce((sum, demand) => sum + demand, 0);
  }

  /** Every network and class with the servers that it has addresses of. */
  get sent(): (readonly [ClientNetworkId, readonly string[]])[] {
    return this.#world.clients.flatMap(({ id }, n) =>
      Object.values(this.#sent[n] ?? {}).map(({ serverIds }) => [id, serverIds] as const),
    );
  }

  /** What each network pays for `interactive`, and the least that it could among the clusters that it reaches. */
  paid(isReached: (network: string, clusterId: ClusterId) => boolean): {
    readonly demand: number;
    readonly rttMs: number;
    readonly bestMs: number;
    /** It is sent where nobody answers: a fault that was not noticed yet. */
    readonly isLost: boolean;
  }[] {
    return this.#world.clients.map(({ id }, n) => {
      const rtts = this.#rtts[n] as ReadonlyMap<ClusterId, number>;
      const to = this.#sent[n]?.interactive?.clusterId;
      let bestMs = Infinity;
      for (const [clusterId, rttMs] of rtts) if (rttMs < bestMs && isReached(id, clusterId)) bestMs = rttMs;
      const isLost = to === undefined || !isReached(id, to);
      return {
        demand: this.#demand[n] as number,
        rttMs: rtts.get(to as ClusterId) ?? Infinity,
        bestMs,
        isLost,
      };
    });
  }

  /** What the logs of the edges tell of demand: of now, to a tenth. */
  seenDemand(networks: readonly ClientNetworkInput[]): ClientNetworkInput[] {
    return networks.map((network, n) => ({
      ...network,
      demandPerSecond: Math.round((this.#demand[n] as number) * 10) / 10,
    }));
  }

  /** Counts networks and classes that a new map sends elsewhere than the one before. */
  handleMap(snapshot: MapSnapshot): { readonly moved: number; readonly of: number } {
    const table = snapshot.clusterMap.table();
    const first: string[] = [];
    for (let n = 0; n < table.networks.size; n++)
      for (const trafficClass of trafficClasses)
        first.push(table.clusterIds[table.firstCluster(n, trafficClasses.indexOf(trafficClass))] ?? "");
    const moved =
      this.#first.length === first.length ? first.filter((to, n) => to !== this.#first[n]).length : 0;
    this.#first = first;
    return { moved, of: first.length };
  }
}

function diurnal(second: number, longitude: number): number {
  const localHour = second / 3_600 + longitude / 15;
  return (1 + DIURNAL_RATIO * Math.cos(((localHour - PEAK_HOUR) / 24) * 2 * Math.PI)) / (1 + DIURNAL_RATIO);
}
