/** Long work in short steps: each `yield` is a place where whoever drives it may do something else. */
export type Steps<T> = Generator<undefined, T>;

/** All steps at once. */
export function allSteps<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
