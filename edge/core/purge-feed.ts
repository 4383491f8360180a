/**
 * Purges as they come over several streams of control at once, each in order and without gaps, so that the loss of a packet
 * on one connection delays nothing: whoever brings a purge first has it applied, the others repeat it. What a stream says
 * about another log than the one in force means nothing: after control was set up anew its numbers begin again, and an old
 * stream may still bring what was on its way. Sans-IO.
 */
import type { PurgeEntry } from "#kit";

export type FeedStep =
  /** The first log that was ever heard of, or one whose journal could not be begun: the journal begins here. */
  | { readonly do: "begin"; readonly logId: string; readonly floor: number }
  /** Numbers begin anew: all that is stored is to be forgotten, then the journal begins. */
  | { readonly do: "begin-anew"; readonly logId: string }
  /** Purges up to a number are not kept any more and were not heard: they may have meant anything. */
  | { readonly do: "lose"; readonly logId: string; readonly upTo: number; readonly applied: number };

export class PurgeFeed {
  #logId: string | undefined;
  /** Newest purge that was handed on. */
  #purgeSeq = 0;
  /** Of each stream, the log that it tells of. */
  readonly #logOf: (string | undefined)[];
  readonly #counters = { applied: 0, repeated: 0, otherLog: 0 };

  /** @param streams how many there are; they are named 0 to `streams - 1` */
  constructor(streams: number) {
    this.#logOf = Array.from({ length: streams }, () => undefined);
  }

  /** Purges handed on, heard again, and of a log that is not in force. */
  get counters(): Readonly<Record<"applied" | "repeated" | "otherLog", number>> {
    return this.#counters;
  }

  get purgeSeq(): number {
    return this.#purgeSeq;
  }

  /** What the journal tells at the start. */
  resume(logId: string, purgeSeq: number): void {
    this.#logId = logId;
    this.#purgeSeq = purgeSeq;
  }

  /**
   * A stream begins with everything that control keeps. The steps are to be carried out in order before anything else is taken,
   * each told to {@link handleDone}; after one that fails the rest is left for the next snapshot.
   * @param oldestPurgeSeq the oldest purge that control keeps, null: there never was one
   * @param isTrusted whether what is stored can be told by its numbers: all steps before succeeded
   */
  handleSnapshot(
    stream: number,
    logId: string,
    oldestPurgeSeq: number | null,
    isTrusted: boolean,
  ): readonly FeedStep[] {
    this.#logOf[stream] = logId;
    const isAnother = this.#logId !== undefined && this.#logId !== logId;
    const applied = isAnother ? 0 : this.#purgeSeq;
    const steps: FeedStep[] = [];
    if (isAnother) steps.push({ do: "begin-anew", logId });
    else if (this.#logId === undefined || !isTrusted) steps.push({ do: "begin", logId, floor: applied });
    const upTo = (oldestPurgeSeq ?? 0) - 1;
    if (upTo > applied) steps.push({ do: "lose", logId, upTo, applied });
    return steps;
  }

  /** A step has been carried out. */
  handleDone(step: FeedStep): void {
    this.#logId = step.logId;
    if (step.do === "begin-anew") this.#purgeSeq = 0;
    if (step.do === "lose") this.#purgeSeq = step.upTo;
  }

  /** `apply`: it is new. `repeat`: it was handed on before, and is to be acknowledged if it was not. */
  handlePurge(stream: number, entry: PurgeEntry): "apply" | "repeat" | "ignore" {
    if (this.#logOf[stream] !== this.#logId) {
      this.#counters.otherLog++;
      return "ignore";
    }
    if (entry.purgeSeq <= this.#purgeSeq) {
      this.#counters.repeated++;
      return "repeat";
    }
    this.#purgeSeq = entry.purgeSeq;
    this.#counters.applied++;
    return "apply";
  }

  /** A stream has told all that there was. True: of the log in force, so that every purge known to control was handed on. */
  handleSynced(stream: number, logId: string | undefined): boolean {
    if (logId !== undefined) this.#logOf[stream] = logId;
    return this.#logOf[stream] === this.#logId && this.#logId !== undefined;
  }
}
