/** The journal of a node's purges on a real disk: what is durable, and what a disk that refuses or a crash leaves. */
import { appendFile, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type PurgeEntry, purgeEntry } from "#kit";
import { createLogger } from "#kit/io";
import { PurgeJournal } from "#edge";

const logger = createLogger({ role: "test", id: "test" }, { level: "silent" });
let directory: string;
let path: string;

const entry = (purgeSeq: number): PurgeEntry =>
  purgeEntry.parse({
    purgeSeq,
    atEpochMs: 1_000 + purgeSeq,
    request: { propertyId: "shop", urls: [], tags: [`t-${purgeSeq}`], mode: "hard" },
  });
const journal = (): PurgeJournal => new PurgeJournal(path, logger);
/** What a process would find that starts now. */
const found = () =>
  journal()
    .load()
    ?.entries.map(({ purgeSeq }) => purgeSeq);

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "isochrone-journal-"));
  path = join(directory, "purges.log");
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(directory, { recursive: true, force: true });
});

test("a purge that the disk refuses is not durable, is told of all the same, and is written with the next one", async () => {
  const one = journal();
  await one.reset({ logId: "log", floor: 0, entries: [] });
  await one.append(entry(1));
  const handle = await open(path, "r");
  const prototype = Object.getPrototypeOf(handle) as typeof handle;
  await handle.close();
  vi.spyOn(prototype, "writeFile").mockImplementationOnce(async () => {
    // Part of a line, as a disk that is full leaves it.
    await appendFile(path, "0123");
    throw new Error("ENOSPC");
  });
  await expect(one.append(entry(2))).rejects.toThrow("ENOSPC");
  expect(found()).toEqual([1]);
  expect(one.load()?.entries.map(({ purgeSeq }) => purgeSeq)).toEqual([1, 2]);
  await one.append(entry(3));
  expect(found()).toEqual([1, 2, 3]);
  await one.append(entry(4));
  expect(found()).toEqual([1, 2, 3, 4]);
  await one.close();
});

test("a journal that could not be begun refuses every purge", async () => {
  path = join(directory, "absent", "purges.log");
  const one = journal();
  await expect(one.reset({ logId: "log", floor: 0, entries: [] })).rejects.toThrow(/ENOENT/);
  await expect(one.append(entry(1))).rejects.toThrow(/not open/);
  expect(one.load()).toBeUndefined();
});

test("the beginning of a line is cut off at the start; a line that was changed makes all of it unknown", async () => {
  const one = journal();
  await one.reset({ logId: "log", floor: 7, entries: [] });
  await Promise.all([one.append(entry(8)), one.append(entry(9))]);
  await one.close();
  const whole = await readFile(path, "utf8");
  await appendFile(path, whole.split("\n")[1]?.slice(0, 30) ?? "");
  const next = journal();
  expect(next.load()).toMatchObject({ logId: "log", floor: 7, entries: [{ purgeSeq: 8 }, { purgeSeq: 9 }] });
  await next.resume();
  expect(await readFile(path, "utf8")).toBe(whole);
  await next.append(entry(10));
  await next.close();
  expect(found()).toEqual([8, 9, 10]);
  await appendFile(path, `0123456789abcdef {}\n`);
  expect(found()).toBeUndefined();
});
