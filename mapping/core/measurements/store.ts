/**
 * Measurements of the last week, for all that estimates: by pair, with who measured and how, in windows of two lengths (hours ago
 * the minutes do not matter). Bounded memory; time is an argument and is that of the wall clock, since samples come from
 * other machines and from files. The same calls give the same answers.
 */
import { array, type EpochMs, oneOf, string } from "#kit";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { type WeightedCodes, weightedQuantilesMs } from "./rtt-code.ts";
import {
  type MeasurementMethod,
  measurementMethods,
  type MeasurementSource,
  measurementSources,
  type PathSample,
  RTT_MS_MAX,
} from "./sample.ts";
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
  readonly from: string;
  readonly to: string;
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
  #fine: WindowRing;
  #coarse: WindowRing;
  /** Updated the longest ago first (insertion order). */
  #series = new Map<string, Series>();
  /** By where from, then where to. */
  #pairs = new Map<string, Map<string, Series[]>>();
  #pairCount = 0;
  #freeRows: number[] = [];
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
    return this.#pairCount;
  }
  get settings(): MeasurementStoreSettings {
    return this.#settings;
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
    return this.#ofPair(from, to).map(({ source, method, agent, samples, newestAt }) => ({
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

  /** Taken of a pair since its series began, by all who measure it; 0: nothing is kept. */
  samplesOf(from: string, to: string): number {
    let sum = 0;
    for (const { samples } of this.#ofPair(from, to)) sum += samples;
    return sum;
  }

  /** Where to there is anything kept from there, in the order in which it began; undefined: nothing. */
  targetsOf(from: string): Iterable<string> | undefined {
    return this.#pairs.get(from)?.keys();
  }

  /** All series, those that were updated the longest ago first, each by itself: others may be updated or dropped in between. */
  *seriesOctets(): Generator<Uint8Array> {
    const to = new ByteWriter();
    // As of now: an update puts a series at the end.
    const all = Array.from(this.#series.values());
    for (const series of all) {
      if (this.#series.get(series.key) !== series) continue;
      const { from, to: target, source, method, agent, samples, newestAt, row } = series;
      const name = new TextEncoder().encode(JSON.stringify([from, target, source, method, agent]));
      to.u16(name.length);
      to.bytes(name);
      to.f64(samples);
      to.f64(newestAt);
      this.#fine.write(row, to);
      this.#coarse.write(row, to);
      yield to.take();
    }
  }

  /**
   * Puts a series of {@link seriesOctets} back as the one that was updated last. False: all of it is too old by now. Throws RangeError for what is none, or is
   * there already; the store is of no use then.
   */
  restoreSeries(octets: Uint8Array, now: EpochMs): boolean {
    const from = new ByteReader(octets);
    const name = storedName.parse(JSON.parse(new TextDecoder().decode(from.bytes(from.u16()))));
    const [samples, newestAt] = [from.f64(), from.f64()];
    const latest = now + this.#settings.clockSkewMsMax;
    if (!(Number.isSafeInteger(samples) && samples >= 1))
      throw new RangeError(`a series has ${samples} samples`);
    if (!(newestAt >= 0 && newestAt <= latest))
      throw new RangeError("a series has a sample that is still to come");
    if (newestAt <= now - this.#coarse.spanMs) return false;
    const [start, target, source, method, agent] = name;
    const before = this.#series.size + this.counters.seriesDropped;
    const series = this.#seriesOf({ from: start, to: target, source, method, agent });
    if (this.#series.size + this.counters.seriesDropped === before)
      throw new RangeError(`the series ${JSON.stringify(name)} stands twice`);
    this.#fine.read(series.row, from, latest as EpochMs);
    this.#coarse.read(series.row, from, latest as EpochMs);
    if (from.left > 0) throw new RangeError(`${from.left} octets stand behind a series`);
    series.samples = samples;
    series.newestAt = newestAt as EpochMs;
    return true;
  }

  /** Has what the other one has, which must have the same settings and is of no use any more; counters stay. */
  handleRestored(other: MeasurementStore): void {
    this.#fine = other.#fine;
    this.#coarse = other.#coarse;
    this.#series = other.#series;
    this.#pairs = other.#pairs;
    this.#pairCount = other.#pairCount;
    this.#freeRows = other.#freeRows;
  }

  #ofPair(from: string, to: string): readonly Series[] {
    return this.#pairs.get(from)?.get(to) ?? NO_SERIES;
  }

  #ringFor(spanMs: number): WindowRing {
    return spanMs <= this.#fine.spanMs ? this.#fine : this.#coarse;
  }

  *#matching(from: string, to: string, { sources, methods }: PathQuery): Generator<Series> {
    for (const series of this.#ofPair(from, to))
      if ((sources?.includes(series.source) ?? true) && (methods?.includes(series.method) ?? true))
        yield series;
  }

  #seriesOf(named: Pick<StoredSample, "from" | "to" | "source" | "method" | "agent">): Series {
    const { from, to, source, method, agent } = named;
    const key = `${from} ${to} ${source} ${method} ${agent}`;
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
    series = { key, from, to, source, method, agent, row, samples: 0, newestAt: 0 as EpochMs };
    this.#series.set(key, series);
    const targets = this.#pairs.get(from) ?? new Map<string, Series[]>();
    this.#pairs.set(from, targets);
    const others = targets.get(to);
    if (others !== undefined) others.push(series);
    else {
      targets.set(to, [series]);
      this.#pairCount++;
    }
    return series;
  }

  #drop(series: Series): void {
    const { key, from, to, row } = series;
    this.#series.delete(key);
    this.#freeRows.push(row);
    const targets = this.#pairs.get(from);
    const others = this.#ofPair(from, to).filter((one) => one !== series);
    if (others.length > 0) {
      targets?.set(to, others);
      return;
    }
    this.#pairCount--;
    targets?.delete(to);
    if (targets?.size === 0) this.#pairs.delete(from);
  }
}

const NO_SERIES: readonly Series[] = [];

/** Ids of the map hold no blank. */
const placeName = string({ max: 200, pattern: /^[^\s]+$/, expected: "a name without blanks" });
/** From, to, source, method, agent. */
const storedName = {
  parse(value: unknown): readonly [string, string, MeasurementSource, MeasurementMethod, string] {
    const [from, to, source, method, agent] = array(string({ max: 200 }), { min: 5, max: 5 }).parse(value);
    return [
      placeName.parse(from),
      placeName.parse(to),
      oneOf(measurementSources).parse(source),
      oneOf(measurementMethods).parse(method),
      placeName.parse(agent),
    ];
  },
};
