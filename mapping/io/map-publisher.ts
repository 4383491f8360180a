/** Hands snapshots to control, newest first: while control is away only the newest waits. */
import { type ControlClient, ControlError } from "#control";
import type { MapSnapshot } from "#kit";
import type { Logger } from "#kit/io";

/** The one document that everyone reads. */
export const MAP_ID = "current";

const BACK_OFF_MS_MIN = 200;
const BACK_OFF_MS_MAX = 5_000;

export class MapPublisher {
  readonly #client: Pick<ControlClient, "put">;
  readonly #logger: Logger;
  /** Control's number of the newest version that is known here; 0: none. */
  #documentVersion = 0;
  #waiting: MapSnapshot | undefined;
  #isRunning = false;
  #isClosed = false;
  #backOffMs = BACK_OFF_MS_MIN;
  #wake: (() => void) | undefined;
  /** All only grow. `superseded`: replaced by a newer one before control took it. */
  readonly counters = { published: 0, conflicts: 0, failures: 0, superseded: 0 };

  constructor(client: Pick<ControlClient, "put">, logger: Logger) {
    this.#client = client;
    this.#logger = logger;
  }

  /** What control says is the newest version. */
  handleVersion(version: number): void {
    this.#documentVersion = version;
  }

  /** Publishes it as soon as control can be reached, unless a newer one comes first. */
  publish(snapshot: MapSnapshot): void {
    if (this.#waiting !== undefined) this.counters.superseded++;
    this.#waiting = snapshot;
    if (!this.#isRunning) void this.#run();
  }

  /** Control can be reached again: no need to wait longer. */
  retryNow(): void {
    this.#backOffMs = BACK_OFF_MS_MIN;
    this.#wake?.();
  }

  close(): void {
    this.#isClosed = true;
    this.#waiting = undefined;
    this.#wake?.();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting !== undefined && !this.#isClosed) {
      const snapshot = this.#waiting;
      const isPublished = await this.#put(snapshot);
      if (isPublished) {
        if (this.#waiting === snapshot) this.#waiting = undefined;
        this.#backOffMs = BACK_OFF_MS_MIN;
      } else await this.#pause();
    }
    this.#isRunning = false;
  }

  async #put(snapshot: MapSnapshot): Promise<boolean> {
    try {
      const { version } = await this.#client.put("map", MAP_ID, snapshot, {
        expectedVersion: this.#documentVersion,
        author: "mapper",
        note: `map ${snapshot.mapVersion}, ${snapshot.reason}`,
        activate: true,
      });
      this.#documentVersion = Math.max(this.#documentVersion, version);
      this.counters.published++;
      return true;
    } catch (error) {
      if (
        error instanceof ControlError &&
        error.code === "conflict" &&
        typeof error.presentVersion === "number"
      ) {
        // Compare-and-set lost: another mapper, or a control that was set up anew. Ours is newer by its measurements.
        this.counters.conflicts++;
        this.#logger.warn("map-conflict", { expected: this.#documentVersion, present: error.presentVersion });
        this.#documentVersion = error.presentVersion;
        return false;
      }
      this.counters.failures++;
      if (error instanceof ControlError && error.code === "refused") {
        this.#logger.error("map-refused", { mapVersion: snapshot.mapVersion, error });
        this.#waiting = this.#waiting === snapshot ? undefined : this.#waiting;
      } else this.#logger.debug("map-not-published", { mapVersion: snapshot.mapVersion, error });
      return false;
    }
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
