/** The forwarder as a child process: built once with the system's compiler, spoken to by lines (see forwarder.c). */
import { execFileSync, spawn, type ChildProcessByStdio } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { createInterface } from "node:readline";
import { delimiter, join } from "node:path";
import type { Readable, Writable } from "node:stream";

const SOURCE = join(import.meta.dirname, "forwarder.c");
const BUILD_DIRECTORY = join(import.meta.dirname, "..", "..", ".isochrone", "wan");
const COMPILER_FLAGS = ["-O2", "-Wall", "-Wextra"];

function isThere(program: string): boolean {
  return (process.env["PATH"] ?? "")
    .split(delimiter)
    .some((directory) => existsSync(join(directory, program)));
}

/** Why no wide-area network can be emulated here, or undefined where it can. */
export function whyNoNetwork(): string | undefined {
  if (process.platform !== "linux") return "it needs Linux";
  if (process.getuid?.() !== 0) return "network namespaces need root";
  if (!existsSync("/dev/net/tun")) return "there is no /dev/net/tun";
  const missing = ["cc", "ip", "nsenter", "ping"].filter((program) => !isThere(program));
  return missing.length === 0 ? undefined : `not on PATH: ${missing.join(", ")}`;
}

/** Path of the built forwarder; a change of its source makes another. Throws when the compiler refuses it. */
function build(): string {
  const hash = createHash("sha256").update(readFileSync(SOURCE)).digest("hex").slice(0, 16);
  const path = join(BUILD_DIRECTORY, `forwarder-${hash}`);
  if (existsSync(path)) return path;
  mkdirSync(BUILD_DIRECTORY, { recursive: true });
  const made = `${path}.${process.pid}`;
  execFileSync("cc", [...COMPILER_FLAGS, "-o", made, SOURCE, "-lm", "-lpthread"], { stdio: "pipe" });
  renameSync(made, path);
  return path;
}

export interface ForwarderOptions {
  /** Of the draws of loss and jitter. */
  readonly seed: number;
  /** Idle threads that keep virtual processors from sleeping: packets are late by tens of us, not ms. Burns idle CPU. */
  readonly keepsAwake: boolean;
}

/** One forwarder. Commands are answered in their order; it ends, and its namespaces with it, when its stdin does. */
export class Forwarder {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting: { command: string; take: (line: string) => void; fail: (error: Error) => void }[] = [];
  readonly #ended: Promise<void>;

  constructor(options: ForwarderOptions) {
    const flags = ["-r", "-s", String(options.seed), ...(options.keepsAwake ? ["-i"] : [])];
    this.#child = spawn(build(), flags, { stdio: ["pipe", "pipe", "inherit"] });
    this.#child.stdin.on("error", () => undefined); // its end is told by "exit"
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#waiting.shift()?.take(line));
    this.#ended = new Promise((resolve) => {
      const end = (): void => {
        for (const { command, fail } of this.#waiting.splice(0))
          fail(new Error(`The forwarder ended before it answered ${JSON.stringify(command)}`));
        resolve();
      };
      this.#child.once("exit", end);
      this.#child.once("error", end);
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Resolves with the line that answers the command. Rejects with the forwarder's reason. */
  async ask(command: string): Promise<string> {
    if (this.#child.exitCode !== null || this.#child.stdin.writableEnded)
      throw new Error(`The forwarder has ended and cannot take ${JSON.stringify(command)}`);
    const line = await new Promise<string>((take, fail) => {
      this.#waiting.push({ command, take, fail });
      this.#child.stdin.write(`${command}\n`);
    });
    if (line.startsWith("error "))
      throw new Error(`The forwarder refused ${JSON.stringify(command)}: ${line.slice("error ".length)}`);
    return line;
  }

  /** Resolves when the namespaces are gone. */
  async end(): Promise<void> {
    this.#child.stdin.end();
    await this.#ended;
  }
}
