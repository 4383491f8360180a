/** Several ranges in one answer: multipart/byteranges (RFC 9110, section 14.6). */
import { randomBytes } from "node:crypto";
import { type ByteSpan, contentRange } from "../core/range.ts";

/** Content of which parts can be read. */
export interface Readable {
  /** The bytes `first..last` (inclusive; default: all). The reader counts from this call on and ends with `return()`. */
  read(first?: number, last?: number): AsyncIterableIterator<Uint8Array>;
}

/** The parts, in the order of `spans`, with the length that they have together. `contentType` is that of each part. */
export function multipart(
  content: Readable,
  spans: readonly ByteSpan[],
  totalBytes: number,
  contentType: string | undefined,
): {
  readonly contentType: string;
  readonly bodyBytes: number;
  readonly body: AsyncIterableIterator<Uint8Array>;
} {
  // Not to be guessed by who writes the content, so that it cannot end a part (RFC 2046, section 5.1.1).
  const boundary = randomBytes(16).toString("hex");
  const heads = spans.map((span, index) =>
    Buffer.from(
      `${index === 0 ? "" : "\r\n"}--${boundary}\r\n${
        contentType === undefined ? "" : `Content-Type: ${contentType}\r\n`
      }Content-Range: ${contentRange(span, totalBytes)}\r\n\r\n`,
      "latin1",
    ),
  );
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`, "latin1");
  let bodyBytes = tail.byteLength;
  for (const head of heads) bodyBytes += head.byteLength;
  for (const { first, last } of spans) bodyBytes += last - first + 1;
  return {
    contentType: `multipart/byteranges; boundary=${boundary}`,
    bodyBytes,
    body: sequence(content, spans, heads, tail),
  };
}

/** Not a generator: one that was never begun would swallow return(), and the first part's reader would wait for ever. */
function sequence(
  content: Readable,
  spans: readonly ByteSpan[],
  heads: readonly Uint8Array[],
  tail: Uint8Array,
): AsyncIterableIterator<Uint8Array> {
  const open = (index: number): AsyncIterableIterator<Uint8Array> | undefined => {
    const span = spans[index];
    return span && content.read(span.first, span.last);
  };
  let index = 0;
  let part = open(0);
  let state: "head" | "content" | "done" = "head";
  const done: IteratorResult<Uint8Array> = { done: true, value: undefined };
  return {
    next: async () => {
      for (;;) {
        if (state === "done") return done;
        if (state === "head") {
          const head = heads[index];
          if (head === undefined) {
            state = "done";
            return { done: false, value: tail };
          }
          state = "content";
          return { done: false, value: head };
        }
        const result = await part?.next();
        if (result !== undefined && result.done !== true) return result;
        part = open(++index);
        state = "head";
      }
    },
    return: async () => {
      state = "done";
      await part?.return?.();
      return done;
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
