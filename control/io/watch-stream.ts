/** One watcher's answer: what it has missed, straight from the store as fast as it reads, then its queue in the hub. */
import type { ServerResponse } from "node:http";
import type { Clock } from "#kit";
import { controlSettings } from "../config.ts";
import { decideWatchStart, type WatchStart } from "../core/document-log.ts";
import type { WatchKind } from "../core/words.ts";
import { lineOf, lineOfStored, referenceOfStored } from "./lines.ts";
import { opinionsAlone } from "../core/opinions-alone.ts";
import type { ControlService } from "./service.ts";
import type { StoredEvent } from "./store.ts";

export class WatchStream {
  readonly watcherId: number;
  /** How it began, for the log. */
  readonly start: WatchStart;
  readonly #service: ControlService;
  readonly #clock: Clock;
  readonly #response: ServerResponse;
  /** Undefined once it is exhausted. */
  #backlog: Iterator<Uint8Array> | undefined;

  /** The hub's queue begins at this moment, the backlog ends at it: nothing is between. */
  constructor(options: {
    readonly service: ControlService;
    readonly clock: Clock;
    readonly response: ServerResponse;
    readonly watcherId: number;
    readonly kinds: readonly WatchKind[];
    /** Who watches, as it names itself. */
    readonly nodeId: string;
    /** What is large is named instead of sent. */
    readonly takesReferences: boolean;
    readonly since: { readonly logId: string; readonly seq: number } | undefined;
  }) {
    const { service, clock, response, watcherId, since, nodeId, takesReferences } = options;
    const wish = { kinds: new Set<string>(options.kinds), nodeId, takesReferences };
    this.#service = service;
    this.#clock = clock;
    this.#response = response;
    this.watcherId = watcherId;
    const bounds = service.store.bounds();
    this.start = decideWatchStart(bounds, since);
    const upTo = bounds.newestSeq;
    this.#backlog =
      since !== undefined && this.start === "resume"
        ? resumed(service, wish, bounds.logId, since.seq, upTo)
        : snapshot(service, wish, bounds.logId, upTo);
    response.on("drain", () => {
      service.hub.handleProgress(watcherId, clock.monotonic());
      this.pump();
    });
  }

  /** Writes as much as the connection takes. Call it whenever something was queued. */
  pump(): void {
    const response = this.#response;
    while (!response.destroyed && !response.writableEnded && !response.writableNeedDrain) {
      const line = this.#next();
      if (line === undefined) return;
      response.write(line);
    }
  }

  #next(): Uint8Array | undefined {
    const step = this.#backlog?.next();
    if (step !== undefined && step.done !== true) return step.value;
    this.#backlog = undefined;
    return this.#service.hub.take(this.watcherId, this.#clock.monotonic());
  }
}

/** What a watcher wants. */
interface Wish {
  readonly kinds: ReadonlySet<string>;
  readonly nodeId: string;
  readonly takesReferences: boolean;
}

function concerns(event: StoredEvent, { kinds, nodeId }: Wish): boolean {
  return event.type === "purge"
    ? kinds.has("purge")
    : kinds.has(event.kind) && event.audience?.has(nodeId) !== false;
}

function lineFor(event: StoredEvent, { takesReferences }: Wish): Uint8Array {
  return (takesReferences ? referenceOfStored(event) : undefined) ?? lineOfStored(event);
}

function* resumed(
  service: ControlService,
  wish: Wish,
  logId: string,
  since: number,
  upTo: number,
): Generator<Uint8Array, undefined> {
  // It tells the watcher at once that its place was good.
  yield lineOf({ type: "heartbeat", logId, seq: since });
  for (let after = since; after < upTo; ) {
    const events = service.store.events(after, upTo, controlSettings.backlogBatch);
    for (const event of events) {
      if (concerns(event, wish)) yield lineFor(event, wish);
    }
    const last = events.at(-1);
    if (last === undefined || events.length < controlSettings.backlogBatch) break;
    after = last.seq;
  }
  yield lineOf({ type: "heartbeat", logId, seq: upTo });
  yield* reportLines(service, wish.kinds);
}

function* snapshot(
  service: ControlService,
  wish: Wish,
  logId: string,
  upTo: number,
): Generator<Uint8Array, undefined> {
  const { store } = service;
  const { kinds } = wish;
  const { documents, purges } = store.snapshotSeqs();
  yield lineOf({ type: "snapshot-begin", logId, oldestPurgeSeq: store.oldestPurgeSeq() });
  for (const seq of [...documents, ...(kinds.has("purge") ? purges : [])]) {
    // Gone since: a newer activation waits in the queue, or the purge is too old to be kept.
    const event = store.event(seq);
    if (event !== undefined && concerns(event, wish)) yield lineFor(event, wish);
  }
  yield lineOf({ type: "snapshot-end", seq: upTo });
  yield* reportLines(service, kinds);
}

function* reportLines(service: ControlService, kinds: ReadonlySet<string>): Generator<Uint8Array, undefined> {
  for (const report of service.reports())
    if (kinds.has("report")) yield lineOf({ type: "report", report });
    else if (kinds.has("opinion") && report.opinions !== undefined)
      yield lineOf({ type: "report", report: opinionsAlone(report) });
}
