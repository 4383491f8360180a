/** Reads what {@link checkKernel} judges, and runs the steps that it names. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import {
  type KernelFacts,
  type KernelRoute,
  type KernelRule,
  OVERLAY_TABLE,
  overlaySysctls,
} from "../core/kernel-settings.ts";

const execute = promisify(execFile);
const STEP_TIMEOUT_MS = 10_000;

function readSysctl(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name.replaceAll(".", "/")}`, "latin1").trim();
  } catch {
    return undefined; // no such setting, or not ours to see
  }
}

/** undefined where `ip` is missing or refuses; a table that does not exist yet is an empty one. */
async function ask<T>(argv: readonly string[]): Promise<readonly T[] | undefined> {
  try {
    const { stdout } = await execute("ip", argv, { timeout: STEP_TIMEOUT_MS });
    return JSON.parse(stdout.trim() === "" ? "[]" : stdout) as readonly T[];
  } catch (error) {
    return /FIB table does not exist/.test(String(error)) ? [] : undefined;
  }
}

async function family(of: 4 | 6): Promise<KernelFacts["families"][number]> {
  const [main, overlay, rules] = await Promise.all([
    ask<KernelRoute>([`-${of}`, "-j", "-d", "route", "show", "table", "main"]),
    ask<KernelRoute>([`-${of}`, "-j", "-d", "route", "show", "table", String(OVERLAY_TABLE)]),
    ask<KernelRule>([`-${of}`, "-j", "rule", "show"]),
  ]);
  return { family: of, main, overlay, rules };
}

function openFilesMax(): number | undefined {
  try {
    const found = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
    return found === undefined ? undefined : found === "unlimited" ? Number.MAX_SAFE_INTEGER : Number(found);
  } catch {
    return undefined;
  }
}

/** Never rejects: what cannot be read is undefined. IPv6 is left out on a machine without an IPv6 route. */
export async function readKernel(): Promise<KernelFacts> {
  const [four, six] = await Promise.all([family(4), family(6)]);
  return {
    sysctls: new Map(overlaySysctls.map(({ name }) => [name, readSysctl(name)])),
    availableControls: readSysctl("net.ipv4.tcp_available_congestion_control"),
    families: (six.main ?? []).length > 0 || (six.overlay ?? []).length > 0 ? [four, six] : [four],
    openFilesMax: openFilesMax(),
  };
}

/** Runs one step. Rejects with what the program said. */
export async function runKernelStep(step: readonly string[]): Promise<void> {
  const [program = "", ...argv] = step;
  try {
    await execute(program, argv, { timeout: STEP_TIMEOUT_MS });
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    throw new Error(`${step.join(" ")}: ${stderr?.trim() || String(error)}`, { cause: error });
  }
}
