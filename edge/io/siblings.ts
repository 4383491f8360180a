/**
 * The workers of one server as one cache. Each key has an owner among them; a worker that is asked for another's key and
 * has no usable copy asks the owner over a Unix socket: first for what it has stored, when that is small (copy-line.ts), then with
 * the request as it came, whose answer it passes on as it is: one Via, one Cache-Status member, the owner's Age. What the owner has
 * whole in its store is kept in the own memory as a copy: it ages as the owner's, and once it is stale the owner is asked again.
 *
 * An owner that does not answer is no error: the caller goes on as if it owned the key, in memory alone.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { chmod, unlink } from "node:fs/promises";
import type { Clock } from "#kit";
import { http, type Logger } from "#kit/io";
import { Stop } from "#transport";
import type { CacheKey } from "../core/cache-key.ts";
import type { Coding } from "../core/compression/accept-encoding.ts";
import type { Fields } from "../core/headers.ts";
import type { StoredHead } from "../core/messages.ts";
import type { ChangedKeys } from "../core/missed-keys.ts";
import { isPart } from "../core/parts.ts";
import { ownerOf, shardOf } from "../core/worker-plan.ts";
import { selectVariant } from "../core/vary.ts";
import { Pieces } from "./answer-writing.ts";
import { sourceOf } from "./answers.ts";
import { COPY_BYTES_MAX } from "./copies.ts";
import { CopyLine, CopyServer } from "./copy-line.ts";
import type { Answer, AnswerRecord, Inbound, SourceHead } from "./exchange.ts";
import type { StoredObject } from "./memory-store.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { type Coded, ObjectBody } from "./object-body.ts";
import type { PrefetchNews } from "./prefetch-news.ts";
import type { RequestPlan } from "./request-plan.ts";
import { answerForm, askForForm, FORM, type FormParts } from "./sibling-forms.ts";
import type { SiblingTier } from "./sibling-tier.ts";
import type { WorkerPlace, WorkerView } from "./worker-methods.ts";

/** Heads that cross between workers; both ends are ours, the bound only keeps a fault from growing. */
const HEAD_BYTES_MAX = 1_048_576;
/** Connections to one sibling that are kept for the next request. */
const IDLE_CONNECTIONS_MAX = 256;
/** An owner that has not begun to answer by then is passed by, ms: longer than its own time for a next hop and one more. */
const OWNER_TIMEOUT_MS = 65_000;

const INBOUND = "isochrone-inbound";
const ANSWER = "isochrone-answer";
/** Names a request that was passed, and, alone, one whose client sends no more. */
const ASKED = "isochrone-asked";
const LEFT = "isochrone-left";

/** A request as it crosses: what of `Inbound` is data. */
type PassedRequest = Pick<
  Inbound,
  "head" | "httpVersion" | "remoteAddress" | "peer" | "hop" | "requestId" | "receivedAt"
>;

interface PassedAnswer {
  readonly status: number;
  readonly fields: Fields;
  readonly bodyBytes: number | undefined;
  readonly hasBody: boolean;
  readonly record: AnswerRecord;
  /** Present when the content is the whole of this stored response. */
  readonly stored?: StoredHead;
  /** Present when the content is another part of this one, or arrives. */
  readonly source?: SourceHead;
}

export interface SiblingsOptions {
  readonly place: WorkerPlace;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: EdgeMetrics;
  /** Tells every other worker; resolves when all have applied it. */
  readonly invalidateElsewhere: (keys: readonly CacheKey[]) => Promise<void>;
  /** Tells every other worker; resolves when it is on its way. */
  readonly prefetchedElsewhere: (news: PrefetchNews) => Promise<void>;
}

/** What of this process answers other workers. */
export interface SiblingParts extends FormParts {
  readonly handle: (inbound: Inbound) => Answer | Promise<Answer>;
  readonly plan: (inbound: Inbound) => RequestPlan | undefined;
  readonly isPurged: (plan: RequestPlan, head: StoredHead) => boolean;
}

export class Siblings implements SiblingTier {
  readonly #o: SiblingsOptions;
  readonly #agent = new http.Agent({
    keepAlive: true,
    maxFreeSockets: IDLE_CONNECTIONS_MAX,
    scheduling: "lifo",
  });
  readonly #refreshing = new Set<CacheKey>();
  /** To the owners' stores, by the path of their sockets. */
  readonly #copyLines = new Map<string, CopyLine>();
  /** Keys whose stored responses are on their way: those who ask meanwhile share them. */
  readonly #copying = new Map<CacheKey, Promise<boolean>>();
  /** Answers for other workers that have not ended. */
  readonly #answering = new Set<Promise<void>>();
  /** Their clients, by what the workers that asked have named them. */
  readonly #clients = new Map<string, Stop>();
  #asks = 0;
  #parts: SiblingParts | undefined;
  #server: Server | undefined;
  #copyServer: CopyServer | undefined;
  #paths: Readonly<Record<number, string>> = {};
  #living = 1;
  /** Grows with every invalidation: a copy that was asked for before one is not kept. */
  #invalidations = 0;
  readonly counters = { wanted: 0, asked: 0, answered: 0, copied: 0, failed: 0 };

  constructor(options: SiblingsOptions) {
    this.#o = options;
    const { counters } = this;
    options.metrics.total(
      "siblings_wanted_total",
      "Keys whose stored responses the worker that owns them was asked for",
      () => counters.wanted,
    );
    options.metrics.total(
      "siblings_asked_total",
      "Requests passed to the worker that owns the key",
      () => counters.asked,
    );
    options.metrics.total(
      "siblings_answered_total",
      "Requests answered for other workers",
      () => counters.answered,
    );
    options.metrics.total(
      "siblings_copied_total",
      "Copies of other workers' objects that were kept",
      () => counters.copied,
    );
    options.metrics.total(
      "siblings_failed_total",
      "Requests that the owning worker did not answer",
      () => counters.failed,
    );
  }

  /** Begins to answer other workers. Rejects when the socket cannot be made. */
  async listen(parts: SiblingParts): Promise<void> {
    this.#parts = parts;
    const server = http.createServer(
      { maxHeaderSize: HEAD_BYTES_MAX, keepAliveTimeout: 0 },
      (asked, response) => {
        const wantedForm = asked.headers[FORM];
        if (wantedForm !== undefined) {
          void answerForm(String(wantedForm), response, this.#parts);
          return;
        }
        const left = asked.headers[LEFT];
        if (left !== undefined) {
          this.#clients.get(String(left))?.abort(undefined);
          response.writeHead(204).end();
          return;
        }
        const answered = this.#answer(asked, response).finally(() => this.#answering.delete(answered));
        this.#answering.add(answered);
      },
    );
    server.maxHeadersCount = 0;
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.#o.place.path, resolve);
    });
    // The directory is closed to others; the socket's own mode says it once more.
    await chmod(this.#o.place.path, 0o600);
    this.#copyServer = new CopyServer((key) => parts.store.memory.lookup(key));
    await this.#copyServer.listen(copyPathOf(this.#o.place.path));
  }

  get living(): number {
    return this.#living;
  }

  setView(view: WorkerView): void {
    this.#paths = view.paths;
    this.#living = Math.max(1, view.living.length);
    const living = new Set(Object.values(view.paths));
    for (const [path, line] of this.#copyLines) {
      if (living.has(path)) continue;
      line.close();
      this.#copyLines.delete(path);
    }
  }

  /** The owner's socket; undefined: this worker owns the key, or its owner is away. */
  #ownerPath(key: CacheKey): string | undefined {
    const { number, workers } = this.#o.place;
    const owner = ownerOf(shardOf(key), workers);
    return owner === number ? undefined : this.#paths[owner];
  }

  /** Whether another worker, which lives, owns the key. */
  isElsewhere(key: CacheKey): boolean {
    return this.#ownerPath(key) !== undefined;
  }

  /** Takes over what the owner has stored under the plan's key. False: nothing that may be used here. Never rejects. */
  async copy(plan: RequestPlan): Promise<boolean> {
    const present = this.#copying.get(plan.key);
    if (present !== undefined) return await present;
    const path = this.#ownerPath(plan.key);
    if (path === undefined) return false;
    const copied = this.#copy(path, plan).finally(() => this.#copying.delete(plan.key));
    this.#copying.set(plan.key, copied);
    return await copied;
  }

  async #copy(path: string, plan: RequestPlan): Promise<boolean> {
    this.counters.wanted++;
    const invalidations = this.#invalidations;
    let line = this.#copyLines.get(path);
    if (line === undefined) {
      line = new CopyLine(copyPathOf(path));
      this.#copyLines.set(path, line);
    }
    const objects = await line.ask(plan.key);
    const parts = this.#parts;
    if (parts === undefined || invalidations !== this.#invalidations) return false;
    let kept = 0;
    for (const object of objects)
      if (!parts.isPurged(plan, object) && parts.store.memory.put(plan.key, object)) kept++;
    this.counters.copied += kept;
    return kept > 0;
  }

  /** The owner's answer; undefined when it has none, and the caller has to go on by itself. Never rejects. */
  async ask(inbound: Inbound, plan: RequestPlan): Promise<Answer | undefined> {
    const path = this.#ownerPath(plan.key);
    if (path === undefined || inbound.isFromSibling === true) return undefined;
    this.counters.asked++;
    try {
      return await this.#ask(path, inbound, plan);
    } catch (error) {
      if (inbound.signal.aborted) return undefined;
      this.counters.failed++;
      this.#o.logger.debug("sibling-failed", { error });
      return undefined;
    }
  }

  form(key: CacheKey, coding: Coding, body: ObjectBody): Promise<Coded | undefined> | undefined {
    const path = this.#ownerPath(key);
    return path === undefined ? undefined : askForForm(this.#agent, path, key, coding, body);
  }

  /** Fetches the owner's present state of a stale copy in the background, once at a time for a key. */
  refresh(inbound: Inbound, plan: RequestPlan): void {
    if (this.#refreshing.has(plan.key)) return;
    this.#refreshing.add(plan.key);
    const whole: Inbound = {
      ...inbound,
      head: { ...plan.head, method: "GET", fields: withoutSelection(plan.head.fields) },
      signal: AbortSignal.timeout(OWNER_TIMEOUT_MS),
      leaving: undefined,
    };
    void this.ask(whole, { ...plan, head: whole.head })
      .then(async (answer) => {
        await answer?.body?.[Symbol.asyncIterator]().return?.(undefined);
        return undefined;
      })
      .catch(() => {})
      .finally(() => this.#refreshing.delete(plan.key));
  }

  /** Marks keys as changed by an unsafe request here and at every other worker. Never rejects. */
  async invalidate(keys: readonly CacheKey[]): Promise<void> {
    this.applyInvalidation(keys);
    try {
      await this.#o.invalidateElsewhere(keys);
    } catch (error) {
      // The primary is going away, and this process with it.
      this.#o.logger.warn("invalidation-not-passed-on", { error });
    }
  }

  async tellPrefetched(news: PrefetchNews): Promise<void> {
    try {
      await this.#o.prefetchedElsewhere(news);
    } catch (error) {
      this.#o.logger.debug("prefetch-news-not-passed-on", { error });
    }
  }

  /** Another worker's invalidation, or the own one. */
  applyInvalidation(keys: ChangedKeys): void {
    this.#invalidations++;
    const store = this.#parts?.store;
    if (keys === "all") store?.clear();
    else for (const key of keys) store?.invalidate(key);
  }

  /** Resolves when no other worker reads an answer of this one, which each of them bounds by its own drain. */
  async settled(): Promise<void> {
    while (this.#answering.size > 0) await Promise.allSettled(this.#answering);
  }

  async close(): Promise<void> {
    this.#agent.destroy();
    for (const line of this.#copyLines.values()) line.close();
    this.#copyServer?.close();
    this.#server?.close();
    this.#server?.closeAllConnections();
    await unlink(this.#o.place.path).catch(() => {});
  }

  async #ask(path: string, inbound: Inbound, plan: RequestPlan): Promise<Answer> {
    const invalidations = this.#invalidations;
    const { head, httpVersion, remoteAddress, peer, hop, requestId, receivedAt } = inbound;
    const passed: PassedRequest = { head, httpVersion, remoteAddress, peer, hop, requestId, receivedAt };
    const name = `${process.pid}-${this.#asks++}`;
    const tellLeft = (): void => this.#tellLeft(path, name);
    inbound.leaving?.addEventListener("abort", tellLeft, { once: true });
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const asked = http.request({
        socketPath: path,
        agent: this.#agent,
        headers: { host: "worker", [INBOUND]: encode(passed), [ASKED]: name },
        maxHeaderSize: HEAD_BYTES_MAX,
        signal: inbound.signal,
        timeout: OWNER_TIMEOUT_MS,
      });
      asked.once("timeout", () => asked.destroy(new Error("the owner does not answer")));
      asked.once("response", resolve);
      asked.on("error", reject);
      asked.end();
    }).finally(() => inbound.leaving?.removeEventListener("abort", tellLeft));
    if (response.statusCode !== 200) {
      response.destroy();
      throw new Error(`the owner answered ${response.statusCode}`);
    }
    const { stored, source, hasBody, ...told } = decode<PassedAnswer>(response.headers[ANSWER]);
    const answer = { ...told, source: source && sourceOf(plan, source, undefined) };
    if (!hasBody) {
      response.resume();
      return { ...answer, bodyBytes: answer.bodyBytes, body: undefined };
    }
    if (stored === undefined) return { ...answer, body: response as AsyncIterable<Uint8Array> };
    // It lies whole at the owner: all of it is taken before the client hears a word, so that an owner that dies now is not missed.
    const body = ObjectBody.of(await chunksOf(response));
    if (invalidations === this.#invalidations && this.#parts?.isPurged(plan, stored) === false) {
      this.#parts.store.memory.put(plan.key, { ...stored, body });
      this.counters.copied++;
    }
    return { ...answer, body: body.read(), source: sourceOf(plan, stored, body) };
  }

  /** A client sends no more, and may have gone: what waits for its place at the next hop there is not asked for it alone. */
  #tellLeft(path: string, name: string): void {
    const told = http.request({
      socketPath: path,
      agent: this.#agent,
      headers: { host: "worker", [LEFT]: name },
    });
    told.once("response", (response: IncomingMessage) => response.resume());
    // An owner that is away has nothing waiting.
    told.on("error", () => {});
    told.end();
  }

  async #answer(asked: IncomingMessage, response: ServerResponse): Promise<void> {
    this.counters.answered++;
    const name = String(asked.headers[ASKED] ?? "");
    const aborter = new AbortController();
    const leaving = new Stop();
    this.#clients.set(name, leaving);
    response.once("close", () => {
      this.#clients.delete(name);
      if (response.writableFinished) return;
      leaving.abort(undefined);
      aborter.abort();
    });
    try {
      const { clock } = this.#o;
      const inbound: Inbound = {
        ...decode<PassedRequest>(asked.headers[INBOUND]),
        body: undefined,
        bodyBytes: undefined,
        signal: aborter.signal,
        leaving,
        startedAt: clock.monotonic(),
        isFromSibling: true,
      };
      const parts = this.#parts;
      if (parts === undefined) throw new Error("This worker does not serve yet");
      const answer = await parts.handle(inbound);
      const stored = this.#storedWhole(parts, inbound, answer);
      const passed: PassedAnswer = {
        status: answer.status,
        fields: answer.fields,
        bodyBytes: answer.bodyBytes,
        hasBody: answer.body !== undefined,
        record: answer.record,
        ...(stored !== undefined
          ? { stored: headOf(stored) }
          : answer.source !== undefined && { source: sourceHeadOf(answer.source.head) }),
      };
      response.writeHead(200, {
        [ANSWER]: encode(passed),
        ...(answer.body === undefined
          ? { "content-length": 0 }
          : answer.bodyBytes !== undefined && { "content-length": answer.bodyBytes }),
      });
      if (answer.body === undefined) {
        response.end();
        return;
      }
      const pieces = new Pieces(answer.body);
      const unwatch = pieces.watch(response);
      for await (const chunk of pieces) {
        if (response.destroyed) return;
        if (!response.write(chunk)) await hasRoom(response);
      }
      unwatch();
      response.end();
    } catch (error) {
      this.#o.logger.debug("sibling-answer-failed", { error });
      response.destroy();
    }
  }

  /** The stored response whose whole content an answer is; undefined when it is anything else. */
  #storedWhole(parts: SiblingParts, inbound: Inbound, answer: Answer): StoredObject | undefined {
    const { outcome } = answer.record;
    if (outcome !== "hit" && outcome !== "hit-stale") return undefined;
    if (
      inbound.head.method !== "GET" ||
      answer.body === undefined ||
      (answer.bodyBytes ?? Number.NaN) > COPY_BYTES_MAX
    )
      return undefined;
    const plan = parts.plan(inbound);
    const wholes = plan && parts.store.memory.peek(plan.key).filter((one) => !isPart(one));
    const stored = wholes && selectVariant(wholes, plan.head.fields);
    return stored !== undefined && stored.status === answer.status && stored.body.bytes === answer.bodyBytes
      ? stored
      : undefined;
  }
}

/** Beside the socket of requests; short, because the path of a socket is. */
const copyPathOf = (path: string): string => `${path}c`;

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64");

function decode<T>(value: string | string[] | undefined): T {
  return JSON.parse(Buffer.from(String(value ?? ""), "base64").toString()) as T;
}

function headOf({ body: _body, ...head }: StoredObject): StoredHead {
  return head;
}

function sourceHeadOf({ status, fields, nominatedFields, sliced }: SourceHead): SourceHead {
  return { status, fields, nominatedFields, sliced };
}

/** Resolves when the reader has read on, or has gone. */
async function hasRoom(response: ServerResponse): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
  });
}

async function chunksOf(response: IncomingMessage): Promise<readonly Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of response as AsyncIterable<Uint8Array>) chunks.push(chunk);
  // One piece: slices of the socket's buffers would keep those.
  return [Buffer.concat(chunks)];
}

const SELECTION: ReadonlySet<string> = new Set([
  "range",
  "if-range",
  "if-none-match",
  "if-modified-since",
  "if-match",
  "if-unmodified-since",
  "cache-control",
  "pragma",
]);

/** The fields without those that ask for a part, or for a validation. */
function withoutSelection(fields: Fields): Fields {
  return fields.filter(([name]) => !SELECTION.has(name.toLowerCase()));
}
