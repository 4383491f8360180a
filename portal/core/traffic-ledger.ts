/**
 * From counters that servers report (cumulative, since their start) to rates: for each property over the last hour, and for
 * each server and property over the last ten seconds. Only tier 0 counts as traffic of users: what a parent answers has
 * already been counted where the user asked.
 */
import type { MonotonicMs, PropertyCounters, ServerReport } from "#kit";
import { type Bin, type Counts, counted, RateRing } from "./rate-ring.ts";

export interface LedgerLimits {
  /** Properties with a graph; traffic of others is counted in the whole only. */
  readonly propertiesMax: number;
  /** Pairs of server and property that are followed. */
  readonly pairsMax: number;
}

/** How far back a server's own rate looks. */
const RATE_WINDOW_MS = 10_000;
/** A report that comes later than this after the one before is spread over no more than this. */
const SPREAD_MAX_MS = 5_000;
/** A server that has said nothing for so long has no rate. */
const SILENT_MS = 5_000;

const FINE_MS = 1_000;
const FINE_BINS = 660;
const COARSE_MS = 10_000;
const COARSE_BINS = 366;

interface Graph {
  readonly fine: RateRing;
  readonly coarse: RateRing;
}

interface Sample {
  readonly at: MonotonicMs;
  readonly counters: Counts;
}

interface Pair {
  readonly serverId: string;
  readonly propertyId: string;
  readonly isUserFacing: boolean;
  incarnation: string;
  /** Oldest first; the first may lie just outside of the window. */
  samples: Sample[];
}

export interface Rate {
  readonly requestsPerSecond: number;
  readonly hitsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly errorsPerSecond: number;
}

const NO_RATE: Rate = { requestsPerSecond: 0, hitsPerSecond: 0, bytesPerSecond: 0, errorsPerSecond: 0 };

/** Undefined without requests: 0 of 0 is no ratio. */
export function hitRatioOf(rate: Rate): number | null {
  return rate.requestsPerSecond > 0 ? Math.min(1, rate.hitsPerSecond / rate.requestsPerSecond) : null;
}

function plus(a: Rate, b: Rate): Rate {
  return {
    requestsPerSecond: a.requestsPerSecond + b.requestsPerSecond,
    hitsPerSecond: a.hitsPerSecond + b.hitsPerSecond,
    bytesPerSecond: a.bytesPerSecond + b.bytesPerSecond,
    errorsPerSecond: a.errorsPerSecond + b.errorsPerSecond,
  };
}

export class TrafficLedger {
  readonly #limits: LedgerLimits;
  readonly #whole: Graph = newGraph();
  readonly #graphs = new Map<string, Graph>();
  /** By server, then by property. */
  readonly #pairs = new Map<string, Map<string, Pair>>();
  #pairCount = 0;
  #ignored = 0;
  #resets = 0;

  constructor(limits: LedgerLimits) {
    this.#limits = limits;
  }

  /** Properties or pairs beyond the limits that were left out, and counter resets seen. */
  get counters(): {
    readonly graphs: number;
    readonly pairs: number;
    readonly ignored: number;
    readonly resets: number;
  } {
    return {
      graphs: this.#graphs.size,
      pairs: this.#pairCount,
      ignored: this.#ignored,
      resets: this.#resets,
    };
  }

  /** Takes a report that arrived at `now`. A new incarnation starts from zero: its counters are all new traffic. */
  handleReport(report: ServerReport, now: MonotonicMs): void {
    let ofServer = this.#pairs.get(report.serverId);
    if (ofServer === undefined) this.#pairs.set(report.serverId, (ofServer = new Map()));
    for (const [propertyId, counters] of Object.entries<PropertyCounters>(report.properties)) {
      const pair = ofServer.get(propertyId);
      if (pair !== undefined) {
        this.#handleNext(pair, report.incarnation, counters, now);
        continue;
      }
      if (this.#pairCount >= this.#limits.pairsMax) {
        this.#ignored += 1;
        continue;
      }
      this.#pairCount += 1;
      // What it counted before we first heard of it happened at a time that we do not know.
      ofServer.set(propertyId, {
        serverId: report.serverId,
        propertyId,
        isUserFacing: report.role === "edge",
        incarnation: report.incarnation,
        samples: [{ at: now, counters: countsOf(counters) }],
      });
    }
  }

  /** Forgets servers that the topology no longer names. */
  retain(isKnown: (serverId: string) => boolean): void {
    for (const [serverId, pairs] of this.#pairs) {
      if (isKnown(serverId)) continue;
      this.#pairCount -= pairs.size;
      this.#pairs.delete(serverId);
    }
  }

  /** Rate of one server over its last ten seconds, over the properties that `mayCount` lets through. */
  serverRate(serverId: string, now: MonotonicMs, mayCount: (propertyId: string) => boolean): Rate {
    let sum = NO_RATE;
    for (const pair of this.#pairs.get(serverId)?.values() ?? []) {
      if (mayCount(pair.propertyId)) sum = plus(sum, rateOf(pair, now));
    }
    return sum;
  }

  /** Whether the server has answered requests of the property in the last ten seconds. */
  isBusy(serverId: string, propertyId: string, now: MonotonicMs): boolean {
    const pair = this.#pairs.get(serverId)?.get(propertyId);
    return pair !== undefined && rateOf(pair, now).requestsPerSecond > 0;
  }

  /** Rate of users' requests for each property over the last ten seconds, all servers together. */
  propertyRates(now: MonotonicMs): Map<string, Rate> {
    const rates = new Map<string, Rate>();
    for (const pairs of this.#pairs.values()) {
      for (const pair of pairs.values()) {
        if (!pair.isUserFacing) continue;
        rates.set(pair.propertyId, plus(rates.get(pair.propertyId) ?? NO_RATE, rateOf(pair, now)));
      }
    }
    return rates;
  }

  /** Bins of the last `windowMs` up to `now`: whole ones only, of 1 s up to eleven minutes, else of 10 s. Null: everything. */
  series(
    propertyId: string | null,
    windowMs: number,
    now: MonotonicMs,
  ): { readonly binMs: number; readonly bins: readonly Bin[] } {
    const graph = propertyId === null ? this.#whole : this.#graphs.get(propertyId);
    const isFine = windowMs <= FINE_MS * FINE_BINS;
    const binMs = isFine ? FINE_MS : COARSE_MS;
    const ring = isFine ? graph?.fine : graph?.coarse;
    // A property without traffic so far has bins as well, all of them unknown.
    return {
      binMs,
      bins: (ring ?? new RateRing(binMs, isFine ? FINE_BINS : COARSE_BINS)).read(now - windowMs, now),
    };
  }

  #handleNext(pair: Pair, incarnation: string, counters: PropertyCounters, now: MonotonicMs): void {
    const present = countsOf(counters);
    const before = pair.samples.at(-1);
    if (before === undefined) return;
    const hasRestarted =
      incarnation !== pair.incarnation || counted.some((name) => present[name] < before.counters[name]);
    const base = hasRestarted ? ZERO : before.counters;
    const from = Math.max(before.at, now - SPREAD_MAX_MS);
    if (pair.isUserFacing) this.#add(pair.propertyId, from, now, minus(present, base));
    if (hasRestarted) {
      this.#resets += 1;
      pair.incarnation = incarnation;
      pair.samples = [{ at: before.at, counters: ZERO }];
    }
    pair.samples.push({ at: now, counters: present });
    while (pair.samples.length > 2 && (pair.samples[1]?.at ?? now) <= now - RATE_WINDOW_MS)
      pair.samples.shift();
  }

  #add(propertyId: string, fromMs: number, toMs: number, counts: Counts): void {
    this.#whole.fine.add(fromMs, toMs, counts);
    this.#whole.coarse.add(fromMs, toMs, counts);
    let graph = this.#graphs.get(propertyId);
    if (graph === undefined) {
      if (this.#graphs.size >= this.#limits.propertiesMax) {
        this.#ignored += 1;
        return;
      }
      this.#graphs.set(propertyId, (graph = newGraph()));
    }
    graph.fine.add(fromMs, toMs, counts);
    graph.coarse.add(fromMs, toMs, counts);
  }
}

const ZERO: Counts = { requests: 0, hits: 0, bytesDown: 0, errors5xx: 0 };

function newGraph(): Graph {
  return { fine: new RateRing(FINE_MS, FINE_BINS), coarse: new RateRing(COARSE_MS, COARSE_BINS) };
}

function countsOf(counters: PropertyCounters): Counts {
  const { requests, hits, bytesDown, errors5xx } = counters;
  return { requests, hits, bytesDown, errors5xx };
}

function minus(a: Counts, b: Counts): Counts {
  return {
    requests: Math.max(0, a.requests - b.requests),
    hits: Math.max(0, a.hits - b.hits),
    bytesDown: Math.max(0, a.bytesDown - b.bytesDown),
    errors5xx: Math.max(0, a.errors5xx - b.errors5xx),
  };
}

function rateOf(pair: Pair, now: MonotonicMs): Rate {
  const first = pair.samples[0];
  const last = pair.samples.at(-1);
  if (first === undefined || last === undefined || last.at <= first.at || now - last.at > SILENT_MS)
    return NO_RATE;
  const seconds = (last.at - first.at) / 1_000;
  const { requests, hits, bytesDown, errors5xx } = minus(last.counters, first.counters);
  return {
    requestsPerSecond: requests / seconds,
    hitsPerSecond: hits / seconds,
    bytesPerSecond: bytesDown / seconds,
    errorsPerSecond: errors5xx / seconds,
  };
}
