/** The cluster map: for each client network and traffic class the edge clusters in order, under every limit. */
import { type TopologyLimit, type TrafficClass, trafficClasses } from "#kit";
import {
  Allocation,
  type AllocationProblem,
  type AllocationReason,
  type AllocationSettings,
  noReasons,
} from "./allocation.ts";
import { BackupPlan } from "./backup-plan.ts";
import { placesOf } from "./backup-places.ts";
import { type EdgeInput, namedLimits, type NamedLimits } from "./limits.ts";
import type { NetworkFeatures } from "./neighbours.ts";
import { type NetworkRows, NOWHERE } from "./network-rows.ts";
import type { ScoreParameters } from "./score.ts";
import { ScoreOrders } from "./score-orders.ts";

/** A client network as the engine is told of it: who it is and what it asks for, no travel times. */
export interface ClientNetworkInput extends NetworkFeatures {
  /** Canonical prefixes; no two networks share one. */
  readonly prefixes: readonly string[];
  /** All traffic classes together. */
  readonly demandPerSecond: number;
}

export interface ClusterMapSettings {
  readonly score: Readonly<Record<TrafficClass, ScoreParameters>>;
  readonly allocation: AllocationSettings;
  /** Share of a client network's demand that is of the class; sums to 1. */
  readonly demandRatio: Readonly<Record<TrafficClass, number>>;
  /**
   * What a request of the class brings down, bits, until reports tell: these then say how the classes compare, and the reports how much
   * it is altogether. Pages of objects of 50 KB, downloads of 1.5 MB, segments of 2 s at 2 Mbit/s.
   */
  readonly bitsPerRequest: Readonly<Record<TrafficClass, number>>;
  /** Clusters named for each client network: what an answer can spill to before the fallback's order. 1..64. */
  readonly rankingMax: number;
  /**
   * Clusters that geography proposes for a client network; those that were measured, and where it is now, come on top. 1..512. Every
   * cluster up to this number, the nearest beyond it: of 2,642 the 33rd nearest is not the answer.
   */
  readonly candidatesMax: number;
}

export interface ClusterMapInput {
  readonly networks: readonly ClientNetworkInput[];
  /** Ascending by id: their place is their number. */
  readonly edges: readonly EdgeInput[];
  /** Up to date. */
  readonly rows: NetworkRows;
  /** Where each unit is now, or NOWHERE; unit `n * trafficClasses.length + k`. */
  readonly current: Uint16Array;
  /** What operators say: see `Overrides`. */
  readonly overrides: { readonly factors: Float64Array; readonly pinned: Uint16Array };
  readonly limits: readonly TopologyLimit[];
  readonly shareMax: number;
  /** By unit: what its stated demand is multiplied with. */
  readonly demandFactors: Float32Array;
  /** Measured over assumed bits a request; 1: nothing was measured. */
  readonly bitsRatio: number;
  /** Whether everyone is placed again, if that is worth the moves; else who is somewhere stays as far as that goes. */
  readonly isWhole: boolean;
}

/** Who is sent where, by number; `rankings.ts` makes a snapshot's part of it. */
export class ClusterMap {
  readonly input: ClusterMapInput;
  readonly orders: ScoreOrders;
  readonly allocation: Allocation;
  readonly limitNames: readonly string[];
  /** Where everybody goes when a region is lost; as of when everyone was placed. */
  readonly backups: BackupPlan;
  readonly #settings: ClusterMapSettings;
  #edges: readonly EdgeInput[];

  /** Scores every candidate and places the demand; where nothing has changed since the previous map, as there. */
  constructor(input: ClusterMapInput, settings: ClusterMapSettings, previous?: ClusterMap) {
    this.input = input;
    this.#edges = input.edges;
    this.#settings = settings;
    const { edges, rows, current, overrides } = input;
    // When nothing is in service, all is: an order by score is worth more than none.
    const isAnyUp = edges.some((edge) => edge.capacityPerSecond > 0);
    const usable = isAnyUp
      ? edges
      : edges.map((edge) => ({ ...edge, capacityPerSecond: 1, bitsPerSecondMax: undefined }));
    this.orders = new ScoreOrders(
      rows.rows,
      usable.map((edge, c) => ({
        load: edge.observedLoad,
        pricePerGb: edge.pricePerGb,
        factor: overrides.factors[c] as number,
        isInService: edge.capacityPerSecond > 0,
      })),
      settings.score,
    );
    const limits = this.#limits(usable, isAnyUp);
    this.limitNames = limits.names;
    const { rowOf, nearest } = rows;
    const problem: AllocationProblem = {
      clusterCount: edges.length,
      demands: this.#demands(limits),
      orders: this.orders,
      orderOf: this.#orders(),
      current,
      pinned: overrides.pinned,
      isDrained: Uint8Array.from(edges, (edge) => (edge.isDrained ? 1 : 0)),
      isInService: Uint8Array.from(usable, (edge) => (edge.capacityPerSecond > 0 ? 1 : 0)),
      limits,
      placesMax: settings.rankingMax,
      ...(edges.length > settings.rankingMax && {
        fallback: {
          orderOf: this.#fallbackOrders(),
          orders: nearest.orders,
        },
      }),
    };
    this.allocation =
      previous?.allocation.answers(problem) === true
        ? previous.allocation
        : new Allocation(problem, settings.allocation, input.isWhole);
    for (let n = 0; n < rowOf.length; n++) this.#nameChosen(n);
    this.orders.extend();
    this.backups = new BackupPlan(this, placesOf(edges.length, settings.rankingMax), previous?.backups);
  }

  /** Of a unit: the number of its order. */
  orderOf(unit: number): number {
    const n = Math.floor(unit / trafficClasses.length);
    return (this.input.rows.rowOf[n] as number) * trafficClasses.length + (unit % trafficClasses.length);
  }

  #orders(): Uint32Array {
    const { rowOf } = this.input.rows;
    const classes = trafficClasses.length;
    const orders = new Uint32Array(rowOf.length * classes);
    for (let n = 0, unit = 0; n < rowOf.length; n++)
      for (let k = 0; k < classes; k++) orders[unit++] = (rowOf[n] as number) * classes + k;
    return orders;
  }

  /** Demand over capacity (not over ceiling) of a cluster. */
  load(cluster: number): number {
    const capacity = (this.#edges[cluster] as EdgeInput).capacityPerSecond;
    return capacity === 0 ? 0 : this.allocation.demandPerSecond(cluster) / capacity;
  }

  /**
   * Clusters have gone or have less than before: their units are placed anew, by the scores of before, and nobody else. Returns who, or
   * undefined when that is not all that has happened, and everything is to be placed again.
   */
  handleShrunk(edges: readonly EdgeInput[]): readonly number[] | undefined {
    const before = this.#edges;
    const isGrown = edges.some(({ capacityPerSecond, bitsPerSecondMax = Infinity }, c) => {
      const was = before[c] as EdgeInput;
      return (
        capacityPerSecond > was.capacityPerSecond || bitsPerSecondMax > (was.bitsPerSecondMax ?? Infinity)
      );
    });
    // Where nothing is in service, all is.
    if (edges.length !== before.length || isGrown || !edges.some((edge) => edge.capacityPerSecond > 0))
      return undefined;
    this.#edges = edges;
    const { ceilingRatio } = this.#settings.allocation;
    const moved = new Set<number>();
    for (const [c, { capacityPerSecond, bitsPerSecondMax = Infinity }] of edges.entries()) {
      const was = before[c];
      const isSame = bitsPerSecondMax === (was?.bitsPerSecondMax ?? Infinity);
      if (isSame && capacityPerSecond === was?.capacityPerSecond) continue;
      const units =
        capacityPerSecond === 0
          ? this.allocation.handleDown(c)
          : this.allocation.handleCapacity(
              c,
              capacityPerSecond * ceilingRatio,
              bitsPerSecondMax * ceilingRatio,
            );
      for (const unit of units) moved.add(unit);
    }
    for (const unit of moved) this.#nameChosen(Math.floor(unit / trafficClasses.length));
    this.orders.extend();
    return [...moved];
  }

  /** How many units came about for which reason. */
  reasons(): Record<AllocationReason, number> {
    const counts = noReasons();
    for (let unit = 0; unit < this.input.current.length; unit++)
      if (this.allocation.clusterOf(unit) !== NOWHERE) counts[this.allocation.reasonOf(unit)]++;
    return counts;
  }

  /** Who fell to a cluster that was no candidate needs its figures all the same. */
  #nameChosen(n: number): void {
    const { rows } = this.input;
    for (let k = 0; k < trafficClasses.length; k++) {
      const chosen = this.allocation.clusterOf(n * trafficClasses.length + k);
      if (chosen === NOWHERE) continue;
      if (rows.rows.entryOf(rows.rowOf[n] as number, chosen) === undefined) rows.widen(n, chosen);
    }
  }

  #fallbackOrders(): Uint32Array {
    const { networks, rows } = this.input;
    const classes = trafficClasses.length;
    const orders = new Uint32Array(networks.length * classes);
    for (let n = 0; n < networks.length; n++)
      orders.fill(rows.orderNumber(n), n * classes, (n + 1) * classes);
    return orders;
  }

  #limits(edges: readonly EdgeInput[], isAnyUp: boolean): NamedLimits {
    const { networks, limits, shareMax } = this.input;
    const demandPerSecond = networks.reduce((sum, network) => sum + network.demandPerSecond, 0);
    const { ceilingRatio } = this.#settings.allocation;
    return isAnyUp
      ? namedLimits(edges, limits, shareMax, demandPerSecond, ceilingRatio)
      : namedLimits(edges, [], 1, demandPerSecond, ceilingRatio);
  }

  /** By resource what each unit takes; bits only where something limits them. */
  #demands({ limits }: NamedLimits): Float32Array[] {
    const { networks, bitsRatio, demandFactors } = this.input;
    const { demandRatio, bitsPerRequest } = this.#settings;
    const classes = trafficClasses.length;
    const requests = new Float32Array(networks.length * classes);
    const ratios = trafficClasses.map((trafficClass) => demandRatio[trafficClass]);
    for (const [n, { demandPerSecond }] of networks.entries())
      for (let k = 0, unit = n * classes; k < classes; k++, unit++)
        requests[unit] = demandPerSecond * (ratios[k] as number) * (demandFactors[unit] as number);
    if (!limits.some(({ resource }) => resource > 0)) return [requests];
    const weights = trafficClasses.map((trafficClass) => bitsPerRequest[trafficClass] * bitsRatio);
    return [requests, requests.map((demand, unit) => demand * (weights[unit % classes] as number))];
  }
}

/** The same networks in the same order, whatever they ask for. */
export function areSameNetworks(a: readonly ClientNetworkInput[], b: readonly ClientNetworkInput[]): boolean {
  return (
    a.length > 0 &&
    a.length === b.length &&
    a.every((one, n) => {
      const other = b[n] as ClientNetworkInput;
      return (
        one.clientNetworkId === other.clientNetworkId &&
        one.coordinates?.latitude === other.coordinates?.latitude &&
        one.coordinates?.longitude === other.coordinates?.longitude &&
        one.asNumber === other.asNumber &&
        one.city === other.city &&
        one.routedPrefix === other.routedPrefix &&
        one.prefixes.length === other.prefixes.length &&
        one.prefixes.every((prefix, p) => prefix === other.prefixes[p])
      );
    })
  );
}
