/** What a process has learnt, as one file: read at the start, written every now and then and at the end, refused whole. */
import { rename } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import { type Logger, readFileIfThere, writeFileDurable } from "#kit/io";

export interface KeptFileOptions<Restored extends Readonly<Record<string, number>>> {
  /** What it holds: begins the names of log lines. */
  readonly name: string;
  readonly path: string;
  readonly bytesMax: number;
  /** From one file to the next, ms: what a process that is killed loses at most, and the time of writing. */
  readonly saveMs: number;
  /** Takes what the file holds and tells what that was; throws for what is not to be taken. */
  readonly restore: (file: Uint8Array) => Restored;
  /** What `restore` tells of no file. */
  readonly nothing: Restored;
  /** Only grows, with all that is worth writing. */
  readonly learnt: () => number;
  readonly pieces: () => Iterable<Uint8Array>;
  /** Pieces that are made before others have their turn: a millisecond or two. */
  readonly stepPieces: number;
  readonly logger: Logger;
}

export class KeptFile<Restored extends Readonly<Record<string, number>>> {
  readonly #options: KeptFileOptions<Restored>;
  #timer: NodeJS.Timeout | undefined;
  #saving: Promise<void> | undefined;
  #saved = 0;
  #problem: string | undefined;
  #bytes = 0;
  readonly #counts = { saved: 0, saveFailures: 0, refused: 0 };
  #restored: Restored;

  constructor(options: KeptFileOptions<Restored>) {
    this.#options = options;
    this.#restored = options.nothing;
  }

  /** All only grow. */
  get counters(): Readonly<Record<"saved" | "saveFailures" | "refused", number>> & Restored {
    return { ...this.#counts, ...this.#restored };
  }

  /** Why the file at the start was refused. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** How much was learnt that a kill would lose now. */
  get unsaved(): number {
    return this.#options.learnt() - this.#saved;
  }

  /** Of the newest file. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What was kept is there, or nothing: a file that is refused is put aside under another name. Never rejects. */
  async start(): Promise<void> {
    const { name, path, bytesMax, saveMs, restore, learnt, logger } = this.#options;
    try {
      const file = readFileIfThere(path, bytesMax);
      if (file !== undefined) {
        this.#restored = restore(file);
        this.#saved = learnt();
        logger.info(`${name}-restored`, { path, ...this.#restored });
      }
    } catch (error) {
      this.#counts.refused++;
      this.#problem = `Cannot take ${name} from "${path}": ${messageOf(error)}`;
      logger.error(`${name}-refused`, { problem: this.#problem, putAside: `${path}.refused` });
      await rename(path, `${path}.refused`).catch(() => {});
    }
    this.#timer = setInterval(() => void this.save(), saveMs);
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
    const { name, path, learnt, pieces, stepPieces, logger } = this.#options;
    const now = learnt();
    if (now === this.#saved) return;
    try {
      const made: Uint8Array[] = [];
      for (const piece of pieces()) if (made.push(piece) % stepPieces === 0) await nextTurn();
      const file = Buffer.concat(made);
      await writeFileDurable(path, file);
      this.#saved = now;
      this.#counts.saved++;
      this.#bytes = file.length;
    } catch (error) {
      this.#counts.saveFailures++;
      logger.error(`${name}-not-kept`, { path, error: messageOf(error) });
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
