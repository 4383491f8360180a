/** Where the sites stand: which cities of a matrix play the clusters, and which the clients. */
import { Random, type Summary, summary } from "#kit";
import type { RttMatrix } from "./matrix.ts";

/** Share of the cities that a seed offers as places, so that different seeds give different deployments. */
const OFFERED_RATIO = 0.5;

/**
 * A deployment as an operator would choose it: one place after the other, each the one that brings all cities closest to
 * their nearest site on the mean (the greedy algorithm for the k-median problem), among a seeded half of the cities.
 * It uses the true travel times; it decides where sites are, never who is sent where. Indexes ascending; ties by index.
 */
export function chooseSites(matrix: RttMatrix, count: number, seed: number): number[] {
  const random = new Random(seed).split("sites");
  const all = Array.from({ length: matrix.size }, (_, index) => index);
  const offered = random
    .shuffle(all)
    .slice(0, Math.max(count, Math.ceil(matrix.size * OFFERED_RATIO)))
    .sort((a, b) => a - b);
  // A missing value is a city that cannot be reached from there: worse than any that can.
  const cost = (from: number, to: number): number => {
    const rtt = matrix.rttMs(from, to);
    return Number.isNaN(rtt) ? 1_000 : rtt;
  };
  const nearest = new Float64Array(matrix.size).fill(1_000);
  const chosen: number[] = [];
  while (chosen.length < count) {
    let best = -1;
    let bestSum = Infinity;
    for (const candidate of offered) {
      if (chosen.includes(candidate)) continue;
      let sum = 0;
      for (let city = 0; city < matrix.size; city++)
        sum += Math.min(nearest[city] as number, cost(city, candidate));
      if (sum < bestSum) {
        best = candidate;
        bestSum = sum;
      }
    }
    chosen.push(best);
    for (let city = 0; city < matrix.size; city++)
      nearest[city] = Math.min(nearest[city] as number, cost(city, best));
  }
  return chosen.sort((a, b) => a - b);
}

/** What the evaluations print of a distribution, ms, to a thousandth. */
export interface Figures {
  readonly mean: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export function figures(values: readonly number[]): Figures {
  const { mean, p50, p95, p99 }: Summary = summary(values);
  return { mean: round(mean), p50: round(p50), p95: round(p95), p99: round(p99) };
}

/** To a thousandth. */
export function round(value: number): number {
  return Math.round(value * 1e3) / 1e3;
}

/** Lines of a table for a terminal. */
export function figuresTable(rows: readonly (readonly [string, Figures])[]): string[] {
  const cells = (name: string, ...columns: readonly string[]): string =>
    `${name.padEnd(22)}${columns.map((text) => text.padStart(10)).join("")}`;
  return [
    cells("ms", "mean", "p50", "p95", "p99"),
    ...rows.map(([name, { mean, p50, p95, p99 }]) =>
      cells(name, ...[mean, p50, p95, p99].map((value) => value.toFixed(2))),
    ),
  ];
}
