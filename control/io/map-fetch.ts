/** Fetches a map that control has only named: the driver of core/fetch-plan.ts. */
import { applyDifferences, named, type NamedMap, ParseError } from "#kit";
import { inSteps, type Logger } from "#kit/io";
import type { ReferenceEvent } from "../core/words.ts";
import { compareFences, fenceOf } from "../core/fence.ts";
import { FetchPlan, type FetchOutcome } from "../core/fetch-plan.ts";
import type { ControlClient } from "./client.ts";
import { ControlError } from "./control-error.ts";

/** How often it is looked whether a wait is still wanted, ms. */
const WAIT_STEP_MS = 50;

export interface MapFetchOptions {
  readonly client: Pick<ControlClient, "delivery">;
  readonly logger: Logger;
  readonly random: () => number;
}

/** A body that is still to be parsed. */
export interface FetchedMap {
  readonly body: unknown;
  /** Its name, where it is known by now. */
  readonly name: string | undefined;
}

interface Attempt {
  readonly outcome: FetchOutcome;
  readonly fetched?: FetchedMap;
}

export class MapFetch {
  readonly #options: MapFetchOptions;
  readonly counters = { whole: 0, differences: 0, unusable: 0, missing: 0, failures: 0, bytes: 0 };

  constructor(options: MapFetchOptions) {
    this.#options = options;
  }

  /**
   * The map; undefined: it is not wanted any more, or not kept by control. Never rejects.
   * @param base the map in force; undefined: there is none
   * @param isWanted asked between any two steps
   */
  async fetch(
    reference: Omit<ReferenceEvent, "type">,
    base: NamedMap | undefined,
    isWanted: () => boolean,
  ): Promise<FetchedMap | undefined> {
    const plan = new FetchPlan();
    for (let step = plan.first; step.type === "ask"; ) {
      const isStill = await this.#wait(step.delayMs, isWanted);
      const attempt: Attempt = isStill
        ? await this.#ask(reference, step.wantsDifferences ? base : undefined, isWanted)
        : { outcome: "superseded" };
      if (attempt.fetched !== undefined) return attempt.fetched;
      step = plan.next(attempt.outcome, this.#options.random());
    }
    return undefined;
  }

  async #ask(
    { kind, id, version, fence }: Omit<ReferenceEvent, "type">,
    base: NamedMap | undefined,
    isWanted: () => boolean,
  ): Promise<Attempt> {
    const document = `${kind}/${id}`;
    let isDifference = false;
    try {
      const delivery = await this.#options.client.delivery(kind, id, version, base?.name);
      if (delivery === undefined) {
        this.counters.missing++;
        return { outcome: "missing" };
      }
      this.counters.bytes += delivery.bytes;
      isDifference = delivery.form === "differences";
      let fetched: FetchedMap;
      if (delivery.form === "whole") fetched = { body: delivery.body, name: undefined };
      else if (base === undefined) throw new ParseError([], "differences", "a whole map, as was asked for");
      else {
        const applied = await inSteps(applyDifferences(base, delivery.differences), isWanted);
        if (applied === undefined) return { outcome: "superseded" };
        fetched = { body: applied.value, name: delivery.differences.at(-1)?.result ?? base.name };
      }
      const found = fenceOf(kind, fetched.body);
      if (found === undefined || compareFences(found, fence) !== 0)
        throw new ParseError([], found, `version ${fence.version} of term ${fence.term}, as it was named`);
      this.counters[delivery.form]++;
      return { outcome: "fetched", fetched };
    } catch (error) {
      if (isDifference) {
        this.counters.unusable++;
        this.#options.logger.warn("differences-unusable", { document, version, error });
        return { outcome: "unusable-differences" };
      }
      this.counters.failures++;
      this.#options.logger.debug("map-not-fetched", { document, version, error });
      return {
        outcome: error instanceof ControlError && error.retry === "safe" ? "unreachable" : "refused",
      };
    }
  }

  /** Whether it is still wanted afterwards. */
  async #wait(delayMs: number, isWanted: () => boolean): Promise<boolean> {
    for (let leftMs = delayMs; leftMs > 0 && isWanted(); leftMs -= WAIT_STEP_MS)
      await new Promise((resolve) => setTimeout(resolve, Math.min(leftMs, WAIT_STEP_MS)));
    return isWanted();
  }
}

/** The map under its name; undefined: it is not wanted any more, or cannot be named. */
export async function nameOf(
  map: Parameters<typeof named>[0],
  isWanted: () => boolean,
): Promise<NamedMap | undefined> {
  try {
    return (await inSteps(named(map), isWanted))?.value;
  } catch {
    // It does not decode: whoever never looked into it goes on without a base.
    return undefined;
  }
}
