/**
 * The shapes that the API hands out: written once, read by the routes (portal/io) and by the page (portal/web). Plain
 * strings for ids: brands do not cross HTTP.
 */

/** Who is logged in. `customerId` null: an operator, who sees every property and the operator's details of servers. */
export interface Viewer {
  readonly name: string;
  readonly customerId: string | null;
}

/** `unknown`: control cannot be heard, so nobody can say. `unwatched`: a site of a kind that sends no reports (origins). */
export const serverStates = ["ready", "starting", "draining", "down", "unknown", "unwatched"] as const;
export type ServerState = (typeof serverStates)[number];

/** What only operators see of a server. */
export interface ServerDetails {
  readonly address: string;
  readonly port: number;
  readonly incarnation: string | null;
  readonly activeRequests: number | null;
  readonly cacheBytes: number | null;
  readonly cacheObjects: number | null;
}

export interface LiveServer {
  readonly serverId: string;
  readonly state: ServerState;
  /** Of the properties that the viewer may see; null when the server does not serve requests. */
  readonly requestsPerSecond: number | null;
  /** Over about ten seconds; null without requests. */
  readonly hitRatio: number | null;
  /** Since its newest report; null: none yet. */
  readonly reportAgeMs: number | null;
  readonly details?: ServerDetails;
}

export interface LiveSite {
  readonly clusterId: string;
  readonly city: string;
  readonly role: string;
  readonly latitude: number;
  readonly longitude: number;
  readonly servers: readonly LiveServer[];
}

/** One hop that content takes now: edge to parent, parent to origin, or edge to origin where a property skips the tier. */
export interface LiveLink {
  readonly fromClusterId: string;
  readonly toClusterId: string;
  /** The relay site that it crosses; null: direct. */
  readonly via: string | null;
  readonly kind: "parent" | "origin";
  readonly srttMs: number | null;
  /** The direct path, when the one in use is another: what the relay saves. */
  readonly directSrttMs: number | null;
  readonly lossRatio: number | null;
  /** Where the time comes from: a server's own measurement, or the map's estimate. */
  readonly basis: "measured" | "map" | "none";
  /** Whether the near end has served requests that may cross it, in the last ten seconds. */
  readonly isBusy: boolean;
}

/** Rates are null while no server can be heard: not known, which is not zero. */
export interface LiveTotals {
  readonly requestsPerSecond: number | null;
  readonly hitRatio: number | null;
  readonly bytesPerSecond: number | null;
  readonly errorsPerSecond: number | null;
  readonly serversUp: number;
  readonly serversWatched: number;
}

export interface LiveState {
  readonly atEpochMs: number;
  readonly control: "connected" | "disconnected";
  readonly world: string | null;
  readonly mapVersion: number | null;
  readonly totals: LiveTotals;
  readonly sites: readonly LiveSite[];
  readonly links: readonly LiveLink[];
}

/** Columns of equal length, oldest first; null where nothing is known (a gap, not a zero). */
export interface SeriesAnswer {
  readonly propertyId: string | null;
  readonly stepSeconds: number;
  readonly atEpochSeconds: readonly number[];
  readonly requestsPerSecond: readonly (number | null)[];
  readonly hitRatio: readonly (number | null)[];
  readonly bytesPerSecond: readonly (number | null)[];
  readonly errorsPerSecond: readonly (number | null)[];
}

export interface PropertySummary {
  readonly propertyId: string;
  readonly customerId: string;
  readonly hostnames: readonly string[];
  readonly trafficClass: string;
  readonly isActive: boolean;
  readonly activeVersion: number | null;
  readonly latestVersion: number;
  readonly rollout: Rollout;
  readonly requestsPerSecond: number;
  readonly hitRatio: number | null;
}

/** How many of the live edges and parents run the version in force. */
export interface Rollout {
  readonly applied: number;
  readonly live: number;
}

/** A traffic policy in force. */
export interface PolicySummary {
  readonly policyId: string;
  readonly customerId: string;
  readonly names: readonly string[];
  readonly targets: number;
  readonly tests: number;
  readonly version: number;
  readonly isActive: boolean;
  /** The last change that went through stages; null: none ever did. */
  readonly rollout: {
    readonly version: number;
    readonly state: "running" | "done" | "halted";
    /** `server`, `cluster`, `region` or `all`. */
    readonly stage: string;
    readonly stageNumber: number;
    readonly stages: number;
    /** Name servers of the stage. */
    readonly servers: number;
    readonly haltReason: string | null;
    readonly haltServers: readonly string[];
  } | null;
}

export interface VersionSummary {
  readonly version: number;
  readonly isActive: boolean;
  readonly createdAtEpochMs: number;
  readonly author: string;
  readonly note: string;
}

export interface PropertyDetail {
  readonly propertyId: string;
  readonly version: number;
  readonly activeVersion: number | null;
  readonly latestVersion: number;
  readonly rollout: Rollout;
  readonly document: unknown;
  readonly json: string;
  readonly yaml: string;
  /** Control cannot be reached: this is the version in force as it was last heard of; there may be newer ones. */
  readonly isLastKnown: boolean;
}

/** One thing that is wrong with a draft. Line and column (from 1) when a text was sent and the place can be named. */
export interface DraftFault {
  readonly path: string;
  readonly value: string;
  readonly expected: string;
  readonly line: number | null;
  readonly column: number | null;
}

export interface ValidateAnswer {
  readonly isValid: boolean;
  readonly faults: readonly DraftFault[];
  /** As sent, before defaults; null when the text is no JSON or YAML. */
  readonly draft: unknown;
  /** With defaults filled in; null unless valid. */
  readonly document: unknown;
  readonly json: string | null;
  readonly yaml: string | null;
  /** Against the version in force; empty when nothing differs or the draft is not valid. */
  readonly changes: readonly Change[];
}

export interface Change {
  readonly path: string;
  readonly kind: "added" | "removed" | "changed";
  /** JSON text; null where there is nothing. */
  readonly from: string | null;
  readonly to: string | null;
}

export type PurgeProgress =
  | {
      readonly type: "accepted";
      readonly purgeSeq: number;
      readonly servers: readonly string[];
      readonly missing: readonly string[];
    }
  | { readonly type: "ack"; readonly serverId: string; readonly removed: number; readonly elapsedMs: number }
  | { readonly type: "done"; readonly acked: number; readonly expected: number; readonly elapsedMs: number }
  | { readonly type: "failed"; readonly message: string };

/** Every answer of 4xx or 5xx. `code` is stable and kebab-case. */
export interface ErrorAnswer {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly faults?: readonly DraftFault[];
    /** With `version-conflict`: what stands now. */
    readonly presentVersion?: number;
    readonly retryAfterSeconds?: number;
  };
}
