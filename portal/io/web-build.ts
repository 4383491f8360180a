/**
 * The page's files: built from `portal/web` when no build of these very sources exists. A build is a directory of its own,
 * named after a digest of its sources, moved into place when it is whole: two starts never see half of one, and a portal that
 * runs keeps the files of the build that it started with.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { IsochroneError } from "#kit";
import type { Logger } from "#kit/io";

const ROOM = join(import.meta.dirname, "..");
/** Everything that the page is made of. */
const SOURCES = ["web", "core", "vite.config.ts", "main-build.ts", "../package-lock.json"];
/** A build that nobody has used for so long goes. */
const OLD_BUILD_MS = 86_400_000;
const LOCK_POLL_MS = 200;
/** What a failed build said, as far as it helps. */
const OUTPUT_CHARACTERS_MAX = 8_192;

export interface WebBuildOptions {
  readonly logger: Logger;
  readonly timeoutMs: number;
  /** Default: `portal/dist`. */
  readonly distDirectory?: string;
  /** Runs the build into a directory; rejects with what went wrong. Default: Vite in a child process. */
  readonly build?: (directory: string, timeoutMs: number) => Promise<void>;
}

/**
 * The directory with `index.html` and `assets/`, built now if need be. Rejects with IsochroneError "web-build-failed"; the
 * API does not depend on it.
 */
export async function webBuild(options: WebBuildOptions): Promise<string> {
  const { logger, timeoutMs, distDirectory = join(ROOM, "dist"), build = runVite } = options;
  try {
    const digest = digestOfSources();
    const target = join(distDirectory, digest);
    if (isBuild(target)) return target;
    mkdirSync(distDirectory, { recursive: true });
    const unlock = await lock(join(distDirectory, "build.lock"), () => isBuild(target), timeoutMs);
    if (unlock === undefined) return target;
    try {
      if (isBuild(target)) return target;
      const startedAtMs = performance.now();
      const temporary = `${target}.${process.pid}.part`;
      rmSync(temporary, { recursive: true, force: true });
      await build(temporary, timeoutMs);
      compress(temporary);
      rmSync(target, { recursive: true, force: true });
      renameSync(temporary, target);
      removeOldBuilds(distDirectory, digest);
      logger.info("web-built", { elapsedMs: Math.round(performance.now() - startedAtMs), directory: target });
      return target;
    } finally {
      unlock();
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new IsochroneError(`Cannot build the portal's page from ${join(ROOM, "web")}: ${why}`, {
      code: "web-build-failed",
      source: "configuration",
      retry: "never",
      cause,
    });
  }
}

function isBuild(directory: string): boolean {
  return existsSync(join(directory, "index.html"));
}

function digestOfSources(): string {
  const hash = createHash("sha256");
  const add = (path: string): void => {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return;
    if (stat.isDirectory()) {
      for (const name of readdirSync(path).sort()) add(join(path, name));
      return;
    }
    hash.update(relative(ROOM, path)).update("\0").update(readFileSync(path)).update("\0");
  };
  for (const source of SOURCES) add(join(ROOM, source));
  return hash.digest("hex").slice(0, 16);
}

/**
 * Takes the lock, which holds the owner's process id, or waits until `isDone`. A lock whose owner is gone is taken over.
 * @returns how to give it back; undefined when the other one has done the work
 */
async function lock(
  path: string,
  isDone: () => boolean,
  timeoutMs: number,
): Promise<(() => void) | undefined> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: "wx" });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    if (isDone()) return undefined;
    const owner = Number(readFileIfThere(path));
    // An empty file is one that its owner is about to write.
    if (owner > 0 && !isAlive(owner)) rmSync(path, { force: true });
    else if (performance.now() > deadlineMs) {
      throw new Error(
        `process ${owner} holds ${path} since more than ${timeoutMs} ms; end it, or remove the file`,
      );
    } else await pause(LOCK_POLL_MS);
  }
}

function readFileIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function isAlive(pid: number): boolean {
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Vite in a child: its memory goes with it, and it sees none of our secrets. */
async function runVite(directory: string, timeoutMs: number): Promise<void> {
  const { PATH, HOME, TMPDIR } = process.env;
  const child = spawn(process.execPath, [join(ROOM, "main-build.ts"), directory], {
    cwd: join(ROOM, ".."),
    env: {
      NODE_ENV: "production",
      NO_COLOR: "1",
      ...(PATH && { PATH }),
      ...(HOME && { HOME }),
      ...(TMPDIR && { TMPDIR }),
    },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-OUTPUT_CHARACTERS_MAX);
    });
  }
  const killChild = (): void => {
    child.kill("SIGKILL");
  };
  process.once("exit", killChild);
  const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>(
    (resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => resolve({ code, signal }));
    },
  );
  process.off("exit", killChild);
  if (signal !== null) throw new Error(`the build was ended by ${signal} (limit ${timeoutMs} ms)`);
  if (code !== 0) throw new Error(`the build ended with code ${code}:\n${output.trim()}`);
}

/** Text is sent compressed: once, here, and not on each request. */
function compress(directory: string): void {
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !/\.(?:js|css|html|svg|json)$/.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
  }
}

function removeOldBuilds(distDirectory: string, present: string): void {
  for (const name of readdirSync(distDirectory)) {
    if (name === present || name === "build.lock") continue;
    const path = join(distDirectory, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat !== undefined && Date.now() - stat.mtimeMs > OLD_BUILD_MS)
      rmSync(path, { recursive: true, force: true });
  }
}
