import { parseAddress, type PolicyDocument, policyDocument } from "#kit";
import { compilePolicy, type CompiledPolicy } from "../../../mapping/core/policy/compile.ts";
import {
  decidePolicy,
  type PolicyChoice,
  type PolicyFacts,
  type PolicyQuery,
} from "../../../mapping/core/policy/decide.ts";
import { mix } from "../../../mapping/core/policy/draw.ts";
import { viewOf, viewOfNothing } from "../../../mapping/core/policy/view.ts";

/** A document with one IPv4 and one IPv6 address for each target. */
export function documentOf(rule: unknown, targets: readonly string[], rest: object = {}): PolicyDocument {
  return policyDocument.parse({
    policyId: "p",
    customerId: "acme",
    names: ["gtm.example.com"],
    targets: targets.map((targetId, n) => ({
      targetId,
      addresses: [`198.51.100.${n + 1}`, `2001:db8::${n + 1}`],
    })),
    rule,
    ...rest,
  });
}

export function policyOf(rule: unknown, targets: readonly string[], rest: object = {}): CompiledPolicy {
  return compilePolicy(documentOf(rule, targets, rest));
}

export function factsOf(
  policy: CompiledPolicy,
  down: readonly string[] = [],
  rest: Partial<PolicyFacts> & { readonly accepted?: Readonly<Record<string, number>> } = {},
): PolicyFacts {
  const { accepted = {}, ...facts } = rest;
  const view =
    down.length === 0 && Object.keys(accepted).length === 0
      ? viewOfNothing(policy)
      : viewOf(
          policy,
          Object.fromEntries(
            policy.targets.map(({ targetId }) => [
              targetId,
              {
                downSinceEpochMs: down.includes(targetId) ? down.indexOf(targetId) : undefined,
                accepted: accepted[targetId] ?? 1,
              },
            ]),
          ),
        );
  return {
    view,
    countries: undefined,
    nearest: () => undefined,
    isServed: () => true,
    ...facts,
  };
}

export function askedOf(client = "203.0.113.1", draw = 0, rest: Partial<PolicyQuery> = {}): PolicyQuery {
  const address = parseAddress(client);
  if (address === undefined) throw new Error(`No address: ${client}`);
  const bits = address.family === 4 ? 32 : 128;
  return { family: 4, client: address, sourcePrefixLength: bits, isResolver: false, draw, ...rest };
}

/** What is handed out, by name. */
export function namesOf(policy: CompiledPolicy, { targets }: PolicyChoice): readonly string[] {
  return targets.map((target) => policy.targets[target]?.targetId ?? "?");
}

export function chosen(
  policy: CompiledPolicy,
  down: readonly string[] = [],
  asked: PolicyQuery = askedOf(),
  rest: Parameters<typeof factsOf>[2] = {},
): readonly string[] {
  return namesOf(policy, decidePolicy(policy, asked, factsOf(policy, down, rest)));
}

/** The n-th of many draws. */
export const draw = (n: number): number => mix(n, 77);
