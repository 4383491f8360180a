/**
 * Who is to be sent what: one bounded queue a watcher. What must arrive (activations, purges) is never dropped: a watcher
 * that cannot keep up is cut off and resumes by its place. What is soon repeated (reports, heartbeats) keeps only its
 * newest copy and is dropped first. Sans-IO: lines come in, lines go out.
 */
import type { MonotonicMs } from "#kit";
import type { WatchKind } from "./words.ts";

export interface WatchHubSettings {
  readonly watchersMax: number;
  /** Lines that wait for one watcher. */
  readonly queueLinesMax: number;
  /** Bytes that wait for one watcher; one line alone may be larger, or no large map would ever arrive. */
  readonly queueBytesMax: number;
  /** A watcher that has taken nothing for so long while something waited is gone, whatever TCP believes. */
  readonly stallMs: number;
}

export const watchHubDefaults: WatchHubSettings = {
  watchersMax: 10_000,
  queueLinesMax: 10_000,
  queueBytesMax: 64 * 1024 * 1024,
  stallMs: 10_000,
};

/** One line for watchers; the same bytes are shared by all of them. */
export interface HubLine {
  readonly kind: WatchKind | "heartbeat";
  readonly bytes: Uint8Array;
  /** For watchers that take references: sent to them instead of `bytes`. */
  readonly reference?: Uint8Array;
  /** Only watchers of these nodes are sent it. */
  readonly audience?: ReadonlySet<string> | undefined;
  /** Newest copy of what is soon repeated: an older one with the same key that still waits is replaced. */
  readonly replaces?: string;
}

export const cutReasons = ["slow", "stalled"] as const;
/** `slow`: its queue was full. `stalled`: it took nothing for `stallMs`. */
export type CutReason = (typeof cutReasons)[number];

export interface Cut {
  readonly watcherId: number;
  readonly reason: CutReason;
}

export interface Subscription {
  /** As it names itself. */
  readonly nodeId?: string;
  readonly takesReferences?: boolean;
}

interface Watcher extends Subscription {
  readonly kinds: ReadonlySet<string>;
  readonly queue: Map<string | number, HubLine>;
  queuedBytes: number;
  nextKey: number;
  /** When it last took a line, or when something began to wait for it. */
  movedAt: MonotonicMs;
}

export class WatchHub {
  readonly #settings: WatchHubSettings;
  readonly #watchers = new Map<number, Watcher>();
  #nextId = 1;
  readonly #counters = { subscribed: 0, refused: 0, cutSlow: 0, cutStalled: 0, dropped: 0, delivered: 0 };

  constructor(settings: WatchHubSettings = watchHubDefaults) {
    this.#settings = settings;
  }

  /** Since the start; `dropped` are repeatable lines that a full queue had no room for. */
  get counters(): Readonly<
    Record<"subscribed" | "refused" | "cutSlow" | "cutStalled" | "dropped" | "delivered", number>
  > {
    return this.#counters;
  }

  get watcherCount(): number {
    return this.#watchers.size;
  }

  /** Its id, or undefined when there is no room for another watcher. */
  subscribe(
    kinds: readonly WatchKind[],
    now: MonotonicMs,
    subscription: Subscription = {},
  ): number | undefined {
    if (this.#watchers.size >= this.#settings.watchersMax) {
      this.#counters.refused++;
      return undefined;
    }
    this.#counters.subscribed++;
    const watcherId = this.#nextId++;
    this.#watchers.set(watcherId, {
      ...subscription,
      kinds: new Set<string>([...kinds, "heartbeat"]),
      queue: new Map(),
      queuedBytes: 0,
      nextKey: 0,
      movedAt: now,
    });
    return watcherId;
  }

  /** Forgets a watcher and its queue; unknown ids are fine. */
  unsubscribe(watcherId: number): void {
    this.#watchers.delete(watcherId);
  }

  /** Queues a line for everyone who watches its kind; returns those that had no room for it and are now forgotten. */
  publish(line: HubLine, now: MonotonicMs): readonly Cut[] {
    const cuts: Cut[] = [];
    for (const [watcherId, watcher] of this.#watchers) {
      if (!watcher.kinds.has(line.kind)) continue;
      const { reference, audience } = line;
      if (audience !== undefined && !audience.has(watcher.nodeId ?? "")) continue;
      const own =
        watcher.takesReferences === true && reference !== undefined ? { ...line, bytes: reference } : line;
      if (this.#enqueue(watcher, own, now)) continue;
      if (line.replaces !== undefined) this.#counters.dropped++;
      else {
        this.#watchers.delete(watcherId);
        this.#counters.cutSlow++;
        cuts.push({ watcherId, reason: "slow" });
      }
    }
    return cuts;
  }

  /** The next line of one watcher, taken out of its queue. */
  take(watcherId: number, now: MonotonicMs): Uint8Array | undefined {
    const watcher = this.#watchers.get(watcherId);
    if (watcher === undefined) return undefined;
    const next = watcher.queue.entries().next().value;
    if (next === undefined) return undefined;
    const [key, line] = next;
    watcher.queue.delete(key);
    watcher.queuedBytes -= line.bytes.length;
    watcher.movedAt = now;
    this.#counters.delivered++;
    return line.bytes;
  }

  /** Tells that a watcher takes bytes (of its backlog, say), so that it does not count as stalled. */
  handleProgress(watcherId: number, now: MonotonicMs): void {
    const watcher = this.#watchers.get(watcherId);
    if (watcher !== undefined) watcher.movedAt = now;
  }

  /** Forgets and names the watchers for which something has waited longer than `stallMs`. */
  handleTimeout(now: MonotonicMs): readonly Cut[] {
    const cuts: Cut[] = [];
    for (const [watcherId, watcher] of this.#watchers) {
      if (watcher.queue.size === 0 || now - watcher.movedAt < this.#settings.stallMs) continue;
      this.#watchers.delete(watcherId);
      this.#counters.cutStalled++;
      cuts.push({ watcherId, reason: "stalled" });
    }
    return cuts;
  }

  #enqueue(watcher: Watcher, line: HubLine, now: MonotonicMs): boolean {
    const { queueLinesMax, queueBytesMax } = this.#settings;
    if (watcher.queue.size === 0) watcher.movedAt = now;
    const replaced = line.replaces === undefined ? undefined : watcher.queue.get(line.replaces);
    const bytes = watcher.queuedBytes + line.bytes.length - (replaced?.bytes.length ?? 0);
    const lines = watcher.queue.size + (replaced === undefined ? 1 : 0);
    if (lines > 1 && (lines > queueLinesMax || bytes > queueBytesMax)) return false;
    // Replacing moves it to the end: a heartbeat says that everything before it has been sent.
    if (line.replaces !== undefined) watcher.queue.delete(line.replaces);
    watcher.queue.set(line.replaces ?? watcher.nextKey++, line);
    watcher.queuedBytes = bytes;
    return true;
  }
}
