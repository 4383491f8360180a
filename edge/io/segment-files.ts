/**
 * The segment files of one directory: makes, writes, reads and removes them. No policy, and no error of its own: what the
 * system says comes through. A file that is removed is closed when the last read of it has ended.
 */
import {
  close,
  fdatasync,
  fstat,
  ftruncate,
  open as openFile,
  readdir,
  readv,
  unlink,
  writev,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

interface OpenFile {
  readonly descriptor: number;
  /** Reads and writes in flight. */
  uses: number;
  isRemoved: boolean;
}

const promised = {
  close: promisify(close),
  fdatasync: promisify(fdatasync),
  fstat: promisify(fstat),
  ftruncate: promisify(ftruncate),
  open: promisify(openFile),
  readdir: promisify(readdir),
  unlink: promisify(unlink),
};

const SEGMENT_NAME = /^segment-([0-9a-f]{8})\.log$/;

/** Whether a file of this name is a segment of a store. */
export function isSegmentName(name: string): boolean {
  return SEGMENT_NAME.test(name);
}

export class SegmentFiles {
  readonly directory: string;
  /** Opened when first used, and then kept: as many as there are segments. */
  readonly #files = new Map<number, Promise<OpenFile>>();

  constructor(directory: string) {
    this.directory = directory;
  }

  /** What lies in the directory: numbers of segments, lowest first, and the names of everything else. */
  async list(): Promise<{ readonly segments: readonly number[]; readonly others: readonly string[] }> {
    const segments: number[] = [];
    const others: string[] = [];
    for (const name of await promised.readdir(this.directory)) {
      const match = SEGMENT_NAME.exec(name);
      if (match === null) others.push(name);
      else segments.push(Number.parseInt(match[1] ?? "", 16));
    }
    return { segments: segments.sort((a, b) => a - b), others };
  }

  /** Makes a segment, which must not be there, and writes its first bytes. */
  async create(segment: number, header: Uint8Array): Promise<void> {
    const file = promised
      .open(this.#pathOf(segment), "wx+", 0o600)
      .then((descriptor): OpenFile => ({ descriptor, uses: 0, isRemoved: false }));
    this.#files.set(segment, file);
    try {
      await file;
      await this.write(segment, 0, [header]);
    } catch (error) {
      this.#files.delete(segment);
      file.then(({ descriptor }) => promised.close(descriptor)).catch(() => {});
      throw error;
    }
  }

  /** Writes all of the bytes at a place. */
  async write(segment: number, offset: number, parts: readonly Uint8Array[]): Promise<void> {
    await this.#with(segment, async (descriptor) => {
      let at = offset;
      let left = parts;
      while (left.length > 0) {
        const written = await writeSome(descriptor, left, at);
        at += written;
        left = rest(left, written);
      }
    });
  }

  /** Fills the buffers from a place. Returns how many bytes there were. */
  async read(segment: number, offset: number, parts: readonly Uint8Array[]): Promise<number> {
    return this.#with(segment, (descriptor) => readSome(descriptor, parts, offset));
  }

  /** Bytes of a segment's file. */
  async size(segment: number): Promise<number> {
    return this.#with(segment, async (descriptor) => (await promised.fstat(descriptor)).size);
  }

  async truncate(segment: number, bytes: number): Promise<void> {
    await this.#with(segment, (descriptor) => promised.ftruncate(descriptor, bytes));
  }

  /** Resolves when what was written would survive a power cut. */
  async sync(segment: number): Promise<void> {
    await this.#with(segment, (descriptor) => promised.fdatasync(descriptor));
  }

  /** Removes a segment; one that is not there is all right. */
  async remove(segment: number): Promise<void> {
    await this.removeOther(`segment-${hex8(segment)}.log`);
    await this.#release(segment);
  }

  /** Removes another file of the directory; one that is not there is all right. */
  async removeOther(name: string): Promise<void> {
    try {
      await promised.unlink(join(this.directory, name));
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }

  /** Closes every file; reads that are in flight end first. */
  async close(): Promise<void> {
    await Promise.all([...this.#files.keys()].map((segment) => this.#release(segment)));
  }

  async #release(segment: number): Promise<void> {
    const file = await this.#files.get(segment)?.catch(() => undefined);
    this.#files.delete(segment);
    if (file === undefined) return;
    file.isRemoved = true;
    if (file.uses === 0) await promised.close(file.descriptor);
  }

  async #with<T>(segment: number, use: (descriptor: number) => Promise<T>): Promise<T> {
    const file = await this.#open(segment);
    // Its number may already belong to another file.
    if (file.isRemoved) throw new Error(`Segment ${segment} was removed`);
    file.uses++;
    try {
      return await use(file.descriptor);
    } finally {
      file.uses--;
      if (file.isRemoved && file.uses === 0) void promised.close(file.descriptor).catch(() => {});
    }
  }

  #open(segment: number): Promise<OpenFile> {
    const present = this.#files.get(segment);
    if (present !== undefined) return present;
    const file = promised
      .open(this.#pathOf(segment), "r+")
      .then((descriptor): OpenFile => ({ descriptor, uses: 0, isRemoved: false }));
    this.#files.set(segment, file);
    file.catch(() => this.#files.get(segment) === file && this.#files.delete(segment));
    return file;
  }

  #pathOf(segment: number): string {
    return join(this.directory, `segment-${hex8(segment)}.log`);
  }
}

/** Buffers of one system call: IOV_MAX is 1,024 on Linux and macOS (writev(2)). */
const PARTS_MAX = 1_024;

function writeSome(descriptor: number, parts: readonly Uint8Array[], offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    writev(descriptor, parts.slice(0, PARTS_MAX), offset, (error, written) => {
      if (error !== null) reject(error);
      else if (written === 0) reject(new Error("The system wrote nothing"));
      else resolve(written);
    });
  });
}

function readSome(descriptor: number, parts: readonly Uint8Array[], offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    readv(descriptor, parts, offset, (error, read) => (error === null ? resolve(read) : reject(error)));
  });
}

/** What is left of the buffers after their first bytes. */
function rest(parts: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let skipped = 0;
  for (const [number, part] of parts.entries()) {
    if (skipped + part.byteLength > bytes)
      return [part.subarray(bytes - skipped), ...parts.slice(number + 1)];
    skipped += part.byteLength;
  }
  return [];
}

const hex8 = (n: number): string => n.toString(16).padStart(8, "0");
