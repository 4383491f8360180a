/**
 * Kills a process that writes to a disk store, at random moments, and looks at what is left: every body to its last byte,
 * every object that was confirmed, nothing that was replaced or deleted.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Random } from "#kit";
import { examine, keyOf, openStore } from "./content.ts";

export interface CrashOptions {
  readonly kills: number;
  readonly seed: string;
  /** Large enough that nothing is evicted, or small, so that segments are reclaimed all the time. */
  readonly bytesMax: number;
  readonly keys: number;
  readonly bodyBytesMax: number;
  /** Longest life of a writer after it is ready, ms. */
  readonly lifeMsMax: number;
  /** Changes that a writer has to have confirmed before its life ends. */
  readonly changesMin?: number;
}

export interface CrashReport {
  kills: number;
  /** Kills while changes were on their way to the disk. */
  killsWhileWriting: number;
  /** Kills before the store was open. */
  killsWhileOpening: number;
  changes: number;
  /** Objects looked at, over all times that the store was opened. */
  objectsRead: number;
  corruptBodies: number;
  /** Objects of a version that had been replaced or deleted, and confirmed, before the kill. */
  resurrected: number;
  /** Objects that had been confirmed and were not touched since: those that must be there. */
  confirmed: number;
  readable: number;
  evictions: number;
  damagedRecords: number;
  openings: number;
  openMs: number;
  objectsOpened: number;
}

/** What may be under a key and variant: versions; 0 stands for nothing. */
class Expected {
  readonly #possible = new Map<string, Set<number>>();
  /** Changes that have been told and not yet confirmed, in order. */
  #open: { readonly key: number; readonly variant: number | undefined; readonly version: number }[] = [];
  #confirmed = 0;

  begin(): void {
    this.#confirmed = 0;
    this.#open = [];
  }

  change(key: number, variant: number | undefined, version: number): void {
    this.#open.push({ key, variant, version });
  }

  confirm(count: number): void {
    for (const { key, variant, version } of this.#open.splice(0, count - this.#confirmed)) {
      for (const name of this.#namesOf(key, variant)) this.#possible.set(name, new Set([version]));
    }
    this.#confirmed = count;
  }

  get open(): number {
    return this.#open.length;
  }

  /** The process is gone: each change that was not confirmed may have happened or not. */
  killed(): void {
    for (const { key, variant, version } of this.#open.splice(0))
      for (const name of this.#namesOf(key, variant)) {
        const possible = this.#possible.get(name) ?? new Set([0]);
        this.#possible.set(name, possible.add(version));
      }
  }

  possible(key: number, variant: number): ReadonlySet<number> {
    return this.#possible.get(`${key}/${variant}`) ?? NOTHING;
  }

  /** What was seen is what is. */
  settle(key: number, variant: number, version: number): void {
    this.#possible.set(`${key}/${variant}`, new Set([version]));
  }

  /** A delete means every variant, those of which nothing is known included. */
  #namesOf(key: number, variant: number | undefined): string[] {
    return (variant === undefined ? VARIANTS : [variant]).map((each) => `${key}/${each}`);
  }
}

const VARIANTS = [0, 1, 2, 3];
const NOTHING: ReadonlySet<number> = new Set([0]);

/** Runs writers and kills them. Rejects when a writer ends by itself. */
export async function crash(options: CrashOptions): Promise<CrashReport> {
  const { kills, seed, bytesMax, keys, bodyBytesMax, lifeMsMax, changesMin = 0 } = options;
  const random = new Random(seed);
  const report: CrashReport = {
    kills: 0,
    killsWhileWriting: 0,
    killsWhileOpening: 0,
    changes: 0,
    objectsRead: 0,
    corruptBodies: 0,
    resurrected: 0,
    confirmed: 0,
    readable: 0,
    evictions: 0,
    damagedRecords: 0,
    openings: 0,
    openMs: 0,
    objectsOpened: 0,
  };
  const directory = await mkdtemp(join(tmpdir(), "isochrone-crash-"));
  const expected = new Expected();
  let version = 1;
  try {
    while (report.kills < kills) {
      expected.begin();
      // One in ten does not live to see its store open.
      const isEarly = random.float() < 0.1 && changesMin === 0;
      const lifeMs = random.float() * lifeMsMax;
      version = await runWriter(
        [directory, bytesMax, `${seed}/${report.kills}`, version, keys, bodyBytesMax].map(String),
        isEarly,
        lifeMs,
        changesMin,
        expected,
        report,
      );
      report.kills++;
      if (expected.open > 0) report.killsWhileWriting++;
      expected.killed();
      // Sometimes the next writer is the first to see what is left.
      if (random.float() < 0.25 && report.kills < kills) continue;
      await look(directory, bytesMax, keys, expected, report);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  return report;
}

/** Starts a writer and kills it. Resolves with the last version that it told. */
async function runWriter(
  argv: readonly string[],
  isEarly: boolean,
  lifeMs: number,
  changesMin: number,
  expected: Expected,
  report: CrashReport,
): Promise<number> {
  let version = Number(argv[3]);
  const child = spawn(process.execPath, [join(import.meta.dirname, "writer.ts"), ...argv], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const kill = (): void => void child.kill("SIGKILL");
  process.once("exit", kill);
  let isReady = false;
  // The writer is some 300 ms on its way to its store.
  let timer = isEarly ? setTimeout(kill, 250 + lifeMs / 3) : undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    const [what, ...numbers] = line.split(" ");
    const [first = 0, second = 0, third = 0] = numbers.map(Number);
    if (what === "r") {
      isReady = true;
      if (changesMin === 0) timer ??= setTimeout(kill, lifeMs);
    } else if (what === "a") {
      expected.confirm(first);
      if (changesMin > 0 && first >= changesMin) timer ??= setTimeout(kill, lifeMs);
    } else {
      report.changes++;
      if (what === "d") expected.change(first, undefined, 0);
      else if (what === "x") expected.change(first, second, 0);
      else {
        // The last line may be cut: it then names no version that was ever written.
        version = Math.max(version, third);
        expected.change(first, second, third);
      }
    }
  }
  clearTimeout(timer);
  process.off("exit", kill);
  const [code, signal] = (await exited) as [number | null, string | null];
  if (signal !== "SIGKILL") throw new Error(`The writer ended by itself (${code ?? signal})`);
  if (!isReady) report.killsWhileOpening++;
  return version;
}

async function look(
  directory: string,
  bytesMax: number,
  keys: number,
  expected: Expected,
  report: CrashReport,
): Promise<void> {
  const beganMs = performance.now();
  const store = await openStore(directory, bytesMax);
  report.openMs += performance.now() - beganMs;
  report.openings++;
  report.objectsOpened += store.objects;
  for (let key = 0; key < keys; key++) {
    const seen = new Map<number, number>();
    for (const object of await store.load(keyOf(key))) {
      const { variant, version, isWhole } = examine(key, object);
      seen.set(variant, version);
      report.objectsRead++;
      if (!isWhole) report.corruptBodies++;
    }
    for (const variant of VARIANTS) {
      const possible = expected.possible(key, variant);
      const version = seen.get(variant) ?? 0;
      if (!possible.has(0)) {
        report.confirmed++;
        if (version !== 0) report.readable++;
      }
      if (version !== 0 && !possible.has(version)) report.resurrected++;
      expected.settle(key, variant, version);
    }
  }
  report.evictions += store.evictions;
  report.damagedRecords += store.counters.damaged;
  await store.close();
}
