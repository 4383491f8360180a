/** The countries of a world's client networks, as edges read them (`--countries`). */
import { join } from "node:path";
import { writeFileDurable } from "#kit/io";
import type { World } from "#kit/world";

/** Writes the table; resolves with its path, or with undefined where the world tells of no country. */
export async function writeCountries(world: World, stateDirectory: string): Promise<string | undefined> {
  const lines = world.clients.flatMap(({ country, prefixes }) =>
    country === undefined ? [] : prefixes.map((prefix) => `${prefix},${country}\n`),
  );
  if (lines.length === 0) return undefined;
  const path = join(stateDirectory, "countries.csv");
  await writeFileDurable(path, lines.join(""));
  return path;
}
