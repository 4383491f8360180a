/** Writes answers to a socket in HTTP/1.1: framing made here, back-pressure kept, stalled readers given up. */
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { WriteResult } from "../dispatch.ts";
import type { Answer } from "../exchange.ts";
import { reset } from "../reset.ts";

/** Largest piece that is handed to the socket at once: a reader has `stallMs` for each, which is its least rate. */
const PIECE_BYTES_MAX = 256 * 1_024;

/** How the end of the content is told: by length, by chunks, or there is none. */
type Framing = "length" | "chunked" | "none";

function framingOf(answer: Answer, method: string): Framing {
  if (answer.status === 204 || answer.status === 304) return "none";
  if (answer.bodyBytes !== undefined) return "length";
  if (method === "HEAD") return "none";
  return answer.body === undefined ? "length" : "chunked";
}

/** The status line and header section (RFC 9112, sections 4 and 5), as latin1 text. */
export function headText(answer: Answer, method: string, isClosing: boolean): string {
  let text = `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? "unknown"}\r\n`;
  for (const [name, value] of answer.fields) text += `${name}: ${value}\r\n`;
  // RFC 9110, section 8.6: HEAD states the length of the GET, when it is known.
  const framing = framingOf(answer, method);
  if (framing === "length") text += `Content-Length: ${answer.bodyBytes ?? 0}\r\n`;
  else if (framing === "chunked") text += "Transfer-Encoding: chunked\r\n";
  if (isClosing) text += "Connection: close\r\n";
  return `${text}\r\n`;
}

/** Writes all of an answer. Never rejects. The socket is left open unless the answer could not be completed. */
export async function writeToSocket(
  socket: Socket,
  answer: Answer,
  method: string,
  isClosing: boolean,
  stallMs: number,
): Promise<WriteResult> {
  let bytesDown = 0;
  const { body } = answer;
  if (socket.destroyed) {
    await body?.[Symbol.asyncIterator]().return?.(undefined);
    return { bytesDown, end: "client-gone" };
  }
  const head = Buffer.from(headText(answer, method, isClosing), "latin1");
  // No content in answer to HEAD, whoever made the answer, nor with these (RFC 9112, section 6.3).
  if (body === undefined || method === "HEAD" || answer.status === 204 || answer.status === 304) {
    await body?.[Symbol.asyncIterator]().return?.(undefined);
    socket.write(head);
    return { bytesDown, end: "complete" };
  }
  const isChunked = answer.bodyBytes === undefined;
  // The head waits for the first piece, so that both leave in one call; but not for long: it may be slow to come.
  socket.cork();
  socket.write(head);
  let isCorked = true;
  const uncork = (): void => {
    if (isCorked) socket.uncork();
    isCorked = false;
  };
  setImmediate(uncork);
  try {
    for await (const chunk of body) {
      for (let from = 0; from < chunk.byteLength; from += PIECE_BYTES_MAX) {
        const piece =
          chunk.byteLength <= PIECE_BYTES_MAX ? chunk : chunk.subarray(from, from + PIECE_BYTES_MAX);
        bytesDown += piece.byteLength;
        if (!isCorked) socket.cork();
        if (isChunked) socket.write(`${piece.byteLength.toString(16)}\r\n`, "latin1");
        let hasRoom = socket.write(piece);
        if (isChunked) hasRoom = socket.write("\r\n", "latin1");
        if (isCorked) uncork();
        else socket.uncork();
        if (socket.destroyed) return { bytesDown, end: "client-gone" };
        if (hasRoom) continue;
        const drained = await drain(socket, stallMs);
        if (drained === "drained") continue;
        reset(socket);
        return { bytesDown, end: drained === "stalled" ? "stalled" : "client-gone" };
      }
    }
  } catch {
    // RFC 9112, section 8: an incomplete message must be seen as one.
    uncork();
    socket.destroy();
    return { bytesDown, end: "broken-off" };
  }
  if (isChunked) socket.write("0\r\n\r\n", "latin1");
  uncork();
  return { bytesDown, end: "complete" };
}

/** Waits until the client has read on. */
export function drain(socket: Socket, stallMs: number): Promise<"drained" | "gone" | "stalled"> {
  return new Promise((resolve) => {
    if (socket.destroyed) {
      resolve("gone");
      return;
    }
    const done = (result: "drained" | "gone" | "stalled"): void => {
      clearTimeout(timer);
      socket.off("drain", onDrain);
      socket.off("close", onClose);
      resolve(result);
    };
    const onDrain = (): void => done("drained");
    const onClose = (): void => done("gone");
    const timer = setTimeout(() => done("stalled"), stallMs);
    socket.on("drain", onDrain);
    socket.on("close", onClose);
  });
}
