/**
 * One agent's tests of the targets of policies: what to ask when, and what it holds of each target, with thresholds and a penalty for those that
 * come and go. Sans-IO: a driver sends what `pollTransmit` says and hands the results in.
 */
import {
  type EpochMs,
  LivenessMonitor,
  type LivenessTest,
  type LoadFeedback,
  type MonotonicMs,
  plusMs,
  type PolicyDocument,
  type PolicyOpinions,
  type TargetOpinion,
  TimerHeap,
} from "#kit";

/** What to do now; its result goes to `handleResult`, or `handleLoad`. */
export type TestProbe = {
  readonly key: string;
  readonly watched: string;
  readonly policyId: string;
  readonly targetId: string;
  /** The target's first address. */
  readonly address: string;
} & (
  | {
      readonly kind: "test";
      readonly probeId: number;
      readonly timeoutMs: number;
      readonly test: LivenessTest;
    }
  | { readonly kind: "load"; readonly timeoutMs: number; readonly feedback: LoadFeedback }
);

export interface TestSettings {
  /** Of one customer; more are made by asking each less often. */
  readonly testsPerSecondMax: number;
  /** Of all customers together, likewise. */
  readonly testsPerSecondInAll: number;
  /** A death adds 1 to a target's penalty, which halves in this time. */
  readonly penaltyHalfMs: number;
  /** At this penalty a target is held for down ... */
  readonly holdAbove: number;
  /** ... until it has fallen below this one. */
  readonly releaseBelow: number;
}
export const testDefaults: TestSettings = {
  testsPerSecondMax: 50,
  testsPerSecondInAll: 500,
  penaltyHalfMs: 60_000,
  holdAbove: 4,
  releaseBelow: 2,
};

const JITTER_RATIO = 0.1;
const LOAD_TIMEOUT_MS = 2_000;

interface Watched {
  readonly policyId: string;
  readonly targetId: string;
  readonly address: string;
  /** Keys of its tests. */
  readonly tests: readonly string[];
  state: TargetOpinion["state"];
  sinceEpochMs: number;
  penalty: number;
  penaltyAt: MonotonicMs;
  load: number | undefined;
}

interface Test {
  readonly test: LivenessTest;
  readonly text: string;
  readonly policyId: string;
  readonly monitor: LivenessMonitor;
}

interface Load {
  readonly watched: string;
  readonly feedback: LoadFeedback;
}

export class TargetTests {
  readonly #settings: TestSettings;
  readonly #epochOf: (at: MonotonicMs) => EpochMs;
  /** By policy, test and interval. */
  readonly #tests = new Map<string, Test>();
  /** By policy, target and address. */
  readonly #watched = new Map<string, Watched>();
  /** What is tested, with the targets that have no address, or none that may be asked. */
  readonly #policies = new Map<string, readonly string[]>();
  /** Came and went too often: held for down until their penalty has fallen. */
  readonly #held = new Set<string>();
  readonly #loads = new Map<string, Load>();
  readonly #loadsDue = new TimerHeap();
  readonly counters = { wentDown: 0, wentUp: 0, held: 0, stretched: 0 };

  constructor(epochOf: (at: MonotonicMs) => EpochMs, settings: TestSettings = testDefaults) {
    this.#epochOf = epochOf;
    this.#settings = settings;
  }

  /** Replaces what is tested; what was known of the same target, address and test stays. */
  setPolicies(policies: readonly PolicyDocument[], now: MonotonicMs): void {
    const stretch = this.#stretchOf(policies);
    const tests = new Set<string>();
    const watched = new Set<string>();
    const loads = new Set<string>();
    this.#policies.clear();
    for (const policy of policies) {
      const { policyId, loadFeedback } = policy;
      if (!policy.isActive || (policy.tests.length === 0 && loadFeedback === null)) continue;
      this.#policies.set(
        policyId,
        policy.targets.flatMap(({ targetId, addresses }) => (addresses.length === 0 ? [targetId] : [])),
      );
      const factor = stretch.get(policy.customerId) ?? 1;
      const targets = policy.targets.flatMap(({ targetId, addresses }) => {
        const [address] = addresses;
        return address === undefined
          ? []
          : [{ key: `${policyId} ${targetId} ${address}`, targetId, address }];
      });
      for (const test of policy.tests) {
        const key = `${policyId} ${test.testId} ${factor}`;
        tests.add(key);
        this.#useTest(key, policyId, test, factor).setTargets(
          targets.map((target) => ({ id: target.key })),
          now,
        );
      }
      const keys = policy.tests.map(({ testId }) => `${policyId} ${testId} ${factor}`);
      for (const { key, targetId, address } of targets) {
        watched.add(key);
        this.#watched.set(key, {
          ...(this.#watched.get(key) ?? {
            state: "unknown",
            sinceEpochMs: this.#epochOf(now),
            penalty: 0,
            penaltyAt: now,
            load: undefined,
          }),
          policyId,
          targetId,
          address,
          tests: keys,
        });
        if (loadFeedback === null) continue;
        loads.add(key);
        if (!this.#loads.has(key)) this.#loadsDue.set(key, now);
        this.#loads.set(key, { watched: key, feedback: loadFeedback });
      }
    }
    for (const key of this.#tests.keys()) if (!tests.has(key)) this.#tests.delete(key);
    for (const key of this.#watched.keys()) if (!watched.has(key)) this.#watched.delete(key);
    for (const key of this.#loads.keys())
      if (!loads.has(key)) {
        this.#loads.delete(key);
        this.#loadsDue.delete(key);
      }
    this.#judge(this.#watched.keys(), now);
  }

  /** By how much each customer's intervals are longer than written, so that its tests keep to the rate. */
  #stretchOf(policies: readonly PolicyDocument[]): ReadonlyMap<string, number> {
    const rates = new Map<string, number>();
    for (const { customerId, isActive, tests, targets, loadFeedback } of policies) {
      if (!isActive) continue;
      let perSecond = 0;
      for (const { intervalMs } of [...tests, ...(loadFeedback === null ? [] : [loadFeedback])])
        perSecond += (targets.length * 1_000) / intervalMs;
      rates.set(customerId, (rates.get(customerId) ?? 0) + perSecond);
    }
    const { testsPerSecondMax, testsPerSecondInAll } = this.#settings;
    // In whole steps, so that one target more seldom makes all tests begin anew.
    const stepsOf = (rate: number, max: number): number => Math.max(1, Math.ceil(rate / max));
    let inAll = 0;
    for (const rate of rates.values()) inAll += rate / stepsOf(rate, testsPerSecondMax);
    const common = stepsOf(inAll, testsPerSecondInAll);
    let stretched = 0;
    const factors = new Map<string, number>();
    for (const [customerId, rate] of rates) {
      const factor = stepsOf(rate, testsPerSecondMax) * common;
      if (factor > 1) stretched++;
      factors.set(customerId, factor);
    }
    this.counters.stretched = stretched;
    return factors;
  }

  #useTest(key: string, policyId: string, test: LivenessTest, factor: number): LivenessMonitor {
    const text = JSON.stringify(test);
    const known = this.#tests.get(key);
    if (known?.text === text) return known.monitor;
    const { intervalMs, timeoutMs, downThreshold, okThreshold } = test;
    const monitor = new LivenessMonitor({
      intervalMs: intervalMs * factor,
      timeoutMs,
      downThreshold,
      okThreshold,
      jitterRatio: JITTER_RATIO,
    });
    this.#tests.set(key, { test, text, policyId, monitor });
    return monitor;
  }

  /** What is due at `now`; undefined: nothing is. Call until undefined, or for as long as there is room for more. */
  pollTransmit(now: MonotonicMs): TestProbe | undefined {
    for (const [key, { test, policyId, monitor }] of this.#tests) {
      const probe = monitor.pollTransmit(now);
      const watched = probe && this.#watched.get(probe.id);
      if (probe === undefined || watched === undefined) continue;
      const { targetId, address } = watched;
      const { probeId, timeoutMs } = probe;
      return { kind: "test", key, watched: probe.id, probeId, timeoutMs, policyId, targetId, address, test };
    }
    const key = this.#loadsDue.take(now);
    const load = key === undefined ? undefined : this.#loads.get(key);
    const watched = load && this.#watched.get(load.watched);
    if (key === undefined || load === undefined || watched === undefined) return undefined;
    const { feedback } = load;
    this.#loadsDue.set(key, plusMs(now, feedback.intervalMs));
    const { policyId, targetId, address } = watched;
    return {
      kind: "load",
      key,
      watched: key,
      timeoutMs: LOAD_TIMEOUT_MS,
      policyId,
      targetId,
      address,
      feedback,
    };
  }

  handleResult(probe: Extract<TestProbe, { kind: "test" }>, isOk: boolean, now: MonotonicMs): void {
    this.#tests.get(probe.key)?.monitor.handleProbeResult(probe.probeId, isOk, now);
    this.#judge([probe.watched], now);
  }

  /** @param load undefined: it could not be fetched; what was known of it is forgotten */
  handleLoad(probe: Extract<TestProbe, { kind: "load" }>, load: number | undefined): void {
    const watched = this.#watched.get(probe.key);
    if (watched !== undefined) watched.load = load;
  }

  handleTimeout(now: MonotonicMs): void {
    const changed = new Set(this.#held);
    for (const { monitor } of this.#tests.values()) {
      monitor.handleTimeout(now);
      for (let event = monitor.pollEvent(); event !== undefined; event = monitor.pollEvent())
        changed.add(event.id);
    }
    this.#judge(changed, now);
  }

  /** When something is due, never before `now`; undefined: nothing is tested. */
  pollTimeout(now: MonotonicMs): MonotonicMs | undefined {
    let next = this.#loadsDue.next();
    for (const { monitor } of this.#tests.values()) {
      const due = monitor.pollTimeout(now);
      if (due !== undefined && (next === undefined || due < next)) next = due;
    }
    // Monitors have something due each interval, which is when held targets are looked at again.
    return next !== undefined && next < now ? now : next;
  }

  /** What this agent holds of every target that it tests. */
  opinions(): PolicyOpinions {
    const opinions: Record<string, Record<string, TargetOpinion>> = {};
    for (const [policyId, untested] of this.#policies)
      opinions[policyId] = Object.fromEntries(
        untested.map((targetId) => [targetId, { state: "unknown", sinceEpochMs: 0 }]),
      );
    for (const { policyId, targetId, state, sinceEpochMs, load } of this.#watched.values()) {
      const of = opinions[policyId];
      // Up and nothing else is what silence means.
      if (of !== undefined && (state !== "up" || load !== undefined))
        of[targetId] = { state, sinceEpochMs, ...(load !== undefined && { load }) };
    }
    return opinions;
  }

  #judge(keys: Iterable<string>, now: MonotonicMs): void {
    for (const id of keys) {
      const watched = this.#watched.get(id);
      if (watched === undefined) {
        this.#held.delete(id);
        continue;
      }
      const states = watched.tests.map((key) => this.#tests.get(key)?.monitor.stateOf(id) ?? "unknown");
      const isDown = states.includes("down");
      const penalty = this.#penaltyOf(watched, now);
      if (this.#held.has(id) && penalty < this.#settings.releaseBelow) this.#held.delete(id);
      const tested: TargetOpinion["state"] = isDown ? "down" : states.includes("unknown") ? "unknown" : "up";
      const state = this.#held.has(id) ? "down" : tested;
      if (state === watched.state) continue;
      if (state === "down") {
        this.counters.wentDown++;
        watched.penalty = penalty + 1;
        watched.penaltyAt = now;
        if (watched.penalty >= this.#settings.holdAbove) {
          this.#held.add(id);
          this.counters.held++;
        }
      } else if (watched.state === "down") this.counters.wentUp++;
      watched.state = state;
      watched.sinceEpochMs = this.#epochOf(now);
    }
  }

  #penaltyOf({ penalty, penaltyAt }: Watched, now: MonotonicMs): number {
    return penalty === 0 ? 0 : penalty * 2 ** (-(now - penaltyAt) / this.#settings.penaltyHalfMs);
  }
}
