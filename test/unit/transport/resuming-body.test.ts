/** A body that goes on over another path, whether its own broke off or fell silent. No sockets; timers are driven by hand. */
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { IsochroneError } from "#kit";
import { ResumingBody, resumableFrom } from "#transport";

const ETAG = '"v1"';
const broken = (): IsochroneError =>
  new IsochroneError("reset", { code: "connection-lost", source: "upstream", retry: "safe" });

/** A body of "0123456789" whose sources the test feeds. */
function setUp(
  options: {
    stallMs?: number;
    mayRescue?: () => boolean;
    first?: Readable;
    quietMs?: () => number | undefined;
  } = {},
) {
  const sources: Readable[] = [];
  const ranges: string[] = [];
  const ended: number[] = [];
  const next = (): Readable => {
    const source = new Readable({ read: () => {} });
    sources.push(source);
    return source;
  };
  const progressOf = (index: number) => ({ handleBytes: () => {}, end: () => void ended.push(index) });
  const answers: ((status?: number) => void)[] = [];
  const body = new ResumingBody({
    first: { body: options.first ?? next(), quietMs: options.quietMs ?? (() => undefined) },
    resumable: { etag: ETAG, first: 0, last: 9, totalBytes: 10 },
    resumesMax: 3,
    track: progressOf(0),
    mayResume: () => true,
    limits: () =>
      options.stallMs === undefined ? undefined : { silentMs: options.stallMs, quietMs: options.stallMs / 2 },
    mayRescue: options.mayRescue ?? (() => true),
    resume: (headers) =>
      new Promise((resolve) => {
        const range = new Map(headers).get("Range") ?? "";
        ranges.push(range);
        const from = Number(/=(\d+)/.exec(range)?.[1]);
        answers.push((status = 206) =>
          resolve({
            head: {
              status,
              headers: [
                ["ETag", ETAG],
                ["Content-Range", `bytes ${from}-9/10`],
              ],
              body: next(),
              quietMs: options.quietMs ?? (() => undefined),
            },
            progress: progressOf(answers.length),
          }),
        );
      }),
  });
  let text = "";
  body.on("data", (chunk: Buffer) => (text += String(chunk)));
  const failure = { error: undefined as Error | undefined };
  body.on("error", (error) => (failure.error = error));
  return { body, sources, ranges, answers, ended, failure, read: () => text };
}

beforeEach(() => vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }));
afterEach(() => vi.useRealTimers());
const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

test("one that breaks off goes on from the next byte", async () => {
  const { sources, ranges, answers, read, body } = setUp();
  sources[0]?.push("0123");
  await pass(1);
  sources[0]?.destroy(broken());
  await pass(1);
  expect(ranges).toEqual(["bytes=4-"]);
  answers[0]?.();
  await pass(1);
  sources[1]?.push("456789");
  sources[1]?.push(null);
  await pass(1);
  expect(read()).toBe("0123456789");
  expect(body.resumes).toBe(1);
});

test("one that had broken off when it was taken is asked for again from where it was", async () => {
  const first = new Readable({ read: () => {} }).on("error", () => {});
  first.destroy(broken());
  await pass(1);
  const { sources, ranges, answers, read } = setUp({ first });
  await pass(1);
  expect(ranges).toEqual(["bytes=0-"]);
  answers[0]?.();
  await pass(1);
  sources[0]?.push("0123456789");
  sources[0]?.push(null);
  await pass(1);
  expect(read()).toBe("0123456789");
});

describe("one that falls silent", () => {
  test("goes on over the path that answers first, and the silent one is given up", async () => {
    const { sources, ranges, answers, read, ended } = setUp({ stallMs: 200 });
    sources[0]?.push("0123");
    await pass(190);
    expect(ranges).toEqual([]);
    await pass(30);
    expect(ranges).toEqual(["bytes=4-"]);
    answers[0]?.();
    await pass(1);
    expect(sources[0]?.destroyed).toBe(true);
    expect(ended).toEqual([0]);
    sources[1]?.push("456789");
    sources[1]?.push(null);
    await pass(1);
    expect(read()).toBe("0123456789");
  });

  test("goes on by itself when it moves before the other answers", async () => {
    const { sources, answers, read, ended } = setUp({ stallMs: 200 });
    sources[0]?.push("0123");
    await pass(220);
    sources[0]?.push("45");
    await pass(1);
    answers[0]?.();
    await pass(1);
    expect(sources[1]?.destroyed).toBe(true);
    expect(ended).toEqual([1]);
    sources[0]?.push("6789");
    sources[0]?.push(null);
    await pass(1);
    expect(read()).toBe("0123456789");
  });

  test("that breaks while its rescue is under way is asked for once, not twice", async () => {
    const { sources, ranges, answers, read } = setUp({ stallMs: 200 });
    sources[0]?.push("0123");
    await pass(220);
    sources[0]?.destroy(broken());
    await pass(1);
    answers[0]?.();
    await pass(1);
    expect(ranges).toEqual(["bytes=4-"]);
    sources[1]?.push("456789");
    sources[1]?.push(null);
    await pass(1);
    expect(read()).toBe("0123456789");
  });

  test("is waited for when its rescue is another representation, or nothing may be asked", async () => {
    const { sources, answers, read, failure } = setUp({ stallMs: 200 });
    sources[0]?.push("0123");
    await pass(220);
    answers[0]?.(200);
    await pass(1);
    sources[0]?.push("456789");
    sources[0]?.push(null);
    await pass(1);
    expect(read()).toBe("0123456789");
    expect(failure.error).toBeUndefined();
    const other = setUp({ stallMs: 200, mayRescue: () => false });
    await pass(5_000);
    expect(other.ranges).toEqual([]);
    other.body.destroy();
  });

  test("while its connection is quiet is asked for sooner; while segments arrive on it, as late as without that word", async () => {
    const cut = setUp({ stallMs: 200, quietMs: () => 1_000 });
    cut.sources[0]?.push("0123");
    await pass(90);
    expect(cut.ranges).toEqual([]);
    await pass(30);
    expect(cut.ranges).toEqual(["bytes=4-"]);
    cut.body.destroy();
    const lossy = setUp({ stallMs: 200, quietMs: () => 5 });
    lossy.sources[0]?.push("0123");
    await pass(190);
    expect(lossy.ranges).toEqual([]);
    await pass(30);
    expect(lossy.ranges).toEqual(["bytes=4-"]);
    lossy.body.destroy();
  });

  test("and is on another path since is judged by that one's connection", async () => {
    let quietMs = 1_000;
    const { sources, ranges, answers, body } = setUp({ stallMs: 200, quietMs: () => quietMs });
    sources[0]?.push("0123");
    await pass(120);
    quietMs = 0;
    answers[0]?.();
    await pass(1);
    sources[1]?.push("45");
    await pass(190);
    expect(ranges).toEqual(["bytes=4-"]);
    body.destroy();
  });

  test("is not silent while its reader takes its time", async () => {
    const { sources, ranges, body } = setUp({ stallMs: 200 });
    body.pause();
    sources[0]?.push(Buffer.alloc(140_000));
    await pass(5_000);
    expect(ranges).toEqual([]);
    body.resume();
    await pass(1);
    body.destroy();
  });
});

describe("what can be resumed", () => {
  const whole = [
    ["ETag", ETAG],
    ["Content-Length", "10"],
  ] as const;
  const ranged = [
    ["ETag", ETAG],
    ["Content-Length", "4"],
    ["Content-Range", "bytes 2-5/10"],
  ] as const;
  const get = { method: "GET", headers: [] };
  const getRange = { method: "GET", headers: [["Range", "bytes=2-5"]] as const };

  test("a whole, and one range of it", () => {
    expect(resumableFrom(get, { status: 200, headers: whole })).toEqual({
      etag: ETAG,
      first: 0,
      last: 9,
      totalBytes: 10,
    });
    expect(resumableFrom(getRange, { status: 206, headers: ranged })).toEqual({
      etag: ETAG,
      first: 2,
      last: 5,
      totalBytes: 10,
    });
  });

  test.each([
    ["another method", { ...get, method: "POST" }, 200, whole],
    ["a condition of the caller's", { ...get, headers: [["If-Range", ETAG]] as const }, 200, whole],
    ["a range answered by the whole", getRange, 200, whole],
    ["a whole answered by a range", get, 206, ranged],
    ["a weak validator", get, 200, [["ETag", 'W/"v1"'], whole[1]] as const],
    ["several ranges", getRange, 206, [ranged[0], ranged[1]] as const],
    ["another length than its range's", getRange, 206, [ranged[0], whole[1], ranged[2]] as const],
    [
      "a range beyond the end",
      getRange,
      206,
      [ranged[0], ranged[1], ["Content-Range", "bytes 2-5/5"]] as const,
    ],
    ["no ranges", get, 200, [...whole, ["Accept-Ranges", "none"]] as const],
  ] as const)("not %s", (_what, request, status, headers) => {
    expect(resumableFrom(request, { status, headers })).toBeUndefined();
  });
});
