/**
 * How `isochrone status` finds the world that `isochrone up` runs: a small file for each running world in a directory
 * that only this user can read. It holds the operator's token, so the directory is refused when someone else owns it.
 */
import { chmodSync, lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join, resolve } from "node:path";
import { array, integer, object, type Parsed, string } from "#kit";
import { makeDirectory } from "#kit/io";
import { messageOf, UsageError } from "./usage.ts";

const runningWorld = object({
  world: string(),
  worldFile: string({ max: 4_096 }),
  pid: integer({ min: 1 }),
  startedAtEpochMs: integer(),
  stateDirectory: string({ max: 4_096 }),
  adminSocket: string({ max: 4_096 }),
  controlUrl: string(),
  portalUrl: string(),
  /** Admin surfaces of the name servers, in the order of the world file. */
  nameServerAdminUrls: array(string(), { max: 100 }),
  /** "mapper" first. */
  mapperAdminUrls: array(string(), { min: 1, max: 8 }),
  token: string(),
});
export type RunningWorld = Parsed<typeof runningWorld>;

/** Made if missing, mode 0700; throws {@link UsageError} when it belongs to another user. */
export function runtimeDirectory(): string {
  // Set but empty means unset (XDG Base Directory Specification).
  const base = process.env["XDG_RUNTIME_DIR"] || tmpdir();
  const directory = join(base, `isochrone-${userInfo().uid}`);
  try {
    makeDirectory(directory);
  } catch (error) {
    throw new UsageError(`${messageOf(error)}; set XDG_RUNTIME_DIR to a directory of this user`);
  }
  const stat = lstatSync(directory);
  if (!stat.isDirectory() || (process.getuid !== undefined && stat.uid !== process.getuid())) {
    throw new UsageError(
      `Cannot use "${directory}": it is not a directory of this user; remove it or set XDG_RUNTIME_DIR`,
    );
  }
  chmodSync(directory, 0o700);
  return directory;
}

export function registerRunningWorld(entry: RunningWorld): () => void {
  const path = join(runtimeDirectory(), `${entry.pid}.json`);
  writeFileSync(path, JSON.stringify(entry), { mode: 0o600 });
  return () => rmSync(path, { force: true });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  try {
    // After a crash the number may have gone to another program.
    return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes("isochrone");
  } catch {
    // No /proc on this system: the number is all there is to go by.
    return true;
  }
}

/** Every world that runs now; entries of dead supervisors are removed. */
export function runningWorlds(): readonly RunningWorld[] {
  const directory = runtimeDirectory();
  const found: RunningWorld[] = [];
  for (const name of readdirSync(directory).sort()) {
    if (!/^\d+\.json$/.test(name)) continue;
    const path = join(directory, name);
    try {
      const entry = runningWorld.parse(JSON.parse(readFileSync(path, "utf8")));
      if (isAlive(entry.pid)) found.push(entry);
      else rmSync(path, { force: true });
    } catch {
      // Half-written or of another version: not ours to judge, and a status command must not fail for it.
    }
  }
  return found;
}

/**
 * The one running world, or the one whose state directory is given (`--state`, or ISOCHRONE_STATE). Undefined when none
 * runs; throws {@link UsageError} when several do and none was named.
 */
export function findRunningWorld(stateDirectory = process.env["ISOCHRONE_STATE"]): RunningWorld | undefined {
  const worlds = runningWorlds();
  if (stateDirectory !== undefined) {
    const wanted = resolve(stateDirectory);
    return worlds.find((one) => one.stateDirectory === wanted);
  }
  if (worlds.length > 1) {
    const list = worlds.map((one) => `${one.world} (--state ${one.stateDirectory})`).join(", ");
    throw new UsageError(`Several worlds run: ${list}; say which with --state DIR`);
  }
  return worlds[0];
}

export function requireRunningWorld(stateDirectory?: string): RunningWorld {
  const world = findRunningWorld(stateDirectory);
  if (world !== undefined) return world;
  const which = stateDirectory === undefined ? "" : ` with the state directory ${stateDirectory}`;
  throw new UsageError(`No running world${which}; start one with: isochrone up`, 1);
}
