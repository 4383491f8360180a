/** zlib, Brotli and Zstandard: a stream while a client waits, a whole in the background, and decoding within bounds. */
import type { Transform } from "node:stream";
import { promisify } from "node:util";
import {
  brotliCompress,
  brotliDecompress,
  constants,
  createBrotliCompress,
  createGzip,
  createZstdCompress,
  gunzip,
  gzip,
  zstdCompress,
  zstdDecompress,
} from "node:zlib";
import type { Coding, DictionaryCoding } from "../../core/compression/accept-encoding.ts";
import { formatOf } from "../../core/compression/levels.ts";

/** A dictionary (RFC 9842): the content of another response. */
export interface Dictionary {
  readonly bytes: Uint8Array;
  /** SHA-256 of it, base64. */
  readonly hash: string;
}

/** An arriving source that has not sent more for so long gets out what it has sent, ms: half a frame of a screen. */
const FLUSH_AFTER_MS = 10;

/** Brotli's window while a client waits, as a power of two: a quarter of a MiB, since each stream holds several times that. */
const STREAM_BROTLI_WINDOW = 18;

const FLUSH: Readonly<Record<Coding, number>> = {
  br: constants.BROTLI_OPERATION_FLUSH,
  zstd: constants.ZSTD_e_flush,
  gzip: constants.Z_SYNC_FLUSH,
};

/** What stands before the compressed stream: a magic number and the dictionary's hash (RFC 9842, sections 4 and 5). */
export function dictionaryHeader(coding: DictionaryCoding, hash: string): Uint8Array {
  const magic = coding === "dcb" ? [0xff, 0x44, 0x43, 0x42] : [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0];
  return Uint8Array.from([...magic, ...Buffer.from(hash, "base64")]);
}

function headerOf(
  coding: Coding | DictionaryCoding,
  dictionary: Dictionary | undefined,
): Uint8Array | undefined {
  return (coding === "dcb" || coding === "dcz") && dictionary !== undefined
    ? dictionaryHeader(coding, dictionary.hash)
    : undefined;
}

function brotliOptions(level: number, bytes: number | undefined, dictionary: Dictionary | undefined) {
  return {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: level,
      ...(bytes !== undefined && { [constants.BROTLI_PARAM_SIZE_HINT]: bytes }),
    },
    ...(dictionary !== undefined && { dictionary: dictionary.bytes }),
  };
}

function zstdOptions(level: number, dictionary: Dictionary | undefined) {
  return {
    params: { [constants.ZSTD_c_compressionLevel]: level },
    ...(dictionary !== undefined && { dictionary: Buffer.from(dictionary.bytes) }),
  };
}

function compressorFor(
  format: Coding,
  level: number,
  bytes: number | undefined,
  dictionary: Dictionary | undefined,
): Transform {
  switch (format) {
    case "br": {
      const options = brotliOptions(level, bytes, dictionary);
      return createBrotliCompress({
        ...options,
        // With a dictionary the window has to reach back over all of it.
        params:
          dictionary === undefined
            ? { ...options.params, [constants.BROTLI_PARAM_LGWIN]: STREAM_BROTLI_WINDOW }
            : options.params,
      });
    }
    case "zstd":
      return createZstdCompress({
        ...zstdOptions(level, dictionary),
        ...(bytes !== undefined && { pledgedSrcSize: bytes }),
      });
    case "gzip":
      return createGzip({ level });
    default:
      return format satisfies never;
  }
}

export interface StreamOptions {
  readonly coding: Coding | DictionaryCoding;
  readonly level: number;
  /** Length of the source; undefined: not known. */
  readonly bytes: number | undefined;
  readonly dictionary: Dictionary | undefined;
  /** Told once, when it has ended in whatever way. */
  readonly onEnd: (bytesIn: number, bytesOut: number) => void;
}

/**
 * The content coded as it comes, at the reader's pace. What is not read to its end is given back by `return()`, as for any content; a
 * source that fails makes it fail.
 */
export function codedStream(
  source: AsyncIterable<Uint8Array>,
  { coding, level, bytes, dictionary, onEnd }: StreamOptions,
): AsyncIterableIterator<Uint8Array> {
  const format = formatOf(coding);
  const from = source[Symbol.asyncIterator]();
  let transform: Transform | undefined;
  let out: AsyncIterator<Uint8Array> | undefined;
  let header = headerOf(coding, dictionary);
  let bytesIn = 0;
  let bytesOut = header?.byteLength ?? 0;
  let isEnded = false;
  const end = (): void => {
    if (isEnded) return;
    isEnded = true;
    onEnd(bytesIn, bytesOut);
  };
  const pump = async (into: Transform): Promise<void> => {
    const flush = (): void => {
      if (!into.destroyed && !into.writableEnded)
        (into as Transform & { flush(kind: number): void }).flush(FLUSH[format]);
    };
    try {
      for (;;) {
        const timer = bytesIn === 0 ? undefined : setTimeout(flush, FLUSH_AFTER_MS);
        const { done, value } = await from.next();
        clearTimeout(timer);
        if (done === true || into.destroyed) break;
        bytesIn += value.byteLength;
        if (!into.write(value)) await hasRoom(into);
      }
      if (into.destroyed) await from.return?.();
      else into.end();
    } catch (error) {
      into.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  };
  // Not a generator: one that was never begun would swallow return(), and the source would wait for its reader for ever.
  return {
    next: async () => {
      if (header !== undefined) {
        const value = header;
        header = undefined;
        return { done: false, value };
      }
      if (isEnded) return { done: true, value: undefined };
      try {
        if (out === undefined) {
          transform = compressorFor(format, level, bytes, dictionary);
          out = transform[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
          void pump(transform);
        }
        const result = await out.next();
        if (result.done === true) end();
        else bytesOut += result.value.byteLength;
        return result;
      } catch (error) {
        end();
        throw error;
      }
    },
    return: async () => {
      end();
      transform?.destroy();
      await from.return?.();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

/** Resolves when more may be written, or nothing will be read any more. */
async function hasRoom(transform: Transform): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      transform.off("drain", done);
      transform.off("close", done);
      resolve();
    };
    transform.on("drain", done);
    transform.on("close", done);
  });
}

const compressWith = {
  br: promisify(brotliCompress),
  zstd: promisify(zstdCompress),
  gzip: promisify(gzip),
};

/** The whole content coded, in a buffer of its own. */
export async function codedWhole(
  content: Uint8Array,
  coding: Coding | DictionaryCoding,
  level: number,
  dictionary: Dictionary | undefined,
): Promise<Uint8Array> {
  const format = formatOf(coding);
  const bytes = content.byteLength;
  const coded =
    format === "br"
      ? await compressWith.br(content, brotliOptions(level, bytes, dictionary))
      : format === "zstd"
        ? await compressWith.zstd(content, { ...zstdOptions(level, dictionary), pledgedSrcSize: bytes })
        : await compressWith.gzip(content, { level });
  const header = headerOf(coding, dictionary) ?? NO_BYTES;
  const whole = new Uint8Array(header.byteLength + coded.byteLength);
  whole.set(header);
  whole.set(coded, header.byteLength);
  return whole;
}

const NO_BYTES = new Uint8Array(0);

const decompressWith = {
  br: promisify(brotliDecompress),
  zstd: promisify(zstdDecompress),
  gzip: promisify(gunzip),
};

/** Content decoded: what it was, or why it cannot be had. */
export type Decoded = { readonly bytes: Uint8Array } | { readonly fault: "too-large" | "malformed" };

/** Decodes to at most `bytesMax`; never rejects. */
export async function decodedWhole(content: Uint8Array, coding: Coding, bytesMax: number): Promise<Decoded> {
  try {
    const bytes = await decompressWith[coding](content, { maxOutputLength: bytesMax });
    return { bytes: new Uint8Array(bytes) };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    return { fault: code === "ERR_BUFFER_TOO_LARGE" ? "too-large" : "malformed" };
  }
}
