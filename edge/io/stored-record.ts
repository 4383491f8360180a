/** A stored response's head as the disk keeps it: JSON, parsed as strictly as any document. */
import {
  array,
  boolean,
  type EpochMs,
  integer,
  nullable,
  number,
  object,
  type Parsed,
  string,
  tuple,
  xxh32,
} from "#kit";
import type { CacheKey } from "../core/cache-key.ts";
import type { StoredHead } from "../core/messages.ts";

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
});
type DiskHead = Parsed<typeof headSchema>;

/** Not `never`: a stored response has a property that the disk would lose. Add it to the schema and raise SEGMENT_FORMAT. */
type Forgotten = Exclude<keyof StoredHead, keyof DiskHead>;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** Key and head of a stored response; a body that is with it stays out. */
export function encodeHead(key: CacheKey, stored: StoredHead): Uint8Array {
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
  };
  return encoder.encode(JSON.stringify(head));
}

/** The key alone, which stands first, without the cost of the rest; undefined: not a head of this format. */
export function keyOfHead(bytes: Uint8Array): CacheKey | undefined {
  const match = /^\{"key":("(?:[^"\\]|\\.)*")/.exec(Buffer.from(bytes).toString());
  return match === null ? undefined : (JSON.parse(match[1] ?? '""') as CacheKey);
}

/** Undefined: not a head of this format. */
export function decodeHead(
  bytes: Uint8Array,
): { readonly key: CacheKey; readonly head: StoredHead } | undefined {
  try {
    const { key, ...head } = headSchema.parse(JSON.parse(decoder.decode(bytes)));
    return {
      key: key as CacheKey,
      head: {
        ...head,
        requestTime: head.requestTime as EpochMs,
        responseTime: head.responseTime as EpochMs,
      },
    };
  } catch {
    return undefined;
  }
}

/** Hash of what selects a variant; 0 when the response does not vary. A collision replaces one variant by another: a miss. */
export function variantOf({ nominatedFields, nominatedValues }: StoredHead): number {
  return nominatedFields.length === 0 ? 0 : xxh32(JSON.stringify([nominatedFields, nominatedValues]));
}
