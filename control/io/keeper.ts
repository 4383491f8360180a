/**
 * Puts documents in force on this node and keeps them: from its own disk at once, from control as soon as it answers.
 * With control dead a node starts and serves with what it had.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import {
  id,
  integer,
  type MapSnapshot,
  object,
  ParseError,
  quoteValue,
  type Schema,
  type Steps,
  string,
} from "#kit";
import { inSteps, LastKnownGood, type Logger, makeDirectory } from "#kit/io";
import { type AppliedState, decideApply } from "../core/apply.ts";
import { compareFences, type Fence, fenceOf } from "../core/fence.ts";
import { HoldBack } from "../core/hold-back.ts";
import type { ActivationEvent, DocumentKind, WatchEvent } from "../core/words.ts";
import type { ControlClient, ControlState } from "./client.ts";
import { type FetchedMap, MapFetch, nameOf } from "./map-fetch.ts";

export type DocumentSource = "control" | "disk";

export interface DocumentKeeperOptions {
  readonly client: ControlClient;
  /** The process's own `--state` directory; documents lie in `documents/` below it. Made if missing. */
  readonly stateDirectory: string;
  readonly logger: Logger;
  /** What control sends comes into force so much later; 0, the default: at once. What is first for an empty disk does not wait. */
  readonly delayMs?: number;
}

interface Kept {
  readonly parse: (value: unknown) => unknown;
  readonly onApply: (id: string, body: unknown, version: number, from: DocumentSource) => void;
  readonly prepare: ((body: unknown) => Steps<void>) | undefined;
}

/** A document that may be applied, and from where. */
interface Offer {
  /** Without a body: it is still to be fetched. */
  readonly event: Omit<ActivationEvent, "type" | "body"> & { readonly body?: unknown };
  readonly state: AppliedState;
  readonly from: DocumentSource;
}

interface Preparing {
  readonly running: Offer;
  waiting: Offer | undefined;
  /** Resolves when nothing waits any more. */
  readonly isDone: Promise<void>;
}

/** What lies in a file: the document as control sent it and its place in control's log. */
interface Stored extends Omit<AppliedState, "fence"> {
  readonly id: string;
  readonly body: unknown;
}

const FILE_NAME = /^([a-z]+)\.([a-z][a-z0-9-]{0,62})\.lkg$/;
/** More is not a state directory of ours. */
const FILES_MAX = 20_000;

/**
 * Applies in the order of control's log: a delayed or repeated message never rolls back. A document that `parse` or
 * `onApply` refuses (throws) is counted and logged, and the one before stays in force. A document that control does not
 * mention stays in force as well: absence is never taken for removal (a property is withdrawn by `isActive: false`).
 */
export class DocumentKeeper {
  readonly #client: ControlClient;
  readonly #held: HoldBack<{ readonly event: ActivationEvent; readonly logId: string }> | undefined;
  #heldTimer: NodeJS.Timeout | undefined;
  /** Nothing lay on the disk, and control has not told everything yet. */
  #isFirst = false;
  readonly #directory: string;
  readonly #logger: Logger;
  readonly #kept = new Map<DocumentKind, Kept>();
  readonly #states = new Map<string, AppliedState>();
  readonly #counters = {
    applied: 0,
    ignored: 0,
    fenced: 0,
    refused: 0,
    damaged: 0,
    saveFailures: 0,
    overtaken: 0,
  };
  readonly #fetch: MapFetch;
  /** Maps in force, by key: what differences are applied to. */
  readonly #maps = new Map<string, { readonly map: MapSnapshot; name: string | undefined }>();
  /** What is being fetched or prepared, by key, and the newest that waits behind it. */
  readonly #preparing = new Map<string, Preparing>();
  #isClosed = false;
  /** Newest unsaved value of each file; written one after the other, so that a snapshot is no storm of syncs. */
  readonly #unsaved = new Map<string, { readonly kind: DocumentKind; readonly stored: Stored }>();
  #saving: Promise<void> | undefined;
  #watch: { close(): void } | undefined;
  #state: ControlState = "disconnected";
  /** Log of the snapshot or resume that runs now. */
  #logId: string | undefined;
  #isSynced = false;
  readonly #synced = Promise.withResolvers<void>();

  constructor(options: DocumentKeeperOptions) {
    this.#client = options.client;
    this.#directory = join(options.stateDirectory, "documents");
    this.#logger = options.logger;
    const { delayMs = 0 } = options;
    this.#held = delayMs > 0 ? new HoldBack(delayMs) : undefined;
    this.#fetch = new MapFetch({ client: options.client, logger: options.logger, random: Math.random });
  }

  /**
   * Before {@link start}: follow a kind. `parse` makes a T or throws; `onApply` puts it in force (synchronously) or throws
   * to refuse it. `prepare` is for what is large: it is driven in steps between `parse` and `onApply` for what comes from control,
   * may refuse as well, and meanwhile the document before stays in force; of those that come in between only the newest is
   * taken. Throws RangeError when the kind is kept already or the keeper has started.
   */
  keep<T>(
    kind: DocumentKind,
    parse: (value: unknown) => T,
    onApply: (id: string, body: T, version: number, from: DocumentSource) => void,
    prepare?: (body: T) => Steps<void>,
  ): void {
    if (this.#watch !== undefined) throw new RangeError("DocumentKeeper.keep must come before start");
    if (this.#kept.has(kind)) throw new RangeError(`DocumentKeeper keeps "${kind}" already`);
    this.#kept.set(kind, {
      parse,
      onApply: onApply as Kept["onApply"],
      prepare: prepare as Kept["prepare"],
    });
  }

  /**
   * Applies what lies on the disk, then follows control in the background. Resolves without waiting for control. Rejects
   * when the state directory cannot be made or read; damaged files in it are ignored and reported.
   */
  async start(): Promise<void> {
    makeDirectory(this.#directory);
    this.#load();
    this.#isFirst = this.#states.size === 0;
    this.#watch = this.#client.watch([...this.#kept.keys()], (event) => this.#take(event), {
      onState: (state) => {
        this.#state = state;
      },
      // What is held back must be there when its time comes: control may have forgotten it by then.
      takesReferences: this.#held === undefined,
    });
  }

  /** `kind/id` -> version in force, for ServerReport.applied. */
  get applied(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#states].map(([key, state]) => [key, state.version]));
  }

  /** Whether control's stream stands now. */
  get state(): ControlState {
    return this.#state;
  }

  /** Whether this process has ever been told everything that is active by control itself. */
  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** Resolves when {@link isSynced} becomes true; never when control stays away, so race it against a deadline. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  /** Term and number of the newest publication in force; undefined: there is none, or the kind is not fenced. */
  fenceOf(kind: DocumentKind): Fence | undefined {
    let newest: Fence | undefined;
    for (const [key, { fence }] of this.#states)
      if (fence !== undefined && key.startsWith(`${kind}/`))
        if (newest === undefined || compareFences(fence, newest) > 0) newest = fence;
    return newest;
  }

  /**
   * Since the start: documents applied, ignored (`same`, `older`), fenced (of a publisher whose term is over), refused, overtaken by a
   * newer one while they waited to be prepared; files damaged; saves that failed.
   */
  get counters(): Readonly<
    Record<"applied" | "ignored" | "fenced" | "refused" | "damaged" | "saveFailures" | "overtaken", number>
  > {
    return this.#counters;
  }

  /** Maps that control only named: how they were fetched, and the bytes of that. */
  get fetches(): MapFetch["counters"] {
    return this.#fetch.counters;
  }

  /** Resolves when everything applied so far is durable or its saving has failed (counted). */
  async flushed(): Promise<void> {
    await this.#saving;
  }

  /** Stops following control; resolves when what was applied is on the disk. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#heldTimer);
    this.#watch?.close();
    await this.flushed();
  }

  #take(event: WatchEvent): void {
    switch (event.type) {
      case "snapshot-begin":
        this.#logId = event.logId;
        break;
      case "document":
        if (this.#logId !== undefined) this.#handleDocument(event, this.#logId);
        break;
      case "reference":
        if (this.#logId !== undefined) this.#offer(event, this.#logId, "control");
        break;
      case "snapshot-end":
        this.#isFirst = false;
        void this.#becomeSynced();
        break;
      case "heartbeat":
        this.#logId = event.logId;
        break;
      case "purge":
      case "report":
        break;
      default:
        event satisfies never;
    }
  }

  #handleDocument(event: ActivationEvent, logId: string): void {
    if (this.#held === undefined || this.#isFirst) return this.#offer(event, logId, "control");
    // What is in force already would only push aside what waits.
    const { kind, id: documentId, seq, version, body } = event;
    const key = `${kind}/${documentId}`;
    const state: AppliedState = { logId, seq, version, fence: fenceOf(kind, body) };
    if (!decideApply(this.#states.get(key), state).mayApply) return void this.#counters.ignored++;
    this.#held.handleOffer(key, { event, logId }, performance.now());
    this.#waitForHeld();
  }

  #waitForHeld(): void {
    clearTimeout(this.#heldTimer);
    const dueMs = this.#held?.pollTimeout();
    if (dueMs === undefined || this.#isClosed) return;
    this.#heldTimer = setTimeout(
      () => {
        for (const { event, logId } of this.#held?.pollDue(performance.now()) ?? [])
          this.#offer(event, logId, "control");
        this.#waitForHeld();
      },
      Math.max(1, Math.ceil(dueMs - performance.now())),
    );
  }

  /** Documents that wait for their time. */
  get heldBack(): number {
    return this.#held?.size ?? 0;
  }

  /** While frozen nothing that is held back comes into force. */
  freeze(isFrozen: boolean): void {
    this.#held?.freeze(isFrozen, performance.now());
    this.#waitForHeld();
  }

  /** Once what the snapshot only named is in force as well; what has to be prepared is not waited for, as if it had been sent. */
  async #becomeSynced(): Promise<void> {
    const named = [...this.#preparing.values()].filter(
      ({ running: { event } }) =>
        event.body === undefined && this.#kept.get(event.kind)?.prepare === undefined,
    );
    if (named.length > 0) await Promise.all(named.map(async ({ isDone }) => await isDone));
    this.#isSynced = true;
    this.#synced.resolve();
  }

  #offer(event: Offer["event"] & { readonly fence?: Fence }, logId: string, from: DocumentSource): void {
    const { kind, id: documentId, seq, version, body } = event;
    const kept = this.#kept.get(kind);
    if (kept === undefined) return;
    const key = `${kind}/${documentId}`;
    const offered: AppliedState = { logId, seq, version, fence: event.fence ?? fenceOf(kind, body) };
    const preparing = this.#preparing.get(key);
    const before = (preparing?.waiting ?? preparing?.running)?.state ?? this.#states.get(key);
    const { mayApply, reason } = decideApply(before, offered);
    if (!mayApply) {
      if (reason === "fenced") {
        this.#counters.fenced++;
        this.#logger.warn("document-fenced", {
          document: key,
          version,
          from,
          offered: offered.fence,
          inForce: before?.fence,
        });
      } else this.#counters.ignored++;
      return;
    }
    const offer: Offer = { event, state: offered, from };
    if (preparing !== undefined) {
      if (preparing.waiting !== undefined) this.#counters.overtaken++;
      preparing.waiting = offer;
    } else if (body === undefined || (kept.prepare !== undefined && from === "control")) {
      void this.#prepare(key, kept, offer);
    } else {
      try {
        this.#apply(key, kept, offer, kept.parse(body), { body, name: undefined });
      } catch (error) {
        this.#refuse(key, offer, error);
      }
    }
  }

  /** Fetches and prepares one after the other, the newest of those that wait. Never rejects. */
  async #prepare(key: string, kept: Kept, first: Offer): Promise<void> {
    const { promise: isDone, resolve } = Promise.withResolvers<void>();
    for (let offer: Offer | undefined = first; offer !== undefined && !this.#isClosed; ) {
      const place: Preparing = { running: offer, waiting: undefined, isDone };
      this.#preparing.set(key, place);
      try {
        const { body } = offer.event;
        const got = body === undefined ? await this.#fetchBody(key, offer, place) : { body, name: undefined };
        if (got !== undefined) {
          const parsed = kept.parse(got.body);
          const prepared = await inSteps(kept.prepare?.(parsed) ?? nothing(), () => !this.#isClosed);
          if (prepared !== undefined) this.#apply(key, kept, offer, parsed, got);
        }
      } catch (error) {
        this.#refuse(key, offer, error);
      }
      offer = place.waiting;
    }
    this.#preparing.delete(key);
    resolve();
  }

  /** Undefined: a newer one waits, or control does not keep it any more. */
  async #fetchBody(key: string, { event, state }: Offer, place: Preparing): Promise<FetchedMap | undefined> {
    const isWanted = (): boolean => !this.#isClosed && place.waiting === undefined;
    const inForce = this.#maps.get(key);
    if (inForce !== undefined) inForce.name ??= (await nameOf(inForce.map, isWanted))?.name;
    const { map, name } = inForce ?? {};
    const base = map === undefined || name === undefined ? undefined : { map, name };
    const fence = state.fence as Fence;
    return await this.#fetch.fetch({ ...event, fence }, base, isWanted);
  }

  #refuse(key: string, { event, from }: Offer, error: unknown): void {
    this.#counters.refused++;
    this.#logger.error("document-refused", {
      document: key,
      version: event.version,
      from,
      inForce: this.#states.get(key)?.version ?? null,
      ...(error instanceof ParseError
        ? { path: error.path, value: quoteValue(error.value), expected: error.expected }
        : { error }),
    });
  }

  /** Throws what `onApply` refuses it with. */
  #apply(key: string, kept: Kept, offer: Offer, parsed: unknown, { body, name }: FetchedMap): void {
    const { event, state, from } = offer;
    const { kind, id: documentId, seq, version } = event;
    const { logId } = state;
    const { reason } = decideApply(this.#states.get(key), state);
    kept.onApply(documentId, parsed, version, from);
    this.#states.set(key, state);
    if (kind === "map") this.#maps.set(key, { map: parsed as MapSnapshot, name });
    this.#counters.applied++;
    this.#logger.info("document-applied", { document: key, version, seq, from, reason });
    if (from === "control") {
      this.#unsaved.set(key, { kind, stored: { logId, seq, version, id: documentId, body } });
      this.#saving ??= this.#saveAll();
    }
  }

  async #saveAll(): Promise<void> {
    for (;;) {
      const next = this.#unsaved.entries().next().value;
      if (next === undefined) break;
      const [key, { kind, stored }] = next;
      this.#unsaved.delete(key);
      try {
        await this.#file(kind, stored.id).save(stored);
      } catch (error) {
        this.#counters.saveFailures++;
        this.#logger.error("document-not-kept", { document: key, version: stored.version, error });
      }
    }
    this.#saving = undefined;
  }

  #load(): void {
    const names = readdirSync(this.#directory).sort();
    for (const name of names.slice(0, FILES_MAX)) {
      const [, kindName, documentId] = FILE_NAME.exec(name) ?? [];
      const kind = [...this.#kept.keys()].find((one) => one === kindName);
      if (kind === undefined || documentId === undefined) continue;
      const stored = this.#file(kind, documentId).load();
      if (stored === undefined) continue;
      if (stored.id !== documentId) this.#damaged(name, `holds ${stored.id}`);
      else this.#offer({ ...stored, kind }, stored.logId, "disk");
    }
  }

  #damaged(path: string, reason: string): void {
    this.#counters.damaged++;
    this.#logger.error("document-damaged", {
      path,
      reason,
      consequence: "ignored; control will send it again",
    });
  }

  #file(kind: DocumentKind, documentId: string): LastKnownGood<Stored> {
    return new LastKnownGood(
      join(this.#directory, `${kind}.${documentId}.lkg`),
      (value) => storedSchema.parse(value),
      {
        onDamaged: ({ path, reason }) => this.#damaged(path, reason),
      },
    );
  }
}

function* nothing(): Steps<void> {}

const anyBody: Schema<unknown> = { parse: (value) => value, jsonSchema: () => ({}) };
/** The body is left to the schema of its kind, which `#offer` asks. */
const storedSchema: Schema<Stored> = object({
  logId: string({ max: 64 }),
  seq: integer({ min: 1 }),
  id: id(),
  version: integer({ min: 1 }),
  body: anyBody,
});
