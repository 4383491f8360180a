/** Writes an answer to an HTTP/2 stream: back-pressure kept, stalled readers given up, a broken answer seen as one. */
import { constants, type OutgoingHttpHeaders } from "node:http2";
import type { Fields } from "../../core/headers.ts";
import { discard, Pieces, PIECE_BYTES_MAX, statedLength, whenDrained } from "../answer-writing.ts";
import type { WriteResult } from "../dispatch.ts";
import type { Answer } from "../exchange.ts";
import type { Http2Stream } from "./http2-stream.ts";

/** Of one connection, so never sent (RFC 9113, section 8.2.2); upstream's own are gone already. */
const CONNECTION_SPECIFIC: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);

/** Names and values in turn, as `respond` takes them: an object would be built only to be taken apart. */
export function headOf(answer: Answer, method: string): string[] {
  const raw = [":status", String(answer.status)];
  for (const [name, value] of answer.fields) {
    const lower = name.toLowerCase();
    if (!CONNECTION_SPECIFIC.has(lower)) raw.push(lower, value);
  }
  const length = statedLength(answer, method);
  if (length !== undefined) raw.push("content-length", String(length));
  return raw;
}

/** An interim answer as `additionalHeaders` takes it: lines of one name joined, which says the same (RFC 9110, section 5.3). */
export function interimHeaders(status: number, fields: Fields): OutgoingHttpHeaders {
  const headers: Record<string, string> = { ":status": String(status) };
  for (const [name, value] of fields) {
    const lower = name.toLowerCase();
    // Cookies cannot be joined, and no client takes one from an interim answer.
    if (CONNECTION_SPECIFIC.has(lower) || lower === "set-cookie") continue;
    const known = headers[lower];
    headers[lower] = known === undefined ? value : `${known}, ${value}`;
  }
  return headers;
}

/**
 * Waits until what was written is taken. Not stalled as long as some of it is within each `stallMs`: of many streams each has its turn
 * on a slow connection, and a piece takes as many turns as it has frames.
 */
async function whenTaken(stream: Http2Stream, stallMs: number) {
  for (;;) {
    const before = stream.bufferSize;
    const drained = await whenDrained(stream, stallMs);
    if (drained !== "stalled" || stream.bufferSize === before) return drained;
  }
}

/** Writes all of an answer. Never rejects. */
export async function writeToStream(
  stream: Http2Stream,
  answer: Answer,
  method: string,
  stallMs: number,
  onProgress: () => void,
): Promise<WriteResult> {
  let bytesDown = 0;
  const { body } = answer;
  if (stream.destroyed || stream.closed) {
    await discard(body);
    return { bytesDown, end: "client-gone" };
  }
  const isEnd = body === undefined;
  stream.respond(headOf(answer, method), { endStream: isEnd });
  if (isEnd) return { bytesDown, end: "complete" };
  const pieces = new Pieces(body);
  const unwatch = pieces.watch(stream);
  try {
    for await (const chunk of pieces) {
      for (let from = 0; from < chunk.byteLength; from += PIECE_BYTES_MAX) {
        const piece =
          chunk.byteLength <= PIECE_BYTES_MAX ? chunk : chunk.subarray(from, from + PIECE_BYTES_MAX);
        bytesDown += piece.byteLength;
        const hasRoom = stream.write(piece);
        if (stream.destroyed || stream.closed) return { bytesDown, end: "client-gone" };
        onProgress();
        if (hasRoom) continue;
        const drained = await whenTaken(stream, stallMs);
        if (drained === "gone") return { bytesDown, end: "client-gone" };
        if (drained === "stalled") {
          stream.close(constants.NGHTTP2_CANCEL);
          return { bytesDown, end: "stalled" };
        }
        onProgress();
      }
    }
  } catch {
    if (stream.destroyed || stream.closed) return { bytesDown, end: "client-gone" };
    // RFC 9113, section 8.1: a stream that is reset is incomplete, and is seen as that.
    stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    return { bytesDown, end: "broken-off" };
  } finally {
    unwatch();
  }
  if (stream.destroyed || stream.closed) return { bytesDown, end: "client-gone" };
  stream.end();
  return { bytesDown, end: "complete" };
}
