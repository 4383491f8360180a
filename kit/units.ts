/** Sizes and durations as people write them in options and documents. Unknown units and loose forms are refused. */

/** Factors of the size units: IEC 80000-13 binary prefixes and SI decimal ones. */
const BYTE_UNITS: ReadonlyMap<string, number> = new Map([
  ["", 1],
  ["B", 1],
  ["KB", 1e3],
  ["MB", 1e6],
  ["GB", 1e9],
  ["TB", 1e12],
  ["KiB", 2 ** 10],
  ["MiB", 2 ** 20],
  ["GiB", 2 ** 30],
  ["TiB", 2 ** 40],
]);

const DURATION_UNITS: ReadonlyMap<string, number> = new Map([
  ["ms", 1],
  ["s", 1_000],
  ["m", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
]);

/** At most 16 digits before and 9 after the point: more cannot be exact, and the work stays bounded. */
const QUANTITY = /^([0-9]{1,16}(?:\.[0-9]{1,9})?)([A-Za-z]{0,3})$/;

/** The value in the base unit; a rounding error of the multiplication (1.1 * 1000) is removed at the 9th decimal. */
function parseQuantity(text: string, units: ReadonlyMap<string, number>): number | undefined {
  const parts = QUANTITY.exec(text);
  const factor = units.get(parts?.[2] ?? "?");
  if (!parts || factor === undefined) return undefined;
  const value = Number(parts[1]) * factor;
  const whole = Math.round(value);
  return Math.abs(value - whole) <= Math.min(1e-3, value * Number.EPSILON * 4) ? whole : value;
}

/**
 * Bytes from "256MiB", "64KB", "1.5GiB", "123": KiB MiB GiB TiB are binary, KB MB GB TB decimal, no unit is bytes.
 * No blanks, case counts. Returns undefined for any other text and for what is not a whole number of bytes or
 * greater than 2^53-1.
 */
export function parseBytes(text: string): number | undefined {
  const bytes = parseQuantity(text, BYTE_UNITS);
  return bytes !== undefined && Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Bytes for people: the largest binary unit that fits, at most 2 decimals ("1.43GiB"). Rounded, so not exact. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes) || bytes < 0) return `${bytes}B`;
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  // 1023.999 would be printed as 1024: the next unit then.
  while (Math.round(value * 100) / 100 >= 1024 && unit < names.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Math.round(value * 100) / 100}${names[unit]}`;
}

/**
 * Milliseconds (may be fractional) from "200ms", "1.5s", "5m", "1h", "2d". The unit is required: a bare number in a
 * document is a mistake waiting to happen. Returns undefined for any other text.
 */
export function parseDurationMs(text: string): number | undefined {
  const ms = parseQuantity(text, DURATION_UNITS);
  return ms !== undefined && ms <= Number.MAX_SAFE_INTEGER ? ms : undefined;
}

/**
 * A duration for people. Exact for a whole number of milliseconds up to 1e13 (300 years), so `parseDurationMs` reads
 * it back: the largest unit that needs at most one decimal (seconds: three). Fractions of a millisecond are rounded
 * to 2 decimals.
 */
export function formatDurationMs(ms: number): string {
  if (!Number.isFinite(ms)) return `${ms}ms`;
  for (const [unit, factor, stepMs] of [
    ["d", 86_400_000, 8_640_000],
    ["h", 3_600_000, 360_000],
    ["m", 60_000, 6_000],
    ["s", 1_000, 1],
  ] as const)
    if (Math.abs(ms) >= factor && ms % stepMs === 0) return `${ms / factor}${unit}`;
  return `${Math.round(ms * 100) / 100}ms`;
}
