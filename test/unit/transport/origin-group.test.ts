import { describe, expect, test } from "vitest";
import {
  type MonotonicMs,
  monotonicMs,
  ORIGIN_POLICY,
  type OriginPolicy,
  ParseError,
  propertyDocument,
} from "#kit";
import { CircuitBreaker } from "../../../transport/core/circuit-breaker.ts";
import { OriginGroup } from "../../../transport/core/origin-group.ts";
import {
  type OriginOutcome,
  originGroupSettings,
  type OriginGroupSettings,
} from "../../../transport/core/origin-words.ts";
import { OutcomeWindow } from "../../../transport/core/outcome-window.ts";

const at = (ms: number): MonotonicMs => monotonicMs(ms);
type Stated = { weight?: number; priority?: number; requestsMax?: number };

function groupOf(
  servers: readonly Stated[],
  policy: Partial<OriginPolicy> = {},
  more: Partial<OriginGroupSettings> = {},
): OriginGroup {
  const origins = servers.map((one, index) => ({
    scheme: "http" as const,
    host: `o${index}.example`,
    port: 80,
    ...one,
  }));
  return new OriginGroup({ ...originGroupSettings(origins, { ...ORIGIN_POLICY, ...policy }), ...more });
}

/** One request: who answered it first, with the outcome that `outcomeOf` has for that server. */
function ask(
  group: OriginGroup,
  now: MonotonicMs,
  outcomeOf: (index: number) => OriginOutcome = () => "ok",
): number | undefined {
  const [index] = group.order(now, true).indexes;
  if (index === undefined) return undefined;
  const use = group.begin(index, now);
  group.handleOutcome(use, outcomeOf(index), now);
  group.handleEnd(use);
  return index;
}

function share(group: OriginGroup, requests: number, now: MonotonicMs): number[] {
  const counts: number[] = group.states(now).map(() => 0);
  for (let n = 0; n < requests; n++) {
    const index = ask(group, now);
    if (index !== undefined) counts[index] = (counts[index] ?? 0) + 1;
  }
  return counts;
}

const events = (group: OriginGroup): string[] => {
  const found: string[] = [];
  for (let event = group.pollEvent(); event; event = group.pollEvent())
    found.push(`${event.type} ${event.server} ${event.reason}`);
  return found;
};

describe("choice", () => {
  test("without priorities the order of the document is the order of preference", () => {
    const group = groupOf([{}, {}, {}]);
    expect(group.order(at(0), true).indexes).toEqual([0, 1, 2]);
    expect(share(group, 10, at(0))).toEqual([10, 0, 0]);
  });

  test("servers of one priority share by weight, exactly; a drained one gets nothing", () => {
    const group = groupOf([
      { priority: 0, weight: 5 },
      { priority: 0, weight: 3 },
      { priority: 0, weight: 0 },
      { priority: 0, weight: 2 },
    ]);
    expect(share(group, 100, at(0))).toEqual([50, 30, 0, 20]);
    expect(group.states(at(0))[2]?.bar).toBe("drained");
  });

  test("another process begins with another server", () => {
    const origins = [0, 1, 2].map((n) => ({ scheme: "http" as const, host: `o${n}`, port: 80, priority: 0 }));
    const settings = originGroupSettings(origins, ORIGIN_POLICY);
    expect(
      [0, 1, 2].map((offset) => new OriginGroup(settings, offset).order(at(0), true).indexes[0]),
    ).toEqual([0, 1, 2]);
  });

  test("a full server's load goes to the next priority, and a full origin refuses", () => {
    const group = groupOf([{ requestsMax: 2 }, { requestsMax: 1 }]);
    const uses = [0, 0, 1].map((wanted) => {
      const [index = -1] = group.order(at(0), true).indexes;
      expect(index).toBe(wanted);
      return group.begin(index, at(0));
    });
    expect(group.order(at(0), true)).toMatchObject({ indexes: [], bars: ["requests-max", "requests-max"] });
    expect(group.counters).toMatchObject({ failedOver: 1, refused: 1 });
    // Told twice of one end it counts one.
    for (const use of [uses[0], uses[0]]) if (use) group.handleEnd(use);
    expect([group.active, group.order(at(0), true).indexes]).toEqual([2, [0]]);
  });

  test("the bound of all servers together", () => {
    const group = groupOf([{}, {}], { requestsMax: 1 });
    group.begin(0, at(0));
    expect(group.order(at(0), true)).toMatchObject({ indexes: [], bars: "group-requests-max" });
  });

  test("a process has its part of the limits, one at least", () => {
    const settings = originGroupSettings(
      [{ scheme: "http", host: "a", port: 80, requestsMax: 10 }],
      { ...ORIGIN_POLICY, requestsMax: 1 },
      0.25,
    );
    expect([settings.servers[0]?.requestsMax, settings.requestsMax]).toEqual([3, 1]);
  });
});

describe("outliers", () => {
  const equals: readonly Stated[] = [{ priority: 0 }, { priority: 0 }, { priority: 0 }, { priority: 0 }];

  test("a server that answers nothing is ejected, comes back, and stays away twice as long the next time", () => {
    const group = groupOf(equals, { breaker: null });
    let now = 0;
    for (; group.counters.ejections < 1; now += 10)
      ask(group, at(now), (index) => (index === 1 ? "unreachable" : "ok"));
    const first = group.states(at(now))[1];
    expect(first).toMatchObject({ bar: "ejected", ejection: "consecutive-errors" });
    const until = first?.barredUntil ?? Number.NaN;
    expect(until - now).toBeGreaterThan(9_900);
    expect(share(group, 40, at(now))[1]).toBe(0);
    now = until + 30_000;
    for (; group.counters.ejections < 2; now += 10)
      ask(group, at(now), (index) => (index === 1 ? "unreachable" : "ok"));
    expect((group.states(at(now))[1]?.barredUntil ?? 0) - now).toBeGreaterThan(19_900);
    expect(events(group)).toEqual([
      "ejected http://o1.example:80 consecutive-errors",
      "returned http://o1.example:80 ejection-over",
      "ejected http://o1.example:80 consecutive-errors",
    ]);
  });

  test("a share of errors is enough where the others do better", () => {
    const group = groupOf(equals, { breaker: null });
    let n = 0;
    for (let now = 0; now < 4_000; now += 10)
      ask(group, at(now), (index) => (index === 2 && n++ % 5 < 3 ? "error-status" : "ok"));
    expect(events(group)).toEqual(["ejected http://o2.example:80 error-ratio"]);
  });

  test("an error that every server answers with takes none of them out", () => {
    const group = groupOf(equals);
    for (let now = 0; now < 4_000; now += 10) ask(group, at(now), () => "error-status");
    expect(group.counters).toMatchObject({ ejections: 0, breakersOpened: 0 });
  });

  test("never more than the quota, never the last one", () => {
    const group = groupOf(equals, { breaker: null });
    for (let now = 0; now < 4_000; now += 10) ask(group, at(now), () => "unreachable");
    expect(group.counters.ejections).toBe(2);
    expect(group.counters.ejectionsRefused).toBeGreaterThan(0);
    const one = groupOf([{}], { breaker: null });
    for (let now = 0; now < 1_000; now += 10) expect(ask(one, at(now), () => "silent")).toBe(0);
    expect(one.counters.ejections).toBe(0);
    expect(one.counters.ejectionsRefused).toBeGreaterThan(0);
  });

  test("what the client gave up says nothing", () => {
    const group = groupOf([{}, {}]);
    for (let n = 0; n < 100; n++) ask(group, at(n), () => "none");
    expect(group.states(at(100))[0]).toMatchObject({ recentRequests: 0, bar: undefined });
  });
});

describe("slow start", () => {
  test("begins with a tenth and has its whole share at the end", () => {
    const group = groupOf([{ priority: 0 }, { priority: 0 }], { breaker: null, slowStartSeconds: 30 });
    let now = 0;
    for (; group.counters.ejections < 1; now += 10)
      ask(group, at(now), (index) => (index === 0 ? "silent" : "ok"));
    const back = group.states(at(now))[0]?.barredUntil ?? Number.NaN;
    const ramps = [0, 15_000, 30_000].map((ms) => group.states(at(back + ms))[0]?.rampRatio);
    expect(ramps).toEqual([0.1, 0.5, 1]);
    // What a turn leaves over may shift a share by one.
    const sharesAt = (ms: number, requests: number): number => share(group, requests, at(back + ms))[0] ?? 0;
    expect(Math.abs(sharesAt(0, 110) - 10)).toBeLessThanOrEqual(1);
    expect(Math.abs(sharesAt(15_000, 150) - 50)).toBeLessThanOrEqual(1);
    expect(Math.abs(sharesAt(30_000, 100) - 50)).toBeLessThanOrEqual(1);
  });
});

describe("breaker", () => {
  const settings = {
    failures: 3,
    openMs: 1_000,
    openMsMax: 3_000,
    halfOpenRequestsMax: 1,
    halfOpenSuccesses: 2,
  };
  const fail = (breaker: CircuitBreaker, now: number): void =>
    breaker.handleFailure(breaker.begin(at(now)), at(now));

  test("opens after failures in a row, for longer each time, and closes after successes", () => {
    const breaker = new CircuitBreaker(settings);
    fail(breaker, 0);
    fail(breaker, 0);
    breaker.handleSuccess(breaker.begin(at(0)));
    fail(breaker, 0);
    fail(breaker, 0);
    expect(breaker.state(at(0))).toBe("closed");
    fail(breaker, 0);
    for (const [pauseMs, now] of [
      [1_000, 0],
      [2_000, 1_000],
      [3_000, 3_000],
      [3_000, 6_000],
    ] as const) {
      expect(breaker.openUntil(at(now))).toBe(now + pauseMs);
      expect(breaker.mayPass(at(now), true)).toBe(false);
      fail(breaker, now + pauseMs);
    }
    expect(breaker.mayPass(at(12_000), true)).toBe(true);
    breaker.handleSuccess(breaker.begin(at(12_000)));
    expect(breaker.state(at(12_000))).toBe("half-open");
    breaker.handleSuccess(breaker.begin(at(12_000)));
    expect(breaker.state(at(12_000))).toBe("closed");
    // The pauses begin anew.
    for (let n = 0; n < 3; n++) fail(breaker, 13_000);
    expect(breaker.openUntil(at(13_000))).toBe(14_000);
  });

  test("one request at once tries it, and only one that could be asked elsewhere", () => {
    const breaker = new CircuitBreaker(settings);
    for (let n = 0; n < 3; n++) fail(breaker, 0);
    expect(breaker.mayPass(at(1_000), false)).toBe(false);
    const trial = breaker.begin(at(1_000));
    expect(breaker.mayPass(at(1_000), true)).toBe(false);
    breaker.handleNothing(trial);
    expect(breaker.mayPass(at(1_000), true)).toBe(true);
  });

  test("what began before it opened neither closes it nor prolongs the pause", () => {
    const breaker = new CircuitBreaker(settings);
    const early = [1, 2, 3].map(() => breaker.begin(at(0)));
    for (let n = 0; n < 3; n++) fail(breaker, 0);
    const [a, b, c] = early;
    if (a && b && c) {
      breaker.handleSuccess(a);
      breaker.handleFailure(b, at(500));
      breaker.handleNothing(c);
    }
    // Begun while it was open, by who had chosen it before: no trial either.
    breaker.handleFailure(breaker.begin(at(600)), at(600));
    expect(breaker.openUntil(at(700))).toBe(1_000);
    expect(breaker.counters).toMatchObject({ opened: 1, closed: 0, trials: 0 });
  });

  test("a group says until when nobody can be asked, and requests that cannot be repeated try it too when there is none else", () => {
    const group = groupOf([{}]);
    for (let n = 0; n < 10; n++) ask(group, at(0), () => "silent");
    expect(group.order(at(10), true)).toMatchObject({ indexes: [], bars: ["breaker-open"], retryAt: 1_000 });
    expect(group.describe(at(500))).toBe("http://o0.example:80 breaker-open for 0.5 s");
    expect(group.order(at(1_000), false).indexes).toEqual([0]);
    expect([ask(group, at(1_000)), ask(group, at(1_000))]).toEqual([0, 0]);
    expect(events(group)).toEqual([
      "breaker-opened http://o0.example:80 silent",
      "breaker-closed http://o0.example:80 answered",
    ]);
  });
});

describe("checks", () => {
  const check = { intervalMs: 1_000, timeoutMs: 500, jitterRatio: 0, downThreshold: 2, okThreshold: 2 };

  /** Checks until `end`, with the result that `isOk` has for a server (undefined: none comes). */
  function run(
    group: OriginGroup,
    from: number,
    end: number,
    isOk: (index: number) => boolean | undefined,
  ): void {
    for (
      let now: number = from;
      now <= end;
      now = Math.max(now + 1, group.pollTimeout(at(now)) ?? Infinity)
    ) {
      group.handleTimeout(at(now));
      for (let probe = group.pollCheck(at(now)); probe; probe = group.pollCheck(at(now))) {
        const ok = isOk(probe.index);
        if (ok !== undefined) group.handleCheck(probe.probeId, ok, at(now));
      }
    }
  }

  test("two that fail take a server out, two that succeed bring it back slowly", () => {
    const group = groupOf([{ priority: 0 }, { priority: 0 }], {}, { check });
    group.startChecks(at(0));
    run(group, 0, 3_000, (index) => index === 1 || undefined);
    expect(group.states(at(3_000)).map(({ bar }) => bar)).toEqual(["check-failed", undefined]);
    expect(share(group, 10, at(3_000))).toEqual([0, 10]);
    // A last try after the others, should they fail.
    expect(group.order(at(3_000), true).indexes).toEqual([1, 0]);
    run(group, 3_001, 6_000, () => true);
    const back = group.states(at(6_000))[0];
    expect(back?.bar).toBeUndefined();
    expect(back?.rampRatio).toBeLessThan(0.2);
    expect(events(group)).toEqual([
      "down http://o0.example:80 probe-timeout",
      "up http://o0.example:80 recovered",
    ]);
  });

  test("coming back by its checks ends an ejection, and being well by them all the time does not", () => {
    const group = groupOf([{ priority: 0 }, { priority: 0 }], { breaker: null }, { check });
    group.startChecks(at(0));
    run(group, 0, 2_000, () => true);
    for (let n = 0; n < 20; n++) ask(group, at(2_000), (index) => (index === 0 ? "unreachable" : "ok"));
    run(group, 2_001, 5_000, () => true);
    expect(group.states(at(5_000))[0]).toMatchObject({ check: "up", bar: "ejected" });
    run(group, 5_001, 8_000, (index) => index === 1);
    expect(group.states(at(8_000))[0]?.bar).toBe("check-failed");
    run(group, 8_001, 11_000, () => true);
    expect(group.states(at(11_000))[0]).toMatchObject({ check: "up", bar: undefined, ejection: undefined });
  });

  test("with every server down all are asked, since checks may be what is wrong", () => {
    const group = groupOf([{ priority: 0 }, { priority: 0 }], {}, { check });
    group.startChecks(at(0));
    run(group, 0, 5_000, () => false);
    expect(share(group, 10, at(5_000))).toEqual([5, 5]);
    expect(group.counters.lastResorts).toBe(10);
    group.stopChecks();
    expect(group.states(at(5_000))[0]).toMatchObject({ check: "off", bar: undefined });
  });

  test("a down server counts as taken: what is left is not ejected", () => {
    const group = groupOf([{ priority: 0 }, { priority: 0 }], { breaker: null }, { check });
    group.startChecks(at(0));
    run(group, 0, 5_000, (index) => index === 1);
    for (let n = 0; n < 20; n++) ask(group, at(5_000), () => "unreachable");
    expect(group.counters.ejections).toBe(0);
  });
});

test("a window forgets what is older than itself, after a jump too", () => {
  const window = new OutcomeWindow(1_000);
  for (let now = 0; now < 1_000; now += 100) window.add(now % 200 === 0, at(now));
  expect(window.sums(at(999))).toEqual({ requests: 10, failures: 5 });
  expect(window.sums(at(1_499))).toEqual({ requests: 5, failures: 2 });
  expect(window.sums(at(1_000_000))).toEqual({ requests: 0, failures: 0 });
});

describe("documents", () => {
  const property = {
    propertyId: "shop",
    customerId: "acme",
    hostnames: ["www.shop.example"],
    origins: [{ scheme: "http", host: "a.example", port: 80 }],
  };

  test("a property that states nothing has the defaults", () => {
    expect(propertyDocument.parse(property).originPolicy).toBeUndefined();
    expect(ORIGIN_POLICY).toMatchObject({ healthCheck: null, slowStartSeconds: 30, requestsMax: null });
  });

  test.each([
    [{ origins: [{ ...property.origins[0], priority: 0 }, property.origins[0]] }, "origins[1].priority"],
    [{ origins: [{ ...property.origins[0], weight: 0 }] }, "origins[0].weight"],
    [{ origins: [{ ...property.origins[0], weight: -1 }] }, "origins[0].weight"],
    [{ origins: [{ ...property.origins[0], connectionsMax: 0 }] }, "origins[0].connectionsMax"],
    [{ originPolicy: { healthCheck: { path: "health" } } }, "originPolicy.healthCheck.path"],
    [{ originPolicy: { healthCheck: { path: "/a b" } } }, "originPolicy.healthCheck.path"],
    [{ originPolicy: { healthCheck: { path: "/\r\nHost: x" } } }, "originPolicy.healthCheck.path"],
    [
      { originPolicy: { healthCheck: { intervalSeconds: 0.01 } } },
      "originPolicy.healthCheck.intervalSeconds",
    ],
    [
      { originPolicy: { healthCheck: { statusMin: 400, statusMax: 200 } } },
      "originPolicy.healthCheck.statusMax",
    ],
    [{ originPolicy: { healthCheck: { port: 22 } } }, "originPolicy.healthCheck.port"],
    [
      { originPolicy: { outlierDetection: { ejectedRatioMax: 2 } } },
      "originPolicy.outlierDetection.ejectedRatioMax",
    ],
    [
      { originPolicy: { outlierDetection: { ejectionSeconds: 500 } } },
      "originPolicy.outlierDetection.ejectionSecondsMax",
    ],
    [{ originPolicy: { breaker: { openSeconds: 60 } } }, "originPolicy.breaker.openSecondsMax"],
    [{ originPolicy: { breaker: { failures: Number.NaN } } }, "originPolicy.breaker.failures"],
    [
      { rules: [{ match: { pathPrefix: "/a" }, origins: [{ ...property.origins[0], weight: 0 }] }] },
      "rules[0].origins[0].weight",
    ],
  ])("%j is refused at %s", (change, path) => {
    let message = "";
    try {
      propertyDocument.parse({ ...property, ...change });
    } catch (error) {
      if (error instanceof ParseError) ({ message } = error);
    }
    expect(message.slice(0, message.indexOf(":"))).toBe(path);
  });
});
