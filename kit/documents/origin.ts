/** Where a property's content comes from, and how its servers are chosen among and watched. */
import { hostname } from "../ids.ts";
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

/** To origins; between servers of ours it is HTTP/1.1. */
export const originProtocols = ["http/1.1", "http/2"] as const;
export type OriginProtocol = (typeof originProtocols)[number];

export const originTarget = object({
  scheme: oneOf(["http", "https"]),
  /** Host name or address to connect to. */
  host: hostname(),
  port: integer({ min: 1, max: 65_535 }),
  /** Host header and TLS server name to send; the property's requested host name when absent. */
  hostHeader: optional(hostname()),
  /** What is spoken to it, never tried out: an origin that does not take it is not asked. `http/2` goes with `https`. Absent: `http/1.1`. */
  protocol: optional(oneOf(originProtocols)),
  /** Servers of the lowest number are asked as long as one of them can be. Absent on all: the order in which they stand. */
  priority: optional(integer({ min: 0, max: 100 })),
  /** Share among the servers of one priority, relative. 0: drained, asked for nothing new. Absent: 1. */
  weight: optional(integer({ min: 0, max: 1_000 })),
  /** Connections of one edge or parent to it over one path. Absent: transport's own bound. */
  connectionsMax: optional(integer({ min: 1, max: 10_000 })),
  /** Requests of one edge or parent that are under way at it; more go to another server. Absent: as many as come. */
  requestsMax: optional(integer({ min: 1, max: 100_000 })),
});
export type OriginTarget = Parsed<typeof originTarget>;

const seconds = (min: number, max: number) => number({ min, max, unit: "seconds" });

const healthCheck = refine(
  object({
    /** `http`: a request over the path that content would take, judged by its status. `tcp`: a connection is enough. */
    kind: defaulted(oneOf(["http", "tcp"]), "http"),
    method: defaulted(oneOf(["GET", "HEAD"]), "GET"),
    path: defaulted(
      string({
        max: 1_024,
        pattern: /^\/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*$/,
        expected: 'a path that starts with /, such as "/health"',
      }),
      "/",
    ),
    /** Absent: the server's `hostHeader`, else its own name. */
    hostHeader: optional(hostname()),
    /** Statuses that count as well, both included. */
    statusMin: defaulted(integer({ min: 100, max: 599 }), 200),
    statusMax: defaulted(integer({ min: 100, max: 599 }), 399),
    /** Between two checks of one server, varied by `jitterRatio` of it, so that checks of many edges do not come at once. */
    intervalSeconds: defaulted(seconds(1, 300), 10),
    jitterRatio: defaulted(number({ min: 0, max: 0.5 }), 0.2),
    timeoutSeconds: defaulted(seconds(0.1, 60), 3),
    /** Checks in a row until it is down, and until it is up again. */
    downThreshold: defaulted(integer({ min: 1, max: 10 }), 3),
    okThreshold: defaulted(integer({ min: 1, max: 10 }), 2),
  }),
  ({ statusMin, statusMax }) =>
    statusMin > statusMax
      ? { at: ["statusMax"], value: statusMax, expected: `at least statusMin (${statusMin})` }
      : undefined,
);
export type OriginHealthCheck = Parsed<typeof healthCheck>;

const outlierDetection = object({
  isEnabled: defaulted(boolean(), true),
  /** Failed requests in a row after which a server is ejected. Answers of 5xx count only where other servers do better. */
  consecutiveErrors: defaulted(integer({ min: 1, max: 1_000 }), 5),
  /** Or this share of failures among at least `requestsMin` requests of the last `windowSeconds`, twice that of the others. */
  errorRatio: defaulted(number({ min: 0.01, max: 1 }), 0.5),
  requestsMin: defaulted(integer({ min: 1, max: 100_000 }), 20),
  windowSeconds: defaulted(seconds(1, 300), 10),
  /** First ejection; each further one takes twice as long as the last. */
  ejectionSeconds: defaulted(seconds(1, 3_600), 10),
  ejectionSecondsMax: defaulted(seconds(1, 86_400), 300),
  /** Share of the servers that may be ejected at once: one at least, and never the last that can be asked. */
  ejectedRatioMax: defaulted(number({ min: 0, max: 1 }), 0.5),
});

const breaker = object({
  /** Requests in a row that a server left without an answer, after which it is not asked any more for a while. */
  failures: defaulted(integer({ min: 1, max: 1_000 }), 10),
  /** First pause; each further one is twice as long, until a request succeeds. */
  openSeconds: defaulted(seconds(0.1, 600), 1),
  openSecondsMax: defaulted(seconds(0.1, 3_600), 10),
  /** Requests that may try it at once after a pause, and successes until it is asked as before. */
  halfOpenRequestsMax: defaulted(integer({ min: 1, max: 100 }), 1),
  halfOpenSuccesses: defaulted(integer({ min: 1, max: 100 }), 2),
});

export const originPolicy = refine(
  object({
    /** Null: servers are judged by the requests alone. */
    healthCheck: defaulted(nullable(healthCheck), null),
    outlierDetection: defaulted(outlierDetection, outlierDetection.parse({})),
    /** Null: there is none. */
    breaker: defaulted(nullable(breaker), breaker.parse({})),
    /** A server that comes back begins with a tenth of its share, and has all of it after this. 0: at once. */
    slowStartSeconds: defaulted(seconds(0, 3_600), 30),
    /**
     * Statuses after which a request with a safe method and no content is asked of another of the servers, once and within the budget of
     * repeats. Empty: none is. The default are those that a gateway in front of the application says.
     */
    repeatedStatuses: defaulted(
      array(integer({ min: 500, max: 599 }), { max: 16, uniqueBy: (status) => String(status) }),
      [502, 503, 504],
    ),
    /** Requests of one edge or parent under way at all the servers together. Null: as many as come. */
    requestsMax: defaulted(nullable(integer({ min: 1, max: 100_000 })), null),
  }),
  ({ outlierDetection: outlier, breaker: cut }) => {
    if (outlier.ejectionSecondsMax < outlier.ejectionSeconds)
      return {
        at: ["outlierDetection", "ejectionSecondsMax"],
        value: outlier.ejectionSecondsMax,
        expected: `at least ejectionSeconds (${outlier.ejectionSeconds})`,
      };
    if (cut !== null && cut.openSecondsMax < cut.openSeconds)
      return {
        at: ["breaker", "openSecondsMax"],
        value: cut.openSecondsMax,
        expected: `at least openSeconds (${cut.openSeconds})`,
      };
    return undefined;
  },
);
export type OriginPolicy = Parsed<typeof originPolicy>;
/** What a property has that states nothing. */
export const ORIGIN_POLICY: OriginPolicy = originPolicy.parse({});

/** What is wrong with a list of origins as a whole; undefined: nothing. */
export function faultOfOrigins(
  origins: readonly OriginTarget[],
):
  | { readonly at: readonly (string | number)[]; readonly value: unknown; readonly expected: string }
  | undefined {
  const without = origins.findIndex(({ priority }) => priority === undefined);
  if (without !== -1 && origins.some(({ priority }) => priority !== undefined))
    return {
      at: [without, "priority"],
      value: undefined,
      expected: "a priority, since other origins of the list state one",
    };
  const clear = origins.findIndex(({ scheme, protocol }) => scheme === "http" && protocol === "http/2");
  if (clear !== -1)
    return {
      at: [clear, "protocol"],
      value: "http/2",
      expected: 'scheme "https" with it (or "http/1.1"), since HTTP/2 is agreed upon in the TLS handshake',
    };
  if (origins.every(({ weight }) => weight === 0))
    return { at: [0, "weight"], value: 0, expected: "at least one origin of the list with a weight above 0" };
  return undefined;
}
