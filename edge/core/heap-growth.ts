/**
 * By how much V8's old generation, contents outside of the heap included, grows before it is collected. Three tenths of a small one are a few
 * dozen contents on their way through: the whole heap was looked through for each such handful, before the young generation was full, which
 * lets go of them for less (100 KiB that is not stored: 400 us of CPU, 130 with this). So it may grow by some more while the process has room.
 */

/** Least, since dead content waits outside of the heap until it is collected. */
export const HEAP_GROWING_PERCENT = 30;
const PERCENT_MAX = 200;
/**
 * What may be dead in a small heap: some times what passes through between two collections of the young generation, which come the later the less
 * a request allocates (100 KiB that is not stored: 193 us of CPU with 48 MiB and a heap that doubles at most, 112 so).
 */
const DEAD_BYTES = 64 * 2 ** 20;
/** At most, as a share of the store: a small one is full before anybody has looked again, and beside what is dead then. */
const DEAD_SHARE = 1 / 5;

export type HeapSample = {
  /** What V8 counts: its heap in use and what its objects hold outside of it, bytes. */
  readonly managedBytes: number;
  /** Resident memory of the process, bytes. */
  readonly residentBytes: number;
};

/** A whole number of percent, for a process that is given `memoryBytes` for its store and is to stay below `capBytes` of resident memory. */
export function heapGrowingPercent(
  { managedBytes, residentBytes }: HeapSample,
  memoryBytes: number,
  capBytes: number,
): number {
  const deadBytes = Math.min(DEAD_BYTES, memoryBytes * DEAD_SHARE, capBytes - residentBytes);
  const percent = Math.floor((100 * deadBytes) / managedBytes);
  return Math.min(PERCENT_MAX, Math.max(HEAP_GROWING_PERCENT, percent));
}
