/** What both forms of `isochrone sim` say of bad input. */
import { IsochroneError, ParseError } from "#kit";

export class BadUsage extends Error {}

/** Reads options; what node:util says of a wrong one becomes {@link BadUsage}. */
export function readOptions<T>(command: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new BadUsage(`${(error as Error).message}; see ${command} --help`);
  }
}

/** The one world that may be named; throws {@link BadUsage} for more. */
export function worldName(positionals: readonly string[]): string | undefined {
  if (positionals.length > 1)
    throw new BadUsage(`One world, got ${positionals.length}: ${positionals.join(" ")}`);
  return positionals[0];
}

/** Whether an error is the user's to mend: one line and exit code 2, not a stack. */
export function isUsers(error: Error): boolean {
  return (
    error instanceof BadUsage ||
    error instanceof ParseError ||
    error instanceof IsochroneError ||
    // A world that cannot be, or a file that cannot be read or written.
    error.name === "WorldError" ||
    "syscall" in error
  );
}
