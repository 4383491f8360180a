/** The settings of a mapping engine, and what cannot be. */
import { trafficClasses } from "#kit";
import { allocationDefaults } from "./allocation.ts";
import type { ClusterMapSettings } from "./cluster-map.ts";
import { demandFeedbackDefaults, type DemandFeedbackSettings } from "./demand-feedback.ts";
import type { EdgeCapacitySettings } from "./edge-capacity.ts";
import type { EstimatorSettings } from "./estimator.ts";
import type { LinkTableSettings } from "./link-table.ts";
import { type PathMapSettings, pathMapDefaults } from "./path-map.ts";
import type { ScopeSettings } from "./resolver-scopes.ts";
import { scoreDefaults } from "./score.ts";
import { type SuspensionSettings, suspensionDefaults } from "./suspension.ts";

export interface MapEngineSettings extends ClusterMapSettings, EdgeCapacitySettings {
  /** From one snapshot to the next when nothing happens, ms. */
  readonly cycleMs: number;
  /** A liveness or topology change is published at once, but snapshots are at least this far apart, ms. */
  readonly bypassIntervalMs: number;
  readonly suspension: SuspensionSettings;
  readonly feedback: DemandFeedbackSettings;
  readonly paths: PathMapSettings;
  readonly estimator: Partial<EstimatorSettings>;
  readonly links: Partial<LinkTableSettings>;
  /** Resolvers that a map names at most, those with the heaviest clients: each costs a ranking for each class. */
  readonly resolversMax: number;
  /** How widely the answers to one resolver's queries with a client subnet may hold. */
  readonly scopes: Partial<ScopeSettings>;
}

export const mapEngineDefaults: MapEngineSettings = {
  cycleMs: 10_000,
  bypassIntervalMs: 200,
  reportAgeMsMax: 15_000,
  suspension: suspensionDefaults,
  feedback: demandFeedbackDefaults,
  paths: pathMapDefaults,
  estimator: {},
  links: {},
  score: scoreDefaults,
  allocation: allocationDefaults,
  demandRatio: { interactive: 0.6, bulk: 0.25, live: 0.15 },
  bitsPerRequest: { interactive: 4e5, bulk: 12e6, live: 4e6 },
  rankingMax: 16,
  candidatesMax: 32,
  resolversMax: 10_000,
  scopes: {},
};

/** Throws RangeError for what cannot be. */
export function checkSettings(settings: MapEngineSettings): void {
  const { cycleMs, bypassIntervalMs, rankingMax, candidatesMax, demandRatio } = settings;
  const shares = trafficClasses.reduce((sum, trafficClass) => sum + demandRatio[trafficClass], 0);
  if (!(cycleMs > 0 && bypassIntervalMs >= 0 && bypassIntervalMs <= cycleMs))
    throw new RangeError(
      `Engine settings need 0 <= bypassIntervalMs <= cycleMs, got ${bypassIntervalMs}, ${cycleMs}`,
    );
  if (!(rankingMax >= 1 && rankingMax <= 64))
    throw new RangeError(`Engine setting rankingMax must be 1..64, got ${rankingMax}`);
  if (!(Number.isInteger(candidatesMax) && candidatesMax >= rankingMax && candidatesMax <= 512))
    throw new RangeError(
      `Engine setting candidatesMax must be a whole number from rankingMax (${rankingMax}) to 512, got ${candidatesMax}`,
    );
  if (Math.abs(shares - 1) > 1e-6)
    throw new RangeError(`Engine setting demandRatio must sum to 1, got ${shares}`);
}
