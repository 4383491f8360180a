/** The directory of the sockets by which the processes of one user find each other. */
import { lstatSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { IsochroneError } from "#kit";
import { makeDirectory } from "#kit/io";

/** Where it is when no flag says otherwise: one for each user, since a common one would be anybody's to fill first. */
export function defaultRunDirectory(): string {
  return join(tmpdir(), `isochrone-${userInfo().uid}`);
}

/**
 * Makes the directory, or takes it as it is when it is this user's and nobody else may enter it. Throws IsochroneError else:
 * whoever could put a socket of his own there would be taken for a part of this server.
 */
export function openRunDirectory(path: string): void {
  try {
    makeDirectory(path);
    const stat = lstatSync(path);
    const uid = process.getuid?.();
    if (!stat.isDirectory()) throw new Error("it is no directory");
    if (uid !== undefined && stat.uid !== uid) throw new Error("it belongs to another user");
    if ((stat.mode & 0o077) !== 0) throw new Error("others may enter it; chmod 700 makes it private");
  } catch (cause) {
    throw new IsochroneError(
      `Cannot use the run directory ${JSON.stringify(path)}: ${cause instanceof Error ? cause.message : String(cause)}; name another by --run`,
      { code: "run-directory", source: "configuration", retry: "never", cause },
    );
  }
}

/** A new directory inside it for the sockets of one server's workers; what dead servers left is removed. */
export function workersDirectory(path: string): string {
  openRunDirectory(path);
  for (const name of readdirSync(path)) {
    const pid = /^workers-([0-9]+)-/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid)))
      rmSync(join(path, name), { recursive: true, force: true });
  }
  return mkdtempSync(join(path, `workers-${process.pid}-`));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
