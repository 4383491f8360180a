/**
 * What all fills of a server share: how many there may be, how many bytes they may hold beside the store, and the one loop
 * that moves content from the next hop into a body.
 */
import type { Readable } from "node:stream";
import { IsochroneError } from "#kit";
import type { ObjectBody } from "./object-body.ts";
import { WindowTotal } from "./window-total.ts";

/** Content on its way. */
export interface Pumped {
  readonly content: Readable;
  /** All of it, in place of `content`; undefined: it has not come yet. */
  takeWhole?(): Uint8Array | undefined;
  /** Length that it must have; undefined: any. */
  readonly contentLength: number | undefined;
}

/** What becomes of retained content that is not whole. */
export interface Unkept {
  /** Others can no longer join it. */
  readonly onReleased: () => void;
  /** Its last reader has left, with more missing than may come unread: whether it ends. */
  readonly mayEnd: () => boolean;
}

export class FillBudget {
  readonly #fillsMax: number;
  readonly #bytesMax: number;
  readonly #unreadBytesMax: number;
  #active = 0;
  #bytes = 0;
  /** What those bodies hold that are not retained. */
  readonly windows: WindowTotal;
  /** Fills whose last reader left early, and those of them that ended for it. */
  readonly counters = { unread: 0, unreadEnded: 0 };

  /**
   * `bytesMax`: beyond it new content is handed on and not retained; half as many may lie here of what is handed on, for slow readers.
   * `unreadBytesMax`: what may come after the last reader has left.
   */
  constructor(fillsMax: number, bytesMax: number, unreadBytesMax: number) {
    this.#fillsMax = fillsMax;
    this.#bytesMax = bytesMax;
    this.#unreadBytesMax = unreadBytesMax;
    this.windows = new WindowTotal(Math.floor(bytesMax / 2));
  }

  /** Fills in flight. */
  get active(): number {
    return this.#active;
  }
  /** Bytes that they may hold. */
  get bytesMax(): number {
    return this.#bytesMax;
  }
  /** Bytes that they hold. */
  get bytes(): number {
    return this.#bytes;
  }
  get isFull(): boolean {
    return this.#active >= this.#fillsMax;
  }

  /** Counts a fill; the function that is returned ends it. It does not ask {@link isFull}: its caller has. */
  begin(): () => void {
    this.#active++;
    return () => {
      this.#active--;
    };
  }

  /** Sets bytes aside for a body whose length is known. False: there are not as many left. */
  reserve(bytes: number): boolean {
    if (this.#bytes + bytes > this.#bytesMax) return false;
    this.#bytes += bytes;
    return true;
  }
  unreserve(bytes: number): void {
    this.#bytes -= bytes;
  }

  /**
   * Moves the content with back-pressure. A retained body that grows beyond `retainedBytesMax`, or beyond what all fills may
   * hold, is no longer retained: `onReleased` is then called first. One that nobody reads any more may end. Never rejects: the body fails.
   * What is whole is in the body when this returns.
   */
  async pump(
    pumped: Pumped,
    body: ObjectBody,
    retainedBytesMax: number,
    { onReleased, mayEnd }: Unkept,
  ): Promise<void> {
    const { contentLength: statedBytes } = pumped;
    const whole = pumped.takeWhole?.();
    if (whole !== undefined) {
      body.append(whole);
      if (body.bytes > retainedBytesMax) {
        onReleased();
        body.release(this.windows.share());
      }
      if (statedBytes === undefined || body.bytes === statedBytes) body.finish();
      else body.fail(incomplete(body.bytes, statedBytes));
      return;
    }
    const { content } = pumped;
    // It may wait for room here, which nobody will make any more.
    body.onAbandoned = () => {
      content.destroy();
      body.fail(unread(body.bytes));
    };
    /** Beyond it content without readers ends. */
    let unreadEnd = Number.POSITIVE_INFINITY;
    const endIfUnread = (): void => {
      if (body.readers > 0 || (statedBytes ?? body.bytes) <= unreadEnd) return;
      unreadEnd = Number.POSITIVE_INFINITY;
      if (!mayEnd()) return;
      this.counters.unreadEnded++;
      onReleased();
      body.fail(unread(body.bytes));
      content.destroy();
    };
    body.onUnread = () => {
      this.counters.unread++;
      unreadEnd = body.bytes + this.#unreadBytesMax;
      endIfUnread();
    };
    let heldBytes = 0;
    try {
      await moved(content, body, (chunk) => {
        body.append(chunk);
        if (!body.isRetained) return;
        heldBytes += chunk.byteLength;
        this.#bytes += chunk.byteLength;
        if (body.bytes > retainedBytesMax || this.#bytes > this.#bytesMax) {
          onReleased();
          body.release(this.windows.share());
        }
        endIfUnread();
      });
      if (statedBytes !== undefined && body.bytes !== statedBytes) throw incomplete(body.bytes, statedBytes);
      body.finish();
    } catch (error) {
      onReleased();
      body.fail(error);
    } finally {
      this.#bytes -= heldBytes;
    }
  }
}

/**
 * Resolves when `take` has had all of the content, one chunk after the other as there is room in `body`, and it is closed: whoever counts it as under
 * way has heard of its end by then. Rejects when it breaks off. By events, since an iterator costs several promises for each chunk.
 */
function moved(content: Readable, body: ObjectBody, take: (chunk: Uint8Array) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const closed = (): void => {
      if (content.readableEnded) resolve();
      else reject(content.errored ?? new Error("the content was given up"));
    };
    if (content.closed) {
      closed();
      return;
    }
    content.on("data", (chunk: Uint8Array) => {
      take(chunk);
      if (!body.isFull) return;
      content.pause();
      void body.room().then(() => content.resume());
    });
    content.on("error", reject);
    content.once("close", closed);
  });
}

function unread(bytes: number): IsochroneError {
  return new IsochroneError(
    `Nobody read the next hop's answer any more: it was given up after ${bytes} bytes`,
    {
      code: "unread",
      source: "downstream",
      retry: "safe",
    },
  );
}

/** The next hop's content ended before its stated length. */
export function incomplete(bytes: number, statedBytes: number): IsochroneError {
  return new IsochroneError(`The next hop's answer broke off: ${bytes} of ${statedBytes} bytes came`, {
    code: "incomplete",
    source: "upstream",
    retry: "safe",
  });
}
