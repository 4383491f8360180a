/** `isochrone cut`: a black hole between two sites. */
import { parseArgs } from "node:util";
import { requireRunningWorld } from "./runtime.ts";
import { askAdmin } from "./up/admin.ts";
import { UsageError } from "./usage.ts";

const help = `Usage: isochrone cut SITE SITE [--state DIR]

Cuts the link between two sites of the running world, both ways: open connections stall, new ones
time out. SITE is a cluster id or its city. Mend it with \`isochrone heal\`.

Examples:
  isochrone cut gru origin-fra
  isochrone cut "São Paulo" Frankfurt`;

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
  if (positionals.length !== 2) throw new UsageError("name two sites: isochrone cut SITE SITE");
  const world = requireRunningWorld(values.state);
  const { cuts } = (await askAdmin(world.adminSocket, "/cut", { sites: positionals })) as {
    cuts: [string, string][];
  };
  for (const [a, b] of cuts) console.log(`cut ${a} - ${b}`);
  if (cuts.length === 0) console.log("cut already");
  return 0;
}
