/** What a run counts: how often each thing happened, by reason. A state that never occurred has shown nothing. */

export class Statistics {
  readonly #counts = new Map<string, number>();
  readonly #timesMs: number[] = [];

  count(group: string, reason: string, by = 1): void {
    const key = `${group}/${reason}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + by);
  }
  time(ms: number): void {
    this.#timesMs.push(ms);
  }

  of(group: string, reason: string): number {
    return this.#counts.get(`${group}/${reason}`) ?? 0;
  }
  /** Reasons of a group with their counts, by name. */
  group(group: string): Readonly<Record<string, number>> {
    const entries = [...this.#counts]
      .filter(([key]) => key.startsWith(`${group}/`))
      .map(([key, count]) => [key.slice(group.length + 1), count] as const);
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
  }
  /** Response times of answered requests, ms, sorted. */
  get timesMs(): readonly number[] {
    return this.#timesMs.slice().sort((a, b) => a - b);
  }
}
