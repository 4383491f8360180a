/**
 * Three ways to decide for a user behind a resolver, side by side on one map: by where the resolver stands, by who was seen behind
 * it, and by the user's own address (ECS). After Chen, Sitaraman, Torres, "End-User Mapping: Next Generation Request Routing for
 * Content Delivery", SIGCOMM 2015, section 6.
 */
import type { ClusterId } from "#kit";
import { round } from "../sites.ts";
import type { DelayModel } from "./delay-model.ts";
import { rttBetween, type UserMap } from "./user-map.ts";
import type { Piece, Place, UserWorld } from "./world.ts";

/**
 * `rolled-out`: the user's address where the resolver tells it (the public one), else client-aware; `optimum`: each user at the site
 * with the shortest round trip.
 */
export const policies = ["resolver", "client-aware", "rolled-out", "end-user", "optimum"] as const;
export type Policy = (typeof policies)[number];

/** Round trips of users to the cluster that they are sent to, their access included, ms, weighted by demand. */
export interface WeightedFigures {
  readonly mean: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export interface PolicyFigures {
  readonly sites: number;
  readonly all: Readonly<Record<Policy, WeightedFigures>>;
  /** Users behind the public resolver alone. */
  readonly behindPublic: Readonly<Record<Policy, WeightedFigures>>;
}

export function evaluatePolicies(world: UserWorld, delays: DelayModel, map: UserMap): PolicyFigures {
  const placeOf = (clusterId: ClusterId | null): number => map.placeOf.get(clusterId as ClusterId) as number;
  const byResolver = world.resolvers.map(({ address }) => ({
    resolver: placeOf(map.answer(address).clusterId),
    "client-aware": placeOf(map.answerResolver(address).clusterId),
  }));
  const best = bestPlaces(world, delays, [...map.placeOf.values()]);
  const all = record();
  const behindPublic = record();
  for (const piece of world.pieces) {
    const own = placeOf(map.answer(piece.prefix.address).clusterId);
    for (const [kind, ratio] of [
      ["resolver", 1 - world.publicRatio],
      ["publicResolver", world.publicRatio],
    ] as const) {
      const decided = byResolver[piece[kind]] as (typeof byResolver)[number];
      const sent: Record<Policy, number> = {
        ...decided,
        "rolled-out": kind === "publicResolver" ? own : decided["client-aware"],
        "end-user": own,
        optimum: best.get(piece.place) as number,
      };
      for (const policy of policies) {
        const paid = { rttMs: cost(world, delays, piece, sent[policy]), demand: piece.demand * ratio };
        all[policy].push(paid);
        if (kind === "publicResolver") behindPublic[policy].push(paid);
      }
    }
  }
  return { sites: map.placeOf.size, all: figuresOf(all), behindPublic: figuresOf(behindPublic) };
}

interface Paid {
  readonly rttMs: number;
  readonly demand: number;
}

export function cost(world: UserWorld, delays: DelayModel, { place }: Piece, site: number): number {
  return rttBetween(world, delays, place, site) + (world.places[place] as Place).accessMs;
}

function bestPlaces(world: UserWorld, delays: DelayModel, sites: readonly number[]): Map<number, number> {
  return new Map(
    [...new Set(world.pieces.map(({ place }) => place))].map((place) => {
      let best = sites[0] as number;
      let bestMs = Infinity;
      for (const site of sites) {
        const rttMs = rttBetween(world, delays, place, site);
        if (rttMs >= bestMs) continue;
        best = site;
        bestMs = rttMs;
      }
      return [place, best];
    }),
  );
}

function record(): Record<Policy, Paid[]> {
  return { resolver: [], "client-aware": [], "rolled-out": [], "end-user": [], optimum: [] };
}

function figuresOf(paid: Readonly<Record<Policy, Paid[]>>): Record<Policy, WeightedFigures> {
  return Object.fromEntries(policies.map((policy) => [policy, weighted(paid[policy])])) as Record<
    Policy,
    WeightedFigures
  >;
}

/** Quantiles by demand: the least value below which that share of the demand is. */
export function weighted(paid: readonly Paid[]): WeightedFigures {
  const sorted = paid.toSorted((a, b) => a.rttMs - b.rttMs);
  const total = sorted.reduce((sum, { demand }) => sum + demand, 0);
  const at = (q: number): number => {
    let below = 0;
    for (const { rttMs, demand } of sorted) {
      below += demand;
      if (below >= q * total) return round(rttMs);
    }
    return round(sorted.at(-1)?.rttMs ?? Number.NaN);
  };
  const mean = sorted.reduce((sum, { rttMs, demand }) => sum + rttMs * demand, 0) / total;
  return { mean: round(mean), p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}
