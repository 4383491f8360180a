import { xxh32 } from "./hash.ts";
import type { MonotonicMs } from "./time.ts";
import { plusMs } from "./time.ts";
import { TimerHeap } from "./timer-heap.ts";

/** Settings of a monitor. The constructor throws RangeError outside the ranges. */
export type LivenessSettings = {
  /** From one probe of a target to its next, ms, > 0; not shorter than the probe itself takes. */
  readonly intervalMs: number;
  /** How long a target may take to answer a probe, ms, > 0, without the travel time (`expectedRttMs`). */
  readonly timeoutMs: number;
  /** Consecutive failures after which a target is down, integer >= 1. */
  readonly downThreshold: number;
  /** Consecutive successful probes after which a target that was down is up, integer >= 1. */
  readonly okThreshold: number;
  /** Each interval is varied by up to this share, 0..0.5; default 0. Drawn from a hash, so it can be replayed. */
  readonly jitterRatio?: number;
};

/** What is probed. */
export type LivenessTarget = {
  readonly id: string;
  /** Round-trip time to it, ms, >= 0, default 0; added to `timeoutMs`, so that far targets are not failed for it. */
  readonly expectedRttMs?: number;
};

/** `unknown`: no evidence yet. */
export type LivenessState = "up" | "down" | "unknown";

/** Why a target changed its state; `recovered` is the only reason for "up". */
export type LivenessReason = "probe-failed" | "probe-timeout" | "passive-failure" | "recovered";

/** A probe to send now. Its result goes to `handleProbeResult`; the monitor itself gives up after `timeoutMs`. */
export type LivenessProbe = { readonly id: string; readonly probeId: number; readonly timeoutMs: number };

/** A target went down, or came back. The first success of a target that was unknown is no event. */
export type LivenessEvent = {
  readonly id: string;
  readonly state: "up" | "down";
  readonly reason: LivenessReason;
  readonly at: MonotonicMs;
};

/** All only grow. */
export type LivenessCounters = {
  probesSent: number;
  probesOk: number;
  probesFailed: number;
  probesTimedOut: number;
  /** Results of probes that had timed out, were answered already, or whose target is gone. */
  resultsIgnored: number;
  passiveOk: number;
  passiveFailed: number;
  /** Passive evidence about ids that are no targets. */
  passiveIgnored: number;
  wentDown: number;
  wentUp: number;
  /** Oldest events thrown away because nobody took them. */
  eventsDropped: number;
};

/** Events kept for `pollEvent`; the oldest is dropped (and counted) beyond it. */
const EVENTS_MAX = 10_000;

type Target = {
  readonly id: string;
  timeoutMs: number;
  state: LivenessState;
  /** Consecutive failures, probes and traffic together. */
  failures: number;
  /** Consecutive successful probes while down. */
  successes: number;
  /** The probe in flight. At most one a target: evidence arrives in order and memory is bounded. */
  probeId: number | undefined;
  /** When the regular next probe is due, once none is in flight. */
  dueAt: MonotonicMs;
  probeCount: number;
  /** When traffic last called for a probe out of turn. */
  calledAt: MonotonicMs | undefined;
};

/**
 * Failure detector: probes at an interval, with thresholds against flapping, helped by what real traffic sees. It
 * has no clock and no socket; a driver (or the simulator) sends what `pollTransmit` says and reports back.
 *
 * A target is down after `downThreshold` consecutive failures (a probe that fails or times out, traffic that fails)
 * and up again after `okThreshold` consecutive successful probes. While it is down, successes of traffic do not
 * count: they are stragglers from before, and would make it flap. Otherwise any success clears the failures.
 *
 * Worst time from a hang to "down", for a target without jitter and travel time:
 * intervalMs + timeoutMs + (downThreshold - 1) * max(intervalMs, timeoutMs).
 *
 * After each call a driver drains `pollTransmit` and `pollEvent`, then sets one timer for `pollTimeout`. When that
 * timer fires it calls `handleTimeout`, after results that have already arrived, so that a pause of its own process
 * is not taken for a hang of all its targets.
 */
export class LivenessMonitor {
  readonly #settings: Required<LivenessSettings>;
  readonly #targets = new Map<string, Target>();
  /** Targets with no probe in flight, by when the next one is due. */
  readonly #due = new TimerHeap();
  /** Targets with a probe in flight, by when it times out. */
  readonly #deadlines = new TimerHeap();
  /** The target of each probe in flight. */
  readonly #inFlight = new Map<number, Target>();
  #events: LivenessEvent[] = [];
  #lastProbeId = 0;
  readonly #counters: LivenessCounters = {
    probesSent: 0,
    probesOk: 0,
    probesFailed: 0,
    probesTimedOut: 0,
    resultsIgnored: 0,
    passiveOk: 0,
    passiveFailed: 0,
    passiveIgnored: 0,
    wentDown: 0,
    wentUp: 0,
    eventsDropped: 0,
  };

  constructor(settings: LivenessSettings) {
    const { intervalMs, timeoutMs, downThreshold, okThreshold, jitterRatio = 0 } = settings;
    assertRange("intervalMs", intervalMs, intervalMs > 0 && intervalMs < Infinity, "a finite number > 0");
    assertRange("timeoutMs", timeoutMs, timeoutMs > 0 && timeoutMs < Infinity, "a finite number > 0");
    const isCount = (n: number): boolean => Number.isSafeInteger(n) && n >= 1;
    assertRange("downThreshold", downThreshold, isCount(downThreshold), "an integer >= 1");
    assertRange("okThreshold", okThreshold, isCount(okThreshold), "an integer >= 1");
    assertRange("jitterRatio", jitterRatio, jitterRatio >= 0 && jitterRatio <= 0.5, "a number in 0..0.5");
    this.#settings = { intervalMs, timeoutMs, downThreshold, okThreshold, jitterRatio };
  }

  get counters(): Readonly<LivenessCounters> {
    return this.#counters;
  }

  /**
   * Replaces the set of targets. Known ones keep their state and schedule; the first probes of new ones are spread
   * evenly over one interval from `now`, in id order; probes in flight to those that left are forgotten.
   * Throws RangeError on a duplicate id or a bad `expectedRttMs`, before anything has changed.
   */
  setTargets(targets: readonly LivenessTarget[], now: MonotonicMs): void {
    const timeouts = new Map<string, number>();
    for (const { id, expectedRttMs = 0 } of targets) {
      if (timeouts.has(id))
        throw new RangeError(`Liveness target ${JSON.stringify(id)} occurs more than once`);
      const isRtt = expectedRttMs >= 0 && expectedRttMs < Infinity;
      assertRange(`expectedRttMs of ${JSON.stringify(id)}`, expectedRttMs, isRtt, "a finite number >= 0");
      timeouts.set(id, this.#settings.timeoutMs + expectedRttMs);
    }
    for (const target of this.#targets.values()) if (!timeouts.has(target.id)) this.#forget(target);
    const added: string[] = [];
    for (const [id, timeoutMs] of timeouts) {
      const target = this.#targets.get(id);
      if (target) target.timeoutMs = timeoutMs;
      else added.push(id);
    }
    added.sort((a, b) => (a < b ? -1 : 1));
    for (const [index, id] of added.entries()) {
      const dueAt = plusMs(now, (index * this.#settings.intervalMs) / added.length);
      this.#targets.set(id, {
        id,
        timeoutMs: timeouts.get(id) as number,
        state: "unknown",
        failures: 0,
        successes: 0,
        probeId: undefined,
        dueAt,
        probeCount: 0,
        calledAt: undefined,
      });
      this.#due.set(id, dueAt);
    }
  }

  #forget(target: Target): void {
    this.#targets.delete(target.id);
    this.#due.delete(target.id);
    this.#deadlines.delete(target.id);
    if (target.probeId !== undefined) this.#inFlight.delete(target.probeId);
  }

  /** A probe that is due at `now`, from this call on in flight; undefined if none is. Call until undefined. */
  pollTransmit(now: MonotonicMs): LivenessProbe | undefined {
    const id = this.#due.take(now);
    const target = id === undefined ? undefined : this.#targets.get(id);
    if (!target) return undefined;
    const probeId = ++this.#lastProbeId;
    target.probeId = probeId;
    target.dueAt = plusMs(now, this.#intervalOf(target));
    target.probeCount++;
    this.#inFlight.set(probeId, target);
    this.#deadlines.set(target.id, plusMs(now, target.timeoutMs));
    this.#counters.probesSent++;
    return { id: target.id, probeId, timeoutMs: target.timeoutMs };
  }

  #intervalOf(target: Target): number {
    const { intervalMs, jitterRatio } = this.#settings;
    if (jitterRatio === 0) return intervalMs;
    const share = xxh32(target.id, target.probeCount) / 0x1_0000_0000;
    return intervalMs * (1 + jitterRatio * (2 * share - 1));
  }

  /** The result of a probe. One that comes late, twice, or for a target that left is ignored and counted. */
  handleProbeResult(probeId: number, ok: boolean, now: MonotonicMs): void {
    const target = this.#inFlight.get(probeId);
    if (!target) {
      this.#counters.resultsIgnored++;
      return;
    }
    this.#land(target, now);
    if (ok) {
      this.#counters.probesOk++;
      this.#probeSucceeded(target, now);
    } else {
      this.#counters.probesFailed++;
      this.#failed(target, "probe-failed", now);
    }
  }

  /** Expires the probes whose time is over at `now`. */
  handleTimeout(now: MonotonicMs): void {
    for (let id = this.#deadlines.take(now); id !== undefined; id = this.#deadlines.take(now)) {
      const target = this.#targets.get(id);
      if (!target) continue;
      this.#land(target, now);
      this.#counters.probesTimedOut++;
      this.#failed(target, "probe-timeout", now);
    }
  }

  /**
   * Whoever drives this stood still (was stopped, or had no processor) for so long that what is known says nothing of now: what was up is
   * unknown, and down at its first failure; what is in flight is forgotten, and every target is probed at once. What was down stays so
   * until it has answered.
   */
  handlePause(now: MonotonicMs): void {
    for (const target of this.#targets.values()) {
      if (target.state === "up") {
        target.state = "unknown";
        target.failures = Math.max(target.failures, this.#settings.downThreshold - 1);
      }
      target.dueAt = now;
      this.#land(target, now);
    }
  }

  /** The target's probe is no longer in flight; the next one is scheduled. */
  #land(target: Target, now: MonotonicMs): void {
    if (target.probeId !== undefined) this.#inFlight.delete(target.probeId);
    target.probeId = undefined;
    this.#deadlines.delete(target.id);
    this.#due.set(target.id, target.dueAt > now ? target.dueAt : now);
  }

  /**
   * What real traffic saw: it was answered (`ok`), or the target could not be reached. Report a broken connection
   * once, not once for each request on it. A failure counts like a failed probe, and calls for a probe at once
   * unless the target is down already, one is in flight, or traffic called for one less than an interval ago (so a
   * target that fails traffic but not probes is probed at most twice an interval).
   */
  handlePassive(id: string, ok: boolean, now: MonotonicMs): void {
    const target = this.#targets.get(id);
    if (!target) {
      this.#counters.passiveIgnored++;
      return;
    }
    if (ok) {
      this.#counters.passiveOk++;
      if (target.state === "down") return;
      target.state = "up";
      target.failures = 0;
      return;
    }
    this.#counters.passiveFailed++;
    const wasDown = target.state === "down";
    this.#failed(target, "passive-failure", now);
    const mayCall = target.calledAt === undefined || now - target.calledAt >= this.#settings.intervalMs;
    if (wasDown || target.probeId !== undefined || !mayCall) return;
    target.calledAt = now;
    this.#due.set(id, now);
  }

  #failed(target: Target, reason: LivenessReason, now: MonotonicMs): void {
    target.successes = 0;
    target.failures++;
    if (target.state === "down" || target.failures < this.#settings.downThreshold) return;
    target.state = "down";
    this.#counters.wentDown++;
    this.#emit({ id: target.id, state: "down", reason, at: now });
  }

  #probeSucceeded(target: Target, now: MonotonicMs): void {
    target.failures = 0;
    if (target.state !== "down") {
      target.state = "up";
      return;
    }
    target.successes++;
    if (target.successes < this.#settings.okThreshold) return;
    target.successes = 0;
    target.state = "up";
    this.#counters.wentUp++;
    this.#emit({ id: target.id, state: "up", reason: "recovered", at: now });
  }

  #emit(event: LivenessEvent): void {
    if (this.#events.length >= EVENTS_MAX) {
      this.#events.shift();
      this.#counters.eventsDropped++;
    }
    this.#events.push(event);
  }

  /** The oldest change of state that was not taken yet. Call until undefined. */
  pollEvent(): LivenessEvent | undefined {
    return this.#events.shift();
  }

  /** When something is next due (a probe to send or to expire), never before `now`; undefined without targets. */
  pollTimeout(now: MonotonicMs): MonotonicMs | undefined {
    const due = this.#due.next();
    const deadline = this.#deadlines.next();
    if (due === undefined && deadline === undefined) return undefined;
    const next = Math.min(due ?? Infinity, deadline ?? Infinity) as MonotonicMs;
    return next > now ? next : now;
  }

  /** The state of a target; `unknown` also for an id that is no target. */
  stateOf(id: string): LivenessState {
    return this.#targets.get(id)?.state ?? "unknown";
  }

  /** Whether the target may be used: anything but down, since a fresh start must not take everything out. */
  isUp(id: string): boolean {
    return this.stateOf(id) !== "down";
  }
}

function assertRange(name: string, value: number, holds: boolean, expected: string): void {
  if (!holds) throw new RangeError(`Liveness setting ${name} must be ${expected}, got ${value}`);
}
