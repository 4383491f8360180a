/**
 * What `npm run bench` and `npm run lab` share: a folder of programs, one file each, found by name. A program exports
 * `summary` (one line for the list) and `main(argv)`, which resolves with the exit code. It writes its result to stdout as
 * JSON and its talk to stderr, and never fails for a figure: a figure is to be read, a broken invariant is exit code 1.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { commandLineError } from "../../cli/usage.ts";

/** What each file of the folder exports. */
interface Program {
  readonly summary: string;
  readonly main: (argv: readonly string[]) => Promise<number>;
}

/** Sorted names of the programs in a folder: every `NAME.ts` directly in it but `run.ts` and tests. */
function namesIn(directory: string): string[] {
  return readdirSync(directory)
    .filter((file) => /^[a-z0-9][a-z0-9-]*\.ts$/.test(file) && file !== "run.ts")
    .map((file) => file.slice(0, -".ts".length))
    .toSorted((a, b) => (a < b ? -1 : 1));
}

async function load(directory: string, name: string): Promise<Program> {
  const module = (await import(pathToFileURL(join(directory, `${name}.ts`)).href)) as Partial<Program>;
  if (typeof module.summary !== "string" || typeof module.main !== "function")
    throw new Error(`${join(directory, name)}.ts does not export "summary" and "main"`);
  return { summary: module.summary, main: module.main };
}

/** The list of programs, one line each, as `--help` and `--json` print it. */
async function list(
  command: string,
  what: string,
  directory: string,
  names: readonly string[],
  isJson: boolean,
): Promise<string> {
  const programs = await Promise.all(
    names.map(async (name) => ({ name, summary: (await load(directory, name)).summary })),
  );
  if (isJson) return JSON.stringify(programs, undefined, 2);
  const width = Math.max(0, ...names.map((name) => name.length)) + 2;
  return [
    `Usage: npm run ${command} -- NAME [options]`,
    "",
    what,
    "",
    ...programs.map((program) => `  ${program.name.padEnd(width)}${program.summary}`),
    "",
    `  npm run ${command} -- NAME --help   the options of one`,
    `  npm run ${command} -- --json        this list as JSON`,
  ].join("\n");
}

/**
 * Runs one program of a folder, or lists them: without a name (exit code 2), with `--help` or `--json` (0).
 *
 * @param command the npm script's name, for usage lines
 * @param what one paragraph for the head of the list
 * @returns the exit code: the program's, 2 for bad usage, 1 when the program threw
 */
export async function runProgram(
  command: string,
  what: string,
  directory: string,
  argv: readonly string[],
): Promise<number> {
  const [name, ...rest] = argv;
  const names = namesIn(directory);
  if (name === undefined || name === "--help" || name === "-h" || name === "--json") {
    console.log(await list(command, what, directory, names, name === "--json"));
    return name === undefined ? 2 : 0;
  }
  if (!names.includes(name)) {
    console.error(`${command}: no program ${JSON.stringify(name)}, expected one of ${names.join(", ")}`);
    return 2;
  }
  try {
    return await (await load(directory, name)).main(rest);
  } catch (error) {
    const line = commandLineError(error);
    const stack = error instanceof Error ? error.stack : undefined;
    console.error(`${command} ${name}: ${line ?? stack ?? String(error)}`);
    return line === undefined ? 1 : 2;
  }
}
