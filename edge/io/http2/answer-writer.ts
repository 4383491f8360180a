/** Writes an answer to an HTTP/2 stream: back-pressure kept, stalled readers given up, a broken answer seen as one. */
import { constants, type ServerHttp2Stream } from "node:http2";
import type { WriteResult } from "../dispatch.ts";
import type { Answer } from "../exchange.ts";

/** Of one connection, so never sent (RFC 9113, section 8.2.2); upstream's own are gone already. */
const CONNECTION_SPECIFIC: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);

/** Largest piece handed over at once: a reader has the stall time for each, which is its least rate. */
export const PIECE_BYTES_MAX = 256 * 1_024;

/** Names and values in turn, as `respond` takes them: an object would be built only to be taken apart. */
export function headOf(answer: Answer, method: string): string[] {
  const raw = [":status", String(answer.status)];
  for (const [name, value] of answer.fields) {
    const lower = name.toLowerCase();
    if (!CONNECTION_SPECIFIC.has(lower)) raw.push(lower, value);
  }
  const isBodiless = answer.status === 204 || answer.status === 304;
  // RFC 9110, section 8.6: HEAD states the length of the GET, when it is known.
  if (!isBodiless) {
    if (answer.bodyBytes !== undefined) raw.push("content-length", String(answer.bodyBytes));
    else if (answer.body === undefined && method !== "HEAD") raw.push("content-length", "0");
  }
  return raw;
}

/** Writes all of an answer. Never rejects. */
export async function writeToStream(
  stream: ServerHttp2Stream,
  answer: Answer,
  method: string,
  stallMs: number,
  onProgress: () => void,
): Promise<WriteResult> {
  let bytesDown = 0;
  const { body } = answer;
  if (stream.destroyed || stream.closed) {
    await body?.[Symbol.asyncIterator]().return?.(undefined);
    return { bytesDown, end: "client-gone" };
  }
  const isEnd = body === undefined;
  stream.respond(headOf(answer, method), { endStream: isEnd });
  if (isEnd) return { bytesDown, end: "complete" };
  try {
    for await (const chunk of body) {
      for (let from = 0; from < chunk.byteLength; from += PIECE_BYTES_MAX) {
        const piece =
          chunk.byteLength <= PIECE_BYTES_MAX ? chunk : chunk.subarray(from, from + PIECE_BYTES_MAX);
        bytesDown += piece.byteLength;
        const hasRoom = stream.write(piece);
        if (stream.destroyed || stream.closed) return { bytesDown, end: "client-gone" };
        onProgress();
        if (hasRoom) continue;
        const drained = await drain(stream, stallMs);
        if (drained === "gone") return { bytesDown, end: "client-gone" };
        if (drained === "stalled") {
          stream.close(constants.NGHTTP2_CANCEL);
          return { bytesDown, end: "stalled" };
        }
        onProgress();
      }
    }
  } catch {
    // RFC 9113, section 8.1: a stream that is reset is incomplete, and is seen as that.
    stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    return { bytesDown, end: "broken-off" };
  }
  stream.end();
  return { bytesDown, end: "complete" };
}

/** Waits until the client has read on. */
function drain(stream: ServerHttp2Stream, stallMs: number): Promise<"drained" | "gone" | "stalled"> {
  return new Promise((resolve) => {
    const done = (result: "drained" | "gone" | "stalled"): void => {
      clearTimeout(timer);
      stream.off("drain", onDrain);
      stream.off("close", onClose);
      resolve(result);
    };
    const onDrain = (): void => done("drained");
    const onClose = (): void => done("gone");
    const timer = setTimeout(() => done("stalled"), stallMs);
    stream.on("drain", onDrain);
    stream.on("close", onClose);
  });
}
