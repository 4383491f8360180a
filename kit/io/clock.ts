import type { Clock } from "../time.ts";
import { epochMs, monotonicMs } from "../time.ts";

/** The machine's own time: performance.now() (since the start of the process) and Date.now(). */
export const systemClock: Clock = {
  monotonic: () => monotonicMs(performance.now()),
  epoch: () => epochMs(Date.now()),
};
