/** How much is asked from runs of cells. */
import type { BlockDemand } from "./block-figures.ts";
import { isOneFamily } from "./cells.ts";
import { type LayeredRuns, runAt } from "./cell-runs.ts";

/** Without a demand of its own a block still has clients: this share of all demand is spread by size, for weights alone. */
const SPREAD_RATIO = 1e-3;
/** A /32 of IPv6 weighs what a /24 of IPv4 does. */
const IPV6_CELL_WEIGHT = 1 / 65_536;

/** By run; a block's demand is spread evenly over its cells that are announced by length, the rest is `unrouted`. */
export function demandsOf(
  runs: LayeredRuns,
  demand: BlockDemand | null,
  totalPerSecond: number,
): { readonly demands: Float64Array; readonly unrouted: number } {
  const demands = new Float64Array(runs.count);
  let unrouted = 0;
  for (const { first, end, perSecond } of demand?.sorted() ?? []) {
    let left = perSecond;
    for (
      let run = firstRunBehind(runs, first);
      run < runs.count && (runs.firsts[run] as number) < end;
      run++
    ) {
      const cells = Math.min(end, runs.ends[run] as number) - Math.max(first, runs.firsts[run] as number);
      const share = (perSecond * cells) / (end - first);
      (demands[run] as number) += share;
      left -= share;
    }
    unrouted += Math.max(0, left);
  }
  if (demand !== null || totalPerSecond === 0) return { demands, unrouted };
  const sizes = sizesOf(runs);
  const all = sizes.reduce((sum, size) => sum + size, 0);
  return { demands: sizes.map((size) => (size * totalPerSecond) / all), unrouted };
}

/** The first run that ends behind the cell. */
function firstRunBehind(runs: LayeredRuns, cell: number): number {
  const within = runAt(runs, cell);
  if (within >= 0) return within;
  let low = 0;
  let high = runs.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((runs.firsts[middle] as number) <= cell) low = middle + 1;
    else high = middle;
  }
  return low;
}

function sizesOf({ count, firsts, ends }: LayeredRuns): Float64Array<ArrayBuffer> {
  return Float64Array.from({ length: count }, (_, run) => {
    const first = firsts[run] as number;
    return ((ends[run] as number) - first) * (isOneFamily(first, 0) ? 1 : IPV6_CELL_WEIGHT);
  });
}

/** Above 0 for every run. */
export function weightsOf(runs: LayeredRuns, demands: Float64Array): Float64Array {
  const sizes = sizesOf(runs);
  const total = demands.reduce((sum, one) => sum + one, 0);
  const all = sizes.reduce((sum, size) => sum + size, 0);
  const each = total === 0 ? 1 : (SPREAD_RATIO * total) / all;
  return sizes.map((size, run) => (demands[run] as number) + size * each);
}
