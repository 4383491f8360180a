/** The parts of a cache key beside its URL: what rules name, and which rules on the request took part. */
import type { RuleKey } from "#kit";
import type { RequestFacts } from "./request-facts.ts";

/** Longer values would fill the store with keys: such requests go past the cache. */
export const KEY_VALUE_CHARACTERS_MAX = 256;

/**
 * What follows the URL in a key, "" for none. `ruleIds`: of the rules on more than the URL that hold and change what is stored.
 * Undefined: a value is too long for a key.
 */
export function keyParts(
  key: Omit<RuleKey, "query">,
  ruleIds: readonly string[],
  facts: RequestFacts,
): string | undefined {
  const parts: string[] = [];
  for (const name of key.headers ?? []) {
    const value = facts.header(name.toLowerCase());
    if ((value?.length ?? 0) > KEY_VALUE_CHARACTERS_MAX) return undefined;
    parts.push(part("h", name.toLowerCase(), value === undefined ? undefined : [value]));
  }
  for (const name of key.cookies ?? []) {
    const values = facts.cookies.get(name);
    if ((values?.join("").length ?? 0) > KEY_VALUE_CHARACTERS_MAX) return undefined;
    parts.push(part("c", name, values));
  }
  if (key.device === true) parts.push(`d=${facts.device}`);
  for (const id of ruleIds) parts.push(`r=${id}`);
  return parts.length === 0 ? "" : `#${parts.join("&")}`;
}

/** Encoded, so that no value can pass for another part. */
function part(kind: string, name: string, values: readonly string[] | undefined): string {
  const text = values === undefined ? "" : `=${values.map(encodeURIComponent).join(",")}`;
  return `${kind}:${encodeURIComponent(name)}${text}`;
}
