import { describe, expect, test } from "vitest";
import { type Clock, epochMs, type MonotonicMs, monotonicMs } from "#kit";
import { OriginResolver } from "#transport";

class FakeClock implements Clock {
  now = 0;
  monotonic = (): MonotonicMs => monotonicMs(this.now);
  epoch = () => epochMs(this.now);
}

function lab(settings = {}) {
  const clock = new FakeClock();
  let answer: readonly string[] | Error = ["192.0.2.1"];
  let ttlMs: number | undefined;
  const asked: string[] = [];
  const resolver = new OriginResolver({
    clock,
    settings: { freshMs: 1_000, staleMsMax: 10_000, negativeMs: 100, timeoutMs: 50, ...settings },
    lookup: async (host) => {
      asked.push(host);
      if (answer instanceof Error) throw answer;
      return { addresses: answer, ttlMs };
    },
  });
  return {
    clock,
    resolver,
    asked,
    answers(next: readonly string[] | Error, ttl?: number): void {
      answer = next;
      ttlMs = ttl;
    },
  };
}

/** Lets a refresh behind a request come to its end. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("addresses of origins", () => {
  test("an address is its own answer and costs no look-up", async () => {
    const { resolver, asked } = lab();
    expect(await resolver.resolve("2001:db8::1")).toEqual(["2001:db8::1"]);
    expect(asked).toEqual([]);
  });

  test("are kept while fresh; many askers share one look-up", async () => {
    const { clock, resolver, asked } = lab();
    await Promise.all([resolver.resolve("a.example"), resolver.resolve("a.example")]);
    clock.now = 999;
    expect(await resolver.resolve("a.example")).toEqual(["192.0.2.1"]);
    expect(asked).toEqual(["a.example"]);
  });

  test("expired: the old one is used at once while it is asked again", async () => {
    const { clock, resolver, answers } = lab();
    await resolver.resolve("a.example");
    clock.now = 1_500;
    answers(["192.0.2.2"]);
    expect(await resolver.resolve("a.example")).toEqual(["192.0.2.1"]);
    await settle();
    expect(await resolver.resolve("a.example")).toEqual(["192.0.2.2"]);
    expect(resolver.counters).toMatchObject({ lookups: 2, staleUses: 1, failures: 0 });
  });

  test("while resolution fails the old one stays in use, but not for ever (RFC 8767)", async () => {
    const { clock, resolver, answers } = lab();
    await resolver.resolve("a.example");
    answers(new Error("SERVFAIL"));
    clock.now = 9_000;
    expect(await resolver.resolve("a.example")).toEqual(["192.0.2.1"]);
    await settle();
    expect(resolver.counters.failures).toBe(1);
    clock.now = 10_500;
    await expect(resolver.resolve("a.example")).rejects.toMatchObject({ code: "dns-failed", retry: "safe" });
  });

  test("a failure is remembered for a moment, then tried again", async () => {
    const { clock, resolver, answers, asked } = lab();
    answers(new Error("NXDOMAIN"));
    await expect(resolver.resolve("b.example")).rejects.toThrow('Cannot resolve "b.example": NXDOMAIN');
    await expect(resolver.resolve("b.example")).rejects.toMatchObject({ code: "dns-failed" });
    expect(asked).toHaveLength(1);
    clock.now = 200;
    answers(["192.0.2.9"]);
    expect(await resolver.resolve("b.example")).toEqual(["192.0.2.9"]);
  });

  test("a resolver that hangs or knows no address counts as failed", async () => {
    const { resolver, answers } = lab();
    answers([]);
    await expect(resolver.resolve("c.example")).rejects.toThrow(/no address/);
    const hung = new OriginResolver({
      clock: new FakeClock(),
      settings: { timeoutMs: 20 },
      lookup: () => new Promise(() => {}),
    });
    await expect(hung.resolve("d.example")).rejects.toThrow(/no answer from the resolver in 20 ms/);
  });

  test("an answer is fresh for its TTL, within bounds", async () => {
    const { clock, resolver, answers, asked } = lab({ ttlMsMin: 100, ttlMsMax: 5_000 });
    for (const [ttlMs, freshMs] of [
      [2_000, 2_000],
      [0, 100],
      [86_400_000, 5_000],
    ] as const) {
      clock.now += 100_000;
      answers(["192.0.2.1"], ttlMs);
      await resolver.resolve("a.example");
      await settle();
      const count = asked.length;
      clock.now += freshMs - 1;
      await resolver.resolve("a.example");
      expect(asked).toHaveLength(count);
      clock.now += 1;
      await resolver.resolve("a.example");
      await settle();
      expect(asked).toHaveLength(count + 1);
    }
  });

  test("what expired long ago waits for the answer, and is used when none comes in time", async () => {
    const { clock, resolver, answers } = lab({ staleAtOnceMs: 500, staleWaitMs: 10, staleMsMax: 100_000 });
    await resolver.resolve("a.example");
    clock.now = 50_000;
    answers(["192.0.2.2"]);
    expect(await resolver.resolve("a.example")).toEqual(["192.0.2.2"]);
    expect(resolver.counters.staleUses).toBe(0);
    let isHung = false;
    const hung = new OriginResolver({
      clock,
      settings: { freshMs: 1_000, staleAtOnceMs: 500, staleWaitMs: 10, staleMsMax: 100_000 },
      lookup: () =>
        isHung ? new Promise(() => {}) : Promise.resolve({ addresses: ["192.0.2.3"], ttlMs: 1_000 }),
    });
    await hung.resolve("b.example");
    isHung = true;
    clock.now = 60_000;
    expect(await hung.resolve("b.example")).toEqual(["192.0.2.3"]);
    expect(hung.counters.staleUses).toBe(1);
  });

  test("that there is no such name any more ends the use of what was known", async () => {
    const { clock, resolver, answers } = lab({ staleAtOnceMs: 0 });
    await resolver.resolve("a.example");
    clock.now = 2_000;
    answers(Object.assign(new Error("queryA ENOTFOUND a.example"), { code: "ENOTFOUND" }));
    await expect(resolver.resolve("a.example")).rejects.toMatchObject({ code: "dns-failed" });
  });

  test("the family that comes late is used once it is there", async () => {
    let late: (addresses: readonly string[]) => void = () => {};
    const resolver = new OriginResolver({
      clock: new FakeClock(),
      lookup: async () => ({
        addresses: ["192.0.2.1"],
        ttlMs: 1_000,
        late: new Promise<readonly string[]>((resolve) => (late = resolve)),
      }),
    });
    expect(await resolver.resolve("a.example")).toEqual(["192.0.2.1"]);
    late(["2001:db8::1"]);
    await settle();
    expect(await resolver.resolve("a.example")).toEqual(["192.0.2.1", "2001:db8::1"]);
  });

  test("names are bounded", async () => {
    const { resolver, asked } = lab({ namesMax: 2 });
    for (const host of ["a.example", "b.example", "c.example", "b.example", "a.example"])
      await resolver.resolve(host);
    expect(asked).toEqual(["a.example", "b.example", "c.example", "a.example"]);
    expect(resolver.counters.evictions).toBe(2);
  });
});
