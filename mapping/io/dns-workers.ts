/**
 * Several processes that serve one address and port (SO_REUSEPORT: the kernel spreads the queries). This one keeps documents and
 * liveness and tells them every change; a worker only answers. When one dies the kernel gives its share to the others at once, and
 * another one is started; what it had counted stays counted.
 */
import { type ChildProcess, fork, type SendHandle } from "node:child_process";
import { readFileSync } from "node:fs";
import { IsochroneError } from "#kit";
import type { Logger } from "#kit/io";
import type { DnsCounters } from "../core/dns/counters.ts";
import type { NamesAsked } from "../core/dns/names-asked.ts";
import { sumOfTop, type TopFigures } from "../core/dns/query-log/top-queries.ts";
import { BlackBoxFile, type QueryInWork } from "./black-box.ts";
import type { DnsServer } from "./dns-server.ts";
import type { HeardNotify } from "../core/zone/notify.ts";
import type { CrashRecord } from "./crash-record.ts";
import type { DnsState } from "./dns-state.ts";
import {
  type FromWorker,
  type ToWorker,
  WORKER_VARIABLE,
  type WorkerFigures,
  type WorkerSetting,
} from "./dns-worker.ts";

export interface DnsWorkersOptions {
  readonly count: number;
  /** Port 0: the first worker takes any, the others the same. */
  readonly setting: WorkerSetting;
  readonly state: DnsState;
  /** Where the workers' counts are summed. */
  readonly counters: DnsCounters;
  readonly logger: Logger;
  /** Where queries that end a worker are kept. */
  readonly crashes: CrashRecord;
  /** A server of this process: the first worker goes on with its sockets, its counts stay counted. Whoever gives it closes it. */
  readonly successorOf?: DnsServer | undefined;
  /** Where what the workers were asked goes; undefined: nobody tells it on. */
  readonly namesAsked: NamesAsked | undefined;
  readonly onNotify?: (heard: HeardNotify) => void;
}

/** A worker that dies at once, time after time, is started ever more seldom. */
const RESTART_MIN_MS = 50;
const RESTART_MAX_MS = 5_000;
const HEALTHY_AFTER_MS = 10_000;
/** A worker that tells nothing for so long hangs: its share of the queries waits in vain. */
const SILENT_MS_MAX = 5_000;
const WATCH_INTERVAL_MS = 250;
/** One query takes microseconds; a worker that computes for so long on the same one will not come back. */
const STUCK_LOOKS = 3;
/** Queries that ended a worker, told to those that start later. */
const CRASHES_TOLD_MAX = 64;
/** Past this a worker that was told to stop is killed. */
const STOP_TIMEOUT_MS = 3_000;
/** A successor that says nothing for so long is given up. */
const REPLACE_TIMEOUT_MS = 30_000;

interface Worker {
  readonly place: number;
  readonly child: ChildProcess;
  readonly startedMs: number;
  heardMs: number;
  isListening: boolean;
  figures: WorkerFigures | undefined;
  /** Another one goes on with its sockets: its end is no death. */
  isReplaced: boolean;
  /** What it works on; undefined where that cannot be known. */
  readonly box: BlackBoxFile | undefined;
  /** The query that it worked on when it was looked at last, and how many looks ago it was the same. */
  stuck: { readonly sequence: number; looks: number } | undefined;
}

export class DnsWorkers {
  readonly #options: DnsWorkersOptions;
  readonly #workers = new Set<Worker>();
  /** What ended workers had counted at their sockets. */
  readonly #past = {
    sockets: new Map<string, number>(),
    batches: new Map<string, number>(),
    signatures: new Map<string, number>(),
  };
  /** Who is to get the sockets of whom. */
  readonly #borrowers = new WeakMap<Worker, ChildProcess>();
  #replacing: Promise<number> | undefined;
  #replaced = 0;
  #port: number;
  #restartMs = RESTART_MIN_MS;
  #died = 0;
  #hung = 0;
  #crashed = 0;
  /** In hex, oldest first. */
  readonly #crashes: string[] = [];
  #isStopping = false;
  #watch: NodeJS.Timeout | undefined;
  #hearNoMore = (): void => {};

  private constructor(options: DnsWorkersOptions) {
    this.#options = options;
    this.#port = options.setting.port;
    if (options.successorOf !== undefined) this.#replaced = 1;
  }

  /** Resolves when all workers listen; throws IsochroneError when one cannot. */
  static async start(options: DnsWorkersOptions): Promise<DnsWorkers> {
    const workers = new DnsWorkers(options);
    // Before the first one is told what is in force: what changes while it starts is told to it as well.
    workers.#hearNoMore = options.state.onChange((change) => {
      for (const { child } of workers.#workers) send(child, { type: "change", change });
    });
    try {
      // The first one alone: it may choose the port, and says at once when the address is not to be had.
      workers.#port = await workers.#fork(options.successorOf);
      await Promise.all(Array.from({ length: options.count - 1 }, () => workers.#fork()));
    } catch (error) {
      await workers.close();
      throw error;
    }
    workers.#watch = setInterval(() => workers.#killSilent(), WATCH_INTERVAL_MS);
    return workers;
  }

  get address(): string {
    return this.#options.setting.host;
  }
  get port(): number {
    return this.#port;
  }
  get tcpConnections(): number {
    let sum = 0;
    for (const { figures } of this.#workers) sum += figures?.tcpConnections ?? 0;
    return sum;
  }
  get socketCounters(): Readonly<Record<string, number>> {
    const before = this.#options.successorOf?.socketCounters;
    const own = {
      "worker-died": this.#died,
      "worker-hung": this.#hung,
      "worker-replaced": this.#replaced,
      "query-ended-worker": this.#crashed,
    };
    return { ...own, ...this.#sum(this.#past.sockets, (figures) => figures.sockets, before) };
  }
  get batches(): Readonly<Record<string, number>> | undefined {
    return this.#sum(
      this.#past.batches,
      (figures) => figures.batches ?? {},
      this.#options.successorOf?.batches,
    );
  }
  /** Signatures of all workers by what became of them. */
  get signatures(): Readonly<Record<string, number>> {
    const { zones: _zones, entries: _entries, ...own } = this.#options.state.signing;
    return this.#sum(this.#past.signatures, (figures) => figures.signatures, own);
  }
  /** Of all workers; undefined: nothing is looked at. */
  get top(): TopFigures | undefined {
    return sumOfTop([...this.#workers].flatMap(({ figures }) => figures?.top ?? []));
  }
  /** Workers that serve now. */
  get workers(): number {
    return [...this.#workers].filter(({ isListening }) => isListening).length;
  }

  /** @param before of the server without workers that these go on for */
  #sum(
    past: ReadonlyMap<string, number>,
    of: (figures: WorkerFigures) => Readonly<Record<string, number>>,
    before: Readonly<Record<string, number>> | undefined,
  ) {
    const sums = new Map(past);
    for (const { figures } of this.#workers) if (figures !== undefined) addCounts(sums, of(figures));
    addCounts(sums, before ?? {});
    return Object.fromEntries(sums);
  }

  /**
   * Starts another worker for each one, with whatever code and settings stand on the disk by now. The successor is lent the sockets, so that
   * what waits in them is answered by either; the old one ends once the new one answers. A successor that fails changes nothing.
   *
   * @returns how many were replaced
   */
  async replace(): Promise<number> {
    // One at a time: two would start a successor for the same worker.
    const before = this.#replacing;
    const replaced = (async () => {
      await before;
      let count = 0;
      // Those that are there now; successors are not replaced by the same call.
      const listening = [...this.#workers].filter((worker) => worker.isListening && !worker.isReplaced);
      for (const worker of listening) if (!this.#isStopping && (await this.#replaceOne(worker))) count++;
      return count;
    })();
    this.#replacing = replaced;
    return replaced;
  }

  async #replaceOne(old: Worker): Promise<boolean> {
    try {
      await this.#fork(old);
    } catch (error) {
      this.#options.logger.error("dns-worker-not-replaced", { pid: old.child.pid, error });
      return false;
    }
    old.isReplaced = true;
    this.#replaced++;
    // It drains while the next one is replaced.
    void stop(old.child);
    return true;
  }

  /** Resolves with its port when it listens. @param lender whose sockets it goes on with */
  #fork(lender?: Worker | DnsServer): Promise<number> {
    // A worker that is started for another one goes on with its file.
    let place = 0;
    while ([...this.#workers].some((other) => other.place === place)) place++;
    if (lender !== undefined && "place" in lender) place = lender.place;
    const box = BlackBoxFile.create();
    const child = fork(process.argv[1] ?? "", process.argv.slice(2), {
      env: { ...process.env, [WORKER_VARIABLE]: "1" },
      execArgv: process.execArgv,
      // The last one is BLACK_BOX_FD.
      stdio: ["inherit", "inherit", "inherit", "ipc", box?.fd ?? "ignore"],
    });
    const nowMs = performance.now();
    const worker: Worker = {
      place,
      child,
      startedMs: nowMs,
      heardMs: nowMs,
      isListening: false,
      figures: undefined,
      isReplaced: false,
      box,
      stuck: undefined,
    };
    this.#workers.add(worker);
    const listening = Promise.withResolvers<number>();
    let why = "it ended before it listened";
    child.on("message", (message: FromWorker, sent: unknown) => {
      worker.heardMs = performance.now();
      if (message.type === "listening") {
        worker.isListening = true;
        listening.resolve(message.port);
      } else if (message.type === "failed") why = message.message;
      else if (message.type === "lent") {
        const to = this.#borrowers.get(worker);
        const handle = sent as SendHandle & { close(): void };
        // Our own copy of the descriptor goes once it has left.
        if (to?.connected === true) to.send(message, handle, () => handle.close());
        else handle.close();
      } else if (message.type === "names-asked") this.#options.namesAsked?.take(message.names);
      else if (message.type === "notify") this.#options.onNotify?.(message.heard);
      else this.#take(worker, message.figures);
    });
    child.on("error", (error) => {
      why = error.message;
    });
    child.once("exit", (code, signal) => {
      this.#ended(worker, code, signal);
      box?.close();
      listening.reject(new IsochroneError(why, { code: "worker", source: "configuration", retry: "never" }));
    });
    const { setting: common } = this.#options;
    const { queryLog } = common;
    // One that took the place of a server without workers goes on with its file.
    const isAlone = this.#options.count === 1;
    const path = queryLog.path === undefined || isAlone ? queryLog.path : `${queryLog.path}.worker-${place}`;
    const setting = {
      ...common,
      port: this.#port,
      queryLog: { ...queryLog, path, seed: queryLog.seed + place },
    };
    const isLent = lender !== undefined;
    for (const packetHex of this.#crashes) send(child, { type: "quarantine", packetHex });
    send(child, { type: "start", setting, changes: [...this.#options.state.changes()], isLent });
    if (isLent) {
      if ("place" in lender) {
        this.#borrowers.set(lender, child);
        send(lender.child, { type: "lend" });
      } else
        for (const [socket, handle] of Object.entries(lender.handles))
          child.send({ type: "lent", socket }, handle as SendHandle);
      // A lender that dies now has lent nothing; and what does not come up must not keep it for ever.
      const timer = setTimeout(() => child.kill("SIGKILL"), REPLACE_TIMEOUT_MS);
      child.once("message", () => clearTimeout(timer));
      child.once("exit", () => clearTimeout(timer));
    }
    return listening.promise;
  }

  #take(worker: Worker, figures: WorkerFigures): void {
    this.#options.counters.absorb(figures.queries, worker.figures?.queries);
    worker.figures = figures;
  }

  #ended(worker: Worker, code: number | null, signal: string | null): void {
    this.#workers.delete(worker);
    addCounts(this.#past.sockets, worker.figures?.sockets ?? {});
    addCounts(this.#past.batches, worker.figures?.batches ?? {});
    addCounts(this.#past.signatures, worker.figures?.signatures ?? {});
    // One that never listened has told why to who started it.
    if (this.#isStopping || !worker.isListening || worker.isReplaced) return;
    this.#died++;
    // SIGKILL comes from outside: what was worked on then is not to blame, unless it was us for its sake.
    const isByQuery = signal !== "SIGKILL" || isStuck(worker);
    const query = isByQuery ? worker.box?.read() : undefined;
    if (query !== undefined) this.#quarantine(query, worker, signal ?? `code ${code}`);
    const livedMs = performance.now() - worker.startedMs;
    this.#restartMs =
      livedMs > HEALTHY_AFTER_MS ? RESTART_MIN_MS : Math.min(this.#restartMs * 2, RESTART_MAX_MS);
    this.#options.logger.warn("dns-worker-died", {
      pid: worker.child.pid,
      code,
      signal,
      restartInMs: this.#restartMs,
    });
    this.#restart(this.#restartMs);
  }

  /** Its query is kept for the operator, and dropped by all others from now on. */
  #quarantine(query: QueryInWork, { child }: Worker, why: string): void {
    const packetHex = query.bytes.toString("hex");
    if (this.#crashes.at(-1) === packetHex) return;
    this.#crashed++;
    this.#crashes.push(packetHex);
    if (this.#crashes.length > CRASHES_TOLD_MAX) this.#crashes.shift();
    for (const other of this.#workers) send(other.child, { type: "quarantine", packetHex });
    this.#options.crashes.write(query, { pid: child.pid, why });
  }

  #restart(delayMs: number): void {
    setTimeout(() => {
      if (this.#isStopping) return;
      this.#fork().catch((error: unknown) => {
        this.#options.logger.error("dns-worker-failed", { error });
        this.#restart(RESTART_MAX_MS);
      });
    }, delayMs).unref();
  }

  #killSilent(): void {
    const nowMs = performance.now();
    for (const worker of this.#workers) {
      if (!worker.isListening) continue;
      lookAt(worker);
      if (!isStuck(worker) && nowMs - worker.heardMs < SILENT_MS_MAX) continue;
      this.#hung++;
      this.#options.logger.warn("dns-worker-hung", { pid: worker.child.pid });
      worker.heardMs = nowMs;
      worker.child.kill("SIGKILL");
    }
  }

  /** Has every worker answer what it has received, then ends it. */
  async close(): Promise<void> {
    this.#isStopping = true;
    clearInterval(this.#watch);
    this.#hearNoMore();
    await Promise.all([...this.#workers].map(({ child }) => stop(child)));
  }
}

function addCounts(sums: Map<string, number>, counts: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(counts)) sums.set(name, (sums.get(name) ?? 0) + count);
}

/** Sees whether it still computes on the query of the look before. */
function lookAt(worker: Worker): void {
  const query = worker.box?.read();
  if (query === undefined) worker.stuck = undefined;
  else if (worker.stuck?.sequence !== query.sequence) worker.stuck = { sequence: query.sequence, looks: 1 };
  // One that stands still because somebody stopped it, or the machine is short of time, has done nothing wrong.
  else if (isComputing(worker.child.pid)) worker.stuck.looks++;
}

function isStuck({ stuck }: Worker): boolean {
  return (stuck?.looks ?? 0) > STUCK_LOOKS;
}

/** Whether it runs at this moment, by the system's word (Linux). */
function isComputing(pid: number | undefined): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)?.startsWith("R") === true;
  } catch {
    return false;
  }
}

/** Has it answer what it has received; killed where it does not end. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  send(child, { type: "stop" });
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  await ended;
  clearTimeout(timer);
}

/** To one that has just died nothing can be told; its end is heard of by itself. */
function send(child: ChildProcess, message: ToWorker): void {
  if (child.connected) child.send(message, () => {});
}
