/** What passes between whoever reads sockets and the handler: a request that was checked, an answer to be written. */
import type { Readable } from "node:stream";
import type {
  ClusterId,
  CompressionPolicy,
  EpochMs,
  FieldEdits,
  ForwardReason,
  MonotonicMs,
  PropertyId,
  ServerId,
} from "#kit";
import type { SpokenProtocol } from "#transport";
import type { StopSignal } from "#transport";
import type { CacheKey } from "../core/cache-key.ts";
import type { CacheStatus } from "../core/cache-status.ts";
import type { FreshWindow } from "../core/freshness.ts";
import type { HopFields } from "../core/tiers.ts";
import type { Fields } from "../core/headers.ts";
import type { RequestHead, StoredHead } from "../core/messages.ts";
import type { EntryCell, StoredObject } from "./memory-store.ts";
import type { ObjectBody } from "./object-body.ts";

/** The protocol a request came by, as Via tells it (RFC 9110, section 7.6.3). */
export type HttpVersion = "1.0" | "1.1" | "2";

/** A request as it was received and checked; no object of a server library in it. */
export interface Inbound {
  readonly head: RequestHead;
  readonly httpVersion: HttpVersion;
  readonly remoteAddress: string;
  /** Present when the request has content. */
  readonly body: Readable | undefined;
  /** Stated length of the content; undefined when it is chunked or there is none. */
  readonly bodyBytes: number | undefined;
  /** Fires when the client has gone. */
  readonly signal: AbortSignal;
  /** For one listener at a time: fires when it sends no more, and so may have gone. Undefined: that cannot be told, or not sooner than that it has gone. */
  readonly leaving?: StopSignal | undefined;
  /** The server of ours that proved itself; undefined for everybody else. */
  readonly peer: ServerId | undefined;
  /** What a proven peer asked for by Isochrone-* fields. */
  readonly hop: HopFields;
  /**
   * Sends the client an interim answer (RFC 9110, section 15.2), unless its final one has begun. Undefined: it understands none,
   * or nobody waits.
   */
  readonly sendInterim?: SendInterim | undefined;
  readonly requestId: string;
  readonly receivedAt: EpochMs;
  readonly startedAt: MonotonicMs;
  /** Passed on by another worker of this server, because this one owns the key: it is not passed on again. */
  readonly isFromSibling?: boolean;
  /** Nobody waits for the answer: a prefetch. */
  readonly isBackground?: boolean;
  /** What the request's debug token opens: a property id, or "*"; undefined: it has none that is valid. */
  readonly debugScope?: string | undefined;
}

export type SendInterim = (status: number, fields: Fields) => void;

/** How a request was answered; one closed word for log and metric. `hit-stale`: from the store though no longer fresh. */
export type Outcome = "hit" | "hit-stale" | "collapsed" | ForwardReason | "refused" | "error" | "admin";

export interface AnswerRecord {
  readonly outcome: Outcome;
  readonly status: CacheStatus | undefined;
  readonly propertyId: PropertyId | undefined;
  /** Where the answer came from when it was forwarded: a server id, "origin", or undefined. */
  readonly upstream: string | undefined;
  /** Relay cluster that the forwarded request crossed; null: direct, or not forwarded. */
  readonly via?: ClusterId | null;
  /** What the next hop was asked by; undefined: nobody was asked for it. */
  readonly upstreamProtocol?: SpokenProtocol | undefined;
  /** From asking the next hop to its answer's head, ms; undefined: nobody was asked for this request alone. */
  readonly upstreamMs?: number | undefined;
}

/**
 * That an answer was a plain hit, with all that this rested on: while none of it changes, a request that looks the same may
 * be answered in the same way without asking again (hot-table.ts).
 */
export interface HitMemo {
  readonly key: CacheKey;
  readonly stored: StoredObject;
  readonly cell: EntryCell;
  /** The field names that every variant under the key is selected by. */
  readonly nominatedFields: readonly string[];
  /** What the request had for them; see core/compression/accept-encoding.ts for the one name that is no field's. */
  readonly nominatedValues: readonly (string | null)[];
  readonly window: FreshWindow;
  readonly purgeScope: string;
  /** Newest purge that the decision knew. */
  readonly purgeGeneration: number;
  /** Version of the properties that the decision knew. */
  readonly propertyVersion: number;
  /** Whether Cache-Control and Pragma of requests count. */
  readonly hearsDirectives: boolean;
  /** What a rule changes of the fields for clients. */
  readonly responseHeaders?: FieldEdits | undefined;
  readonly record: AnswerRecord;
}

/** An answer to be written. Framing is the writer's business. */
export interface Answer {
  readonly status: number;
  /** Every field but the framing. */
  readonly fields: Fields;
  /** Absent: no content (also for HEAD). */
  readonly body: AsyncIterable<Uint8Array> | undefined;
  /** Length of the content, of that of the GET for HEAD; undefined when not known yet. */
  readonly bodyBytes: number | undefined;
  readonly record: AnswerRecord;
  readonly memo?: HitMemo | undefined;
  /** The response that it is made of, stored here or at its owner; undefined: it is for this one request, or our own. */
  readonly source?: AnswerSource | undefined;
  /** Why there is no other answer than this one of our own: it gets a page with a reference (diagnosis.ts). */
  readonly fault?: Fault | undefined;
}

/** What of a stored response's head decides about its coding. */
export type SourceHead = Pick<StoredHead, "status" | "fields" | "nominatedFields" | "sliced">;

export interface AnswerSource {
  readonly key: CacheKey;
  readonly policy: CompressionPolicy;
  readonly head: SourceHead;
  /** The content, complete or arriving; undefined: it is in slices, or with another worker or server. */
  readonly body: ObjectBody | undefined;
}

export interface Fault {
  readonly code: string;
  /** For operators: it may name addresses of next hops. */
  readonly message: string;
  /** For the client: one sentence of ours, which goes into HTML as it is. */
  readonly text: string;
}

/** A small complete answer of our own. */
export function textAnswer(
  status: number,
  text: string,
  record: AnswerRecord,
  fields: Fields = [],
  contentType = "text/plain; charset=utf-8",
): Answer {
  const bytes = Buffer.from(text);
  return {
    status,
    fields: [["Content-Type", contentType], ["Cache-Control", "no-store"], ...fields],
    body: once(bytes),
    bodyBytes: bytes.byteLength,
    record,
  };
}

// A body is an async sequence, even of one piece.
async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
