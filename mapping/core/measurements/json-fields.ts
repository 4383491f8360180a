/** Checked fields of JSON in which others may add fields at any time; each throws ParseError with path, value and expectation. */
import { formatAddress, type IpFamily, ParseError, type Path, parseAddress } from "#kit";

export function objectAt(value: unknown, path: Path): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new ParseError(path, value, "a mapping");
  return value as Readonly<Record<string, unknown>>;
}

export function listAt(value: unknown, path: Path, max: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > max)
    throw new ParseError(path, value, `a list of at most ${max} elements`);
  return value;
}

export function wholeAt(
  of: Readonly<Record<string, unknown>>,
  name: string,
  min: number,
  max: number,
  path: Path = [],
): number {
  const value = of[name];
  if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max)
    throw new ParseError([...path, name], value, `a whole number from ${min} to ${max}`);
  return value as number;
}

/** Canonical text; null when the field is left out or empty. */
export function addressAt(
  of: Readonly<Record<string, unknown>>,
  name: string,
  path: Path,
  family?: IpFamily,
): string | null {
  const value = of[name];
  if (value === undefined || value === null || value === "") return null;
  const address = typeof value === "string" ? parseAddress(value) : undefined;
  if (address === undefined || (family !== undefined && address.family !== family))
    throw new ParseError([...path, name], value, `an IP${family === undefined ? "" : `v${family}`} address`);
  return formatAddress(address);
}
