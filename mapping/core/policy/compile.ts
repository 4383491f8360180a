/** A policy as it is decided by: targets and methods by number, addresses by family. Immutable, made once for a version of the document. */
import {
  type Continent,
  continentOf,
  entriesOf,
  type IpAddress,
  type IpFamily,
  parseAddress,
  parsePrefix,
  type PolicyDocument,
  type PolicyRule,
  PrefixTable,
  type PropertyId,
  xxh32,
} from "#kit";

export interface CompiledTarget {
  readonly targetId: string;
  readonly isEnabled: boolean;
  /** Its addresses by family: numbers in {@link CompiledPolicy.addresses}. */
  readonly addressNumbers: Readonly<Record<IpFamily, readonly number[]>>;
  /** The edges, by the map, as for this property. */
  readonly propertyId: PropertyId | undefined;
}

interface Common {
  /** Place in {@link CompiledPolicy.nodes}. */
  readonly number: number;
  /** Of what is below it, so that it is the same wherever it stands: what hashing goes by. */
  readonly identity: number;
  /** Numbers of all targets at and below it. */
  readonly targets: readonly number[];
}

/** A rule with its entries as numbers of nodes. */
export type PolicyNode = Common &
  (
    | { readonly method: "target"; readonly target: number }
    | { readonly method: "performance"; readonly entries: readonly number[]; readonly take: number }
    | {
        readonly method: "weighted" | "sticky";
        readonly entries: readonly number[];
        readonly weights: readonly number[];
        readonly take: number;
        /** Bits of a client's address that make its network; sticky alone. */
        readonly prefixLengths: Readonly<Record<IpFamily, number>>;
      }
    | { readonly method: "failover"; readonly entries: readonly number[]; readonly liveTargetsMin: number }
    | { readonly method: "ranked" | "all"; readonly entries: readonly number[] }
    | {
        readonly method: "geographic";
        readonly entries: readonly number[];
        readonly otherwise: number;
        /** Node for a country; undefined: otherwise. */
        readonly nodeOf: (country: string) => number | undefined;
      }
    | {
        readonly method: "cidr";
        readonly entries: readonly number[];
        readonly otherwise: number;
        readonly table: PrefixTable<number>;
      }
  );
export type PerformanceNode = Extract<PolicyNode, { readonly method: "performance" }>;

export interface CompiledPolicy {
  readonly document: PolicyDocument;
  readonly targets: readonly CompiledTarget[];
  readonly addresses: Readonly<Record<IpFamily, readonly IpAddress[]>>;
  readonly nodes: readonly PolicyNode[];
  /** Number of the rule itself. */
  readonly root: number;
  /** Sets its hashing apart from that of other policies. */
  readonly seed: number;
  /** Whether any target that is enabled has an address of the family, or is the edges, which may have one. */
  readonly mayAnswer: Readonly<Record<IpFamily, boolean>>;
  /** Rules by country, each of which a query may meet. */
  readonly geographicRules: number;
}

/** Of a document that the schema has read. */
export function compilePolicy(document: PolicyDocument): CompiledPolicy {
  const addresses: Record<IpFamily, IpAddress[]> = { 4: [], 6: [] };
  const targets = document.targets.map(
    ({ targetId, isEnabled, propertyId, addresses: texts }): CompiledTarget => {
      const addressNumbers: Record<IpFamily, number[]> = { 4: [], 6: [] };
      for (const text of texts) {
        const address = parseAddress(text);
        if (address !== undefined)
          addressNumbers[address.family].push(addresses[address.family].push(address) - 1);
      }
      return { targetId, isEnabled, propertyId, addressNumbers };
    },
  );
  const numbers = new Map(document.targets.map(({ targetId }, number) => [targetId as string, number]));
  const nodes: PolicyNode[] = [];
  const add = (rule: PolicyRule): number => {
    if (typeof rule === "string") {
      const target = numbers.get(rule) as number;
      const number = nodes.length;
      nodes.push({ method: "target", number, target, identity: xxh32(rule), targets: [target] });
      return number;
    }
    const entries = entriesOf(rule).map((entry) => add(entry.rule));
    const common: Common = {
      number: nodes.length,
      identity: xxh32(JSON.stringify(rule)),
      targets: [...new Set(entries.flatMap((entry) => (nodes[entry] as PolicyNode).targets))],
    };
    nodes.push({ ...common, ...methodOf(rule, entries) });
    return common.number;
  };
  const root = add(document.rule);
  const mayAnswer = (family: IpFamily): boolean =>
    targets.some(
      ({ isEnabled, propertyId, addressNumbers }) =>
        isEnabled && (propertyId !== undefined || addressNumbers[family].length > 0),
    );
  return {
    document,
    targets,
    addresses,
    nodes,
    root,
    seed: xxh32(document.policyId),
    mayAnswer: { 4: mayAnswer(4), 6: mayAnswer(6) },
    geographicRules: nodes.filter(({ method }) => method === "geographic").length,
  };
}

function methodOf(rule: Exclude<PolicyRule, string>, entries: readonly number[]) {
  const { method } = rule;
  switch (method) {
    case "performance":
      return { method, entries, take: rule.take };
    case "weighted":
    case "sticky": {
      const prefixLengths =
        method === "sticky" ? { 4: rule.ipv4PrefixLength, 6: rule.ipv6PrefixLength } : { 4: 0, 6: 0 };
      return {
        method,
        entries,
        take: rule.take,
        weights: rule.among.map(({ weight }) => weight),
        prefixLengths,
      };
    }
    case "failover":
      return { method, entries, liveTargetsMin: rule.liveTargetsMin };
    case "ranked":
    case "all":
      return { method, entries };
    case "geographic":
      return { method, entries, otherwise: entries.at(-1) as number, nodeOf: countryNodes(rule, entries) };
    case "cidr": {
      const table = new PrefixTable(
        rule.cases.flatMap(({ prefixes }, n) =>
          prefixes.flatMap((text) => {
            const prefix = parsePrefix(text);
            return prefix === undefined ? [] : [[prefix, entries[n] as number] as const];
          }),
        ),
      );
      return { method, entries, otherwise: entries.at(-1) as number, table };
    }
    default:
      return method satisfies never;
  }
}

/** A country that a case names comes before the continents that a case names; among equals the first case. */
function countryNodes(
  { cases }: Extract<PolicyRule, { method: "geographic" }>,
  entries: readonly number[],
): (country: string) => number | undefined {
  const byCountry = new Map<string, number>();
  const byContinent = new Map<Continent, number>();
  for (const [n, { countries, continents }] of cases.entries()) {
    const entry = entries[n] as number;
    for (const country of countries) if (!byCountry.has(country)) byCountry.set(country, entry);
    for (const continent of continents) if (!byContinent.has(continent)) byContinent.set(continent, entry);
  }
  return (country) => {
    const continent = continentOf(country);
    return byCountry.get(country) ?? (continent && byContinent.get(continent));
  };
}
