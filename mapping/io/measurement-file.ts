/** The measurement store on the disk. */
import { join } from "node:path";
import type { Clock } from "#kit";
import type { Logger } from "#kit/io";
import type { MeasurementStore } from "../core/measurements/store.ts";
import { restoreStore, storeFileOctets } from "../core/measurements/store-file.ts";
import { KeptFile } from "./kept-file.ts";

export const measurementSaveMsDefault = 30_000;
/** 20,000 series with all their windows are 110 MB. */
const FILE_BYTES_MAX = 512 * 1024 * 1024;
const STEP_SERIES = 64;

export type MeasurementFile = KeptFile<{ readonly seriesRestored: number; readonly seriesTooOld: number }>;

export function measurementFile(options: {
  readonly store: MeasurementStore;
  readonly stateDirectory: string;
  readonly saveMs: number | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}): MeasurementFile {
  const { store, stateDirectory, saveMs, clock, logger } = options;
  return new KeptFile({
    name: "measurements",
    path: join(stateDirectory, "measurements.bin"),
    bytesMax: FILE_BYTES_MAX,
    saveMs: saveMs ?? measurementSaveMsDefault,
    restore: (file) => {
      const restored = restoreStore(file, store.settings, clock.epoch());
      store.handleRestored(restored.store);
      return { seriesRestored: restored.store.seriesCount, seriesTooOld: restored.seriesTooOld };
    },
    nothing: { seriesRestored: 0, seriesTooOld: 0 },
    learnt: () => store.counters.samples,
    pieces: () => storeFileOctets(store),
    stepPieces: STEP_SERIES,
    logger,
  });
}
