/**
 * A process on a machine at a site: what may run, what arrives, what is lost when it ends. And exchanges between two of
 * them: a request that travels, is answered or is not, and an answer that travels back.
 */
import { type EpochMs, epochMs, type MonotonicMs, type Random } from "#kit";
import type { SimSettings } from "../config.ts";
import type { EventQueue } from "../core/event-queue.ts";
import type { Network } from "../core/network.ts";
import type { Trace } from "../core/trace.ts";
import type { SimCores } from "../cores.ts";

/** What every actor can reach. */
export interface Environment {
  readonly queue: EventQueue;
  readonly network: Network;
  readonly trace: Trace;
  readonly random: Random;
  readonly cores: SimCores;
  readonly settings: SimSettings;
  /** By server id, and "control", "mapper", `client/<id>`. */
  readonly hosts: Map<string, Host>;
}

/** 2026-01-01T00:00:00Z: the wall clock of virtual time 0. */
const EPOCH_START_MS = 1_767_225_600_000;

export function epochOf(now: MonotonicMs): EpochMs {
  return epochMs(EPOCH_START_MS + now);
}

/** `crashed`: the machine refuses. `gone`: the machine is silent. `hung`: the process stands still, the machine accepts. */
export type HostState = "up" | "crashed" | "gone" | "hung";

/** What may wait for a process that stands still; a listen backlog and socket buffers are not larger. */
const DEFERRED_MAX = 5_000;

/** What runs in a process. */
export interface Program {
  /** A fresh process: memory is empty, the disk is as it was. */
  start(): void;
}

export class Host {
  readonly id: string;
  readonly site: string;
  readonly env: Environment;
  #program: Program | undefined;
  #state: HostState = "up";
  #stateSince: number | undefined;
  #incarnation = 0;
  #deferred: (() => void)[] = [];
  readonly counters = { deferredDropped: 0 };

  constructor(env: Environment, id: string, site: string) {
    this.env = env;
    this.id = id;
    this.site = site;
    env.hosts.set(id, this);
  }

  get state(): HostState {
    return this.#state;
  }
  get isServing(): boolean {
    return this.#state === "up";
  }
  /** How long it has not served, ms; 0 while it serves. */
  deadForMs(now: MonotonicMs): number {
    return this.#state === "up" ? 0 : now - (this.#stateSince ?? 0);
  }
  /** How long it has served, ms; 0 while it does not, Infinity when it has done nothing else. */
  aliveForMs(now: MonotonicMs): number {
    if (this.#state !== "up") return 0;
    return this.#stateSince === undefined ? Number.POSITIVE_INFINITY : now - this.#stateSince;
  }
  get now(): MonotonicMs {
    return this.env.queue.now;
  }
  get incarnation(): number {
    return this.#incarnation;
  }

  /** Starts the process as the first thing of the run. */
  run(program: Program): void {
    this.#program = program;
    this.env.queue.schedule(0, this.id, "start", () => program.start());
  }

  /** After `delayMs` of its own time; never in another life, late when it stood still. */
  after(delayMs: number, label: string, run: () => void): void {
    const incarnation = this.#incarnation;
    this.env.queue.schedule(this.now + Math.max(0, delayMs), this.id, label, () => {
      if (incarnation !== this.#incarnation) return;
      if (this.#state === "hung") this.#defer(run);
      else if (this.#state === "up") run();
    });
  }

  note(text: string): void {
    this.env.trace.note(this.now, this.id, text);
  }

  /** Ends the process; memory is gone. */
  stop(state: "crashed" | "gone"): void {
    this.#become(state);
    this.#incarnation++;
    this.#deferred = [];
  }
  hang(): void {
    this.#become("hung");
  }
  /** Starts again, or goes on: first what had arrived, in order, then its own timers. */
  resume(): void {
    const wasHung = this.#state === "hung";
    this.#become("up");
    if (!wasHung) {
      this.#program?.start();
      return;
    }
    const deferred = this.#deferred;
    this.#deferred = [];
    for (const run of deferred) run();
  }

  /** Something arrives at the machine: `run` in the process, or `refused` when nobody listens. */
  arrive(run: () => void, refused: () => void): void {
    if (this.#state === "up") run();
    else if (this.#state === "hung") this.#defer(run);
    else if (this.#state === "crashed") refused();
  }

  #defer(run: () => void): void {
    if (this.#deferred.length >= DEFERRED_MAX) {
      this.counters.deferredDropped++;
      return;
    }
    const incarnation = this.#incarnation;
    this.#deferred.push(() => {
      if (incarnation === this.#incarnation && this.#state === "up") run();
    });
  }

  #become(state: HostState): void {
    this.#state = state;
    this.#stateSince = this.now;
  }
}

export type ExchangeOutcome<R> =
  /** `elapsedMs` counts from when it was sent, on an open connection. */
  | { readonly kind: "answer"; readonly value: R; readonly elapsedMs: number }
  /** Nobody listens. */
  | { readonly kind: "refused" }
  /** The connection was open, and its other end is gone. */
  | { readonly kind: "reset" }
  | { readonly kind: "connect-timeout" }
  | { readonly kind: "timeout" };

export interface ExchangeRequest<R> {
  readonly from: Host;
  readonly to: Host;
  /** A relay that it crosses. */
  readonly via?: Host | undefined;
  readonly label: string;
  /** From the request on an open connection to the answer, ms. */
  readonly timeoutMs: number;
  /** The connection has to be opened first, within this time, ms. Absent: it is open. */
  readonly connectTimeoutMs?: number | undefined;
  /** UDP: nothing is sent again. */
  readonly isDatagram?: boolean;
  /** Runs at the other end. */
  readonly serve: (respond: (value: R) => void) => void;
  /** Runs at this end, once, never before `exchange` has returned. */
  readonly done: (outcome: ExchangeOutcome<R>) => void;
}

/** Sends a request. Returns what ends it from this end, as a time-out would. */
export function exchange<R>(request: ExchangeRequest<R>): { readonly giveUp: () => void } {
  const one = new Exchange(request);
  one.start();
  return { giveUp: () => one.finish({ kind: "timeout" }) };
}

/** Retransmission timeouts, ms: Linux's lowest; one above the highest belongs to an exchange that was given up long ago. */
const RTO_MIN_MS = 200;
const RTO_MAX_MS = 60_000;

class Exchange<R> {
  readonly #request: ExchangeRequest<R>;
  readonly #incarnation: number;
  #isDone = false;
  #isOpen = false;
  #sentAt = 0;

  constructor(request: ExchangeRequest<R>) {
    this.#request = request;
    this.#incarnation = request.from.incarnation;
  }

  start(): void {
    const { from, label, connectTimeoutMs } = this.#request;
    if (connectTimeoutMs === undefined) {
      this.#send();
      return;
    }
    this.#connect();
    from.after(connectTimeoutMs, `${label}-connect-timeout`, () => {
      if (!this.#isOpen) this.finish({ kind: "connect-timeout" });
    });
  }

  finish(outcome: ExchangeOutcome<R>): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#request.done(outcome);
  }

  /** One round trip to the machine; it accepts also when its process stands still. A relay's process has to be there. */
  #connect(): void {
    const { from, to, via, label } = this.#request;
    const opened = (): void =>
      this.#back(to, `${label}-connect`, () => {
        this.#isOpen = true;
        this.#send();
      });
    const atTarget = (): void => {
      if (to.state === "up" || to.state === "hung") opened();
      else if (to.state === "crashed")
        this.#back(to, `${label}-refused`, () => this.finish({ kind: "refused" }));
    };
    if (via === undefined) this.#travel(from.site, to, `${label}-connect`, atTarget);
    else
      this.#travel(from.site, via, `${label}-connect`, () =>
        via.arrive(
          () => this.#travel(via.site, to, `${label}-connect`, atTarget),
          () => this.#toSender(via.site, `${label}-refused`, () => this.finish({ kind: "refused" })),
        ),
      );
  }

  #send(): void {
    const { from, to, via, label, timeoutMs, serve } = this.#request;
    if (this.#isDone) return;
    this.#sentAt = from.now;
    from.after(timeoutMs, `${label}-timeout`, () => this.finish({ kind: "timeout" }));
    const reset = (): void => this.finish({ kind: "reset" });
    const resetByTarget = (): void => this.#back(to, `${label}-reset`, reset);
    const atTarget = (): void =>
      to.arrive(
        () =>
          serve((value) =>
            this.#back(to, `${label}-answer`, () =>
              this.finish({ kind: "answer", value, elapsedMs: from.now - this.#sentAt }),
            ),
          ),
        resetByTarget,
      );
    if (via === undefined) {
      this.#travel(from.site, to, label, atTarget, resetByTarget);
      return;
    }
    const resetByRelay = (): void => this.#toSender(via.site, `${label}-reset`, reset);
    const atRelay = (): void => this.#travel(via.site, to, label, atTarget, resetByTarget);
    this.#travel(from.site, via, label, () => via.arrive(atRelay, resetByRelay), resetByRelay);
  }

  /** From the target back to the sender, over the relay if there is one. */
  #back(target: Host, label: string, run: () => void): void {
    const { via } = this.#request;
    if (via === undefined) this.#toSender(target.site, label, run);
    else
      this.#travel(target.site, via, label, () =>
        via.arrive(
          () => this.#toSender(via.site, label, run),
          () => {},
        ),
      );
  }

  /** A sender that has ended or started anew hears nothing. */
  #toSender(site: string, label: string, run: () => void): void {
    const { from } = this.#request;
    this.#travel(site, from, label, () => {
      if (this.#incarnation === from.incarnation) from.arrive(run, () => {});
    });
  }

  /**
   * One leg. On a stream what vanishes is sent again with doubling time-outs (RFC 6298, section 5), so a link that heals in time
   * delivers late. A machine that was silent and is back knows nothing of the connection: it resets it.
   */
  #travel(site: string, to: Host, label: string, run: () => void, onReset?: () => void): void {
    const { network, queue } = to.env;
    if (this.#request.isDatagram === true) {
      const delayMs = network.datagram(site, to.site);
      if (delayMs !== undefined) queue.schedule(queue.now + delayMs, to.id, label, run);
      return;
    }
    let timeoutMs = Math.max(RTO_MIN_MS, 1.5 * network.rttMs(site, to.site));
    let wasGone = false;
    const again = (): void => {
      if (this.#isDone || timeoutMs > RTO_MAX_MS) return;
      queue.schedule(queue.now + timeoutMs, to.id, `${label}-again`, transmit);
      timeoutMs *= 2;
    };
    const transmit = (): void => {
      const delayMs = network.stream(site, to.site);
      if (delayMs === undefined) {
        again();
        return;
      }
      queue.schedule(queue.now + delayMs, to.id, label, () => {
        if (to.state === "gone") {
          wasGone = true;
          again();
        } else if (wasGone && onReset !== undefined) onReset();
        else run();
      });
    };
    transmit();
  }
}
