/** Reading requests strictly and answering in JSON: the parts of HTTP that every route shares. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { integer, object, ParseError, type Path, type Schema } from "#kit";
import type { BearerGate } from "#kit/io";
import { controlSettings } from "../config.ts";
import { NdjsonReader } from "../core/ndjson.ts";
import { parseStrictJson } from "../core/strict-json.ts";
import { Refusal, refusalOf } from "./refusal.ts";

/** Longer targets are nobody's: ids have 63 characters. */
const TARGET_CHARACTERS_MAX = 2_048;

export interface Target {
  /** Decoded, without empty ones: `/v1/documents/property` -> v1, documents, property. */
  readonly segments: readonly string[];
  readonly query: Readonly<Record<string, string>>;
}

/** Throws {@link Refusal} 400 on anything but origin form, valid escapes and query names that stand once. */
export function parseTarget(target: string): Target {
  const bad = (expected: string) =>
    new Refusal(400, {
      error: `Request target ${JSON.stringify(target.slice(0, 80))} is not ${expected}`,
      code: "bad-request",
    });
  if (!target.startsWith("/") || target.length > TARGET_CHARACTERS_MAX) {
    throw bad(`a path of at most ${TARGET_CHARACTERS_MAX} characters`);
  }
  const [path = "", queryText = ""] = target.split("?", 2);
  let segments: string[];
  try {
    segments = path.slice(1).split("/").map(decodeURIComponent);
  } catch {
    throw bad("a path with valid percent escapes");
  }
  const query = Object.create(null) as Record<string, string>;
  for (const [name, value] of new URLSearchParams(queryText)) {
    if (name in query) throw bad(`a query that names ${JSON.stringify(name)} once`);
    query[name] = value;
  }
  return { segments, query };
}

/** The query, each value given to its schema; unknown names are refused. Throws {@link Refusal} 400. */
export function parseQuery<T>(query: Readonly<Record<string, string>>, schema: Schema<T>): T {
  try {
    return schema.parse(query, ["query"]);
  } catch (error) {
    throw error instanceof ParseError ? refusalOf(error, 400) : error;
  }
}

/** Decimal digits of a query, as a whole number. */
export function queryInteger(min: number): Schema<number> {
  const digits = integer({ min });
  const read = (value: unknown, path: Path = []) =>
    digits.parse(typeof value === "string" && /^\d{1,15}$/.test(value) ? Number(value) : value, path);
  return { parse: read, jsonSchema: () => digits.jsonSchema() };
}

export const noQuery = object({});

/** Throws {@link Refusal} 401 unless the request carries the token that opens `gate`. */
export function requireToken(gate: BearerGate, request: IncomingMessage): void {
  const verdict = gate.judge(request.headers.authorization);
  if (verdict === "granted") return;
  throw new Refusal(
    401,
    {
      error:
        verdict === "absent"
          ? "A bearer token is required"
          : "The bearer token is not the one of this control",
      code: "unauthorised",
    },
    { "www-authenticate": 'Bearer realm="isochrone control"' },
  );
}

/** Receives request bodies within a bound each and one for all. */
export class BodyReader {
  #bytesInFlight = 0;

  /**
   * The body as a typed value. Throws {@link Refusal}: 413 too large, 415 not JSON by its type, 400 not JSON, 422 refused by
   * the schema or a key twice, 503 too much is being received.
   */
  async read<T>(request: IncomingMessage, bytesMax: number, schema: Schema<T>): Promise<T> {
    const reader = new NdjsonReader(bytesMax, {
      isOneValue: true,
      parse: parseStrictJson,
      decoder: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }),
    });
    try {
      await this.#receive(request, bytesMax, reader);
      return schema.parse(reader.end());
    } catch (error) {
      if (error instanceof ParseError) throw refusalOf(error);
      // What follows may not have been read.
      const fields = request.complete ? {} : { connection: "close" };
      if (error instanceof SyntaxError)
        throw new Refusal(
          400,
          { error: `The body is not JSON: ${error.message}`, code: "bad-request" },
          fields,
        );
      if (error instanceof TypeError && "code" in error && error.code === "ERR_ENCODING_INVALID_ENCODED_DATA")
        throw new Refusal(400, { error: "The body is not valid UTF-8", code: "bad-request" }, fields);
      throw error;
    }
  }

  /** A cluster map is kept in the pieces that it comes in; the rest is joined and parsed at the end. */
  async #receive(request: IncomingMessage, bytesMax: number, reader: NdjsonReader): Promise<void> {
    const type = request.headers["content-type"] ?? "";
    if (!/^application\/json *(?:; *charset="?utf-8"? *)?$/i.test(type)) {
      throw new Refusal(415, {
        error: `Content-Type is ${JSON.stringify(type.slice(0, 80))}, expected application/json`,
        code: "bad-request",
      });
    }
    const tooLarge = new Refusal(
      413,
      {
        error: `The body is larger than ${bytesMax} bytes`,
        code: "too-large",
        expected: `at most ${bytesMax} bytes`,
      },
      // What follows will not be read.
      { connection: "close" },
    );
    if (Number(request.headers["content-length"] ?? 0) > bytesMax) throw tooLarge;
    let bytes = 0;
    try {
      for await (const chunk of request) {
        bytes += (chunk as Buffer).length;
        this.#bytesInFlight += (chunk as Buffer).length;
        if (bytes > bytesMax) throw tooLarge;
        if (this.#bytesInFlight > controlSettings.bodiesBytesMax) {
          const error = `Control is receiving ${this.#bytesInFlight} bytes already; try again in a second`;
          throw new Refusal(503, { error, code: "overloaded" }, { connection: "close", "retry-after": "1" });
        }
        reader.read(chunk as Buffer);
      }
    } finally {
      this.#bytesInFlight -= bytes;
    }
  }
}

/** Answers with JSON text; does nothing when the head is sent or the client gone. */
export function sendJson(
  response: ServerResponse,
  status: number,
  text: string | Uint8Array,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.headersSent || response.destroyed) return;
  const bytes = typeof text === "string" ? Buffer.from(text) : text;
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": bytes.length,
    "cache-control": "no-store",
    ...headers,
  });
  response.end(bytes);
}

/** The request's method if it is one of these; else {@link Refusal} 405. */
export function allow<M extends string>(request: IncomingMessage, ...methods: readonly M[]): M {
  for (const method of methods) if (request.method === method) return method;
  const list = methods.join(", ");
  const error = `${request.method ?? "?"} is not possible here; ${list} is`;
  throw new Refusal(405, { error, code: "bad-request" }, { allow: list });
}

/** Who asks, as they name themselves: for the log only. */
export function nodeOf(request: IncomingMessage): string {
  const node = request.headers["isochrone-node"];
  return typeof node === "string" && /^[\w.@-]{1,63}$/.test(node) ? node : "unknown";
}
