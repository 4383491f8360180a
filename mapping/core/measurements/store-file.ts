/**
 * The measurement store as a file, so that a restart does not cost a week. A head says what it is and which windows it has; then come
 * the series, each with its length; the foot has their number and a checksum chained over all of it. What is cut, altered, of another version or of
 * other windows is refused whole with a reason.
 */
import { type EpochMs, xxh64 } from "#kit";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { MeasurementStore, type MeasurementStoreSettings } from "./store.ts";

const FORMAT = "isochrone-measurements";
const VERSION = 1;
const MAGIC = new TextEncoder().encode(`${FORMAT} ${VERSION}\n`);
/** Of a series that has all its windows, 10 times over. */
const SERIES_OCTETS_MAX = 65_536;

/** In pieces of a series each; the store may change between them. */
export function* storeFileOctets(store: MeasurementStore): Generator<Uint8Array> {
  let checksum = 0n;
  let count = 0;
  const to = new ByteWriter();
  const chained = (octets: Uint8Array): Uint8Array => {
    checksum = xxh64(octets, checksum);
    return octets;
  };
  to.bytes(MAGIC);
  for (const number of windowsOf(store.settings)) to.u32(number);
  yield chained(to.take());
  for (const series of store.seriesOctets()) {
    to.u32(series.length);
    to.bytes(series);
    count++;
    yield chained(to.take());
  }
  to.u32(0);
  to.u32(count);
  yield chained(to.take());
  to.u64(checksum);
  yield to.take();
}

export interface RestoredStore {
  readonly store: MeasurementStore;
  /** Series of the file that were all too old. */
  readonly seriesTooOld: number;
}

/** Throws RangeError that says why it is refused. */
export function restoreStore(
  file: Uint8Array,
  settings: Partial<MeasurementStoreSettings>,
  now: EpochMs,
): RestoredStore {
  const store = new MeasurementStore(settings);
  const from = new ByteReader(file);
  let checksum = 0n;
  let seriesTooOld = 0;
  let count = 0;
  const chain = (begin: number, end: number): void => {
    checksum = xxh64(file.subarray(begin, end), checksum);
  };
  const at = (): number => file.length - from.left;
  if (file.length < MAGIC.length || MAGIC.some((octet, n) => file[n] !== octet))
    throw new RangeError(
      `it does not begin with "${FORMAT} ${VERSION}": it is of another version, or something else`,
    );
  from.bytes(MAGIC.length);
  for (const [n, number] of windowsOf(store.settings).entries()) {
    const found = from.u32();
    if (found !== number)
      throw new RangeError(
        `it has other windows: number ${n + 1} of its head is ${found}, expected ${number}`,
      );
  }
  chain(0, at());
  for (;;) {
    const begin = at();
    const length = from.u32();
    if (length === 0) {
      const counted = from.u32();
      chain(begin, at());
      if (counted !== count) throw new RangeError(`it says ${counted} series and has ${count}`);
      break;
    }
    if (length > SERIES_OCTETS_MAX)
      throw new RangeError(
        `series ${count + 1} has ${length} octets, at most ${SERIES_OCTETS_MAX} are allowed`,
      );
    const octets = from.bytes(length);
    chain(begin, at());
    count++;
    try {
      if (!store.restoreSeries(octets, now)) seriesTooOld++;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new RangeError(`series ${count}: ${why}`, { cause: error });
    }
  }
  const stated = from.u64();
  if (stated !== checksum) throw new RangeError("it does not match its checksum");
  if (from.left > 0) throw new RangeError(`${from.left} octets stand behind its end`);
  return { store, seriesTooOld };
}

function windowsOf({ fine, coarse }: MeasurementStoreSettings): number[] {
  return [fine, coarse].flatMap(({ windowMs, windows, codesMax }) => [windowMs, windows, codesMax]);
}
