/** `isochrone kill`: end a server as a crash would. */
import { parseArgs } from "node:util";
import { requireRunningWorld } from "./runtime.ts";
import { askAdmin } from "./up/admin.ts";
import { UsageError } from "./usage.ts";

const help = `Usage: isochrone kill SERVER... [--restart] [--state DIR]

Ends servers of the running world with SIGKILL, as a crash would. They stay down until
\`isochrone heal\`; with --restart the supervisor starts them again after its back-off.
SERVER is an id that \`isochrone status\` shows (an edge such as fra-1, or control, mapper, portal).

Examples:
  isochrone kill fra-1
  isochrone kill control --restart`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      restart: { type: "boolean" },
      state: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  if (positionals.length === 0)
    throw new UsageError("say which server to kill; `isochrone status` lists them");
  const world = requireRunningWorld(values.state);
  const answer = await askAdmin(world.adminSocket, "/kill", {
    servers: positionals,
    restart: values.restart === true,
  });
  const { killed, down } = answer as { killed: string[]; down: string[] };
  for (const id of killed)
    console.log(`killed ${id}${values.restart ? "" : `; start it again with: isochrone heal ${id}`}`);
  for (const id of down) console.log(`${id} is down already`);
  return 0;
}
