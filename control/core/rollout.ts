/**
 * A changed document goes to one server first, then to its cluster, its region and all; each stage waits until its servers have it and have
 * been well with it for a while. Sans-IO: reports come in, what to do next comes out.
 */
import {
  array,
  id,
  integer,
  type MonotonicMs,
  nullable,
  object,
  oneOf,
  type Parsed,
  type PolicyDocument,
  rendezvousOrder,
  type ServerId,
  type ServerReport,
  type TopologyDocument,
} from "#kit";

/** Kinds of which a changed version is rolled out, and the role of the servers that it is tried on. */
export const stagedRoles = { policy: "nameserver" } as const;
export type StagedKind = keyof typeof stagedRoles;
export const stagedKinds = Object.keys(stagedRoles) as readonly StagedKind[];

export const rolloutModes = ["staged", "at-once"] as const;
export type RolloutMode = (typeof rolloutModes)[number];

export const stageNames = ["server", "cluster", "region", "all"] as const;

export const haltReasons = [
  "not-applied",
  "silent",
  "restarted",
  "not-ready",
  "faults",
  "targets-down",
  "refused",
  "operator",
  "superseded",
] as const;
/**
 * `not-applied`: a server has not taken it in time, so it refused it or has gone. `silent`, `restarted`, `not-ready`, `faults`: a server that had
 * it was heard of no more, began anew, said that it is not ready, answered queries by internal errors. `targets-down`: most servers that test the
 * targets find none of them alive, and found some before. `refused`: the laws that span documents forbid it by now. `operator`: it was stopped by
 * hand. `superseded`: another version was put in force at once.
 */
export type HaltReason = (typeof haltReasons)[number];

/** For people, after "halted: ". */
export const haltWords: Readonly<Record<HaltReason, string>> = {
  "not-applied": "a server did not take it in time",
  silent: "a server that had it was heard of no more",
  restarted: "a server that had it began anew",
  "not-ready": "a server that had it said that it is not ready",
  faults: "a server that had it answered queries by internal errors",
  "targets-down": "no target passed its tests any more",
  refused: "other documents forbid it by now",
  operator: "stopped by hand",
  superseded: "another version was put in force at once",
};

const version = () => integer({ min: 1 });

/** As it is kept, and told. */
export const rollout = object({
  kind: oneOf(stagedKinds),
  id: id(),
  version: version(),
  /** In force before, and again when it is halted. */
  previousVersion: version(),
  state: oneOf(["running", "done", "halted"]),
  /** Each has the servers of those before it as well; the last is everyone, and its servers are those that are watched. */
  stages: array(object({ stage: oneOf(stageNames), servers: array(id<ServerId>(), { max: 10_000 }) }), {
    min: 1,
    max: stageNames.length,
  }),
  stageIndex: integer({ max: stageNames.length - 1 }),
  startedAtEpochMs: integer(),
  endedAtEpochMs: nullable(integer()),
  /** How long a stage's servers have it before the next one begins. */
  soakMs: integer(),
  /** Of which one at least has to live; empty: it is not looked at. */
  targets: array(id(), { max: 64 }),
  halt: nullable(
    object({
      reason: oneOf(haltReasons),
      servers: array(id<ServerId>(), { max: 10_000 }),
    }),
  ),
});
export type Rollout = Parsed<typeof rollout>;
export const rollouts = array(rollout, { max: 100_000 });

/** Whom it is tried on in its present stage. */
export function offeredTo({ stages, stageIndex }: Rollout): ReadonlySet<string> {
  return new Set(stages[stageIndex]?.servers);
}

export interface RolloutSettings {
  /** A stage's servers have it for so long at least; longer where tests of the document take longer to tell. */
  readonly soakMs: number;
  /** However slow the tests of a document are. */
  readonly soakMsMax: number;
  /** Time for a stage's servers to take it. */
  readonly applyMs: number;
  /** No target passes its tests for so long: one report may still tell of the version before. */
  readonly blindMs: number;
  /** Queries that a server ends by an internal error before it is halted: one may be chance. */
  readonly faultsMax: number;
}
export const rolloutDefaults: RolloutSettings = {
  soakMs: 10_000,
  soakMsMax: 120_000,
  applyMs: 30_000,
  blindMs: 3_000,
  faultsMax: 2,
};

/** What a report says of a server and one document. */
export interface ServerView {
  readonly serverId: ServerId;
  readonly incarnation: string;
  readonly isReady: boolean;
  readonly version: number | undefined;
  readonly internalErrors: number;
  /** Targets that it holds for down; undefined: it does not test them. */
  readonly down: ReadonlySet<string> | undefined;
}

export function viewOf(report: ServerReport, kind: StagedKind, documentId: string): ServerView {
  const { serverId, incarnation, state, applied, internalErrors = 0, opinions } = report;
  const opinion = opinions?.[documentId as keyof typeof opinions];
  const down =
    kind !== "policy" || opinion === undefined
      ? undefined
      : new Set(Object.entries(opinion).flatMap(([target, one]) => (one.state === "down" ? [target] : [])));
  return {
    serverId,
    incarnation,
    isReady: state === "ready",
    version: applied[`${kind}/${documentId}`],
    internalErrors,
    down,
  };
}

/** Servers that it may be tried on: of the role, ready, and not taking their documents late on purpose. */
export function triers(reports: readonly ServerReport[], kind: StagedKind): readonly ServerId[] {
  return reports
    .filter(
      ({ role, state, inputDelaySeconds }) =>
        role === stagedRoles[kind] && state === "ready" && inputDelaySeconds === undefined,
    )
    .map(({ serverId }) => serverId);
}

/**
 * Who has it when. The first server is another one for each version. A stage that would bring nobody new is left out; the last is named `all`.
 * @param live not empty
 */
export function stagesOf(
  key: string,
  live: readonly ServerId[],
  topology: TopologyDocument | undefined,
): Rollout["stages"] {
  const places = new Map(
    (topology?.clusters ?? []).flatMap(({ clusterId, regionId, servers }) =>
      servers.map(({ serverId }) => [serverId, { clusterId, regionId }] as const),
    ),
  );
  const all = [...live].sort();
  const first = rendezvousOrder(
    key,
    all.map((one) => ({ id: one })),
  )[0]?.id;
  const place = first && places.get(first);
  const near = (field: "clusterId" | "regionId") =>
    all.filter((one) => one === first || (place !== undefined && places.get(one)?.[field] === place[field]));
  const wanted = {
    server: all.filter((one) => one === first),
    cluster: near("clusterId"),
    region: near("regionId"),
    all,
  };
  const kept = stageNames.filter((stage, n) => {
    const before = stageNames[n - 1];
    return before === undefined || wanted[stage].length > wanted[before].length;
  });
  return kept.map((stage, n) => ({
    stage: n + 1 === kept.length ? "all" : stage,
    servers: wanted[stage],
  }));
}

/** How long a server's tests take to find a target down, and to say so. */
export function soakMsOf(document: Pick<PolicyDocument, "tests">, settings: RolloutSettings): number {
  const REPORT_MS = 2_000;
  const verdicts = document.tests.map(
    ({ intervalMs, downThreshold, timeoutMs }) => intervalMs * (downThreshold + 1) + timeoutMs + REPORT_MS,
  );
  return Math.min(settings.soakMsMax, Math.max(settings.soakMs, ...verdicts));
}

/** Targets that are tested and handed out; none where the edges are one of them, which the map answers for. */
export function testedTargets(document: PolicyDocument): Rollout["targets"] {
  const enabled = document.targets.filter(({ isEnabled }) => isEnabled);
  return !document.isActive ||
    document.tests.length === 0 ||
    enabled.some(({ addresses }) => addresses.length === 0)
    ? []
    : enabled.map(({ targetId }) => targetId);
}

export type RolloutVerdict =
  | { readonly next: "wait"; readonly for: "servers" | "time"; readonly servers: readonly ServerId[] }
  | { readonly next: "advance" }
  | { readonly next: "halt"; readonly reason: HaltReason; readonly servers: readonly ServerId[] };

/** Follows the servers of one roll-out. After a restart of control the stage begins anew. */
export class RolloutWatch {
  readonly #settings: RolloutSettings;
  /** Servers that have it, as they were when they were first seen with it. */
  readonly #confirmed = new Map<
    ServerId,
    { readonly incarnation: string; readonly internalErrors: number }
  >();
  #stageAt: MonotonicMs;
  #completeAt: MonotonicMs | undefined;
  #blindAt: MonotonicMs | undefined;

  constructor(now: MonotonicMs, settings: RolloutSettings = rolloutDefaults) {
    this.#settings = settings;
    this.#stageAt = now;
  }

  handleStage(now: MonotonicMs): void {
    this.#stageAt = now;
    this.#completeAt = undefined;
  }

  /** @param views of servers that were heard of of late */
  judge(record: Rollout, views: ReadonlyMap<ServerId, ServerView>, now: MonotonicMs): RolloutVerdict {
    const servers = record.stages[record.stageIndex]?.servers ?? [];
    const waiting: ServerId[] = [];
    const wrong = new Map<HaltReason, readonly ServerId[]>();
    for (const serverId of servers) {
      const reason = this.#reasonAgainst(serverId, views.get(serverId), record.version);
      if (reason === "waiting") waiting.push(serverId);
      else if (reason !== undefined) wrong.set(reason, [...(wrong.get(reason) ?? []), serverId]);
    }
    const blind = this.#withoutTargets(record, servers, views);
    this.#blindAt = blind.length === 0 ? undefined : (this.#blindAt ?? now);
    if (this.#blindAt !== undefined && now - this.#blindAt >= this.#settings.blindMs)
      wrong.set("targets-down", blind);
    for (const reason of haltReasons) {
      const found = wrong.get(reason);
      if (found !== undefined) return { next: "halt", reason, servers: found };
    }
    if (waiting.length > 0)
      return now - this.#stageAt >= this.#settings.applyMs
        ? { next: "halt", reason: "not-applied", servers: waiting }
        : { next: "wait", for: "servers", servers: waiting };
    this.#completeAt ??= now;
    return now - this.#completeAt >= record.soakMs
      ? { next: "advance" }
      : { next: "wait", for: "time", servers: [] };
  }

  #reasonAgainst(
    serverId: ServerId,
    view: ServerView | undefined,
    wanted: number,
  ): HaltReason | "waiting" | undefined {
    const before = this.#confirmed.get(serverId);
    if (before === undefined) {
      if (view?.version !== wanted) return "waiting";
      this.#confirmed.set(serverId, view);
      return undefined;
    }
    if (view === undefined) return "silent";
    if (view.incarnation !== before.incarnation) return "restarted";
    if (!view.isReady) return "not-ready";
    return view.internalErrors - before.internalErrors > this.#settings.faultsMax ? "faults" : undefined;
  }

  /** Servers that find every target down, where they are more than half of those that test them. */
  #withoutTargets(
    { targets, version: wanted }: Rollout,
    servers: readonly ServerId[],
    views: ReadonlyMap<ServerId, ServerView>,
  ): readonly ServerId[] {
    if (targets.length === 0) return [];
    const testing = servers.flatMap((serverId) => {
      const view = views.get(serverId);
      return view?.down !== undefined && view.version === wanted ? [{ serverId, down: view.down }] : [];
    });
    const blind = testing.filter(({ down }) => targets.every((target) => down.has(target)));
    return blind.length * 2 > testing.length ? blind.map(({ serverId }) => serverId) : [];
  }
}
