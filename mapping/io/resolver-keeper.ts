/** Which clients stand behind which resolver, on the disk: read at the start, written every minute and at the end. Learning it anew takes a week. */
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "#kit";
import { type Logger, readFileIfThere, writeFileDurable } from "#kit/io";
import { keptResolverLines, type ResolverTable, restoreResolvers } from "../core/resolver-pairs.ts";

const NAME = "resolvers.ndjson";
const SAVE_MS = 60_000;
/** A million pairs, the most that there are, are 30 MB. */
const FILE_BYTES_MAX = 128 * 1024 * 1024;
/** Resolvers that are written before others have their turn: a millisecond or two. */
const STEP_RESOLVERS = 16;

export class ResolverKeeper {
  readonly #table: ResolverTable;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  #saving: Promise<void> | undefined;
  #savedPairs = 0;
  /** All only grow. */
  readonly counters = { resolversRestored: 0, refused: 0, saved: 0, saveFailures: 0 };

  constructor(options: {
    readonly table: ResolverTable;
    readonly stateDirectory: string;
    readonly clock: Clock;
    readonly logger: Logger;
  }) {
    this.#table = options.table;
    this.#path = join(options.stateDirectory, NAME);
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /** What was kept is there, or nothing: a file that is refused is put aside under another name. Never rejects. */
  async start(): Promise<void> {
    try {
      const file = readFileIfThere(this.#path, FILE_BYTES_MAX);
      if (file !== undefined) {
        const text = new TextDecoder("utf-8", { fatal: true }).decode(file);
        this.counters.resolversRestored = restoreResolvers(this.#table, text, this.#clock.epoch());
        this.#savedPairs = this.#table.counters.pairs;
      }
    } catch (error) {
      this.counters.refused++;
      this.#logger.error("resolvers-refused", { path: this.#path, putAside: `${this.#path}.refused`, error });
      await rename(this.#path, `${this.#path}.refused`).catch(() => {});
    }
    this.#timer = setInterval(() => void this.save(), SAVE_MS);
  }

  /** Resolves when what is there now is on the disk, or that has failed and was counted; nothing new is not written again. */
  save(): Promise<void> {
    return (this.#saving ??= this.#save().finally(() => (this.#saving = undefined)));
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#saving;
    await this.save();
  }

  async #save(): Promise<void> {
    const { pairs } = this.#table.counters;
    if (pairs === this.#savedPairs) return;
    try {
      const lines: string[] = [];
      for (const line of keptResolverLines(this.#table, this.#clock.epoch()))
        if (lines.push(line) % STEP_RESOLVERS === 0) await nextTurn();
      await writeFileDurable(this.#path, Buffer.from(`${lines.join("\n")}\n`));
      this.#savedPairs = pairs;
      this.counters.saved++;
    } catch (error) {
      this.counters.saveFailures++;
      this.#logger.error("resolvers-not-kept", { path: this.#path, error });
    }
  }
}
