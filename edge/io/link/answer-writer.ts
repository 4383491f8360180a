/** Writes an answer to a request that came by link: back-pressure kept, stalled readers given up, a broken answer seen as one. */
import { isForbiddenInLinks, type LinkRequest } from "#transport";
import type { Fields } from "../../core/headers.ts";
import { discard, isBodiless, PIECE_BYTES_MAX, Pieces, statedLength } from "../answer-writing.ts";
import type { WriteResult } from "../dispatch.ts";
import type { Answer } from "../exchange.ts";

/** Names and values in turn, names in lower case. */
export function flatOf(fields: Fields): string[] {
  const flat: string[] = [];
  for (const [name, value] of fields) {
    const lower = name.toLowerCase();
    if (!isForbiddenInLinks(lower)) flat.push(lower, value);
  }
  return flat;
}

/** Writes all of an answer. Throws TypeError, with nothing written, when no link can carry its head. */
export async function writeToLink(
  request: LinkRequest,
  answer: Answer,
  method: string,
  stallMs: number,
): Promise<WriteResult> {
  let bytesDown = 0;
  const { body } = answer;
  if (request.isGone) {
    await discard(body);
    return { bytesDown, end: "client-gone" };
  }
  const fields = flatOf(answer.fields);
  const length = statedLength(answer, method);
  if (length !== undefined) fields.push("content-length", String(length));
  const hasContent = body !== undefined && method !== "HEAD" && !isBodiless(answer.status);
  try {
    request.writeHead(answer.status, fields, !hasContent);
  } catch (error) {
    await discard(body);
    throw error;
  }
  if (!hasContent) {
    await discard(body);
    return { bytesDown, end: "complete" };
  }
  const pieces = new Pieces(body);
  const { onGone } = request;
  request.onGone = () => {
    pieces.letGo();
    onGone?.();
  };
  try {
    for await (const chunk of pieces) {
      for (let from = 0; from < chunk.byteLength; from += PIECE_BYTES_MAX) {
        const piece =
          chunk.byteLength <= PIECE_BYTES_MAX ? chunk : chunk.subarray(from, from + PIECE_BYTES_MAX);
        bytesDown += piece.byteLength;
        const hasRoom = request.write(piece);
        if (request.isGone) return { bytesDown, end: "client-gone" };
        if (hasRoom) continue;
        const drained = await whenDrained(request, stallMs);
        if (drained === "gone") return { bytesDown, end: "client-gone" };
        if (drained === "drained") continue;
        request.cut();
        return { bytesDown, end: "stalled" };
      }
    }
  } catch {
    if (request.isGone) return { bytesDown, end: "client-gone" };
    request.cut();
    return { bytesDown, end: "broken-off" };
  }
  if (request.isGone) return { bytesDown, end: "client-gone" };
  request.end();
  return { bytesDown, end: "complete" };
}

/** Waits until all that was written has left. Not stalled as long as some of it does within each `stallMs`. */
async function whenDrained(request: LinkRequest, stallMs: number): Promise<"drained" | "gone" | "stalled"> {
  for (;;) {
    const before = request.queuedBytes;
    const result = await new Promise<"drained" | "gone" | "stalled">((resolve) => {
      if (request.isGone) {
        resolve("gone");
        return;
      }
      const { onGone } = request;
      const done = (word: "drained" | "gone" | "stalled"): void => {
        clearTimeout(timer);
        request.onDrain = undefined;
        request.onGone = onGone;
        resolve(word);
      };
      const timer = setTimeout(() => done("stalled"), stallMs);
      request.onDrain = () => done("drained");
      request.onGone = () => {
        done("gone");
        onGone?.();
      };
    });
    if (result !== "stalled" || request.queuedBytes === before) return result;
  }
}
