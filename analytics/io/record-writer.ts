/** Access records to a file, off the request's way: a bounded number of batches, rotation by size; what is lost is counted. */
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { type Logger, makeDirectory } from "#kit/io";
import { analyticsSettings } from "../config.ts";
import type { AccessRecord } from "../core/access-record.ts";
import { type Line, TextBatches, writeText } from "../core/text-batches.ts";

export interface AccessLogOptions {
  /** The current file; rotated ones are `<path>.1` (newest) to `<path>.<filesKept>`. Its directory is made if need be. */
  readonly path: string;
  readonly batchBytes?: number;
  readonly batchesMax?: number;
  readonly fileBytesMax?: number;
  readonly filesKept?: number;
  readonly flushMs?: number;
  readonly retryMs?: number;
  readonly logger: Logger;
}

export interface AccessLogCounters {
  /** Records that the system took; they survive the process, not a power cut. */
  readonly recordsWritten: number;
  readonly bytesWritten: number;
  /** Not taken: too many waited, or the log closed. */
  readonly recordsDroppedFull: number;
  /** Taken, but the disk refused them. */
  readonly recordsDroppedDisk: number;
  readonly rotations: number;
}

/** One log file of one process. */
export class AccessLog {
  readonly #path: string;
  readonly #fileBytesMax: number;
  readonly #filesKept: number;
  readonly #flushMs: number;
  readonly #retryMs: number;
  readonly #logger: Logger;
  readonly #texts: TextBatches;
  readonly #line = new TextLine();
  readonly #counts = {
    recordsWritten: 0,
    bytesWritten: 0,
    recordsDroppedClosed: 0,
    recordsDroppedDisk: 0,
    rotations: 0,
  };
  #file: FileHandle | undefined;
  #fileBytes = 0;
  /** A failed write may have left part of a line: the next batch begins on a new one. */
  #mayBeTorn = false;
  #timer: NodeJS.Timeout | undefined;
  /** A full batch waits for the next turn of the event loop. */
  #isFull = false;
  #flushing: Promise<void> | undefined;
  #isFailing = false;
  #isClosed = false;

  constructor(options: AccessLogOptions) {
    this.#path = options.path;
    this.#fileBytesMax = options.fileBytesMax ?? analyticsSettings.fileBytesMax;
    this.#filesKept = options.filesKept ?? analyticsSettings.filesKept;
    this.#flushMs = options.flushMs ?? analyticsSettings.flushMs;
    this.#retryMs = options.retryMs ?? analyticsSettings.retryMs;
    this.#logger = options.logger;
    this.#texts = new TextBatches(
      options.batchBytes ?? analyticsSettings.batchBytes,
      options.batchesMax ?? analyticsSettings.batchesMax,
    );
  }

  /**
   * Opens the file, which the first record would else do. For callers that want to hear of a path that cannot be written
   * when they start: rejects with the system's error.
   */
  async open(): Promise<void> {
    await this.#openFile();
  }

  /**
   * Takes a record. Never blocks and never throws; a record that cannot be kept is counted. It becomes bytes at once: objects and strings
   * that wait for the disk outlive the young generation, which costs more than to write them.
   */
  write(record: AccessRecord): void {
    const line = this.#line;
    line.text = JSON.stringify(record);
    this.writeLine(line, UTF8_BYTES_MAX * line.text.length);
  }

  /**
   * Takes a record as the JSON that it would become, written by its maker, without a line break, at most `bytesMax`
   * long. For callers that answer so many requests alike that they keep most of it.
   */
  writeLine(line: Line, bytesMax: number): void {
    if (this.#isClosed) this.#counts.recordsDroppedClosed++;
    else if (this.#texts.push(line, bytesMax)) this.#arm();
  }

  /** Has a batch written when it is full, or has waited for long enough. */
  #arm(): void {
    if (this.#flushing !== undefined || this.#isFailing) return;
    if (this.#texts.records >= analyticsSettings.batchRecordsMax) {
      // Once a batch: to arm the timer anew for each record behind it costs more than the record.
      if (!this.#isFull) this.#flushSoon(0);
      this.#isFull = true;
    } else this.#timer ??= this.#armed(this.#flushMs);
  }

  get counters(): AccessLogCounters {
    const { recordsDroppedClosed, ...rest } = this.#counts;
    return { ...rest, recordsDroppedFull: this.#texts.dropped + recordsDroppedClosed };
  }

  /** Writes what waits, once, and closes the file. Records after it are dropped and counted. Never rejects. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#flushing;
    clearTimeout(this.#timer);
    await this.#flush();
    // What the disk refused at the last moment is not tried again.
    this.#counts.recordsDroppedDisk += this.#texts.records;
    await this.#closeFile();
  }

  #armed(ms: number): NodeJS.Timeout {
    const timer = setTimeout(() => this.#start(), ms);
    // Waiting records do not keep a process alive: close() writes them.
    timer.unref();
    return timer;
  }

  #flushSoon(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = this.#armed(ms);
  }

  #start(): void {
    this.#timer = undefined;
    this.#isFull = false;
    this.#flushing = this.#flush().finally(() => {
      this.#flushing = undefined;
      if (this.#isClosed) return;
      if (this.#isFailing) this.#flushSoon(this.#retryMs);
      else if (this.#texts.records > 0) this.#timer ??= this.#armed(this.#flushMs);
    });
  }

  /** Writes until nothing waits or the disk refuses. Never rejects. */
  async #flush(): Promise<void> {
    while (this.#texts.records > 0) {
      let records = 0;
      try {
        // Opened before a batch is taken: a disk that is away costs nothing while more may wait.
        const file = await this.#openFile();
        const batch = this.#texts.take();
        records = batch.records;
        if (this.#mayBeTorn) await this.#append(file, LINE_BREAK);
        this.#mayBeTorn = true;
        await this.#append(file, batch.bytes);
        this.#mayBeTorn = false;
        this.#texts.giveBack(batch);
        this.#counts.recordsWritten += records;
        records = 0; // Safe: a rotation that fails loses none of them.
        if (this.#isFailing)
          this.#logger.info("access-log-recovered", { path: this.#path, ...this.counters });
        this.#isFailing = false;
        if (this.#fileBytes >= this.#fileBytesMax) await this.#rotate();
      } catch (error) {
        this.#counts.recordsDroppedDisk += records;
        if (!this.#isFailing)
          this.#logger.warn("access-log-failed", { path: this.#path, error, lost: records });
        this.#isFailing = true;
        await this.#closeFile();
        return;
      }
    }
  }

  async #append(file: FileHandle, bytes: Uint8Array): Promise<void> {
    await file.appendFile(bytes);
    this.#fileBytes += bytes.byteLength;
    this.#counts.bytesWritten += bytes.byteLength;
  }

  async #openFile(): Promise<FileHandle> {
    if (this.#file !== undefined) return this.#file;
    makeDirectory(dirname(this.#path));
    const file = await open(this.#path, "a");
    this.#file = file;
    this.#fileBytes = (await file.stat()).size;
    // A process that was killed may have left part of a line; an empty one in between does no harm.
    if (this.#fileBytes > 0) this.#mayBeTorn = true;
    return file;
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    try {
      await file?.close();
    } catch (error) {
      this.#logger.warn("access-log-close-failed", { path: this.#path, error });
    }
  }

  /** `path` -> `path.1` -> `path.2` ...; the oldest goes. */
  async #rotate(): Promise<void> {
    await this.#closeFile();
    await rm(this.#filesKept === 0 ? this.#path : `${this.#path}.${this.#filesKept}`, { force: true });
    for (let n = this.#filesKept - 1; n >= 0; n--) {
      try {
        await rename(n === 0 ? this.#path : `${this.#path}.${n}`, `${this.#path}.${n + 1}`);
      } catch (error) {
        // Not so many files yet.
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
    this.#counts.rotations++;
  }
}

/** What a UTF-16 code unit takes at most. */
const UTF8_BYTES_MAX = 3;
const LINE_BREAK = Buffer.from("\n");

class TextLine implements Line {
  text = "";

  write(bytes: Uint8Array, at: number): number {
    return at + writeText(this.text, bytes, at);
  }
}
