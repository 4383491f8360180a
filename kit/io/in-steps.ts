import { setImmediate } from "node:timers/promises";
import type { Steps } from "../steps.ts";

/** The event loop is given back after so long, ms: below what a client notices, above what giving it back costs. */
const TURN_MS = 3;

/**
 * Drives long work beside everything else that the process does. Resolves with its result; undefined: `isWanted` was false
 * between two steps, and the rest was left. Rejects with what a step throws.
 */
export function inSteps<T>(steps: Steps<T>): Promise<{ readonly value: T }>;
export function inSteps<T>(
  steps: Steps<T>,
  isWanted: () => boolean,
): Promise<{ readonly value: T } | undefined>;
export async function inSteps<T>(
  steps: Steps<T>,
  isWanted: () => boolean = () => true,
): Promise<{ readonly value: T } | undefined> {
  for (;;) {
    await setImmediate();
    if (!isWanted()) return undefined;
    const endsAt = performance.now() + TURN_MS;
    do {
      const step = steps.next();
      if (step.done === true) return { value: step.value };
    } while (performance.now() < endsAt);
  }
}
