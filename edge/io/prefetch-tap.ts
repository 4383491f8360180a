/** Passes content on unchanged while a decoded copy of it is read. */
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from "node:zlib";
import type { Transform } from "node:stream";

/** What reads the copy: one character a byte. `end` comes once, when the content was read to its end or nothing more is wanted. */
export interface TapReader {
  readonly isDone: boolean;
  readonly write: (text: string) => void;
  readonly end: () => void;
}

/** Undefined: a coding that is not read here; the content is then not looked at. */
export function tapped(
  body: AsyncIterable<Uint8Array>,
  coding: string | undefined,
  reader: TapReader,
): AsyncIterableIterator<Uint8Array> | undefined {
  const decoder = decoderFor(coding);
  if (decoder === undefined) return undefined;
  let hasEnded = false;
  let isOpen = true;
  const finish = (): void => {
    if (hasEnded) return;
    hasEnded = true;
    reader.end();
  };
  const take = (bytes: Uint8Array): void => {
    if (hasEnded) return;
    reader.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1"));
    if (reader.isDone) finish();
  };
  if (decoder !== "identity") {
    decoder.on("data", (bytes: Uint8Array) => {
      take(bytes);
      // A small page may unpack to an endless one.
      if (hasEnded) decoder.destroy();
    });
    decoder.on("end", finish);
    // Damaged content is the browser's to judge.
    decoder.on("error", () => {});
    decoder.on("close", () => {
      isOpen = false;
    });
  }
  const source = body[Symbol.asyncIterator]();
  const end = (isWhole: boolean): void => {
    if (decoder === "identity") {
      if (isWhole) finish();
    } else if (isOpen) {
      if (isWhole) decoder.end();
      else decoder.destroy();
    }
  };
  // Not a generator: one that was never begun would swallow return(), and the body would wait for its reader for ever.
  return {
    next: async () => {
      try {
        const result = await source.next();
        if (result.done === true) end(true);
        else if (decoder === "identity") take(result.value);
        else if (isOpen) decoder.write(result.value);
        return result;
      } catch (error) {
        end(false);
        throw error;
      }
    },
    return: async () => {
      end(false);
      await source.return?.();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

function decoderFor(coding: string | undefined): Transform | "identity" | undefined {
  switch (coding?.trim().toLowerCase()) {
    case undefined:
    case "":
    case "identity":
      return "identity";
    case "gzip":
      return createGunzip();
    case "deflate":
      return createInflate();
    case "br":
      return createBrotliDecompress();
    case "zstd":
      return createZstdDecompress();
    default:
      return undefined;
  }
}
