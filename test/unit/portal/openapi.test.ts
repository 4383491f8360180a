/**
 * Goal: the description of the API says what the API does.
 * Method: every route is asked in each way that it can answer; status, type and body are held against the document that
 * /api/v1/openapi.json hands out, by a reader of the few words of JSON Schema that it uses (an unknown word fails).
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import type { CustomerId } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { createPortal, type Portal } from "#portal";
import { FakeControl, haltedRollout, news, policyFor, report, shop, video, zoneFor } from "./fixtures.ts";

type Json = Readonly<Record<string, unknown>>;
interface Operation {
  readonly operationId: string;
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, { schema: Json }>> }>
  >;
}

const silentWords = new Set([
  "description",
  "minimum",
  "maximum",
  "maxLength",
  "minLength",
  "pattern",
  "maxItems",
]);

/** Every way in which a value does not fit. */
function misfits(schema: Json, value: unknown, at = "$"): string[] {
  const wrong: string[] = [];
  const type =
    value === null
      ? "null"
      : Array.isArray(value)
        ? "array"
        : Number.isInteger(value)
          ? "integer"
          : typeof value;
  for (const [word, says] of Object.entries(schema)) {
    if (silentWords.has(word)) continue;
    if (word === "type") {
      const types = [says].flat();
      if (!types.includes(type) && !(type === "integer" && types.includes("number")))
        wrong.push(`${at}: ${type}, not ${types.join("|")}`);
    } else if (word === "enum") {
      if (!(says as unknown[]).includes(value)) wrong.push(`${at}: ${JSON.stringify(value)} not in the list`);
    } else if (word === "anyOf") {
      if (!(says as Json[]).some((one) => misfits(one, value, at).length === 0))
        wrong.push(`${at}: fits none`);
    } else if (word === "items") {
      if (Array.isArray(value))
        for (const [index, one] of value.entries())
          wrong.push(...misfits(says as Json, one, `${at}[${index}]`));
    } else if (word === "properties") {
      if (type !== "object") continue;
      for (const [key, one] of Object.entries(says as Record<string, Json>))
        if (key in (value as Json)) wrong.push(...misfits(one, (value as Json)[key], `${at}.${key}`));
    } else if (word === "required") {
      if (type !== "object") continue;
      for (const key of says as string[]) if (!(key in (value as Json))) wrong.push(`${at}.${key}: missing`);
    } else if (word === "additionalProperties") {
      if (type !== "object" || says !== false) continue;
      for (const key of Object.keys(value as Json))
        if (!(key in ((schema["properties"] ?? {}) as Json))) wrong.push(`${at}.${key}: not described`);
    } else wrong.push(`${at}: the schema says "${word}", which this test cannot read`);
  }
  return wrong;
}

let control: FakeControl;
let portal: Portal;
let cookies: Record<"acme" | "operator", string>;
let paths: Record<string, Record<string, Operation>>;
const asked = new Set<string>();

/** Asks, and holds the answer against the description. */
async function ask(
  id: string,
  expected: number,
  options: {
    who?: "acme" | "operator" | "nobody";
    params?: string;
    query?: string;
    body?: unknown;
    bare?: boolean;
  } = {},
): Promise<void> {
  const { who = "acme", params = "shop", query = "", body, bare = false } = options;
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      if (operation.operationId !== id) continue;
      const answer = await portal.app.inject({
        method: method.toUpperCase() as "GET",
        url: `${path.replace(/\{\w+\}/, params)}${query}`,
        headers: {
          ...(!bare && { "isochrone-portal": "1" }),
          ...(who !== "nobody" && { cookie: cookies[who] }),
        },
        ...(body !== undefined && { payload: body as object }),
      });
      expect([id, answer.statusCode, answer.body]).toEqual([id, expected, answer.body]);
      const described = operation.responses[expected];
      expect(described, `${id} ${expected} is not described`).toBeDefined();
      const content = Object.entries(described?.content ?? {});
      if (expected === 204) {
        expect(answer.body).toBe("");
      } else {
        expect(content.length, `${id} ${expected} describes no content`).toBe(1);
        const [[type, { schema }] = ["", { schema: {} }]] = content;
        expect(answer.headers["content-type"]).toBe(`${type}; charset=utf-8`);
        const value: unknown = type === "application/json" ? answer.json() : answer.body;
        expect(misfits(schema, value)).toEqual([]);
      }
      asked.add(`${id} ${expected}`);
      return;
    }
  }
  expect.unreachable(`no operation ${id}`);
}

beforeAll(async () => {
  control = new FakeControl([shop, video, news]);
  portal = await createPortal({
    control,
    feed: control,
    accounts: [
      { name: "operator", password: "operator-pass", customerId: null },
      { name: "acme", password: "acme-pass", customerId: "acme" as CustomerId },
    ],
    clock: systemClock,
    logger: createLogger({ role: "portal", id: "test" }, { level: "silent" }),
    settings: { accountAttempts: { burst: 2, refillMs: 60_000, keysMax: 10 } },
  });
  await portal.hub.start();
  paths = (await portal.app.inject("/api/v1/openapi.json")).json<{ paths: typeof paths }>().paths;
  const logIn = async (name: string, password: string): Promise<string> => {
    const answer = await portal.app.inject({
      method: "POST",
      url: "/api/v1/session",
      headers: { "isochrone-portal": "1" },
      payload: { name, password },
    });
    return String(answer.headers["set-cookie"]).split(";")[0] ?? "";
  };
  cookies = { acme: await logIn("acme", "acme-pass"), operator: await logIn("operator", "operator-pass") };
  control.handlers?.onReport(report("ams-1", { shop: { requests: 10, hits: 5 } }));
});
afterAll(() => portal.close());

it("answers as its description says, on every route and for every kind of refusal", async () => {
  const document = { ...shop, dnsTtlSeconds: 30 };
  await ask("session", 200);
  await ask("session", 200, { who: "nobody" });
  await ask("state", 200);
  await ask("state", 200, { who: "operator" });
  await ask("series", 200);
  await ask("series", 200, { query: "?propertyId=shop&window=hour" });
  await ask("series", 400, { query: "?window=year" });
  await ask("series", 404, { query: "?propertyId=news" });
  await ask("properties", 200, { who: "operator" });
  await ask("property", 200);
  await ask("property", 400, { query: "?version=0" });
  await ask("property", 404, { params: "news" });
  await ask("versions", 200);
  await ask("validate", 200, { body: { document } });
  await ask("validate", 200, { body: { text: "a: [", format: "yaml" } });
  await ask("validate", 400, { body: {} });
  await ask("validate", 413, { body: { text: "x".repeat(600_000) } });
  await ask("save", 201, { body: { document, expectedVersion: 1, note: "n" } });
  await ask("save", 409, { body: { document, expectedVersion: 1 } });
  await ask("save", 422, { body: { document: {}, expectedVersion: 2 } });
  await ask("save", 404, { params: "none", body: { document, expectedVersion: 1 } });
  await ask("save", 403, { body: { document, expectedVersion: 1 }, bare: true });
  await ask("diff", 200, { query: "?from=1&to=2" });
  await ask("diff", 400, { query: "?from=1" });
  await ask("activate", 200, { body: { version: 2, expectedActiveVersion: 1 } });
  await ask("activate", 409, { body: { version: 1, expectedActiveVersion: 1 } });
  await ask("activate", 404, { body: { version: 9, expectedActiveVersion: 2 } });
  await ask("purge", 200, { body: { propertyId: "shop", tags: ["a"] } });
  await ask("purge", 422, { body: { propertyId: "shop" } });
  control.zones.set("z", zoneFor("acme"));
  const edits = [{ action: "set", name: "a", type: "A", ttlSeconds: 60, data: ["192.0.2.7"] }];
  await ask("zone", 200, { params: "z" });
  await ask("zone", 404, { params: "none" });
  await ask("editZone", 200, { params: "z", body: { edits, expectedSerial: 7, note: "n" } });
  await ask("editZone", 409, { params: "z", body: { edits, expectedSerial: 7 } });
  await ask("editZone", 422, { params: "z", body: { edits: [{ ...edits[0], type: "%" }] } });
  await ask("editZone", 400, { params: "z", body: { edits: [] } });
  await ask("editZone", 403, { params: "z", body: { edits }, bare: true });
  control.policies.set("p", policyFor("acme"));
  control.policies.set("q", policyFor("other"));
  await ask("policies", 200);
  control.rolledOut = [haltedRollout];
  await ask("policies", 200, { who: "operator" });
  // A version in force is fetched once, however often it is asked for.
  expect(control.policiesFetched).toEqual(["p", "q"]);
  for (const id of ["policies", "properties", "property", "versions", "state", "series", "live", "zone"])
    await ask(id, 401, { who: "nobody" });
  control.isDown = true;
  await ask("policies", 503);
  await ask("properties", 200);
  await ask("property", 200);
  await ask("versions", 503);
  await ask("save", 503, { body: { document, expectedVersion: 2 } });
  await ask("purge", 503, { body: { propertyId: "shop", tags: ["a"] } });
  control.isDown = false;
  const wrong = { name: "acme", password: "wrong-pass" };
  await ask("logIn", 401, { who: "nobody", body: wrong });
  await ask("logIn", 400, { who: "nobody", body: { name: 3, password: "x" } });
  await ask("logIn", 401, { who: "nobody", body: wrong });
  await ask("logIn", 429, { who: "nobody", body: wrong });
  await ask("logIn", 200, { who: "nobody", body: { name: "operator", password: "operator-pass" } });
  await ask("logOut", 403, { bare: true });
  await ask("logOut", 204);
  await ask("state", 401);
  // The stream is read by the tests with a socket; here only that it refuses.
  const all = Object.values(paths).flatMap((one) => Object.values(one).map(({ operationId }) => operationId));
  expect(new Set([...asked].map((one) => one.split(" ")[0]))).toEqual(new Set(all));
});
