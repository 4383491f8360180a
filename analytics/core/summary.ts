/** Records grouped for a reader: by property, status or path, over all of the time that the records cover. */
import type { AccessRecord } from "./access-record.ts";
import { meanMs, quantileMs } from "./histogram.ts";
import { addRecord, emptyCell, mergeCells, type RollupCell } from "./rollup.ts";

export const groupings = ["property", "status", "path"] as const;
export type Grouping = (typeof groupings)[number];

/** What all keys beyond the bound are summed as. */
export const OTHER_KEY = "(other)";
const NO_PROPERTY = "(none)";

export interface TrafficRow {
  readonly key: string;
  readonly requests: number;
  /** Hits over requests, 0..1. */
  readonly hitRatio: number;
  readonly bytesDown: number;
  readonly bytesUp: number;
  readonly status4xx: number;
  readonly status5xx: number;
  readonly durationMs: {
    readonly mean: number;
    readonly p50: number;
    readonly p95: number;
    readonly p99: number;
  };
  readonly ttfbMs: { readonly p50: number; readonly p95: number; readonly p99: number };
}

export interface TrafficSummary {
  readonly records: number;
  /** Times of the first and last record; null when there are none. */
  readonly fromEpochMs: number | null;
  readonly toEpochMs: number | null;
  /** Most requests first; equals by key. */
  readonly rows: readonly TrafficRow[];
  readonly total: TrafficRow;
}

/** Takes records in any order. At most `keysMax` keys are told apart; further ones are summed as {@link OTHER_KEY}. */
export class TrafficGroups {
  readonly #grouping: Grouping;
  readonly #keysMax: number;
  readonly #cells = new Map<string, RollupCell>();
  #from = Number.POSITIVE_INFINITY;
  #to = Number.NEGATIVE_INFINITY;

  constructor(grouping: Grouping, keysMax: number) {
    this.#grouping = grouping;
    this.#keysMax = keysMax;
  }

  add(record: AccessRecord): void {
    let key = keyOf(this.#grouping, record);
    let cell = this.#cells.get(key);
    if (cell === undefined && this.#cells.size >= this.#keysMax) {
      key = OTHER_KEY;
      cell = this.#cells.get(key);
    }
    if (cell === undefined) this.#cells.set(key, (cell = emptyCell()));
    addRecord(cell, record);
    this.#from = Math.min(this.#from, record.atEpochMs);
    this.#to = Math.max(this.#to, record.atEpochMs);
  }

  summary(): TrafficSummary {
    const total = [...this.#cells.values()].reduce(mergeCells, emptyCell());
    const rows = [...this.#cells].map(([key, cell]) => rowOf(key, cell));
    rows.sort((a, b) => b.requests - a.requests || (a.key < b.key ? -1 : 1));
    return {
      records: total.requests,
      fromEpochMs: total.requests === 0 ? null : this.#from,
      toEpochMs: total.requests === 0 ? null : this.#to,
      rows,
      total: rowOf("(total)", total),
    };
  }
}

function keyOf(grouping: Grouping, record: AccessRecord): string {
  switch (grouping) {
    case "property":
      return record.propertyId ?? NO_PROPERTY;
    case "status":
      return String(record.status);
    case "path":
      return `${record.host}${record.path}`;
  }
}

function rowOf(key: string, cell: RollupCell): TrafficRow {
  const { requests, hits, bytesDown, bytesUp, statusClasses, durations, ttfbs } = cell;
  return {
    key,
    requests,
    hitRatio: requests === 0 ? 0 : hits / requests,
    bytesDown,
    bytesUp,
    status4xx: statusClasses[4],
    status5xx: statusClasses[5],
    durationMs: { mean: rounded(meanMs(durations)), ...quantiles(durations) },
    ttfbMs: quantiles(ttfbs),
  };
}

function quantiles(histogram: RollupCell["durations"]): { p50: number; p95: number; p99: number } {
  return {
    p50: rounded(quantileMs(histogram, 0.5)),
    p95: rounded(quantileMs(histogram, 0.95)),
    p99: rounded(quantileMs(histogram, 0.99)),
  };
}

/** To a microsecond; 0 when there are no values, because JSON has no NaN. */
function rounded(ms: number): number {
  return Number.isNaN(ms) ? 0 : Math.round(ms * 1_000) / 1_000;
}
