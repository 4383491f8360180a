/**
 * Where the other side is, and whether that is known: RFC 9000, sections 8 and 9. An address is validated by an answer to a challenge, or before, by the
 * name of the connection: 64 random bits that were told to that address over TLS. Until then three times what came from it is sent there.
 */
import { type MonotonicMs, plusMs } from "#kit";
import { AMPLIFICATION_MAX, CHALLENGE_BYTES } from "./words.ts";

/** Challenges without an answer, each a probe timeout after the other, after which the address before is used again. */
const CHALLENGES_MAX = 3;

interface Place {
  readonly remote: string;
  isValidated: boolean;
  receivedBytes: number;
  sentBytes: number;
}

const placeOf = (remote: string, isValidated: boolean): Place => ({
  remote,
  isValidated,
  receivedBytes: 0,
  sentBytes: 0,
});

export class PathValidation {
  readonly #unpredictable: () => Uint8Array;
  #place: Place;
  #before: Place | undefined;
  #challenge: Uint8Array | undefined;
  #challenges = 0;
  #challengeAt: MonotonicMs | undefined;

  /** `unpredictable`: CHALLENGE_BYTES that nobody can guess. */
  constructor(remote: string, isValidated: boolean, unpredictable: () => Uint8Array, now: MonotonicMs) {
    this.#unpredictable = unpredictable;
    this.#place = placeOf(remote, isValidated);
    if (!isValidated) this.#ask(now);
  }

  get remote(): string {
    return this.#place.remote;
  }
  get isValidated(): boolean {
    return this.#place.isValidated;
  }

  /** Whether so many bytes may be sent. */
  maySend(bytes: number): boolean {
    const { isValidated, sentBytes, receivedBytes } = this.#place;
    return isValidated || sentBytes + bytes <= AMPLIFICATION_MAX * receivedBytes;
  }

  handleSent(bytes: number): void {
    this.#place.sentBytes += bytes;
  }

  /** An authentic packet. Whether the other side has moved: `isNewest` tells that none with a higher number came from elsewhere. */
  handleReceived(remote: string, bytes: number, isNewest: boolean, now: MonotonicMs): boolean {
    if (remote === this.#place.remote) {
      this.#place.receivedBytes += bytes;
      return false;
    }
    if (!isNewest) return false;
    const left = this.#place;
    const isBack = this.#before?.remote === remote;
    this.#place = isBack ? (this.#before as Place) : placeOf(remote, false);
    this.#place.receivedBytes += bytes;
    if (left.isValidated) this.#before = left;
    if (this.#place.isValidated) this.#challenge = undefined;
    else this.#ask(now);
    return true;
  }

  /** The challenge that is to be sent now. */
  takeChallenge(probeTimeoutMs: number, now: MonotonicMs): Uint8Array | undefined {
    if (this.#challenge === undefined || now < (this.#challengeAt as MonotonicMs)) return undefined;
    this.#challenges++;
    this.#challengeAt = plusMs(now, probeTimeoutMs);
    return this.#challenge;
  }

  handleResponse(bytes: Uint8Array): void {
    const challenge = this.#challenge;
    if (challenge === undefined) return;
    for (let at = 0; at < CHALLENGE_BYTES; at++) if (bytes[at] !== challenge[at]) return;
    this.#challenge = undefined;
    this.#place.isValidated = true;
  }

  /** Whether the address was given up for the one before. */
  handleTimeout(now: MonotonicMs): boolean {
    if (this.#challenge === undefined || this.#challenges < CHALLENGES_MAX) return false;
    if (now < (this.#challengeAt as MonotonicMs) || this.#before === undefined) return false;
    this.#place = this.#before;
    this.#before = undefined;
    this.#challenge = undefined;
    return true;
  }

  /** When a challenge, or {@link handleTimeout}, is due. */
  pollTimeout(): MonotonicMs | undefined {
    return this.#challenge === undefined ? undefined : this.#challengeAt;
  }

  #ask(now: MonotonicMs): void {
    this.#challenge = this.#unpredictable();
    this.#challenges = 0;
    this.#challengeAt = now;
  }
}
