/**
 * When a name server that takes its documents late answers at all: only while none of the others does what it should. The others are asked for
 * the zones and some host names that this one serves; who is silent is gone, who gives other than addresses to most of them has been poisoned.
 */
import { LivenessMonitor, type LivenessProbe, type LivenessSettings, type MonotonicMs } from "#kit";

/** Gone after three failures in a row, some 5 s; back after five good ones, so that nobody who flaps takes the load. */
export const standInProbes: LivenessSettings = {
  intervalMs: 1_000,
  timeoutMs: 1_000,
  downThreshold: 3,
  okThreshold: 5,
  jitterRatio: 0.1,
};
/** Host names that each probe asks for. */
const CANARIES = 5;

export class StandIn {
  readonly #monitor = new LivenessMonitor(standInProbes);
  #others: readonly string[] = [];

  setOthers(ids: readonly string[], now: MonotonicMs): void {
    this.#others = ids;
    this.#monitor.setTargets(
      ids.map((id) => ({ id })),
      now,
    );
  }

  /** Whether there is somebody else to answer. An other of which nothing is known yet counts: it is not for us to begin. */
  get isStandingBy(): boolean {
    return this.#others.some((id) => this.#monitor.isUp(id));
  }

  pollTransmit(now: MonotonicMs): LivenessProbe | undefined {
    return this.#monitor.pollTransmit(now);
  }
  pollTimeout(now: MonotonicMs): MonotonicMs | undefined {
    return this.#monitor.pollTimeout(now);
  }
  handleTimeout(now: MonotonicMs): void {
    this.#monitor.handleTimeout(now);
    while (this.#monitor.pollEvent() !== undefined);
  }

  /** @param answered host names to which an address came, of those that were asked for; with none to ask for all is well */
  handleAnswers(probeId: number, asked: number, answered: number, now: MonotonicMs): void {
    this.#monitor.handleProbeResult(probeId, asked === 0 || answered * 2 > asked, now);
    while (this.#monitor.pollEvent() !== undefined);
  }
}

/** Which of the names to ask for, spread over all of them; others each time. @param turn grows with each probe */
export function canariesOf(names: readonly string[], turn: number): readonly string[] {
  const count = Math.min(CANARIES, names.length);
  return Array.from(
    { length: count },
    (_, n) => names[(turn + Math.floor((n * names.length) / count)) % names.length] as string,
  );
}
