import { UsageError } from "../usage.ts";

/** The value of an option that has no default. Throws {@link UsageError}. @param what what it names, for the message */
export function required(option: string, value: string | undefined, what: string): string {
  if (value === undefined || value === "") throw new UsageError(`${option} is missing: ${what}`);
  return value;
}
