/** Branded names, so that a cluster is never passed where a server is meant. All share one grammar. */
import { map, type Schema, string } from "./schema.ts";

type Brand<B extends string> = string & { readonly __brand: B };

/** A group of clusters that fail and are rolled out together. */
export type RegionId = Brand<"RegionId">;
/** One site and its servers: an edge, parent, relay, origin or service site. Links join clusters. */
export type ClusterId = Brand<"ClusterId">;
/** One machine; in the demo world one process. Written `<cluster>-<n>`. */
export type ServerId = Brand<"ServerId">;
export type CustomerId = Brand<"CustomerId">;
export type PropertyId = Brand<"PropertyId">;
/** The map's unit: a set of client prefixes that are treated alike. */
export type ClientNetworkId = Brand<"ClientNetworkId">;

/** Lower-case letters, digits and hyphens, starting with a letter, at most 63: fits a DNS label, a file name and a metric label. */
const idPattern = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;

export function id<T extends Brand<string>>(): Schema<T> {
  return map(
    string({
      max: 63,
      pattern: idPattern,
      expected: "a name of lower-case letters, digits and hyphens, starting with a letter, at most 63 long",
    }),
    (value) => value as T,
  );
}

const labels = String.raw`[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*`;
const hostnamePattern = new RegExp(`^(?=.{1,253}$)${labels}$`);

/** A host name, or all below one: `*.` in front. */
export function hostnameOrBelow(): Schema<string> {
  return string({
    max: 255,
    pattern: new RegExp(String.raw`^(?=.{1,255}$)(\*\.)?${labels}$`),
    expected: 'a host name in lower case, or one with "*." in front',
  });
}

/** A host name in lower case without the trailing dot (RFC 1123 section 2.1, RFC 1035 section 2.3.4). */
export function hostname(): Schema<string> {
  return string({
    max: 253,
    pattern: hostnamePattern,
    expected: "a host name in lower case, without trailing dot",
  });
}
