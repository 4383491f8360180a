/** What an agent may test: a target's address is a customer's word, and a script runs on the operator's machine. */
import {
  type IpPrefix,
  type LivenessTest,
  type PolicyDocument,
  type TopologyDocument,
  type TrafficTarget,
} from "#kit";
import { privateOriginsOf, refusedAddress } from "../address-guard.ts";

/** What is not tested, and why, for the log. */
export interface TestRefusal {
  readonly policyId: string;
  readonly what: string;
}

export interface TestGround {
  /** `address port` of the deployment's servers that are no origins. */
  readonly own: ReadonlySet<string>;
  readonly privateAllowed: readonly IpPrefix[];
  /** Undefined: no script is run. */
  readonly scriptsDirectory: string | undefined;
}

/** Private networks are tested where origins may be in them, by the topology. */
export function groundOf(topology: TopologyDocument, scriptsDirectory: string | undefined): TestGround {
  const own = topology.clusters.flatMap(({ role, servers }) =>
    role === "origin" ? [] : servers.map(({ address, port }) => `${address} ${port}`),
  );
  return { own: new Set(own), privateAllowed: privateOriginsOf(topology), scriptsDirectory };
}

/**
 * The policy as this agent may test it: a target that may not be asked is left without addresses, and stays unknown. Undefined: not all of its
 * tests can be made here, so this agent says nothing of it.
 */
export function permittedPolicy(
  policy: PolicyDocument,
  ground: TestGround,
  onRefused: (refusal: TestRefusal) => void,
): PolicyDocument | undefined {
  const { policyId, tests, loadFeedback } = policy;
  const script = tests.find(({ kind }) => kind === "script");
  if (script !== undefined && ground.scriptsDirectory === undefined) {
    onRefused({ policyId, what: `test ${script.testId}: scripts are not permitted here (--test-scripts)` });
    return undefined;
  }
  const ports = [...tests, ...(loadFeedback === null ? [] : [loadFeedback])].map(portOf);
  const targets = policy.targets.map((target): TrafficTarget => {
    const [address] = target.addresses;
    if (address === undefined) return target;
    const refusal = refusedAddress({
      address,
      isNamed: false,
      isOwn: ports.some((port) => ground.own.has(`${address} ${port}`)),
      isOperators: false,
      privateAllowed: ground.privateAllowed,
    });
    if (refusal === undefined) return target;
    onRefused({ policyId, what: `target ${target.targetId}: ${address} is not tested (${refusal})` });
    return { ...target, addresses: [] };
  });
  return { ...policy, targets };
}

/** Undefined: of a script, which asks what it likes. */
function portOf(test: LivenessTest | NonNullable<PolicyDocument["loadFeedback"]>): number | undefined {
  if (!("kind" in test)) return test.port ?? (test.isHttps ? 443 : 80);
  switch (test.kind) {
    case "http":
      return test.port ?? 80;
    case "https":
      return test.port ?? 443;
    case "tcp":
    case "dns":
      return test.port;
    case "script":
      return undefined;
    default:
      return test satisfies never;
  }
}
