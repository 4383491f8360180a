/** A policy asked with what a name server has in force. */
import type { CompiledPolicy, PerformanceNode } from "../policy/compile.ts";
import { decidePolicy, type PolicyChoice, type PolicyFacts, type PolicyQuery } from "../policy/decide.ts";
import { type NearestTable, nearestTableOf } from "../policy/nearest.ts";
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
  /** The last question of each rule, which is nearly always the next one too. */
  const tables = new Map<PerformanceNode, NearestTable>();
  return {
    kept: new Map(),
    view: context.policyViews?.get(policy) ?? viewOfNothing(policy),
    countries,
    nearest: (node, targets, depth, { client, isResolver }) => {
      if (snapshot === null) return undefined;
      let table = tables.get(node);
      if (table === undefined || table.question.targets !== targets || table.question.depth !== depth) {
        table = nearestTableOf({ policy, node, targets, depth }, snapshot, topology);
        tables.set(node, table);
      }
      return isResolver ? table.lookupResolver(client) : table.lookup(client);
    },
    isServed: (propertyId, family) =>
      zones.property(propertyId)?.customerId === policy.document.customerId &&
      [...topology.edgeClusters.values()].some(({ servers }) => servers[family].length > 0),
  };
}
