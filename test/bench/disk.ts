/**
 * The disk store by itself: objects written and read a second, the index's bytes an object, the time to have it back.
 * Files lie in the page cache, as they do for an edge whose disk store fits its machine: what is measured is the store.
 */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Random } from "#kit";
import { ALIGN_BYTES, LocationIndex } from "../../edge/core/disk/location-index.ts";
import { keyOf, objectOf, openStore } from "../tools/disk/content.ts";

export const summary = "disk store: puts and gets of 16 KiB, index bytes an object, time to open 100,000";

const HELP = `Usage: npm run bench -- disk [options]

  --objects N    objects of 16 KiB that are put and read (default 10000)
  --entries N    entries of the largest index (default 10000000)
  --directory D  where the files lie (default the system's temporary directory)
`;

const MEBIBYTE = 2 ** 20;
const GIBIBYTE = 2 ** 30;
const READERS = 32;

/** Wall and CPU time of something, s; the CPU is that of all threads of this process. */
async function timed(run: () => void | Promise<void>): Promise<{ seconds: number; cpuSeconds: number }> {
  const cpu = process.cpuUsage();
  const beganMs = performance.now();
  await run();
  const { user, system } = process.cpuUsage(cpu);
  return { seconds: (performance.now() - beganMs) / 1_000, cpuSeconds: (user + system) / 1e6 };
}

const rates = (count: number, { seconds, cpuSeconds }: { seconds: number; cpuSeconds: number }) => ({
  perSecond: Math.round(count / seconds),
  perCpuSecond: Math.round(count / cpuSeconds),
});

async function putAndGet(directory: string, objects: number) {
  const store = await openStore(directory, 4 * GIBIBYTE);
  const bytes = 16 * 1_024;
  const bodies = Array.from({ length: objects }, (_, key) => objectOf(key, 0, 1, bytes));
  const puts = await timed(async () => {
    for (const [key, object] of bodies.entries()) {
      store.put(keyOf(key), object);
      if (store.pendingBytes > 16 * MEBIBYTE) await store.flush();
    }
    await store.flush();
  });
  const random = new Random("disk");
  const gets = await timed(async () => {
    let left = objects;
    await Promise.all(
      Array.from({ length: READERS }, async () => {
        while (left-- > 0) {
          const [object] = await store.load(keyOf(Math.floor(random.float() * objects)));
          if (object?.body.bytes !== bytes) throw new Error("An object was not there, or not whole");
        }
      }),
    );
  });
  const batches = store.counters.batches;
  await store.close();
  return {
    bodyBytes: bytes,
    put: rates(objects, puts),
    get: rates(objects, gets),
    recordsAWrite: objects / batches,
  };
}

async function reopen(directory: string, objects: number) {
  const bytesMax = 10 * GIBIBYTE;
  const store = await openStore(directory, bytesMax);
  for (let key = 0; key < objects; key++) {
    store.put(keyOf(key), objectOf(key, 0, 1, 1_024));
    if (store.pendingBytes > 8 * MEBIBYTE) await store.flush();
  }
  await store.flush();
  const { indexBytes } = store;
  // The files as a killed process leaves them: the last segment has no index.
  const killed = `${directory}-killed`;
  cpSync(directory, killed, { recursive: true, filter: (source) => !source.endsWith("lock") });
  await store.close();
  const result: Record<string, number> = { objects, indexBytesAnObject: indexBytes / objects };
  for (const [name, where] of [
    ["openMsAfterKill", killed],
    ["openMsAfterClose", directory],
  ] as const) {
    const beganMs = performance.now();
    const again = await openStore(where, bytesMax);
    result[name] = performance.now() - beganMs;
    if (again.objects !== objects) throw new Error(`${again.objects} of ${objects} objects are there`);
    await again.close();
  }
  rmSync(killed, { recursive: true });
  return result;
}

/** Two well mixed words of a number: what the fingerprint of a key looks like. */
const mixed = (n: number): readonly [number, number] => [
  Math.imul(n ^ (n >>> 15), 0x85eb_ca6b) >>> 0,
  Math.imul(n ^ (n >>> 13), 0xc2b2_ae35) >>> 0,
];

async function index(entries: number) {
  const beforeBytes = process.memoryUsage().rss;
  const table = new LocationIndex();
  let longestMs = 0;
  let peakBytesAnEntry = 0;
  const puts = await timed(() => {
    let lastMs = performance.now();
    for (let n = 0; n < entries; n++) {
      const [hi, lo] = mixed(n);
      table.put({
        hi,
        lo,
        variant: 0,
        segment: 1,
        offset: (n % 2 ** 28) * ALIGN_BYTES,
        headBytes: 300,
        bodyBytes: 16_384,
      });
      if (n % 1_024 !== 0) continue;
      const nowMs = performance.now();
      longestMs = Math.max(longestMs, nowMs - lastMs);
      lastMs = nowMs;
      if (n > entries / 2) peakBytesAnEntry = Math.max(peakBytesAnEntry, table.bytes / n);
    }
  });
  const finds = await timed(() => {
    for (let n = 0; n < entries; n += 7) {
      const [hi, lo] = mixed(n);
      if (!table.has(hi, lo)) throw new Error("An entry is missing");
    }
  });
  return {
    entries,
    bytesAnEntry: table.bytes / entries,
    bytesAnEntryPeak: peakBytesAnEntry,
    residentBytes: process.memoryUsage().rss - beforeBytes,
    putsPerSecond: Math.round(entries / puts.seconds),
    findsPerSecond: Math.round(entries / 7 / finds.seconds),
    longestMsOf1024Puts: longestMs,
  };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      objects: { type: "string" },
      entries: { type: "string" },
      directory: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const directory = mkdtempSync(join(values.directory ?? tmpdir(), "isochrone-disk-bench-"));
  const entries = Number(values.entries ?? 10_000_000);
  try {
    const result = {
      name: "disk",
      machine: `${cpus()[0]?.model ?? "unknown"}, ${availableParallelism()} CPUs, Node ${process.version}`,
      throughput: await putAndGet(join(directory, "a"), Number(values.objects ?? 10_000)),
      reopen: await reopen(join(directory, "b"), 100_000),
      index: [await index(Math.min(entries, 1_000_000)), await index(entries)],
    };
    console.log(JSON.stringify(result, undefined, 2));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return 0;
}
