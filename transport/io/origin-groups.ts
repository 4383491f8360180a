/**
 * The origins of properties as groups of servers: who is asked, the checks that are due, and what an operator is told
 * of it. Which server and why is `core/origin-group.ts`; this has the clock, the timer and the requests of checks.
 */
import {
  BARRED_ORIGINS_MAX,
  type BarredOrigin,
  type Clock,
  IsochroneError,
  type MonotonicMs,
  type OriginHealthCheck,
  type OriginPolicy,
  type OriginTarget,
} from "#kit";
import type { Logger } from "#kit/io";
import { OriginGroup } from "../core/origin-group.ts";
import {
  originBars,
  originGroupSettings,
  type OriginOrder,
  type OriginOutcome,
  type OriginServerState,
} from "../core/origin-words.ts";
import type { OriginIdentity, OriginServerAt } from "./face.ts";

/** A group as documents have it. */
export type OriginGroupStated = {
  readonly name: string;
  readonly origins: readonly OriginTarget[];
  readonly policy: OriginPolicy;
  readonly identity?: OriginIdentity | undefined;
};

/** A group whose servers cannot be asked now. `code`: "origin-requests-max" when all are full, else "origin-unavailable". */
export class OriginUnavailableError extends IsochroneError {
  readonly retryAfterSeconds: number;
  constructor(
    message: string,
    code: "origin-requests-max" | "origin-unavailable",
    retryAfterSeconds: number,
  ) {
    super(message, { code, source: "upstream", retry: "never" });
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** A request at a server of a group, until its answer has ended. Each of them may be called more than once. */
export type OriginUsage = {
  readonly handleHead: (status: number) => void;
  /** No answer came. */
  readonly handleFailure: (error: unknown) => void;
  /** The answer broke off. */
  readonly handleBroken: (error: unknown) => void;
  readonly handleEnd: () => void;
};

type Group = {
  stated: OriginGroupStated;
  readonly share: number;
  readonly machine: OriginGroup;
  usedAt: MonotonicMs;
};

type OriginCheck = (
  origin: OriginTarget,
  identity: OriginIdentity | undefined,
  check: OriginHealthCheck,
  signal: AbortSignal,
) => Promise<boolean>;

export type OriginGroupsSettings = {
  /** Checks of all groups together, a second; beyond it they come later. */
  readonly checksPerSecondMax: number;
  /** A group that nobody asked for this long is not checked until somebody does, ms. */
  readonly idleMs: number;
};

/** Codes of failures that say nothing about the server: ours, the client's, or a relay's. */
const NOT_OF_SERVER: ReadonlySet<string> = new Set([
  "aborted",
  "bad-request",
  "closed",
  "pool-full",
  "address-not-permitted",
  "no-certificate",
  "relay-unknown",
  "relay-refused",
  "relay-broken",
]);
/** Codes of a server that may have the request and does not answer it. */
const SILENT: ReadonlySet<string> = new Set([
  "headers-timeout",
  "body-timeout",
  "path-failed",
  "server-down",
]);

export class OriginGroups {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #settings: OriginGroupsSettings;
  readonly #offset: number;
  /** Makes one check; resolves with whether the server is well, never rejects. */
  readonly #check: OriginCheck;
  #groups = new Map<string, Group>();
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  readonly #stop = new AbortController();
  /** Checks of the second that began then. */
  #second = Number.NEGATIVE_INFINITY;
  #inSecond = 0;
  /** All only grow. */
  readonly counters = { checks: 0, checksDeferred: 0 };
  /** Of groups that have gone. */
  readonly #past = new Map<string, number>();

  constructor(options: {
    readonly clock: Clock;
    readonly logger: Logger;
    readonly settings: OriginGroupsSettings;
    readonly offset: number;
    readonly check: OriginCheck;
  }) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#settings = options.settings;
    this.#offset = options.offset;
    this.#check = options.check;
  }

  /** Replaces the groups. One that is stated as before keeps all that is known of its servers. */
  set(stated: readonly OriginGroupStated[], share: number): void {
    const next = new Map<string, Group>();
    for (const one of stated) {
      const known = this.#groups.get(one.name);
      const isKept = known !== undefined && known.share === share && isSame(known.stated, one);
      // Its certificate may be another.
      if (isKept) known.stated = one;
      next.set(
        one.name,
        isKept
          ? known
          : {
              stated: one,
              share,
              machine: new OriginGroup(originGroupSettings(one.origins, one.policy, share), this.#offset),
              usedAt: this.#clock.monotonic(),
            },
      );
    }
    for (const [name, group] of this.#groups) {
      if (next.get(name) === group) continue;
      group.machine.stopChecks();
      for (const [event, count] of Object.entries(group.machine.counters))
        this.#past.set(event, (this.#past.get(event) ?? 0) + count);
    }
    this.#groups = next;
  }

  start(): void {
    this.#isRunning = true;
  }

  stop(): void {
    this.#isRunning = false;
    clearTimeout(this.#timer);
    this.#stop.abort();
  }

  /**
   * Places of the servers to ask, best first. Throws OriginUnavailableError when none can be asked; undefined for a group that
   * no document states (a property that has just been withdrawn).
   */
  order(name: string, isRepeatable: boolean): readonly number[] | undefined {
    const group = this.#groups.get(name);
    if (group === undefined) return undefined;
    const now = this.#clock.monotonic();
    group.usedAt = now;
    if (this.#isRunning && group.stated.policy.healthCheck !== null && !group.machine.isChecking) {
      group.machine.startChecks(now);
      this.#wake();
    }
    const order = group.machine.order(now, isRepeatable);
    this.#tell(group);
    if (order.indexes.length > 0) return order.indexes;
    throw unavailable(group, order, now);
  }

  /** Whether a request that one of the servers answered with `status` is to be asked of another. */
  isRepeated(name: string, status: number): boolean {
    return this.#groups.get(name)?.stated.policy.repeatedStatuses.includes(status) ?? false;
  }

  /** A request goes to a server; undefined when its group is not (or no more) known. */
  begin({ group: name, index }: OriginServerAt): OriginUsage | undefined {
    const group = this.#groups.get(name);
    if (group === undefined || index >= group.stated.origins.length) return undefined;
    const { machine } = group;
    const use = machine.begin(index, this.#clock.monotonic());
    const judge = (outcome: OriginOutcome): void => {
      machine.handleOutcome(use, outcome, this.#clock.monotonic());
      this.#tell(group);
    };
    return {
      // 501 and 505 are about the request.
      handleHead: (status) =>
        judge(status >= 500 && status !== 501 && status !== 505 ? "error-status" : "ok"),
      handleFailure: (error) => {
        judge(outcomeOf(error));
        machine.handleEnd(use);
      },
      handleBroken: (error) => {
        machine.handleBroken(use, outcomeOf(error), this.#clock.monotonic());
        this.#tell(group);
      },
      handleEnd: () => machine.handleEnd(use),
    };
  }

  /** Who we are to its servers. */
  identityOf(name: string): OriginIdentity | undefined {
    return this.#groups.get(name)?.stated.identity;
  }

  /** The servers of a group as they are seen now; undefined: no such group. */
  states(name: string): readonly OriginServerState[] | undefined {
    return this.#groups.get(name)?.machine.states(this.#clock.monotonic());
  }

  /** Events of all groups so far, by name. */
  totals(): ReadonlyMap<string, number> {
    const totals = new Map(this.#past);
    for (const { machine } of this.#groups.values())
      for (const [event, count] of Object.entries(machine.counters))
        totals.set(event, (totals.get(event) ?? 0) + count);
    return totals;
  }

  /** Servers by what keeps them from being asked; "none": nothing. */
  counts(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>([["none", 0], ...originBars.map((bar) => [bar, 0] as const)]);
    const now = this.#clock.monotonic();
    for (const { machine } of this.#groups.values())
      for (const { bar } of machine.states(now))
        counts.set(bar ?? "none", (counts.get(bar ?? "none") ?? 0) + 1);
    return counts;
  }

  /** Servers that are kept from being asked, but for those that the document gives no weight. */
  barred(): BarredOrigin[] {
    const barred: BarredOrigin[] = [];
    const now = this.#clock.monotonic();
    for (const [origin, { machine }] of this.#groups)
      for (const { name, bar } of machine.states(now)) {
        if (bar === undefined || bar === "drained") continue;
        if (barred.length === BARRED_ORIGINS_MAX) return barred;
        barred.push({ origin, server: name, reason: bar });
      }
    return barred;
  }

  #wake(): void {
    clearTimeout(this.#timer);
    if (this.#isRunning) this.#timer = setTimeout(() => this.#tick(), 0).unref();
  }

  /** All that is due; then one timer. */
  #tick(): void {
    const now = this.#clock.monotonic();
    if (now - this.#second >= 1_000) {
      this.#second = now;
      this.#inSecond = 0;
    }
    let next = Infinity;
    for (const group of this.#groups.values()) {
      const { machine } = group;
      if (!machine.isChecking) continue;
      if (now - group.usedAt > this.#settings.idleMs) {
        machine.stopChecks();
        continue;
      }
      machine.handleTimeout(now);
      while (this.#inSecond < this.#settings.checksPerSecondMax) {
        const probe = machine.pollCheck(now);
        if (probe === undefined) break;
        this.#inSecond++;
        void this.#send(group, probe);
      }
      this.#tell(group);
      next = Math.min(next, machine.pollTimeout(now) ?? Infinity);
    }
    if (this.#inSecond >= this.#settings.checksPerSecondMax && next <= now) {
      this.counters.checksDeferred++;
      next = this.#second + 1_000;
    }
    clearTimeout(this.#timer);
    if (this.#isRunning && next < Infinity)
      this.#timer = setTimeout(() => this.#tick(), Math.max(1, Math.ceil(next - now))).unref();
  }

  async #send(
    group: Group,
    probe: { readonly index: number; readonly probeId: number; readonly timeoutMs: number },
  ): Promise<void> {
    const origin = group.stated.origins[probe.index];
    const { healthCheck } = group.stated.policy;
    if (origin === undefined || healthCheck === null) return;
    this.counters.checks++;
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(Math.ceil(probe.timeoutMs))]);
    const isOk = await this.#check(origin, group.stated.identity, healthCheck, signal);
    if (!this.#isRunning || !group.machine.isChecking) return;
    // Its own time limit is the monitor's, which has counted it.
    if (isOk || !signal.aborted) group.machine.handleCheck(probe.probeId, isOk, this.#clock.monotonic());
    this.#tell(group);
    this.#wake();
  }

  #tell({ stated, machine }: Group): void {
    for (let event = machine.pollEvent(); event !== undefined; event = machine.pollEvent()) {
      const { type, server, reason } = event;
      const about = { origin: stated.name, server, reason };
      if (type === "down" || type === "ejected" || type === "breaker-opened")
        this.#logger.warn(`origin-${type}`, about);
      else this.#logger.info(`origin-${type}`, about);
    }
  }
}

/** Most are the very objects of before: a document that comes changes its own group alone. */
function isSame(a: OriginGroupStated, b: OriginGroupStated): boolean {
  return (
    (a.origins === b.origins && a.policy === b.policy) ||
    JSON.stringify([a.origins, a.policy]) === JSON.stringify([b.origins, b.policy])
  );
}

function unavailable(group: Group, order: OriginOrder, now: MonotonicMs): OriginUnavailableError {
  const { stated, machine } = group;
  const { bars, retryAt } = order;
  if (bars === "group-requests-max")
    return new OriginUnavailableError(
      `Cannot ask an origin of ${JSON.stringify(stated.name)}: ${machine.active} requests are under way, as many as its originPolicy.requestsMax allows here`,
      "origin-requests-max",
      1,
    );
  const isFull = bars.every((bar) => bar === "requests-max" || bar === "drained");
  const retryAfterSeconds = retryAt === undefined ? 1 : Math.max(1, Math.ceil((retryAt - now) / 1_000));
  return new OriginUnavailableError(
    `Cannot ask an origin of ${JSON.stringify(stated.name)}: ${machine.describe(now)}`,
    isFull ? "origin-requests-max" : "origin-unavailable",
    retryAfterSeconds,
  );
}

function outcomeOf(error: unknown): OriginOutcome {
  if (!(error instanceof IsochroneError)) return "none";
  const { code, source } = error;
  if (source === "downstream" || NOT_OF_SERVER.has(code)) return "none";
  return SILENT.has(code) ? "silent" : "unreachable";
}
