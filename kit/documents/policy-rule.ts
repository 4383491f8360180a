/** How a policy chooses: a target's name, or a method over further rules, a tree of at most {@link POLICY_DEPTH_MAX} levels. */
import { continents, type Continent } from "../countries.ts";
import { id } from "../ids.ts";
import { formatPrefix, parsePrefix } from "../ip.ts";
import {
  array,
  defaulted,
  integer,
  number,
  object,
  oneOf,
  ParseError,
  type Path,
  refine,
  type Schema,
  string,
  text,
} from "../schema.ts";

/** Levels of methods; a target's name is none. */
export const POLICY_DEPTH_MAX = 4;
export const TARGETS_MAX = 64;
/** Methods of one policy, and entries of all of them: what one query may cost. */
const METHODS_MAX = 64;
const ENTRIES_IN_ALL_MAX = 512;
const ENTRIES_MAX = 64;
const PREFIXES_MAX = 1_000;

/** How one of several is chosen; each entry is again a rule. */
export type PolicyRule =
  | string
  /** The one with the least score by the measured map. */
  | { readonly method: "performance"; readonly among: readonly PolicyRule[]; readonly take: number }
  /** By lot, with shares by weight. */
  | { readonly method: "weighted"; readonly among: readonly WeightedRule[]; readonly take: number }
  /** The same one for the same client network, with shares by weight. */
  | {
      readonly method: "sticky";
      readonly among: readonly WeightedRule[];
      readonly take: number;
      readonly ipv4PrefixLength: number;
      readonly ipv6PrefixLength: number;
    }
  /** The first in which enough targets live. */
  | { readonly method: "failover"; readonly among: readonly PolicyRule[]; readonly liveTargetsMin: number }
  /** All that live, in this order. */
  | { readonly method: "ranked"; readonly among: readonly PolicyRule[] }
  /** All that live, each at the head as often as the others. */
  | { readonly method: "all"; readonly among: readonly PolicyRule[] }
  /** By the country of the client; the first case that holds. */
  | {
      readonly method: "geographic";
      readonly cases: readonly {
        readonly countries: readonly string[];
        readonly continents: readonly Continent[];
        readonly to: PolicyRule;
      }[];
      readonly otherwise: PolicyRule;
    }
  /** By the client's address: the longest prefix. */
  | {
      readonly method: "cidr";
      readonly cases: readonly { readonly prefixes: readonly string[]; readonly to: PolicyRule }[];
      readonly otherwise: PolicyRule;
    };
export interface WeightedRule {
  readonly to: PolicyRule;
  readonly weight: number;
}
export type PolicyMethod = Exclude<PolicyRule, string>["method"];

const prefixOf = () =>
  text((value) => {
    const prefix = parsePrefix(value);
    return prefix === undefined ? undefined : formatPrefix(prefix);
  }, "a prefix without host bits such as 192.0.2.0/24");

/** Schemas of the methods when their entries may have `levels` levels more. */
function methodsAt(levels: number) {
  const entry = ruleAt(levels);
  const among = array(entry, { min: 1, max: ENTRIES_MAX });
  const weighted = array(object({ to: entry, weight: defaulted(number({ min: 0, max: 1e6 }), 1) }), {
    min: 1,
    max: ENTRIES_MAX,
  });
  const take = defaulted(integer({ min: 1, max: 2 }), 1);
  const country = string({
    max: 2,
    pattern: /^[A-Z]{2}$/,
    expected: "a country's two letters (ISO 3166-1) such as DE",
  });
  return {
    performance: object({ method: oneOf(["performance"]), among, take }),
    weighted: object({ method: oneOf(["weighted"]), among: weighted, take }),
    sticky: object({
      method: oneOf(["sticky"]),
      among: weighted,
      take,
      ipv4PrefixLength: defaulted(integer({ min: 8, max: 32 }), 24),
      ipv6PrefixLength: defaulted(integer({ min: 16, max: 128 }), 56),
    }),
    failover: object({
      method: oneOf(["failover"]),
      among,
      liveTargetsMin: defaulted(integer({ min: 1, max: TARGETS_MAX }), 1),
    }),
    ranked: object({ method: oneOf(["ranked"]), among }),
    all: object({ method: oneOf(["all"]), among }),
    geographic: object({
      method: oneOf(["geographic"]),
      cases: array(
        refine(
          object({
            countries: defaulted(array(country, { max: 250 }), []),
            continents: defaulted(array(oneOf(continents), { max: continents.length }), []),
            to: entry,
          }),
          (one) =>
            one.countries.length + one.continents.length > 0
              ? undefined
              : { at: ["countries"], value: one.countries, expected: "a country or a continent at least" },
        ),
        { min: 1, max: ENTRIES_MAX },
      ),
      otherwise: entry,
    }),
    cidr: object({
      method: oneOf(["cidr"]),
      cases: array(object({ prefixes: array(prefixOf(), { min: 1, max: PREFIXES_MAX }), to: entry }), {
        min: 1,
        max: ENTRIES_MAX,
      }),
      otherwise: entry,
    }),
  } satisfies Record<PolicyMethod, Schema<PolicyRule>>;
}

/** A rule of at most `levels` levels of methods. */
export function ruleAt(levels: number): Schema<PolicyRule> {
  const name = id();
  let methods: Schema<PolicyRule> | undefined;
  return {
    parse: (value, path = []) => {
      if (typeof value === "string") return name.parse(value, path);
      if (levels === 0)
        throw new ParseError(path, value, `a target's name: rules have ${POLICY_DEPTH_MAX} levels at most`);
      // Made when it is needed: all of them at once would be eight to the fourth.
      methods ??= byKey<PolicyRule>("method", methodsAt(levels - 1));
      return methods.parse(value, path);
    },
    // The schema of one level stands for all: written out it would be thousands.
    jsonSchema: () => ({ description: "a target's name, or a method over further rules" }),
  };
}

/** The schema that a value's `key` names. */
export function byKey<T>(key: string, schemas: Readonly<Record<string, Schema<T>>>): Schema<T> {
  return {
    parse: (value, path = []) => {
      const named: unknown =
        typeof value === "object" && value !== null && Object.hasOwn(value, key)
          ? (value as Readonly<Record<string, unknown>>)[key]
          : undefined;
      const schema = typeof named === "string" && Object.hasOwn(schemas, named) ? schemas[named] : undefined;
      if (schema === undefined)
        throw new ParseError([...path, key], named, `one of ${Object.keys(schemas).join(", ")}`);
      return schema.parse(value, path);
    },
    jsonSchema: () => ({ anyOf: Object.values(schemas).map((schema) => schema.jsonSchema()) }),
  };
}

export interface Problem {
  readonly at: Path;
  readonly value: unknown;
  readonly expected: string;
}

/** What schemas cannot say of a rule: that its targets are there and are all named, that weights and prefixes tell something apart. */
export function ruleProblem(rule: PolicyRule, targetIds: readonly string[]): Problem | undefined {
  const known = new Set(targetIds);
  const used = new Set<string>();
  let methods = 0;
  let entries = 0;
  let prefixes = 0;
  const look = (one: PolicyRule, at: Path): Problem | undefined => {
    if (typeof one === "string") {
      used.add(one);
      return known.has(one) ? undefined : { at, value: one, expected: `a target: ${[...known].join(", ")}` };
    }
    if (++methods > METHODS_MAX)
      return { at, value: one.method, expected: `${METHODS_MAX} methods at most in one policy` };
    entries += entriesOf(one).length;
    if (entries > ENTRIES_IN_ALL_MAX)
      return {
        at,
        value: one.method,
        expected: `${ENTRIES_IN_ALL_MAX} entries at most in all methods of one policy`,
      };
    if (one.method === "cidr") {
      const seen = new Set<string>();
      for (const [n, { prefixes: some }] of one.cases.entries())
        for (const [k, prefix] of some.entries()) {
          if (seen.has(prefix) || ++prefixes > PREFIXES_MAX) {
            const expected = seen.has(prefix)
              ? "each prefix once"
              : `${PREFIXES_MAX} prefixes at most in one policy`;
            return { at: [...at, "cases", n, "prefixes", k], value: prefix, expected };
          }
          seen.add(prefix);
        }
    }
    if (
      (one.method === "weighted" || one.method === "sticky") &&
      one.among.every(({ weight }) => weight === 0)
    )
      return { at: [...at, "among"], value: 0, expected: "a weight above 0 at least" };
    for (const { rule: next, at: where } of entriesOf(one)) {
      const wrong = look(next, [...at, ...where]);
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  };
  const wrong = look(rule, ["rule"]);
  if (wrong !== undefined) return wrong;
  const unused = targetIds.findIndex((targetId) => !used.has(targetId));
  if (unused === -1) return undefined;
  return { at: ["targets", unused], value: targetIds[unused], expected: "a target that the rule names" };
}

/** The rules right below a method, with their place in it. */
export function entriesOf(
  rule: Exclude<PolicyRule, string>,
): readonly { readonly rule: PolicyRule; readonly at: Path }[] {
  switch (rule.method) {
    case "geographic":
    case "cidr":
      return [
        ...rule.cases.map(({ to }, n) => ({ rule: to, at: ["cases", n, "to"] })),
        { rule: rule.otherwise, at: ["otherwise"] },
      ];
    case "weighted":
    case "sticky":
      return rule.among.map(({ to }, n) => ({ rule: to, at: ["among", n, "to"] }));
    case "performance":
    case "failover":
    case "ranked":
    case "all":
      return rule.among.map((one, n) => ({ rule: one, at: ["among", n] }));
  }
}
