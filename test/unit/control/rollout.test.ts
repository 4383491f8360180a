/** A changed document in stages: who has it when, what lets it go on, and each fault that halts it. */
import { describe, expect, test } from "vitest";
import {
  type MonotonicMs,
  type PolicyDocument,
  policyDocument,
  type ServerId,
  type ServerReport,
  type TopologyDocument,
} from "#kit";
import {
  type Rollout,
  rollout,
  rolloutDefaults,
  RolloutWatch,
  type ServerView,
  soakMsOf,
  stagesOf,
  testedTargets,
  triers,
  viewOf,
} from "../../../control/core/rollout.ts";

const at = (ms: number): MonotonicMs => ms as MonotonicMs;
const ids = (...names: readonly string[]) => names as unknown as readonly ServerId[];
const cluster = (clusterId: string, regionId: string, ...servers: readonly string[]) => ({
  clusterId,
  regionId,
  servers: servers.map((serverId) => ({ serverId })),
});
const topology = {
  clusters: [
    cluster("fra", "europe", "fra-1", "fra-2"),
    cluster("lon", "europe", "lon-1"),
    cluster("nyc", "america", "nyc-1", "nyc-2"),
  ],
} as unknown as TopologyDocument;
const all = ids("fra-1", "fra-2", "lon-1", "nyc-1", "nyc-2");

describe("stages", () => {
  const shapeOf = (key: string, live = all) =>
    stagesOf(key, live, topology).map(({ stage, servers }) => [stage, servers.length]);

  test("one server, its cluster, its region, all; what would bring nobody new is left out", () => {
    const shapes = new Map<string, string>();
    for (let n = 0; n < 50; n++) {
      const stages = stagesOf(`policy/shop@${n}`, all, topology);
      shapes.set(stages[0]?.servers[0] ?? "", JSON.stringify(shapeOf(`policy/shop@${n}`)));
      // Nobody is left out later.
      for (const [s, { servers }] of stages.entries())
        for (const server of servers) expect(stages[s + 1]?.servers ?? servers).toContain(server);
      expect(stages.at(-1)).toEqual({ stage: "all", servers: all });
    }
    // Which one is first is another one for each version.
    expect(Object.fromEntries(shapes)).toEqual({
      "fra-1": '[["server",1],["cluster",2],["region",3],["all",5]]',
      "fra-2": '[["server",1],["cluster",2],["region",3],["all",5]]',
      "lon-1": '[["server",1],["region",3],["all",5]]',
      "nyc-1": '[["server",1],["cluster",2],["all",5]]',
      "nyc-2": '[["server",1],["cluster",2],["all",5]]',
    });
  });
  test("of one server, and of servers that no topology knows", () => {
    expect(shapeOf("a", ids("fra-1"))).toEqual([["all", 1]]);
    expect(stagesOf("a", ids("x", "y"), undefined).map(({ servers }) => servers.length)).toEqual([1, 2]);
  });
});

const policy = (fields: object): PolicyDocument =>
  policyDocument.parse({
    policyId: "shop",
    customerId: "acme",
    names: ["www.shop.test"],
    targets: [
      { targetId: "fra", addresses: ["192.0.2.1"] },
      { targetId: "nyc", addresses: ["192.0.2.2"], isEnabled: false },
    ],
    rule: { method: "failover", among: ["fra", "nyc"] },
    tests: [{ testId: "web", kind: "tcp", port: 80 }],
    ...fields,
  });

test("a stage lasts as long as the tests need, within bounds", () => {
  expect(soakMsOf(policy({ tests: [] }), rolloutDefaults)).toBe(10_000);
  // Three rounds of 5 s, one time-out, one report.
  expect(soakMsOf(policy({}), rolloutDefaults)).toBe(19_000);
  const slow = { testId: "web", kind: "tcp", port: 80, intervalMs: 300_000, timeoutMs: 30_000 };
  expect(soakMsOf(policy({ tests: [slow] }), rolloutDefaults)).toBe(rolloutDefaults.soakMsMax);
});

test("what has to live: targets that are tested and handed out, unless the map answers for one", () => {
  expect(testedTargets(policy({}))).toEqual(["fra"]);
  expect(testedTargets(policy({ tests: [] }))).toEqual([]);
  expect(testedTargets(policy({ isActive: false }))).toEqual([]);
  const targets = [
    { targetId: "fra", addresses: ["192.0.2.1"] },
    { targetId: "nyc", propertyId: "shop" },
  ];
  expect(testedTargets(policy({ targets }))).toEqual([]);
});

test("it is tried on ready servers of its role that take documents at once", () => {
  const report = (serverId: string, more: object = {}) =>
    ({ serverId, role: "nameserver", state: "ready", ...more }) as unknown as ServerReport;
  const reports = [
    report("a"),
    report("b", { state: "draining" }),
    report("c", { role: "edge" }),
    report("d", { inputDelaySeconds: 3_600 }),
  ];
  expect(triers(reports, "policy")).toEqual(["a"]);
});

test("a report is read for one document", () => {
  const report = {
    serverId: "a",
    incarnation: "1",
    state: "ready",
    applied: { "policy/shop": 3, "zone/shop": 9 },
    internalErrors: 4,
    opinions: {
      shop: { fra: { state: "down", sinceEpochMs: 1 }, nyc: { state: "unknown", sinceEpochMs: 1 } },
    },
  } as unknown as ServerReport;
  const view = viewOf(report, "policy", "shop");
  expect(view).toMatchObject({ isReady: true, version: 3, internalErrors: 4, down: new Set(["fra"]) });
  expect(viewOf(report, "policy", "other")).toMatchObject({ version: undefined, down: undefined });
});

const record: Rollout = rollout.parse({
  kind: "policy",
  id: "shop",
  version: 2,
  previousVersion: 1,
  state: "running",
  stages: [
    { stage: "server", servers: ["a"] },
    { stage: "all", servers: ["a", "b", "c"] },
  ],
  stageIndex: 0,
  startedAtEpochMs: 0,
  endedAtEpochMs: null,
  soakMs: 10_000,
  targets: ["fra", "nyc"],
  halt: null,
});
const view = (serverId: string, more: Partial<ServerView> = {}): ServerView => ({
  serverId: serverId as ServerId,
  incarnation: "1",
  isReady: true,
  version: 2,
  internalErrors: 7,
  down: new Set(),
  ...more,
});
const views = (...some: readonly ServerView[]) => new Map(some.map((one) => [one.serverId, one]));

describe("a stage", () => {
  test("waits for its servers, then for its time, then goes on", () => {
    const watch = new RolloutWatch(at(0));
    expect(watch.judge(record, views(view("a", { version: 1 })), at(1_000))).toEqual({
      next: "wait",
      for: "servers",
      servers: ["a"],
    });
    expect(watch.judge(record, views(view("a")), at(2_000))).toMatchObject({ next: "wait", for: "time" });
    expect(watch.judge(record, views(view("a")), at(11_999))).toMatchObject({ next: "wait" });
    expect(watch.judge(record, views(view("a")), at(12_000))).toEqual({ next: "advance" });
    // The next one has a time of its own.
    watch.handleStage(at(12_000));
    const second = { ...record, stageIndex: 1 };
    expect(watch.judge(second, views(view("a"), view("b"), view("c")), at(13_000))).toMatchObject({
      next: "wait",
      for: "time",
    });
  });
  test("is halted when a server does not take it in time, also one that was never heard of", () => {
    const watch = new RolloutWatch(at(0));
    expect(watch.judge(record, views(), at(29_999))).toMatchObject({ next: "wait" });
    expect(watch.judge(record, views(), at(30_000))).toEqual({
      next: "halt",
      reason: "not-applied",
      servers: ["a"],
    });
  });
  test.each([
    ["silent", undefined],
    ["restarted", view("a", { incarnation: "2" })],
    ["not-ready", view("a", { isReady: false })],
    ["faults", view("a", { internalErrors: 10 })],
  ] as const)("is halted by %s of a server that has it, in a later stage too", (reason, later) => {
    const second = { ...record, stageIndex: 1 };
    const watch = new RolloutWatch(at(0));
    watch.judge(record, views(view("a")), at(1_000));
    watch.handleStage(at(12_000));
    const others = [view("b"), view("c")];
    expect(watch.judge(second, views(view("a", { internalErrors: 9 }), ...others), at(13_000)).next).toBe(
      "wait",
    );
    expect(
      watch.judge(second, views(...others, ...(later === undefined ? [] : [later])), at(14_000)),
    ).toEqual({
      next: "halt",
      reason,
      servers: ["a"],
    });
  });
  test("is halted when most that test find no target alive, for longer than one report", () => {
    const second = { ...record, stageIndex: 1 };
    const watch = new RolloutWatch(at(0));
    const blind = { down: new Set(["fra", "nyc"]) };
    const seen = views(view("a", blind), view("b", blind), view("c", { down: new Set(["fra"]) }));
    expect(watch.judge(second, seen, at(1_000)).next).toBe("wait");
    // Well in between: the time begins anew.
    expect(watch.judge(second, views(view("a"), view("b"), view("c")), at(3_000)).next).toBe("wait");
    expect(watch.judge(second, seen, at(4_000)).next).toBe("wait");
    expect(watch.judge(second, seen, at(7_000))).toEqual({
      next: "halt",
      reason: "targets-down",
      servers: ["a", "b"],
    });
  });
  test("goes on when half of them see nothing, when none tests, and when nothing lived before", () => {
    const second = { ...record, stageIndex: 1 };
    const blind = { down: new Set(["fra", "nyc"]) };
    const ends = (more: Partial<Rollout>, ...some: readonly ServerView[]) => {
      const watch = new RolloutWatch(at(0));
      watch.judge({ ...second, ...more }, views(...some), at(0));
      return watch.judge({ ...second, ...more }, views(...some), at(10_000)).next;
    };
    const silent = { down: undefined };
    expect(ends({}, view("a", blind), view("b"), view("c", silent))).toBe("advance");
    expect(ends({}, view("a", silent), view("b", silent), view("c", silent))).toBe("advance");
    expect(ends({ targets: [] }, view("a", blind), view("b", blind), view("c", blind))).toBe("advance");
    expect(ends({}, view("a", blind), view("b", blind), view("c", silent))).toBe("halt");
  });
  test("begins anew with another watch, as after a restart of control", () => {
    const first = new RolloutWatch(at(0));
    first.judge(record, views(view("a")), at(0));
    const second = new RolloutWatch(at(9_000));
    expect(second.judge(record, views(view("a")), at(10_000))).toMatchObject({ next: "wait", for: "time" });
    expect(second.judge(record, views(view("a")), at(20_000))).toEqual({ next: "advance" });
  });
});
