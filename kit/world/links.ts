/**
 * The truth about a world's links: what the emulation applies and what a measurement feed samples with noise. Nothing that
 * decides reads it. Generated from geography by a seeded model; what the file gives replaces what the model says.
 */
import { type Coordinates, fibreRttMsMin, greatCircleKm, Random } from "#kit";
import type { LinkModel, World } from "./world.ts";

/** Two servers of one site: a switch or two between them. */
const SAME_CLUSTER_RTT_MS = 0.2;
const SAME_CLUSTER_BANDWIDTH_MBPS = 10_000;
/** The model never makes a link worse than this; worse ones are given by the file. */
const GENERATED_LOSS_RATIO_MAX = 0.05;
/** Loss differs more from pair to pair than distance explains: standard deviation of its logarithm. */
const LOSS_SPREAD = 0.5;

export interface LinkProperties {
  readonly rttMs: number;
  /** Share of packets lost, 0..1, either way. */
  readonly lossRatio: number;
  readonly bandwidthMbps: number;
}

interface Site {
  readonly id: string;
  readonly coordinates: Coordinates;
  readonly accessMs: number;
}

/**
 * Round-trip time, loss and bandwidth between any two sites of a world, by the ids of clusters and client networks.
 *
 * Model: light in fibre over the great circle, times a detour (lognormal around `fibreDetour`, one draw for each unordered
 * pair, never below 1), plus both ends' access. A pair's draws follow from the seed and the two names only, so adding or
 * moving sites in the file changes no other link.
 */
export class WorldLinks {
  readonly #model: LinkModel;
  readonly #random: Random;
  readonly #sites = new Map<string, Site>();
  readonly #clusterIds: readonly string[];
  readonly #given = new Map<string, Partial<LinkProperties>>();

  constructor(world: World) {
    this.#model = world.links.model;
    this.#random = new Random(world.seed);
    const clusters = world.regions.flatMap((region) => region.clusters);
    this.#clusterIds = clusters.map((cluster) => cluster.id);
    for (const { id, coordinates, accessMs } of clusters) {
      this.#sites.set(id, { id, coordinates, accessMs: accessMs ?? this.#model.siteAccessMs });
    }
    for (const { id, coordinates, accessMs } of world.clients) {
      this.#sites.set(id, { id, coordinates, accessMs: accessMs ?? this.#model.clientAccessMs });
    }
    for (const { from, to, isOneWay, ...given } of world.links.given) {
      this.#given.set(`${from}|${to}`, given);
      if (isOneWay !== true) this.#given.set(`${to}|${from}`, given);
    }
  }

  /** What a request from `from` to `to` meets. Throws RangeError for an id that the world does not have. */
  between(from: string, to: string): LinkProperties {
    const a = this.#site(from);
    const b = this.#site(to);
    if (a === b)
      return { rttMs: SAME_CLUSTER_RTT_MS, lossRatio: 0, bandwidthMbps: SAME_CLUSTER_BANDWIDTH_MBPS };
    const given = this.#given.get(`${from}|${to}`);
    // Sorted, so that both directions are the same to the last bit.
    return { ...(a.id < b.id ? this.#generated(a, b) : this.#generated(b, a)), ...given };
  }

  /** Every ordered pair of different clusters, in file order: n * (n - 1) links. */
  *clusterPairs(): Generator<LinkProperties & { readonly from: string; readonly to: string }> {
    for (const from of this.#clusterIds) {
      for (const to of this.#clusterIds) if (from !== to) yield { from, to, ...this.between(from, to) };
    }
  }

  #site(id: string): Site {
    const site = this.#sites.get(id);
    if (site === undefined)
      throw new RangeError(`Unknown site ${JSON.stringify(id)}: no cluster or client network has this id`);
    return site;
  }

  /** `a` before `b` by id. */
  #generated(a: Site, b: Site): LinkProperties {
    const random = this.#random.split(`link/${a.id}|${b.id}`);
    const km = greatCircleKm(a.coordinates, b.coordinates);
    const detour = Math.max(
      1,
      this.#model.fibreDetour * Math.exp(random.normal(0, this.#model.detourSpread)),
    );
    const lossRatio = (this.#model.lossPerThousandKm * km * Math.exp(random.normal(0, LOSS_SPREAD))) / 1_000;
    return {
      rttMs: fibreRttMsMin(km) * detour + a.accessMs + b.accessMs,
      lossRatio: Math.min(GENERATED_LOSS_RATIO_MAX, lossRatio),
      bandwidthMbps: this.#model.bandwidthMbps,
    };
  }
}
