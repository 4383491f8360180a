/** Tags by which a customer purges many objects at once. */
import { type Fields, fieldLines } from "./headers.ts";

/** Tags kept of one response; the rest is dropped and the response counts as untagged by them. */
export const TAGS_MAX = 128;

/** Longest tag, as kit/documents/purge.ts has it. */
const TAG_CHARACTERS_MAX = 256;

/** Tags of a response: Surrogate-Key (separated by blanks) and Cache-Tag (by commas), unique, in order. */
export function tagsOf(fields: Fields): readonly string[] {
  let tags: Set<string> | undefined;
  for (const [name, separator] of TAG_FIELDS) {
    for (const line of fieldLines(fields, name)) {
      tags ??= new Set();
      for (const tag of line.split(separator)) {
        if (tag !== "" && tag.length <= TAG_CHARACTERS_MAX && tags.size < TAGS_MAX) tags.add(tag);
      }
    }
  }
  return tags === undefined ? NO_TAGS : [...tags];
}
const NO_TAGS: readonly string[] = [];
const TAG_FIELDS = [
  ["surrogate-key", /\s+/],
  ["cache-tag", /[\s,]+/],
] as const;
