/** Runs a program of the system and keeps what it prints, within bounds. */
import { type ExecFileException, execFile } from "node:child_process";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** What 255 hops or 100 packets print is a tenth of this. */
const OUTPUT_BYTES_MAX = 262_144;

export interface ProgramOutput {
  readonly stdout: string;
  /** The first line of what it said on standard error; empty when it said nothing. */
  readonly complaint: string;
}

/**
 * Resolves with the output whatever the exit code is: ping's is 1 when nothing answered. After `timeoutMs` it is killed, and what it
 * printed until then counts. Rejects when the program cannot be started (ENOENT: it is not installed) and when it was aborted.
 */
export async function runProgram(
  name: string,
  args: readonly string[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ProgramOutput> {
  const options = {
    timeout: timeoutMs,
    killSignal: "SIGKILL",
    maxBuffer: OUTPUT_BYTES_MAX,
    signal,
    // Untranslated texts, points in numbers.
    env: { ...process.env, LC_ALL: "C" },
  } as const;
  let output: { readonly stdout: string; readonly stderr: string };
  try {
    output = await execute(name, args, options);
  } catch (error) {
    const { code, stdout = "", stderr = "" } = error as ExecFileException;
    if (signal.aborted || (typeof code === "string" && stdout === "")) throw error;
    output = { stdout, stderr };
  }
  return { stdout: output.stdout, complaint: output.stderr.trim().split("\n", 1)[0] ?? "" };
}
