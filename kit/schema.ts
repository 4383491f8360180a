/**
 * Typed parsing of untrusted values: parse, do not validate. A schema turns `unknown` into a typed, frozen-by-type value
 * or throws one {@link ParseError} that names the path, the value found and what was expected. Unknown keys are refused.
 * The same schema describes itself as JSON Schema (draft 2020-12), so the published description cannot drift.
 */

export type Path = readonly (string | number)[];

export type JsonSchema = { readonly [key: string]: unknown };

export interface Schema<T> {
  /** Returns the typed value; throws {@link ParseError} on the first thing that is wrong. */
  parse(value: unknown, path?: Path): T;
  /** JSON Schema of what `parse` takes. */
  jsonSchema(): JsonSchema;
}

/** The type that a schema yields. */
export type Parsed<S> = S extends Schema<infer T> ? T : never;

/** `customers[0].properties[1].origin`, or `(document)` for the root. */
export function formatPath(path: Path): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else if (/^[A-Za-z_][\w-]*$/.test(step)) text += text === "" ? step : `.${step}`;
    else text += `[${JSON.stringify(step)}]`;
  }
  return text === "" ? "(document)" : text;
}

/** A value as it is quoted in an error: JSON, cut at 80 characters. */
export function quoteValue(value: unknown): string {
  let text: string | undefined;
  if (typeof value === "number") text = String(value);
  else {
    try {
      text = JSON.stringify(value);
    } catch {
      // Circular or otherwise not JSON: its type says enough.
    }
  }
  text ??= typeof value;
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** A value was refused. The message is one line: path, value, expectation. */
export class ParseError extends Error {
  readonly path: Path;
  readonly value: unknown;
  readonly expected: string;
  constructor(path: Path, value: unknown, expected: string) {
    super(
      `${formatPath(path)}: got ${value === undefined ? "nothing" : quoteValue(value)}, expected ${expected}`,
    );
    this.name = "ParseError";
    this.path = path;
    this.value = value;
    this.expected = expected;
  }
}

function make<T>(parse: (value: unknown, path: Path) => T, jsonSchema: () => JsonSchema): Schema<T> {
  return { parse: (value, path = []) => parse(value, path), jsonSchema };
}

export interface StringOptions {
  /** Shortest length in UTF-16 units; 1 unless told. */
  readonly min?: number;
  /** Longest length in UTF-16 units; 1024 unless told: every input has a bound. */
  readonly max?: number;
  /** Must match; it also goes into the JSON Schema, so keep it linear and portable. */
  readonly pattern?: RegExp;
  /** What to call a right value in an error: "a host name". */
  readonly expected?: string;
}

export function string(options: StringOptions = {}): Schema<string> {
  const { min = 1, max = 1024, pattern } = options;
  const expected = options.expected ?? `a string of ${min} to ${max} characters`;
  return make(
    (value, path) => {
      if (typeof value !== "string" || value.length < min || value.length > max) {
        throw new ParseError(path, value, expected);
      }
      if (pattern !== undefined && !pattern.test(value)) throw new ParseError(path, value, expected);
      return value;
    },
    () => ({
      type: "string",
      minLength: min,
      maxLength: max,
      ...(pattern && { pattern: pattern.source }),
      ...(options.expected !== undefined && { description: options.expected }),
    }),
  );
}

/** Text for people on one line: no control characters, which would break a table, a log or a terminal. */
export function line(max: number): Schema<string> {
  return string({
    max,
    pattern: /^\P{Cc}+$/u,
    expected: `text of 1 to ${max} characters without control characters`,
  });
}

/** A string that a pure reader turns into `T` (undefined: refused). The document keeps the canonical form of `T`. */
export function text<T>(read: (value: string) => T | undefined, expected: string, max = 1024): Schema<T> {
  return make(
    (value, path) => {
      const result = typeof value === "string" && value.length <= max ? read(value) : undefined;
      if (result === undefined) throw new ParseError(path, value, expected);
      return result;
    },
    () => ({ type: "string", maxLength: max, description: expected }),
  );
}

export interface NumberOptions {
  readonly min?: number;
  readonly max?: number;
  readonly integer?: boolean;
  /** Unit for the error message and the JSON Schema: "ms", "bytes". */
  readonly unit?: string;
}

/** A finite number; NaN and infinities are never accepted. */
export function number(options: NumberOptions = {}): Schema<number> {
  const { min = -Number.MAX_VALUE, max = Number.MAX_VALUE, integer = false, unit } = options;
  const kind = integer ? "a whole number" : "a number";
  const bounds =
    options.min === undefined && options.max === undefined
      ? ""
      : options.max === undefined
        ? ` of at least ${min}`
        : options.min === undefined
          ? ` of at most ${max}`
          : ` from ${min} to ${max}`;
  const expected = `${kind}${bounds}${unit === undefined ? "" : ` (${unit})`}`;
  return make(
    (value, path) => {
      if (typeof value !== "number" || !Number.isFinite(value) || value < min || value > max) {
        throw new ParseError(path, value, expected);
      }
      if (integer && !Number.isSafeInteger(value)) throw new ParseError(path, value, expected);
      return value;
    },
    () => ({
      type: integer ? "integer" : "number",
      ...(options.min !== undefined && { minimum: min }),
      ...(options.max !== undefined && { maximum: max }),
      ...(unit !== undefined && { description: unit }),
    }),
  );
}

/** A whole number; at least 0 unless told. */
export function integer(options: Omit<NumberOptions, "integer"> = {}): Schema<number> {
  return number({ min: 0, ...options, integer: true });
}

export function boolean(): Schema<boolean> {
  return make(
    (value, path) => {
      if (typeof value !== "boolean") throw new ParseError(path, value, "true or false");
      return value;
    },
    () => ({ type: "boolean" }),
  );
}

/** One of a closed list of strings. */
export function oneOf<const T extends string>(values: readonly T[]): Schema<T> {
  const expected =
    values.length === 1 ? quoteValue(values[0]) : `one of ${values.map(quoteValue).join(", ")}`;
  return make(
    (value, path) => {
      for (const candidate of values) if (candidate === value) return candidate;
      throw new ParseError(path, value, expected);
    },
    () => ({ enum: [...values] }),
  );
}

export interface ArrayOptions<T> {
  readonly min?: number;
  /** Most elements; 10,000 unless told. */
  readonly max?: number;
  /** Elements must differ in this key; the error names the second one. */
  readonly uniqueBy?: (item: T) => string;
}

export function array<T>(item: Schema<T>, options: ArrayOptions<T> = {}): Schema<readonly T[]> {
  const { min = 0, max = 10_000, uniqueBy } = options;
  return make(
    (value, path) => {
      if (!Array.isArray(value)) throw new ParseError(path, value, "a list");
      if (value.length < min || value.length > max) {
        throw new ParseError(path, value, `a list of ${min} to ${max} elements (got ${value.length})`);
      }
      const seen = new Map<string, number>();
      return value.map((element: unknown, index) => {
        const parsed = item.parse(element, [...path, index]);
        const key = uniqueBy?.(parsed);
        if (key !== undefined) {
          const first = seen.get(key);
          if (first !== undefined) {
            throw new ParseError(
              [...path, index],
              key,
              `a name that ${formatPath([...path, first])} does not use`,
            );
          }
          seen.set(key, index);
        }
        return parsed;
      });
    },
    () => ({ type: "array", items: item.jsonSchema(), minItems: min, maxItems: max }),
  );
}

/** A fixed-length list, each place with its own schema. */
export function tuple<A, B>(first: Schema<A>, second: Schema<B>, expected: string): Schema<readonly [A, B]> {
  return make(
    (value, path) => {
      if (!Array.isArray(value) || value.length !== 2) throw new ParseError(path, value, expected);
      return [first.parse(value[0], [...path, 0]), second.parse(value[1], [...path, 1])];
    },
    () => ({
      type: "array",
      prefixItems: [first.jsonSchema(), second.jsonSchema()],
      minItems: 2,
      maxItems: 2,
      description: expected,
    }),
  );
}

/** A map with keys of one kind and values of one kind. The result has no prototype, so `__proto__` is an ordinary key. */
export function record<K extends string, V>(
  key: Schema<K>,
  value: Schema<V>,
  options: { readonly max?: number } = {},
): Schema<Readonly<Record<K, V>>> {
  const { max = 10_000 } = options;
  return make(
    (input, path) => {
      if (!isPlainObject(input)) throw new ParseError(path, input, "a mapping");
      const entries = Object.entries(input);
      if (entries.length > max) throw new ParseError(path, input, `at most ${max} entries`);
      const result = Object.create(null) as Record<K, V>;
      for (const [name, element] of entries) {
        result[key.parse(name, [...path, name])] = value.parse(element, [...path, name]);
      }
      return result;
    },
    () => ({ type: "object", propertyNames: key.jsonSchema(), additionalProperties: value.jsonSchema() }),
  );
}

/** A field that may be left out; when it is, the key is absent from the result. */
export interface OptionalField<T> {
  readonly optional: Schema<T>;
}
/** A field that may be left out; when it is, the result holds the default. */
export interface DefaultedField<T> {
  readonly defaulted: Schema<T>;
  readonly value: T;
}
export function optional<T>(schema: Schema<T>): OptionalField<T> {
  return { optional: schema };
}
export function defaulted<T>(schema: Schema<T>, value: T): DefaultedField<T> {
  return { defaulted: schema, value };
}

type Field = Schema<unknown> | OptionalField<unknown> | DefaultedField<unknown>;
type Fields = Readonly<Record<string, Field>>;
type RequiredKeys<F> = { [K in keyof F]: F[K] extends OptionalField<unknown> ? never : K }[keyof F];
type OptionalKeys<F> = { [K in keyof F]: F[K] extends OptionalField<unknown> ? K : never }[keyof F];
type FieldValue<F> =
  F extends OptionalField<infer T>
    ? T
    : F extends DefaultedField<infer T>
      ? T
      : F extends Schema<infer T>
        ? T
        : never;
export type ObjectOf<F> = { readonly [K in RequiredKeys<F>]: FieldValue<F[K]> } & {
  readonly [K in OptionalKeys<F>]?: FieldValue<F[K]>;
};

/** A mapping with exactly these keys; an unknown key is refused with its path and the keys that exist. */
export function object<F extends Fields>(fields: F): Schema<ObjectOf<F>> {
  const names = Object.keys(fields);
  return make(
    (value, path) => {
      if (!isPlainObject(value)) throw new ParseError(path, value, `a mapping with ${names.join(", ")}`);
      for (const name of Object.keys(value)) {
        if (!Object.hasOwn(fields, name)) {
          throw new ParseError(
            [...path, name],
            value[name],
            `no such key; known keys are ${names.join(", ")}`,
          );
        }
      }
      const result: Record<string, unknown> = {};
      for (const name of names) {
        const field = fields[name] as Field;
        const element = Object.hasOwn(value, name) ? value[name] : undefined;
        const at = [...path, name];
        if ("optional" in field) {
          if (element !== undefined) result[name] = field.optional.parse(element, at);
        } else if ("defaulted" in field) {
          result[name] = element === undefined ? field.value : field.defaulted.parse(element, at);
        } else {
          result[name] = field.parse(element, at);
        }
      }
      return result as ObjectOf<F>;
    },
    () => {
      const properties: Record<string, unknown> = {};
      const required: string[] = [];
      for (const name of names) {
        const field = fields[name] as Field;
        if ("optional" in field) properties[name] = field.optional.jsonSchema();
        else if ("defaulted" in field)
          properties[name] = { ...field.defaulted.jsonSchema(), default: field.value };
        else {
          properties[name] = field.jsonSchema();
          required.push(name);
        }
      }
      return { type: "object", properties, required, additionalProperties: false };
    },
  );
}

/** The first schema that takes the value; `expected` is what the error says when none does. */
export function either<A, B>(first: Schema<A>, second: Schema<B>, expected: string): Schema<A | B> {
  return make(
    (value, path) => {
      try {
        return first.parse(value, path);
      } catch (error) {
        if (!(error instanceof ParseError)) throw error;
      }
      try {
        return second.parse(value, path);
      } catch (error) {
        if (!(error instanceof ParseError)) throw error;
        // The deeper error is the more useful one: it comes from the alternative that fitted further.
        if (error.path.length > path.length) throw error;
        throw new ParseError(path, value, expected);
      }
    },
    () => ({ anyOf: [first.jsonSchema(), second.jsonSchema()] }),
  );
}

/** Null for "none, on purpose": a blank or missing value is never taken for it. */
export function nullable<T>(schema: Schema<T>): Schema<T | null> {
  return make(
    (value, path) => (value === null ? null : schema.parse(value, path)),
    () => ({ anyOf: [schema.jsonSchema(), { type: "null" }] }),
  );
}

/** Adds a law that spans fields. `check` returns undefined when it holds, else where and what was expected. */
export function refine<T>(
  schema: Schema<T>,
  check: (value: T) => { readonly at: Path; readonly value: unknown; readonly expected: string } | undefined,
): Schema<T> {
  return make(
    (value, path) => {
      const parsed = schema.parse(value, path);
      const wrong = check(parsed);
      if (wrong !== undefined) throw new ParseError([...path, ...wrong.at], wrong.value, wrong.expected);
      return parsed;
    },
    () => schema.jsonSchema(),
  );
}

/** Gives a parsed value a branded or richer type. `brand` must not throw. */
export function map<A, B>(schema: Schema<A>, brand: (value: A) => B): Schema<B> {
  return make(
    (value, path) => brand(schema.parse(value, path)),
    () => schema.jsonSchema(),
  );
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
