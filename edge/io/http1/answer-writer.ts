/** Writes answers to a socket in HTTP/1.1: framing made here, back-pressure kept, stalled readers given up. */
import type { Socket } from "node:net";
import { http } from "#kit/io";
import {
  discard,
  isBodiless,
  PIECE_BYTES_MAX,
  Pieces,
  statedLength,
  whenDrained,
} from "../answer-writing.ts";
import type { Fields } from "../../core/headers.ts";
import type { WriteResult } from "../dispatch.ts";
import type { Answer } from "../exchange.ts";
import { reset } from "../reset.ts";
import { ShortContent } from "../short-content.ts";
import type { SocketReads } from "../socket-reads.ts";

/** A first piece that is copied behind its head, bytes: one buffer costs the system less than a list of two. */
const JOINED_BYTES_MAX = 16 * 1_024;
const NOTHING = new Uint8Array(0);

/** The status line and header section (RFC 9112, sections 4 and 5), as latin1 text. */
export function headText(answer: Answer, method: string, isClosing: boolean): string {
  let text = `HTTP/1.1 ${answer.status} ${http.STATUS_CODES[answer.status] ?? "unknown"}\r\n`;
  for (const [name, value] of answer.fields) text += `${name}: ${value}\r\n`;
  const length = statedLength(answer, method);
  if (length !== undefined) text += `Content-Length: ${length}\r\n`;
  else if (method !== "HEAD" && !isBodiless(answer.status)) text += "Transfer-Encoding: chunked\r\n";
  if (isClosing) text += "Connection: close\r\n";
  return `${text}\r\n`;
}

/** An interim answer (RFC 9110, section 15.2), as latin1 text. */
export function interimText(status: number, fields: Fields): string {
  let text = `HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? "unknown"}\r\n`;
  for (const [name, value] of fields) text += `${name}: ${value}\r\n`;
  return `${text}\r\n`;
}

/**
 * Writes all of an answer. Never rejects. The socket is left open unless the answer could not be completed. `reads`: by which a short one
 * may leave whole, where nothing is written to the socket behind it before {@link SocketReads.isSending} ends.
 */
export async function writeToSocket(
  socket: Socket,
  answer: Answer,
  method: string,
  isClosing: boolean,
  stallMs: number,
  reads?: SocketReads,
): Promise<WriteResult> {
  let bytesDown = 0;
  const { body } = answer;
  if (socket.destroyed) {
    await discard(body);
    return { bytesDown, end: "client-gone" };
  }
  const text = headText(answer, method, isClosing);
  const isBare = body === undefined || method === "HEAD" || isBodiless(answer.status);
  if (!isBare && body instanceof ShortContent && answer.bodyBytes !== undefined) {
    const content = body.take() ?? NOTHING;
    const bytes = Buffer.allocUnsafe(text.length + content.byteLength);
    bytes.write(text, "latin1");
    bytes.set(content, text.length);
    if (reads?.send(bytes) !== true && !socket.write(bytes) && !socket.destroyed) {
      const drained = await whenDrained(socket, stallMs);
      if (drained === "stalled") {
        reset(socket);
        return { bytesDown: content.byteLength, end: "stalled" };
      }
    }
    return { bytesDown: content.byteLength, end: socket.destroyed ? "client-gone" : "complete" };
  }
  const head = Buffer.from(text, "latin1");
  // No content in answer to HEAD, whoever made the answer, nor with these (RFC 9112, section 6.3).
  if (isBare) {
    await discard(body);
    if (reads?.send(head) !== true) socket.write(head);
    return { bytesDown, end: "complete" };
  }
  const isChunked = answer.bodyBytes === undefined;
  // The head waits for the first piece, so that both leave in one call; but not for long: it may be slow to come.
  let isHeadSent = false;
  const sendHead = (): void => {
    if (!isHeadSent) socket.write(head);
    isHeadSent = true;
  };
  const pieces = new Pieces(body);
  let unwatch: (() => void) | undefined;
  // Most answers are written by then, and nobody has to watch for them.
  const immediate = setImmediate(() => {
    sendHead();
    unwatch = pieces.watch(socket);
  });
  /** False: there is no room for more. */
  const send = (piece: Uint8Array): boolean => {
    if (!isHeadSent && !isChunked && piece.byteLength <= JOINED_BYTES_MAX) {
      isHeadSent = true;
      const bytes = Buffer.concat([head, piece]);
      return (piece.byteLength === answer.bodyBytes && reads?.send(bytes) === true) || socket.write(bytes);
    }
    socket.cork();
    sendHead();
    if (isChunked) socket.write(`${piece.byteLength.toString(16)}\r\n`, "latin1");
    let hasRoom = socket.write(piece);
    if (isChunked) hasRoom = socket.write("\r\n", "latin1");
    socket.uncork();
    return hasRoom;
  };
  try {
    for await (const chunk of pieces) {
      for (let from = 0; from < chunk.byteLength; from += PIECE_BYTES_MAX) {
        const piece =
          chunk.byteLength <= PIECE_BYTES_MAX ? chunk : chunk.subarray(from, from + PIECE_BYTES_MAX);
        bytesDown += piece.byteLength;
        const hasRoom = send(piece);
        if (socket.destroyed) return { bytesDown, end: "client-gone" };
        if (hasRoom) continue;
        const drained = await whenDrained(socket, stallMs);
        if (drained === "drained") continue;
        reset(socket);
        return { bytesDown, end: drained === "stalled" ? "stalled" : "client-gone" };
      }
    }
  } catch {
    if (socket.destroyed) return { bytesDown, end: "client-gone" };
    // RFC 9112, section 8: an incomplete message must be seen as one.
    sendHead();
    socket.destroy();
    return { bytesDown, end: "broken-off" };
  } finally {
    clearImmediate(immediate);
    unwatch?.();
  }
  if (socket.destroyed) return { bytesDown, end: "client-gone" };
  sendHead();
  if (isChunked) socket.write("0\r\n\r\n", "latin1");
  return { bytesDown, end: "complete" };
}
