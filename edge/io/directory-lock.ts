/**
 * One process for a directory: a file `lock` that names its holder. It stays behind when the holder is killed; the next one
 * sees that nobody of that name lives and takes it over, and learns that the end was no orderly one.
 */
import { readFileSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { IsochroneError } from "#kit";

interface Holder {
  readonly pid: number;
  /** When the process began, in the system's own terms: tells it from a later one of the same number; "": unknown. */
  readonly started: string;
  /** The system's run, "" where it has none: what the last run wrote may have been lost with it. */
  readonly boot: string;
  /** What the holder found unsettled and had not settled yet. */
  readonly isUnsettled: boolean;
}

/** How the last holder ended: `closed` - orderly, or there was none; `killed` - what it wrote is there; `power-cut` - it may not be. */
export type LastEnd = "closed" | "killed" | "power-cut";

/** Locks of this process: a holder with our number that is not among them was another process (containers count from 1). */
const held = new Set<string>();

export class DirectoryLock {
  readonly #path: string;
  readonly lastEnd: LastEnd;
  #isUnsettled: boolean;

  /** Takes the lock. Throws IsochroneError "directory-in-use" when another holds it, else what the system says. */
  constructor(directory: string) {
    this.#path = resolve(join(directory, "lock"));
    const last = this.#takeOver(directory);
    this.lastEnd =
      last === undefined
        ? "closed"
        : last.isUnsettled || last.boot === "" || last.boot !== bootId()
          ? "power-cut"
          : "killed";
    this.#isUnsettled = this.lastEnd === "power-cut";
    this.#write("wx");
    held.add(this.#path);
  }

  /** What a power cut left open has been dealt with and that is on disk. */
  settle(): void {
    this.#isUnsettled = false;
    this.#write("w");
  }

  /** Writes it again where somebody removed it; nothing when it is there. */
  restore(): void {
    try {
      this.#write("wx");
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
    }
  }

  /** Lets go. `isOrderly` false: the next holder shall see that this one left things open. */
  release(isOrderly: boolean): void {
    if (!held.delete(this.#path) || !isOrderly) return;
    try {
      unlinkSync(this.#path);
    } catch {
      // It counts as left behind by a killed holder, which costs nothing but a look.
    }
  }

  #write(flag: "wx" | "w"): void {
    const { pid } = process;
    const holder: Holder = { pid, started: startOf(pid), boot: bootId(), isUnsettled: this.#isUnsettled };
    writeFileSync(this.#path, `${JSON.stringify(holder)}\n`, { flag, mode: 0o600 });
  }

  /** Moves a dead holder's file away. Returns it; undefined: there was none. */
  #takeOver(directory: string): Holder | undefined {
    const text = readIfThere(this.#path);
    if (text === undefined) return undefined;
    const holder = holderOf(text);
    if (isAlive(holder, this.#path)) throw inUse(directory, holder.pid);
    const aside = `${this.#path}.${process.pid}.tmp`;
    renameSync(this.#path, aside);
    const moved = readIfThere(aside);
    unlinkSync(aside);
    // Between the look and the move another process was faster and holds it: leave it to that one.
    if (moved !== text) throw inUse(directory, holderOf(moved ?? "").pid);
    return holder;
  }
}

function inUse(directory: string, pid: number): IsochroneError {
  return new IsochroneError(
    `process ${pid} uses ${JSON.stringify(directory)}; stop it or name another directory`,
    { code: "directory-in-use", source: "configuration", retry: "never" },
  );
}

/** What cannot be read names nobody: its writer was killed between making and filling it. */
function holderOf(text: string): Holder {
  try {
    const { pid, started, boot, isUnsettled } = JSON.parse(text) as Partial<Holder>;
    if (typeof pid === "number" && typeof started === "string" && typeof boot === "string")
      return { pid, started, boot, isUnsettled: isUnsettled === true };
  } catch {
    // Said below.
  }
  return { pid: 0, started: "", boot: "", isUnsettled: false };
}

function isAlive(holder: Holder, path: string): boolean {
  if (holder.pid === 0) return false;
  if (holder.pid === process.pid) return held.has(path);
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    // EPERM: it is there and belongs to somebody else.
    if (codeOf(error) !== "EPERM") return false;
  }
  return holder.started === "" || holder.started === startOf(holder.pid);
}

/** Field 22 of /proc/PID/stat (proc(5)): ticks since the system's start. The name before it may hold anything but ends at ")". */
function startOf(pid: number): string {
  const stat = readIfThere(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

function bootId(): string {
  return readIfThere("/proc/sys/kernel/random/boot_id")?.trim() ?? "";
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
