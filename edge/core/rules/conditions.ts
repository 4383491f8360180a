/** Conditions of rules (kit/documents/rule.ts) compiled to tests, cheap ones first. */
import { parsePrefix, prefixContains, type RuleCondition, type ValueTest } from "#kit";
import { Glob } from "./glob.ts";
import type { RequestFacts } from "./request-facts.ts";

/** One test with the name that `explain` gives it. */
export interface Test {
  readonly name: string;
  readonly holds: (facts: RequestFacts) => boolean;
}

/** All tests of a condition; all must hold. `url`: those that the URL alone decides. */
export interface CompiledCondition {
  readonly url: readonly Test[];
  readonly request: readonly Test[];
}

function valueHolds(test: Omit<ValueTest, "name">, value: string): boolean {
  return (
    (test.equals === undefined || value === test.equals) &&
    (test.prefix === undefined || value.startsWith(test.prefix)) &&
    (test.contains === undefined || value.includes(test.contains))
  );
}

type Named = NonNullable<RuleCondition["cookies"]>;

const oneHolds = (tests: Named, of: ReadonlyMap<string, readonly string[]>): boolean =>
  tests.some(({ name, equals }) => {
    const values = of.get(name);
    return values !== undefined && (equals === undefined || values.includes(equals));
  });

export function compileCondition(condition: RuleCondition): CompiledCondition {
  const { path, pathPrefix, pathGlob, extensions, hosts, methods, headers, cookies, query, devices } =
    condition;
  const url: Test[] = [];
  const request: Test[] = [];
  if (hosts !== undefined) {
    const names = new Set<string>(hosts);
    url.push({ name: "hosts", holds: (facts) => names.has(facts.host) });
  }
  if (path !== undefined) {
    const paths = new Set(path);
    url.push({ name: "path", holds: (facts) => paths.has(facts.path) });
  }
  if (pathPrefix !== undefined)
    url.push({ name: "pathPrefix", holds: (facts) => facts.path.startsWith(pathPrefix) });
  if (extensions !== undefined) {
    const known = new Set(extensions);
    url.push({ name: "extensions", holds: (facts) => known.has(facts.extension) });
  }
  if (pathGlob !== undefined) {
    const glob = new Glob(pathGlob);
    url.push({ name: "pathGlob", holds: (facts) => glob.matches(facts.path) });
  }
  if (query !== undefined) url.push({ name: "query", holds: (facts) => oneHolds(query, facts.query) });
  if (methods !== undefined) {
    const known = new Set(methods);
    request.push({ name: "methods", holds: (facts) => known.has(facts.method) });
  }
  if (headers !== undefined) {
    const tests = headers.map(({ name, ...test }) => ({ name: name.toLowerCase(), test }));
    request.push({
      name: "headers",
      holds: (facts) =>
        tests.some(({ name, test }) => {
          const value = facts.header(name);
          return value !== undefined && valueHolds(test, value);
        }),
    });
  }
  if (cookies !== undefined)
    request.push({ name: "cookies", holds: (facts) => oneHolds(cookies, facts.cookies) });
  if (devices !== undefined)
    request.push({ name: "devices", holds: (facts) => devices.includes(facts.device) });
  if (condition.referrers !== undefined) {
    const { hosts, orMissing } = condition.referrers;
    const names = new Set<string>(hosts.filter((host) => !host.startsWith("*")));
    const ends = hosts.filter((host) => host.startsWith("*")).map((host) => host.slice(1));
    request.push({
      name: "referrers",
      holds: ({ referrer }) =>
        referrer === undefined
          ? orMissing
          : names.has(referrer) || ends.some((end) => referrer.endsWith(end)),
    });
  }
  if (condition.countries !== undefined) {
    const known = new Set(condition.countries);
    request.push({ name: "countries", holds: (facts) => known.has(facts.country) });
  }
  if (condition.clientNetworks !== undefined) {
    const prefixes = condition.clientNetworks.flatMap((text) => parsePrefix(text) ?? []);
    request.push({
      name: "clientNetworks",
      holds: (facts) => {
        const { address } = facts;
        return address !== null && prefixes.some((prefix) => prefixContains(prefix, address));
      },
    });
  }
  return { url, request };
}

/** Whether all of a condition holds. */
export function conditionHolds({ url, request }: CompiledCondition, facts: RequestFacts): boolean {
  return url.every(({ holds }) => holds(facts)) && request.every(({ holds }) => holds(facts));
}
