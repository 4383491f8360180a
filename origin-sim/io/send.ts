/** Sending of one answer: framing, ranges, throttle and planned resets. */
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { type Pattern, patternBytes } from "../core/pattern.ts";

const CHUNK_BYTES = 65_536;
/** A throttled body is written this often, so that it is slow and not bursty. */
const THROTTLE_STEPS_PER_SECOND = 20;
/** A reset makes the receiver's kernel drop what its process has not read yet (RFC 9293 section 3.10.7.4). */
const RESET_GRACE_MS = 50;

export interface SendOptions {
  readonly body: Uint8Array | Pattern;
  /** Offsets of the first byte and after the last one. */
  readonly start: number;
  readonly end: number;
  readonly resetAfterBytes: number | null;
  readonly bytesPerSecond: number | null;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
}

function bytesOf(body: Uint8Array | Pattern, start: number, length: number): Uint8Array {
  return body instanceof Uint8Array
    ? body.subarray(start, start + length)
    : patternBytes(body, start, length);
}

/** Cuts the connection with RST, as a crashed peer or a firewall does. */
export function reset(response: ServerResponse): void {
  response.socket?.resetAndDestroy();
}

/** Sends the body after the head is set; ends the response. Resolves early, without error, when the client goes away. */
export async function sendBody(response: ServerResponse, options: SendOptions): Promise<void> {
  const { body, start, resetAfterBytes, bytesPerSecond, signal, onBytes } = options;
  const end = resetAfterBytes === null ? options.end : Math.min(options.end, start + resetAfterBytes);
  const step =
    bytesPerSecond === null
      ? CHUNK_BYTES
      : Math.min(CHUNK_BYTES, Math.max(1, Math.ceil(bytesPerSecond / THROTTLE_STEPS_PER_SECOND)));
  // Node would add the length of a body that is sent in one piece.
  if (start === end || !response.hasHeader("content-length")) response.flushHeaders();
  for (let at = start; at < end; ) {
    if (signal.aborted) return;
    const chunk = bytesOf(body, at, Math.min(step, end - at));
    at += chunk.length;
    onBytes(chunk.length);
    if (at >= end && resetAfterBytes === null) {
      response.end(chunk);
      return;
    }
    try {
      // The last bytes before a reset have to leave first, or the client sees none of them.
      if (at >= end) await flushed(response, chunk, signal);
      else if (!response.write(chunk)) await once(response, "drain", { signal });
      if (bytesPerSecond !== null)
        await sleep((chunk.length * 1_000) / bytesPerSecond, undefined, { signal });
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
  }
  if (resetAfterBytes === null) response.end();
  else reset(response);
}

/** Resolves when the kernel has the chunk and the peer had time to read it; rejects when the connection is gone. */
async function flushed(response: ServerResponse, chunk: Uint8Array, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    response.write(chunk, (error) => (error ? reject(error) : resolve()));
  });
  await sleep(RESET_GRACE_MS, undefined, { signal });
}
