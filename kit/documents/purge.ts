/** A purge (by an operator or customer, against `invalidate`, which an unsafe method does): what to forget, everywhere. */
import { type CustomerId, hostname, id, type PropertyId, type ServerId } from "../ids.ts";
import {
  array,
  boolean,
  defaulted,
  integer,
  object,
  oneOf,
  optional,
  type Parsed,
  refine,
  string,
} from "../schema.ts";

/** Printable ASCII without space: what a Surrogate-Key or Cache-Tag member may hold. */
export const tag = () =>
  string({ max: 256, pattern: /^[!-~]+$/, expected: "a tag of printable characters without spaces" });

const absoluteUrl = () =>
  string({ max: 8_192, pattern: /^https?:\/\//, expected: "an absolute http or https URL" });

/** Segments of a prefix's path: a response is compared with this many beginnings of its own path. */
export const PURGE_PREFIX_SEGMENTS_MAX = 32;

/** `http://host/a/b` without query: means itself and everything below `/a/b/`, and `/a/b/` only what is below. */
const urlPrefix = () =>
  refine(
    string({
      max: 2_048,
      pattern: /^https?:\/\/[^/?#]+(?:\/[^?#]*)?$/,
      expected: "an absolute http or https URL without query",
    }),
    (prefix) =>
      prefix.split("/").length - 3 > PURGE_PREFIX_SEGMENTS_MAX
        ? { at: [], value: prefix, expected: `a path of at most ${PURGE_PREFIX_SEGMENTS_MAX} segments` }
        : undefined,
  );

export const purgeRequest = refine(
  object({
    customerId: optional(id<CustomerId>()),
    propertyId: id<PropertyId>(),
    /** Absolute URLs of the property, every variant of each. */
    urls: defaulted(array(absoluteUrl(), { max: 1_000 }), []),
    tags: defaulted(array(tag(), { max: 256 }), []),
    /** Everything at and below these, whatever scheme and query. */
    prefixes: optional(array(urlPrefix(), { max: 256 })),
    /** Everything of these host names of the property. */
    hosts: optional(array(hostname(), { max: 100 })),
    /** Everything of the property. */
    isWholeProperty: optional(boolean()),
    /** `soft` makes stale (may be served while revalidated), `hard` removes. */
    mode: defaulted(oneOf(["soft", "hard"]), "hard"),
  }),
  ({ urls, tags, prefixes = [], hosts = [], isWholeProperty = false, ...request }) =>
    [urls, tags, prefixes, hosts].every((list) => list.length === 0) && !isWholeProperty
      ? { at: [], value: request, expected: "at least one URL, tag, prefix or host, or isWholeProperty" }
      : undefined,
);
export type PurgeRequest = Parsed<typeof purgeRequest>;

/** A purge as control numbered it. Servers apply them in order of `purgeSeq` and acknowledge each one. */
export const purgeEntry = object({
  purgeSeq: integer({ min: 1 }),
  atEpochMs: integer(),
  request: purgeRequest,
});
export type PurgeEntry = Parsed<typeof purgeEntry>;

export const purgeAck = object({
  purgeSeq: integer({ min: 1 }),
  serverId: id<ServerId>(),
  removed: integer(),
});
export type PurgeAck = Parsed<typeof purgeAck>;
