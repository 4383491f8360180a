/** `isochrone status`: every process of the running world. */
import { parseArgs } from "node:util";
import { requireRunningWorld } from "./runtime.ts";
import { formatTable } from "./table.ts";
import { askAdmin } from "./up/admin.ts";
import type { ProcessStatus } from "./up/supervisor.ts";

const help = `Usage: isochrone status [--json] [--state DIR]

Lists every process of the running world: role, id, cluster, city, address, port, pid, state.
Exit code 0 when all are ready, 1 when one is not or no world runs.

Examples:
  isochrone status
  isochrone status --json | jq '.processes[] | select(.state != "ready")'`;

export interface WorldStatus {
  readonly world: string;
  readonly pid: number;
  readonly stateDirectory: string;
  readonly cuts: readonly (readonly [string, string])[];
  readonly processes: readonly ProcessStatus[];
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { json: { type: "boolean" }, state: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const world = requireRunningWorld(values.state);
  const status = (await askAdmin(world.adminSocket, "/status")) as WorldStatus;
  if (values.json) console.log(JSON.stringify(status, null, 2));
  else {
    const rows = status.processes.map((one) => [
      one.role,
      one.id,
      one.cluster,
      one.city,
      `${one.address}:${one.port}`,
      one.pid ?? "-",
      one.state,
      one.restarts,
    ]);
    console.log(formatTable(["role", "id", "cluster", "city", "address", "pid", "state", "restarts"], rows));
    for (const [a, b] of status.cuts) console.log(`cut: ${a} - ${b}`);
  }
  return status.processes.every((one) => one.state === "ready") ? 0 : 1;
}
