/** An edge as an agent of policies' tests: of those that fall to it, it tests the targets, and tells name servers by its reports what it holds of them. */
import type { Clock, PolicyDocument, PolicyOpinions, ServerId, TopologyDocument } from "#kit";
import type { Logger } from "#kit/io";
import { EdgeAgents, TargetTester } from "#transport";

export class PolicyTests {
  readonly #serverId: ServerId;
  readonly #tester: TargetTester;
  readonly #policies = new Map<string, PolicyDocument>();
  #agents: EdgeAgents | undefined;
  #own: readonly PolicyDocument[] = [];
  #isChanged = false;
  #isClosed = false;

  constructor(options: {
    readonly serverId: ServerId;
    readonly scriptsDirectory: string | undefined;
    readonly clock: Clock;
    readonly logger: Logger;
  }) {
    const { serverId, ...rest } = options;
    this.#serverId = serverId;
    // Its opinions are told with the next report, whenever they change.
    this.#tester = new TargetTester({ ...rest, onResult: () => {} });
  }

  setTopology(topology: TopologyDocument): void {
    this.#agents = new EdgeAgents(topology);
    this.#tester.setTopology(topology);
    this.#change();
  }

  setPolicy(policy: PolicyDocument): void {
    this.#policies.set(policy.policyId, policy);
    this.#change();
  }

  /** For the report; undefined: nothing falls to it. */
  opinions(): PolicyOpinions | undefined {
    return this.#own.length === 0 ? undefined : this.#tester.opinions();
  }

  /** Tests by what became of them. */
  get counters(): Readonly<Record<string, number>> {
    return this.#tester.counters;
  }

  close(): void {
    this.#isClosed = true;
    this.#tester.close();
  }

  /** All that come together are taken up together. */
  #change(): void {
    if (this.#isChanged) return;
    this.#isChanged = true;
    setImmediate(() => {
      this.#isChanged = false;
      if (!this.#isClosed) this.#use();
    });
  }

  #use(): void {
    const agents = this.#agents;
    if (agents === undefined) return;
    this.#own = [...this.#policies.values()].filter(
      ({ policyId, isActive, tests, loadFeedback }) =>
        isActive &&
        (tests.length > 0 || loadFeedback !== null) &&
        agents.of(policyId).includes(this.#serverId),
    );
    this.#tester.setPolicies(this.#own);
  }
}
