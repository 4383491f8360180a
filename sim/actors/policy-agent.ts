/**
 * An agent of a traffic policy's tests (transport/io/target-tests/tester.ts), and of a name server what it goes by (mapping/io/policy-agent.ts). The
 * targets are the world's origins: data centres of the customer.
 */
import {
  LivenessMonitor,
  type PolicyDocument,
  type PolicyOpinions,
  policyDocument,
  type ServerReport,
} from "#kit";
import type { OpinionBoard } from "../../mapping/core/policy/opinions.ts";
import type { TargetBeliefs } from "../../mapping/core/policy/view.ts";
import type { TargetTests } from "../../transport/core/target-tests/target-tests.ts";
import { epochOf, exchange, type Host } from "./host.ts";
import type { Stage } from "./stage.ts";

export const POLICY_TEST = {
  intervalMs: 1_000,
  timeoutMs: 700,
  downThreshold: 2,
  okThreshold: 2,
  jitterRatio: 0.1,
} as const satisfies ConstructorParameters<typeof LivenessMonitor>[0];

/** @param origins server ids with their addresses, at least one */
export function policyOver(
  origins: readonly (readonly [serverId: string, address: string])[],
): PolicyDocument {
  const { jitterRatio: _own, ...times } = POLICY_TEST;
  return policyDocument.parse({
    policyId: "world",
    customerId: "world",
    names: ["policy.world.test"],
    targets: origins.map(([targetId, address]) => ({ targetId, addresses: [address] })),
    rule: { method: "failover", among: origins.map(([targetId]) => targetId) },
    tests: [{ testId: "web", kind: "tcp", port: 80, ...times }],
  });
}

export class PolicyAgent {
  readonly #stage: Stage;
  readonly #host: Host;
  readonly #policy: PolicyDocument;
  #tests!: TargetTests;
  #board!: OpinionBoard;
  #beliefs: TargetBeliefs = {};
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(stage: Stage, host: Host) {
    this.#stage = stage;
    this.#host = host;
    this.#policy = stage.policy;
  }

  start(): void {
    const { cores } = this.#stage;
    this.#tests = cores.targetTests(epochOf);
    this.#board = cores.opinionBoard();
    this.#beliefs = {};
    this.#timerAt = Number.POSITIVE_INFINITY;
    this.#tests.setPolicies([this.#policy], this.#host.now);
    this.#turn();
  }

  opinions(): PolicyOpinions {
    return this.#tests.opinions();
  }

  /** It holds nobody for down that came and went too often. */
  get isUnbiased(): boolean {
    return this.#tests.counters.held === 0;
  }

  handleReport({ serverId, opinions }: ServerReport): void {
    if (serverId !== this.#host.id && opinions !== undefined)
      this.#board.handleOpinions(serverId, opinions, this.#host.now);
  }

  /** Once a second. */
  believe(): void {
    const { now } = this.#host;
    this.#board.handleOpinions(this.#host.id, this.#tests.opinions(), now);
    const before = this.#beliefs;
    this.#beliefs = this.#board.beliefs([this.#policy], now);
    for (const { targetId } of this.#policy.targets)
      if (this.#holdsUp(this.#beliefs, targetId) !== this.#holdsUp(before, targetId)) {
        const state = this.#holdsUp(this.#beliefs, targetId) ? "up" : "down";
        this.#stage.statistics.count("policy-target", state);
        this.#host.note(`holds target ${targetId} for ${state}`);
      }
  }

  isUp(targetId: string): boolean {
    return this.#holdsUp(this.#beliefs, targetId);
  }

  #holdsUp(beliefs: TargetBeliefs, targetId: string): boolean {
    return beliefs[this.#policy.policyId]?.[targetId]?.downSinceEpochMs === undefined;
  }

  #turn(): void {
    const tests = this.#tests;
    const { now, env } = this.#host;
    tests.handleTimeout(now);
    for (let probe = tests.pollTransmit(now); probe; probe = tests.pollTransmit(now)) {
      const sent = probe;
      const to = env.hosts.get(sent.targetId);
      if (sent.kind !== "test" || to === undefined) continue;
      exchange<true>({
        from: this.#host,
        to,
        label: "policy-test",
        timeoutMs: sent.timeoutMs,
        serve: (respond) => respond(true),
        done: (outcome) => {
          if (tests !== this.#tests) return;
          tests.handleResult(sent, outcome.kind === "answer", this.#host.now);
          this.#turn();
        },
      });
    }
    const next = tests.pollTimeout(now);
    if (next === undefined || next >= this.#timerAt) return;
    this.#timerAt = next;
    this.#host.after(Math.max(1, next - now), "policy-tests", () => {
      if (this.#timerAt !== next) return;
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.#turn();
    });
  }
}
