/**
 * A name server as an agent of policies' tests: it tests, tells the others with its reports, hears of them and of the edges that test by control, and
 * goes by the majority. With control dead it goes by what it sees itself.
 */
import type { ControlClient } from "#control";
import type { Clock, PolicyDocument, PolicyOpinions, ServerId, ServerReport, TopologyDocument } from "#kit";
import type { Logger } from "#kit/io";
import { TargetTester } from "#transport";
import { OpinionBoard } from "../core/policy/opinions.ts";
import type { TargetBeliefs } from "../core/policy/view.ts";

/** How often others' opinions and loads are looked at. */
const INTERVAL_MS = 1_000;

export interface PolicyAgentOptions {
  readonly serverId: ServerId;
  readonly client: Pick<ControlClient, "watch">;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly scriptsDirectory: string | undefined;
  /** Told of each change. */
  readonly onBeliefs: (beliefs: TargetBeliefs) => void;
}

export class PolicyAgent {
  readonly #options: PolicyAgentOptions;
  readonly #tester: TargetTester;
  readonly #board = new OpinionBoard();
  readonly #documents = new Map<string, { readonly policy: PolicyDocument; readonly version: number }>();
  #policies: readonly PolicyDocument[] = [];
  #isChanged = false;
  #watch: { close(): void } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #told = "{}";
  #isClosed = false;

  constructor(options: PolicyAgentOptions) {
    const { clock, logger, scriptsDirectory } = options;
    this.#options = options;
    this.#tester = new TargetTester({ clock, logger, scriptsDirectory, onResult: () => this.#judge() });
  }

  /** A version in force; all that come together are taken up together. */
  setPolicy(policy: PolicyDocument, version: number): void {
    this.#documents.set(policy.policyId, { policy, version });
    if (this.#isChanged) return;
    this.#isChanged = true;
    setImmediate(() => {
      this.#isChanged = false;
      if (!this.#isClosed) this.#use();
    });
  }

  /** Where tests may go follows from it. */
  setTopology(topology: TopologyDocument): void {
    this.#tester.setTopology(topology);
  }

  #use(): void {
    this.#policies = [...this.#documents.values()]
      .map(({ policy }) => policy)
      .filter(({ isActive, tests, loadFeedback }) => isActive && (tests.length > 0 || loadFeedback !== null));
    this.#tester.setPolicies(this.#policies);
    // Nobody is heard of before there is something to hear.
    if (this.#policies.length > 0 && this.#timer === undefined) {
      const { client, serverId, clock } = this.#options;
      this.#timer = setInterval(() => this.#judge(), INTERVAL_MS);
      this.#watch = client.watch(["opinion"], (event) => {
        if (event.type !== "report" || event.report.serverId === serverId) return;
        this.#board.handleOpinions(
          event.report.serverId,
          this.#ofOurVersions(event.report),
          clock.monotonic(),
        );
      });
    }
    this.#judge();
  }

  /** Of policies that the agent has in another version it may have tested other addresses under the same names. */
  #ofOurVersions({ opinions = {}, applied }: ServerReport): PolicyOpinions {
    return Object.fromEntries(
      Object.entries(opinions).filter(
        ([policyId]) => applied[`policy/${policyId}`] === this.#documents.get(policyId)?.version,
      ),
    );
  }

  /** For the report; undefined: nothing is tested. */
  opinions(): PolicyOpinions | undefined {
    return this.#policies.length === 0 ? undefined : this.#tester.opinions();
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
    return this.#tester.counters;
  }

  #judge(): void {
    const { serverId, clock, logger, onBeliefs } = this.#options;
    const now = clock.monotonic();
    if (this.#policies.length > 0) this.#board.handleOpinions(serverId, this.#tester.opinions(), now);
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
    this.#tester.close();
  }
}
