/**
 * Which server of an origin is asked: by priority, weight, health and limits. Health comes from checks
 * (`LivenessMonitor`), from the requests themselves (outliers are ejected for a while, never all of them), and from
 * a breaker for each server. No clock, no randomness: time is an argument, shares come from smooth weighted
 * round robin (as nginx has it), which is exact over any few requests.
 */
import { LivenessMonitor, type LivenessProbe, type MonotonicMs, plusMs } from "#kit";
import { type BreakerPass, CircuitBreaker } from "./circuit-breaker.ts";
import type {
  EjectionReason,
  OriginBar,
  OriginEvent,
  OriginGroupSettings,
  OriginOrder,
  OriginOutcome,
  OriginServerSettings,
  OriginServerState,
} from "./origin-words.ts";
import { OutcomeWindow } from "./outcome-window.ts";

/** Share of its weight that a server begins with when it comes back. */
const RAMP_MIN = 0.1;
/** Requests of the other servers that a comparison needs. */
const COMPARABLE_MIN = 5;
/** Events that nobody took; the oldest goes. */
const EVENTS_MAX = 1_000;

type Server = {
  readonly index: number;
  readonly settings: OriginServerSettings;
  readonly breaker: CircuitBreaker | undefined;
  readonly window: OutcomeWindow;
  active: number;
  /** Of smooth weighted round robin. */
  credit: number;
  /** Failures in a row, and how many of the last of them left no answer at all. */
  failures: number;
  unanswered: number;
  ejectedUntil: MonotonicMs | undefined;
  ejection: EjectionReason | undefined;
  /** Ejections without a rest as long as the longest of them in between. */
  ejections: number;
  /** When it came back last; undefined: it was never away. */
  backAt: MonotonicMs | undefined;
};

/** A request at a server; `handleOutcome` once, `handleEnd` once. */
export type OriginUse = {
  readonly index: number;
  readonly pass: BreakerPass | undefined;
  isJudged: boolean;
  isEnded: boolean;
};

export class OriginGroup {
  readonly #settings: OriginGroupSettings;
  readonly #servers: readonly Server[];
  /** Servers by priority, most wanted first. */
  readonly #levels: readonly (readonly Server[])[];
  #monitor: LivenessMonitor | undefined;
  #active = 0;
  #events: OriginEvent[] = [];
  /** All only grow. */
  readonly counters = {
    chosen: 0,
    /** Chosen of a lower priority than the first, since none of the first could be. */
    failedOver: 0,
    lastResorts: 0,
    refused: 0,
    ejections: 0,
    ejectionsRefused: 0,
    breakersOpened: 0,
    checksFailed: 0,
    wentDown: 0,
    wentUp: 0,
  };

  /** @param offset any whole number: servers with another one begin with another server */
  constructor(settings: OriginGroupSettings, offset = 0) {
    this.#settings = settings;
    const { servers, breaker, outlier } = settings;
    this.#servers = servers.map((one, index) => ({
      index,
      settings: one,
      breaker: breaker === null ? undefined : new CircuitBreaker(breaker),
      window: new OutcomeWindow(outlier.windowMs),
      active: 0,
      credit: 0,
      failures: 0,
      unanswered: 0,
      ejectedUntil: undefined,
      ejection: undefined,
      ejections: 0,
      backAt: undefined,
    }));
    const levels = new Map<number, Server[]>();
    for (const server of this.#servers)
      levels.set(server.settings.priority, [...(levels.get(server.settings.priority) ?? []), server]);
    this.#levels = [...levels].sort(([a], [b]) => a - b).map(([, level]) => level);
    for (const level of this.#levels) {
      const first = level[Math.abs(offset) % level.length];
      // Less than any turn is worth: only the first choice depends on it.
      if (first !== undefined) first.credit = first.settings.weight / 1_000;
    }
  }

  get active(): number {
    return this.#active;
  }

  /**
   * Whom to ask. The first takes a turn; the others are for who could not have an answer of it. `isRepeatable`: it could be
   * asked elsewhere if it fails; other requests do not try a server whose breaker has just opened a door, unless there is none else.
   */
  order(now: MonotonicMs, isRepeatable: boolean): OriginOrder {
    this.#settle(now);
    const order =
      this.#active >= this.#settings.requestsMax
        ? REFUSED_WHOLE
        : (this.#ranked(now, isRepeatable) ??
          (isRepeatable ? undefined : this.#ranked(now, true)) ??
          this.#refusal(now));
    if (order.indexes.length === 0) this.counters.refused++;
    return order;
  }

  #ranked(now: MonotonicMs, isRepeatable: boolean): OriginOrder | undefined {
    const healthy: Server[][] = [];
    const unhealthy: Server[][] = [];
    for (const level of this.#levels) {
      const bars = level.map((server) => this.#barOf(server, now, isRepeatable));
      healthy.push(level.filter((_, at) => bars[at] === undefined));
      unhealthy.push(level.filter((_, at) => bars[at] === "check-failed" || bars[at] === "ejected"));
    }
    const isLastResort = healthy.every((level) => level.length === 0);
    const tiers = isLastResort ? unhealthy : healthy;
    const turn = tiers.findIndex((level) => level.length > 0);
    if (turn === -1) return undefined;
    this.counters.chosen++;
    if (isLastResort) this.counters.lastResorts++;
    // A level of drained servers alone has not failed.
    else if (this.#levels.slice(0, turn).some((level) => level.some((one) => one.settings.weight > 0)))
      this.counters.failedOver++;
    const ranked = tiers.flatMap((level, at) => (at === turn ? this.#turn(level, now) : byCredit(level)));
    const rest = isLastResort ? [] : unhealthy.flat();
    const indexes = [...ranked, ...rest].map(({ index }) => index);
    return { indexes, isLastResort, bars: [], retryAt: undefined };
  }

  #refusal(now: MonotonicMs): OriginOrder {
    const bars = this.#servers.flatMap((server) => this.#barOf(server, now, true) ?? []);
    const ends = this.#servers.flatMap(({ breaker }) => breaker?.openUntil(now) ?? []);
    const retryAt = ends.length === 0 ? undefined : (Math.min(...ends) as MonotonicMs);
    return { indexes: [], isLastResort: false, bars, retryAt };
  }

  /** A request goes to a server. Throws RangeError for an index that it does not have. */
  begin(index: number, now: MonotonicMs): OriginUse {
    const server = this.#at(index);
    server.active++;
    this.#active++;
    return { index, pass: server.breaker?.begin(now), isJudged: false, isEnded: false };
  }

  /** How it ended, or that its answer's head came. Further calls for the same use do nothing. */
  handleOutcome(use: OriginUse, outcome: OriginOutcome, now: MonotonicMs): void {
    if (use.isJudged) return;
    use.isJudged = true;
    const server = this.#at(use.index);
    const { breaker } = server;
    const isUnanswered = outcome === "unreachable" || outcome === "silent";
    if (breaker !== undefined && use.pass !== undefined) {
      const { opened, closed } = breaker.counters;
      if (outcome === "none") breaker.handleNothing(use.pass);
      else if (isUnanswered) breaker.handleFailure(use.pass, now);
      else breaker.handleSuccess(use.pass);
      if (breaker.counters.opened > opened) {
        this.counters.breakersOpened++;
        this.#emit("breaker-opened", server, outcome);
      }
      if (breaker.counters.closed > closed) {
        server.backAt = now;
        this.#emit("breaker-closed", server, "answered");
      }
    }
    if (outcome === "none") return;
    const isFailure = isUnanswered || outcome === "error-status";
    server.window.add(isFailure, now);
    server.failures = isFailure ? server.failures + 1 : 0;
    server.unanswered = isUnanswered ? server.unanswered + 1 : 0;
    if (isFailure) this.#judge(server, now);
  }

  /** An answer broke off after its head had come. */
  handleBroken(use: OriginUse, outcome: OriginOutcome, now: MonotonicMs): void {
    if (use.isEnded || (outcome !== "unreachable" && outcome !== "silent")) return;
    const server = this.#at(use.index);
    server.window.add(true, now);
    server.failures++;
    server.unanswered++;
    this.#judge(server, now);
  }

  /** Its answer has ended, or it never had one: nothing is learnt then. Further calls do nothing. */
  handleEnd(use: OriginUse): void {
    if (use.isEnded) return;
    use.isEnded = true;
    const server = this.#at(use.index);
    if (!use.isJudged && use.pass !== undefined) server.breaker?.handleNothing(use.pass);
    use.isJudged = true;
    server.active--;
    this.#active--;
  }

  /** Begins to check, if the settings have checks: nobody is down until checks said so. Does nothing while it checks. */
  startChecks(now: MonotonicMs): void {
    const { check } = this.#settings;
    if (check === null || this.#monitor !== undefined) return;
    this.#monitor = new LivenessMonitor(check);
    this.#monitor.setTargets(
      this.#servers.filter(({ settings }) => settings.weight > 0).map(({ index }) => ({ id: String(index) })),
      now,
    );
  }

  /** Ends the checks and forgets what they said. */
  stopChecks(): void {
    this.#monitor = undefined;
  }

  get isChecking(): boolean {
    return this.#monitor !== undefined;
  }

  /** A check to make now; its end goes to `handleCheck`. Call until undefined. */
  pollCheck(now: MonotonicMs): (LivenessProbe & { readonly index: number }) | undefined {
    const probe = this.#monitor?.pollTransmit(now);
    return probe && { ...probe, index: Number(probe.id) };
  }

  handleCheck(probeId: number, isOk: boolean, now: MonotonicMs): void {
    if (!isOk) this.counters.checksFailed++;
    this.#monitor?.handleProbeResult(probeId, isOk, now);
    this.#takeEvents();
  }

  /** Expires the checks that took too long. */
  handleTimeout(now: MonotonicMs): void {
    this.#monitor?.handleTimeout(now);
    this.#takeEvents();
  }

  /** When a check is due or expires; undefined: never. */
  pollTimeout(now: MonotonicMs): MonotonicMs | undefined {
    return this.#monitor?.pollTimeout(now);
  }

  /** The oldest event that was not taken. Call until undefined. */
  pollEvent(): OriginEvent | undefined {
    return this.#events.shift();
  }

  states(now: MonotonicMs): readonly OriginServerState[] {
    this.#settle(now);
    return this.#servers.map((server) => {
      const { settings, breaker, window } = server;
      const { requests, failures } = window.sums(now);
      const bar = this.#barOf(server, now, true);
      return {
        name: settings.name,
        protocol: settings.protocol,
        priority: settings.priority,
        weight: settings.weight,
        rampRatio: this.#ramp(server, now),
        bar,
        barredUntil:
          bar === "ejected"
            ? server.ejectedUntil
            : bar === "breaker-open"
              ? breaker?.openUntil(now)
              : undefined,
        check: this.#monitor?.stateOf(String(server.index)) ?? "off",
        breaker: breaker?.state(now) ?? "off",
        ejection: server.ejection,
        active: server.active,
        requestsMax: settings.requestsMax,
        recentRequests: requests,
        recentFailures: failures,
      };
    });
  }

  /** What others are told of why nobody can be asked: one clause for each server. */
  describe(now: MonotonicMs): string {
    return this.states(now)
      .map(({ name, bar, barredUntil }) => {
        const seconds = barredUntil === undefined ? "" : ` for ${((barredUntil - now) / 1_000).toFixed(1)} s`;
        return `${name} ${bar ?? "may be asked"}${seconds}`;
      })
      .join(", ");
  }

  #at(index: number): Server {
    const server = this.#servers[index];
    if (server === undefined)
      throw new RangeError(`The origin has ${this.#servers.length} servers, none at index ${index}`);
    return server;
  }

  /** Ejections that are over. */
  #settle(now: MonotonicMs): void {
    for (const server of this.#servers) {
      const { ejectedUntil } = server;
      if (ejectedUntil === undefined || now < ejectedUntil) continue;
      server.ejectedUntil = undefined;
      server.ejection = undefined;
      server.backAt = ejectedUntil;
      this.#emit("returned", server, "ejection-over");
    }
  }

  #barOf(server: Server, now: MonotonicMs, isRepeatable: boolean): OriginBar | undefined {
    const { settings, breaker } = server;
    if (settings.weight === 0) return "drained";
    if (breaker?.mayPass(now, isRepeatable) === false)
      return breaker.state(now) === "open" ? "breaker-open" : "breaker-trying";
    if (server.active >= settings.requestsMax) return "requests-max";
    if (this.#monitor?.isUp(String(server.index)) === false) return "check-failed";
    return server.ejectedUntil === undefined ? undefined : "ejected";
  }

  /** One turn of smooth weighted round robin: who has most credit pays what all were given. */
  #turn(level: readonly Server[], now: MonotonicMs): readonly Server[] {
    let total = 0;
    for (const server of level) {
      const weight = server.settings.weight * this.#ramp(server, now);
      server.credit += weight;
      total += weight;
    }
    const ranked = byCredit(level);
    if (ranked[0] !== undefined) ranked[0].credit -= total;
    return ranked;
  }

  #ramp({ backAt }: Server, now: MonotonicMs): number {
    const { slowStartMs } = this.#settings;
    if (backAt === undefined || slowStartMs === 0) return 1;
    return Math.min(1, Math.max(RAMP_MIN, (now - backAt) / slowStartMs));
  }

  /** Whether a server that has just failed a request is taken out. */
  #judge(server: Server, now: MonotonicMs): void {
    const { isEnabled, consecutiveErrors, errorRatio, requestsMin } = this.#settings.outlier;
    if (!isEnabled || server.ejectedUntil !== undefined) return;
    const { requests, failures } = server.window.sums(now);
    const isInRow =
      server.unanswered >= consecutiveErrors ||
      (server.failures >= consecutiveErrors && this.#isWorse(server, requests, failures, now));
    const isOften =
      requests >= requestsMin &&
      failures >= errorRatio * requests &&
      this.#isWorse(server, requests, failures, now);
    if (isInRow || isOften) this.#eject(server, isInRow ? "consecutive-errors" : "error-ratio", now);
  }

  /**
   * Whether it fails at least twice as often as the others. A URL that every server answers with an error would
   * otherwise take out one after the other. Nothing to compare with counts as worse: the others are reserves.
   */
  #isWorse(server: Server, requests: number, failures: number, now: MonotonicMs): boolean {
    let otherRequests = 0;
    let otherFailures = 0;
    for (const other of this.#servers) {
      if (other === server) continue;
      const sums = other.window.sums(now);
      otherRequests += sums.requests;
      otherFailures += sums.failures;
    }
    return otherRequests < COMPARABLE_MIN || failures * otherRequests >= 2 * otherFailures * requests;
  }

  #eject(server: Server, reason: EjectionReason, now: MonotonicMs): void {
    const { ejectedRatioMax, ejectionMs, ejectionMsMax } = this.#settings.outlier;
    const wanted = this.#servers.filter(({ settings }) => settings.weight > 0);
    const ejected = wanted.filter((one) => one.ejectedUntil !== undefined).length;
    const quota = ejectedRatioMax === 0 ? 0 : Math.max(1, Math.floor(ejectedRatioMax * wanted.length));
    const isAnyLeft = wanted.some((one) => {
      const isUsable = one.ejectedUntil === undefined && one.breaker?.state(now) !== "open";
      return one !== server && isUsable && this.#monitor?.isUp(String(one.index)) !== false;
    });
    // Judged again after as many errors more.
    server.failures = 0;
    server.unanswered = 0;
    if (ejected >= quota || !isAnyLeft) {
      this.counters.ejectionsRefused++;
      return;
    }
    const isRested = server.backAt === undefined || now - server.backAt > ejectionMsMax;
    server.ejections = isRested ? 1 : server.ejections + 1;
    server.ejectedUntil = plusMs(
      now,
      Math.min(ejectionMsMax, ejectionMs * 2 ** Math.min(server.ejections - 1, 30)),
    );
    server.ejection = reason;
    server.window.clear();
    this.counters.ejections++;
    this.#emit("ejected", server, reason);
  }

  #takeEvents(): void {
    const monitor = this.#monitor;
    if (monitor === undefined) return;
    for (let event = monitor.pollEvent(); event !== undefined; event = monitor.pollEvent()) {
      const server = this.#at(Number(event.id));
      if (event.state === "up") {
        server.backAt = event.at;
        // It was seen to be away and is back: what its requests had said is over too. A check that never failed ends no ejection.
        server.ejectedUntil = undefined;
        server.ejection = undefined;
        this.counters.wentUp++;
      } else this.counters.wentDown++;
      this.#emit(event.state, server, event.reason);
    }
  }

  #emit(type: OriginEvent["type"], server: Server, reason: string): void {
    if (this.#events.length >= EVENTS_MAX) this.#events.shift();
    this.#events.push({ type, server: server.settings.name, reason });
  }
}

const REFUSED_WHOLE: OriginOrder = {
  indexes: [],
  isLastResort: false,
  bars: "group-requests-max",
  retryAt: undefined,
};

/** Most credit first; ties by place in the document. */
function byCredit(level: readonly Server[]): readonly Server[] {
  return [...level].sort((a, b) => b.credit - a.credit || a.index - b.index);
}
