/** Which answers clients keep as dictionaries for later ones (RFC 9842, section 2.1). */
import { parseDirectives } from "../cache-control.ts";
import { type Fields, fieldLines } from "../headers.ts";
import { pathOf } from "../rules/request-facts.ts";

/** Whether a response says that it may be used as a dictionary: a match, and content as it is. */
export function isDictionary(fields: Fields): boolean {
  const lines = fieldLines(fields, "use-as-dictionary");
  if (lines.length === 0) return false;
  const members = parseDirectives(lines);
  const match = members.get("match")?.at(-1);
  const type = members.get("type")?.at(-1) ?? "raw";
  return typeof match === "string" && match !== "" && type === "raw";
}

/**
 * Whether a path matches a pattern, in which "*" stands for any characters and no other character has a meaning: the client reads it as
 * a URL pattern (RFC 9842, section 2.1.1), where that is so too for the characters that it may have (kit/documents/property.ts).
 */
export function matchesPattern(pattern: string, path: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  const last = rest.pop();
  if (last === undefined) return path === first;
  if (!path.startsWith(first)) return false;
  let at = first.length;
  for (const piece of rest) {
    const found = path.indexOf(piece, at);
    if (found === -1) return false;
    at = found + piece.length;
  }
  return path.length - last.length >= at && path.endsWith(last);
}

/** Use-As-Dictionary for a target, from the first pattern that its path matches; undefined: none does. */
export function useAsDictionary(patterns: readonly string[], target: string): string | undefined {
  const path = pathOf(target);
  const pattern = patterns.find((one) => matchesPattern(one, path));
  return pattern === undefined ? undefined : `match="${pattern}"`;
}
