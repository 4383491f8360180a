/**
 * The settings of the room in one table: what an operator may have to know, with unit, range, default and why. The defaults
 * themselves stand beside the code that uses them.
 */
import { allocationDefaults } from "./core/allocation.ts";
import { mapEngineDefaults } from "./core/engine-settings.ts";
import { estimatorDefaults } from "./core/estimator.ts";
import { pathMapDefaults } from "./core/path-map.ts";
import { probeScheduleDefaults } from "./core/probe-schedule.ts";
import { scopeDefaults } from "./core/resolver-scopes.ts";
import { suspensionDefaults } from "./core/suspension.ts";
import { feedDefaults } from "./io/feed.ts";
import { measurementSaveMsDefault } from "./io/measurement-file.ts";

export interface Setting {
  readonly name: string;
  readonly unit: string;
  readonly min: number;
  readonly max: number;
  readonly value: number;
  readonly why: string;
}

export const mappingSettings: readonly Setting[] = [
  {
    name: "cycleMs",
    unit: "ms",
    min: 100,
    max: 600_000,
    value: mapEngineDefaults.cycleMs,
    why: "a new map this often when nothing happens; travel times change over minutes",
  },
  {
    name: "bypassIntervalMs",
    unit: "ms",
    min: 0,
    max: 10_000,
    value: mapEngineDefaults.bypassIntervalMs,
    why: "a death is published at once, but a storm of deaths makes at most five maps a second",
  },
  {
    name: "rankingMax",
    unit: "clusters",
    min: 1,
    max: 64,
    value: mapEngineDefaults.rankingMax,
    why: "clusters named for each client network; beyond them answers spill to the fallback's order",
  },
  {
    name: "samplesMax",
    unit: "samples",
    min: 4,
    max: 256,
    value: estimatorDefaults.samplesMax,
    why: "window of a pair; memory is pairsMax times this times 16 bytes",
  },
  {
    name: "pairsMax",
    unit: "pairs",
    min: 1,
    max: 10_000_000,
    value: estimatorDefaults.pairsMax,
    why: "bounds memory; the pair that waited longest goes first and is counted",
  },
  {
    name: "rttQuantile",
    unit: "ratio",
    min: 0,
    max: 0.5,
    value: estimatorDefaults.rttQuantile,
    why: "queues only add to the travel time, so a low quantile is the path; not the minimum, which one wrong sample holds",
  },
  {
    name: "switchMarginRatio",
    unit: "ratio",
    min: 0,
    max: 1,
    value: allocationDefaults.switchMarginRatio,
    why: "a client network moves only for a score that is lower by this share: warm caches, no flapping",
  },
  {
    name: "yieldMargin",
    unit: "score",
    min: 0,
    max: 1_000,
    value: allocationDefaults.yieldMargin,
    why: "at a full cluster who is there goes only for who would lose this much more: less churn where many want the same places",
  },
  {
    name: "candidatesMax",
    unit: "clusters",
    min: 1,
    max: 512,
    value: mapEngineDefaults.candidatesMax,
    why: "clusters that geography proposes for each client network beside the measured ones; more cost memory and time",
  },
  {
    name: "ceilingRatio",
    unit: "ratio",
    min: 0.1,
    max: 1,
    value: allocationDefaults.ceilingRatio,
    why: "share of a cluster's capacity that is allocated; the rest is for bursts and for the neighbours' deaths",
  },
  {
    name: "suspensionOutRatioMax",
    unit: "ratio",
    min: 0,
    max: 0.5,
    value: suspensionDefaults.outRatioMax,
    why: "what a failure detector may take out, or the largest region if that is more; never below half",
  },
  {
    name: "relaysMax",
    unit: "relays",
    min: 0,
    max: 7,
    value: pathMapDefaults.relaysMax,
    why: "relay candidates for each pair; each costs transport a probe an interval",
  },
  {
    name: "queryPriceMs",
    unit: "ms x look-ups",
    min: 0,
    max: 10_000,
    value: scopeDefaults.queryPriceMs,
    why: "what one query more of a resolver that tells its clients' subnets must spare them; more of it: wider scopes, fewer queries (--query-price)",
  },
  {
    name: "samplesPerSecond",
    unit: "samples per second",
    min: 1,
    max: 100_000,
    value: feedDefaults.samplesPerSecond,
    why: "measurement budget (--samples-per-second)",
  },
  {
    name: "measurementSaveMs",
    unit: "ms",
    min: 1_000,
    max: 3_600_000,
    value: measurementSaveMsDefault,
    why: "what a killed mapper loses at most (--measurements-save); a file of 20,000 pairs with a whole week has 110 MB",
  },
  {
    name: "probesPerMinute",
    unit: "probes per minute",
    min: 0,
    max: 10_000_000,
    value: probeScheduleDefaults.probesPerMinute,
    why: "what agents are told to measure in all (--probes-per-minute): each goes where it is expected to save most travel time",
  },
  {
    name: "probeCycleMs",
    unit: "ms",
    min: 1_000,
    max: 3_600_000,
    value: probeScheduleDefaults.cycleMs,
    why: "a plan this often: each rests on what the one before has brought",
  },
  {
    name: "probesPerAgentMax",
    unit: "probes a cycle",
    min: 1,
    max: 10_000,
    value: probeScheduleDefaults.perAgentMax,
    why: "20 a second, each of a few packets: what one small machine pings beside its work",
  },
  {
    name: "probesPerNetworkMax",
    unit: "probes a cycle",
    min: 1,
    max: 100,
    value: probeScheduleDefaults.perNetworkMax,
    why: "by all agents together: no network is to notice us",
  },
];
