/** `npm run lab -- disk-full`: a disk store on a file system that is smaller than it, and that somebody else fills up. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { examine, keyOf, objectOf, openStore } from "../tools/disk/content.ts";

export const summary =
  "disk store on a full disk: passed by, counted, bodies whole, used again when there is room";

const HELP = `Usage: npm run lab -- disk-full

Mounts a file system of 24 MiB in memory, in a mount namespace of its own (Linux, root or user namespaces), puts a store of 1 GiB on
it and writes 96 MiB; then another file takes all that is left, and goes again. Exit code 1: a body was wrong, an error came
through, or the store was not used again.
`;

const MEBIBYTE = 2 ** 20;
const BODY_BYTES = 16 * 1_024;
const INSIDE = "--inside";
/** Of util-linux; gives a mount namespace of its own. */
const PROGRAM = "unshare";

export async function main(argv: readonly string[]): Promise<number> {
  if (argv[0] === "--help") {
    process.stdout.write(HELP);
    return 0;
  }
  if (argv[0] === INSIDE) return fill(argv[1] ?? "");
  const directory = mkdtempSync(join(tmpdir(), "isochrone-full-"));
  const command = 'mount -t tmpfs -o size=24m none "$1" && exec "$2" "$3" disk-full "$4" "$1"';
  const run = join(import.meta.dirname, "run.ts");
  const options = process.getuid?.() === 0 ? ["-m"] : ["-rm"];
  const child = spawnSync(
    PROGRAM,
    [...options, "sh", "-c", command, "sh", directory, process.execPath, run, INSIDE],
    { stdio: "inherit" },
  );
  rmSync(directory, { recursive: true });
  if (child.error !== undefined) throw child.error;
  return child.status ?? 1;
}

async function fill(directory: string): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  const store = await openStore(join(directory, "store"), 1_024 * MEBIBYTE);
  const result = {
    puts: 0,
    taken: 0,
    corruptBodies: 0,
    found: 0,
    foundWhileFailing: 0,
    usedAgainAfterMs: -1,
    writtenAfter: false,
    errors: 0,
    skippedFailing: 0,
    longestPauseMs: 0,
  };
  const look = async (keys: number): Promise<number> => {
    let found = 0;
    for (let key = 0; key < keys; key++)
      for (const object of await store.load(keyOf(key))) {
        found++;
        if (!examine(key, object).isWhole) result.corruptBodies++;
      }
    return found;
  };
  for (; result.puts < (96 * MEBIBYTE) / BODY_BYTES; result.puts++) {
    if (store.put(keyOf(result.puts), objectOf(result.puts, 0, 1, BODY_BYTES)) === undefined) result.taken++;
    if (result.puts % 64 === 0) await store.flush();
    if (store.isFailing && result.foundWhileFailing === 0) result.foundWhileFailing = await look(result.puts);
  }
  result.found = await look(result.puts);
  // Somebody else takes what is left, and lets go of it again.
  const other = join(directory, "other");
  let otherBytes = 32 * MEBIBYTE;
  for (; otherBytes >= 4_096; otherBytes = Math.floor(otherBytes / 2)) {
    try {
      writeFileSync(other, Buffer.alloc(otherBytes), { flag: "a" });
    } catch {
      // Full: then with less.
    }
  }
  store.put(keyOf("during"), objectOf("during", 0, 1, BODY_BYTES));
  await store.flush();
  unlinkSync(other);
  const beganMs = performance.now();
  while (performance.now() - beganMs < 120_000) {
    if (
      store.put(keyOf("after"), objectOf("after", 0, 1, BODY_BYTES)) === undefined &&
      (await store.flush())
    ) {
      result.usedAgainAfterMs = Math.round(performance.now() - beganMs);
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  result.errors = store.counters.errors;
  result.skippedFailing = store.counters.skipped.failing;
  result.longestPauseMs = Math.round(delay.max / 1e6);
  await store.close();
  const again = await openStore(join(directory, "store"), 1_024 * MEBIBYTE);
  result.writtenAfter = again.has(keyOf("after"));
  await again.close();
  console.log(JSON.stringify(result, undefined, 2));
  return result.corruptBodies === 0 && result.errors > 0 && result.writtenAfter ? 0 : 1;
}
