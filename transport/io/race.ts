/**
 * One request until its answer: sent over the path in use, once more over another when it is late and a second attempt pays
 * (core/hedge-policy.ts), over several at once when nobody knows which path is well, again when an attempt failed and asking again is
 * safe. The first usable answer wins, and the others are given up together with their connections.
 */
import { type ClusterId, IsochroneError, type MonotonicMs } from "#kit";
import type { Logger } from "#kit/io";
import type { TransportSettings } from "../config.ts";
import type { PathChoice } from "../core/path-words.ts";
import { requestClassOf } from "../core/request-class.ts";
import { SEGMENT_BYTES } from "../core/segment-filling.ts";
import { ExchangeError, type ExchangeHead, isSafeMethod, whenBroken } from "./exchange.ts";
import type { TransportRequest, UsedPath } from "./face.ts";
import { Stop, type StopSignal } from "./stop-signal.ts";
import type { Attempt, Progress, Target } from "./target.ts";

export type RaceParts = {
  readonly settings: TransportSettings;
  readonly logger: Logger;
  readonly now: () => MonotonicMs;
  readonly send: (
    to: Target,
    via: ClusterId | null,
    request: TransportRequest,
    signal: StopSignal,
    /** It is not the first attempt. */
    isRepeat: boolean,
  ) => Promise<ExchangeHead>;
  /** Learns from a failed attempt. */
  readonly onFailure: (to: Target, via: ClusterId | null, error: ExchangeError) => void;
  /** A path lost so many races that it is left. */
  readonly onRacesLost: (to: Target, via: ClusterId | null) => void;
  readonly onAnswered: (to: Target, result: RaceResult) => void;
  /** All only grow. */
  readonly counters: { retries: number };
};

export type RaceResult = {
  readonly head: ExchangeHead;
  readonly path: UsedPath;
  readonly attempts: number;
  readonly progress: Progress;
};

type Try = {
  readonly choice: PathChoice;
  /** When it was sent, as far as the caller's wait is concerned. */
  readonly sentAt: MonotonicMs;
  readonly stop: Stop;
  readonly progress: Progress;
  /** Has come, and is held back. */
  head: ExchangeHead | undefined;
};

/** Whether what is given up is asked for again, and that is out of the budget by now: who gives up takes it. */
type Repeat = "refused" | "paid" | "not-needed";

/** A body of at most so many bytes counts when all of it has come: it fits into the stream's buffer with room to spare. */
const WHOLE_BYTES_MAX = 48 * 1024;
/** A short answer that is all on its way comes together; what needs another round trip takes about one. */
const REST_ROUND_TRIPS = 0.75;
/**
 * A segment that is lost with three or more behind it is sent again as soon as their acknowledgements are there (RFC 5681 section 3.2);
 * with fewer it waits for a timer (RFC 8985).
 */
const TAIL_BYTES_MAX = 3 * SEGMENT_BYTES;
/** How often a late attempt is looked at again, one delay apart. */
const LOOKS_MAX = 30;
/** Between two of them so many times whether it has proved lost meanwhile, which costs nothing. */
const GLANCES = 3;
/**
 * From this look on a silent path is worth a repeat out of the budget of repeats, when that of second attempts is used up; at once when
 * others have found it out of use.
 */
const RESCUE_LOOK = 3;

/** `avoid`: a path that just failed it, which makes it a repeat. Throws what the last attempt failed with. */
export function race(
  parts: RaceParts,
  to: Target,
  request: TransportRequest,
  avoid: ClusterId | null | undefined,
): Promise<RaceResult> {
  return new Promise((resolve, reject) => new Race(parts, to, request, resolve, reject).start(avoid));
}

class Race {
  readonly #parts: RaceParts;
  readonly #to: Target;
  readonly #request: TransportRequest;
  readonly #resolve: (result: RaceResult) => void;
  readonly #reject: (error: unknown) => void;
  readonly #requestClass;
  /** Small and idempotent: RFC 9110 section 9.2.2. */
  readonly #mayHedge: boolean;
  readonly #open: Try[] = [];
  readonly #tried: (ClusterId | null)[] = [];
  readonly #startedAt: MonotonicMs;
  #attempts = 0;
  #looks = 0;
  #glances = 0;
  #timer: NodeJS.Timeout | undefined;
  #isDone = false;

  constructor(
    parts: RaceParts,
    to: Target,
    request: TransportRequest,
    resolve: (result: RaceResult) => void,
    reject: (error: unknown) => void,
  ) {
    this.#parts = parts;
    this.#to = to;
    this.#request = request;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#startedAt = parts.now();
    this.#requestClass = requestClassOf(request.headers);
    this.#mayHedge =
      this.#requestClass === "small" && request.body === undefined && isSafeMethod(request.method);
  }

  start(avoid: ClusterId | null | undefined): void {
    const to = this.#to;
    const now = this.#parts.now();
    if (avoid === undefined) {
      to.budget.handleFirstTry(now);
      to.hedges.handleFirstTry(now);
    } else this.#tried.push(avoid);
    const choice =
      (avoid !== undefined && to.chooser?.alternative(this.#tried, now, this.#requestClass)) ||
      to.choose(this.#requestClass);
    this.#send(choice);
    if (!this.#mayHedge) return;
    for (const via of to.chooser?.racers(now) ?? [])
      if (!this.#tried.includes(via) && to.hedges.take(choice.via, now, now))
        this.#send({ via, reason: "race" });
    this.#look(choice.via);
  }

  #send(choice: PathChoice): void {
    const { via } = choice;
    const stop = new Stop();
    const one: Try = {
      choice,
      sentAt: this.#parts.now(),
      stop,
      progress: track(this.#parts, this.#to, via, this.#request, stop, () => this.#takeRepeat(one)),
      head: undefined,
    };
    this.#attempts++;
    this.#tried.push(via);
    this.#open.push(one);
    this.#parts.send(this.#to, via, this.#request, stop, this.#attempts > 1).then(
      (head) => this.#handleHead(one, head),
      (error: unknown) => this.#handleError(one, error),
    );
  }

  /**
   * For an attempt that is about to be given up. A path that dies has many waiting: each takes its repeat before the next looks whether
   * there is one, and those that get none wait on, since the path may come back.
   */
  #takeRepeat(one: Try): Repeat {
    const { settings, now } = this.#parts;
    const { hedges, budget } = this.#to;
    if (!this.#isDone && this.#open.length > 1) return "not-needed";
    if (!this.#isDone && this.#attempts >= settings.attemptsMax) return "refused";
    return hedges.isLost(one.choice.via, one.sentAt, one.sentAt) || budget.take(now()) ? "paid" : "refused";
  }

  #handleHead(one: Try, head: ExchangeHead): void {
    if (this.#isDone) {
      discard(head);
      return;
    }
    one.progress.handleBytes();
    if (head.status === 408 && this.#mayAskAgain()) {
      one.progress.end();
      this.#open.splice(this.#open.indexOf(one), 1);
      discard(head);
      if (this.#open.length === 0) this.#sendAgain("408");
      return;
    }
    one.head = head;
    // What a failing server says is an answer only when nobody has a better one.
    if (head.status >= 500 && this.#open.length > 1) {
      if (this.#open.every((other) => other.head !== undefined)) this.#finish(one);
      return;
    }
    if (!this.#mayHedge || this.#timer === undefined || head.isWhole() || !isShort(head)) {
      this.#finish(one);
      return;
    }
    head.onWhole(() => this.#finish(one));
    whenBroken(head.body, (error) => this.#handleError(one, error));
  }

  #handleError(one: Try, error: unknown): void {
    const { settings, now } = this.#parts;
    const at = this.#open.indexOf(one);
    if (at < 0) return;
    one.progress.end();
    this.#open.splice(at, 1);
    if (this.#isDone) return;
    const to = this.#to;
    if (error instanceof ExchangeError) this.#parts.onFailure(to, one.choice.via, error);
    if (this.#open.length > 0) {
      const kept = this.#open.find((other) => other.head !== undefined);
      if (kept && this.#open.every((other) => other.head !== undefined)) this.#finish(kept);
      return;
    }
    const isPaid = one.progress.isRepeatPaid() || this.#isFree(error);
    const isLast = this.#attempts >= settings.attemptsMax && !this.#mayGoOn(error);
    if (!this.#isRepeatable(error) || isLast || !(isPaid || to.budget.take(now()))) {
      this.#isDone = true;
      clearTimeout(this.#timer);
      this.#reject(error);
      return;
    }
    this.#sendAgain(error instanceof ExchangeError ? error.code : "");
  }

  #sendAgain(code: string): void {
    const { logger, counters, now } = this.#parts;
    const to = this.#to;
    counters.retries++;
    // Where every path was tried a fresh connection on the best may still do: the old one had been closed by the peer.
    const choice =
      to.chooser?.alternative(this.#tried, now(), this.#requestClass) ?? to.choose(this.#requestClass);
    logger.debug("request-retried", { target: to.key, via: choice.via, code, attempts: this.#attempts });
    this.#send(choice);
  }

  /** After 408: the other end had lost patience with an idle connection before the request was there (RFC 9110 section 15.5.9). */
  #mayAskAgain(): boolean {
    const { settings, now } = this.#parts;
    const { method, signal } = this.#request;
    if (!isSafeMethod(method) || !this.#isReplayable() || signal?.aborted) return false;
    return this.#open.length > 1 || (this.#attempts < settings.attemptsMax && this.#to.budget.take(now()));
  }

  /** A stream is sent once. */
  #isReplayable(): boolean {
    const { body } = this.#request;
    return body === undefined || body instanceof Uint8Array;
  }

  /**
   * What reached nobody loads nobody when it is asked over another path, so the budget is not for it (as gRPC's transparent retries,
   * gRFC A6). With one path alone a dead target would be dialled three times by everybody.
   */
  #isFree(error: unknown): boolean {
    return (
      error instanceof ExchangeError && error.stage === "waiting" && (this.#to.chooser?.pathCount ?? 1) > 1
    );
  }

  /** Silence met every attempt to connect, though a path is well: each was tried in a cut of its own. For the time that a connection may take. */
  #mayGoOn(error: unknown): boolean {
    const { settings, now } = this.#parts;
    return (
      this.#isFree(error) &&
      (error as ExchangeError).code === "connect-timeout" &&
      !this.#to.isFailedEverywhere &&
      now() - this.#startedAt < settings.connectTimeoutMs
    );
  }

  #isRepeatable(error: unknown): boolean {
    const { signal } = this.#request;
    return (
      error instanceof ExchangeError &&
      error.retry === "safe" &&
      this.#isReplayable() &&
      // A silent server is slow, not gone: asking again would double its load.
      error.code !== "headers-timeout" &&
      error.code !== "pool-full" &&
      error.code !== "address-not-permitted" &&
      // Every path leads to the same silent server; the caller knows other servers.
      error.code !== "server-down" &&
      !signal?.aborted
    );
  }

  /** Looks again when an answer over `via` would be late. */
  #look(via: ClusterId | null): void {
    const { hedges } = this.#to;
    // Before enough was answered, when a body would be.
    const delayMs = hedges.delayMs(via) ?? (hedges.isOn ? this.#to.silenceLimits(via)?.silentMs : undefined);
    if (delayMs === undefined || this.#isDone || this.#looks >= LOOKS_MAX) return;
    const share = this.#looks === 0 ? 1 : 1 / (1 + GLANCES);
    this.#timer = setTimeout(() => this.#handleLate(via), Math.round(share * delayMs));
  }

  #handleLate(via: ClusterId | null): void {
    if (this.#isDone) return;
    const isGlance = this.#looks > 0 && this.#glances < GLANCES;
    if (isGlance) this.#glances++;
    else {
      this.#looks++;
      this.#glances = 0;
    }
    const first = this.#open[0];
    if (first !== undefined && this.#mayAsk(first, isGlance)) {
      const other = this.#to.chooser?.alternative(this.#tried, this.#parts.now());
      this.#send({ via: other === undefined ? first.choice.via : other.via, reason: "race" });
    } else if (!isGlance && (this.#open.length === 1 || this.#looks >= RESCUE_LOOK)) {
      // Better an early head, where nobody else is asked for it. Of several the one that began last: the others have waited for longer.
      const begun = this.#open.findLast(({ head }) => head !== undefined && head.status < 500);
      if (begun) {
        this.#finish(begun);
        return;
      }
    }
    this.#look(via);
  }

  #mayAsk(first: Try, isGlance: boolean): boolean {
    const { now, settings, counters } = this.#parts;
    const { hedges, budget, chooser } = this.#to;
    if (this.#attempts >= settings.attemptsMax) return false;
    const hasOther = chooser?.alternative(this.#tried, now()) !== undefined;
    // A third attempt needs a path that was not asked yet, and nothing that came so far.
    if (this.#open.length > 1) {
      if (this.#open.some(({ head }) => head !== undefined) || this.#looks < RESCUE_LOOK) return false;
      if (!hasOther) return false;
    }
    const {
      head,
      choice: { via },
      sentAt,
    } = first;
    const delayMs = hedges.delayMs(via);
    // Silent for as long as an answer takes: others may have come over the path since this one was sent, and none comes any more.
    const since = (now() - (delayMs ?? 0)) as MonotonicMs;
    const isOut = chooser?.isOut(via) === true;
    const isLost = head === undefined && hasOther && hedges.isLost(via, sentAt, since);
    if (isLost) {
      counters.retries++;
      return true;
    }
    if (isGlance) return false;
    const isTaken = hedges.take(via, since, now(), this.#repairsItself(first) ? "low" : "usual");
    if (!isOut && delayMs !== undefined && hedges.isDead(via, since)) this.#parts.onRacesLost(this.#to, via);
    if (isTaken) return true;
    const isRescue =
      (this.#looks >= RESCUE_LOOK || isOut) &&
      head === undefined &&
      hasOther &&
      hedges.isSilentSince(via, since) &&
      budget.take(now());
    if (isRescue) counters.retries++;
    return isRescue;
  }

  /** Of a body that came in part so much is missing that more has arrived behind the gap: its sender hears of the loss at once. */
  #repairsItself({ head, choice }: Try): boolean {
    // Of TLS, which links and relays speak too, whole records are seen alone.
    if (head?.protocol !== "http/1.1" || choice.via !== null || this.#to.endpoint.isTls) return false;
    return (statedLength(head) ?? 0) - head.body.readableLength > TAIL_BYTES_MAX;
  }

  #finish(one: Try): void {
    if (this.#isDone || one.head === undefined) return;
    this.#isDone = true;
    clearTimeout(this.#timer);
    const { hedges } = this.#to;
    const { now, onRacesLost } = this.#parts;
    const { head, progress, choice } = one;
    if (this.#mayHedge && head.status < 500) {
      const answered = (): void => {
        const answerMs = Math.max(0, now() - one.sentAt - head.connectMs);
        // A window that holds less than the answer shows in a rest that comes a round trip after its head.
        const restMs = answerMs - head.ttfbMs;
        head.handleTiming(
          answerMs > (hedges.delayMs(choice.via) ?? Infinity) ||
            restMs > REST_ROUND_TRIPS * (this.#to.roundTripMs(choice.via) ?? Infinity),
        );
        hedges.handleAnswer(choice.via, answerMs, one.sentAt);
      };
      if (head.isWhole() || !isShort(head)) answered();
      else head.onWhole(answered);
    }
    if (choice.reason === "race") hedges.handleWon();
    const losers = this.#open.filter((other) => other !== one);
    this.#open.length = 0;
    for (const other of losers) {
      other.progress.end();
      const isFirst = other.sentAt < one.sentAt;
      if (isFirst && !hedges.isSilentSince(other.choice.via, other.sentAt))
        hedges.handleAnswer(other.choice.via, now() - other.sentAt, other.sentAt);
      if (isFirst && other.choice.via !== choice.via && hedges.handleLost(other.choice.via, other.sentAt))
        onRacesLost(this.#to, other.choice.via);
      if (other.head) discard(other.head);
      other.stop.abort(
        new IsochroneError("Given up: another attempt was answered first", {
          code: "race-lost",
          source: "internal",
          retry: "never",
        }),
      );
    }
    const result: RaceResult = { head, path: choice, attempts: this.#attempts, progress };
    this.#parts.onAnswered(this.#to, result);
    this.#resolve(result);
  }
}

/** A body whose length is stated and so short that it is better waited for than handed on. */
function isShort(head: ExchangeHead): boolean {
  return (statedLength(head) ?? Infinity) <= WHOLE_BYTES_MAX;
}

/** Of up to six digits: what is longer is long for whoever asks here. */
function statedLength({ headers }: ExchangeHead): number | undefined {
  const length = headers.find(([name]) => name.toLowerCase() === "content-length")?.[1];
  return length !== undefined && /^[0-9]{1,6}$/.test(length) ? Number(length) : undefined;
}

function discard(head: ExchangeHead): void {
  head.body.on("error", () => {});
  head.body.destroy();
}

/** Lets an attempt be given up by the caller's signal or by the failure of its path. */
function track(
  parts: Pick<RaceParts, "now">,
  to: Target,
  via: ClusterId | null,
  request: TransportRequest,
  stop: Stop,
  takeRepeat: () => Repeat,
): Progress {
  let isRepeatPaid = false;
  const onAbort = (): void => stop.abort(request.signal?.reason);
  if (request.signal?.aborted) onAbort();
  else request.signal?.addEventListener("abort", onAbort, { once: true });
  const attempt: Attempt = {
    via,
    requestClass: requestClassOf(request.headers),
    place: -1,
    lastProgressMs: undefined,
    giveUp: (why, code) => {
      // What cannot be asked again keeps its chance: the path may come back.
      if (stop.aborted || !isSafeMethod(request.method)) return;
      if (code === "path-failed") {
        const repeat = takeRepeat();
        if (repeat === "refused") return;
        isRepeatPaid = repeat === "paid";
      }
      stop.abort(new IsochroneError(`Given up: ${why}`, { code, source: "upstream", retry: "safe" }));
    },
  };
  to.track(attempt);
  return {
    handleBytes: () => {
      attempt.lastProgressMs = performance.now();
      to.hedges.handleHeard(via, parts.now());
    },
    isRepeatPaid: () => isRepeatPaid,
    settle: () => to.untrack(attempt),
    end: () => {
      to.untrack(attempt);
      request.signal?.removeEventListener("abort", onAbort);
    },
  };
}
