/**
 * Which of several mappers publishes: each asks control for the lease of the map, one is granted it, the others stand by with
 * maps of their own and ask again. The candidate's side of control/core/lease.ts. No two clocks are compared: a publisher
 * counts its lease from when it sent the request, on its own monotonic clock, and stops before control could have granted it to
 * another; should its clock stand still, its term gives it away.
 */
import { type MonotonicMs, plusMs } from "#kit";

export interface PublisherElectionSettings {
  /** How long a grant holds, ms: a dead publisher's place is free after so long. */
  readonly leaseMs: number;
  /** The publisher renews, and who stands by asks, this often, ms; a third of `leaseMs` at most, so that one lost request costs nothing. */
  readonly askIntervalMs: number;
  /** Without an answer a request is given up after this time, ms. */
  readonly askTimeoutMs: number;
}

export const publisherElectionDefaults: PublisherElectionSettings = {
  leaseMs: 4_000,
  askIntervalMs: 1_000,
  askTimeoutMs: 1_000,
};

export const electionStates = ["starting", "standby", "publisher", "drained"] as const;
/** `starting`: has no map of its own making to publish yet, and asks for nothing. */
export type ElectionState = (typeof electionStates)[number];

export const electionReasons = [
  "no-own-map",
  "not-asked-yet",
  "granted",
  "renewed",
  "held-by-another",
  "held-by-operator",
  "term-over",
  "newer-term-met",
  "control-silent",
  "fenced",
  "draining",
] as const;
/**
 * Why the state is what it is. `term-over`: control says that the term is another's. `newer-term-met`: a document or a server's
 * report has a term above it. `control-silent`: the lease ran out before it
 * could be renewed. `fenced`: control refused a map of this term.
 */
export type ElectionReason = (typeof electionReasons)[number];

/** To be sent to control; answered by `handleAnswer` or `handleUnanswered` with the same number. */
export interface ElectionRequest {
  readonly number: number;
  readonly action: "hold" | "release";
  readonly holderId: string;
  readonly term: number;
  readonly seenTerm: number;
  readonly durationMs: number;
}

/** What of control's answer matters here. */
export interface ElectionAnswer {
  readonly outcome: "granted" | "renewed" | "released" | "held" | "lost" | "shown";
  readonly term: number;
  readonly holderId: string | null;
  readonly remainingMs: number;
  readonly newest: { readonly term: number; readonly version: number } | null;
}

export type ElectionEvent =
  /** `versionFloor`: the newest version that control has; what is published has to be above it. */
  | { readonly type: "elected"; readonly term: number; readonly versionFloor: number }
  | { readonly type: "deposed"; readonly term: number; readonly reason: ElectionReason };

/** The one document that everyone reads. */
export const MAP_ID = "current";
/** Holds the place of the publisher while an operator's own map is to stay in force. */
export const OPERATOR_ID = "operator";

export class PublisherElection {
  readonly #holderId: string;
  readonly #settings: PublisherElectionSettings;
  #state: ElectionState = "starting";
  #reason: ElectionReason = "no-own-map";
  /** Of the newest grant to this mapper; 0: none, or it is over. */
  #term = 0;
  #seenTerm = 0;
  /** Who has it, as control said last. */
  #publisherId: string | null = null;
  #validUntil: MonotonicMs | undefined;
  #askAt: MonotonicMs | undefined;
  #inFlight: { readonly request: ElectionRequest; readonly sentAt: MonotonicMs } | undefined;
  #number = 0;
  /** A term that is to be given back; 0: none. */
  #releaseTerm = 0;
  #events: ElectionEvent[] = [];
  /** All only grow. */
  readonly counters = { asked: 0, unanswered: 0, elected: 0, deposed: 0 };

  /** Throws RangeError for settings under which one lost request would cost the place. */
  constructor(holderId: string, settings: Partial<PublisherElectionSettings> = {}) {
    this.#holderId = holderId;
    this.#settings = { ...publisherElectionDefaults, ...settings };
    const { leaseMs, askIntervalMs, askTimeoutMs } = this.#settings;
    if (!(askIntervalMs > 0 && askTimeoutMs > 0 && 2 * askIntervalMs + askTimeoutMs <= leaseMs))
      throw new RangeError(
        `Election settings need 2 * askIntervalMs + askTimeoutMs <= leaseMs, got ${askIntervalMs}, ${askTimeoutMs}, ${leaseMs}`,
      );
  }

  get state(): ElectionState {
    return this.#state;
  }
  get reason(): ElectionReason {
    return this.#reason;
  }
  /** The term to publish in; 0 unless this mapper is the publisher. */
  get term(): number {
    return this.#state === "publisher" ? this.#term : 0;
  }
  /** The newest term that was met anywhere. */
  get seenTerm(): number {
    return this.#seenTerm;
  }
  /** Who publishes, as far as is known; null: nobody. */
  get publisherId(): string | null {
    return this.#publisherId;
  }

  /** There is a map of this mapper's own making: from now on it may be elected. */
  handleReady(now: MonotonicMs): void {
    if (this.#state !== "starting") return;
    this.#become("standby", "not-asked-yet");
    this.#askAt = now;
  }

  /** A term that was met in a document or in a server's report: a control that was set up anew must go beyond it. */
  handleSeenTerm(term: number, now: MonotonicMs): void {
    if (term <= this.#seenTerm) return;
    this.#seenTerm = term;
    // Nodes go by a newer map than this publisher's (control was put back to an older copy): nothing of its term would be taken.
    if (this.#state !== "publisher" || term <= this.#term) return;
    this.#releaseTerm = this.#term;
    this.#lose("newer-term-met", now);
  }

  handleAnswer(number: number, answer: ElectionAnswer, now: MonotonicMs): void {
    const asked = this.#take(number);
    if (asked === undefined) return;
    this.#seenTerm = Math.max(this.#seenTerm, answer.term);
    this.#publisherId = answer.holderId;
    if (this.#state === "drained") return;
    const { leaseMs, askIntervalMs } = this.#settings;
    switch (answer.outcome) {
      case "granted":
      case "renewed": {
        if (asked.request.action !== "hold") return;
        if (answer.term < this.#seenTerm) {
          // Met while the answer was under way, or control was put back to an older copy that remembers this term.
          this.#releaseTerm = answer.term;
          this.#lose("newer-term-met", now);
          return;
        }
        this.#validUntil = plusMs(asked.sentAt, leaseMs);
        this.#askAt = plusMs(asked.sentAt, askIntervalMs);
        const isNew = this.#state !== "publisher" || this.#term !== answer.term;
        this.#term = answer.term;
        this.#become("publisher", answer.outcome);
        if (!isNew) return;
        this.counters.elected++;
        this.#events.push({
          type: "elected",
          term: answer.term,
          versionFloor: answer.newest?.version ?? 0,
        });
        return;
      }
      case "lost":
        this.#lose("term-over", now);
        return;
      case "held":
        this.#become("standby", answer.holderId === OPERATOR_ID ? "held-by-operator" : "held-by-another");
        this.#askAt = plusMs(now, Math.min(askIntervalMs, Math.max(1, answer.remainingMs)));
        return;
      case "released":
      case "shown":
        return;
      default:
        answer.outcome satisfies never;
    }
  }

  /** No answer came, or none that can be read. */
  handleUnanswered(number: number, now: MonotonicMs): void {
    const asked = this.#take(number);
    if (asked === undefined) return;
    this.counters.unanswered++;
    this.#askAt = plusMs(now, this.#settings.askIntervalMs);
  }

  /** Control refused a map of this term. */
  handleFenced(term: number, now: MonotonicMs): void {
    if (this.#state !== "publisher" || term !== this.#term) return;
    this.#releaseTerm = term;
    this.#lose("fenced", now);
  }

  /** The process ends: nothing is published any more, and the place is free as soon as control hears of it. */
  handleDrain(now: MonotonicMs): void {
    if (this.#state === "drained") return;
    this.#releaseTerm = this.#term;
    this.#inFlight = undefined;
    if (this.#state === "publisher") this.#depose("draining");
    this.#become("drained", "draining");
    this.#askAt = now;
  }

  /** Undefined: nothing is due until something is handled. */
  pollTimeout(): MonotonicMs | undefined {
    let dueAt = this.#state === "publisher" ? this.#validUntil : undefined;
    const askAt =
      this.#inFlight === undefined ? this.#askAt : plusMs(this.#inFlight.sentAt, this.#settings.askTimeoutMs);
    if (askAt !== undefined && (dueAt === undefined || askAt < dueAt)) dueAt = askAt;
    return dueAt;
  }

  handleTimeout(now: MonotonicMs): void {
    if (this.#inFlight !== undefined && now >= plusMs(this.#inFlight.sentAt, this.#settings.askTimeoutMs))
      this.handleUnanswered(this.#inFlight.request.number, now);
    if (this.#state !== "publisher" || this.#validUntil === undefined || now < this.#validUntil) return;
    // The term is kept: when nobody else has had it since, control renews it.
    this.#depose("control-silent");
    this.#become("standby", "control-silent");
    this.#publisherId = null;
  }

  /** The request to send now, if one is due. Call until undefined. */
  pollTransmit(now: MonotonicMs): ElectionRequest | undefined {
    if (this.#inFlight !== undefined || this.#askAt === undefined || now < this.#askAt) return undefined;
    if (this.#releaseTerm > 0) {
      const request = this.#request("release", this.#releaseTerm);
      this.#releaseTerm = 0;
      return request;
    }
    this.#askAt = undefined;
    if (this.#state === "starting" || this.#state === "drained") return undefined;
    const request = this.#request("hold", this.#term);
    this.#inFlight = { request, sentAt: now };
    return request;
  }

  /** What has happened, oldest first. Call until undefined. */
  pollEvent(): ElectionEvent | undefined {
    return this.#events.shift();
  }

  #request(action: ElectionRequest["action"], term: number): ElectionRequest {
    this.counters.asked++;
    return {
      number: ++this.#number,
      action,
      holderId: this.#holderId,
      term,
      seenTerm: this.#seenTerm,
      durationMs: this.#settings.leaseMs,
    };
  }

  #take(number: number): { readonly request: ElectionRequest; readonly sentAt: MonotonicMs } | undefined {
    const asked = this.#inFlight;
    if (asked?.request.number !== number) return undefined;
    this.#inFlight = undefined;
    return asked;
  }

  /** The term is over for good: a new one is asked for. */
  #lose(reason: ElectionReason, now: MonotonicMs): void {
    if (this.#state === "publisher") this.#depose(reason);
    this.#become("standby", reason);
    this.#term = 0;
    this.#inFlight = undefined;
    this.#askAt = now;
  }

  #depose(reason: ElectionReason): void {
    this.counters.deposed++;
    this.#events.push({ type: "deposed", term: this.#term, reason });
  }

  #become(state: ElectionState, reason: ElectionReason): void {
    this.#state = state;
    this.#reason = reason;
  }
}
