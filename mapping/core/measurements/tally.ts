/** What became of the records of an input: how many were taken, and how many were skipped for which reason. */

/** One record that was skipped, for people. */
export interface SkippedRecord {
  readonly reason: string;
  /** Where it stands in its input: "line 12", "byte 4096". */
  readonly where: string;
  /** What was found and what was expected. */
  readonly why: string;
}

export interface ReadSummary {
  readonly taken: number;
  /** By reason; only reasons that occurred. */
  readonly skipped: Readonly<Record<string, number>>;
  /** The first few of each reason. */
  readonly examples: readonly SkippedRecord[];
}

/** Examples kept of each reason: enough to mend an input, and a hostile one cannot fill the memory. */
const EXAMPLES_MAX = 3;
const WHY_CHARACTERS_MAX = 300;

/** `R`: the closed list of reasons of one reader. */
export class ReadTally<R extends string> {
  #taken = 0;
  readonly #skipped = new Map<R, number>();
  readonly #examples: SkippedRecord[] = [];

  get taken(): number {
    return this.#taken;
  }

  /** Records skipped for `reason`, or for any. */
  skipped(reason?: R): number {
    if (reason !== undefined) return this.#skipped.get(reason) ?? 0;
    let sum = 0;
    for (const count of this.#skipped.values()) sum += count;
    return sum;
  }

  take(): void {
    this.#taken++;
  }

  skip(reason: R, where: string, why: string): void {
    const count = (this.#skipped.get(reason) ?? 0) + 1;
    this.#skipped.set(reason, count);
    if (count <= EXAMPLES_MAX) this.#examples.push({ reason, where, why: why.slice(0, WHY_CHARACTERS_MAX) });
  }

  summary(): ReadSummary {
    return { taken: this.#taken, skipped: Object.fromEntries(this.#skipped), examples: [...this.#examples] };
  }
}
