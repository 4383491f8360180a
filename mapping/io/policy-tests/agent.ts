/**
 * A name server as an agent of policies' tests: it tests, tells the others with its reports, hears of them by control, and goes by the majority. With
 * control dead it goes by what it sees itself.
 */
import type { ControlClient } from "#control";
import type { Clock, PolicyDocument, ServerId } from "#kit";
import type { Logger } from "#kit/io";
import { OpinionBoard, type PolicyOpinions } from "../../core/policy/opinions.ts";
import type { TargetBeliefs } from "../../core/policy/view.ts";
import { type TestPermissions, TestRunner } from "./runner.ts";

/** How often others' opinions and loads are looked at. */
const INTERVAL_MS = 1_000;

export interface PolicyAgentOptions {
  readonly serverId: ServerId;
  readonly client: Pick<ControlClient, "watch">;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly permissions: TestPermissions;
  /** Told of each change. */
  readonly onBeliefs: (beliefs: TargetBeliefs) => void;
}

export class PolicyAgent {
  readonly #options: PolicyAgentOptions;
  readonly #runner: TestRunner;
  readonly #board = new OpinionBoard();
  readonly #documents = new Map<string, PolicyDocument>();
  #policies: readonly PolicyDocument[] = [];
  #isChanged = false;
  #watch: { close(): void } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #told = "{}";
  #isClosed = false;

  constructor(options: PolicyAgentOptions) {
    const { clock, logger, permissions } = options;
    this.#options = options;
    this.#runner = new TestRunner({ clock, logger, permissions, onResult: () => this.#judge() });
  }

  /** A version in force; all that come together are taken up together. */
  setPolicy(policy: PolicyDocument): void {
    this.#documents.set(policy.policyId, policy);
    if (this.#isChanged) return;
    this.#isChanged = true;
    setImmediate(() => {
      this.#isChanged = false;
      if (!this.#isClosed) this.#use();
    });
  }

  #use(): void {
    this.#policies = [...this.#documents.values()].filter(
      ({ isActive, tests, loadFeedback }) => isActive && (tests.length > 0 || loadFeedback !== null),
    );
    this.#runner.setPolicies(this.#policies);
    // Nobody is heard of before there is something to hear.
    if (this.#policies.length > 0 && this.#timer === undefined) {
      const { client, serverId, clock } = this.#options;
      this.#timer = setInterval(() => this.#judge(), INTERVAL_MS);
      this.#watch = client.watch(["opinion"], (event) => {
        if (event.type !== "report" || event.report.serverId === serverId) return;
        const { opinions } = event.report;
        if (opinions !== undefined)
          this.#board.handleOpinions(event.report.serverId, opinions, clock.monotonic());
      });
    }
    this.#judge();
  }

  /** For the report; undefined: nothing is tested. */
  opinions(): PolicyOpinions | undefined {
    return this.#policies.length === 0 ? undefined : this.#runner.opinions();
  }

  /** Policies tested, agents that are heard, and those among them that see nothing live while others do. */
  get figures(): Readonly<Record<string, number>> {
    return {
      policies: this.#policies.length,
      agents: this.#board.agents.length,
      suspected: this.#board.suspected.length,
    };
  }

  get counters(): Readonly<Record<string, number>> {
    return this.#runner.counters;
  }

  #judge(): void {
    const { serverId, clock, logger, onBeliefs } = this.#options;
    const now = clock.monotonic();
    if (this.#policies.length > 0) this.#board.handleOpinions(serverId, this.#runner.opinions(), now);
    const beliefs = this.#board.beliefs(this.#policies, now);
    const text = JSON.stringify(beliefs);
    if (text === this.#told) return;
    this.#told = text;
    logger.warn("policy-targets", { beliefs, agents: this.#board.agents, suspected: this.#board.suspected });
    onBeliefs(beliefs);
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.#watch?.close();
    this.#runner.close();
  }
}
