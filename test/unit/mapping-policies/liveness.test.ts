/** Failover under a virtual clock: agents that test, majorities, a lost control, targets that flap, loads; the production objects throughout. */
import { describe, expect, it } from "vitest";
import { epochMs, monotonicMs, plusMs, type PolicyDocument, type PolicyOpinions } from "#kit";
import { compilePolicy } from "../../../mapping/core/policy/compile.ts";
import { decidePolicy } from "../../../mapping/core/policy/decide.ts";
import { OpinionBoard } from "../../../mapping/core/policy/opinions.ts";
import { TargetTests, testDefaults } from "../../../transport/core/target-tests/target-tests.ts";
import { type TargetBeliefs, viewOf, viewOfNothing } from "../../../mapping/core/policy/view.ts";
import { askedOf, documentOf, factsOf, namesOf } from "./fixture.ts";

const STEP_MS = 100;
/** A test that is answered takes a step, one that is not takes its time-out. */
const test = { testId: "web", kind: "tcp", port: 80, intervalMs: 1_000, timeoutMs: 500 };
const failover = documentOf({ method: "failover", among: ["a", "b", "c"] }, ["a", "b", "c"], {
  tests: [test],
});

class World {
  now = monotonicMs(0);
  readonly agents = ["n1", "n2", "n3"].map((id) => ({
    id,
    tests: new TargetTests((at) => epochMs(Math.round(at))),
    board: new OpinionBoard(),
    beliefs: {} as TargetBeliefs,
    changes: 0,
  }));
  /** Whether an agent's test of a target is answered. */
  answers: (targetId: string, agentId: string) => boolean = () => true;
  load: (targetId: string) => number | undefined = () => undefined;
  isControlUp = true;
  sent = 0;
  readonly policy: PolicyDocument;
  /** They test and tell, and decide nothing. */
  readonly edges: readonly { readonly id: string; readonly tests: TargetTests }[];
  silent = new Set<string>();

  constructor(policy: PolicyDocument, edges: readonly string[] = []) {
    this.policy = policy;
    this.edges = edges.map((id) => ({ id, tests: new TargetTests((at) => epochMs(Math.round(at))) }));
    for (const { tests } of this.#testing) tests.setPolicies([policy], this.now);
  }

  get #testing() {
    return [...this.agents, ...this.edges].filter(({ id }) => !this.silent.has(id));
  }

  run(ms: number): void {
    for (const end = this.now + ms; this.now < end; ) {
      this.now = plusMs(this.now, STEP_MS);
      for (const { id, tests } of this.#testing) {
        for (let probe = tests.pollTransmit(this.now); probe; probe = tests.pollTransmit(this.now)) {
          this.sent++;
          if (probe.kind === "load") tests.handleLoad(probe, this.load(probe.targetId));
          else if (this.answers(probe.targetId, id)) tests.handleResult(probe, true, this.now);
        }
        tests.handleTimeout(this.now);
      }
      if (this.now % 1_000 !== 0) continue;
      for (const one of this.agents) {
        for (const other of this.#testing)
          if (other === one || this.isControlUp)
            one.board.handleOpinions(other.id, other.tests.opinions(), this.now);
        const beliefs = one.board.beliefs([this.policy], this.now);
        if (JSON.stringify(beliefs) !== JSON.stringify(one.beliefs)) one.changes++;
        one.beliefs = beliefs;
      }
    }
  }

  /** What each name server hands out, with the reason. */
  answersNow(): readonly string[] {
    const policy = compilePolicy(this.policy);
    return this.agents.map(({ beliefs }) => {
      const of = beliefs[this.policy.policyId];
      const view = of === undefined ? viewOfNothing(policy) : viewOf(policy, of);
      const choice = decidePolicy(policy, askedOf(), factsOf(policy, [], { view }));
      return `${namesOf(policy, choice)[0]} ${choice.reason}`;
    });
  }
}
const everywhere = (answer: string) => [answer, answer, answer];

describe("targets that die", () => {
  it("leave the answers of all name servers within the thresholds, and come back", () => {
    const world = new World(failover);
    world.run(10_000);
    expect(world.answersNow()).toEqual(everywhere("a policy"));
    world.answers = (target) => target !== "a";
    // Interval, time-out and one more interval, with jitter; a second until the others are heard.
    world.run(4_000);
    expect(world.answersNow()).toEqual(everywhere("b policy"));
    world.answers = () => false;
    world.run(4_000);
    expect(world.answersNow()).toEqual(everywhere("a policy-all-down"));
    world.answers = () => true;
    world.run(5_000);
    expect(world.answersNow()).toEqual(everywhere("a policy"));
  });

  it("are told apart from those that nobody may test, which are taken to live", () => {
    const board = new OpinionBoard();
    const now = monotonicMs(0);
    const { policyId } = failover;
    board.handleOpinions("n1", { [policyId]: { a: { state: "unknown", sinceEpochMs: 0 } } }, now);
    const beliefs = board.beliefs([failover], now);
    expect(beliefs).toEqual({ [policyId]: { a: { accepted: 1, isUnknown: true } } });
    const view = viewOf(compilePolicy(failover), beliefs[policyId] ?? {});
    expect([[...view.isLive], view.unknown]).toEqual([[1, 1, 1], [0]]);
    // Who may test it holds it for up, and says so by naming only what is not.
    board.handleOpinions("n2", { [policyId]: {} }, now);
    expect(board.beliefs([failover], now)).toEqual({});
  });

  it("leave them by what a name server sees itself when control is dead", () => {
    const world = new World(failover);
    world.run(10_000);
    world.isControlUp = false;
    world.run(8_000);
    world.answers = (target, agent) => target !== "a" || agent === "n3";
    world.run(4_000);
    expect(world.answersNow()).toEqual(["b policy", "b policy", "a policy"]);
    world.isControlUp = true;
    world.run(2_000);
    expect(world.answersNow()).toEqual(everywhere("b policy"));
  });

  it("stay when one agent of three does not reach them, and an agent that reaches nobody is suspected", () => {
    const world = new World(failover);
    world.run(10_000);
    world.answers = (target, agent) => target !== "a" || agent !== "n1";
    world.run(5_000);
    expect(world.answersNow()).toEqual(everywhere("a policy"));
    world.answers = (_target, agent) => agent !== "n1";
    world.run(5_000);
    expect(world.answersNow()).toEqual(everywhere("a policy"));
    expect(world.agents.map(({ board }) => board.suspected)).toEqual([["n1"], ["n1"], ["n1"]]);
    // Its voice does not count: of the two others one is no majority, both are.
    world.answers = (target, agent) => agent !== "n1" && (target !== "a" || agent === "n2");
    world.run(5_000);
    expect(world.answersNow()).toEqual(everywhere("a policy"));
    world.answers = (target, agent) => agent !== "n1" && target !== "a";
    world.run(5_000);
    expect(world.answersNow()).toEqual(everywhere("b policy"));
  });

  it("leave and stay by the voices of edges too, and one that is silent has none", () => {
    const edges = ["e1", "e2", "e3", "e4", "e5"];
    const world = new World(failover, edges);
    world.run(10_000);
    // All name servers stand behind one broken way; edges elsewhere see the target.
    world.answers = (target, agent) => target !== "a" || edges.includes(agent);
    world.run(6_000);
    expect(world.answersNow()).toEqual(everywhere("a policy"));
    // With the edges gone their last word counts no longer than it is fresh.
    for (const edge of edges) world.silent.add(edge);
    world.run(5_000);
    expect(world.answersNow()).toEqual(everywhere("a policy"));
    world.run(4_000);
    expect(world.answersNow()).toEqual(everywhere("b policy"));
    expect(world.agents[0]?.board.agents.toSorted()).toEqual(["n1", "n2", "n3"]);
    // Back again, with what they held before they fell silent.
    world.silent.clear();
    world.run(4_000);
    expect(world.answersNow()).toEqual(everywhere("a policy"));
    world.answers = (target) => target !== "a";
    world.run(4_000);
    expect(world.answersNow()).toEqual(everywhere("b policy"));
    // Edges that reach nobody are suspected, however many they are.
    world.answers = (_target, agent) => !edges.includes(agent);
    world.run(6_000);
    expect(world.answersNow()).toEqual(everywhere("a policy"));
    expect(world.agents[0]?.board.suspected.toSorted()).toEqual(edges);
  });

  it("are held for down when they come and go, and believed again when they are steady", () => {
    const world = new World(failover);
    world.run(10_000);
    let changes = 0;
    for (let turn = 0; turn < 14; turn++) {
      const before = world.agents[0]?.changes ?? 0;
      world.answers = (target) => target !== "a" || turn % 2 === 1;
      world.run(5_000);
      if (turn >= 10) changes += (world.agents[0]?.changes ?? 0) - before;
    }
    expect(changes).toBe(0);
    expect(world.answersNow()).toEqual(everywhere("b policy"));
    expect(world.agents[0]?.tests.counters.held).toBe(1);
    world.run(testDefaults.penaltyHalfMs * 2);
    expect(world.answersNow()).toEqual(everywhere("a policy"));
  });
});

describe("opinions", () => {
  it("are looked at where there are some, however many agents and policies there are", () => {
    const count = 100;
    const policies = Array.from(
      { length: count },
      (_, n) => ({ ...failover, policyId: `p${n}` }) as PolicyDocument,
    );
    const board = new OpinionBoard();
    const now = monotonicMs(0);
    let looks = 0;
    for (let n = 0; n < count; n++) {
      const own = { [`p${n}`]: { a: { state: "down", sinceEpochMs: 7 } } } as PolicyOpinions;
      const counted = new Proxy(own, {
        getOwnPropertyDescriptor: (target, key) => (looks++, Reflect.getOwnPropertyDescriptor(target, key)),
      });
      board.handleOpinions(`e${n}`, counted, now);
    }
    expect(Object.keys(board.beliefs(policies, now))).toHaveLength(count);
    expect(looks).toBeGreaterThan(0);
    expect(looks).toBeLessThanOrEqual(2 * count);
  });
});

describe("tests of one customer", () => {
  it("keep to the rate that each agent allows, by asking less often", () => {
    const names = Array.from({ length: 64 }, (_, n) => `t${n}`);
    const policy = documentOf({ method: "all", among: names }, names, {
      tests: [test, { ...test, testId: "other" }],
    });
    const world = new World(policy);
    world.run(10_000);
    world.sent = 0;
    world.run(30_000);
    expect(world.sent / 3 / 30).toBeLessThanOrEqual(testDefaults.testsPerSecondMax * 1.1);
    expect(world.sent / 3 / 30).toBeGreaterThan(testDefaults.testsPerSecondMax / 2);
  });

  it("keep, with everybody's together, to what one agent does at all", () => {
    const settings = { ...testDefaults, testsPerSecondInAll: 60 };
    const names = Array.from({ length: 40 }, (_, n) => `t${n}`);
    const policies = ["x", "y", "z"].map((customer) => ({
      ...documentOf({ method: "all", among: names }, names, { tests: [test] }),
      policyId: customer,
      customerId: customer,
    })) as unknown as PolicyDocument[];
    const tests = new TargetTests((at) => epochMs(Math.round(at)), settings);
    tests.setPolicies(policies, monotonicMs(0));
    let sent = 0;
    for (let at = 0; at < 40_000; at += STEP_MS) {
      for (
        let probe = tests.pollTransmit(monotonicMs(at));
        probe;
        probe = tests.pollTransmit(monotonicMs(at))
      ) {
        if (at >= 10_000) sent++;
        if (probe.kind === "test") tests.handleResult(probe, true, monotonicMs(at));
      }
      tests.handleTimeout(monotonicMs(at));
    }
    expect(sent / 30).toBeLessThanOrEqual(settings.testsPerSecondInAll * 1.1);
    expect(sent / 30).toBeGreaterThan(settings.testsPerSecondInAll / 2);
  });

  it("go on with what was known when the document changes elsewhere, and begin anew for another address", () => {
    const world = new World(failover);
    world.answers = (target) => target !== "a";
    world.run(8_000);
    const [agent] = world.agents;
    const opinions = () => agent?.tests.opinions()["p"];
    agent?.tests.setPolicies([{ ...failover, ttlSeconds: 60 }], world.now);
    expect(opinions()).toMatchObject({ a: { state: "down" } });
    const targets = failover.targets.map((one) => ({ ...one, addresses: ["198.51.100.77"] }));
    agent?.tests.setPolicies([{ ...failover, targets }], world.now);
    expect(opinions()).toMatchObject({ a: { state: "unknown" } });
    agent?.tests.setPolicies([{ ...failover, isActive: false }], world.now);
    expect([agent?.tests.opinions(), agent?.tests.pollTimeout(world.now)]).toEqual([{}, undefined]);
  });
});

describe("load", () => {
  it("above the wanted one makes a target take a part, damped and without swinging, and all again afterwards", () => {
    const loaded = documentOf({ method: "weighted", among: [{ to: "a" }, { to: "b" }] }, ["a", "b"], {
      loadFeedback: { host: "a.example", path: "/load", loadTarget: 100, intervalMs: 5_000 },
    });
    const world = new World(loaded);
    const part = () => world.agents[0]?.beliefs["p"]?.["a"]?.accepted ?? 1;
    let demand = 200;
    world.load = (target) => (target === "a" ? demand * part() : 10);
    const parts: number[] = [];
    for (let n = 0; n < 24; n++) {
      world.run(5_000);
      parts.push(part());
    }
    expect(parts.at(-1)).toBeCloseTo(0.5, 1);
    for (const [n, one] of parts.entries()) expect(one).toBeLessThanOrEqual((parts[n - 1] ?? 1) + 0.02);
    expect(world.agents[0]?.beliefs["p"]?.["b"]).toBeUndefined();
    demand = 50;
    world.run(120_000);
    expect(part()).toBe(1);
    // Nobody tells of load any more: it takes all.
    demand = 400;
    world.run(60_000);
    expect(part()).toBeLessThan(0.5);
    world.load = () => undefined;
    world.run(120_000);
    expect(part()).toBe(1);
  });
});
