/** Files of client networks on the disk: read whole or not at all, written whole or not at all. */
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { createGunzip, gzip } from "node:zlib";
import { IsochroneError, ParseError } from "#kit";
import { writeFileDurable } from "#kit/io";
import {
  type NetworkFile,
  NetworkFileReader,
  type NetworkRecord,
  networkFileLines,
} from "../core/networks/network-file.ts";

/** Unpacked; 500,000 networks have about 150 MB. */
const FILE_BYTES_MAX = 2 ** 30;

/**
 * Reads as it comes, so that a process that serves others is not held up by it. Rejects with IsochroneError (source "configuration") that
 * says what is wrong where.
 */
export async function readNetworkFile(path: string): Promise<NetworkFile> {
  const reader = new NetworkFileReader();
  let bytes = 0;
  const take = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
    for await (const chunk of chunks) {
      bytes += chunk.length;
      if (bytes > FILE_BYTES_MAX) throw new ParseError([], bytes, `at most ${FILE_BYTES_MAX} bytes`);
      reader.read(chunk);
    }
  };
  try {
    if (path.endsWith(".gz")) await pipeline(createReadStream(path), createGunzip(), take);
    else await pipeline(createReadStream(path), take);
    return reader.end();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new IsochroneError(`Cannot take client networks from ${JSON.stringify(path)}: ${why}`, {
      code: "bad-client-networks",
      source: "configuration",
      retry: "never",
      cause,
    });
  }
}

/** Gzipped where the name ends in ".gz". Rejects with IsochroneError; the old file is then untouched. */
export async function writeNetworkFile(
  path: string,
  networks: Iterable<NetworkRecord>,
  createdAtEpochMs: number,
): Promise<void> {
  const chunks: Buffer[] = [];
  for (const line of networkFileLines(networks, createdAtEpochMs)) chunks.push(Buffer.from(line));
  const bytes = Buffer.concat(chunks);
  await writeFileDurable(path, path.endsWith(".gz") ? await promisify(gzip)(bytes) : bytes);
}
