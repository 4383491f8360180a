/** Carries out what `RolloutWatch` says: changed documents in stages, each step durable before anybody is told of it. */
import type { Clock, MonotonicMs, PolicyDocument, TopologyDocument } from "#kit";
import type { ReportBoard } from "../core/report-board.ts";
import {
  type HaltReason,
  type Rollout,
  rolloutDefaults,
  type RolloutSettings,
  RolloutWatch,
  soakMsOf,
  stagedRoles,
  stagesOf,
  type StagedKind,
  testedTargets,
  triers,
  viewOf,
} from "../core/rollout.ts";
import type { DocumentStore, StoredActivation } from "./store.ts";
import { notFound, Refusal } from "./refusal.ts";

export interface RolloutsOptions {
  readonly store: DocumentStore;
  readonly clock: Clock;
  readonly board: ReportBoard;
  readonly settings?: RolloutSettings | undefined;
  readonly topology: () => TopologyDocument | undefined;
  /** Throws {@link Refusal} when a version may not come into force any more. */
  readonly checkLaws: (kind: StagedKind, id: string, version: number) => void;
  readonly onEvent: (event: StoredActivation) => void;
}

/** Servers report each second. */
const HEARD_WITHIN_MS = 5_000;

interface Followed {
  record: Rollout;
  readonly watch: RolloutWatch;
}

export class Rollouts {
  readonly #options: RolloutsOptions;
  readonly #settings: RolloutSettings;
  /** Under way, by `kind/id`. */
  readonly #running = new Map<string, Followed>();
  readonly #startedAt: MonotonicMs;
  readonly counters = { begun: 0, done: 0, halted: 0 };

  constructor(options: RolloutsOptions) {
    this.#options = options;
    this.#settings = options.settings ?? rolloutDefaults;
    const now = options.clock.monotonic();
    this.#startedAt = now;
    for (const record of options.store.rollouts())
      if (record.state === "running") this.#running.set(keyOf(record), this.#followed(record, now));
  }

  /** The newest of each document; with `id`: of those of this name. */
  list(id?: string): readonly Rollout[] {
    return this.#options.store.rollouts(id);
  }

  get runningCount(): number {
    return this.#running.size;
  }

  /** What of each document under way is or may be in force: before it, and after it. */
  documents(): readonly PolicyDocument[] {
    return [...this.#running.values()].flatMap(({ record: { kind, id, version, previousVersion } }) =>
      [version, previousVersion].flatMap((one) => this.#document(kind, id, one) ?? []),
    );
  }

  /** Throws {@link Refusal} where one is under way (409), or nobody knows yet whom a change could be tried on (503). */
  checkMayBegin(kind: StagedKind, id: string): void {
    const followed = this.#running.get(`${kind}/${id}`);
    if (followed === undefined) return this.#checkHeard(kind, id);
    const { version, stageIndex, stages } = followed.record;
    throw new Refusal(409, {
      error: `Version ${version} of ${kind}/${id} is being rolled out (stage ${stageIndex + 1} of ${stages.length}); wait, halt it ("isochrone ${kind} halt ${id}"), or put yours in force at once (--at-once)`,
      code: "rolling-out",
    });
  }

  /** Just after a start no server has been heard of yet, which does not say that none lives. */
  #checkHeard(kind: StagedKind, id: string): void {
    const { store, clock, board, topology } = this.#options;
    const now = clock.monotonic();
    if (now - this.#startedAt >= HEARD_WITHIN_MS || triers(board.recent(now), kind).length > 0) return;
    const isAnyNamed = topology()?.clusters.some(({ role }) => role === stagedRoles[kind]) === true;
    if (!isAnyNamed || store.document(kind, id) === undefined) return;
    throw new Refusal(
      503,
      {
        error: `Control has just begun and heard of no ${stagedRoles[kind]} yet; try again in ${HEARD_WITHIN_MS / 1_000} seconds`,
        code: "overloaded",
      },
      { "retry-after": String(HEARD_WITHIN_MS / 1_000) },
    );
  }

  /**
   * Begins with a version that is stored already and lawful.
   *
   * @returns undefined: nothing is in force that could come back, or no server lives that it could be tried on
   */
  begin(kind: StagedKind, id: string, version: number): Rollout | undefined {
    const { store, clock, board, topology } = this.#options;
    const previous = store.document(kind, id);
    const document = this.#document(kind, id, version);
    if (previous === undefined || document === undefined) return undefined;
    const reports = board.recent(clock.monotonic());
    const live = triers(reports, kind);
    if (live.length === 0) return undefined;
    const previousTargets = testedTargets(JSON.parse(previous.bodyText) as PolicyDocument);
    const didOneLive = reports.some((report) => {
      const { down } = viewOf(report, kind, id);
      return down !== undefined && previousTargets.some((target) => !down.has(target));
    });
    const record: Rollout = {
      kind,
      id: document.policyId,
      version,
      previousVersion: previous.summary.version,
      state: "running",
      stages: stagesOf(`${kind}/${id}@${version}`, live, topology()),
      stageIndex: 0,
      startedAtEpochMs: Math.floor(clock.epoch()),
      endedAtEpochMs: null,
      soakMs: soakMsOf(document, this.#settings),
      // Who moves away from what is dead must not be held up by it.
      targets: didOneLive ? [...testedTargets(document)] : [],
      halt: null,
    };
    const entered = this.#enter(record, 0);
    this.counters.begun++;
    if (entered.state === "running")
      this.#running.set(keyOf(entered), this.#followed(entered, clock.monotonic()));
    return entered;
  }

  /**
   * Has each take the step that is due; to be called now and then. One that cannot, as when a disk does not write, is tried again at the next
   * call and holds nobody else up.
   *
   * @returns those that moved and those that could not, for the log
   */
  handleTimeout(): {
    readonly moved: readonly Rollout[];
    readonly failed: readonly { readonly record: Rollout; readonly error: unknown }[];
  } {
    const { clock, board } = this.#options;
    const moved: Rollout[] = [];
    const failed: { record: Rollout; error: unknown }[] = [];
    if (this.#running.size === 0) return { moved, failed };
    const now = clock.monotonic();
    const reports = board.recent(now);
    for (const followed of this.#running.values())
      try {
        moved.push(...this.#step(followed, reports, now));
      } catch (error) {
        failed.push({ record: followed.record, error });
      }
    return { moved, failed };
  }

  /** @returns it, if it moved */
  #step(
    { record, watch }: Followed,
    reports: ReturnType<ReportBoard["recent"]>,
    now: MonotonicMs,
  ): readonly Rollout[] {
    const views = new Map(reports.map((report) => [report.serverId, viewOf(report, record.kind, record.id)]));
    const verdict = watch.judge(record, views, now);
    if (verdict.next === "halt") return [this.#halt(record, verdict.reason, verdict.servers)];
    if (verdict.next !== "advance") return [];
    return [
      record.stageIndex + 1 < record.stages.length
        ? this.#enter(record, record.stageIndex + 1)
        : this.#finish(record),
    ];
  }

  /** Stops it by hand: what was in force before is so again. Throws {@link Refusal} where none is under way. */
  halt(kind: StagedKind, id: string): Rollout {
    const followed = this.#running.get(`${kind}/${id}`);
    if (followed === undefined) throw notFound(`roll-out of ${kind}/${id} under way`);
    return this.#halt(followed.record, "operator", []);
  }

  /** Another version comes into force everywhere. False: none is under way, and nothing was done. */
  supersede(kind: StagedKind, id: string, version: number): boolean {
    const followed = this.#running.get(`${kind}/${id}`);
    if (followed === undefined) return false;
    this.#halt(followed.record, "superseded", [], version);
    return true;
  }

  #followed(record: Rollout, now: MonotonicMs): Followed {
    return { record, watch: new RolloutWatch(now, this.#settings) };
  }

  #document(kind: StagedKind, id: string, version: number): PolicyDocument | undefined {
    const stored = this.#options.store.document(kind, id, version);
    // Canonical since it was stored; an old one need not fit today's schema to be what names are taken by.
    return stored && (JSON.parse(stored.bodyText) as PolicyDocument);
  }

  #enter(before: Rollout, stageIndex: number): Rollout {
    const { store, clock, board, checkLaws, onEvent } = this.#options;
    const now = clock.monotonic();
    const isLast = stageIndex + 1 === before.stages.length;
    const alive = new Set<string>(triers(board.recent(now), before.kind));
    const had = before.stages[stageIndex - 1]?.servers ?? [];
    const record: Rollout = {
      ...before,
      stageIndex,
      // Nobody waits for a server that has gone meanwhile for another reason; those that have it stay watched.
      stages: before.stages.map((one, n) =>
        n === stageIndex
          ? { ...one, servers: one.servers.filter((server) => alive.has(server) || had.includes(server)) }
          : one,
      ),
    };
    const { kind, id, version } = record;
    if (isLast) {
      try {
        checkLaws(kind, id, version);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        return this.#halt(before, "refused", []);
      }
      this.#putInForce(record, version);
    } else onEvent(store.offer(record));
    const followed = this.#running.get(keyOf(record));
    if (followed !== undefined) {
      followed.record = record;
      followed.watch.handleStage(now);
    }
    return record;
  }

  #halt(
    record: Rollout,
    reason: HaltReason,
    servers: Rollout["stages"][number]["servers"],
    version = record.previousVersion,
  ): Rollout {
    const ended = this.#ended({ ...record, state: "halted", halt: { reason, servers: [...servers] } });
    this.#putInForce(ended, version);
    this.#running.delete(keyOf(record));
    this.counters.halted++;
    return ended;
  }

  #finish(record: Rollout): Rollout {
    const ended = this.#ended({ ...record, state: "done" });
    this.#options.store.saveRollout(ended);
    this.#running.delete(keyOf(record));
    this.counters.done++;
    return ended;
  }

  #ended(record: Rollout): Rollout {
    return { ...record, endedAtEpochMs: Math.floor(this.#options.clock.epoch()) };
  }

  /**
   * The version and where the roll-out stands, both or neither: otherwise a step that is tried again would find its version in force, of which
   * nobody was told. Everyone is told, also of what is in force already, since some were offered the other one.
   */
  #putInForce(rollout: Rollout, version: number): void {
    const { store, onEvent } = this.#options;
    const { kind, id } = rollout;
    const inForce = store.document(kind, id)?.summary.version ?? null;
    const result = store.activate({
      kind,
      id,
      version,
      expectedActiveVersion: inForce,
      isToldAgain: true,
      rollout,
    });
    if (result.outcome !== "activated")
      throw new Error(`Version ${version} of ${kind}/${id} could not be put in force: ${result.outcome}`);
    onEvent(result.event);
  }
}

function keyOf({ kind, id }: Pick<Rollout, "kind" | "id">): string {
  return `${kind}/${id}`;
}
