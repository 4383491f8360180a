/**
 * What the newest answers of an origin took, and how many there were with them, by their medians: the mean is ruled by the one slow page in
 * ten, which comes late however little is asked.
 */

/** An odd number, so that the median is one of them. */
const ANSWERS = 15;

export class NewestAnswers {
  readonly #latenciesMs: number[] = [];
  readonly #inFlight: number[] = [];
  #next = 0;
  #medianMs: number | undefined;

  /** One came, after so many ms, that was sent when there were so many. */
  handle(latencyMs: number, inFlight: number): void {
    this.#latenciesMs[this.#next] = latencyMs;
    this.#inFlight[this.#next] = inFlight;
    this.#next = (this.#next + 1) % ANSWERS;
    this.#medianMs = undefined;
  }

  /** ms; undefined before the first. */
  get latencyMs(): number | undefined {
    this.#medianMs ??= medianOf(this.#latenciesMs);
    return this.#medianMs;
  }
  /** 0 before the first. */
  get inFlight(): number {
    return medianOf(this.#inFlight) ?? 0;
  }

  clear(): void {
    this.#latenciesMs.length = 0;
    this.#inFlight.length = 0;
    this.#next = 0;
    this.#medianMs = undefined;
  }
}

function medianOf(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}
