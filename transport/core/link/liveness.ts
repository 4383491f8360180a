/** Whether the other side is there, and how far away: pings when it is silent, and their round trips. */
import { type MonotonicMs, plusMs } from "#kit";
import type { LinkLimits } from "./words.ts";

/** Weight of a new round trip (RFC 6298, section 2.3). */
const RTT_WEIGHT = 1 / 8;

export class Liveness {
  readonly #limits: Pick<LinkLimits, "busyPingMs" | "idlePingMs" | "silenceMs">;
  #heardAt: MonotonicMs;
  /** Of the last ping. */
  #pingAt: MonotonicMs;
  #pingNumber = 0;
  /** No answer to it has come. */
  #isAsking = true;
  #rttMs: number | undefined;

  /** The first ping leaves with the first frame. */
  constructor(limits: Pick<LinkLimits, "busyPingMs" | "idlePingMs" | "silenceMs">, now: MonotonicMs) {
    this.#limits = limits;
    this.#heardAt = now;
    this.#pingAt = now;
  }

  get heardAt(): MonotonicMs {
    return this.#heardAt;
  }
  /** Undefined: not measured. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }
  /** Since when a ping is unanswered, and nothing else came; undefined: none is. */
  get askingSince(): MonotonicMs | undefined {
    return this.#isAsking && this.#heardAt <= this.#pingAt ? this.#pingAt : undefined;
  }
  /** What the ping that is due, or under way, has in it. */
  get pingNumber(): number {
    return this.#pingNumber;
  }

  handleHeard(now: MonotonicMs): void {
    this.#heardAt = now;
  }

  /** An answer to an older ping says nothing. */
  handlePong(number: number, now: MonotonicMs): void {
    if (!this.#isAsking || number !== this.#pingNumber) return;
    this.#isAsking = false;
    const sampleMs = now - this.#pingAt;
    this.#rttMs = this.#rttMs === undefined ? sampleMs : this.#rttMs + RTT_WEIGHT * (sampleMs - this.#rttMs);
  }

  /** `ping`: one with a new number is to be sent; `silent`: the other side is gone. */
  handleTimeout(hasStreams: boolean, now: MonotonicMs): "ping" | "silent" | undefined {
    if (now < this.pollTimeout(hasStreams)) return undefined;
    if (this.#isAsking && now >= this.#silentAt) return "silent";
    this.#isAsking = true;
    this.#pingAt = now;
    this.#pingNumber = (this.#pingNumber + 1) >>> 0;
    return "ping";
  }

  pollTimeout(hasStreams: boolean): MonotonicMs {
    const { busyPingMs, idlePingMs } = this.#limits;
    // What came after the ping shows that it was there then: silence since, in which an answer had time, is asked about anew.
    if (this.#isAsking)
      return hasStreams && this.#heardAt > this.#pingAt
        ? plusMs(this.#heardAt, Math.max(busyPingMs, 2 * (this.#rttMs ?? 0)))
        : this.#silentAt;
    const busy = plusMs(this.#heardAt, busyPingMs);
    const idle = plusMs(this.#pingAt, idlePingMs);
    return hasStreams && busy < idle ? busy : idle;
  }

  /** Whatever comes shows that it is there: an answer may lie behind much else. */
  get #silentAt(): MonotonicMs {
    return plusMs(this.#heardAt > this.#pingAt ? this.#heardAt : this.#pingAt, this.#limits.silenceMs);
  }
}
