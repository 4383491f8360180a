/** Changing one place of a draft without touching the rest. */

type Json = Readonly<Record<string, unknown>>;

export function isMapping(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function valueAt(document: unknown, path: readonly string[]): unknown {
  let value = document;
  for (const step of path) {
    if (!isMapping(value)) return undefined;
    value = value[step];
  }
  return value;
}

/** A copy with the value at `path`; undefined takes the key out, so that its default holds. */
export function withValue(document: unknown, path: readonly string[], value: unknown): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return value;
  const base: Json = isMapping(document) ? document : {};
  const { [step]: before, ...others } = base;
  const after = withValue(before, rest, value);
  if (after === undefined) return others;
  // The key keeps its place in the text.
  return step in base ? { ...base, [step]: after } : { ...others, [step]: after };
}
