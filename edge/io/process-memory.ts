/**
 * How a process with a memory store keeps its memory near what lives: flags of V8 and variables of glibc's malloc, which both
 * read at the start of a process only. Measured by test/bench/unique-keys.ts.
 */
import { flushCompileCache } from "node:module";
import { setFlagsFromString } from "node:v8";
import { HEAP_GROWING_PERCENT } from "../core/heap-growth.ts";

const heapGrowingFlag = (percent: number): string => `--heap-growing-percent=${percent}`;

/**
 * The old generation is collected when it has grown by three tenths (by default up to fourfold), a small one by more (core/heap-growth.ts):
 * dead content waits outside of the heap until it is collected. Each of those collections would shrink the young generation to 1 MiB, which a
 * dozen misses fill; what they have under way is then copied over and over, and what dies soon grows old. So the young one has 8 MiB from the start.
 */
export const HEAP_FLAGS: readonly string[] = [
  heapGrowingFlag(HEAP_GROWING_PERCENT),
  "--min-semi-space-size=8",
  "--max-semi-space-size=8",
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

/** Flags for a process that is started with `execArgv`: what the operator says there stays; of the young generation's size all of it. */
export function withHeapFlags(execArgv: readonly string[]): string[] {
  const subjectOf = (flag: string): string => nameOf(flag).replace(/^--(?:min|max)-/, "");
  const stated = new Set(execArgv.map(subjectOf));
  return [...HEAP_FLAGS.filter((flag) => !stated.has(subjectOf(flag))), ...execArgv];
}

/** Whether this process was started with these flags, or with the operator's in their place. */
export function hasHeapFlags(): boolean {
  return withHeapFlags(process.execArgv).length === process.execArgv.length;
}

let growingPercent = HEAP_GROWING_PERCENT;

/** From the next collection on, in place of what {@link HEAP_FLAGS} say; what the operator says stays. */
export function setHeapGrowingPercent(percent: number): void {
  if (percent === growingPercent || !process.execArgv.includes(heapGrowingFlag(HEAP_GROWING_PERCENT))) return;
  // Code that is cached after a change of flags is not taken by a process that starts without it.
  if (growingPercent === HEAP_GROWING_PERCENT) flushCompileCache();
  growingPercent = percent;
  setFlagsFromString(heapGrowingFlag(percent));
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
