/** Transport's own chooser on the paths of one pair, in virtual time: probes come back after their round trip, or do not. */
import { type ClusterId, type MonotonicMs, plusMs } from "#kit";
import { PathChooser, pathChooserDefaults, type RelayCandidate } from "../../transport/core/path-chooser.ts";

/** One probe's round trip at a time, ms; null: lost. */
export type ProbeOf = (via: ClusterId | null, at: MonotonicMs) => number | null;

export class PathWatch {
  readonly #chooser: PathChooser;
  #now: MonotonicMs;
  /** Answers under way, soonest first. */
  #arriving: { readonly at: MonotonicMs; readonly probeId: number; readonly rttMs: number }[] = [];

  /** @param candidates relays that are probed, 1..7 */
  constructor(candidates: number, now: MonotonicMs) {
    this.#chooser = new PathChooser({ ...pathChooserDefaults, relaysMax: candidates }, now);
    this.#now = now;
  }

  setRelays(relays: readonly RelayCandidate[]): void {
    this.#chooser.setRelays(relays, this.#now);
  }

  /** The relay that a small request would take now, null: direct. */
  get via(): ClusterId | null {
    return this.#chooser.choose(this.#now).via;
  }

  get switches(): number {
    return this.#chooser.counters.switches;
  }

  /** Lets time pass. */
  run(until: MonotonicMs, probeOf: ProbeOf): void {
    while (this.#now < until) {
      this.#send(probeOf);
      const timer = this.#chooser.pollTimeout(this.#now);
      const arrival = this.#arriving[0];
      const next = Math.min(timer, arrival?.at ?? Number.POSITIVE_INFINITY);
      if (next >= until) break;
      if (arrival !== undefined && arrival.at <= timer) {
        this.#arriving.shift();
        this.#now = arrival.at;
        this.#chooser.handleProbeResult(arrival.probeId, arrival.rttMs, this.#now);
      } else {
        this.#now = timer > this.#now ? timer : plusMs(this.#now, 1);
        this.#chooser.handleTimeout(this.#now);
      }
    }
    this.#now = until;
    while (this.#chooser.pollEvent() !== undefined);
  }

  #send(probeOf: ProbeOf): void {
    for (
      let probe = this.#chooser.pollTransmit(this.#now);
      probe !== undefined;
      probe = this.#chooser.pollTransmit(this.#now)
    ) {
      const rttMs = probeOf(probe.via, this.#now);
      // A lost probe is not reported: the chooser finds that out by itself.
      if (rttMs !== null)
        this.#arriving.push({ at: plusMs(this.#now, rttMs), probeId: probe.probeId, rttMs });
    }
    this.#arriving.sort((a, b) => a.at - b.at || a.probeId - b.probeId);
  }
}
