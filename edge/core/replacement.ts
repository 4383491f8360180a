/**
 * One program version taking over from another, as the running one sees it: it starts the next, lends it the listening
 * sockets, and goes only when that one has said that it serves. Until then it can always go on as if nothing had been
 * asked. Sans-IO: who drives it starts and ends processes as the returned actions say.
 *
 *   serving --request--> starting --ready--> draining
 *              ^             | ends, is late, or this process is told to stop
 *              +-------------+ (roll-back)
 */

export type ReplacementState = "serving" | "starting" | "draining";

/** Why a replacement is not begun. */
export type RefusalReason = "in-progress" | "draining";
/** Why the running program goes on. */
export type RollBackReason = "ended-before-ready" | "not-ready-in-time" | "stopped-meanwhile";

export type ReplacementAction =
  | { readonly action: "start" }
  | { readonly action: "refuse"; readonly reason: RefusalReason }
  /** End the successor, if it still lives; the sockets were never let go. */
  | { readonly action: "roll-back"; readonly reason: RollBackReason }
  /** The successor serves: let go of the disk, stop accepting, drain, end. */
  | { readonly action: "drain" }
  | { readonly action: "none" };

const NONE: ReplacementAction = { action: "none" };

export class Replacement {
  readonly #readyWithinMs: number;
  #state: ReplacementState = "serving";
  #deadlineMs = Number.POSITIVE_INFINITY;

  /** `readyWithinMs`: from the start of the successor until it must serve. */
  constructor(readyWithinMs: number) {
    this.#readyWithinMs = readyWithinMs;
  }

  get state(): ReplacementState {
    return this.#state;
  }

  /** Somebody asks for it. `now` in ms of a monotonic clock. */
  handleRequest(now: number): ReplacementAction {
    if (this.#state === "starting") return { action: "refuse", reason: "in-progress" };
    if (this.#state === "draining") return { action: "refuse", reason: "draining" };
    this.#state = "starting";
    this.#deadlineMs = now + this.#readyWithinMs;
    return { action: "start" };
  }

  /** The successor says that it serves. Too late, it changes nothing: it has been told to end. */
  handleReady(): ReplacementAction {
    if (this.#state !== "starting") return NONE;
    this.#state = "draining";
    this.#deadlineMs = Number.POSITIVE_INFINITY;
    return { action: "drain" };
  }

  /** The successor's process has ended, or could not be started. */
  handleSuccessorEnd(): ReplacementAction {
    return this.#state === "starting" ? this.#rollBack("ended-before-ready") : NONE;
  }

  /** This process was told to end by a signal: both go, the old one by its own drain. */
  handleStop(): ReplacementAction {
    const wasStarting = this.#state === "starting";
    this.#state = "draining";
    this.#deadlineMs = Number.POSITIVE_INFINITY;
    return wasStarting ? { action: "roll-back", reason: "stopped-meanwhile" } : NONE;
  }

  handleTimeout(now: number): ReplacementAction {
    return this.#state === "starting" && now >= this.#deadlineMs ? this.#rollBack("not-ready-in-time") : NONE;
  }

  /** When {@link handleTimeout} has something to do; Infinity: never. */
  pollTimeout(): number {
    return this.#deadlineMs;
  }

  #rollBack(reason: RollBackReason): ReplacementAction {
    this.#state = "serving";
    this.#deadlineMs = Number.POSITIVE_INFINITY;
    return { action: "roll-back", reason };
  }
}
