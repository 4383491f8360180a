/**
 * The public suite of tests for HTTP caches (npm: http-cache-tests, https://cache-tests.fyi), driven by its own client and its
 * own origin handlers, so that a verdict is the public site's. Here are only the parts that it leaves to whoever runs it: a
 * fetch that sends what it is told and nothing else, an origin server, and the order.
 */
import { once } from "node:events";
import { Agent, type IncomingMessage, request as httpRequest } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { load } from "./package.ts";

/** What a test says of itself; the rest of it is for the suite's client and origin. */
export interface CacheTest {
  readonly id: string;
  readonly name: string;
  /** Absent: required. `check` asks a question that has no wrong answer. */
  readonly kind?: "required" | "optimal" | "check";
  /** Behaviour of the cache inside a browser. */
  readonly browser_only?: boolean;
  /** Where one of these fails, the test says nothing. */
  readonly depends_on?: readonly string[];
  readonly requests: readonly object[];
}

interface Group {
  readonly tests: readonly CacheTest[];
}

interface Client {
  readonly makeCacheTest: (test: CacheTest) => Promise<void>;
  /** True, or the kind of failure and its message. */
  readonly testResults: Record<string, true | readonly [string, string]>;
}

/** Every test for shared caches that the package has, its Surrogate-Control group included, which its index leaves out. */
export async function packagedTests(): Promise<readonly CacheTest[]> {
  const [index, surrogate] = await Promise.all([
    load<{ default: readonly Group[] }>("tests/index.mjs"),
    load<{ default: Group }>("tests/surrogate-control.mjs"),
  ]);
  return [...index.default, surrogate.default]
    .flatMap(({ tests }) => tests)
    .filter((test) => test.browser_only !== true);
}

/** The origin that plays its part in each test. */
export class SuiteOrigin {
  readonly #worker: Worker;
  readonly url: string;

  private constructor(worker: Worker, port: number) {
    this.#worker = worker;
    this.url = `http://127.0.0.1:${port}`;
  }

  static async start(): Promise<SuiteOrigin> {
    const worker = new Worker(new URL("./origin-thread.ts", import.meta.url));
    const [port] = (await once(worker, "message")) as [number];
    return new SuiteOrigin(worker, port);
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** Objects that {@link holdRequests} asks for. */
const HELD_OBJECTS = 4;

/**
 * Has `count` requests under way at the edge until `release` is called, which resolves with the statuses of their answers and with
 * how many the origin has seen of them.
 */
export function holdRequests(
  count: number,
  { edgeUrl, originUrl }: { readonly edgeUrl: string; readonly originUrl: string },
): { readonly release: () => Promise<{ readonly statuses: readonly number[]; readonly atOrigin: number }> } {
  const agent = new Agent({ maxSockets: Number.POSITIVE_INFINITY });
  const answers = Array.from(
    { length: count },
    async (_, index) => await exchange(agent, `${edgeUrl}/hold/${index % HELD_OBJECTS}`, {}),
  );
  return {
    release: async () => {
      const atOrigin = Number(await (await exchange(agent, `${originUrl}/release`, {})).text());
      const statuses = (await Promise.all(answers)).map(({ status }) => status);
      agent.destroy();
      return { statuses, atOrigin };
    },
  };
}

interface FetchInit {
  readonly method?: string;
  readonly headers?: readonly (readonly [string, string])[];
  readonly body?: string;
}

/** What the edge says of a request that it shed, or would have, had it not had something stale for it. */
const SHED = /; detail=(?:stale-if-error-)?(?:queue-\w+|\w+-limit|server-busy)$/;
/** Times that a request is sent again which the edge shed. */
const SHED_MAX = 20;

/**
 * As much of fetch as the suite's client uses: every header line as it is told, no cache, no redirect. What it tells the origin and
 * asks it about a test is no part of the test, and goes there directly. A request that the edge's overload control sheds has
 * asked nobody anything and is no part of it either: it is sent again when the answer says that (`Retry-After` aside).
 */
function plainFetch(agent: Agent, originUrl: string): (url: string, init?: FetchInit) => Promise<Response> {
  return async (asked, init = {}) => {
    const { pathname, search } = new URL(asked);
    const url = pathname.startsWith("/test/") ? asked : `${originUrl}${pathname}${search}`;
    for (let tries = 0; ; tries++) {
      const response = await exchange(agent, url, init);
      const isShed = SHED.test(response.headers.get("cache-status") ?? "");
      if (!isShed || tries === SHED_MAX) return response;
      await delay(100);
    }
  };
}

async function exchange(agent: Agent, url: string, init: FetchInit): Promise<Response> {
  const request = httpRequest(url, { agent, method: init.method ?? "GET", setDefaultHeaders: false });
  const lines = new Map<string, string[]>([
    ["Host", [new URL(url).host]],
    ["Accept", ["*/*"]],
  ]);
  for (const [name, value] of init.headers ?? []) lines.set(name, [...(lines.get(name) ?? []), value]);
  for (const [name, values] of lines)
    request.setHeader(name, values.length === 1 ? (values[0] ?? "") : values);
  if (init.body !== undefined) request.setHeader("Content-Length", Buffer.byteLength(init.body));
  request.end(init.body);
  const [message] = (await once(request, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  const headers = new Headers();
  for (let index = 0; index < message.rawHeaders.length; index += 2)
    headers.append(message.rawHeaders[index] ?? "", message.rawHeaders[index + 1] ?? "");
  const status = message.statusCode ?? 0;
  // The class Response refuses statuses that the suite's origin uses (999).
  return { status, statusText: "", headers, text: async () => Buffer.concat(chunks).toString() } as Response;
}

/** The verdicts of the public site. `untested`: a test that it depends on has not passed. */
export type Verdict = "pass" | "fail" | "setup" | "untested";

/** A generator of numbers in [0, 1) from a seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d_2b_79_f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/**
 * Between the beginnings of two tests: all of them are under way at once, most of them in the suite's pauses of 3 s, but the first
 * that a cold edge hears of its origin is not hundreds of requests in one millisecond, most of which it would shed.
 */
const STAGGER_MS = 8;

/** Runs all tests, interleaved in an order that `seed` settles. */
export async function runSuite(
  tests: readonly CacheTest[],
  {
    edgeUrl,
    originUrl,
    seed,
  }: { readonly edgeUrl: string; readonly originUrl: string; readonly seed: number },
): Promise<ReadonlyMap<string, { readonly verdict: Verdict; readonly message: string }>> {
  const client = await load<Client>("client/test.mjs");
  const config = await load<{ setFetch(fetch: unknown): void; setBaseUrl(url: string): void }>(
    "client/config.mjs",
  );
  const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
  config.setFetch(plainFetch(agent, originUrl));
  config.setBaseUrl(edgeUrl);
  for (const id of Object.keys(client.testResults)) delete client.testResults[id];
  const next = random(seed);
  const order = tests.map((test) => ({ test, at: next() })).sort((a, b) => a.at - b.at);
  await Promise.all(
    order.map(async ({ test }, index) => {
      await delay(index * STAGGER_MS);
      // The client writes into the tests that it is given.
      await client.makeCacheTest(structuredClone(test));
    }),
  );
  agent.destroy();
  const byId = new Map(tests.map((test) => [test.id, test]));
  const verdictOf = (id: string): Verdict => {
    if ((byId.get(id)?.depends_on ?? []).some((one) => verdictOf(one) !== "pass")) return "untested";
    const result = client.testResults[id];
    return result === true ? "pass" : result?.[0] === "Assertion" ? "fail" : "setup";
  };
  return new Map(
    tests.map(({ id }) => {
      const result = client.testResults[id];
      return [id, { verdict: verdictOf(id), message: result === true ? "" : (result?.[1] ?? "") }];
    }),
  );
}
