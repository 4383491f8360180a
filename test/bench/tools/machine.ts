/** What a figure was measured on: without this no figure can be judged. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, release, totalmem, type } from "node:os";
import { join } from "node:path";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly virtualization: string;
  /** What paces the sockets of all servers alike; with bbr large answers on loopback leave in paced pieces. */
  readonly congestionControl: string;
  readonly node: string;
}

function firstLineOf(command: string, args: readonly string[]): string | undefined {
  try {
    const text = execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    return text.split("\n", 1)[0]?.trim();
  } catch (error) {
    // systemd-detect-virt says "none" with exit code 1.
    const { stdout } = error as { stdout?: string };
    return stdout === undefined || stdout === "" ? undefined : stdout.trim();
  }
}

function congestionControl(): string {
  try {
    return readFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "latin1").trim();
  } catch {
    return "unknown"; // not Linux
  }
}

export function describeMachine(): Machine {
  const all = cpus();
  return {
    cpu: all[0]?.model ?? "unknown",
    cores: all.length,
    memoryBytes: totalmem(),
    kernel: `${type()} ${release()}`,
    virtualization: firstLineOf("systemd-detect-virt", []) ?? "unknown",
    congestionControl: congestionControl(),
    node: process.versions.node,
  };
}

/** The commit that was measured, with a `+` when the working tree differs from it. */
export function describeCommit(): string {
  const git = (...args: string[]): string | undefined =>
    firstLineOf("git", ["-C", join(import.meta.dirname, "..", "..", ".."), ...args]);
  const head = git("rev-parse", "--short", "HEAD");
  if (head === undefined) return "unknown";
  return (git("status", "--porcelain", "--untracked-files=no") ?? "") === "" ? head : `${head}+`;
}
