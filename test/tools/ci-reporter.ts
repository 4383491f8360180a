/**
 * A vitest reporter that counts tests. Used when CI is set.
 *
 * With ISOCHRONE_TEST_COUNTS=FILE it keeps one line in that file, `PASSED FAILED SKIPPED running|finished`, renewed after
 * each test file, so that a run that crashes or is cut off still leaves what it saw (`.ci/run` reads it). Without, it
 * prints `N passed, N failed, N skipped` at the end.
 */
import { writeFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/** What a run came to. */
export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/**
 * Adds one finished test file. A file that fails outside its tests (it does not load, a hook throws) counts as one
 * failure where none of its tests shows it; a test that never came to an end counts as failed.
 */
function addModule(counts: Counts, module: TestModule): void {
  let failed = 0;
  for (const test of module.children.allTests()) {
    const { state } = test.result();
    if (state === "passed") counts.passed += 1;
    else if (state === "skipped") counts.skipped += 1;
    else failed += 1;
  }
  if (failed === 0 && (module.state() === "failed" || module.errors().length > 0)) failed = 1;
  counts.failed += failed;
}

/** The line that ends a run; `skipped` is left out when nothing was. */
function countsLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

export default class CiReporter implements Reporter {
  readonly #file = process.env["ISOCHRONE_TEST_COUNTS"];
  readonly #running: Counts = { passed: 0, failed: 0, skipped: 0 };

  onTestModuleEnd(module: TestModule): void {
    addModule(this.#running, module);
    this.#write(this.#running, "running");
  }

  /** Counts anew from the whole run: a module that never started has no end of its own. */
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const counts: Counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    for (const module of modules) addModule(counts, module);
    if (this.#file === undefined) console.log(countsLine(counts));
    else this.#write(counts, "finished");
  }

  #write({ passed, failed, skipped }: Counts, state: "running" | "finished"): void {
    if (this.#file !== undefined) writeFileSync(this.#file, `${passed} ${failed} ${skipped} ${state}\n`);
  }
}
