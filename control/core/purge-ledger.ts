/**
 * Purges under way: who is expected to acknowledge each, who has, and when waiting ends. Control numbers a purge in its
 * store; this only counts. Sans-IO: times come in, progress comes out.
 */
import type { MonotonicMs, PurgeAck, ServerId } from "#kit";
import type { AckOutcome, PurgeProgress } from "./words.ts";

export interface PurgeLedgerSettings {
  /** Waiting ends, done with fewer. */
  readonly timeoutMs: number;
  /**
   * How long servers that have not reported of late are waited for once all others have acknowledged: longer than the
   * report interval, so that a control that has just started is not taken in by having heard of nobody yet.
   */
  readonly missingGraceMs: number;
  /** Purges under way at the same time; more are refused until some end. */
  readonly openMax: number;
}

export const purgeLedgerDefaults: PurgeLedgerSettings = {
  timeoutMs: 10_000,
  missingGraceMs: 2_000,
  openMax: 1_000,
};

interface OpenPurge {
  readonly startedAt: MonotonicMs;
  readonly expected: ReadonlySet<ServerId>;
  readonly waitingLive: Set<ServerId>;
  readonly waitingMissing: Set<ServerId>;
  acked: number;
}

export interface LedgerEvent {
  readonly purgeSeq: number;
  readonly progress: PurgeProgress;
}

export class PurgeLedger {
  readonly #settings: PurgeLedgerSettings;
  /** In order of start, so that the first deadline is found at the front. */
  readonly #open = new Map<number, OpenPurge>();
  #events: LedgerEvent[] = [];
  readonly #counters = { started: 0, complete: 0, incomplete: 0, acks: 0, acksIgnored: 0 };

  constructor(settings: PurgeLedgerSettings = purgeLedgerDefaults) {
    this.#settings = settings;
  }

  get counters(): Readonly<Record<"started" | "complete" | "incomplete" | "acks" | "acksIgnored", number>> {
    return this.#counters;
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** Ask before a purge is numbered: a numbered one must be followed. */
  get hasRoom(): boolean {
    return this.#open.size < this.#settings.openMax;
  }

  /** @param live expected servers that report; @param missing expected servers that do not; disjoint */
  handleStart(
    purgeSeq: number,
    live: readonly ServerId[],
    missing: readonly ServerId[],
    now: MonotonicMs,
  ): void {
    const servers = [...live, ...missing].sort();
    this.#counters.started++;
    this.#open.set(purgeSeq, {
      startedAt: now,
      expected: new Set(servers),
      waitingLive: new Set(live),
      waitingMissing: new Set(missing),
      acked: 0,
    });
    this.#events.push({
      purgeSeq,
      progress: { type: "accepted", purgeSeq, servers, missing: [...missing].sort() },
    });
    this.#finishIfDone(purgeSeq, now);
  }

  handleAck(ack: PurgeAck, now: MonotonicMs): AckOutcome {
    const open = this.#open.get(ack.purgeSeq);
    const outcome: AckOutcome =
      open === undefined
        ? "closed"
        : open.waitingLive.delete(ack.serverId) || open.waitingMissing.delete(ack.serverId)
          ? "counted"
          : open.expected.has(ack.serverId)
            ? "repeated"
            : "unexpected";
    if (open === undefined || outcome !== "counted") {
      this.#counters.acksIgnored++;
      return outcome;
    }
    this.#counters.acks++;
    open.acked++;
    const { purgeSeq, serverId, removed } = ack;
    const elapsedMs = now - open.startedAt;
    this.#events.push({ purgeSeq, progress: { type: "ack", serverId, removed, elapsedMs } });
    this.#finishIfDone(purgeSeq, now);
    return outcome;
  }

  /** Ends purges whose waiting is over. */
  handleTimeout(now: MonotonicMs): void {
    // Deleting the present key while iterating over a Map is defined: the iteration goes on with the next.
    for (const purgeSeq of this.#open.keys()) this.#finishIfDone(purgeSeq, now);
  }

  /** When to call {@link handleTimeout} next; undefined while nothing waits. */
  pollTimeout(): MonotonicMs | undefined {
    let earliest: number | undefined;
    for (const open of this.#open.values()) {
      const at = this.#deadlineOf(open);
      if (earliest === undefined || at < earliest) earliest = at;
    }
    return earliest as MonotonicMs | undefined;
  }

  /** The oldest progress not yet taken. */
  pollEvent(): LedgerEvent | undefined {
    return this.#events.shift();
  }

  #deadlineOf(open: OpenPurge): number {
    const { timeoutMs, missingGraceMs } = this.#settings;
    return open.startedAt + (open.waitingLive.size === 0 ? Math.min(missingGraceMs, timeoutMs) : timeoutMs);
  }

  #finishIfDone(purgeSeq: number, now: MonotonicMs): void {
    const open = this.#open.get(purgeSeq);
    if (open === undefined) return;
    const unacknowledged = [...open.waitingLive, ...open.waitingMissing].sort();
    if (unacknowledged.length > 0 && now < this.#deadlineOf(open)) return;
    this.#open.delete(purgeSeq);
    if (unacknowledged.length === 0) this.#counters.complete++;
    else this.#counters.incomplete++;
    const { acked, expected, startedAt } = open;
    this.#events.push({
      purgeSeq,
      progress: {
        type: "done",
        purgeSeq,
        acked,
        expected: expected.size,
        unacknowledged,
        elapsedMs: now - startedAt,
      },
    });
  }
}
