/**
 * What a server tells control about itself, about once a second: load, traffic, measured links, and which documents it has
 * applied. Ephemeral: the newest one a server replaces the one before; nothing depends on each arriving.
 */
import { type ClusterId, hostname, id, type PropertyId, type ServerId } from "../ids.ts";
import {
  array,
  integer,
  nullable,
  number,
  object,
  oneOf,
  optional,
  type Parsed,
  record,
  string,
} from "../schema.ts";
import { roles } from "./topology.ts";

const count = () => number({ min: 0, max: 1e15 });

/** A measured ordered pair: this server's cluster to another, directly or through one relay. */
const linkReport = object({
  toClusterId: id<ClusterId>(),
  via: nullable(id<ClusterId>()),
  srttMs: number({ min: 0, max: 60_000, unit: "ms" }),
  rttvarMs: number({ min: 0, max: 60_000, unit: "ms" }),
  lossRatio: number({ min: 0, max: 1 }),
  samples: count(),
});
export type LinkReport = Parsed<typeof linkReport>;

/** Characters of an address in text, of a prefix with its length. */
const ADDRESS_CHARACTERS_MAX = 45;
const PREFIX_CHARACTERS_MAX = 49;

/** What a user's browser timed; see edge/core/beacon.ts. */
const serverTiming = object({
  /** The client's network: its address with 24 bits of IPv4 or 48 of IPv6, the rest zero. */
  from: string({ max: ADDRESS_CHARACTERS_MAX }),
  /** Of a server of the cluster that was timed. */
  to: string({ max: ADDRESS_CHARACTERS_MAX }),
  method: oneOf(["tcp", "http"]),
  rttMs: number({ min: 0, max: 60_000, unit: "ms" }),
});
export type ServerTiming = Parsed<typeof serverTiming>;

/** Which name it was, of those that are asked for once; see kit/one-time-name.ts. */
const oneTimeId = () => string({ max: 20, pattern: /^[0-9a-f]{20}$/, expected: "20 hexadecimal digits" });

/** A name server was asked for a name that a page was given. */
const nameAsked = object({
  id: oneTimeId(),
  /** Who asked, and has shown that it is there. */
  resolver: string({ max: ADDRESS_CHARACTERS_MAX }),
  /** For whom, where the resolver says so (RFC 7871); absent: it does not. */
  clientSubnet: optional(string({ max: PREFIX_CHARACTERS_MAX })),
});
export type NameAsked = Parsed<typeof nameAsked>;

/** An edge was asked for something under such a name. */
const nameUsed = object({
  id: oneTimeId(),
  /** The client's network, as in timings. */
  client: string({ max: ADDRESS_CHARACTERS_MAX }),
});
export type NameUsed = Parsed<typeof nameUsed>;

/** Counters of one property since the process started; the reader takes differences. */
const propertyCounters = object({
  requests: count(),
  hits: count(),
  bytesDown: count(),
  bytesUp: count(),
  errors5xx: count(),
});
export type PropertyCounters = Parsed<typeof propertyCounters>;

/** What an agent of policies' tests holds of a target; `unknown`: not tested yet, or not allowed to be. */
const targetOpinion = object({
  state: oneOf(["up", "down", "unknown"]),
  sinceEpochMs: integer(),
  load: optional(number({ min: 0, max: 1e15 })),
});
export type TargetOpinion = Parsed<typeof targetOpinion>;
/** By policy that the agent tests, and target; a target that is not named is up. */
export type PolicyOpinions = Readonly<Record<string, Readonly<Record<string, TargetOpinion>>>>;

/** What a parent was seen to have. */
const dsSeen = object({
  keyIds: array(string({ max: 63 }), { max: 2 }),
  atEpochMs: integer(),
});

/** A secondary zone at one name server. */
const secondaryZone = object({
  /** `waiting` (never fetched) and `expired`: SERVFAIL; `unconfirmed`: served, but no primary answered of late. */
  state: oneOf(["waiting", "current", "unconfirmed", "expired"]),
  serial: optional(integer({ max: 0xffff_ffff })),
  /** When a primary last said that it is right. */
  confirmedAtEpochMs: optional(integer()),
  /** Of the primary that was asked last, if it did not help. */
  problem: optional(string({ max: 200 })),
});

/** A server of an origin that is not asked now, as the reporting server sees it; reasons as in transport/core/origin-words.ts. */
const barredOrigin = object({
  origin: string({ max: 200 }),
  server: string({ max: 300 }),
  reason: string({ max: 40, pattern: /^[a-z-]+$/, expected: "a reason" }),
});
export type BarredOrigin = Parsed<typeof barredOrigin>;
export const BARRED_ORIGINS_MAX = 200;

/** How a server stands with the certificate by which others of ours know it. */
export const certificateStates = ["valid", "late", "early", "expired", "none"] as const;
const certificateHeld = object({
  /** `late`: it should have been renewed long ago; `early`: by the server's clock it is not good yet. */
  state: oneOf(certificateStates),
  notAfterEpochMs: optional(integer()),
  /** Why the newest request for one failed. */
  problem: optional(string({ max: 200 })),
});

export const serverReport = object({
  serverId: id<ServerId>(),
  clusterId: id<ClusterId>(),
  role: oneOf(roles),
  /** Changes at each start, so that a reader of counters sees the reset. */
  incarnation: string({ max: 64 }),
  atEpochMs: integer(),
  state: oneOf(["starting", "ready", "draining"]),
  requestsPerSecond: number({ min: 0, max: 1e9 }),
  activeRequests: count(),
  cacheBytes: count(),
  cacheObjects: count(),
  properties: record(id<PropertyId>(), propertyCounters, { max: 10_000 }),
  links: array(linkReport, { max: 10_000 }),
  /** Timings of users that came since the report before; the mapper bounds what one network can say. Absent: none. */
  timings: optional(array(serverTiming, { max: 400 })),
  /** Of a name server, and of an edge, since the report before: put together they tell who asks through which resolver. Absent: none. */
  namesAsked: optional(array(nameAsked, { max: 400 })),
  namesUsed: optional(array(nameUsed, { max: 400 })),
  /** Of a name server: queries that a fault of ours ended, and workers that one did, since its start. Absent: of an older version. */
  internalErrors: optional(count()),
  /** Of a server that takes documents late on purpose. Absent: it does not. */
  inputDelaySeconds: optional(number({ min: 0, max: 1e9, unit: "seconds" })),
  /** By policy that the server tests, and target. Absent: it tests none. */
  opinions: optional(record(id(), record(id(), targetOpinion, { max: 64 }), { max: 10_000 })),
  /**
   * Of a name server, by signed zone: which of its keys the parent has a DS of, and when it was asked. Absent: no zone waits for its parent, or no
   * resolver answers.
   */
  dsAtParent: optional(record(hostname(), dsSeen, { max: 1_000 })),
  /** Of a name server, by zone. Absent: there is none. */
  secondaryZones: optional(record(id(), secondaryZone, { max: 1_000 })),
  /** Absent: a server that shows none, or of an older version. */
  certificate: optional(certificateHeld),
  /** Some of them, where there are many. Absent: there is none, or a server of an older version. */
  originsBarred: optional(array(barredOrigin, { max: BARRED_ORIGINS_MAX })),
  /** `kind/id` -> version that the server has applied: properties, zones and policies, 10,000 of each at most, and a few more. */
  applied: record(string({ max: 200 }), integer(), { max: 31_000 }),
  /** The map that the server goes by: its publisher's term and the publisher's number. Absent: none, or a server of an older version. */
  mapInForce: optional(object({ term: integer({ max: 1e9 }), version: integer() })),
});
export type CertificateState = (typeof certificateStates)[number];
export type ServerReport = Parsed<typeof serverReport>;
