/**
 * Stored responses on disk, in segment files that are only ever appended to (`core/disk/`). The driver: it encodes, writes in
 * batches, reads, and leaves a failing disk alone; which place and which segment is the log's business.
 *
 * What is promised:
 * - A body is served only whole: each read verifies the checksums of head and body, and that the record is of the key.
 * - After the process was killed, at any moment, the store is as it was a moment before: all that was put and deleted before
 *   the last write ended, in that order. What {@link DiskStore.flush} has confirmed is there; what was deleted or replaced by
 *   then does not come back. What was still queued is as if it had not happened.
 * - After a power cut objects may be missing, and deletes too: so everything that outlived one is validated before it is used.
 * - While the disk refuses, nothing is written and requests pass by; deletes are kept and written first when it works again.
 *   A process that ends before that has lost them.
 */
import { randomInt } from "node:crypto";
import { crc32 } from "node:zlib";
import { type Clock, IsochroneError, xxh64 } from "#kit";
import { type Logger, makeDirectory, systemClock } from "#kit/io";
import type { CacheKey } from "../core/cache-key.ts";
import { DiskHealth } from "../core/disk/disk-health.ts";
import type { WriteOccasion } from "../core/disk/write-admission.ts";
import { HEAD_BYTES_MAX, type Location } from "../core/disk/location-index.ts";
import {
  alignUp,
  encodeRecord,
  encodeSegmentHeader,
  recordBytes,
  type RecordKind,
  SEGMENT_HEADER_BYTES,
  type Seed,
  type SegmentIndex,
} from "../core/disk/segment-format.ts";
import { REINSERTED_SHARE, SegmentLog } from "../core/disk/segment-log.ts";
import { DirectoryLock } from "./directory-lock.ts";
import type { StoredObject } from "./memory-store.ts";
import { SegmentFiles } from "./segment-files.ts";
import { SegmentWriter, type WriteCounters } from "./segment-writer.ts";
import { readContent, readHeads, readRecord, readSegment, type ReadSegment } from "./segment-reader.ts";
import { decodeObject, encodeHead, keyOfHead, lastingForms, variantOf } from "./stored-record.ts";

/** Bytes that wait to be written, unless told; beyond it objects stay in memory only. */
const PENDING_BYTES_MAX = 32 * 1_024 * 1_024;
/** Segments that are read at once when the store is opened: waiting for the disk is most of it. */
const LOADS_AHEAD = 8;
/** Objects being read at once; more are misses, so that a slow disk holds up a bounded number of requests. */
const READS_MAX = 1_024;
/** A read that takes longer is given up, ms: the origin is nearer than such a disk. */
const READ_TIMEOUT_MS = 5_000;
/** Deletes that wait for a failing disk; with more the whole store is let go of, which is never wrong. */
const OWED_MAX = 100_000;

/**
 * Why an object was not written. `admission`: the policy; `failing`: the disk refuses; `queue-full`: too much waits to be
 * written, or room is still being made; `too-large`: no segment holds it.
 */
const SKIP_REASONS = ["admission", "failing", "queue-full", "too-large"] as const;
type SkipReason = (typeof SKIP_REASONS)[number];

export interface DiskCounters extends WriteCounters {
  reads: number;
  /** Records and segments whose checksum, length or head was wrong. */
  damaged: number;
  /** Objects written again because they were used, when their segment went. */
  reinserted: number;
  /** Objects not written, by reason. */
  readonly skipped: Record<SkipReason, number>;
  /** Reads that were not begun because too many were in flight. */
  readsRefused: number;
  /** Writes, reads and removals that the system refused or did not end. */
  errors: number;
}

export interface DiskOptions {
  readonly directory: string;
  readonly bytesMax: number;
  /** Bytes that may wait to be written. */
  readonly pendingBytesMax?: number;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** Asked for each object that is not on disk yet, also while the store is not full and takes everything: false keeps it off. */
  readonly admit?:
    | ((key: CacheKey, bodyBytes: number, occasion: WriteOccasion, isFull: boolean) => boolean)
    | undefined;
  /** Whether memory holds a key's objects, whose uses the disk does not see: they are not let go of with their segment. */
  readonly isInMemory?: ((key: CacheKey) => boolean) | undefined;
  /** For tests: a disk that fails. */
  readonly files?: SegmentFiles;
}

/** When an object is put: `closing`, the store is about to end and memory with it. */
export type PutOccasion = WriteOccasion | "closing";

/** A delete that the disk has not taken yet. */
interface Owed {
  readonly hi: number;
  readonly lo: number;
  /** Undefined: every variant. */
  readonly variant: number | undefined;
}

/** Codes of a disk that may do its work later; anything else at the start is for the operator to put right. */
const PASSING_CODES: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT", "EIO", "EMFILE", "ENFILE"]);
const FULL_CODES: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT"]);
const NONE: readonly StoredObject[] = [];
const PADDING = new Uint8Array(16);

export class DiskStore {
  readonly #directory: string;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #admit: DiskOptions["admit"];
  readonly #isInMemory: DiskOptions["isInMemory"];
  readonly #files: SegmentFiles;
  readonly #bytesMax: number;
  #log: SegmentLog;
  readonly #writing = new DiskHealth();
  readonly #reading = new DiskHealth();
  #lock: DirectoryLock | undefined;
  /** Seed of the fingerprints: secret, so that nobody can send keys that crowd one place of the index. */
  #seed: Seed = [0, 0];
  #seed64 = 0n;
  #isLoaded = false;
  #isClosed = false;

  readonly #writer: SegmentWriter;
  readonly #pendingBytesMax: number;
  #retry: NodeJS.Timeout | undefined;
  /** The newest of the tries that `#retry` began; it never rejects. */
  #trying: Promise<void> | undefined;
  readonly #owed = new Map<string, Owed>();
  #reads = 0;
  #reclaiming: Promise<void> | undefined;
  #waitingForRoom: (() => void) | undefined;

  readonly counters: DiskCounters = {
    writes: 0,
    writtenBytes: 0,
    batches: 0,
    reads: 0,
    damaged: 0,
    reinserted: 0,
    skipped: { admission: 0, failing: 0, "queue-full": 0, "too-large": 0 },
    readsRefused: 0,
    errors: 0,
  };

  constructor(options: DiskOptions) {
    this.#directory = options.directory;
    this.#logger = options.logger;
    this.#clock = options.clock ?? systemClock;
    this.#admit = options.admit;
    this.#isInMemory = options.isInMemory;
    this.#pendingBytesMax = options.pendingBytesMax ?? PENDING_BYTES_MAX;
    this.#files = options.files ?? new SegmentFiles(options.directory);
    this.#bytesMax = options.bytesMax;
    this.#log = new SegmentLog(options.bytesMax);
    this.#writer = new SegmentWriter({
      files: this.#files,
      headerOf: (segment) => {
        const { validateBefore } = this.#log;
        return encodeSegmentHeader({ segment, seed: this.#seed, validateBefore }, crc32);
      },
      counters: this.counters,
      onSettled: () => {
        if (this.pendingBytes <= this.#pendingBytesMax / 2) this.#waitingForRoom?.();
      },
      onSyncRefused: (error) => this.#refused("sync", error),
      onRefused: (error) => this.#failed(error),
      onProgress: () => this.#writing.succeed(),
    });
  }

  /** Bytes of the files, what waits to be written included. */
  get bytes(): number {
    return this.#log.bytes;
  }
  get objects(): number {
    return this.#log.objects;
  }
  get segments(): number {
    return this.#log.segments;
  }
  /** Objects that went with their segment. */
  get evictions(): number {
    return this.#log.evictions;
  }
  /** Bytes of the index in memory. */
  get indexBytes(): number {
    return this.#log.indexBytes;
  }
  get pendingBytes(): number {
    return this.#writer.pendingBytes;
  }
  /** Whether the disk refused last time: what would be written passes by until it works again. */
  get isFailing(): boolean {
    return this.#writing.isFailing || this.#reading.isFailing;
  }

  /**
   * Takes the directory and reads what lies in it. Rejects with IsochroneError when it cannot be used or another process has
   * it; a disk that is full or failing is no such case: it is tried again later.
   */
  async open(): Promise<void> {
    try {
      await this.#load();
    } catch (cause) {
      if (PASSING_CODES.has(codeOf(cause))) {
        this.#failed(cause);
        return;
      }
      await this.#files.close();
      this.#lock?.release(false);
      throw new IsochroneError(
        `Cannot use the disk store ${JSON.stringify(this.#directory)}: ${messageOf(cause)}; name a directory that this process may write`,
        { code: "disk-store", source: "configuration", retry: "never", cause },
      );
    }
  }

  /** Whether something may be on disk under the key. */
  has(key: CacheKey): boolean {
    if (!this.#reading.isUsable(this.#clock.monotonic())) return false;
    const [hi, lo] = this.#fingerprint(key);
    return this.#log.has(hi, lo);
  }

  /** Every whole variant under a key. Never rejects: what cannot be read is not there. */
  async load(key: CacheKey): Promise<readonly StoredObject[]> {
    if (!this.#reading.isUsable(this.#clock.monotonic())) return NONE;
    if (this.#reads >= READS_MAX) {
      this.counters.readsRefused++;
      return NONE;
    }
    const [hi, lo] = this.#fingerprint(key);
    this.#reads++;
    try {
      const read = await Promise.all(
        this.#log.find(hi, lo).map((location) => this.#readObject(location, key)),
      );
      return read.filter((object) => object !== undefined);
    } finally {
      this.#reads--;
    }
  }

  /**
   * Writes an object in the background; one of the same variant is replaced. Returns why it is not written: then an older form
   * of it is forgotten too, since it is no longer the present state. On `closing` admission is not asked.
   */
  put(key: CacheKey, stored: StoredObject, occasion: PutOccasion = "fetched"): SkipReason | undefined {
    const [hi, lo] = this.#fingerprint(key);
    const variant = variantOf(stored);
    const bodyBytes = stored.body.bytes;
    // What is there has been admitted: its newer form takes its place.
    const isRefused =
      this.#admit !== undefined &&
      occasion !== "closing" &&
      !this.#log.find(hi, lo).some((location) => location.variant === variant) &&
      !this.#admit(key, bodyBytes, occasion, this.#log.isFull);
    const reason = isRefused ? "admission" : this.#appendObject(hi, lo, variant, key, stored);
    if (reason === undefined) return undefined;
    this.counters.skipped[reason]++;
    this.#forget(hi, lo, variant);
    return reason;
  }

  /**
   * Writes an object that is here once more, because other forms of its content have been made. When it is not here nothing is
   * written, and when there is no room for it the older record stays, which is true all the same.
   */
  supplement(key: CacheKey, stored: StoredObject): void {
    const [hi, lo] = this.#fingerprint(key);
    const variant = variantOf(stored);
    if (!this.#log.find(hi, lo).some((location) => location.variant === variant)) return;
    const reason = this.#appendObject(hi, lo, variant, key, stored);
    if (reason !== undefined) this.counters.skipped[reason]++;
  }

  /** Forgets every variant under a key. */
  delete(key: CacheKey): void {
    const [hi, lo] = this.#fingerprint(key);
    this.#forget(hi, lo, undefined);
  }

  /** Forgets everything. */
  clear(): void {
    this.#log.clear();
    this.#owed.clear();
    this.#pollSteps();
  }

  /** Resolves when what was put and deleted before has been written: true; or given up because the disk refuses: false. */
  flush(): Promise<boolean> {
    return this.#owed.size > 0 ? Promise.resolve(false) : this.#writer.flush();
  }

  /** Writes what is left and ends the segment, so that the next start reads its index alone. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#writer.isEnding = true;
    clearTimeout(this.#retry);
    this.#waitingForRoom?.();
    // What it reads or writes would be in the way of whoever has the directory next.
    await this.#trying;
    await this.#reclaiming;
    this.#log.seal();
    this.#pollSteps();
    const isWritten = await this.flush();
    await this.#files.close();
    this.#lock?.release(isWritten && this.#isLoaded);
  }

  // Start.

  async #load(): Promise<void> {
    makeDirectory(this.#directory);
    if (this.#lock === undefined) this.#lock = new DirectoryLock(this.#directory);
    else this.#lock.restore();
    if (this.#isLoaded) return;
    const { segments, others } = await this.#files.list();
    let strangers = 0;
    for (const name of others) {
      // Files of the store that kept one object a file, and what a crash left half-made.
      if (!/\.(object|tmp)$/.test(name)) continue;
      strangers++;
      await this.#files.removeOther(name);
    }
    // Whatever an earlier try took up is taken up again.
    this.#log = new SegmentLog(this.#bytesMax);
    const log = this.#log;
    const ahead: Promise<ReadSegment>[] = [];
    for (const [number, segment] of segments.entries()) {
      for (const next of segments.slice(ahead.length, number + LOADS_AHEAD))
        ahead.push(readSegment(this.#files, next));
      log.skipTo(segment);
      const read = await ahead[number];
      if (read !== undefined && (await this.#take(segment, read))) continue;
      strangers++;
      await this.#files.remove(segment).catch((error: unknown) => this.#refused("write", error));
    }
    if (strangers > 0) this.#logger.warn("disk-store-strange-files-removed", { files: strangers });
    if (this.#seed64 === 0n) this.#setSeed([randomInt(2 ** 32), randomInt(2 ** 32)]);
    log.settle();
    // After a power cut deletes may be missing; so they may when the store is loaded late, and some came before.
    const mustValidate = this.#lock.lastEnd === "power-cut" || this.#writing.isFailing;
    if (mustValidate) log.validateBefore = log.nextSegment;
    this.#isLoaded = true;
    this.#writer.resume();
    if (mustValidate && log.segments > 0) {
      // The mark outlives the next crash in a segment's header; only then may the lock forget it.
      log.begin();
      this.#pollSteps();
      if (await this.flush()) await this.#files.sync(log.nextSegment - 1);
    }
    this.#pollSteps();
    this.#lock.settle();
  }

  /** Takes up a segment; false: it is of no use. What cannot be read may have held deletes: older objects are then validated. */
  async #take(segment: number, read: ReadSegment): Promise<boolean> {
    const log = this.#log;
    if ("error" in read) {
      // Too many open files say nothing about this one.
      if (PASSING_CODES.has(codeOf(read.error)) && codeOf(read.error) !== "EIO") throw read.error;
      this.#refused("read", read.error);
    }
    if ("error" in read || read.header === undefined) {
      // One that was begun and no more holds nothing.
      if ("error" in read || read.bytes > SEGMENT_HEADER_BYTES) {
        this.counters.damaged++;
        log.validateBefore = Math.max(log.validateBefore, segment);
      }
      return false;
    }
    const { header, content } = read;
    if (this.#seed64 === 0n) this.#setSeed(header.seed);
    else if (header.seed[0] !== this.#seed[0] || header.seed[1] !== this.#seed[1]) return false;
    const { index, recordsEnd } = content;
    let { bytes } = content;
    const validateBefore = content.isDamaged ? segment + 1 : header.validateBefore;
    log.validateBefore = Math.max(log.validateBefore, validateBefore);
    if (content.isDamaged) {
      this.counters.damaged++;
      this.#logger.warn("disk-store-damaged", { segment, part: "records" });
    }
    if (!content.isSealed) {
      // The torn end goes, and the index that was not written in time is, so that this is done once.
      const end = index.encode(segment, recordsEnd, crc32);
      try {
        await this.#files.truncate(segment, recordsEnd);
        await this.#files.write(segment, recordsEnd, [end]);
      } catch (error) {
        // A full disk: the records count all the same.
        this.#refused("write", error);
      }
      bytes = recordsEnd + end.byteLength;
    }
    log.replay(segment, bytes, index);
    this.#writer.written = { segment, bytes };
    return true;
  }

  #setSeed(seed: Seed): void {
    this.#seed = seed;
    // Zero means none yet.
    this.#seed64 = (BigInt(seed[0]) << 32n) | BigInt(seed[1]) || 1n;
  }

  #fingerprint(key: CacheKey): readonly [hi: number, lo: number] {
    const hash = xxh64(key, this.#seed64);
    return [Number(hash >> 32n), Number(hash & 0xffff_ffffn)];
  }

  // Writing.

  /** Queues an object to be written; a reason: it is not. */
  #appendObject(
    hi: number,
    lo: number,
    variant: number,
    key: CacheKey,
    stored: StoredObject,
  ): SkipReason | undefined {
    if (!this.#isLoaded || !this.#mayWrite) return "failing";
    const all = lastingForms(stored.body);
    const withForms = all.reduce((sum, { body }) => sum + body.bytes, stored.body.bytes);
    const areFormsKept = this.#log.fits(HEAD_BYTES_MAX, withForms);
    const forms = areFormsKept ? all : [];
    const contentBytes = areFormsKept ? withForms : stored.body.bytes;
    const head = encodeHead(key, stored, forms);
    if (head.byteLength > HEAD_BYTES_MAX || !this.#log.fits(head.byteLength, contentBytes))
      return "too-large";
    const bytes = recordBytes(head.byteLength, contentBytes);
    if (this.pendingBytes + bytes > this.#pendingBytesMax || this.#isBehind(bytes)) return "queue-full";
    const chunks = [stored.body, ...forms.map(({ body }) => body)].flatMap((body) => body.chunks);
    this.#append("object", hi, lo, variant, head, chunks, key, stored);
    this.#reclaim();
    return undefined;
  }

  /** Whether an object would take the room of those that are being saved out of the segment that goes. */
  #isBehind(bytes: number): boolean {
    const newBytesMax = this.#log.segmentBytes * (1 - REINSERTED_SHARE);
    return this.#reclaiming !== undefined && this.#log.activeBytes + bytes > newBytesMax;
  }

  get #mayWrite(): boolean {
    return !this.#isClosed && this.#writing.isUsable(this.#clock.monotonic());
  }

  /** Forgets what is known of a key's variant, or of all; what is known is on disk, so the disk has to be told. */
  #forget(hi: number, lo: number, variant: number | undefined): void {
    if (!this.#log.forget(hi, lo, variant)) return;
    this.#pollSteps();
    if (this.#mayWrite) this.#appendDelete({ hi, lo, variant });
    else this.#owe({ hi, lo, variant });
  }

  #owe(owed: Owed): void {
    this.#owed.set(`${owed.hi}:${owed.lo}:${owed.variant ?? ""}`, owed);
    if (this.#owed.size > OWED_MAX) this.clear();
  }

  #payOwed(): void {
    const owed = [...this.#owed.values()];
    this.#owed.clear();
    for (const each of owed) this.#appendDelete(each);
  }

  #appendDelete({ hi, lo, variant }: Owed): void {
    const kind = variant === undefined ? "delete" : "delete-variant";
    this.#append(kind, hi, lo, variant ?? 0, PADDING.subarray(0, 0), [], undefined, undefined);
  }

  #append(
    kind: RecordKind,
    hi: number,
    lo: number,
    variant: number,
    head: Uint8Array,
    chunks: readonly Uint8Array[],
    key: CacheKey | undefined,
    object: StoredObject | undefined,
  ): void {
    // Deletes that a failing disk did not take come before anything newer.
    if (this.#owed.size > 0) this.#payOwed();
    let bodyBytes = 0;
    let bodyChecksum = 0;
    for (const chunk of chunks) {
      bodyBytes += chunk.byteLength;
      bodyChecksum = crc32(chunk, bodyChecksum);
    }
    const location = this.#log.append(kind, hi, lo, variant, head.byteLength, bodyBytes);
    // Whoever calls has asked whether it fits.
    if (location === undefined) return;
    this.#pollSteps();
    const first = encodeRecord({ ...location, kind, bodyChecksum }, head, this.#seed, crc32);
    const padding = PADDING.subarray(0, alignUp(bodyBytes) - bodyBytes);
    const bytes = recordBytes(head.byteLength, bodyBytes);
    this.#writer.push({
      type: "record",
      kind,
      location,
      parts: padding.byteLength === 0 ? [first, ...chunks] : [first, ...chunks, padding],
      bytes,
      key,
      object,
    });
  }

  #pollSteps(): void {
    for (let step = this.#log.pollStep(); step !== undefined; step = this.#log.pollStep())
      this.#writer.push(step);
  }

  #refused(what: "read" | "write" | "sync", error: unknown): void {
    this.counters.errors++;
    this.#logger.warn("disk-store-refused", { what, error });
  }

  /** The disk refused: what waits is given up, deletes are kept for later, and until then nothing is written. */
  #failed(error: unknown): void {
    this.#refused("write", error);
    const pauseMs = this.#writing.fail(this.#clock.monotonic());
    const lost: Location[] = [];
    for (const { kind, location } of this.#writer.giveUp()) {
      const { hi, lo, variant } = location;
      if (kind === "object") {
        lost.push(location);
        this.counters.skipped.failing++;
      }
      // An object that was not written leaves an older form of it on disk.
      this.#owe({ hi, lo, variant: kind === "delete" ? undefined : variant });
    }
    const { segment, bytes } = this.#writer.written;
    this.#log.abandon(segment, bytes, lost);
    if (FULL_CODES.has(codeOf(error))) this.#giveWay();
    this.#pollSteps();
    if (this.#isClosed) return;
    this.#retry = setTimeout(() => {
      this.#trying = this.#tryAgain();
    }, pauseMs).unref();
  }

  /** A full disk gets the oldest segment back, so that the next try finds room whoever filled it. */
  #giveWay(): void {
    const oldest = this.#log.oldestSegment;
    if (oldest !== undefined) this.#log.drop(oldest);
  }

  async #tryAgain(): Promise<void> {
    this.#retry = undefined;
    try {
      // The directory may have been removed meanwhile, or never been read.
      await this.#load();
    } catch (error) {
      if (this.#retry === undefined) this.#failed(error);
      return;
    }
    if (this.#owed.size > 0 && this.#mayWrite) this.#payOwed();
    this.#writer.resume();
  }

  // Reading.

  async #readObject(location: Location, key: CacheKey, isAgain = false): Promise<StoredObject | undefined> {
    const pending = this.#writer.objectAt(location);
    if (pending?.object !== undefined) {
      this.#log.markHit(location);
      return pending.key === key ? this.#trusted(pending.object, location) : undefined;
    }
    let object: StoredObject | undefined;
    try {
      object = await this.#readWithin(location, key);
    } catch (error) {
      // A segment that went while it was read is no fault of the disk.
      if (this.#log.isCurrent(location)) this.#refused("read", error);
    }
    if (this.#log.isCurrent(location)) {
      if (object !== undefined) this.#log.markHit(location);
      return object;
    }
    // It was deleted or replaced meanwhile, or moved to a newer segment: look once more.
    const [moved] = this.#log
      .find(location.hi, location.lo)
      .filter(({ variant }) => variant === location.variant);
    return moved === undefined || isAgain ? undefined : this.#readObject(moved, key, true);
  }

  async #readWithin(location: Location, key: CacheKey): Promise<StoredObject | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<"timeout">((resolve) => {
      timer = setTimeout(() => resolve("timeout"), READ_TIMEOUT_MS);
    });
    try {
      const record = await Promise.race([readRecord(this.#files, location, this.#seed), timeout]);
      if (record === "timeout") {
        this.#reading.fail(this.#clock.monotonic());
        throw new Error(`No answer after ${READ_TIMEOUT_MS} ms`);
      }
      this.#reading.succeed();
      const decoded = record && decodeObject(record.head, record.body);
      if (record === undefined || decoded === undefined) {
        // Segments that went while they were read are not damaged.
        if (this.#log.isCurrent(location)) this.#damaged(location);
        return undefined;
      }
      // Two keys of one fingerprint: the other one's.
      if (decoded.key !== key) return undefined;
      this.counters.reads++;
      return this.#trusted(decoded.object, location);
    } finally {
      clearTimeout(timer);
    }
  }

  #trusted(object: StoredObject, location: Location): StoredObject {
    return location.segment < this.#log.validateBefore ? { ...object, isInvalidated: true } : object;
  }

  #damaged({ segment, offset, lo, hi, variant }: Location): void {
    this.counters.damaged++;
    this.#logger.warn("disk-store-damaged", { segment, part: "record", offset });
    this.#forget(hi, lo, variant);
  }

  // Making room.

  /** Begins to save what is worth it out of the oldest segment, when the next one will need its room. */
  #reclaim(): void {
    const victim = this.#log.victim();
    if (victim === undefined || this.#reclaiming !== undefined || this.#isClosed) return;
    this.#reclaiming = this.#reclaimOne(victim).finally(() => {
      this.#reclaiming = undefined;
    });
  }

  /** What memory answers for counts as used: after a restart it is what is asked for first. */
  async #markInMemory(segment: number, index: SegmentIndex): Promise<void> {
    if (this.#isInMemory === undefined) return;
    const unused = this.#log.unused(segment, index);
    for await (const [location, head] of readHeads(this.#files, segment, unused)) {
      const key = keyOfHead(head);
      if (key !== undefined && this.#isInMemory(key)) this.#log.markHit(location);
    }
  }

  async #reclaimOne(segment: number): Promise<void> {
    try {
      const { index } = await readContent(this.#files, segment, this.#seed);
      await this.#markInMemory(segment, index);
      for (const record of this.#log.keepers(segment, index)) {
        while (this.pendingBytes > this.#pendingBytesMax / 2 && !this.#isClosed)
          await new Promise<void>((resolve) => {
            this.#waitingForRoom = resolve;
          });
        // Deleted, replaced, or gone with its segment because writing was faster than this.
        if (!this.#log.isCurrent(record)) continue;
        const read = await readRecord(this.#files, record, this.#seed);
        if (!this.#mayWrite) return;
        if (!this.#log.isCurrent(record)) continue;
        if (read === undefined) {
          this.#damaged(record);
          continue;
        }
        const { hi, lo, variant } = record;
        const decoded = decodeObject(read.head, read.body);
        if (decoded === undefined) continue;
        this.#append("object", hi, lo, variant, read.head, [read.body], decoded.key, decoded.object);
        this.counters.reinserted++;
      }
    } catch (error) {
      if (this.#log.oldestSegment === segment) this.#refused("read", error);
    }
    this.#log.drop(segment);
    this.#pollSteps();
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
