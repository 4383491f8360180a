/**
 * The purge calls of other CDNs, as their documentation has them, turned into ours: scripts and plug-ins that speak to them
 * need another address and token and nothing else. Fastly: "Purging API"; Cloudflare: "Purge Cached Content"
 * (POST /zones/{id}/purge_cache); Akamai: "Fast Purge API" v3. Where they name a service or zone, ours is the property id.
 */
import { array, either, object, optional, ParseError, type PropertyId, string } from "#kit";

/** What is to be forgotten of one property: a purge request without its owner. */
export interface PurgeWish {
  readonly urls?: readonly string[];
  readonly tags?: readonly string[];
  readonly prefixes?: readonly string[];
  readonly hosts?: readonly string[];
  readonly isWholeProperty?: boolean;
}

const names = () => array(string({ max: 8_192 }), { min: 1, max: 1_000 });

const yes = {
  parse(value: unknown, path: readonly (string | number)[] = []): true {
    if (value !== true) throw new ParseError(path, value, "true");
    return true;
  },
  jsonSchema: () => ({ const: true }),
};

/** Cloudflare: one of these; a file may be an object whose headers we need not know, since all variants of a URL go. */
const cloudflareBody = object({
  files: optional(
    array(
      either(
        string({ max: 8_192 }),
        object({
          url: string({ max: 8_192 }),
          headers: optional({ parse: () => undefined, jsonSchema: () => ({}) }),
        }),
        "a URL, or an object with one",
      ),
      { min: 1, max: 1_000 },
    ),
  ),
  tags: optional(names()),
  hosts: optional(names()),
  prefixes: optional(names()),
  purge_everything: optional(yes),
});

/** Throws ParseError. */
export function cloudflarePurge(body: unknown): PurgeWish {
  const { files, tags, hosts, prefixes, purge_everything: isWholeProperty } = cloudflareBody.parse(body);
  const wish: PurgeWish = {
    ...(files !== undefined && { urls: files.map((file) => (typeof file === "string" ? file : file.url)) }),
    ...(tags !== undefined && { tags }),
    ...(hosts !== undefined && { hosts }),
    // Theirs have no scheme; ours have one, and it means nothing.
    ...(prefixes !== undefined && {
      prefixes: prefixes.map((one) => (/^https?:\/\//.test(one) ? one : `http://${one}`)),
    }),
    ...(isWholeProperty !== undefined && { isWholeProperty }),
  };
  if (Object.keys(wish).length === 0)
    throw new ParseError([], body, "files, tags, hosts, prefixes or purge_everything");
  return wish;
}

export const akamaiKinds = ["url", "tag", "cpcode"] as const;
export type AkamaiKind = (typeof akamaiKinds)[number];

const akamaiBody = object({
  hostname: optional(string({ max: 253 })),
  objects: array(
    either(
      string({ max: 8_192 }),
      { parse: code, jsonSchema: () => ({ type: "integer" }) },
      "text or a CP code",
    ),
    {
      min: 1,
      max: 1_000,
    },
  ),
});
function code(value: unknown, path: readonly (string | number)[] = []): number {
  if (!Number.isInteger(value)) throw new ParseError(path, value, "a whole number");
  return value as number;
}

/** A property as far as a purge by host must know it. */
export interface PurgeableProperty {
  readonly propertyId: PropertyId;
  readonly hostnames: readonly string[];
}

/**
 * Akamai's call by property: URLs go to the property that has their host, tags to all of the account's, CP codes are property
 * ids. Throws ParseError, also for what belongs to none of `properties`.
 */
export function akamaiPurge(
  kind: AkamaiKind,
  body: unknown,
  properties: readonly PurgeableProperty[],
  hostOf: (url: string) => string | undefined,
): ReadonlyMap<PropertyId, PurgeWish> {
  const { hostname, objects } = akamaiBody.parse(body);
  const wishes = new Map<PropertyId, PurgeWish>();
  switch (kind) {
    case "tag": {
      const tags = objects.map(String);
      for (const { propertyId } of properties) wishes.set(propertyId, { tags });
      return wishes;
    }
    case "cpcode":
      for (const [index, one] of objects.entries()) {
        const found = properties.find(({ propertyId }) => propertyId === one);
        if (found === undefined)
          throw new ParseError(["objects", index], one, "the id of a property of yours");
        wishes.set(found.propertyId, { isWholeProperty: true });
      }
      return wishes;
    case "url":
      for (const [index, one] of objects.entries()) {
        // With a host name the objects are paths.
        const url =
          typeof one === "string" && one.startsWith("/") && hostname !== undefined
            ? `http://${hostname}${one}`
            : String(one);
        const host = hostOf(url);
        const found = properties.find(({ hostnames }) => host !== undefined && hostnames.includes(host));
        if (found === undefined)
          throw new ParseError(
            ["objects", index],
            one,
            "an absolute URL of a property of yours, or a path beside a hostname",
          );
        wishes.set(found.propertyId, { urls: [...(wishes.get(found.propertyId)?.urls ?? []), url] });
      }
      return wishes;
    default:
      return kind satisfies never;
  }
}

const fastlyKeys = object({ surrogate_keys: names() });

/** Fastly's list of keys: a Surrogate-Key field, or a JSON body. Throws ParseError. */
export function fastlyPurgeKeys(field: string | undefined, body: unknown): readonly string[] {
  if (field !== undefined)
    return names().parse(
      field.split(" ").filter((one) => one !== ""),
      ["surrogate-key"],
    );
  return fastlyKeys.parse(body ?? {}).surrogate_keys;
}
