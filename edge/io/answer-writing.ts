/** What the writers of answers have in common, whatever protocol they write: lengths, pieces, and waiting for a reader. */
import type { Writable } from "node:stream";
import type { Answer } from "./exchange.ts";

/** Largest piece that is handed over at once: a reader has the stall time for each, which is its least rate. */
export const PIECE_BYTES_MAX = 256 * 1_024;

/** Whether answers of this status never have content, nor say how long it is (RFC 9112, section 6.3). */
export function isBodiless(status: number): boolean {
  return status === 204 || status === 304;
}

/**
 * What Content-Length says; undefined: the answer has none. RFC 9110, section 8.6: HEAD states the length of the GET, when
 * it is known.
 */
export function statedLength(answer: Answer, method: string): number | undefined {
  if (isBodiless(answer.status)) return undefined;
  return answer.bodyBytes ?? (answer.body === undefined && method !== "HEAD" ? 0 : undefined);
}

/** Lets go of content that nobody will read. */
export async function discard(body: Answer["body"]): Promise<void> {
  await body?.[Symbol.asyncIterator]().return?.(undefined);
}

/**
 * Content that is iterated once and can be let go of meanwhile, also while its next piece is waited for: a next hop that is silent, or
 * that would wait for its reader, holds nothing for nobody when the client has gone.
 */
export class Pieces implements AsyncIterable<Uint8Array> {
  readonly #pieces: AsyncIterator<Uint8Array>;

  constructor(body: AsyncIterable<Uint8Array>) {
    this.#pieces = body[Symbol.asyncIterator]();
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this.#pieces;
  }

  readonly letGo = (): void => void this.#pieces.return?.(undefined).catch(() => {});

  /** Lets go when `writable` closes. The function that is returned ends that. */
  watch(writable: Writable): () => void {
    if (writable.destroyed) this.letGo();
    else writable.once("close", this.letGo);
    return () => writable.off("close", this.letGo);
  }
}

/** Waits until the client has read on; `gone`: it will not, `stalled`: it has not for `stallMs`. Never rejects. */
export function whenDrained(writable: Writable, stallMs: number): Promise<"drained" | "gone" | "stalled"> {
  return new Promise((resolve) => {
    if (writable.destroyed) {
      resolve("gone");
      return;
    }
    const done = (result: "drained" | "gone" | "stalled"): void => {
      clearTimeout(timer);
      writable.off("drain", onDrain);
      writable.off("close", onClose);
      resolve(result);
    };
    const onDrain = (): void => done("drained");
    const onClose = (): void => done("gone");
    const timer = setTimeout(() => done("stalled"), stallMs);
    writable.on("drain", onDrain);
    writable.on("close", onClose);
  });
}
