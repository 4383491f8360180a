/**
 * A property: a customer's host names with the rules for them. Immutable and numbered by control; edges, name servers
 * and the portal read the same shape.
 */
import { type CustomerId, hostname, id, type PropertyId } from "../ids.ts";
import {
  array,
  boolean,
  defaulted,
  integer,
  nullable,
  number,
  object,
  oneOf,
  optional,
  type Parsed,
  refine,
  string,
} from "../schema.ts";
import { chainWithKey } from "./certificate.ts";
import { faultOfOrigins, originPolicy, type OriginTarget, originTarget } from "./origin.ts";
import { faultOfRule, globCharacters, rule, ttlSeconds } from "./rule.ts";

/** Traffic classes weigh the terms of the score differently: interactive by latency, bulk by throughput, live by both. */
export const trafficClasses = ["interactive", "bulk", "live"] as const;
export type TrafficClass = (typeof trafficClasses)[number];

const cachingFields = {
  /**
   * Freshness for answers that state none (RFC 9111 section 4.2: neither max-age, Expires nor heuristic). Null: such
   * answers are not stored as fresh.
   */
  defaultTtlSeconds: defaulted(nullable(ttlSeconds()), null),
  /** Freshness that replaces what the origin states; null: the origin decides. `no-store` and `private` still hold. */
  overrideTtlSeconds: defaulted(nullable(ttlSeconds()), null),
  /** RFC 5861 section 3, when the answer itself states none. */
  staleWhileRevalidateSeconds: defaulted(ttlSeconds(), 0),
  /** RFC 5861 section 4, when the answer itself states none. */
  staleIfErrorSeconds: defaulted(ttlSeconds(), 86_400),
  /**
   * Most freshness that is derived from Last-Modified for answers that state none: a tenth of their age then (RFC 9111 section
   * 4.2.2). 0: none is.
   */
  heuristicTtlSecondsMax: defaulted(ttlSeconds(), 0),
  /** Freshness of 404, 410 and of 5xx answers that state none. */
  negativeTtlSeconds: defaulted(ttlSeconds(), 0),
  /** The same for one status alone: 404, 410, and 5xx. Null: as `negativeTtlSeconds` has it. */
  notFoundTtlSeconds: defaulted(nullable(ttlSeconds()), null),
  goneTtlSeconds: defaulted(nullable(ttlSeconds()), null),
  serverErrorTtlSeconds: defaulted(nullable(ttlSeconds()), null),
  /**
   * Answers that set cookies, which are most often one user's own (RFC 9111 section 7.3): `if-shared` stores those that
   * speak to shared caches (public, s-maxage, a targeted field), `always` whatever is storable otherwise.
   */
  storeSetCookie: defaulted(oneOf(["if-shared", "always"]), "if-shared"),
  /** Which part of the query belongs to the cache key; `sorted` orders parameters so that order does not split the cache. */
  keyQuery: defaulted(oneOf(["all", "sorted", "none"]), "all"),
  /** Honour request directives (RFC 9111 section 5.2.1) such as `no-cache` from users. Off: users cannot drive load to origins. */
  honourRequestDirectives: defaulted(boolean(), false),
} as const;
const caching = object(cachingFields);
export type CachingPolicy = Parsed<typeof caching>;

/** Where a prefetch is learnt from: pages, style sheets, Link fields, playlists, manifests, players' own hints (CTA-5004). */
export const prefetchKinds = ["html", "css", "link", "hls", "dash", "cmcd"] as const;
export type PrefetchKind = (typeof prefetchKinds)[number];

const prefetch = object({
  /** Ask for what an answer names before the client does. */
  isEnabled: boolean(),
  objectsPerPageMax: defaulted(integer({ min: 1, max: 200 }), 50),
  kinds: defaulted(
    array(oneOf(prefetchKinds), { max: prefetchKinds.length, uniqueBy: (kind) => kind }),
    prefetchKinds,
  ),
  /** Segments of a stream behind the one that was asked for. 0: none. */
  segmentsAheadMax: defaulted(integer({ min: 0, max: 8 }), 2),
  /** What the prefetches of one server may bring, two seconds' worth at once; its workers share it in equal parts. */
  bytesPerSecondMax: defaulted(integer({ min: 1, max: 1_000_000_000, unit: "bytes per second" }), 16_000_000),
  /** 103 (RFC 8297) on a miss of a page that was seen before, to navigations over HTTP/2. */
  hasEarlyHints: defaulted(boolean(), false),
});
export type PrefetchPolicy = Parsed<typeof prefetch>;
/** What a property has that states nothing. */
export const NO_PREFETCH: PrefetchPolicy = prefetch.parse({ isEnabled: false });

/** A path, "*" for any characters: what URL patterns give no other meaning to. */
export const DICTIONARY_PATTERN = /^\/[A-Za-z0-9._~!$&',=@%/*-]*$/;

const compression = object({
  /** Send text in br, zstd or gzip to who takes it, whatever the origin does. Off: answers go out in the coding that they came in. */
  isEnabled: defaulted(boolean(), true),
  /**
   * Paths, "*" for any characters, whose contents browsers keep as dictionaries (RFC 9842): the next version of a script at such a path
   * travels as its difference. Beside what the origin marks itself by Use-As-Dictionary.
   */
  dictionaries: defaulted(
    array(
      string({
        max: 512,
        pattern: DICTIONARY_PATTERN,
        expected: 'a path that starts with /, with "*" for any characters, such as /app/*.js',
      }),
      { max: 32 },
    ),
    [],
  ),
});
export type CompressionPolicy = Parsed<typeof compression>;

/** A secret as documents hold it. */
const sealedKey = object({
  keyId: id(),
  /** `v1.` and base64url of nonce, ciphertext and tag (AES-256-GCM). Made by `isochrone token key`. */
  sealedSecret: string({
    max: 1_024,
    pattern: /^v1\.[A-Za-z0-9_-]{40,}$/,
    expected: 'a sealed secret as "isochrone token key" makes it, never a plain one',
  }),
});

const originAuth = refine(
  object({
    /** Requests are signed with the first that opens here; an origin that is to know a new one has it before it becomes the first. */
    keys: defaulted(array(sealedKey, { max: 4, uniqueBy: ({ keyId }) => keyId }), []),
    /** Shown to its origins in TLS handshakes. Another version's is shown from the next connection on. */
    clientCertificate: optional(object(chainWithKey)),
  }),
  ({ keys, clientCertificate }) =>
    keys.length === 0 && clientCertificate === undefined
      ? { at: ["keys"], value: [], expected: "one key at least, or a clientCertificate" }
      : undefined,
);
export type OriginAuth = Parsed<typeof originAuth>;

const access = object({
  /** Query parameter or cookie that tokens come in. Neither is part of the cache key, and no origin gets to see it. */
  parameter: defaulted(
    string({ max: 64, pattern: /^[A-Za-z0-9_-]+$/, expected: "letters, digits, - and _" }),
    "isochrone-token",
  ),
  /** A token names the key that it is signed with: the next key is added before the last one is taken out. */
  keys: array(sealedKey, { min: 1, max: 16, uniqueBy: ({ keyId }) => keyId }),
});
export type AccessPolicy = Parsed<typeof access>;

const beacon = object({
  /** Share of the pages that are asked to time servers; 0: none. */
  sampleRatio: number({ min: 0, max: 1 }),
  /**
   * Below it each edge cluster has a name of its own, `CLUSTER.probeDomain`, which name servers of ours answer with the cluster's addresses: what
   * pages under https time, by a certificate for `*.probeDomain` (mixed content is blocked, and addresses have no certificate). It lies below
   * one of the property's host names, so that nobody has names in another one's domain. Absent: pages under https time nothing.
   */
  probeDomain: optional(hostname()),
});

/** Against the longest path that is taken (8,192 characters) these cost about ten milliseconds. */
const GLOB_CHARACTERS_MAX = 8_192;

const httpsRecord = object({
  /** Protocols over TLS, most wanted first. */
  alpn: defaulted(array(oneOf(["h3", "h2", "http/1.1"]), { min: 1, max: 3, uniqueBy: (name) => name }), [
    "h2",
    "http/1.1",
  ]),
  /** Where the servers speak TLS. */
  port: defaulted(integer({ min: 1, max: 65_535 }), 443),
});

export const propertyDocument = refine(
  object({
    propertyId: id<PropertyId>(),
    customerId: id<CustomerId>(),
    hostnames: array(hostname(), { min: 1, max: 100, uniqueBy: (name) => name }),
    /** In order of preference where none states a `priority`: the next is asked when one cannot be. */
    origins: array(originTarget, { min: 1, max: 8 }),
    /** How its servers are chosen among, watched and spared. Absent: the defaults of `originPolicy`. */
    originPolicy: optional(originPolicy),
    /** How its origins know that this CDN asks: a signature of each request, a client certificate, or both. Absent: not at all. */
    originAuth: optional(originAuth),
    trafficClass: defaulted(oneOf(trafficClasses), "interactive"),
    /** `parent`: edges ask a parent cluster that the map names. `direct`: edges ask the origin. */
    tiering: defaulted(oneOf(["parent", "direct"]), "parent"),
    caching: defaulted(caching, caching.parse({})),
    rules: defaulted(array(rule, { max: 200 }), []),
    prefetch: defaulted(prefetch, NO_PREFETCH),
    compression: defaulted(compression, compression.parse({})),
    /** Tokens that rules may require. */
    access: optional(access),
    /**
     * Real-user timings: servers answer /.isochrone/beacon on its host names, and a page that includes the script of edge/README.md
     * times a few of them. Absent: the path is the origin's, like any other.
     */
    beacon: optional(beacon),
    /**
     * Requests that each server may have on their way to its origins or other servers at once, those that wait for a place included;
     * what comes beyond is answered stale or by 503 (reason `property-limit`). Null: the server's own bound for a property alone.
     */
    forwardsMax: defaulted(nullable(integer({ min: 1, max: 100_000 })), null),
    /**
     * What its HTTPS records say (RFC 9460), beside addresses by the map. Absent: there is none. A browser that sees one speaks TLS at once,
     * whatever the page's address says (section 9.5), so only a property whose host names have certificates may have one.
     */
    httpsRecord: optional(httpsRecord),
    /** TTL of address answers. */
    dnsTtlSeconds: defaulted(integer({ min: 1, max: 3_600, unit: "seconds" }), 20),
    /** False withdraws the property: edges answer 421 for its host names, name servers REFUSED or NODATA. */
    isActive: defaulted(boolean(), true),
  }),
  (property) => {
    const domain = property.beacon?.probeDomain;
    const isBelow = (host: string): boolean => domain?.endsWith(`.${host}`) === true;
    if (domain !== undefined && !property.hostnames.some(isBelow))
      return {
        at: ["beacon", "probeDomain"],
        value: domain,
        expected: `a name below one of the property's host names, such as "t.${property.hostnames[0]}"`,
      };
    const wrong = faultOfOrigins(property.origins);
    if (wrong !== undefined) return { ...wrong, at: ["origins", ...wrong.at] };
    let globs = 0;
    for (const [index, one] of property.rules.entries()) {
      globs += globCharacters(one);
      if (globs > GLOB_CHARACTERS_MAX)
        return {
          at: ["rules", index, "match"],
          value: `${globs} characters of pathGlob in all rules so far`,
          expected: `at most ${GLOB_CHARACTERS_MAX}, since each request may be compared with all of them`,
        };
      const fault = faultOfRule(one);
      if (fault !== undefined) return { ...fault, at: ["rules", index, ...fault.at] };
      if (one.requireToken === true && property.access === undefined)
        return {
          at: ["rules", index, "requireToken"],
          value: true,
          expected: "a property with access.keys that tokens are signed with",
        };
    }
    return undefined;
  },
);
export type PropertyDocument = Parsed<typeof propertyDocument>;

/** Servers that stand in for each other: a property's own, or those of one of its rules. */
export type OriginSet = {
  /** `shop`, and `shop rule 3` for its rule at index 3: the same at every server. */
  readonly name: string;
  readonly origins: readonly OriginTarget[];
};

/** A property's own origins first, then those of its rules, in their order. */
export function originSetsOf(
  property: Pick<PropertyDocument, "propertyId" | "origins" | "rules">,
): readonly OriginSet[] {
  const { propertyId, origins, rules } = property;
  return [
    { name: propertyId, origins },
    ...rules.flatMap((one, index) =>
      one.origins === undefined ? [] : [{ name: `${propertyId} rule ${index}`, origins: one.origins }],
    ),
  ];
}

/** Every origin that a property may ask, its own first, then those of its rules. */
export function originsOf(property: Pick<PropertyDocument, "origins" | "rules">): readonly OriginTarget[] {
  return [...property.origins, ...property.rules.flatMap(({ origins }) => origins ?? [])];
}
