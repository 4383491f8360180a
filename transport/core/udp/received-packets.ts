/** Which packets came: the replay window, and what is to be acknowledged and when (RFC 9000, section 13.2). */
import { type MonotonicMs, plusMs } from "#kit";
import type { Ack } from "./packet.ts";
import { Ranges } from "./ranges.ts";
import {
  ACK_DELAY_MS_MAX,
  ACK_DELAY_UNIT_MS,
  ACK_PACKETS_MAX,
  ACK_RANGES_MAX,
  RECEIVED_RANGES_MAX,
} from "./words.ts";

/** Counts on the wire have 30 bits. */
const RESTORED_MODULO = 2 ** 30;
const DELAY_UNITS_MAX = 2 ** 30 - 1;
/** Of a longer range the newest part is told: what lies before was acknowledged long ago. */
const RANGE_PACKETS_MAX = 1 << 16;

export class ReceivedPackets {
  readonly #ranges = new Ranges();
  /** Below it every number counts as one that came. */
  #floor = 0;
  #largest = -1;
  #largestAt: MonotonicMs;
  #restored = 0;
  /** Packets that ask for an acknowledgement and have none yet. */
  #unacknowledged = 0;
  #isUrgent = false;
  #dueAt: MonotonicMs | undefined;

  constructor(now: MonotonicMs) {
    this.#largestAt = now;
  }

  get largest(): number {
    return this.#largest;
  }

  has(number: number): boolean {
    return number < this.#floor || this.#ranges.has(number);
  }

  /** A packet that is authentic and has not come before. */
  handleReceived(number: number, isEliciting: boolean, now: MonotonicMs): void {
    const isNext = number === this.#largest + 1;
    this.#remember(number);
    if (number > this.#largest) {
      this.#largest = number;
      this.#largestAt = now;
    }
    if (!isEliciting) return;
    this.#unacknowledged++;
    // A gap begins or closes: the sender is to know at once.
    if (!isNext) this.#isUrgent = true;
    this.#dueAt ??= plusMs(now, ACK_DELAY_MS_MAX);
  }

  /** A packet that was lost and restored: acknowledged, and counted. */
  handleRestored(number: number): void {
    this.#remember(number);
    this.#restored = (this.#restored + 1) % RESTORED_MODULO;
    this.#isUrgent = true;
    this.#unacknowledged++;
  }

  /** Whether there is anything that an acknowledgement would tell. */
  get hasNews(): boolean {
    return this.#unacknowledged > 0;
  }

  isAckDue(now: MonotonicMs): boolean {
    return (
      this.#unacknowledged >= ACK_PACKETS_MAX ||
      (this.#unacknowledged > 0 && this.#isUrgent) ||
      (this.#dueAt !== undefined && now >= this.#dueAt)
    );
  }

  /** When {@link isAckDue} becomes true, if nothing else comes. */
  pollTimeout(now: MonotonicMs): MonotonicMs | undefined {
    return this.isAckDue(now) ? now : this.#dueAt;
  }

  /** The acknowledgement that is sent now, of so many ranges at most. */
  takeAck(now: MonotonicMs, rangesMax: number): Ack {
    this.#unacknowledged = 0;
    this.#isUrgent = false;
    this.#dueAt = undefined;
    const ranges: number[] = [];
    const last = Math.max(0, this.#ranges.count - Math.min(rangesMax, ACK_RANGES_MAX));
    for (let index = this.#ranges.count - 1; index >= last; index--) {
      const to = this.#ranges.to(index);
      ranges.push(Math.max(this.#ranges.from(index), to - RANGE_PACKETS_MAX), to);
    }
    const delayUnits = Math.min(DELAY_UNITS_MAX, Math.round((now - this.#largestAt) / ACK_DELAY_UNIT_MS));
    return { ranges, delayUnits, restored: this.#restored };
  }

  #remember(number: number): void {
    this.#ranges.add(number, number + 1);
    if (this.#ranges.count <= RECEIVED_RANGES_MAX) return;
    this.#floor = this.#ranges.to(0);
    this.#ranges.dropFirst();
  }
}
