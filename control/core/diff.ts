/** Structural difference of two JSON values. */
import { formatPath, type Path } from "#kit";
import type { DocumentChange } from "./words.ts";

/** Beyond it a diff tells nobody anything; the last entry then says so. */
const CHANGES_MAX = 10_000;
/** Deeper than any document of ours; a value below is compared whole. */
const DEPTH_MAX = 64;

/**
 * Every place where `to` differs from `from`, in the order of `from`'s keys, then keys that only `to` has. Lists are
 * compared place by place: an element put in front shows as every later place changed, which is what an ordered list
 * (origins, rules) means. Key order is no difference. At most 10,000 changes; then one last change at the root holds
 * both values whole. Never throws on JSON values.
 */
export function diffDocuments(from: unknown, to: unknown): readonly DocumentChange[] {
  const changes: DocumentChange[] = [];
  if (!collect(from, to, [], changes)) {
    changes.length = CHANGES_MAX - 1;
    changes.push({ path: formatPath([]), from, to });
  }
  return changes;
}

/** False when there are too many. */
function collect(from: unknown, to: unknown, path: Path, changes: DocumentChange[]): boolean {
  if (Object.is(from, to)) return true;
  const isDeep = path.length < DEPTH_MAX;
  if (isDeep && Array.isArray(from) && Array.isArray(to)) {
    for (let index = 0; index < Math.max(from.length, to.length); index++) {
      const at = [...path, index];
      const isFine =
        index >= to.length
          ? add(changes, { path: formatPath(at), from: from[index] })
          : index >= from.length
            ? add(changes, { path: formatPath(at), to: to[index] })
            : collect(from[index], to[index], at, changes);
      if (!isFine) return false;
    }
    return true;
  }
  if (isDeep && isMapping(from) && isMapping(to)) {
    for (const key of new Set([...Object.keys(from), ...Object.keys(to)])) {
      const at = [...path, key];
      const isFine = !Object.hasOwn(to, key)
        ? add(changes, { path: formatPath(at), from: from[key] })
        : !Object.hasOwn(from, key)
          ? add(changes, { path: formatPath(at), to: to[key] })
          : collect(from[key], to[key], at, changes);
      if (!isFine) return false;
    }
    return true;
  }
  if (!isDeep && JSON.stringify(from) === JSON.stringify(to)) return true;
  return add(changes, { path: formatPath(path), from, to });
}

function add(changes: DocumentChange[], change: DocumentChange): boolean {
  changes.push(change);
  return changes.length <= CHANGES_MAX;
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
