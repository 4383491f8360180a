/** The handler with a next hop that is played by the test: purges in flight, tiers, failing hops. No socket. */
import { PassThrough, Readable } from "node:stream";
import type { Field, Fields } from "../../../edge/core/headers.ts";
import { describe, expect, test } from "vitest";
import {
  type ClusterId,
  IsochroneError,
  type LinkReport,
  NO_PREFETCH,
  type PropertyId,
  Random,
  type ServerId,
} from "#kit";
import { createLogger, systemClock } from "#kit/io";
import type { PathExplanation, TransportRequest, TransportResponse, TransportTarget } from "#transport";
import {
  AccessKeys,
  type Answer,
  Edge,
  edgeDefaults,
  type EdgeSettings,
  type Hop,
  type HopFields,
  makeAccessKey,
  makeToken,
  type PropertyView,
  type Routing,
  type Upstream,
} from "#edge";
import type { CacheKey } from "../../../edge/core/cache-key.ts";
import { PurgeIndex } from "../../../edge/core/purge-index.ts";
import { get, policy } from "./support.ts";

type Say = (name: string, request: TransportRequest) => Promise<TransportResponse>;

const response = (
  status: number,
  headers: readonly (readonly [string, string])[],
  body = "x",
): TransportResponse => ({
  status,
  headers: [...headers, ["Content-Length", String(body.length)]],
  body: Readable.from([Buffer.from(body)]),
  path: { via: "relay" as ClusterId, reason: "only" as TransportResponse["path"]["reason"] },
  protocol: "http/1.1",
  timings: { connectMs: 0, ttfbMs: 0, attempts: 1 },
  trailers: () => [],
  resumes: () => 0,
});

const PEER_KEY = Buffer.from("00112233445566778899aabbccddeeff", "hex");

class PlayedUpstream implements Upstream {
  readonly asked: string[] = [];
  say: Say;
  constructor(say: Say) {
    this.say = say;
  }
  request(target: TransportTarget, request: TransportRequest): Promise<TransportResponse> {
    const name = target.kind === "server" ? target.serverId : "origin";
    this.asked.push(`${name} ${request.method} ${request.path}`);
    return this.say(name, request);
  }
  explainPath(): PathExplanation {
    throw new Error("not asked for here");
  }
  linkReports(): readonly LinkReport[] {
    return [];
  }
  isServerUp(): boolean {
    return true;
  }
  readonly origins = { order: () => undefined, states: () => undefined, isRepeated: () => false };
  takeRetry(): boolean {
    return true;
  }
}

const server = (id: string, kind: "owner" | "parent"): Hop => ({
  kind,
  target: { kind: "server", serverId: id as ServerId },
  name: id,
  host: "a.example",
  told: { tier: 0, isOwner: kind === "owner" },
});
const ORIGIN: Hop = {
  kind: "origin",
  target: { kind: "origin", origin: { scheme: "http", host: "origin.example", port: 80 } },
  name: "origin",
  host: "a.example",
};

function make(
  hops: readonly Hop[],
  say: Say,
  isOwner = true,
  settings: Partial<EdgeSettings> = {},
  more: Partial<PropertyView> = {},
  forwardsMaxOf?: (propertyId: string) => number | null,
) {
  const property: PropertyView = {
    propertyId: "shop" as PropertyId,
    hostnames: ["a.example"],
    caching: policy(),
    rules: [],
    prefetch: NO_PREFETCH,
    tiering: "parent",
    compression: { isEnabled: true, dictionaries: [] },
    ...more,
  };
  const logger = createLogger({ role: "edge", id: "test" }, { level: "silent" });
  const accessKeys = new AccessKeys(PEER_KEY, logger);
  accessKeys.open({ propertyId: "shop", access: property.access });
  const routing: Routing = {
    propertyVersion: 0,
    propertyOf: (host) => (host === "a.example" ? { property, keyHost: host } : undefined),
    hopsFor: () => hops,
    isOwner: () => isOwner,
    ownerOf: () => undefined,
    groupOf: () => undefined,
  };
  const upstream = new PlayedUpstream(say);
  const edge = new Edge({
    settings: { ...edgeDefaults, memoryBytes: 2 ** 20, hotShare: 0, ...settings },
    clock: systemClock,
    logger,
    cacheName: "fra-1",
    routing,
    upstream,
    forwardsMaxOf,
    purges: new PurgeIndex(),
    accessKeys,
  });
  const ask = async (
    target = "/x",
    hop: HopFields = { tier: undefined, isOwner: false },
    fields: Fields = [],
    method = "GET",
    isRead = true,
  ): Promise<{ answer: Answer; text: string; cacheStatus: string }> => {
    const answer = await edge.handle({
      head: get(fields, { target, method }),
      httpVersion: "1.1",
      remoteAddress: "192.0.2.1",
      body: undefined,
      bodyBytes: undefined,
      signal: new AbortController().signal,
      peer: undefined,
      hop,
      requestId: "r",
      receivedAt: systemClock.epoch(),
      startedAt: systemClock.monotonic(),
    });
    let text = "";
    if (answer.body && isRead) for await (const chunk of answer.body) text += Buffer.from(chunk).toString();
    const cacheStatus = answer.fields.find(([name]) => name === "Cache-Status")?.[1] ?? "";
    return { answer, text, cacheStatus };
  };
  return { edge, upstream, ask };
}

const FRESH = ["Cache-Control", "max-age=600"] as const;
const refused = () =>
  Promise.reject(
    new IsochroneError("Cannot connect", { code: "ECONNREFUSED", source: "upstream", retry: "safe" }),
  );

test("rules: what the origin is asked, what the client gets, and which hits may be remembered", async () => {
  const { edge, upstream, ask } = make(
    [ORIGIN],
    () => Promise.resolve(response(200, [FRESH])),
    true,
    {},
    {
      rules: [
        { match: { pathPrefix: "/no" }, deny: true },
        { match: { pathPrefix: "/old" }, redirect: { location: "/new{query}" } },
        { match: { cookies: [{ name: "beta" }] }, rewrite: { prefix: "/v", replacement: "/beta/v" } },
        { match: { pathPrefix: "/v" }, responseHeaders: { set: [{ name: "X-Site", value: "1" }] } },
      ],
    },
  );
  const hop = { tier: undefined, isOwner: false };
  const beta: Fields = [["Cookie", "beta=1"]];
  expect((await ask("/no/x")).answer.status).toBe(403);
  const { answer: moved } = await ask("/old?a");
  expect([moved.status, moved.fields.find(([name]) => name === "Location")?.[1]]).toEqual([302, "/new?a"]);
  await ask("/v", hop);
  await ask("/v", hop, beta);
  expect(upstream.asked).toEqual(["origin GET /v", "origin GET /beta/v"]);
  // Each is a hit of its own now; neither may be remembered for whoever asks for the URL.
  for (const fields of [[], beta]) {
    const { answer, cacheStatus } = await ask("/v", hop, fields);
    expect(cacheStatus).toContain("hit");
    expect(answer.fields).toContainEqual(["X-Site", "1"]);
    expect(answer.memo).toBeUndefined();
  }
  expect(upstream.asked).toHaveLength(2);
  expect(
    (await edge.metrics.registry.getSingleMetric("isochrone_edge_refused_total")?.get())?.values,
  ).toMatchObject([{ labels: { reason: "rule" }, value: 1 }]);

  const plain = make(
    [ORIGIN],
    () => Promise.resolve(response(200, [FRESH])),
    true,
    {},
    {
      rules: [{ match: { pathPrefix: "/v" }, responseHeaders: { set: [{ name: "X-Site", value: "1" }] } }],
    },
  );
  await plain.ask("/v");
  expect((await plain.ask("/v")).answer.memo).toMatchObject({
    responseHeaders: { set: [{ name: "X-Site", value: "1" }] },
  });
});

test("rules settle compression and prefetch of a path, and what is kept of which error", async () => {
  const page = '<link rel=stylesheet href="/quiet.css"><img src="/image.png">'.padEnd(600);
  const isPrefetched = Promise.withResolvers<void>();
  const { edge, upstream, ask } = make(
    [ORIGIN],
    (_name, { path }) => {
      if (path === "/image.png") isPrefetched.resolve();
      return Promise.resolve(
        path.startsWith("/gone")
          ? response(path === "/gone-404" ? 404 : 410, [])
          : response(200, [FRESH, ["Content-Type", "text/html"]], page),
      );
    },
    true,
    {},
    {
      prefetch: { ...NO_PREFETCH, isEnabled: true },
      rules: [
        { match: { pathPrefix: "/quiet" }, prefetch: false },
        { match: { pathPrefix: "/plain" }, compression: false, prefetch: false },
        { match: { pathPrefix: "/gone" }, negativeTtlSeconds: 60, goneTtlSeconds: 0 },
      ],
    },
  );
  const hop = { tier: undefined, isOwner: false };
  const coding = async (target: string) =>
    (await ask(target, hop, [["Accept-Encoding", "gzip"]])).answer.fields.find(
      ([name]) => name === "Content-Encoding",
    )?.[1];
  expect(await coding("/plain")).toBeUndefined();
  expect(await coding("/page")).toBe("gzip");
  await isPrefetched.promise;
  // Of the first page nothing; of what the second one names all but what a rule keeps from it.
  expect(upstream.asked).toEqual(["origin GET /plain", "origin GET /page", "origin GET /image.png"]);
  for (const target of ["/gone-404", "/gone-404", "/gone-410", "/gone-410"]) await ask(target);
  expect(upstream.asked.slice(3)).toEqual([
    "origin GET /gone-404",
    "origin GET /gone-410",
    "origin GET /gone-410",
  ]);
  const prefetched = await edge.metrics.registry.getSingleMetric("isochrone_edge_prefetch_total")?.get();
  expect(prefetched?.values.map(({ labels, value }) => [labels["result"], value])).toContainEqual([
    "rule",
    1,
  ]);
});

test("web cache deception: a page under the extension of something else is not stored, however its path is spelt", async () => {
  let type = "text/html; charset=utf-8";
  const { edge, upstream, ask } = make(
    [ORIGIN],
    () => Promise.resolve(response(200, [["Content-Type", type]], "the account of 7")),
    true,
    {},
    {
      rules: [
        { match: { extensions: ["css", "js", "png"] }, overrideTtlSeconds: 600 },
        { match: { pathPrefix: "/static/" }, defaultTtlSeconds: 600 },
      ],
    },
  );
  const deceptions = [
    "/account/x.css",
    "/account;x.css",
    "/account%2Fx.css",
    "/account%3Fx.css",
    "/account%23/x.png",
    "/account%00.js",
    "/account.css?x.js",
    "/static/..%2faccount",
    "/static/..%5Caccount",
    "/static/..;/account",
    "/static/x/../..%2Faccount",
  ];
  for (const target of deceptions) for (let times = 0; times < 2; times++) await ask(target);
  type = "application/problem+json";
  for (let times = 0; times < 2; times++) await ask("/api/me/x.js");
  expect(upstream.asked).toHaveLength(2 * deceptions.length + 2);
  expect(edge.store.memory.objects).toBe(0);
  const counted = await edge.metrics.registry.getSingleMetric("isochrone_edge_not_stored_total")?.get();
  expect(
    counted?.values.find(({ labels }) => labels["reason"] === "unexpected-page")?.value,
  ).toBeGreaterThanOrEqual(8);
  // What the extension promises is stored, and so is a page where no extension promises another thing.
  type = "text/css";
  for (let times = 0; times < 2; times++) await ask("/site.css");
  type = "text/html";
  for (let times = 0; times < 2; times++) await ask("/static/page");
  expect(upstream.asked.slice(-2)).toEqual(["origin GET /site.css", "origin GET /static/page"]);
});

test("signed paths: judged before every hit, told from each other by reason, and without their tokens to the cache and the origin", async () => {
  const secret = "correct-horse-battery";
  const access = {
    parameter: "t",
    keys: [
      makeAccessKey("shop", "k1", secret, PEER_KEY),
      // Of another property: it does not open, and harms none of the others.
      { ...makeAccessKey("other", "k2", secret, PEER_KEY) },
    ],
  };
  const asked: { readonly path: string; readonly cookie: string | undefined }[] = [];
  const { edge, ask } = make(
    [ORIGIN],
    (_name, { path, headers }) => {
      asked.push({ path, cookie: headers.find(([name]) => name.toLowerCase() === "cookie")?.[1] });
      return Promise.resolve(response(200, [FRESH]));
    },
    true,
    {},
    {
      access,
      rules: [
        { match: { pathPrefix: "/s/free" }, requireToken: false },
        { match: { pathPrefix: "/s" }, requireToken: true },
      ],
    },
  );
  const now = systemClock.epoch();
  const later = (now + 60_000) as typeof now;
  const one = makeToken(secret, "k1", later, { path: "/s/a" });
  const hop = { tier: undefined, isOwner: false };
  const status = async (target: string, fields: Fields = []) => {
    const { answer, text } = await ask(target, hop, fields);
    return answer.status === 200 ? 200 : `${answer.status} ${text.trim()}`;
  };
  expect(await status(`/s/a?q=1&t=${one}`, [["Cookie", "session=7"]])).toBe(200);
  // The same object for whoever has a token of its own; none is remembered past the judge.
  const again = await ask("/s/a?q=1", hop, [["Cookie", `session=7; t=${encodeURIComponent(one)}`]]);
  expect([again.answer.status, again.cacheStatus]).toEqual([200, expect.stringContaining("hit")]);
  expect(again.answer.memo).toBeUndefined();
  expect(asked).toEqual([{ path: "/s/a?q=1", cookie: "session=7" }]);
  expect(await status("/s/a?q=1")).toBe("403 This address needs a token.");
  expect(await status("/s/free/x")).toBe(200);
  expect(await status(`/s/b?t=${one}`)).toContain("wrong signature");
  const ended = makeToken(secret, "k1", (now - 1_000) as typeof now, { path: "/s/a" });
  expect(await status(`/s/a?q=1&t=${ended}`)).toContain("expired");
  expect(await status(`/s/a?t=${makeToken(secret, "k2", later, { path: "/s/a" })}`)).toContain("not known");
  expect(await status(`/s/a?t=${one.replace("exp=", "exp=9")}`)).toMatch(/malformed|wrong/);
  expect(await status("/s/a?t=x")).toContain("malformed");
  const prefix = makeToken(secret, "k1", later, { acl: "/s/v/*" });
  expect(await status(`/s/v/1?t=${prefix}`)).toBe(200);
  expect(await status(`/s/w?t=${prefix}`)).toContain("for other paths");
  const counted = await edge.metrics.registry.getSingleMetric("isochrone_edge_refused_total")?.get();
  expect(
    Object.fromEntries(counted?.values.map(({ labels, value }) => [labels["reason"], value]) ?? []),
  ).toMatchObject({ "token-missing": 1, "token-expired": 1, "token-unknown-key": 1, "token-path": 1 });
});

describe("purges and fills in flight", () => {
  test("a fill that began before a purge of its URL is not stored, and is not joined after it", async () => {
    const heads: ((answer: TransportResponse) => void)[] = [];
    const { edge, upstream, ask } = make([ORIGIN], () => new Promise((resolve) => heads.push(resolve)));
    const old = ask();
    await Promise.resolve();
    edge.purges.apply(1, "shop", { keys: ["http://a.example/x"], tags: [] }, "hard");
    const young = ask();
    await Promise.resolve();
    expect(upstream.asked).toHaveLength(2);
    heads[1]?.(response(200, [FRESH], "new"));
    expect((await young).text).toBe("new");
    heads[0]?.(response(200, [FRESH], "old"));
    expect((await old).cacheStatus).toContain("detail=purged-meanwhile");
    expect((await ask()).text).toBe("new");
    expect(
      (await edge.metrics.registry.getSingleMetric("isochrone_edge_not_stored_total")?.get())?.values,
    ).toMatchObject([{ labels: { reason: "purged-meanwhile" }, value: 1 }]);
  });

  test("a purge by tag while the content arrives: what comes is served and not stored", async () => {
    const content = new Readable({ read: () => {} });
    const { edge, ask } = make([ORIGIN], () =>
      Promise.resolve({
        ...response(200, [FRESH, ["Cache-Tag", "t"]]),
        headers: [FRESH, ["Cache-Tag", "t"]],
        body: content,
      }),
    );
    const asked = ask();
    content.push("part");
    await new Promise((resolve) => setImmediate(resolve));
    edge.purges.apply(1, "shop", { keys: [], tags: ["t"] }, "hard");
    content.push(null);
    expect((await asked).text).toBe("part");
    await new Promise((resolve) => setImmediate(resolve));
    expect(edge.store.memory.objects).toBe(0);
  });

  test("a part that is purged before or while it arrives is not kept", async () => {
    const PART: Fields = [FRESH, ["Content-Range", "bytes 0-3/9000"]];
    const range: Fields = [["Range", "bytes=1-2"]];
    const purge = (edge: Edge, number: number) =>
      edge.purges.apply(number, "shop", { keys: ["http://a.example/x"], tags: [] }, "hard");
    const heads: ((answer: TransportResponse) => void)[] = [];
    const content = new Readable({ read: () => {} });
    const { edge, upstream, ask } = make([ORIGIN], () => new Promise((resolve) => heads.push(resolve)));
    const until = async (count: number): Promise<void> => {
      while (heads.length < count) await new Promise((resolve) => setImmediate(resolve));
    };
    const asked = ask("/x", undefined, range);
    await until(1);
    purge(edge, 1);
    heads[0]?.(response(206, PART, "old!"));
    // It is asked for anew, and this answer is purged while its content arrives.
    await until(2);
    heads[1]?.({ ...response(206, PART, "0123"), body: content });
    content.push("01");
    await new Promise((resolve) => setImmediate(resolve));
    purge(edge, 2);
    content.push("23");
    content.push(null);
    expect((await asked).text).toBe("12");
    await new Promise((resolve) => setImmediate(resolve));
    expect([edge.store.memory.objects, upstream.asked.length]).toEqual([0, 2]);
    const again = ask("/x", undefined, range);
    await until(3);
    heads[2]?.(response(206, PART, "4567"));
    expect((await again).text).toBe("56");
    await new Promise((resolve) => setImmediate(resolve));
    expect((await ask("/x", undefined, range)).cacheStatus).toContain("; hit");
  });

  test("what a parent sends that has not heard of the purge is served and not stored", async () => {
    let generation = 3;
    const { edge, ask } = make([server("par-1", "parent"), ORIGIN], () =>
      Promise.resolve(response(200, [FRESH, ["Isochrone-Generation", String(generation)]])),
    );
    edge.purges.apply(4, "shop", { keys: ["http://a.example/x"], tags: [] }, "hard");
    expect((await ask()).cacheStatus).toContain("detail=purged-meanwhile");
    expect(edge.store.memory.objects).toBe(0);
    generation = 4;
    expect((await ask()).cacheStatus).toContain("stored");
    // Another URL of that parent's older knowledge is not meant by the purge.
    generation = 3;
    expect((await ask("/other")).cacheStatus).toContain("stored");
    expect(edge.store.memory.objects).toBe(2);
  });
});

describe("hops", () => {
  test("the next one is asked when one cannot be reached, or does not know the property", async () => {
    const { upstream, ask } = make([server("par-1", "parent"), server("par-2", "parent"), ORIGIN], (name) =>
      name === "par-1" ? refused() : Promise.resolve(response(name === "par-2" ? 421 : 200, [FRESH], name)),
    );
    const { answer, text } = await ask();
    expect(text).toBe("origin");
    expect(upstream.asked).toEqual(["par-1 GET /x", "par-2 GET /x", "origin GET /x"]);
    expect(answer.record).toMatchObject({ outcome: "uri-miss", upstream: "origin", via: "relay" });
  });

  test("all dead: 502 with the reason, and 504 for a timeout; the message with addresses stays here", async () => {
    const { ask, upstream } = make([ORIGIN], refused);
    const dead = await ask();
    expect([dead.answer.status, dead.cacheStatus]).toEqual([502, "fra-1; fwd=uri-miss; detail=ECONNREFUSED"]);
    expect(dead.text).not.toContain("Cannot connect");
    upstream.say = () =>
      Promise.reject(
        new IsochroneError("slow", { code: "headers-timeout", source: "upstream", retry: "safe" }),
      );
    // What has just failed is not asked again so soon: the same answer, without a dial.
    expect((await ask()).answer.status).toBe(502);
    expect(upstream.asked).toHaveLength(1);
    expect((await ask("/other")).answer.status).toBe(504);
  });

  test("one that does not own the key forwards as it is told to and stores nothing", async () => {
    const fields: (readonly [string, string])[] = [];
    const { edge, ask } = make(
      [server("fra-2", "owner"), ORIGIN],
      (_name, request) => {
        fields.push(...request.headers);
        return Promise.resolve(response(200, [FRESH, ["Cache-Status", "fra-2; hit"], ["Age", "7"]]));
      },
      false,
    );
    const { cacheStatus, answer } = await ask();
    expect(cacheStatus).toBe("fra-2; hit, fra-1; fwd=uri-miss; fwd-status=200; detail=not-owner");
    expect(answer.fields.find(([name]) => name === "Age")?.[1]).toBe("7");
    expect(edge.store.memory.objects).toBe(0);
    expect(fields).toContainEqual(["Isochrone-Owner", "1"]);
    expect(fields).toContainEqual(["X-Forwarded-For", "192.0.2.1"]);
  });

  test("an answer of our own that breaks off goes on from the next hop; another representation is never glued on", async () => {
    const text = "0123456789".repeat(10);
    const broken = (etag: string): TransportResponse => ({
      ...response(200, [FRESH, ["ETag", etag]], text),
      // One chunk came, then the server died.
      body: Readable.from(
        (async function* () {
          yield Buffer.from(text.slice(0, 30));
          await Promise.resolve();
          throw new IsochroneError("gone", { code: "connection-lost", source: "upstream", retry: "safe" });
        })(),
      ),
    });
    const ranges: (string | undefined)[] = [];
    const { edge, upstream, ask } = make(
      [server("par-1", "parent"), server("par-2", "parent"), ORIGIN],
      (name, request) => {
        const range = request.headers.find(([one]) => one === "Range")?.[1];
        ranges.push(range);
        if (name === "par-1") return Promise.resolve(broken(request.path === "/other" ? '"w"' : '"v"'));
        if (name === "par-2") return refused();
        const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1]);
        return Promise.resolve(
          response(
            206,
            [FRESH, ["ETag", '"v"'], ["Content-Range", `bytes ${from}-99/100`]],
            text.slice(from),
          ),
        );
      },
    );
    expect((await ask()).text).toBe(text);
    expect(upstream.asked).toEqual(["par-1 GET /x", "par-2 GET /x", "origin GET /x"]);
    expect(ranges).toEqual([undefined, "bytes=30-", "bytes=30-"]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(edge.store.memory.objects).toBe(1);
    await expect(ask("/other")).rejects.toThrow(/another representation/);
  });

  test("while a next hop lets everybody wait, what is stale is served: after a while, and then at once until it answers", async () => {
    let late: ((answer: TransportResponse) => void) | undefined;
    const kept = ["Cache-Control", "max-age=600, stale-if-error=600"] as const;
    const { edge, upstream, ask } = make(
      [ORIGIN],
      (_name, { path }) =>
        path === "/x" && upstream.asked.length > 2
          ? new Promise((resolve) => {
              late = resolve;
            })
          : Promise.resolve(response(200, [kept], `old ${path}`)),
      true,
      { staleWaitMs: 5 },
    );
    await ask();
    await ask("/y");
    edge.purges.apply(1, "shop", { keys: ["http://a.example/x", "http://a.example/y"], tags: [] }, "soft");
    const waited = await ask();
    expect([waited.text, waited.answer.status]).toEqual(["old /x", 200]);
    expect(waited.cacheStatus).toMatch(/^fra-1; hit; ttl=\d+; detail=stale-if-error-late$/);
    expect(edge.collapse.active).toBe(1);
    // Those who come now join the fill that nobody waits for, and another key's do not wait either.
    expect((await ask()).cacheStatus).toContain("collapsed");
    expect((await ask("/y")).cacheStatus).toContain("stale-if-error-late");
    late?.(response(200, [FRESH], "new"));
    await new Promise((resolve) => setImmediate(resolve));
    expect((await ask()).text).toBe("new");
    expect(edge.collapse.isSilent("http://origin.example:80")).toBe(false);
  });

  test("a property has no more requests on their way than its document allows; hits are served", async () => {
    const hanging: ((answer: TransportResponse) => void)[] = [];
    const say: Say = (_, { path }) =>
      path === "/hanging"
        ? new Promise((resolve) => hanging.push(resolve))
        : Promise.resolve(response(200, [FRESH]));
    const { ask, edge } = make([ORIGIN], say, true, {}, {}, (propertyId) =>
      propertyId === "shop" ? 1 : null,
    );
    await ask("/hit");
    const waiting = ask("/hanging");
    while (hanging.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const shed = await ask("/other");
    expect(shed.answer.status).toBe(503);
    expect(shed.answer.fields.find(([name]) => name === "Retry-After")?.[1]).toMatch(/^[1-9][0-9]?$/);
    expect(shed.cacheStatus).toBe("fra-1; fwd=uri-miss; detail=property-limit");
    expect((await ask("/hit")).cacheStatus).toMatch(/^fra-1; hit/);
    expect(edge.gate.control.forwardsOf("shop")).toEqual({
      active: 1,
      activeMax: 1,
      reason: "property-limit",
    });
    hanging[0]?.(response(200, [FRESH], "late"));
    expect((await waiting).text).toBe("late");
    expect((await ask("/other")).answer.status).toBe(200);
  });

  test("a HEAD does not wait for a silent next hop either, whose late answer freshens what is stored", async () => {
    let late: ((answer: TransportResponse) => void) | undefined;
    const stale = ["Cache-Control", "max-age=600, stale-if-error=600"] as const;
    const { edge, upstream, ask } = make(
      [ORIGIN],
      (_name, { method }) =>
        method === "HEAD"
          ? new Promise((resolve) => {
              late = resolve;
            })
          : Promise.resolve(response(200, [stale])),
      true,
      { staleWaitMs: 5 },
    );
    const head = async () => await ask("/x", undefined, [], "HEAD");
    await ask();
    edge.purges.apply(1, "shop", { keys: ["http://a.example/x"], tags: [] }, "soft");
    const waited = await head();
    expect([waited.text, waited.answer.status]).toEqual(["", 200]);
    expect(waited.cacheStatus).toMatch(/detail=stale-if-error-late$/);
    // Known to be silent: it is not asked again.
    expect((await head()).cacheStatus).toMatch(/detail=stale-if-error-late$/);
    expect(upstream.asked).toEqual(["origin GET /x", "origin HEAD /x"]);
    late?.(response(200, [["Cache-Control", "max-age=5"]]));
    await new Promise((resolve) => setImmediate(resolve));
    expect(edge.collapse.isSilent("http://origin.example:80")).toBe(false);
    const [freshened] = edge.store.memory.peek("http://a.example/x" as CacheKey);
    expect(freshened?.fields).toContainEqual(["Cache-Control", "max-age=5"]);
  });

  test("no room for another fill: what is stale is served, the rest is shed", async () => {
    const stale = [
      ["Cache-Control", "max-age=1, stale-if-error=600"],
      ["Age", "100"],
    ] as const;
    const { ask, edge } = make([ORIGIN], () => Promise.resolve(response(200, stale)), true, {
      fillsMax: 1,
    });
    await ask();
    const end = edge.budget.begin();
    expect((await ask()).cacheStatus).toContain("detail=stale-if-error-server-limit");
    expect((await ask("/other")).answer.status).toBe(503);
    end();
    expect((await ask("/other")).answer.status).toBe(200);
  });

  test("a download that is broken off ends its fill, the second of the same key does not", async () => {
    const contents: PassThrough[] = [];
    const { edge, upstream, ask } = make(
      [ORIGIN],
      () => {
        const content = new PassThrough();
        contents.push(content);
        content.write("x");
        return Promise.resolve({
          ...response(200, [FRESH]),
          headers: [FRESH, ["Content-Length", "100000"]],
          body: content,
        });
      },
      true,
      { unreadFillBytesMax: 1_000 },
    );
    const breakOff = async () => {
      const { answer } = await ask("/x", undefined, [], "GET", false);
      await answer.body?.[Symbol.asyncIterator]().return?.();
      await new Promise((resolve) => setImmediate(resolve));
    };
    await breakOff();
    expect(contents.map(({ destroyed }) => destroyed)).toEqual([true]);
    expect([edge.budget.active, edge.collapse.active]).toEqual([0, 0]);
    await breakOff();
    expect(contents.map(({ destroyed }) => destroyed)).toEqual([true, false]);
    contents[1]?.end("y".repeat(99_999));
    expect((await ask("/x")).text).toHaveLength(100_000);
    expect(upstream.asked).toHaveLength(2);
  });

  test("a hot key of another server is kept as a copy: it ages on, obeys purges, and is not copied further", async () => {
    const { edge, upstream, ask } = make(
      [server("fra-2", "owner"), ORIGIN],
      () => Promise.resolve(response(200, [FRESH, ["Age", "7"]])),
      false,
      { hotKeyRequestsMin: 3, hotKeyCopyMs: 60_000 },
    );
    expect((await ask()).cacheStatus).toContain("detail=not-owner");
    expect((await ask()).cacheStatus).toContain("detail=not-owner");
    expect((await ask()).cacheStatus).toContain("; stored");
    const copy = await ask();
    expect(copy.cacheStatus).toMatch(/^fra-1; hit; ttl=59[23]/);
    expect(copy.answer.fields.find(([name]) => name === "Age")?.[1]).toMatch(/^[78]$/);
    expect(upstream.asked).toHaveLength(3);
    expect(edge.copies.hot.copies).toBe(1);
    edge.purges.apply(1, "shop", { keys: ["http://a.example/x"], tags: [] }, "hard");
    expect((await ask()).cacheStatus).not.toContain("hit");
    expect(upstream.asked).toHaveLength(4);
  });

  test("a burst for another server's key is one request for most of it", async () => {
    const { upstream, ask } = make(
      [server("fra-2", "owner")],
      async () => {
        await new Promise((resolve) => setImmediate(resolve));
        return response(200, [FRESH]);
      },
      false,
      { hotKeyRequestsMin: 3 },
    );
    const answers = await Promise.all(Array.from({ length: 100 }, () => ask()));
    expect(answers.every(({ text }) => text === "x")).toBe(true);
    expect(upstream.asked).toHaveLength(3);
  });

  test("an unknown host is 421", async () => {
    const { edge } = make([ORIGIN], refused);
    expect(edge.handler.plan(get([], { host: "b.example" }))).toBeUndefined();
  });
});

test("the memory store is bounded by real bytes: the least recently used goes first", async () => {
  const { edge, ask } = make([ORIGIN], () => Promise.resolve(response(200, [FRESH], "x".repeat(100_000))));
  for (let n = 0; n < 20; n++) {
    await ask(`/${n}`);
    await ask("/0");
    expect(edge.store.memory.bytes).toBeLessThanOrEqual(2 ** 20);
  }
  expect(edge.store.memory.objects).toBe(8);
  expect(edge.store.memory.counters.evictions).toBe(12);
  expect((await ask("/0")).cacheStatus).toMatch(/^fra-1; hit/);
});

test("what is stored holds no more memory than its bytes: slices and small chunks are copied together", async () => {
  const { edge, ask } = make([ORIGIN], () => {
    const slab = Buffer.alloc(65_536, "s");
    const chunks = Array.from({ length: 3_000 }, (_, index) => slab.subarray(index, index + 1));
    return Promise.resolve({ ...response(200, [FRESH]), headers: [FRESH], body: Readable.from(chunks) });
  });
  expect((await ask()).text).toBe("s".repeat(3_000));
  const [key] = [edge.handler.plan(get([], { target: "/x" }))?.key];
  const stored = key === undefined ? [] : await edge.store.lookup(key);
  expect(stored[0]?.body.bytes).toBe(3_000);
  expect(stored[0]?.body.chunks).toHaveLength(1);
  expect(stored[0]?.body.chunks[0]?.buffer.byteLength).toBe(3_000);
  expect((await ask()).text).toBe("s".repeat(3_000));
});

test("a stored body lets go of the exchange that it came from", async () => {
  const { edge, ask } = make([ORIGIN], () => Promise.resolve(response(200, [FRESH])));
  await ask();
  const plan = edge.handler.plan(get([], { target: "/x" }));
  const stored = plan === undefined ? [] : await edge.store.lookup(plan.key);
  expect(stored).toHaveLength(1);
  expect(stored[0]?.body.onAbandoned).toBeUndefined();
});

describe("purges of an object in slices", () => {
  const SLICE = 131_072;
  /** Slices of the store of `make`: an eighth of a MiB. */
  const sliced = (generation = 0): Say => {
    return (_name, request) => {
      const field = (name: string) => request.headers.find(([one]) => one === name)?.[1];
      if (field("If-None-Match") === '"v"')
        return Promise.resolve(response(304, [FRESH, ["ETag", '"v"']], ""));
      const [first = 0, last = 0] = (/^bytes=(\d+)-(\d+)$/.exec(field("Range") ?? "") ?? [])
        .slice(1)
        .map(Number);
      return Promise.resolve(
        response(
          206,
          [
            FRESH,
            ["ETag", '"v"'],
            ["Cache-Tag", "t"],
            ["Content-Range", `bytes ${first}-${last}/${4 * SLICE}`],
            ...(generation > 0 ? [["Isochrone-Generation", String(generation)] as const] : []),
          ],
          "s".repeat(last - first + 1),
        ),
      );
    };
  };
  const setUp = async (say: Say = sliced()) => {
    const made = make([ORIGIN], say);
    const range = async (at: number) => {
      const answer = await made.edge.handle({
        head: get([["Range", `bytes=${at}-${at}`]]),
        httpVersion: "1.1",
        remoteAddress: "192.0.2.1",
        body: undefined,
        bodyBytes: undefined,
        signal: new AbortController().signal,
        peer: undefined,
        hop: { tier: undefined, isOwner: false },
        requestId: "r",
        receivedAt: systemClock.epoch(),
        startedAt: systemClock.monotonic(),
      });
      let text = "";
      if (answer.body) for await (const chunk of answer.body) text += Buffer.from(chunk).toString();
      expect([answer.status, text]).toEqual([206, "s"]);
      // Slices go to the store a moment after their last byte was read.
      await new Promise((resolve) => setImmediate(resolve));
      return answer.fields.find(([name]) => name === "Cache-Status")?.[1] ?? "";
    };
    await range(5);
    await range(SLICE);
    expect(made.upstream.asked).toHaveLength(2);
    expect(await range(SLICE + 1)).toMatch(/; hit; /);
    return { ...made, range };
  };

  test.each(["url", "tag"])(
    "hard, by %s: the slices are gone with the head, though the validator is the same",
    async (by) => {
      const { edge, upstream, range } = await setUp();
      if (by === "url") edge.purges.apply(1, "shop", { keys: ["http://a.example/x"], tags: [] }, "hard");
      else edge.purges.apply(1, "shop", { keys: [], tags: ["t"] }, "hard");
      expect(await range(5)).toMatch(/fwd=uri-miss; fwd-status=206/);
      expect(await range(SLICE)).toMatch(/fwd=partial; fwd-status=206/);
      expect(upstream.asked).toHaveLength(4);
      expect(await range(SLICE)).toMatch(/; hit; /);
    },
  );

  test("soft: the head is validated once, and then holds its slices", async () => {
    const { edge, upstream, range } = await setUp();
    edge.purges.apply(1, "shop", { keys: ["http://a.example/x"], tags: [] }, "soft");
    expect(await range(5)).toMatch(/fwd=stale; fwd-status=304/);
    expect(await range(SLICE)).toMatch(/; hit; /);
    expect(upstream.asked).toHaveLength(3);
  });

  test("a sweep finds slices by the key of their object", async () => {
    const { edge } = await setUp();
    expect(edge.store.memory.objects).toBe(3);
    edge.purges.apply(1, "shop", { keys: ["http://a.example/x"], tags: [] }, "hard");
    expect(edge.handler.sweepPurged(() => "shop").next()).toEqual({ done: true, value: 3 });
  });

  test("a slice that began before the purge is not kept", async () => {
    const { edge, upstream, range } = await setUp();
    const before = upstream.say;
    upstream.say = (name, request) => {
      edge.purges.apply(1, "shop", { keys: ["http://a.example/x"], tags: [] }, "hard");
      return before(name, request);
    };
    await range(2 * SLICE);
    upstream.say = before;
    const { length } = upstream.asked;
    await range(2 * SLICE);
    expect(upstream.asked.length).toBeGreaterThan(length);
  });
});

/** An honest origin of 5,000 bytes which tell version and place, in the ways that origins have of naming a version. */
function rangeOrigin(draw: Random) {
  const size = 5_000;
  const byteOf = (version: number, at: number): number => (version * 101 + at * 7 + (at >> 8)) & 0x7f;
  const state = { version: 1, validator: "strong" as "strong" | "weak" | "none", isDown: false, lies: 0 };
  const say: Say = async (_name, { headers }) => {
    // Others get in between.
    for (let turns = draw.int(4); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
    if (state.isDown) return await refused();
    const { version, validator, lies } = state;
    const asked = new Map(headers.map(([name, value]) => [name.toLowerCase(), value]));
    const tag = validator === "none" ? undefined : `${validator === "weak" ? "W/" : ""}"v${version}"`;
    const fields: [string, string][] = [
      ["Cache-Control", "max-age=600, stale-if-error=600"],
      ...(tag === undefined ? [] : [["ETag", tag] as [string, string]]),
    ];
    if (tag !== undefined && asked.get("if-none-match") === tag) return response(304, fields, "");
    const match = /^bytes=([0-9]*)-([0-9]*)$/.exec(asked.get("range") ?? "");
    let [status, first, last] = [200, 0, size - 1];
    if (match !== null) {
      const [, from = "", to = ""] = match;
      [status, first, last] =
        from === ""
          ? [206, Math.max(0, size - Number(to)), size - 1]
          : [206, Number(from), Math.min(size - 1, to === "" ? size - 1 : Number(to))];
    }
    const bytes = Array.from({ length: last - first + 1 }, (_, n) =>
      String.fromCharCode(byteOf(version, first + n)),
    );
    if (status === 206) fields.push(["Content-Range", `bytes ${first}-${last}/${size}`]);
    // It states one byte more than it sends, in the middle or at the end.
    const sent = status === 206 && lies > draw.float() ? bytes.slice(0, -1) : bytes;
    return response(status, fields, sent.join(""));
  };
  /** Which version a content is of from `first` on; undefined: of none, or of several. */
  const versionOf = (text: string, first: number): number | undefined => {
    for (let version = 1; version <= state.version; version++)
      if (Array.from(text).every((char, n) => char.charCodeAt(0) === byteOf(version, first + n)))
        return version;
    return undefined;
  };
  return { size, state, say, versionOf };
}

test("ranges, wholes and conditions at once, while versions, validators and lengths change: each answer is bytes of one version, where it says", async () => {
  const seen = { parts: 0, hits: 0, wholes: 0, notModified: 0, failed: 0 };
  for (let seed = 1; seed <= 60; seed++) {
    const draw = new Random(seed);
    const { size, state, say, versionOf } = rangeOrigin(draw);
    if (seed % 3 === 0) state.lies = 0.3;
    const { edge, ask } = make([ORIGIN], say, true, { sliceBytes: 1_000, failureMemoryMs: 0 });
    const one = async (): Promise<void> => {
      const from = draw.int(size);
      const to = Math.min(size - 1, from + draw.int(1_500));
      const fields: Field[] = [];
      if (draw.float() < 0.8)
        fields.push([
          "Range",
          draw.float() < 0.2
            ? `bytes=-${1 + draw.int(900)}`
            : `bytes=${from}-${draw.float() < 0.1 ? "" : to}`,
        ]);
      if (draw.float() < 0.15) fields.push(["If-Range", `"v${state.version}"`]);
      if (draw.float() < 0.1) fields.push(["If-None-Match", `W/"v${state.version}"`]);
      // A content that breaks off is no answer.
      const got = await ask("/o", undefined, fields, draw.float() < 0.05 ? "HEAD" : "GET").catch(
        () => undefined,
      );
      if (got === undefined || got.answer.status >= 500) {
        seen.failed++;
        return;
      }
      const { answer, text, cacheStatus } = got;
      if (cacheStatus.includes("; hit")) seen.hits++;
      if (answer.status === 304) seen.notModified++;
      if (answer.status === 304 || text === "") return;
      const stated = answer.fields.find(([name]) => name.toLowerCase() === "content-range")?.[1];
      const range = /^bytes ([0-9]+)-([0-9]+)\/([0-9]+)$/.exec(stated ?? "");
      expect([answer.status, range === null]).toEqual(answer.status === 206 ? [206, false] : [200, true]);
      if (range === null) seen.wholes++;
      else seen.parts++;
      const first = Number(range?.[1] ?? 0);
      if (state.lies === 0) {
        expect(text).toHaveLength(Number(range?.[2] ?? size - 1) - first + 1);
        expect(range?.[3] ?? String(size)).toBe(String(size));
      }
      expect([seed, stated, versionOf(text, first) !== undefined]).toEqual([seed, stated, true]);
    };
    for (let round = 0; round < 12; round++) {
      await Promise.all(Array.from({ length: 1 + draw.int(6) }, one));
      const event = draw.float();
      if (event < 0.2) state.version++;
      else if (event < 0.35) state.validator = (["strong", "weak", "none"] as const)[draw.int(3)] ?? "none";
      else if (event < 0.45) edge.store.invalidate("http://a.example/o" as CacheKey);
      else if (event < 0.5) state.isDown = !state.isDown;
    }
  }
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(20);
});
