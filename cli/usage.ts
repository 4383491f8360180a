/** Errors that are the caller's to mend: one line on stderr and an exit code, never a stack. */
import { IsochroneError, ParseError, quoteValue } from "#kit";

export class UsageError extends Error {
  readonly exitCode: number;
  constructor(message: string, exitCode = 2) {
    super(message);
    this.name = "UsageError";
    this.exitCode = exitCode;
  }
}

/** The line for an error that a user can act on; undefined: it is a bug and wants its stack. */
export function commandLineError(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof UsageError || error instanceof ParseError || error.name === "WorldError")
    return error.message;
  if (error instanceof IsochroneError && error.source === "configuration") return error.message;
  const code = (error as NodeJS.ErrnoException).code;
  if (typeof code !== "string") return undefined;
  // node:util parseArgs says in one sentence what is wrong with an option.
  if (code.startsWith("ERR_PARSE_ARGS_")) return `${firstLine(error.message)}; see --help`;
  if (code === "ERR_MODULE_NOT_FOUND")
    return `${firstLine(error.message)}; run "npm ci" to install what is missing`;
  // The machine refused: "EACCES: permission denied, open '...'".
  if ("syscall" in error) return firstLine(error.message);
  return undefined;
}

/** The line for an error that is ours to mend. With ISOCHRONE_LOG=debug the stack follows: for whoever mends it. */
export function faultLine(error: unknown): string {
  const isDebug = process.env["ISOCHRONE_LOG"] === "debug";
  const where = isDebug && error instanceof Error && error.stack !== undefined ? `\n${error.stack}` : "";
  const hint = isDebug ? "" : "; ISOCHRONE_LOG=debug shows where";
  return `a fault of Isochrone itself: ${firstLine(messageOf(error))}${hint}${where}`;
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? text;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Throws {@link UsageError} for a flag of `all` that is stated and that `what` does not take: it was meant for something. */
export function refuseFlags(
  what: string,
  values: Readonly<Record<string, unknown>>,
  all: readonly string[],
  taken: readonly string[],
): void {
  for (const flag of all)
    if (values[flag] !== undefined && !taken.includes(flag))
      throw new UsageError(`${what} takes no --${flag}; see --help`);
}

/** For an action that a command does not have, or none at all. */
export function noSuchAction(action: string, known: readonly string[]): UsageError {
  const what = action === "" ? "an action is missing" : `no action ${quoteValue(action)}`;
  return new UsageError(`${what}; there are ${known.join(", ")} (see --help)`);
}

/** The whole number of an option, `--rate` for one; `fallback` where it is absent. Throws {@link UsageError}. */
export function wholeNumber(
  option: string,
  text: string | undefined,
  min: number,
  max: number,
  fallback: number,
): number {
  if (text === undefined) return fallback;
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!(Number.isSafeInteger(value) && value >= min && value <= max))
    throw new UsageError(
      `${option}: got ${JSON.stringify(text)}, expected a whole number from ${min} to ${max}`,
    );
  return value;
}

/** Of a document, as `--version` has it. Throws {@link UsageError}. */
export function versionOf(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,14}$/.test(text))
    throw new UsageError(`${flag} ${JSON.stringify(text)} is not a version number (1, 2, ...)`);
  return Number(text);
}

/** The share of an option, `--wrong-labels-ratio` for one; `fallback` where it is absent. Throws {@link UsageError}. */
export function ratio(option: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = /^(0|0?\.[0-9]{1,9}|1(\.0+)?)$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= 0 && value <= 1))
    throw new UsageError(`${option}: got ${JSON.stringify(text)}, expected a share from 0 to 1`);
  return value;
}
