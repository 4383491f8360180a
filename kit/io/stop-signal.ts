/**
 * Resolves with the first SIGTERM or SIGINT: a process then drains and ends. Each later signal of the same kind ends it at
 * once, as the system does when nobody listens. Call it before the first wait of a start, so that no signal is missed.
 */
export function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve(signal));
  });
}
