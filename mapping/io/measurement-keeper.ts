/** The measurement store on the disk: read at the start, written every now and then and at the end. */
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "#kit";
import { type Logger, readFileIfThere, writeFileDurable } from "#kit/io";
import type { MeasurementStore } from "../core/measurements/store.ts";
import { restoreStore, storeFileOctets } from "../core/measurements/store-file.ts";

/** From one file to the next, ms: what a process that is killed loses at most, and the time of writing. */
export const measurementSaveMsDefault = 30_000;
const NAME = "measurements.bin";
/** 20,000 series with all their windows are 110 MB. */
const FILE_BYTES_MAX = 512 * 1024 * 1024;
/** Series that are encoded before others have their turn: a millisecond or two. */
const STEP_SERIES = 64;

export class MeasurementKeeper {
  readonly #store: MeasurementStore;
  readonly #path: string;
  readonly #saveMs: number;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  #saving: Promise<void> | undefined;
  /** Samples that were in the store when it was last written. */
  #savedSamples = 0;
  /** Why the file at the start was refused. */
  #problem: string | undefined;
  #bytes = 0;
  /** All only grow. */
  readonly counters = { saved: 0, saveFailures: 0, refused: 0, seriesRestored: 0, seriesTooOld: 0 };

  constructor(options: {
    readonly store: MeasurementStore;
    readonly stateDirectory: string;
    readonly saveMs: number | undefined;
    readonly clock: Clock;
    readonly logger: Logger;
  }) {
    this.#saveMs = options.saveMs ?? measurementSaveMsDefault;
    this.#store = options.store;
    this.#path = join(options.stateDirectory, NAME);
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  /** Samples that a kill would lose now. */
  get unsaved(): number {
    return this.#store.counters.samples - this.#savedSamples;
  }

  /** Of the newest file. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What was kept is there, or the store is as it was: a file that is refused is put aside under another name. Never rejects. */
  async start(): Promise<void> {
    try {
      const file = readFileIfThere(this.#path, FILE_BYTES_MAX);
      if (file !== undefined) {
        const { store, seriesTooOld } = restoreStore(file, this.#store.settings, this.#clock.epoch());
        this.#store.handleRestored(store);
        this.counters.seriesRestored = store.seriesCount;
        this.counters.seriesTooOld = seriesTooOld;
        this.#logger.info("measurements-restored", {
          path: this.#path,
          series: store.seriesCount,
          seriesTooOld,
        });
      }
    } catch (error) {
      this.counters.refused++;
      this.#problem = `Cannot take measurements from "${this.#path}": ${messageOf(error)}`;
      this.#logger.error("measurements-refused", {
        problem: this.#problem,
        putAside: `${this.#path}.refused`,
      });
      await rename(this.#path, `${this.#path}.refused`).catch(() => {});
    }
    this.#timer = setInterval(() => void this.save(), this.#saveMs);
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
    const { samples } = this.#store.counters;
    if (samples === this.#savedSamples) return;
    try {
      const pieces: Uint8Array[] = [];
      for (const piece of storeFileOctets(this.#store))
        if (pieces.push(piece) % STEP_SERIES === 0) await nextTurn();
      const file = Buffer.concat(pieces);
      await writeFileDurable(this.#path, file);
      this.#savedSamples = samples;
      this.counters.saved++;
      this.#bytes = file.length;
    } catch (error) {
      this.counters.saveFailures++;
      this.#logger.error("measurements-not-kept", { path: this.#path, error: messageOf(error) });
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
