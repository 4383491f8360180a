/** Edits of a zone by RRsets, all or none, with the serial that goes with them. */
import { compareSerials, nextSerial } from "../dns/serial.ts";
import { array, map, object, oneOf, optional, type Parsed, ParseError, refine } from "../schema.ts";
import { rrSetFields, type ZoneDocument, zoneDocument, zoneOfDocument, type ZoneSetText } from "./zone.ts";

const { name, type, ttlSeconds, data } = rrSetFields;
const change = refine(
  object({
    action: oneOf(["set", "add", "delete"]),
    name,
    type,
    ttlSeconds: optional(ttlSeconds),
    data: optional(data),
  }),
  (edit) => {
    for (const field of ["ttlSeconds", "data"] as const)
      if ((edit[field] === undefined) !== (edit.action === "delete"))
        return {
          at: [field],
          value: edit[field],
          expected: edit.action === "delete" ? "nothing: the whole RRset goes" : "what the RRset is to have",
        };
    return undefined;
  },
);
type Change = Parsed<typeof change>;

/** `set` replaces the RRset of that name and type, or makes it; `add` adds records to it; `delete` takes it away. */
export type ZoneEdit =
  | ({ readonly action: "set" | "add" } & ZoneSetText)
  | { readonly action: "delete"; readonly name: string; readonly type: string };

/** As many as a request may have; a zone that changes as a whole is put as a whole. */
export const zoneEdits = array(
  map(
    change,
    ({ action, name, type, ttlSeconds = 0, data = [] }: Change): ZoneEdit =>
      action === "delete" ? { action, name, type } : { action, name, type, ttlSeconds, data },
  ),
  { min: 1, max: 1_000 },
);

/**
 * The document with the edits, and with the serial after the one before unless an edit sets a later SOA itself. Throws
 * {@link ParseError} where an edit is about nothing, or the zone that comes of it could not be served.
 */
export function editZone(document: ZoneDocument, edits: readonly ZoneEdit[]): ZoneDocument {
  if (document.secondary !== undefined)
    throw new ParseError(
      ["zoneId"],
      document.zoneId,
      "a zone that is edited here: this one is fetched from its primaries",
    );
  const { serial, origin } = zoneOfDocument(document);
  const apex = `${document.origin}.`;
  const absolute = (name: string): string =>
    name === "@" ? apex : name.endsWith(".") ? name : `${name}.${apex}`;
  const keyOf = ({ name, type }: { name: string; type: string }): string =>
    `${absolute(name).toLowerCase()} ${type.toUpperCase()}`;
  const sets = new Map(document.sets.map((set) => [keyOf(set), set]));
  for (const [n, edit] of edits.entries()) {
    const key = keyOf(edit);
    const before = sets.get(key);
    if (edit.action === "delete") {
      if (before === undefined)
        throw new ParseError(["edits", n], `${edit.name} ${edit.type}`, "an RRset that is there");
      sets.delete(key);
      continue;
    }
    const { name, type, ttlSeconds, data } = edit;
    const kept = edit.action === "add" ? (before?.data ?? []) : [];
    sets.set(key, { name, type, ttlSeconds, data: [...kept, ...data] });
  }
  const edited = zoneDocument.parse({ ...document, sets: [...sets.values()] });
  const after = zoneOfDocument(edited).serial;
  const order = compareSerials(after, serial);
  if (order !== undefined && order > 0) return edited;
  if (after !== serial)
    throw new ParseError(
      ["edits"],
      after,
      `a serial after ${serial} (RFC 1982), or none: it grows by itself`,
    );
  return { ...edited, sets: withSerial(edited.sets, origin.text, nextSerial(serial)) };
}

function withSerial(sets: readonly ZoneSetText[], origin: string, serial: number): readonly ZoneSetText[] {
  return sets.map((set) => {
    if (set.type !== "SOA" || set.name.toLowerCase() !== `${origin}.`) return set;
    const words = (set.data[0] ?? "").split(" ");
    words[words.length - 5] = String(serial);
    return { ...set, data: [words.join(" ")] };
  });
}
