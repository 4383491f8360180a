/** What an address is said to be: where, and in whose network. Both are labels that may lie; measurements overrule them. */
import type { Coordinates } from "#kit";
import { AS_NUMBER_MAX } from "./bgp.ts";

export interface Place {
  /** ISO 3166-1 alpha-2; null when it is not told. */
  readonly country: string | null;
  readonly city: string | null;
  readonly coordinates: Coordinates | null;
}

export interface AutonomousSystem {
  readonly asNumber: number;
  /** As its registry writes it; null when it is not told. */
  readonly organisation: string | null;
}

const NAME_CHARACTERS_MAX = 200;

/** Undefined for what is no country; null for a blank one. */
export function countryOf(value: unknown): string | null | undefined {
  if (value === undefined || value === null || value === "") return null;
  return typeof value === "string" && /^[A-Z]{2}$/.test(value) ? value : undefined;
}

/** Undefined for what is no AS number. */
export function asNumberOf(value: unknown): number | undefined {
  const number = typeof value === "string" && /^[0-9]{1,10}$/.test(value) ? Number(value) : value;
  return typeof number === "number" && Number.isInteger(number) && number >= 0 && number <= AS_NUMBER_MAX
    ? number
    : undefined;
}

/** Cut to a bound, without control characters; null when nothing is left. */
export function nameOf(value: unknown): string | null {
  if (typeof value !== "string") return null;
  const name = value
    .replaceAll(/\p{Cc}+/gu, " ")
    .trim()
    .slice(0, NAME_CHARACTERS_MAX);
  return name === "" ? null : name;
}

/** Undefined for what are no coordinates; null when both are blank. */
export function coordinatesOf(latitude: unknown, longitude: unknown): Coordinates | null | undefined {
  const isBlank = (value: unknown): boolean => value === undefined || value === null || value === "";
  if (isBlank(latitude) && isBlank(longitude)) return null;
  const [y, x] = [degrees(latitude, 90), degrees(longitude, 180)];
  return y === undefined || x === undefined ? undefined : { latitude: y, longitude: x };
}

function degrees(value: unknown, max: number): number | undefined {
  const number =
    typeof value === "string" && /^-?[0-9]{1,3}(?:\.[0-9]{1,20})?$/.test(value) ? Number(value) : value;
  return typeof number === "number" && Math.abs(number) <= max ? number : undefined;
}
