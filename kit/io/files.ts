import { closeSync, fstatSync, mkdirSync, openSync, readSync, statSync } from "node:fs";
import { open, rename, unlink } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { IsochroneError } from "../errors.ts";

let lastTemporary = 0;

/**
 * Makes the directory at `path`, and those missing above it, for this user only (mode 0700, less the umask). One that is there
 * stays as it is. Throws IsochroneError. Not mkdir's own `recursive`: where a parent answers ENOENT to a new entry (/proc, some
 * network file systems) Node 24 tries again for ever.
 */
export function makeDirectory(path: string): void {
  const missing: string[] = [];
  for (let at = resolve(path); !makeOne(at, path); at = dirname(at)) missing.push(at);
  for (const at of missing.reverse()) {
    if (!makeOne(at, path)) throw fileError("make", path, new NoSuchPlace());
  }
}

/** The parent is there and still takes no directory. */
class NoSuchPlace extends Error {
  readonly code = "ENOENT";
}

/** False: the directory above it is missing. */
function makeOne(at: string, wanted: string): boolean {
  try {
    mkdirSync(at, { mode: 0o700 });
    return true;
  } catch (cause) {
    if (codeOf(cause) === "ENOENT" && dirname(at) !== at) return false;
    try {
      if (codeOf(cause) === "EEXIST" && statSync(at).isDirectory()) return true;
    } catch {
      // A link to nothing: told as what is in the way.
    }
    throw fileError("make", wanted, cause);
  }
}

/**
 * Replaces the file at `path` so that after a crash at any moment it holds either all of the old or all of the new
 * data, and resolves only when the new data would survive a power cut: a temporary file in the same directory is
 * written and synchronised, renamed over `path`, and the directory is synchronised (rename(2), fsync(2)). For this user only.
 * Rejects with IsochroneError; the temporary file is then removed and the old file is untouched, unless it was the
 * last step, the directory's, that failed.
 */
export async function writeFileDurable(
  path: string,
  data: string | Uint8Array | readonly Uint8Array[],
): Promise<void> {
  const temporary = `${path}.${process.pid}.${++lastTemporary}.tmp`;
  try {
    // Some hold keys, and none is anybody else's.
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await unlink(temporary).catch(() => {}); // It may never have been made.
    throw fileError("write", path, cause);
  }
  try {
    const directory = await open(dirname(path), "r");
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  } catch (cause) {
    // Windows cannot open a directory; there rename itself is journalled.
    if (process.platform !== "win32") throw fileError("write", path, cause);
  }
}

/**
 * The content of the file at `path`, or undefined if there is none. Synchronous: for documents read at the start.
 * Throws IsochroneError if the file is larger than `bytesMax` (code "file-too-large", nothing is read) or cannot be
 * read.
 */
export function readFileIfThere(path: string, bytesMax: number): Buffer | undefined {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return undefined;
    throw fileError("read", path, cause);
  }
  try {
    const tooLarge = (bytes: number): IsochroneError =>
      new IsochroneError(
        `Cannot read ${JSON.stringify(path)}: it has ${bytes} bytes or more, at most ${bytesMax} are allowed`,
        { code: "file-too-large", source: "configuration", retry: "never" },
      );
    const { size } = fstatSync(descriptor);
    if (size > bytesMax) throw tooLarge(size);
    // One byte more than expected, so that a file that has grown meanwhile is seen.
    const buffer = Buffer.alloc(Math.min(bytesMax, size) + 1);
    let length = 0;
    for (;;) {
      const count = readSync(descriptor, buffer, length, buffer.length - length, null);
      length += count;
      if (count === 0) return buffer.subarray(0, length);
      if (length === buffer.length) throw tooLarge(length);
    }
  } catch (cause) {
    throw cause instanceof IsochroneError ? cause : fileError("read", path, cause);
  } finally {
    closeSync(descriptor);
  }
}

function codeOf(error: unknown): string {
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : "unknown";
}

const ADVICE: Readonly<Record<string, string>> = {
  ENOENT: "the directory does not exist; create it",
  EACCES: "permission denied; check the owner and mode of the file and its directory",
  EPERM: "not permitted; check the owner and mode of the file and its directory",
  EISDIR: "it is a directory; name a file",
  ENOTDIR: "a part of the path is not a directory",
  ENOSPC: "no space left on the device; free some",
  EROFS: "the file system is read-only; choose another directory",
  EMFILE: "too many open files; raise the limit (ulimit -n)",
};

/** What the same codes mean for a directory that is to be made. */
const DIRECTORY_ADVICE: Readonly<Record<string, string>> = {
  ENOENT: "no directory can be made there; choose another place",
  EEXIST: "a part of the path is a file; choose another place",
  ENOTDIR: "a part of the path is a file; choose another place",
  EACCES: "permission denied; choose a place that this user may write",
};

function fileError(verb: "read" | "write" | "make", path: string, cause: unknown): IsochroneError {
  const code = codeOf(cause);
  const advice = (verb === "make" ? DIRECTORY_ADVICE[code] : undefined) ?? ADVICE[code];
  const why = advice ?? (cause instanceof Error ? cause.message : String(cause));
  return new IsochroneError(
    `Cannot ${verb === "make" ? "make the directory" : verb} ${JSON.stringify(path)}: ${why} (${code})`,
    {
      code,
      source: "configuration",
      retry: "never",
      cause,
    },
  );
}
