/** What a server costs: CPU time and memory of its whole process tree, from Linux' /proc (proc(5)). */
import { readdirSync, readFileSync } from "node:fs";

/** Kernel ticks a second in /proc/PID/stat: USER_HZ is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
const BYTES_PER_KIBIBYTE = 1024;

/** User + system CPU time, and memory, of a process with its descendants. */
export interface TreeUsage {
  /** Seconds of user + system time, ended and reaped children included. */
  readonly cpuSeconds: number;
  readonly userSeconds: number;
  /** Resident set, summed: pages that processes share count once for each. */
  readonly rssBytes: number;
  /** Proportional set size, summed: a shared page is divided among those who share it. 0 where the kernel does not tell. */
  readonly pssBytes: number;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined; // ended meanwhile
  }
}

/** The process and its descendants, parents first; those that ended meanwhile are left out. */
export function treeOf(pid: number): number[] {
  const found = [pid];
  for (const parent of found) {
    let threads: string[];
    try {
      threads = readdirSync(`/proc/${parent}/task`);
    } catch {
      continue;
    }
    for (const thread of threads) {
      const children = readText(`/proc/${parent}/task/${thread}/children`)?.trim() ?? "";
      for (const child of children.split(" ")) if (child !== "") found.push(Number(child));
    }
  }
  return found;
}

/** Sums over several trees: a server may be more than one command (varnishd and varnishncsa). */
export function usageOf(pids: readonly number[]): TreeUsage {
  let user = 0;
  let system = 0;
  let rssKibibytes = 0;
  let pssKibibytes = 0;
  for (const pid of pids.flatMap(treeOf)) {
    const stat = readText(`/proc/${pid}/stat`);
    if (stat === undefined) continue;
    // Field 2 is the command in parentheses and may hold spaces: count from behind the last one. utime is field 14.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = (field: number): number => Number(fields[field - 3] ?? 0);
    user += ticks(14) + ticks(16);
    system += ticks(15) + ticks(17);
    const status = readText(`/proc/${pid}/status`) ?? "";
    rssKibibytes += Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    const rollup = readText(`/proc/${pid}/smaps_rollup`) ?? "";
    pssKibibytes += Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0);
  }
  return {
    cpuSeconds: (user + system) / TICKS_PER_SECOND,
    userSeconds: user / TICKS_PER_SECOND,
    rssBytes: rssKibibytes * BYTES_PER_KIBIBYTE,
    pssBytes: pssKibibytes * BYTES_PER_KIBIBYTE,
  };
}
