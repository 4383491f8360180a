import { describe, expect, it } from "vitest";
import { monotonicMs, TextPieces } from "#kit";
import { WatchHub, watchHubDefaults } from "../../../control/core/watch-hub.ts";
import { NdjsonReader } from "../../../control/core/ndjson.ts";
import { parseStrictJson } from "../../../control/core/strict-json.ts";

const at = monotonicMs;
const bytes = (text: string) => new TextEncoder().encode(text);
const textOf = (line: Uint8Array | undefined) => line && new TextDecoder().decode(line);

function newHub(settings: Partial<typeof watchHubDefaults> = {}) {
  const hub = new WatchHub({ ...watchHubDefaults, ...settings });
  const watch = (...kinds: ("property" | "map" | "purge" | "report")[]) => hub.subscribe(kinds, at(0)) ?? -1;
  return { hub, watch };
}

describe("WatchHub", () => {
  it("sends a line with an audience to nobody else", () => {
    const hub = new WatchHub(watchHubDefaults);
    const [named = -1, other = -1, unnamed = -1] = [{ nodeId: "fra-1" }, { nodeId: "fra-2" }, {}].map((one) =>
      hub.subscribe(["property"], at(0), one),
    );
    const bytes = Uint8Array.of(1);
    hub.publish({ kind: "property", bytes, audience: new Set(["fra-1"]) }, at(1));
    expect(hub.take(named, at(2))).toBe(bytes);
    for (const watcherId of [other, unnamed]) expect(hub.take(watcherId, at(2))).toBeUndefined();
  });

  it("gives each watcher the kinds that it watches, in order", () => {
    const { hub, watch } = newHub();
    const [a, b] = [watch("property"), watch("property", "purge")];
    expect(hub.publish({ kind: "property", bytes: bytes("1") }, at(0))).toEqual([]);
    hub.publish({ kind: "purge", bytes: bytes("2") }, at(0));
    hub.publish({ kind: "heartbeat", bytes: bytes("h"), replaces: "heartbeat" }, at(0));
    const drain = (id: number) => Array.from({ length: 4 }, () => textOf(hub.take(id, at(0))));
    expect(drain(a)).toEqual(["1", "h", undefined, undefined]);
    expect(drain(b)).toEqual(["1", "2", "h", undefined]);
    expect(hub.take(999, at(0))).toBeUndefined();
    expect(hub.counters.delivered).toBe(5);
  });

  it("keeps only the newest of what is repeated, at its new place", () => {
    const { hub, watch } = newHub();
    const a = watch("property", "report");
    hub.publish({ kind: "heartbeat", bytes: bytes("h1"), replaces: "heartbeat" }, at(0));
    hub.publish({ kind: "property", bytes: bytes("p") }, at(0));
    hub.publish({ kind: "heartbeat", bytes: bytes("h2"), replaces: "heartbeat" }, at(0));
    // A heartbeat says "everything up to here": it must not overtake what it covers.
    expect([textOf(hub.take(a, at(0))), textOf(hub.take(a, at(0))), textOf(hub.take(a, at(0)))]).toEqual([
      "p",
      "h2",
      undefined,
    ]);
  });

  it.each([
    ["lines", { queueLinesMax: 2 }],
    ["bytes", { queueBytesMax: 2 }],
  ])("cuts off a watcher whose queue is full by %s and forgets it", (_by, settings) => {
    const { hub, watch } = newHub(settings);
    const [slow, quick] = [watch("property"), watch("property")];
    for (const text of ["1", "2"]) hub.publish({ kind: "property", bytes: bytes(text) }, at(0));
    while (hub.take(quick, at(0)) !== undefined);
    expect(hub.publish({ kind: "property", bytes: bytes("3") }, at(0))).toEqual([
      { watcherId: slow, reason: "slow" },
    ]);
    expect(hub.take(slow, at(0))).toBeUndefined();
    expect(textOf(hub.take(quick, at(0)))).toBe("3");
    expect(hub.watcherCount).toBe(1);
    expect(hub.counters).toMatchObject({ cutSlow: 1, dropped: 0 });
  });

  it("drops a report rather than cutting off for it", () => {
    const { hub, watch } = newHub({ queueLinesMax: 1 });
    const a = watch("property", "report");
    hub.publish({ kind: "property", bytes: bytes("p") }, at(0));
    expect(hub.publish({ kind: "report", bytes: bytes("r"), replaces: "report/x" }, at(0))).toEqual([]);
    expect(hub.counters).toMatchObject({ cutSlow: 0, dropped: 1 });
    expect(textOf(hub.take(a, at(0)))).toBe("p");
  });

  it("lets one line through that is larger than the bound", () => {
    const { hub, watch } = newHub({ queueBytesMax: 3 });
    const a = watch("map");
    expect(hub.publish({ kind: "map", bytes: bytes("large") }, at(0))).toEqual([]);
    expect(textOf(hub.take(a, at(0)))).toBe("large");
  });

  it("cuts off a watcher that takes nothing for 10 s while something waits", () => {
    const { hub, watch } = newHub();
    const [stalled, idle, reading] = [watch("property"), watch("map"), watch("property")];
    hub.publish({ kind: "property", bytes: bytes("1") }, at(50_000));
    expect(hub.handleTimeout(at(59_999))).toEqual([]);
    hub.handleProgress(reading, at(59_000));
    expect(hub.handleTimeout(at(60_000))).toEqual([{ watcherId: stalled, reason: "stalled" }]);
    expect(hub.counters.cutStalled).toBe(1);
    expect(hub.watcherCount).toBe(2);
    hub.unsubscribe(idle);
    expect(hub.watcherCount).toBe(1);
  });

  it("has room for a bounded number of watchers", () => {
    const { hub, watch } = newHub({ watchersMax: 1 });
    watch("map");
    expect(hub.subscribe(["map"], at(0))).toBeUndefined();
    expect(hub.counters).toMatchObject({ subscribed: 1, refused: 1 });
  });
});

describe("NdjsonReader", () => {
  const text = `{"a":"é😀"}\n\n[1]\n"x"`;
  it("reads the same values however the bytes are cut, and not an unfinished line", () => {
    const all = Buffer.from(text);
    for (let cut = 1; cut < 8; cut++) {
      const reader = new NdjsonReader(100);
      const values = [];
      for (let from = 0; from < all.length; from += cut)
        values.push(...reader.read(all.subarray(from, from + cut)));
      expect(values).toEqual([{ a: "é😀" }, [1]]);
    }
  });
  it("reads all as one value where it is told to, strictly where it is given how", () => {
    const whole = (
      text: string | Uint8Array,
      options: ConstructorParameters<typeof NdjsonReader>[1] = {},
    ) => {
      const reader = new NdjsonReader(200_000, { isOneValue: true, ...options });
      const bytes = Buffer.from(text as string);
      for (let from = 0; from < bytes.length; from += 7) {
        const values = reader.read(bytes.subarray(from, from + 7));
        expect(values).toEqual([]);
      }
      return reader.end();
    };
    expect(whole(`{\n"a":\n1}\n`)).toEqual({ a: 1 });
    // A cluster map stays in pieces, wherever the white space is.
    const map = "QUJD".repeat(20_000);
    const { body } = whole(`{\n"body":{"x":1,"clusterMap":"${map}"}\n}`) as { body: { clusterMap: unknown } };
    expect(body.clusterMap).toBeInstanceOf(TextPieces);
    expect(JSON.stringify(body)).toBe(JSON.stringify({ x: 1, clusterMap: map }));
    for (const text of ["", " ", "{}{}", `{"a":"${map}`, `{"difference":{"clusterMap":"QUJD"}}`])
      expect(() => whole(text), text.slice(0, 20)).toThrow(SyntaxError);
    expect(() => whole(`{"a":1,"a":2}`, { parse: parseStrictJson })).toThrow("each key once");
    const decoder = new TextDecoder("utf-8", { fatal: true });
    expect(() => whole(Uint8Array.of(0x22, 0xff, 0x22), { decoder })).toThrow(TypeError);
  });
  it("bounds a line", () => {
    const reader = new NdjsonReader(4);
    expect(reader.read(Buffer.from("1234\n"))).toEqual([1234]);
    reader.read(Buffer.from("123"));
    expect(() => reader.read(Buffer.from("45"))).toThrow(RangeError);
    expect(() => new NdjsonReader(9).read(Buffer.from("nope\n"))).toThrow(SyntaxError);
  });
});
