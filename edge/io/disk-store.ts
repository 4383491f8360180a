/**
 * Stored responses on disk, one file an object: simple and safe. A file is written under a temporary name and renamed, and
 * carries checksums of its head and content, so that after a crash at any moment it is whole or it counts as damaged; a
 * damaged file is a miss, is removed and is counted. The index is rebuilt at the start by reading the heads.
 *
 * No fsync: what a power cut takes is fetched again, and the checksums find what it tore.
 */
import { open, readdir, readFile, rename, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import {
  array,
  boolean,
  type EpochMs,
  IsochroneError,
  integer,
  nullable,
  number,
  object,
  type Parsed,
  string,
  tuple,
  xxh64Hex,
} from "#kit";
import { type Logger, makeDirectory } from "#kit/io";
import type { CacheKey } from "../core/cache-key.ts";
import { ObjectBody } from "./object-body.ts";
import type { StoredObject } from "./memory-store.ts";

/** Format name and version: a file of another version is removed at the start. */
const MAGIC = "isochrone-object 1";
/** Length of the first line: magic, checksum of the head, its length. Fixed, so that the head's place is known. */
const FIRST_LINE_BYTES = MAGIC.length + 1 + 8 + 1 + 8 + 1;
/** Longest head that is written or read. */
const HEAD_BYTES_MAX = 256 * 1_024;
/** Bytes that wait to be written; beyond it objects stay in memory only. */
const PENDING_BYTES_MAX = 64 * 1_024 * 1_024;

const text = (max: number) => string({ min: 0, max });
const headSchema = object({
  key: text(16_384),
  status: integer({ min: 200, max: 999 }),
  fields: array(tuple(text(1_024), text(65_536), "a name and a value"), { max: 1_000 }),
  requestTime: number(),
  responseTime: number(),
  nominatedFields: array(text(1_024), { max: 64 }),
  nominatedValues: array(nullable(text(65_536)), { max: 64 }),
  generation: integer(),
  tags: array(text(256), { max: 1_000 }),
  isInvalidated: boolean(),
  sliced: nullable(
    object({
      totalBytes: integer({ min: 1 }),
      sliceBytes: integer({ min: 1 }),
      validator: text(1_024),
    }),
  ),
  bodyBytes: integer(),
  bodyCrc32: integer(),
});
type DiskHead = Parsed<typeof headSchema>;

interface DiskEntry {
  readonly key: CacheKey;
  readonly fileBytes: number;
}

export interface DiskCounters {
  writes: number;
  reads: number;
  /** Files whose checksum, length or head was wrong. */
  damaged: number;
  evictions: number;
  /** Objects not written because the queue was full. */
  skipped: number;
  /** Writes and reads that the system refused. */
  errors: number;
}

export class DiskStore {
  readonly #directory: string;
  readonly #bytesMax: number;
  readonly #logger: Logger;
  /** By file name, least recently used first. */
  readonly #entries = new Map<string, DiskEntry>();
  readonly #filesOfKey = new Map<CacheKey, Set<string>>();
  #bytes = 0;
  #pendingBytes = 0;
  #queue: Promise<void> = Promise.resolve();
  #temporaries = 0;
  readonly counters: DiskCounters = { writes: 0, reads: 0, damaged: 0, evictions: 0, skipped: 0, errors: 0 };

  constructor(directory: string, bytesMax: number, logger: Logger) {
    this.#directory = directory;
    this.#bytesMax = bytesMax;
    this.#logger = logger;
  }

  get bytes(): number {
    return this.#bytes;
  }
  get objects(): number {
    return this.#entries.size;
  }

  /** Makes the directory and reads the heads of what lies in it. Rejects with IsochroneError when it cannot be used. */
  async open(): Promise<void> {
    try {
      makeDirectory(this.#directory);
      for (const name of await readdir(this.#directory)) {
        // Temporary files are left behind by a crash.
        if (name.endsWith(".tmp")) await this.#remove(name);
        if (!name.endsWith(".object")) continue;
        const entry = await this.#readEntry(name);
        if (entry === undefined) await this.#damaged(name, "head");
        else this.#add(name, entry);
      }
      await this.#evict();
    } catch (cause) {
      throw new IsochroneError(
        `Cannot use the disk store ${JSON.stringify(this.#directory)}: ${cause instanceof Error ? cause.message : String(cause)}; name a directory that this process may write`,
        { code: "disk-store", source: "configuration", retry: "never", cause },
      );
    }
  }

  has(key: CacheKey): boolean {
    return this.#filesOfKey.has(key);
  }

  /** Every whole variant under a key. Never rejects: what cannot be read is not there. */
  async load(key: CacheKey): Promise<readonly StoredObject[]> {
    const objects: StoredObject[] = [];
    for (const name of this.#filesOfKey.get(key) ?? []) {
      const object = await this.#readObject(name, key);
      if (object !== undefined) objects.push(object);
    }
    return objects;
  }

  /** Writes an object in the background; one of the same variant is replaced. */
  put(key: CacheKey, stored: StoredObject): void {
    const bytes = stored.body.bytes;
    if (this.#pendingBytes + bytes > PENDING_BYTES_MAX || bytes > this.#bytesMax) {
      this.counters.skipped++;
      this.#forget(fileNameOf(key, stored));
      return;
    }
    this.#pendingBytes += bytes;
    this.#queue = this.#queue.then(async () => {
      try {
        await this.#write(key, stored);
      } catch (error) {
        this.counters.errors++;
        this.#logger.warn("disk-store-write-failed", { error });
        this.#forget(fileNameOf(key, stored));
      } finally {
        this.#pendingBytes -= bytes;
      }
    });
  }

  /** Forgets every variant under a key. */
  delete(key: CacheKey): void {
    const names = [...(this.#filesOfKey.get(key) ?? [])];
    // Behind what is being written, so that an older object does not appear after it was deleted.
    for (const name of names) this.#drop(name);
    this.#queue = this.#queue.then(async () => {
      for (const name of new Set([...names, ...(this.#filesOfKey.get(key) ?? [])])) {
        this.#drop(name);
        await this.#remove(name);
      }
    });
  }

  /** Drops a file whose newer content could not be written: else the older would come back once memory has let go. */
  #forget(name: string): void {
    if (!this.#entries.has(name)) return;
    this.#drop(name);
    this.#queue = this.#queue.then(() => (this.#entries.has(name) ? undefined : this.#remove(name)));
  }

  /** Resolves when everything that was put has been written. */
  async flush(): Promise<void> {
    await this.#queue;
  }

  async #write(key: CacheKey, stored: StoredObject): Promise<void> {
    const { body, ...head } = stored;
    let bodyCrc32 = 0;
    for (const chunk of body.chunks) bodyCrc32 = crc32(chunk, bodyCrc32);
    const diskHead: DiskHead = { ...head, key, bodyBytes: body.bytes, bodyCrc32 };
    const headBytes = Buffer.from(JSON.stringify(diskHead));
    if (headBytes.byteLength > HEAD_BYTES_MAX) {
      this.counters.skipped++;
      this.#forget(fileNameOf(key, stored));
      return;
    }
    const firstLine = `${MAGIC} ${hex8(crc32(headBytes))} ${hex8(headBytes.byteLength)}\n`;
    const name = fileNameOf(key, stored);
    const temporary = `${name}.${++this.#temporaries}.tmp`;
    try {
      await writeFile(join(this.#directory, temporary), [Buffer.from(firstLine), headBytes, ...body.chunks]);
      await rename(join(this.#directory, temporary), join(this.#directory, name));
    } catch (error) {
      await this.#remove(temporary);
      throw error;
    }
    this.#drop(name);
    this.#add(name, { key, fileBytes: firstLine.length + headBytes.byteLength + body.bytes });
    this.counters.writes++;
    await this.#evict();
  }

  async #readEntry(name: string): Promise<DiskEntry | undefined> {
    const file = await open(join(this.#directory, name), "r");
    try {
      const { size } = await file.stat();
      const first = Buffer.alloc(FIRST_LINE_BYTES);
      await file.read(first, 0, FIRST_LINE_BYTES, 0);
      const headBytes = headBytesOf(first);
      if (headBytes === undefined) return undefined;
      const rest = Buffer.alloc(headBytes);
      await file.read(rest, 0, headBytes, FIRST_LINE_BYTES);
      const head = parseHead(first, rest);
      if (head === undefined || size !== FIRST_LINE_BYTES + headBytes + head.bodyBytes) return undefined;
      return { key: head.key as CacheKey, fileBytes: size };
    } finally {
      await file.close();
    }
  }

  async #readObject(name: string, key: CacheKey): Promise<StoredObject | undefined> {
    let bytes: Buffer;
    try {
      bytes = await readFile(join(this.#directory, name));
    } catch (error) {
      this.counters.errors++;
      this.#drop(name);
      this.#logger.warn("disk-store-read-failed", { error });
      return undefined;
    }
    const first = bytes.subarray(0, FIRST_LINE_BYTES);
    const headBytes = headBytesOf(first) ?? 0;
    const head = parseHead(first, bytes.subarray(FIRST_LINE_BYTES, FIRST_LINE_BYTES + headBytes));
    const content = bytes.subarray(FIRST_LINE_BYTES + headBytes);
    if (
      head === undefined ||
      head.key !== key ||
      content.byteLength !== head.bodyBytes ||
      crc32(content) !== head.bodyCrc32
    ) {
      await this.#damaged(name, "content");
      return undefined;
    }
    this.counters.reads++;
    const entry = this.#entries.get(name);
    if (entry !== undefined) {
      this.#entries.delete(name);
      this.#entries.set(name, entry);
    }
    const { key: _key, bodyBytes: _bodyBytes, bodyCrc32: _bodyCrc32, ...rest } = head;
    return {
      ...rest,
      requestTime: head.requestTime as EpochMs,
      responseTime: head.responseTime as EpochMs,
      body: ObjectBody.of([content]),
    };
  }

  async #damaged(name: string, part: "head" | "content"): Promise<void> {
    this.counters.damaged++;
    this.#logger.warn("disk-store-damaged", { file: name, part });
    this.#drop(name);
    await this.#remove(name);
  }

  #add(name: string, entry: DiskEntry): void {
    this.#entries.set(name, entry);
    this.#bytes += entry.fileBytes;
    const names = this.#filesOfKey.get(entry.key);
    if (names) names.add(name);
    else this.#filesOfKey.set(entry.key, new Set([name]));
  }

  #drop(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    this.#entries.delete(name);
    this.#bytes -= entry.fileBytes;
    const names = this.#filesOfKey.get(entry.key);
    names?.delete(name);
    if (names?.size === 0) this.#filesOfKey.delete(entry.key);
  }

  async #evict(): Promise<void> {
    for (const name of this.#entries.keys()) {
      if (this.#bytes <= this.#bytesMax) return;
      this.#drop(name);
      this.counters.evictions++;
      await this.#remove(name);
    }
  }

  async #remove(name: string): Promise<void> {
    try {
      await unlink(join(this.#directory, name));
    } catch {
      // Gone already, which is what was wanted; what cannot be removed is not in the index and serves nobody.
    }
  }
}

const hex8 = (n: number): string => n.toString(16).padStart(8, "0");

/** One name for a key and a variant. A collision of hashes replaces one object by another, whose key then differs: a miss. */
function fileNameOf(key: CacheKey, stored: StoredObject): string {
  return `${xxh64Hex(key)}-${xxh64Hex(JSON.stringify([stored.nominatedFields, stored.nominatedValues]))}.object`;
}

function headBytesOf(first: Uint8Array): number | undefined {
  const match = /^isochrone-object 1 [0-9a-f]{8} ([0-9a-f]{8})\n$/.exec(
    Buffer.from(first).toString("latin1"),
  );
  const length = match ? Number.parseInt(match[1] ?? "", 16) : 0;
  return length > 0 && length <= HEAD_BYTES_MAX ? length : undefined;
}

function parseHead(first: Uint8Array, head: Uint8Array): DiskHead | undefined {
  const checksum = Buffer.from(first)
    .toString("latin1")
    .slice(MAGIC.length + 1, MAGIC.length + 9);
  if (hex8(crc32(head)) !== checksum) return undefined;
  try {
    return headSchema.parse(JSON.parse(Buffer.from(head).toString("utf8")));
  } catch {
    // A head of this format's checksum but not of its shape: another version wrote it.
    return undefined;
  }
}
