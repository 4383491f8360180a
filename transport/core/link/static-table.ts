/**
 * Names and whole fields that a head has by number. The numbers are the wire format of version 1: nothing is moved or taken out.
 * Chosen from what edges, parents and origins send each other.
 */

/** At most 64. */
export const KNOWN_NAMES: readonly string[] = [
  ..."accept accept-encoding accept-language accept-ranges access-control-allow-credentials".split(" "),
  ..."access-control-allow-headers access-control-allow-methods access-control-allow-origin age".split(" "),
  ..."allow alt-svc authorization available-dictionary cache-control cache-status cache-tag".split(" "),
  ..."cdn-cache-control content-encoding content-language content-length content-location".split(" "),
  ..."content-range content-security-policy content-type cookie date etag expires if-match".split(" "),
  ..."if-modified-since if-none-match if-range if-unmodified-since isochrone-accept-encoding".split(" "),
  ..."isochrone-available-dictionary isochrone-explain isochrone-generation isochrone-owner".split(" "),
  ..."isochrone-peer isochrone-request-id isochrone-tier last-modified link location origin".split(" "),
  ..."pragma priority range referer retry-after server set-cookie strict-transport-security".split(" "),
  ..."surrogate-control surrogate-key traceparent use-as-dictionary user-agent vary via".split(" "),
  ..."www-authenticate x-forwarded-for x-forwarded-proto".split(" "),
];

/** At most 128. */
export const KNOWN_PAIRS: readonly (readonly [name: string, value: string])[] = [
  ["accept", "*/*"],
  ["accept-encoding", "br"],
  ["accept-encoding", "gzip"],
  ["accept-encoding", "identity"],
  ["accept-encoding", "gzip, deflate"],
  ["accept-encoding", "gzip, deflate, br"],
  ["accept-encoding", "gzip, deflate, br, zstd"],
  ["accept-ranges", "bytes"],
  ["access-control-allow-credentials", "true"],
  ["access-control-allow-origin", "*"],
  ["age", "0"],
  ["cache-control", "max-age=0"],
  ["cache-control", "max-age=60"],
  ["cache-control", "max-age=300"],
  ["cache-control", "max-age=3600"],
  ["cache-control", "max-age=86400"],
  ["cache-control", "max-age=31536000"],
  ["cache-control", "no-cache"],
  ["cache-control", "no-store"],
  ["cache-control", "private"],
  ["cache-control", "public"],
  ["cache-control", "public, max-age=3600"],
  ["cache-control", "public, max-age=86400"],
  ["cache-control", "public, max-age=31536000"],
  ["cache-control", "public, max-age=31536000, immutable"],
  ["content-encoding", "br"],
  ["content-encoding", "gzip"],
  ["content-encoding", "zstd"],
  ["content-length", "0"],
  ["content-type", "application/javascript"],
  ["content-type", "application/json"],
  ["content-type", "application/octet-stream"],
  ["content-type", "font/woff2"],
  ["content-type", "image/avif"],
  ["content-type", "image/gif"],
  ["content-type", "image/jpeg"],
  ["content-type", "image/png"],
  ["content-type", "image/svg+xml"],
  ["content-type", "image/webp"],
  ["content-type", "text/css"],
  ["content-type", "text/css; charset=utf-8"],
  ["content-type", "text/html"],
  ["content-type", "text/html; charset=utf-8"],
  ["content-type", "text/javascript"],
  ["content-type", "text/javascript; charset=utf-8"],
  ["content-type", "text/plain"],
  ["content-type", "text/plain; charset=utf-8"],
  ["content-type", "video/mp4"],
  ["isochrone-owner", "1"],
  ["isochrone-tier", "0"],
  ["isochrone-tier", "1"],
  ["isochrone-tier", "2"],
  ["pragma", "no-cache"],
  ["vary", "accept-encoding"],
  ["vary", "Accept-Encoding"],
  ["vary", "origin"],
  ["vary", "Origin"],
  ["x-forwarded-proto", "http"],
  ["x-forwarded-proto", "https"],
];

/** 0: the method is written out. */
export const KNOWN_METHODS: readonly string[] = [
  "",
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "DELETE",
  "OPTIONS",
  "PATCH",
];

/** A name as it is looked up: in lower case, or the way HTTP/1.1 usually writes it. */
export interface KnownName {
  readonly index: number;
  /** Pairs of this name by value; undefined: there are none. */
  readonly pairs: ReadonlyMap<string, number> | undefined;
}

export const knownNames: ReadonlyMap<string, KnownName> = tableOf();

function tableOf(): ReadonlyMap<string, KnownName> {
  const pairs = new Map<string, Map<string, number>>();
  KNOWN_PAIRS.forEach(([name, value], index) => {
    const values = pairs.get(name) ?? new Map<string, number>();
    values.set(value, index);
    pairs.set(name, values);
  });
  const table = new Map<string, KnownName>();
  KNOWN_NAMES.forEach((name, index) => {
    const known = { index, pairs: pairs.get(name) };
    table.set(name, known);
    table.set(capitalised(name), known);
  });
  return table;
}

/** "content-type" as "Content-Type". */
function capitalised(name: string): string {
  return name.replace(/(^|-)[a-z]/g, (start) => start.toUpperCase());
}
