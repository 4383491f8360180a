/** Why a client gets what a policy hands out: the steps, what each target is held for, and how often each comes first where lots are drawn. */
import {
  addressBits,
  array,
  boolean,
  countryOf,
  type CustomerId,
  formatAddress,
  formatPrefix,
  id,
  integer,
  type IpPrefix,
  nullable,
  number,
  object,
  oneOf,
  type Parsed,
  string,
} from "#kit";
import { choosePolicy, policyFacts } from "../dns/policy-answer.ts";
import type { DnsContext } from "../dns/decision.ts";
import type { CompiledPolicy } from "./compile.ts";
import { decidePolicy, policyReasons, type PolicyStep } from "./decide.ts";
import { mix } from "./draw.ts";
import { scoresFor } from "./nearest.ts";
import type { PolicyView } from "./view.ts";

const policyTarget = object({
  targetId: string(),
  addresses: array(string()),
  /** The edges, as for this property. */
  propertyId: nullable(string()),
  isEnabled: boolean(),
  /** `untested`: the policy has no tests, or nobody who is heard of may test it; it is taken to live. */
  state: oneOf(["up", "down", "spared", "untested"]),
  downSinceEpochMs: nullable(integer()),
  /** Part of what it would be sent that it takes. */
  accepted: number({ min: 0, max: 1 }),
  /** By the map, for `performance`; null: no map, or no way to it is known. */
  score: nullable(number()),
  /** How often it comes first, of a thousand lots. */
  shareRatio: number({ min: 0, max: 1 }),
});

/** What `/.isochrone/where` answers for a policy's name and `isochrone where --json` prints. */
export const policyReport = object({
  name: string(),
  client: string(),
  policyId: string(),
  customerId: id<CustomerId>(),
  family: integer(),
  /** Null: the name servers have no table of countries. */
  country: nullable(string()),
  reason: oneOf(policyReasons),
  ttlSeconds: integer(),
  scopePrefixLength: integer({ max: 128 }),
  /** By one lot, in the order in which they are handed out; empty for the edges. */
  answer: array(string()),
  /** Of the walk that decided, by the same lot. */
  steps: array(object({ depth: integer(), method: string(), targets: array(string()) })),
  targets: array(policyTarget),
});
export type PolicyReport = Parsed<typeof policyReport>;

const LOTS = 1_000;

function stateOf(
  { document, targets }: CompiledPolicy,
  { isLive, spared, unknown }: PolicyView,
  number: number,
): PolicyReport["targets"][number]["state"] {
  if (isLive[number] === 0) return "down";
  if (spared.includes(number)) return "spared";
  // The edges are known by their own tests.
  const isTested = targets[number]?.propertyId !== undefined || document.tests.length > 0;
  return isTested && !unknown.includes(number) ? "up" : "untested";
}

/** @param isResolver the address is a resolver's that tells nothing of its clients */
export function explainPolicy(
  name: string,
  client: IpPrefix,
  context: DnsContext,
  policy: CompiledPolicy,
  isResolver: boolean,
): PolicyReport {
  const { document, targets, addresses } = policy;
  const family = targets.some(({ addressNumbers, propertyId }) => addressNumbers[4].length > 0 || propertyId)
    ? 4
    : 6;
  const query = {
    family,
    client: client.address,
    sourcePrefixLength: isResolver ? addressBits(client.address.family) : client.prefixLength,
    isResolver,
  } as const;
  const facts = policyFacts(context, policy);
  const steps: PolicyStep[] = [];
  const choice = decidePolicy(policy, { ...query, draw: 0 }, facts, steps);
  const first = new Map<number, number>();
  for (let lot = 0; lot < LOTS; lot++) {
    const [target = -1] = choosePolicy(context, policy, { ...query, draw: mix(lot, 1) }).targets;
    first.set(target, (first.get(target) ?? 0) + 1);
  }
  const resolver = isResolver ? context.snapshot?.resolver(client.address) : undefined;
  const scores = scoresFor(policy, context.snapshot, context.topology, client.address, resolver);
  const { view } = facts;
  return {
    name,
    client:
      client.prefixLength === addressBits(client.address.family)
        ? formatAddress(client.address)
        : formatPrefix(client),
    policyId: document.policyId,
    customerId: document.customerId,
    family,
    country: facts.countries === undefined ? null : countryOf(facts.countries, client.address),
    reason: choice.reason,
    ttlSeconds: document.ttlSeconds,
    scopePrefixLength: choice.scopePrefixLength,
    answer: choice.addresses.flatMap((number) => {
      const address = addresses[family][number];
      return address === undefined ? [] : [formatAddress(address)];
    }),
    steps: steps.map(({ depth, method, targets: some }) => ({
      depth,
      method,
      targets: some.map((target) => targets[target]?.targetId ?? ""),
    })),
    targets: targets.map(({ targetId, isEnabled, propertyId }, number) => ({
      targetId,
      addresses: document.targets[number]?.addresses ?? [],
      propertyId: propertyId ?? null,
      isEnabled,
      state: stateOf(policy, view, number),
      downSinceEpochMs: view.downSinceEpochMs[number] ?? null,
      accepted: view.accepted[number] as number,
      score: scores[number] ?? null,
      shareRatio: (first.get(number) ?? 0) / LOTS,
    })),
  };
}
