/** A stored response as the disk keeps it: the head as JSON, parsed as strictly as any document, then content and other forms of it. */
import {
  array,
  boolean,
  type EpochMs,
  integer,
  nullable,
  number,
  object,
  oneOf,
  optional,
  type Parsed,
  string,
  tuple,
  xxh32,
} from "#kit";
import type { CacheKey } from "../core/cache-key.ts";
import { CODINGS, type Coding } from "../core/compression/accept-encoding.ts";
import type { StoredHead } from "../core/messages.ts";
import type { StoredObject } from "./memory-store.ts";
import { ObjectBody } from "./object-body.ts";

const text = (max: number) => string({ min: 0, max });
const headSchema = object({
  key: text(16_384),
  status: integer({ min: 200, max: 999 }),
  fields: array(tuple(text(1_024), text(65_536), "a name and a value"), { max: 1_000 }),
  requestTime: number(),
  responseTime: number(),
  nominatedFields: array(text(1_024), { max: 64 }),
  nominatedValues: array(nullable(text(65_536)), { max: 64 }),
  generation: integer(),
  tags: array(text(256), { max: 1_000 }),
  isInvalidated: boolean(),
  sliced: nullable(
    object({
      totalBytes: integer({ min: 1 }),
      sliceBytes: integer({ min: 1 }),
      validator: text(1_024),
    }),
  ),
  /** Stated of a part alone: records of before there were any are whole. */
  part: optional(
    object({ first: integer({ min: 0 }), last: integer({ min: 0 }), totalBytes: integer({ min: 1 }) }),
  ),
  /** Other forms of the content, in their order behind it. */
  forms: optional(
    array(object({ coding: oneOf(CODINGS), bytes: integer({ min: 1 }) }), { max: CODINGS.length }),
  ),
});
type DiskHead = Parsed<typeof headSchema>;

/** Not `never`: a stored response has a property that the disk would lose. Add it to the schema and raise SEGMENT_FORMAT. */
type Forgotten = Exclude<keyof StoredHead, keyof DiskHead>;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** A form of a body that is worth more than the moment: made once, and good for every client that takes the coding. */
export interface LastingForm {
  readonly coding: Coding;
  readonly body: ObjectBody;
}

/** What of a body's other forms goes to disk with it. A dictionary lies in memory alone, and its forms with it. */
export function lastingForms(body: ObjectBody): readonly LastingForm[] {
  return CODINGS.flatMap((coding) => {
    const form = body.coded.get(coding);
    return form instanceof ObjectBody ? [{ coding, body: form }] : [];
  });
}

/** Key and head of a stored response whose content `forms` follow. */
export function encodeHead(key: CacheKey, stored: StoredHead, forms: readonly LastingForm[]): Uint8Array {
  const { status, fields, requestTime, responseTime, nominatedFields, nominatedValues } = stored;
  const head: DiskHead & Record<Forgotten, never> = {
    key,
    status,
    fields,
    requestTime,
    responseTime,
    nominatedFields,
    nominatedValues,
    generation: stored.generation,
    tags: stored.tags,
    isInvalidated: stored.isInvalidated,
    sliced: stored.sliced,
    ...(stored.part !== null && { part: stored.part }),
    ...(forms.length > 0 && { forms: forms.map(({ coding, body }) => ({ coding, bytes: body.bytes })) }),
  };
  return encoder.encode(JSON.stringify(head));
}

/** The key alone, which stands first, without the cost of the rest; undefined: not a head of this format. */
export function keyOfHead(bytes: Uint8Array): CacheKey | undefined {
  const match = /^\{"key":("(?:[^"\\]|\\.)*")/.exec(Buffer.from(bytes).toString());
  return match === null ? undefined : (JSON.parse(match[1] ?? '""') as CacheKey);
}

/** A record's key and object, from its head and all that follows; undefined: not of this format. */
export function decodeObject(
  headBytes: Uint8Array,
  content: Uint8Array,
): { readonly key: CacheKey; readonly object: StoredObject } | undefined {
  try {
    const { key, forms = [], part = null, ...head } = headSchema.parse(JSON.parse(decoder.decode(headBytes)));
    const body = bodyOf(content, forms);
    if (part !== null && body?.bytes !== part.last - part.first + 1) return undefined;
    return (
      body && {
        key: key as CacheKey,
        object: {
          ...head,
          part,
          requestTime: head.requestTime as EpochMs,
          responseTime: head.responseTime as EpochMs,
          body,
        },
      }
    );
  } catch {
    return undefined;
  }
}

/** The body, and its forms behind it; undefined: they are more than there is. */
function bodyOf(
  content: Uint8Array,
  forms: readonly { readonly coding: Coding; readonly bytes: number }[],
): ObjectBody | undefined {
  if (forms.length === 0) return ObjectBody.of([content]);
  let at = content.byteLength;
  for (const { bytes } of forms) at -= bytes;
  if (at < 0) return undefined;
  // Each in a buffer of its own: they are counted, and go, by themselves.
  const body = ObjectBody.of([new Uint8Array(content.subarray(0, at))]);
  for (const { coding, bytes } of forms)
    body.setCoded(coding, ObjectBody.of([new Uint8Array(content.subarray(at, (at += bytes)))]));
  return body;
}

/** Hash of what selects a variant; 0 when the response does not vary. A collision replaces one variant by another: a miss. */
export function variantOf({ nominatedFields, nominatedValues }: StoredHead): number {
  return nominatedFields.length === 0 ? 0 : xxh32(JSON.stringify([nominatedFields, nominatedValues]));
}
