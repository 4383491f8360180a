/**
 * The one way to speak to control: requests with a deadline each, and watches that come back by themselves and lose
 * nothing. Knows nothing of what the documents mean; {@link DocumentKeeper} puts them in force.
 */
import { setImmediate } from "node:timers/promises";
import {
  IsochroneError,
  jsonPieces,
  type MapDifference,
  type NodeCertificate,
  nodeCertificate,
  type PurgeAck,
  type PurgeRequest,
  type Schema,
  type ServerId,
  type ServerReport,
} from "#kit";
import type { Logger } from "#kit/io";
import type { Dispatcher } from "undici";
import send from "undici/lib/api/api-request.js";
import Agent from "undici/lib/dispatcher/agent.js";
import Client from "undici/lib/dispatcher/client.js";
import { backoffDelayMs } from "../core/backoff.ts";
import { AckSender } from "./ack-sender.ts";
import {
  ackOutcomes,
  documentChanges,
  documentDelivery,
  documentRecord,
  documentSummaries,
  documentSummary,
  type LeaseAnswer,
  leaseAnswer,
  leaseAnswers,
  type NodeCertificateRequest,
  parsePurgeProgress,
  serverReports,
  zoneEdited,
  type ZoneEdited,
  type ZoneEditRequest,
  zoneRolls,
} from "../core/wire.ts";
import type { ZoneRoll } from "../core/key-rolls.ts";
import type { LeaseName, LeaseRequest } from "../core/lease.ts";
import { TAKES_HEADER, TAKES_REFERENCES } from "../core/words.ts";
import type {
  DocumentChange,
  DocumentKind,
  DocumentRecord,
  DocumentSummary,
  PurgeProgress,
  PurgeResult,
  WatchEvent,
  WatchKind,
} from "../core/words.ts";
import { rollout, type Rollout, type RolloutMode, rollouts, type StagedKind } from "../core/rollout.ts";
import { nodeEntries, type NodeEntry } from "../core/node-register.ts";
import { connectorOf, type Dial } from "./connector.ts";
import { ControlError } from "./control-error.ts";
import { errorOfAnswer, unreachable } from "./answers.ts";
import { NdjsonReader } from "../core/ndjson.ts";
import { Watch, type WatchState } from "./watch.ts";

export interface ControlClientOptions {
  /** `http://127.10.0.1:8080`. */
  readonly url: string;
  /** ISOCHRONE_CONTROL_TOKEN; sent as a bearer token, never logged. */
  readonly token: string;
  /** Who asks, for control's log: a ServerId, "portal", "cli". */
  readonly nodeId: string;
  /** `dial` of #transport where the links' delays must apply; plain sockets without. */
  readonly dial?: Dial;
  readonly logger: Logger;
  /** Jitter of reconnecting, uniform in [0, 1). Default Math.random. */
  readonly random?: () => number;
  /** Most time one request may take, ms; 10,000 unless told. A purge may take this and its own time-out. */
  readonly requestTimeoutMs?: number;
}

export type ControlState = "connected" | "disconnected";

export interface PutOptions {
  /** The newest version that the caller knows, 0 for none: the new one is this + 1 or the put is refused ("conflict"). */
  readonly expectedVersion: number;
  readonly note?: string;
  readonly author?: string;
  /** Put it in force as well. Default: true for topology and map, false for property. */
  readonly activate?: boolean;
  /** Of a policy: in stages unless it says otherwise. */
  readonly rollout?: RolloutMode | undefined;
  /** Of a map: what leads to it from another one. A control of before, which takes none, is given the map alone. */
  readonly difference?: MapDifference | undefined;
}

/** A version as control hands it out to one who said what he has. */
export type Delivery =
  | { readonly form: "whole"; readonly body: unknown; readonly bytes: number }
  | { readonly form: "differences"; readonly differences: readonly MapDifference[]; readonly bytes: number };

export interface ActivateOptions {
  readonly version: number;
  /** The version that the caller believes to be in force, null for none. */
  readonly expectedActiveVersion: number | null;
  /** As for {@link PutOptions}. */
  readonly rollout?: RolloutMode | undefined;
}

export interface WatchOptions {
  /** Resume after this place of this log; without it the stream begins with a snapshot. */
  readonly since?: { readonly logId: string; readonly seq: number };
  /** Told when this watch's stream stands and when it is gone. */
  readonly onState?: (state: ControlState) => void;
  /** Maps are named (`reference` events) and not sent; see {@link ControlClient.delivery}. Control may send them all the same. */
  readonly takesReferences?: boolean;
}

const REQUEST_TIMEOUT_MS = 10_000;
const PURGE_TIMEOUT_MS = 15_000;
/** A full map over a slow link; control gives whoever sends it one as long. */
const MAP_TIMEOUT_MS = 60_000;
/** After control refused a difference it is asked again so much later, ms: it may have been replaced by a newer version. */
const DIFFERENCES_REFUSED_MS = 600_000;
/** Answers are bounded by what control stores; a map of a full deployment is the largest. */
const ANSWER_BYTES_MAX = 512 * 1024 * 1024;
/** The event loop is given back after so long, ms. */
const TURN_MS = 3;
const PIECE_CHARACTERS = 2 ** 18;
const PURGE_LINE_BYTES_MAX = 16 * 1024 * 1024;
/** Idle connections are kept for so long, ms: less than control keeps them. */
const KEEP_ALIVE_MS = 45_000;
const CONNECTIONS_MAX = 16;
/**
 * Connections for acknowledgements, of which each goes over all of them: a lost packet on one delays none. Reports take turns on
 * them, so that they are open and warm when a purge comes.
 */
const LANES = 2;
/** Requests on their way at once on a lane. Reports and acknowledgements may be repeated, so they need not wait for each other. */
const PIPELINED_MAX = 32;

/** Errors that leave it are {@link ControlError}. Safe to share by the whole process. */
export class ControlClient {
  readonly #options: ControlClientOptions;
  readonly #origin: string;
  readonly #agent: Agent;
  readonly #lanes: readonly Client[];
  readonly #acks: AckSender;
  #reports = 0;
  readonly #watches = new Set<Watch>();
  readonly #random: () => number;
  readonly #counters = { requests: 0, failures: 0, reconnects: 0, reportsLost: 0 };
  #lastRequestSucceeded = false;
  /** Until then no differences are sent along: this control does not know them. */
  #differencesFrom = 0;

  /** Connects at the first use. Throws ControlError (source "configuration") when `url` is not an http or https URL. */
  constructor(options: ControlClientOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    const url = URL.canParse(options.url) ? new URL(options.url) : undefined;
    if (url === undefined || !/^https?:$/.test(url.protocol) || url.pathname !== "/" || url.search !== "") {
      throw new ControlError(
        `Cannot use ${JSON.stringify(options.url)} as the URL of control: expected http://HOST:PORT`,
        { code: "bad-url", source: "configuration", retry: "never" },
      );
    }
    this.#origin = url.origin;
    const common = {
      connect: connectorOf(options.dial),
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      headersTimeout: 0,
      bodyTimeout: 0,
      maxHeaderSize: 16_384,
    };
    this.#agent = new Agent({ ...common, connections: CONNECTIONS_MAX, pipelining: 1 });
    this.#lanes = Array.from(
      { length: LANES },
      () => new Client(this.#origin, { ...common, pipelining: PIPELINED_MAX }),
    );
    this.#acks = new AckSender({
      send: async (acks) =>
        await Promise.any(
          this.#lanes.map(
            async (lane) =>
              (await this.#json("POST", "/v1/purges/acks", { acks }, ackOutcomes, lane)).outcomes,
          ),
        ).catch((error: AggregateError) => {
          throw error.errors[0];
        }),
      delayMs: (failures) => backoffDelayMs(failures, this.#random()),
      logger: options.logger,
    });
  }

  /** Connected: a watch's stream stands, or without any watch the newest request was answered. */
  get state(): ControlState {
    if (this.#watches.size === 0) return this.#lastRequestSucceeded ? "connected" : "disconnected";
    for (const watch of this.#watches) if (watch.state === "connected") return "connected";
    return "disconnected";
  }

  /** Counters since the start: requests, failures, reconnects of watches, reports that did not arrive. */
  get counters(): Readonly<{ requests: number; failures: number; reconnects: number; reportsLost: number }> {
    return this.#counters;
  }

  /**
   * Follows activations, purges and reports. Every document and purge event is delivered once and in order of `seq` within
   * one stream; after a break the stream resumes behind the last event delivered, or begins again with a snapshot when that
   * place is no longer kept. `onEvent` must not throw; what it throws is logged and the event counts as delivered.
   */
  watch(
    kinds: readonly WatchKind[],
    onEvent: (event: WatchEvent) => void,
    options: WatchOptions = {},
  ): { close(): void } {
    const watch = new Watch({
      kinds,
      onEvent,
      since: options.since,
      logger: this.#options.logger,
      open: (path, signal) =>
        this.#open("GET", path, undefined, signal, this.#agent, {
          ...(options.takesReferences === true && { [TAKES_HEADER]: TAKES_REFERENCES }),
        }),
      delayMs: (failures) => backoffDelayMs(failures, this.#random()),
      onState: (state: WatchState) => {
        if (state === "disconnected") this.#counters.reconnects++;
        options.onState?.(state);
      },
    });
    this.#watches.add(watch);
    watch.start();
    return {
      close: () => {
        watch.close();
        this.#watches.delete(watch);
      },
    };
  }

  /** The active version, or the one asked for; undefined when there is none. */
  async document(kind: DocumentKind, id: string, version?: number): Promise<DocumentRecord | undefined> {
    const query = version === undefined ? "" : `?version=${version}`;
    return this.#unlessMissing(
      this.#json("GET", `${documentPath(kind, id)}${query}`, undefined, documentRecord),
    );
  }

  /**
   * A version of a map, read in pieces; undefined: control does not keep it any more.
   * @param have name of the map that is there already: differences from it will do
   */
  async delivery(
    kind: DocumentKind,
    id: string,
    version: number,
    have: string | undefined,
  ): Promise<Delivery | undefined> {
    const path = `${documentPath(kind, id)}?version=${version}${have === undefined ? "" : `&have=${have}`}`;
    return this.#unlessMissing(this.#delivery(path));
  }

  async #delivery(path: string): Promise<Delivery> {
    const signal = AbortSignal.timeout(MAP_TIMEOUT_MS);
    const answer = await this.#open("GET", path, undefined, signal);
    const reader = new NdjsonReader(ANSWER_BYTES_MAX);
    let bytes = 0;
    const values: unknown[] = [];
    try {
      for await (const chunk of answer.body) {
        bytes += (chunk as Buffer).length;
        values.push(...reader.read(chunk as Buffer));
      }
      values.push(reader.end());
    } catch (cause) {
      throw unreachable(this.#origin, `GET ${path}`, cause);
    }
    const delivery = this.#read(`GET ${path}`, () => documentDelivery.parse(values[0]));
    return "body" in delivery
      ? { form: "whole", body: delivery.body, bytes }
      : { form: "differences", differences: delivery.differences, bytes };
  }

  /** The newest version of each document of a kind, by id. */
  async documents(kind: DocumentKind): Promise<readonly DocumentSummary[]> {
    return this.#json("GET", `/v1/documents?kind=${kind}`, undefined, documentSummaries);
  }

  /** Every kept version, oldest first; empty when there is no such document. */
  async versions(kind: DocumentKind, id: string): Promise<readonly DocumentSummary[]> {
    const found = await this.#unlessMissing(
      this.#json("GET", `${documentPath(kind, id)}/versions`, undefined, documentSummaries),
    );
    return found ?? [];
  }

  /** Appends a version. Fails with "conflict" (see `presentVersion`) or "refused" (see `path`, `value`, `expected`). */
  async put(kind: DocumentKind, id: string, body: unknown, options: PutOptions): Promise<DocumentSummary> {
    const { expectedVersion, note, author, activate, rollout, difference } = options;
    const request = { body, expectedVersion, note, author, activate, rollout };
    const send = async (whole: unknown) => this.#json("POST", documentPath(kind, id), whole, documentSummary);
    if (difference === undefined || performance.now() < this.#differencesFrom) return send(request);
    try {
      return await send({ ...request, difference });
    } catch (error) {
      if (!(error instanceof ControlError && error.code === "refused" && error.path === "difference"))
        throw error;
      this.#differencesFrom = performance.now() + DIFFERENCES_REFUSED_MS;
      this.#options.logger.warn("differences-refused", {
        consequence: "this control hands out whole maps; it is of an older version",
      });
      return await send(request);
    }
  }

  /**
   * Edits RRsets of the zone in force, all or none; control makes the version and its serial. Fails with "conflict" (`presentVersion` is
   * the serial in force), "refused" or "not-found".
   */
  async editZone(
    id: string,
    request: Partial<ZoneEditRequest> & Pick<ZoneEditRequest, "edits">,
  ): Promise<ZoneEdited> {
    return this.#json("PATCH", documentPath("zone", id), request, zoneEdited);
  }

  /** Puts a version in force, forward or back. Fails with "conflict", "not-found" or "refused". */
  async activate(kind: DocumentKind, id: string, options: ActivateOptions): Promise<DocumentSummary> {
    const { version, expectedActiveVersion, rollout } = options;
    const request = { version, expectedActiveVersion, rollout };
    return this.#json("POST", `${documentPath(kind, id)}/activate`, request, documentSummary);
  }

  /** Where two versions differ. */
  async diff(kind: DocumentKind, id: string, from: number, to: number): Promise<readonly DocumentChange[]> {
    const path = `${documentPath(kind, id)}/diff?from=${from}&to=${to}`;
    return (await this.#json("GET", path, undefined, documentChanges)) as readonly DocumentChange[];
  }

  /** Asks for a lease, renews it or gives it back. Whoever has it now is in the answer. */
  async lease(name: LeaseName, request: LeaseRequest): Promise<LeaseAnswer> {
    return this.#json("POST", `/v1/leases/${name}`, request, leaseAnswer);
  }

  /** Who has which lease. */
  async leases(): Promise<readonly LeaseAnswer[]> {
    return this.#json("GET", "/v1/leases", undefined, leaseAnswers);
  }

  /** Where the keys of a deployment's signed zones stand, as control saw it a second ago at most. */
  async keyRolls(name: string): Promise<readonly ZoneRoll[]> {
    return this.#json("GET", `/v1/key-rolls/${encodeURIComponent(name)}`, undefined, zoneRolls);
  }

  /** Roll-outs under way, and of each document the last one; with `id`: of documents of this name alone. */
  async rollouts(id?: string): Promise<readonly Rollout[]> {
    const query = id === undefined ? "" : `?id=${encodeURIComponent(id)}`;
    return this.#json("GET", `/v1/rollouts${query}`, undefined, rollouts);
  }

  /** Stops one: what was in force before is so again. Fails with "not-found" when none is under way. */
  async haltRollout(kind: StagedKind, id: string): Promise<Rollout> {
    return this.#json("POST", `/v1/rollouts/${kind}/${encodeURIComponent(id)}/halt`, {}, rollout);
  }

  /** A certificate for this server's own key, which signs the request. Rejects with ControlError whose code says why not. */
  async nodeCertificate(serverId: ServerId, request: NodeCertificateRequest): Promise<NodeCertificate> {
    return this.#json("POST", `/v1/nodes/${serverId}/certificate`, request, nodeCertificate);
  }

  /** Which key speaks for which server. */
  async nodes(): Promise<readonly NodeEntry[]> {
    return this.#json("GET", "/v1/nodes", undefined, nodeEntries);
  }

  /** `revoke`: it gets no more certificates; `forget`: the next key that asks has its name. */
  async changeNode(serverId: ServerId, action: "revoke" | "forget"): Promise<void> {
    await this.#json("POST", `/v1/nodes/${serverId}/${action}`, {});
  }

  /** False when it did not arrive (the next one replaces it anyway); never rejects. */
  async publishReport(report: ServerReport): Promise<boolean> {
    try {
      await this.#json("POST", "/v1/reports", report, undefined, this.#lanes[this.#reports++ % LANES]);
      return true;
    } catch (error) {
      this.#counters.reportsLost++;
      this.#options.logger.debug("report-lost", { error });
      return false;
    }
  }

  /** The newest report of each server that sent one in the last 15 s, by server id. */
  async reports(): Promise<readonly ServerReport[]> {
    return this.#json("GET", "/v1/reports", undefined, serverReports);
  }

  /** Forgets URLs or tags at every server. Resolves when all have acknowledged or control gave up waiting (10 s). */
  async purge(
    request: PurgeRequest,
    onProgress: (progress: PurgeProgress) => void = () => {},
  ): Promise<PurgeResult> {
    const what = "purge";
    const signal = AbortSignal.timeout(PURGE_TIMEOUT_MS);
    const { body } = await this.#open("POST", "/v1/purges", request, signal);
    const reader = new NdjsonReader(PURGE_LINE_BYTES_MAX);
    let result: PurgeResult | undefined;
    try {
      for await (const chunk of body) {
        for (const value of reader.read(chunk as Buffer)) {
          const progress = parsePurgeProgress(value);
          if (progress.type === "done") result = progress;
          onProgress(progress);
        }
      }
    } catch (cause) {
      throw unreachable(this.#origin, what, cause);
    }
    if (result === undefined) {
      // Not "safe": the purge was numbered and goes on; the caller only does not learn how it ended.
      throw new ControlError(
        `Cannot follow the ${what} at control ${this.#origin}: the answer broke off; repeat it`,
        {
          code: "bad-answer",
          source: "upstream",
          retry: "safe",
        },
      );
    }
    return result;
  }

  /** Tries a few times. False when control has not taken it; never rejects. */
  async acknowledgePurge(ack: PurgeAck): Promise<boolean> {
    return await this.#acks.send(ack);
  }

  /** Ends every watch and connection; requests under way fail. */
  async close(): Promise<void> {
    for (const watch of this.#watches) watch.close();
    this.#watches.clear();
    this.#acks.close();
    await Promise.all([this.#agent, ...this.#lanes].map(async (one) => await one.destroy()));
  }

  async #unlessMissing<T>(answer: Promise<T>): Promise<T | undefined> {
    try {
      return await answer;
    } catch (error) {
      if (error instanceof ControlError && error.code === "not-found") return undefined;
      throw error;
    }
  }

  async #json(
    method: "GET" | "POST" | "PATCH",
    path: string,
    body: unknown,
    schema?: undefined,
    over?: Dispatcher,
  ): Promise<undefined>;
  async #json<T>(
    method: "GET" | "POST" | "PATCH",
    path: string,
    body: unknown,
    schema: Schema<T>,
    over?: Dispatcher,
  ): Promise<T>;
  async #json<T>(
    method: "GET" | "POST" | "PATCH",
    path: string,
    body: unknown,
    schema?: Schema<T>,
    over?: Dispatcher,
  ): Promise<T | undefined> {
    const signal = AbortSignal.timeout(this.#options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS);
    const answer = await this.#open(method, path, body, signal, over);
    const chunks: Buffer[] = [];
    let bytes = 0;
    try {
      for await (const chunk of answer.body) {
        chunks.push(chunk as Buffer);
        bytes += (chunk as Buffer).length;
        if (bytes > ANSWER_BYTES_MAX)
          throw new RangeError(`an answer of more than ${ANSWER_BYTES_MAX} bytes`);
      }
    } catch (cause) {
      throw unreachable(this.#origin, `${method} ${path}`, cause);
    }
    if (schema === undefined) return undefined;
    return this.#read(`${method} ${path}`, () =>
      schema.parse(JSON.parse(Buffer.concat(chunks).toString("utf8"))),
    );
  }

  #read<T>(what: string, read: () => T): T {
    try {
      return read();
    } catch (cause) {
      throw new ControlError(
        `Cannot read control's answer to ${what}: ${(cause as Error).message}; is another version running at ${this.#origin}?`,
        { code: "bad-answer", source: "upstream", retry: "never", cause },
      );
    }
  }

  /** Resolves with a 2xx answer whose body is to be read; rejects with ControlError for everything else. */
  async #open(
    method: "GET" | "POST" | "PATCH",
    path: string,
    body: unknown,
    signal: AbortSignal,
    over: Dispatcher = this.#agent,
    headers: Readonly<Record<string, string>> = {},
  ) {
    this.#counters.requests++;
    try {
      const answer = await send.call(over, {
        origin: this.#origin,
        method,
        path,
        signal,
        // On a lane none waits for the answer to the one before: see PIPELINED_MAX.
        ...(over !== this.#agent && { idempotent: true, blocking: false }),
        headers: {
          authorization: `Bearer ${this.#options.token}`,
          "isochrone-node": this.#options.nodeId,
          ...(body !== undefined && { "content-type": "application/json" }),
          ...headers,
        },
        ...(body !== undefined && { body: over === this.#agent ? await bodyOf(body) : JSON.stringify(body) }),
      });
      this.#lastRequestSucceeded = true;
      if (answer.statusCode >= 200 && answer.statusCode < 300) return answer;
      throw await errorOfAnswer(this.#origin, `${method} ${path}`, answer.statusCode, answer.body);
    } catch (cause) {
      this.#counters.failures++;
      if (cause instanceof IsochroneError && cause instanceof ControlError) throw cause;
      this.#lastRequestSucceeded = false;
      throw unreachable(this.#origin, `${method} ${path}`, cause);
    }
  }
}

/** A document may have tens of megabytes: written in pieces, with other work in between. */
async function bodyOf(value: unknown): Promise<string | Buffer> {
  const chunks: Buffer[] = [];
  let text = "";
  let until = performance.now() + TURN_MS;
  for (const piece of jsonPieces(value)) {
    text += piece;
    if (text.length >= PIECE_CHARACTERS) {
      chunks.push(Buffer.from(text));
      text = "";
    }
    if (performance.now() < until) continue;
    await setImmediate();
    until = performance.now() + TURN_MS;
  }
  return chunks.length === 0 ? text : Buffer.concat([...chunks, Buffer.from(text)]);
}

function documentPath(kind: DocumentKind, id: string): string {
  return `/v1/documents/${kind}/${encodeURIComponent(id)}`;
}
