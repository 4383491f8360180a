import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { IsochroneError } from "../../../kit/errors.ts";
import { jsonPieces } from "../../../kit/json-pieces.ts";
import {
  createLogger,
  LastKnownGood,
  listenError,
  listenErrorHint,
  readFileIfThere,
  systemClock,
  writeFileDurable,
} from "../../../kit/io/mod.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "isochrone-kit-"));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe("Logger", () => {
  function logged(level: "debug" | "info" | "warn" | "error" | "silent" = "info") {
    const lines: string[] = [];
    const logger = createLogger({ role: "edge", id: "fra-1" }, { level, write: (line) => lines.push(line) });
    return { logger, lines, last: () => JSON.parse(lines.at(-1) ?? "null") };
  }

  it("writes one JSON object a line with time, level, role, id and event", () => {
    const { logger, lines, last } = logged();
    logger.info("map-applied", { mapVersion: 7, reason: "line\nfeed" });
    expect(lines[0]).toMatch(/^[^\n]*\n$/);
    expect(last()).toMatchObject({
      level: "info",
      role: "edge",
      id: "fra-1",
      event: "map-applied",
      mapVersion: 7,
    });
    expect(Date.parse(last().time)).toBeGreaterThan(0);
  });

  it.each([
    ["debug", 4],
    ["info", 3],
    ["warn", 2],
    ["error", 1],
    ["silent", 0],
  ] as const)("level %s lets %i of 4 through", (level, count) => {
    const { logger, lines } = logged(level);
    logger.debug("a");
    logger.info("b");
    logger.warn("c");
    logger.error("d");
    expect(lines).toHaveLength(count);
  });

  it("writes no secrets, however deep", () => {
    const { logger, lines, last } = logged();
    logger.info("x", {
      apiKey: "hush",
      Authorization: "hush",
      setCookie: "hush",
      tokens: ["hush"],
      nested: [{ password: "hush", keyCount: 3 }],
      map: new Map([["clientSecret", "hush"]]),
    });
    expect(lines[0]).not.toContain("hush");
    expect(last()).toMatchObject({ apiKey: "[redacted]", nested: [{ password: "[redacted]", keyCount: 3 }] });
  });

  it("bounds and survives what cannot be printed", () => {
    const { logger, last } = logged();
    const circular: Record<string, unknown> = {};
    circular["self"] = circular;
    const cause = new IsochroneError("no", { code: "connect-timeout", source: "upstream", retry: "safe" });
    logger.warn("x", {
      circular,
      error: new Error("outer", { cause }),
      big: 2n ** 70n,
      nan: Number.NaN,
      long: "y".repeat(5000),
      wide: Array.from({ length: 200 }, () => 1),
      bytes: new Uint8Array(3),
      id: "other",
    });
    expect(JSON.stringify(last().circular)).toContain("[too deep]");
    expect(last().error).toEqual({
      name: "Error",
      message: "outer",
      cause: {
        name: "IsochroneError",
        message: "no",
        code: "connect-timeout",
        source: "upstream",
        retry: "safe",
      },
    });
    expect(last()).toMatchObject({
      big: String(2n ** 70n),
      nan: "NaN",
      bytes: "[3 bytes]",
      id: "fra-1",
      "field.id": "other",
    });
    expect(last().long).toHaveLength(4096 + "...[904 more]".length);
    expect(last().wide).toHaveLength(101);
    logger.warn("y", {
      get broken(): never {
        throw new Error("getter");
      },
    });
    expect(last()).toMatchObject({ event: "y", logError: "getter" });
  });
});

describe("files", () => {
  it("writes, replaces and reads, and leaves no temporary file", async () => {
    const path = join(directory, "document");
    expect(readFileIfThere(path, 10)).toBeUndefined();
    await writeFileDurable(path, "old");
    await writeFileDurable(path, new Uint8Array([110, 101, 119]));
    expect(readFileIfThere(path, 3)?.toString()).toBe("new");
    expect(readdirSync(directory)).toEqual(["document"]);
  });

  it("refuses a file over the limit and says so", async () => {
    const path = join(directory, "document");
    await writeFileDurable(path, "12345");
    expect(() => readFileIfThere(path, 4)).toThrow(
      expect.objectContaining({ code: "file-too-large", message: expect.stringContaining("at most 4") }),
    );
  });

  it("names path, reason and advice when it fails", async () => {
    const path = join(directory, "missing", "document");
    await expect(writeFileDurable(path, "x")).rejects.toMatchObject({
      name: "IsochroneError",
      code: "ENOENT",
      message: `Cannot write ${JSON.stringify(path)}: the directory does not exist; create it (ENOENT)`,
    });
    expect(() => readFileIfThere(directory, 100_000)).toThrow(/EISDIR/);
  });

  it("many writers at once: one whole document wins", async () => {
    const path = join(directory, "document");
    const texts = Array.from({ length: 20 }, (_, index) => String(index).repeat(10_000));
    await Promise.all(texts.map((text) => writeFileDurable(path, text)));
    expect(texts).toContain(readFileSync(path, "utf8"));
    expect(readdirSync(directory)).toEqual(["document"]);
  });
});

describe("LastKnownGood", () => {
  type Document = { version: number };
  function parse(value: unknown): Document {
    if (
      typeof value !== "object" ||
      value === null ||
      !("version" in value) ||
      typeof value.version !== "number"
    )
      throw new Error("version: expected a number");
    return { version: value.version };
  }
  function open() {
    const damages: string[] = [];
    const path = join(directory, "map");
    const store = new LastKnownGood<Document>(path, parse, {
      onDamaged: ({ reason }) => damages.push(reason),
      bytesMax: 1000,
    });
    return { path, store, damages };
  }

  it("gives back what was saved, and undefined without complaint if nothing was", async () => {
    const { store, damages } = open();
    expect(store.load()).toBeUndefined();
    await store.save({ version: 3 });
    expect(open().store.load()).toEqual({ version: 3 });
    expect(damages).toEqual([]);
  });

  it.each([
    ["empty", (path: string) => writeFileSync(path, ""), /header/],
    ["blank", (path: string) => writeFileSync(path, "\n\n"), /header/],
    ["truncated", (path: string) => truncateSync(path, readFileSync(path).length - 1), /which says/],
    ["grown", (path: string) => writeFileSync(path, " ", { flag: "a" }), /which says/],
    [
      "altered",
      (path: string) => writeFileSync(path, readFileSync(path, "utf8").replace(":3", ":4")),
      /checksum/,
    ],
    ["foreign", (path: string) => writeFileSync(path, '{"version":3}'), /header/],
    ["too large", (path: string) => writeFileSync(path, "x".repeat(2000)), /at most 1000/],
  ])("ignores and reports a file that is %s", async (_name, damage, reason) => {
    const { path, store, damages } = open();
    await store.save({ version: 3 });
    damage(path);
    expect(store.load()).toBeUndefined();
    expect(damages).toEqual([expect.stringMatching(reason)]);
  });

  it("ignores and reports a document that does not parse", async () => {
    const { path, store, damages } = open();
    await new LastKnownGood<unknown>(path, (value) => value).save({ version: "3" });
    expect(store.load()).toBeUndefined();
    expect(damages).toEqual(["does not hold a valid document: version: expected a number"]);
  });

  it("of many saves at once the newest is on the disk when any of the later ones resolves", async () => {
    const { store } = open();
    const saves = Array.from({ length: 50 }, (_, version) => store.save({ version }));
    await saves[1];
    expect(store.load()).toEqual({ version: 49 });
    await Promise.all(saves);
    await store.save({ version: 50 });
    expect(store.load()).toEqual({ version: 50 });
  });

  it("a save that fails rejects; the next one works", async () => {
    const { store } = open();
    await store.save({ version: 1 });
    const huge = { version: 2, text: "x".repeat(2000) };
    await expect(store.save(huge)).rejects.toMatchObject({ code: "file-too-large" });
    expect(store.load()).toEqual({ version: 1 });
    await store.save({ version: 3 });
    expect(store.load()).toEqual({ version: 3 });
  });
});

describe("systemClock and what cannot be listened on", () => {
  it("monotonic never steps back, epoch is now", () => {
    const first = systemClock.monotonic();
    expect(systemClock.monotonic()).toBeGreaterThanOrEqual(first);
    expect(Math.abs(systemClock.epoch() - Date.now())).toBeLessThan(1000);
  });

  it.each([
    ["EADDRINUSE", "127.0.0.1", 8080, /^Cannot listen on 127\.0\.0\.1:8080: the address is in use; stop /],
    ["EACCES", "0.0.0.0", 53, /ports below 1024 .* choose a port of 1024 or above/],
    ["EACCES", "0.0.0.0", 8080, /permission denied/],
    [
      "EADDRNOTAVAIL",
      "2001:db8::1",
      443,
      /^Cannot listen on \[2001:db8::1\]:443: this machine has no such address/,
    ],
    ["EOTHER", "127.0.0.1", 1, /^Cannot listen on 127\.0\.0\.1:1: what happened$/],
  ])("%s on %s:%i", (code, host, port, expected) => {
    const hint = listenErrorHint(Object.assign(new Error("what\nhappened"), { code }), host, port);
    expect(hint).toMatch(expected);
    expect(hint).not.toContain("\n");
  });

  it("listenError keeps the system's code and is the operator's to mend", () => {
    const cause = Object.assign(new Error("bind"), { code: "EADDRINUSE" });
    const error = listenError(cause, "::1", 53);
    expect(error).toBeInstanceOf(IsochroneError);
    expect(error).toMatchObject({ code: "EADDRINUSE", source: "configuration", retry: "never", cause });
    expect(error.message).toBe(listenErrorHint(cause, "::1", 53));
    expect(listenError("odd", "::1", 53).code).toBe("listen-failed");
  });
});

it("pieces of JSON are together what JSON.stringify makes", () => {
  const long = `${"a".repeat(2 ** 18 - 1)}😀"\\\n\ud800${"b".repeat(2 ** 18)}`;
  for (const value of [
    {
      a: 1,
      b: undefined,
      c: [1, { d: null }],
      e: {},
      f: new Date(0),
      g: { h: { i: { j: { k: { l: 1 } } } } },
    },
    { body: { clusterMap: long, tiers: [] } },
    [1],
    "x",
    null,
  ]) {
    const pieces = [...jsonPieces(value)];
    expect(JSON.parse(pieces.join(""))).toEqual(JSON.parse(JSON.stringify(value)));
    expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThan(2 ** 19);
  }
  expect([...jsonPieces({ a: 1, b: undefined, c: {} })].join("")).toBe('{"a":1,"c":{}}');
});
