/**
 * Whether a neighbour speaks the link protocol, as its handshakes have shown: who does not is asked again later and later, since it may be
 * replaced by a newer one, and is asked over HTTP meanwhile.
 */
import { type MonotonicMs, plusMs } from "#kit";

/** `unknown`: no handshake has ended yet. */
export const linkStates = ["unknown", "spoken", "refused"] as const;
export type LinkState = (typeof linkStates)[number];

/** From a refusal to the next question, ms: doubled with each refusal, up to the second. A restart with a newer version takes seconds. */
const PAUSE_MS = 10_000;
const PAUSE_MS_MAX = 600_000;
/** Handshakes that broke off, one after the other, that are a refusal: a single one is a server that goes. */
const BROKEN_MAX = 3;

export class LinkAgreement {
  #state: LinkState = "unknown";
  #pauseMs = PAUSE_MS;
  #askAt = -Infinity;
  #refusals = 0;
  #broken = 0;

  get state(): LinkState {
    return this.#state;
  }
  /** Handshakes that showed that it speaks something else. */
  get refusals(): number {
    return this.#refusals;
  }

  /** Whether a session may be asked for now. */
  mayAsk(now: MonotonicMs): boolean {
    return now >= this.#askAt;
  }

  /** A session is open. */
  handleSpoken(): void {
    this.#state = "spoken";
    this.#broken = 0;
    this.#pauseMs = PAUSE_MS;
    this.#askAt = -Infinity;
  }

  /** It closed the connection in the midst of the handshake. */
  handleBroken(now: MonotonicMs): void {
    if (++this.#broken >= BROKEN_MAX) this.handleRefused(now);
  }

  /** It took the connection and answered in another protocol, or with another key. */
  handleRefused(now: MonotonicMs): void {
    this.#state = "refused";
    this.#broken = 0;
    this.#refusals++;
    this.#askAt = plusMs(now, this.#pauseMs);
    this.#pauseMs = Math.min(2 * this.#pauseMs, PAUSE_MS_MAX);
  }
}
