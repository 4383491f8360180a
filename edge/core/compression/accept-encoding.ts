/**
 * Which content codings a client takes (RFC 9110, section 12.5.3; RFC 9842, section 6), and what of that selects an answer. Spellings
 * are endless, meanings are few: answers are told apart by the meaning, so that spellings do not split what is stored.
 */
import { cacheControl } from "../cache-control.ts";
import { type Field, type Fields, fieldLines, hasField } from "../headers.ts";
import { nominatedValue } from "../vary.ts";

/** Codings that this server makes, the smallest result first (RFC 7932, RFC 8878, RFC 1952). */
export const CODINGS = ["br", "zstd", "gzip"] as const;
export type Coding = (typeof CODINGS)[number];

/** Codings with a dictionary that the client names (RFC 9842, sections 4 and 5): Brotli and Zstandard. */
export const DICTIONARY_CODINGS = ["dcb", "dcz"] as const;
export type DictionaryCoding = (typeof DICTIONARY_CODINGS)[number];

/** What a request says about codings. */
export interface Acceptance {
  /** Codings that the client prefers to none, its best first; by {@link CODINGS} among equals. */
  readonly ranked: readonly Coding[];
  /** The same with a dictionary; empty when it names none. */
  readonly rankedWithDictionary: readonly DictionaryCoding[];
  /** SHA-256 of the dictionary that the client has, in base64; undefined: none, or it takes no coding with one. */
  readonly dictionary: string | undefined;
  /** Codings that it takes at all. */
  readonly acceptable: ReadonlySet<Coding>;
}

/** Members of one Accept-Encoding that are looked at; browsers send four or six. */
const MEMBERS_MAX = 32;
/** RFC 9110, section 12.4.2. */
const QVALUE = /^(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)$/;

const NOTHING: Acceptance = {
  ranked: [],
  rankedWithDictionary: [],
  dictionary: undefined,
  acceptable: new Set(),
};

/**
 * The weights that a request gives to codings, 0..1, by lower-case name; undefined without the field. A member that is malformed
 * says nothing; of two for one coding the lower counts.
 */
function weights(fields: Fields): ReadonlyMap<string, number> | undefined {
  const lines = fieldLines(fields, "accept-encoding");
  if (lines.length === 0) return undefined;
  const found = new Map<string, number>();
  for (const member of lines.join(",").split(",").slice(0, MEMBERS_MAX)) {
    const [name = "", ...parameters] = member.split(";").map((part) => part.trim().toLowerCase());
    const [parameter = "q=1", ...more] = parameters;
    const q = /^q=(.*)$/.exec(parameter)?.[1];
    if (name === "" || more.length > 0 || q === undefined || !QVALUE.test(q)) continue;
    // RFC 9110, section 8.4.1.3: a recipient considers "x-gzip" to be "gzip".
    const coding = name === "x-gzip" ? "gzip" : name;
    found.set(coding, Math.min(found.get(coding) ?? 1, Number(q)));
  }
  return found;
}

/**
 * What the client takes. Without the field it takes anything (section 12.5.3), but nothing is sent coded that did not come so: tools
 * that do not ask do not decode.
 */
export function acceptance(fields: Fields): Acceptance {
  const stated = weights(fields);
  if (stated === undefined) return NOTHING;
  const any = stated.get("*") ?? 0;
  // Not mentioned it is acceptable, and comes after everything that is.
  const identity = stated.get("identity") ?? 0;
  const ranked = rank(CODINGS, (coding) => stated.get(coding) ?? any, identity);
  const dictionary = availableDictionary(fields);
  // "*" does not mean these: they are for who has spoken of a dictionary.
  const rankedWithDictionary =
    dictionary === undefined ? [] : rank(DICTIONARY_CODINGS, (coding) => stated.get(coding) ?? 0, identity);
  return {
    ranked,
    rankedWithDictionary,
    dictionary: rankedWithDictionary.length === 0 ? undefined : dictionary,
    acceptable: new Set(CODINGS.filter((coding) => (stated.get(coding) ?? any) > 0)),
  };
}

/** Those of `codings` that have a weight and are no worse than `identity`; the best first, else as they stand. */
function rank<T extends string>(
  codings: readonly T[],
  weightOf: (coding: T) => number,
  identity: number,
): readonly T[] {
  return codings
    .map((coding, order) => ({ coding, order, weight: weightOf(coding) }))
    .filter(({ weight }) => weight > 0 && weight >= identity)
    .sort((a, b) => b.weight - a.weight || a.order - b.order)
    .map(({ coding }) => coding);
}

/** The hash in Available-Dictionary (RFC 9842, section 2.2): one byte sequence of 32 bytes, in base64; undefined: none, or malformed. */
function availableDictionary(fields: Fields): string | undefined {
  const lines = fieldLines(fields, "available-dictionary");
  return lines.length === 1 ? /^[ \t]*:([A-Za-z0-9+/]{43}=):[ \t]*$/.exec(lines[0] ?? "")?.[1] : undefined;
}

/** What of a request makes its answer go out as it is stored. */
export type AsStoredWish = "range" | "credentials" | "request-no-transform";

/**
 * Why an answer to this request is sent as it is stored, whatever codings the client takes: a part is one of the stored
 * representation, whose validator is strong; what is asked with credentials may hold a secret beside what an attacker has chosen
 * (BREACH); and a client may ask for no transformation (RFC 9111, section 5.2.1.6). Undefined: it need not be.
 */
export function asStoredWish(fields: Fields): AsStoredWish | undefined {
  if (hasField(fields, "range")) return "range";
  if (hasField(fields, "authorization")) return "credentials";
  return hasField(fields, "cache-control") && cacheControl(fields).has("no-transform")
    ? "request-no-transform"
    : undefined;
}

/**
 * The request as it selects among stored responses and as the next hop is asked: of all codings gzip alone, which every client
 * takes that takes any, else none. So an origin has two forms of a resource at most.
 */
export function selectingFields(fields: Fields): Fields {
  if (!hasField(fields, "accept-encoding")) return fields;
  const isGzip = acceptance(fields).acceptable.has("gzip");
  const others = fields.filter(([name]) => name.toLowerCase() !== "accept-encoding");
  return isGzip ? [...others, ["Accept-Encoding", "gzip"]] : others;
}

/** Fields by which a client says what codings it takes. */
export const CODING_FIELDS = ["accept-encoding", "available-dictionary"] as const;

/** Of a request the fields that say what codings it takes; none when its answer goes out as it is stored. */
export function codingFields(fields: Fields): Fields {
  return asStoredWish(fields) === undefined ? fields.filter(isCodingField) : [];
}

/** The request with other words about codings. */
export function withCodingFields(fields: Fields, codings: Fields): Fields {
  return [...fields.filter((field) => !isCodingField(field)), ...codings];
}

const isCodingField = ([name]: Field): boolean =>
  CODING_FIELDS.some((coding) => coding === name.toLowerCase());

/** Stands for Accept-Encoding among the names that answers are selected by; no field has it. */
export const BY_CODING = ":coding";

/** All that may decide about the coding of an answer, in a few words; equal for requests that get the same. */
export function codingKey(fields: Fields): string {
  const { ranked, rankedWithDictionary, dictionary, acceptable } = acceptance(fields);
  // What the next hop is asked with is part of it.
  const asked = acceptable.has("gzip") ? "gzip" : "";
  if (asStoredWish(fields) !== undefined) return `${asked}|as-stored|${[...acceptable].join(",")}`;
  const withDictionary = dictionary === undefined ? "" : `|${rankedWithDictionary.join(",")} ${dictionary}`;
  return `${asked}|${ranked.join(",")}|${[...acceptable].join(",")}${withDictionary}`;
}

/** The values that a request has for names that answers are selected by; see {@link BY_CODING}. */
export function selectingValues(fields: Fields, names: readonly string[]): readonly (string | null)[] {
  return names.map((name) => (name === BY_CODING ? codingKey(fields) : nominatedValue(fields, name)));
}

/** Names and values with Accept-Encoding by its meaning. */
export function withCoding(
  names: readonly string[],
  values: readonly (string | null)[],
  requestFields: Fields,
): { readonly names: readonly string[]; readonly values: readonly (string | null)[] } {
  const others = names.flatMap((name, index) =>
    name === "accept-encoding" || name === "available-dictionary"
      ? []
      : [{ name, value: values[index] ?? null }],
  );
  return {
    names: [BY_CODING, ...others.map(({ name }) => name)],
    values: [codingKey(requestFields), ...others.map(({ value }) => value)],
  };
}
