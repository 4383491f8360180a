/**
 * What one cluster's probe agent is to measure in a cycle, as a mapper answers it. It names addresses and nothing else: no host names, no
 * ports, no URLs, so that who gets hold of a mapper can make agents ping and nothing more.
 */
import {
  array,
  type ClientNetworkId,
  type ClusterId,
  formatAddress,
  id,
  integer,
  type IpAddress,
  object,
  oneOf,
  type Parsed,
  parseAddress,
  ParseError,
  parsePrefix,
} from "#kit";
import { isGlobalAddress } from "./global-address.ts";
import type { ProbeTarget } from "./probe-target.ts";
import { addressField } from "./sample.ts";

export const AGENT_PLAN_TARGETS_MAX = 10_000;

const agentPlan = object({
  format: oneOf(["isochrone-probe-plan"]),
  version: integer({ min: 1, max: 1 }),
  clusterId: id<ClusterId>(),
  /** Grows with each plan of one mapper. */
  cycle: integer({ min: 1 }),
  /** In which all of it is to be measured once, ms. */
  cycleMs: integer({ min: 1_000, max: 3_600_000 }),
  /** For how long it is followed when no newer one comes, ms. */
  validForMs: integer({ min: 0, max: 36_000_000 }),
  /** Canonical text; at most {@link AGENT_PLAN_TARGETS_MAX}. */
  targets: array(addressField, { max: AGENT_PLAN_TARGETS_MAX }),
});
export type AgentPlanDocument = Parsed<typeof agentPlan>;

/** A plan as an agent takes it: what it may not measure is left out, and told. */
export interface TakenPlan {
  readonly plan: AgentPlanDocument;
  readonly targets: readonly ProbeTarget[];
  /** Addresses that are not globally reachable, or occur twice. */
  readonly refused: readonly string[];
}

/**
 * Throws {@link ParseError} when it is no plan, or another cluster's.
 *
 * @param isSpecialAllowed private and other special addresses are measured as well: a world on one machine, an organisation's own networks
 */
export function takeAgentPlan(value: unknown, clusterId: string, isSpecialAllowed: boolean): TakenPlan {
  const plan = agentPlan.parse(value);
  if (plan.clusterId !== clusterId) throw new ParseError(["clusterId"], plan.clusterId, `"${clusterId}"`);
  const targets = new Map<string, ProbeTarget>();
  const refused: string[] = [];
  for (const host of plan.targets) {
    const address = parseAddress(host) as IpAddress;
    if (targets.has(host) || !(isSpecialAllowed || isGlobalAddress(address))) refused.push(host);
    else targets.set(host, { kind: "icmp", text: `icmp ${host}`, host, port: 0, path: "", isTls: false });
  }
  return { plan, targets: [...targets.values()], refused };
}

/** Networks of which it is known who answers. */
const ANSWERING_MAX = 200_000;
/** Of a network's prefixes the first ones are tried in turn. */
const PREFIXES_TRIED_MAX = 16;
/** One probe in so many goes to another address than the one that answers: it may not be for ever. */
const TRY_ANOTHER = 8;

/** Whom to ping in a client network. Bounded. */
export class NetworkTargets {
  /** Answered the longest ago first (insertion order). */
  readonly #answering = new Map<ClientNetworkId, string>();

  handleAnswer(clientNetworkId: ClientNetworkId, address: string): void {
    this.#answering.delete(clientNetworkId);
    this.#answering.set(clientNetworkId, address);
    if (this.#answering.size <= ANSWERING_MAX) return;
    for (const oldest of this.#answering.keys()) {
      this.#answering.delete(oldest);
      return;
    }
  }

  /**
   * An address within the prefixes: the one that answered last, else the first host of one prefix after the other, where a router or a
   * gateway is most of the time; IPv4 first. Undefined without a prefix that can be read.
   */
  targetOf(clientNetworkId: ClientNetworkId, prefixes: readonly string[], turn: number): string | undefined {
    const answering = this.#answering.get(clientNetworkId);
    if (answering !== undefined && turn % TRY_ANOTHER !== TRY_ANOTHER - 1) return answering;
    const parsed = prefixes.slice(0, PREFIXES_TRIED_MAX).flatMap((text) => parsePrefix(text) ?? []);
    const ipv4 = parsed.filter(({ address }) => address.family === 4);
    const tried = ipv4.length > 0 ? ipv4 : parsed;
    const prefix = tried[turn % tried.length];
    return prefix && formatAddress(firstHost(prefix.address));
  }
}

function firstHost({ family, words }: IpAddress): IpAddress {
  const last = words.length - 1;
  return { family, words: words.with(last, ((words[last] as number) | 1) >>> 0) };
}
