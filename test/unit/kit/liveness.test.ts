import { describe, expect, it } from "vitest";
import type { LivenessSettings } from "../../../kit/liveness.ts";
import { LivenessMonitor } from "../../../kit/liveness.ts";
import { monotonicMs as ms } from "../../../kit/time.ts";
import { TimerHeap } from "../../../kit/timer-heap.ts";

const SETTINGS: LivenessSettings = { intervalMs: 1000, timeoutMs: 400, downThreshold: 3, okThreshold: 2 };

/** `+` probe succeeds, `-` probe fails, `h` probe hangs until its timeout; one each interval. */
function play(script: string, settings: Partial<LivenessSettings> = {}) {
  const monitor = new LivenessMonitor({ ...SETTINGS, ...settings });
  monitor.setTargets([{ id: "a" }], ms(0));
  const states: string[] = [];
  let now = ms(0);
  for (const outcome of script) {
    now = monitor.pollTimeout(now) ?? now;
    const probe = monitor.pollTransmit(now);
    if (!probe) throw new Error(`no probe due at ${now}`);
    expect(monitor.pollTransmit(now)).toBeUndefined();
    if (outcome === "h") {
      now = monitor.pollTimeout(now) ?? now;
      monitor.handleTimeout(now);
    } else {
      now = ms(now + 20);
      monitor.handleProbeResult(probe.probeId, outcome === "+", now);
    }
    states.push({ up: "u", down: "d", unknown: "?" }[monitor.stateOf("a")]);
  }
  const events = [];
  for (let event = monitor.pollEvent(); event; event = monitor.pollEvent())
    events.push(`${event.state} ${event.reason} ${event.at}`);
  return { monitor, states: states.join(""), events };
}

describe("thresholds", () => {
  it.each([
    ["one success makes an unknown target up, without an event", "+", "u", []],
    ["failures below the threshold are no event", "--+", "??u", []],
    ["three in a row take it down", "+---", "uuud", ["down probe-failed 3020"]],
    ["an unknown target goes down as well", "---", "??d", ["down probe-failed 2020"]],
    ["a success between clears the count", "+--+--+--", "uuuuuuuuu", []],
    ["a hang is a timeout", "+hhh", "uuud", ["down probe-timeout 3400"]],
    ["the reason is that of the last failure", "+-h-", "uuud", ["down probe-failed 3020"]],
    ["one success does not bring it back", "---+", "??dd", ["down probe-failed 2020"]],
    ["two do", "---++", "??ddu", ["down probe-failed 2020", "up recovered 4020"]],
    [
      "a failure between starts the recovery again",
      "---+-++",
      "??ddddu",
      ["down probe-failed 2020", "up recovered 6020"],
    ],
    ["further failures while down are no events", "------", "??dddd", ["down probe-failed 2020"]],
    [
      "after recovery the failures count from zero",
      "---++--+---",
      "??dduuuuuud",
      ["down probe-failed 2020", "up recovered 4020", "down probe-failed 10020"],
    ],
  ])("%s", (_name, script, states, events) => {
    const played = play(script);
    expect(played.states).toBe(states);
    expect(played.events).toEqual(events);
    expect(played.monitor.counters.wentDown).toBe(events.filter((event) => event.startsWith("down")).length);
    expect(played.monitor.counters.wentUp).toBe(events.filter((event) => event.startsWith("up")).length);
  });

  it("probes a target that is down at the same interval", () => {
    const { monitor } = play("---");
    expect(monitor.pollTimeout(ms(2020))).toBe(3000);
    expect(monitor.isUp("a")).toBe(false);
  });

  it("a timeout longer than the interval delays the next probe, one in flight at a time", () => {
    const { events, monitor } = play("hhh", { timeoutMs: 1500 });
    expect(events).toEqual(["down probe-timeout 4500"]);
    expect(monitor.counters).toMatchObject({ probesSent: 3, probesTimedOut: 3 });
  });

  it("takes a hung target down within the time its documentation promises", () => {
    const { intervalMs, timeoutMs, downThreshold } = SETTINGS;
    const { events } = play("+hhh");
    const promised = intervalMs + timeoutMs + (downThreshold - 1) * Math.max(intervalMs, timeoutMs);
    expect(Number(events[0]?.split(" ")[2])).toBeLessThanOrEqual(promised); // it hung right after time 0
  });
});

describe("schedule", () => {
  it("staggers the first probes evenly over one interval in id order", () => {
    const monitor = new LivenessMonitor(SETTINGS);
    monitor.setTargets([{ id: "d" }, { id: "b" }, { id: "a" }, { id: "c" }], ms(100));
    const sent: string[] = [];
    let now = ms(100);
    while (sent.length < 6) {
      now = monitor.pollTimeout(now) ?? now;
      const probe = monitor.pollTransmit(now);
      if (!probe) throw new Error("nothing due");
      sent.push(`${probe.id}@${now}`);
      monitor.handleProbeResult(probe.probeId, true, now);
    }
    expect(sent).toEqual(["a@100", "b@350", "c@600", "d@850", "a@1100", "b@1350"]);
  });

  it("keeps the state and the schedule of targets that stay, forgets those that leave", () => {
    const { monitor } = play("---");
    monitor.setTargets([{ id: "a" }, { id: "b" }], ms(2100));
    expect(monitor.stateOf("a")).toBe("down");
    const probe = monitor.pollTransmit(ms(2100));
    expect(probe?.id).toBe("b");
    expect(monitor.pollTimeout(ms(2100))).toBe(2500);
    monitor.setTargets([{ id: "a" }], ms(2200));
    expect(monitor.pollTimeout(ms(2200))).toBe(3000);
    monitor.handleProbeResult(probe?.probeId ?? 0, false, ms(2300));
    expect(monitor.counters.resultsIgnored).toBe(1);
    monitor.setTargets([], ms(2400));
    expect(monitor.pollTimeout(ms(2400))).toBeUndefined();
    expect(monitor.stateOf("a")).toBe("unknown");
    expect(monitor.isUp("a")).toBe(true);
  });

  it("adds the travel time of a far target to its timeout", () => {
    const monitor = new LivenessMonitor(SETTINGS);
    monitor.setTargets([{ id: "far", expectedRttMs: 250 }], ms(0));
    expect(monitor.pollTransmit(ms(0))?.timeoutMs).toBe(650);
    monitor.handleTimeout(ms(649));
    expect(monitor.counters.probesTimedOut).toBe(0);
    monitor.handleTimeout(ms(650));
    expect(monitor.counters.probesTimedOut).toBe(1);
  });

  it("varies the interval within the jitter, the same way each time", () => {
    const times = (): number[] => {
      const monitor = new LivenessMonitor({ ...SETTINGS, jitterRatio: 0.1 });
      monitor.setTargets([{ id: "a" }], ms(0));
      return Array.from({ length: 50 }, () => {
        const now = monitor.pollTimeout(ms(0)) ?? ms(-1);
        const probe = monitor.pollTransmit(now);
        monitor.handleProbeResult(probe?.probeId ?? 0, true, now);
        return now;
      });
    };
    const first = times();
    expect(times()).toEqual(first);
    const gaps = first.slice(1).map((time, index) => time - (first[index] as number));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(900);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(1100);
    expect(new Set(gaps.map(Math.round)).size).toBeGreaterThan(20);
  });
});

describe("late and unknown results", () => {
  it("a result after the timeout changes nothing and is counted", () => {
    const monitor = new LivenessMonitor({ ...SETTINGS, downThreshold: 1 });
    monitor.setTargets([{ id: "a" }], ms(0));
    const probe = monitor.pollTransmit(ms(0));
    monitor.handleTimeout(ms(400));
    expect(monitor.stateOf("a")).toBe("down");
    monitor.handleProbeResult(probe?.probeId ?? 0, true, ms(401));
    monitor.handleProbeResult(999, true, ms(401));
    expect(monitor.stateOf("a")).toBe("down");
    expect(monitor.counters).toMatchObject({ probesOk: 0, probesTimedOut: 1, resultsIgnored: 2 });
  });

  it("a result counts once", () => {
    const monitor = new LivenessMonitor({ ...SETTINGS, downThreshold: 2 });
    monitor.setTargets([{ id: "a" }], ms(0));
    const probe = monitor.pollTransmit(ms(0));
    monitor.handleProbeResult(probe?.probeId ?? 0, false, ms(10));
    monitor.handleProbeResult(probe?.probeId ?? 0, false, ms(11));
    expect(monitor.stateOf("a")).toBe("unknown");
    expect(monitor.counters).toMatchObject({ probesFailed: 1, resultsIgnored: 1 });
  });
});

describe("passive evidence", () => {
  it("a failure counts and makes a probe due at once; the probe confirms", () => {
    const { monitor } = play("+", { downThreshold: 2 });
    monitor.handlePassive("a", false, ms(300));
    expect(monitor.stateOf("a")).toBe("up");
    expect(monitor.pollTimeout(ms(300))).toBe(300);
    const probe = monitor.pollTransmit(ms(300));
    monitor.handleProbeResult(probe?.probeId ?? 0, false, ms(310));
    expect(monitor.pollEvent()).toEqual({ id: "a", state: "down", reason: "probe-failed", at: 310 });
  });

  it("enough failures take the target down alone", () => {
    const { monitor } = play("+");
    for (const now of [300, 310, 320, 330]) monitor.handlePassive("a", false, ms(now));
    expect(monitor.pollEvent()).toEqual({ id: "a", state: "down", reason: "passive-failure", at: 320 });
    expect(monitor.pollEvent()).toBeUndefined();
    expect(monitor.counters.passiveFailed).toBe(4);
  });

  it("success clears failures while up but does not bring a down target back", () => {
    const { monitor } = play("+--");
    monitor.handlePassive("a", true, ms(2100));
    monitor.handlePassive("a", false, ms(2200));
    expect(monitor.stateOf("a")).toBe("up");
    const down = play("---").monitor;
    for (let n = 0; n < 10; n++) down.handlePassive("a", true, ms(2100));
    expect(down.stateOf("a")).toBe("down");
    expect(down.counters.passiveOk).toBe(10);
  });

  it("calls for at most one probe an interval, and none while down or in flight", () => {
    const { monitor } = play("+", { downThreshold: 1000 });
    let probes = 0;
    for (let now = 100; now < 1000; now += 10) {
      monitor.handlePassive("a", false, ms(now));
      const probe = monitor.pollTransmit(ms(now));
      if (!probe) continue;
      probes++;
      monitor.handleProbeResult(probe.probeId, true, ms(now + 1));
    }
    expect(probes).toBe(1);
    const down = play("---").monitor;
    down.handlePassive("a", false, ms(2100));
    expect(down.pollTransmit(ms(2100))).toBeUndefined();
  });

  it("about a stranger is ignored and counted", () => {
    const { monitor } = play("+");
    monitor.handlePassive("nobody", false, ms(300));
    expect(monitor.counters).toMatchObject({ passiveIgnored: 1, passiveFailed: 0 });
  });
});

describe("bounds", () => {
  it("drops the oldest events when nobody takes them, and counts", () => {
    const monitor = new LivenessMonitor({ ...SETTINGS, downThreshold: 1 });
    const ids = Array.from({ length: 10_003 }, (_, index) => ({ id: `t${index}` }));
    monitor.setTargets(ids, ms(0));
    for (const { id } of ids) monitor.handlePassive(id, false, ms(1));
    expect(monitor.counters.eventsDropped).toBe(3);
    expect(monitor.pollEvent()?.id).toBe("t3");
  });

  it.each([
    ["intervalMs", { intervalMs: 0 }],
    ["timeoutMs", { timeoutMs: Number.NaN }],
    ["downThreshold", { downThreshold: 0 }],
    ["okThreshold", { okThreshold: 1.5 }],
    ["jitterRatio", { jitterRatio: 0.6 }],
  ])("refuses a bad %s", (name, bad) => {
    expect(() => new LivenessMonitor({ ...SETTINGS, ...bad })).toThrow(name);
  });

  it("refuses duplicate targets whole", () => {
    const { monitor } = play("---");
    expect(() => monitor.setTargets([{ id: "x" }, { id: "x" }], ms(0))).toThrow(/"x" occurs more than once/);
    expect(() => monitor.setTargets([{ id: "x", expectedRttMs: -1 }], ms(0))).toThrow(/expectedRttMs of "x"/);
    expect(monitor.stateOf("a")).toBe("down");
  });
});

describe("TimerHeap", () => {
  it("breaks ties by id and moves timers", () => {
    const heap = new TimerHeap();
    for (const id of ["c", "a", "b"]) heap.set(id, ms(5));
    heap.set("a", ms(9));
    expect(heap.delete("zz")).toBe(false);
    expect(heap.take(ms(4))).toBeUndefined();
    expect([heap.take(ms(9)), heap.take(ms(9)), heap.take(ms(9)), heap.take(ms(9))]).toEqual([
      "b",
      "c",
      "a",
      undefined,
    ]);
    expect(heap.size).toBe(0);
    expect(heap.next()).toBeUndefined();
  });
});

describe("after a pause of who drives it", () => {
  const paused = () => {
    const played = play("+").monitor;
    const inFlight = played.pollTransmit(ms(1_000));
    played.handlePause(ms(60_000));
    return { monitor: played, inFlight: inFlight! };
  };

  it("what was up is unknown and may be used, is probed at once, and what was in flight says nothing", () => {
    const { monitor, inFlight } = paused();
    expect([monitor.stateOf("a"), monitor.isUp("a")]).toEqual(["unknown", true]);
    monitor.handleProbeResult(inFlight.probeId, false, ms(60_000));
    expect([monitor.stateOf("a"), monitor.counters.resultsIgnored]).toEqual(["unknown", 1]);
    monitor.handleTimeout(ms(60_000));
    expect(monitor.stateOf("a")).toBe("unknown");
    expect(monitor.pollTransmit(ms(60_000))?.id).toBe("a");
  });

  it.each([
    ["its first failure takes it down", false, "down"],
    ["a success makes it as it was", true, "up"],
  ])("%s", (_says, isOk, state) => {
    const { monitor } = paused();
    monitor.handleProbeResult(monitor.pollTransmit(ms(60_000))!.probeId, isOk, ms(60_001));
    expect(monitor.stateOf("a")).toBe(state);
    if (!isOk) return;
    const next = monitor.pollTransmit(monitor.pollTimeout(ms(60_001))!)!;
    monitor.handleProbeResult(next.probeId, false, ms(61_000));
    expect(monitor.stateOf("a")).toBe("up");
  });

  it("what was down stays so until it has answered as often as ever", () => {
    const { monitor } = play("---");
    monitor.handlePause(ms(60_000));
    for (const [at, state] of [
      [60_000, "down"],
      [61_000, "up"],
    ] as const) {
      monitor.handleProbeResult(monitor.pollTransmit(ms(at))!.probeId, true, ms(at));
      expect(monitor.stateOf("a")).toBe(state);
    }
  });
});
