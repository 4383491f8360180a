/**
 * The figures of a cluster map in a few bits each. They are for people and for a mapper that starts anew; no decision is
 * taken from them: the order of clusters is stored beside them, so coarse steps cannot change it.
 */

/** Steps grow with the value: times by 0.65 % from one code to the next, near 0 by 0.65 µs; scores, which people compare, four times as much. */
const RTT_STEP = Math.log1p(60_000 / 0.1) / 2046;
export const RTT_STEPS_A_SCORE_STEP = 4;
const SCORE_STEP = RTT_STEP * RTT_STEPS_A_SCORE_STEP;
const LINEAR = 0.1;

export const RTT_BITS = 11;
const RTT_MS_MAX = 60_000;
/** What no time, score or ratio can be (NaN, negative, beyond its range) is kept as that, for the check to find. */
export const RTT_ABSURD = 2047;

export const SCORE_BITS = 10;
const SCORE_MAX = 1e9;
export const SCORE_ABSURD = 1023;

/** Loss in 6 bits, confidence in 5, together in 11. */
export const QUALITY_BITS = 11;
const CONFIDENCE_BITS = 5;
const CONFIDENCE_STEPS = 30;
const CONFIDENCE_ABSURD = 31;
/** Codes 1..61 are quarters of an octave: 61 is a loss of 1, 57 of a half, 1 of 3e-5. */
const LOSS_ONE = 61;
const LOSS_STEPS_AN_OCTAVE = 4;
const LOSS_ABSURD = 62;

function logCode(value: number, step: number, max: number, absurd: number): number {
  return value >= 0 && value <= max ? Math.round(Math.log1p(value / LINEAR) / step) : absurd;
}

/** The number with the fewest digits that has the code; what was written as 20 is read as 20. */
function shortest(code: number, about: number, codeOf: (value: number) => number): number {
  for (let digits = 1; digits < 8; digits++) {
    const value = Number(about.toPrecision(digits));
    if (codeOf(value) === code) return value;
  }
  return about;
}

/** Codes are few and read often: each is worked out once. */
function decoder(count: number, valueOf: (code: number) => number): (code: number) => number {
  const values: (number | undefined)[] = Array.from({ length: count });
  return (code) => (values[code] ??= valueOf(code));
}

/** Order is kept. */
export function rttCode(rttMs: number): number {
  return logCode(rttMs, RTT_STEP, RTT_MS_MAX, RTT_ABSURD);
}
/** NaN for what is none. */
export const rttOfCode = decoder(2 ** RTT_BITS, (code) =>
  code === RTT_ABSURD ? Number.NaN : shortest(code, Math.expm1(code * RTT_STEP) * LINEAR, rttCode),
);

/** Order is kept. */
export function scoreCode(score: number): number {
  return logCode(score, SCORE_STEP, SCORE_MAX, SCORE_ABSURD);
}
/** NaN for what is none. */
export const scoreOfCode = decoder(2 ** SCORE_BITS, (code) =>
  code === SCORE_ABSURD ? Number.NaN : shortest(code, Math.expm1(code * SCORE_STEP) * LINEAR, scoreCode),
);

export function qualityCode(lossRatio: number, confidence: number): number {
  return lossCode(lossRatio) * 2 ** CONFIDENCE_BITS + confidenceCode(confidence);
}

function lossCode(lossRatio: number): number {
  if (!(lossRatio >= 0 && lossRatio <= 1)) return LOSS_ABSURD;
  return Math.max(0, Math.round(LOSS_ONE + LOSS_STEPS_AN_OCTAVE * Math.log2(lossRatio)));
}

function confidenceCode(confidence: number): number {
  return confidence >= 0 && confidence <= 1 ? Math.round(confidence * CONFIDENCE_STEPS) : CONFIDENCE_ABSURD;
}

const lossOf = decoder(2 ** (QUALITY_BITS - CONFIDENCE_BITS), (code) => {
  if (code === 0) return 0;
  return code > LOSS_ONE
    ? Number.NaN
    : shortest(code, 2 ** ((code - LOSS_ONE) / LOSS_STEPS_AN_OCTAVE), lossCode);
});
const confidenceOf = decoder(2 ** CONFIDENCE_BITS, (code) =>
  code === CONFIDENCE_ABSURD ? Number.NaN : shortest(code, code / CONFIDENCE_STEPS, confidenceCode),
);

/** NaN for what is none. */
export function lossOfCode(quality: number): number {
  return lossOf(quality >>> CONFIDENCE_BITS);
}
/** NaN for what is none. */
export function confidenceOfCode(quality: number): number {
  return confidenceOf(quality & CONFIDENCE_ABSURD);
}

/** Whether loss or confidence is none. */
export function isAbsurdQuality(quality: number): boolean {
  return quality >>> CONFIDENCE_BITS > LOSS_ONE || (quality & CONFIDENCE_ABSURD) === CONFIDENCE_ABSURD;
}
