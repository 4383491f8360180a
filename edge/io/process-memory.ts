/**
 * How a process with a memory store keeps its memory near what lives: flags of V8 and variables of glibc's malloc, which both
 * read at the start of a process only. Measured by test/bench/unique-keys.ts.
 */
import { flushCompileCache } from "node:module";

/**
 * The old generation is collected when it has grown by two fifths (by default up to fourfold), and the young one is small: dead
 * content waits outside of the heap until it is collected. Pages are emptied when a fifth of them is free, not two thirds: else a
 * store that turns over holds a third of its memory in holes. Each miss pays for that in CPU time (edge/README.md).
 */
export const HEAP_FLAGS: readonly string[] = [
  "--heap-growing-percent=40",
  "--max-semi-space-size=4",
  "--optimize-for-size",
];

/**
 * Bodies are freed by V8's own threads, and glibc gives each thread an arena of its own in which what is freed stays: one
 * arena is shared. Stated thresholds stay as they are; by default malloc raises both up to 32 and 64 MiB as it goes, so that
 * freed content of large objects is not given back.
 */
const MALLOC_ENVIRONMENT: Readonly<Record<string, string>> = {
  MALLOC_ARENA_MAX: "1",
  MALLOC_TRIM_THRESHOLD_: "131072",
  MALLOC_MMAP_THRESHOLD_: "131072",
};

const nameOf = (flag: string): string => flag.replace(/=.*/s, "").replaceAll("_", "-");

/** Flags for a process that is started with `execArgv`: what the operator says there stays. */
export function withHeapFlags(execArgv: readonly string[]): string[] {
  const stated = new Set(execArgv.map(nameOf));
  return [...HEAP_FLAGS.filter((flag) => !stated.has(nameOf(flag))), ...execArgv];
}

/** The environment with malloc's variables; those that the operator has set stay. */
export function withMallocEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { ...MALLOC_ENVIRONMENT, ...environment };
}

/**
 * Puts this very process in order: when it was started without these flags and variables, it becomes one that was started
 * with them (execve: the same pid, standard streams and command line), before anything is open. It goes on as it is where
 * that cannot be done, and when it has a channel to its parent, which would not outlive the exec: what forks an edge gives
 * the flags itself. Does not return when it restarts.
 */
export function restartForMemory(): void {
  const { execArgv, env, execPath, argv, argv0 } = process;
  if (process.channel !== undefined || typeof process.execve !== "function") return;
  const flags = withHeapFlags(execArgv);
  const environment = withMallocEnvironment(env);
  // Nothing to add: what it would become is what it is, so it cannot go round.
  if (flags.length === execArgv.length && Object.keys(environment).length === Object.keys(env).length) return;
  // With other flags it has another compile cache: without this each start would strip the same few files' types again.
  flushCompileCache();
  try {
    process.execve(execPath, [argv0, ...flags, ...argv.slice(1)], environment);
  } catch {
    // Not on this system, or not allowed: it serves all the same, and takes more.
  }
}
