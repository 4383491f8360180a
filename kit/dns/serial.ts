/** Serial numbers of zones (RFC 1982, 32 bits). */
const HALF = 2 ** 31;
const WHOLE = 2 ** 32;

/** Below 0: `a` is before `b`; 0: the same; above 0: after; undefined: exactly half the circle apart, which has no order. */
export function compareSerials(a: number, b: number): number | undefined {
  if (a === b) return 0;
  const ahead = (a - b + WHOLE) % WHOLE;
  return ahead === HALF ? undefined : ahead < HALF ? 1 : -1;
}

/** The serial after this one; 0 is left out, as some secondaries take it for none. */
export function nextSerial(serial: number): number {
  return (serial + 1) % WHOLE || 1;
}
