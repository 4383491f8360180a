/** Writes an answer to a node:http response: framing made here, back-pressure kept, stalled readers given up. */
import type { ServerResponse } from "node:http";
import type { WriteResult } from "./dispatch.ts";
import type { Answer } from "./exchange.ts";
import { reset } from "./reset.ts";

/** The status line and header section. No framing field of upstream is in `answer.fields`: it was removed on arrival. */
function writeHead(response: ServerResponse, answer: Answer, method: string, isClosing: boolean): void {
  const raw: string[] = [];
  for (const [name, value] of answer.fields) raw.push(name, value);
  const isBodiless = answer.status === 204 || answer.status === 304;
  // RFC 9110, section 8.6: HEAD states the length of the GET, when it is known.
  if (!isBodiless) {
    if (answer.bodyBytes !== undefined) raw.push("Content-Length", String(answer.bodyBytes));
    else if (answer.body === undefined && method !== "HEAD") raw.push("Content-Length", "0");
  }
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
    await close(answer.body);
    return { bytesDown, end: "client-gone" };
  }
  writeHead(response, answer, method, isClosing);
  if (answer.body === undefined) {
    response.end();
    return { bytesDown, end: "complete" };
  }
  try {
    for await (const chunk of answer.body) {
      bytesDown += chunk.byteLength;
      if (response.write(chunk)) {
        // A client that left is noticed here: write() of a destroyed response still says true.
        if (response.destroyed) return { bytesDown, end: "client-gone" };
        continue;
      }
      const drained = await drain(response, stallMs);
      if (drained === "stalled") {
        reset(response.socket);
        response.destroy();
        return { bytesDown, end: "stalled" };
      }
      if (drained === "gone") return { bytesDown, end: "client-gone" };
    }
  } catch {
    // RFC 9112, section 8: an incomplete message must be seen as one.
    breakOff(response, answer.bodyBytes === undefined && !response.chunkedEncoding);
    return { bytesDown, end: "broken-off" };
  }
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

/** Waits until the client has read on. */
function drain(response: ServerResponse, stallMs: number): Promise<"drained" | "gone" | "stalled"> {
  return new Promise((resolve) => {
    if (response.destroyed) {
      resolve("gone");
      return;
    }
    const done = (result: "drained" | "gone" | "stalled"): void => {
      clearTimeout(timer);
      response.off("drain", onDrain);
      response.off("close", onClose);
      resolve(result);
    };
    const onDrain = (): void => done("drained");
    const onClose = (): void => done("gone");
    const timer = setTimeout(() => done("stalled"), stallMs);
    response.on("drain", onDrain);
    response.on("close", onClose);
  });
}

async function close(body: AsyncIterable<Uint8Array> | undefined): Promise<void> {
  await body?.[Symbol.asyncIterator]().return?.(undefined);
}
