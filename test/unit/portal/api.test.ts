/** The API over a control in memory: log-in, isolation of tenants, versions, purge, and the rules that hold for every route. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type CustomerId, zoneOfDocument } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { createPortal, type Portal } from "#portal";
import { addressKey } from "../../../portal/core/address-key.ts";
import { FakeControl, news, report, shop, video, zoneFor } from "./fixtures.ts";

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
      { name: "operator", password: "operator-pass", customerId: null },
      { name: "acme", password: "acme-pass", customerId: "acme" as CustomerId },
    ],
    clock: systemClock,
    logger: createLogger(
      { role: "portal", id: "test" },
      { level: "debug", write: (line) => logged.push(line) },
    ),
    settings: { accountAttempts: { burst: 3, refillMs: 60_000, keysMax: 10 } },
  });
  await portal.hub.start();
});
afterEach(() => portal.close());

interface Answer {
  readonly status: number;
  readonly body: {
    readonly error?: {
      code: string;
      message: string;
      faults?: { path: string; line: number | null }[];
      presentVersion?: number;
    };
    readonly [key: string]: unknown;
  };
  readonly text: string;
  readonly headers: Readonly<Record<string, unknown>>;
}

async function call(
  method: "GET" | "POST" | "PATCH" | "DELETE",
  url: string,
  options: { cookie?: string; body?: unknown; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const answer = await portal.app.inject({
    method,
    url: url.startsWith("/api") || url.length < 10 ? url : `/api/v1${url}`,
    headers: {
      ...(method !== "GET" && { "isochrone-portal": "1" }),
      ...(options.cookie !== undefined && { cookie: options.cookie }),
      ...options.headers,
    },
    ...(options.body !== undefined && { payload: options.body as object }),
  });
  const isJson = String(answer.headers["content-type"]).startsWith("application/json");
  return {
    status: answer.statusCode,
    body: isJson ? answer.json() : {},
    text: answer.body,
    headers: answer.headers,
  };
}

async function logIn(name: string, password: string): Promise<string> {
  const answer = await call("POST", "/api/v1/session", { body: { name, password } });
  expect(answer.status).toBe(200);
  return String(answer.headers["set-cookie"]).split(";")[0] ?? "";
}
const asAcme = () => logIn("acme", "acme-pass");
const asOperator = () => logIn("operator", "operator-pass");

describe("log-in", () => {
  it("sets a cookie that script cannot read and other sites cannot send", async () => {
    const answer = await call("POST", "/api/v1/session", { body: { name: "acme", password: "acme-pass" } });
    expect(answer.body).toEqual({ viewer: { name: "acme", customerId: "acme" } });
    expect(answer.headers["set-cookie"]).toMatch(
      /^isochrone_session=[\w-]{43}; Max-Age=43200; Path=\/; HttpOnly; SameSite=Strict$/,
    );
  });

  it("says the same for a wrong name as for a wrong password", async () => {
    const [wrongName, wrongPassword] = [
      await call("POST", "/api/v1/session", { body: { name: "nobody", password: "acme-pass" } }),
      await call("POST", "/api/v1/session", { body: { name: "acme", password: "wrong" } }),
    ];
    expect(wrongName.status).toBe(401);
    expect(wrongName.body).toEqual(wrongPassword.body);
  });

  it("limits tries for an account with a clear 429, and right passwords do not count", async () => {
    for (let index = 0; index < 5; index++) await asAcme();
    for (let index = 0; index < 3; index++) {
      expect(
        (await call("POST", "/api/v1/session", { body: { name: "acme", password: "wrong" } })).status,
      ).toBe(401);
    }
    const limited = await call("POST", "/api/v1/session", { body: { name: "acme", password: "acme-pass" } });
    expect(limited.status).toBe(429);
    expect(limited.body.error).toMatchObject({
      code: "too-many-attempts",
      message: expect.stringMatching(/^Too many wrong passwords for this account: try again in \d+ s$/),
    });
    expect(Number(limited.headers["retry-after"])).toBeGreaterThan(50);
    await asOperator();
    const metrics = await call("GET", "/metrics");
    expect(metrics.text).toContain('isochrone_portal_logins_total{result="limited"} 1');
    expect(metrics.text).toContain('isochrone_portal_logins_total{result="refused"} 3');
  });

  it("ends a session at log-out, and a new log-in ends the one before", async () => {
    const cookie = await asAcme();
    expect((await call("GET", "/properties", { cookie })).status).toBe(200);
    expect((await call("DELETE", "/api/v1/session", { cookie })).status).toBe(204);
    expect((await call("GET", "/properties", { cookie })).status).toBe(401);
    const first = await asAcme();
    await call("POST", "/api/v1/session", { cookie: first, body: { name: "acme", password: "acme-pass" } });
    expect((await call("GET", "/properties", { cookie: first })).status).toBe(401);
  });

  it("never logs a password, a cookie or a session", async () => {
    const cookie = await asAcme();
    await call("POST", "/api/v1/session", { body: { name: "acme", password: "wrong-password" } });
    expect(logged.join("")).not.toMatch(/acme-pass|wrong-password/);
    expect(logged.join("")).not.toContain(cookie.split("=")[1] ?? "?");
  });

  it("counts a /64 of IPv6 as one address", () => {
    expect(addressKey("2001:db8:1:2:3:4:5:6")).toBe(addressKey("2001:db8:1:2:ffff::1"));
    expect(addressKey("2001:db8::1")).toBe(addressKey("2001:db8::2:0:0:7"));
    expect(addressKey("2001:db8::1")).toBe(addressKey("2001:db8:0:0:9::"));
    expect(addressKey("2001:db8::1")).not.toBe(addressKey("2001:db8:0:1::1"));
    expect(addressKey("::1")).toBe("0:0:0:0");
    expect(addressKey("::ffff:192.0.2.1")).toBe("192.0.2.1");
  });
});

describe("zones", () => {
  const set = { action: "set", name: "www", type: "A", ttlSeconds: 60, data: ["192.0.2.9"] };
  const patch = (cookie: string, body: object) => call("PATCH", "/api/v1/zones/z", { cookie, body });

  it("are edited RRset by RRset by who owns them, in their name, for the serial that they have seen", async () => {
    control.zones.set("z", zoneFor("acme"));
    const cookie = await asAcme();
    expect((await call("GET", "/api/v1/zones/z", { cookie })).body).toMatchObject({
      origin: "z.test",
      serial: 7,
    });
    const edited = await patch(cookie, { edits: [set], expectedSerial: 7 });
    expect([edited.status, edited.body]).toEqual([200, { version: 1, serial: 8 }]);
    expect(control.zoneEdits).toEqual([{ edits: [set], expectedSerial: 7, author: "acme" }]);
    const late = await patch(cookie, { edits: [set], expectedSerial: 7 });
    expect([late.status, late.body.error?.presentVersion]).toEqual([409, 8]);
    const half = await patch(cookie, { edits: [{ action: "set", name: "www", type: "A" }] });
    expect([half.status, half.body.error?.faults?.[0]?.path]).toEqual([422, "edits[0].ttlSeconds"]);
    expect(zoneOfDocument(control.zones.get("z")!).serial).toBe(8);
  });

  it("of another customer are not there; an operator's are all", async () => {
    control.zones.set("z", zoneFor("other"));
    const cookie = await asAcme();
    expect((await call("GET", "/api/v1/zones/z", { cookie })).status).toBe(404);
    expect((await patch(cookie, { edits: [set] })).status).toBe(404);
    expect(control.zoneEdits).toEqual([]);
    expect((await patch(await asOperator(), { edits: [set] })).body).toEqual({ version: 1, serial: 8 });
  });
});

describe("rules for every route", () => {
  it("wants a log-in everywhere but for the session and the description", async () => {
    const { paths } = (await call("GET", "/api/v1/openapi.json")).body as {
      paths: Record<string, Record<string, { security?: unknown[] }>>;
    };
    let checked = 0;
    for (const [path, methods] of Object.entries(paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (operation.security?.length === 0) continue;
        const body = path.endsWith("purges")
          ? { propertyId: "shop", urls: [], tags: ["a"] }
          : path.endsWith("activate")
            ? { version: 1, expectedActiveVersion: 1 }
            : path.endsWith("versions")
              ? { text: "{}", expectedVersion: 1 }
              : path.includes("zones")
                ? { edits: [{ action: "delete", name: "a", type: "A" }] }
                : { text: "{}" };
        const url = `${path.replace("{propertyId}", "shop").replace("{zoneId}", "acme-test")}${path.endsWith("diff") ? "?from=1&to=1" : ""}`;
        const answer = await call(method.toUpperCase() as "GET", url, method === "get" ? {} : { body });
        expect([path, answer.status, answer.body.error?.code]).toEqual([path, 401, "not-logged-in"]);
        checked += 1;
      }
    }
    expect(checked).toBeGreaterThanOrEqual(11);
  });

  it("describes each route with an id, a summary and its answers (OpenAPI 3.1)", async () => {
    const description = (await call("GET", "/api/v1/openapi.json")).body as {
      openapi: string;
      paths: Record<string, Record<string, { operationId?: string; summary?: string; responses: object }>>;
    };
    expect(description.openapi).toBe("3.1.0");
    const operations = Object.values(description.paths).flatMap((one) => Object.values(one));
    expect(operations.map((one) => one.operationId ?? "").sort()).toEqual(
      [
        "activate",
        "diff",
        "editZone",
        "live",
        "logIn",
        "logOut",
        "policies",
        "properties",
        "property",
        "purge",
        "save",
        "series",
        "session",
        "state",
        "validate",
        "versions",
        "zone",
      ].sort(),
    );
    for (const operation of operations) {
      expect(operation.summary).toBeTruthy();
      expect(Object.keys(operation.responses).length).toBeGreaterThan(0);
    }
  });

  it("refuses changes without its header or from another origin", async () => {
    const cookie = await asAcme();
    const body = { version: 1, expectedActiveVersion: 1 };
    const bare = await portal.app.inject({
      method: "POST",
      url: "/api/v1/properties/shop/activate",
      headers: { cookie },
      payload: body,
    });
    expect(bare.statusCode).toBe(403);
    const foreign = await call("POST", "/properties/shop/activate", {
      cookie,
      body,
      headers: { origin: "https://evil.example" },
    });
    expect(foreign.body.error?.code).toBe("foreign-origin");
    const own = await call("POST", "/properties/shop/activate", {
      cookie,
      body,
      headers: { origin: "http://portal.example", host: "portal.example" },
    });
    expect(own.status).toBe(200);
  });

  it("sends its security headers with every answer, errors included", async () => {
    for (const url of ["/livez", "/api/v1/nothing", "/", "/api/v1/session"]) {
      const { headers } = await call("GET", url);
      expect(headers["content-security-policy"]).toContain("script-src 'self';");
      expect(headers["content-security-policy"]).not.toContain("unsafe");
      expect(headers["x-content-type-options"]).toBe("nosniff");
      expect(headers["x-frame-options"]).toBe("DENY");
    }
  });

  it("refuses what does not fit its schema with the place, and never bends it", async () => {
    const cookie = await asAcme();
    const wrong = await call("POST", "/properties/shop/activate", {
      cookie,
      body: { version: "1", expectedActiveVersion: 1 },
    });
    expect([wrong.status, wrong.body.error?.message]).toEqual([400, "body.version: must be integer"]);
    const unknown = await call("POST", "/properties/shop/activate", {
      cookie,
      body: { version: 1, expectedActiveVersion: 1, force: true },
    });
    expect(unknown.body.error?.message).toContain('additional properties "force"');
    const large = await call("POST", "/properties/shop/validate", {
      cookie,
      body: { text: "x".repeat(600_000) },
    });
    expect(large.status).toBe(413);
  });

  it("wants the header to say 1", async () => {
    const answer = await call("DELETE", "/api/v1/session", { headers: { "isochrone-portal": "" } });
    expect([answer.status, answer.body.error?.code]).toEqual([403, "foreign-origin"]);
  });

  it("lets nothing be kept that is not a file of the page, and keeps its rules where Fastify answers alone", async () => {
    const directory = mkdtempSync(join(tmpdir(), "isochrone-page-"));
    mkdirSync(join(directory, "assets"));
    writeFileSync(join(directory, "index.html"), "<title>page</title>");
    writeFileSync(join(directory, "secret.txt"), "secret");
    writeFileSync(join(directory, "assets", "main-1.js"), "1");
    portal.setPage({ kind: "ready", directory });
    const kept = await portal.app.inject("/assets/main-1.js");
    expect([kept.body, kept.headers["cache-control"]]).toEqual(["1", "public, max-age=31536000, immutable"]);
    for (const url of [
      "/assets/main-2.js",
      "/assets/",
      "/assets/..%2fsecret.txt",
      "/assets/%2e%2e%2fsecret.txt",
      "/assets/..%5csecret.txt",
      "/nothing",
      "/properties/%E0%A4%A",
      "/livez",
    ]) {
      const { status, text, headers } = await portal.app
        .inject({ url })
        .then((one) => ({ status: one.statusCode, text: one.body, headers: one.headers }));
      expect([url, headers["cache-control"]]).toEqual([url, "no-store"]);
      expect(headers["content-security-policy"]).toContain("default-src 'none'");
      expect(text).not.toContain("secret\n");
      if (url !== "/livez") expect([400, 403, 404]).toContain(status);
    }
    for (const url of ["/", "/properties", "/properties/shop", "/policies", "/purge"])
      expect([url, (await portal.app.inject(url)).statusCode]).toEqual([url, 200]);
    const lost = await portal.app.inject({ url: "/nothing", headers: { accept: "text/html,*/*" } });
    expect([lost.statusCode, lost.body, lost.headers["cache-control"]]).toEqual([
      404,
      "<title>page</title>",
      "no-store",
    ]);
    rmSync(directory, { recursive: true });
  });

  it("says that the page is being built, then why it could not be", async () => {
    expect((await call("GET", "/")).status).toBe(503);
    expect((await call("GET", "/")).text).toContain("being built");
    portal.setPage({ kind: "failed", reason: "no <vite>" });
    expect((await call("GET", "/purge")).text).toContain("no &lt;vite&gt;");
    expect((await call("GET", "/livez")).status).toBe(200);
  });
});

describe("tenants", () => {
  it("lists a customer's own properties, an operator's all", async () => {
    const ids = async (cookie: string) =>
      ((await call("GET", "/properties", { cookie })).body["properties"] as { propertyId: string }[]).map(
        (one) => one.propertyId,
      );
    expect(await ids(await asAcme())).toEqual(["shop", "video"]);
    expect(await ids(await asOperator())).toEqual(["news", "shop", "video"]);
  });

  it("answers alike for what is another customer's and for what is not there, on every route", async () => {
    const cookie = await asAcme();
    const answers = async (id: string) =>
      Promise.all([
        call("GET", `/properties/${id}`, { cookie }),
        call("GET", `/properties/${id}/versions`, { cookie }),
        call("GET", `/properties/${id}/diff?from=1&to=1`, { cookie }),
        call("GET", `/api/v1/series?propertyId=${id}`, { cookie }),
        call("POST", `/properties/${id}/validate`, { cookie, body: { text: "{}" } }),
        call("POST", `/properties/${id}/versions`, { cookie, body: { document: news, expectedVersion: 1 } }),
        call("POST", `/properties/${id}/activate`, {
          cookie,
          body: { version: 1, expectedActiveVersion: 1 },
        }),
        call("POST", "/api/v1/purges", {
          cookie,
          body: { propertyId: id, urls: ["https://www.news.example/"] },
        }),
      ]);
    const foreign = await answers("news");
    const missing = await answers("none");
    expect(foreign.map((one) => one.status)).toEqual(Array.from({ length: 8 }, () => 404));
    expect(foreign.map((one) => one.text)).toEqual(missing.map((one) => one.text.replaceAll("none", "news")));
    expect(control.purged).toEqual([]);
  });

  it("does not let a save move a property to another name or owner", async () => {
    const cookie = await asAcme();
    for (const [document, path] of [
      [{ ...shop, customerId: "globex" }, "customerId"],
      [news, "propertyId"],
    ] as const) {
      const answer = await call("POST", "/properties/shop/versions", {
        cookie,
        body: { document, expectedVersion: 1 },
      });
      expect([answer.status, answer.body.error?.faults?.[0]?.path]).toEqual([422, path]);
    }
  });

  it("gives a customer no addresses", async () => {
    control.handlers?.onReport(report("ams-1"));
    expect((await call("GET", "/api/v1/state", { cookie: await asAcme() })).text).not.toContain("127.10.");
    expect((await call("GET", "/api/v1/state", { cookie: await asOperator() })).text).toContain(
      '"address":"127.10.1.1"',
    );
  });
});

describe("versions", () => {
  const withTtl = (seconds: number) => ({
    ...shop,
    caching: { ...shop.caching, defaultTtlSeconds: seconds },
  });

  it("validates a text with the line of the fault, and says what a good one changes", async () => {
    const cookie = await asAcme();
    const text = JSON.stringify(withTtl(-5), null, 2);
    const bad = await call("POST", "/properties/shop/validate", { cookie, body: { text, format: "json" } });
    const line = text.split("\n").findIndex((one) => one.includes("defaultTtlSeconds")) + 1;
    expect(bad.body).toMatchObject({
      isValid: false,
      faults: [{ path: "caching.defaultTtlSeconds", value: "-5", line }],
    });
    const good = await call("POST", "/properties/shop/validate", { cookie, body: { document: withTtl(5) } });
    expect(good.body).toMatchObject({
      isValid: true,
      faults: [],
      changes: [{ path: "caching.defaultTtlSeconds", kind: "changed", from: "60", to: "5" }],
    });
    expect(good.body["yaml"]).toContain("defaultTtlSeconds: 5");
  });

  it("saves, diffs, activates and rolls back", async () => {
    const cookie = await asAcme();
    const saved = await call("POST", "/properties/shop/versions", {
      cookie,
      body: { document: withTtl(5), expectedVersion: 1, note: "shorter" },
    });
    expect([saved.status, saved.body]).toMatchObject([
      201,
      { version: 2, isActive: false, author: "acme", note: "shorter" },
    ]);
    const diff = await call("GET", "/properties/shop/diff?from=1&to=2", { cookie });
    expect(diff.body["changes"]).toEqual([
      { path: "caching.defaultTtlSeconds", kind: "changed", from: "60", to: "5" },
    ]);
    expect(
      (
        await call("POST", "/properties/shop/activate", {
          cookie,
          body: { version: 2, expectedActiveVersion: 1 },
        })
      ).body,
    ).toMatchObject({ version: 2, isActive: true });
    expect((await call("GET", "/properties/shop", { cookie })).body).toMatchObject({
      version: 2,
      activeVersion: 2,
    });
    await call("POST", "/properties/shop/activate", {
      cookie,
      body: { version: 1, expectedActiveVersion: 2 },
    });
    const versions = (await call("GET", "/properties/shop/versions", { cookie })).body["versions"] as {
      version: number;
      isActive: boolean;
    }[];
    expect(versions.map((one) => [one.version, one.isActive])).toEqual([
      [2, false],
      [1, true],
    ]);
  });

  it("tells the second of two who edit the same version that somebody else saved", async () => {
    const [first, second] = [await asAcme(), await asOperator()];
    await call("POST", "/properties/shop/versions", {
      cookie: first,
      body: { document: withTtl(5), expectedVersion: 1 },
    });
    const late = await call("POST", "/properties/shop/versions", {
      cookie: second,
      body: { document: withTtl(6), expectedVersion: 1 },
    });
    expect(late.status).toBe(409);
    expect(late.body.error).toMatchObject({ code: "version-conflict", presentVersion: 2 });
    expect(late.body.error?.message).toContain("Somebody else saved");
  });

  it("does not show or activate a version of a time when the property was another customer's", async () => {
    await control.put("property", "shop", { ...shop, customerId: "globex" }, { expectedVersion: 1 });
    const cookie = await asAcme();
    expect((await call("GET", "/properties/shop?version=2", { cookie })).status).toBe(404);
    expect((await call("GET", "/properties/shop/diff?from=1&to=2", { cookie })).status).toBe(404);
    expect(
      (
        await call("POST", "/properties/shop/activate", {
          cookie,
          body: { version: 2, expectedActiveVersion: 1 },
        })
      ).status,
    ).toBe(404);
  });

  it("lets a customer drop a host name and take it back, but only an operator add one", async () => {
    const cookie = await asAcme();
    const claim = { ...shop, hostnames: [...shop.hostnames, "www.bank.example"] };
    const verdict = await call("POST", "/properties/shop/validate", { cookie, body: { document: claim } });
    expect(verdict.body["isValid"]).toBe(false);
    const index = shop.hostnames.length;
    const refused = await call("POST", "/properties/shop/versions", {
      cookie,
      body: { document: claim, expectedVersion: 1 },
    });
    expect([refused.status, refused.body.error?.faults?.[0]?.path]).toEqual([422, `hostnames[${index}]`]);
    expect(refused.body.error?.message).toContain("an operator adds a new host name");
    const added = await call("POST", "/properties/shop/versions", {
      cookie: await asOperator(),
      body: { document: claim, expectedVersion: 1 },
    });
    expect(added.status).toBe(201);
    // Granted, though not yet in force.
    const taken = await call("POST", "/properties/shop/versions", {
      cookie,
      body: { document: { ...claim, hostnames: ["www.bank.example"] }, expectedVersion: 2, activate: true },
    });
    expect(taken.status).toBe(201);
    const back = await call("POST", "/properties/shop/validate", { cookie, body: { document: shop } });
    expect(back.body["isValid"]).toBe(true);
  });

  it("refuses a draft that is too deep instead of failing at it", async () => {
    const cookie = await asAcme();
    for (const depth of [100, 3_000, 100_000]) {
      const deep = `{"document":{"a":${"[".repeat(depth)}${"]".repeat(depth)}}}`;
      const answer = await call("POST", "/properties/shop/validate", {
        cookie,
        body: deep,
        headers: { "content-type": "application/json" },
      });
      expect([answer.status, answer.body["isValid"]]).toEqual([200, false]);
    }
  });

  it("shows the version in force while control is away, and says that it is the last known", async () => {
    const cookie = await asAcme();
    control.isDown = true;
    const shown = await call("GET", "/properties/shop", { cookie });
    expect([shown.status, shown.body["isLastKnown"], shown.body["document"]]).toEqual([200, true, shop]);
    expect((await call("GET", "/properties/shop?version=7", { cookie })).status).toBe(503);
    expect((await call("GET", "/properties/news", { cookie })).status).toBe(404);
    control.isDown = false;
    expect((await call("GET", "/properties/shop", { cookie })).body["isLastKnown"]).toBe(false);
  });

  it("lists what is in force while control is away, and says that nothing was changed", async () => {
    const cookie = await asAcme();
    control.isDown = true;
    const list = (await call("GET", "/properties", { cookie })).body["properties"] as {
      propertyId: string;
      activeVersion: number;
    }[];
    expect(list.map((one) => [one.propertyId, one.activeVersion])).toEqual([
      ["shop", 1],
      ["video", 1],
    ]);
    const save = await call("POST", "/properties/shop/versions", {
      cookie,
      body: { document: withTtl(5), expectedVersion: 1 },
    });
    expect([save.status, save.body.error?.code]).toEqual([503, "control-unreachable"]);
    expect(save.text).not.toContain("127.10.0.1");
  });
});

describe("purge", () => {
  it("streams progress and ends with how many servers took how long", async () => {
    const answer = await call("POST", "/api/v1/purges", {
      cookie: await asAcme(),
      body: { propertyId: "shop", urls: ["https://www.shop.example/a"], mode: "soft" },
    });
    const lines = answer.text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { type: string });
    expect(answer.headers["content-type"]).toContain("application/x-ndjson");
    expect(lines.map((line) => line.type)).toEqual([
      "accepted",
      ...Array.from({ length: 16 }, () => "ack"),
      "done",
    ]);
    expect(lines.at(-1)).toMatchObject({ acked: 16, expected: 16, elapsedMs: 41 });
    expect(control.purged).toEqual([
      {
        propertyId: "shop",
        customerId: "acme",
        urls: ["https://www.shop.example/a"],
        tags: [],
        mode: "soft",
      },
    ]);
  });

  it("refuses URLs of another host, nothing at all, and control away", async () => {
    const cookie = await asAcme();
    const foreign = await call("POST", "/api/v1/purges", {
      cookie,
      body: { propertyId: "shop", urls: ["https://www.shop.example/", "https://www.news.example/"] },
    });
    expect([foreign.status, foreign.body.error?.faults?.[0]?.path]).toEqual([422, "urls[1]"]);
    expect((await call("POST", "/api/v1/purges", { cookie, body: { propertyId: "shop" } })).status).toBe(422);
    control.isDown = true;
    expect(
      (await call("POST", "/api/v1/purges", { cookie, body: { propertyId: "shop", tags: ["a"] } })).status,
    ).toBe(503);
    expect(control.purged).toEqual([]);
  });
});
