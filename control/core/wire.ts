/** Schemas of what control and its clients say to each other, beyond the kit's documents. Each side parses what it is sent. */
import {
  array,
  boolean,
  defaulted,
  either,
  hostname,
  id,
  integer,
  mapDifference,
  mapName,
  nullable,
  number,
  object,
  oneOf,
  optional,
  type Parsed,
  ParseError,
  type Path,
  purgeAck,
  purgeEntry,
  type Schema,
  type ServerId,
  serverReport,
  string,
  zoneEdits,
} from "#kit";
import { rollSteps } from "./key-roll.ts";
import type { ZoneRoll } from "./key-rolls.ts";
import { leaseNames, leaseOutcomes } from "./lease.ts";
import { rolloutModes } from "./rollout.ts";
import { ackOutcomeWords, documentKinds, type PurgeProgress, type WatchEvent } from "./words.ts";

const anything: Schema<unknown> = {
  parse(value, path = []) {
    if (value === undefined) throw new ParseError(path, value, "a value");
    return value;
  },
  jsonSchema: () => ({}),
};
const documentId = () => id();
const version = () => integer({ min: 1 });
const freeText = () => string({ min: 0, max: 500 });

/** `POST /v1/documents/KIND/ID`. */
export const appendRequest = object({
  body: anything,
  /** The newest version that the sender knows, 0 when it believes that there is none. */
  expectedVersion: integer(),
  note: defaulted(freeText(), ""),
  author: defaulted(string({ min: 0, max: 100 }), ""),
  activate: optional(boolean()),
  /** Of a kind that is rolled out in stages: `at-once` puts it in force everywhere now, and ends a roll-out that is under way. */
  rollout: optional(oneOf(rolloutModes)),
  /** Of a map: what leads to it from another one (`mapDifference` of the kit). Receivers prove it; here it is only kept. */
  difference: optional(anything),
});

/** `POST /v1/nodes/SERVER/certificate`: a P-256 public key (SubjectPublicKeyInfo, DER), and by it a signature over `nodeRequestMessage`. */
export const nodeCertificateRequest = object({
  publicKey: string({ max: 512, pattern: /^[A-Za-z0-9+/]+={0,2}$/, expected: "base64" }),
  signature: string({ max: 512, pattern: /^[A-Za-z0-9+/]+={0,2}$/, expected: "base64" }),
});
export type NodeCertificateRequest = Parsed<typeof nodeCertificateRequest>;

/** `PATCH /v1/documents/zone/ID`: RRsets of the version in force, all or none. */
export const zoneEditRequest = object({
  edits: zoneEdits,
  /** The serial that the edits were thought of for; another one in force refuses them. */
  expectedSerial: optional(integer({ max: 0xffff_ffff })),
  note: defaulted(freeText(), ""),
  author: defaulted(string({ min: 0, max: 100 }), ""),
});
export type ZoneEditRequest = Parsed<typeof zoneEditRequest>;

/** Of a difference what control looks at. */
export const differenceNames = (
  value: unknown,
  path: Path,
): { readonly base: string; readonly result: string } => {
  const fields =
    typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
  return {
    base: mapName.parse(fields["base"], [...path, "base"]),
    result: mapName.parse(fields["result"], [...path, "result"]),
  };
};

/** `POST /v1/documents/KIND/ID/activate`. */
export const activateRequest = object({
  version: version(),
  expectedActiveVersion: nullable(version()),
  /** As in {@link appendRequest}. */
  rollout: optional(oneOf(rolloutModes)),
});

/** `POST /v1/purges/acks`, and its answer: an outcome for each. */
export const ackRequest = object({ acks: array(purgeAck, { min: 1, max: 1_000 }) });
export const ackOutcomes = object({ outcomes: array(oneOf(ackOutcomeWords), { max: 1_000 }) });

const summaryFields = {
  kind: oneOf(documentKinds),
  id: documentId(),
  version: version(),
  activeVersion: nullable(version()),
  createdAtEpochMs: integer(),
  author: freeText(),
  note: freeText(),
};
export const documentSummary = object(summaryFields);
/** What came of edits: the version in force, and its serial. */
export const zoneEdited = object({ ...summaryFields, serial: integer({ max: 0xffff_ffff }) });
export type ZoneEdited = Parsed<typeof zoneEdited>;
export const documentSummaries = array(documentSummary, { max: 1_000_000 });
export const documentRecord = object({ ...summaryFields, body: anything });
/** A version, for one who has said what he has: whole, or what leads to it from there, in the order in which it is to be applied. */
export const documentDelivery = either(
  documentRecord,
  object({ ...summaryFields, differences: array(mapDifference, { max: 100 }) }),
  "a version of a document, whole (body) or as differences",
);
export const documentChanges = array(
  object({ path: string({ max: 100_000 }), from: optional(anything), to: optional(anything) }),
  { max: 100_000 },
);
export const serverReports = array(serverReport, { max: 10_000 });

const term = () => integer({ max: 1e12 });
/** A day: longer, and a holder that is gone for good would keep everyone else out for longer than an operator's holiday. */
const LEASE_MS_MAX = 86_400_000;

/** `POST /v1/leases/NAME`. */
export const leaseRequest = object({
  action: oneOf(["hold", "release"]),
  holderId: string({ max: 63, pattern: /^[\w.@-]+$/, expected: "a name of letters, digits and -_.@" }),
  term: term(),
  seenTerm: term(),
  durationMs: number({ min: 1_000, max: LEASE_MS_MAX, unit: "ms" }),
  preempts: boolean(),
  note: freeText(),
});

/** What became of the request, and who has the lease now. */
export const leaseAnswer = object({
  name: oneOf(leaseNames),
  outcome: oneOf([...leaseOutcomes, "shown"]),
  term: integer(),
  /** Null: nobody, or nobody any more. */
  holderId: nullable(string({ max: 63 })),
  /** By control's clock; 0: it may be had. */
  remainingMs: number({ min: 0 }),
  note: freeText(),
  /** The newest version of what the lease is for that control has stored. */
  newest: nullable(object({ term: integer(), version: integer() })),
});
export type LeaseAnswer = Parsed<typeof leaseAnswer>;
export const leaseAnswers = array(leaseAnswer, { max: 100 });

/** What control answers a refused request with. */
export const errorBody = object({
  error: string({ max: 100_000 }),
  code: string({ max: 64 }),
  path: optional(string({ min: 0, max: 100_000 })),
  value: optional(string({ min: 0, max: 1_000 })),
  expected: optional(string({ max: 100_000 })),
  /** With `conflict`: what the sender would have had to expect. */
  presentVersion: optional(nullable(integer())),
});
export type ErrorBody = Parsed<typeof errorBody>;

const rollStep = () => object({ step: oneOf(rollSteps), keyId: string({ max: 63 }) });
/** Where the rolls of signed zones stand. */
export const zoneRolls = array(
  object({
    zone: hostname(),
    taken: array(rollStep(), { max: 10 }),
    waits: array(
      object({
        step: oneOf(rollSteps),
        keyId: string({ max: 63 }),
        for: oneOf(["time", "ds-at-parent", "ds-gone-at-parent", "name-servers"]),
        untilEpochMs: optional(integer()),
      }),
      { max: 10 },
    ),
    missing: array(id<ServerId>(), { max: 1_000 }),
  }),
  { max: 1_000 },
) satisfies Schema<readonly ZoneRoll[]>;

const watchEvents = {
  "snapshot-begin": object({
    type: oneOf(["snapshot-begin"]),
    logId: string({ max: 64 }),
    oldestPurgeSeq: nullable(version()),
  }),
  document: object({
    type: oneOf(["document"]),
    seq: integer({ min: 1 }),
    kind: oneOf(documentKinds),
    id: documentId(),
    version: version(),
    body: anything,
  }),
  reference: object({
    type: oneOf(["reference"]),
    seq: integer({ min: 1 }),
    kind: oneOf(documentKinds),
    id: documentId(),
    version: version(),
    fence: object({ term: term(), version: version() }),
  }),
  purge: object({ type: oneOf(["purge"]), seq: integer({ min: 1 }), purge: purgeEntry }),
  report: object({ type: oneOf(["report"]), report: serverReport }),
  "snapshot-end": object({ type: oneOf(["snapshot-end"]), seq: integer() }),
  heartbeat: object({ type: oneOf(["heartbeat"]), logId: string({ max: 64 }), seq: integer() }),
} satisfies { readonly [T in WatchEvent["type"]]: Schema<Extract<WatchEvent, { type: T }>> };

const serverIds = () => array(id<ServerId>(), { max: 100_000 });
const elapsedMs = () => number({ min: 0 });
const purgeProgress = {
  accepted: object({
    type: oneOf(["accepted"]),
    purgeSeq: version(),
    servers: serverIds(),
    missing: serverIds(),
  }),
  ack: object({ type: oneOf(["ack"]), serverId: id<ServerId>(), removed: integer(), elapsedMs: elapsedMs() }),
  done: object({
    type: oneOf(["done"]),
    purgeSeq: version(),
    acked: integer(),
    expected: integer(),
    unacknowledged: serverIds(),
    elapsedMs: elapsedMs(),
  }),
} satisfies { readonly [T in PurgeProgress["type"]]: Schema<Extract<PurgeProgress, { type: T }>> };

function byType<T>(table: Readonly<Record<string, Schema<T>>>, value: unknown): T {
  const type: unknown =
    typeof value === "object" && value !== null && "type" in value ? value.type : undefined;
  const schema = typeof type === "string" && Object.hasOwn(table, type) ? table[type] : undefined;
  if (schema === undefined) throw new ParseError(["type"], type, `one of ${Object.keys(table).join(", ")}`);
  return schema.parse(value);
}

/** One line of a watch stream; throws ParseError. The body of a document is left to the schema of its kind. */
export function parseWatchEvent(value: unknown): WatchEvent {
  return byType<WatchEvent>(watchEvents, value);
}

/** One line of a purge's answer; throws ParseError. */
export function parsePurgeProgress(value: unknown): PurgeProgress {
  return byType<PurgeProgress>(purgeProgress, value);
}
