/**
 * What is on its way into the segment files: records and steps of the log, written in their order, records in batches. Where the disk refuses it stops,
 * and says what it gave up.
 */
import { crc32 } from "node:zlib";
import type { CacheKey } from "../core/cache-key.ts";
import type { Location } from "../core/disk/location-index.ts";
import { type RecordKind, SEGMENT_HEADER_BYTES } from "../core/disk/segment-format.ts";
import type { LogStep } from "../core/disk/segment-log.ts";
import type { StoredObject } from "./memory-store.ts";
import type { SegmentFiles } from "./segment-files.ts";

/** Of one write call: enough to make the call's own cost small. */
const BATCH_BYTES_MAX = 4 * 1_024 * 1_024;
const BATCH_RECORDS_MAX = 256;

/** A record on its way to the disk. */
export interface PendingRecord {
  readonly type: "record";
  readonly kind: RecordKind;
  readonly location: Location;
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
  /** Where an object is read from until it is written. */
  readonly key: CacheKey | undefined;
  readonly object: StoredObject | undefined;
}

export interface WriteCounters {
  /** Objects written, those that were written again included. */
  writes: number;
  writtenBytes: number;
  /** Write calls. */
  batches: number;
}

export interface SegmentWriterOptions {
  readonly files: SegmentFiles;
  /** With what a segment begins. */
  readonly headerOf: (segment: number) => Uint8Array;
  readonly counters: WriteCounters;
  /** A record is on disk, or given up. */
  readonly onSettled: () => void;
  readonly onSyncRefused: (error: unknown) => void;
  /** The disk refused: nothing is written until {@link SegmentWriter.resume}. */
  readonly onRefused: (error: unknown) => void;
  readonly onProgress: () => void;
}

export class SegmentWriter {
  readonly #options: SegmentWriterOptions;
  /** In the order in which it has to reach the disk. */
  #queue: (PendingRecord | LogStep)[] = [];
  /** Objects in `#queue` by place. */
  readonly #objects = new Map<string, PendingRecord>();
  #pendingBytes = 0;
  #isPaused = true;
  #isWriting = false;
  /** Things queued, and things done or given up, since the start; who flushes waits for a number. */
  #queued = 0;
  #done = 0;
  #flushing: { readonly until: number; readonly resolve: (isWritten: boolean) => void }[] = [];
  /** Up to where the files are written: a failure loses what lies beyond. */
  written = { segment: 0, bytes: 0 };
  /** Whether what a sealed segment holds is to be on disk before the next step: an orderly end waits for that, nobody else. */
  isEnding = false;

  constructor(options: SegmentWriterOptions) {
    this.#options = options;
  }

  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** The object that is to be written there. */
  objectAt(location: Location): PendingRecord | undefined {
    return this.#objects.get(placeOf(location));
  }

  push(item: PendingRecord | LogStep): void {
    if (item.type === "record") {
      this.#pendingBytes += item.bytes;
      if (item.kind === "object") this.#objects.set(placeOf(item.location), item);
    }
    this.#queue.push(item);
    this.#queued++;
    this.#begin();
  }

  /** Writes from now on, until the disk refuses. */
  resume(): void {
    this.#isPaused = false;
    this.#begin();
  }

  /** Resolves when what was pushed before has been written: true; or given up because the disk refuses: false. */
  flush(): Promise<boolean> {
    if (this.#queue.length === 0) return Promise.resolve(true);
    if (!this.#isWriting) return Promise.resolve(false);
    return new Promise((resolve) => this.#flushing.push({ until: this.#queued, resolve }));
  }

  /** Gives up all records, which it returns, and stops; what is to be removed stays queued, and who flushes is told. */
  giveUp(): readonly PendingRecord[] {
    this.#isPaused = true;
    const records = this.#queue.filter((item) => item.type === "record");
    this.#queue = this.#queue.filter(({ type }) => type === "drop");
    for (const record of records) this.#settle(record);
    this.#done = this.#queued - this.#queue.length;
    for (const { resolve } of this.#flushing.splice(0)) resolve(false);
    return records;
  }

  #begin(): void {
    if (this.#queue.length === 0 || this.#isWriting || this.#isPaused) return;
    this.#isWriting = true;
    // What is put in the same turn goes in one write.
    setImmediate(() => void this.#write());
  }

  /** Writes until nothing is left or the disk refuses. Never rejects. */
  async #write(): Promise<void> {
    const { counters, onProgress, onRefused } = this.#options;
    try {
      while (this.#queue.length > 0) {
        const count = await this.#writeNext();
        for (const item of this.#queue.splice(0, count)) {
          if (item.type !== "record") continue;
          this.#settle(item);
          if (item.kind === "object") counters.writes++;
          counters.writtenBytes += item.bytes;
        }
        this.#done += count;
        onProgress();
        this.#answerFlushes();
      }
      this.#isWriting = false;
    } catch (error) {
      this.#isWriting = false;
      this.#isPaused = true;
      onRefused(error);
    }
  }

  /** Does what stands first in the queue, records up to a batch of them. Returns how many items that were. */
  async #writeNext(): Promise<number> {
    const { files, counters, headerOf, onSyncRefused } = this.#options;
    const [item] = this.#queue;
    if (item === undefined) return 0;
    switch (item.type) {
      case "begin": {
        const { segment } = item;
        await files.create(segment, headerOf(segment));
        this.written = { segment, bytes: SEGMENT_HEADER_BYTES };
        return 1;
      }
      case "seal": {
        const { segment, offset } = item;
        const bytes = item.index.encode(segment, offset, crc32);
        await files.write(segment, offset, [bytes]);
        this.written = { segment, bytes: offset + bytes.byteLength };
        const synced = files.sync(segment).catch(onSyncRefused);
        if (this.isEnding) await synced;
        return 1;
      }
      case "drop":
        await files.remove(item.segment);
        return 1;
      case "record": {
        const { segment, offset } = item.location;
        const { parts, bytes, count } = this.#nextBatch();
        await files.write(segment, offset, parts);
        counters.batches++;
        this.written = { segment, bytes: offset + bytes };
        return count;
      }
      default:
        return item satisfies never;
    }
  }

  #nextBatch() {
    const parts: Uint8Array[] = [];
    let bytes = 0;
    let count = 0;
    for (const next of this.#queue) {
      if (next.type !== "record" || (count > 0 && bytes + next.bytes > BATCH_BYTES_MAX)) break;
      if (count === BATCH_RECORDS_MAX) break;
      parts.push(...next.parts);
      bytes += next.bytes;
      count++;
    }
    return { parts, bytes, count };
  }

  #settle(record: PendingRecord): void {
    this.#pendingBytes -= record.bytes;
    this.#objects.delete(placeOf(record.location));
    this.#options.onSettled();
  }

  #answerFlushes(): void {
    const [first] = this.#flushing;
    if (first === undefined || first.until > this.#done) return;
    const ready = this.#flushing.filter(({ until }) => until <= this.#done);
    this.#flushing = this.#flushing.filter(({ until }) => until > this.#done);
    for (const { resolve } of ready) resolve(true);
  }
}

function placeOf({ segment, offset }: Location): string {
  return `${segment}:${offset}`;
}
