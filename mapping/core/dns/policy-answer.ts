/** A policy asked with what a name server has in force. */
import type { CompiledPolicy } from "../policy/compile.ts";
import { decidePolicy, type PolicyChoice, type PolicyFacts, type PolicyQuery } from "../policy/decide.ts";
import { nearestTableOf } from "../policy/nearest.ts";
import { viewOfNothing } from "../policy/view.ts";
import type { DnsContext } from "./decision.ts";

/** A context is immutable, so what is made of it belongs to it. */
const kept = new WeakMap<DnsContext, Map<CompiledPolicy, PolicyFacts>>();

export function choosePolicy(context: DnsContext, policy: CompiledPolicy, query: PolicyQuery): PolicyChoice {
  return decidePolicy(policy, query, policyFacts(context, policy));
}

export function policyFacts(context: DnsContext, policy: CompiledPolicy): PolicyFacts {
  let facts = kept.get(context);
  if (facts === undefined) kept.set(context, (facts = new Map()));
  let known = facts.get(policy);
  if (known === undefined) facts.set(policy, (known = factsOf(context, policy)));
  return known;
}

function factsOf(context: DnsContext, policy: CompiledPolicy): PolicyFacts {
  const { snapshot, topology, zones, countries } = context;
  return {
    view: context.policyViews?.get(policy) ?? viewOfNothing(policy),
    countries,
    nearest: (node, targets, depth, { client, isResolver }) => {
      if (snapshot === null) return undefined;
      const table = nearestTableOf({ policy, node, targets, depth }, snapshot, topology);
      return isResolver ? table.lookupResolver(client) : table.lookup(client);
    },
    isServed: (propertyId, family) =>
      zones.property(propertyId)?.customerId === policy.document.customerId &&
      [...topology.edgeClusters.values()].some(({ servers }) => servers[family].length > 0),
  };
}
