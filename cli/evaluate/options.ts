import { UsageError } from "../usage.ts";
import { type Statistic, statistics } from "./matrix.ts";

/** The value of an option that has no default. Throws {@link UsageError}. @param what what it names, for the message */
export function required(option: string, value: string | undefined, what: string): string {
  if (value === undefined || value === "") throw new UsageError(`${option} is missing: ${what}`);
  return value;
}

/** The matrix of a JSON file that `--statistic` names. Throws {@link UsageError}. */
export function statisticOf(text: string | undefined): Statistic | undefined {
  if (text === undefined) return undefined;
  const found = statistics.find((one) => one === text);
  if (found === undefined)
    throw new UsageError(
      `--statistic: got ${JSON.stringify(text)}, expected one of ${statistics.join(", ")}`,
    );
  return found;
}
