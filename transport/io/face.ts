/** The words of transport's face: what a caller asks for and what it gets back. */
import type { Readable } from "node:stream";
import type { ClusterId, MonotonicMs, OriginProtocol, OriginTarget, ServerId } from "#kit";
import type { CarrierReason } from "../core/carrier-choice.ts";
import type { LinkState } from "../core/link-agreement.ts";
import type { PathReason } from "../core/path-words.ts";

/** One server of a group, by its place in the document. */
export type OriginServerAt = { readonly group: string; readonly index: number };

/** Where a request goes: a server of ours (parent, relay, peer in the cluster) or a customer's origin. */
export type TransportTarget =
  | { readonly kind: "server"; readonly serverId: ServerId }
  | {
      readonly kind: "origin";
      readonly origin: OriginTarget;
      /** Which server of which group it is; absent: of none, and nothing is learnt of it. */
      readonly at?: OriginServerAt | undefined;
    };

/** Who we are to the origins of a property that ask for a client certificate. */
export type OriginIdentity = {
  /** Whose it is: two properties with the same origin have connections of their own. */
  readonly owner: string;
  readonly chainPem: string;
  readonly keyPem: string;
  /** SHA-256 of the first certificate. */
  readonly fingerprint: string;
};

/** An origin to keep measured. `clusterId` when it stands in a cluster of the topology (world origins). */
export type KnownOrigin = {
  readonly origin: OriginTarget;
  readonly clusterId: ClusterId | null;
  readonly identity?: OriginIdentity | undefined;
};

/** Names and values as they stand on the wire, in order, repetitions kept. */
export type HeaderList = readonly (readonly [name: string, value: string])[];

/** Bounds of one request; what is absent comes from the settings. Each ends the request with its own error code. */
export type RequestTimeouts = {
  /** From the request to an open connection, ms ("connect-timeout"). */
  readonly connectMs?: number;
  /** From the request on the wire to the response head, ms ("headers-timeout"). */
  readonly headersMs?: number;
  /** Longest pause within the response body, ms ("body-timeout"). */
  readonly bodyMs?: number;
};

export type TransportRequest = {
  readonly method: string;
  /** Origin form: path and query, starting with "/". */
  readonly path: string;
  /**
   * Sent in this order, except framing and hop-by-hop fields (RFC 9110 section 7.6.1), which transport drops and makes
   * anew. `Content-Length` is kept and enforced: a body of another length fails. Without a `Host` the target's own is sent.
   */
  readonly headers: HeaderList;
  /** A stream is sent once: such a request is never repeated. */
  readonly body?: Readable | Uint8Array | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly timeouts?: RequestTimeouts | undefined;
  /** Hears each interim answer (RFC 9110 section 15.2) but 100 and 101, which are for one hop. Must not throw. */
  readonly onInterim?: ((status: number, headers: HeaderList) => void) | undefined;
};

/** What a request was asked by. `link`: the protocol that our servers speak with each other, over TLS; `link-udp`: over UDP. */
export type SpokenProtocol = OriginProtocol | "link" | "link-udp";

/** The path that the answer came over. `via` null: direct. */
export type UsedPath = { readonly via: ClusterId | null; readonly reason: PathReason };

export type TransportResponse = {
  readonly status: number;
  /** Raw order and case. Framing fields are still in it: the caller drops what is hop by hop. */
  readonly headers: HeaderList;
  /**
   * Ends with the message; destroying it ends the exchange. Fails with an IsochroneError whose `retry` is "safe" when
   * the rest could be asked for again. A body that broke off and could be resumed by Range (RFC 9110 section 14) goes on
   * without the caller noticing; `resumes` counts it.
   */
  readonly body: Readable;
  /** All of the body had come with the head: it lies in `body`, to be read at once. */
  readonly isWhole?: boolean | undefined;
  /** Then all of it, in place of `body`: a stream costs more than the rest of a small answer. Undefined: it has not come, or is not to be had so. */
  readonly takeWhole?: (() => Uint8Array | undefined) | undefined;
  readonly path: UsedPath;
  readonly protocol: SpokenProtocol;
  readonly timings: {
    /** Until the request was on an open connection: about 0 on a warm one. */
    readonly connectMs: number;
    /** From then until the response head. */
    readonly ttfbMs: number;
    /** Tries in all, 1 when nothing failed. */
    readonly attempts: number;
  };
  /** Of a chunked body (RFC 9112 section 7.1.2), once `body` has ended; empty without any. */
  trailers(): HeaderList;
  /** How often the body was resumed by Range after its path broke. */
  resumes(): number;
};

/** One candidate as it is measured now. */
export type CandidateReport = {
  readonly via: ClusterId | null;
  /** Null while unmeasured. */
  readonly srttMs: number | null;
  readonly rttvarMs: number | null;
  readonly lossRatio: number;
  readonly samples: number;
  /** What choosing it costs, ms: srtt + weighted rttvar + loss penalty; null while unmeasured. */
  readonly costMs: number | null;
  readonly isFailed: boolean;
  /** What the map estimates for it, ms; null if it says nothing. */
  readonly mapRttMs: number | null;
  readonly ageMs: number | null;
};

/** The link to a server of ours over the path that is chosen. */
export type LinkExplanation = {
  /** `refused`: it was asked, and speaks something else. */
  readonly state: LinkState;
  readonly sessions: number;
  readonly sessionsMax: number;
  /** Sessions that do not answer: they get no requests. */
  readonly stuckSessions: number;
  /** Requests under way, by either carrier. */
  readonly streams: number;
  /** Null while unmeasured. */
  readonly rttMs: number | null;
  /** Its UDP carrier; null: there is none over this path. */
  readonly udp: UdpExplanation | null;
};

/** Why small requests go by UDP, or do not. */
export type UdpExplanation = {
  readonly reason: CarrierReason;
  /** Of packets on their way here, as UDP has seen it. */
  readonly lossRatio: number;
  /** Null while unmeasured. */
  readonly rttMs: number | null;
};

/** A server of ours that is asked, over one path. */
export type NeighbourReport = {
  readonly serverId: ServerId;
  readonly via: ClusterId | null;
  readonly protocol: SpokenProtocol;
  readonly link: LinkExplanation | null;
  /** Connections of HTTP/1.1, and requests under way on them or waiting for one. */
  readonly http: { readonly connections: number; readonly requests: number; readonly requestsMax: number };
};

/** Why a request to a target goes the way it goes. */
export type PathExplanation = {
  readonly target: string;
  readonly toClusterId: ClusterId | null;
  readonly chosen: UsedPath;
  readonly chosenSince: MonotonicMs | null;
  readonly candidates: readonly CandidateReport[];
  /** What a request would be asked by now. */
  readonly protocol: SpokenProtocol;
  /** Null: no link is spoken with such a target. */
  readonly link: LinkExplanation | null;
};
