/**
 * Programs that a benchmark starts: peers, load generators. Each runs in the foreground as our child, is stopped by its pid, and
 * its whole tree dies with us, however we end (short of SIGKILL).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { waitFor } from "../../tools/processes.ts";
import { treeOf } from "./process-tree.ts";

const READY_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 5_000;
const OUTPUT_CHARACTERS_MAX = 1_048_576;

/** The path of a program on PATH; also looked for where Debian puts daemons, which a user's PATH leaves out. */
export function findProgram(name: string): string | undefined {
  const directories = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  for (const directory of directories) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue;
    }
  }
  return undefined;
}

const running = new Set<number>();
const directories = new Set<string>();
let isGuarded = false;

/** At our end nothing stays: every tree is killed pid by pid, every directory removed. */
function guard(): void {
  if (isGuarded) return;
  isGuarded = true;
  process.once("exit", () => {
    for (const pid of [...running].flatMap(treeOf).toReversed()) killQuietly(pid, "SIGKILL");
    for (const directory of directories) rmSync(directory, { recursive: true, force: true });
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(signal, () => process.exit(130));
}

function killQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // ended meanwhile
  }
}

/** The process whose tree must die with us, though another tool started it (a stop in order is still its owner's). */
export function dieWithUs(pid: number): void {
  guard();
  running.add(pid);
}

/**
 * A directory that is removed at our end.
 *
 * @param isInMemory on a tmpfs where there is one, so that a cache on "disk" is measured without the disk
 */
export function scratchDirectory(name: string, isInMemory = false): string {
  guard();
  const base = isInMemory && process.platform === "linux" ? "/dev/shm" : tmpdir();
  const directory = mkdtempSync(join(base, `isochrone-bench-${name}-`));
  directories.add(directory);
  return directory;
}

export interface RunningProgram {
  readonly pid: number;
  /** Resolves with the exit code, or null after a signal. */
  readonly exit: Promise<number | null>;
  /** What it has written to stdout and stderr, the newest MiB. */
  output(): string;
  stop(): Promise<void>;
}

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** stdout goes to this file instead of into memory: a server that logs each request there must not cost us. */
  readonly stdoutFile?: string;
}

/** Starts a program; does not wait for it. */
export function startProgram(
  command: string,
  args: readonly string[],
  options: ProgramOptions = {},
): RunningProgram {
  guard();
  const child: ChildProcess = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ["ignore", options.stdoutFile === undefined ? "pipe" : openSync(options.stdoutFile, "a"), "pipe"],
  });
  const pid = child.pid ?? -1;
  if (pid > 0) running.add(pid);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-OUTPUT_CHARACTERS_MAX);
    });
  }
  const exit = new Promise<number | null>((resolve) => {
    child.once("error", (error) => {
      output += error.message;
      resolve(null);
    });
    child.once("close", (code) => resolve(code));
  }).finally(() => running.delete(pid));
  return {
    pid,
    exit,
    output: () => output,
    stop: async () => {
      const tree = treeOf(pid);
      child.kill("SIGTERM");
      const timer = setTimeout(() => {
        for (const one of tree.toReversed()) killQuietly(one, "SIGKILL");
      }, STOP_TIMEOUT_MS);
      await exit;
      clearTimeout(timer);
    },
  };
}

/**
 * Runs a program to its end.
 *
 * @throws Error with its output when it fails or is not done in time
 */
export async function runToEnd(command: string, args: readonly string[], timeoutMs: number): Promise<string> {
  const program = startProgram(command, args);
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    void program.stop();
  }, timeoutMs);
  const code = await program.exit;
  clearTimeout(timer);
  if (code !== 0 || isLate)
    throw new Error(
      `${command} ${args.join(" ")}: ${isLate ? `not done after ${timeoutMs} ms` : `exit code ${code ?? "none"}`}\n${program.output().slice(-4096)}`,
    );
  return program.output();
}

/**
 * Resolves when the port takes a connection.
 *
 * @throws Error with the program's output when it ends first or 20 seconds pass; it is stopped then
 */
export async function listening(program: RunningProgram, name: string, port: number): Promise<void> {
  let ended: number | null | undefined;
  void program.exit.then((code) => {
    ended = code;
  });
  try {
    await waitFor(
      async () => {
        if (ended !== undefined) return true;
        const socket = connect({ host: "127.0.0.1", port });
        try {
          await once(socket, "connect");
          return true;
        } finally {
          socket.destroy();
        }
      },
      { timeoutMs: READY_TIMEOUT_MS, what: `${name} on port ${port}` },
    );
  } catch (error) {
    await program.stop();
    throw new Error(`${name} is not ready:\n${program.output().slice(-4096)}`, { cause: error });
  }
  if (ended !== undefined)
    throw new Error(
      `${name} ended with code ${ended ?? "none"} before it was ready:\n${program.output().slice(-4096)}`,
    );
}
