/** One warm-up: every URL at every place, a few at a time and no faster than asked, again where a server says "later". */
import type { Agent as HttpAgent, IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { http } from "#kit/io";
import { clusterCacheStatus } from "../cache-status.ts";

/** Where a URL is to lie: a cluster, or a server by itself. */
export interface Place {
  readonly name: string;
  /** Any of them will do; the next is asked when one takes no connection. */
  readonly servers: readonly Server[];
}

export interface Server {
  readonly address: string;
  readonly port: number;
}

export interface WarmOptions {
  readonly urls: readonly URL[];
  readonly places: readonly Place[];
  /** Requests at once, and begun in a second. */
  readonly concurrency: number;
  readonly perSecond: number;
  /** Where https URLs are asked for. */
  readonly tlsPort: number;
  /** Fields of every request. */
  readonly headers: Readonly<Record<string, string>>;
  /** Fires: nothing more is begun, and what is under way is given up. */
  readonly signal: AbortSignal;
  readonly onProgress: (tally: WarmTally) => void;
  /** A server had no room for a request, which will be sent again. */
  readonly onRepeat?: () => void;
}

export interface PlaceTally {
  /** Fetched and stored now. */
  warmed: number;
  /** Already stored and fresh. */
  present: number;
  failed: number;
}

export interface Failure {
  readonly reason: string;
  count: number;
  readonly examples: { readonly url: string; readonly place: string }[];
}

export interface WarmTally {
  readonly requests: number;
  done: number;
  bytes: number;
  /** Requests that were repeated because a server had no room. */
  repeated: number;
  readonly places: ReadonlyMap<string, PlaceTally>;
  readonly failures: Map<string, Failure>;
  /** Numbers of the URLs that are not at every place yet. */
  readonly left: Set<number>;
}

/** A server that has sent nothing for so long is given up, ms: longer than an edge waits for its next hop. */
const SILENCE_MS = 65_000;
/** Times that a request is sent while it is answered with 503 (no spare room). */
const TRIES_MAX = 5;
const RETRY_AFTER_MS_MAX = 10_000;
const EXAMPLES_MAX = 3;
const REASONS_MAX = 100;

type Outcome = "warmed" | "present" | { readonly reason: string };

/** Resolves with what came of it; never rejects for what servers do. */
export async function warm(options: WarmOptions): Promise<WarmTally> {
  const { urls, places, concurrency, perSecond, signal } = options;
  const tallies = new Map(places.map(({ name }) => [name, { warmed: 0, present: 0, failed: 0 }]));
  const tally: WarmTally = {
    requests: urls.length * places.length,
    done: 0,
    bytes: 0,
    repeated: 0,
    places: tallies,
    failures: new Map(),
    left: new Set(urls.keys()),
  };
  const missing = new Map<number, number>();
  const client = new WarmClient(options, tally);
  let next = 0;
  let nextAtMs = performance.now();
  // All places of a URL one after the other, so that their parents fetch it once.
  const work = async (): Promise<void> => {
    while (next < tally.requests && !signal.aborted) {
      const number = next++;
      const nowMs = performance.now();
      const beginMs = Math.max(nowMs, nextAtMs);
      nextAtMs = beginMs + 1_000 / perSecond;
      if (beginMs > nowMs) await delay(beginMs - nowMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const at = Math.floor(number / places.length);
      const url = urls[at];
      const place = places[number % places.length];
      if (url === undefined || place === undefined) return;
      const outcome = await client.ask(url, place, at);
      if (signal.aborted) return;
      const placeTally = tallies.get(place.name);
      tally.done++;
      if (typeof outcome === "string") {
        if (placeTally) placeTally[outcome]++;
        const open = (missing.get(at) ?? places.length) - 1;
        missing.set(at, open);
        if (open === 0) {
          missing.delete(at);
          tally.left.delete(at);
        }
      } else {
        if (placeTally) placeTally.failed++;
        note(tally.failures, outcome.reason, url, place);
      }
      options.onProgress(tally);
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, tally.requests) }, work));
  client.close();
  return tally;
}

function note(failures: Map<string, Failure>, reason: string, url: URL, place: Place): void {
  const name = failures.has(reason) || failures.size < REASONS_MAX ? reason : "other reasons";
  const failure = failures.get(name) ?? { reason: name, count: 0, examples: [] };
  failures.set(name, failure);
  failure.count++;
  if (failure.examples.length < EXAMPLES_MAX) failure.examples.push({ url: url.href, place: place.name });
}

class WarmClient {
  readonly #o: WarmOptions;
  readonly #tally: WarmTally;
  readonly #http: HttpAgent;
  readonly #https: HttpsAgent;
  /** Took no connection: asked after the others of their place. */
  readonly #unreachable = new Set<Server>();

  constructor(options: WarmOptions, tally: WarmTally) {
    this.#o = options;
    this.#tally = tally;
    const pool = { keepAlive: true, maxFreeSockets: options.concurrency, scheduling: "lifo" } as const;
    this.#http = new http.Agent(pool);
    this.#https = new HttpsAgent(pool);
  }

  close(): void {
    this.#http.destroy();
    this.#https.destroy();
  }

  /** `number`: of the URL; the servers of a place take turns. */
  async ask(url: URL, place: Place, number: number): Promise<Outcome> {
    let reason = `no server of ${place.name} could be reached`;
    let tries = 1;
    const turn = number % place.servers.length;
    const servers = [...place.servers.slice(turn), ...place.servers.slice(0, turn)].sort(
      (a, b) => Number(this.#unreachable.has(a)) - Number(this.#unreachable.has(b)),
    );
    for (const server of servers) {
      try {
        for (;;) {
          const answer = await this.#send(url, server);
          if (answer.status !== 503 || tries >= TRIES_MAX) return outcomeOf(answer);
          tries++;
          this.#tally.repeated++;
          this.#o.onRepeat?.();
          await delay(answer.retryAfterMs, undefined, { signal: this.#o.signal });
        }
      } catch (error) {
        reason = reasonOf(error);
        if (this.#o.signal.aborted || !isUnreachable(error)) return { reason };
        this.#unreachable.add(server);
      }
    }
    return { reason };
  }

  async #send(url: URL, server: Server): Promise<ReceivedAnswer> {
    const isTls = url.protocol === "https:";
    const shared = {
      host: server.address,
      path: `${url.pathname}${url.search}`,
      headers: { ...this.#o.headers, host: url.host },
      signal: this.#o.signal,
      timeout: SILENCE_MS,
    };
    const outgoing = isTls
      ? httpsRequest({
          ...shared,
          port: this.#o.tlsPort,
          agent: this.#https,
          servername: isIP(url.hostname) === 0 ? url.hostname : "",
        })
      : http.request({ ...shared, port: server.port, agent: this.#http });
    outgoing.once("timeout", () => outgoing.destroy(new Error(`silent for ${SILENCE_MS / 1_000} s`)));
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once("response", resolve);
      outgoing.on("error", reject);
      outgoing.end();
    });
    for await (const chunk of response as AsyncIterable<Buffer>) this.#tally.bytes += chunk.byteLength;
    const seconds = Number(response.headers["retry-after"]);
    return {
      status: response.statusCode ?? 0,
      retryAfterMs: Math.min(RETRY_AFTER_MS_MAX, (seconds >= 1 ? seconds : 1) * 1_000),
      cacheStatus: String(response.headers["cache-status"] ?? ""),
    };
  }
}

interface ReceivedAnswer {
  readonly status: number;
  readonly retryAfterMs: number;
  readonly cacheStatus: string;
}

function outcomeOf({ status, cacheStatus }: ReceivedAnswer): Outcome {
  if (status >= 400) return { reason: `status ${status}` };
  const { isHit, isStored, detail } = clusterCacheStatus(cacheStatus);
  if (isHit) return "present";
  if (isStored) return "warmed";
  if (cacheStatus === "") return { reason: "no Cache-Status in the answer: no server of ours" };
  return { reason: `not stored${detail === undefined ? "" : `: ${detail}`}` };
}

/** Whether another server of the place may do better: this one was not reached, so nothing is asked twice. */
function isUnreachable(error: unknown): boolean {
  const { code = "" } = error as NodeJS.ErrnoException;
  return /^(?:ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|ECONNRESET)$/.test(code);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as NodeJS.ErrnoException;
  return code === undefined
    ? error.message
    : `${code}${code === "ECONNRESET" ? " (the answer broke off)" : ""}`;
}
