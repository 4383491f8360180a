/** `#analytics`: access records, how they reach the disk, and what they add up to. */
export {
  type AccessRecord,
  accessRecord,
  type CacheStatusWord,
  cacheStatusWords,
  recordedPath,
  type ServedRequest,
  toAccessRecord,
  truncatedAddress,
} from "./core/access-record.ts";
export {
  addDuration,
  emptyHistogram,
  type Histogram,
  meanMs,
  mergeHistograms,
  quantileMs,
} from "./core/histogram.ts";
export {
  merge,
  type RecordOutcome,
  type RollupCell,
  type RollupSettings,
  RollupWindows,
  type WindowRollup,
} from "./core/rollup.ts";
export {
  type Grouping,
  groupings,
  TrafficGroups,
  type TrafficRow,
  type TrafficSummary,
} from "./core/summary.ts";
export { type BadLines, readRecords } from "./io/record-reader.ts";
export { type Line, writeAscii } from "./core/text-batches.ts";
export { AccessLog, type AccessLogCounters, type AccessLogOptions } from "./io/record-writer.ts";
