/** `isochrone node`: which key speaks for which server, and who may no more. */
import { parseArgs } from "node:util";
import { id, type ServerId } from "#kit";
import { withControl } from "./resolve-control.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage.ts";

const help = `Usage: isochrone node list [--json]
       isochrone node revoke SERVER
       isochrone node forget SERVER

Servers know each other by certificates that control signs for a day, and renews every eight hours. The first key that asks for a
server's name has it; a machine that was set up anew has a new key, and waits until the old one is forgotten.

  list     each server's key, since when, and until when its certificate is good
  revoke   it gets no more certificates; what it has runs out within a day (taking it out of the topology ends it at once)
  forget   the next key that asks has its name

  --control URL    default: the running world's, or ISOCHRONE_CONTROL_URL; the token is ISOCHRONE_CONTROL_TOKEN
  --state DIR      of the running world, when several run
  --json

Examples:
  isochrone node list
  isochrone node forget nyc-1`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      control: { type: "string" },
      state: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const [action, server, ...more] = positionals;
  if (action === "list" && server === undefined) {
    const nodes = await withControl(values, async (client) => await client.nodes());
    if (values.json) console.log(JSON.stringify(nodes, null, 2));
    else {
      const rows = nodes.map((one) => [
        one.serverId,
        one.state,
        new Date(one.enrolledAtEpochMs).toISOString(),
        new Date(one.notAfterEpochMs).toISOString(),
        one.fingerprint.slice(0, 16),
      ]);
      console.log(formatTable(["server", "state", "since", "certificate until", "key"], rows));
    }
    return 0;
  }
  if ((action !== "revoke" && action !== "forget") || server === undefined || more.length > 0)
    throw new UsageError("node: say list, revoke SERVER or forget SERVER; see --help");
  const serverId = id<ServerId>().parse(server, ["SERVER"]);
  await withControl(values, async (client) => {
    await client.changeNode(serverId, action);
  });
  console.log(
    action === "revoke"
      ? `${serverId} gets no more certificates; what it has runs out within a day`
      : `the next key that asks for ${serverId} has its name`,
  );
  return 0;
}
