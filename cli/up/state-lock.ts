/** One world at a time in a state directory: two would write each other's secrets, logs and link delays. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { messageOf, UsageError } from "../usage.ts";

/**
 * Takes the directory for this process until the returned function is called or the process ends, however it ends: the lock
 * is SQLite's on an empty file, which the kernel drops with the process, so that a crash leaves nothing to clean up.
 * Throws {@link UsageError} when another process has it or the directory cannot be written.
 */
export function lockStateDirectory(directory: string): () => void {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(join(directory, "up.lock"), { timeout: 0 });
    database.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    database?.close();
    const isHeld = (error as { errcode?: unknown }).errcode === SQLITE_BUSY;
    throw new UsageError(
      isHeld
        ? `A world runs in the state directory ${JSON.stringify(directory)} already; stop it or give another --state`
        : `Cannot use the state directory ${JSON.stringify(directory)}: ${messageOf(error)}; check that this user may write there, or give another --state`,
    );
  }
  const held = database;
  return () => held.close();
}

/** https://sqlite.org/rescode.html#busy */
const SQLITE_BUSY = 5;
