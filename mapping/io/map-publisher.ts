/** Hands snapshots to control, newest first: while control is away only the newest waits. */
import { compareFences, type ControlClient, ControlError, fenceOf } from "#control";
import {
  differenceOf,
  type MapDifference,
  type MapSnapshot,
  mapSnapshot,
  named,
  type NamedMap,
  type Steps,
} from "#kit";
import { inSteps, type Logger } from "#kit/io";
import { MAP_ID } from "../core/publisher-election.ts";

/** As much as control keeps. */
const NOTE_LENGTH_MAX = 500;
const BACK_OFF_MS_MIN = 200;
const BACK_OFF_MS_MAX = 5_000;

export interface MapPublisherOptions {
  readonly client: Pick<ControlClient, "put">;
  readonly logger: Logger;
  readonly publisherId: string;
  /** Control refused a map of this term: another publisher has been elected. */
  readonly onFenced: (term: number) => void;
}

interface Waiting {
  readonly snapshot: MapSnapshot;
  readonly term: number;
  readonly changes: string;
}

export class MapPublisher {
  readonly #options: MapPublisherOptions;
  /** Control's number of the newest version that is known here; 0: none. */
  #documentVersion = 0;
  /** The newest map that is known to be in force: of the next one the difference from it is sent along. */
  #base: { readonly map: MapSnapshot; readonly name: string | undefined } | undefined;
  #waiting: Waiting | undefined;
  #running: Promise<void> | undefined;
  #isClosed = false;
  #backOffMs = BACK_OFF_MS_MIN;
  #wake: (() => void) | undefined;
  /**
   * All only grow. `superseded`: replaced by a newer one before control took it. `fenced`: of a term that is over. `repeated`:
   * control has had it. `withdrawn`: waited when the term ended.
   */
  readonly counters = {
    published: 0,
    conflicts: 0,
    failures: 0,
    superseded: 0,
    fenced: 0,
    repeated: 0,
    withdrawn: 0,
    /** Sent with the difference from the one before. */
    differences: 0,
  };

  constructor(options: MapPublisherOptions) {
    this.#options = options;
  }

  /** What control says is the newest version. */
  handleVersion(version: number): void {
    this.#documentVersion = version;
  }

  /** A map in force, of whoever published it; those that are not newer than what is known here change nothing. */
  handleInForce(map: MapSnapshot): void {
    const [known, offered] = [fenceOf("map", this.#base?.map), fenceOf("map", map)];
    if (known === undefined || offered === undefined || compareFences(offered, known) > 0)
      this.#base = { map, name: undefined };
  }

  /**
   * Publishes it in this term as soon as control can be reached, unless a newer one comes first.
   * @param changes what it changes, for the history
   */
  publish(snapshot: MapSnapshot, term: number, changes: string): void {
    if (this.#waiting !== undefined) this.counters.superseded++;
    this.#waiting = { snapshot, term, changes };
    this.#running ??= this.#run();
  }

  /** The term is over: what waits is another's to publish now. What is under way is refused by control. */
  withdraw(): void {
    if (this.#waiting === undefined) return;
    this.#waiting = undefined;
    this.counters.withdrawn++;
    this.#wake?.();
  }

  /** Control can be reached again: no need to wait longer. */
  retryNow(): void {
    this.#backOffMs = BACK_OFF_MS_MIN;
    this.#wake?.();
  }

  /** Takes nothing more; resolves when what is under way has been answered, at the latest after `timeoutMs`. */
  async close(timeoutMs: number): Promise<void> {
    this.#isClosed = true;
    this.#waiting = undefined;
    this.#wake?.();
    const given = Promise.withResolvers<void>();
    const timer = setTimeout(given.resolve, timeoutMs);
    await Promise.race([this.#running, given.promise]);
    clearTimeout(timer);
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    while (this.#waiting !== undefined && !this.#isClosed) {
      const waiting: Waiting = this.#waiting;
      const isDone = await this.#put(waiting);
      if (isDone) {
        if (this.#waiting === waiting) this.#waiting = undefined;
        this.#backOffMs = BACK_OFF_MS_MIN;
      } else await this.#pause();
    }
    this.#running = undefined;
  }

  /** Whether nothing more is to be done about it. */
  async #put({ snapshot, term, changes }: Waiting): Promise<boolean> {
    const { client, logger, publisherId, onFenced } = this.#options;
    const { mapVersion, reason } = snapshot;
    try {
      const body = mapSnapshot.parse({ ...snapshot, publication: { term, publisherId } });
      const prepared = await this.#prepare(body);
      // A newer one has come meanwhile, or the term is over.
      if (prepared === undefined) return true;
      const { named: own, difference } = prepared;
      const { version } = await client.put("map", MAP_ID, body, {
        expectedVersion: this.#documentVersion,
        author: publisherId,
        note: `map ${mapVersion} of term ${term}, ${reason}: ${changes}`.slice(0, NOTE_LENGTH_MAX),
        activate: true,
        difference,
      });
      this.#documentVersion = Math.max(this.#documentVersion, version);
      this.#base = own;
      this.counters.published++;
      if (difference !== undefined) this.counters.differences++;
      return true;
    } catch (error) {
      const code = error instanceof ControlError ? error.code : undefined;
      if (code === "conflict" && error instanceof ControlError && typeof error.presentVersion === "number") {
        // Compare-and-set lost to a version that was not known here. Whether ours may follow it is for the term to say.
        this.counters.conflicts++;
        logger.warn("map-conflict", { expected: this.#documentVersion, present: error.presentVersion });
        this.#documentVersion = error.presentVersion;
        return false;
      }
      if (code === "not-newer") {
        // It arrived the first time, and the answer did not.
        this.counters.repeated++;
        return true;
      }
      if (code === "fenced") {
        this.counters.fenced++;
        logger.warn("map-fenced", { mapVersion, term, error });
        onFenced(term);
        return true;
      }
      this.counters.failures++;
      if (code === "refused") logger.error("map-refused", { mapVersion, error });
      else logger.debug("map-not-published", { mapVersion, error });
      return code === "refused";
    }
  }

  /** Its name and what leads to it, made in steps: the process answers meanwhile. Undefined: it is not to be published any more. */
  async #prepare(body: MapSnapshot) {
    const waiting = this.#waiting;
    const isWanted = (): boolean => this.#waiting === waiting && !this.#isClosed;
    const made = await inSteps(prepared(body, this.#base), isWanted);
    return made?.value;
  }

  async #pause(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, this.#backOffMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
    this.#backOffMs = Math.min(BACK_OFF_MS_MAX, this.#backOffMs * 2);
  }
}

function* prepared(
  body: MapSnapshot,
  base: { readonly map: MapSnapshot; readonly name: string | undefined } | undefined,
): Steps<{ readonly named: NamedMap; readonly difference: MapDifference | undefined }> {
  const own = yield* named(body);
  if (base === undefined) return { named: own, difference: undefined };
  const name = base.name ?? (yield* named(base.map)).name;
  return { named: own, difference: yield* differenceOf({ map: base.map, name }, own) };
}
