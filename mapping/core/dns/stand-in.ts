/**
 * When a name server that takes its documents late answers at all: only while none of the others does what it should. The others are asked for
 * the zones and some host names that this one serves; who is silent is gone, who gives other than addresses to most of them has been poisoned.
 * And when what waits may come into force at it: only while all of the others do well, since a document is what may have harmed them, also where it
 * was too few of them, or for too short, for this one to stand in.
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
/** Who is harmed for so many delays is taken for dead for another reason: what waits must come one day, the topology without it above all. */
const HARM_DELAYS_MAX = 8;
/** Host names that each probe asks for. */
const CANARIES = 5;

export class StandIn {
  readonly #monitor = new LivenessMonitor(standInProbes);
  readonly #delayMs: number;
  #others: readonly string[] = [];
  /** Since when each has done well without a break; it does not now: absent. */
  readonly #wellSince = new Map<string, number>();
  /** Who failed, and when it first did since it had done well for a delay, or when it was asked at all. */
  readonly #harmedAt = new Map<string, MonotonicMs>();
  /** Whom the newest probe of each is of, and of whom it failed. */
  readonly #asked = new Map<number, string>();
  readonly #doubted = new Set<string>();

  /** @param delayMs how late documents come into force */
  constructor(delayMs: number) {
    this.#delayMs = delayMs;
  }

  setOthers(ids: readonly string[], now: MonotonicMs): void {
    this.#others = ids;
    for (const known of [this.#wellSince, this.#harmedAt, this.#doubted])
      for (const id of known.keys()) if (!ids.includes(id)) known.delete(id);
    for (const [probeId, id] of this.#asked) if (!ids.includes(id)) this.#asked.delete(probeId);
    this.#monitor.setTargets(
      ids.map((id) => ({ id })),
      now,
    );
  }

  /** Whether there is somebody else to answer. An other of which nothing is known yet counts: it is not for us to begin. */
  get isStandingBy(): boolean {
    return this.#others.some((id) => this.#monitor.isUp(id));
  }

  /** Whether what waits may come into force: never while it answers, while one of the others does not do well, or the newest probe of most failed. */
  mayTake(now: MonotonicMs): boolean {
    if (this.#others.length === 0) return true;
    if (!this.isStandingBy) return false;
    for (const [id, at] of this.#harmedAt)
      if (!this.#wellSince.has(id) && now - at < HARM_DELAYS_MAX * this.#delayMs) return false;
    const doubted = [...this.#wellSince.keys()].filter((id) => this.#doubted.has(id));
    return doubted.length === 0 || doubted.length * 2 <= this.#wellSince.size;
  }

  pollTransmit(now: MonotonicMs): LivenessProbe | undefined {
    const probe = this.#monitor.pollTransmit(now);
    if (probe !== undefined) {
      for (const [probeId, id] of this.#asked) if (id === probe.id) this.#asked.delete(probeId);
      this.#asked.set(probe.probeId, probe.id);
    }
    return probe;
  }
  pollTimeout(now: MonotonicMs): MonotonicMs | undefined {
    return this.#monitor.pollTimeout(now);
  }
  handleTimeout(now: MonotonicMs): void {
    this.#monitor.handleTimeout(now);
    this.#follow(now);
  }

  /** @param answered host names to which an address came, of those that were asked for; with none to ask for all is well */
  handleAnswers(probeId: number, asked: number, answered: number, now: MonotonicMs): void {
    const isWell = asked === 0 || answered * 2 > asked;
    const id = this.#asked.get(probeId);
    if (id !== undefined) {
      this.#asked.delete(probeId);
      if (isWell) this.#handleWell(id, now);
      else this.#handleUnwell(id, now);
    }
    this.#monitor.handleProbeResult(probeId, isWell, now);
    this.#follow(now);
  }

  #handleWell(id: string, now: MonotonicMs): void {
    this.#doubted.delete(id);
    if (this.#wellSince.has(id) || !this.#monitor.isUp(id)) return;
    // Who does well when it is first asked did so before.
    this.#wellSince.set(id, this.#harmedAt.has(id) ? now : now - this.#delayMs);
  }

  #handleUnwell(id: string, now: MonotonicMs): void {
    this.#doubted.add(id);
    // Whatever befell it before it was first asked may wait here.
    if (!this.#wellSince.has(id) && !this.#harmedAt.has(id)) this.#harmedAt.set(id, now);
  }

  #follow(now: MonotonicMs): void {
    for (let event = this.#monitor.pollEvent(); event !== undefined; event = this.#monitor.pollEvent()) {
      const { id } = event;
      if (event.state === "up") {
        this.#wellSince.set(id, now);
        continue;
      }
      const wellSince = this.#wellSince.get(id);
      // One that fails again before it has done well for a delay is still harmed by what harmed it first.
      const isNew = wellSince !== undefined && now - wellSince >= this.#delayMs;
      if (isNew || !this.#harmedAt.has(id)) this.#harmedAt.set(id, now);
      this.#wellSince.delete(id);
    }
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
