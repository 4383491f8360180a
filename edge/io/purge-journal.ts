/**
 * The purges that a node has applied, on its own disk: what it acknowledged still holds after a crash, also while control is
 * away and its disk store is full of what was purged. A file of lines, `checksum JSON`, only ever appended to; the first names
 * control's log and the oldest purge that the file still tells of.
 */
import { closeSync, ftruncateSync, openSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { integer, object, type PurgeEntry, purgeEntry, string, xxh64Hex } from "#kit";
import { type Logger, readFileIfThere, writeFileDurable } from "#kit/io";

/** Beyond it the older half is dropped, bytes; what was stored before counts as purged then. */
const BYTES_MAX = 32 * 1_024 * 1_024;

const headLine = object({ logId: string({ max: 64 }), floor: integer() });

export interface JournalState {
  /** Control's log whose numbers these are. */
  readonly logId: string;
  /** Purges up to this number are not told of any more. */
  readonly floor: number;
  /** Ascending by number. */
  readonly entries: readonly PurgeEntry[];
}

export class PurgeJournal {
  readonly #path: string;
  readonly #logger: Logger;
  #file: FileHandle | undefined;
  #bytes = 0;
  /** Not durable yet. What comes while a write is under way goes with the next one. */
  #pending: PurgeEntry[] = [];
  #writing: Promise<void> = Promise.resolve();
  /** A write failed, and may have left part of a line: the next one writes the whole file anew. */
  #mustRewrite = false;

  constructor(path: string, logger: Logger) {
    this.#path = path;
    this.#logger = logger;
  }

  /**
   * What was applied, with what is not durable yet; undefined: there is no journal, or it cannot be trusted (then it was logged).
   * The beginning of a line that a crash tore was never acknowledged, and is passed over.
   */
  load(): JournalState | undefined {
    const file = readFileIfThere(this.#path, 2 * BYTES_MAX);
    if (file === undefined) return undefined;
    const whole = file.lastIndexOf(0x0a) + 1;
    const [first = "", ...lines] = file.subarray(0, whole).toString("utf8").split("\n").slice(0, -1);
    try {
      const { logId, floor } = headLine.parse(read(first));
      const entries = lines.map((line) => purgeEntry.parse(read(line)));
      return { logId, floor, entries: [...entries, ...this.#pending] };
    } catch (error) {
      this.#logger.error("purge-journal-damaged", {
        path: this.#path,
        consequence: "what is stored here is forgotten",
        error,
      });
      return undefined;
    }
  }

  /** Begins anew: nothing that was stored before is trusted any more. Rejects when the disk refuses. */
  async reset(state: JournalState): Promise<void> {
    await this.#writing;
    this.#pending = [];
    await this.#file?.close();
    this.#file = undefined;
    await this.#rewrite(state);
  }

  /** Goes on with what {@link load} found. Rejects when the disk refuses. */
  async resume(): Promise<void> {
    const whole = (readFileIfThere(this.#path, 2 * BYTES_MAX)?.lastIndexOf(0x0a) ?? -1) + 1;
    truncate(this.#path, whole);
    this.#file = await open(this.#path, "a");
    this.#bytes = whole;
  }

  /**
   * Resolves when the purge would survive a crash. Rejects when the disk refuses: then {@link load} tells of it all the same,
   * and it is tried again with the next one, or by {@link settle}.
   */
  async append(entry: PurgeEntry): Promise<void> {
    this.#pending.push(entry);
    await this.settle();
  }

  /** Resolves when all that was appended would survive a crash; rejects as {@link append}. */
  async settle(): Promise<void> {
    const written = this.#writing.then(async () => await this.#write());
    this.#writing = written.catch(() => {});
    await written;
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file?.close();
    this.#file = undefined;
  }

  async #write(): Promise<void> {
    if (this.#file === undefined) throw new Error(`The purge journal ${this.#path} is not open`);
    const entries = [...this.#pending];
    if (entries.length === 0) return;
    try {
      if (this.#mustRewrite) await this.#rewrite(this.#whole());
      else {
        const text = entries.map(line).join("");
        await this.#file.writeFile(text);
        await this.#file.datasync();
        this.#bytes += Buffer.byteLength(text);
      }
    } catch (error) {
      this.#mustRewrite = true;
      throw error;
    }
    this.#pending = this.#pending.slice(entries.length);
    if (this.#bytes > BYTES_MAX) await this.#shorten();
  }

  async #shorten(): Promise<void> {
    try {
      const state = this.#whole();
      const entries = state.entries.slice(Math.ceil(state.entries.length / 2));
      await this.#rewrite({ ...state, floor: (entries[0]?.purgeSeq ?? 1) - 1, entries });
    } catch (error) {
      // All of it is durable; the next write tries again.
      this.#logger.error("purge-journal-not-shortened", { path: this.#path, error });
    }
  }

  #whole(): JournalState {
    const state = this.load();
    if (state === undefined) throw new Error(`The purge journal ${this.#path} cannot be read any more`);
    return state;
  }

  /** What is pending may stand in it twice: applying a purge again changes nothing. */
  async #rewrite({ logId, floor, entries }: JournalState): Promise<void> {
    const text = [line({ logId, floor }), ...entries.map(line)].join("");
    await writeFileDurable(this.#path, text);
    const file = await open(this.#path, "a");
    await this.#file?.close();
    this.#file = file;
    this.#bytes = Buffer.byteLength(text);
    this.#mustRewrite = false;
  }
}

function line(value: unknown): string {
  const text = JSON.stringify(value);
  return `${xxh64Hex(text)} ${text}\n`;
}

function read(text: string): unknown {
  const [checksum = ""] = text.split(" ", 1);
  const value = text.slice(checksum.length + 1);
  if (xxh64Hex(value) !== checksum) throw new Error("a line that does not match its checksum");
  return JSON.parse(value);
}

function truncate(path: string, bytes: number): void {
  const descriptor = openSync(path, "r+");
  try {
    ftruncateSync(descriptor, bytes);
  } finally {
    closeSync(descriptor);
  }
}
