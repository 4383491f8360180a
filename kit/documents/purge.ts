/** A purge (by an operator or customer, against `invalidate`, which an unsafe method does): what to forget, everywhere. */
import { type CustomerId, id, type PropertyId, type ServerId } from "../ids.ts";
import {
  array,
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

export const purgeRequest = refine(
  object({
    customerId: optional(id<CustomerId>()),
    propertyId: id<PropertyId>(),
    /** Absolute URLs of the property, every variant of each. */
    urls: defaulted(
      array(string({ max: 8_192, pattern: /^https?:\/\//, expected: "an absolute http or https URL" }), {
        max: 1_000,
      }),
      [],
    ),
    tags: defaulted(array(tag(), { max: 256 }), []),
    /** `soft` makes stale (may be served while revalidated), `hard` removes. */
    mode: defaulted(oneOf(["soft", "hard"]), "hard"),
  }),
  (request) =>
    request.urls.length + request.tags.length === 0
      ? { at: [], value: request, expected: "at least one URL or one tag" }
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
