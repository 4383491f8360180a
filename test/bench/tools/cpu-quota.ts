/**
 * A part of a core for each process, by the cpu controller of cgroup v1 (the kernel's "CFS bandwidth control"): a process that has used its
 * part up waits for the next period. So a server can be full on a machine whose cores its clients share.
 */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Short, so that what waits for a period's end are the requests under way, and not seconds of them. */
const PERIOD_US = 10_000;
/** The most there is: what else runs on the machine shall not keep a process from its part, beyond which it gets nothing. */
const WEIGHT = 262_144;

/** The controller's directory that this process is in; undefined where there is none that we may write to. */
function ownDirectory(): string | undefined {
  try {
    const line = /^\d+:(?:\w+,)*cpu(?:,\w+)*:(.*)$/m.exec(readFileSync("/proc/self/cgroup", "latin1"));
    if (line === null) return undefined;
    const directory = join("/sys/fs/cgroup/cpu", line[1] ?? "/");
    const trial = join(directory, `isochrone-bench-${process.pid}`);
    mkdirSync(trial);
    rmdirSync(trial);
    return directory;
  } catch {
    return undefined;
  }
}

const directory = ownDirectory();

/** Whether {@link limitEach} can do anything here. */
export const hasCpuQuota = directory !== undefined;

/**
 * Gives each process `coreShare` of a core (0.15: 15 %). Those that end meanwhile are left out.
 *
 * @returns what takes the limits away again
 */
export function limitEach(pids: readonly number[], coreShare: number): () => void {
  if (directory === undefined) throw new Error("no writable cpu controller of cgroup v1");
  const groups = pids.map((pid) => ({ pid, group: join(directory, `isochrone-bench-${pid}`) }));
  const undo = (): void => {
    for (const { pid, group } of groups) {
      try {
        move(pid, directory);
        rmdirSync(group);
      } catch {
        // Not made, or its process is just ending: an empty directory at most stays.
      }
    }
  };
  try {
    for (const { pid, group } of groups) {
      mkdirSync(group);
      writeFileSync(join(group, "cpu.cfs_period_us"), String(PERIOD_US));
      writeFileSync(join(group, "cpu.cfs_quota_us"), String(Math.round(PERIOD_US * coreShare)));
      writeFileSync(join(group, "cpu.shares"), String(WEIGHT));
      move(pid, group);
    }
  } catch (error) {
    undo();
    throw error;
  }
  return undo;
}

/** All threads of a process. */
function move(pid: number, group: string): void {
  try {
    writeFileSync(join(group, "cgroup.procs"), String(pid));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
