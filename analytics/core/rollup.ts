/**
 * Access records added up by minute and property. A cell is what one (window, property) has seen; cells merge, in any order
 * and grouping, so servers can roll up their own traffic and a reader joins them.
 */
import type { EpochMs, PropertyId } from "#kit";
import type { AccessRecord } from "./access-record.ts";
import { addDuration, emptyHistogram, type Histogram, mergeHistograms } from "./histogram.ts";

export interface RollupCell {
  readonly requests: number;
  readonly hits: number;
  readonly bytesDown: number;
  readonly bytesUp: number;
  /** Answers by class: [none, 1xx, 2xx, 3xx, 4xx, 5xx]; other numbers count as none. */
  readonly statusClasses: readonly [number, number, number, number, number, number];
  /** Records that came after their window had been told once. */
  readonly lateRecords: number;
  readonly durations: Histogram;
  readonly ttfbs: Histogram;
}

/** One told window of one property. A window is told again when late records come: readers merge what they get. */
export interface WindowRollup extends RollupCell {
  readonly windowStart: EpochMs;
  /** Null: requests that no property claims. */
  readonly propertyId: PropertyId | null;
}

type Draft = { -readonly [K in keyof RollupCell]: RollupCell[K] };
type Classes = [number, number, number, number, number, number];

export function emptyCell(): RollupCell {
  return {
    requests: 0,
    hits: 0,
    bytesDown: 0,
    bytesUp: 0,
    statusClasses: [0, 0, 0, 0, 0, 0],
    lateRecords: 0,
    durations: emptyHistogram(),
    ttfbs: emptyHistogram(),
  };
}

/** Adds a record to the cell in place. */
export function addRecord(cell: RollupCell, record: AccessRecord): void {
  const draft = cell as Draft;
  draft.requests++;
  if (record.cacheStatus === "hit") draft.hits++;
  draft.bytesDown += record.bytesDown;
  draft.bytesUp += record.bytesUp;
  const statusClass = Math.floor(record.status / 100);
  const classes = draft.statusClasses as Classes;
  const at = statusClass >= 1 && statusClass <= 5 ? statusClass : 0;
  classes[at] = (classes[at] ?? 0) + 1;
  addDuration(draft.durations, record.durationMs);
  addDuration(draft.ttfbs, record.ttfbMs);
}

/** A new cell with both's records. Associative and commutative to the bit; `emptyCell()` is its identity. */
export function mergeCells(a: RollupCell, b: RollupCell): RollupCell {
  return {
    requests: a.requests + b.requests,
    hits: a.hits + b.hits,
    bytesDown: a.bytesDown + b.bytesDown,
    bytesUp: a.bytesUp + b.bytesUp,
    statusClasses: a.statusClasses.map((count, n) => count + (b.statusClasses[n] ?? 0)) as Classes,
    lateRecords: a.lateRecords + b.lateRecords,
    durations: mergeHistograms(a.durations, b.durations),
    ttfbs: mergeHistograms(a.ttfbs, b.ttfbs),
  };
}

/** Joins told windows, from one server or many: one entry a (window, property), ordered by window, then property. */
export function merge(...lists: readonly (readonly WindowRollup[])[]): WindowRollup[] {
  const joined = new Map<string, WindowRollup>();
  for (const one of lists.flat()) {
    const key = cellKey(one.windowStart, one.propertyId);
    const { windowStart, propertyId } = one;
    joined.set(key, { windowStart, propertyId, ...mergeCells(joined.get(key) ?? emptyCell(), one) });
  }
  return [...joined.values()].sort(compareWindows);
}

function compareWindows(a: WindowRollup, b: WindowRollup): number {
  if (a.windowStart !== b.windowStart) return a.windowStart - b.windowStart;
  const [left, right] = [a.propertyId ?? "", b.propertyId ?? ""];
  return left < right ? -1 : left > right ? 1 : 0;
}

function cellKey(windowStart: EpochMs, propertyId: PropertyId | null): string {
  return `${windowStart}/${propertyId ?? ""}`;
}

export interface RollupSettings {
  readonly windowMs: number;
  readonly latenessMs: number;
  readonly skewMaxMs: number;
  readonly cellsMax: number;
}

/** What became of a record: `late` ones count in a window that is told again; the last two are not in any window. */
export type RecordOutcome = "counted" | "late" | "dropped-future" | "dropped-full";

interface OpenCell {
  readonly windowStart: EpochMs;
  readonly propertyId: PropertyId | null;
  readonly cell: RollupCell;
  /** When it is told. */
  readonly dueAt: EpochMs;
}

/**
 * The windows that are open. Time is an argument: a window is told `latenessMs` after its end; records that come later still
 * open it again, for a correction that is told `latenessMs` after the first of them.
 */
export class RollupWindows {
  readonly #settings: RollupSettings;
  readonly #open = new Map<string, OpenCell>();
  readonly #counters: Record<RecordOutcome, number> = {
    counted: 0,
    late: 0,
    "dropped-future": 0,
    "dropped-full": 0,
  };

  constructor(settings: RollupSettings) {
    this.#settings = settings;
  }

  /** Records by what became of them; they sum to all records handled. */
  get counters(): Readonly<Record<RecordOutcome, number>> {
    return this.#counters;
  }

  handleRecord(record: AccessRecord, now: EpochMs): RecordOutcome {
    const outcome = this.#place(record, now);
    this.#counters[outcome]++;
    return outcome;
  }

  /** When the next window is due; undefined: none is open. */
  pollTimeout(): EpochMs | undefined {
    let next: EpochMs | undefined;
    for (const { dueAt } of this.#open.values()) if (next === undefined || dueAt < next) next = dueAt;
    return next;
  }

  /** The windows that are due, ordered by window, then property; they are no longer held. */
  handleTimeout(now: EpochMs): WindowRollup[] {
    const due: WindowRollup[] = [];
    for (const [key, { windowStart, propertyId, cell, dueAt }] of this.#open) {
      if (dueAt > now) continue;
      this.#open.delete(key);
      due.push({ windowStart, propertyId, ...cell });
    }
    return due.sort(compareWindows);
  }

  #place(record: AccessRecord, now: EpochMs): RecordOutcome {
    const { windowMs, latenessMs, skewMaxMs, cellsMax } = this.#settings;
    if (record.atEpochMs > now + skewMaxMs) return "dropped-future";
    const windowStart = (Math.floor(record.atEpochMs / windowMs) * windowMs) as EpochMs;
    const firstDueAt = windowStart + windowMs + latenessMs;
    const isLate = now >= firstDueAt;
    const key = cellKey(windowStart, record.propertyId);
    let open = this.#open.get(key);
    if (open === undefined) {
      if (this.#open.size >= cellsMax) return "dropped-full";
      const dueAt = (isLate ? now + latenessMs : firstDueAt) as EpochMs;
      open = { windowStart, propertyId: record.propertyId, cell: emptyCell(), dueAt };
      this.#open.set(key, open);
    }
    addRecord(open.cell, record);
    if (isLate) (open.cell as Draft).lateRecords++;
    return isLate ? "late" : "counted";
  }
}
