/**
 * What a worker works on, in memory that outlives it: a file without a name, mapped by the worker and read by the process that started it. The
 * kernel receives datagrams into that memory, so marking the one in work costs a few stores. Needs koffi; without it nothing is known of a
 * worker's last query.
 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addressFromBytes, formatAddress } from "#kit";

/** Descriptor of the file in a worker: after its streams and the channel to who started it. */
export const BLACK_BOX_FD = 4;
/** Received datagrams, those that wait, one message over TCP. */
const BOX_BYTES = 8 * 1024 * 1024;
const HEADER_BYTES = 64;
const ALIGNMENT = 64;
const MESSAGE_BYTES_MAX = 65_536;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
/** Where a file is memory: nothing is ever written to a disk. */
const MEMORY_DIRECTORY = "/dev/shm";

/** Words of the header. */
const words = { at: 0, bytes: 1, sequence: 2, family: 3, port: 4, address: 5 } as const;

/** In a worker. */
export class BlackBox {
  readonly #memory: ArrayBuffer;
  readonly #header: Uint32Array;
  readonly #message: Buffer;
  #used = HEADER_BYTES;

  private constructor(memory: ArrayBuffer) {
    this.#memory = memory;
    this.#header = new Uint32Array(memory, 0, HEADER_BYTES / 4);
    this.#message = this.memory(MESSAGE_BYTES_MAX);
  }

  /** Maps the file that who started us has given; undefined where that cannot be. */
  static async open(): Promise<BlackBox | undefined> {
    try {
      const { default: koffi } = await import("koffi");
      const map = koffi
        .load(null)
        .func("void *mmap(void *at, size_t bytes, int protection, int flags, int fd, int64_t offset)");
      const at: unknown = map(null, BOX_BYTES, PROT_READ_WRITE, MAP_SHARED, BLACK_BOX_FD, 0);
      // MAP_FAILED is all ones.
      if (at === null || koffi.address(at) === 0xffff_ffff_ffff_ffffn) return undefined;
      return new BlackBox(koffi.view(at, BOX_BYTES));
    } catch {
      return undefined;
    }
  }

  /** A piece of it, zeroed; throws when it is used up. */
  memory(bytes: number): Buffer {
    const at = this.#used;
    this.#used += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return Buffer.from(this.#memory, at, bytes);
  }

  /** From now on this is worked on. @param inside a piece that {@link memory} gave */
  begin(
    inside: Buffer,
    at: number,
    end: number,
    family: number,
    address: ArrayLike<number>,
    port: number,
  ): void {
    const header = this.#header;
    header[words.family] = family;
    header[words.port] = port;
    for (let word = 0; word < 4; word++) header[words.address + word] = address[word] ?? 0;
    header[words.bytes] = end - at;
    header[words.at] = inside.byteOffset + at;
    header[words.sequence] = (header[words.sequence] as number) + 1;
  }

  /** The same for a message that lies elsewhere. */
  beginMessage(message: Uint8Array, family: number, address: ArrayLike<number>, port: number): void {
    const bytes = Math.min(message.length, MESSAGE_BYTES_MAX);
    this.#message.set(message.subarray(0, bytes));
    this.begin(this.#message, 0, bytes, family, address, port);
  }

  end(): void {
    this.#header[words.at] = 0;
  }
}

export interface QueryInWork {
  readonly bytes: Buffer;
  /** Grows with each query: equal in two looks, the same one is still worked on. */
  readonly sequence: number;
  readonly client: string;
  readonly port: number;
}

/** In the process that starts workers: the file of one of them. */
export class BlackBoxFile {
  readonly fd: number;
  #isOpen = true;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** Undefined where no file can be had. */
  static create(): BlackBoxFile | undefined {
    for (const parent of [MEMORY_DIRECTORY, tmpdir()]) {
      try {
        const directory = mkdtempSync(join(parent, "isochrone-"));
        try {
          const fd = openSync(join(directory, "box"), "wx+", 0o600);
          ftruncateSync(fd, BOX_BYTES);
          return new BlackBoxFile(fd);
        } finally {
          rmSync(directory, { recursive: true });
        }
      } catch {
        continue;
      }
    }
    return undefined;
  }

  /** What is worked on now, or was when the worker ended; undefined: nothing. */
  read(): QueryInWork | undefined {
    const header = Buffer.alloc(HEADER_BYTES);
    if (!this.#isOpen || readSync(this.fd, header, 0, HEADER_BYTES, 0) !== HEADER_BYTES) return undefined;
    const word = (index: number): number => header.readUInt32LE(index * 4);
    const at = word(words.at);
    const length = word(words.bytes);
    if (at < HEADER_BYTES || length > MESSAGE_BYTES_MAX || at + length > BOX_BYTES) return undefined;
    const bytes = Buffer.alloc(length);
    readSync(this.fd, bytes, 0, length, at);
    const family = word(words.family) === 6 ? 6 : 4;
    const octets = Buffer.alloc(family === 4 ? 4 : 16);
    for (let index = 0; index < octets.length / 4; index++)
      octets.writeUInt32BE(word(words.address + index), index * 4);
    return {
      bytes,
      sequence: word(words.sequence),
      client: formatAddress(addressFromBytes(family, octets)),
      port: word(words.port),
    };
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.fd);
  }
}
