/** Drives one liveness monitor: sends what it wants sent, tells it what came back, hands its events on. */
import type { LivenessEvent, LivenessSettings, ServerId } from "#kit";
import type { Liveness } from "../cores.ts";
import { exchange, type Host } from "./host.ts";

export class Probes {
  readonly monitor: Liveness;
  readonly #host: Host;
  readonly #onEvent: (event: LivenessEvent) => void;
  /** The relay that a probe crosses, if traffic to the target does. */
  readonly #viaOf: (id: string) => Host | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(
    host: Host,
    settings: LivenessSettings,
    onEvent: (event: LivenessEvent) => void,
    viaOf: (id: string) => Host | undefined = () => undefined,
  ) {
    this.#host = host;
    this.monitor = host.env.cores.liveness(settings, host.id);
    this.#onEvent = onEvent;
    this.#viaOf = viaOf;
  }

  readonly isUp = (id: ServerId): boolean => this.monitor.isUp(id);

  watch(ids: readonly string[]): void {
    this.monitor.setTargets(
      ids.map((id) => ({ id })),
      this.#host.now,
    );
    this.turn();
  }

  handlePassive(id: string, isOk: boolean): void {
    this.monitor.handlePassive(id, isOk, this.#host.now);
    if (!isOk) this.turn();
  }

  /** Everything that is due now; then one timer for what is next. */
  turn(): void {
    const { monitor } = this;
    const { now, env } = this.#host;
    monitor.handleTimeout(now);
    for (let probe = monitor.pollTransmit(now); probe; probe = monitor.pollTransmit(now)) {
      const { id, probeId, timeoutMs } = probe;
      const to = env.hosts.get(id);
      if (to === undefined) continue;
      exchange<true>({
        from: this.#host,
        to,
        via: this.#viaOf(id),
        label: "livez",
        // The monitor gives up by itself; this only bounds what is remembered.
        timeoutMs: 2 * timeoutMs,
        serve: (respond) => respond(true),
        done: (outcome) => {
          monitor.handleProbeResult(probeId, outcome.kind === "answer", this.#host.now);
          this.turn();
        },
      });
    }
    for (let event = monitor.pollEvent(); event; event = monitor.pollEvent()) this.#onEvent(event);
    const next = monitor.pollTimeout(now);
    // One timer at a time: an earlier one that is armed already will look again.
    if (next === undefined || next >= this.#timerAt) return;
    this.#timerAt = next;
    this.#host.after(next - now, "probes", () => {
      if (this.#timerAt !== next) return;
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.turn();
    });
  }
}
