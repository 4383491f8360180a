/**
 * What is stored in place of an answer that keeps its clients waiting, where it may be served: after a while, and at once while the
 * next hop is known to be silent.
 */
import type { Clock } from "#kit";
import type { EdgeSettings } from "../config.ts";
import type { RequestPolicy } from "../core/policy.ts";
import { type CollapseTable, type StaleOutcome, staleOutcome } from "./collapse.ts";
import { hopKey } from "./forwarder.ts";
import type { StoredObject } from "./memory-store.ts";
import type { EdgeMetrics } from "./metrics.ts";
import type { Hop } from "./routing.ts";

/** One wait for a next hop. */
export interface LateWait {
  /** The answer comes too late: who waited has been served. */
  readonly isOver: boolean;
  /** An answer is here, or there will be none. */
  readonly end: () => void;
}

export class LateStale {
  readonly #collapse: CollapseTable;
  readonly #clock: Clock;
  readonly #metrics: EdgeMetrics;
  readonly #staleWaitMs: number;

  constructor(options: {
    readonly collapse: CollapseTable;
    readonly clock: Clock;
    readonly metrics: EdgeMetrics;
    readonly settings: Pick<EdgeSettings, "staleWaitMs">;
  }) {
    this.#collapse = options.collapse;
    this.#clock = options.clock;
    this.#metrics = options.metrics;
    this.#staleWaitMs = options.settings.staleWaitMs;
  }

  /** Begins to wait for the first of `hops`. `serve` is called once at most: when it is late, and `stored` may be served for it. */
  wait(
    stored: StoredObject | undefined,
    policy: RequestPolicy,
    hops: readonly Hop[],
    serve: (outcome: StaleOutcome) => void,
  ): LateWait {
    const [hop] = hops;
    if (stored === undefined || hop === undefined) return NO_WAIT;
    let isOver = false;
    let timer: NodeJS.Timeout | undefined;
    const late = (): void => {
      const outcome = staleOutcome(stored, policy, this.#clock.epoch(), "late");
      if (outcome === undefined) return;
      isOver = true;
      this.#collapse.setSilent(hopKey(hop), true);
      this.#metrics.servedLate();
      serve(outcome);
    };
    if (this.#collapse.isSilent(hopKey(hop))) late();
    else timer = setTimeout(late, this.#staleWaitMs);
    return {
      get isOver() {
        return isOver;
      },
      end: () => clearTimeout(timer),
    };
  }

  /** A next hop has answered. */
  heard(hop: Hop): void {
    this.#collapse.setSilent(hopKey(hop), false);
  }
}

const NO_WAIT: LateWait = { isOver: false, end: () => {} };
