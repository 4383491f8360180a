/** The primary cache key (RFC 9111, section 2) of a request, and the one that a purge by URL means. */
import type { QueryKey } from "#kit";

/**
 * A primary cache key: `scheme://host/path?query`, the query as the policy keys it, then the key parts of rules from a "#" on, which no
 * request target holds.
 */
export type CacheKey = string & { readonly __brand: "CacheKey" };

/** What the key of a request depends on beside its URL. */
interface Keying {
  readonly keyQuery: QueryKey;
  readonly keyParts?: string;
}

const nameOf = (parameter: string): string => parameter.split("=", 1)[0] ?? "";

/** Parameters of equal name keep their order: it can carry meaning. */
function sortedQuery(parameters: readonly string[]): string {
  return parameters
    .map((parameter, index) => ({ parameter, name: nameOf(parameter), index }))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.index - b.index))
    .map(({ parameter }) => parameter)
    .join("&");
}

/** The query as the policy keys it, with its "?"; "" when none belongs to the key. */
function keyedQuery(query: string, keyQuery: QueryKey): string {
  if (query === "" || keyQuery === "none") return "";
  if (keyQuery === "all") return `?${query}`;
  const parameters = query.split("&");
  const kept =
    keyQuery === "sorted"
      ? parameters
      : "keep" in keyQuery
        ? parameters.filter((parameter) => keyQuery.keep.includes(nameOf(parameter)))
        : parameters.filter((parameter) => !keyQuery.drop.includes(nameOf(parameter)));
  return kept.length === 0 ? "" : `?${sortedQuery(kept)}`;
}

/** What no URI holds as it stands though browsers and tools send it, and a "%" that begins no encoded byte (RFC 3986, 2). */
const NOT_OF_A_URI = /["<>\\^`{|}[\]]|%(?![0-9A-Fa-f]{2})/g;

/**
 * The target as a strict reader takes it (RFC 9112, section 3.2): visible characters that no path or query may hold are
 * percent-encoded, which names the same resource. Refusing them would refuse what browsers send (`|`, `[`, `%` alone).
 */
export function uriTarget(target: string): string {
  return target.replace(NOT_OF_A_URI, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** The key of a request. `host` in lower case. Bytes of the target are taken as they are: origins may tell them apart. */
export function cacheKey(
  request: { readonly scheme: "http" | "https"; readonly host: string; readonly target: string },
  policy: Keying,
): CacheKey {
  const mark = request.target.indexOf("?");
  const path = mark === -1 ? request.target : request.target.slice(0, mark);
  const query = mark === -1 ? "" : request.target.slice(mark + 1);
  return `${request.scheme}://${request.host}${path}${keyedQuery(query, policy.keyQuery)}${policy.keyParts ?? ""}` as CacheKey;
}

/** A key without the parts that rules add to its URL: what a purge by URL names. */
export function urlKeyOf(key: CacheKey | string): CacheKey {
  const end = key.indexOf("#");
  return (end === -1 ? key : key.slice(0, end)) as CacheKey;
}

/** An absolute http(s) URI cut into what a key needs; undefined when it is none. No fragment, no user information. */
export function parseAbsoluteUri(
  text: string,
): { readonly scheme: "http" | "https"; readonly host: string; readonly target: string } | undefined {
  const match = /^(https?):\/\/([^/?#@\s]+)(\/[^?#\s]*)?(\?[^#\s]*)?(?:#.*)?$/i.exec(text);
  if (!match) return undefined;
  const scheme = (match[1] ?? "").toLowerCase() as "http" | "https";
  return {
    scheme,
    host: canonicalHost(match[2] ?? "", scheme),
    target: uriTarget(`${match[3] ?? "/"}${match[4] ?? ""}`),
  };
}

/** An authority in lower case, without the default port of its scheme (RFC 9110, section 4.2.3). */
export function canonicalHost(authority: string, scheme: "http" | "https"): string {
  const lower = authority.toLowerCase();
  const suffix = scheme === "http" ? ":80" : ":443";
  return lower.endsWith(suffix) ? lower.slice(0, -suffix.length) : lower;
}

/** Both keys that a purge of one URL means, with whatever key parts: customers purge a page, not a scheme. */
export function purgeKeys(url: string, policy: Pick<Keying, "keyQuery">): readonly CacheKey[] {
  const parsed = parseAbsoluteUri(url);
  if (parsed === undefined) return [];
  return (["http", "https"] as const).map((scheme) =>
    cacheKey({ ...parsed, scheme, host: canonicalHost(parsed.host, scheme) }, { keyQuery: policy.keyQuery }),
  );
}
