/** What stored responses really take: live bytes an object, and how far a full store's process grows beyond its cap. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { setImmediate } from "node:timers/promises";
import { type CacheKey, HEAP_FLAGS, MemoryStore, ObjectBody } from "#edge";
import { epochMs } from "#kit";
import { describeCommit, describeMachine } from "./tools/machine.ts";
import { dieWithUs } from "./tools/program.ts";

export const summary =
  "bytes that stored responses really take, and the growth of a process whose store is full";

interface Case {
  readonly capBytes: number;
  readonly bodyBytes: number;
  readonly objects: number;
}

const MEBIBYTE = 2 ** 20;
const CASES: readonly Case[] = [256, 512].flatMap((mebibytes) =>
  (
    [
      [1_024, 1_500],
      [16_384, 150],
      [102_400, 30],
      [1_048_576, 4],
    ] as const
  ).map(([bodyBytes, aMebibyte]) => ({
    capBytes: mebibytes * MEBIBYTE,
    bodyBytes,
    objects: aMebibyte * mebibytes,
  })),
);
/** Every one a key that was never asked for before. */
const UNIQUE_KEYS: Case = { capBytes: 256 * MEBIBYTE, bodyBytes: 1_024, objects: 1_000_000 };

/** Lines that all responses have, and lines of their own: what a site of files sends. */
const COMMON = [
  "Content-Type: image/jpeg",
  "Cache-Control: public, max-age=86400",
  "Server: origin",
  "Accept-Ranges: bytes",
];
const SOCKET_READ_BYTES = 65_536;

/** A string as a parser makes it: of its own, not a constant of the program. */
const parsed = (text: string): string => Buffer.from(text, "latin1").toString("latin1");

async function fill({ capBytes, bodyBytes, objects }: Case) {
  globalThis.gc?.();
  const store = new MemoryStore(capBytes);
  const before = process.memoryUsage();
  let rssMax = 0;
  for (let object = 0; object < objects; object++) {
    const chunks: Uint8Array[] = [];
    for (let left = bodyBytes; left > 0; left -= SOCKET_READ_BYTES)
      // As it comes from a socket: part of a buffer that holds a little more.
      chunks.push(
        new Uint8Array(
          new ArrayBuffer(Math.min(SOCKET_READ_BYTES, left + 400)),
          0,
          Math.min(SOCKET_READ_BYTES, left),
        ).fill(object),
      );
    const own = [
      `ETag: "${object}-5f3a"`,
      `Last-Modified: ${object}`,
      `X-Request-Id: 1d3c-${object}`,
      `Date: ${object} GMT`,
    ];
    store.put(parsed(`http://www.example.com/images/2026/${object}.jpeg`) as CacheKey, {
      status: 200,
      fields: [...COMMON, ...own].map((line) => line.split(": ").map(parsed) as [string, string]),
      requestTime: epochMs(1.7e12 + object),
      responseTime: epochMs(1.7e12 + object),
      nominatedFields: [],
      nominatedValues: [],
      generation: 0,
      tags: [],
      isInvalidated: false,
      sliced: null,
      part: null,
      body: ObjectBody.of(chunks).compact(),
    });
    if (object % 64 > 0) continue;
    // As between two requests: finished collections can give back what they found.
    await setImmediate();
    rssMax = Math.max(rssMax, process.memoryUsage.rss());
  }
  globalThis.gc?.();
  const after = process.memoryUsage();
  const liveBytes = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers;
  return {
    objectsKept: store.objects,
    countedBytes: store.bytes,
    liveBytesAnObject: Math.round(liveBytes / store.objects),
    rssGrowthBytes: rssMax - before.rss,
    rssGrowthOfCap: Math.round(((rssMax - before.rss) / capBytes) * 1_000) / 1_000,
  };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { long: { type: "boolean" }, out: { type: "string" }, help: { type: "boolean" } },
  });
  if (values.help === true) {
    console.log(
      `Usage: npm run bench -- memory [--long] [--out FILE]\n\n${summary}\n\n  --long   a million unique keys of 1 KiB too`,
    );
    return 0;
  }
  const runs = [];
  for (const one of [...CASES, ...(values.long === true ? [UNIQUE_KEYS] : [])]) {
    // A process for each, with the flags of a worker; the collector is asked for to see what lives.
    const child = fork(import.meta.filename, ["fill", JSON.stringify(one)], {
      execArgv: [...HEAP_FLAGS, "--expose-gc"],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    dieWithUs(child.pid ?? -1);
    const [result] = (await once(child, "message")) as [Awaited<ReturnType<typeof fill>>];
    runs.push({ ...one, ...result });
    console.error(
      `cap ${one.capBytes / MEBIBYTE} MiB, ${one.objects} objects of ${one.bodyBytes}: ${result.objectsKept} kept, ${result.liveBytesAnObject} bytes live each, process grew by ${result.rssGrowthOfCap} x cap`,
    );
  }
  const text = JSON.stringify(
    { name: "memory", machine: describeMachine(), commit: describeCommit(), flags: HEAP_FLAGS, runs },
    undefined,
    1,
  );
  console.log(text);
  if (values.out !== undefined) {
    mkdirSync(dirname(values.out), { recursive: true });
    writeFileSync(values.out, `${text}\n`);
  }
  return 0;
}

if (process.argv[2] === "fill" && process.argv[1] === import.meta.filename) {
  const result = await fill(JSON.parse(process.argv[3] ?? "") as Case);
  process.send?.(result);
  process.disconnect();
}
