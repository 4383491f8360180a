/** Content codings, for who looks at an answer. */
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";

/** Content without its coding. @throws Error for a coding that is not known, or content that is not of it */
export function decoded(content: Buffer, coding: string, dictionary?: Buffer): Buffer {
  // The types of Node do not know Brotli's dictionary yet.
  const options = { dictionary } as object;
  switch (coding) {
    case "br":
      return brotliDecompressSync(content);
    case "zstd":
      return zstdDecompressSync(content);
    case "gzip":
      return gunzipSync(content);
    // RFC 9842, sections 4 and 5: magic number and hash of the dictionary come first.
    case "dcb":
      return brotliDecompressSync(content.subarray(36), options);
    case "dcz":
      return zstdDecompressSync(content.subarray(40), options);
    default:
      throw new Error(`a content coding that is not known: ${JSON.stringify(coding)}`);
  }
}
