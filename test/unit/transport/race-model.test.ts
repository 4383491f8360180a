/**
 * Requests over a modelled network in virtual time: 96 ms over each of three paths, one answer in nine late by one repeat of a lost packet
 * or more, and paths that are cut. What second attempts are worth, what they cost, and how long a cut is felt; `lab overlay` shows the
 * same with real TCP.
 */
import { Readable } from "node:stream";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type ClusterId, type MonotonicMs, monotonicMs, quantile } from "#kit";
import { createLogger } from "#kit/io";
import {
  ExchangeError,
  type ExchangeHead,
  race,
  type RaceParts,
  type Target,
  transportDefaults,
  type TransportSettings,
} from "#transport";
import { originTarget } from "../../tools/origin-target.ts";

const RTT_MS = 96;
const relays = ["ams", "lon"] as unknown as readonly ClusterId[];

/** Numbers that look random, the same in every run (Park, Miller, 1988). */
function drawsFrom(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}

/** From the request to the last byte over a path that is not cut: a loss is repeated after a round trip, one at the end after two. */
function answerMs(draw: () => number): number {
  const jitterMs = 2 * draw();
  const luck = draw();
  if (luck < 0.89) return RTT_MS + jitterMs;
  if (luck < 0.945) return 2 * RTT_MS + jitterMs;
  return luck < 0.997 ? 3 * RTT_MS + jitterMs : 500 + jitterMs;
}

class Model {
  readonly to: Target;
  readonly times: number[] = [];
  attempts = 0;
  failures = 0;
  readonly cut = new Set<ClusterId | null>();
  readonly #draw = drawsFrom(7);
  readonly #parts: RaceParts;
  /** What a cut holds back. */
  readonly #held: { readonly via: ClusterId | null; readonly go: () => void }[] = [];
  #now = (): MonotonicMs => monotonicMs(Date.now());

  constructor(settings: Partial<TransportSettings> = {}) {
    const all = { ...transportDefaults, ...settings };
    this.#parts = {
      settings: all,
      logger: createLogger({ role: "test", id: "t" }, { level: "silent" }),
      now: this.#now,
      send: (_to, via, _request, signal) => {
        this.attempts++;
        return new Promise((resolve, reject) => {
          signal.addEventListener(
            "abort",
            () => reject(new ExchangeError("given up", "path-failed", "sent", "GET", undefined)),
            { once: true },
          );
          this.#cross(via, answerMs(this.#draw), () => resolve(whole()));
        });
      },
      onFailure: () => {},
      onAnswered: () => {},
      onRacesLost: (_to, via) => {
        this.to.chooser?.handleRacesLost(via, this.#now());
        this.to.giveUpSilent(via, false);
      },
      counters: { retries: 0 },
    };
    this.to = originTarget(settings, this.#now, relays);
  }

  /** What is sent on a cut path gets through when the path is healed and the kernel repeats it. */
  #cross(via: ClusterId | null, ms: number, arrive: () => void): void {
    if (this.cut.has(via)) this.#held.push({ via, go: () => setTimeout(arrive, 200 + ms) });
    else
      setTimeout(() => {
        if (this.cut.has(via)) this.#held.push({ via, go: () => setTimeout(arrive, 200) });
        else arrive();
      }, ms);
  }

  heal(via: ClusterId | null): void {
    this.cut.delete(via);
    for (const one of this.#held.splice(0)) {
      if (one.via === via) one.go();
      else this.#held.push(one);
    }
  }

  async #ask(): Promise<void> {
    const startMs = Date.now();
    try {
      const { progress } = await race(
        this.#parts,
        this.to,
        { method: "GET", path: "/", headers: [] },
        undefined,
      );
      progress.end();
      this.times.push(Date.now() - startMs);
    } catch {
      this.failures++;
    }
  }

  /** Asks every 50 ms, and keeps the paths probed. Returns how many requests it began. */
  async run(ms: number): Promise<number> {
    const { chooser, hedges } = this.to;
    const endMs = Date.now() + ms;
    let asked = 0;
    for (let tick = 0; Date.now() < endMs; tick++) {
      chooser?.handleTimeout(this.#now());
      for (
        let probe = chooser?.pollTransmit(this.#now());
        probe;
        probe = chooser?.pollTransmit(this.#now())
      ) {
        const { via, probeId } = probe;
        const sentMs = Date.now();
        this.#cross(via, RTT_MS, () => {
          hedges.handleHeard(via, this.#now());
          chooser?.handleProbeResult(probeId, Date.now() - sentMs, this.#now());
        });
      }
      if (tick % 5 === 0) {
        asked++;
        void this.#ask();
      }
      await vi.advanceTimersByTimeAsync(10);
    }
    return asked;
  }

  at(share: number): number {
    return quantile(
      this.times.toSorted((a, b) => a - b),
      share,
    );
  }
}

function whole(): ExchangeHead {
  return {
    protocol: "http/1.1",
    status: 200,
    headers: [["Content-Length", "3"]],
    body: Readable.from(["abc"]),
    isWhole: () => true,
    takeWhole: () => undefined,
    onWhole: () => {},
    trailers: () => [],
    handleTiming: () => {},
    quietMs: () => undefined,
    connectMs: 0,
    ttfbMs: RTT_MS,
  };
}

beforeEach(() => vi.useFakeTimers({ now: 1_000_000 }));
afterEach(() => vi.useRealTimers());

test("a tenth more requests takes the tail off: from three round trips to two at the 99th of 100", async () => {
  const without = new Model({ hedging: { ratio: 0 } });
  await without.run(40_000);
  const hedged = new Model();
  const asked = await hedged.run(40_000);
  expect(without.at(0.99)).toBeGreaterThanOrEqual(3 * RTT_MS);
  expect(hedged.at(0.99)).toBeLessThan(205);
  expect(hedged.attempts).toBeLessThanOrEqual(1.1 * asked);
  expect(hedged.failures).toBe(0);
});

test("a cut of eight seconds: left within 700 ms, and no request takes a second", async () => {
  const model = new Model();
  await model.run(20_000);
  const before = model.to.choose().via;
  model.cut.add(before);
  model.times.length = 0;
  await model.run(700);
  expect(model.to.choose().via).not.toBe(before);
  await model.run(7_300);
  model.heal(before);
  await model.run(2_000);
  expect(model.at(1)).toBeLessThan(1_000);
  expect(model.failures).toBe(0);
});

test("twenty short cuts, each of the path in use: none fails, and nine in ten of the answers come within two round trips more", async () => {
  const model = new Model();
  await model.run(20_000);
  model.times.length = 0;
  for (let cuts = 0; cuts < 20; cuts++) {
    const { via } = model.to.choose();
    model.cut.add(via);
    await model.run(800);
    model.heal(via);
    await model.run(800);
  }
  expect(model.failures).toBe(0);
  expect(model.at(0.9)).toBeLessThan(3 * RTT_MS);
  expect(model.at(1)).toBeLessThan(1_000);
});
