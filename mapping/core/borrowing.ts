/**
 * What client networks borrow from each other, made anew now and then. At 444,000 networks that is twelve seconds of work: whoever can drives it in
 * steps between two maps, and the rows of before serve on meanwhile.
 */
import { allSteps, type MonotonicMs, type Steps } from "#kit";
import type { NetworkRows } from "./network-rows.ts";

/**
 * It is looked at this often, ms, and whenever the measured pairs have grown by so much; more networks than this make it rarer in
 * proportion, since it costs a second of CPU time for some thousand places.
 */
const INTERVAL_MS = 60_000;
const INTERVAL_NETWORKS = 50_000;
const GROWTH = 1.25;
/** Fewer networks take some tens of milliseconds: done at once, so that what was measured counts in the map that is made now. */
const STEPPED_NETWORKS = 1_000;

export interface BorrowingInput {
  readonly networks: number;
  /** Measured pairs that there are. */
  readonly pairs: number;
  /** A death waits for nothing: the rows of before serve as they are. */
  readonly isUrgent: boolean;
  readonly make: () => Steps<NetworkRows>;
}

interface Renewal {
  readonly steps: Steps<NetworkRows>;
  isTaken: boolean;
  rows: NetworkRows | undefined;
}

export class Borrowing {
  readonly #isInSteps: boolean;
  #rows: NetworkRows | undefined;
  /** When, and over how many measured pairs, it was last looked who may speak for whom. */
  #at = -Infinity;
  #pairs = 0;
  #renewal: Renewal | undefined;

  /** @param isInSteps whether somebody drives what `pollWork` gives; else it is done at once when it is due */
  constructor(isInSteps: boolean) {
    this.#isInSteps = isInSteps;
  }

  /** Of the newest map; undefined: networks, clusters or their places have changed since. */
  get rows(): NetworkRows | undefined {
    return this.#rows;
  }

  /** Networks, clusters or their places have changed. */
  forget(): void {
    this.#rows = undefined;
    this.#renewal = undefined;
  }

  /** For the map that is made now. */
  rowsAt({ networks, pairs, isUrgent, make }: BorrowingInput, now: MonotonicMs): NetworkRows {
    if (this.#rows !== undefined) {
      if (isUrgent) return this.#rows;
      if (this.#renewal?.rows !== undefined) {
        this.#rows = this.#renewal.rows;
        this.#renewal = undefined;
      }
      const intervalMs = INTERVAL_MS * Math.max(1, networks / INTERVAL_NETWORKS);
      const isDue = now - this.#at >= intervalMs || pairs > this.#pairs * GROWTH;
      if (!isDue || this.#renewal !== undefined) return this.#rows;
    }
    this.#at = now;
    this.#pairs = pairs;
    if (this.#rows === undefined || !this.#isInSteps || networks < STEPPED_NETWORKS) {
      this.#renewal = undefined;
      this.#rows = allSteps(make());
    } else this.#renewal = { steps: make(), isTaken: false, rows: undefined };
    return this.#rows;
  }

  /** Work that is to be driven beside everything else, once each time; its result counts in the next map. Undefined: there is none. */
  pollWork(): Steps<void> | undefined {
    const renewal = this.#renewal;
    if (renewal === undefined || renewal.isTaken) return undefined;
    renewal.isTaken = true;
    return this.#run(renewal);
  }

  *#run(renewal: Renewal): Steps<void> {
    try {
      while (this.#renewal === renewal) {
        const step = renewal.steps.next();
        if (step.done === true) {
          renewal.rows = step.value;
          return;
        }
        yield;
      }
    } finally {
      // Broken off: it is begun anew when it is due again.
      if (renewal.rows === undefined && this.#renewal === renewal) this.#renewal = undefined;
    }
  }
}
