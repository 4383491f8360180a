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
  /** Lines that wait for the write that is under way: they are made durable together. */
  #waiting: string[] = [];
  #writing: Promise<void> | undefined;

  constructor(path: string, logger: Logger) {
    this.#path = path;
    this.#logger = logger;
  }

  /**
   * What was applied before; undefined: there is no journal, or it cannot be trusted (then it was logged). The end of a line that
   * a crash tore was never acknowledged, and is cut off.
   */
  load(): JournalState | undefined {
    const file = readFileIfThere(this.#path, 2 * BYTES_MAX);
    if (file === undefined) return undefined;
    const whole = file.lastIndexOf(0x0a) + 1;
    const [first = "", ...lines] = file.subarray(0, whole).toString("utf8").split("\n").slice(0, -1);
    try {
      const { logId, floor } = headLine.parse(read(first));
      const entries = lines.map((line) => purgeEntry.parse(read(line)));
      if (whole < file.length) truncate(this.#path, whole);
      return { logId, floor, entries };
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
    await this.#file?.close();
    this.#file = undefined;
    const { logId, floor, entries } = state;
    const text = [line({ logId, floor }), ...entries.map(line)].join("");
    await writeFileDurable(this.#path, text);
    await this.#open(Buffer.byteLength(text));
  }

  /** Goes on with what {@link load} found. */
  async resume(): Promise<void> {
    const file = await open(this.#path, "a");
    const { size } = await file.stat();
    this.#file = file;
    this.#bytes = size;
  }

  /** Resolves when the purge would survive a crash; a disk that refuses is logged, and the purge holds until then. */
  async append(entry: PurgeEntry): Promise<void> {
    this.#waiting.push(line(entry));
    // What comes while a write is under way goes with the next one.
    this.#writing = (this.#writing ?? Promise.resolve()).then(async () => await this.#write());
    await this.#writing;
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file?.close();
    this.#file = undefined;
  }

  async #open(bytes: number): Promise<void> {
    this.#file = await open(this.#path, "a");
    this.#bytes = bytes;
  }

  async #write(): Promise<void> {
    const text = this.#waiting.join("");
    this.#waiting = [];
    if (text === "" || this.#file === undefined) return;
    try {
      await this.#file.writeFile(text);
      await this.#file.datasync();
      this.#bytes += Buffer.byteLength(text);
      if (this.#bytes > BYTES_MAX) await this.#shorten();
    } catch (error) {
      this.#logger.error("purge-not-kept", { path: this.#path, error });
    }
  }

  async #shorten(): Promise<void> {
    const state = this.load();
    if (state === undefined) return;
    const entries = state.entries.slice(Math.ceil(state.entries.length / 2));
    const floor = (entries[0]?.purgeSeq ?? 1) - 1;
    await this.#file?.close();
    this.#file = undefined;
    const text = [line({ logId: state.logId, floor }), ...entries.map(line)].join("");
    await writeFileDurable(this.#path, text);
    await this.#open(Buffer.byteLength(text));
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
