/** Sends a request to the next hop: makes its fields anew, tries the hops in order, keeps the times. */
import type { Readable } from "node:stream";
import { type Clock, type ClusterId, IsochroneError } from "#kit";
import {
  ResumingBody,
  resumableFrom,
  type SpokenProtocol,
  type StopSignal,
  type TransportResponse,
} from "#transport";
import type { EdgeSettings } from "../config.ts";
import { ORIGIN_AUTH_FIELD } from "../core/access/origin-auth.ts";
import {
  endToEndFields,
  isConnectionField,
  type Field,
  type Fields,
  fieldValue,
  hasField,
  isInternal,
} from "../core/headers.ts";
import { appendLoop, appendVia } from "../core/loops.ts";
import { editFields } from "../core/rules/edits.ts";
import type { ExchangeTimes, RequestHead, ResponseHead } from "../core/messages.ts";
import type { AccessKeys } from "./access-keys.ts";
import type { HttpVersion, SendInterim } from "./exchange.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { kindOfFailure, kindOfStatus, type OverloadGate } from "./overload-gate.ts";
import { groupOf, type Hop, toldFields } from "./routing.ts";
import type { Upstream } from "./upstream.ts";

export interface ForwardRequest {
  readonly head: RequestHead;
  readonly httpVersion: HttpVersion;
  /** Address of the client, for X-Forwarded-For; undefined when a peer has stated it already. */
  readonly clientAddress: string | undefined;
  readonly requestId: string;
  readonly body: Readable | undefined;
  readonly bodyBytes: number | undefined;
  /** Undefined: nobody gives it up. */
  readonly signal: AbortSignal | undefined;
  /** Nobody waits for it any more: given up as long as it waits for a place at the next hop; once it was sent it goes on. */
  readonly desertion?: StopSignal | undefined;
  /** Lower-case names of fields that are left out. */
  readonly without: ReadonlySet<string>;
  /** Fields that are added: the conditions of a validation. */
  readonly extra: Fields;
  /** Whose request it is: properties take turns where requests wait. */
  readonly purgeScope: string;
  /** Sent only where there is room to spare: nobody waits for the answer, or whoever does has said so (core/priority.ts). */
  readonly isBackground: boolean;
  /** It is for an answer that has begun. */
  readonly isBegun?: boolean | undefined;
  /** Where interim answers go; undefined: nowhere. */
  readonly sendInterim: SendInterim | undefined;
}

export interface Forwarded {
  /** End-to-end fields only; framing is gone. */
  readonly response: ResponseHead;
  readonly content: Readable;
  /** All of it lies in `content` already. */
  readonly isWhole: boolean;
  /** All of it, in place of `content`; undefined: it has not come yet. */
  takeWhole?(): Uint8Array | undefined;
  /** Content-Length as stated; undefined when there is none. */
  readonly contentLength: number | undefined;
  readonly times: ExchangeTimes;
  readonly hop: Hop;
  /** What a server of ours said about the age of its knowledge; undefined from an origin. */
  readonly generation: number | undefined;
  readonly via: ClusterId | null;
  /** What the hop was asked by. */
  readonly protocol: SpokenProtocol;
}

/** `index`: of the hop that gave it. */
type FirstAnswer = { readonly forwarded: Forwarded; readonly index: number };

/** Never forwarded: ours to state, or a way to poison what is stored (unkeyed input), or for this hop only. */
const REPLACED: ReadonlySet<string> = new Set([
  "host",
  "via",
  "cdn-loop",
  "expect",
  "forwarded",
  "x-original-url",
  "x-original-host",
  "x-rewrite-url",
  "x-host",
  "x-http-host-override",
  // HTTP_PROXY of CGI programs (CVE-2016-5385).
  "proxy",
  "x-url-scheme",
  "front-end-https",
  "x-http-method",
  "x-http-method-override",
  "x-method-override",
  // Claims about the client's address.
  "x-real-ip",
  "x-client-ip",
  "x-cluster-client-ip",
  "true-client-ip",
  "client-ip",
  "max-forwards",
  "surrogate-capability",
]);

/**
 * Whether a client's field goes no further. Origins behind CGI and its kin read "_" and "-" alike, so that
 * `Content_Length` or `X_Forwarded_For` would pass for what was taken off here.
 */
function isReplaced(lower: string): boolean {
  const name = lower.includes("_") ? lower.replaceAll("_", "-") : lower;
  return (
    REPLACED.has(name) ||
    name.startsWith("x-forwarded-") ||
    name.startsWith("isochrone-") ||
    (name !== lower && (name === "content-length" || name === "content-type" || isConnectionField(name)))
  );
}

export class Forwarder {
  readonly #upstream: Upstream;
  readonly #clock: Clock;
  readonly #settings: EdgeSettings;
  readonly #metrics: EdgeMetrics;
  readonly #cdnId: string;
  readonly #gate: OverloadGate;
  readonly #accessKeys: AccessKeys | undefined;

  constructor(options: {
    readonly upstream: Upstream;
    readonly clock: Clock;
    readonly settings: EdgeSettings;
    readonly metrics: EdgeMetrics;
    readonly cdnId: string;
    readonly gate: OverloadGate;
    readonly accessKeys?: AccessKeys | undefined;
  }) {
    this.#upstream = options.upstream;
    this.#clock = options.clock;
    this.#settings = options.settings;
    this.#metrics = options.metrics;
    this.#cdnId = options.cdnId;
    this.#gate = options.gate;
    this.#accessKeys = options.accessKeys;
  }

  /**
   * Resolves with the first hop's answer. Another hop is tried when one could not answer, and then only for requests
   * without content, which nobody has begun to read, and within the first one's retry budget, of which a server of ours
   * that is gone takes nothing. When such an answer breaks off, the hops after it are asked for the rest. Rejects with the
   * last IsochroneError; with ShedError, at once or after a short wait, when there is no place: overload is not carried on
   * to the next hop.
   */
  async forward(request: ForwardRequest, hops: readonly Hop[]): Promise<Forwarded> {
    const { forwarded: first, index } = await this.#firstAnswer(request, hops);
    const { response, hop } = first;
    const rest = hops.slice(index + 1);
    if (first.isWhole || hop.kind === "origin" || rest.length === 0 || request.body !== undefined)
      return first;
    const fields: Field[] = [...response.fields];
    if (first.contentLength !== undefined) fields.push(["Content-Length", String(first.contentLength)]);
    const sent = request.head.fields.filter(([name]) => !request.without.has(name.toLowerCase()));
    const resumable = resumableFrom(
      { method: request.head.method, headers: [...sent, ...request.extra] },
      { status: response.status, headers: fields },
    );
    if (resumable === undefined) return first;
    let left = rest;
    const body = new ResumingBody({
      first: { body: first.content },
      resumable,
      resumesMax: rest.length,
      track: UNTRACKED,
      mayResume: () => request.signal?.aborted !== true && left.length > 0,
      resume: async (asked) => {
        const next = await this.#firstAnswer({ ...request, extra: asked }, left);
        this.#metrics.upstream(next.forwarded.hop.kind, "resumed");
        left = left.slice(next.index + 1);
        const { response: head, content: more } = next.forwarded;
        return { head: { status: head.status, headers: head.fields, body: more }, progress: UNTRACKED };
      },
    });
    return { ...first, content: body };
  }

  async #firstAnswer(request: ForwardRequest, hops: readonly Hop[], isChosen = false): Promise<FirstAnswer> {
    let last: unknown;
    let asked = hops;
    for (let index = 0; index < asked.length; index++) {
      if (request.signal?.aborted === true) break;
      // Which server of the origin is decided when it is the origin's turn, by what is known then.
      if (asked[index]?.kind === "origin" && !isChosen) {
        isChosen = true;
        asked = [...asked.slice(0, index), ...this.#chosen(asked.slice(index), request)];
      }
      const hop = asked[index];
      if (hop === undefined) break;
      const isLast = index === asked.length - 1;
      const admitted = this.#gate.admit(
        {
          hop: hopKey(hop),
          isAdaptive: hop.kind === "origin",
          property: request.purgeScope,
          isBackground: request.isBackground,
          isBegun: request.isBegun,
        },
        hop.name,
        request.signal ?? request.desertion,
      );
      const place = admitted instanceof Promise ? await admitted : admitted;
      request.desertion?.addEventListener("abort", () => place.desert(), { once: true });
      const requestTime = this.#clock.epoch();
      hop.handleLoad?.(1);
      const ended = once(() => hop.handleLoad?.(-1));
      try {
        const response = await this.#upstream.request(hop.target, {
          method: request.head.method,
          path: hop.edits?.target ?? request.head.target,
          headers: this.#fieldsFor(request, hop),
          body: request.body,
          signal: request.signal,
          timeouts: {
            connectMs: this.#settings.connectTimeoutMs,
            headersMs: this.#settings.responseTimeoutMs,
            bodyMs: this.#settings.bodyTimeoutMs,
          },
          onInterim: onInterim(request.sendInterim),
        });
        this.#metrics.upstream(hop.kind, "response");
        if (response.isWhole === true) {
          place.answered(kindOfStatus(response.status));
          ended();
        } else {
          place.head(kindOfStatus(response.status));
          response.body.once("close", () => {
            place.end();
            ended();
          });
        }
        // A server of ours that does not (yet) know the property, or that would close a loop, is no answer for a client.
        const isRefused = hop.kind !== "origin" && (response.status === 421 || response.status === 508);
        if (isRefused && !isLast && request.body === undefined) {
          response.body.destroy();
          continue;
        }
        refuseCodings(response);
        const times = { requestTime, responseTime: this.#clock.epoch() };
        const answer = { forwarded: new Answered(response, hop, times), index };
        if (isLast || !this.#isFailing(request, hop, response.status)) return answer;
        return await this.#answerOfOther(request, answer, asked.slice(index + 1, index + 2));
      } catch (error) {
        ended();
        this.#metrics.upstream(hop.kind, "failure");
        const code = error instanceof IsochroneError ? error.code : "";
        const { kind, mayStillWork } = kindOfFailure(code);
        place.fail(kind, mayStillWork);
        last = error;
        if (request.body !== undefined || isLast) break;
        // Another server takes over what a dead one had; that adds no load that it would not have anyway.
        const isGone = hop.kind !== "origin" && GONE.has(code);
        if (!isGone && !this.#upstream.takeRetry(hop.target)) break;
      }
    }
    throw last instanceof Error ? last : aborted();
  }

  /** The servers of an origin in the order in which they are asked. Throws OriginUnavailableError when none can be. */
  #chosen(hops: readonly Hop[], { head, body }: ForwardRequest): readonly Hop[] {
    const [first] = hops;
    const group = first && groupOf(first);
    if (group === undefined) return hops;
    const isRepeatable = body === undefined && SAFE.has(head.method);
    const order = this.#upstream.origins.order(group, isRepeatable);
    return order === undefined ? hops : order.flatMap((at) => hops[at] ?? []);
  }

  /** What another server of the origin says in place of one that fails; where it says nothing, what that one said. */
  async #answerOfOther(
    request: ForwardRequest,
    first: FirstAnswer,
    other: readonly Hop[],
  ): Promise<FirstAnswer> {
    const { content, hop } = first.forwarded;
    this.#metrics.upstream(hop.kind, "repeated");
    content.on("error", () => {});
    try {
      const answer = await this.#firstAnswer(request, other, true);
      content.destroy();
      return answer;
    } catch (error) {
      if (content.destroyed) throw error;
      return first;
    }
  }

  /** Whether an origin's answer is one after which another of its servers is to be asked; that is out of the budget then. */
  #isFailing({ head, body }: ForwardRequest, hop: Hop, status: number): boolean {
    const group = groupOf(hop);
    return (
      group !== undefined &&
      body === undefined &&
      SAFE.has(head.method) &&
      this.#upstream.origins.isRepeated(group, status) &&
      this.#upstream.takeRetry(hop.target)
    );
  }

  #fieldsFor(request: ForwardRequest, hop: Hop): Fields {
    const { head } = request;
    const fields: Field[] = [["Host", hop.host]];
    for (const field of editFields(endToEndFields(head.fields), hop.edits?.fields)) {
      const name = field[0].toLowerCase();
      if (isReplaced(name) || request.without.has(name)) continue;
      fields.push(field);
    }
    fields.push(...request.extra);
    // RFC 9110, section 7.6.2: one less for OPTIONS; of other methods the field may be left out.
    if (head.method === "OPTIONS") {
      const forwards = /^[0-9]{1,9}$/.exec(fieldValue(head.fields, "max-forwards")?.trim() ?? "");
      if (forwards !== null) fields.push(["Max-Forwards", String(Math.max(0, Number(forwards[0]) - 1))]);
    }
    // A peer has stated the client already; anybody else's claim is replaced by what is known.
    const stated = request.clientAddress === undefined;
    fields.push(
      [
        "X-Forwarded-For",
        (stated ? fieldValue(head.fields, "x-forwarded-for") : request.clientAddress) ?? "unknown",
      ],
      ["X-Forwarded-Proto", head.scheme],
      ["Via", appendVia(head.fields, request.httpVersion, this.#cdnId)],
      ["CDN-Loop", appendLoop(head.fields, this.#cdnId)],
    );
    // W3C Edge Architecture: how an origin learns the name by which Surrogate-Control can speak to this cache.
    if (hop.kind === "origin") {
      fields.push(["Surrogate-Capability", 'isochrone="Surrogate/1.0"']);
      // What the access records and error pages here call it, unless the client has a name for it.
      if (!hasField(head.fields, "x-request-id")) fields.push(["X-Request-Id", request.requestId]);
      const asked = { method: head.method, host: hop.host, target: hop.edits?.target ?? head.target };
      const proof = hop.auth && this.#accessKeys?.proofFor(hop.auth, asked, this.#clock.epoch());
      if (proof !== undefined) fields.push([ORIGIN_AUTH_FIELD, proof]);
    }
    // The one framing field that transport wants to be told (it makes the rest): the stated length of the content.
    if (request.bodyBytes !== undefined) fields.push(["Content-Length", String(request.bodyBytes)]);
    if (hop.kind !== "origin") fields.push(...toldFields(hop), ["Isochrone-Request-Id", request.requestId]);
    return fields;
  }
}

/** Ends of a request to a server of ours that say that nobody is there to answer it. */
const GONE: ReadonlySet<string> = new Set(["connect-failed", "connection-lost", "server-down"]);

/** RFC 9110, section 9.2.1. */
const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);

const UNTRACKED = { handleBytes: () => {}, end: () => {} };

function once(act: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) act();
    isDone = true;
  };
}

/** Interim answers that are passed on for one request: an origin could otherwise send without end. */
const INTERIM_MAX = 8;

/** RFC 9110, section 15.2: a proxy forwards interim answers; what is for one connection, or between our own servers, goes no further. */
function onInterim(send: SendInterim | undefined): ((status: number, headers: Fields) => void) | undefined {
  if (send === undefined) return undefined;
  let sent = 0;
  return (status, headers) => {
    if (status < 102 || sent++ >= INTERIM_MAX) return;
    send(
      status,
      endToEndFields(headers).filter(([name]) => !isInternal(name)),
    );
  };
}

/** Requests with the same one share a limit: a server of ours, or an origin whatever Host it is asked for. */
export function hopKey({ target }: Hop): string {
  if (target.kind === "server") return `server ${target.serverId}`;
  const { scheme, host, port } = target.origin;
  return `${scheme}://${host}:${port}`;
}

/** Undefined: it states none that is one. */
function statedNumber(fields: Fields, name: string): number | undefined {
  const stated = fieldValue(fields, name);
  return stated !== undefined && /^[0-9]{1,15}$/.test(stated) ? Number(stated) : undefined;
}

class Answered implements Forwarded {
  readonly response: ResponseHead;
  readonly isWhole: boolean;
  readonly contentLength: number | undefined;
  readonly times: ExchangeTimes;
  readonly hop: Hop;
  readonly generation: number | undefined;
  readonly via: ClusterId | null;
  readonly protocol: SpokenProtocol;
  readonly #from: TransportResponse;

  constructor(from: TransportResponse, hop: Hop, times: ExchangeTimes) {
    this.response = {
      status: from.status,
      // What is left of ours is what the origin says to these caches (RFC 9213).
      fields: endToEndFields(from.headers).filter(
        ([name]) => !isInternal(name) || name.toLowerCase() === "isochrone-cache-control",
      ),
    };
    this.isWhole = from.isWhole === true;
    this.contentLength = statedNumber(from.headers, "content-length");
    this.times = times;
    this.hop = hop;
    this.generation = hop.kind === "origin" ? undefined : statedNumber(from.headers, "isochrone-generation");
    this.via = from.path.via;
    this.protocol = from.protocol;
    this.#from = from;
  }

  get content(): Readable {
    return this.#from.body;
  }
  takeWhole(): Uint8Array | undefined {
    return this.#from.takeWhole?.();
  }
}

/** Codings that somebody downstream could undo, if told of them (IANA, HTTP Transfer Coding Registry), and what looks like "chunked". */
const CODING = /chunk|gzip|compress|deflate|trailers|[^\w.+-]/i;

/**
 * This cache sends no TE, so nobody may code the message but by "chunked" (RFC 9112, section 7.4), and the field may only be taken
 * off with the coding (section 6.1): downstream could know of none. A single word that no registry has (section 7) names nothing
 * that could be undone, and no rule has such an answer refused: its content ends with its connection (section 6.3) and is
 * taken as it stands. Throws IsochroneError.
 */
function refuseCodings(response: TransportResponse): void {
  const codings = fieldValue(response.headers, "transfer-encoding")?.trim().toLowerCase();
  if (codings === undefined || codings === "chunked" || (codings !== "" && !CODING.test(codings))) return;
  response.body.on("error", () => {});
  response.body.destroy();
  throw new IsochroneError(
    `The next hop's answer has the transfer coding ${JSON.stringify(codings)}, expected none or "chunked"`,
    { code: "bad-response", source: "upstream", retry: "never" },
  );
}

function aborted(): IsochroneError {
  return new IsochroneError("Cannot forward the request: the client has gone", {
    code: "client-gone",
    source: "downstream",
    retry: "never",
  });
}
