/** Settings of access records and their rollups: unit, range, default and reason of each. */
export const analyticsSettings = {
  /** Bytes of one file before it is rotated, at least 4096. About 200,000 records. */
  fileBytesMax: 67_108_864,
  /** Rotated files kept beside the current one, 0..1000; older ones are removed. With 4 a server keeps up to 320 MiB. */
  filesKept: 4,
  /** Records after which a batch is written at once. */
  batchRecordsMax: 1_024,
  /**
   * Records wait for the disk as bytes: a batch of so many, about 1,200 records; and full batches that may wait in one process. At 10,000
   * requests a second: a stall of 4 s.
   */
  batchBytes: 524_288,
  batchesMax: 32,
  /** The longest a record waits for others to be written with it, ms. */
  flushMs: 200,
  /** Pause after the disk refused, ms; what arrives meanwhile waits, and is dropped when too much does. */
  retryMs: 1_000,
  /** Length of a rollup window, ms. */
  windowMs: 60_000,
  /** How long after its end a window waits for records that are late, ms. */
  latenessMs: 15_000,
  /** A record from further ahead than this has a wrong clock and is refused, ms. */
  skewMaxMs: 5_000,
  /** (window, property) pairs held open; records of further ones are counted as dropped. */
  cellsMax: 100_000,
  /** Longest line of a record file that is read, bytes. */
  lineBytesMax: 65_536,
  /** Different keys that `isochrone traffic` tells apart; further ones are summed as "(other)". */
  keysMax: 10_000,
} as const;
