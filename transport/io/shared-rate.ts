/** Streams of bytes that share a rate: moves them, holds those whose customer has had its part (`core/fair-shares.ts`), and lets them go on. */
import type { Duplex } from "node:stream";
import type { Clock } from "#kit";
import { FairShares } from "../core/fair-shares.ts";

/** Bytes that move one way. */
export type SharedStream = {
  /** Moves what was read already. */
  readonly take: (chunk: Buffer) => void;
  /** Reads on where nothing stands against it. */
  readonly goOn: () => void;
  /** It has ended. */
  readonly end: () => void;
};

export class SharedRate {
  readonly #clock: Clock;
  readonly #shares: FairShares;
  /** What lets a stream go on that its share holds. */
  readonly #held = new Map<number, () => void>();
  #lastStream = 0;
  #timer: NodeJS.Timeout | undefined;

  /** Throws RangeError unless the rate is above 0; Infinity: nobody ever waits. */
  constructor(bytesPerSecond: number, clock: Clock) {
    this.#shares = new FairShares(bytesPerSecond);
    this.#clock = clock;
  }

  /** Times that a stream waited for its share. */
  get heldBack(): number {
    return this.#shares.counters.held;
  }

  /** Moves what is read of `from` to `to` by `write`. Reading waits for who cannot take more, and for the customer's share. */
  move(
    from: Duplex,
    to: Duplex,
    customer: string,
    onBytes: (bytes: number) => void,
    write = (chunk: Buffer): boolean => to.write(chunk),
  ): SharedStream {
    const stream = ++this.#lastStream;
    let isBlocked = false;
    let isHeld = false;
    const goOn = (): void => {
      if (!isBlocked && !isHeld) from.resume();
    };
    const take = (chunk: Buffer): void => {
      onBytes(chunk.length);
      isBlocked = !write(chunk);
      isHeld = !this.#shares.charge(stream, customer, chunk.length, this.#clock.monotonic());
      if (isBlocked || isHeld) from.pause();
      if (!isHeld) return;
      this.#held.set(stream, () => {
        isHeld = false;
        goOn();
      });
      this.#release();
    };
    from.on("data", take);
    to.on("drain", () => {
      isBlocked = false;
      goOn();
    });
    const end = (): void => {
      this.#held.delete(stream);
      this.#shares.handleEnd(stream, customer);
      if (this.#shares.waiting > 0) this.#release();
    };
    return { take, goOn, end };
  }

  /** Lets go on whoever's turn it is, and sets one timer for the rest. */
  #release(): void {
    clearTimeout(this.#timer);
    const now = this.#clock.monotonic();
    for (let next = this.#shares.pollResume(now); next !== undefined; next = this.#shares.pollResume(now)) {
      const goOn = this.#held.get(next);
      this.#held.delete(next);
      goOn?.();
    }
    const at = this.#shares.pollTimeout(now);
    if (at !== undefined)
      this.#timer = setTimeout(() => this.#release(), Math.max(1, Math.ceil(at - now))).unref();
  }
}
