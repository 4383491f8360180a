/**
 * One watch stream that comes back by itself: reads lines, remembers the place, notices silence, backs off. Policy of
 * what to do with the events is the caller's.
 */
import type { Logger } from "#kit/io";
import { parseWatchEvent } from "../core/wire.ts";
import type { WatchEvent, WatchKind } from "../core/words.ts";
import { NdjsonReader } from "../core/ndjson.ts";

export type WatchState = "connected" | "disconnected";

export interface WatchSettings {
  readonly kinds: readonly WatchKind[];
  readonly onEvent: (event: WatchEvent) => void;
  readonly onState: (state: WatchState) => void;
  readonly since: { readonly logId: string; readonly seq: number } | undefined;
  readonly open: (path: string, signal: AbortSignal) => Promise<{ readonly body: AsyncIterable<unknown> }>;
  /** How long to wait after `failures` in a row, ms. */
  readonly delayMs: (failures: number) => number;
  readonly logger: Logger;
}

/**
 * Control sends something each second; three missed are a dead stream, whatever TCP believes. The grace is for a process
 * that was busy itself: after a long pause timers fire first, and only then are the bytes read that came meanwhile.
 */
const SILENCE_MS = 2_500;
const SILENCE_GRACE_MS = 500;
/** The largest line is the map of a full deployment. */
const LINE_BYTES_MAX = 512 * 1024 * 1024;

export class Watch {
  readonly #settings: WatchSettings;
  #place: { logId: string; seq: number } | undefined;
  /** While a snapshot runs its place is unknown: a break within it must begin again. */
  #snapshotLogId: string | undefined;
  #failures = 0;
  #state: WatchState = "disconnected";
  #retryTimer: NodeJS.Timeout | undefined;
  #stream: AbortController | undefined;
  #isClosed = false;

  constructor(settings: WatchSettings) {
    this.#settings = settings;
    this.#place = settings.since && { ...settings.since };
  }

  get state(): WatchState {
    return this.#state;
  }

  start(): void {
    void this.#run();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retryTimer);
    this.#stream?.abort(new Error("the watch was closed"));
  }

  /** One stream from opening to its end; arms the next one. Never rejects. */
  async #run(): Promise<void> {
    const stream = new AbortController();
    this.#stream = stream;
    let grace: NodeJS.Timeout | undefined;
    const silence = setTimeout(() => {
      const giveUp = () =>
        stream.abort(new Error(`nothing heard from control for ${SILENCE_MS + SILENCE_GRACE_MS} ms`));
      grace = setTimeout(giveUp, SILENCE_GRACE_MS);
    }, SILENCE_MS);
    try {
      const place = this.#place === undefined ? "" : `&since=${this.#place.seq}&log=${this.#place.logId}`;
      const path = `/v1/watch?kinds=${this.#settings.kinds.join(",")}${place}`;
      this.#snapshotLogId = undefined;
      const { body } = await this.#settings.open(path, stream.signal);
      const reader = new NdjsonReader(LINE_BYTES_MAX);
      for await (const chunk of body) {
        silence.refresh();
        clearTimeout(grace);
        for (const value of reader.read(chunk as Buffer)) {
          // Closed by the handler of an earlier event: the caller must hear nothing more.
          if (this.#isClosed) return;
          this.#take(parseWatchEvent(value));
        }
      }
      throw new Error("control ended the stream");
    } catch (error) {
      if (!this.#isClosed) {
        // The first failure is news, the hundredth is not.
        const level = this.#failures === 0 ? "warn" : "debug";
        const reason = (stream.signal.reason as Error | undefined) ?? (error as Error);
        this.#settings.logger[level]("watch-lost", { reason: reason.message, failures: this.#failures });
      }
    } finally {
      clearTimeout(silence);
      clearTimeout(grace);
      // Whatever ended the reading, the connection must not be left half read.
      stream.abort(new Error("the stream is over"));
      this.#become("disconnected");
      if (!this.#isClosed) {
        this.#retryTimer = setTimeout(() => void this.#run(), this.#settings.delayMs(this.#failures));
        this.#failures++;
      }
    }
  }

  #take(event: WatchEvent): void {
    this.#failures = 0;
    this.#become("connected");
    if (event.type === "snapshot-begin") {
      this.#snapshotLogId = event.logId;
      this.#place = undefined;
    }
    try {
      this.#settings.onEvent(event);
    } catch (error) {
      this.#settings.logger.error("watch-handler-failed", { type: event.type, error });
    }
    if (event.type === "snapshot-end" && this.#snapshotLogId !== undefined) {
      this.#place = { logId: this.#snapshotLogId, seq: event.seq };
    } else if ("seq" in event && this.#place !== undefined) {
      this.#place.seq = Math.max(this.#place.seq, event.seq);
    }
  }

  #become(state: WatchState): void {
    if (this.#state === state) return;
    this.#state = state;
    if (!this.#isClosed) this.#settings.onState(state);
  }
}
