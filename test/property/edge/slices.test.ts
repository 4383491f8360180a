/** Ranges equal brute force, whatever is stored, arriving or lost: random objects, ranges, evictions and broken connections. */
import { Readable } from "node:stream";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { NO_PREFETCH, type PropertyId } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import type { TransportRequest, TransportResponse } from "#transport";
import {
  type Answer,
  Edge,
  edgeDefaults,
  type Field,
  type Fields,
  type PropertyView,
  type Upstream,
} from "#edge";
import { requestedRanges, resolveRanges } from "../../../edge/core/range.ts";
import { sliceIndices, sliceSpan } from "../../../edge/core/slices.ts";
import { get, policy } from "../../unit/edge/support.ts";

/** A range as text, and the bytes that it means in an object of `size`. */
const spec = fc.oneof(
  fc.tuple(fc.nat(120_000), fc.nat(40_000)).map(([first, more]) => `${first}-${first + more}`),
  fc.nat(120_000).map((first) => `${first}-`),
  fc.nat(30_000).map((length) => `-${length}`),
);
function bytesOf(text: string, size: number): readonly [number, number] | undefined {
  const [first = "", last = ""] = text.split("-");
  if (first === "") return Number(last) === 0 ? undefined : [Math.max(0, size - Number(last)), size - 1];
  return Number(first) >= size
    ? undefined
    : [Number(first), last === "" ? size - 1 : Math.min(Number(last), size - 1)];
}

test("spans hold every byte that was asked, none twice, and slices hold every byte of the spans", () => {
  fc.assert(
    fc.property(
      fc.array(spec, { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 100_000 }),
      fc.integer({ min: 700, max: 20_000 }),
      (specs, size, sliceBytes) => {
        const asked = specs.flatMap((text) => {
          const span = bytesOf(text, size);
          return span === undefined ? [] : [span];
        });
        const ranges = requestedRanges([["Range", `bytes=${specs.join(",")}`]]) ?? [];
        const spans = resolveRanges(ranges, size);
        if (spans === "unsatisfiable") {
          expect(asked).toEqual([]);
          return;
        }
        for (const [first, last] of asked)
          expect(spans.some((span) => span.first <= first && last <= span.last)).toBe(true);
        // Apart from each other, and no wider than what was asked and the gaps that are not worth a part.
        const sorted = [...spans].sort((a, b) => a.first - b.first);
        for (const [n, { first, last }] of sorted.entries()) {
          expect(first).toBeGreaterThan((sorted[n - 1]?.last ?? -1_000) + 80);
          expect(asked.some(([from]) => from === first) && asked.some(([, to]) => to === last)).toBe(true);
        }
        const sliced = { totalBytes: size, sliceBytes, validator: '"a"' };
        const indices = sliceIndices(sliced, spans);
        for (let index = 0; index * sliceBytes < size; index++) {
          const slice = sliceSpan(sliced, index);
          const isTouched = spans.some(({ first, last }) => first <= slice.last && slice.first <= last);
          expect(indices.includes(index)).toBe(isTouched);
        }
      },
    ),
  );
});

const SLICE = 4_096;
const content = (size: number, version: number): Buffer =>
  Buffer.from(Array.from({ length: size }, (_, at) => (at * 7 + (at >> 12) * 29 + version * 131) & 0xff));

/** An origin in memory that breaks off when it is told to. */
class PlayedOrigin implements Upstream {
  readonly sent: string[] = [];
  bytes: Buffer;
  version = 1;
  /** Content bytes after which an answer breaks off, one for each answer; none left: it does not. */
  cuts: number[] = [];

  constructor(size: number) {
    this.bytes = content(size, this.version);
  }

  readonly origins = { order: () => undefined, states: () => undefined, isRepeated: () => false };
  takeRetry(): boolean {
    return true;
  }

  request(_target: unknown, request: TransportRequest): Promise<TransportResponse> {
    const range = request.headers.find(([name]) => name === "Range")?.[1];
    const condition = request.headers.find(([name]) => name === "If-None-Match")?.[1];
    const span =
      range === undefined ? undefined : bytesOf(range.slice("bytes=".length), this.bytes.byteLength);
    this.sent.push(range ?? "whole");
    const etag = `"v${this.version}"`;
    const headers: Field[] = [
      ["ETag", etag],
      ["Cache-Control", "max-age=60"],
    ];
    if (condition === etag) return answer(304, headers, Buffer.alloc(0));
    if (range !== undefined && span === undefined)
      return answer(
        416,
        [...headers, ["Content-Range", `bytes */${this.bytes.byteLength}`]],
        Buffer.alloc(0),
      );
    const [first, last] = span ?? [0, this.bytes.byteLength - 1];
    if (span !== undefined)
      headers.push(["Content-Range", `bytes ${first}-${last}/${this.bytes.byteLength}`]);
    return answer(
      span === undefined ? 200 : 206,
      headers,
      this.bytes.subarray(first, last + 1),
      this.cuts.shift(),
    );
  }
  explainPath(): never {
    throw new Error("not asked for here");
  }
  linkReports(): [] {
    return [];
  }
  isServerUp(): boolean {
    return true;
  }
}

function answer(
  status: number,
  headers: Fields,
  body: Buffer,
  cutAfter?: number,
): Promise<TransportResponse> {
  async function* pieces(): AsyncGenerator<Buffer> {
    for (let at = 0; at < body.byteLength; at += 1_500) {
      if (cutAfter !== undefined && at >= cutAfter) throw new Error("connection reset");
      yield body.subarray(at, at + 1_500);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  return Promise.resolve({
    status,
    headers: [...headers, ["Content-Length", String(body.byteLength)]],
    body: Readable.from(pieces()),
    path: { via: null, reason: "only" as TransportResponse["path"]["reason"] },
    protocol: "http/1.1",
    timings: { connectMs: 0, ttfbMs: 0, attempts: 1 },
    trailers: () => [],
    resumes: () => 0,
  });
}

function edgeFor(upstream: Upstream, memoryBytes: number): Edge {
  const property: PropertyView = {
    propertyId: "shop" as PropertyId,
    hostnames: ["a.example"],
    caching: policy(),
    rules: [],
    prefetch: NO_PREFETCH,
    tiering: "direct",
    compression: { isEnabled: true, dictionaries: [] },
  };
  return new Edge({
    settings: { ...edgeDefaults, memoryBytes, sliceBytes: SLICE },
    clock: systemClock,
    logger: createLogger({ role: "edge", id: "test" }, { level: "silent" }),
    cacheName: "fra-1",
    routing: {
      propertyOf: (host) => ({ property, keyHost: host }),
      hopsFor: () => [
        {
          kind: "origin",
          target: { kind: "origin", origin: { scheme: "http", host: "origin.example", port: 80 } },
          name: "origin",
          host: "a.example",
        },
      ],
      isOwner: () => true,
      ownerOf: () => undefined,
      groupOf: () => undefined,
      propertyVersion: 0,
    },
    upstream,
  });
}

const ask = async (edge: Edge, fields: Fields): Promise<Answer> =>
  await edge.handle({
    head: get(fields),
    httpVersion: "1.1",
    remoteAddress: "192.0.2.1",
    body: undefined,
    bodyBytes: undefined,
    signal: new AbortController().signal,
    peer: undefined,
    hop: { tier: undefined, isOwner: false },
    requestId: "r",
    receivedAt: systemClock.epoch(),
    startedAt: systemClock.monotonic(),
  });

async function read(from: Answer): Promise<{ readonly bytes: Buffer; readonly isCut: boolean }> {
  const chunks: Uint8Array[] = [];
  try {
    if (from.body) for await (const chunk of from.body) chunks.push(chunk);
  } catch {
    return { bytes: Buffer.concat(chunks), isCut: true };
  }
  return { bytes: Buffer.concat(chunks), isCut: false };
}

const value = (from: Answer, name: string): string | undefined =>
  from.fields.find(([field]) => field.toLowerCase() === name)?.[1];

/** Checks one answer against the object, byte by byte; returns how it was. */
function check(
  specs: readonly string[] | undefined,
  from: Answer,
  got: Buffer,
  isCut: boolean,
  whole: Buffer,
): "whole" | "part" | "parts" | "none" | "cut" {
  const size = whole.byteLength;
  const asked = (specs ?? []).flatMap((text) => bytesOf(text, size) ?? []);
  if (specs !== undefined && asked.length === 0) {
    expect([from.status, value(from, "content-range")]).toEqual([416, `bytes */${size}`]);
    return "none";
  }
  if (!isCut) expect(got.byteLength).toBe(from.bodyBytes);
  if (from.status === 200) {
    expect(got.equals(whole.subarray(0, got.byteLength))).toBe(true);
    if (!isCut) expect(got.byteLength).toBe(size);
    return isCut ? "cut" : "whole";
  }
  expect(from.status).toBe(206);
  const single = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(value(from, "content-range") ?? "");
  if (single !== null) {
    const first = Number(single[1]);
    expect(Number(single[3])).toBe(size);
    expect(got.equals(whole.subarray(first, isCut ? first + got.byteLength : Number(single[2]) + 1))).toBe(
      true,
    );
    return isCut ? "cut" : "part";
  }
  if (isCut) return "cut";
  const boundary = /boundary=([0-9a-f]+)$/.exec(value(from, "content-type") ?? "")?.[1] ?? "";
  const text = got.toString("latin1");
  const parts = text.split(`--${boundary}`).slice(1, -1);
  expect(text.endsWith(`--${boundary}--\r\n`)).toBe(true);
  for (const part of parts) {
    const end = part.indexOf("\r\n\r\n");
    const [, first = "", last = ""] = /Content-Range: bytes (\d+)-(\d+)\//.exec(part.slice(0, end)) ?? [];
    const expected = whole.subarray(Number(first), Number(last) + 1).toString("latin1");
    expect(part.slice(end + 4, -2)).toBe(expected);
  }
  return "parts";
}

const request = fc.option(fc.array(spec, { minLength: 1, maxLength: 5 }), { nil: undefined, freq: 5 });

test("answers equal the object in every state of the store, also with connections that break off", async () => {
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 110_000 }),
      // Rounds of requests that are asked at once.
      fc.array(fc.array(request, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 4 }),
      // Memory for everything, or for a few slices only.
      fc.constantFrom(2 ** 22, 70_000),
      fc.array(fc.nat(20_000), { maxLength: 4 }),
      async (size, rounds, memoryBytes, cuts) => {
        const origin = new PlayedOrigin(size);
        const edge = edgeFor(origin, memoryBytes);
        origin.cuts = [...cuts];
        for (const round of rounds) {
          await Promise.all(
            round.map(async (specs) => {
              const from = await ask(
                edge,
                specs === undefined ? [] : [["Range", `bytes=${specs.join(",")}`]],
              );
              const { bytes, isCut } = await read(from);
              const how = check(specs, from, bytes, isCut, origin.bytes);
              seen.set(how, (seen.get(how) ?? 0) + 1);
            }),
          );
        }
        const hasRoom = memoryBytes > 2 ** 20;
        // With room for all nothing is fetched twice, but a slice whose connection broke off.
        const parts = origin.sent.filter((range) => !/^whole|-$/.test(range) && !range.startsWith("bytes=-"));
        if (hasRoom && cuts.length === 0) expect(new Set(parts).size).toBe(parts.length);
        await new Promise((resolve) => setTimeout(resolve, 0));
      },
    ),
    { numRuns: 60 },
  );
  for (const how of ["whole", "part", "parts", "none"]) expect(seen.get(how) ?? 0, how).toBeGreaterThan(20);
});

test("bytes of two versions are never mixed: an answer is of one, or is cut within it", async () => {
  let changedWithin = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 10_000, max: 60_000 }),
      fc.array(request, { minLength: 1, maxLength: 6 }),
      fc.nat(12),
      async (size, requests, changeAfter) => {
        const origin = new PlayedOrigin(size);
        const edge = edgeFor(origin, 2 ** 22);
        await read(await ask(edge, [["Range", "bytes=0-0"]]));
        const first = origin.bytes;
        const second = content(size, 2);
        let pieces = 0;
        await Promise.all(
          requests.map(async (specs) => {
            const from = await ask(edge, specs === undefined ? [] : [["Range", `bytes=${specs.join(",")}`]]);
            const counted: Answer =
              from.body === undefined
                ? from
                : {
                    ...from,
                    body: (async function* () {
                      for await (const piece of from.body ?? []) {
                        if (++pieces === changeAfter) {
                          origin.version = 2;
                          origin.bytes = second;
                        }
                        yield piece;
                      }
                    })(),
                  };
            const { bytes, isCut } = await read(counted);
            if (isCut) changedWithin++;
            const isOld = value(from, "etag") === '"v1"';
            check(specs, from, bytes, isCut, isOld ? first : second);
          }),
        );
      },
    ),
    { numRuns: 60 },
  );
  expect(changedWithin).toBeGreaterThan(5);
});
