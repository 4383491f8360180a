/**
 * Whether an origin's answers come later when it is asked more at a time: an experiment that nobody had to make. The number on its
 * way varies by itself; answers that wait for each other come the later the more there were with them (Little's law), those of
 * an origin that simply takes so long come alike.
 */

/** Newest good answers that are looked at. */
const ANSWERS = 24;
/** So many times as many at a time show whether it matters, and below so much of what waiting would cost it is chance. */
const SPREAD = 1.5;
const SHARE = 0.3;

interface Answer {
  readonly inFlight: number;
  readonly latencyMs: number;
}

export class LoadResponse {
  readonly #answers: Answer[] = [];
  #next = 0;

  /** A good answer: requests at the origin when it was asked for, this one included, and what it took, ms. */
  handleGood(inFlight: number, latencyMs: number): void {
    this.#answers[this.#next] = { inFlight, latencyMs };
    this.#next = (this.#next + 1) % ANSWERS;
  }

  /** What the newest answers took whatever their number, ms, their median; undefined: it depends, or it does not show. */
  flatMs(): number | undefined {
    if (this.#answers.length < ANSWERS) return undefined;
    const sorted = this.#answers.toSorted((a, b) => a.inFlight - b.inFlight);
    const third = ANSWERS / 3;
    const few = summaryOf(sorted.slice(0, third));
    const many = summaryOf(sorted.slice(-third));
    if (many.inFlight < SPREAD * few.inFlight) return undefined;
    const modelMs = (1 - few.inFlight / many.inFlight) * many.latencyMs;
    return many.latencyMs - few.latencyMs < SHARE * modelMs ? summaryOf(sorted).latencyMs : undefined;
  }
}

/** Means of the numbers, median of the latencies. */
function summaryOf(answers: readonly Answer[]): Answer {
  const latencies = answers.map(({ latencyMs }) => latencyMs).sort((a, b) => a - b);
  return {
    inFlight: answers.reduce((sum, { inFlight }) => sum + inFlight, 0) / answers.length,
    latencyMs: latencies[latencies.length >> 1] ?? 0,
  };
}
