/** What a price of a query (`ScopeSettings.queryPriceMs`) spares in queries and costs users behind the public resolver. */
import type { ClusterId } from "#kit";
import { scopeDefaults } from "#mapping";
import { round } from "../sites.ts";
import type { DelayModel } from "./delay-model.ts";
import { cost, weighted, type WeightedFigures } from "./policies.ts";
import { groupsOf, publicAnswers, queriesOf, type QuerySettings } from "./queries.ts";
import type { UserMap } from "./user-map.ts";
import type { Piece, UserWorld } from "./world.ts";

export interface PriceFigures {
  readonly sites: number;
  readonly queryPriceMs: number;
  /** Queries of the public resolver over those for answers that hold for everyone behind it. */
  readonly factor: number;
  readonly scopes: number;
  /** Round trips of users behind the public resolver, ms. */
  readonly behindPublic: WeightedFigures;
}

/** 0: scopes as wide as answers are the same; then the default; the rest draws the curve, down to about one entry a resolver. */
export const queryPricesMs = [0, scopeDefaults.queryPriceMs, 96, 256, 512, 1_024, 4_096];

export function evaluatePrices(
  world: UserWorld,
  delays: DelayModel,
  map: UserMap,
  settings: QuerySettings,
): PriceFigures[] {
  const perResolver = groupsOf(
    world,
    "resolver",
    () => ({ scopePrefixLength: 0, clusterId: null }),
    settings.lookupsPerSecond,
  );
  const base = queriesOf(perResolver, settings);
  return queryPricesMs.map((queryPriceMs) => {
    const answers = publicAnswers(world, map.priced(queryPriceMs));
    const answerTo = (piece: Piece) => answers.get(piece) as NonNullable<ReturnType<typeof answers.get>>;
    const groups = groupsOf(world, "scope", answerTo, settings.lookupsPerSecond);
    return {
      sites: map.placeOf.size,
      queryPriceMs,
      factor: round(queriesOf(groups, settings) / base),
      scopes: groups.length,
      behindPublic: weighted(
        world.pieces.map((piece) => ({
          rttMs: cost(
            world,
            delays,
            piece,
            map.placeOf.get(answerTo(piece).clusterId as ClusterId) as number,
          ),
          demand: piece.demand,
        })),
      ),
    };
  });
}
