/** When the next map is made: each cycle, and before it is over where something has changed that does not wait. */
import { type MonotonicMs, plusMs } from "#kit";
import type { MapEngineSettings } from "./engine-settings.ts";
import type { SnapshotReason } from "./engine-events.ts";

export class MapSchedule {
  readonly #settings: Pick<MapEngineSettings, "cycleMs" | "bypassIntervalMs">;
  #lastAt: MonotonicMs | undefined;
  /** Undefined: nothing has begun. */
  #cycleAt: MonotonicMs | undefined;
  /** The earliest reason not to wait for the cycle. */
  #bypass: { readonly reason: SnapshotReason; readonly at: MonotonicMs } | undefined;

  constructor(settings: Pick<MapEngineSettings, "cycleMs" | "bypassIntervalMs">) {
    this.#settings = settings;
  }

  /** A map of before stands: the first one is a whole cycle away, if there is to be one. */
  handlePrevious(now: MonotonicMs): void {
    if (this.#cycleAt !== undefined) this.#cycleAt = plusMs(now, this.#settings.cycleMs);
  }

  /** @param hasPrevious whether a map stands: without one the first is made at once */
  handleChanged(reason: SnapshotReason, now: MonotonicMs, hasPrevious: boolean): void {
    this.#cycleAt ??= hasPrevious ? plusMs(now, this.#settings.cycleMs) : now;
    const earliest = this.#lastAt === undefined ? now : plusMs(this.#lastAt, this.#settings.bypassIntervalMs);
    this.#bypass ??= { reason, at: earliest > now ? earliest : now };
  }

  /** @param isWarmingUp nothing goes before the cycle */
  pollTimeout(isWarmingUp: boolean): MonotonicMs | undefined {
    if (this.#cycleAt === undefined) return undefined;
    if (this.#bypass === undefined || isWarmingUp) return this.#cycleAt;
    return Math.min(this.#cycleAt, this.#bypass.at) as MonotonicMs;
  }

  /** Why a map is to be made now, the next one a cycle later; undefined: none is due. */
  handleTimeout(
    now: MonotonicMs,
    isWarmingUp: boolean,
  ): { readonly reason: SnapshotReason; readonly isBypass: boolean } | undefined {
    const dueAt = this.pollTimeout(isWarmingUp);
    if (dueAt === undefined || now < dueAt) return undefined;
    const due = {
      reason: this.#bypass?.reason ?? ("cycle" as const),
      isBypass: this.#cycleAt !== undefined && now < this.#cycleAt,
    };
    this.#bypass = undefined;
    this.#lastAt = now;
    this.#cycleAt = plusMs(now, this.#settings.cycleMs);
    return due;
  }
}
