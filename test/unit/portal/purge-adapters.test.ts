/** The purge calls of Fastly, Cloudflare and Akamai over a control in memory, with API tokens. */
import { createHash } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { CustomerId } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { createPortal, type Portal } from "#portal";
import { FakeControl, news, shop, video } from "./fixtures.ts";

const TOKEN = "isochrone-test-token-of-acme-0123456789";
const digest = (text: string): string => createHash("sha256").update(text).digest("hex");

let control: FakeControl;
let portal: Portal;
let logged: string[];

beforeEach(async () => {
  control = new FakeControl([shop, video, news]);
  logged = [];
  portal = await createPortal({
    control,
    feed: control,
    accounts: [
      {
        name: "acme",
        password: "acme-pass",
        customerId: "acme" as CustomerId,
        tokenDigests: [digest("another"), digest(TOKEN)],
      },
    ],
    clock: systemClock,
    logger: createLogger({ role: "portal", id: "t" }, { level: "debug", write: (line) => logged.push(line) }),
  });
  await portal.hub.start();
});
afterEach(() => portal.close());

async function post(url: string, body?: unknown, headers: Record<string, string> = {}) {
  const answer = await portal.app.inject({
    method: "POST",
    url,
    headers: { authorization: `Bearer ${TOKEN}`, ...headers },
    ...(body !== undefined && { payload: body as object }),
  });
  return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() };
}
/** What control was told, without the fields that all have. */
const purged = () =>
  control.purged.map((one) => {
    const { customerId: _customer, ...rest } = one as Record<string, unknown>;
    return rest;
  });
const whole = { urls: [], tags: [] };

it("an API token does what its account may, without a session's header, and is never logged", async () => {
  const body = {
    propertyId: "shop",
    prefixes: ["https://www.shop.example/img/"],
    hosts: ["www.shop.example"],
  };
  const answer = await portal.app.inject({
    method: "POST",
    url: "/api/v1/purges",
    headers: { authorization: `Bearer ${TOKEN}` },
    payload: body,
  });
  expect(answer.statusCode).toBe(200);
  expect(purged()).toEqual([{ ...whole, ...body, mode: "hard" }]);
  for (const line of logged) {
    expect(line).not.toContain(TOKEN);
    expect(line).not.toContain(digest(TOKEN));
  }
});

it.each([
  ["a wrong token", { authorization: "Bearer wrong" }],
  ["its digest", { authorization: `Bearer ${digest(TOKEN)}` }],
  ["an endless one", { authorization: `Bearer ${TOKEN.repeat(50)}` }],
  ["none", { authorization: "" }],
])("%s opens nothing", async (_what, headers) => {
  for (const url of [
    "/service/shop/purge_all",
    "/client/v4/zones/shop/purge_cache",
    "/ccu/v3/delete/url",
    "/api/v1/purges",
  ]) {
    const { status } = await post(
      url,
      { purge_everything: true, objects: ["/"], propertyId: "shop" },
      headers,
    );
    expect([401, 403]).toContain(status);
  }
  expect(control.purged).toEqual([]);
});

describe("Fastly", () => {
  it("purges a key, hard or soft", async () => {
    expect(await post("/service/shop/purge/product-1")).toEqual({
      status: 200,
      body: { status: "ok", id: "1" },
    });
    await post("/service/shop/purge/product-2", undefined, { "fastly-soft-purge": "1" });
    expect(purged()).toEqual([
      { propertyId: "shop", ...whole, tags: ["product-1"], mode: "hard" },
      { propertyId: "shop", ...whole, tags: ["product-2"], mode: "soft" },
    ]);
  });
  it("purges keys of a field or of a body, with its own token field", async () => {
    const key = { "fastly-key": TOKEN, authorization: "" };
    expect((await post("/service/shop/purge", undefined, { ...key, "surrogate-key": "a b" })).body).toEqual({
      a: "1",
      b: "1",
    });
    expect((await post("/service/shop/purge", { surrogate_keys: ["c"] }, key)).body).toEqual({ c: "2" });
  });
  it("purges all, and a URL by its host", async () => {
    expect((await post("/service/shop/purge_all")).body).toEqual({ status: "ok" });
    expect((await post("/purge/www.shop.example/a/b?c=1")).body).toEqual({ status: "ok", id: "2" });
    expect(purged()).toEqual([
      { propertyId: "shop", ...whole, isWholeProperty: true, mode: "hard" },
      { propertyId: "shop", ...whole, urls: ["http://www.shop.example/a/b?c=1"], mode: "hard" },
    ]);
  });
  it("tells in its shape what is not there or does not fit", async () => {
    expect(await post("/service/news/purge_all")).toMatchObject({ status: 404, body: { msg: "not-found" } });
    expect(await post("/purge/www.news.example/")).toMatchObject({ status: 404, body: { msg: "not-found" } });
    expect(await post("/service/shop/purge", {})).toMatchObject({ status: 422, body: { msg: "refused" } });
    expect(control.purged).toEqual([]);
  });
});

describe("Cloudflare", () => {
  it("purges files, tags, hosts, prefixes, everything", async () => {
    const call = (body: unknown) => post("/client/v4/zones/shop/purge_cache", body);
    expect(
      (
        await call({
          files: ["https://www.shop.example/a", { url: "https://www.shop.example/b", headers: { x: "y" } }],
        })
      ).body,
    ).toEqual({
      success: true,
      errors: [],
      messages: [],
      result: { id: "shop" },
    });
    await call({ tags: ["t"], hosts: ["www.shop.example"], prefixes: ["www.shop.example/img"] });
    await call({ purge_everything: true });
    expect(purged()).toEqual([
      {
        propertyId: "shop",
        ...whole,
        urls: ["https://www.shop.example/a", "https://www.shop.example/b"],
        mode: "hard",
      },
      {
        propertyId: "shop",
        ...whole,
        tags: ["t"],
        hosts: ["www.shop.example"],
        prefixes: ["http://www.shop.example/img"],
        mode: "hard",
      },
      { propertyId: "shop", ...whole, isWholeProperty: true, mode: "hard" },
    ]);
  });
  it.each([
    ["nothing", {}, 422],
    ["everything: false", { purge_everything: false }, 422],
    ["a URL of another", { files: ["https://www.news.example/"] }, 422],
    ["a field that is not known", { file: ["x"] }, 422],
  ])("refuses %s in its shape", async (_what, body, status) => {
    const answer = await post("/client/v4/zones/shop/purge_cache", body);
    expect(answer).toMatchObject({ status, body: { success: false, errors: [{ code: status }] } });
    expect(control.purged).toEqual([]);
  });
});

describe("Akamai Fast Purge", () => {
  it("invalidates and deletes URLs of several properties, by host name and path or whole", async () => {
    const answer = await post("/ccu/v3/invalidate/url/production", {
      objects: ["https://www.shop.example/a", "https://www.video.example/v", "https://www.shop.example/b"],
    });
    expect(answer).toMatchObject({ status: 201, body: { httpStatus: 201, detail: "Request accepted" } });
    await post("/ccu/v3/delete/url", { hostname: "www.shop.example", objects: ["/c"] });
    expect(purged()).toEqual([
      {
        propertyId: "shop",
        ...whole,
        urls: ["https://www.shop.example/a", "https://www.shop.example/b"],
        mode: "soft",
      },
      { propertyId: "video", ...whole, urls: ["https://www.video.example/v"], mode: "soft" },
      { propertyId: "shop", ...whole, urls: ["http://www.shop.example/c"], mode: "hard" },
    ]);
  });
  it("purges tags in all of the account's properties, and whole ones for CP codes", async () => {
    await post("/ccu/v3/delete/tag/staging", { objects: ["t"] });
    await post("/ccu/v3/delete/cpcode", { objects: ["video"] });
    expect(purged()).toEqual([
      { propertyId: "shop", ...whole, tags: ["t"], mode: "hard" },
      { propertyId: "video", ...whole, tags: ["t"], mode: "hard" },
      { propertyId: "video", ...whole, isWholeProperty: true, mode: "hard" },
    ]);
  });
  it.each([
    ["/ccu/v3/delete/url", { objects: ["https://www.news.example/"] }, 422],
    ["/ccu/v3/delete/url", { objects: ["/path"] }, 422],
    ["/ccu/v3/delete/cpcode", { objects: [12345] }, 422],
    ["/ccu/v3/delete/cpcode", { objects: ["news"] }, 422],
    ["/ccu/v3/delete/url", { objects: [] }, 422],
    ["/ccu/v3/delete/everything", { objects: ["x"] }, 404],
  ])("%s with %j is %i in its shape", async (url, body, status) => {
    expect(await post(url, body)).toMatchObject({ status, body: { httpStatus: status } });
    expect(control.purged).toEqual([]);
  });
});
