/** The ordered record of a run: its digest, its last notable lines, and whoever wants to read all of it. */
import { type MonotonicMs, xxh64 } from "#kit";

/** Lines kept for a report of a broken invariant. */
const LAST_MAX = 40;
/** Text hashed at once, characters; the digest is a chain, each link seeded by the one before. */
const CHUNK_CHARACTERS = 65_536;

export class Trace {
  #hash = 0n;
  #chunk = "";
  #lines = 0;
  readonly #last: string[] = [];
  readonly #sink: ((line: string) => void) | undefined;

  /** @param sink gets every notable line, in order */
  constructor(sink?: (line: string) => void) {
    this.#sink = sink;
  }

  /** An event that only counts for the digest. */
  event(at: MonotonicMs, owner: string, label: string): void {
    this.#lines++;
    this.#chunk += `${at} ${owner} ${label}\n`;
    if (this.#chunk.length >= CHUNK_CHARACTERS) this.#flush();
  }

  /** Something that a reader of the run wants to know. */
  note(at: MonotonicMs, owner: string, text: string): void {
    this.event(at, owner, text);
    const line = `${(at / 1_000).toFixed(3).padStart(9)} s  ${owner.padEnd(14)} ${text}`;
    this.#last.push(line);
    if (this.#last.length > LAST_MAX) this.#last.shift();
    this.#sink?.(line);
  }

  get lines(): number {
    return this.#lines;
  }
  get last(): readonly string[] {
    return this.#last;
  }

  /** xxh64 of everything so far, 16 hexadecimal digits. */
  digest(): string {
    this.#flush();
    return this.#hash.toString(16).padStart(16, "0");
  }

  #flush(): void {
    if (this.#chunk === "") return;
    this.#hash = xxh64(this.#chunk, this.#hash);
    this.#chunk = "";
  }
}
