import { describe, expect, test } from "vitest";
import { type ClusterId, type MonotonicMs, monotonicMs } from "#kit";
import { PathChooser, type PathChooserSettings, type PathEvent } from "#transport";

const nyc = "nyc" as ClusterId;
const lon = "lon" as ClusterId;
const par = "par" as ClusterId;

/** Round trips by path; undefined: nothing crosses. */
type Truth = { direct: number | undefined; nyc?: number | undefined; lon?: number | undefined };

/** Drives a chooser in virtual time against a network whose truth may change. */
class Drive {
  readonly chooser: PathChooser;
  now: MonotonicMs = monotonicMs(0);
  truth: Truth;
  readonly events: PathEvent[] = [];
  #arrivals: { at: number; probeId: number; rttMs: number }[] = [];

  constructor(truth: Truth, settings: Partial<PathChooserSettings> = {}) {
    this.truth = truth;
    this.chooser = new PathChooser(settings, this.now);
    this.chooser.setRelays(
      [nyc, lon].filter((via) => via in truth).map((via) => ({ via })),
      this.now,
    );
  }

  run(ms: number): this {
    const end = this.now + ms;
    for (;;) {
      this.chooser.handleTimeout(this.now);
      for (
        let probe = this.chooser.pollTransmit(this.now);
        probe;
        probe = this.chooser.pollTransmit(this.now)
      ) {
        const rttMs = this.truth[(probe.via ?? "direct") as keyof Truth];
        if (rttMs !== undefined) this.#arrivals.push({ at: this.now + rttMs, probeId: probe.probeId, rttMs });
      }
      for (let event = this.chooser.pollEvent(); event; event = this.chooser.pollEvent())
        this.events.push(event);
      this.#arrivals.sort((a, b) => a.at - b.at);
      const next = Math.min(this.chooser.pollTimeout(this.now), this.#arrivals[0]?.at ?? Infinity);
      if (next > end) break;
      this.now = monotonicMs(Math.max(next, this.now));
      for (let first = this.#arrivals[0]; first && first.at <= this.now; first = this.#arrivals[0]) {
        this.#arrivals.shift();
        this.chooser.handleProbeResult(first.probeId, first.rttMs, this.now);
      }
    }
    this.now = monotonicMs(end);
    return this;
  }

  choose(): { via: ClusterId | null; reason: string } {
    return this.chooser.choose(this.now);
  }
}

describe("choice", () => {
  test("without relays: the only path", () => {
    expect(new Drive({ direct: 100 }).run(5_000).choose()).toEqual({ via: null, reason: "only-path" });
  });

  test("before a relay is measured: direct, unmeasured", () => {
    const drive = new Drive({ direct: 300, nyc: 140 });
    expect(drive.choose()).toEqual({ via: null, reason: "unmeasured-direct" });
  });

  test("a clearly faster relay is taken after the hold-down, not before", () => {
    const drive = new Drive({ direct: 300, nyc: 140 }, { holdDownMs: 2_000 });
    expect(drive.run(2_000).choose()).toEqual({ via: null, reason: "hysteresis" });
    expect(drive.run(4_000).choose()).toEqual({ via: nyc, reason: "cheapest" });
    expect(drive.chooser.counters).toMatchObject({ switches: 1, fallbacks: 0, failures: 0 });
    expect(drive.events).toMatchObject([{ type: "switched", from: null, to: nyc, reason: "cheapest" }]);
  });

  test.each([
    { name: "within a hundredth", direct: 200, relay: 198.2 },
    { name: "within a millisecond", direct: 10, relay: 9.1 },
    { name: "equal", direct: 100, relay: 100 },
  ])("a gain $name never moves traffic", ({ direct, relay }) => {
    const drive = new Drive({ direct, nyc: relay }).run(3_600_000);
    expect(drive.choose().via).toBeNull();
    expect(drive.chooser.counters.switches).toBe(0);
  });

  test("the smaller the gain, the longer it takes, and in the end it is taken", () => {
    const afterMs = [140, 180, 190, 195].map((relay) => {
      const drive = new Drive({ direct: 200, nyc: relay });
      while (drive.choose().via === null && drive.now < 3_600_000) drive.run(500);
      expect(drive.choose()).toEqual({ via: nyc, reason: "cheapest" });
      return drive.now;
    });
    expect(afterMs).toEqual(afterMs.toSorted((a, b) => a - b));
    expect(new Set(afterMs).size).toBeGreaterThanOrEqual(3);
    expect(afterMs[0]).toBeLessThan(10_000);
    expect(afterMs.at(-1)).toBeGreaterThan(60_000);
  });

  test("a relay that is no better than direct any more is left for it", () => {
    const drive = new Drive({ direct: 200, nyc: 150 }).run(20_000);
    expect(drive.choose().via).toBe(nyc);
    drive.truth = { direct: 200, nyc: 200 };
    expect(drive.run(600_000).choose()).toEqual({ via: null, reason: "cheapest" });
  });

  test("a small answer goes where the round trip is short, a large one where little is lost", () => {
    const drive = new Drive({ direct: 100, nyc: 70 }, { probeLossesMax: 100 });
    for (let n = 0; n < 300; n++) {
      // One probe in 40 is lost on the relay: 100 segments at a tenth of the loss take a third of the rounds.
      drive.truth = { direct: 100, nyc: n % 40 === 0 ? undefined : 70 };
      drive.run(1_000);
      drive.chooser.choose(drive.now, "large");
    }
    expect(drive.choose().via).toBe(nyc);
    expect(drive.chooser.choose(drive.now, "large").via).toBeNull();
    expect(drive.events.filter((one) => one.type === "switched")).toMatchObject([
      { requestClass: "small", to: nyc },
    ]);
  });

  test("of two relays the better; the one that becomes worse is left", () => {
    const drive = new Drive({ direct: 300, nyc: 200, lon: 150 }).run(10_000);
    expect(drive.choose().via).toBe(lon);
    drive.truth = { direct: 300, nyc: 200, lon: 260 };
    expect(drive.run(60_000).choose()).toEqual({ via: nyc, reason: "cheapest" });
  });

  test("a lossy relay costs its retransmissions", () => {
    const drive = new Drive({ direct: 150, nyc: 140 }, { probeLossesMax: 100 });
    for (let n = 0; n < 200; n++) {
      drive.truth = { direct: 150, nyc: n % 10 === 0 ? undefined : 140 };
      drive.run(500);
    }
    const relay = drive.chooser.states(drive.now).find((one) => one.via === nyc);
    expect(relay?.lossRatio).toBeGreaterThan(0.03);
    expect(drive.choose().via).toBeNull();
  });
});

describe("flapping measurements", () => {
  test("a challenger that is better only now and then never wins", () => {
    const drive = new Drive({ direct: 100, nyc: 98 }, { holdDownMs: 5_000 });
    for (let n = 0; n < 40; n++) {
      drive.truth = { direct: 100, nyc: n % 2 === 0 ? 90 : 110 };
      drive.run(1_000);
    }
    expect(drive.chooser.counters.switches).toBe(0);
  });

  test("a path that fails again and again is kept out longer each time", () => {
    const drive = new Drive({ direct: 300, nyc: 140 }, { failedHoldMs: 1_000, holdDownMs: 0 }).run(5_000);
    const outMs: number[] = [];
    for (let n = 0; n < 3; n++) {
      drive.chooser.handleFailure(nyc, drive.now);
      const leftAt = drive.now;
      while (drive.chooser.states(drive.now).find((one) => one.via === nyc)?.isFailed) drive.run(100);
      outMs.push(drive.now - leftAt);
      drive.run(1_500);
    }
    expect(outMs[1]).toBeGreaterThan(outMs[0] ?? 0);
    expect(outMs[2]).toBeGreaterThan(outMs[1] ?? 0);
  });
});

describe("failure", () => {
  const onRelay = (): Drive => {
    const drive = new Drive({ direct: 300, nyc: 140, lon: 200 }).run(10_000);
    expect(drive.choose().via).toBe(nyc);
    return drive;
  };

  test("seen by traffic: the very next choice is the cheapest of the rest", () => {
    const drive = onRelay();
    drive.chooser.handleFailure(nyc, drive.now);
    expect(drive.choose()).toEqual({ via: lon, reason: "fallback-path-failed" });
    expect(drive.chooser.counters).toMatchObject({ failures: 1, fallbacks: 1 });
  });

  test("seen by probes: within two timeouts and an interval", () => {
    const drive = onRelay();
    drive.truth = { direct: 300, nyc: undefined, lon: 200 };
    const from = drive.now;
    while (drive.choose().via === nyc && drive.now - from < 10_000) drive.run(50);
    expect(drive.now - from).toBeLessThan(3_000);
    expect(drive.choose()).toEqual({ via: lon, reason: "fallback-path-failed" });
    drive.run(50);
    expect(drive.events).toContainEqual(
      expect.objectContaining({ type: "failed", via: nyc, cause: "probes" }),
    );
  });

  test("probes confirm a failure that traffic saw first, as news of its own", () => {
    const drive = onRelay();
    drive.chooser.handleFailure(nyc, drive.now);
    drive.truth = { direct: 300, nyc: undefined, lon: 200 };
    drive.run(5_000);
    const causes = drive.events.filter((one) => one.type === "failed").map((one) => one.cause);
    expect(causes).toEqual(["traffic", "probes"]);
    expect(drive.chooser.counters.failures).toBe(1);
  });

  test("recovers after the hold and good probes, and is taken again", () => {
    const drive = onRelay();
    drive.chooser.handleFailure(nyc, drive.now);
    drive.run(1_000);
    expect(drive.choose().via).toBe(lon);
    drive.run(10_000);
    expect(drive.chooser.counters.recoveries).toBe(1);
    expect(drive.choose()).toEqual({ via: nyc, reason: "cheapest" });
  });

  test("of everything: direct, and says so; the first that comes back is used", () => {
    const drive = onRelay();
    drive.truth = { direct: undefined, nyc: undefined, lon: undefined };
    drive.run(10_000);
    expect(drive.choose()).toEqual({ via: null, reason: "all-paths-failed" });
    expect(drive.chooser.alternative([null], drive.now)).toBeUndefined();
    drive.truth = { direct: undefined, nyc: undefined, lon: 200 };
    drive.run(20_000);
    expect(drive.choose()).toEqual({ via: lon, reason: "fallback-path-failed" });
  });

  test("an alternative is never one that was tried or has failed", () => {
    const drive = onRelay();
    expect(drive.chooser.alternative([nyc], drive.now)).toEqual({ via: lon, reason: "fallback-path-failed" });
    drive.chooser.handleFailure(lon, drive.now);
    expect(drive.chooser.alternative([nyc], drive.now)?.via).toBeNull();
    expect(drive.chooser.alternative([nyc, null], drive.now)).toBeUndefined();
  });

  test("a relay that leaves the candidates while in use is left at once", () => {
    const drive = onRelay();
    drive.chooser.setRelays([{ via: lon }], drive.now);
    expect(drive.choose().via).toBe(lon);
    drive.chooser.setRelays([], drive.now);
    expect(drive.choose()).toEqual({ via: null, reason: "only-path" });
  });
});

describe("probes", () => {
  test("at most one in flight a path; late and unknown results are ignored and counted", () => {
    const chooser = new PathChooser({}, monotonicMs(0));
    const first = chooser.pollTransmit(monotonicMs(0));
    expect(first).toMatchObject({ via: null, timeoutMs: 3_000 });
    expect(chooser.pollTransmit(monotonicMs(0))).toBeUndefined();
    expect(chooser.pollTimeout(monotonicMs(0))).toBe(3_000);
    chooser.handleTimeout(monotonicMs(3_000));
    chooser.handleProbeResult(first?.probeId ?? 0, 20, monotonicMs(3_001));
    chooser.handleProbeResult(999, 20, monotonicMs(3_001));
    expect(chooser.counters).toMatchObject({ probesSent: 1, probesLost: 1, probesOk: 0, resultsIgnored: 2 });
  });

  test("a probe that has to open a connection gets the time for it", () => {
    const drive = new Drive({ direct: 100 }).run(2_500);
    const probe = drive.run(1_000).chooser.pollTimeout(drive.now);
    const sent = drive.chooser.pollTransmit(probe);
    expect(sent?.timeoutMs).toBeLessThan(700);
    drive.chooser.handleProbeConnecting(sent?.probeId ?? 0, probe);
    expect(drive.chooser.pollTimeout(probe) - probe).toBeCloseTo(750, -1);
  });

  test("more relays than the limit, and duplicates, are left out", () => {
    const chooser = new PathChooser({ relaysMax: 2 }, monotonicMs(0));
    chooser.setRelays([{ via: nyc }, { via: nyc }, { via: lon }, { via: par }], monotonicMs(0));
    expect(chooser.states(monotonicMs(0)).map((one) => one.via)).toEqual([null, nyc, lon]);
  });

  test("an old estimate of a relay does not carry a choice", () => {
    const drive = new Drive({ direct: 300, nyc: 140 }, { ageMaxMs: 15_000 }).run(10_000);
    expect(drive.choose().via).toBe(nyc);
    expect(drive.chooser.choose(monotonicMs(drive.now + 60_000)).via).toBeNull();
  });
});

describe("what is no packet loss", () => {
  const lossOf = (chooser: PathChooser, now: number): number =>
    chooser.states(monotonicMs(now))[0]?.lossRatio ?? Number.NaN;

  test("a refused connection fails the path and leaves the loss ratio alone", () => {
    const chooser = new PathChooser({}, monotonicMs(0));
    let now = 0;
    for (let n = 0; n < 40; n++) {
      now = Math.max(now + 1, chooser.pollTimeout(monotonicMs(now)));
      const probe = chooser.pollTransmit(monotonicMs(now));
      if (probe) chooser.handleProbeRefused(probe.probeId, monotonicMs(now));
    }
    expect(chooser.counters).toMatchObject({ probesLost: 40, failures: 1 });
    expect(chooser.states(monotonicMs(now))[0]).toMatchObject({ isFailed: true, lossRatio: 0 });
    chooser.handleProbeRefused(999, monotonicMs(now));
    expect(chooser.counters.resultsIgnored).toBe(1);
  });

  test("an outage of a minute is no loss ratio: the path is taken back as soon as it lives", () => {
    const drive = new Drive({ direct: 20, nyc: 40 }).run(30_000);
    drive.truth = { direct: undefined, nyc: 40 };
    drive.run(60_000);
    expect(drive.choose().via).toBe(nyc);
    drive.truth = { direct: 20, nyc: 40 };
    drive.run(8_000);
    expect(lossOf(drive.chooser, drive.now)).toBe(0);
    expect(drive.run(4_000).choose()).toEqual({ via: null, reason: "cheapest" });
  });

  test("a pause of our own process is neither loss nor lateness", () => {
    const pausing = (isTold: boolean): PathChooser => {
      const chooser = new PathChooser({ samplesMin: 1 }, monotonicMs(0));
      for (let at = 0; at < 20_000; at += 1_000) {
        const probe = chooser.pollTransmit(monotonicMs(at));
        if (!probe) continue;
        const isPaused = at >= 16_000;
        // The answer lay there while nobody read it.
        const rttMs = isPaused ? 920 : 20;
        if (isPaused && isTold) chooser.handlePause(900);
        chooser.handleTimeout(monotonicMs(at + rttMs));
        chooser.handleProbeResult(probe.probeId, rttMs, monotonicMs(at + rttMs));
      }
      return chooser;
    };
    expect(lossOf(pausing(false), 20_000)).toBeGreaterThan(0.1);
    const told = pausing(true);
    expect(lossOf(told, 20_000)).toBe(0);
    expect(told.counters).toMatchObject({ probesLost: 0, failures: 0, samplesDisturbed: 2 });
    expect(told.states(monotonicMs(20_000))[0]?.srttMs).toBeCloseTo(20, 5);
  });
});

describe("a slow pace", () => {
  test("ends when the target is wanted: every path is probed at once", () => {
    const drive = new Drive({ direct: 20, nyc: 40 });
    drive.chooser.setIntervalFactor(10);
    drive.run(25_000);
    const { probesSent } = drive.chooser.counters;
    drive.truth = { direct: undefined, nyc: 40 };
    drive.chooser.expedite(drive.now);
    drive.run(1_500);
    expect(drive.chooser.counters.probesSent).toBeGreaterThanOrEqual(probesSent + 3);
    expect(drive.choose()).toEqual({ via: nyc, reason: "fallback-path-failed" });
  });

  test("a failed path that answers again is pursued, not left to the pace", () => {
    const drive = new Drive({ direct: 20 });
    drive.chooser.setIntervalFactor(10);
    drive.run(25_000);
    drive.truth = { direct: undefined };
    drive.run(12_000);
    expect(drive.chooser.states(drive.now)[0]?.isFailed).toBe(true);
    drive.truth = { direct: 20 };
    drive.run(10_500);
    expect(drive.chooser.states(drive.now)[0]?.isFailed).toBe(false);
  });
});

describe("lost races", () => {
  test("the path is left at once, probed at once, and is one like any other when the probe comes back", () => {
    const drive = new Drive({ direct: 100, nyc: 110, lon: 120 }).run(5_000);
    drive.chooser.handleRacesLost(null, drive.now);
    expect(drive.choose()).toEqual({ via: nyc, reason: "fallback-races-lost" });
    expect(drive.chooser.alternative([nyc], drive.now)).toMatchObject({ via: lon });
    expect(drive.run(200).chooser.alternative([nyc], drive.now)).toMatchObject({ via: null });
    expect(drive.chooser.counters).toMatchObject({ fallbacks: 1, failures: 0 });
    // Cheaper by a tenth and well: it is taken again in its time.
    expect(drive.run(5_000).choose()).toMatchObject({ via: null, reason: "cheapest" });
  });

  test("a path that is silent fails of its probes; without another one nothing is left", () => {
    const drive = new Drive({ direct: 100, nyc: 110 }).run(5_000);
    drive.truth = { direct: undefined, nyc: 110 };
    drive.chooser.handleRacesLost(null, drive.now);
    drive.chooser.handleRacesLost(nyc, drive.now);
    expect(drive.choose()).toMatchObject({ via: nyc });
    drive.run(2_000);
    expect(drive.chooser.states(drive.now)[0]).toMatchObject({ isFailed: true });
    expect(drive.events).toContainEqual(
      expect.objectContaining({ type: "failed", via: null, cause: "probes" }),
    );
  });
});

describe("racers", () => {
  test("none while the path in use is heard of, nor before anything is known", () => {
    expect(new Drive({ direct: 100, nyc: 90 }).chooser.racers(monotonicMs(0))).toEqual([]);
    const drive = new Drive({ direct: 100, nyc: 90 }).run(5_000);
    expect(drive.chooser.racers(drive.now)).toEqual([]);
  });

  test("with every path failed, and with old news, the others: cheapest as last known first", () => {
    const drive = new Drive({ direct: 100, nyc: 140, lon: 130 }).run(5_000);
    expect(drive.chooser.racers(monotonicMs(drive.now + 60_000))).toEqual([lon, nyc]);
    drive.truth = { direct: undefined };
    drive.run(10_000);
    expect(drive.choose()).toMatchObject({ via: null, reason: "all-paths-failed" });
    expect(drive.chooser.racers(drive.now)).toHaveLength(2);
  });
});

describe("large bodies", () => {
  const none = (): number => 0;
  const transfers = (drive: Drive, via: ClusterId | null, ms: number): void => {
    for (let n = 0; n < 3; n++) drive.chooser.handleTransfer(via, 1 << 20, 100, ms);
  };

  test("what they took counts for more than what distance and loss predict", () => {
    const drive = new Drive({ direct: 100, nyc: 104 }).run(5_000);
    expect(drive.chooser.chooseLarge(drive.now, none)).toMatchObject({ via: null });
    transfers(drive, null, 7_000);
    transfers(drive, nyc, 300);
    drive.run(5_000);
    expect(drive.chooser.chooseLarge(drive.now, none)).toMatchObject({ via: nyc, reason: "cheapest" });
    const busy = (via: ClusterId | null): number => (via === nyc ? 1 : 0);
    expect(drive.chooser.chooseLarge(drive.now, busy)).toMatchObject({ via: nyc });
    // A failure is no news of its rate, nor of the other's.
    drive.chooser.handleFailure(nyc, drive.now);
    drive.run(20_000);
    expect(drive.chooser.states(drive.now).find(({ via }) => via === nyc)).toMatchObject({ isFailed: false });
    expect(drive.chooser.chooseLarge(drive.now, busy)).toMatchObject({ via: nyc });
  });

  test("at the same time go over the paths that are nearly as good as the best", () => {
    const drive = new Drive({ direct: 100, nyc: 104, lon: 300 }).run(5_000);
    const underWay = new Map<ClusterId | null, number>();
    const took = Array.from({ length: 6 }, () => {
      const { via } = drive.chooser.chooseLarge(drive.now, (one) => underWay.get(one) ?? 0);
      underWay.set(via, (underWay.get(via) ?? 0) + 1);
      return via;
    });
    expect(took).toEqual([null, nyc, null, nyc, null, nyc]);
  });

  test("where they are slow, small requests try the other paths, since one of them may be large", () => {
    const drive = new Drive({ direct: 100, nyc: 104 }).run(5_000);
    expect(drive.choose()).toMatchObject({ via: null });
    transfers(drive, null, 7_000);
    expect(drive.run(20_000).choose()).toMatchObject({ via: nyc });
    transfers(drive, nyc, 7_000);
    expect(drive.run(20_000).choose()).toMatchObject({ via: null });
  });

  test("where they are fast, nothing is tried; short ones and empty ones say nothing", () => {
    const drive = new Drive({ direct: 100, nyc: 104 }).run(5_000);
    transfers(drive, null, 200);
    expect(drive.run(20_000).choose()).toMatchObject({ via: null });
    const short = new Drive({ direct: 100, nyc: 104 }).run(5_000);
    for (let n = 0; n < 3; n++) short.chooser.handleTransfer(null, 1_000, 100, 7_000);
    expect(short.run(20_000).choose()).toMatchObject({ via: null });
  });
});
