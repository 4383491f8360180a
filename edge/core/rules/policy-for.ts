/** The policy of a URL, where no more of the request is known. */
import type { PropertyDocument } from "#kit";
import type { RequestPolicy } from "../policy.ts";
import { ruleSetOf } from "./rule-set.ts";

/**
 * The policy for a GET of `target` that nothing else is known of. For each setting the first matching rule that states it wins; what
 * no rule states is the property's own (kit/documents/property.ts).
 */
export function policyFor(
  property: Pick<PropertyDocument, "caching" | "rules">,
  target: string,
  host = "",
): RequestPolicy {
  return ruleSetOf(property).outcome({ method: "GET", host, target, fields: [] }).policy;
}
