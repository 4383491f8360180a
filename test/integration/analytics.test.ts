/** Goal: records reach the disk in order, rotate, and are lost only by count. Method: real files in a temporary directory. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createLogger } from "#kit/io";
import { AccessLog, type AccessRecord, type BadLines, readRecords } from "#analytics";
import { recordOf } from "../unit/analytics/records.ts";

let directory = "";
let lines: string[] = [];
const logger = createLogger(
  { role: "edge", id: "test" },
  { level: "debug", write: (line) => lines.push(line) },
);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "isochrone-records-"));
  lines = [];
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function readAll(...files: string[]): Promise<{ records: AccessRecord[]; bad: BadLines }> {
  const bad: BadLines = { count: 0, told: [] };
  const records: AccessRecord[] = [];
  for (const file of files) for await (const record of readRecords(file, bad)) records.push(record);
  return { records, bad };
}

/** One batch, which has room for so many of the records below, each of which may be of three bytes a character. */
function roomFor(records: number): { readonly batchBytes: number; readonly batchesMax: number } {
  const { length } = JSON.stringify(recordOf({ requestId: "r0" }));
  return { batchBytes: records * (length + 1) + 2 * length, batchesMax: 1 };
}

describe("the log", () => {
  test("what is written is read back, in order, without being asked to flush", async () => {
    const path = join(directory, "deep", "access.ndjson");
    const log = new AccessLog({ path, flushMs: 5, logger });
    for (let n = 0; n < 3_000; n++) log.write(recordOf({ requestId: `r${n}` }));
    await expect.poll(() => log.counters.recordsWritten, { timeout: 5_000 }).toBe(3_000);
    await log.close();
    const { records, bad } = await readAll(path);
    expect(bad.count).toBe(0);
    expect(records.map((record) => record.requestId)).toEqual(
      Array.from({ length: 3_000 }, (_, n) => `r${n}`),
    );
    expect(records[7]).toEqual(recordOf({ requestId: "r7" }));
    expect(log.counters).toMatchObject({ recordsDroppedFull: 0, recordsDroppedDisk: 0, rotations: 0 });
  });

  test("close writes what waits; what comes after is counted as dropped", async () => {
    const path = join(directory, "access.ndjson");
    const log = new AccessLog({ path, flushMs: 60_000, logger });
    log.write(recordOf());
    await log.close();
    log.write(recordOf());
    expect((await readAll(path)).records).toHaveLength(1);
    expect(log.counters).toMatchObject({ recordsWritten: 1, recordsDroppedFull: 1 });
  });

  test("where too many wait the newest are dropped and counted", async () => {
    const path = join(directory, "access.ndjson");
    const log = new AccessLog({ path, ...roomFor(10), flushMs: 60_000, logger });
    for (let n = 0; n < 25; n++) log.write(recordOf({ requestId: `r${n}` }));
    await log.close();
    expect(log.counters).toMatchObject({ recordsWritten: 10, recordsDroppedFull: 15 });
    expect((await readAll(path)).records.at(-1)?.requestId).toBe("r9");
  });

  test("what is no ASCII is written in UTF-8", async () => {
    const path = join(directory, "access.ndjson");
    const log = new AccessLog({ path, flushMs: 60_000, logger });
    log.write(recordOf({ path: "/h\u00e9\u20ac\ud83d\ude00" }));
    log.write(recordOf({ requestId: "after" }));
    await log.close();
    const { records, bad } = await readAll(path);
    expect(bad.count).toBe(0);
    expect(records.map((record) => record.path)).toEqual(["/h\u00e9\u20ac\ud83d\ude00", recordOf().path]);
    expect(log.counters.bytesWritten).toBe(readFileSync(path).byteLength);
  });

  test("files rotate by size and the oldest go", async () => {
    const path = join(directory, "access.ndjson");
    const log = new AccessLog({ path, fileBytesMax: 4_096, filesKept: 2, flushMs: 1, logger });
    let written = 0;
    for (let round = 0; round < 6; round++) {
      for (let n = 0; n < 20; n++) log.write(recordOf({ requestId: `r${written++}` }));
      await expect.poll(() => log.counters.recordsWritten, { timeout: 5_000 }).toBe(written);
    }
    await log.close();
    expect(log.counters.rotations).toBe(6);
    expect(readdirSync(directory).sort()).toEqual(["access.ndjson.1", "access.ndjson.2"]);
    const { records } = await readAll(`${path}.2`, `${path}.1`);
    expect(records.map((record) => record.requestId)).toEqual(
      Array.from({ length: 40 }, (_, n) => `r${80 + n}`),
    );
  });

  test("a disk that refuses costs records by count, never an error; when it is back so is the log", async () => {
    const path = join(directory, "sub", "access.ndjson");
    // A file where the directory should be: no directory can be made there.
    writeFileSync(join(directory, "sub"), "in the way");
    const log = new AccessLog({ path, ...roomFor(5), flushMs: 1, retryMs: 5, logger });
    for (let n = 0; n < 8; n++) log.write(recordOf({ requestId: `r${n}` }));
    await expect
      .poll(() => lines.some((line) => line.includes("access-log-failed")), { timeout: 5_000 })
      .toBe(true);
    expect(log.counters).toMatchObject({ recordsWritten: 0, recordsDroppedFull: 3 });
    rmSync(join(directory, "sub"));
    await expect.poll(() => log.counters.recordsWritten, { timeout: 5_000 }).toBe(5);
    await log.close();
    expect((await readAll(path)).records.map((record) => record.requestId)).toEqual([
      "r0",
      "r1",
      "r2",
      "r3",
      "r4",
    ]);
    expect(lines.some((line) => line.includes("access-log-recovered"))).toBe(true);
    expect(lines.filter((line) => line.includes("access-log-failed"))).toHaveLength(1);
  });

  test("closing while the disk refuses ends, and counts", async () => {
    writeFileSync(join(directory, "sub"), "in the way");
    const log = new AccessLog({ path: join(directory, "sub", "access.ndjson"), flushMs: 1, logger });
    log.write(recordOf());
    await log.close();
    expect(log.counters).toMatchObject({ recordsWritten: 0, recordsDroppedDisk: 1 });
  });

  test("a line torn by a crash spoils itself only", async () => {
    const path = join(directory, "access.ndjson");
    writeFileSync(path, `${JSON.stringify(recordOf())}\n{"atEpochMs":18000`);
    const log = new AccessLog({ path, logger });
    log.write(recordOf({ requestId: "after" }));
    await log.close();
    const { records, bad } = await readAll(path);
    expect(records.map((record) => record.requestId)).toEqual(["r1", "after"]);
    expect(bad).toEqual({ count: 1, told: [expect.stringContaining(`${path}:2: got`)] });
  });
});

describe("isochrone traffic", () => {
  const cli = new URL("../../cli/isochrone.js", import.meta.url).pathname;
  async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
    const child: ChildProcess = spawn(process.execPath, [cli, "traffic", ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let out = "";
    let err = "";
    child.stdout?.on("data", (chunk: Buffer) => (out += chunk.toString()));
    child.stderr?.on("data", (chunk: Buffer) => (err += chunk.toString()));
    const [code] = (await once(child, "close")) as [number];
    return { code, out, err };
  }

  test("adds up files, tells bad lines, and keeps control characters from the terminal", async () => {
    const path = join(directory, "a.ndjson");
    const records = [
      recordOf({ path: "/\u001b[31m" }),
      recordOf({ status: 503, cacheStatus: "uri-miss" }),
      recordOf({ propertyId: null }),
    ];
    writeFileSync(path, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
    appendFileSync(
      path,
      `not json\n{"atEpochMs":1}\n\n${"x".repeat(100_000)}\n${JSON.stringify(recordOf())}`,
    );
    const json = await run(path, "--json");
    expect(json.code).toBe(0);
    expect(JSON.parse(json.out)).toMatchObject({
      by: "property",
      badLines: 3,
      records: 4,
      rows: [
        { key: "shop-www", requests: 3, status5xx: 1 },
        { key: "(none)", requests: 1 },
      ],
      total: { requests: 4, hitRatio: 0.75 },
    });
    expect(json.err).toContain(`${path}:4: got "not json", expected JSON`);
    expect(json.err).toContain(`${path}:5: requestId: got nothing`);
    expect(json.err).toContain(`${path}:7: a line of more than 65536 bytes`);
    const table = await run(path, "--by", "path");
    expect(table.out).toContain("www.shop.example/?[31m");
    expect(table.out).not.toContain("\u001b");
    expect(table.out).toMatch(/\(total\) +4 +75\.0%/);
  });

  test.each([
    [["/nowhere.ndjson"], "no such file"],
    [[], "no FILE"],
    [["x", "--by", "colour"], '--by: got "colour", expected property, status, path'],
  ])("refuses %j with 2", async (args, words) => {
    const { code, err } = await run(...args);
    expect(code).toBe(2);
    expect(err).toContain(words);
    expect(err.trimEnd()).not.toContain("\n");
  });
});
