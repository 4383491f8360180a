/** Resident memory of a running process, from /proc: Linux only. */
import { readFileSync } from "node:fs";

/** Resident bytes of one process; 0 when it has ended. */
export function residentBytesOf(pid: number): number {
  try {
    return (
      Number(/^VmRSS:\s+([0-9]+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) * 1_024
    );
  } catch {
    return 0;
  }
}
