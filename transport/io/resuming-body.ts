/**
 * A response body that survives its path: when it breaks off, the rest is asked for by Range under the condition that the
 * representation is the same (RFC 9110 sections 13.1.5 and 14.2), and the reader notices nothing but the pause.
 */
import { Readable } from "node:stream";
import { IsochroneError } from "#kit";
import type { ExchangeHead } from "./exchange.ts";
import type { HeaderList, TransportRequest } from "./face.ts";
import type { Progress } from "./target.ts";

/** What makes a body resumable. */
export type Resumable = {
  /** Strong entity tag, quotes included. */
  readonly etag: string;
  /** Content-Length of the whole. */
  readonly totalBytes: number;
};

/**
 * Whether the rest of this response could be asked for: a GET without Range, answered 200 with a strong validator, a known
 * length, and no denial of ranges (RFC 9110 section 14.3: `Accept-Ranges: none`; silence means it may be tried).
 */
export function resumableFrom(
  request: Pick<TransportRequest, "method" | "headers">,
  head: Pick<ExchangeHead, "status" | "headers">,
): Resumable | undefined {
  if (request.method !== "GET" || head.status !== 200) return undefined;
  if (request.headers.some(([name]) => /^(?:range|if-range)$/i.test(name))) return undefined;
  const etag = only(head.headers, "etag");
  const length = only(head.headers, "content-length");
  if (etag === undefined || !/^"[\x21\x23-\x7e\x80-\xff]*"$/.test(etag)) return undefined;
  if (length === undefined || !/^[0-9]{1,15}$/.test(length) || Number(length) === 0) return undefined;
  if (head.headers.some(([name, value]) => /^accept-ranges$/i.test(name) && /^none$/i.test(value.trim())))
    return undefined;
  return { etag, totalBytes: Number(length) };
}

export type ResumingBodyOptions = {
  readonly first: Readable;
  readonly resumable: Resumable;
  readonly resumesMax: number;
  readonly track: BodyProgress;
  /** Takes a repeat out of the budget. */
  readonly mayResume: () => boolean;
  /** Asks again with these fields in addition. */
  readonly resume: (headers: HeaderList) => Promise<{
    readonly head: Pick<ExchangeHead, "status" | "headers" | "body">;
    readonly progress: BodyProgress;
  }>;
};

type BodyProgress = Pick<Progress, "handleBytes" | "end">;

export class ResumingBody extends Readable {
  readonly #options: ResumingBodyOptions;
  #source: Readable;
  #progress: BodyProgress;
  #receivedBytes = 0;
  #resumes = 0;
  #isEnded = false;

  constructor(options: ResumingBodyOptions) {
    super({ highWaterMark: 64 * 1024 });
    this.#options = options;
    this.#source = options.first;
    this.#progress = options.track;
    this.#attach(options.first);
  }

  get resumes(): number {
    return this.#resumes;
  }

  override _read(): void {
    // Time that the reader took is no silence of the path.
    this.#progress.handleBytes();
    this.#source.resume();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#isEnded = true;
    this.#progress.end();
    this.#source.on("error", () => {});
    this.#source.destroy();
    callback(error);
  }

  #attach(source: Readable): void {
    source.on("data", (chunk: Buffer) => {
      this.#receivedBytes += chunk.length;
      this.#progress.handleBytes();
      if (!this.push(chunk)) source.pause();
    });
    source.on("end", () => {
      this.#isEnded = true;
      this.#progress.end();
      this.push(null);
    });
    source.on("error", (error) => {
      if (source === this.#source && !this.#isEnded) void this.#broke(error);
    });
  }

  /** Never rejects: what cannot be resumed ends the stream with the reason. */
  async #broke(error: Error): Promise<void> {
    this.#progress.end();
    const { resumable, resumesMax, mayResume, resume } = this.#options;
    const isTransient = error instanceof IsochroneError && error.retry === "safe";
    if (!isTransient || this.#resumes >= resumesMax || !mayResume()) {
      this.destroy(error);
      return;
    }
    this.#resumes++;
    const from = this.#receivedBytes;
    try {
      const { head, progress } = await resume([
        ["Range", `bytes=${from}-`],
        ["If-Range", resumable.etag],
      ]);
      const wanted = `bytes ${from}-${resumable.totalBytes - 1}/${resumable.totalBytes}`;
      const isSame =
        head.status === 206 &&
        only(head.headers, "content-range")?.toLowerCase() === wanted &&
        only(head.headers, "etag") === resumable.etag;
      if (this.#isEnded || !isSame) {
        progress.end();
        head.body.on("error", () => {});
        head.body.destroy();
        if (!this.#isEnded) this.destroy(changed(error, from, head.status));
        return;
      }
      this.#source = head.body;
      this.#progress = progress;
      this.#attach(head.body);
    } catch (failure) {
      this.destroy(failure instanceof Error ? failure : error);
    }
  }
}

function changed(cause: Error, from: number, status: number): IsochroneError {
  return new IsochroneError(
    `Cannot resume a body after ${from} bytes: the answer to the range request was ${status} or another representation; ask for the whole again`,
    { code: "resume-refused", source: "upstream", retry: "safe", cause },
  );
}

/** The value of a field that stands exactly once. */
function only(headers: HeaderList, name: string): string | undefined {
  let found: string | undefined;
  for (const [key, value] of headers) {
    if (key.toLowerCase() !== name) continue;
    if (found !== undefined) return undefined;
    found = value.trim();
  }
  return found;
}
