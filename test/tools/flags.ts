/** Values of the flags of benches and labs. */
import { UsageError } from "../../cli/usage.ts";

/** A whole number from `min` to `max`, both included. Throws {@link UsageError}. */
export function wholeNumber(flag: string, value: string, min: number, max: number): number {
  const number = Number(value);
  if (value !== "" && Number.isInteger(number) && number >= min && number <= max) return number;
  throw new UsageError(
    `--${flag}: got ${JSON.stringify(value)}, expected a whole number from ${min} to ${max}`,
  );
}

/** A number above 0 and up to `max`. Throws {@link UsageError}. */
export function positiveNumber(flag: string, value: string, max: number): number {
  const number = Number(value);
  if (number > 0 && number <= max) return number;
  throw new UsageError(`--${flag}: got ${JSON.stringify(value)}, expected a number above 0, up to ${max}`);
}
