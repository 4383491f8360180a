/** What the disk tests store: every byte follows from key, variant and version, so that whoever reads it can tell. */
import { type CacheKey, DiskStore, ObjectBody, type StoredObject } from "#edge";
import { epochMs, xxh32 } from "#kit";
import { createLogger } from "#kit/io";

export const keyOf = (name: string | number): CacheKey => `http://www.example/objects/${name}` as CacheKey;

/** Bytes that nothing else has: a generator (xorshift32; Marsaglia, JSS 8(14), 2003) seeded by what they belong to. */
export function bodyBytes(name: string, bytes: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  let x = xxh32(name) || 1;
  for (let at = 0; at < words.length; at++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[at] = x;
  }
  return new Uint8Array(words.buffer, 0, bytes);
}

/** Another form of a version's content, for the tests that there are several: a third as long. */
export function formOf(key: string | number, variant: number, version: number, bytes: number): ObjectBody {
  return ObjectBody.of([bodyBytes(`${key}/${variant}/${version}/form`, Math.ceil(bytes / 3))]);
}

/** Versions that come with a form at once. */
const isWithForm = (version: number): boolean => version % 4 === 0;

/** A stored response of a version; the entity tag names version and length, so that its body and its form can be told. */
export function objectOf(
  key: string | number,
  variant: number,
  version: number,
  bytes: number,
): StoredObject {
  const body = ObjectBody.of([bodyBytes(`${key}/${variant}/${version}`, bytes)]);
  if (isWithForm(version)) body.setCoded("br", formOf(key, variant, version, bytes));
  return {
    status: 200,
    fields: [
      ["Content-Type", "application/octet-stream"],
      ["Cache-Control", "max-age=3600"],
      ["ETag", `"${version}-${bytes}"`],
    ],
    requestTime: epochMs(1_000),
    responseTime: epochMs(2_000),
    nominatedFields: variant === 0 ? [] : ["x-variant"],
    nominatedValues: variant === 0 ? [] : [String(variant)],
    generation: 0,
    tags: [],
    isInvalidated: false,
    sliced: null,
    part: null,
    body,
  };
}

/** Which variant and version a loaded object is, and whether it is so to its last byte, and its form to its own. */
export function examine(
  key: string | number,
  object: StoredObject,
): { readonly variant: number; readonly version: number; readonly isWhole: boolean } {
  const variant = Number(object.nominatedValues[0] ?? 0);
  const tag = object.fields.find(([name]) => name === "ETag")?.[1] ?? "";
  const [, version = 0, bytes = -1] = /^"([0-9]+)-([0-9]+)"$/.exec(tag)?.map(Number) ?? [];
  const wanted = bodyBytes(`${key}/${variant}/${version}`, Math.max(0, bytes));
  const form = object.body.coded.get("br");
  const isFormWhole =
    form instanceof ObjectBody
      ? Buffer.concat(form.chunks).equals(Buffer.concat(formOf(key, variant, version, bytes).chunks))
      : !isWithForm(version);
  return { variant, version, isWhole: Buffer.concat(object.body.chunks).equals(wanted) && isFormWhole };
}

export async function openStore(directory: string, bytesMax: number): Promise<DiskStore> {
  const logger = createLogger({ role: "edge", id: "disk" }, { level: "silent" });
  const store = new DiskStore({ directory, bytesMax, logger });
  await store.open();
  return store;
}
