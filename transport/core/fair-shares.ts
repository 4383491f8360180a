/**
 * Shares a rate of bytes among customers: however many streams one of them has, it gets no more than another one that
 * wants as much, and what somebody leaves the others have. Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over
 * customers, their streams in turn, behind one bucket of tokens.
 */
import { type MonotonicMs, plusMs } from "#kit";

/** What a stream may read when it is let go on, before it is asked again, bytes: what a socket hands over at once. */
const QUANTUM_BYTES = 65_536;
/** What the bucket holds, as time at the full rate: pauses of the process shorter than that cost nothing. */
const BURST_MS = 100;

type Share = {
  /** Bytes that it has had, in the virtual time of all. */
  service: number;
  /** Streams that wait, longest first. */
  readonly waiting: number[];
};

export class FairShares {
  readonly #bytesPerMs: number;
  readonly #burstBytes: number;
  #tokens: number;
  #at: MonotonicMs | undefined;
  /** Service of the customer that was let go on last: who comes new begins there, and cannot save up. */
  #virtual = 0;
  readonly #shares = new Map<string, Share>();
  /** Bytes that streams were let go on with and have not read. */
  readonly #prepaid = new Map<number, number>();
  #waiting = 0;
  /** All only grow. */
  readonly counters = { held: 0 };

  /** Throws RangeError unless the rate is above 0; Infinity: nobody ever waits. */
  constructor(bytesPerSecond: number) {
    if (!(bytesPerSecond > 0)) throw new RangeError(`A rate of bytes must be above 0, got ${bytesPerSecond}`);
    this.#bytesPerMs = bytesPerSecond / 1_000;
    this.#burstBytes = Math.max(QUANTUM_BYTES, this.#bytesPerMs * BURST_MS);
    this.#tokens = this.#burstBytes;
  }

  /** A stream has read `bytes`. False: it must read no more until `pollResume` names it. */
  charge(stream: number, customer: string, bytes: number, now: MonotonicMs): boolean {
    if (this.#bytesPerMs === Infinity) return true;
    this.#refill(now);
    const share = this.#shareOf(customer);
    share.service = Math.max(share.service, this.#virtual) + bytes;
    const prepaid = this.#prepaid.get(stream) ?? 0;
    this.#prepaid.delete(stream);
    this.#tokens -= bytes - prepaid;
    if (this.#tokens >= 0 && this.#waiting === 0) return true;
    share.waiting.push(stream);
    this.#waiting++;
    this.counters.held++;
    return false;
  }

  /** A stream that may go on now. Call until undefined. */
  pollResume(now: MonotonicMs): number | undefined {
    this.#refill(now);
    if (this.#waiting === 0 || this.#tokens < 0) return undefined;
    let least: Share | undefined;
    // Of equals the one that has been there longest: the order of the map.
    for (const share of this.#shares.values())
      if (share.waiting.length > 0 && (least === undefined || share.service < least.service)) least = share;
    const stream = least?.waiting.shift();
    if (least === undefined || stream === undefined) return undefined;
    this.#waiting--;
    this.#virtual = Math.max(this.#virtual, least.service);
    this.#tokens -= QUANTUM_BYTES;
    this.#prepaid.set(stream, QUANTUM_BYTES);
    return stream;
  }

  /** When a stream may go on; undefined: none waits. */
  pollTimeout(now: MonotonicMs): MonotonicMs | undefined {
    if (this.#waiting === 0) return undefined;
    this.#refill(now);
    return plusMs(now, Math.max(0, -this.#tokens / this.#bytesPerMs));
  }

  /** A stream has ended; what it was let go on with and did not read goes to the others. */
  handleEnd(stream: number, customer: string): void {
    this.#tokens = Math.min(this.#burstBytes, this.#tokens + (this.#prepaid.get(stream) ?? 0));
    this.#prepaid.delete(stream);
    const waiting = this.#shares.get(customer)?.waiting;
    const at = waiting?.indexOf(stream) ?? -1;
    if (at === -1) return;
    waiting?.splice(at, 1);
    this.#waiting--;
  }

  /** Streams that wait. */
  get waiting(): number {
    return this.#waiting;
  }

  #shareOf(customer: string): Share {
    const known = this.#shares.get(customer);
    if (known !== undefined) return known;
    // Whoever waits for nothing and has no more than a new one would begin with is forgotten.
    if (this.#shares.size >= 1_000)
      for (const [name, share] of this.#shares)
        if (share.waiting.length === 0 && share.service <= this.#virtual) this.#shares.delete(name);
    const share: Share = { service: this.#virtual, waiting: [] };
    this.#shares.set(customer, share);
    return share;
  }

  #refill(now: MonotonicMs): void {
    if (this.#at !== undefined && now > this.#at)
      this.#tokens = Math.min(this.#burstBytes, this.#tokens + (now - this.#at) * this.#bytesPerMs);
    if (this.#at === undefined || now > this.#at) this.#at = now;
  }
}
