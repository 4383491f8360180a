/** Writes an answer to a node:http response: framing made here, back-pressure kept, stalled readers given up. */
import type { ServerResponse } from "node:http";
import { discard, Pieces, statedLength, whenDrained } from "./answer-writing.ts";
import type { WriteResult } from "./dispatch.ts";
import type { Answer } from "./exchange.ts";
import { reset } from "./reset.ts";

/** The status line and header section. No framing field of upstream is in `answer.fields`: it was removed on arrival. */
function writeHead(response: ServerResponse, answer: Answer, method: string, isClosing: boolean): void {
  const raw: string[] = [];
  for (const [name, value] of answer.fields) raw.push(name, value);
  const length = statedLength(answer, method);
  if (length !== undefined) raw.push("Content-Length", String(length));
  if (isClosing) raw.push("Connection", "close");
  response.sendDate = false;
  response.writeHead(answer.status, raw);
}

export async function writeAnswer(
  response: ServerResponse,
  answer: Answer,
  method: string,
  isClosing: boolean,
  stallMs: number,
): Promise<WriteResult> {
  let bytesDown = 0;
  if (response.destroyed) {
    await discard(answer.body);
    return { bytesDown, end: "client-gone" };
  }
  writeHead(response, answer, method, isClosing);
  if (answer.body === undefined) {
    response.end();
    return { bytesDown, end: "complete" };
  }
  const pieces = new Pieces(answer.body);
  const unwatch = pieces.watch(response);
  try {
    for await (const chunk of pieces) {
      bytesDown += chunk.byteLength;
      if (response.write(chunk)) {
        // A client that left is noticed here: write() of a destroyed response still says true.
        if (response.destroyed) return { bytesDown, end: "client-gone" };
        continue;
      }
      const drained = await whenDrained(response, stallMs);
      if (drained === "stalled") {
        reset(response.socket);
        response.destroy();
        return { bytesDown, end: "stalled" };
      }
      if (drained === "gone") return { bytesDown, end: "client-gone" };
    }
  } catch {
    if (response.destroyed) return { bytesDown, end: "client-gone" };
    // RFC 9112, section 8: an incomplete message must be seen as one.
    breakOff(response, answer.bodyBytes === undefined && !response.chunkedEncoding);
    return { bytesDown, end: "broken-off" };
  } finally {
    unwatch();
  }
  if (response.destroyed) return { bytesDown, end: "client-gone" };
  response.end();
  return { bytesDown, end: "complete" };
}

/**
 * Cuts the connection. Where neither length nor chunks tell the end (HTTP/1.0), an orderly close would: only a reset says
 * that something is missing (RFC 9112, section 8).
 */
function breakOff(response: ServerResponse, isDelimitedByClose: boolean): void {
  if (isDelimitedByClose) reset(response.socket);
  response.destroy();
}
