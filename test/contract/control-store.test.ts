/** One suite, every store of control: versions, compare-and-set, activation, the log's places, pruning. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import * as fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { type DocumentKind, type DocumentStore, loadControlServer } from "#control";
import { type PropertyId, purgeRequest, Random } from "#kit";
import { rollout } from "../../control/core/rollout.ts";
import type { Retention } from "../../control/core/document-log.ts";

const { MemoryStore, SqliteStore } = await loadControlServer();

const directories: string[] = [];
function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-store-"));
  directories.push(directory);
  return directory;
}
afterAll(() => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

type Retain = Partial<Retention>;
const makers: readonly [name: string, make: (retention?: Retain) => DocumentStore][] = [
  ["memory", (retention = {}) => new MemoryStore({ logId: "log-1", retention })],
  [
    "sqlite",
    (retention = {}) => new SqliteStore({ stateDirectory: newDirectory(), newLogId: "log-1", retention }),
  ],
];

const purge = purgeRequest.parse({ propertyId: "shop-www", tags: ["a"] });

function append(
  store: DocumentStore,
  expectedVersion: number,
  options: { kind?: DocumentKind; id?: string; activates?: boolean } = {},
) {
  const { kind = "property", id = "shop-www", activates = false } = options;
  const bodyText = JSON.stringify({ propertyId: id, n: expectedVersion + 1 });
  return store.append({
    kind,
    id,
    bodyText,
    expectedVersion,
    activates,
    author: "ann",
    note: "why",
    atEpochMs: 1_000,
  });
}
/** A body longer than what a store writes at once, two bytes of it in its last character. */
function longBody(n: number): string {
  return JSON.stringify({ n, text: `${"x".repeat(1_200_000)}${n}é` });
}
/** @param written steps of which are taken; undefined: all, and the version is appended */
function appendLong(store: DocumentStore, expectedVersion: number, written?: number) {
  const bodyText = longBody(expectedVersion + 1);
  const steps = store.keepInSteps(bodyText);
  let step = steps.next();
  for (let taken = 1; step.done !== true && taken !== written; taken++) step = steps.next();
  if (step.done !== true) return undefined;
  return store.append({
    kind: "map",
    id: "world",
    bodyText,
    upload: step.value,
    expectedVersion,
    activates: true,
    author: "ann",
    note: "",
    atEpochMs: 1_000,
  });
}
function activate(store: DocumentStore, version: number, expectedActiveVersion: number | null) {
  return store.activate({ kind: "property", id: "shop-www", version, expectedActiveVersion });
}

describe.each(makers)("%s store", (_name, make) => {
  it("numbers versions from 1 and keeps bodies as they were", () => {
    const store = make();
    expect(append(store, 0)).toEqual({
      outcome: "appended",
      event: undefined,
      summary: {
        kind: "property",
        id: "shop-www",
        version: 1,
        activeVersion: null,
        createdAtEpochMs: 1_000,
        author: "ann",
        note: "why",
      },
    });
    append(store, 1);
    expect(store.document("property", "shop-www", 1)?.bodyText).toBe('{"propertyId":"shop-www","n":1}');
    expect(store.versions("property", "shop-www").map((one) => one.version)).toEqual([1, 2]);
    expect(store.documents("property").map((one) => one.version)).toEqual([2]);
    expect(store.documentCount("property")).toBe(1);
    // Nothing is in force yet: no active version to read, no place in the log.
    expect(store.document("property", "shop-www")).toBeUndefined();
    expect(store.bounds()).toEqual({ logId: "log-1", oldestSeq: 1, newestSeq: 0 });
    store.close();
  });

  it("keeps the newest record of each lease", () => {
    const store = make();
    expect(store.leases()).toEqual([]);
    const lease = { name: "map", term: 3, holderId: "mapper", durationMs: 4_000, note: "" } as const;
    store.saveLease(lease);
    store.saveLease({ ...lease, term: 4, holderId: null });
    expect(store.leases()).toEqual([{ ...lease, term: 4, holderId: null }]);
    store.close();
  });

  it("offers a version to some, keeps where its roll-out stands, and tells again what is in force", () => {
    const store = make();
    const inPolicy = { kind: "policy", id: "shop" } as const;
    append(store, 0, { ...inPolicy, activates: true });
    append(store, 1, inPolicy);
    const running = rollout.parse({
      ...inPolicy,
      version: 2,
      previousVersion: 1,
      state: "running",
      stages: [
        { stage: "server", servers: ["a"] },
        { stage: "all", servers: ["a", "b"] },
      ],
      stageIndex: 0,
      startedAtEpochMs: 1,
      endedAtEpochMs: null,
      soakMs: 1,
      targets: [],
      halt: null,
    });
    expect(store.rollouts()).toEqual([]);
    const offer = store.offer(running);
    expect(offer).toMatchObject({ ...inPolicy, seq: 2, version: 2, audience: new Set(["a"]) });
    expect(store.rollouts()).toEqual([running]);
    expect(store.document("policy", "shop")?.summary.version).toBe(1);
    expect(store.event(2)).toEqual(offer);
    expect(store.event(1)).not.toHaveProperty("audience");
    expect(store.events(0, 2, 10).map((one) => one.seq)).toEqual([1, 2]);
    expect(store.snapshotSeqs().documents).toEqual([1, 2]);

    const halted = { ...running, state: "halted", endedAtEpochMs: 2 } as const;
    store.saveRollout(halted);
    expect(store.rollouts()).toEqual([halted]);
    // The offer is no part of what is in force any more.
    expect(store.snapshotSeqs().documents).toEqual([1]);
    const back = { ...inPolicy, version: 1, expectedActiveVersion: 1 };
    expect(store.activate(back)).toMatchObject({ outcome: "unchanged" });
    expect(store.activate({ ...back, isToldAgain: true })).toMatchObject({
      outcome: "activated",
      event: { seq: 3, version: 1 },
    });
    expect(store.activate({ ...back, expectedActiveVersion: 2, isToldAgain: true })).toMatchObject({
      outcome: "conflict",
    });
    expect(store.snapshotSeqs().documents).toEqual([3]);

    // In force with where the roll-out stands, or not at all.
    const forward = { ...inPolicy, version: 2, expectedActiveVersion: 1 };
    const unwritable = Object.defineProperty({ ...halted }, "id", {
      get: () => {
        throw new Error("the disk is full");
      },
    });
    expect(() => store.activate({ ...forward, rollout: unwritable })).toThrow("the disk is full");
    expect(store.document("policy", "shop")?.summary.version).toBe(1);
    expect(store.bounds().newestSeq).toBe(3);
    const done = { ...running, state: "done", stageIndex: 1, endedAtEpochMs: 3 } as const;
    expect(store.activate({ ...forward, rollout: done })).toMatchObject({ outcome: "activated" });
    expect(store.rollouts("shop")).toEqual([done]);
    expect(store.rollouts("other")).toEqual([]);
    store.close();
  });

  it("refuses an append that expected another version and changes nothing", () => {
    const store = make();
    append(store, 0);
    expect(append(store, 0)).toEqual({ outcome: "conflict", presentVersion: 1 });
    expect(append(store, 2)).toEqual({ outcome: "conflict", presentVersion: 1 });
    expect(store.versions("property", "shop-www")).toHaveLength(1);
    store.close();
  });

  it("activates forward and back, each with a new place, and compares before it sets", () => {
    const store = make();
    append(store, 0, { activates: true });
    append(store, 1);
    expect(activate(store, 2, null)).toEqual({ outcome: "conflict", presentVersion: 1 });
    expect(activate(store, 2, 1)).toMatchObject({ outcome: "activated", event: { seq: 2, version: 2 } });
    expect(activate(store, 1, 2)).toMatchObject({
      outcome: "activated",
      event: { seq: 3, version: 1 },
      summary: { activeVersion: 1 },
    });
    expect(activate(store, 1, 1)).toMatchObject({ outcome: "unchanged" });
    expect(activate(store, 3, 1)).toEqual({ outcome: "unknown-version" });
    expect(store.bounds().newestSeq).toBe(3);
    expect(
      store.events(0, 3, 10).map((event) => [event.seq, event.type === "document" && event.version]),
    ).toEqual([
      [1, 1],
      [2, 2],
      [3, 1],
    ]);
    expect(store.events(1, 2, 10).map((event) => event.seq)).toEqual([2]);
    expect(store.events(0, 3, 2).map((event) => event.seq)).toEqual([1, 2]);
    expect(store.document("property", "shop-www")?.summary.version).toBe(1);
    store.close();
  });

  it("says that a document that never was has no version to activate", () => {
    const store = make();
    expect(activate(store, 1, null)).toEqual({ outcome: "unknown-version" });
    expect(store.versions("map", "world")).toEqual([]);
    store.close();
  });

  it("keeps the last versions of a map, and the active one wherever it stands", () => {
    const store = make({ mapVersionsMax: 3 });
    for (let version = 0; version < 5; version++)
      append(store, version, { kind: "map", id: "world", activates: version < 2 });
    expect(store.versions("map", "world").map((one) => one.version)).toEqual([2, 3, 4, 5]);
    // The activation of version 1 has no body any more; the one of version 2 follows.
    expect(store.events(0, 10, 10).map((event) => event.seq)).toEqual([2]);
    for (let version = 0; version < 5; version++) append(store, version);
    expect(store.versions("property", "shop-www")).toHaveLength(5);
    store.close();
  });

  it("numbers purges apart from places and keeps a bounded number", () => {
    const store = make({ purgesMax: 2 });
    append(store, 0, { activates: true });
    expect(store.oldestPurgeSeq()).toBeNull();
    expect(store.newestPurgeSeq()).toBe(0);
    for (let n = 1; n <= 3; n++) {
      expect(store.appendPurge(purge, 5_000 + n)).toEqual({
        type: "purge",
        seq: n + 1,
        purge: { purgeSeq: n, atEpochMs: 5_000 + n, request: purge },
      });
    }
    expect(store.oldestPurgeSeq()).toBe(2);
    expect(store.newestPurgeSeq()).toBe(3);
    expect(store.snapshotSeqs()).toEqual({ documents: [1], purges: [3, 4] });
    expect(store.events(0, 10, 10).map((event) => event.seq)).toEqual([1, 3, 4]);
    expect(store.event(2)).toBeUndefined();
    store.close();
  });

  it("bounds the log; what is in force stays readable by its place", () => {
    const store = make({ eventsMax: 2 });
    append(store, 0, { activates: true });
    for (let n = 0; n < 3; n++) store.appendPurge(purge, 1);
    expect(store.bounds()).toEqual({ logId: "log-1", oldestSeq: 3, newestSeq: 4 });
    expect(store.event(1)).toMatchObject({ type: "document", version: 1 });
    expect(store.snapshotSeqs().documents).toEqual([1]);
    store.close();
  });

  it("lists the properties in force", () => {
    const store = make();
    append(store, 0, { id: "b", activates: true });
    append(store, 0, { id: "a", activates: true });
    append(store, 0, { id: "c" });
    expect(store.activeProperties().map((one) => one.propertyId)).toEqual([
      "a",
      "b",
    ] as unknown as PropertyId[]);
    store.close();
  });

  it("keeps a long body that is written ahead of its version", () => {
    const store = make({ mapVersionsMax: 2 });
    expect(appendLong(store, 0)).toMatchObject({ outcome: "appended", event: { bodyText: longBody(1) } });
    expect(appendLong(store, 0)).toEqual({ outcome: "conflict", presentVersion: 1 });
    for (const before of [1, 2]) appendLong(store, before);
    expect(store.document("map", "world", 1)).toBeUndefined();
    for (const version of [2, 3])
      expect(store.document("map", "world", version)?.bodyText).toBe(longBody(version));
    expect(store.event(3)).toMatchObject({ version: 3, bodyText: longBody(3) });
    store.close();
  });

  it("tells whose the zones in force are", () => {
    const store = make();
    const zone = { zoneId: "a", customerId: "acme", origin: "a.test" };
    for (const [id, isActive] of [
      ["a", true],
      ["b", false],
    ] as const)
      store.append({
        kind: "zone",
        id,
        bodyText: JSON.stringify({ ...zone, zoneId: id, isActive, sets: [] }),
        expectedVersion: 0,
        activates: true,
        author: "ann",
        note: "",
        atEpochMs: 1_000,
      });
    expect(store.activeZones()).toMatchObject([
      { ...zone, isActive: true },
      { ...zone, zoneId: "b", isActive: false },
    ]);
    store.close();
  });
});

describe("every store alike", () => {
  it("gives the same answers to the same commands (random sequences)", () => {
    let conflicts = 0;
    let activations = 0;
    const command = fc.record({
      what: fc.constantFrom("append", "append", "activate", "purge", "read"),
      kind: fc.constantFrom("property", "map", "topology"),
      id: fc.constantFrom("a", "b"),
      version: fc.nat({ max: 5 }),
      activates: fc.boolean(),
    } as const);
    fc.assert(
      fc.property(fc.array(command, { minLength: 20, maxLength: 40 }), (commands) => {
        const retention = { mapVersionsMax: 2, purgesMax: 3, eventsMax: 8 };
        const stores = makers.map(([, make]) => make(retention));
        for (const { what, kind, id, version, activates } of commands) {
          const [first, ...others] = stores.map((store) => {
            const latest = store.versions(kind, id).at(-1);
            switch (what) {
              case "append": {
                // Mostly right expectations, so that documents grow; the rest are conflicts.
                const expectedVersion = version < 4 ? (latest?.version ?? 0) : version;
                return append(store, expectedVersion, { kind, id, activates });
              }
              case "activate": {
                const expectedActiveVersion = version < 4 ? (latest?.activeVersion ?? null) : version;
                const wanted = version < 4 ? (latest?.version ?? 1) - (version % 2) : version;
                return store.activate({ kind, id, version: wanted, expectedActiveVersion });
              }
              case "purge":
                return store.appendPurge(purge, version);
              case "read":
                return [
                  store.bounds(),
                  store.snapshotSeqs(),
                  store.events(version, version + 6, 4),
                  store.documents(kind),
                  store.versions(kind, id),
                  store.document(kind, id),
                  store.document(kind, id, version),
                  store.event(version),
                  [store.oldestPurgeSeq(), store.newestPurgeSeq()],
                ];
            }
          });
          for (const other of others) expect(other).toEqual(first);
          const outcome = (first as { outcome?: string }).outcome;
          if (outcome === "conflict") conflicts++;
          if (outcome === "activated") activations++;
        }
        for (const store of stores) store.close();
      }),
      { numRuns: 60, seed: 7 },
    );
    // Without them the comparison would say nothing about the rare branches.
    expect(conflicts).toBeGreaterThan(10);
    expect(activations).toBeGreaterThan(10);
  });
});

describe("sqlite store on its disk", () => {
  it("reopens with everything, under the same log id", () => {
    const stateDirectory = newDirectory();
    const first = new SqliteStore({ stateDirectory, newLogId: "log-1" });
    append(first, 0, { activates: true });
    first.appendPurge(purge, 1);
    first.close();
    const second = new SqliteStore({ stateDirectory, newLogId: "log-2" });
    expect(second.bounds()).toEqual({ logId: "log-1", oldestSeq: 1, newestSeq: 2 });
    expect(second.document("property", "shop-www")?.summary.version).toBe(1);
    second.close();
  });

  it("forgets a long body that was not written whole, or whose version is gone, and writes each in short turns", () => {
    const stateDirectory = newDirectory();
    const path = join(stateDirectory, "control.sqlite");
    const open = () =>
      new SqliteStore({ stateDirectory, newLogId: "log-1", retention: { mapVersionsMax: 1 } });
    /** By upload, how long each part is; and the format of the file. */
    const kept = () => {
      const database = new DatabaseSync(path);
      const parts = database
        .prepare("SELECT upload, length(body) AS n FROM parts ORDER BY upload, part")
        .all();
      const format = database.prepare("SELECT value FROM meta WHERE key = 'format'").get()?.["value"];
      database.close();
      return { parts: parts.map(({ upload, n }) => [upload, n]), format };
    };
    const first = open();
    expect(appendLong(first, 0, 1)).toBeUndefined();
    first.close();
    // Versions of control that know no parts may still have the file.
    expect(kept()).toEqual({
      parts: [[1, 1_048_576]],
      format: "1",
    });
    const second = open();
    for (const before of [0, 1, 2]) appendLong(second, before);
    second.close();
    const whole = [1_048_576, longBody(1).length - 1_048_576];
    // The one that was pruned last goes before the next one is written.
    expect(kept()).toEqual({ parts: [3, 4].flatMap((upload) => whole.map((n) => [upload, n])), format: "2" });
    const third = open();
    expect(third.document("map", "world")?.bodyText).toBe(longBody(3));
    third.close();
  });

  it("refuses a second process and a damaged file, each with one line that says what to do", async () => {
    const stateDirectory = newDirectory();
    const first = new SqliteStore({ stateDirectory, newLogId: "log-1" });
    expect(() => new SqliteStore({ stateDirectory, newLogId: "log-1" })).toThrow(
      /another control process uses this/,
    );
    first.close();
    const { writeFileSync } = await import("node:fs");
    const random = new Random(1);
    const damaged = newDirectory();
    writeFileSync(
      join(damaged, "control.sqlite"),
      Uint8Array.from({ length: 8_192 }, () => random.int(256)),
    );
    expect(() => new SqliteStore({ stateDirectory: damaged, newLogId: "log-1" })).toThrow(
      /put back a copy of the file/,
    );
  });
});
