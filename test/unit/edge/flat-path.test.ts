/** The flat path: which heads it reads itself, and for how long a remembered hit stands. */
import { describe, expect, test } from "vitest";
import { type EpochMs, epochMs } from "#kit";
import {
  edgeDefaults,
  type HeadBlock,
  type HitMemo,
  HotTable,
  isBeyondReading,
  mayBecomeCanonical,
  MemoryStore,
  ObjectBody,
  PurgeIndex,
  readHeadBlock,
  type StoredObject,
} from "#edge";
import { type CacheKey, cacheKey } from "../../../edge/core/cache-key.ts";
import { handOverReason } from "../../../edge/core/hand-over.ts";
import { freshness, freshWindow } from "../../../edge/core/freshness.ts";
import type { Fields } from "../../../edge/core/headers.ts";
import { at, policy, stored, T0 } from "./support.ts";

function read(section: string): HeadBlock | undefined {
  const bytes = Buffer.from(`GET / HTTP/1.1\r\n${section}\r\n`, "latin1");
  return readHeadBlock(bytes, 5, bytes.byteLength, edgeDefaults, "http");
}

describe("header sections", () => {
  test.for([
    ["Host: a\r\n", [["Host", "a"]]],
    [
      "Host:a\r\nX:\r\n",
      [
        ["Host", "a"],
        ["X", ""],
      ],
    ],
    [
      "Host: \t a \t\r\nX: b  c\r\n",
      [
        ["Host", "a"],
        ["X", "b  c"],
      ],
    ],
    ["host: a\r\nX-\xe9: b\r\n", undefined],
    [
      "host: a\r\nX: \xe9\xff\r\n",
      [
        ["host", "a"],
        ["X", "\xe9\xff"],
      ],
    ],
    [
      "Host: a\r\nConnection: Keep-Alive\r\n",
      [
        ["Host", "a"],
        ["Connection", "Keep-Alive"],
      ],
    ],
    // Everything else is node:http's to judge.
    ["Host : a\r\n", undefined],
    [" Host: a\r\n", undefined],
    ["Host: a\r\n b\r\n", undefined],
    ["Host: a\nX: b\r\n", undefined],
    ["Host: a\rX: b\r\n", undefined],
    ["Host: a\0\r\n", undefined],
    ["Host a\r\n", undefined],
    [": a\r\n", undefined],
    ["Host: a\r\nContent-Length: 0\r\n", undefined],
    ["Host: a\r\ntransfer-encoding: chunked\r\n", undefined],
    ["Host: a\r\nExpect: 100-continue\r\n", undefined],
    ["Host: a\r\nUpgrade: h2c\r\n", undefined],
    ["Host: a\r\nConnection: close, X\r\n", undefined],
    ["Host: a\r\nConnection: Upgrade\r\n", undefined],
  ] as const)("%j", ([section, fields]) => {
    expect(read(section)?.fields).toEqual(fields);
  });

  test("another version of the protocol is not read", () => {
    for (const line of [
      "GET / HTTP/1.0\r\n",
      "GET / HTTP/2.0\r\n",
      "GET / RTSP/1.0\r\n",
      "GET /  HTTP/1.1\r\n",
    ]) {
      const bytes = Buffer.from(`${line}Host: a\r\n\r\n`);
      expect(readHeadBlock(bytes, 5, bytes.byteLength, edgeDefaults, "http")).toBeUndefined();
    }
  });

  test("too many fields are left to the way that says so", () => {
    const many = "X: y\r\n".repeat(edgeDefaults.headerFieldsMax);
    expect(read(many)?.fields.length).toBe(edgeDefaults.headerFieldsMax);
    expect(read(`${many}X: y\r\n`)).toBeUndefined();
  });

  test("what decides about a hit is known beforehand", () => {
    expect(read("Host: a\r\n")).toMatchObject({
      isPlain: true,
      isConditional: false,
      hasRange: false,
      isClose: false,
    });
    expect(read("Host: a\r\nIf-None-Match: x\r\nRange: bytes=0-1\r\n")).toMatchObject({
      isPlain: true,
      isConditional: true,
      hasRange: true,
    });
    expect(read("Host: a\r\nPragma: x\r\nConnection: close\r\n")).toMatchObject({
      hasDirectives: true,
      isClose: true,
    });
    for (const name of ["CDN-Loop", "If-Match", "If-Unmodified-Since", "Max-Forwards", "Isochrone-Peer"])
      expect(read(`Host: a\r\n${name}: x\r\n`)?.isPlain).toBe(false);
  });

  test.for([
    ["G", true],
    ["GET", true],
    ["GET /a HTTP/1.1\r\nHost", true],
    ["HEAD /", true],
    ["HEAD ", true],
    ["P", false],
    ["GETX", false],
    ["GET x", false],
    ["HEAD http://", false],
    ["\r\nGET /", false],
    ["GET / HTTP/1.1\nHost: a", false],
  ] as const)("the beginning %j may still become canonical: %s", ([begins, expected]) => {
    expect(mayBecomeCanonical(Buffer.from(begins))).toBe(expected);
  });

  test.for([
    // 200 fields of all the bytes that there may be stay under it, with all that stands between.
    [`GET / HTTP/1.1\r\n${`X: ${"y".repeat(70)}\r\n`.repeat(200)}`, false],
    [`GET / HTTP/1.1\r\n${"a: b\r\n".repeat(10_000)}`, true],
    [`GET / HTTP/1.1\r\n${"a: b\r\n".repeat(10_000)}\r\n`, true],
    [`HEAD /${"y".repeat(20_000)}`, true],
    // What else begins with them is node:http's to judge.
    [`GET / HTTP/1.1\n${"a: b\n".repeat(10_000)}`, false],
    [`POST / HTTP/1.1\r\n${"a: b\r\n".repeat(10_000)}`, false],
  ] as const)("case %# of long heads", ([begins, expected]) => {
    expect(isBeyondReading(Buffer.from(begins), edgeDefaults)).toBe(expected);
  });
});

describe("remembered hits", () => {
  const PLAIN = read("Host: a.example\r\n") as HeadBlock;
  const FRESH: Fields = [
    ["Cache-Control", "max-age=60"],
    ["Date", "Thu, 01 Jan 2026 00:00:00 GMT"],
    ["ETag", '"v"'],
    ["Cache-Status", "old; hit; ttl=1"],
  ];
  const KEY = cacheKey({ scheme: "http", host: "a.example", target: "/x" }, policy());

  class Bench {
    now: EpochMs = T0;
    readonly store = new MemoryStore(2 ** 24);
    readonly purges = new PurgeIndex();
    readonly routing = { propertyVersion: 0 };
    readonly table: HotTable;

    constructor(bytesMax = 2 ** 20) {
      this.table = new HotTable({
        bytesMax,
        store: this.store,
        purges: this.purges,
        routing: this.routing as never,
        clock: { epoch: () => this.now, monotonic: () => 0 as never },
        cacheName: "fra-1",
      });
    }

    keep(object: StoredObject, key: CacheKey = KEY): void {
      this.store.put(key, object);
    }

    offer(object: StoredObject, more: Partial<HitMemo> = {}, target = "/x"): void {
      const key = more.key ?? KEY;
      const window = freshWindow(object, policy());
      const cell = this.store.cellOf(key);
      if (window === undefined || cell === undefined) throw new Error("not a hit");
      this.table.offer(
        { method: "GET", scheme: "http", host: "a.example", target, fields: [] },
        {
          key,
          stored: object,
          cell,
          nominatedFields: object.nominatedFields,
          nominatedValues: object.nominatedValues,
          window,
          purgeScope: "",
          purgeGeneration: this.purges.generation,
          propertyVersion: this.routing.propertyVersion,
          hearsDirectives: false,
          record: { outcome: "hit", status: undefined, propertyId: undefined, upstream: undefined },
          ...more,
        },
      );
    }

    find(block: HeadBlock = PLAIN, target = "/x") {
      const scope = this.table.scopeOf("http", "a.example");
      return scope && this.table.find(scope, target, block, this.now);
    }

    text(block: HeadBlock = PLAIN): string | undefined {
      const entry = this.find(block);
      if (entry === undefined) return undefined;
      const age = entry.ageSeconds(this.now);
      return entry.whole.at(age, entry.memo.window.lifetimeSeconds - age).toString("latin1");
    }
  }

  const object = (body: string, fields: Fields = FRESH, requestFields: Fields = []): StoredObject => ({
    ...stored(fields, {}, requestFields),
    body: ObjectBody.of([Buffer.from(body)]),
  });

  const ready = (): Bench => {
    const bench = new Bench();
    const one = object("hello");
    bench.keep(one);
    bench.offer(one);
    return bench;
  };

  test("the bytes are those of the answer, with the age and ttl of the moment", () => {
    const bench = ready();
    for (const seconds of [0, 9, 10, 59]) {
      bench.now = at(seconds);
      expect(bench.text()).toBe(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n" +
          `ETag: "v"\r\nAge: ${seconds}\r\nVia: 1.1 fra-1\r\nCache-Status: fra-1; hit; ttl=${60 - seconds}\r\n` +
          "Content-Length: 5\r\n\r\nhello",
      );
    }
    expect(bench.table.counters.hits).toBe(4);
  });

  test("bytes that the socket still holds do not change", () => {
    const bench = ready();
    const entry = bench.find();
    if (entry === undefined) throw new Error("no entry");
    const first = entry.whole.at(1, 59);
    entry.whole.keep();
    const copy = first.toString("latin1");
    expect(entry.whole.at(2, 58).toString("latin1")).not.toBe(copy);
    expect(first.toString("latin1")).toBe(copy);
  });

  test.for<[string, (bench: Bench) => void]>([
    [
      "it is no longer fresh",
      (bench) => {
        bench.now = at(60);
      },
    ],
    [
      "the clock was set back",
      (bench) => {
        bench.now = at(-1);
      },
    ],
    ["a newer one was stored", (bench) => bench.keep(object("newer"))],
    [
      "it was invalidated",
      (bench) => void bench.store.update(KEY, (one) => ({ ...one, isInvalidated: true })),
    ],
    ["it was dropped", (bench) => void bench.store.update(KEY, () => undefined)],
    ["it was purged softly", (bench) => void bench.purges.apply(1, "", { keys: [KEY], tags: [] }, "soft")],
    ["it was purged", (bench) => void bench.purges.apply(1, "", { keys: [KEY], tags: [] }, "hard")],
    [
      "a property changed",
      (bench) => {
        bench.routing.propertyVersion++;
      },
    ],
  ])("it ends when %s", ([, change]) => {
    const bench = ready();
    expect(bench.find()).toBeDefined();
    change(bench);
    expect(bench.find()).toBeUndefined();
    expect(bench.table.counters.ended).toBe(1);
  });

  test("the store hears of uses once a second, of all that came since", () => {
    const bench = ready();
    const told: number[] = [];
    bench.store.touch = (_cell, uses) => told.push(uses ?? 0) > 0;
    for (const ms of [0, 1, 999, 999, 1_000, 1_500, 3_000, 2_500]) {
      bench.now = at(ms / 1_000);
      expect(bench.find()).toBeDefined();
    }
    // A clock that was set back is another second too.
    expect(told).toEqual([1, 4, 2, 1]);
  });

  test("a purge of something else does not end it", () => {
    const bench = ready();
    bench.purges.apply(1, "", { keys: ["http://a.example/y"], tags: ["t"] }, "hard");
    expect(bench.find()).toBeDefined();
  });

  test("Cache-Control of a request counts where the property hears it", () => {
    const asks = read("Host: a.example\r\nCache-Control: no-cache\r\n") as HeadBlock;
    const bench = ready();
    expect(bench.find(asks)).toBeDefined();
    const hearing = new Bench();
    const one = object("hello");
    hearing.keep(one);
    hearing.offer(one, { hearsDirectives: true });
    expect(hearing.find(asks)).toBeUndefined();
    expect(hearing.find()).toBeDefined();
  });

  test("variants are told apart by what Vary nominates", () => {
    const bench = new Bench();
    const varied: Fields = [...FRESH, ["Vary", "X-A"]];
    const one = object("one", varied, [["X-A", "1"]]);
    const two = object("two", varied, [["X-A", "2"]]);
    bench.keep(one);
    bench.keep(two);
    bench.offer(one);
    bench.offer(two);
    expect(bench.text(read("Host: a.example\r\nX-A: 1\r\n"))).toContain("\r\n\r\none");
    expect(bench.text(read("Host: a.example\r\nx-a:  2\r\n"))).toContain("\r\n\r\ntwo");
    expect(bench.text(read("Host: a.example\r\n"))).toBeUndefined();
  });

  test("memory is bounded: what was not used while a generation came in is gone, what was used stays", () => {
    const bench = new Bench(100_000);
    const one = object("x".repeat(1_000));
    const keyOf = (n: number) => `http://a.example/${n}` as CacheKey;
    for (let n = 0; n < 400; n++) {
      bench.keep(one, keyOf(n));
      bench.offer(one, { key: keyOf(n) }, `/${n}`);
      bench.offer(one, { key: keyOf(n) }, `/${n}`);
      expect(bench.find(PLAIN, "/0"), `after ${n}`).toBeDefined();
      expect(bench.table.bytes).toBeLessThanOrEqual(110_000);
    }
    expect(bench.find(PLAIN, "/1")).toBeUndefined();
    expect(bench.find(PLAIN, "/399")).toBeDefined();
    // Once others have had to go, what came once is not worth their place.
    bench.keep(one, keyOf(400));
    bench.offer(one, { key: keyOf(400) }, "/400");
    expect(bench.find(PLAIN, "/400")).toBeUndefined();
    bench.offer(one, { key: keyOf(400) }, "/400");
    expect(bench.find(PLAIN, "/400")).toBeDefined();
  });

  test("a host that nobody asks for any more leaves nothing behind", () => {
    const bench = new Bench(20_000);
    const one = object("x");
    bench.keep(one);
    bench.offer(one);
    const memo = bench.find()?.memo;
    const scope = bench.table.scopeOf("http", "a.example");
    if (memo === undefined || scope === undefined) throw new Error("not remembered");
    for (let n = 0; n < 40; n++)
      bench.table.offer(
        { method: "GET", scheme: "http", host: `b${n}.example`, target: "/", fields: [] },
        memo,
      );
    expect(scope.isGone).toBe(true);
    expect(bench.table.scopeOf("http", "a.example")).toBeUndefined();
    expect(bench.table.scopeOf("http", "b39.example")).toBeDefined();
  });
});

test("freshWindow says for all times what freshness says for one (RFC 9111, 4.2)", () => {
  for (const [fields, requestTime] of [
    [[["Cache-Control", "max-age=10"]], T0],
    [
      [
        ["Cache-Control", "max-age=10"],
        ["Age", "3"],
      ],
      epochMs(T0 - 1_500),
    ],
    [
      [
        ["Cache-Control", "max-age=10"],
        ["Date", "Wed, 31 Dec 2025 23:59:55 GMT"],
      ],
      T0,
    ],
  ] as const) {
    const response = stored(fields, { requestTime });
    const window = freshWindow(response, policy());
    if (window === undefined) throw new Error("never fresh");
    for (let ms = 0; ms < 15_000; ms += 250) {
      const now = epochMs(T0 + ms);
      const whole = freshness(response, policy(), now);
      expect(now < window.freshUntil).toBe(whole.isFresh);
      expect(Math.floor((now - window.bornAt) / 1_000)).toBe(whole.ageSeconds);
    }
  }
  expect(freshWindow(stored([["Cache-Control", "max-age=0"]]), policy())).toBeUndefined();
  expect(
    freshWindow(
      stored([
        ["Cache-Control", "max-age=9"],
        ["Age", "x"],
      ]),
      policy(),
    ),
  ).toBeUndefined();
});

test("what node:http's parser takes over is counted by what the head is, whole or begun", () => {
  const limits = { headerBytesMax: 200, headerFieldsMax: 3 };
  const reasonOf = (head: string) => handOverReason(head, limits);
  expect(reasonOf("POST / HTTP/1.1\r\nContent-Length: 1")).toBe("method");
  expect(reasonOf("\r\nGET / HTTP/1.1\r\n")).toBe("method");
  expect(reasonOf("GET http://a/ HTTP/1.1")).toBe("target");
  expect(reasonOf(`GET /${"x".repeat(200)}`)).toBe("size");
  expect(reasonOf("GET / HTTP/1.1\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1")).toBe("size");
  expect(reasonOf("GET / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked")).toBe("content");
  expect(reasonOf("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c")).toBe("protocol");
  expect(reasonOf("GET / HTTP/1.1\r\nConnection: close, TE")).toBe("protocol");
  expect(reasonOf("GET / HTTP/1.1\r\nConnection: close\r\nA : 1")).toBe("grammar");
});
