/** What rules make of a header section, a path, a location. */
import type { FieldEdits, Rule } from "#kit";
import type { Field, Fields } from "../headers.ts";
import { pathOf } from "./request-facts.ts";

/** The fields with what is set in front, and without what is removed or set anew. */
export function editFields(fields: Fields, edits: FieldEdits | undefined): Fields {
  if (edits === undefined) return fields;
  const set = (edits.set ?? []).map(({ name, value }): Field => [name, value]);
  const gone = new Set(
    [...(edits.remove ?? []), ...set.map(([name]) => name)].map((name) => name.toLowerCase()),
  );
  return [...set, ...fields.filter(([name]) => !gone.has(name.toLowerCase()))];
}

/** The target that the origin is asked for. One that does not begin with the prefix as it is written stays. */
export function rewriteTarget(target: string, rewrite: NonNullable<Rule["rewrite"]>): string {
  if (!target.startsWith(rewrite.prefix)) return target;
  const rest = target.slice(rewrite.prefix.length);
  return rewrite.replacement.endsWith("/") && rest.startsWith("/")
    ? rewrite.replacement + rest.slice(1)
    : rewrite.replacement + rest;
}

/** The location that a redirect's template means for a request. */
export function locationOf(
  template: string,
  request: { readonly scheme: string; readonly host: string; readonly target: string },
): string {
  const path = pathOf(request.target);
  const query = request.target.slice(path.length);
  const location = template.replaceAll(/\{(scheme|host|path|query)\}/g, (_, name: string) =>
    name === "scheme" ? request.scheme : name === "host" ? request.host : name === "path" ? path : query,
  );
  // "//host" would name another host (RFC 3986, section 4.2): no client may choose where a redirect leads.
  return location.startsWith("//") ? `/${location.replace(/^\/+/, "")}` : location;
}
