/**
 * Mutated requests into the edge's HTTP/1.1 connection, in-process: the flat path alone, with sockets that are plain objects,
 * and the whole server with its hand-over to node:http's parser, with streams for sockets. After each input:
 *
 * - nothing was thrown, and no input takes the thread more than {@link HANG_MS} of CPU time (on a busy machine it may wait for its turn
 *   for longer than that; a slow one is tried three times more and its least counts, since a collection of garbage may fall into any);
 * - each request that was passed on is the one that the permissive reader of RFC 9112 finds at that place of the bytes, with
 *   the same method, target and fields, and written anew a strict reader reads it equally;
 * - what was handed over is the rest of the bytes, intact.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import type { MonotonicMs } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import {
  type Answer,
  edgeDefaults,
  EdgeMetrics,
  EdgeServer,
  Http1Connection,
  type Http1Context,
  SocketReads,
} from "#edge";
import { uriTarget } from "../../../edge/core/cache-key.ts";
import { Dice, Mutator } from "./mutate.ts";
import { readRequest, readRequests } from "./strict-http.ts";
import { smugglingVectors } from "./vectors.ts";

export const HANG_MS = 50;
/** Turns of the microtask queue within which an answer that is there at once must be written. */
const TURNS_MAX = 2_000;

export interface Finding {
  readonly what: string;
  /** The input, quoted. */
  readonly input: string;
}

export interface FuzzReport {
  readonly inputs: number;
  readonly bytes: number;
  /** Requests that were passed on. */
  readonly accepted: number;
  readonly handedOver: number;
  /** Inputs that ended with a refusal. */
  readonly refused: number;
  readonly findings: readonly Finding[];
  /** CPU time of the slowest input, ms. */
  readonly slowestMs: number;
  readonly seconds: number;
}

const FINDINGS_MAX = 20;

const CANONICAL: readonly string[] = [
  "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
  "HEAD /a/b?c=d HTTP/1.1\r\nHost: a.test:8080\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n",
  'GET /x HTTP/1.1\r\nHost: a\r\nIf-None-Match: "a", W/"b"\r\nAccept-Encoding: gzip, br\r\nConnection: keep-alive\r\n\r\n',
  "GET /y HTTP/1.1\r\nhost: a\r\nRange: bytes=0-10\r\nCookie: a=b; c=d\r\nX-Empty:\r\nX-Tab:\tv\t\r\n\r\n",
  "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /3 HTTP/1.1\r\nHost: a\r\n\r\n",
  "GET /1 HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nA: c\r\n\r\n",
  "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
  "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
];

/** Half canonical requests and pipelines, half smuggling vectors. */
export function fuzzCorpus(): readonly string[] {
  const vectors = smugglingVectors()
    .filter((vector) => vector.class !== "sweep" && vector.bytes.length < 2_000)
    .map((vector) => vector.bytes);
  const each = Math.floor(vectors.length / CANONICAL.length);
  return [...vectors, ...CANONICAL.flatMap((text) => Array.from({ length: each }, () => text))];
}

interface Seen {
  readonly method: string;
  readonly target: string;
  readonly fields: readonly (readonly [string, string])[];
}

const ANSWER: Answer = {
  status: 200,
  fields: [],
  body: undefined,
  bodyBytes: undefined,
  record: { outcome: "miss", status: undefined, propertyId: undefined, upstream: undefined },
};

/** The least of a socket that a connection on the flat path touches. */
class PlainSocket {
  readonly #listeners: Partial<Record<string, () => void>> = {};
  written = 0;
  isEnded = false;
  destroyed = false;
  readonly writableLength = 0;
  readonly writableNeedDrain = false;
  readonly remoteAddress = "127.0.0.1";
  on(event: string, listener: () => void): this {
    this.#listeners[event] = listener;
    return this;
  }
  once(event: string, listener: () => void): this {
    return this.on(event, listener);
  }
  off(event: string): this {
    this.#listeners[event] = undefined;
    return this;
  }
  say(event: string): void {
    this.#listeners[event]?.();
  }
  write(): boolean {
    this.written += 1;
    return true;
  }
  end(): this {
    this.isEnded = true;
    return this;
  }
  destroy(): this {
    this.destroyed = true;
    return this;
  }
  resetAndDestroy(): this {
    return this.destroy();
  }
  cork(): void {}
  uncork(): void {}
  pause(): this {
    return this;
  }
  resume(): this {
    return this;
  }
  isPaused(): boolean {
    return false;
  }
}

/** Bytes are valid during the call only: all connections of a process are read into one buffer. */
const readBuffer = Buffer.alloc(64 * 1_024);

/** The flat path alone: `count` inputs, each whole or in two pieces. */
export async function fuzzFlatPath(options: {
  readonly count: number;
  readonly seed: number;
}): Promise<FuzzReport> {
  const dice = new Dice(options.seed);
  const mutator = new Mutator(fuzzCorpus(), dice);
  const findings: Finding[] = [];
  let seen: Seen[] = [];
  let active = 0;
  let refused = 0;
  let rest: Buffer | undefined;
  let failure: string | undefined;
  const dispatcher = {
    begin: () => {
      active += 1;
    },
    abandon: () => {
      active -= 1;
      refused += 1;
    },
    end: () => {
      active -= 1;
    },
    nextId: () => "id",
    inbound: (received: { readonly path: string; readonly checked: Seen }) => {
      const { method, fields } = received.checked;
      seen.push({ method, target: received.path, fields });
      return { head: received.checked, body: undefined };
    },
    answer: () => ANSWER,
  };
  const context = {
    dispatcher,
    settings: edgeDefaults,
    clock: { monotonic: () => 0 as MonotonicMs, epoch: () => 0 },
    metrics: { refused: () => {}, request: () => {}, handedOver: () => {} },
    logger: {
      error: (_event: string, { error }: { readonly error: unknown }) => {
        failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
      },
    },
    hot: () => undefined,
    onServedHot: undefined,
    isDraining: () => false,
    isOther: () => false,
    handOver: (_socket: Socket, bytes: Buffer) => {
      rest = bytes;
    },
    onGone: () => {},
  } as unknown as Http1Context;

  const feed = async (input: Buffer, cut: number): Promise<void> => {
    seen = [];
    active = 0;
    rest = undefined;
    failure = undefined;
    const socket = new PlainSocket();
    const reads = new SocketReads();
    const connection = new Http1Connection(context, socket as unknown as Socket, reads);
    const pieces = cut === 0 ? [input] : [input.subarray(0, cut), input.subarray(cut)];
    for (const piece of pieces) {
      if (rest === undefined) {
        piece.copy(readBuffer);
        reads.sink?.(readBuffer.subarray(0, piece.byteLength));
        // The next connection's bytes come into the same buffer.
        readBuffer.fill("#", 0, piece.byteLength);
      } else rest = Buffer.concat([rest, piece]);
      for (let turns = 0; active > 0; turns += 1) {
        if (turns > TURNS_MAX) {
          failure = "an answer that was there at once was not written";
          break;
        }
        await Promise.resolve();
      }
    }
    if (active < 0) failure = "a request ended twice";
    connection.sweep(0 as MonotonicMs);
    socket.say("close");
  };

  const startedMs = performance.now();
  let bytes = 0;
  let accepted = 0;
  let handedOver = 0;
  let refusals = 0;
  let slowestMs = 0;
  for (let index = 0; index < options.count && findings.length < FINDINGS_MAX; index += 1) {
    // What weak references keep is let go between turns of the event loop only.
    if (index % 1_000 === 999) await new Promise((resolve) => setImmediate(resolve));
    // A copy: the mutator goes on with its own.
    const input = Buffer.from(mutator.next());
    const cut = dice.roll(3) === 0 ? dice.roll(input.byteLength + 1) : 0;
    bytes += input.byteLength;
    refused = 0;
    let fault: string | undefined;
    const beganMs = cpuMs();
    try {
      await feed(input, cut);
    } catch (error) {
      fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
    }
    let tookMs = cpuMs() - beganMs;
    refusals += refused > 0 ? 1 : 0;
    accepted += seen.length;
    handedOver += rest === undefined ? 0 : 1;
    fault ??= failure ?? judged(input.toString("latin1"), seen, rest);
    if (fault === undefined && tookMs > HANG_MS) {
      tookMs = await leastOfThree(() => feed(input, cut));
      if (tookMs > HANG_MS) fault = `took ${Math.round(tookMs)} ms of CPU time`;
    }
    slowestMs = Math.max(slowestMs, tookMs);
    if (fault !== undefined) findings.push({ what: fault, input: JSON.stringify(input.toString("latin1")) });
  }
  const seconds = Math.round((performance.now() - startedMs) / 100) / 10;
  return {
    inputs: options.count,
    bytes,
    accepted,
    handedOver,
    refused: refusals,
    findings,
    slowestMs: Math.round(slowestMs * 10) / 10,
    seconds,
  };
}

/** CPU time of this thread so far, ms. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

/** CPU time that an input that was slow takes at the least, ms. */
async function leastOfThree(feed: () => Promise<void>): Promise<number> {
  let leastMs = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const beganMs = cpuMs();
    await feed();
    leastMs = Math.min(leastMs, cpuMs() - beganMs);
  }
  return leastMs;
}

/** What is wrong with the requests that were passed on of `text`; `rest` is what was handed over. */
function judged(text: string, seen: readonly Seen[], rest: Buffer | undefined): string | undefined {
  let at = 0;
  for (const request of seen) {
    const step = readRequest(text, at, "permitted");
    if (step.kind !== "request") return `passed on what is no request: ${step.kind}`;
    const read = step.request;
    if (read.method !== request.method || read.target !== request.target)
      return "passed on another request line";
    if (!isEqual(read.fields, request.fields)) return "passed on other fields";
    const written = `${request.method} ${uriTarget(request.target)} HTTP/1.1\r\n${request.fields.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
    const again = readRequest(written, 0, "strict");
    if (again.kind !== "request")
      return `a strict reader refuses it: ${again.kind === "fault" ? again.rule : again.kind}`;
    if (again.next !== written.length || !isEqual(again.request.fields, request.fields))
      return "a strict reader reads it differently";
    at = step.next;
  }
  if (rest !== undefined && rest.toString("latin1") !== text.slice(at))
    return "handed over other bytes than the rest";
  return undefined;
}

function isEqual(one: Seen["fields"], other: Seen["fields"]): boolean {
  return (
    one.length === other.length &&
    one.every(([name, value], index) => name === other[index]?.[0] && value === other[index]?.[1])
  );
}

/** A socket whose client has said all that it will. */
class SaidSocket extends Duplex {
  readonly remoteAddress = "127.0.0.1";
  bytesRead = 0;
  heard = "";
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.heard += chunk.toString("latin1");
    done();
  }
  setTimeout(): this {
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  resetAndDestroy(): this {
    return this.destroy();
  }
}

interface PassedOn {
  readonly method: string;
  readonly target: string;
  readonly isWhole: () => boolean;
}

interface ServerRun {
  readonly seen: readonly PassedOn[];
  /** Text of all answers. */
  readonly heard: string;
  readonly fault: string | undefined;
}

/** The whole server, both ways: `count` inputs. */
export async function fuzzServer(options: {
  readonly count: number;
  readonly seed: number;
}): Promise<FuzzReport> {
  const dice = new Dice(options.seed);
  const mutator = new Mutator(fuzzCorpus(), dice);
  const findings: Finding[] = [];
  const seenOf = new Map<string, PassedOn[]>();
  let failure: string | undefined;
  const metrics = new EdgeMetrics();
  const log = createLogger({ role: "edge", id: "fuzz" }, { level: "silent" });
  // The one word of the log that matters here: a fault of our own.
  log.error = (_event, detail) => {
    const error = detail?.["error"];
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    // The client's end is no fault of ours.
    if (!/aborted|ECONNRESET|premature/i.test(text)) failure = text;
  };
  const server = new EdgeServer({
    handle: async (inbound) => {
      const list = seenOf.get(inbound.remoteAddress);
      let isWhole = inbound.body === undefined;
      list?.push({ method: inbound.head.method, target: inbound.head.target, isWhole: () => isWhole });
      if (inbound.body !== undefined) {
        for await (const chunk of inbound.body as AsyncIterable<Buffer>) void chunk;
        isWhole = true;
      }
      return ANSWER;
    },
    admin: undefined,
    verifier: undefined,
    settings: edgeDefaults,
    clock: systemClock,
    metrics,
    logger: log,
    onServed: undefined,
    hostWhenAbsent: "origin.test",
  });
  /** One connection that says the input and no more: what was passed on of it, what was heard, and what went wrong. */
  const feed = async (input: Buffer, name: string): Promise<ServerRun> => {
    const seen: PassedOn[] = [];
    seenOf.set(name, seen);
    failure = undefined;
    let fault: string | undefined;
    const socket = Object.defineProperty(new SaidSocket({ allowHalfOpen: true }), "remoteAddress", {
      value: name,
    });
    try {
      const closed = new Promise<void>((resolve) => {
        socket.once("close", resolve);
        socket.once("finish", resolve);
      });
      socket.on("error", () => {});
      server.accept(socket as unknown as Socket);
      socket.push(input);
      socket.push(null);
      let timer: NodeJS.Timeout | undefined;
      const isOver = await Promise.race([
        closed.then(() => true),
        new Promise<boolean>((resolve) => {
          timer = setTimeout(() => resolve(false), 3_000);
        }),
      ]);
      clearTimeout(timer);
      if (!isOver) fault = "neither answered nor closed a client that had said all";
    } catch (error) {
      fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
    }
    socket.destroy();
    seenOf.delete(name);
    return { seen, heard: socket.heard, fault: fault ?? failure };
  };

  const startedMs = performance.now();
  let bytes = 0;
  let accepted = 0;
  let refused = 0;
  let slowestMs = 0;
  for (let index = 0; index < options.count && findings.length < FINDINGS_MAX; index += 1) {
    const input = Buffer.from(mutator.next());
    const text = input.toString("latin1");
    bytes += input.byteLength;
    const beganMs = cpuMs();
    const { seen, heard, fault: failed } = await feed(input, `fuzz ${index}`);
    let tookMs = cpuMs() - beganMs;
    accepted += seen.length;
    if (/HTTP\/1\.1 [45]/.test(heard)) refused += 1;
    let fault = failed ?? forwardedFault(text, seen);
    if (fault === undefined && tookMs > HANG_MS) {
      tookMs = await leastOfThree(async () => void (await feed(input, `fuzz ${index} again`)));
      if (tookMs > HANG_MS) fault = `took ${Math.round(tookMs)} ms of CPU time`;
    }
    slowestMs = Math.max(slowestMs, tookMs);
    if (fault !== undefined) findings.push({ what: fault, input: JSON.stringify(text) });
  }
  await server.drain();
  return {
    inputs: options.count,
    bytes,
    accepted,
    handedOver: 0,
    refused,
    findings,
    slowestMs: Math.round(slowestMs * 10) / 10,
    seconds: Math.round((performance.now() - startedMs) / 100) / 10,
  };
}

function forwardedFault(text: string, seen: readonly PassedOn[]): string | undefined {
  const { requests, tail } = readRequests(text, "permitted");
  for (const [index, { method, target, isWhole }] of seen.entries()) {
    const meant = requests[index];
    // One whose content never ends may be begun, and a plain read of which the content is dropped may be answered.
    if (meant === undefined) {
      const isBegun = index === requests.length && tail?.head !== undefined;
      if (isBegun && (!isWhole() || method === "GET" || method === "HEAD")) continue;
      return "passed on a request that the client did not send";
    }
    const path = meant.target.replace(/^https?:\/\/[^/?#]+/i, "");
    const wanted = uriTarget(path.startsWith("/") || path === "*" ? path : `/${path}`);
    if (meant.method !== method || wanted !== target) return "passed on another request line";
  }
  return undefined;
}
