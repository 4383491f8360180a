/**
 * One direction of an emulated link: items leave in order, each after its time on the way. Holds at most the bytes that
 * the owner lets in: `isFull` says when to stop.
 */
import type { WanLink } from "../core/wan-state.ts";

/** Ethernet payload without TCP/IP headers: what one loss takes away. */
const SEGMENT_BYTES = 1_448;
/** Floor of the delay that a loss costs: Linux's TCP_RTO_MIN. */
const RETRANSMISSION_MS_MIN = 200;
/** At least this much may be on the way, whatever the bandwidth-delay product. */
const QUEUE_BYTES_MIN = 256 * 1024;
const QUEUE_BYTES_MAX = 4 * 1024 * 1024;

type Entry = { readonly atMs: number; readonly bytes: number; readonly deliver: () => void };

export type DelayLineOptions = {
  /** Read at each item, so that a changed world is felt by open connections. */
  readonly link: () => { readonly link: WanLink; readonly isCut: boolean };
  /** 0..1, for losses. */
  readonly random: () => number;
  /** Called when items wait longer than `stallMs` behind a cut. */
  readonly onStalled: () => void;
  readonly stallMs: number;
};

export class DelayLine {
  readonly #options: DelayLineOptions;
  readonly #entries: Entry[] = [];
  #head = 0;
  #bytes = 0;
  /** When the link has sent all that was put in. */
  #idleFromMs = 0;
  #lastArrivalMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #stalledSinceMs: number | undefined;

  constructor(options: DelayLineOptions) {
    this.#options = options;
  }

  /** Bytes on the way. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether the owner should wait until `bytes` falls. */
  get isFull(): boolean {
    const { link } = this.#options.link();
    const bandwidthDelayBytes = link.bandwidthMbps * 125 * link.rttMs;
    return this.#bytes >= Math.min(QUEUE_BYTES_MAX, Math.max(QUEUE_BYTES_MIN, bandwidthDelayBytes));
  }

  /** Takes one item (`bytes` 0: an end or a reset), to be delivered after its time on the way, in order. */
  put(bytes: number, deliver: () => void): void {
    const { link } = this.#options.link();
    const nowMs = performance.now();
    this.#idleFromMs = Math.max(this.#idleFromMs, nowMs) + bytes / (link.bandwidthMbps * 125);
    let arrivalMs = this.#idleFromMs + link.rttMs / 2;
    const segments = Math.ceil(bytes / SEGMENT_BYTES);
    if (link.lossRatio > 0 && this.#options.random() < 1 - (1 - link.lossRatio) ** segments)
      arrivalMs += Math.max(RETRANSMISSION_MS_MIN, 1.5 * link.rttMs);
    // In order: what comes after a lost segment waits for it.
    arrivalMs = Math.max(arrivalMs, this.#lastArrivalMs);
    this.#lastArrivalMs = arrivalMs;
    this.#entries.push({ atMs: arrivalMs, bytes, deliver });
    this.#bytes += bytes;
    this.#arm();
  }

  /** Drops everything on the way. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#entries.length = 0;
    this.#head = 0;
    this.#bytes = 0;
  }

  /** The state of the world changed: look again. */
  wake(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#arm();
  }

  #arm(): void {
    if (this.#timer !== undefined || this.#head >= this.#entries.length) return;
    const nowMs = performance.now();
    if (this.#options.link().isCut) {
      this.#stalledSinceMs ??= nowMs;
      const leftMs = Math.max(0, this.#stalledSinceMs + this.#options.stallMs - nowMs);
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#options.onStalled();
      }, leftMs);
      return;
    }
    const next = this.#entries[this.#head];
    if (next === undefined) return;
    const waitMs =
      this.#stalledSinceMs === undefined
        ? next.atMs - nowMs
        : Math.max(next.atMs - nowMs, RETRANSMISSION_MS_MIN);
    this.#stalledSinceMs = undefined;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#release();
      },
      Math.max(0, waitMs),
    );
  }

  #release(): void {
    if (this.#options.link().isCut) {
      this.#arm();
      return;
    }
    // Half a millisecond of grace: timers have whole ones.
    const untilMs = performance.now() + 0.5;
    for (;;) {
      const next = this.#entries[this.#head];
      if (next === undefined || next.atMs > untilMs) break;
      this.#head++;
      this.#bytes -= next.bytes;
      next.deliver();
    }
    if (this.#head >= this.#entries.length) {
      this.#entries.length = 0;
      this.#head = 0;
    } else if (this.#head > 1_024) {
      this.#entries.splice(0, this.#head);
      this.#head = 0;
    }
    this.#arm();
  }
}
