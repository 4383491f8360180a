/**
 * `isochrone edge --replace`: the command asks the running server over a Unix socket in the run directory; that one starts
 * the command's program with the command's arguments, lends it the listening sockets over IPC, and drains when it serves.
 * Who may open the socket may run programs as this user anyway: the directory is closed to everybody else.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, renameSync, statSync, unlinkSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { array, IsochroneError, object, string, xxh64Hex } from "#kit";
import type { Logger } from "#kit/io";
import type { CacheKey } from "../core/cache-key.ts";
import { Replacement, type ReplacementAction } from "../core/replacement.ts";
import { Channel } from "./channel.ts";
import type { InvalidationChain } from "./invalidation-chain.ts";
import { type EdgeSockets, isListenHandle, type ListenHandle, portOf, type SocketKind } from "./listening.ts";
import type { RunningServer } from "./primary.ts";
import { withHeapFlags, withMallocEnvironment } from "./process-memory.ts";
import { openRunDirectory } from "./run-directory.ts";

/** Set in the environment of a successor, and taken out by it at once. */
const PREDECESSOR_VARIABLE = "ISOCHRONE_EDGE_PREDECESSOR";
/** Longest request on the control socket, characters: an argument list. */
const REQUEST_CHARACTERS_MAX = 262_144;
/** A client of the control socket that has not asked by then is cut off, ms. */
const REQUEST_TIMEOUT_MS = 5_000;

const text = string({ min: 1, max: 65_536 });
const requestSchema = object({
  execPath: text,
  execArgv: array(text, { max: 1_000 }),
  argv: array(string({ min: 0, max: 65_536 }), { max: 1_000 }),
  cwd: text,
});

type PredecessorMethods = {
  /** Resolves when every socket has been sent by `socket`. */
  sockets: { argument: undefined; result: undefined };
  /** The successor serves. */
  ready: { argument: undefined; result: undefined };
  invalidate: { argument: readonly CacheKey[]; result: undefined };
};
type SuccessorMethods = {
  socket: { argument: SocketKind | "admin"; result: undefined };
  /** The predecessor has closed the disk store. */
  diskIsFree: { argument: undefined; result: undefined };
  invalidate: { argument: readonly CacheKey[]; result: undefined };
};

/** How long the other process is waited for before an unsafe request is answered all the same, ms. */
const INVALIDATE_TIMEOUT_MS = 2_000;

/** Where a server that listens on an address is asked: the address finds it, whatever its arguments are. */
function controlPath(runDirectory: string, host: string, port: number): string {
  return join(runDirectory, `edge-${xxh64Hex(`${host}:${port}`)}.sock`);
}

/** What a successor got from the server that it replaces. */
export interface Predecessor {
  readonly sockets: EdgeSockets;
  /** Says that this process will not serve: it goes on. */
  readonly abandon: () => void;
  /** What unsafe requests change is told both ways from now on, until it has ended. */
  readonly link: (chain: InvalidationChain) => void;
  /** Tells it to go. `openDisk` is called when it has let go of the disk store. Rejects when it has gone on without us. */
  readonly succeed: (openDisk: () => Promise<void>) => Promise<void>;
}

/** The server that started this process to be replaced by it; undefined: nobody did. */
export async function predecessor(logger: Logger): Promise<Predecessor | undefined> {
  if (process.env[PREDECESSOR_VARIABLE] === undefined || process.send === undefined) return undefined;
  // Workers of this process are nobody's successors.
  delete process.env[PREDECESSOR_VARIABLE];
  const channel = new Channel<SuccessorMethods, PredecessorMethods>(process);
  // Until this process serves, the other's end means a roll-back or a fault there: either way it is not for us to stay.
  channel.onClosed = () => process.exit(1);
  const main: ListenHandle[] = [];
  const tls: ListenHandle[] = [];
  let admin: ListenHandle | undefined;
  channel.answer("socket", (kind, handle) => {
    if (!isListenHandle(handle)) throw new Error("a socket did not come with its message");
    if (kind === "main") main.push(handle);
    else if (kind === "tls") tls.push(handle);
    else admin = handle;
    return undefined;
  });
  // Before this process serves it has nothing stored, and what lies on the disk is the other's to delete.
  let chain: InvalidationChain | undefined;
  channel.answer("invalidate", async (keys) => {
    await chain?.fromPredecessor(keys);
    return undefined;
  });
  await channel.call("sockets", undefined);
  return {
    sockets: { main, admin, tls: tls.length === 0 ? undefined : tls },
    abandon: () => {
      channel.onClosed = undefined;
      process.disconnect();
    },
    link: (to) => {
      chain = to;
      to.predecessor = async (keys) =>
        await channel.call("invalidate", keys, { timeoutMs: INVALIDATE_TIMEOUT_MS });
    },
    succeed: async (openDisk) => {
      const isDiskFree = new Promise<void>((resolve) => {
        channel.answer("diskIsFree", () => {
          resolve();
          return undefined;
        });
        channel.onClosed = () => {
          if (chain !== undefined) chain.predecessor = undefined;
          resolve();
        };
      });
      await channel.call("ready", undefined);
      // It drains for long: this process may end before.
      process.channel?.unref();
      // Also when it has gone without a word: a process that is gone holds no disk.
      void isDiskFree.then(openDisk).catch((error: unknown) => logger.error("disk-not-opened", { error }));
    },
  };
}

/**
 * Of a predecessor's sockets those that these arguments still want; others are closed here, since a socket that is held and
 * not accepted from lets its clients wait.
 */
export function wantedSockets(
  { main, admin, tls }: EdgeSockets,
  wanted: { readonly admin: Endpoint | undefined; readonly tls: Endpoint | undefined },
): EdgeSockets {
  const keep = (handle: ListenHandle, endpoint: Endpoint | undefined): boolean => {
    if (endpoint !== undefined && (endpoint.port === 0 || endpoint.port === portOf(handle))) return true;
    handle.close();
    return false;
  };
  const kept = tls?.filter((handle) => keep(handle, wanted.tls));
  return {
    main,
    admin: admin !== undefined && keep(admin, wanted.admin) ? admin : undefined,
    tls: kept?.length === 0 ? undefined : kept,
  };
}

interface Endpoint {
  readonly port: number;
}

export interface ReplaceableOptions {
  readonly server: RunningServer;
  readonly runDirectory: string;
  readonly host: string;
  /** The bound port. */
  readonly port: number;
  /** From the successor's start until it must serve, ms. */
  readonly readyWithinMs: number;
  readonly invalidations: InvalidationChain;
  readonly logger: Logger;
  /** Tells the service manager that this process is the one to watch, after all: a successor may have said so of itself. Never rejects. */
  readonly claim: () => Promise<void>;
}

/** A running server that can be replaced. */
export class Replaceable {
  readonly #o: ReplaceableOptions;
  readonly #machine: Replacement;
  readonly #path: string;
  readonly #replaced = Promise.withResolvers<void>();
  #server: Server | undefined;
  #inode: number | undefined;
  #successor: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #answer: ((line: object) => void) | undefined;

  constructor(options: ReplaceableOptions) {
    this.#o = options;
    this.#machine = new Replacement(options.readyWithinMs);
    this.#path = controlPath(options.runDirectory, options.host, options.port);
  }

  /** Resolves when a successor serves: time to drain. */
  get replaced(): Promise<void> {
    return this.#replaced.promise;
  }

  /** Can be asked from now on. Throws when the run directory cannot be used. */
  async listen(): Promise<void> {
    openRunDirectory(this.#o.runDirectory);
    const server = createServer((socket) => this.#serve(socket));
    this.#server = server;
    // Bound under another name and moved: it takes the predecessor's place in one step, and that one, at its end, removes
    // only the name under which it was bound.
    const temporary = `${this.#path}.${process.pid}`;
    server.listen(temporary);
    await once(server, "listening");
    chmodSync(temporary, 0o600);
    renameSync(temporary, this.#path);
    this.#inode = statSync(this.#path).ino;
    server.unref();
  }

  /** Told to end by a signal: a successor that does not serve yet ends too. */
  stop(): void {
    this.#act(this.#machine.handleStop());
    this.#close();
  }

  #close(): void {
    this.#server?.close();
    try {
      // Unless a successor has taken the name.
      if (statSync(this.#path).ino === this.#inode) unlinkSync(this.#path);
    } catch {
      // Nobody's name any more, which is what was wanted.
    }
  }

  #serve(socket: Socket): void {
    let line = "";
    socket.setEncoding("utf8").setTimeout(REQUEST_TIMEOUT_MS, () => socket.destroy());
    socket.on("error", () => {});
    const onData = (chunk: string): void => {
      line += chunk;
      if (line.length > REQUEST_CHARACTERS_MAX) socket.destroy();
      if (!line.includes("\n")) return;
      socket.off("data", onData);
      socket.setTimeout(0);
      this.#request(line, (answer) => socket.end(`${JSON.stringify(answer)}\n`));
    };
    socket.on("data", onData);
  }

  #request(line: string, answer: (line: object) => void): void {
    let request: ReturnType<typeof requestSchema.parse>;
    try {
      request = requestSchema.parse(JSON.parse(line));
    } catch (error) {
      answer({ isReplaced: false, reason: error instanceof Error ? error.message : String(error) });
      return;
    }
    const action = this.#machine.handleRequest(performance.now());
    if (action.action === "refuse") {
      answer({ isReplaced: false, reason: action.reason });
      return;
    }
    this.#answer = answer;
    this.#start(request);
  }

  #start({ execPath, execArgv, argv, cwd }: ReturnType<typeof requestSchema.parse>): void {
    const { server, invalidations, logger, readyWithinMs } = this.#o;
    logger.info("replacement-starts", { argv });
    const child = spawn(execPath, [...withHeapFlags(execArgv), ...argv], {
      cwd,
      env: { ...withMallocEnvironment(process.env), [PREDECESSOR_VARIABLE]: "1" },
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      // Not in this process's group: what ends that (a terminal, a service manager) must be able to tell them apart.
      detached: true,
    });
    this.#successor = child;
    const channel = new Channel<PredecessorMethods, SuccessorMethods>(child);
    invalidations.successor = async (keys) =>
      await channel.call("invalidate", keys, { timeoutMs: INVALIDATE_TIMEOUT_MS });
    channel.onClosed = () => {
      invalidations.successor = undefined;
    };
    channel.answer("invalidate", async (keys) => {
      await invalidations.fromSuccessor(keys);
      return undefined;
    });
    channel.answer("sockets", async () => {
      const { main, admin, tls = [] } = server.sockets;
      for (const handle of main) await channel.call("socket", "main", { handle });
      for (const handle of tls) await channel.call("socket", "tls", { handle });
      if (admin !== undefined) await channel.call("socket", "admin", { handle: admin });
      return undefined;
    });
    channel.answer("ready", () => {
      const action = this.#successor === child ? this.#machine.handleReady() : undefined;
      if (action?.action !== "drain") throw new Error("it is too late");
      clearTimeout(this.#timer);
      this.#answer?.({ isReplaced: true, pid: child.pid });
      this.#server?.close();
      void server
        .closeDisk()
        .then(() => channel.call("diskIsFree", undefined))
        .catch((error: unknown) => logger.warn("disk-not-handed-over", { error }));
      child.unref();
      child.channel?.unref();
      this.#replaced.resolve();
      return undefined;
    });
    const onEnd = (): void => {
      if (this.#successor === child) this.#act(this.#machine.handleSuccessorEnd());
    };
    child.once("error", (error) => {
      logger.error("replacement-not-started", { error });
      onEnd();
    });
    child.once("exit", onEnd);
    this.#timer = setTimeout(
      () => this.#act(this.#machine.handleTimeout(performance.now())),
      // One more, so that a timer that fires a fraction early does not find that it is not time yet.
      readyWithinMs + 1,
    );
  }

  #act(action: ReplacementAction): void {
    if (action.action !== "roll-back") return;
    clearTimeout(this.#timer);
    this.#o.logger.warn("replacement-rolled-back", { reason: action.reason });
    const successor = this.#successor;
    this.#successor = undefined;
    const answer = this.#answer;
    this.#answer = undefined;
    const end = (): void => {
      successor?.kill("SIGKILL");
      answer?.({ isReplaced: false, reason: action.reason });
    };
    // Before its end: the manager takes a server for ended when the process that it knows ends, and kills the rest.
    if (action.reason === "stopped-meanwhile") end();
    else void this.#o.claim().then(end);
  }
}

/**
 * The command's side. Resolves with the new process's id. Rejects with IsochroneError: nobody runs there (`absent`), or
 * the running one goes on (`not-replaced`).
 */
export async function requestReplacement(options: {
  readonly runDirectory: string;
  readonly host: string;
  readonly port: number;
  /** Of the new program, after the executable. */
  readonly argv: readonly string[];
}): Promise<number> {
  const path = controlPath(options.runDirectory, options.host, options.port);
  const socket = connect(path);
  try {
    await once(socket, "connect");
  } catch (cause) {
    throw new IsochroneError(
      `Cannot replace: no edge of this user listens on ${options.host}:${options.port} with the run directory ${options.runDirectory}; start it without --replace`,
      { code: "absent", source: "configuration", retry: "never", cause },
    );
  }
  const { execPath, execArgv } = process;
  socket.write(`${JSON.stringify({ execPath, execArgv, argv: options.argv, cwd: process.cwd() })}\n`);
  let line = "";
  for await (const chunk of socket.setEncoding("utf8") as AsyncIterable<string>) line += chunk;
  const answer = (line === "" ? { reason: "the running server ended meanwhile" } : JSON.parse(line)) as {
    readonly isReplaced?: boolean;
    readonly pid?: number;
    readonly reason?: string;
  };
  if (answer.isReplaced === true && answer.pid !== undefined) return answer.pid;
  throw new IsochroneError(`Not replaced, the running server goes on: ${answer.reason}`, {
    code: "not-replaced",
    source: "configuration",
    retry: "never",
  });
}
