/**
 * What turns one map into the next, so that it need not be sent whole: most of two maps in a row is the same. A map is named by its content, and
 * a difference says of which map it is one and to which map it leads, so that nobody can put it to another one.
 */
import { fromBase64InSteps, toBase64 } from "../base64.ts";
import { xxh64InSteps } from "../hash.ts";
import {
  array,
  either,
  integer,
  object,
  optional,
  type Parsed,
  ParseError,
  type Path,
  type Schema,
  string,
} from "../schema.ts";
import type { Steps } from "../steps.ts";
import { checksumOf } from "./cluster-map/codec.ts";
import { applyDiffsInSteps, diffInSteps } from "./cluster-map/diff.ts";
import type { MapSnapshot } from "./map-snapshot.ts";

/** The parts of a map that are long lists beside the cluster map. */
const LISTS = ["resolvers", "tiers", "paths"] as const;
type ListName = (typeof LISTS)[number];
/** As many entries as a list of a map may have. */
const ENTRIES_MAX = 1_000_000;
/** Entries between two pauses: a millisecond or two. */
const STEP = 128;

/** The content of a map in 16 hexadecimal digits. */
export const mapName: Schema<string> = string({
  min: 16,
  max: 16,
  pattern: /^[0-9a-f]{16}$/,
  expected: "the name of a map, 16 hexadecimal digits",
});

const anything: Schema<unknown> = { parse: (value) => value, jsonSchema: () => ({}) };
const head: Schema<Readonly<Record<string, unknown>>> = {
  parse(value, path = []) {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw new ParseError(path, value, "the fields of a map");
    for (const name of [...LISTS, "clusterMap"])
      if (Object.hasOwn(value, name))
        throw new ParseError([...path, name], "a value", "no such field of a difference's head");
    return value as Readonly<Record<string, unknown>>;
  },
  jsonSchema: () => ({ type: "object" }),
};

/** A list as what is taken over from that of the base, and what is new. */
const edits = array(
  either(
    object({ from: integer(), count: integer({ min: 1 }) }),
    object({ add: array(anything, { min: 1, max: ENTRIES_MAX }) }),
    "entries of the base (from, count), or new ones (add)",
  ),
  { max: ENTRIES_MAX },
);

export const mapDifference = object({
  base: mapName,
  result: mapName,
  /** All of the map but its lists and its cluster map. */
  head,
  resolvers: optional(edits),
  tiers: edits,
  paths: edits,
  /** Difference of the cluster maps, in base64: see cluster-map/diff.ts. */
  clusterChanges: string({ max: 100_000_000 }),
});
export type MapDifference = Parsed<typeof mapDifference>;

export interface NamedMap {
  readonly map: MapSnapshot;
  readonly name: string;
}

/**
 * The map with the name that its content gives it. `map` must be as its schema gives it: there each field has its place, so that the text of
 * one content is one text. Throws ParseError when it does not decode.
 */
export function* named(map: MapSnapshot): Steps<NamedMap> {
  const pieces: Uint8Array[] = [];
  const add = (text: string): void => {
    pieces.push(encoder.encode(`${text}\n`));
  };
  add(JSON.stringify(headOf(map)));
  for (const list of LISTS) {
    const entries = map[list];
    add(`${list} ${entries?.length ?? "none"}`);
    for (const text of yield* textsOf(entries ?? [])) add(text);
  }
  add(checksumOf(yield* map.clusterMap.bytesInSteps()));
  const checksum = yield* xxh64InSteps(...pieces);
  return { map, name: checksum.toString(16).padStart(16, "0") };
}
const encoder = new TextEncoder();

/** What leads from one map to the other. Throws ParseError when one of them does not decode. */
export function* differenceOf(base: NamedMap, next: NamedMap): Steps<MapDifference> {
  const lists: Partial<Record<ListName, MapDifference["tiers"]>> = {};
  for (const list of LISTS)
    if (next.map[list] !== undefined) lists[list] = yield* editsOf(base.map[list] ?? [], next.map[list]);
  const { tiers = [], paths = [], ...rest } = lists;
  const clusterChanges = toBase64(yield* diffInSteps(base.map.clusterMap, next.map.clusterMap));
  return {
    base: base.name,
    result: next.name,
    head: headOf(next.map),
    ...rest,
    tiers,
    paths,
    clusterChanges,
  };
}

/**
 * The map that differences lead to, one after the other, its name proved to be that which the last one promises; still to be parsed as a
 * map. Throws ParseError, and nothing has changed, when they do not follow on the base and on each other, or lead elsewhere.
 */
export function* applyDifferences(base: NamedMap, differences: readonly MapDifference[]): Steps<unknown> {
  let before = base.name;
  const lists = new Map<ListName, readonly unknown[] | undefined>(
    LISTS.map((list) => [list, base.map[list]]),
  );
  const clusterMaps: Uint8Array[] = [];
  let fields: Readonly<Record<string, unknown>> = headOf(base.map);
  for (const [n, difference] of differences.entries()) {
    if (difference.base !== before) throw new ParseError([n, "base"], difference.base, `the name ${before}`);
    for (const list of LISTS) {
      const own = difference[list];
      lists.set(list, own && edited(lists.get(list) ?? [], own, [n, list]));
      yield;
    }
    const bytes = yield* fromBase64InSteps(difference.clusterChanges);
    if (bytes === undefined) throw new ParseError([n, "clusterChanges"], "a text", "base64");
    clusterMaps.push(bytes);
    fields = difference.head;
    before = difference.result;
  }
  const clusterMap = yield* applyDiffsInSteps(base.map.clusterMap, clusterMaps, ["clusterMap"]);
  const present = [...lists].filter(([, entries]) => entries !== undefined);
  const map = { ...fields, ...Object.fromEntries(present), clusterMap };
  const { name } = yield* named(map as unknown as MapSnapshot);
  if (name !== before) throw new ParseError(["result"], name, `a map of the name ${before}`);
  return map;
}

function headOf(map: MapSnapshot): Readonly<Record<string, unknown>> {
  const { clusterMap: _clusterMap, resolvers: _resolvers, tiers: _tiers, paths: _paths, ...fields } = map;
  return fields;
}

function* editsOf(base: readonly unknown[], next: readonly unknown[]): Steps<MapDifference["tiers"]> {
  const places = new Map<string, number>();
  for (const [place, text] of (yield* textsOf(base)).entries())
    if (!places.has(text)) places.set(text, place);
  const found: ({ from: number; count: number } | { add: unknown[] })[] = [];
  for (const [place, text] of (yield* textsOf(next)).entries()) {
    const last = found.at(-1);
    const from = places.get(text);
    if (from === undefined) {
      if (last !== undefined && "add" in last) last.add.push(next[place]);
      else found.push({ add: [next[place]] });
    } else if (last !== undefined && "from" in last && last.from + last.count === from) last.count++;
    else found.push({ from, count: 1 });
  }
  return found;
}

function edited(base: readonly unknown[], parts: MapDifference["tiers"], path: Path): readonly unknown[] {
  const entries: unknown[] = [];
  for (const [n, part] of parts.entries()) {
    if ("add" in part) {
      for (const entry of part.add) entries.push(entry);
      continue;
    }
    const { from, count } = part;
    if (from + count > base.length || entries.length + count > ENTRIES_MAX)
      throw new ParseError(
        [...path, n],
        `${count} from ${from}`,
        `some of the base's ${base.length} entries`,
      );
    for (let at = from; at < from + count; at++) entries.push(base[at]);
  }
  return entries;
}

function* textsOf(entries: readonly unknown[]): Steps<string[]> {
  const texts: string[] = [];
  for (const [n, entry] of entries.entries()) {
    if (n % STEP === STEP - 1) yield;
    texts.push(JSON.stringify(entry));
  }
  return texts;
}
