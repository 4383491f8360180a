/**
 * Two kinds of time that must never be mixed: a monotonic clock for intervals and deadlines, and the wall clock for
 * dates in messages and records. Both are plain numbers of milliseconds at run time; the brand exists only for the
 * type checker, so a `MonotonicMs` cannot be compared with an `EpochMs` by accident.
 */

/** Milliseconds on a clock that never steps back. Its origin is unspecified: only differences have a meaning. */
export type MonotonicMs = number & { readonly __brand: "MonotonicMs" };

/** Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted (ECMA-262, 21.4.1.1). May step back. */
export type EpochMs = number & { readonly __brand: "EpochMs" };

/** Where a driver reads time. Cores never see a clock, they are given `now`; the simulator has its own. */
export interface Clock {
  /** Time for intervals and deadlines. */
  monotonic(): MonotonicMs;
  /** Time for dates in messages, records and documents. */
  epoch(): EpochMs;
}

/** Brands `n` (milliseconds, may be fractional) as monotonic time. Throws RangeError unless it is finite. */
export function monotonicMs(n: number): MonotonicMs {
  if (!Number.isFinite(n)) throw new RangeError(`Monotonic time must be a finite number of ms, got ${n}`);
  return n as MonotonicMs;
}

/** Brands `n` (milliseconds, may be fractional) as wall-clock time. Throws RangeError unless it is finite. */
export function epochMs(n: number): EpochMs {
  if (!Number.isFinite(n)) throw new RangeError(`Epoch time must be a finite number of ms, got ${n}`);
  return n as EpochMs;
}

/** `time` moved by `ms` (may be negative), of the same kind as `time`. Throws RangeError if the sum is not finite. */
export function plusMs<T extends MonotonicMs | EpochMs>(time: T, ms: number): T {
  const sum = time + ms;
  if (!Number.isFinite(sum)) throw new RangeError(`Cannot add ${ms} ms to time ${time}: not finite`);
  return sum as T;
}
