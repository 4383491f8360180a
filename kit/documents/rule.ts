/**
 * A property's rules: conditions on a request, and what is done with those that meet them. Data alone: the edge compiles them
 * (edge/core/rules/), so that a rule of a customer can cost no more than its length.
 */
import { hostname, hostnameOrBelow } from "../ids.ts";
import { formatPrefix, type IpPrefix, parsePrefix } from "../ip.ts";
import {
  array,
  boolean,
  defaulted,
  either,
  integer,
  nullable,
  object,
  oneOf,
  optional,
  type Parsed,
  type Path,
  string,
  text,
} from "../schema.ts";
import { faultOfOrigins, originTarget } from "./origin.ts";

/** Longest freshness and stale window: a year. */
export const ttlSeconds = () => integer({ max: 31_536_000, unit: "seconds" });

/** Kinds of device, read from User-Agent. */
export const deviceClasses = ["mobile", "tablet", "desktop", "bot"] as const;
export type DeviceClass = (typeof deviceClasses)[number];

const VALUES_MAX = 64;
const path = () =>
  string({ max: 512, pattern: /^\/[!-~]*$/, expected: "a path that starts with /, in visible ASCII" });
const visible = (max: number) =>
  string({ max, pattern: /^[ -~]+$/, expected: `1 to ${max} visible ASCII characters` });
const token = (expected: string) => string({ max: 64, pattern: /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, expected });
const strings = (item: ReturnType<typeof string>) => array(item, { min: 1, max: VALUES_MAX });

/** Without any of the value tests: that it is there at all. Values compare with case, a field's lines joined by ", ". */
const valueTest = {
  equals: optional(visible(512)),
  prefix: optional(visible(512)),
  contains: optional(visible(512)),
};
const headerTest = object({ name: token("a field name"), ...valueTest });
const namedTest = object({ name: visible(128), equals: optional(visible(512)) });

/** Every stated field must hold; of a list one element, of `headers`, `cookies` and `query` each. */
const conditionFields = {
  path: optional(strings(path())),
  pathPrefix: optional(path()),
  /** `*` within a segment, `**` across segments. */
  pathGlob: optional(path()),
  /** File extensions without dot, lower case. */
  extensions: optional(
    array(string({ max: 16, pattern: /^[a-z0-9]+$/, expected: "an extension without dot" }), {
      min: 1,
      max: VALUES_MAX,
    }),
  ),
  hosts: optional(array(hostname(), { min: 1, max: VALUES_MAX })),
  methods: optional(
    strings(string({ max: 16, pattern: /^[A-Z]+$/, expected: "a method in capital letters" })),
  ),
  headers: optional(array(headerTest, { min: 1, max: 16 })),
  cookies: optional(array(namedTest, { min: 1, max: 16 })),
  /** Parameters as they are sent, not decoded. */
  query: optional(array(namedTest, { min: 1, max: 16 })),
  devices: optional(array(oneOf(deviceClasses), { min: 1, max: 4, uniqueBy: (name) => name })),
  /** By the host of Referer (RFC 9110, section 10.1.3), without port. */
  referrers: optional(
    object({
      hosts: array(hostnameOrBelow(), { min: 1, max: VALUES_MAX }),
      /** Whether a request without Referer meets it too: many browsers and people send none. */
      orMissing: defaulted(boolean(), false),
    }),
  ),
  /** ISO 3166-1; ZZ for clients of whom the edge's table (`--countries`) tells none. */
  countries: optional(
    array(string({ min: 2, max: 2, pattern: /^[A-Z]{2}$/, expected: "two capital letters" }), {
      min: 1,
      max: 300,
      uniqueBy: (country) => country,
    }),
  ),
  clientNetworks: optional(
    array(text<string>(canonicalPrefix, "an address block such as 192.0.2.0/24", 64), { min: 1, max: 256 }),
  ),
};

function canonicalPrefix(value: string): string | undefined {
  const prefix: IpPrefix | undefined = parsePrefix(value);
  return prefix && formatPrefix(prefix);
}
const condition = object(conditionFields);
export type RuleCondition = Parsed<typeof condition>;
export type ValueTest = Parsed<typeof headerTest>;

/** Beside its own fields: one of `any`, and none of `not`. One level: what needs more is two rules. */
const match = object({
  ...conditionFields,
  any: optional(array(condition, { min: 1, max: 16 })),
  not: optional(array(condition, { min: 1, max: 16 })),
});
export type RuleMatch = Parsed<typeof match>;

const names = (item: ReturnType<typeof string>) =>
  array(item, { min: 1, max: 32, uniqueBy: (name) => name.toLowerCase() });

const queryKey = either(
  oneOf(["all", "sorted", "none"]),
  either(
    object({ keep: names(visible(128)) }),
    object({ drop: names(visible(128)) }),
    "{ keep: [...] } or { drop: [...] }",
  ),
  '"all", "sorted", "none", { keep: [...] } or { drop: [...] }',
);
export type QueryKey = Parsed<typeof queryKey>;

const key = object({
  /** Kept parameters are sorted by name. */
  query: optional(queryKey),
  headers: optional(names(token("a field name"))),
  cookies: optional(names(visible(128))),
  device: optional(boolean()),
});
export type RuleKey = Parsed<typeof key>;

const fieldEdits = object({
  set: optional(
    array(object({ name: token("a field name"), value: visible(1_024) }), {
      min: 1,
      max: 32,
      uniqueBy: ({ name }) => name.toLowerCase(),
    }),
  ),
  remove: optional(names(token("a field name"))),
});
export type FieldEdits = Parsed<typeof fieldEdits>;

const redirect = object({
  status: optional(
    either(
      integer({ min: 301, max: 302 }),
      integer({ min: 307, max: 308 }),
      "the status 301, 302, 307 or 308",
    ),
  ),
  /** `{scheme}`, `{host}`, `{path}` and `{query}` (with its "?") stand for the request's. */
  location: string({
    max: 1_024,
    pattern: /^(?:https?:\/\/|\{scheme\}:\/\/|\/(?!\/)|\{path\})[!-~]*$/,
    expected: "an http or https URL, or a path",
  }),
});

/** First rule whose match holds wins, key by key; what no rule sets is taken from the property. */
export const rule = object({
  match,
  /** Never store and never answer from the cache. */
  bypass: optional(boolean()),
  overrideTtlSeconds: optional(nullable(ttlSeconds())),
  defaultTtlSeconds: optional(nullable(ttlSeconds())),
  negativeTtlSeconds: optional(ttlSeconds()),
  notFoundTtlSeconds: optional(nullable(ttlSeconds())),
  goneTtlSeconds: optional(nullable(ttlSeconds())),
  serverErrorTtlSeconds: optional(nullable(ttlSeconds())),
  staleWhileRevalidateSeconds: optional(ttlSeconds()),
  staleIfErrorSeconds: optional(ttlSeconds()),
  /** Replaces the property's choice of key parts. */
  key: optional(key),
  /** Instead of the property's origins, chosen among as those are. */
  origins: optional(array(originTarget, { min: 1, max: 4 })),
  /** What the origin is asked for: a path that begins with `prefix` begins with `replacement` instead. */
  rewrite: optional(object({ prefix: path(), replacement: path() })),
  /** Of the request, towards the origin. */
  requestHeaders: optional(fieldEdits),
  /** Of the answer, towards the client. */
  responseHeaders: optional(fieldEdits),
  /** In place of the property's `compression.isEnabled` and `prefetch.isEnabled`. */
  compression: optional(boolean()),
  /** False also keeps what the rule is for from being asked for beforehand. */
  prefetch: optional(boolean()),
  redirect: optional(redirect),
  /** 403. Before everything else. */
  deny: optional(boolean()),
  /** 403 to who comes without a valid token of the property's `access` (edge/core/access/token.ts). False exempts. */
  requireToken: optional(boolean()),
});
export type Rule = Parsed<typeof rule>;

interface Fault {
  readonly at: Path;
  readonly value: unknown;
  readonly expected: string;
}

/** Fields that name the connection, its framing, this cache, or that no longer are what the client sent at the next server. */
const NOT_OF_RULES =
  /^(?:connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|http2-settings|content-length|host|via|cdn-loop|expect|forwarded|x-forwarded-.*|x-original-(?:url|host)|x-rewrite-url|x-host|x-http-host-override|proxy|x-url-scheme|front-end-https|x-http-method(?:-override)?|x-method-override|x-real-ip|x-client-ip|x-cluster-client-ip|true-client-ip|client-ip|max-forwards|surrogate-.*|isochrone-.*|range|if-.*|x-request-id)$/;
/** What an answer says of its content and of the caches it passed. */
const NOT_OF_ANSWERS =
  /^(?:date|age|cache-status|alt-svc|content-(?:encoding|range|type)|etag|last-modified|vary)$/;

const isForRules = (name: string): boolean => !NOT_OF_RULES.test(name.toLowerCase().replaceAll("_", "-"));
const isForAnswers = (name: string): boolean =>
  isForRules(name) && !NOT_OF_ANSWERS.test(name.toLowerCase().replaceAll("_", "-"));

const conditionsOf = (one: RuleMatch): readonly RuleCondition[] => [
  one,
  ...(one.any ?? []),
  ...(one.not ?? []),
];

/** Characters of its globs: what they cost a request is these times those of the path. */
export function globCharacters(one: Rule): number {
  return conditionsOf(one.match).reduce((sum, { pathGlob = "" }) => sum + pathGlob.length, 0);
}

/** Whether a rule changes what is stored or what the origin is asked for. */
export function changesContent(one: Rule): boolean {
  return (
    one.overrideTtlSeconds !== undefined ||
    one.defaultTtlSeconds !== undefined ||
    one.negativeTtlSeconds !== undefined ||
    one.notFoundTtlSeconds !== undefined ||
    one.goneTtlSeconds !== undefined ||
    one.serverErrorTtlSeconds !== undefined ||
    one.staleWhileRevalidateSeconds !== undefined ||
    one.staleIfErrorSeconds !== undefined ||
    one.compression !== undefined ||
    one.key !== undefined ||
    one.origins !== undefined ||
    one.rewrite !== undefined ||
    one.requestHeaders !== undefined
  );
}

/** Whether a rule asks for more than the URL. */
export function readsRequest(one: RuleMatch): boolean {
  return conditionsOf(one).some(
    ({ methods, headers, cookies, devices, referrers, countries, clientNetworks }) =>
      (methods ?? headers ?? cookies ?? devices ?? referrers ?? countries ?? clientNetworks) !== undefined,
  );
}

/** Whether it asks for what other servers of ours, which the request goes through, see differently. */
function readsClient(one: RuleMatch): boolean {
  return conditionsOf(one).some(
    ({ methods, countries, clientNetworks }) => (methods ?? countries ?? clientNetworks) !== undefined,
  );
}

/** What is wrong with a rule beyond its shape; undefined: nothing. */
export function faultOfRule(one: Rule): Fault | undefined {
  for (const [at, each] of [
    [["match"], one.match] as const,
    ...(one.match.any ?? []).map((each, index) => [["match", "any", index], each] as const),
    ...(one.match.not ?? []).map((each, index) => [["match", "not", index], each] as const),
  ]) {
    // All servers that a request passes must judge alike.
    for (const [index, { name }] of (each.headers ?? []).entries())
      if (!isForRules(name))
        return {
          at: [...at, "headers", index, "name"],
          value: name,
          expected: "a field that reaches every server",
        };
    if (Object.keys(each).length === 0)
      return { at, value: each, expected: "a condition, such as pathPrefix or extensions" };
  }
  const wrong = one.origins && faultOfOrigins(one.origins);
  if (wrong !== undefined) return { ...wrong, at: ["origins", ...wrong.at] };
  if (readsClient(one.match) && changesContent(one))
    return {
      at: ["match"],
      value: one.match,
      expected:
        "no methods, countries or clientNetworks in a rule that changes what is stored or asked of the origin: these are no part of the cache key",
    };
  if (one.key !== undefined && readsRequest(one.match))
    return {
      at: ["key"],
      value: one.key,
      expected: "a rule for key parts whose match rests on the URL alone, so that a purge finds the key",
    };
  for (const [index, name] of (one.key?.headers ?? []).entries())
    if (!isForRules(name))
      return {
        at: ["key", "headers", index],
        value: name,
        expected: "a field that reaches every server",
      };
  for (const [edits, isAllowed] of [
    ["requestHeaders", isForRules],
    ["responseHeaders", isForAnswers],
  ] as const)
    for (const list of ["set", "remove"] as const)
      for (const [index, each] of (one[edits]?.[list] ?? []).entries()) {
        const name = typeof each === "string" ? each : each.name;
        if (!isAllowed(name))
          return {
            at: [edits, list, index],
            value: name,
            expected: "a field that is not of the connection, its framing or this cache",
          };
      }
  return undefined;
}
