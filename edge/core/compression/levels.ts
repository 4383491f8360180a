/** How hard to compress: in the background once for all, and while a client waits. */
import type { Coding, DictionaryCoding } from "./accept-encoding.ts";

/** The compressor behind a coding. */
export function formatOf(coding: Coding | DictionaryCoding): Coding {
  return coding === "dcb" ? "br" : coding === "dcz" ? "zstd" : coding;
}

export const isWithDictionary = (coding: string): coding is DictionaryCoding =>
  coding === "dcb" || coding === "dcz";

const KIBIBYTE = 1_024;

/** Brotli's quality by length: 11 takes 1.5 to 2.3 s of CPU a MiB, 9 a fifth of a second. */
function storedBrotliQuality(bytes: number): number {
  if (bytes <= 512 * KIBIBYTE) return 11;
  return bytes <= 2_048 * KIBIBYTE ? 9 : 6;
}

/** The level at which content of `bytes` is compressed once, to be sent many times. */
export function storedLevel(format: Coding, bytes: number): number {
  switch (format) {
    case "br":
      return storedBrotliQuality(bytes);
    case "zstd":
      // Level 20 and above want windows that browsers refuse (RFC 9659: 8 MiB).
      return bytes <= 1_024 * KIBIBYTE ? 19 : 12;
    case "gzip":
      return 9;
    default:
      return format satisfies never;
  }
}

/** The level while a client waits. Brotli makes use of a dictionary from quality 5 on. */
export function streamLevel(format: Coding): number {
  return { br: 5, zstd: 3, gzip: 5 }[format];
}

/** Codings while a client waits, the one that costs least for what it saves first. */
export const STREAM_ORDER: readonly Coding[] = ["zstd", "br", "gzip"];

/** A result that is not at least a twentieth smaller is not worth a decoder's work. */
export function isWorthwhile(sourceBytes: number, codedBytes: number): boolean {
  return codedBytes <= sourceBytes * 0.95;
}

/** Where content that is decoded may grow to, bytes: by so much and so many times, though a small page may always be 1 MiB. */
export function decodedBytesMax(codedBytes: number, bytesMax: number, ratioMax: number): number {
  return Math.min(bytesMax, Math.max(1_024 * KIBIBYTE, codedBytes * ratioMax));
}
