/**
 * What each node does with control's stream: comes back after silence, applies what control's core lets it, keeps it on its
 * disk. The driver of control/io (Watch and DocumentKeeper) over virtual messages; every decision is control's core.
 */
import {
  allSteps,
  applyDifferences,
  type MapSnapshot,
  mapSnapshot,
  named,
  type NamedMap,
  ParseError,
  type Random,
  type ServerReport,
  type Steps,
} from "#kit";
import type { AppliedState } from "../../control/core/apply.ts";
import { compareFences, type Fence, fenceOf } from "../../control/core/fence.ts";
import { backoffDelayMs } from "../../control/core/backoff.ts";
import type { HoldBack } from "../../control/core/hold-back.ts";
import { type FetchOutcome, FetchPlan } from "../../control/core/fetch-plan.ts";
import type {
  ActivationEvent,
  DocumentKind,
  PurgeEvent,
  ReferenceEvent,
  WatchEvent,
} from "../../control/core/words.ts";
import type { ControlStore, MapDelivery } from "./control-store.ts";
import { exchange, type Host } from "./host.ts";

/** Whether a node that applies it goes forward: by its place in the log, and for a map by its publisher's term and number. */
export function isForward(before: AppliedState | undefined, after: AppliedState): boolean {
  if (before === undefined) return true;
  if (before.fence !== undefined && after.fence !== undefined)
    return compareFences(after.fence, before.fence) > 0;
  return before.logId !== after.logId || after.seq > before.seq;
}

/** `seq 7`, of a map with term and number. */
export function placeOf({ seq, fence }: AppliedState): string {
  return fence === undefined ? `seq ${seq}` : `seq ${seq} (version ${fence.version} of term ${fence.term})`;
}

/** What was applied, and its place in the log. Survives the process. */
interface Kept {
  readonly state: AppliedState;
  readonly kind: DocumentKind;
  readonly id: string;
  readonly body: unknown;
  /** Of a map, once somebody has asked for it. */
  name?: string;
}

interface Wanted {
  readonly reference: ReferenceEvent;
  readonly state: AppliedState;
}

interface Fetching {
  readonly running: Wanted;
  waiting: Wanted | undefined;
}

/** Steps between which the host does something else, and how long they take: kit/io/in-steps.ts gives the event loop back after 3 ms. */
const TURN_STEPS = 2;
const TURN_MS = 3;
/** Wait for an answer to a fetch, ms. */
const FETCH_TIMEOUT_MS = 5_000;

export interface FollowerHandlers {
  /** False: the document is refused, and what was in force stays so, on the disk as well. */
  readonly onDocument: (kind: DocumentKind, id: string, body: unknown, version: number) => boolean;
  /**
   * Of a map that was fetched: what has to be done, in steps, before it can be put in force, as `DocumentKeeper.keep` has it. What was in force
   * serves meanwhile, and of the maps that come in between only the newest is taken. May throw ParseError to refuse it.
   */
  readonly prepare?: (map: MapSnapshot) => Steps<unknown>;
  readonly onPurge?: (event: PurgeEvent) => void;
  /** Where the stream stands: it begins with a snapshot (then `oldestPurgeSeq` is told), or goes on in this log. */
  readonly onPlace?: (logId: string, oldestPurgeSeq?: number | null) => void;
  readonly onReport?: (report: ServerReport) => void;
  /** Every decision to apply, for the invariants. */
  readonly onApplied: (key: string, before: AppliedState | undefined, after: AppliedState) => void;
}

export class DocumentFollower {
  readonly #host: Host;
  /** Tells the streams of one host apart. */
  readonly #name: string;
  readonly #control: ControlStore;
  readonly #kinds: readonly string[];
  readonly #handlers: FollowerHandlers;
  readonly #random: Random;
  /** Documents come into force so long after they came. */
  readonly #delayMs: number;
  readonly #disk = new Map<string, Kept>();
  #applied = new Map<string, AppliedState>();
  #fetching = new Map<string, Fetching>();
  #place: { logId: string; seq: number } | undefined;
  #logId: string | undefined;
  #isInSnapshot = false;
  /** Documents of who takes them late. */
  #held: HoldBack<ActivationEvent> | undefined;
  #heldTimerAt = Number.POSITIVE_INFINITY;
  /** Nothing lay on the disk, and control has not told everything yet. */
  #isFirst = false;
  #failures = 0;
  /** Grows with each stream: what an old one still brings is told apart. */
  #stream = 0;
  #heardAt = 0;
  readonly counters = {
    applied: 0,
    ignored: 0,
    refused: 0,
    fenced: 0,
    connects: 0,
    lost: 0,
    whole: 0,
    differences: 0,
  };

  constructor(
    host: Host,
    control: ControlStore,
    kinds: readonly string[],
    handlers: FollowerHandlers,
    name = "documents",
    delayMs = 0,
  ) {
    this.#host = host;
    this.#delayMs = delayMs;
    this.#name = name;
    this.#control = control;
    this.#kinds = kinds;
    this.#handlers = handlers;
    this.#random = host.env.random.split(`follower/${name}/${host.id}`);
  }

  /** The process starts: what its disk holds is in force at once, control is asked for the rest. */
  start(): void {
    this.#applied = new Map();
    this.#fetching = new Map();
    this.#place = undefined;
    this.#logId = undefined;
    this.#isInSnapshot = false;
    this.#failures = 0;
    this.#held = this.#delayMs > 0 ? this.#host.env.cores.holdBack(this.#delayMs) : undefined;
    this.#heldTimerAt = Number.POSITIVE_INFINITY;
    this.#isFirst = this.#disk.size === 0;
    for (const kept of this.#disk.values()) {
      this.#applied.set(`${kept.kind}/${kept.id}`, kept.state);
      this.#handlers.onDocument(kept.kind, kept.id, kept.body, kept.state.version);
    }
    this.#connect();
    this.#watchSilence();
  }

  get applied(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#applied].map(([key, state]) => [key, state.version]));
  }
  seqOf(key: string): number | undefined {
    return this.#applied.get(key)?.seq;
  }
  fenceOf(key: string): Fence | undefined {
    return this.#applied.get(key)?.fence;
  }
  isOnDisk(key: string): boolean {
    return this.#disk.has(key);
  }

  #connect(): void {
    const stream = ++this.#stream;
    this.counters.connects++;
    this.#heardAt = this.#host.now;
    exchange<true>({
      from: this.#host,
      to: this.#control.host,
      label: "watch",
      connectTimeoutMs: this.#host.env.settings.watchSilenceMs,
      timeoutMs: this.#host.env.settings.watchSilenceMs,
      serve: (respond) => {
        respond(true);
        const takesReferences = this.#held === undefined;
        this.#control.watch(this.#host, this.#name, this.#kinds, this.#place, takesReferences, (event) =>
          this.#take(event, stream),
        );
      },
      done: (outcome) => {
        if (stream === this.#stream && outcome.kind !== "answer") this.#lost();
      },
    });
  }

  /** The stream is over; another one after a pause. */
  #lost(): void {
    this.counters.lost++;
    this.#stream++;
    const delayMs = backoffDelayMs(this.#failures++, this.#random.float());
    const { incarnation } = this.#host;
    this.#heardAt = Number.POSITIVE_INFINITY;
    this.#host.after(delayMs, "watch-retry", () => {
      if (this.#host.incarnation === incarnation) this.#connect();
    });
  }

  #watchSilence(): void {
    const { watchSilenceMs } = this.#host.env.settings;
    if (this.#host.now - this.#heardAt > watchSilenceMs) this.#lost();
    this.#host.after(500, "watch-silence", () => this.#watchSilence());
  }

  #take(event: WatchEvent, stream: number): void {
    // A stream that was given up is closed, but documents of it that are under way may still come in: the core decides.
    if (stream !== this.#stream && event.type !== "document" && event.type !== "reference") return;
    if (stream === this.#stream) {
      this.#heardAt = this.#host.now;
      this.#failures = 0;
    }
    switch (event.type) {
      case "snapshot-begin":
        this.#logId = event.logId;
        this.#isInSnapshot = true;
        this.#place = undefined;
        this.#handlers.onPlace?.(event.logId, event.oldestPurgeSeq);
        break;
      case "heartbeat":
        this.#logId = event.logId;
        this.#handlers.onPlace?.(event.logId);
        this.#moveOn(event.seq);
        break;
      case "snapshot-end":
        this.#isInSnapshot = false;
        this.#isFirst = false;
        if (this.#logId !== undefined) this.#place = { logId: this.#logId, seq: event.seq };
        break;
      case "document":
        this.#handleDocument(event);
        if (stream === this.#stream) this.#moveOn(event.seq);
        break;
      case "reference":
        this.#offerReference(event);
        if (stream === this.#stream) this.#moveOn(event.seq);
        break;
      case "purge":
        this.#handlers.onPurge?.(event);
        this.#moveOn(event.seq);
        break;
      case "report":
        this.#handlers.onReport?.(event.report);
        break;
      default:
        event satisfies never;
    }
  }

  #moveOn(seq: number): void {
    if (!this.#isInSnapshot && this.#place !== undefined) this.#place.seq = Math.max(this.#place.seq, seq);
  }

  #handleDocument(event: ActivationEvent): void {
    const { kind, id, body, version, seq } = event;
    if (this.#held === undefined || this.#isFirst) return this.#offer(kind, id, body, version, seq);
    if (this.#logId === undefined) return;
    const key = `${kind}/${id}`;
    const state: AppliedState = { logId: this.#logId, seq, version, fence: fenceOf(kind, body) };
    if (!this.#mayApply(this.#applied.get(key), state)) return;
    this.#held.handleOffer(key, event, this.#host.now);
    this.#waitForHeld();
  }

  /** While frozen nothing that is held back comes into force. */
  freeze(isFrozen: boolean): void {
    this.#held?.freeze(isFrozen, this.#host.now);
    this.#waitForHeld();
  }

  #waitForHeld(): void {
    const dueAt = this.#held?.pollTimeout();
    if (dueAt === undefined || dueAt >= this.#heldTimerAt) return;
    this.#heldTimerAt = dueAt;
    this.#host.after(Math.max(1, dueAt - this.#host.now), "held-back", () => {
      this.#heldTimerAt = Number.POSITIVE_INFINITY;
      for (const { kind, id, body, version, seq } of this.#held?.pollDue(this.#host.now) ?? [])
        this.#offer(kind, id, body, version, seq);
      this.#waitForHeld();
    });
  }

  #offer(kind: DocumentKind, id: string, body: unknown, version: number, seq: number): void {
    if (this.#logId === undefined) return;
    const key = `${kind}/${id}`;
    const offered: AppliedState = { logId: this.#logId, seq, version, fence: fenceOf(kind, body) };
    const before = this.#applied.get(key);
    if (!this.#mayApply(before, offered)) return;
    if (!this.#handlers.onDocument(kind, id, body, version)) {
      this.counters.refused++;
      return;
    }
    this.counters.applied++;
    this.#handlers.onApplied(key, before, offered);
    this.#applied.set(key, offered);
    this.#disk.set(key, { state: offered, kind, id, body });
  }

  #mayApply(before: AppliedState | undefined, offered: AppliedState): boolean {
    const { mayApply, reason } = this.#host.env.cores.decideApply(before, offered);
    if (mayApply) return true;
    this.counters.ignored++;
    if (reason === "fenced") this.counters.fenced++;
    return false;
  }

  /** A map that was only named: fetched, the newest of those that wait behind each other. */
  #offerReference(reference: ReferenceEvent): void {
    if (this.#logId === undefined) return;
    const key = `${reference.kind}/${reference.id}`;
    const { seq, version, fence } = reference;
    const wanted = { reference, state: { logId: this.#logId, seq, version, fence } };
    const fetching = this.#fetching.get(key);
    const before = fetching?.waiting?.state ?? fetching?.running.state ?? this.#applied.get(key);
    if (!this.#mayApply(before, wanted.state)) return;
    if (fetching !== undefined) fetching.waiting = wanted;
    else this.#fetch(key, wanted);
  }

  #fetch(key: string, running: Wanted): void {
    const fetching: Fetching = { running, waiting: undefined };
    this.#fetching.set(key, fetching);
    const plan = new FetchPlan();
    const done = (outcome: FetchOutcome): void => {
      const step = plan.next(fetching.waiting === undefined ? outcome : "superseded", this.#random.float());
      if (step.type === "ask") {
        const again = (): void => this.#ask(key, fetching, step.wantsDifferences, done);
        if (step.delayMs === 0) again();
        else this.#host.after(step.delayMs, "map-fetch-again", again);
        return;
      }
      this.#fetching.delete(key);
      if (fetching.waiting !== undefined) this.#fetch(key, fetching.waiting);
    };
    this.#ask(key, fetching, true, done);
  }

  #ask(
    key: string,
    { running: { reference } }: Fetching,
    wantsDifferences: boolean,
    done: (outcome: FetchOutcome) => void,
  ): void {
    const inForce = wantsDifferences ? this.#disk.get(key) : undefined;
    const base = inForce && { map: inForce.body as MapSnapshot, name: nameOf(inForce) };
    const { kind, id, version, seq } = reference;
    exchange<MapDelivery | undefined>({
      from: this.#host,
      to: this.#control.host,
      label: "map-fetch",
      timeoutMs: FETCH_TIMEOUT_MS,
      serve: (respond) => respond(this.#control.delivery(id, version, base?.name)),
      done: (outcome) => {
        if (outcome.kind !== "answer") return done("unreachable");
        if (outcome.value === undefined) return done("missing");
        const { form } = outcome.value;
        const name = form === "differences" ? outcome.value.differences.at(-1)?.result : undefined;
        let body: unknown;
        try {
          body = bodyOf(outcome.value, base);
        } catch (error) {
          if (!(error instanceof ParseError)) throw error;
          return done("unusable-differences");
        }
        this.counters[form]++;
        this.#prepared(body as MapSnapshot, (isFit) => {
          if (isFit) this.#offer(kind, id, body, version, seq);
          else this.counters.refused++;
          const kept = this.#disk.get(key);
          if (kept !== undefined && kept.body === body && name !== undefined) kept.name = name;
          done("fetched");
        });
      },
    });
  }

  /** Drives the steps turn by turn; a process that ends meanwhile begins anew with what its disk has. */
  #prepared(map: MapSnapshot, then: (isFit: boolean) => void): void {
    const steps = this.#handlers.prepare?.(map);
    if (steps === undefined) return then(true);
    const turn = (): void => {
      let isDone = false;
      try {
        for (let step = 0; step < TURN_STEPS && !isDone; step++) isDone = steps.next().done === true;
      } catch (error) {
        if (!(error instanceof ParseError)) throw error;
        return then(false);
      }
      if (isDone) return then(true);
      this.#host.after(TURN_MS, "map-steps", turn);
    };
    this.#host.after(TURN_MS, "map-steps", turn);
  }
}

/** Throws ParseError when the differences do not fit. */
function bodyOf(delivery: MapDelivery, base: NamedMap | undefined): unknown {
  if (delivery.form === "whole") return delivery.body;
  if (base === undefined) throw new ParseError([], "differences", "a whole map");
  return mapSnapshot.parse(allSteps(applyDifferences(base, delivery.differences)));
}

function nameOf(kept: Kept): string {
  kept.name ??= allSteps(named(kept.body as MapSnapshot)).name;
  return kept.name;
}
