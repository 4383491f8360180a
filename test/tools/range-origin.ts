/**
 * An origin of large objects that counts what it is asked for and what it sends: content that is known by its offset, single
 * ranges, versions. What a request's query says changes its behaviour, so that one origin serves every case of a run.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const BLOCK_BYTES = 65_536;
/** Objects repeat after so many blocks, 16 MiB: longer than what any fault would shift them by. */
const BLOCKS = 256;
const blocks = new Map<number, Buffer>();

/** A block of an object: each differs from the others and from those of other versions. Made once. */
function block(version: number, index: number): Buffer {
  const number = index % BLOCKS;
  const present = blocks.get(version * BLOCKS + number);
  if (present !== undefined) return present;
  const bytes = Buffer.allocUnsafe(BLOCK_BYTES);
  for (let at = 0; at < BLOCK_BYTES; at++)
    bytes[at] = (at * 31 + (at >> 8) * 7 + number * 13 + version * 101) & 0xff;
  blocks.set(version * BLOCKS + number, bytes);
  return bytes;
}

/** The bytes of an object from `first` to `last`. */
export function contentOf(version: number, first: number, last: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = first; at <= last; ) {
    const from = at % BLOCK_BYTES;
    const part = block(version, Math.floor(at / BLOCK_BYTES)).subarray(from, from + last - at + 1);
    parts.push(part);
    at += part.byteLength;
  }
  return parts.length === 1 ? (parts[0] ?? Buffer.alloc(0)) : Buffer.concat(parts);
}

export interface ObjectRequest {
  readonly path: string;
  readonly range: string | undefined;
  readonly status: number;
  /** Content bytes handed to the socket. */
  sentBytes: number;
}

export class RangeOrigin {
  readonly requests: ObjectRequest[] = [];
  totalBytes: number;
  version = 1;
  /** Fields beside the framing and ranges; `undefined` takes one away. */
  fields: Record<string, string | undefined> = {};
  hasRanges = true;
  /** When set it answers by itself and the object is not sent. */
  answer: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  /** Cuts the connection after so many content bytes of an answer, as often as `cuts` says. */
  cutAfterBytes = 0;
  cuts = 0;
  /** Called before each write of content, to hold it back. */
  pace: (() => Promise<void>) | undefined;
  /** Time until the head of an answer, ms. */
  latencyMs = 0;
  readonly #server: Server;
  port = 0;

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes;
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  get etag(): string {
    return `"v${this.version}"`;
  }
  /** Content bytes sent since the last {@link reset}. */
  get sentBytes(): number {
    return this.requests.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
  }
  reset(): void {
    this.requests.length = 0;
  }

  async start(): Promise<void> {
    this.#server.listen(this.port, "127.0.0.1", 4_096);
    await once(this.#server, "listening");
    this.port = (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume();
    response.on("error", () => {});
    if (this.latencyMs > 0) await new Promise((resolve) => setTimeout(resolve, this.latencyMs));
    const { totalBytes, version } = this;
    const range = request.headers.range;
    const span = this.hasRanges && range !== undefined ? spanOf(range, totalBytes) : undefined;
    const isNotModified = request.headers["if-none-match"] === this.etag;
    const status = isNotModified ? 304 : span === undefined ? 200 : span === "unsatisfiable" ? 416 : 206;
    const seen: ObjectRequest = { path: request.url ?? "", range, status, sentBytes: 0 };
    this.requests.push(seen);
    if (this.answer?.(request, response) === true) return;
    const fields: Record<string, string | undefined> = {
      ETag: this.etag,
      "Cache-Control": "max-age=600",
      "Content-Type": "video/mp4",
      ...this.fields,
    };
    for (const [name, value] of Object.entries(fields))
      if (value !== undefined) response.setHeader(name, value);
    if (status === 304) {
      response.writeHead(304).end();
      return;
    }
    if (span === "unsatisfiable") {
      response.writeHead(416, { "Content-Range": `bytes */${totalBytes}` }).end();
      return;
    }
    const { first, last } = span ?? { first: 0, last: totalBytes - 1 };
    if (span !== undefined) response.setHeader("Content-Range", `bytes ${first}-${last}/${totalBytes}`);
    response.writeHead(status, { "Content-Length": last - first + 1 });
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    for (let at = first; at <= last; at += PIECE_BYTES) {
      await this.pace?.();
      if (response.destroyed) return;
      const piece = contentOf(version, at, Math.min(last, at + PIECE_BYTES - 1));
      if (this.cuts > 0 && at - first + piece.byteLength > this.cutAfterBytes) {
        this.cuts--;
        response.socket?.destroy();
        return;
      }
      seen.sentBytes += piece.byteLength;
      if (!response.write(piece)) await drained(response);
    }
    response.end();
  }
}

/** Small enough that what an aborted answer has cost is told well. */
const PIECE_BYTES = 16 * 1_024;

/** Until there is room again, or the connection has gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
  });
}

function spanOf(
  range: string,
  totalBytes: number,
): { readonly first: number; readonly last: number } | "unsatisfiable" | undefined {
  const match = /^bytes=([0-9]*)-([0-9]*)$/.exec(range);
  if (match === null) return undefined;
  const [, first = "", last = ""] = match;
  if (first === "") return { first: Math.max(0, totalBytes - Number(last)), last: totalBytes - 1 };
  if (Number(first) >= totalBytes) return "unsatisfiable";
  return {
    first: Number(first),
    last: last === "" ? totalBytes - 1 : Math.min(Number(last), totalBytes - 1),
  };
}
