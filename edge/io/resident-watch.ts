/**
 * Lets the memory store give way when the process takes more than `--memory` promises, and take what is free; and has V8 collect
 * more rarely while there is room.
 */
import type { Clock } from "#kit";
import { GarbageReserve } from "../core/garbage-reserve.ts";
import { type HeapSample, heapGrowingPercent } from "../core/heap-growth.ts";
import type { MemoryStore } from "./memory-store.ts";
import { hasHeapFlags, setHeapGrowingPercent } from "./process-memory.ts";

/** What a process takes at rest, warm and without objects: measured 90 to 138 MiB (README). */
const REST_BYTES = 112 * 2 ** 20;
const SAMPLE_MS = 1_000;

/**
 * Begins to watch, in a process that was started as an edge: elsewhere (a test's own process) its memory says nothing of the
 * store. Returns what ends it.
 *
 * @param memoryBytes what the edge was given for all that it keeps in memory
 */
export function watchResident(store: MemoryStore, memoryBytes: number, clock: Clock): () => void {
  if (!hasHeapFlags()) return () => {};
  const capBytes = memoryBytes + REST_BYTES;
  const reserve = new GarbageReserve(capBytes, store.bytesMax, store.garbageBytes);
  const timer = setInterval(() => {
    const { isFull } = store;
    const memory = memoryNow();
    if (memory === undefined) return;
    setHeapGrowingPercent(heapGrowingPercent(memory, memoryBytes, capBytes));
    reserve.handleSample({ residentBytes: memory.residentBytes, isFull, now: clock.monotonic() });
    if (reserve.bytes !== store.garbageBytes) store.garbageBytes = reserve.bytes;
  }, SAMPLE_MS);
  timer.unref();
  return () => clearInterval(timer);
}

/** Undefined: it is not to be had. The system tells it in a file, which takes a descriptor. */
function memoryNow(): HeapSample | undefined {
  try {
    const { rss, heapUsed, external } = process.memoryUsage();
    return { residentBytes: rss, managedBytes: heapUsed + external };
  } catch {
    return undefined;
  }
}
