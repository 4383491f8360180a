/** Reading files of any size as they come. */
import { createReadStream } from "node:fs";
import { createGunzip } from "node:zlib";
import { quoteValue } from "#kit";
import { messageOf, UsageError } from "../usage.ts";

/** The bytes of a file ("-": standard input), gunzipped where it is gzipped. Throws {@link UsageError}. */
export async function* unpacked(file: string): AsyncGenerator<Uint8Array> {
  const source = file === "-" ? process.stdin : createReadStream(file);
  try {
    const chunks = (source as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    const first = await chunks.next();
    if (first.done === true) return;
    const rest = async function* (): AsyncGenerator<Buffer> {
      yield first.value;
      for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) yield next.value;
    };
    // RFC 1952 section 2.3.1.
    if (first.value[0] !== 0x1f || first.value[1] !== 0x8b) yield* rest();
    else {
      const gunzip = createGunzip();
      const fed = (async () => {
        for await (const chunk of rest())
          if (!gunzip.write(chunk)) await new Promise((resolve) => gunzip.once("drain", resolve));
        gunzip.end();
      })();
      fed.catch((error: unknown) => gunzip.destroy(error as Error));
      yield* gunzip as AsyncIterable<Buffer>;
    }
  } catch (error) {
    throw new UsageError(`Cannot read ${quoteValue(file)}: ${messageOf(error)}`);
  } finally {
    // Who stops early must not wait for the end of a pipe.
    source.destroy();
  }
}
