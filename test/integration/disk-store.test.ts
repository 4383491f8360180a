/** Goal: the disk store keeps its promises on real files. Method: real directories, a driver of files that fails on command. */
import { mkdirSync } from "node:fs";
import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Clock, epochMs, type MonotonicMs, monotonicMs } from "#kit";
import { createLogger } from "#kit/io";
import {
  type CacheKey,
  type DiskOptions,
  DiskStore,
  ObjectBody,
  SegmentFiles,
  type StoredObject,
} from "#edge";
import { startEdge, until } from "./edge-support.ts";

const MiB = 2 ** 20;
const logger = createLogger({ role: "edge", id: "test" }, { level: "silent" });
let directory: string;
const opened: DiskStore[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "isochrone-disk-"));
});
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
  await rm(directory, { recursive: true, force: true });
});

async function begin(options: Partial<DiskOptions> = {}): Promise<DiskStore> {
  const store = new DiskStore({ directory, bytesMax: 64 * MiB, logger, ...options });
  await store.open();
  opened.push(store);
  return store;
}

async function again(store: DiskStore, options: Partial<DiskOptions> = {}): Promise<DiskStore> {
  await store.close();
  opened.splice(opened.indexOf(store), 1);
  return begin(options);
}

const keyOf = (name: string | number): CacheKey => `http://a.example/${name}` as CacheKey;

function objectOf(body: Uint8Array | string, more: Partial<StoredObject> = {}): StoredObject {
  return {
    status: 200,
    fields: [["Content-Type", "text/plain"]],
    requestTime: epochMs(1),
    responseTime: epochMs(2),
    nominatedFields: [],
    nominatedValues: [],
    generation: 7,
    tags: ["t"],
    isInvalidated: false,
    sliced: null,
    part: null,
    body: ObjectBody.of([Buffer.from(body)]),
    ...more,
  };
}

async function bodyOf(store: DiskStore, name: string | number): Promise<string | undefined> {
  const [object] = await store.load(keyOf(name));
  return object && Buffer.concat(object.body.chunks).toString();
}

/** Puts an object as soon as the store takes it. */
async function putWhenTaken(store: DiskStore, name: string | number, body: string): Promise<void> {
  await until(async () => {
    const reason = store.put(keyOf(name), objectOf(body));
    if (reason !== undefined) expect(reason).toBe("queue-full");
    await store.flush();
    return reason === undefined;
  }, `${name} is taken`);
}

const segmentNames = async (): Promise<string[]> =>
  (await readdir(directory)).filter((name) => name.startsWith("segment-")).sort();

test("an object comes back as it was, before it is written, after, and after a restart; its body holds nothing else", async () => {
  let store = await begin();
  const varied = objectOf("b".repeat(5_000), {
    nominatedFields: ["accept"],
    nominatedValues: [null],
    isInvalidated: true,
    sliced: { totalBytes: 9_000, sliceBytes: 4_096, validator: '"e"' },
  });
  store.put(keyOf("v"), objectOf("a"));
  store.put(keyOf("v"), varied);
  store.put(keyOf("empty"), objectOf(""));
  expect(store.counters.writes).toBe(0);
  for (const when of ["queued", "written", "reopened"]) {
    const [first, second] = await store.load(keyOf("v"));
    expect(first, when).toEqual(objectOf("a"));
    expect({ ...second, body: undefined }).toEqual({ ...varied, body: undefined });
    expect(second?.body.bytes).toBe(5_000);
    expect(await bodyOf(store, "empty")).toBe("");
    if (when !== "queued") expect(second?.body.chunks[0]?.buffer.byteLength).toBe(5_000);
    if (when === "queued") expect(await store.flush()).toBe(true);
    if (when === "written") store = await again(store);
  }
  expect(store.objects).toBe(3);
  expect(store.counters.reads).toBe(3);
});

test("a variant that is put again replaces the older; a deleted key is gone, also after a kill", async () => {
  let store = await begin();
  store.put(keyOf(1), objectOf("old"));
  store.put(keyOf(2), objectOf("to be deleted"));
  await store.flush();
  store.put(keyOf(1), objectOf("new"));
  store.delete(keyOf(2));
  expect(store.has(keyOf(2))).toBe(false);
  await store.flush();
  // A copy of the files as they stand is what a killed process leaves.
  const copy = await mkdtemp(join(tmpdir(), "isochrone-disk-"));
  for (const name of await readdir(directory)) {
    if (name !== "lock") await writeFile(join(copy, name), await readFile(join(directory, name)));
  }
  const killed = await begin({ directory: copy });
  expect(await bodyOf(killed, 1)).toBe("new");
  expect(killed.has(keyOf(2))).toBe(false);
  store = await again(store);
  expect(await bodyOf(store, 1)).toBe("new");
  expect(await bodyOf(store, 2)).toBeUndefined();
  await rm(copy, { recursive: true });
});

test("forms of a content lie with it, also after a kill, in buffers of their own; what is not there gets none", async () => {
  const store = await begin();
  const object = objectOf("content");
  store.put(keyOf(1), object);
  await store.flush();
  object.body.setCoded("br", ObjectBody.of([Buffer.from("coded")]));
  object.body.setCoded("gzip", ObjectBody.of([Buffer.from("zipped")]));
  for (const name of ["zstd", "identity", "dcb:hash"]) object.body.setCoded(name, "pending");
  store.supplement(keyOf(1), object);
  store.supplement(keyOf(2), object);
  store.supplement(keyOf(1), { ...object, nominatedFields: ["accept"], nominatedValues: ["a"] });
  // The freshened head of the same content.
  store.put(keyOf(3), object);
  store.put(keyOf(3), { ...object, generation: 8 });
  store.put(keyOf(4), object);
  store.delete(keyOf(4));
  store.supplement(keyOf(4), object);
  await store.flush();
  const copy = await mkdtemp(join(tmpdir(), "isochrone-disk-"));
  const [name = ""] = await segmentNames();
  await writeFile(join(copy, name), await readFile(join(directory, name)));
  const killed = await begin({ directory: copy });
  for (const [number, generation] of [
    [1, 7],
    [3, 8],
  ] as const) {
    const [found, ...others] = await killed.load(keyOf(number));
    expect(others).toEqual([]);
    expect(found).toMatchObject({ generation, status: 200 });
    const bodies = [found?.body, ...(found?.body.coded.values() ?? [])];
    expect(bodies.map((body) => body instanceof ObjectBody && Buffer.concat(body.chunks).toString())).toEqual(
      ["content", "coded", "zipped"],
    );
    for (const body of bodies)
      if (body instanceof ObjectBody) expect(body.chunks[0]?.buffer.byteLength).toBe(body.bytes);
    expect([...(found?.body.coded.keys() ?? [])]).toEqual(["br", "gzip"]);
  }
  expect(killed.objects).toBe(2);
  await rm(copy, { recursive: true });
});

test("a form for which there is no room leaves what is there", async () => {
  const store = await begin({ bytesMax: 1_024 * MiB, pendingBytesMax: MiB });
  const object = objectOf("content");
  store.put(keyOf(1), object);
  await store.flush();
  object.body.setCoded("br", ObjectBody.of([Buffer.alloc(MiB)]));
  store.supplement(keyOf(1), object);
  expect(store.counters.skipped["queue-full"]).toBe(1);
  expect(await bodyOf(store, 1)).toBe("content");
  // No segment holds both: the content is what counts.
  object.body.setCoded("br", ObjectBody.of([Buffer.alloc(64 * MiB)]));
  expect(store.put(keyOf(1), object)).toBeUndefined();
  expect((await again(store)).objects).toBe(1);
});

test("who closes a store that is being closed waits too: a process must not go on before it has let go", async () => {
  const { running } = await startEdge({ port: 9 }, {}, directory);
  let isClosed = false;
  const first = running.closeDisk().then(() => (isClosed = true));
  await running.closeDisk();
  expect(isClosed).toBe(true);
  await first;
  await running.close();
});

test("a key that only shares the fingerprint gets nothing: the record names its own key", async () => {
  const store = await begin();
  store.put(keyOf("mine"), objectOf("mine"));
  await store.flush();
  const [name = ""] = await segmentNames();
  const bytes = await readFile(join(directory, name));
  // Same place, same index, another key in the head: its checksum is made right again below.
  const at = bytes.indexOf("/mine");
  bytes.write("/hers", at);
  const { crc32 } = await import("node:zlib");
  const header = 32;
  const headBytes = bytes.readUInt32LE(header + 32);
  bytes.writeUInt32LE(crc32(bytes.subarray(header + 8, header + 48 + headBytes)), header + 4);
  const file = await open(join(directory, name), "r+");
  await file.write(bytes, 0, bytes.length, 0);
  await file.close();
  expect(store.has(keyOf("mine"))).toBe(true);
  expect(await bodyOf(store, "mine")).toBeUndefined();
  expect(store.counters.damaged).toBe(0);
});

describe("the end of the log", () => {
  test.each([
    ["cut in the last record", (bytes: Buffer) => bytes.subarray(0, -700), 9],
    [
      "followed by zeros, as after a power cut",
      (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(5_000)]),
      10,
    ],
    ["followed by half a record", (bytes: Buffer) => Buffer.concat([bytes, bytes.subarray(32, 900)]), 10],
  ])("%s is taken as far as it is whole", async (_what, change, left) => {
    const store = await begin();
    for (let number = 0; number < 10; number++) store.put(keyOf(number), objectOf(`${number}`.repeat(1_000)));
    await store.flush();
    const copy = await mkdtemp(join(tmpdir(), "isochrone-disk-"));
    const [name = ""] = await segmentNames();
    await writeFile(join(copy, name), change(await readFile(join(directory, name))));
    const reopened = await begin({ directory: copy });
    expect(reopened.objects).toBe(left);
    for (let number = 0; number < left; number++)
      expect(await bodyOf(reopened, number)).toBe(`${number}`.repeat(1_000));
    expect(reopened.counters.damaged).toBe(0);
    // What is written now goes to a segment of its own.
    reopened.put(keyOf("more"), objectOf("more"));
    const third = await again(reopened, { directory: copy });
    expect(third.objects).toBe(left + 1);
    await rm(copy, { recursive: true });
  });

  test("damage in its middle costs one record; as a delete may have stood there, what is older is validated", async () => {
    const store = await begin();
    for (let number = 0; number < 10; number++) store.put(keyOf(number), objectOf(`${number}`.repeat(1_000)));
    await store.flush();
    const copy = await mkdtemp(join(tmpdir(), "isochrone-disk-"));
    const [name = ""] = await segmentNames();
    const bytes = await readFile(join(directory, name));
    bytes.fill(0, bytes.indexOf('a.example/4"') - 60, bytes.indexOf('a.example/4"'));
    await writeFile(join(copy, name), bytes);
    let reopened = await begin({ directory: copy });
    for (const round of [1, 2]) {
      expect(reopened.objects, `${round}`).toBe(9);
      expect(await bodyOf(reopened, 9)).toBe("9".repeat(1_000));
      expect((await reopened.load(keyOf(9)))[0]?.isInvalidated).toBe(round === 1);
      // The mark is in the header of the next segment.
      if (round === 1) reopened.put(keyOf(9), objectOf("9".repeat(1_000)));
      if (round === 1) reopened = await again(reopened, { directory: copy });
    }
    expect((await reopened.load(keyOf(3)))[0]?.isInvalidated).toBe(true);
    await rm(copy, { recursive: true });
  });
});

test("a store that turns over stays within its bytes, keeps what is used, gives files back", async () => {
  let store = await begin({ bytesMax: 16 * MiB });
  const body = "x".repeat(100_000);
  store.put(keyOf("hot"), objectOf(`hot${body}`));
  for (let number = 0; number < 600; number++) {
    await putWhenTaken(store, number, `${number} ${body}`);
    if (number % 10 === 0) {
      expect(await bodyOf(store, "hot")).toBe(`hot${body}`);
      expect(store.bytes).toBeLessThanOrEqual(16 * MiB);
    }
  }
  await store.flush();
  expect(store.counters.reinserted).toBeGreaterThan(2);
  expect(store.evictions).toBeGreaterThan(300);
  expect(await bodyOf(store, 0)).toBeUndefined();
  expect(await bodyOf(store, 599)).toBe(`599 ${body}`);
  let bytes = 0;
  for (const name of await segmentNames()) bytes += (await readFile(join(directory, name))).byteLength;
  expect(bytes).toBeLessThanOrEqual(16 * MiB);
  const objects = store.objects;
  store = await again(store, { bytesMax: 16 * MiB });
  expect(store.objects).toBe(objects);
  expect(await bodyOf(store, "hot")).toBe(`hot${body}`);
  // Fewer bytes at the next start: the oldest go.
  store = await again(store, { bytesMax: 8 * MiB });
  expect(store.bytes).toBeLessThanOrEqual(8 * MiB);
  expect(store.objects).toBeGreaterThan(10);
});

test("what memory answers for is kept when its segment goes, though the disk was never asked for it", async () => {
  const names = ["hot", 'with "quotes" and \\', "h\u00f6t"].map(keyOf);
  const store = await begin({ bytesMax: 16 * MiB, isInMemory: (key) => names.includes(key) });
  for (const key of names) store.put(key, objectOf(key));
  for (let number = 0; number < 400; number++) await putWhenTaken(store, number, "x".repeat(100_000));
  expect(store.counters.reinserted).toBeGreaterThanOrEqual(6);
  for (const key of names) expect(store.has(key), key).toBe(true);
  expect(store.has(keyOf(0))).toBe(false);
});

test("what all was deleted takes no space", async () => {
  const store = await begin({ bytesMax: 16 * MiB });
  for (let number = 0; number < 100; number++) store.put(keyOf(number), objectOf("x".repeat(100_000)));
  await store.flush();
  for (let number = 0; number < 100; number++) store.delete(keyOf(number));
  await store.flush();
  expect(store.objects).toBe(0);
  expect(store.bytes).toBeLessThan(5 * MiB);
  store.put(keyOf("one"), objectOf("one"));
  store.clear();
  await store.flush();
  expect(store.bytes).toBe(0);
  expect(await segmentNames()).toEqual([]);
  expect(await bodyOf(store, "one")).toBeUndefined();
});

test("admission is asked for what is new, but at the end; a form that is kept off takes the older one with it", async () => {
  let asked: string[] = [];
  let isAdmitted = false;
  const store = await begin({
    bytesMax: 4 * MiB,
    admit: (key, bytes, occasion, isFull) => {
      asked.push(`${key} ${bytes} ${occasion}`);
      return !isFull || isAdmitted;
    },
  });
  for (let number = 0; number < 15; number++)
    expect(store.put(keyOf(number), objectOf("x".repeat(100_000)))).toBeUndefined();
  expect(asked).toHaveLength(15);
  let isRefused = false;
  for (let number = 0; !isRefused; number++) {
    expect(number).toBeLessThan(100);
    isRefused = store.put(keyOf(`more ${number}`), objectOf("x".repeat(100_000))) === "admission";
    await store.flush();
  }
  asked = [];
  expect(store.put(keyOf("new"), objectOf("one"))).toBe("admission");
  expect(store.has(keyOf("new"))).toBe(false);
  expect(store.put(keyOf("new"), objectOf("one"), "leaving-memory")).toBe("admission");
  expect(store.put(keyOf("new"), objectOf("one"), "closing")).toBeUndefined();
  expect(store.put(keyOf("new"), objectOf("newer"))).toBeUndefined();
  const other = { nominatedFields: ["accept"], nominatedValues: ["a"] };
  expect(store.put(keyOf("new"), objectOf("another variant", other))).toBe("admission");
  expect(asked).toEqual([
    "http://a.example/new 3 fetched",
    "http://a.example/new 3 leaving-memory",
    "http://a.example/new 15 fetched",
  ]);
  isAdmitted = true;
  expect(store.put(keyOf("new"), objectOf("another variant", other))).toBeUndefined();
  expect(store.counters.skipped.admission).toBe(4);
});

test("more than may wait is not written, counted, and leaves no older form", async () => {
  const store = await begin({ bytesMax: 1_024 * MiB });
  const body = Buffer.alloc(MiB, 1);
  store.put(keyOf(50), objectOf("old"));
  await store.flush();
  for (let number = 0; number <= 50; number++) store.put(keyOf(number), objectOf(body));
  expect(store.pendingBytes).toBeLessThanOrEqual(32 * MiB);
  expect(store.counters.skipped["queue-full"]).toBeGreaterThan(10);
  expect(store.has(keyOf(50))).toBe(false);
  await store.flush();
  expect(store.pendingBytes).toBe(0);
  expect((await again(store, { bytesMax: 1_024 * MiB })).has(keyOf(50))).toBe(false);
});

test("a directory belongs to one store; a dead holder's lock is taken over", async () => {
  const store = await begin();
  await expect(begin()).rejects.toThrow(/Cannot use the disk store .*: process \d+ uses/);
  store.put(keyOf(1), objectOf("one"));
  await again(store);
  expect(await readdir(directory)).toContain("lock");
  for (const other of opened.splice(0)) await other.close();
  expect(await readdir(directory)).not.toContain("lock");
  const boot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "")).trim();
  // A process number that lives, but not since then; and the same run of the system, so that nothing was lost with it.
  const lock = { pid: process.ppid, started: "1", boot, isUnsettled: false };
  await writeFile(join(directory, "lock"), JSON.stringify(lock));
  const after = await begin();
  expect((await after.load(keyOf(1)))[0]?.isInvalidated).toBe(boot === "");
});

test("what outlived a power cut is validated before it is used, and what is stored since is not", async () => {
  let store = await begin();
  store.put(keyOf(1), objectOf("one"));
  await store.close();
  opened.splice(0);
  const lock = { pid: 999_999_999, started: "1", boot: "another run", isUnsettled: false };
  await writeFile(join(directory, "lock"), JSON.stringify(lock));
  store = await begin();
  store.put(keyOf(2), objectOf("two"));
  for (const _ of [1, 2]) {
    expect((await store.load(keyOf(1)))[0]?.isInvalidated).toBe(true);
    expect((await store.load(keyOf(2)))[0]?.isInvalidated).toBe(false);
    store = await again(store);
  }
});

/** Files that the system refuses on command. */
class FailingFiles extends SegmentFiles {
  code: string | undefined;

  #maybe(): void {
    if (this.code !== undefined) throw Object.assign(new Error(`${this.code}: planted`), { code: this.code });
  }
  override async create(segment: number, header: Uint8Array): Promise<void> {
    this.#maybe();
    await super.create(segment, header);
  }
  /** Half of it arrives, as when a disk fills up. */
  override async write(segment: number, offset: number, parts: readonly Uint8Array[]): Promise<void> {
    if (this.code !== undefined) {
      const whole = Buffer.concat(parts);
      await super.write(segment, offset, [whole.subarray(0, whole.byteLength / 2)]);
    }
    this.#maybe();
    await super.write(segment, offset, parts);
  }
  override async remove(segment: number): Promise<void> {
    this.#maybe();
    await super.remove(segment);
  }
}

/** A clock that is moved by hand, while timers are real: a pause ends when both say so. */
class HandClock implements Clock {
  now = 0;
  monotonic(): MonotonicMs {
    return monotonicMs(this.now);
  }
  epoch() {
    return epochMs(this.now);
  }
}

describe("a disk that refuses", () => {
  test.each(["ENOSPC", "EIO", "EROFS"])(
    "%s: requests pass by, it is counted, what was replaced or deleted stays away, and it is used again later",
    async (code) => {
      const files = new FailingFiles(directory);
      const clock = new HandClock();
      let store = await begin({ files, clock });
      for (const name of ["kept", "replaced", "deleted", "deleted later"])
        store.put(keyOf(name), objectOf(name));
      await store.flush();
      files.code = code;
      store.put(keyOf("lost"), objectOf("lost"));
      store.put(keyOf("replaced"), objectOf("newer"));
      store.delete(keyOf("deleted"));
      expect(await store.flush()).toBe(false);
      expect(store.isFailing).toBe(true);
      expect(store.counters.errors).toBe(1);
      expect(store.counters.skipped.failing).toBe(2);
      expect(store.put(keyOf("skipped"), objectOf("skipped"))).toBe("failing");
      store.delete(keyOf("deleted later"));
      // Reading goes on, but for what a full disk gives way with.
      expect(await bodyOf(store, "kept")).toBe(code === "ENOSPC" ? undefined : "kept");
      for (const name of ["lost", "replaced", "deleted", "deleted later", "skipped"])
        expect(store.has(keyOf(name)), name).toBe(false);
      files.code = undefined;
      clock.now = 10_000;
      await until(() => !store.isFailing && store.pendingBytes === 0, "the disk is used again");
      expect(store.put(keyOf("after"), objectOf("after"))).toBeUndefined();
      expect(await store.flush()).toBe(true);
      store = await again(store);
      expect(await bodyOf(store, "after")).toBe("after");
      expect(await bodyOf(store, "kept")).toBe(code === "ENOSPC" ? undefined : "kept");
      for (const name of ["lost", "replaced", "deleted", "deleted later", "skipped"])
        expect(store.has(keyOf(name)), name).toBe(false);
    },
  );

  test("pauses grow while it refuses", async () => {
    const files = new FailingFiles(directory);
    const clock = new HandClock();
    const store = await begin({ files, clock });
    files.code = "EIO";
    for (const [now, expected] of [
      [0, undefined],
      [999, "failing"],
      [1_000, undefined],
      [2_999, "failing"],
      [3_000, undefined],
      [6_999, "failing"],
    ] as const) {
      clock.now = now;
      expect(store.put(keyOf(1), objectOf("one")), `${now}`).toBe(expected);
      if (expected === undefined) await until(() => store.pendingBytes === 0, "it was refused", 10_000);
    }
    expect(store.counters.skipped.failing).toBe(6);
  });

  test("a directory that is removed under it is made again", async () => {
    const clock = new HandClock();
    let store = await begin({ clock, bytesMax: 4 * MiB });
    store.put(keyOf("before"), objectOf("before"));
    await store.flush();
    await rm(directory, { recursive: true });
    // Its open files still serve.
    expect(await bodyOf(store, "before")).toBe("before");
    for (let number = 0; number < 20; number++) store.put(keyOf(number), objectOf("x".repeat(100_000)));
    expect(await store.flush()).toBe(false);
    await until(async () => {
      clock.now += 10_000;
      // Nothing is pending either while it is not tried: then the object was skipped.
      const skipped = store.put(keyOf("after"), objectOf("after"));
      return (await store.flush()) && skipped === undefined;
    }, "it is used again");
    store = await again(store, { bytesMax: 4 * MiB });
    expect(await bodyOf(store, "after")).toBe("after");
  });

  test("a start on a full disk serves without it, and reads it later as what may be out of date", async () => {
    let store = await begin();
    store.put(keyOf(1), objectOf("one"));
    await store.close();
    opened.splice(0);
    class FullAtFirst extends SegmentFiles {
      isFull = true;
      override list(): ReturnType<SegmentFiles["list"]> {
        return this.isFull
          ? Promise.reject(Object.assign(new Error("planted"), { code: "ENOSPC" }))
          : super.list();
      }
    }
    const files = new FullAtFirst(directory);
    const clock = new HandClock();
    store = await begin({ files, clock });
    expect(store.has(keyOf(1))).toBe(false);
    expect(store.put(keyOf(2), objectOf("two"))).toBe("failing");
    files.isFull = false;
    clock.now = 10_000;
    await until(() => store.has(keyOf(1)), "it is read");
    expect((await store.load(keyOf(1)))[0]?.isInvalidated).toBe(true);
  });

  test("a close waits for a try that is under way: the directory is the next one's then", async () => {
    let isListing = false;
    const listed = Promise.withResolvers<void>();
    class SlowAtLast extends SegmentFiles {
      override async list(): ReturnType<SegmentFiles["list"]> {
        if (isListing) await listed.promise;
        else throw Object.assign(new Error("planted"), { code: "ENOSPC" });
        return super.list();
      }
    }
    const files = new SlowAtLast(directory);
    const lists = vi.spyOn(files, "list");
    const store = await begin({ files });
    isListing = true;
    await until(() => lists.mock.calls.length === 2, "it is tried again");
    let isClosed = false;
    const closing = store.close().then(() => (isClosed = true));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(isClosed).toBe(false);
    listed.resolve();
    await closing;
  });
});

test("strange files of the directory stay; old formats go", async () => {
  mkdirSync(join(directory, "sub"));
  await writeFile(join(directory, "notes.txt"), "mine");
  await writeFile(join(directory, "0123-4567.object"), "isochrone-object 1");
  await writeFile(join(directory, "segment-00000007.log"), Buffer.alloc(100, 7));
  const store = await begin();
  expect(store.objects).toBe(0);
  store.put(keyOf(1), objectOf("one"));
  await store.flush();
  expect((await readdir(directory)).sort()).toEqual(["lock", "notes.txt", "segment-00000008.log", "sub"]);
});
