/** `isochrone heal`: mend what `cut` and `kill` broke. */
import { parseArgs } from "node:util";
import { requireRunningWorld } from "./runtime.ts";
import { askAdmin } from "./up/admin.ts";
import { UsageError } from "./usage.ts";

const help = `Usage: isochrone heal [SERVER | SITE SITE] [--state DIR]

Mends every cut link and starts every killed server of the running world; with one name only that
server, with two only the link between those sites.

Examples:
  isochrone heal
  isochrone heal fra-1
  isochrone heal gru origin-fra`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: { state: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  if (positionals.length > 2) throw new UsageError("name nothing, one server, or two sites");
  const world = requireRunningWorld(values.state);
  const { mended, started } = (await askAdmin(world.adminSocket, "/heal", { names: positionals })) as {
    mended: [string, string][];
    started: string[];
  };
  for (const [a, b] of mended) console.log(`mended ${a} - ${b}`);
  for (const id of started) console.log(`started ${id}`);
  if (mended.length + started.length === 0) console.log("nothing was cut or killed");
  return 0;
}
