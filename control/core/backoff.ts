/** How long to wait before the next try: doubling with jitter, so that a fleet does not come back as one. */

export interface BackoffSettings {
  readonly firstMs: number;
  readonly maxMs: number;
}

/** 100 ms is past a restart of control on one machine; 2 s bounds how long a healed node stays behind. */
export const backoffDefaults: BackoffSettings = { firstMs: 100, maxMs: 2_000 };

/**
 * "Equal jitter": half of the step is certain, half is drawn, so that two nodes differ and none tries at once.
 * @param failures in a row before this try, 0 or more
 * @param random uniform in [0, 1)
 * @returns ms, within firstMs/2 .. maxMs
 */
export function backoffDelayMs(failures: number, random: number, settings = backoffDefaults): number {
  // 2^30 already exceeds any maximum; larger exponents would overflow into Infinity * 0.
  const step = Math.min(settings.maxMs, settings.firstMs * 2 ** Math.min(failures, 30));
  return step / 2 + (step / 2) * random;
}
