import { expect, test } from "vitest";
import type { EpochMs } from "#kit";
import { type CacheKey, MemoryStore, ObjectBody, type StoredObject } from "#edge";

const key = (name: string): CacheKey => `http://a.example/${name}` as CacheKey;

function stored(bytes: number, language?: string): StoredObject {
  return {
    status: 200,
    fields: [["Content-Type", "text/plain"]],
    requestTime: 0 as EpochMs,
    responseTime: 0 as EpochMs,
    nominatedFields: language === undefined ? [] : ["accept-language"],
    nominatedValues: language === undefined ? [] : [language],
    generation: 0,
    tags: [],
    isInvalidated: false,
    sliced: null,
    part: null,
    body: ObjectBody.of([new Uint8Array(bytes)]),
  };
}

test("a cell ends at every change of its key's variants, and a new one is for the new state", () => {
  const store = new MemoryStore(2 ** 20);
  const first = stored(10, "en");
  const second = stored(10, "de");
  expect(store.cellOf(key("x"))).toBeUndefined();
  const changes: readonly [name: string, change: () => void][] = [
    ["another variant", () => store.put(key("x"), second)],
    ["the same variant again", () => store.put(key("x"), stored(20, "de"))],
    ["freshened", () => store.replace(key("x"), first, stored(10, "en"))],
    ["invalidated", () => store.update(key("x"), (object) => ({ ...object, isInvalidated: true }))],
    ["one swept", () => store.sweep((_key, object) => object.nominatedValues[0] === "de")],
    ["deleted", () => store.update(key("x"), () => undefined)],
  ];
  store.put(key("x"), first);
  for (const [name, change] of changes) {
    const cell = store.cellOf(key("x"));
    expect(store.cellOf(key("x")), name).toBe(cell);
    expect(cell?.isLive, name).toBe(true);
    change();
    expect(cell?.isLive, name).toBe(false);
    expect(store.touch(cell!), name).toBe(false);
  }
  expect(store.cellOf(key("x"))).toBeUndefined();
});

test("what is no change of a key leaves its cell alone: other keys, look-ups, sweeps that spare it", () => {
  const store = new MemoryStore(2 ** 20);
  const object = stored(10);
  store.put(key("x"), object);
  const cell = store.cellOf(key("x"))!;
  store.put(key("y"), stored(10));
  store.lookup(key("x"));
  store.sweep((swept) => swept === key("y"));
  store.replace(key("x"), stored(10), stored(10));
  store.update(key("z"), () => undefined);
  expect(cell.isLive).toBe(true);
  expect(store.peek(key("x"))).toEqual([object]);
});

test("an evicted entry's cell ends; one that is touched stays, as one that is looked up", () => {
  const store = new MemoryStore(2 ** 20);
  store.put(key("touched"), stored(100_000));
  store.put(key("left"), stored(100_000));
  const touched = store.cellOf(key("touched"))!;
  const left = store.cellOf(key("left"))!;
  for (let n = 0; n < 20; n++) {
    expect(store.touch(touched)).toBe(true);
    store.put(key(`${n}`), stored(100_000));
    expect(store.bytes).toBeLessThanOrEqual(2 ** 20);
  }
  expect(touched.isLive).toBe(true);
  expect(left.isLive).toBe(false);
  expect(store.counters.evictions).toBeGreaterThan(0);
  expect(store.objects).toBe(22 - store.counters.evictions);
});

test("a store whose reserve grows lets the oldest go at once, and takes more in when it shrinks", () => {
  const store = new MemoryStore(2 ** 22, "lru");
  const fill = (from: number): void => {
    for (let n = from; n < from + 500; n++) store.put(key(`${n}`), stored(16_384));
  };
  fill(0);
  expect(store.isFull).toBe(true);
  const before = store.objects;
  store.garbageBytes = 2 ** 20;
  expect(store.objects).toBeLessThan(before);
  expect(store.peek(key("499"))).toHaveLength(1);
  expect(store.bytes).toBeLessThanOrEqual(2 ** 22);
  store.garbageBytes = 0;
  expect(store.isFull).toBe(false);
  fill(1_000);
  expect(store.objects).toBeGreaterThan(before);
  expect(store.bytes).toBeLessThanOrEqual(2 ** 22);
});
