/**
 * Compressed forms between the workers of one server: the worker that owns a key makes them, once, and hands them to those that have
 * copies of its content. A copy is told by its hash, so that no form is ever put beside another content.
 */
import { createHash } from "node:crypto";
import type { Agent, IncomingMessage, ServerResponse } from "node:http";
import { http } from "#kit/io";
import type { CacheKey } from "../core/cache-key.ts";
import { CODINGS, type Coding } from "../core/compression/accept-encoding.ts";
import { codingOf } from "../core/compression/codable.ts";
import type { CodingJob } from "./compression/coding-queue.ts";
import { type Coded, ObjectBody } from "./object-body.ts";
import type { ObjectStore } from "./object-store.ts";

/** An owner whose queue takes longer is passed by, ms: the asker has its own. */
const TIMEOUT_MS = 60_000;
/** Field of a request that asks for a form. */
export const FORM = "isochrone-form";

/** What of the owner's process makes forms. */
export interface FormParts {
  readonly store: ObjectStore;
  /** The form when it is made; undefined: it is not to be had now. */
  readonly makeForm: (job: Omit<CodingJob, "isBrief">) => Promise<Coded | undefined>;
}

/** The form of a content under a key that the worker behind `path` owns; undefined: it has another content, or no answer. Never rejects. */
export async function askForForm(
  agent: Agent,
  path: string,
  key: CacheKey,
  coding: Coding,
  body: ObjectBody,
): Promise<Coded | undefined> {
  const wanted = new URLSearchParams({ key, coding, hash: hashOf(body) });
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const asked = http.request({
        socketPath: path,
        agent,
        headers: { host: "worker", [FORM]: wanted.toString() },
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      asked.once("response", resolve);
      asked.on("error", reject);
      asked.end();
    });
    const chunks: Uint8Array[] = [];
    for await (const chunk of response as AsyncIterable<Uint8Array>) chunks.push(chunk);
    if (response.statusCode === 204) return "useless";
    return response.statusCode === 200 ? ObjectBody.of([new Uint8Array(Buffer.concat(chunks))]) : undefined;
  } catch {
    return undefined;
  }
}

/** Answers {@link askForForm}: 200 with the form, 204 when it would be of no use, 404 when it cannot be had here. Never rejects. */
export async function answerForm(
  wanted: string,
  response: ServerResponse,
  parts: FormParts | undefined,
): Promise<void> {
  const form = parts && (await formFor(new URLSearchParams(wanted), parts).catch(() => undefined));
  if (form instanceof ObjectBody) {
    response.writeHead(200, { "content-length": form.bytes });
    for (const chunk of form.chunks) response.write(chunk);
  } else response.writeHead(form === "useless" ? 204 : 404);
  response.end();
}

async function formFor(wanted: URLSearchParams, { store, makeForm }: FormParts): Promise<Coded | undefined> {
  const key = (wanted.get("key") ?? "") as CacheKey;
  const coding = CODINGS.find((one) => one === wanted.get("coding"));
  const objects = await store.lookup(key);
  const object = objects.find(({ body }) => body.isComplete && hashOf(body) === wanted.get("hash"));
  const sourceCoding = object && codingOf(object.fields);
  if (object === undefined || coding === undefined || sourceCoding === undefined || sourceCoding === "other")
    return undefined;
  const { body } = object;
  return await makeForm({
    key,
    body,
    name: coding,
    coding,
    sourceCoding,
    dictionary: undefined,
  });
}

function hashOf({ chunks }: ObjectBody): string {
  const hash = createHash("sha256");
  for (const chunk of chunks) hash.update(chunk);
  return hash.digest("base64");
}
