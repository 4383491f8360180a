/** Waiting for a place at the next hop: the clock, the timer and the promises of the overload machine. */
import { type Clock, IsochroneError } from "#kit";
import { OriginUnavailableError, type StopSignal } from "#transport";
import type { EdgeSettings } from "../config.ts";
import type { AnswerKind } from "../core/overload/cohort.ts";
import {
  type ForwardOffer,
  OverloadControl,
  type OverloadSettings,
  type Shed,
} from "../core/overload/overload-control.ts";
import type { EdgeMetrics } from "./metrics.ts";

/** A request was shed; `code` is the reason. Answered with 503 and Retry-After, or with what is stale. */
export class ShedError extends IsochroneError {
  readonly retryAfterSeconds: number;
  constructor(hopName: string, { reason, retryAfterSeconds }: Shed) {
    super(`Did not ask ${JSON.stringify(hopName)}: shed (${reason}); come again in ${retryAfterSeconds} s`, {
      code: reason,
      source: "internal",
      retry: "never",
    });
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** When to come again, where nobody was asked; undefined: somebody was. */
export function retryAfterOf(error: unknown): number | undefined {
  const isRefusal = error instanceof ShedError || error instanceof OriginUnavailableError;
  return isRefusal ? error.retryAfterSeconds : undefined;
}

/** A request's place at the next hop. Each must end by `end` or `fail`; what comes after that is ignored. */
export interface Place {
  /** The answer's head came. */
  head(kind: AnswerKind): void;
  /** The answer has ended, or nobody reads on. */
  end(): void;
  /** Head and end at once: all of the answer came. */
  answered(kind: AnswerKind): void;
  /** All who waited for the answer have left, and the request goes on. */
  desert(): void;
  /** No answer. `mayStillWork`: the next hop has the request and may not notice. */
  fail(kind: AnswerKind, mayStillWork: boolean): void;
}

class HeldPlace implements Place {
  readonly #id: number;
  readonly #control: OverloadControl;
  readonly #clock: Clock;
  readonly #settle: () => void;

  constructor(id: number, control: OverloadControl, clock: Clock, settle: () => void) {
    this.#id = id;
    this.#control = control;
    this.#clock = clock;
    this.#settle = settle;
  }

  head(kind: AnswerKind): void {
    this.#control.handleHead(this.#id, kind, this.#clock.monotonic());
    this.#settle();
  }
  end(): void {
    this.#control.handleEnd(this.#id, this.#clock.monotonic());
    this.#settle();
  }
  answered(kind: AnswerKind): void {
    this.#control.handleAnswer(this.#id, kind, this.#clock.monotonic());
    this.#settle();
  }
  desert(): void {
    this.#control.handleDesertion(this.#id, this.#clock.monotonic());
    this.#settle();
  }
  fail(kind: AnswerKind, mayStillWork: boolean): void {
    this.#control.handleFailure(this.#id, kind, mayStillWork, this.#clock.monotonic());
    this.#settle();
  }
}

/** Time between two looks at how late the event loop is, ms. */
const LOOK_MS = 20;

interface Waiter {
  readonly resolve: (place: Place) => void;
  readonly reject: (error: IsochroneError) => void;
  readonly hopName: string;
}

export class OverloadGate {
  readonly #control: OverloadControl;
  readonly #clock: Clock;
  readonly #waiters = new Map<number, Waiter>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  /** Whether somebody has asked since the last look at the loop; undefined: nobody looks. */
  #wasAsked: boolean | undefined;

  readonly #metrics: EdgeMetrics;

  /** `random`: uniform in [0, 1), for the jitter of Retry-After. `forwardsMaxOf`: what a property's document states, for a server. */
  constructor(
    settings: EdgeSettings,
    clock: Clock,
    metrics: EdgeMetrics,
    random: () => number,
    forwardsMaxOf: (property: string) => number | null,
  ) {
    this.#clock = clock;
    this.#metrics = metrics;
    const phaseMs = clock.epoch() - clock.monotonic();
    this.#control = new OverloadControl(overloadSettings(settings, forwardsMaxOf), random, phaseMs);
  }

  /** The machine, for gauges and explain. */
  get control(): OverloadControl {
    return this.#control;
  }

  /**
   * A place, at once where there is one. Throws ShedError, or rejects with it after a short wait; rejects with an "aborted"
   * IsochroneError when `signal` fires before.
   */
  admit(offer: ForwardOffer, hopName: string, signal: StopSignal | undefined): Place | Promise<Place> {
    if (this.#wasAsked === undefined) this.#look();
    this.#wasAsked = true;
    const verdict = this.#control.offer(offer, this.#clock.monotonic());
    if (verdict.kind === "shed") throw this.#shed(hopName, verdict);
    this.#arm();
    return verdict.kind === "admitted" ? this.#placeOf(verdict.id) : this.#wait(verdict.id, hopName, signal);
  }

  /** Measures how late timers come, as long as requests are offered or on their way: an idle process is not woken. */
  #look(): void {
    const due = this.#clock.monotonic() + LOOK_MS;
    const before = process.threadCpuUsage();
    const act = (): void => {
      const now = this.#clock.monotonic();
      const { user, system } = process.threadCpuUsage(before);
      const workMs = (user + system) / 1_000;
      this.#control.loopDelay.handleLook({ delayMs: Math.max(0, now - due), workMs }, now);
      const isIdle =
        this.#wasAsked === false && this.#control.active === 0 && this.#control.loopDelay.share === 0;
      this.#wasAsked = isIdle ? undefined : false;
      if (!isIdle) this.#look();
    };
    setTimeout(act, LOOK_MS).unref();
  }

  #wait(id: number, hopName: string, signal: StopSignal | undefined): Promise<Place> {
    const { promise, resolve, reject } = Promise.withResolvers<Place>();
    const onAbort = (): void => {
      if (!this.#waiters.delete(id)) return;
      this.#control.handleCancel(id, this.#clock.monotonic());
      this.#settle();
      reject(
        new IsochroneError(`Did not ask ${JSON.stringify(hopName)}: the client has gone while it waited`, {
          code: "aborted",
          source: "downstream",
          retry: "never",
        }),
      );
    };
    this.#waiters.set(id, {
      hopName,
      resolve: (place) => {
        signal?.removeEventListener("abort", onAbort);
        resolve(place);
      },
      reject: (error) => {
        signal?.removeEventListener("abort", onAbort);
        reject(error);
      },
    });
    signal?.addEventListener("abort", onAbort, { once: true });
    return promise;
  }

  #shed(hopName: string, shed: Shed): ShedError {
    this.#metrics.shed(shed.reason);
    return new ShedError(hopName, shed);
  }

  #placeOf(id: number): Place {
    return new HeldPlace(id, this.#control, this.#clock, this.#settle);
  }

  /** Tells those who waited, and sets the timer. */
  readonly #settle = (): void => {
    for (let event = this.#control.pollEvent(); event !== undefined; event = this.#control.pollEvent()) {
      const waiter = this.#waiters.get(event.id);
      if (waiter === undefined) continue;
      this.#waiters.delete(event.id);
      if (event.shed === undefined) waiter.resolve(this.#placeOf(event.id));
      else waiter.reject(this.#shed(waiter.hopName, event.shed));
    }
    this.#arm();
  };

  /** A timer that is early does no harm: it is set again. So most changes leave it alone. */
  #arm(): void {
    const next = this.#control.pollTimeout();
    if (next === undefined || next >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = next;
    this.#timer = setTimeout(
      () => {
        this.#timerAt = Number.POSITIVE_INFINITY;
        this.#control.handleTimeout(this.#clock.monotonic());
        this.#settle();
      },
      Math.max(1, Math.ceil(next - this.#clock.monotonic())),
    );
    // What waits is a connection, and that keeps the process.
    this.#timer.unref();
  }
}

/** Reads each maximum when it is asked for: workers divide them among those that live. */
function overloadSettings(
  settings: EdgeSettings,
  forwardsMaxOf: (property: string) => number | null,
): OverloadSettings {
  return {
    get serverMax() {
      return settings.forwardsMax;
    },
    propertyMaxOf: (property) => {
      const stated = forwardsMaxOf(property) ?? Number.POSITIVE_INFINITY;
      return Math.min(settings.propertyForwardsMax, Math.ceil(stated * settings.serverShare));
    },
    get limitMax() {
      return Math.max(settings.hopForwardsMax, settings.hopForwardsMin);
    },
    get limitInitial() {
      return settings.hopForwardsInitial;
    },
    get burstMax() {
      return settings.hopBurst;
    },
    get queueMax() {
      return settings.hopQueueMax;
    },
    limitMin: settings.hopForwardsMin,
    loopDelayTargetMs: settings.loopDelayTargetMs,
    queueDelayMs: settings.queueDelayMs,
    queueDelayBurstMs: settings.queueDelayBurstMs,
    allowanceMs: settings.originWaitMs,
    probeIntervalMs: settings.originProbeIntervalMs,
    retryAfterSecondsMax: settings.retryAfterSecondsMax,
  };
}

/** What a status says about the origin's load. */
export function kindOfStatus(status: number): AnswerKind {
  if (status === 503 || status === 429) return "rejected";
  if (status === 502 || status === 504) return "failed";
  return status >= 500 ? "neutral" : "good";
}

/** Failures after which the next hop may go on with the request. */
const STILL_AT_WORK: ReadonlySet<string> = new Set([
  "aborted",
  "client-gone",
  "headers-timeout",
  "path-failed",
  "server-down",
]);
/** Failures that say nothing about load: not asked, or answered with what is no HTTP. */
const NOT_OF_LOAD: ReadonlySet<string> = new Set([
  "bad-request",
  "bad-response",
  "address-not-permitted",
  "unknown-server",
  "closed",
  "pool-full",
]);

/** What a failure without an answer says, and whether the next hop may still work on it. */
export function kindOfFailure(code: string): { readonly kind: AnswerKind; readonly mayStillWork: boolean } {
  const kind =
    code === "aborted" || code === "client-gone" ? "abandoned" : NOT_OF_LOAD.has(code) ? "neutral" : "failed";
  return { kind, mayStillWork: STILL_AT_WORK.has(code) };
}
