/** What tests need to run real processes: start and stop ours, find ports, data and programs, wait without sleeping. */
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";
import { format } from "node:util";

const root = join(import.meta.dirname, "..", "..");

/** How much of each output stream is kept: the newest part. */
const OUTPUT_CHARACTERS_MAX = 1_048_576;
const READY_TIMEOUT_MS = 30_000;
/** How long a process may take to drain before it is killed. */
const STOP_TIMEOUT_MS = 10_000;

/** How a process ended: by itself with a code, or by a signal. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface StartOptions {
  /** Added to the environment; a value of undefined takes a variable out. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Default: the root of the checkout. */
  readonly cwd?: string;
  /** A script in place of the command, by its path from the root: what is started may have what the command has no flag for. */
  readonly script?: string;
  /** Default 30,000. For `runIsochrone`, the time until the end. */
  readonly timeoutMs?: number;
}

/** A running `isochrone`. */
export interface IsochroneProcess {
  readonly pid: number;
  /** The line that began with `ready`. */
  readonly readyLine: string;
  /** What it has written so far, the newest MiB. */
  stdout(): string;
  stderr(): string;
  signal(signal: NodeJS.Signals): void;
  /** SIGTERM, then SIGKILL when it is still there after `timeoutMs` (default 10,000). */
  stop(timeoutMs?: number): Promise<Exit>;
  /** Resolves when the process has ended and its output is read; never rejects. */
  readonly exit: Promise<Exit>;
}

/** The environment of a user, not of a test runner: vitest's own variables would change what our processes do. */
function cleanEnvironment(extra: StartOptions["env"] = {}): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env };
  for (const name of Object.keys(env))
    if (/^(VITEST|TEST$|NODE_ENV$|NODE_OPTIONS$)/.test(name)) delete env[name];
  for (const [name, value] of Object.entries(extra)) {
    if (value === undefined) delete env[name];
    else env[name] = value;
  }
  return env;
}

/** A child with bounded output that does not outlive the test runner. */
function launch(args: readonly string[], options: StartOptions) {
  const script = join(root, options.script ?? join("cli", "isochrone.js"));
  const child = spawn(process.execPath, [script, ...args], {
    cwd: options.cwd ?? root,
    env: cleanEnvironment(options.env),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { stdout: "", stderr: "" };
  const listeners = new Set<() => void>();
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] = (output[name] + text).slice(-OUTPUT_CHARACTERS_MAX);
      for (const listener of listeners) listener();
    });
  }
  const killAtExit = (): void => {
    child.kill("SIGKILL");
  };
  process.once("exit", killAtExit);
  const exit = new Promise<Exit>((resolve) => {
    child.once("error", (error) => {
      output.stderr += error.message;
      process.off("exit", killAtExit);
      resolve({ code: null, signal: null });
    });
    child.once("close", (code, signal) => {
      process.off("exit", killAtExit);
      resolve({ code, signal });
    });
  });
  return { child, output, listeners, exit };
}

function describeOutput(args: readonly string[], output: { stdout: string; stderr: string }): string {
  return `"isochrone ${args.join(" ")}"\n--- stdout\n${output.stdout.slice(-8192)}\n--- stderr\n${output.stderr.slice(-8192)}`;
}

/**
 * Starts `isochrone ARGS` and waits for the line on stdout that begins with `ready`.
 *
 * @throws Error with both outputs when the process ends first or is not ready within `timeoutMs`; it is killed then
 */
export async function startIsochrone(
  args: readonly string[],
  options: StartOptions = {},
): Promise<IsochroneProcess> {
  const { timeoutMs = READY_TIMEOUT_MS } = options;
  const { child, output, listeners, exit } = launch(args, options);
  const readyLine = await new Promise<string>((resolve, reject) => {
    const settle = (): void => {
      clearTimeout(timer);
      listeners.delete(look);
    };
    const fail = (what: string): void => {
      settle();
      child.kill("SIGKILL");
      reject(new Error(`${what}: ${describeOutput(args, output)}`));
    };
    const look = (): void => {
      const line = /^(ready.*)\r?\n/m.exec(output.stdout)?.[1];
      if (line === undefined) return;
      settle();
      resolve(line);
    };
    const timer = setTimeout(() => fail(`Not ready within ${timeoutMs} ms`), timeoutMs);
    listeners.add(look);
    void exit.then(({ code, signal }) => fail(`Ended with ${signal ?? `code ${code}`} before it was ready`));
  });
  return {
    pid: child.pid ?? -1,
    readyLine,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    signal: (signal) => {
      child.kill(signal);
    },
    stop: async (stopTimeoutMs = STOP_TIMEOUT_MS) => {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
      const ended = await exit;
      clearTimeout(timer);
      return ended;
    },
    exit,
  };
}

/**
 * Runs a command of ours that ends by itself.
 *
 * @throws Error with both outputs when it has not ended within `timeoutMs`
 */
export async function runIsochrone(
  args: readonly string[],
  options: StartOptions = {},
): Promise<Exit & { readonly stdout: string; readonly stderr: string }> {
  const { timeoutMs = READY_TIMEOUT_MS } = options;
  const { child, output, exit } = launch(args, options);
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill("SIGKILL");
  }, timeoutMs);
  const ended = await exit;
  clearTimeout(timer);
  if (isLate) throw new Error(`Not ended within ${timeoutMs} ms: ${describeOutput(args, output)}`);
  return { ...ended, ...output };
}

/** Ends with the last command that was asked for here: they take turns, since each has this process's streams and environment. */
let turn: Promise<unknown> = Promise.resolve();

/**
 * As {@link runIsochrone}, in this process: a command that only asks and tells takes the time of what it does, not that of a start. What
 * becomes of a process (its start, signals, exit code) is for runIsochrone.
 */
export function runIsochroneHere(
  args: readonly string[],
  { env = {} }: Pick<StartOptions, "env"> = {},
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const mine = turn.then(async () => {
    const { run } = await import("../../cli/main.ts");
    const output = { stdout: "", stderr: "" };
    const before = { env: process.env, log: console.log, error: console.error, warn: console.warn };
    const writes = { stdout: process.stdout.write, stderr: process.stderr.write };
    const tell =
      (name: "stdout" | "stderr") =>
      (text: unknown, ...more: unknown[]) => {
        output[name] += `${format(text, ...more)}\n`;
      };
    const take = (name: "stdout" | "stderr") =>
      ((chunk: string | Uint8Array, ...rest: unknown[]) => {
        output[name] += typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
        for (const one of rest) if (typeof one === "function") setImmediate(one as () => void);
        return true;
      }) as typeof process.stdout.write;
    process.env = cleanEnvironment(env);
    console.log = tell("stdout");
    console.error = tell("stderr");
    console.warn = tell("stderr");
    process.stdout.write = take("stdout");
    process.stderr.write = take("stderr");
    try {
      return { code: await run([...args]), ...output };
    } finally {
      process.env = before.env;
      console.log = before.log;
      console.error = before.error;
      console.warn = before.warn;
      process.stdout.write = writes.stdout;
      process.stderr.write = writes.stderr;
    }
  });
  turn = mine.catch(() => {});
  return mine;
}

/**
 * A port that was free for both TCP and UDP a moment ago. For programs that cannot take port 0 and tell; another process
 * may win the race, so prefer port 0 wherever the program says what it got.
 */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const tcp = createServer().listen({ host, port: 0 });
    await once(tcp, "listening");
    const address = tcp.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const udp = createSocket(host.includes(":") ? "udp6" : "udp4");
    const isFree = await new Promise<boolean>((resolve) => {
      udp.once("error", () => resolve(false));
      udp.bind({ address: host, port, exclusive: true }, () => resolve(true));
    });
    udp.close();
    tcp.close();
    await once(tcp, "close");
    if (isFree) return port;
  }
  throw new Error(`Cannot find a port on ${host} that is free for TCP and UDP: 20 were tried`);
}

/**
 * Polls until `probe` gives something other than undefined or false; a probe that throws counts as "not yet".
 *
 * @throws Error that names `what` and the last error when the deadline passes
 */
export async function waitFor<T>(
  probe: () => T | Promise<T>,
  options: { readonly timeoutMs: number; readonly what: string; readonly intervalMs?: number },
): Promise<Exclude<T, undefined | false>> {
  const { timeoutMs, what, intervalMs = 25 } = options;
  const deadlineMs = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value as Exclude<T, undefined | false>;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= deadlineMs) {
      throw new Error(`Waited ${timeoutMs} ms in vain for ${what}`, { cause: last });
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  }
}

/** Where the measured matrices lie: ISOCHRONE_DATA, else `../shared/data`; undefined when neither is there. */
export function dataDirectory(): string | undefined {
  const path = process.env["ISOCHRONE_DATA"] ?? join(root, "..", "shared", "data");
  return existsSync(path) ? path : undefined;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * The path of a program that a suite needs, looked up in PATH under each of its names.
 *
 * @returns undefined when it is missing, with a line that says so; the suite then skips
 * @throws Error in CI (variable CI set), where no suite may skip for want of a program
 */
export function requireProgram(...names: readonly string[]): string | undefined {
  for (const name of names) {
    for (const directory of (process.env["PATH"] ?? "").split(delimiter)) {
      const path = join(directory, name);
      if (directory !== "" && isProgram(path)) return path;
    }
  }
  const missing = `"${names.join('" or "')}" is not in PATH`;
  if ((process.env["CI"] ?? "") !== "") throw new Error(`${missing}: install it, CI runs every suite`);
  console.warn(`skipped: ${missing}: install it to run this suite`);
  return undefined;
}

/** Whether a process of ours still runs. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
