/**
 * Runs the processes of a world: starts them, waits for each one's `ready`, restarts the dead with back-off, ends all of
 * them together. It knows nothing of what they do.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, type WriteStream } from "node:fs";
import { EventEmitter } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { RestartPolicy } from "./restart-policy.ts";

const binary = fileURLToPath(new URL("../isochrone.js", import.meta.url));
const compileCache = fileURLToPath(new URL("./compile-cache.ts", import.meta.url));

/** A line longer than this from a child is cut: a child's output is input like any other. */
const LINE_CHARS_MAX = 16_384;
/** A process of a world could not be started; the message is its own last words. */
export class StartError extends Error {
  /** Exit code of the process, null when it ended by a signal or could not be run at all. */
  readonly code: number | null;
  constructor(message: string, code: number | null) {
    super(message);
    this.name = "StartError";
    this.code = code;
  }
}

/** How long a child may take to drain after SIGTERM before it is killed. */
const STOP_GRACE_MS = 5_000;

export interface ProcessSpec {
  readonly role: string;
  /** Server id, or the role itself where there is only one. */
  readonly id: string;
  readonly clusterId: string;
  readonly city: string;
  readonly address: string;
  /** Where it does its work: DNS for a name server, HTTP for all others. */
  readonly port: number;
  /** HTTP port of /livez, /readyz and /metrics. */
  readonly adminPort: number;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export type ProcessState = "starting" | "ready" | "backoff" | "killed" | "stopped";

export interface ProcessStatus {
  readonly role: string;
  readonly id: string;
  readonly cluster: string;
  readonly city: string;
  readonly address: string;
  readonly port: number;
  readonly adminPort: number;
  readonly pid: number | null;
  readonly state: ProcessState;
  readonly restarts: number;
}

interface Entry {
  readonly spec: ProcessSpec;
  readonly policy: RestartPolicy;
  readonly log: WriteStream;
  child: ChildProcess | undefined;
  state: ProcessState;
  restarts: number;
  startedAtMs: number;
  /** Whether it has ever said `ready`: only then is its end a death to recover from. */
  hasServed: boolean;
  timer: NodeJS.Timeout | undefined;
  /** The last thing it said on stderr that was not a log record: what to show when it fails. */
  lastWords: string;
}

interface SupervisorEvents {
  readonly ready: [ProcessSpec];
  /** It ended without being asked to; `delayMs` until the next start, `words` its last line on stderr. */
  readonly died: [
    ProcessSpec,
    { readonly how: string; readonly code: number | null; readonly delayMs: number; readonly words: string },
  ];
  /** It ended before it was ever ready: {@link Supervisor.start} has failed, and it is not tried again. */
  readonly failed: [
    ProcessSpec,
    { readonly how: string; readonly code: number | null; readonly words: string },
  ];
  readonly killed: [ProcessSpec];
  /** It did not end within the milliseconds that it had to drain, and was killed. */
  readonly unwilling: [ProcessSpec, number];
}

export class Supervisor extends EventEmitter<SupervisorEvents> {
  readonly #entries = new Map<string, Entry>();
  readonly #logDirectory: string;
  /** What each child is told as soon as it runs, and again on {@link broadcast}. */
  #messageFor: ((spec: ProcessSpec) => object) | undefined;
  #isStopping = false;

  constructor(logDirectory: string) {
    super();
    this.#logDirectory = logDirectory;
  }

  /** Starts one process; resolves when it says `ready`, rejects with {@link StartError} when it ends before or all are being stopped. */
  start(spec: ProcessSpec): Promise<void> {
    // Whoever starts one after another must not add a child that nobody will end.
    if (this.#isStopping) return Promise.reject(new StartError(`${spec.id} is not started: stopping`, null));
    const entry: Entry = {
      spec,
      policy: new RestartPolicy(),
      log: createWriteStream(join(this.#logDirectory, `${spec.id}.log`), { flags: "a" }),
      child: undefined,
      state: "starting",
      restarts: 0,
      startedAtMs: 0,
      hasServed: false,
      timer: undefined,
      lastWords: "",
    };
    // A full disk must not end the world: logs are then lost, traffic is not.
    entry.log.on("error", () => {});
    this.#entries.set(spec.id, entry);
    return new Promise((resolve, reject) => {
      const settle = () => {
        this.off("ready", onReady);
        this.off("failed", onFailed);
      };
      const onReady = (ready: ProcessSpec) => {
        if (ready !== spec) return;
        settle();
        resolve();
      };
      const onFailed: (...args: SupervisorEvents["failed"]) => void = (failed, { how, code, words }) => {
        if (failed !== spec) return;
        settle();
        reject(new StartError(words === "" ? `${spec.id} ended before it was ready: ${how}` : words, code));
      };
      this.on("ready", onReady);
      this.on("failed", onFailed);
      this.#spawn(entry);
    });
  }

  #spawn(entry: Entry): void {
    const { spec } = entry;
    entry.state = "starting";
    entry.timer = undefined;
    entry.startedAtMs = performance.now();
    entry.lastWords = "";
    const child = spawn(process.execPath, [...childFlags, binary, ...spec.argv], {
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      env: { ...process.env, ...childEnvironment, ...spec.env, ISOCHRONE_SUPERVISED: "1" },
      // Ctrl-C reaches the whole foreground group; in a group of its own a child is ended by us, in order, once.
      detached: true,
    });
    entry.child = child;
    lines(child.stdout, (line) => {
      entry.log.write(`${line}\n`);
      if (entry.state === "starting" && line.startsWith("ready")) {
        entry.state = "ready";
        entry.hasServed = true;
        this.emit("ready", spec);
      }
    });
    lines(child.stderr, (line) => {
      entry.log.write(`${line}\n`);
      if (!line.startsWith("{") && line.trim() !== "") entry.lastWords = line;
    });
    let isOver = false;
    const over = (how: string, code: number | null) => {
      if (isOver) return;
      isOver = true;
      entry.child = undefined;
      this.#handleExit(entry, how, code);
    };
    child.on("error", (error) =>
      over(`cannot run ${process.execPath}: ${error.message}; run "npm ci" to install it`, null),
    );
    child.on("close", (code, signal) => over(signal ?? `exit code ${code}`, code));
    if (this.#messageFor !== undefined) send(child, this.#messageFor(spec));
  }

  #handleExit(entry: Entry, how: string, code: number | null): void {
    if (this.#isStopping) {
      entry.state = "stopped";
      return;
    }
    if (entry.state === "killed") {
      this.emit("killed", entry.spec);
      return;
    }
    if (!entry.hasServed) {
      entry.state = "stopped";
      this.emit("failed", entry.spec, { how, code, words: entry.lastWords });
      return;
    }
    entry.state = "backoff";
    entry.restarts += 1;
    const delayMs = entry.policy.handleDeath(performance.now() - entry.startedAtMs);
    entry.timer = setTimeout(() => this.#spawn(entry), delayMs);
    this.emit("died", entry.spec, { how, code, delayMs, words: entry.lastWords });
  }

  has(id: string): boolean {
    return this.#entries.has(id);
  }

  /**
   * Ends a process as a crash would (SIGKILL). It stays down until {@link revive}, or with `restart` comes back by the
   * restart policy as after any death. False: it is down already.
   */
  kill(id: string, restart = false): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.state === "killed") return false;
    if (restart) return entry.child?.kill("SIGKILL") ?? false;
    clearTimeout(entry.timer);
    entry.state = "killed";
    if (entry.child?.kill("SIGKILL") !== true) this.emit("killed", entry.spec);
    return true;
  }

  /** Starts processes that {@link kill} ended. @returns their ids. */
  revive(ids: Iterable<string> = this.#entries.keys()): string[] {
    const revived: string[] = [];
    for (const id of ids) {
      const entry = this.#entries.get(id);
      if (entry?.state !== "killed" || entry.child !== undefined) continue;
      this.#spawn(entry);
      revived.push(id);
    }
    return revived;
  }

  /** Sends each child its message now, and to each child that starts later. */
  broadcast(messageFor: (spec: ProcessSpec) => object): void {
    this.#messageFor = messageFor;
    for (const { child, spec } of this.#entries.values()) if (child) send(child, messageFor(spec));
  }

  status(): ProcessStatus[] {
    return [...this.#entries.values()].map(({ spec, child, state, restarts }) => ({
      role: spec.role,
      id: spec.id,
      cluster: spec.clusterId,
      city: spec.city,
      address: spec.address,
      port: spec.port,
      adminPort: spec.adminPort,
      pid: child?.pid ?? null,
      state,
      restarts,
    }));
  }

  /** Asks every child to drain, kills those that do not, and resolves when none is left. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const waits = [...this.#entries.values()].map(async (entry) => {
      clearTimeout(entry.timer);
      const { child } = entry;
      if (child !== undefined) {
        const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
        child.kill("SIGTERM");
        const timer = setTimeout(() => {
          this.emit("unwilling", entry.spec, STOP_GRACE_MS);
          child.kill("SIGKILL");
        }, STOP_GRACE_MS);
        await closed;
        clearTimeout(timer);
      }
      entry.state = "stopped";
      entry.log.end();
    });
    await Promise.all(waits);
  }
}

/**
 * Thirty processes share two cores and little memory here: a small young generation and a heap that is collected early cost a
 * demo nothing. Measured on the demo world: 1.17 GB in all when ready, 1.4 GB instead of 1.5 after 1,200 visits. On a machine of its
 * own a server runs without these.
 */
const childEnvironment = {
  // glibc gives each thread an arena of its own and keeps what is freed: measured 20 % of a process's private memory, half of the portal's.
  MALLOC_ARENA_MAX: "1",
  MALLOC_TRIM_THRESHOLD_: "131072",
  MALLOC_MMAP_THRESHOLD_: "65536",
  UV_THREADPOOL_SIZE: "2",
};
const childFlags = [
  "--max-semi-space-size=2",
  "--max-old-space-size=128",
  "--disable-warning=ExperimentalWarning",
];

/** Fills the compile cache with the flags that children run with; a failure costs only time, so it is not told. */
export async function warmCompileCache(): Promise<void> {
  const child = spawn(process.execPath, [...childFlags, compileCache], { stdio: "ignore", detached: true });
  await new Promise<void>((resolve) => {
    child.once("error", () => resolve());
    child.once("close", () => resolve());
  });
}

function send(child: ChildProcess, message: object): void {
  // A child that is just dying has no channel any more; its exit is handled where exits are.
  if (child.connected) child.send(message, () => {});
}

function lines(stream: NodeJS.ReadableStream | null, onLine: (line: string) => void): void {
  let rest = "";
  stream?.setEncoding("utf8");
  stream?.on("data", (chunk: string) => {
    const parts = (rest + chunk).split("\n");
    rest = (parts.pop() ?? "").slice(0, LINE_CHARS_MAX);
    for (const part of parts) onLine(part.slice(0, LINE_CHARS_MAX));
  });
}
