/** One request until its answer: which attempts are sent, which one wins, what becomes of the others. No sockets; timers are driven by hand. */
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type ClusterId, IsochroneError, type MonotonicMs, monotonicMs } from "#kit";
import { createLogger } from "#kit/io";
import {
  ExchangeError,
  type ExchangeHead,
  race,
  type RaceParts,
  type StopSignal,
  transportDefaults,
  type TransportRequest,
  type TransportSettings,
} from "#transport";
import { originTarget } from "../../tools/origin-target.ts";

const ams = "ams" as ClusterId;
const get: TransportRequest = { method: "GET", path: "/", headers: [] };

/** One attempt as the test's own network sees it. */
class Asked {
  readonly via: ClusterId | null;
  readonly signal: StopSignal;
  readonly answer: Promise<ExchangeHead>;
  readonly body = new Readable({ read: () => {} });
  #onWhole: (() => void) | undefined;
  #isWhole = false;
  #resolve!: (head: ExchangeHead) => void;
  reject!: (error: unknown) => void;

  readonly isRepeat: boolean;

  constructor(via: ClusterId | null, signal: StopSignal, isRepeat: boolean) {
    this.via = via;
    this.isRepeat = isRepeat;
    this.signal = signal;
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.reject = reject;
    });
    const abort = (): void => {
      const code = signal.reason instanceof IsochroneError ? signal.reason.code : "aborted";
      this.reject(failure(code, "sent"));
    };
    signal.addEventListener("abort", abort, { once: true });
  }

  head(status = 200, length = 3, protocol: ExchangeHead["protocol"] = "http/1.1"): void {
    this.#resolve({
      protocol,
      status,
      headers: [["Content-Length", String(length)]],
      body: this.body,
      isWhole: () => this.#isWhole,
      takeWhole: () => undefined,
      onWhole: (listener) => {
        this.#onWhole = listener;
      },
      trailers: () => [],
      handleTiming: () => {},
      quietMs: () => undefined,
      connectMs: 0,
      ttfbMs: 0,
    });
  }
  rest(): void {
    this.#isWhole = true;
    this.#onWhole?.();
  }
  whole(status = 200): void {
    this.#isWhole = true;
    this.head(status);
  }
}

function failure(code: string, stage: "waiting" | "sent" | "body"): ExchangeError {
  return new ExchangeError(code, code, stage, "GET", undefined);
}

/** A target with a direct path and one through ams, both measured at 100 ms, over which 32 answers came in 100 ms each. */
function setUp(settings: Partial<TransportSettings> = {}) {
  const asked: Asked[] = [];
  const left: (ClusterId | null)[] = [];
  const now = (): MonotonicMs => monotonicMs(Date.now());
  const all = { ...transportDefaults, ...settings };
  const parts: RaceParts = {
    settings: all,
    logger: createLogger({ role: "test", id: "t" }, { level: "silent" }),
    now,
    send: async (_to, via, _request, signal, isRepeat) => {
      const one = new Asked(via, signal, isRepeat);
      asked.push(one);
      return await one.answer;
    },
    onFailure: () => {},
    onAnswered: () => {},
    onRacesLost: (_to, via) => left.push(via),
    counters: { retries: 0 },
  };
  const to = originTarget(settings, now, [ams]);
  for (let sample = 0; sample < 16; sample++)
    for (const via of [null, ams]) {
      to.chooser?.handleSample(via, 100, now());
      for (let twice = 0; twice < 2; twice++) {
        to.hedges.handleFirstTry(now());
        to.hedges.handleAnswer(via, 100, monotonicMs(now() - 100));
      }
    }
  const ask = (request: TransportRequest = get) => race(parts, to, request, undefined);
  return { to, asked, left, ask, parts };
}

beforeEach(() => vi.useFakeTimers({ now: 1_000_000 }));
afterEach(() => vi.useRealTimers());
const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

describe("a late small request", () => {
  test("is asked for over the other path, and the first whole answer wins", async () => {
    const { to, asked, ask } = setUp();
    const answer = ask();
    await pass(103);
    expect(asked).toHaveLength(1);
    await pass(2);
    expect(asked.map(({ via, isRepeat }) => [via, isRepeat])).toEqual([
      [null, false],
      [ams, true],
    ]);
    asked[1]?.whole();
    expect(await answer).toMatchObject({ path: { via: ams, reason: "race" }, attempts: 2 });
    expect(asked[0]?.signal.aborted).toBe(true);
    expect(to.hedges.counters).toMatchObject({ hedges: 1, won: 1 });
  });

  test("goes direct when it was a relay's that is late", async () => {
    const { to, asked, ask } = setUp();
    to.chooser?.handleFailure(null, monotonicMs(Date.now()));
    expect(to.choose().via).toBe(ams);
    await pass(3_000);
    for (let probes = 0; probes < 5; probes++) {
      const probe = to.chooser?.pollTransmit(monotonicMs(Date.now()));
      if (probe?.via === null) to.chooser?.handleProbeResult(probe.probeId, 100, monotonicMs(Date.now()));
      await pass(200);
    }
    const answer = ask();
    await pass(110);
    expect(asked.map(({ via }) => via)).toEqual([ams, null]);
    asked[1]?.whole();
    await answer;
  });

  test("keeps the first attempt's answer when that comes first after all", async () => {
    const { to, asked, ask } = setUp();
    const answer = ask();
    await pass(110);
    asked[0]?.whole();
    expect(await answer).toMatchObject({ path: { via: null } });
    expect(asked[1]?.signal.aborted).toBe(true);
    expect(to.hedges.counters).toMatchObject({ hedges: 1, won: 0 });
  });

  test("an answer that had broken off when its head was taken is no answer: it is asked for again", async () => {
    const { asked, ask } = setUp();
    const answer = ask();
    await pass(50);
    asked[0]?.body.on("error", () => {}).destroy(failure("connection-lost", "body"));
    await pass(1);
    asked[0]?.head();
    await pass(1);
    expect(asked).toHaveLength(2);
    asked[1]?.whole();
    expect(await answer).toMatchObject({ path: { via: ams } });
  });

  test("is late too when its head is here and the rest is not", async () => {
    const { asked, ask } = setUp();
    const answer = ask();
    await pass(100);
    asked[0]?.head();
    await pass(10);
    expect(asked).toHaveLength(2);
    asked[0]?.rest();
    expect(await answer).toMatchObject({ path: { via: null } });
  });

  test("whose rest is lost is waited for until the second attempt's answer is whole, whatever has a head by then", async () => {
    const { asked, ask } = setUp();
    const answer = ask();
    await pass(100);
    asked[0]?.head();
    await pass(5);
    expect(asked).toHaveLength(2);
    await pass(100);
    asked[1]?.head();
    // The first one is looked at for the second time meanwhile.
    await pass(6);
    asked[1]?.rest();
    expect(await answer).toMatchObject({ path: { via: ams }, attempts: 2 });
    expect(asked[0]?.signal.aborted).toBe(true);
  });

  test("of two that stall that one goes on that began last", async () => {
    const { asked, ask } = setUp();
    const answer = ask();
    await pass(100);
    asked[0]?.head();
    await pass(105);
    asked[1]?.head();
    await pass(200);
    expect(await answer).toMatchObject({ path: { via: ams }, attempts: 2 });
  });

  test("whose sender hears of the loss by itself is worth the half of what is saved, and no more", async () => {
    const { to, asked, ask } = setUp();
    const answers: Promise<unknown>[] = [];
    const isAsked = async (receivedBytes: number, protocol?: "link"): Promise<boolean> => {
      const from = asked.length;
      answers.push(ask());
      await pass(100);
      asked[from]?.body.push(Buffer.alloc(receivedBytes));
      asked[from]?.head(200, 10_000, protocol);
      await pass(5);
      return asked.length > from + 1;
    };
    for (let full = 0; full < 100; full++) to.hedges.handleFirstTry(monotonicMs(Date.now()));
    let count = 0;
    while (await isAsked(1_000)) count++;
    expect(count).toBe(5);
    // The last segments of it: only a timer brings them. Of a link whole records are seen alone.
    expect(await isAsked(6_000)).toBe(true);
    expect(await isAsked(1_000, "link")).toBe(true);
    for (const one of asked) one.rest();
    await Promise.all(answers);
  });

  test("is handed on as it comes when the budget pays for no second attempt", async () => {
    const { asked, ask } = setUp({ hedging: { savedMax: 1, reserve: 1 } });
    const answer = ask();
    asked[0]?.head();
    await pass(110);
    expect(await answer).toMatchObject({ attempts: 1 });
    expect(asked).toHaveLength(1);
  });

  test("a server's failure is no answer while another attempt is open", async () => {
    const { asked, ask } = setUp();
    const answer = ask();
    await pass(110);
    asked[1]?.whole(503);
    await pass(1);
    asked[0]?.whole(200);
    expect((await answer).head.status).toBe(200);
  });

  test("408 says that a connection was idle for too long: what is safe is asked for again, all else has it for its answer", async () => {
    const { asked, ask, parts } = setUp();
    const answer = ask();
    asked[0]?.whole(408);
    await pass(1);
    expect(asked.map(({ via }) => via)).toEqual([null, ams]);
    asked[1]?.whole();
    expect(await answer).toMatchObject({ head: { status: 200 }, attempts: 2 });
    expect(parts.counters.retries).toBe(1);
    const posted = ask({ ...get, method: "POST" });
    asked[2]?.whole(408);
    expect(await posted).toMatchObject({ head: { status: 408 }, attempts: 1 });
  });

  test("408 that comes again and again is the answer", async () => {
    const { asked, ask } = setUp({ attemptsMax: 2 });
    const answer = ask();
    asked[0]?.whole(408);
    await pass(1);
    asked[1]?.whole(408);
    expect(await answer).toMatchObject({ head: { status: 408 }, attempts: 2 });
  });

  test("a failed second attempt leaves the first one alone", async () => {
    const { asked, ask, parts } = setUp();
    const answer = ask();
    await pass(110);
    asked[1]?.reject(failure("connect-failed", "waiting"));
    await pass(5);
    asked[0]?.whole();
    expect(await answer).toMatchObject({ path: { via: null } });
    expect(parts.counters.retries).toBe(0);
  });

  test("that breaks off within a held body is asked for again as a whole", async () => {
    const { asked, ask, parts } = setUp();
    const answer = ask();
    asked[0]?.head();
    await pass(50);
    asked[0]?.body.destroy(failure("connection-lost", "body"));
    await pass(1);
    expect(asked.map(({ via }) => via)).toEqual([null, ams]);
    asked[1]?.whole();
    expect(await answer).toMatchObject({ path: { via: ams } });
    expect(parts.counters.retries).toBe(1);
  });
});

test("requests earn the second attempts of later ones", async () => {
  const { to, asked, ask } = setUp({ hedging: { reserve: 0, savedMax: 1 } });
  expect(to.hedges.take(null, monotonicMs(0), monotonicMs(Date.now()))).toBe(true);
  for (let earlier = 0; earlier < 9; earlier++) {
    const answer = ask();
    asked.at(-1)?.whole();
    await answer;
  }
  const answer = ask();
  await pass(110);
  expect(asked).toHaveLength(11);
  asked.at(-1)?.whole();
  await answer;
});

test.each<[string, TransportRequest]>([
  ["with a body", { ...get, method: "POST", body: Buffer.from("x") }],
  ["that is not idempotent", { ...get, method: "POST" }],
  ["for a large range", { ...get, headers: [["Range", "bytes=0-1048575"]] }],
])("a late request %s is left alone", async (_what, request) => {
  const { asked, ask } = setUp();
  const answer = ask(request);
  await pass(5_000);
  expect(asked).toHaveLength(1);
  asked[0]?.whole();
  await answer;
});

test("two races lost on a silent path, and it is left", async () => {
  const { asked, left, ask } = setUp();
  for (let round = 0; round < 2; round++) {
    const answer = ask();
    await pass(110);
    asked.at(-1)?.whole();
    await answer;
  }
  expect(left).toEqual([null]);
});

test("an abort of the caller ends every attempt", async () => {
  const { asked, ask } = setUp();
  const stop = new AbortController();
  const answer = ask({ ...get, signal: stop.signal });
  await pass(110);
  stop.abort();
  await expect(answer).rejects.toMatchObject({ code: "aborted" });
  expect(asked.map(({ signal }) => signal.aborted)).toEqual([true, true]);
  await pass(5_000);
  expect(asked).toHaveLength(2);
});

test("a path that nobody heard of for long is raced against the others at once", async () => {
  const { asked, ask } = setUp();
  await pass(60_000);
  const answer = ask();
  await pass(0);
  expect(asked.map(({ via }) => via)).toEqual([null, ams]);
  asked[1]?.whole();
  expect(await answer).toMatchObject({ path: { via: ams, reason: "race" } });
});

test("of many that wait on a path that failed as many go elsewhere as the budget pays for, and the others wait on", async () => {
  const { to, asked, ask, parts } = setUp({ retry: { initial: 2, max: 2, ratio: 0, minPerSecond: 0 } });
  const range: TransportRequest = { ...get, headers: [["Range", "bytes=0-1048575"]] };
  // Large ones are spread over both paths.
  const answers = Array.from({ length: 10 }, () => ask(range));
  expect(asked.filter(({ via }) => via === null)).toHaveLength(5);
  to.chooser?.handleFailure(null, monotonicMs(Date.now()));
  to.giveUpSilent(null, true);
  to.giveUpSilent(null, true);
  await pass(1);
  expect(asked.slice(10).map(({ via }) => via)).toEqual([ams, ams]);
  expect(asked.filter(({ signal }) => signal.aborted)).toHaveLength(2);
  for (const one of asked) one.whole();
  const paths = (await Promise.all(answers)).map(({ path }) => path.via);
  expect(paths.filter((via) => via === null)).toHaveLength(3);
  expect(parts.counters.retries).toBe(2);
});

test("what reached nobody is asked over another path, however empty the budget; what was sent is not", async () => {
  const { asked, ask } = setUp({ retry: { initial: 0, max: 1, ratio: 0, minPerSecond: 0 } });
  const unreached = ask();
  asked[0]?.reject(failure("connect-timeout", "waiting"));
  await pass(1);
  expect(asked.map(({ via }) => via)).toEqual([null, ams]);
  asked[1]?.whole();
  expect(await unreached).toMatchObject({ attempts: 2 });
  const sent = ask();
  asked[2]?.reject(failure("connection-lost", "sent"));
  await expect(sent).rejects.toMatchObject({ code: "connection-lost" });
  expect(asked).toHaveLength(3);
});

test("what waits on a path that was cut goes elsewhere without a budget, once one of them is answered there", async () => {
  const { asked, ask } = setUp({
    retry: { initial: 0, max: 1, ratio: 0, minPerSecond: 0 },
    hedging: { savedMax: 1, reserve: 0 },
  });
  const answers = Array.from({ length: 10 }, () => ask());
  await pass(110);
  // The first is late, and takes what was saved up.
  expect(asked.map(({ via }) => via)).toEqual([...answers.map(() => null), ams]);
  await pass(90);
  asked[10]?.whole();
  await pass(30);
  expect(asked.slice(11).map(({ via }) => via)).toEqual(answers.slice(1).map(() => ams));
  for (const one of asked.slice(11)) one.whole();
  for (const { path } of await Promise.all(answers)) expect(path.via).toBe(ams);
});

test("a request that reached nobody is asked on while a path is well, as long as a connection may take", async () => {
  const { asked, ask } = setUp({ attemptsMax: 2, connectTimeoutMs: 3_000 });
  const answer = ask({ ...get, method: "PUT", body: Buffer.from("x") });
  for (let tries = 0; tries < 4; tries++) {
    await pass(900);
    expect(asked).toHaveLength(tries + 1);
    asked[tries]?.reject(failure("connect-timeout", "waiting"));
  }
  await expect(answer).rejects.toMatchObject({ code: "connect-timeout" });
  expect(asked).toHaveLength(4);
});
