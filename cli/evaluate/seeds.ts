/** The mapping evaluation over many deployments: one good figure may be luck, the spread over seeds is not. */
import { quantile } from "#kit";
import { evaluateMapping, type MappingOptions } from "./mapping.ts";
import type { RttMatrix } from "./matrix.ts";
import { round } from "./sites.ts";
import { type FigureTable, fixed, percent } from "./table.ts";

/** What the map is held to with 30 sites and 5 probes (`ratio`: over the best site of each client, by the matrix). */
export const mappingGoals = { meanRatio: 1.05, p95Ratio: 1.05, worse10ms: 0.03 } as const;
export type GoalName = keyof typeof mappingGoals;
export const goalNames = Object.keys(mappingGoals) as GoalName[];

export interface SeedFigures extends Readonly<Record<GoalName, number>> {
  readonly seed: number;
  readonly mean: number;
  readonly optimalMean: number;
  /** What the nearest site by geography costs on the mean, over the optimum. */
  readonly nearestMeanRatio: number;
  /** Goals that this seed misses. */
  readonly missed: readonly GoalName[];
}

export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

export interface SeedsEvaluation {
  readonly goals: typeof mappingGoals;
  readonly seeds: readonly SeedFigures[];
  readonly spread: Readonly<Record<GoalName | "nearestMeanRatio", Spread>>;
  /** Seeds that miss at least one goal. */
  readonly seedsMissed: readonly number[];
}

/** Seeds `options.seed`, `options.seed + 1`, ... @param onSeed told of each when it is done */
export function evaluateSeeds(
  matrix: RttMatrix,
  options: MappingOptions,
  count: number,
  onSeed: (figures: SeedFigures) => void = () => {},
): SeedsEvaluation {
  const seeds = Array.from({ length: count }, (_, n) => {
    const one = figuresOf(matrix, { ...options, seed: options.seed + n });
    onSeed(one);
    return one;
  });
  const spreadOf = (name: GoalName | "nearestMeanRatio"): Spread => spread(seeds.map((one) => one[name]));
  return {
    goals: mappingGoals,
    seeds,
    spread: {
      meanRatio: spreadOf("meanRatio"),
      p95Ratio: spreadOf("p95Ratio"),
      worse10ms: spreadOf("worse10ms"),
      nearestMeanRatio: spreadOf("nearestMeanRatio"),
    },
    seedsMissed: seeds.filter(({ missed }) => missed.length > 0).map(({ seed }) => seed),
  };
}

function figuresOf(matrix: RttMatrix, options: MappingOptions): SeedFigures {
  const { figures } = evaluateMapping(matrix, options);
  const values = {
    meanRatio: round(figures.mean / figures.optimal.mean),
    p95Ratio: round(figures.p95 / figures.optimal.p95),
    worse10ms: figures.worse10ms,
  };
  return {
    seed: options.seed,
    ...values,
    mean: figures.mean,
    optimalMean: figures.optimal.mean,
    nearestMeanRatio: round(figures.nearest.mean / figures.optimal.mean),
    missed: goalNames.filter((name) => values[name] > mappingGoals[name]),
  };
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  return { min: sorted[0] as number, median: round(quantile(sorted, 0.5)), max: sorted.at(-1) as number };
}

export function seedsTable({ spread: spreads, goals }: SeedsEvaluation): FigureTable {
  const row = (
    name: string,
    { min, median, max }: Spread,
    show: (value: number) => string,
    goal?: number,
  ) => [
    name,
    ...[min, median, max].map((value) => show(value)),
    goal === undefined ? "" : `<= ${show(goal)}`,
  ];
  return {
    head: ["", "min", "median", "max", "goal"],
    rows: [
      row("map / optimum, mean", spreads.meanRatio, fixed, goals.meanRatio),
      row("map / optimum, p95", spreads.p95Ratio, fixed, goals.p95Ratio),
      row("clients more than 10 ms worse", spreads.worse10ms, percent, goals.worse10ms),
      row("nearest by geography / optimum, mean", spreads.nearestMeanRatio, fixed),
    ],
  };
}

/** Which seeds miss which goal, all of them by number. */
export function seedsSentence({ seeds, seedsMissed }: SeedsEvaluation): string {
  if (seedsMissed.length === 0) return `all ${seeds.length} seeds reach every goal`;
  const byGoal = goalNames.map((name) => {
    const missing = seeds.filter(({ missed }) => missed.includes(name)).map(({ seed }) => seed);
    return `${name} by ${missing.length === 0 ? "none" : missing.join(" ")}`;
  });
  return `${seeds.length - seedsMissed.length} of ${seeds.length} seeds reach every goal; missed: ${byGoal.join("; ")}`;
}
