/**
 * N processes that are one server, as their primary sees them: it holds the listening sockets, starts a worker for each,
 * gives a dead one's socket to a living one at once and back to its replacement, tells all who lives, and passes on what
 * must reach every one of them.
 */
import { type ChildProcess, fork } from "node:child_process";
import type { MetricObject } from "prom-client";
import AggregatorRegistry from "prom-client/lib/cluster.js";
import { IsochroneError } from "#kit";
import type { Logger } from "#kit/io";
import type { CacheKey } from "../core/cache-key.ts";
import { MissedKeys } from "../core/missed-keys.ts";
import { socketsOf } from "../core/worker-plan.ts";
import { Channel } from "./channel.ts";
import type { Invalidate } from "./invalidation-chain.ts";
import type { ListenHandle, SocketKind } from "./listening.ts";
import { withHeapFlags, withMallocEnvironment } from "./process-memory.ts";
import {
  type PrimaryMethods,
  type SocketName,
  WORKER_VARIABLE,
  type WorkerMethods,
  type WorkerPlace,
} from "./worker-methods.ts";

/** Back-off before a worker that died is replaced, ms: at once the first time, then doubling while it keeps dying. */
const RESTART_MIN_MS = 10;
const RESTART_MAX_MS = 5_000;
/** A worker that lived so long starts again without back-off, ms. */
const HEALTHY_AFTER_MS = 10_000;
/** How long one worker's answer is waited for before the others' are taken without it, ms. */
const ASK_TIMEOUT_MS = 2_000;
/** A worker that has not applied something within this time is ended: it would go on serving what others no longer do, ms. */
const APPLY_TIMEOUT_MS = 5_000;

/** From the end of its drain until a worker that has not ended is killed, ms. */
const END_TIMEOUT_MS = 5_000;

export interface WorkersOptions {
  readonly count: number;
  /** That the main sockets are bound to. */
  readonly port: number;
  /** Belong to the primary from now on. */
  readonly sockets: Readonly<Record<SocketKind, readonly ListenHandle[]>>;
  /** Directory that only this user can enter: the workers' own sockets stand in it. */
  readonly directory: string;
  /** False while a predecessor still holds the disk store. */
  readonly mayOpenDisk: boolean;
  /** The secret of session tickets, which all workers share. */
  readonly ticketSecret: Uint8Array;
  readonly logger: Logger;
  /**
   * Called for each new worker before it is asked to listen, to tell it what it has to know to serve. What `callAll` tells from
   * the moment of this call on reaches it too, after what is sent here at once.
   */
  readonly onUp?: ((worker: WorkerLine) => Promise<void>) | undefined;
  /** Called for each new process, to answer what its kind of worker may ask. */
  readonly onFork?: ((channel: Channel<PrimaryMethods, WorkerMethods>) => void) | undefined;
}

/** One worker as its primary speaks with it. */
export type WorkerLine = Pick<Channel<PrimaryMethods, WorkerMethods>, "call">;

interface Worker {
  readonly number: number;
  readonly process: ChildProcess;
  readonly channel: Channel<PrimaryMethods, WorkerMethods>;
  readonly exited: Promise<void>;
  /** Where its siblings reach it; undefined until it has come up. */
  path: string | undefined;
  /** It has begun to catch up: what all are told reaches it. */
  isHearing: boolean;
  /** Sockets that it accepts from. */
  readonly sockets: Set<SocketName>;
}

export class Workers {
  readonly #o: WorkersOptions;
  readonly #workers = new Map<number, Worker>();
  readonly #backOffMs = new Map<number, number>();
  /** What unsafe requests changed while a worker was away, by its number: it may lie on the disk that the next one opens. */
  readonly #missed = new Map<number, MissedKeys>();
  readonly #started = Promise.withResolvers<void>();
  #incarnations = 0;
  #mayOpenDisk: boolean;
  #isStopping = false;
  /** Tells processes of this server that are not its workers; never rejects. */
  onInvalidated: Invalidate | undefined;

  constructor(options: WorkersOptions) {
    this.#o = options;
    this.#mayOpenDisk = options.mayOpenDisk;
    for (let number = 0; number < options.count; number++) this.#missed.set(number, new MissedKeys());
  }

  get isStopping(): boolean {
    return this.#isStopping;
  }

  /** Resolves when every worker serves. Rejects with IsochroneError when one ends before; nothing is left running then. */
  async start(): Promise<void> {
    for (let number = 0; number < this.#o.count; number++) this.#fork(number);
    try {
      await this.#started.promise;
    } catch (error) {
      this.#isStopping = true;
      await Promise.all(
        [...this.#workers.values()].map(async (worker) => {
          worker.process.kill("SIGKILL");
          await worker.exited;
        }),
      );
      throw error;
    }
  }

  #living(): readonly Worker[] {
    return [...this.#workers.values()]
      .filter((worker) => worker.path !== undefined)
      .sort((a, b) => a.number - b.number);
  }

  #fork(number: number): void {
    const startedMs = performance.now();
    const place: WorkerPlace = {
      number,
      workers: this.#o.count,
      port: this.#o.port,
      // A new name for each, so that nobody reaches a new worker by a dead one's.
      path: `${this.#o.directory}/${number}-${++this.#incarnations}`,
      mayOpenDisk: this.#mayOpenDisk,
      ticketSecret: Buffer.from(this.#o.ticketSecret).toString("hex"),
    };
    const child = fork(process.argv[1] ?? "", process.argv.slice(2), {
      env: { ...withMallocEnvironment(process.env), [WORKER_VARIABLE]: JSON.stringify(place) },
      execArgv: withHeapFlags(process.execArgv),
    });
    const channel = new Channel<PrimaryMethods, WorkerMethods>(child);
    const exited = new Promise<void>((resolve) => {
      child.once("exit", () => resolve());
      child.once("error", () => resolve());
    });
    const worker: Worker = {
      number,
      process: child,
      channel,
      exited,
      path: undefined,
      isHearing: false,
      sockets: new Set(),
    };
    this.#workers.set(number, worker);
    this.#o.onFork?.(channel);
    channel.answer("up", async () => {
      const caughtUp = this.#o.onUp?.(channel);
      const missedIsTold = this.#tellMissed(worker);
      worker.isHearing = true;
      await Promise.all([caughtUp, missedIsTold]);
      worker.path = place.path;
      await this.#arrange();
      if (this.#living().length === this.#o.count) this.#started.resolve();
      return undefined;
    });
    channel.answer("invalidate", async (keys) => {
      await Promise.all([this.invalidate(keys, worker), this.onInvalidated?.(keys)]);
      return undefined;
    });
    channel.answer("prefetched", (news) => {
      for (const other of this.#living())
        if (other !== worker) other.channel.call("prefetched", news).catch(() => {});
      return undefined;
    });
    child.once("exit", (code, signal) => {
      this.#workers.delete(number);
      channel.close();
      if (this.#isStopping) return;
      this.#started.reject(
        new IsochroneError(`A worker ended with code ${code} before it served; its own line above says why`, {
          code: "worker",
          source: "configuration",
          retry: "never",
        }),
      );
      // Its sockets first: connections wait in them.
      void this.#arrange();
      const livedMs = performance.now() - startedMs;
      const delayMs =
        livedMs > HEALTHY_AFTER_MS ? RESTART_MIN_MS : (this.#backOffMs.get(number) ?? RESTART_MIN_MS);
      this.#backOffMs.set(number, Math.min(delayMs * 2, RESTART_MAX_MS));
      this.#o.logger.warn("worker-died", { worker: number, code, signal, restartInMs: delayMs });
      setTimeout(() => {
        if (!this.#isStopping) this.#fork(number);
      }, delayMs);
    });
  }

  /** Tells a worker that comes up what was changed while nobody had its number. */
  async #tellMissed({ number, channel }: Worker): Promise<void> {
    const missed = this.#missed.get(number);
    const keys = missed?.take();
    if (keys === undefined) return;
    try {
      await channel.call("invalidate", keys);
    } catch (error) {
      // For the one after it.
      missed?.add(keys);
      throw error;
    }
  }

  /** Tells all workers, but one that knows, what an unsafe request changed; who is away is told before it serves again. */
  async invalidate(keys: readonly CacheKey[], except?: Worker): Promise<void> {
    for (const [number, missed] of this.#missed)
      if (this.#workers.get(number)?.isHearing !== true) missed.add(keys);
    await this.#callAll("invalidate", keys, {
      except,
      onFailed: ({ number }) => this.#missed.get(number)?.add(keys),
    });
  }

  /** Gives each socket to whom it belongs now, and tells all who lives. Sockets are taken on before others let go. */
  async #arrange(): Promise<void> {
    const living = this.#living();
    const view = {
      living: living.map(({ number }) => number),
      paths: Object.fromEntries(living.map(({ number, path }) => [number, path ?? ""])),
    };
    const { main, tls } = this.#o.sockets;
    const plans = { main: socketsOf(main.length, view.living), tls: socketsOf(tls.length, view.living) };
    const wantedBy = ({ number }: Worker): readonly SocketName[] =>
      (["main", "tls"] as const).flatMap((kind) =>
        this.#o.sockets[kind].length === 0
          ? []
          : (plans[kind].get(number) ?? []).map((socket): SocketName => `${kind} ${socket}`),
      );
    await Promise.allSettled([
      ...living.map(({ channel }) => channel.call("view", view)),
      ...living.flatMap((worker) =>
        wantedBy(worker).map(async (socket) => {
          const handle = this.#handleOf(socket);
          if (worker.sockets.has(socket) || handle === undefined) return;
          worker.sockets.add(socket);
          await worker.channel.call("listen", socket, { handle });
        }),
      ),
    ]);
    for (const worker of living) {
      const wanted = wantedBy(worker);
      for (const socket of worker.sockets) {
        if (wanted.includes(socket) || !this.#isHeldBySomebodyElse(socket, worker)) continue;
        worker.sockets.delete(socket);
        await worker.channel.call("release", socket).catch(() => {});
      }
    }
  }

  #handleOf(name: SocketName): ListenHandle | undefined {
    const [kind, number] = name.split(" ") as [SocketKind, string];
    return this.#o.sockets[kind][Number(number)];
  }

  #isHeldBySomebodyElse(socket: SocketName, worker: Worker): boolean {
    return this.#living().some((other) => other !== worker && other.sockets.has(socket));
  }

  /** Has every worker that serves, or catches up, do something, in the order of the calls. One that does not answer is ended: its replacement begins without what it missed. */
  async callAll<M extends keyof WorkerMethods>(
    method: M,
    argument: WorkerMethods[M]["argument"],
  ): Promise<readonly WorkerMethods[M]["result"][]> {
    return await this.#callAll(method, argument);
  }

  async #callAll<M extends keyof WorkerMethods>(
    method: M,
    argument: WorkerMethods[M]["argument"],
    {
      except,
      onFailed,
    }: { readonly except?: Worker | undefined; readonly onFailed?: (worker: Worker) => void } = {},
  ): Promise<readonly WorkerMethods[M]["result"][]> {
    const results = await Promise.all(
      [...this.#workers.values()]
        .filter((worker) => worker.isHearing && worker !== except)
        .map(async (worker) => {
          try {
            return [await worker.channel.call(method, argument, { timeoutMs: APPLY_TIMEOUT_MS })];
          } catch (error) {
            onFailed?.(worker);
            if (this.#workers.get(worker.number) === worker) {
              this.#o.logger.error("worker-does-not-answer", { worker: worker.number, method, error });
              worker.process.kill("SIGKILL");
            }
            return [];
          }
        }),
    );
    return results.flat();
  }

  /** Has every worker look at its certificate files. */
  reload(): void {
    for (const { process } of this.#living()) process.kill("SIGHUP");
  }

  /** Asks every living worker for something; those that do not answer in time are left out. In the order of their numbers. */
  async askAll<M extends keyof WorkerMethods>(
    method: M,
    argument: WorkerMethods[M]["argument"],
  ): Promise<readonly { readonly incarnation: string; readonly result: WorkerMethods[M]["result"] }[]> {
    const all = await Promise.allSettled(
      this.#living().map(async ({ channel, path }) => ({
        incarnation: path ?? "",
        result: await channel.call(method, argument, { timeoutMs: ASK_TIMEOUT_MS }),
      })),
    );
    return all.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  }

  /** The metrics of all workers, summed. */
  async metrics(): Promise<string> {
    const lists = (await this.askAll("metrics", undefined)).map(({ result }) => result);
    const summed = await AggregatorRegistry.aggregate(lists as unknown as MetricObject[]).metrics();
    const living = this.#living().filter(({ sockets }) => sockets.size > 0).length;
    return `${summed.trimEnd()}\n# HELP isochrone_edge_workers_living Workers that serve\n# TYPE isochrone_edge_workers_living gauge\nisochrone_edge_workers_living ${living}\n`;
  }

  /** The predecessor has closed its disk store: every worker opens its own parts. */
  async openDisk(): Promise<void> {
    this.#mayOpenDisk = true;
    await Promise.allSettled(this.#living().map(({ channel }) => channel.call("openDisk", undefined)));
  }

  /** Ends all disk use, so that a successor may have it; memory goes on serving. */
  async closeDisk(): Promise<void> {
    this.#mayOpenDisk = false;
    // Nobody may write there before it is closed, and a disk under load takes long to sync.
    const forever = { timeoutMs: Number.POSITIVE_INFINITY };
    await Promise.allSettled(
      this.#living().map(({ channel }) => channel.call("closeDisk", undefined, forever)),
    );
  }

  /** Drains all workers and ends them; then lets go of the sockets. `idleMs` as in `EdgeServer.drain`. */
  async stop(idleMs: number): Promise<void> {
    this.#isStopping = true;
    const workers = [...this.#workers.values()];
    // Workers let go of theirs with the drain: nobody holds the door of a server that is gone, unless a successor does.
    for (const socket of [...this.#o.sockets.main, ...this.#o.sockets.tls]) socket.close();
    // All take leave before one ends: a download may come through the worker that owns its key.
    await Promise.all(
      workers.map(async ({ channel, path, process }) => {
        // Still starting: it has no request that could be saved.
        if (path === undefined) process.kill("SIGKILL");
        await channel.call("drain", idleMs, { timeoutMs: Number.POSITIVE_INFINITY }).catch(() => {});
      }),
    );
    await Promise.all(
      workers.map(async ({ channel, exited, process }) => {
        const timer = setTimeout(() => process.kill("SIGKILL"), END_TIMEOUT_MS);
        await channel.call("end", undefined).catch(() => {});
        await exited;
        clearTimeout(timer);
      }),
    );
  }
}
