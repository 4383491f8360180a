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

function fromLogCode(code: number, step: number, absurd: number): number {
  if (code >= absurd) return Number.NaN;
  const value = Math.expm1(code * step) * LINEAR;
  return Math.round(value * 1e3) / 1e3;
}

/** Order is kept. */
export function rttCode(rttMs: number): number {
  return logCode(rttMs, RTT_STEP, RTT_MS_MAX, RTT_ABSURD);
}
export function rttOfCode(code: number): number {
  return fromLogCode(code, RTT_STEP, RTT_ABSURD);
}

/** Order is kept. */
export function scoreCode(score: number): number {
  return logCode(score, SCORE_STEP, SCORE_MAX, SCORE_ABSURD);
}
export function scoreOfCode(code: number): number {
  return fromLogCode(code, SCORE_STEP, SCORE_ABSURD);
}

export function qualityCode(lossRatio: number, confidence: number): number {
  const loss =
    lossRatio >= 0 && lossRatio <= 1
      ? Math.max(0, Math.round(LOSS_ONE + LOSS_STEPS_AN_OCTAVE * Math.log2(lossRatio)))
      : LOSS_ABSURD;
  const sure =
    confidence >= 0 && confidence <= 1 ? Math.round(confidence * CONFIDENCE_STEPS) : CONFIDENCE_ABSURD;
  return loss * 2 ** CONFIDENCE_BITS + sure;
}

export function lossOfCode(quality: number): number {
  const code = quality >>> CONFIDENCE_BITS;
  if (code === 0) return 0;
  if (code > LOSS_ONE) return Number.NaN;
  return Math.round(2 ** ((code - LOSS_ONE) / LOSS_STEPS_AN_OCTAVE) * 1e5) / 1e5;
}

export function confidenceOfCode(quality: number): number {
  const code = quality & CONFIDENCE_ABSURD;
  return code === CONFIDENCE_ABSURD ? Number.NaN : Math.round((code / CONFIDENCE_STEPS) * 1e3) / 1e3;
}

/** Whether loss or confidence is none. */
export function isAbsurdQuality(quality: number): boolean {
  return quality >>> CONFIDENCE_BITS > LOSS_ONE || (quality & CONFIDENCE_ABSURD) === CONFIDENCE_ABSURD;
}
