/**
 * A response body that survives its path: when it breaks off, or falls silent while another path is well, the rest is asked for by Range
 * under the condition that the representation is the same (RFC 9110 sections 13.1.5 and 14.2), and the reader notices nothing but the
 * pause. Of a silent one and its rescue the one that moves first goes on.
 */
import { Readable } from "node:stream";
import { IsochroneError } from "#kit";
import { type SilenceLimits, suspectInMs } from "../core/body-silence.ts";
import { type ExchangeHead, whenBroken } from "./exchange.ts";
import { READ_BYTES } from "./http1/direct-reads.ts";
import type { HeaderList, TransportRequest } from "./face.ts";
import type { Progress } from "./target.ts";

/** What makes a body resumable. */
export type Resumable = {
  /** Strong entity tag, quotes included. */
  readonly etag: string;
  /** Which bytes of the whole the body is, first and last included. */
  readonly first: number;
  readonly last: number;
  /** Of the whole. */
  readonly totalBytes: number;
};

const CONTENT_RANGE = /^bytes ([0-9]{1,15})-([0-9]{1,15})\/([0-9]{1,15})$/i;

/**
 * Whether the rest of this response could be asked for: a GET, answered 200, or 206 for one range, with a strong validator, a known
 * length, and no denial of ranges (RFC 9110 section 14.3: `Accept-Ranges: none`; silence means it may be tried). A condition of the
 * caller's own (If-Range) stays his.
 */
export function resumableFrom(
  request: Pick<TransportRequest, "method" | "headers">,
  head: Pick<ExchangeHead, "status" | "headers">,
): Resumable | undefined {
  if (request.method !== "GET") return undefined;
  if (request.headers.some(([name]) => /^if-range$/i.test(name))) return undefined;
  const isRange = request.headers.some(([name]) => /^range$/i.test(name));
  if (head.status !== (isRange ? 206 : 200)) return undefined;
  const etag = only(head.headers, "etag");
  const length = only(head.headers, "content-length");
  if (etag === undefined || !/^"[\x21\x23-\x7e\x80-\xff]*"$/.test(etag)) return undefined;
  if (length === undefined || !/^[0-9]{1,15}$/.test(length) || Number(length) === 0) return undefined;
  if (head.headers.some(([name, value]) => /^accept-ranges$/i.test(name) && /^none$/i.test(value.trim())))
    return undefined;
  if (!isRange) return { etag, first: 0, last: Number(length) - 1, totalBytes: Number(length) };
  const [, first, last, total] = CONTENT_RANGE.exec(only(head.headers, "content-range") ?? "") ?? [];
  const range = { etag, first: Number(first), last: Number(last), totalBytes: Number(total) };
  // NaN, where there was no such field, is not equal to anything.
  return range.last - range.first + 1 === Number(length) && range.last < range.totalBytes ? range : undefined;
}

export type ResumingBodyOptions = {
  readonly first: BodySource;
  readonly resumable: Resumable;
  readonly resumesMax: number;
  readonly track: BodyProgress;
  /** Takes a repeat out of the budget, unless it is (`isPaid`) by now. */
  readonly mayResume: (isPaid: boolean) => boolean;
  /** Asks again with these fields in place of any range of the request. */
  readonly resume: (headers: HeaderList) => Promise<{
    readonly head: Pick<ExchangeHead, "status" | "headers"> & BodySource;
    readonly progress: BodyProgress;
  }>;
  /** After how much silence the path in use is suspect; undefined: it is waited for. Asked anew for each path. */
  readonly limits?: (() => SilenceLimits | undefined) | undefined;
  /** Whether a suspect body may be asked for elsewhere; it takes that out of a budget. */
  readonly mayRescue?: (() => boolean) | undefined;
};

/** Without `quietMs` nothing is known of its connection. */
type BodySource = Pick<ExchangeHead, "body"> & Partial<Pick<ExchangeHead, "quietMs">>;
type BodyProgress = Pick<Progress, "handleBytes" | "end"> & Partial<Pick<Progress, "isRepeatPaid">>;

/** Shortest time between two looks at a silent body, ms: the kernel's clock is hardly finer. */
const LOOK_MS_MIN = 4;

export class ResumingBody extends Readable {
  readonly #options: ResumingBodyOptions;
  #source: Readable;
  #head: BodySource;
  #progress: BodyProgress;
  #receivedBytes = 0;
  #resumes = 0;
  #isEnded = false;
  /** When the source or the reader last moved, performance.now(). */
  #movedMs = performance.now();
  #timer: NodeJS.Timeout | undefined;
  /** Under way: resolves when it has taken over or was left. */
  #rescue: Promise<void> | undefined;

  constructor(options: ResumingBodyOptions) {
    super({ highWaterMark: READ_BYTES });
    this.#options = options;
    this.#source = options.first.body;
    this.#head = options.first;
    this.#progress = options.track;
    this.#attach(this.#source);
  }

  get resumes(): number {
    return this.#resumes;
  }

  override _read(): void {
    // Time that the reader took is no silence of the path.
    if (this.#source.isPaused()) this.#moved();
    this.#source.resume();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#finish();
    this.#source.on("error", () => {});
    this.#source.destroy();
    callback(error);
  }

  #moved(): void {
    this.#progress.handleBytes();
    this.#movedMs = performance.now();
  }

  #finish(): void {
    this.#isEnded = true;
    clearTimeout(this.#timer);
    this.#progress.end();
  }

  #attach(source: Readable): void {
    this.#movedMs = performance.now();
    source.on("data", (chunk: Buffer) => {
      if (source !== this.#source) return;
      this.#receivedBytes += chunk.length;
      this.#moved();
      if (!this.push(chunk)) source.pause();
    });
    source.on("end", () => {
      if (source !== this.#source) return;
      this.#finish();
      this.push(null);
    });
    whenBroken(source, (error) => {
      if (source === this.#source && !this.#isEnded) void this.#broke(source, error);
    });
    this.#look(this.#options.limits?.()?.quietMs);
  }

  /** Looks at the source again in `ms`, whether it moves. */
  #look(ms: number | undefined): void {
    clearTimeout(this.#timer);
    if (ms === undefined || this.#isEnded) return;
    this.#timer = setTimeout(() => this.#handleLook(), Math.max(LOOK_MS_MIN, ms));
  }

  #handleLook(): void {
    const { mayRescue, resumesMax } = this.#options;
    const limits = this.#options.limits?.();
    if (limits === undefined || this.#isEnded) return;
    const silentMs = this.#source.isPaused() ? 0 : performance.now() - this.#movedMs;
    // The kernel is asked of those only that may be suspect.
    const quietMs = silentMs < limits.quietMs ? silentMs : this.#head.quietMs?.();
    const leftMs = suspectInMs(limits, silentMs, quietMs);
    const mayAsk = leftMs === 0 && !this.#rescue && this.#resumes < resumesMax;
    if (mayAsk && mayRescue?.()) this.#rescue = this.#tryRescue(this.#source);
    this.#look(leftMs || limits.quietMs);
  }

  /** Never rejects: without an answer the silent one may go on yet. */
  async #tryRescue(source: Readable): Promise<void> {
    try {
      await this.#ask(source);
    } catch {
      // Its path learned of it.
    } finally {
      this.#rescue = undefined;
    }
  }

  /** Never rejects: what cannot be resumed ends the stream with the reason. */
  async #broke(source: Readable, error: Error): Promise<void> {
    const { resumesMax, mayResume } = this.#options;
    await this.#rescue;
    if (this.#isEnded || source !== this.#source) return;
    this.#progress.end();
    const isPaid = this.#progress.isRepeatPaid?.() === true;
    const isTransient = error instanceof IsochroneError && error.retry === "safe";
    if (!isTransient || this.#resumes >= resumesMax || !mayResume(isPaid)) {
      this.destroy(error);
      return;
    }
    try {
      const refusal = await this.#ask(source);
      if (refusal !== undefined && !this.#isEnded) this.destroy(changed(error, this.#receivedBytes, refusal));
    } catch (failure) {
      if (!this.#isEnded) this.destroy(failure instanceof Error ? failure : error);
    }
  }

  /**
   * Asks for the rest and goes on with it in place of `source`, unless that has moved meanwhile. Resolves with the status of an answer
   * that is another representation or no range. Rejects when there is no answer.
   */
  async #ask(source: Readable): Promise<number | undefined> {
    const { etag, first, last, totalBytes } = this.#options.resumable;
    const receivedBytes = this.#receivedBytes;
    const from = first + receivedBytes;
    this.#resumes++;
    const { head, progress } = await this.#options.resume([
      ["Range", last === totalBytes - 1 ? `bytes=${from}-` : `bytes=${from}-${last}`],
      ["If-Range", etag],
    ]);
    const isSame =
      head.status === 206 &&
      only(head.headers, "content-range")?.toLowerCase() === `bytes ${from}-${last}/${totalBytes}` &&
      only(head.headers, "etag") === etag;
    if (isSame && !this.#isEnded && source === this.#source && this.#receivedBytes === receivedBytes) {
      source.on("error", () => {});
      source.destroy();
      this.#progress.end();
      this.#source = head.body;
      this.#head = head;
      this.#progress = progress;
      this.#attach(head.body);
      return undefined;
    }
    progress.end();
    head.body.on("error", () => {});
    head.body.destroy();
    return isSame ? undefined : head.status;
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
