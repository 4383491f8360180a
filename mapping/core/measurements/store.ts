/**
 * Measurements of the last week, for all that estimates: by pair, with who measured and how, in windows of two lengths (hours ago
 * the minutes do not matter). Bounded memory; time is an argument and is that of the wall clock, since samples come from
 * other machines and from files. The same calls give the same answers.
 */
import type { EpochMs } from "#kit";
import { type WeightedCodes, weightedQuantilesMs } from "./rtt-code.ts";
import { type MeasurementMethod, type MeasurementSource, type PathSample, RTT_MS_MAX } from "./sample.ts";
import { type WindowCounts, WindowRing, type WindowRingSettings } from "./window-ring.ts";

export interface MeasurementStoreSettings {
  /** Series (a pair, and who measures it how) kept; beyond it the one that was updated the longest ago is dropped. */
  readonly seriesMax: number;
  /** Windows of the last hours. */
  readonly fine: WindowRingSettings;
  /** Windows of the last days. */
  readonly coarse: WindowRingSettings;
  /** How far the clock of an agent may be ahead of ours, ms. */
  readonly clockSkewMsMax: number;
}

/** 10 minutes for 6 hours, an hour for a week. */
export const measurementStoreDefaults: MeasurementStoreSettings = {
  seriesMax: 20_000,
  fine: { windowMs: 600_000, windows: 36, codesMax: 8 },
  coarse: { windowMs: 3_600_000, windows: 168, codesMax: 8 },
  clockSkewMsMax: 60_000,
};

/** A measurement between two places that the map knows by name. */
export interface StoredSample extends Pick<PathSample, "source" | "method" | "agent" | "at" | "rttMs"> {
  readonly from: string;
  readonly to: string;
}

/** `future`: the agent's clock is ahead; `too-old`: before all windows of its series; `rtt`: no round-trip time. */
export type StoreRefusal = "future" | "too-old" | "rtt";

/** All only grow. */
export interface MeasurementStoreCounters {
  samples: number;
  lost: number;
  refusedFuture: number;
  refusedTooOld: number;
  refusedRtt: number;
  seriesDropped: number;
}

/** Who measured a pair how. */
export interface SeriesProvenance {
  readonly source: MeasurementSource;
  readonly method: MeasurementMethod;
  readonly agent: string;
  /** Since the series began, lost ones included. */
  readonly samples: number;
  readonly newestAt: EpochMs;
}

export interface PathQuery {
  /** Only windows that begin this long ago or later, ms; at most what is kept. */
  readonly spanMs: number;
  /** 0..1, ascending. */
  readonly quantiles: readonly number[];
  /** Only what these sources measured; all unless told. */
  readonly sources?: readonly MeasurementSource[];
  /** Only what was measured in these ways; all unless told. */
  readonly methods?: readonly MeasurementMethod[];
}

export interface PathFigures {
  /** One for each of the query's quantiles, ms; NaN when nothing was answered. */
  readonly rttMs: readonly number[];
  readonly answered: number;
  readonly lost: number;
  /** Since the newest sample, lost ones included, ms; 0 for one from an agent whose clock is ahead. */
  readonly ageMs: number;
  /** Agents whose samples are in these figures. */
  readonly agents: number;
}

export interface PathWindow extends WindowCounts {
  /** As in {@link PathFigures}. */
  readonly rttMs: readonly number[];
}

interface Series {
  readonly key: string;
  readonly pairKey: string;
  readonly source: MeasurementSource;
  readonly method: MeasurementMethod;
  readonly agent: string;
  /** In both rings. */
  readonly row: number;
  samples: number;
  newestAt: EpochMs;
}

export class MeasurementStore {
  readonly #settings: MeasurementStoreSettings;
  readonly #fine: WindowRing;
  readonly #coarse: WindowRing;
  /** Updated the longest ago first (insertion order). */
  readonly #series = new Map<string, Series>();
  readonly #pairs = new Map<string, Series[]>();
  readonly #freeRows: number[] = [];
  readonly counters: MeasurementStoreCounters = {
    samples: 0,
    lost: 0,
    refusedFuture: 0,
    refusedTooOld: 0,
    refusedRtt: 0,
    seriesDropped: 0,
  };

  /** Throws RangeError if a setting is outside of its range. */
  constructor(settings: Partial<MeasurementStoreSettings> = {}) {
    this.#settings = { ...measurementStoreDefaults, ...settings };
    const { seriesMax, fine, coarse, clockSkewMsMax } = this.#settings;
    const check = (name: string, value: number, min: number, max: number): void => {
      if (!(Number.isSafeInteger(value) && value >= min && value <= max))
        throw new RangeError(
          `Store setting ${name} must be a whole number from ${min} to ${max}, got ${value}`,
        );
    };
    check("seriesMax", seriesMax, 1, 1_000_000);
    check("clockSkewMsMax", clockSkewMsMax, 0, 3_600_000);
    for (const [name, ring] of [["fine", fine] as const, ["coarse", coarse] as const]) {
      check(`${name}.windowMs`, ring.windowMs, 1_000, 86_400_000);
      check(`${name}.windows`, ring.windows, 2, 10_000);
      check(`${name}.codesMax`, ring.codesMax, 2, 64);
    }
    this.#fine = new WindowRing(fine);
    this.#coarse = new WindowRing(coarse);
  }

  get seriesCount(): number {
    return this.#series.size;
  }
  get pairCount(): number {
    return this.#pairs.size;
  }
  /** What the windows take; besides, each series has a few hundred bytes of names. */
  get bytes(): number {
    return this.#fine.bytes + this.#coarse.bytes;
  }

  /** Takes one measurement, in any order of time. Undefined: taken; else it is counted and left out. */
  handleSample(sample: StoredSample, now: EpochMs): StoreRefusal | undefined {
    const { at, rttMs } = sample;
    if (rttMs !== null && !(rttMs >= 0 && rttMs <= RTT_MS_MAX)) {
      this.counters.refusedRtt++;
      return "rtt";
    }
    if (!(at <= now + this.#settings.clockSkewMsMax)) {
      this.counters.refusedFuture++;
      return "future";
    }
    // Before a series is made for it: an old file must not push out what is alive.
    if (at <= now - this.#coarse.spanMs) {
      this.counters.refusedTooOld++;
      return "too-old";
    }
    const series = this.#seriesOf(sample);
    const isInFine = this.#fine.add(series.row, at, rttMs);
    const isInCoarse = this.#coarse.add(series.row, at, rttMs);
    if (!isInFine && !isInCoarse) {
      this.counters.refusedTooOld++;
      return "too-old";
    }
    series.samples++;
    if (at > series.newestAt) series.newestAt = at;
    this.counters.samples++;
    if (rttMs === null) this.counters.lost++;
    return undefined;
  }

  /** What all series of a pair say together; undefined when none of them has a sample in the span. */
  figures(from: string, to: string, query: PathQuery, now: EpochMs): PathFigures | undefined {
    const codes: WeightedCodes = { codes: [], weights: [] };
    const since = now - query.spanMs;
    let answered = 0;
    let lost = 0;
    let newestAt = -Infinity;
    const agents = new Set<string>();
    const ring = this.#ringFor(query.spanMs);
    for (const series of this.#matching(from, to, query)) {
      const counts = ring.collect(series.row, since, Infinity, codes);
      if (counts.answered + counts.lost === 0) continue;
      answered += counts.answered;
      lost += counts.lost;
      newestAt = Math.max(newestAt, series.newestAt);
      agents.add(`${series.source} ${series.agent}`);
    }
    if (answered + lost === 0) return undefined;
    return {
      rttMs: weightedQuantilesMs(codes, query.quantiles),
      answered,
      lost,
      ageMs: Math.max(0, now - newestAt),
      agents: agents.size,
    };
  }

  /** The same window by window, oldest first; windows without a sample are left out. */
  windows(from: string, to: string, query: PathQuery, now: EpochMs): PathWindow[] {
    const { windowMs } = this.#settings[this.#ringFor(query.spanMs) === this.#fine ? "fine" : "coarse"];
    const ring = this.#ringFor(query.spanMs);
    const series = [...this.#matching(from, to, query)];
    const since = now - query.spanMs;
    const starts = new Set(series.flatMap(({ row }) => ring.windows(row, since).map(({ at }) => at)));
    return [...starts]
      .sort((a, b) => a - b)
      .map((at) => {
        const codes: WeightedCodes = { codes: [], weights: [] };
        const counts = { answered: 0, lost: 0 };
        for (const { row } of series) {
          const one = ring.collect(row, at, at + windowMs, codes);
          counts.answered += one.answered;
          counts.lost += one.lost;
        }
        return { at, ...counts, rttMs: weightedQuantilesMs(codes, query.quantiles) };
      });
  }

  /** Who measures the pair, in the order in which they began. */
  provenance(from: string, to: string): SeriesProvenance[] {
    return (this.#pairs.get(pairKey(from, to)) ?? []).map(({ source, method, agent, samples, newestAt }) => ({
      source,
      method,
      agent,
      samples,
      newestAt,
    }));
  }

  /** Forgets series whose newest sample has left the last window. Looks at each series: for now and then. */
  handleTimeout(now: EpochMs): void {
    for (const series of this.#series.values())
      if (series.newestAt <= now - this.#coarse.spanMs) this.#drop(series);
  }

  #ringFor(spanMs: number): WindowRing {
    return spanMs <= this.#fine.spanMs ? this.#fine : this.#coarse;
  }

  *#matching(from: string, to: string, { sources, methods }: PathQuery): Generator<Series> {
    for (const series of this.#pairs.get(pairKey(from, to)) ?? [])
      if ((sources?.includes(series.source) ?? true) && (methods?.includes(series.method) ?? true))
        yield series;
  }

  #seriesOf({ from, to, source, method, agent }: StoredSample): Series {
    const pair = pairKey(from, to);
    const key = `${pair} ${source} ${method} ${agent}`;
    let series = this.#series.get(key);
    if (series !== undefined) {
      this.#series.delete(key);
      this.#series.set(key, series);
      return series;
    }
    if (this.#series.size >= this.#settings.seriesMax) {
      const [oldest] = this.#series.values();
      this.#drop(oldest as Series);
      this.counters.seriesDropped++;
    }
    const row = this.#freeRows.pop() ?? this.#series.size;
    this.#fine.clear(row);
    this.#coarse.clear(row);
    series = { key, pairKey: pair, source, method, agent, row, samples: 0, newestAt: 0 as EpochMs };
    this.#series.set(key, series);
    const others = this.#pairs.get(pair);
    if (others === undefined) this.#pairs.set(pair, [series]);
    else others.push(series);
    return series;
  }

  #drop(series: Series): void {
    this.#series.delete(series.key);
    this.#freeRows.push(series.row);
    const others = (this.#pairs.get(series.pairKey) ?? []).filter((one) => one !== series);
    if (others.length === 0) this.#pairs.delete(series.pairKey);
    else this.#pairs.set(series.pairKey, others);
  }
}

/** Ids of the map hold no blank. */
function pairKey(from: string, to: string): string {
  return `${from} ${to}`;
}
